//! Frames as bytes, piece by piece: a step costs as much as its piece, whatever the frame holds, and a message is gone when it is encoded.
//!
//! Characters that browsers mangle on the way are escaped (sockjs-protocol, "JSON Unicode Encoding", `escapable_by_server`). In a script of an HTML page the frame
//! is a string of JavaScript, and nothing in it ends the script around it. Both are done in one pass, by a table.

use crate::frame::Frame;
use std::collections::VecDeque;

/// What a frame stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As it is: JSON.
    Json,
    /// In a string of JavaScript, which may stand in a page.
    Script,
}

/// What is to be done with a byte of a message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Plain,
    /// It means something in JSON: control characters, quotes, backslashes.
    Json,
    /// It means something in HTML.
    Html,
    /// It may begin a character that is mangled.
    Lead,
}

const CLASSES: [Class; 256] = classes();
const HEX: &[u8; 16] = b"0123456789abcdef";

const fn classes() -> [Class; 256] {
    let mut classes = [Class::Plain; 256];
    let mut control = 0;
    while control < 0x20 {
        classes[control] = Class::Json;
        control += 1;
    }
    classes[b'"' as usize] = Class::Json;
    classes[b'\\' as usize] = Class::Json;
    classes[b'<' as usize] = Class::Html;
    classes[b'>' as usize] = Class::Html;
    classes[b'&' as usize] = Class::Html;
    classes[0xe2] = Class::Lead;
    classes[0xef] = Class::Lead;
    classes
}

/// One frame that is being encoded.
#[derive(Debug)]
pub(crate) struct Encoder {
    form: Form,
    before: Vec<u8>,
    texts: VecDeque<String>,
    /// How much of the first text is encoded; `None`: its quote is to come.
    at: Option<usize>,
    after: Vec<u8>,
}

impl Encoder {
    pub(crate) fn new(frame: Frame, form: Form) -> Self {
        let (before, texts, after) = match frame {
            Frame::Open => (b"o".to_vec(), VecDeque::new(), ""),
            Frame::Heartbeat => (b"h".to_vec(), VecDeque::new(), ""),
            Frame::Messages(messages) => (b"a[".to_vec(), messages.into(), "]"),
            Frame::Close(ended) => {
                let code = format!("c[{},", ended.code);
                (code.into_bytes(), [ended.reason.into_owned()].into(), "]")
            }
        };
        let mut this = Self {
            form,
            before,
            texts,
            at: None,
            after: after.into(),
        };
        if form == Form::Script {
            this = this.between("\"", "\"");
        }
        this
    }

    /// The same, with something around it that is not escaped.
    pub(crate) fn between(mut self, before: &str, after: &str) -> Self {
        self.before.splice(..0, before.bytes());
        self.after.extend_from_slice(after.as_bytes());
        self
    }

    /// What is not encoded yet, in bytes before encoding.
    pub(crate) fn held(&self) -> usize {
        let texts = self
            .texts
            .iter()
            .map(|text| text.capacity() + size_of::<String>());
        texts.sum::<usize>() + self.before.len() + self.after.len()
    }

    /// Appends a piece: of some `bytes` before encoding, which may be seven times as much. True: it was the last one.
    pub(crate) fn encode(&mut self, out: &mut Vec<u8>, bytes: usize) -> bool {
        let mut left = bytes.max(1);
        out.append(&mut self.before);
        while let Some(text) = self.texts.front() {
            if left == 0 {
                return false;
            }
            let at = self.at.unwrap_or_else(|| {
                quote(self.form, out);
                0
            });
            let taken = escape(self.form, &text.as_bytes()[at..], left, out);
            left = left.saturating_sub(taken + 1);
            self.at = Some(at + taken);
            if at + taken < text.len() {
                return false;
            }
            quote(self.form, out);
            self.at = None;
            self.texts.pop_front();
            if !self.texts.is_empty() {
                out.push(b',');
            }
        }
        out.append(&mut self.after);
        true
    }
}

fn quote(form: Form, out: &mut Vec<u8>) {
    out.extend_from_slice(match form {
        Form::Json => b"\"",
        Form::Script => b"\\\"",
    });
}

/// Escapes so many bytes of a text and whole characters: says how many. The text goes on at a character.
fn escape(form: Form, text: &[u8], bytes: usize, out: &mut Vec<u8>) -> usize {
    let mut at = 0;
    while at < text.len().min(bytes) {
        let rest = &text[at..];
        let is_plain = |byte: &u8| {
            let class = CLASSES[usize::from(*byte)];
            class == Class::Plain || class == Class::Html && form == Form::Json
        };
        let room = rest.len().min(bytes - at);
        let plain = rest[..room]
            .iter()
            .position(|byte| !is_plain(byte))
            .unwrap_or(room);
        out.extend_from_slice(&rest[..plain]);
        at += plain;
        if plain < room {
            at += escape_one(form, &rest[plain..], out);
        }
    }
    at
}

