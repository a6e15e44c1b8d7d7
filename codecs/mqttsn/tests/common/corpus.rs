//! Reads `tests/corpus/*.txt`.
//!
//! One line: `allow` or `forbid`, the bytes as hex with ASCII in double quotes, the clause, what comes of it, a note.

use std::fs;
use std::path::Path;

pub(crate) struct Line {
    /// File and line number.
    pub at: String,
    pub allowed: bool,
    pub bytes: Vec<u8>,
    /// The type of an allowed one, the name of the error of a forbidden one.
    pub expected: String,
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
    let [kind, bytes, clause, expected, ..] = fields[..] else {
        panic!("{at}: too few fields")
    };
    assert!(clause.contains('§'), "{at}: cites nothing");
    Line {
        at: at.to_owned(),
        allowed: match kind {
            "allow" => true,
            "forbid" => false,
            other => panic!("{at}: {other} is neither allow nor forbid"),
        },
        bytes: hex(at, bytes),
        expected: expected.trim().to_owned(),
    }
}

fn hex(at: &str, text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (n, part) in text.split('"').enumerate() {
        if n % 2 == 1 {
            bytes.extend_from_slice(part.as_bytes());
            continue;
        }
        let digits: String = part.split_whitespace().collect();
        assert!(digits.len().is_multiple_of(2), "{at}: half a byte");
        bytes.extend(
            (0..digits.len()).step_by(2).map(|i| {
                u8::from_str_radix(&digits[i..i + 2], 16).unwrap_or_else(|_| panic!("{at}: {digits}"))
            }),
        );
    }
    bytes
}
