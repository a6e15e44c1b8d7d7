//! What a request is about: the resource that its path names, and what its query says.
//!
//! EMQ 2 has `/mqtt/{topic}`, EMQX 5 `/ps/{topic}` and `/mqtt/connection`. A topic may be one segment, in which `/` is written `%2F`, or several.

use bytes::Bytes;
use headgate_coap_codec::{Message, number};
use headgate_model::Qos;
use percent_encoding::percent_decode;
use std::time::Duration;

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    /// `/.well-known/core`. RFC 6690 §4
    WellKnownCore,
    /// `/mqtt/{topic}`
    Mqtt(Bytes),
    /// `/ps/{topic}`
    Ps(Bytes),
    /// `/mqtt/connection`, for other methods than those of topics.
    Connection,
    /// Nothing that is here.
    Unknown,
}

/// What a query says. Words that are not known are ignored. RFC 7252 §5.10.1
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query {
    /// `c` or `clientid`
    pub client_id: Option<String>,
    /// `u` or `username`
    pub username: Option<String>,
    /// `p` or `password`
    pub password: Option<Bytes>,
    /// `t` or `token`
    pub token: Option<String>,
    pub qos: Option<Qos>,
    pub retain: bool,
    /// Message expiry, in seconds.
    pub expiry: Option<Duration>,
}

/// The resource of a request.
pub(crate) fn resource(message: &Message) -> Resource {
    let mut path = message.options.all(number::URI_PATH);
    let first = path.next().map(|segment| &segment[..]);
    let rest: Vec<&[u8]> = path.map(|segment| &segment[..]).collect();
    match (first, &rest[..]) {
        (Some(b".well-known"), [b"core"]) => Resource::WellKnownCore,
        (Some(b"mqtt"), [b"connection"]) => Resource::Connection,
        (Some(b"mqtt"), [_, ..]) => Resource::Mqtt(topic(&rest)),
        (Some(b"ps"), [_, ..]) => Resource::Ps(topic(&rest)),
        _ => Resource::Unknown,
    }
}

fn topic(segments: &[&[u8]]) -> Bytes {
    let mut topic = Vec::new();
    for (n, segment) in segments.iter().enumerate() {
        if n > 0 {
            topic.push(b'/');
        }
        topic.extend(percent_decode(segment));
    }
    topic.into()
}

/// What is wrong with a query.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum QueryError {
    #[error("{0} is no UTF-8")]
    NotUtf8(String),
    #[error("qos is 0, 1 or 2")]
    Qos,
    #[error("retain is true or false")]
    Retain,
    #[error("expiry is a number of seconds")]
    Expiry,
}

/// What a query says.
pub(crate) fn query(message: &Message) -> Result<Query, QueryError> {
    let mut query = Query::default();
    for option in message.options.all(number::URI_QUERY) {
        let at = option.iter().position(|byte| *byte == b'=');
        let (name, value) = option.split_at(at.unwrap_or(option.len()));
        let value: Vec<u8> = percent_decode(value.strip_prefix(b"=").unwrap_or_default()).collect();
        let not_utf8 = || QueryError::NotUtf8(name.escape_ascii().to_string());
        let text = || String::from_utf8(value.clone()).map_err(|_| not_utf8());
        match name {
            b"c" | b"clientid" => query.client_id = Some(text()?),
            b"u" | b"username" => query.username = Some(text()?),
            b"p" | b"password" => query.password = Some(value.into()),
            b"t" | b"token" => query.token = Some(text()?),
            b"qos" => {
                query.qos = Some(match &value[..] {
                    b"0" => Qos::AtMostOnce,
                    b"1" => Qos::AtLeastOnce,
                    b"2" => Qos::ExactlyOnce,
                    _ => return Err(QueryError::Qos),
                });
            }
            b"retain" | b"r" => {
                query.retain = match &value[..] {
                    b"true" | b"1" => true,
                    b"false" | b"0" => false,
                    _ => return Err(QueryError::Retain),
                };
            }
            b"expiry" | b"e" => {
                let seconds = text()?.parse::<u32>();
                let seconds = seconds.map_err(|_| QueryError::Expiry)?;
                query.expiry = Some(Duration::from_secs(seconds.into()));
            }
            _ => {}
        }
    }
    Ok(query)
}

/// The name of a word that is secret: a password, or the token of a connection. With something behind it, or not.
pub(crate) fn secret(word: &[u8]) -> Option<&[u8]> {
    let at = word.iter().position(|byte| *byte == b'=')?;
    let name = &word[..at];
    matches!(name, b"p" | b"password" | b"t" | b"token").then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use headgate_coap_codec::{Code, Token};

    fn request(path: &[&str], query: &[&str]) -> Message {
        let mut message = Message::of_stream(Code::GET, Token::default());
        path.iter()
            .for_each(|segment| message.options.push(number::URI_PATH, segment.to_string()));
        query
            .iter()
            .for_each(|word| message.options.push(number::URI_QUERY, word.to_string()));
        message
    }

    /// EMQ 2 wants the topic percent-encoded in one segment; others write it as it stands.
    #[test]
    fn a_topic_is_one_segment_or_several() {
        let resource = |path: &[&str]| super::resource(&request(path, &[]));
        assert_eq!(resource(&["mqtt", "a%2Fb"]), Resource::Mqtt("a/b".into()));
        assert_eq!(resource(&["mqtt", "a", "b"]), Resource::Mqtt("a/b".into()));
        assert_eq!(resource(&["mqtt", "a/b"]), Resource::Mqtt("a/b".into()));
        assert_eq!(resource(&["ps", "a", "", "+"]), Resource::Ps("a//+".into()));
        assert_eq!(resource(&["ps", "100%"]), Resource::Ps("100%".into()));
        assert_eq!(resource(&["mqtt", "connection"]), Resource::Connection);
        assert_eq!(resource(&["ps", "connection"]), Resource::Ps("connection".into()));
        assert_eq!(resource(&[".well-known", "core"]), Resource::WellKnownCore);
        for unknown in [&[][..], &["mqtt"], &["ps"], &["MQTT", "a"], &[".well-known"]] {
            assert_eq!(resource(unknown), Resource::Unknown, "{unknown:?}");
        }
    }

    #[test]
    fn short_and_long_names_are_the_same() {
        let query = |words: &[&str]| super::query(&request(&[], words));
        let short = query(&[
            "c=a",
            "u=b",
            "p=c%20d",
            "t=5",
            "other",
            "qos=1",
            "retain=true",
            "expiry=60",
        ])
        .unwrap();
        let long = [
            "clientid=a",
            "username=b",
            "password=c d",
            "token=5",
            "qos=1",
            "r=1",
            "e=60",
        ];
        assert_eq!(query(&long), Ok(short.clone()));
        assert_eq!(short.password.as_deref(), Some(&b"c d"[..]));
        assert_eq!(short.expiry, Some(Duration::from_secs(60)));
        assert_eq!(query(&["qos=3"]), Err(QueryError::Qos));
        assert_eq!(query(&["retain=yes"]), Err(QueryError::Retain));
        assert_eq!(query(&["expiry=-1"]), Err(QueryError::Expiry));
        assert_eq!(query(&["c=%FF"]), Err(QueryError::NotUtf8("c".into())));
    }
}
