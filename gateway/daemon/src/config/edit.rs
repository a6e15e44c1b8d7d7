//! Changes of a configuration's text, one setting at a time: comments, order and whatever else stands there stay.
//!
//! A setting goes by its key, and an entry of a list by its name: `node`, `auth.anonymous`, `listeners[tcp].bind`, `bridges[cloud]`. A list that the file
//! does not say has its defaults, which are written down before one of them changes.

use super::{Config, defaults_of};
use crate::protocols;
use headgate_shell::ListenerSettings;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};
use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, TableLike};

/// One setting that is to be another.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Edit {
    /// `node`, `auth.anonymous`, `listeners[tcp].bind`, `bridges[cloud]`.
    pub path: String,
    /// What it is to be; `null`: it is left out, or the entry goes.
    #[serde(default)]
    pub value: Value,
    /// Instead of a value, of an entry: what stands below `[[bridges]]`.
    #[serde(default)]
    pub toml: Option<String>,
}

/// Why a text cannot be changed so.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EditError {
    /// The text is no TOML.
    #[error("the configuration is no TOML: {0}")]
    Syntax(String),
    /// One after the other, perhaps.
    #[error("{MOST} changes at a time are enough")]
    TooMany,
    /// The path is no path.
    #[error("`{0}` is no key such as `auth.anonymous` or `listeners[tcp].bind`")]
    Path(String),
    /// Something else stands there.
    #[error("`{0}`: what stands there has no settings of its own")]
    NoTable(String),
    /// An entry is a section.
    #[error("`{0}`: an entry of a list is an object")]
    NoEntry(String),
    /// TOML has no such value.
    #[error("`{0}`: TOML has no such value")]
    Value(String),
}

/// Changes at a time: each looks through the text.
const MOST: usize = 200;
/// Names of a path: no setting is deeper.
const DEEPEST: usize = 8;

/// The text with these changes.
pub(crate) fn edited(text: &str, edits: &[Edit]) -> Result<String, EditError> {
    if edits.len() > MOST {
        return Err(EditError::TooMany);
    }
    let document = text.parse::<DocumentMut>();
    let mut document = document.map_err(|error| EditError::Syntax(error.to_string()))?;
    for edit in edits {
        let steps = steps(&edit.path).ok_or_else(|| EditError::Path(edit.path.clone()))?;
        let written = edit
            .toml
            .as_deref()
            .map(|toml| toml.parse::<DocumentMut>())
            .transpose();
        let written = written.map_err(|error| EditError::Syntax(error.to_string()))?;
        if let Some(mut written) = written {
            set_entry(document.as_table_mut(), &steps, edit, written.as_table_mut())?;
            continue;
        }
        set(document.as_table_mut(), &steps, edit, true)?;
    }
    Ok(document.to_string())
}

/// What stands below the section of an entry, with its sections as sections of their own: `[bridges.tls]` is `[tls]`.
pub(crate) fn entry_text(text: &str, list: &str, name: &str) -> Option<String> {
    let mut document = text.parse::<DocumentMut>().ok()?;
    let item = document.get_mut(list)?;
    make_sections(item);
    let list = item.as_array_of_tables()?;
    let mut entries = list.iter();
    let entry = entries.find(|table| table.get("name").and_then(Item::as_str) == Some(name))?;
    let mut alone = DocumentMut::new();
    for (key, item) in entry.iter() {
        let key = entry.key(key).cloned().unwrap_or_else(|| key.into());
        alone.insert_formatted(&key, item.clone());
    }
    Some(alone.to_string().trim_start().to_owned())
}

/// A key, and the name of an entry if it is a list.
struct Step<'a> {
    key: &'a str,
    entry: Option<&'a str>,
}

fn steps(path: &str) -> Option<Vec<Step<'_>>> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        let end = rest.find(['.', '[']).unwrap_or(rest.len());
        let key = &rest[..end];
        let is_key = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if key.is_empty() || !key.chars().all(is_key) {
            return None;
        }
        rest = &rest[end..];
        let mut entry = None;
        if let Some(named) = rest.strip_prefix('[') {
            let end = named.find(']')?;
            entry = Some(&named[..end]);
            rest = &named[end + 1..];
        }
        steps.push(Step { key, entry });
        rest = match rest.strip_prefix('.') {
            Some("") => return None,
            Some(more) => more,
            None if rest.is_empty() => rest,
            None => return None,
        };
    }
    (1..=DEEPEST).contains(&steps.len()).then_some(steps)
}

