//! Values as EMQ writes them: `on`, `64KB`, `2h`.

use crate::draft::{Draft, Of};

pub(super) fn flag(draft: &mut Draft, of: Of) -> Option<bool> {
    match draft.text(of).as_str() {
        "on" | "true" => Some(true),
        "off" | "false" => Some(false),
        other => {
            let because = format!("`{other}` is neither on nor off");
            draft.not_taken(of, because, "EMQ does not start with it.");
            None
        }
    }
}

/// A number, or `infinity`, which 0 stands for here.
pub(super) fn number(draft: &mut Draft, of: Of, most: i64) -> Option<i64> {
    let text = draft.text(of);
    let number = if text == "infinity" {
        Some(0)
    } else {
        text.parse::<i64>().ok()
    };
    let number = number.filter(|number| (0..=most).contains(number));
    if number.is_none() {
        draft.not_taken(
            of,
            format!("`{text}` is no number from 0 to {most}"),
            "Set it as it is meant.",
        );
    }
    number
}

/// Bytes: `1024`, `64KB`, `1MB`, `1GB`.
pub(super) fn bytes(draft: &mut Draft, of: Of) -> Option<i64> {
    let text = draft.text(of).to_ascii_uppercase();
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let unit = match unit {
        "" => Some(1),
        "KB" => Some(1 << 10),
        "MB" => Some(1 << 20),
        "GB" => Some(1 << 30),
        _ => None,
    };
    let bytes = digits
        .parse::<i64>()
        .ok()
        .zip(unit)
        .and_then(|(n, unit)| n.checked_mul(unit));
    if bytes.is_none() {
        draft.not_taken(
            of,
            format!("`{text}` is no number of bytes"),
            "Set it as it is meant.",
        );
    }
    bytes
}

/// A time as it is written here. A number without a unit is of seconds, as EMQ 2.0 had them.
pub(super) fn time(draft: &mut Draft, of: Of) -> Option<String> {
    let text = draft.text(of);
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if is_number(&text) {
        return Some(format!("{text}s"));
    }
    let (mut rest, mut parts) = (text.as_str(), Vec::new());
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (digits, behind) = rest.split_at(end);
        let units = ["ms", "s", "m", "h", "d", "w"];
        let unit = units.iter().find(|unit| behind.starts_with(**unit));
        let Some(unit) = unit.filter(|_| is_number(digits)) else {
            draft.not_taken(of, format!("`{text}` is no time"), "Set it as it is meant.");
            return None;
        };
        parts.push(format!("{digits}{unit}"));
        rest = &behind[unit.len()..];
    }
    Some(parts.join(" "))
}

/// `127.0.0.1:1883`, `::1:1883`, or a port alone, which is on every interface of IPv4.
pub(super) fn address(text: &str) -> Option<core::net::SocketAddr> {
    let (host, port) = text.rsplit_once(':').unwrap_or(("0.0.0.0", text));
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Some(core::net::SocketAddr::new(host.parse().ok()?, port.parse().ok()?))
}
