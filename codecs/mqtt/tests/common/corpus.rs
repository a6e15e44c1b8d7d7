//! Reads `tests/corpus/*.txt`.
//!
//! One line: `allow` or `forbid`, version and side (`new server`: before CONNECT), the bytes as hex with ASCII in
//! double quotes, the clause, the error (`0x81 HeaderFlags`) or a summary of the packet, a note.

use std::fmt::{Debug, Write as _};
use std::fs;
use std::path::Path;

use headgate_mqtt_codec::{Ack, Connect, Decoder, Packet, Publish, Qos, RetainHandling, Subscribe, Version};

use super::{LIMIT, client, server};

pub(crate) struct Line {
    /// File and line number.
    pub at: String,
    pub allowed: bool,
    /// `None` before CONNECT.
    pub version: Option<Version>,
    pub to_server: bool,
    pub bytes: Vec<u8>,
    pub expected: String,
}

impl Line {
    pub(crate) fn decoder(&self) -> Decoder {
        match (self.version, self.to_server) {
            (None, _) => Decoder::server(LIMIT),
            (Some(version), true) => server(version),
            (Some(version), false) => client(version),
        }
    }
}

pub(crate) fn lines() -> Vec<Line> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let mut lines = Vec::new();
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        for (number, text) in fs::read_to_string(&file).unwrap().lines().enumerate() {
            if !text.is_empty() && !text.starts_with('#') {
                lines.push(parse(&format!("{name}:{}", number + 1), text));
            }
        }
    }
    lines
}

fn parse(at: &str, text: &str) -> Line {
    let fields: Vec<&str> = text.split(" | ").collect();
    let [kind, version, bytes, clause, expected, ..] = fields[..] else {
        panic!("{at}: too few fields")
    };
    assert!(
        clause.contains("MQTT-") || clause.contains('§') || clause.contains("bridge"),
        "{at}: cites nothing"
    );
    let (version, side) = version
        .split_once(' ')
        .unwrap_or_else(|| panic!("{at}: which side decodes it?"));
    Line {
        at: at.to_owned(),
        allowed: match kind {
            "allow" => true,
            "forbid" => false,
            other => panic!("{at}: {other} is neither allow nor forbid"),
        },
        version: match version {
            "new" => None,
            "3.1" => Some(Version::V31),
            "3.1.1" => Some(Version::V311),
            "5" => Some(Version::V5),
            other => panic!("{at}: version {other}"),
        },
        to_server: side == "server",
        bytes: hex(at, bytes),
        expected: expected.to_owned(),
    }
}

fn hex(at: &str, text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (i, part) in text.split('"').enumerate() {
        if i % 2 == 1 {
            bytes.extend_from_slice(part.as_bytes());
            continue;
        }
        let digits: Vec<u8> = part
            .chars()
            .filter(|c| !c.is_whitespace())
            .map(|c| {
                c.to_digit(16)
                    .unwrap_or_else(|| panic!("{at}: {c} is no hex digit")) as u8
            })
            .collect();
        assert!(digits.len().is_multiple_of(2), "{at}: half a byte");
        bytes.extend(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]));
    }
    bytes
}

/// The name of an enum's variant.
pub(crate) fn variant(value: &impl Debug) -> String {
    format!("{value:?}")
        .chars()
        .take_while(char::is_ascii_alphanumeric)
        .collect()
}

