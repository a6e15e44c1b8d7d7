//! What is told on the bus: answers to commands, notifications, registrations, and the last value of each resource. JSON as EMQX has it. docs/lwm2m.md

use headgate_coap_codec::Code;
use headgate_lwm2m_codec::object::Registry;
use headgate_lwm2m_codec::{Link, Links, Path, Record, Types};
use serde_json::{Map, Value as Json, json};

/// The answer to a command, by its words beside `data`.
pub(crate) fn answer(said: &Map<String, Json>, path: &str, code: Code, more: &[(&str, Json)]) -> Json {
    let mut data = Map::new();
    data.insert("reqPath".into(), path.into());
    data.insert("code".into(), code.to_string().into());
    data.insert("codeMsg".into(), code_message(code).into());
    for (key, value) in more {
        data.insert((*key).into(), value.clone());
    }
    let mut answer = said.clone();
    answer.insert("data".into(), data.into());
    answer.into()
}

/// The word for a code: as EMQX has it, `not_found`.
pub(crate) fn code_message(code: Code) -> String {
    match code.name() {
        Some(name) => name.to_lowercase().replace([' ', '-'], "_"),
        None => code.to_string(),
    }
}

/// Values with their paths.
pub(crate) fn content(records: &[Record]) -> Json {
    let entry = |record: &Record| {
        let value = record.value.as_ref().map_or(Json::Null, |value| value.to_json());
        let mut entry = json!({"path": record.path.to_string(), "value": value});
        if let Some(time) = record.time {
            entry["time"] = json!(time);
        }
        entry
    };
    records.iter().map(entry).collect()
}

/// Links as text.
pub(crate) fn links(links: &[Link]) -> Json {
    let text = |link: &Link| Links(vec![link.clone()]).to_string();
    links.iter().map(|link| Json::from(text(link))).collect()
}

/// The last value of a resource: value, unit, type, and when it was so. `now`: milliseconds since 1970.
pub(crate) fn resource(record: &Record, registry: &Registry, now: u64) -> Option<Json> {
    let value = record.value.as_ref()?;
    let mut last = Map::new();
    last.insert("value".into(), value.to_json());
    let kind = registry.of(&record.path).unwrap_or(value.type_of());
    last.insert("type".into(), kind.to_string().into());
    if let Some(resource) = registry.resource(&record.path) {
        if !resource.units.is_empty() {
            last.insert("unit".into(), resource.units.clone().into());
        }
        last.insert("name".into(), resource.name.clone().into());
    }
    last.insert("time".into(), json!(time_of(record, now)));
    Some(last.into())
}

/// Milliseconds since 1970. RFC 8428 §4.5.3: what is less than 2^28 counts from now.
fn time_of(record: &Record, now: u64) -> u64 {
    const RELATIVE: f64 = 268_435_456.0;
    match record.time {
        None => now,
        Some(seconds) if seconds < RELATIVE => now.saturating_add_signed((seconds * 1_000.0) as i64),
        Some(seconds) => (seconds * 1_000.0) as u64,
    }
}

/// The level of a retained value below its client: `3303/0/5700`.
pub(crate) fn level(path: &Path) -> String {
    path.to_string().trim_start_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use headgate_lwm2m_codec::Value;

    fn record(path: &str, value: Value, time: Option<f64>) -> Record {
        Record {
            path: path.parse().unwrap(),
            value: Some(value),
            time,
        }
    }

    /// EMQX's documentation.
    #[test]
    fn an_answer_says_the_words_of_its_command_again() {
        let said = json!({"reqID": 2, "msgType": "read"});
        let records = [record("/3/0/0", Value::String("EMQ".into()), None)];
        let told = answer(
            said.as_object().unwrap(),
            "/3/0/0",
            Code::CONTENT,
            &[("content", content(&records))],
        );
        let expected = json!({"reqID": 2, "msgType": "read", "data": {
            "reqPath": "/3/0/0", "code": "2.05", "codeMsg": "content",
            "content": [{"path": "/3/0/0", "value": "EMQ"}],
        }});
        assert_eq!(told, expected);
        assert_eq!(
            code_message(Code::UNSUPPORTED_CONTENT_FORMAT),
            "unsupported_content_format"
        );
        assert_eq!(code_message(Code::GATEWAY_TIMEOUT), "gateway_timeout");
    }

    /// RFC 8428 §4.5.3
    #[test]
    fn the_last_value_says_unit_type_and_time() {
        let registry = Registry::builtin();
        let now = 1_700_000_000_000;
        let told =
            |time| resource(&record("/3303/0/5700", Value::Float(21.5), time), &registry, now).unwrap();
        let last = told(None);
        assert_eq!(
            (&last["value"], &last["type"], &last["time"]),
            (&json!(21.5), &json!("Float"), &json!(now))
        );
        assert_eq!(told(Some(-2.0))["time"], json!(now - 2_000));
        assert_eq!(told(Some(1_600_000_000.0))["time"], json!(1_600_000_000_000_u64));
    }
}
