//! A parser's errors in words for operators: what is wrong, what is allowed, and what was probably meant.

use super::schema;

/// A parser's error without a file: line, column and the rest.
pub(crate) fn explain_text(text: &str, error: &toml::de::Error) -> String {
    let span = error.span().unwrap_or_default();
    let before = &text[..span.start.min(text.len())];
    let line = 1 + before.matches('\n').count();
    let column = 1 + before.rsplit('\n').next().unwrap_or("").chars().count();
    let written = text.get(span).unwrap_or_default();
    format!("{line}:{column}: {}", explain(error.message(), "", written))
}

/// Names of Rust, and what an operator knows instead.
const NAMES: [(&str, &str); 9] = [
    ("expected u8", "allowed is a number from 0 to 255"),
    ("expected u16", "allowed is a number from 0 to 65535"),
    ("expected u32", "allowed is a number from 0 to 4294967295"),
    ("expected u64", "allowed is a number, 0 and more"),
    ("expected usize", "allowed is a number, 0 and more"),
    ("expected a boolean", "allowed is true or false"),
    ("expected path string", "allowed is a path, in quotes"),
    (
        "expected a duration",
        "allowed is a text of numbers with units, such as \"500ms\", \"10s\", \"5m\", \"2h\" or \"1d\"",
    ),
    ("expected a sequence", "allowed is a list"),
];

/// What is looked for where it is not, and where it is.
const ELSEWHERE: [(&str, &str, &str); 4] = [
    (
        "listeners.kind",
        "unknown variant `http`",
        "HTTP is `protocol = \"http\"`, over `tcp`, `tls` or `unix`",
    ),
    (
        "listeners.kind",
        "unknown variant `https`",
        "HTTP is `protocol = \"http\"`, here with `kind = \"tls\"`",
    ),
    (
        "listeners.kind",
        "unknown variant `stomp`",
        "STOMP is `protocol = \"stomp\"`",
    ),
    (
        "http.bind",
        "unknown field",
        "HTTP listens where `[[listeners]]` has `protocol = \"http\"`",
    ),
];

/// How the parser begins where a value is of no type that is wanted.
const WRONG_TYPE: [&str; 2] = ["wanted string or table", "invalid type"];

/// A parser's message about the setting `key`, as in the reference, where `written` stands.
pub(super) fn explain(message: &str, key: &str, written: &str) -> String {
    if message == "duplicate key" && !written.is_empty() {
        return format!("the key `{written}` stands twice in its section");
    }
    if message.starts_with("invalid type: map") && message.ends_with("expected a sequence") {
        let list = schema::list_of(key).unwrap_or(key);
        return format!("a list of sections: write `[[{list}]]`, not `[{list}]`");
    }
    for (theirs, ours) in NAMES {
        if let Some(front) = message.strip_suffix(theirs) {
            return format!("{front}{ours}");
        }
    }
    let is_missing = message.starts_with("missing field");
    let message = match WRONG_TYPE.iter().any(|wrong| message.starts_with(wrong)) {
        true => without_types(message, key, written),
        false => message.to_owned(),
    };
    if !is_missing {
        let meant = ELSEWHERE
            .iter()
            .find(|(at, wrong, _)| *at == key && message.starts_with(wrong));
        return match meant {
            Some((_, _, place)) => hinted(&message.replacen("unknown field", "unknown key", 1), place),
            None => suggest(&message),
        };
    }
    let message = message.replacen("missing field", "missing key", 1);
    // They end with the key that tells them apart.
    match schema::kinds(key, written) {
        Some(kinds) if kinds.ends_with(&message["missing key".len()..]) => {
            format!("{message}, allowed is {kinds}")
        }
        _ => message,
    }
}

/// What the parser wanted, by what the schema allows.
fn without_types(message: &str, key: &str, written: &str) -> String {
    let wants = message.split_once(", expected ").map(|(_, wanted)| wanted);
    let names_a_type = wants.is_some_and(|wanted| {
        let types = ["struct ", "internally tagged enum ", "enum "];
        types.iter().any(|name| wanted.starts_with(name))
    });
    let is_enum = message.starts_with("wanted string or table");
    if !(names_a_type || is_enum) {
        return message.to_owned();
    }
    let first = match written.lines().next().unwrap_or_default() {
        // Where a section is wanted, a text may hold a password.
        text if !is_enum && text.starts_with(['"', '\'']) => "a text".to_owned(),
        first => format!("`{first}`"),
    };
    match schema::allowed(key, written) {
        Some(allowed) => format!("{first} is not allowed here, allowed is {allowed}"),
        None if is_enum => format!("{first} is not allowed here, allowed is a word in quotes"),
        None => format!("{first} is not allowed here, allowed is a section"),
    }
}

/// Puts the nearest allowed word into "unknown field `x`, expected one of `a`, `b`".
fn suggest(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let unknown = message.starts_with("unknown field") || message.starts_with("unknown variant");
    let Some(wrong) = quoted.next().filter(|_| unknown) else {
        return message.to_owned();
    };
    let message = message.replacen("unknown field", "unknown key", 1);
    match nearest(wrong, quoted) {
        Some(word) => hinted(&message, &format!("did you mean `{word}`?")),
        None => message,
    }
}

/// The hint before the list of what is allowed: that may be long, and the log cuts it.
fn hinted(message: &str, hint: &str) -> String {
    match message.split_once(", expected ") {
        Some((fault, allowed)) => format!("{fault} ({hint}), expected {allowed}"),
        None => format!("{message} ({hint})"),
    }
}

/// Letters of a word that may stand for a longer one.
const ENOUGH: usize = 3;

/// The word that was probably meant: one that is cut short, or else the most alike.
pub(super) fn nearest<'a>(wrong: &str, words: impl IntoIterator<Item = &'a str> + Clone) -> Option<&'a str> {
    let mut words_again = words.clone().into_iter();
    let whole = words_again.find(|word| wrong.len() >= ENOUGH && word.starts_with(wrong));
    if whole.is_some() {
        return whole;
    }
    let distances = words
        .into_iter()
        .map(|word| (strsim::damerau_levenshtein(wrong, word), word));
    let (distance, word) = distances.min()?;
    (distance <= 1 + wrong.len() / 3).then_some(word)
}
