//! The JSON of LwM2M 1.0: `{"bn":"/3/0/","e":[{"n":"0","sv":"Open Mobile Alliance"}]}`. Core 1.0 §6.4.4
//!
//! Without a base name, names are below the request's path. Numbers may be strings, as they are in examples of the specification.

use crate::format::{Records, path_of};
use crate::value::{object_link, of_base64};
use crate::{FormatError, Path, Record, Type, Value, ValueError};
use serde_json::Map;
use serde_json::Value as Json;

/// Any JSON, nested as deep as the library allows: 128.
pub(crate) fn parse(payload: &[u8]) -> Result<Json, FormatError> {
    serde_json::from_slice(payload).map_err(|error| FormatError::Json {
        line: error.line(),
        column: error.column(),
    })
}

/// A path is shorter. Names are put together for every record, so that a long one would cost its length each time.
const MAX_NAME: usize = 64;

pub(crate) fn decode(payload: &[u8], records: &mut Records<'_>) -> Result<(), FormatError> {
    let Json::Object(mut top) = parse(payload)? else {
        return Err(FormatError::Shape("{}"));
    };
    let base_name = match top.remove("bn") {
        None => records.base.to_string(),
        Some(Json::String(name)) if name.len() <= MAX_NAME => name,
        Some(_) => return Err(FormatError::Shape("bn")),
    };
    let base_time = top.remove("bt").map(|time| seconds(&time, "bt")).transpose()?;
    let Some(Json::Array(entries)) = top.remove("e") else {
        return Err(FormatError::Shape("e"));
    };
    for entry in entries {
        let Json::Object(entry) = entry else {
            return Err(FormatError::Shape("e"));
        };
        let path = path(&base_name, entry.get("n"))?;
        let time = entry.get("t").map(|time| seconds(time, "t")).transpose()?;
        let time = match (time, base_time) {
            (Some(time), Some(base)) => Some(base + time),
            (time, base) => time.or(base),
        };
        let value = value(entry, records.types.of(&path), path)?;
        records.push_untyped(Record { path, value, time })?;
    }
    Ok(())
}

fn path(base_name: &str, name: Option<&Json>) -> Result<Path, FormatError> {
    let name = match name {
        None => "",
        Some(Json::String(name)) if name.len() <= MAX_NAME => name,
        Some(_) => return Err(FormatError::Shape("n")),
    };
    match (base_name.strip_suffix('/').unwrap_or(base_name), name) {
        (base, "") => path_of(base),
        // Clients write base names with and without the slash at the end, and names with and without one in front.
        (base, name) => path_of(&format!("{base}/{}", name.strip_prefix('/').unwrap_or(name))),
    }
}

fn seconds(json: &Json, label: &'static str) -> Result<f64, FormatError> {
    let number = match json {
        Json::String(text) => Value::of_text(text, Type::Float),
        json => Value::of_json(json, Type::Float),
    };
    match number {
        Ok(Value::Float(number)) if number.is_finite() => Ok(number),
        _ => Err(FormatError::Shape(label)),
    }
}

fn value(entry: Map<String, Json>, wanted: Option<Type>, path: Path) -> Result<Option<Value>, FormatError> {
    let mut found = None;
    for (label, json) in entry {
        let value = match (label.as_str(), json) {
            ("v" | "sv" | "bv" | "ov", Json::Null) => continue,
            ("v", Json::Number(number)) => Value::of_number(&number),
            ("v", Json::String(text)) => Value::of_text(&text, wanted.unwrap_or(Type::Integer))
                .or_else(|_| Value::of_text(&text, Type::Float)),
            ("bv", Json::Bool(yes)) => Ok(Value::Boolean(yes)),
            ("sv", Json::String(text)) if wanted == Some(Type::Opaque) => of_base64(&text)
                .map(|bytes| Value::Opaque(bytes.into()))
                .ok_or(ValueError::Syntax(Type::Opaque)),
            ("sv", Json::String(text)) => Ok(Value::String(text)),
            ("ov", Json::String(text)) => object_link(&text).ok_or(ValueError::Syntax(Type::ObjectLink)),
            ("v", _) => return Err(FormatError::Shape("v")),
            ("bv", _) => return Err(FormatError::Shape("bv")),
            ("sv", _) => return Err(FormatError::Shape("sv")),
            ("ov", _) => return Err(FormatError::Shape("ov")),
            _ => continue,
        };
        if found.is_some() {
            return Err(FormatError::TwoValues);
        }
        found = Some(value.map_err(|error| FormatError::Value { path, error })?);
    }
    Ok(found)
}

pub(crate) fn encode(base: Path, records: &[Record]) -> Result<Vec<u8>, FormatError> {
    let is_below = base.depth() > 0 && records.iter().all(|record| record.path != base);
    let base_name = match base.depth() {
        0 => "/".to_owned(),
        _ if is_below => format!("{base}/"),
        _ => base.to_string(),
    };
    let mut entries = Vec::with_capacity(records.len());
    for record in records {
        let mut entry = Map::new();
        let name = record.path.to_string();
        // The base's own record has no name: its slash is not in its text.
        let name = name.get(base.to_string().trim_end_matches('/').len() + 1..);
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            entry.insert("n".into(), name.into());
        }
        if let Some(time) = record.time {
            if !time.is_finite() {
                return Err(FormatError::NotFinite(record.path));
            }
            entry.insert("t".into(), time.into());
        }
        if let Some(value) = &record.value {
            let label = match value {
                Value::Float(number) if !number.is_finite() => {
                    return Err(FormatError::NotFinite(record.path));
                }
                Value::Integer(_) | Value::Unsigned(_) | Value::Float(_) | Value::Time(_) => "v",
                Value::String(_) | Value::CoreLink(_) | Value::Opaque(_) => "sv",
                Value::Boolean(_) => "bv",
                Value::ObjectLink(..) => "ov",
            };
            entry.insert(label.into(), value.to_json());
        }
        entries.push(Json::Object(entry));
    }
    let mut top = Map::new();
    top.insert("bn".into(), base_name.into());
    top.insert("e".into(), entries.into());
    Ok(Json::Object(top).to_string().into_bytes())
}
