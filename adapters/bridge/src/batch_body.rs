//! What a batch looks like: a JSON array (RFC 8259) of objects, one for each message.
//!
//! Always true: the array is JSON whatever the payloads are, for what is no JSON text goes as a string, and what is no text goes as base64.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;

/// One message of a batch: `{"topic":"a/b","payload":21.5}`, with `"retain":true` when it is retained.
pub(crate) fn object(topic: &str, payload: &[u8], retain: bool) -> Vec<u8> {
    let mut object = Vec::with_capacity(topic.len() + payload.len() + 32);
    object.extend_from_slice(b"{\"topic\":");
    push_string(&mut object, topic);
    object.extend_from_slice(b",\"payload\":");
    push_payload(&mut object, payload);
    if retain {
        object.extend_from_slice(b",\"retain\":true");
    }
    object.push(b'}');
    object
}

fn push_payload(object: &mut Vec<u8>, payload: &[u8]) {
    match std::str::from_utf8(payload) {
        Ok(text) if is_json(text) => object.extend_from_slice(payload),
        Ok(text) => push_string(object, text),
        Err(_) => {
            object.extend_from_slice(b"{\"base64\":\"");
            object.extend_from_slice(STANDARD.encode(payload).as_bytes());
            object.extend_from_slice(b"\"}");
        }
    }
}

fn push_string(object: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(object, text).expect("a string is written to memory");
}

/// Whether it may stand in a JSON text as it is. What many readers refuse may not: half a surrogate pair, a number beyond all bounds, deep nesting.
fn is_json(text: &str) -> bool {
    serde_json::from_str::<Checked>(text).is_ok()
}

/// A JSON value that was read and is not kept.
struct Checked;

impl<'de> Deserialize<'de> for Checked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Checked)
    }
}

impl<'de> Visitor<'de> for Checked {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self, A::Error> {
        while seq.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        while map.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn payload_of(payload: &[u8]) -> String {
        let object = String::from_utf8(object("t", payload, false)).unwrap();
        let payload = object.strip_prefix("{\"topic\":\"t\",\"payload\":").unwrap();
        payload.strip_suffix('}').unwrap().to_owned()
    }

    #[test]
    fn a_payload_is_json_or_a_string_or_base64() {
        for (payload, shown) in [
            (&b"21.5"[..], "21.5"),
            (b"{\"v\": [1, null]}", "{\"v\": [1, null]}"),
            (b"\"text\"", "\"text\""),
            (b"on", "\"on\""),
            (b"say \"hi\"\n", "\"say \\\"hi\\\"\\n\""),
            (b"", "\"\""),
            (b"1 2", "\"1 2\""),
            (b"NaN", "\"NaN\""),
            (b"1e999", "\"1e999\""),
            (b"\"\\ud800\"", "\"\\\"\\\\ud800\\\"\""),
            (b"\"\\u00e9\"", "\"\\u00e9\""),
            (&[0xff, 0], "{\"base64\":\"/wA=\"}"),
        ] {
            assert_eq!(payload_of(payload), shown);
        }
        let retained = object("a/\"b\"", b"1", true);
        assert_eq!(
            retained,
            b"{\"topic\":\"a/\\\"b\\\"\",\"payload\":1,\"retain\":true}"
        );
    }

    /// Deep nesting is a string, for it would break readers, ours among them.
    #[test]
    fn a_payload_that_is_nested_too_deep_is_a_string() {
        let deep = "[".repeat(10_000) + &"]".repeat(10_000);
        assert_eq!(payload_of(deep.as_bytes()), format!("\"{deep}\""));
    }

    proptest! {
        #[test]
        fn any_payload_gives_json(payload in prop::collection::vec(any::<u8>(), 0..200), text in ".*") {
            for payload in [&payload[..], text.as_bytes()] {
                let object: Value = serde_json::from_slice(&object("a/b", payload, true)).unwrap();
                prop_assert_eq!(&object["topic"], "a/b");
                let back = match &object["payload"] {
                    Value::String(text) if text.as_bytes() == payload => payload.to_vec(),
                    Value::Object(packed) if packed.contains_key("base64") => {
                        STANDARD.decode(packed["base64"].as_str().unwrap()).unwrap()
                    }
                    value => {
                        prop_assert_eq!(&serde_json::from_slice::<Value>(payload).unwrap(), value);
                        continue;
                    }
                };
                prop_assert_eq!(back, payload);
            }
        }
    }
}
