//! What was typed, as the data of a command: paths, values, attributes.

use super::Lwm2mError;
use headgate_cli::ValueError;
use headgate_lwm2m_codec::object::Registry;
use headgate_lwm2m_codec::{Attribute, Attributes, Path, Type, Types, Value};
use serde_json::{Map, Value as Json, json};
use std::ops::RangeInclusive;

/// What each depth of a path is called, and how one is written.
const DEPTHS: [(&str, &str); 5] = [
    ("the root", "/"),
    ("an object", "/3"),
    ("an instance", "/3/0"),
    ("a resource", "/3/0/0"),
    ("a resource instance", "/3/0/11/0"),
];

/// A path, as clap wants it.
pub(crate) fn path(text: &str) -> Result<Path, ValueError> {
    let wrong = || {
        ValueError::not_allowed(
            text,
            "numbers from 0 to 65534 with / between them, four at most: /3/0/0",
        )
    };
    // As it is completed on other systems, and as EMQX takes it.
    let trimmed = if text == "/" {
        text
    } else {
        text.trim_end_matches('/')
    };
    match trimmed.is_empty() {
        true => Err(wrong()),
        false => trimmed.parse().map_err(|_| wrong()),
    }
}

/// A path that is deep enough for what is to be done, and not too deep.
pub(crate) fn path_of_depth(
    path: Path,
    what: &str,
    depths: RangeInclusive<usize>,
) -> Result<Path, Lwm2mError> {
    if depths.contains(&path.depth()) {
        return Ok(path);
    }
    let allowed = depths.map(|depth| format!("{} ({})", DEPTHS[depth].0, DEPTHS[depth].1));
    let allowed: Vec<String> = allowed.collect();
    Err(Lwm2mError::Usage(format!(
        "{what} wants {}, and {path} is {}",
        allowed.join(" or "),
        DEPTHS[path.depth()].0
    )))
}

/// One path, or several: then the operation is a composite one.
pub(crate) fn data_of_paths(paths: &[Path], what: &str) -> Result<(bool, Map<String, Json>), Lwm2mError> {
    let mut data = Map::new();
    if let [path] = paths
        && path.depth() > 0
    {
        data.insert("path".into(), path.to_string().into());
        return Ok((false, data));
    }
    if paths.is_empty() {
        return Err(Lwm2mError::Usage(format!("{what} wants a path, such as /3/0/0")));
    }
    let paths: Vec<String> = paths.iter().map(ToString::to_string).collect();
    data.insert("paths".into(), json!(paths));
    Ok((true, data))
}

/// A type by its name.
pub(crate) fn kind(text: &str) -> Result<Type, ValueError> {
    text.parse().map_err(|_| {
        ValueError::not_allowed(
            text,
            "String, Integer, \"Unsigned Integer\", Float, Boolean, Opaque (in base64), Time (seconds since 1970), Objlnk (3:0) and Corelnk",
        )
    })
}

/// What is written.
pub(crate) enum Written {
    /// A value at a path.
    Value(Json),
    /// Several below an instance.
    Content(Vec<Json>),
}

/// Values at a path: of an instance `RESOURCE=VALUE` several times, else one.
pub(crate) fn written(
    path: Path,
    values: &[String],
    said: Option<Type>,
    types: &Registry,
) -> Result<Written, Lwm2mError> {
    let usage = |text: String| Err(Lwm2mError::Usage(text));
    if path.depth() > 2 {
        let [text] = values else {
            return usage(format!("{path} takes one value, {} were given", values.len()));
        };
        return Ok(Written::Value(value(path, text, said, types)?));
    }
    if said.is_some() {
        return usage("--type is for one value; of several, each may have its own: 0:String=text".into());
    }
    let below = |text: &String| {
        let wrong = || {
            let what = format!(
                "`{text}` is no value of {path}: it wants RESOURCE=VALUE or RESOURCE:TYPE=VALUE, such as 14=+02:00"
            );
            Lwm2mError::Usage(what)
        };
        let (name, text) = text.split_once('=').ok_or_else(wrong)?;
        let (name, said) = match name.split_once(':') {
            Some((name, said)) => (
                name,
                Some(kind(said).map_err(|error| Lwm2mError::Usage(format!("`{said}` is no type, {error}")))?),
            ),
            None => (name, None),
        };
        let ids: Path = name.parse().map_err(|_| wrong())?;
        let whole = Path::of(&[path.ids(), ids.ids()].concat()).filter(|whole| whole.depth() > 2);
        let whole = whole.ok_or_else(wrong)?;
        let mut entry = json!({"path": ids.to_string(), "value": value(whole, text, said, types)?});
        if let Some(said) = said {
            entry["type"] = said.name().into();
        }
        Ok(entry)
    };
    values
        .iter()
        .map(below)
        .collect::<Result<_, _>>()
        .map(Written::Content)
}

/// A value as a command has it. The gateway may know more types than we do, so that it says what a text is; what was said to be of a type is looked at here.
fn value(path: Path, text: &str, said: Option<Type>, types: &Registry) -> Result<Json, Lwm2mError> {
    if said.or_else(|| types.of(&path)) == Some(Type::Boolean) {
        match text {
            "true" => return Ok(true.into()),
            "false" => return Ok(false.into()),
            _ => {}
        }
    }
    if let Some(said) = said {
        Value::of_text(text, said).map_err(|error| Lwm2mError::Usage(format!("`{text}`: {error}")))?;
    }
    Ok(text.into())
}