/// Escapes the first character if it needs that; says how long it is.
fn escape_one(form: Form, text: &[u8], out: &mut Vec<u8>) -> usize {
    match (CLASSES[usize::from(text[0])], text) {
        (Class::Json, _) => {
            escape_json(form, text[0], out);
            1
        }
        (Class::Html, _) => {
            // Of the string, not of the JSON in it.
            four_digits(Form::Json, u16::from(text[0]), out);
            1
        }
        (Class::Lead, &[a, b, c, ..]) => {
            let code = u16::from(a & 0x0f) << 12 | u16::from(b & 0x3f) << 6 | u16::from(c & 0x3f);
            match is_mangled(code) {
                true => four_digits(form, code, out),
                false => out.extend_from_slice(&[a, b, c]),
            }
            3
        }
        (Class::Lead | Class::Plain, _) => {
            out.push(text[0]);
            1
        }
    }
}

/// sockjs-protocol, `escapable_by_server`, above the control characters. Only characters of the basic plane, so that four digits do.
fn is_mangled(code: u16) -> bool {
    matches!(code, 0x200c..=0x200f | 0x2028..=0x202f | 0x2060..=0x206f | 0xfff0..=0xffff)
}

fn escape_json(form: Form, byte: u8, out: &mut Vec<u8>) {
    let letter = match byte {
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0c => b'f',
        b'"' | b'\\' => byte,
        _ => return four_digits(form, byte.into(), out),
    };
    backslash(form, out);
    if form == Form::Script && matches!(byte, b'"' | b'\\') {
        out.push(b'\\');
    }
    out.push(letter);
}

fn four_digits(form: Form, code: u16, out: &mut Vec<u8>) {
    backslash(form, out);
    let digit = |shift: u16| HEX[usize::from(code >> shift & 0xf)];
    out.extend_from_slice(&[b'u', digit(12), digit(8), digit(4), digit(0)]);
}

fn backslash(form: Form, out: &mut Vec<u8>) {
    out.extend_from_slice(match form {
        Form::Json => b"\\",
        Form::Script => b"\\\\",
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(frame: &[String], form: Form, piece: usize) -> String {
        let mut encoder = Encoder::new(Frame::Messages(frame.to_vec()), form);
        let mut out = Vec::new();
        while !encoder.encode(&mut out, piece) {}
        assert_eq!(encoder.held(), 0);
        String::from_utf8(out).unwrap()
    }

    /// Every character is what it was, read as JSON, and as JSON in a string of JavaScript, wherever the pieces are cut.
    #[test]
    fn what_is_encoded_reads_as_it_was() {
        let all: String = (0..0x1_0100).filter_map(char::from_u32).collect();
        let messages = [all, String::new(), "\u{1}\"\\\u{e9}\u{2028}x".repeat(9)];
        let whole = encoded(&messages, Form::Json, usize::MAX);
        let read: Vec<String> = serde_json::from_str(&whole[1..]).unwrap();
        assert_eq!(read, messages);
        let page = encoded(&messages, Form::Script, usize::MAX);
        assert!(!page.contains(['<', '>', '&', '\u{2028}', '\u{2029}', '\n']));
        assert_eq!(serde_json::from_str::<String>(&page).unwrap(), whole);
        for piece in [1, 2, 3, 5, 64, 1 << 10] {
            assert_eq!(encoded(&messages, Form::Json, piece), whole, "{piece}");
            assert_eq!(encoded(&messages, Form::Script, piece), page, "{piece}");
        }
    }

    #[test]
    fn no_message_leaves_the_script_around_it() {
        let frame = ["</script><!--&\u{2028}".to_owned()];
        assert_eq!(
            encoded(&frame, Form::Script, 64),
            r#""a[\"\u003c/script\u003e\u003c!--\u0026\\u2028\"]""#
        );
    }

    /// A step costs as much as its piece.
    #[test]
    fn a_piece_is_small_whatever_is_in_the_frame() {
        let mut encoder = Encoder::new(Frame::Messages(vec!["\u{1}".repeat(1 << 20)]), Form::Script);
        let (mut all, mut pieces, mut out) = (0, 0, Vec::new());
        while !encoder.encode(&mut out, 16 << 10) {
            assert!(out.len() <= 7 * (16 << 10) + 64, "{}", out.len());
            all += out.len();
            pieces += 1;
            out.clear();
        }
        assert!(pieces >= 63 && all > 6 << 20, "{pieces} {all}");
    }
}
