//! The log: what a line looks like, and how many there may be.
//!
//! Names, topics, addresses and reasons come from anybody. Always true, whatever the call site does: a value is one line of visible characters, no longer than
//! [`LONGEST`]; and lines of one kind, one place in the program, are written up to a number within [`WINDOW`], the others counted and told. A single client
//! has [`OF_A_CLIENT`] lines of a kind: who says the same for ever hides nobody else.

use crate::config::{LogFormat, LogSettings};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::fmt::{self, Debug, Write};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber, callsite};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::format::{self, FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, Layer as FmtLayer};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

/// Bytes of a value in the log; the rest is counted.
const LONGEST: usize = 256;
/// Lines of one kind are counted for so long.
const WINDOW: Duration = Duration::from_secs(10);

/// Lines of one kind about one client within [`WINDOW`].
const OF_A_CLIENT: u8 = 3;

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    /// The level says nothing.
    #[error("log.level: `{level}`: {cause}")]
    Level {
        /// As written.
        level: String,
        /// Why not.
        #[source]
        cause: ParseError,
    },
}

/// Starts the log of a gateway.
pub(crate) fn start(settings: &LogSettings) -> Result<Limit, LogError> {
    let filter = EnvFilter::try_new(&settings.level).map_err(|cause| LogError::Level {
        level: settings.level.clone(),
        cause,
    })?;
    let limit = Limit::new(settings.max_repeats);
    let log = tracing_subscriber::registry().with(filter).with(limit.clone());
    let lines = FmtLayer::new()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match settings.format {
        LogFormat::Text => log.with(lines.fmt_fields(fields())).init(),
        LogFormat::Json => log.with(lines.event_format(JsonLines)).init(),
    }
    Ok(limit)
}

/// Fields as `name=value`, the message without its name.
fn fields() -> impl for<'writer> FormatFields<'writer> + 'static {
    Fields(format::debug_fn(field).delimited(" "))
}

fn field(writer: &mut Writer<'_>, field: &Field, value: &dyn Debug) -> fmt::Result {
    match field.name() {
        "message" => write!(writer, "{}", Clean(value)),
        name => write!(writer, "{name}={}", Clean(value)),
    }
}

/// Names the type, so that it is one.
struct Fields<F>(F);

impl<'writer, F: FormatFields<'writer>> FormatFields<'writer> for Fields<F> {
    fn format_fields<R: tracing_subscriber::field::RecordFields>(
        &self,
        writer: Writer<'writer>,
        fields: R,
    ) -> fmt::Result {
        self.0.format_fields(writer, fields)
    }
}

/// A value as it may be shown: control characters and such as cannot be seen are escaped, and what is too long is cut.
struct Clean<'a>(&'a dyn Debug);

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

/// Whether a character shows, and shows where it stands: no control character, no line or paragraph separator, none that turns the direction of writing, joins
/// or has no width.
fn is_visible(c: char) -> bool {
    !c.is_control()
        && !matches!(
            c,
            '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// One JSON object a line: `timestamp`, `level`, `fields` and `target`.
struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = JsonFields(Map::new());
        event.record(&mut fields);
        let line = json!({
            "timestamp": humantime::format_rfc3339_micros(SystemTime::now()).to_string(),
            "level": event.metadata().level().as_str(),
            "fields": fields.0,
            "target": event.metadata().target(),
        });
        writeln!(writer, "{line}")
    }
}

struct JsonFields(Map<String, Value>);

impl JsonFields {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for JsonFields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put(field, Clean(value).to_string());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, Clean(&format_args!("{value}")).to_string());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }
}

/// Lets so many lines of a kind through within [`WINDOW`]. What an operator asked to see in detail, `debug` and `trace`, is not limited.
#[derive(Clone)]
pub(crate) struct Limit {
    /// Zero for no limit.
    max: u64,
    kinds: Arc<Mutex<HashMap<callsite::Identifier, Kind>>>,
}

#[derive(Default)]
struct Kind {
    lines: u64,
    left_out: u64,
    message: String,
    /// Lines about each client, which is known by its hash; no more clients than lines.
    clients: HashMap<u64, u8>,
}

impl Limit {
    fn new(max: u64) -> Self {
        Self {
            max,
            kinds: Arc::default(),
        }
    }

    /// Tells after each window what was left out, for ever.
    pub(crate) async fn keep(self) {
        loop {
            tokio::time::sleep(WINDOW).await;
            self.begin_window();
        }
    }

    /// Tells what was left out, and lets lines through again.
    pub(crate) fn begin_window(&self) {
        let kinds = std::mem::take(&mut *self.kinds.lock());
        for kind in kinds.into_values().filter(|kind| kind.left_out > 0) {
            tracing::warn!(left_out = kind.left_out, kind = %kind.message, "further lines of this kind were left out");
        }
    }

    /// Whether one more line is let through.
    fn takes(&self, event: &Event<'_>) -> bool {
        let mut subject = Subject::default();
        event.record(&mut subject);
        let mut kinds = self.kinds.lock();
        let kind = kinds.entry(event.metadata().callsite()).or_default();
        let of_client = subject.client.and_then(|client| kind.clients.get_mut(&client));
        let heard = of_client.as_ref().is_some_and(|lines| **lines >= OF_A_CLIENT);
        if kind.lines < self.max && !heard {
            kind.lines += 1;
            match (of_client, subject.client) {
                (Some(lines), _) => *lines += 1,
                (None, Some(client)) => drop(kind.clients.insert(client, 1)),
                (None, None) => {}
            }
            return true;
        }
        if kind.left_out == 0 {
            kind.message = subject.message;
        }
        kind.left_out += 1;
        false
    }
}

