//! One line of the log: made once, and written by each destination as it wants it.
//!
//! Names, topics, addresses and reasons come from anybody. Always true, whatever the call site does: a value is one line of visible characters, no longer than
//! [`LONGEST`].

use crate::config::LogFormat;
use headgate_cli::is_visible;
use serde_json::{Map, Value, json};
use std::fmt::{self, Debug, Write};
use std::time::{Duration, SystemTime};
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

/// Bytes of a value in the log; the rest is counted.
pub(super) const LONGEST: usize = 256;

/// What happened, and when.
#[derive(Debug)]
pub(super) struct Line {
    time: SystemTime,
    pub(super) level: Level,
    pub(super) target: &'static str,
    /// In the order of the call; the message is called `message`.
    fields: Vec<FieldOf>,
}

#[derive(Debug)]
struct FieldOf {
    name: &'static str,
    /// As people read it.
    text: String,
    /// As programs do.
    value: Value,
}

impl Line {
    /// Of an event, now.
    pub(super) fn of(event: &Event<'_>) -> Self {
        let mut fields = Fields(Vec::new());
        event.record(&mut fields);
        Self {
            time: SystemTime::now(),
            level: *event.metadata().level(),
            target: event.metadata().target(),
            fields: fields.0,
        }
    }

    /// So many lines are missing here.
    pub(super) fn of_loss(lost: u64) -> Self {
        let message = "lines were lost: this destination was too slow, or failed";
        Self {
            time: SystemTime::now(),
            level: Level::WARN,
            target: module_path!(),
            fields: vec![
                FieldOf {
                    name: "message",
                    text: message.to_owned(),
                    value: message.into(),
                },
                FieldOf {
                    name: "lost",
                    text: lost.to_string(),
                    value: lost.into(),
                },
            ],
        }
    }

    /// With a line feed at its end.
    pub(super) fn written(&self, format: LogFormat, colours: bool) -> String {
        let mut line = match format {
            LogFormat::Text => self.text(colours),
            LogFormat::Json => self.json(),
        };
        line.push('\n');
        line
    }

    /// When it happened.
    pub(super) fn stamp(&self) -> String {
        date(self.time)
    }

    /// Time, level, module, message, `name=value`.
    fn text(&self, colours: bool) -> String {
        let (stamp, level, target) = (self.stamp(), self.level, self.target);
        let message = self.message();
        match colours {
            false => format!("{stamp} {level:>5} {target}: {message}"),
            true => {
                let colour = match level {
                    Level::ERROR => 31,
                    Level::WARN => 33,
                    Level::INFO => 32,
                    _ => 34,
                };
                format!(
                    "\x1b[2m{stamp}\x1b[0m \x1b[{colour}m{level:>5}\x1b[0m \x1b[2m{target}:\x1b[0m {message}"
                )
            }
        }
    }

    /// The message and `name=value`.
    pub(super) fn message(&self) -> String {
        let mut text = String::new();
        for FieldOf {
            name, text: value, ..
        } in &self.fields
        {
            if !text.is_empty() {
                text.push(' ');
            }
            match *name {
                "message" => text.push_str(value),
                name => {
                    text.push_str(name);
                    text.push('=');
                    text.push_str(value);
                }
            }
        }
        text
    }

    /// One JSON object: `timestamp`, `level`, `fields` and `target`.
    pub(super) fn json(&self) -> String {
        let fields = self.fields.iter();
        let fields: Map<String, Value> = fields
            .map(|field| (field.name.to_owned(), field.value.clone()))
            .collect();
        json!({
            "timestamp": self.stamp(),
            "level": self.level.as_str(),
            "fields": fields,
            "target": self.target,
        })
        .to_string()
    }

    /// Names and values.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.fields.iter().map(|field| (field.name, field.text.as_str()))
    }
}

/// The last moment that has a date: 9999-12-31T23:59:59Z, in seconds since 1970.
pub(crate) const LAST_DATE: Duration = Duration::from_secs(253_402_300_799);

/// A moment as a date, UTC. A clock may say anything; what has no date is told as the nearest that has one.
pub(crate) fn date(time: SystemTime) -> String {
    let since_1970 = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let time = SystemTime::UNIX_EPOCH + since_1970.min(LAST_DATE);
    humantime::format_rfc3339_micros(time).to_string()
}

struct Fields(Vec<FieldOf>);

impl Fields {
    fn put(&mut self, field: &Field, text: String, value: impl Into<Value>) {
        self.0.push(FieldOf {
            name: field.name(),
            text,
            value: value.into(),
        });
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = Clean(value).to_string();
        self.put(field, text.clone(), text);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let plain = Clean(&format_args!("{value}")).to_string();
        self.put(field, Clean(&value).to_string(), plain);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.to_string(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.to_string(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.to_string(), value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, format!("{value:?}"), value);
    }
}

/// A value as it may be shown: control characters and such as cannot be seen are escaped, and what is too long is cut.
pub(super) struct Clean<'a>(pub(super) &'a dyn Debug);

impl fmt::Display for Clean<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cut = Cut {
            out: f,
            left: LONGEST,
            cut_off: 0,
        };
        write!(cut, "{:?}", self.0)?;
        match cut.cut_off {
            0 => Ok(()),
            bytes => write!(f, "… and {bytes} bytes"),
        }
    }
}

struct Cut<'a, 'b> {
    out: &'a mut fmt::Formatter<'b>,
    left: usize,
    cut_off: usize,
}

impl Write for Cut<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for (at, c) in text.char_indices() {
            if self.cut_off > 0 || self.left < c.len_utf8() {
                self.left = 0;
                self.cut_off += text.len() - at;
                return Ok(());
            }
            if is_visible(c) {
                self.left -= c.len_utf8();
                self.out.write_char(c)?;
            } else {
                // An escape may go over the end by itself.
                self.left = self.left.saturating_sub(8);
                write!(self.out, "{}", c.escape_default())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Boards without a clock say anything.
    #[test]
    fn any_time_has_a_date() {
        let day = Duration::from_secs(86_400);
        assert_eq!(date(SystemTime::UNIX_EPOCH - day), "1970-01-01T00:00:00.000000Z");
        assert_eq!(
            date(SystemTime::UNIX_EPOCH + day * 366 * 9_000),
            "9999-12-31T23:59:59.000000Z"
        );
    }
}