fn set(table: &mut dyn TableLike, steps: &[Step<'_>], edit: &Edit, top: bool) -> Result<(), EditError> {
    let Some((Step { key, entry }, rest)) = steps.split_first() else {
        return Ok(());
    };
    let Some(name) = entry else {
        return match rest {
            [] => put(table, key, edit),
            _ => set(section(table, key, edit)?, rest, edit, false),
        };
    };
    if top && !table.contains_key(key) {
        table.insert(key, Item::ArrayOfTables(defaults(key)));
    }
    let list = table
        .entry(key)
        .or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
    if make_sections(list)
        && let Some(mut written) = table.key_mut(key)
    {
        written.leaf_decor_mut().clear();
    }
    let list = table
        .get_mut(key)
        .and_then(Item::as_array_of_tables_mut)
        .ok_or_else(|| EditError::NoTable(edit.path.clone()))?;
    let is_it = |table: &Table| table.get("name").and_then(Item::as_str) == Some(name);
    let at = list.iter().position(is_it);
    match (rest, &edit.value, at) {
        ([], Value::Null, at) => {
            if let Some(at) = at {
                list.remove(at);
            }
            if list.is_empty() {
                // No section says that there are none.
                table.insert(key, Item::Value(Array::new().into()));
            }
            Ok(())
        }
        ([], Value::Object(fields), at) => {
            let new = entry_of(name, fields, edit)?;
            match at.and_then(|at| list.get_mut(at)) {
                Some(known) => *known = with_comments(known, new),
                None => list.push(new),
            }
            Ok(())
        }
        ([], _, _) => Err(EditError::NoEntry(edit.path.clone())),
        (_, Value::Null, None) => Ok(()),
        (rest, _, at) => {
            if at.is_none() {
                list.push(entry_of(name, &Map::new(), edit)?);
            }
            let at = at.unwrap_or(list.len() - 1);
            let entry = list.get_mut(at).expect("it is there");
            set(entry, rest, edit, false)
        }
    }
}

/// Puts an entry as it was written in the place of the one of its name, or behind all others.
fn set_entry(
    document: &mut Table,
    steps: &[Step<'_>],
    edit: &Edit,
    written: &mut Table,
) -> Result<(), EditError> {
    let [
        Step {
            key,
            entry: Some(name),
        },
    ] = steps
    else {
        return Err(EditError::NoEntry(edit.path.clone()));
    };
    let known = Edit {
        path: edit.path.clone(),
        value: Value::Object(Map::new()),
        toml: None,
    };
    set(document, steps, &known, true)?;
    let list = document.get_mut(key).and_then(Item::as_array_of_tables_mut);
    let is_it = |table: &&mut Table| table.get("name").and_then(Item::as_str) == Some(name);
    let mut entries = list.into_iter().flat_map(ArrayOfTables::iter_mut);
    let entry = entries
        .find(is_it)
        .ok_or_else(|| EditError::NoEntry(edit.path.clone()))?;
    let position = entry.position();
    for (_, item) in written.iter_mut() {
        place(item, position);
    }
    for (key, item) in written.iter() {
        let key = written.key(key).cloned().unwrap_or_else(|| key.into());
        entry.insert_formatted(&key, item.clone());
    }
    Ok(())
}

/// Sections of an entry stand behind it, wherever they stood before.
fn place(item: &mut Item, position: Option<isize>) {
    match item {
        Item::Table(table) => {
            table.set_position(position);
            table.iter_mut().for_each(|(_, item)| place(item, position));
        }
        Item::ArrayOfTables(tables) => {
            for table in tables.iter_mut() {
                table.set_position(position);
                table.iter_mut().for_each(|(_, item)| place(item, position));
            }
        }
        Item::None | Item::Value(_) => {}
    }
}

/// `[[list]]` for `list = [{ … }]`, and for `list = []`. Whether it was one of these.
fn make_sections(list: &mut Item) -> bool {
    let Some(array) = list.as_array() else {
        return false;
    };
    let tables = array
        .iter()
        .map(|value| Some(value.as_inline_table()?.clone().into_table()));
    let Some(tables) = tables.collect::<Option<Vec<Table>>>() else {
        return false;
    };
    *list = Item::ArrayOfTables(tables.into_iter().collect());
    true
}

/// The entry with the comments that stood before it.
fn with_comments(known: &Table, mut new: Table) -> Table {
    *new.decor_mut() = known.decor().clone();
    new.set_position(known.position());
    new
}

fn section<'a>(
    table: &'a mut dyn TableLike,
    key: &str,
    edit: &Edit,
) -> Result<&'a mut dyn TableLike, EditError> {
    let item = table.entry(key).or_insert_with(|| Item::Table(Table::new()));
    item.as_table_like_mut()
        .ok_or_else(|| EditError::NoTable(edit.path.clone()))
}

