//! The log: what a line looks like, how many there may be, and where they go.
//!
//! A line is made once ([`line`]), unless there were too many of its kind ([`limit`]), and handed to every destination ([`destination`]): standard error, a
//! file, journald, a syslog server, and the last lines in memory for whoever asks ([`ring`]). Always true: who logs waits for no destination; what one has
//! no room for is counted, and told there.

mod destination;
mod file;
mod journald;
mod limit;
mod line;
mod modules;
mod ring;
mod syslog;

pub(crate) use line::{LAST_DATE, date};
pub(crate) use modules::{MODULES, is_module};
use ring::Ring;
pub(crate) use ring::Tail;
pub(crate) use syslog::SyslogAddress;

use crate::config::LogSettings;
use destination::{Destination, Wanted};
use limit::{Limit, WINDOW};
use line::Line;
use parking_lot::{Mutex, RwLock};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

/// How often it is looked whether a level has had its time.
const LOOK: Duration = Duration::from_secs(1);

/// Why there is no log, or not the one that is wanted.
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
    /// There is a log already.
    #[error("there is a log already")]
    Started,
    /// The filter is gone, which it is only when the program ends.
    #[error(transparent)]
    Filter(#[from] reload::Error),
    /// A thread cannot be started.
    #[error("log: {0}")]
    Thread(#[from] std::io::Error),
}

/// The log of a gateway. Clones share it.
#[derive(Clone)]
pub(crate) struct LogHandle(Arc<Inner>);

struct Inner {
    filter: reload::Handle<EnvFilter, Registry>,
    limit: Limit,
    outputs: Outputs,
    ring: Arc<Ring>,
    state: Mutex<State>,
}

struct State {
    settings: LogSettings,
    /// A level that was set at run time, and until when.
    level: Option<(String, Option<SystemTime>)>,
}

/// What one destination does, for operators.
#[derive(Clone, Debug, serde::Serialize, schemars::JsonSchema)]
pub(crate) struct DestinationView {
    /// `stderr`, `file`, `journald` or `syslog`.
    pub name: &'static str,
    /// Lines that it had no room for.
    pub lost: u64,
    /// Why it takes nothing now.
    pub failing: Option<String>,
}

/// The level in force.
#[derive(Clone, Debug, serde::Serialize, schemars::JsonSchema)]
pub(crate) struct LevelView {
    /// In force.
    pub level: String,
    /// As configured.
    pub configured: String,
    /// Seconds since 1970 when the configured one is in force again; `None` for not by itself.
    pub until: Option<u64>,
}

/// Where lines go, which may change while the gateway runs.
type Outputs = Arc<RwLock<Vec<Destination>>>;

/// Hands each line to all destinations.
struct Writers {
    outputs: Outputs,
    ring: Arc<Ring>,
}

impl<S: Subscriber> Layer<S> for Writers {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let line = Arc::new(Line::of(event));
        self.ring.push(&line);
        for destination in self.outputs.read().iter() {
            destination.take(&line);
        }
    }
}

/// Starts the log of a gateway.
pub(crate) fn start(settings: &LogSettings) -> Result<LogHandle, LogError> {
    let (filter, handle) = reload::Layer::new(filter_of(&settings.level)?);
    let limit = Limit::new(settings.max_repeats);
    let outputs: Outputs = Arc::default();
    let ring = Arc::new(Ring::new(settings.ring));
    let writers = Writers {
        outputs: Arc::clone(&outputs),
        ring: Arc::clone(&ring),
    };
    let log = LogHandle(Arc::new(Inner {
        filter: handle,
        limit: limit.clone(),
        outputs,
        ring,
        state: Mutex::new(State {
            settings: settings.clone(),
            level: None,
        }),
    }));
    log.0.open(settings)?;
    let subscriber = tracing_subscriber::registry()
        .with(filter)
        .with(limit)
        .with(writers);
    subscriber.try_init().map_err(|_| LogError::Started)?;
    Ok(log)
}

fn filter_of(level: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::try_new(level).map_err(|cause| LogError::Level {
        level: level.to_owned(),
        cause,
    })
}

impl LogHandle {
    /// Takes other settings. A destination that stays the same goes on; a level that an operator set stays until its time is over.
    pub(crate) fn set(&self, settings: &LogSettings) -> Result<(), LogError> {
        let mut state = self.0.state.lock();
        if state.settings == *settings {
            return Ok(());
        }
        let filter = filter_of(&settings.level)?;
        let gone = self.0.open(settings)?;
        if state.level.is_none() {
            self.0.filter.reload(filter)?;
        }
        self.0.limit.set(settings.max_repeats);
        self.0.ring.resize(settings.ring);
        state.settings = settings.clone();
        // They may take their time to write what they have: nobody waits for the log meanwhile.
        drop(state);
        drop(gone);
        Ok(())
    }

    /// Another level from now on, for a time or until the next restart; `None` for the configured one.
    pub(crate) fn set_level(&self, level: Option<String>, lasts: Option<Duration>) -> Result<(), LogError> {
        let mut state = self.0.state.lock();
        let wanted = level.as_deref().unwrap_or(&state.settings.level);
        self.0.filter.reload(filter_of(wanted)?)?;
        // What no clock can say lasts until the next restart.
        let until = lasts.and_then(|lasts| SystemTime::now().checked_add(lasts));
        state.level = level.map(|level| (level, until));
        Ok(())
    }

