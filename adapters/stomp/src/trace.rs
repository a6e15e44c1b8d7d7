//! What frames say, for a trace: command and headers of the protocol. No passcode.

use crate::wire::Outgoing;
use headgate_model::trace::PacketTrace;
use headgate_stomp_codec::{Command, Frame};
use std::fmt::Write;

/// Headers that are told; what an application adds is its own.
const TOLD: [&str; 21] = [
    "accept-version",
    "version",
    "host",
    "login",
    "client-id",
    "session",
    "heart-beat",
    "destination",
    "id",
    "subscription",
    "message-id",
    "ack",
    "durable",
    "persistent",
    "prefetch-count",
    "qos",
    "retain",
    "transaction",
    "receipt",
    "receipt-id",
    "message",
];

pub(crate) fn frame(frame: &Frame) -> PacketTrace {
    let mut text = frame.command.as_str().to_owned();
    for (name, value) in TOLD.iter().filter_map(|name| Some((name, frame.get(name)?))) {
        let _ = write!(text, " {name}={}", value.escape_debug());
    }
    let connects = matches!(frame.command, Command::Connect | Command::Stomp);
    if connects {
        let given = frame.get("passcode").is_some();
        text += if given {
            " passcode=(given)"
        } else {
            " passcode=(none)"
        };
    }
    let client = frame.get("client-id").filter(|_| connects);
    let payload = (frame.command == Command::Send).then(|| frame.body.clone());
    if let Some(payload) = &payload {
        let _ = write!(text, " payload={}", payload.len());
    }
    PacketTrace {
        text,
        client: client.map(str::to_owned),
        payload,
    }
}

/// A message on its way out.
pub(crate) fn outgoing(outgoing: &Outgoing) -> PacketTrace {
    let text = format!(
        "MESSAGE subscription={} message-id={} topic={} retain={} redelivered={} payload={}",
        outgoing
            .subscription
            .as_deref()
            .unwrap_or_default()
            .escape_debug(),
        outgoing.id,
        String::from_utf8_lossy(outgoing.topic()),
        outgoing.retain,
        outgoing.redelivered,
        outgoing.message.payload.len()
    );
    PacketTrace {
        text,
        client: None,
        payload: Some(outgoing.message.payload.clone()),
    }
}