/// `pmin=1`, or `pmin=` to remove it.
pub(crate) fn attributes(words: &[String]) -> Result<Map<String, Json>, Lwm2mError> {
    let mut data = Map::new();
    for word in words {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        let checked = Attributes::default().set(name, Some(value).filter(|value| !value.is_empty()));
        checked.map_err(|error| {
            let names = Attribute::ALL.map(Attribute::name).join(", ");
            Lwm2mError::Usage(format!(
                "`{word}`: {error}; allowed are {names}, each with = and a number, or nothing to remove it"
            ))
        })?;
        data.insert(name.into(), value.into());
    }
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Path {
        path(text).unwrap()
    }

    fn content(of: &str, values: &[&str]) -> Result<Json, String> {
        let values: Vec<String> = values.iter().map(|&value| value.to_owned()).collect();
        match written(at(of), &values, None, &Registry::builtin()) {
            Ok(Written::Value(value)) => Ok(value),
            Ok(Written::Content(content)) => Ok(content.into()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn a_path_is_written_in_several_ways() {
        for text in ["/3/0/1", "3/0/1", "/3/0/1/"] {
            assert_eq!(at(text).ids(), [3, 0, 1]);
        }
        assert_eq!(at("/").depth(), 0);
        for bad in ["", "//", "/3//1", "/x", "/65535", "/1/2/3/4/5", "/03"] {
            let error = path(bad).unwrap_err().to_string();
            assert!(error.starts_with("allowed are numbers"), "{bad}: {error}");
        }
    }

    #[test]
    fn a_path_of_the_wrong_depth_is_told_what_is_wanted() {
        assert!(path_of_depth(at("/3/0/4"), "exec", 3..=3).is_ok());
        let error = path_of_depth(at("/3/0"), "exec", 3..=3).unwrap_err().to_string();
        assert_eq!(error, "exec wants a resource (/3/0/0), and /3/0 is an instance");
        let error = path_of_depth(at("/3"), "delete", 2..=3).unwrap_err().to_string();
        assert_eq!(
            error,
            "delete wants an instance (/3/0) or a resource (/3/0/0), and /3 is an object"
        );
    }

    /// LwM2M Core 1.1 §6.3.8: more than one path, and the root, are read by a composite operation.
    #[test]
    fn several_paths_make_a_composite_operation() {
        let data = |paths: &[&str]| {
            let paths: Vec<Path> = paths.iter().map(|path| at(path)).collect();
            let (composite, data) = data_of_paths(&paths, "read").unwrap();
            (composite, Json::from(data))
        };
        assert_eq!(data(&["/3/0"]), (false, json!({"path": "/3/0"})));
        assert_eq!(data(&["/3/0", "1"]), (true, json!({"paths": ["/3/0", "/1"]})));
        assert_eq!(data(&["/"]), (true, json!({"paths": ["/"]})));
        assert!(data_of_paths(&[], "read").is_err());
    }

    #[test]
    fn values_are_of_a_resource_or_of_an_instance() {
        assert_eq!(content("/3/0/14", &["+02:00"]), Ok(json!("+02:00")));
        assert_eq!(content("/1/0/6", &["true"]), Ok(json!(true)));
        assert_eq!(content("/1/0/6", &["1"]), Ok(json!("1")));
        assert_eq!(content("/3/0/14", &["true"]), Ok(json!("true")), "it is text");
        assert_eq!(
            content("/3/0", &["14=a=b", "16:String=U", "/7/1=3800"]),
            Ok(json!([
                {"path": "/14", "value": "a=b"},
                {"path": "/16", "value": "U", "type": "String"},
                {"path": "/7/1", "value": "3800"},
            ]))
        );
        assert_eq!(
            content("/3/0/14", &["a", "b"]).unwrap_err(),
            "/3/0/14 takes one value, 2 were given"
        );
        for bad in ["14", "x=1", "=1", "1/2/3=4"] {
            let error = content("/3/0", &[bad]).unwrap_err();
            assert!(error.contains("it wants RESOURCE=VALUE"), "{bad}: {error}");
        }
        assert!(
            content("/3/0", &["14:Text=1"])
                .unwrap_err()
                .contains("allowed are String, Integer")
        );
    }

    #[test]
    fn what_is_said_to_be_of_a_type_is_looked_at() {
        let of = |text: &str, said| value(at("/40000/0/0"), text, Some(said), &Registry::builtin());
        assert_eq!(of("7", Type::Integer).unwrap(), json!("7"));
        assert_eq!(of("true", Type::Boolean).unwrap(), json!(true));
        assert!(
            of("seven", Type::Integer)
                .unwrap_err()
                .to_string()
                .starts_with("`seven`: ")
        );
        let both = written(
            at("/3/0"),
            &["14=x".into()],
            Some(Type::String),
            &Registry::builtin(),
        );
        assert!(both.is_err());
    }

    #[test]
    fn attributes_are_those_of_notifications() {
        let set = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
            attributes(&words)
                .map(Json::from)
                .map_err(|error| error.to_string())
        };
        assert_eq!(
            set(&["pmin=1", "gt=22.5", "lt="]),
            Ok(json!({"pmin": "1", "gt": "22.5", "lt": ""}))
        );
        let error = set(&["often=1"]).unwrap_err();
        assert!(error.contains("allowed are pmin, pmax"), "{error}");
        assert!(set(&["pmin=soon"]).is_err());
    }
}
