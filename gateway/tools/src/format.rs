//! How `headgate sub` prints a message.

use crate::error::ArgumentError;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use headgate_cli::{visible, visible_json, visible_lines};
use headgate_mqtt_codec::{Publish, Utf8};
use serde_json::{Map, Value, json};
use std::io::{self, Write};
use std::str::FromStr;
use std::time::SystemTime;

/// A pattern, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Format(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Topic,
    Payload,
    Hex,
    Length,
    Qos,
    Retain,
    Json,
}

impl FromStr for Format {
    type Err = ArgumentError;

    fn from_str(pattern: &str) -> Result<Self, ArgumentError> {
        let mut parts = Vec::new();
        let mut text = String::new();
        let mut chars = pattern.chars();
        while let Some(c) = chars.next() {
            let part = match (
                c,
                if matches!(c, '%' | '\\') {
                    chars.next()
                } else {
                    None
                },
            ) {
                ('%', Some('t')) => Part::Topic,
                ('%', Some('p')) => Part::Payload,
                ('%', Some('x')) => Part::Hex,
                ('%', Some('l')) => Part::Length,
                ('%', Some('q')) => Part::Qos,
                ('%', Some('r')) => Part::Retain,
                ('%', Some('j')) => Part::Json,
                ('%', Some('%')) => push(&mut text, '%'),
                ('\\', Some('n')) => push(&mut text, '\n'),
                ('\\', Some('t')) => push(&mut text, '\t'),
                ('\\', Some('\\')) => push(&mut text, '\\'),
                ('%', Some(field)) => return Err(ArgumentError::NoField { field }),
                ('\\', Some(escape)) => return Err(ArgumentError::NoEscape { escape }),
                ('%' | '\\', None) => return Err(ArgumentError::Unfinished { last: c }),
                _ => push(&mut text, c),
            };
            if !matches!(part, Part::Text(_)) {
                parts.push(Part::Text(std::mem::take(&mut text)));
                parts.push(part);
            }
        }
        parts.push(Part::Text(text));
        parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
        Ok(Self(parts))
    }
}

/// Only says that there is more text.
fn push(text: &mut String, c: char) -> Part {
    text.push(c);
    Part::Text(String::new())
}

impl Format {
    /// Writes a message; for a terminal nothing that would be a word to it, for others every byte as it came.
    pub(crate) fn write(&self, publish: &Publish, is_terminal: bool, out: &mut impl Write) -> io::Result<()> {
        for part in &self.0 {
            match part {
                Part::Text(text) => out.write_all(text.as_bytes())?,
                Part::Topic if is_terminal => out.write_all(visible(publish.topic.as_str()).as_bytes())?,
                Part::Payload if is_terminal => out.write_all(visible_lines(&publish.payload).as_bytes())?,
                Part::Topic => out.write_all(publish.topic.as_bytes())?,
                Part::Payload => out.write_all(&publish.payload)?,
                Part::Hex => publish.payload.iter().try_for_each(|b| write!(out, "{b:02x}"))?,
                Part::Length => write!(out, "{}", publish.payload.len())?,
                Part::Qos => write!(out, "{}", publish.qos as u8)?,
                Part::Retain => write!(out, "{}", u8::from(publish.retain))?,
                Part::Json => {
                    let json = json_of(publish, SystemTime::now()).to_string();
                    out.write_all(visible_json(&json).as_bytes())?;
                }
            }
        }
        Ok(())
    }
}

/// The names are those of mosquitto's tools. A payload that is not UTF-8 is given as `payload_base64`.
fn json_of(publish: &Publish, now: SystemTime) -> Value {
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| drop(object.insert(name.into(), value));
    put("tst", humantime::format_rfc3339_micros(now).to_string().into());
    put("topic", publish.topic.as_str().into());
    put("qos", (publish.qos as u8).into());
    put("retain", u8::from(publish.retain).into());
    put("payloadlen", publish.payload.len().into());
    match std::str::from_utf8(&publish.payload) {
        Ok(text) => put("payload", text.into()),
        Err(_) => put("payload_base64", STANDARD.encode(&publish.payload).into()),
    }
    let properties = properties_of(publish);
    if !properties.is_empty() {
        put("properties", properties.into());
    }
    object.into()
}

