//! Frames to the client, and the messages in what a client sends. sockjs-protocol, "Framing accepted by the client".

#[cfg(test)]
use crate::encode::{Encoder, Form};
use crate::session::Ended;
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use std::fmt;

/// What a client gets at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// `o`: the session is open.
    Open,
    /// `h`: the connection is alive.
    Heartbeat,
    /// `a[…]`
    Messages(Vec<String>),
    /// `c[code,"reason"]`
    Close(Ended),
}

impl Frame {
    /// As the client reads it.
    #[cfg(test)]
    pub(crate) fn text(self) -> String {
        let mut encoder = Encoder::new(self, Form::Json);
        let mut text = Vec::new();
        while !encoder.encode(&mut text, 7) {}
        String::from_utf8(text).expect("JSON of text is text")
    }
}

/// Why what a client sent is no messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MessagesError {
    /// There is nothing.
    Empty,
    /// No JSON, or none that is a list of texts.
    Broken,
    TooMany,
}

/// `["message", …]`, `limit` of them at most. An empty list is fine.
pub(crate) fn messages(body: &[u8], limit: usize) -> Result<Vec<String>, MessagesError> {
    if body.is_empty() {
        return Err(MessagesError::Empty);
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let list = json
        .deserialize_seq(List { limit })
        .map_err(|_| MessagesError::Broken)?;
    json.end().map_err(|_| MessagesError::Broken)?;
    list.ok_or(MessagesError::TooMany)
}

/// What a WebSocket carries: a list of messages, or one message; nothing at all is no message.
pub(crate) fn websocket_messages(text: &str, limit: usize) -> Result<Vec<String>, MessagesError> {
    match text.trim_ascii_start().as_bytes().first() {
        None => Ok(Vec::new()),
        Some(b'"') => match serde_json::from_str(text) {
            Ok(message) => Ok(vec![message]),
            Err(_) => Err(MessagesError::Broken),
        },
        Some(_) => messages(text.as_bytes(), limit),
    }
}

/// Reads to the end in any case, so that what is broken is told from what is too much; keeps nothing above the limit.
struct List {
    limit: usize,
}

impl<'de> Visitor<'de> for List {
    type Value = Option<Vec<String>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of messages")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut messages = Vec::new();
        while let Some(message) = list.next_element::<String>()? {
            if messages.len() == self.limit {
                while list.next_element::<de::IgnoredAny>()?.is_some() {}
                return Ok(None);
            }
            messages.push(message);
        }
        Ok(Some(messages))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(messages: &[&str]) -> String {
        Frame::Messages(messages.iter().map(|&message| message.to_owned()).collect()).text()
    }

    /// sockjs-protocol, "Framing accepted by the client".
    #[test]
    fn frames_are_a_letter_and_json() {
        assert_eq!(Frame::Open.text(), "o");
        assert_eq!(Frame::Heartbeat.text(), "h");
        assert_eq!(text(&["a", "\"\\"]), r#"a["a","\"\\"]"#);
        assert_eq!(text(&["  \0\n\r "]), r#"a["  \u0000\n\r "]"#);
        let ended = Ended {
            code: 3000,
            reason: "Go away!".into(),
        };
        assert_eq!(Frame::Close(ended).text(), r#"c[3000,"Go away!"]"#);
    }

    /// sockjs-protocol, `escapable_by_server`, above the control characters.
    #[test]
    fn what_browsers_mangle_is_escaped() {
        let ranges = [
            0x200c..=0x200f_u32,
            0x2028..=0x202f,
            0x2060..=0x206f,
            0xfff0..=0xffff,
        ];
        for code in (0x20..0x1_0100).filter(|code| ![0x22, 0x5c].contains(code)) {
            let Some(c) = char::from_u32(code) else { continue };
            let expected = if ranges.iter().any(|range| range.contains(&code)) {
                format!("\\u{code:04x}")
            } else {
                c.to_string()
            };
            assert_eq!(text(&[&format!("x{c}y")]), format!("a[\"x{expected}y\"]"));
        }
    }

    #[test]
    fn messages_come_in_a_list() {
        assert_eq!(
            messages(br#"["a","\u0041\ud83d\ude00"]"#, 2),
            Ok(vec!["a".into(), "A\u{1f600}".into()])
        );
        assert_eq!(messages(b"[]", 2), Ok(vec![]));
        assert_eq!(messages(b"", 2), Err(MessagesError::Empty));
        assert_eq!(messages(br#"["a","b","c"]"#, 2), Err(MessagesError::TooMany));
        for broken in [
            r#"["x"#,
            r#"["x"]y"#,
            "[1]",
            "{}",
            "\"x\"",
            r#"["\ud800"]"#,
            r#"["a","b","c"#,
        ] {
            assert_eq!(
                messages(broken.as_bytes(), 2),
                Err(MessagesError::Broken),
                "{broken}"
            );
        }
        assert_eq!(messages(b"[\"\xff\"]", 2), Err(MessagesError::Broken));
    }

    /// sockjs-protocol, `Websocket.test_empty_frame`, and "either single json-encoded messages or an array".
    #[test]
    fn a_websocket_carries_a_list_or_one_message() {
        assert_eq!(websocket_messages("", 2), Ok(vec![]));
        assert_eq!(websocket_messages("[]", 2), Ok(vec![]));
        assert_eq!(websocket_messages("\"a\"", 2), Ok(vec!["a".into()]));
        assert_eq!(websocket_messages("[\"a\"]", 2), Ok(vec!["a".into()]));
        assert_eq!(websocket_messages("[\"a", 2), Err(MessagesError::Broken));
    }
}
