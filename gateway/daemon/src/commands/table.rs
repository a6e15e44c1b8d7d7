//! Tables for people.

use serde_json::Value;
use std::time::{Duration, UNIX_EPOCH};

/// A head and rows, in columns as wide as they must be.
pub(super) fn columns<const N: usize>(head: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
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

/// Seconds since 1970 as a date; `None` where there is no number.
pub(super) fn date(seconds: &Value) -> Option<String> {
    let since = Duration::from_secs(seconds.as_u64()?);
    Some(humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string())
}

/// A text as it is, anything else as JSON; nothing of null.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