fn properties_of(publish: &Publish) -> Map<String, Value> {
    let mut object = Map::new();
    let Some(properties) = &publish.properties else {
        return object;
    };
    let mut put = |name: &str, value: Option<Value>| {
        object.extend(value.map(|value| (name.to_owned(), value)));
    };
    let text = |text: &Option<Utf8>| text.as_ref().map(|text| text.as_str().into());
    put(
        "payload-format-indicator",
        properties.payload_format.map(|utf8| u8::from(utf8).into()),
    );
    put(
        "message-expiry-interval",
        properties.message_expiry.map(Value::from),
    );
    put("content-type", text(&properties.content_type));
    put("response-topic", text(&properties.response_topic));
    let data = properties.correlation_data.as_ref();
    put(
        "correlation-data",
        data.map(|data| match std::str::from_utf8(data) {
            Ok(text) => text.into(),
            Err(_) => STANDARD.encode(data).into(),
        }),
    );
    let pair = |(name, value): &(Utf8, Utf8)| json!({ name.as_str(): value.as_str() });
    let pairs: Vec<Value> = properties.user_properties.iter().map(pair).collect();
    put("user-properties", (!pairs.is_empty()).then(|| pairs.into()));
    let ids = &properties.subscription_identifiers;
    put(
        "subscription-identifier",
        (!ids.is_empty()).then(|| ids.clone().into()),
    );
    object
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use headgate_mqtt_codec::{PublishProperties, Qos};

    fn message(payload: &'static [u8]) -> Publish {
        Publish {
            topic: "a/b".into(),
            qos: Qos::AtLeastOnce,
            retain: true,
            payload: Bytes::from_static(payload),
            ..Publish::default()
        }
    }

    fn written(pattern: &str, publish: &Publish) -> String {
        let mut out = Vec::new();
        let format: Format = pattern.parse().unwrap();
        format.write(publish, false, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    /// A terminal is told nothing but what can be seen; a file gets what came.
    #[test]
    fn a_terminal_is_told_nothing() {
        let evil = Publish {
            topic: "a\u{1b}[2J\u{202e}b".into(),
            ..message(b"x\ty\n\x1b]0;t\x07\xff")
        };
        let format: Format = "%t %p %x".parse().unwrap();
        let mut shown = Vec::new();
        format.write(&evil, true, &mut shown).unwrap();
        assert_eq!(
            String::from_utf8(shown).unwrap(),
            "a\\u{1b}[2J\\u{202e}b x\ty\n\\u{1b}]0;t\\u{7}\\xff 7809790a1b5d303b7407ff"
        );
        let mut raw = Vec::new();
        format.write(&evil, false, &mut raw).unwrap();
        assert!(raw.starts_with("a\u{1b}[2J\u{202e}b x\ty\n\u{1b}]0;t\u{7}".as_bytes()));
        let mut json = Vec::new();
        let format: Format = "%j".parse().unwrap();
        format.write(&evil, true, &mut json).unwrap();
        let value: Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(
            value["topic"],
            evil.topic.as_str(),
            "it is the same for whoever reads JSON"
        );
        assert!(
            String::from_utf8(json)
                .unwrap()
                .chars()
                .all(headgate_cli::is_visible)
        );
    }

    #[test]
    fn a_pattern_prints_what_it_names() {
        let all = written(r"%t|%p|%x|%l|%q|%r|%%\t\\", &message(b"hi"));
        assert_eq!(all, "a/b|hi|6869|2|1|1|%\t\\");
        assert_eq!(written("", &message(b"hi")), "");
    }

    #[test]
    fn json_holds_the_whole_message() {
        let publish = Publish {
            properties: Some(Box::new(PublishProperties {
                content_type: Some("text".into()),
                user_properties: vec![("k".into(), "v".into())],
                ..PublishProperties::default()
            })),
            ..message(b"\"hi\"")
        };
        let value = json_of(&publish, SystemTime::UNIX_EPOCH);
        let expected = json!({
            "tst": "1970-01-01T00:00:00.000000Z", "topic": "a/b", "qos": 1, "retain": 1, "payloadlen": 4, "payload": "\"hi\"",
            "properties": { "content-type": "text", "user-properties": [{ "k": "v" }] },
        });
        assert_eq!(value, expected);
        let value = json_of(&message(b"\xff\x00"), SystemTime::UNIX_EPOCH);
        assert_eq!(
            (&value["payload"], &value["payload_base64"]),
            (&Value::Null, &json!("/wA="))
        );
    }

    #[test]
    fn an_unknown_pattern_is_refused() {
        for bad in ["%y", "%", "\\", "\\q", "a%"] {
            assert!(bad.parse::<Format>().is_err(), "{bad}");
        }
    }
}