    /// The level in force.
    pub(crate) fn level(&self) -> LevelView {
        let state = self.0.state.lock();
        let since_1970 = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (level, until) = match &state.level {
            Some((level, until)) => (level, *until),
            None => (&state.settings.level, None),
        };
        LevelView {
            level: level.clone(),
            configured: state.settings.level.clone(),
            until: until.map(|until| since_1970(until).as_secs()),
        }
    }

    /// The last lines.
    pub(crate) fn ring(&self) -> &Ring {
        &self.0.ring
    }

    /// What each destination does.
    pub(crate) fn destinations(&self) -> Vec<DestinationView> {
        let outputs = self.0.outputs.read();
        outputs.iter().map(Destination::view).collect()
    }

    /// Tells after each window what was left out, and takes a level back when its time is over, for ever.
    pub(crate) async fn keep(self) {
        let mut window = tokio::time::Instant::now() + WINDOW;
        loop {
            tokio::time::sleep(LOOK).await;
            self.end_level();
            if tokio::time::Instant::now() >= window {
                self.0.limit.begin_window();
                window = tokio::time::Instant::now() + WINDOW;
            }
        }
    }

    fn end_level(&self) {
        let is_over = {
            let state = self.0.state.lock();
            let until = state.level.as_ref().and_then(|(_, until)| *until);
            until.is_some_and(|until| until <= SystemTime::now())
        };
        if !is_over {
            return;
        }
        match self.set_level(None, None) {
            Ok(()) => tracing::info!("the level of the log is the configured one again"),
            Err(error) => tracing::error!(%error, "the level of the log cannot be set back"),
        }
    }

    /// The gateway ends: tells what was left out, and lets the destinations write what they have, for a moment.
    pub(crate) fn close(&self) {
        self.0.limit.begin_window();
        // Each waits when it is dropped: others may log meanwhile.
        let outputs = std::mem::take(&mut *self.0.outputs.write());
        drop(outputs);
    }
}

impl Inner {
    /// Opens the destinations that are wanted. Those that are not get no more lines, and wait for their last ones when they are dropped.
    fn open(&self, settings: &LogSettings) -> Result<Vec<Destination>, LogError> {
        let wanted = Wanted::all(settings);
        let kept = |outputs: &[Destination], wanted: &Wanted| outputs.iter().any(|there| there.is(wanted));
        let there = self.outputs.read();
        let missing: Vec<&Wanted> = wanted.iter().filter(|wanted| !kept(&there, wanted)).collect();
        drop(there);
        let mut opened = Vec::new();
        for wanted in missing {
            opened.push(Destination::open(wanted.clone())?);
        }
        let mut outputs = self.outputs.write();
        let (mut stay, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut *outputs)
            .into_iter()
            .partition(|there| wanted.iter().any(|wanted| there.is(wanted)));
        stay.append(&mut opened);
        *outputs = stay;
        Ok(gone)
    }
}

/// Lets the log end with whatever holds this.
pub(crate) struct ClosesLog(pub(crate) LogHandle);

impl Drop for ClosesLog {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests {
    use super::destination::Sink;
    use super::limit::OF_A_CLIENT;
    use super::line::LONGEST;
    use super::*;
    use crate::config::LogFormat;
    use headgate_cli::is_visible;
    use serde_json::{Value, json};
    use std::io;

    #[derive(Clone)]
    struct Lines(LogFormat, Arc<Mutex<String>>);

    impl Sink for Lines {
        fn write(&mut self, line: &Line) -> io::Result<()> {
            self.1.lock().push_str(&line.written(self.0, false));
            Ok(())
        }
    }

    fn logged(format: LogFormat, max: u64, work: impl FnOnce(&Limit)) -> Vec<String> {
        let (lines, limit) = (Lines(format, Arc::default()), Limit::new(max));
        let destination = Destination::with(Wanted::Journald, Box::new(lines.clone())).unwrap();
        let outputs = Arc::new(RwLock::new(vec![destination]));
        let writers = Writers {
            outputs: Arc::clone(&outputs),
            ring: Arc::new(Ring::new(0)),
        };
        let log = tracing_subscriber::registry().with(limit.clone()).with(writers);
        tracing::subscriber::with_default(log, || work(&limit));
        outputs.write().clear();
        let text = lines.1.lock();
        text.lines().map(str::to_owned).collect()
    }

    /// A destination that is stuck: who logs goes on, and is told how much was lost when it is over.
    #[test]
    fn a_stuck_destination_holds_nobody_up() {
        struct Stuck(std::sync::mpsc::Receiver<()>, Arc<Mutex<Vec<String>>>);
        impl Sink for Stuck {
            fn write(&mut self, line: &Line) -> io::Result<()> {
                let _ = self.0.recv();
                self.1.lock().push(line.message());
                Ok(())
            }
        }
        let (go_on, stuck) = std::sync::mpsc::channel();
        let written = Arc::new(Mutex::new(Vec::new()));
        let sink = Box::new(Stuck(stuck, Arc::clone(&written)));
        let destination = Destination::with(Wanted::Journald, sink).unwrap();
        let line = Arc::new(Line::of_loss(0));
        for _ in 0..10_000 {
            destination.take(&line);
        }
        let lost = destination.view().lost;
        assert!((8_000..10_000).contains(&lost), "{lost}");
        drop(go_on);
        drop(destination);
        // Its thread may have begun when some were lost already: then it tells them in two lines.
        let written = written.lock();
        let told: Vec<u64> = written
            .iter()
            .map(|line| line.split_once(" lost=").unwrap().1.parse().unwrap())
            .filter(|lost| *lost > 0)
            .collect();
        assert_eq!(told.iter().sum::<u64>(), lost);
        assert_eq!((written.len() - told.len()) as u64, 10_000 - lost);
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
