//! The JSON of SenML. RFC 8428 §5; object links are `vlo`, Core 1.2 §7.4

use super::{Base, Fields, Names, whole_seconds};
use crate::format::Records;
use crate::json::parse;
use crate::value::{object_link, of_base64};
use crate::{FormatError, Path, Record, Value};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Map;
use serde_json::Value as Json;

pub(crate) fn decode(payload: &[u8], records: &mut Records<'_>) -> Result<(), FormatError> {
    let Json::Array(pack) = parse(payload)? else {
        return Err(FormatError::Shape("[]"));
    };
    let mut base = Base::default();
    for record in pack {
        let Json::Object(record) = record else {
            return Err(FormatError::Shape("{}"));
        };
        base.resolve(fields(record)?, records)?;
    }
    Ok(())
}

fn fields(record: Map<String, Json>) -> Result<Fields, FormatError> {
    let mut fields = Fields::default();
    for (label, json) in record {
        match label.as_str() {
            "bver" => fields.base_version = Some(json.as_i64().ok_or(FormatError::Shape("bver"))?),
            "bn" => fields.base_name = Some(text(json, "bn")?),
            "bt" => fields.base_time = Some(json.as_f64().ok_or(FormatError::Shape("bt"))?),
            "bv" => fields.base_value = number(&json, "bv")?,
            "n" => fields.name = Some(text(json, "n")?),
            "t" => fields.time = Some(json.as_f64().ok_or(FormatError::Shape("t"))?),
            "v" => fields.set_value(number(&json, "v")?)?,
            "vs" if !json.is_null() => fields.set_value(Some(Value::String(text(json, "vs")?)))?,
            "vb" if !json.is_null() => {
                let yes = json.as_bool().ok_or(FormatError::Shape("vb"))?;
                fields.set_value(Some(Value::Boolean(yes)))?;
            }
            "vd" if !json.is_null() => {
                let bytes = json.as_str().and_then(of_base64);
                let bytes = bytes.ok_or(FormatError::Shape("vd"))?;
                fields.set_value(Some(Value::Opaque(bytes.into())))?;
            }
            "vlo" if !json.is_null() => {
                let link = json.as_str().and_then(object_link);
                fields.set_value(Some(link.ok_or(FormatError::Shape("vlo"))?))?;
            }
            _ if label.ends_with('_') => return Err(FormatError::MustUnderstand(label)),
            _ => {}
        }
    }
    Ok(fields)
}

fn text(json: Json, label: &'static str) -> Result<String, FormatError> {
    match json {
        Json::String(text) => Ok(text),
        _ => Err(FormatError::Shape(label)),
    }
}

fn number(json: &Json, label: &'static str) -> Result<Option<Value>, FormatError> {
    match json {
        Json::Null => Ok(None),
        Json::Number(number) => Value::of_number(number)
            .map(Some)
            .map_err(|_| FormatError::Shape(label)),
        _ => Err(FormatError::Shape(label)),
    }
}

pub(crate) fn encode(base: Path, records: &[Record]) -> Result<Vec<u8>, FormatError> {
    let names = Names::of(base, records);
    let mut base_name = names.base_name();
    let mut pack = Vec::with_capacity(records.len());
    for record in records {
        let mut fields = Map::new();
        if let Some(name) = base_name.take() {
            fields.insert("bn".into(), name.into());
        }
        fields.insert("n".into(), names.name(&record.path).into());
        if let Some(time) = record.time {
            let time = match whole_seconds(time) {
                Some(seconds) => Json::from(seconds),
                None if time.is_finite() => Json::from(time),
                None => return Err(FormatError::NotFinite(record.path)),
            };
            fields.insert("t".into(), time);
        }
        if let Some(value) = &record.value {
            let (label, json) = match value {
                Value::Float(number) if !number.is_finite() => {
                    return Err(FormatError::NotFinite(record.path));
                }
                Value::Integer(_) | Value::Unsigned(_) | Value::Float(_) | Value::Time(_) => {
                    ("v", value.to_json())
                }
                Value::String(_) | Value::CoreLink(_) => ("vs", value.to_json()),
                Value::Boolean(_) => ("vb", value.to_json()),
                Value::Opaque(bytes) => ("vd", URL_SAFE_NO_PAD.encode(bytes).into()),
                Value::ObjectLink(..) => ("vlo", value.to_json()),
            };
            fields.insert(label.into(), json);
        }
        pack.push(Json::Object(fields));
    }
    Ok(Json::Array(pack).to_string().into_bytes())
}
