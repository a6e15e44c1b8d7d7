//! A place where lines go, with a thread and a queue of its own: whoever logs never waits for it.

use super::DestinationView;
use super::file::FileSink;
use super::journald::JournaldSink;
use super::line::Line;
use super::syslog::SyslogSink;
use crate::config::{LogFileSettings, LogFormat, LogSettings, SyslogSettings};
use parking_lot::Mutex;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

/// Lines that wait for a destination.
const MOST_WAITING: usize = 1_024;
/// How long a line waits before it is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// How long a destination may take for its last lines when the gateway ends.
const LAST_LINES: Duration = Duration::from_secs(2);

/// Takes lines, one at a time. An error says that the same line may be tried again.
pub(super) trait Sink: Send {
    /// Writes one line, or holds it for a while.
    fn write(&mut self, line: &Line) -> io::Result<()>;

    /// When what it holds is to be written; `None` while it holds nothing.
    fn due(&self) -> Option<Instant> {
        None
    }

    /// Writes what it holds.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a destination is to be: another one is another destination.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Wanted {
    /// Standard error.
    Stderr(LogFormat),
    /// A file.
    File(LogFileSettings, LogFormat),
    /// The journal of systemd.
    Journald,
    /// A syslog server.
    Syslog(SyslogSettings),
}

impl Wanted {
    /// All of a configuration.
    pub(super) fn all(settings: &LogSettings) -> Vec<Self> {
        let format = settings.format;
        let all = [
            settings.stderr.then_some(Self::Stderr(format)),
            settings.file.clone().map(|file| Self::File(file, format)),
            settings.journald.then_some(Self::Journald),
            settings.syslog.clone().map(Self::Syslog),
        ];
        all.into_iter().flatten().collect()
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Stderr(_) => "stderr",
            Self::File(..) => "file",
            Self::Journald => "journald",
            Self::Syslog(_) => "syslog",
        }
    }

    fn sink(&self) -> Box<dyn Sink> {
        match self.clone() {
            Self::Stderr(format) => Box::new(StderrSink(format)),
            Self::File(file, format) => Box::new(FileSink::new(file, format)),
            Self::Journald => Box::new(JournaldSink::default()),
            Self::Syslog(settings) => Box::new(SyslogSink::new(settings)),
        }
    }
}

/// A place where lines go. When it is dropped, what waits is written, if that can be done soon.
pub(super) struct Destination {
    wanted: Wanted,
    /// `None` at the end.
    lines: Option<SyncSender<Arc<Line>>>,
    state: Arc<State>,
    ended: Mutex<Receiver<()>>,
}

#[derive(Default)]
struct State {
    /// Lines that there was no room for.
    lost: AtomicU64,
    failing: Mutex<Option<String>>,
    /// Nothing is tried again any more.
    ends: AtomicBool,
}

impl Destination {
    /// Starts its thread. That it cannot be reached is no error: it is tried again.
    pub(super) fn open(wanted: Wanted) -> io::Result<Self> {
        let sink = wanted.sink();
        Self::with(wanted, sink)
    }

    pub(super) fn with(wanted: Wanted, sink: Box<dyn Sink>) -> io::Result<Self> {
        let (lines, waiting) = sync_channel(MOST_WAITING);
        let (end, ended) = sync_channel::<()>(0);
        let state = Arc::new(State::default());
        let of_thread = Arc::clone(&state);
        std::thread::Builder::new()
            .name(format!("log-{}", wanted.name()))
            .spawn(move || {
                run(sink, &waiting, &of_thread);
                drop(end);
            })?;
        Ok(Self {
            wanted,
            lines: Some(lines),
            state,
            ended: Mutex::new(ended),
        })
    }

    /// Whether it is what is wanted.
    pub(super) fn is(&self, wanted: &Wanted) -> bool {
        self.wanted == *wanted
    }

    /// Takes a line, if there is room.
    pub(super) fn take(&self, line: &Arc<Line>) {
        let Some(lines) = &self.lines else { return };
        match lines.try_send(Arc::clone(line)) {
            Ok(()) => return,
            Err(TrySendError::Full(_)) => {}
            Err(TrySendError::Disconnected(_)) => {
                *self.state.failing.lock() = Some("its thread has ended".to_owned());
            }
        }
        self.state.lost.fetch_add(1, Ordering::Relaxed);
    }

    /// What it does, for operators.
    pub(super) fn view(&self) -> DestinationView {
        DestinationView {
            name: self.wanted.name(),
            lost: self.state.lost.load(Ordering::Relaxed),
            failing: self.state.failing.lock().clone(),
        }
    }
}

impl Drop for Destination {
    fn drop(&mut self) {
        self.lines = None;
        if self.ended.get_mut().recv_timeout(LAST_LINES) == Err(RecvTimeoutError::Timeout) {
            self.state.ends.store(true, Ordering::Relaxed);
        }
    }
}

fn run(mut sink: Box<dyn Sink>, lines: &Receiver<Arc<Line>>, state: &State) {
    let mut told = 0;
    loop {
        let line = match sink.due() {
            None => lines.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(due) => lines.recv_timeout(due.saturating_duration_since(Instant::now())),
        };
        let line = match line {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => {
                flush(&mut *sink, state);
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => break,
        };
        let lost = state.lost.load(Ordering::Relaxed);
        if lost > told {
            write(&mut *sink, &Line::of_loss(lost - told), state);
            told = lost;
        }
        write(&mut *sink, &line, state);
        if state.ends.load(Ordering::Relaxed) {
            break;
        }
    }
    // The last words: once, for nobody waits for more.
    if let Err(error) = sink.flush() {
        *state.failing.lock() = Some(error.to_string());
    }
}

/// Writes what is held, again and again until it is written. Lines that come meanwhile wait as long.
fn flush(sink: &mut dyn Sink, state: &State) {
    until_done(|| sink.flush(), state);
}

/// Writes a line, again and again until it is written.
fn write(sink: &mut dyn Sink, line: &Line, state: &State) {
    until_done(|| sink.write(line), state);
}

fn until_done(mut work: impl FnMut() -> io::Result<()>, state: &State) {
    loop {
        match work() {
            Ok(()) => {
                if state.failing.lock().take().is_some() {
                    tracing::debug!("a destination of the log takes lines again");
                }
                return;
            }
            // This one will never go.
            Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::InvalidData) => {
                state.lost.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Err(error) => *state.failing.lock() = Some(error.to_string()),
        }
        if state.ends.load(Ordering::Relaxed) {
            return;
        }
        std::thread::sleep(TRY_AGAIN);
    }
}

struct StderrSink(LogFormat);

impl Sink for StderrSink {
    fn write(&mut self, line: &Line) -> io::Result<()> {
        let mut stderr = io::stderr().lock();
        let colours = stderr.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
        // Who closed it wants no lines.
        let _ = stderr.write_all(line.written(self.0, colours).as_bytes());
        Ok(())
    }
}
