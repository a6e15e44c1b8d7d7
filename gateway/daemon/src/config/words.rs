//! A parser's errors in words for operators: what is wrong, what is allowed, and what was probably meant.

/// A parser's error without a file: line, column and the rest.
pub(crate) fn explain_text(text: &str, error: &toml::de::Error) -> String {
    let at = error.span().map_or(0, |span| span.start).min(text.len());
    let before = &text[..at];
    let line = 1 + before.matches('\n').count();
    let column = 1 + before.rsplit('\n').next().unwrap_or("").chars().count();
    format!("{line}:{column}: {}", explain(error.message()))
}

/// Names of Rust, and what an operator knows instead.
const NUMBERS: [(&str, &str); 7] = [
    ("expected u8", "allowed is a number from 0 to 255"),
    ("expected u16", "allowed is a number from 0 to 65535"),
    ("expected u32", "allowed is a number from 0 to 4294967295"),
    ("expected u64", "allowed is a number, 0 and more"),
    ("expected usize", "allowed is a number, 0 and more"),
    ("expected a boolean", "allowed is true or false"),
    ("expected a sequence", "allowed is a list"),
];

/// A parser's message.
pub(super) fn explain(message: &str) -> String {
    for (theirs, ours) in NUMBERS {
        if let Some(front) = message.strip_suffix(theirs) {
            return format!("{front}{ours}");
        }
    }
    let message = message.replacen("missing field", "missing key", 1);
    suggest(&message)
}

/// Adds the nearest allowed word to "unknown field `x`, expected one of `a`, `b`".
fn suggest(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let unknown = message.starts_with("unknown field") || message.starts_with("unknown variant");
    let Some(wrong) = quoted.next().filter(|_| unknown) else {
        return message.to_owned();
    };
    let message = message.replacen("unknown field", "unknown key", 1);
    match nearest(wrong, quoted) {
        Some(word) => format!("{message}; did you mean `{word}`?"),
        None => message,
    }
}

/// The word that was probably meant.
pub(super) fn nearest<'a>(wrong: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let distances = words
        .into_iter()
        .map(|word| (strsim::damerau_levenshtein(wrong, word), word));
    let (distance, word) = distances.min()?;
    (distance <= 1 + wrong.len() / 3).then_some(word)
}
