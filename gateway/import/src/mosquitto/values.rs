//! Values as mosquitto reads them: a word ends at a blank, and so does what stands before a comment.

use crate::draft::{Draft, Of};

/// The words of a value, without a comment.
pub(super) fn words(text: &str) -> Vec<&str> {
    let words = text.split([' ', '\t']).filter(|word| !word.is_empty());
    words.take_while(|word| !word.starts_with('#')).collect()
}

/// The first word.
pub(super) fn word(draft: &Draft, of: Of) -> String {
    let text = draft.text(of);
    words(&text)
        .first()
        .map_or_else(String::new, |word| (*word).to_owned())
}

const DOES_NOT_START: &str = "mosquitto does not start with it.";

pub(super) fn flag(draft: &mut Draft, of: Of) -> Option<bool> {
    match word(draft, of).as_str() {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        other => {
            let because = format!("`{other}` is neither true nor false");
            draft.not_taken(of, because, DOES_NOT_START);
            None
        }
    }
}

pub(super) fn number(draft: &mut Draft, of: Of, least: i64, most: i64) -> Option<i64> {
    let word = word(draft, of);
    match word.parse::<i64>() {
        Ok(number) if (least..=most).contains(&number) => Some(number),
        Ok(number) => {
            let because = format!("{number} is not possible here");
            draft.not_taken(of, because, format!("Allowed is {least} to {most}."));
            None
        }
        Err(_) => {
            draft.not_taken(of, format!("`{word}` is no number"), DOES_NOT_START);
            None
        }
    }
}

/// The whole value, without a comment: for what cannot hold `#`.
pub(super) fn without_comment(draft: &Draft, of: Of) -> String {
    let text = draft.text(of);
    let end = [" #", "\t#"].iter().filter_map(|mark| text.find(mark)).min();
    text[..end.unwrap_or(text.len())].trim_end().to_owned()
}
