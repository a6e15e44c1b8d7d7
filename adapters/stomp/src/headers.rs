//! Headers and the properties of MQTT 5. docs/stomp.md has the table.

use crate::frames::{BadFrame, shown};
use crate::settings::StompSettings;
use crate::wire::Outgoing;
use bytes::{Bytes, BytesMut};
use headgate_model::{Properties, Topic};
use headgate_stomp_codec::{Frame, FrameWriter, Text, is_padded};
use std::collections::BTreeSet;
use std::io::Write;

/// Headers that mean something here, sorted. They are never user properties, in neither direction: nobody can forge a `message-id`.
const OWN: [&str; 15] = [
    "ack",
    "content-length",
    "content-type",
    "correlation-id",
    "destination",
    "message-expiry",
    "message-id",
    "qos",
    "receipt",
    "receipt-id",
    "redelivered",
    "reply-to",
    "retain",
    "subscription",
    "transaction",
];

fn is_own(name: &[u8]) -> bool {
    OWN.binary_search_by(|own| own.as_bytes().cmp(name)).is_ok()
}

/// What a SEND says beside destination, body and QoS; `None` for nothing.
pub(crate) fn properties(
    frame: &Frame,
    settings: &StompSettings,
) -> Result<Option<Box<Properties>>, BadFrame> {
    let value = |name: &str| frame.headers.get(name).map(|text| text.bytes().clone());
    let reply_to = frame.headers.get("reply-to");
    let response_topic = reply_to.map(|to| reply_topic(to, settings)).transpose()?;
    let mut seen = BTreeSet::new();
    let others = frame.headers.iter().filter(|(name, _)| !is_own(name.bytes()));
    let first_of_each = others.filter(|(name, _)| seen.insert(name)); // STOMP 1.2, Repeated Header Entries
    let properties = Properties {
        payload_is_utf8: None,
        content_type: value("content-type"),
        response_topic,
        correlation_data: value("correlation-id"),
        user_properties: first_of_each
            .map(|(name, value)| (name.bytes().clone(), value.bytes().clone()))
            .collect(),
    };
    Ok((properties != Properties::default()).then(|| Box::new(properties)))
}

/// MQTT 5 §3.3.2.3.5: a topic name.
fn reply_topic(destination: &Text, settings: &StompSettings) -> Result<Bytes, BadFrame> {
    let shown = shown(destination);
    let name = settings
        .name_of(destination)
        .ok_or_else(|| settings.bad_prefix("reply-to", destination))?;
    match Topic::parse(name.clone()) {
        Ok(_) => Ok(name),
        Err(error) => Err(format!("reply-to {shown} is no destination to send to: {error}").into()),
    }
}

/// Appends a MESSAGE. STOMP 1.2, MESSAGE
pub(crate) fn write_message(outgoing: &Outgoing, settings: &StompSettings, bytes: &mut BytesMut) {
    let mut frame = FrameWriter::new(Outgoing::COMMAND, outgoing.version, bytes);
    if let Some(subscription) = &outgoing.subscription {
        frame.header(b"subscription", subscription.bytes());
    }
    let (mut id, mut len) = ([0; 32], 0);
    let mut rest = &mut id[..];
    if write!(rest, "{}", outgoing.id).is_ok() {
        len = 32 - rest.len();
    }
    frame.header(b"message-id", &id[..len]);
    if outgoing.says_ack() {
        frame.header(b"ack", &id[..len]);
    }
    frame.header(b"destination", &settings.destination_of(outgoing.topic()));
    if outgoing.retain {
        frame.header(b"retain", b"true");
    }
    if outgoing.redelivered {
        frame.header(b"redelivered", b"true");
    }
    if let Some(seconds) = outgoing.expiry {
        frame.number("message-expiry", seconds);
    }
    if let Some(properties) = &outgoing.message.properties {
        write_properties(properties, settings, &mut frame);
    }
    frame.end(&outgoing.message.payload);
}

fn write_properties(properties: &Properties, settings: &StompSettings, frame: &mut FrameWriter<'_>) {
    if let Some(kind) = &properties.content_type {
        frame.header(b"content-type", kind);
    }
    if let Some(topic) = &properties.response_topic {
        frame.header(b"reply-to", &settings.destination_of(topic));
    }
    // In MQTT 5 these are bytes, in STOMP text.
    if let Some(data) = properties.correlation_data.as_ref().filter(|data| is_text(data)) {
        frame.header(b"correlation-id", data);
    }
    // There are clients that take white space off names: none is to find a header of the protocol below it.
    for (name, value) in properties
        .user_properties
        .iter()
        .filter(|(name, _)| !is_own(name) && !is_padded(name))
    {
        frame.header(name, value);
    }
}

fn is_text(bytes: &Bytes) -> bool {
    Text::new(bytes.clone()).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_headers_of_the_protocol_are_found() {
        assert!(OWN.is_sorted());
        assert!(is_own(b"message-id") && !is_own(b"message"));
    }
}
