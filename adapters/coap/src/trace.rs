//! What a message says, for a trace: without passwords.

use headgate_coap_codec::{Block, Kind, Message, number};
use headgate_model::trace::PacketTrace;
use std::fmt::Write;

/// What a message says in one line, without passwords; with the client that it names, if it does.
pub fn message(message: &Message) -> PacketTrace {
    let kind = match message.kind {
        Kind::Confirmable => "CON",
        Kind::NonConfirmable => "NON",
        Kind::Acknowledgement => "ACK",
        Kind::Reset => "RST",
    };
    let name = message.code.name().unwrap_or("unknown");
    let mut text = format!(
        "{kind} {} {name} id={} token={}",
        message.code, message.id, message.token
    );
    let path: Vec<_> = message
        .options
        .all(number::URI_PATH)
        .map(|segment| segment.escape_ascii().to_string())
        .collect();
    if !path.is_empty() {
        let _ = write!(text, " path=/{}", path.join("/"));
    }
    let mut client = None;
    for word in message.options.all(number::URI_QUERY) {
        let at = word.iter().position(|byte| *byte == b'=').unwrap_or(word.len());
        match &word[..at] {
            b"p" | b"password" | b"t" | b"token" => {
                let _ = write!(text, " {}=(given)", word[..at].escape_ascii());
            }
            name => {
                if matches!(name, b"c" | b"clientid" | b"ep") {
                    client = std::str::from_utf8(word.get(at + 1..).unwrap_or_default())
                        .ok()
                        .map(str::to_owned);
                }
                let _ = write!(text, " {}", word.escape_ascii());
            }
        }
    }
    if let Some(observe) = message.options.uint(number::OBSERVE) {
        let _ = write!(text, " observe={observe}");
    }
    for (option, name) in [(number::BLOCK1, "block1"), (number::BLOCK2, "block2")] {
        if let Some(Ok(block)) = Block::of_stream(&message.options, option) {
            let _ = write!(
                text,
                " {name}={}/{}/{}",
                block.number,
                u8::from(block.more),
                block.size()
            );
        }
    }
    if let Some(format) = message.options.uint(number::CONTENT_FORMAT) {
        let _ = write!(text, " format={format}");
    }
    let _ = write!(text, " payload={}", message.payload.len());
    PacketTrace {
        text,
        client,
        payload: (!message.payload.is_empty()).then(|| message.payload.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headgate_coap_codec::{Code, Token};

    #[test]
    fn a_password_is_never_told() {
        let mut put = Message::new(Kind::Confirmable, Code::PUT, 7, Token::new(b"\x01").unwrap());
        for segment in ["mqtt", "a"] {
            put.options.push(number::URI_PATH, segment);
        }
        for word in ["c=pump", "u=joe", "p=secret"] {
            put.options.push(number::URI_QUERY, word);
        }
        let told = message(&put);
        assert_eq!(
            told.text,
            "CON 0.03 PUT id=7 token=01 path=/mqtt/a c=pump u=joe p=(given) payload=0"
        );
        assert_eq!(told.client.as_deref(), Some("pump"));
    }
}