/// The packet in the corpus's words: what a line is about, not every field.
pub(crate) fn summary(packet: &Packet) -> String {
    let mut text = packet.packet_type().to_string();
    // Writing to a string cannot fail.
    let _ = match packet {
        Packet::Connect(connect) => connect_summary(&mut text, connect),
        Packet::ConnAck(ack) => {
            let present = if ack.session_present { " present" } else { "" };
            write!(text, " {:?}{present}", ack.code)
        }
        Packet::Publish(publish) => publish_summary(&mut text, publish),
        Packet::Ack(Ack {
            packet_id,
            reason,
            properties,
            ..
        }) => {
            let reason_string = properties.as_ref().and_then(|p| p.reason_string.as_ref());
            write!(text, " {packet_id} {reason:?}{}", optional(" ", reason_string))
        }
        Packet::Subscribe(subscribe) => subscribe_summary(&mut text, subscribe),
        Packet::SubAck(ack) => write!(text, " {} {:?}", ack.packet_id, ack.codes),
        Packet::Unsubscribe(unsubscribe) => {
            let filters: String = unsubscribe
                .filters
                .iter()
                .map(|filter| format!(" {filter:?}"))
                .collect();
            write!(text, " {}{filters}", unsubscribe.packet_id)
        }
        Packet::UnsubAck(ack) => write!(text, " {} {:?}", ack.packet_id, ack.codes),
        Packet::PingReq | Packet::PingResp => Ok(()),
        Packet::Disconnect(disconnect) => {
            let expiry = disconnect.properties.as_ref().and_then(|p| p.session_expiry);
            write!(
                text,
                " {:?}{}",
                disconnect.reason,
                optional(" expiry ", expiry.as_ref())
            )
        }
        Packet::Auth(auth) => {
            let method = auth.properties.as_ref().and_then(|p| p.method.as_ref());
            write!(text, " {:?}{}", auth.reason, optional(" ", method))
        }
    };
    text
}

fn optional(before: &str, value: Option<&impl Debug>) -> String {
    value
        .map(|value| format!("{before}{value:?}"))
        .unwrap_or_default()
}

fn qos(qos: Qos) -> u8 {
    qos as u8
}

fn connect_summary(text: &mut String, connect: &Connect) -> std::fmt::Result {
    write!(text, " {}", connect.version)?;
    if connect.bridge {
        text.push_str(" bridge");
    }
    write!(text, " {:?}", connect.client_id)?;
    if connect.clean_start {
        text.push_str(" clean");
    }
    if let Some(will) = &connect.will {
        let retain = if will.retain { " retain" } else { "" };
        write!(
            text,
            " will {:?} qos{}{retain} {} bytes",
            will.topic,
            qos(will.qos),
            will.payload.len()
        )?;
    }
    if let Some(username) = &connect.username {
        write!(text, " user {username:?}")?;
    }
    if let Some(password) = &connect.password {
        write!(text, " password {} bytes", password.len())?;
    }
    Ok(())
}

fn publish_summary(text: &mut String, publish: &Publish) -> std::fmt::Result {
    if publish.dup {
        text.push_str(" dup");
    }
    write!(text, " qos{}", qos(publish.qos))?;
    if publish.retain {
        text.push_str(" retain");
    }
    if let Some(id) = publish.packet_id {
        write!(text, " {id}")?;
    }
    write!(text, " {:?} {} bytes", publish.topic, publish.payload.len())?;
    if let Some(properties) = &publish.properties {
        if let Some(alias) = properties.topic_alias {
            write!(text, " alias {alias}")?;
        }
        if !properties.subscription_identifiers.is_empty() {
            write!(text, " subscriptions {:?}", properties.subscription_identifiers)?;
        }
    }
    Ok(())
}

fn subscribe_summary(text: &mut String, subscribe: &Subscribe) -> std::fmt::Result {
    write!(text, " {}", subscribe.packet_id)?;
    if let Some(identifier) = subscribe.identifier {
        write!(text, " identifier {identifier}")?;
    }
    for entry in &subscribe.filters {
        write!(text, " {:?} qos{}", entry.filter, qos(entry.options.qos))?;
        if entry.options.no_local {
            text.push_str(" no_local");
        }
        if entry.options.retain_as_published {
            text.push_str(" as_published");
        }
        if entry.options.retain_handling != RetainHandling::SendAtSubscribe {
            write!(text, " {:?}", entry.options.retain_handling)?;
        }
    }
    Ok(())
}
