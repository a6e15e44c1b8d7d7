//! What comes from anybody, as a terminal may show it: without words to the terminal.

use std::fmt::Write;

/// Whether a character shows, and shows where it stands: no control character, no line or paragraph separator, none that turns the direction of writing, joins
/// or has no width.
pub fn is_visible(c: char) -> bool {
    !c.is_control()
        && !matches!(
            c,
            '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// A name on one line: what does not show is escaped.
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    push(text, &mut shown, |_| false);
    shown
}

/// A text of several lines: what does not show is escaped, but for tabs and the ends of lines; so are bytes that are no UTF-8.
pub fn visible_lines(bytes: &[u8]) -> String {
    let mut shown = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        push(chunk.valid(), &mut shown, |c| matches!(c, '\n' | '\t'));
        for byte in chunk.invalid() {
            let _ = write!(shown, "\\x{byte:02x}");
        }
    }
    shown
}

/// JSON that says the same: what does not show is escaped as JSON does it. Ends of lines stay, which JSON has between its values alone.
pub fn visible_json(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for c in json.chars() {
        if is_visible(c) || c == '\n' {
            shown.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                let _ = write!(shown, "\\u{unit:04x}");
            }
        }
    }
    shown
}

fn push(text: &str, shown: &mut String, is_kept: impl Fn(char) -> bool) {
    for c in text.chars() {
        match is_visible(c) || is_kept(c) {
            true => shown.push(c),
            false => shown.extend(c.escape_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_said_to_the_terminal() {
        let evil = "x\ny\t\u{1b}]0;title\u{7}\u{202e}ü";
        assert_eq!(visible(evil), r"x\ny\t\u{1b}]0;title\u{7}\u{202e}ü");
        assert_eq!(
            visible_lines(&[evil.as_bytes(), b"\xff\xc3\r"].concat()),
            "x\ny\t\\u{1b}]0;title\\u{7}\\u{202e}ü\\xff\\xc3\\r"
        );
        assert_eq!(
            visible_json("[\n\"\u{9b}\u{7f}\u{202e}\u{200b}\u{e0001}ü\"]"),
            "[\n\"\\u009b\\u007f\\u202e\\u200b\\udb40\\udc01ü\"]"
        );
    }
}