fn put(table: &mut dyn TableLike, key: &str, edit: &Edit) -> Result<(), EditError> {
    if edit.value.is_null() {
        table.remove(key);
        return Ok(());
    }
    let new = value(&edit.value).ok_or_else(|| EditError::Value(edit.path.clone()))?;
    match table.get_mut(key).and_then(Item::as_value_mut) {
        // What follows it in its line stays.
        Some(known) => {
            let decor = known.decor().clone();
            *known = new;
            *known.decor_mut() = decor;
        }
        None => {
            table.insert(key, Item::Value(new));
        }
    }
    Ok(())
}

fn entry_of(name: &str, fields: &Map<String, Value>, edit: &Edit) -> Result<Table, EditError> {
    let mut table = Table::new();
    table.insert("name", Item::Value(name.into()));
    for (key, given) in fields
        .iter()
        .filter(|(key, given)| *key != "name" && !given.is_null())
    {
        let given = value(given).ok_or_else(|| EditError::Value(format!("{}.{key}", edit.path)))?;
        table.insert(key, Item::Value(given));
    }
    Ok(table)
}

fn value(given: &Value) -> Option<toml_edit::Value> {
    Some(match given {
        Value::Null => return None,
        Value::Bool(given) => (*given).into(),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => whole.into(),
            None => number.as_f64().filter(|_| !number.is_u64())?.into(),
        },
        Value::String(text) => text.as_str().into(),
        Value::Array(values) => {
            let values = values.iter().map(value).collect::<Option<Vec<_>>>()?;
            values.into_iter().collect::<Array>().into()
        }
        Value::Object(fields) => {
            let fields = fields.iter().filter(|(_, given)| !given.is_null());
            let fields = fields.map(|(key, given)| Some((key.as_str(), value(given)?)));
            fields.collect::<Option<InlineTable>>()?.into()
        }
    })
}

/// The entries of a list that the file does not say, as they would be written.
fn defaults(list: &str) -> ArrayOfTables {
    let config = serde_json::to_value(Config::default()).unwrap_or_default();
    let usual = match list {
        "listeners" => defaults_of::<ListenerSettings>(&["name", "bind"]),
        list => protocols::defaults_of_entry(list).unwrap_or_default(),
    };
    let entries = config[list].as_array().into_iter().flatten();
    entries.filter_map(|entry| said(entry, &usual)).collect()
}

