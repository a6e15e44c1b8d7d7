//! Tables for people.

pub(super) use headgate_cli::visible;
use serde_json::Value;
use std::time::{Duration, UNIX_EPOCH};

/// A head and rows, in columns as wide as they must be.
pub(super) fn columns<const N: usize>(head: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let rows = rows.map(|row| row.map(|cell| visible(&cell)));
    let rows: Vec<[String; N]> = std::iter::once(head.map(str::to_owned)).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: [usize; N] = std::array::from_fn(|column| width(column).unwrap_or(0));
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths);
        let cells = cells.map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The last second of the year 9999.
const LAST_SECOND: u64 = 253_402_300_799;

/// Seconds since 1970 as a date; `None` where there is no number.
pub(super) fn date(seconds: &Value) -> Option<String> {
    // What stands in a file may be any number, and dates have four digits of a year.
    let since = Duration::from_secs(seconds.as_u64()?.min(LAST_SECOND));
    Some(humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string())
}

/// A text in visible characters, anything else as JSON; nothing of null.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => visible(text),
        other => other.to_string(),
    }
}

/// A text as it is, anything else as JSON: for files and for the gateway, not for a terminal.
pub(super) fn raw(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use headgate_cli::is_visible;

    #[test]
    fn a_name_makes_no_row_and_says_nothing_to_the_terminal() {
        let evil = "x\nfake  row\u{1b}]0;title\u{7}\u{202e}";
        let shown = columns(["NAME"], [[evil.to_owned()]].into_iter());
        assert_eq!(shown.lines().count(), 2);
        assert!(
            shown.lines().all(|line| line.chars().all(is_visible)),
            "{shown:?}"
        );
    }
}
