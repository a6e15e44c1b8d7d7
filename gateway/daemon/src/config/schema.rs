//! What the schema says of a setting, in words for operators.

use super::Config;
use serde_json::Value;

/// Follows `$ref`, and looks through what schemars wraps around optional values.
pub(crate) fn resolve(root: &Value, schema: &Value) -> Value {
    if let Some(pointer) = schema.get("$ref").and_then(Value::as_str) {
        return root
            .pointer(pointer.trim_start_matches('#'))
            .map_or(Value::Null, |found| resolve(root, found));
    }
    let wrapped = schema
        .get("anyOf")
        .or_else(|| schema.get("allOf"))
        .and_then(Value::as_array);
    match wrapped.and_then(|options| options.iter().find(|option| option.get("$ref").is_some())) {
        Some(option) => resolve(root, option),
        None => schema.clone(),
    }
}

/// The words of an enumeration.
pub(crate) fn choices(schema: &Value) -> Vec<String> {
    let word = |value: &Value| value.as_str().map(str::to_owned);
    if let Some(words) = schema.get("enum").and_then(Value::as_array) {
        return words.iter().filter_map(word).collect();
    }
    let variants = schema.get("oneOf").and_then(Value::as_array);
    variants.map_or_else(Vec::new, |variants| {
        variants
            .iter()
            .filter_map(|variant| variant.get("const").and_then(word))
            .collect()
    })
}

/// The schema of a setting by its key, as in the reference: `listeners.tls`.
fn at(root: &Value, key: &str) -> Option<Value> {
    key.split('.').try_fold(root.clone(), |schema, name| {
        let schema = entry(root, schema);
        Some(resolve(root, schema.get("properties")?.get(name)?))
    })
}

/// Of a list, what an entry of it is.
fn entry(root: &Value, schema: Value) -> Value {
    let item = schema.get("items").map(|items| resolve(root, items));
    item.unwrap_or(schema)
}

/// The key of the list of sections that this key is, or is in.
pub(super) fn list_of(key: &str) -> Option<&str> {
    let root = Config::schema();
    let ends = key.match_indices('.').map(|(at, _)| at).chain([key.len()]);
    ends.map(|end| &key[..end])
        .find(|key| at(&root, key).is_some_and(|schema| schema.get("items").is_some()))
}

/// What may stand there: the words of an enumeration, or the shape of a section. `written` is what stands there.
pub(super) fn allowed(key: &str, written: &str) -> Option<String> {
    let root = Config::schema();
    let schema = entry(&root, at(&root, key)?);
    let words = choices(&schema);
    if !words.is_empty() {
        let words: Vec<String> = words.iter().map(|word| format!("`\"{word}\"`")).collect();
        return Some(words.join(", "));
    }
    if let Some(kinds) = tagged(key, &schema, written) {
        return Some(kinds);
    }
    schema.get("properties")?;
    Some(format!("a section: `{}`", shape(&schema)))
}

/// A section that comes in several kinds, told apart by one key. The kind that is nearest to what is written is shown.
pub(super) fn kinds(key: &str, written: &str) -> Option<String> {
    let root = Config::schema();
    tagged(key, &entry(&root, at(&root, key)?), written)
}

fn tagged(key: &str, schema: &Value, written: &str) -> Option<String> {
    let variants = schema.get("oneOf")?.as_array()?;
    let tags: Vec<(&str, &str)> = variants.iter().filter_map(tag).collect();
    let names = tags.iter().map(|(_, name)| *name);
    let meant = super::words::nearest(written.trim_matches(['"', '\'']), names.clone());
    let meant = meant.and_then(|meant| tags.iter().position(|(_, name)| *name == meant));
    let name = key.rsplit('.').next().unwrap_or(key);
    let shape = shape(&variants[meant.unwrap_or(0)]);
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    let (tag, _) = tags.first()?;
    Some(format!(
        "a section such as `{name} = {shape}`, with {} for `{tag}`",
        names.join(", ")
    ))
}

fn tag(variant: &Value) -> Option<(&str, &str)> {
    let properties = variant.get("properties")?.as_object()?;
    properties
        .iter()
        .find_map(|(key, property)| Some((key.as_str(), property.get("const")?.as_str()?)))
}

/// What a section must say: `{ cloud = "aws-iot", endpoint = … }`.
fn shape(schema: &Value) -> String {
    let required = schema.get("required").and_then(Value::as_array);
    let keys = required.into_iter().flatten().filter_map(Value::as_str);
    let settings: Vec<String> = keys
        .map(|key| match schema["properties"][key]["const"].as_str() {
            Some(word) => format!("{key} = \"{word}\""),
            None => format!("{key} = …"),
        })
        .collect();
    match settings.is_empty() {
        true => "{ … }".to_owned(),
        false => format!("{{ {} }}", settings.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allowed_is_told_from_the_schema() {
        for (key, written, told) in [
            (
                "auth.anonymous",
                "true",
                "`\"nowhere\"`, `\"loopback\"`, `\"everywhere\"`",
            ),
            ("listeners.tls.min_version", "1.2", "`\"1.2\"`, `\"1.3\"`"),
            (
                "mqttsn.gateway.predefined",
                "7",
                "a section: `{ id = …, topic = … }`",
            ),
        ] {
            assert_eq!(allowed(key, written).as_deref(), Some(told), "{key}");
        }
        let preset = allowed("bridges.preset", "\"azure-iot\"").unwrap();
        assert!(
            preset.starts_with(
                "a section such as `preset = { cloud = \"azure-iot-hub\", hub = …, device = … }`"
            ),
            "{preset}"
        );
        assert!(preset.ends_with("`jwt-password` for `cloud`"), "{preset}");
        assert_eq!(allowed("node", "5"), None);
        assert_eq!(allowed("no.such.key", "5"), None);
    }
}
