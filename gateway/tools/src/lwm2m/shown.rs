//! Answers for people.

use headgate_cli::visible;
use headgate_lwm2m_codec::object::Registry;
use headgate_lwm2m_codec::{Path, Type};
use serde_json::Value as Json;
use std::time::{Duration, UNIX_EPOCH};

/// What an answer or a notification says: values with their paths, units and names; links; or the code alone.
pub(crate) fn shown(told: &Json, registry: &Registry) -> String {
    let data = &told["data"];
    match data["content"].as_array() {
        Some(content) if content.iter().all(Json::is_string) => {
            let links: Vec<String> = content.iter().map(text).collect();
            links.join("\n")
        }
        Some(content) => values(content, registry),
        None => {
            let words = ["code", "codeMsg", "location", "reason"].map(|key| text(&data[key]));
            let words = words.into_iter().filter(|word| !word.is_empty());
            words.collect::<Vec<_>>().join(" ")
        }
    }
}

/// How far a firmware update is.
pub(crate) fn progress_of(data: &Json) -> String {
    let state = text(&data["state"]);
    match (&data["sent"], &data["bytes"]) {
        (Json::Null, _) | (_, Json::Null) => state,
        (sent, bytes) => format!("{state}: {sent} of {bytes} bytes"),
    }
}

fn text(value: &Json) -> String {
    match value {
        Json::Null => String::new(),
        Json::String(text) => visible(text),
        other => other.to_string(),
    }
}

/// One line for each: path, value with unit, name, and when it was so.
fn values(content: &[Json], registry: &Registry) -> String {
    let row = |entry: &Json| {
        let path = text(&entry["path"]);
        let known = path.parse::<Path>().ok();
        let known = known.and_then(|path| registry.resource(&path));
        let mut value = text(&entry["value"]);
        if let Some(known) = known {
            if let (Some(Type::Time), Some(seconds)) = (known.kind, entry["value"].as_u64()) {
                value += &date(seconds).map_or_else(String::new, |date| format!(" ({date})"));
            }
            match known.units.as_str() {
                "" => {}
                "/100" => value += " %",
                unit => value = format!("{value} {unit}"),
            }
        }
        let name = known.map_or_else(String::new, |known| known.name.clone());
        [path, value, name, time_of(entry)]
    };
    let rows: Vec<[String; 4]> = content.iter().map(row).collect();
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths = [width(0), width(1), width(2), 0];
    let line = |row: &[String; 4]| {
        let cells = row.iter().zip(widths);
        let cells = cells.map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// RFC 8428 §4.5.3: what is less than 2^28 counts from now.
fn time_of(entry: &Json) -> String {
    match entry["time"].as_f64() {
        None => String::new(),
        Some(seconds) if seconds < 268_435_456.0 => format!("{seconds} s from then"),
        Some(seconds) => date(seconds as u64).unwrap_or_default(),
    }
}

fn date(seconds: u64) -> Option<String> {
    let at = UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?;
    // The year 9999 is the last that has four digits.
    (seconds < 253_402_300_800).then(|| humantime::format_rfc3339_seconds(at).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(data: Json) -> String {
        shown(&json!({ "data": data }), &Registry::builtin())
    }

    #[test]
    fn values_have_path_unit_and_name() {
        let content = json!([
            {"path": "/4/0/2", "value": -71},
            {"path": "/3/0/13", "value": 1_700_000_000},
            {"path": "/40000/0/1", "value": "a\u{1b}b", "time": 1_700_000_000.5},
            {"path": "/3/0/0", "value": null},
            {"path": "/3/0/9", "value": 95},
        ]);
        assert_eq!(
            of(json!({"code": "2.05", "content": content})),
            "/4/0/2      -71 dBm                            Radio Signal Strength\n\
             /3/0/13     1700000000 (2023-11-14T22:13:20Z)  Current Time\n\
             /40000/0/1  a\\u{1b}b                                                  2023-11-14T22:13:20Z\n\
             /3/0/0                                         Manufacturer\n\
             /3/0/9      95 %                               Battery Level"
        );
        assert_eq!(
            of(json!({"content": [{"path": "/3/0/13", "value": u64::MAX}]})),
            format!("/3/0/13  {}  Current Time", u64::MAX)
        );
    }

    #[test]
    fn what_has_no_values_says_its_code() {
        assert_eq!(of(json!({"code": "2.04", "codeMsg": "changed"})), "2.04 changed");
        assert_eq!(
            of(json!({"code": "2.01", "codeMsg": "created", "location": "/5/1"})),
            "2.01 created /5/1"
        );
        assert_eq!(
            of(json!({"content": ["</3>;ver=1.1", "</3/0>"]})),
            "</3>;ver=1.1\n</3/0>"
        );
    }

    #[test]
    fn progress_has_bytes_if_they_are_known() {
        assert_eq!(progress_of(&json!({"state": "updating"})), "updating");
        let told = json!({"state": "downloading", "sent": 1_024, "bytes": 4_096});
        assert_eq!(progress_of(&told), "downloading: 1024 of 4096 bytes");
    }
}