/// What of an entry is not as usual.
fn said(entry: &Value, usual: &Value) -> Option<Table> {
    let mut table = Table::new();
    for (key, given) in entry.as_object()? {
        if (usual.get(key) != Some(given) || key == "name")
            && let Some(given) = value(given)
        {
            table.insert(key, Item::Value(given));
        }
    }
    Some(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn edit(text: &str, edits: &[(&str, Value)]) -> Result<String, EditError> {
        let edits: Vec<Edit> = edits
            .iter()
            .map(|(path, value)| Edit {
                path: (*path).to_owned(),
                value: value.clone(),
                toml: None,
            })
            .collect();
        edited(text, &edits)
    }

    #[test]
    fn comments_and_order_stay() {
        let text = "# ours\nnode = \"a\" # its name\n\n[auth]\n# who\nanonymous = \"loopback\"\n";
        let edited = edit(
            text,
            &[("node", json!("b")), ("auth.anonymous", json!("nowhere"))],
        )
        .unwrap();
        let expected = "# ours\nnode = \"b\" # its name\n\n[auth]\n# who\nanonymous = \"nowhere\"\n";
        assert_eq!(edited, expected);
        assert_eq!(
            edit(&edited, &[("auth.anonymous", Value::Null)]).unwrap(),
            "# ours\nnode = \"b\" # its name\n\n[auth]\n"
        );
        assert_eq!(
            edit("", &[("http.session_idle", json!("5m"))]).unwrap(),
            "[http]\nsession_idle = \"5m\"\n"
        );
    }

    #[test]
    fn an_entry_goes_by_its_name() {
        let text = "[[bridges]]\nname = \"a\"\npaused = true\n\n# the second\n[[bridges]]\nname = \"b\"\n";
        let edited = edit(text, &[("bridges[b].addresses", json!(["mqtt://x"]))]).unwrap();
        assert!(
            edited.ends_with("# the second\n[[bridges]]\nname = \"b\"\naddresses = [\"mqtt://x\"]\n"),
            "{edited}"
        );
        let edited = edit(text, &[("bridges[a]", Value::Null)]).unwrap();
        assert_eq!(edited.trim_start(), "# the second\n[[bridges]]\nname = \"b\"\n");
        let edited = edit(
            text,
            &[(
                "bridges[c]",
                json!({ "addresses": ["mqtt://y"], "tls": { "ca": "/x" } }),
            )],
        )
        .unwrap();
        assert!(
            edited.contains("name = \"c\"\naddresses = [\"mqtt://y\"]\ntls = { ca = \"/x\" }"),
            "{edited}"
        );
        let edited = edit("[[bridges]]\nname = \"a\"\n", &[("bridges[a]", Value::Null)]).unwrap();
        assert_eq!(edited, "bridges = []\n");
        let edited = edit(
            "bridges = [{ name = \"a\", x = 1 }]\n",
            &[("bridges[a].x", json!(2))],
        )
        .unwrap();
        assert_eq!(edited, "[[bridges]]\nname = \"a\"\nx = 2\n");
    }

    #[test]
    fn an_entry_may_be_written_as_it_stands_there() {
        let edit = |text: &str, toml: &str| {
            let edit = Edit {
                path: "bridges[b]".into(),
                value: Value::Null,
                toml: Some(toml.into()),
            };
            edited(text, &[edit])
        };
        let text =
            "[[bridges]]\nname = \"a\"\n[bridges.tls]\nca = \"x\"\n\n[auth]\nanonymous = \"nowhere\"\n";
        let new = "name = \"b\"\n# where\naddresses = [\"mqtt://x\"]\n[[topics]]\nfilter = \"a/#\"\n[tls]\nca = \"y\"\n";
        let once = edit(text, new).unwrap();
        let parsed: Value = toml::from_str::<toml::Value>(&once)
            .map(|value| serde_json::to_value(value).unwrap())
            .unwrap();
        assert_eq!(
            parsed["bridges"][1],
            json!({ "name": "b", "addresses": ["mqtt://x"], "topics": [{ "filter": "a/#" }], "tls": { "ca": "y" } }),
            "{once}"
        );
        assert_eq!(parsed["bridges"][0]["tls"]["ca"], "x");
        assert!(once.contains("# where"), "{once}");
        assert_eq!(
            toml::from_str::<toml::Value>(&entry_text(&once, "bridges", "b").unwrap()).unwrap(),
            toml::from_str(new).unwrap()
        );
        assert_eq!(entry_text(&once, "bridges", "c"), None);
        let twice = edit(&once, new).unwrap();
        assert_eq!(
            toml::from_str::<toml::Value>(&twice).unwrap(),
            toml::from_str::<toml::Value>(&once).unwrap()
        );
        assert!(matches!(edit(text, "x = "), Err(EditError::Syntax(_))));
    }

    /// Who adds a listener to a file without any would lose the defaults.
    #[test]
    fn defaults_are_written_down_before_one_changes() {
        let new = json!({ "kind": "tls", "bind": "0.0.0.0:8883", "tls": { "certificate": "c.pem", "key": "k.pem" } });
        let text = edit("", &[("listeners[tls]", new)]).unwrap();
        let config: Config = toml::from_str(&text).unwrap();
        let defaults = Config::default().listeners;
        assert_eq!(config.listeners[..defaults.len()], defaults[..], "{text}");
        assert_eq!(config.listeners.len(), defaults.len() + 1);
        for list in ["mqttsn", "coap", "lwm2m"] {
            let text = edit("", &[(&format!("{list}[none]"), Value::Null)]).unwrap();
            let config: Value = serde_json::to_value(toml::from_str::<Config>(&text).unwrap()).unwrap();
            assert_eq!(
                config[list],
                serde_json::to_value(Config::default()).unwrap()[list],
                "{text}"
            );
        }
    }

    #[test]
    fn what_cannot_be_is_told() {
        let deep = ["a"; 9].join(".");
        for path in [&*deep, "", ".", "a.", ".a", "a[b", "a b", "a[b]c", "a..b"] {
            assert_eq!(
                edit("", &[(path, json!(1))]),
                Err(EditError::Path(path.into())),
                "{path}"
            );
        }
        assert_eq!(
            edit("node = 1\n", &[("node.x", json!(1))]),
            Err(EditError::NoTable("node.x".into()))
        );
        assert_eq!(
            edit("", &[("bridges[a]", json!(1))]),
            Err(EditError::NoEntry("bridges[a]".into()))
        );
        assert_eq!(
            edit("", &[("x", json!(u64::MAX))]),
            Err(EditError::Value("x".into()))
        );
        assert!(matches!(
            edit("x = ", &[("x", json!(1))]),
            Err(EditError::Syntax(_))
        ));
    }
}
