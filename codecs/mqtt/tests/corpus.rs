//! Captured and forbidden packets, one clause a line: `tests/corpus/*.txt`.
//!
//! An allowed packet decodes to what its line says and survives being encoded and decoded again; a forbidden one
//! ends in the error, and so in the reason code, that its line says.

mod common;

use common::corpus::{self, Line};
use headgate_mqtt_codec::{PacketType, ReasonCode, encode};

use bytes::BytesMut;

#[test]
fn every_line_of_the_corpus_holds() {
    let lines = corpus::lines();
    assert!(
        lines.len() > 350,
        "only {} lines: are the files there?",
        lines.len()
    );

    let wrong: Vec<String> = lines
        .iter()
        .filter_map(|line| check(line).err().map(|why| format!("{}: {why}", line.at)))
        .collect();

    assert!(
        wrong.is_empty(),
        "{} of {} lines are wrong:\n{}",
        wrong.len(),
        lines.len(),
        wrong.join("\n")
    );
}

/// A reason is of use if CONNACK or DISCONNECT may give it.
fn can_be_told(reason: ReasonCode) -> bool {
    reason.is_allowed_in(PacketType::ConnAck) || reason.is_allowed_in(PacketType::Disconnect)
}

fn check(line: &Line) -> Result<(), String> {
    let mut buf = BytesMut::from(&line.bytes[..]);
    let mut decoder = line.decoder();
    let found = match decoder.decode(&mut buf) {
        Err(error) if !can_be_told(error.reason_code()) => {
            return Err(format!("{error}: no packet can say so"));
        }
        Err(error) => format!("0x{:02x} {}", error.reason_code() as u8, corpus::variant(&error)),
        Ok(None) => return Err("waits for more bytes".into()),
        Ok(Some(packet)) => {
            if line.allowed {
                let version = decoder.version().ok_or("no version after a packet")?;
                let mut again = BytesMut::new();
                encode(&packet, version, &mut again);
                let decoded = line
                    .decoder()
                    .decode(&mut again)
                    .map_err(|error| format!("encoded again: {error}"))?;
                if decoded.as_ref() != Some(&packet) {
                    return Err(format!("encoded again it is {decoded:?}"));
                }
            }
            corpus::summary(&packet)
        }
    };
    if !buf.is_empty() && line.allowed {
        return Err(format!("{} bytes are left over", buf.len()));
    }
    if found != line.expected {
        Err(format!("found {found}, expected {}", line.expected))
    } else {
        Ok(())
    }
}