impl<S: Subscriber> Layer<S> for Limit {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if self.max == 0 || *metadata.level() > Level::INFO {
            return true;
        }
        self.takes(event)
    }
}

/// What a line says, which is a constant phrase, and about which client.
#[derive(Default)]
struct Subject {
    message: String,
    /// Its hash.
    client: Option<u64>,
}

impl Visit for Subject {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.message = Clean(value).to_string();
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "client" {
            self.client = Some(BuildHasherDefault::<DefaultHasher>::default().hash_one(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use tracing_subscriber::fmt::MakeWriter;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Lines {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    fn logged(format: LogFormat, max: u64, work: impl FnOnce(&Limit)) -> Vec<String> {
        let (lines, limit) = (Lines::default(), Limit::new(max));
        let log = tracing_subscriber::registry().with(limit.clone());
        let layer = FmtLayer::new().with_ansi(false).with_writer(lines.clone());
        match format {
            LogFormat::Text => {
                let log = log.with(layer.fmt_fields(fields()));
                tracing::subscriber::with_default(log, || work(&limit));
            }
            LogFormat::Json => {
                let log = log.with(layer.event_format(JsonLines));
                tracing::subscriber::with_default(log, || work(&limit));
            }
        }
        let text = String::from_utf8(lines.0.lock().clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// A name that would write a line of its own, hide it, colour it, or turn it round.
    const EVIL: &str =
        "joe\n2026-11-28T00:00:00Z  INFO headgate: gateway stops\r\x1b[2K\u{9b}1m\u{202e}\u{200b}\0end";

    #[test]
    fn foreign_text_stays_within_its_value() {
        let lines = logged(LogFormat::Text, 0, |_| {
            tracing::info!(user = %EVIL, quoted = EVIL, debug = ?EVIL, n = 7, "wrong {}", EVIL);
        });
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].chars().all(is_visible), "{lines:?}");
        assert!(
            lines[0].contains(r"user=joe\n2026") && lines[0].contains(r"\u{202e}\u{200b}\u{0}end"),
            "{lines:?}"
        );
        assert!(lines[0].contains(" n=7"), "{lines:?}");

        let lines = logged(
            LogFormat::Json,
            0,
            |_| tracing::info!(user = %EVIL, quoted = EVIL, n = 7, up = true, "wrong"),
        );
        assert_eq!(lines.len(), 1, "{lines:?}");
        let line: Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(
            (&line["fields"]["message"], &line["level"]),
            (&json!("wrong"), &json!("INFO"))
        );
        assert_eq!(
            (&line["fields"]["n"], &line["fields"]["up"]),
            (&json!(7), &json!(true))
        );
        for name in ["user", "quoted"] {
            let value = line["fields"][name].as_str().unwrap();
            assert!(
                value.chars().all(is_visible) && value.starts_with(r"joe\n2026"),
                "{value}"
            );
        }
    }

    #[test]
    fn long_text_is_cut_and_its_length_told() {
        for format in [LogFormat::Text, LogFormat::Json] {
            for name in ["x".repeat(65_000), "ä".repeat(32_500), "\u{1b}".repeat(65_000)] {
                let lines = logged(format, 0, |_| tracing::info!(user = %name, "wrong"));
                assert_eq!(lines.len(), 1);
                assert!(lines[0].len() < 3 * LONGEST, "{lines:?}");
                assert!(lines[0].contains("… and 64"), "{lines:?}");
            }
        }
    }

    #[test]
    fn of_one_kind_so_many_lines_are_written_and_the_rest_counted() {
        let lines = logged(LogFormat::Text, 3, |limit| {
            for round in 0..2 {
                for n in 0..100 {
                    tracing::info!(n, "wrong password");
                }
                tracing::info!(round, "another kind");
                tracing::debug!("in detail");
                limit.begin_window();
            }
        });
        let count = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
        assert_eq!(count("wrong password n="), 6);
        assert_eq!(count("another kind round="), 2);
        assert_eq!(
            count("further lines of this kind were left out left_out=97 kind=wrong password"),
            2
        );
    }

    /// One client that does the same for ever hides no other.
    #[test]
    fn of_one_client_a_few_lines_of_a_kind_are_written() {
        let lines = logged(LogFormat::Text, 10, |limit| {
            for _ in 0..1_000 {
                tracing::info!(client = "noisy", "publish refused");
            }
            tracing::info!(client = "quiet", "publish refused");
            tracing::info!(client = "noisy", "subscription refused");
            limit.begin_window();
        });
        let count = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
        assert_eq!(
            count("publish refused client=\"noisy\""),
            usize::from(OF_A_CLIENT)
        );
        assert_eq!(count("publish refused client=\"quiet\""), 1);
        assert_eq!(count("subscription refused client=\"noisy\""), 1);
        assert_eq!(count("left_out=997"), 1);
    }
}
