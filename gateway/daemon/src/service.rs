//! What the service manager is told: systemd's notifications (sd_notify(3)). Nobody is told where `NOTIFY_SOCKET` is not set.
//!
//! The watchdog (`WatchdogSec=`) is fed by a task of the runtime, each time after a message has gone through the bus and the store's thread has done its round
//! ([`Hub::beat`]). So a gateway whose tasks, bus, store or disk hang is started anew.

use crate::alarms::Alarms;
use crate::config::Config;
use crate::metrics::Process;
use bytes::Bytes;
use headgate_bus::handle::Hub;
use headgate_model::{Message, Topic};
use std::borrow::Cow;
#[cfg(target_os = "linux")]
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::{self, RecvTimeoutError};
#[cfg(target_os = "linux")]
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::watch;

/// How often the status line is written where there is no watchdog.
const STATUS_EVERY: Duration = Duration::from_secs(30);
/// How often more time is asked for, and how much. A manager that hears nothing more gives up after it.
const ASK_EVERY: Duration = Duration::from_secs(10);
const MORE_TIME: Duration = Duration::from_secs(30);
/// What waits for a manager that does not listen.
#[cfg(target_os = "linux")]
const MOST_UNSAID: usize = 32;

/// What can be told.
enum Word {
    Ready,
    /// The configuration is read again, from now until [`Word::Ready`].
    Reloading,
    Stopping,
    /// Feeds the watchdog.
    Watchdog,
    MoreTime(Duration),
    Status(Cow<'static, str>),
}

/// The gateway serves.
pub(crate) fn ready() {
    tell([Word::Ready, Word::Status("serving".into())]);
}

/// The configuration is read again.
pub(crate) fn reloading() {
    tell([
        Word::Reloading,
        Word::Status("reading the configuration again".into()),
    ]);
}

/// The configuration was read again, and taken or not.
pub(crate) fn reloaded(taken: bool) {
    let status = if taken {
        "serving, with the configuration read again"
    } else {
        "serving; the configuration cannot be read again, the old one stays"
    };
    tell([Word::Ready, Word::Status(status.into())]);
}

/// The gateway stops.
pub(crate) fn stopping() {
    tell([Word::Stopping, Word::Status("stopping".into())]);
}

/// Asks for more time while it is held, as long as the process uses its processor: whoever only waits for a disk that does not answer gets no more.
pub(crate) struct MoreTime(
    #[expect(dead_code, reason = "dropping it ends the thread")] Option<mpsc::Sender<()>>,
);

impl MoreTime {
    /// For what takes as long as there is data. `status` says what that is.
    pub(crate) fn for_work(status: &'static str) -> Self {
        if !is_there() {
            return Self(None);
        }
        tell([Word::Status(status.into())]);
        let (held, dropped) = mpsc::channel();
        let asks = move || {
            let mut used = None;
            loop {
                let now = Process::now().cpu_seconds;
                if now != used {
                    tell([Word::MoreTime(MORE_TIME)]);
                }
                used = now;
                if dropped.recv_timeout(ASK_EVERY) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("service".into()).spawn(asks);
        if let Err(error) = thread {
            tracing::warn!(%error, "the service manager is not asked for more time");
        }
        Self(Some(held))
    }
}

/// Feeds the watchdog and says how the gateway is, for ever.
pub(crate) async fn keep(hub: Hub, alarms: Alarms, config: watch::Receiver<Arc<Config>>) {
    if !is_there() {
        return;
    }
    let watchdog = watchdog();
    let period = watchdog.map_or(STATUS_EVERY, |limit| limit / 3);
    loop {
        let beat = format!("$SYS/brokers/{}/sysmon/watchdog", config.borrow().node);
        if watchdog.is_some()
            && let Ok(topic) = Topic::try_from(beat.as_str())
        {
            hub.beat(Message::new(topic, Bytes::new())).await;
            tell([Word::Watchdog]);
        }
        let (clients, alarms) = (hub.stats().clients, alarms.lists().0.len());
        tell([Word::Status(
            format!("serving {clients} clients, {alarms} alarms").into(),
        )]);
        tokio::time::sleep(period).await;
    }
}

#[cfg(target_os = "linux")]
fn is_there() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

#[cfg(target_os = "linux")]
fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero())
}

/// A thread of its own speaks to the manager: nobody here waits for one that does not listen.
#[cfg(target_os = "linux")]
fn tell<const N: usize>(words: [Word; N]) {
    static SPEAKER: OnceLock<Option<SyncSender<Vec<Word>>>> = OnceLock::new();
    if !is_there() {
        return;
    }
    let speaker = SPEAKER.get_or_init(|| {
        let (speaker, words) = mpsc::sync_channel::<Vec<Word>>(MOST_UNSAID);
        let thread = std::thread::Builder::new().name("service".into());
        let spoken = thread.spawn(move || words.iter().for_each(|words| say(&words)));
        spoken.map(|_| speaker).map_err(|error| not_told(&error)).ok()
    });
    if let Some(speaker) = speaker
        && speaker.try_send(words.into()).is_err()
    {
        tracing::warn!("the service manager does not listen, and was not told");
    }
}

#[cfg(target_os = "linux")]
fn say(words: &[Word]) {
    use sd_notify::NotifyState;
    let mut states = Vec::with_capacity(words.len() + 1);
    for word in words {
        match word {
            Word::Ready => states.push(NotifyState::Ready),
            Word::Reloading => {
                states.push(NotifyState::Reloading);
                // `Type=notify-reload` takes no other answer than one after its signal.
                states.extend(NotifyState::monotonic_usec_now());
            }
            Word::Stopping => states.push(NotifyState::Stopping),
            Word::Watchdog => states.push(NotifyState::Watchdog),
            Word::MoreTime(time) => {
                let time = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
                states.push(NotifyState::ExtendTimeoutUsec(time));
            }
            Word::Status(text) => states.push(NotifyState::Status(text)),
        }
    }
    if let Err(error) = sd_notify::notify(&states) {
        not_told(&error);
    }
}

#[cfg(target_os = "linux")]
fn not_told(error: &std::io::Error) {
    tracing::warn!(%error, "the service manager was not told");
}

#[cfg(not(target_os = "linux"))]
fn is_there() -> bool {
    false
}

#[cfg(not(target_os = "linux"))]
fn watchdog() -> Option<Duration> {
    None
}

#[cfg(not(target_os = "linux"))]
fn tell<const N: usize>(_: [Word; N]) {}
