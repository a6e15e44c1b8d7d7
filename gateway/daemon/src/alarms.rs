//! Alarms: what needs an operator, from when it begins to when it is over, and what was so before.
//!
//! An alarm has a name, and there is one of a name at a time. It is told under `$SYS/brokers/{node}/alarms/{name}/` as in EMQ 2, in the log, by
//! `headgate alarms` and in the metrics. The file `alarms.json` in the data folder keeps what there is and what there was: an alarm that was raised before
//! a restart stays raised, with its time, until whoever watches the cause has looked again.

use crate::keeps::Keeps;
use crate::private;
use crate::sys::{topic_level, unix_time};
use bytes::Bytes;
use headgate_auth::data_dir::{DataDir, DataPath};
use headgate_bus::handle::Hub;
use headgate_model::{Message, Qos, Topic, TopicFilter};
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// Alarms that are over and are kept; the oldest goes first.
const MOST_HISTORY: usize = 256;
/// Alarms that stand at a time; what comes when there are so many is logged and not kept.
const MOST_ACTIVE: usize = 256;
/// The file is written this often at most: flash wears out, also by an alarm that comes and goes.
const WRITE_EVERY: Duration = Duration::from_secs(60);
/// An alarm of before a restart is over when nobody has raised it again for so long.
const SETTLED: Duration = Duration::from_secs(60);

/// How urgent an alarm is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// It will need somebody.
    Warning,
    /// Something does not work.
    Error,
    /// Something is lost or refused.
    Critical,
}

impl Severity {
    /// The word for operators.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
        }
    }
}

/// What is wrong now, said by whoever watches it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Trouble {
    /// How urgent.
    pub severity: Severity,
    /// One sentence.
    pub summary: String,
    /// What a program may want to know of it.
    pub details: Map<String, Value>,
}

impl Trouble {
    /// Without details.
    pub(crate) fn new(severity: Severity, summary: impl Into<String>) -> Self {
        Self {
            severity,
            summary: summary.into(),
            details: Map::new(),
        }
    }

    /// With one detail more.
    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }
}

/// An alarm that stands, or stood.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Alarm {
    /// Its name.
    pub id: String,
    /// The highest that it had.
    pub severity: Severity,
    /// What was told last.
    pub summary: String,
    /// More of that.
    #[serde(default)]
    pub details: Map<String, Value>,
    /// Seconds since 1970.
    pub raised: u64,
    /// Seconds since 1970; `None` while it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cleared: Option<u64>,
}

/// All alarms, as they are shown and kept.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Book {
    /// Those that stand, by name.
    active: BTreeMap<String, Alarm>,
    /// Those that are over, the oldest first.
    history: VecDeque<Alarm>,
    /// Those of before a restart that nobody has looked after since.
    #[serde(skip)]
    unconfirmed: Vec<String>,
}

/// What became of a report.
#[derive(Debug, PartialEq)]
enum Change {
    /// It is to be told.
    Raised(Alarm),
    /// It is over.
    Cleared(Alarm),
    /// There is no place for it.
    NoPlace,
    /// What was known.
    Nothing,
}

impl Book {
    /// As it was kept: what stood stands still, until it is confirmed or [settled](Self::settle).
    fn kept(text: &[u8]) -> Option<Self> {
        let mut book: Self = serde_json::from_slice(text).ok()?;
        book.unconfirmed = book.active.keys().cloned().collect();
        book.history.truncate(MOST_HISTORY);
        Some(book)
    }

    /// Takes what is so now with the cause that `id` names.
    fn set(&mut self, id: &str, trouble: Option<Trouble>, now: u64) -> Change {
        self.unconfirmed.retain(|other| other != id);
        match trouble {
            Some(trouble) => self.raise(id, trouble, now),
            None => self.clear(id, now),
        }
    }

    fn raise(&mut self, id: &str, trouble: Trouble, now: u64) -> Change {
        let Trouble {
            severity,
            summary,
            details,
        } = trouble;
        if let Some(known) = self.active.get_mut(id) {
            // What only counts on is no news.
            let is_news = known.severity != severity;
            (known.severity, known.summary, known.details) = (severity, summary, details);
            return match is_news {
                true => Change::Raised(known.clone()),
                false => Change::Nothing,
            };
        }
        if self.active.len() >= MOST_ACTIVE {
            return Change::NoPlace;
        }
        let alarm = Alarm {
            id: id.to_owned(),
            severity,
            summary,
            details,
            raised: now,
            cleared: None,
        };
        self.active.insert(id.to_owned(), alarm.clone());
        Change::Raised(alarm)
    }

    fn clear(&mut self, id: &str, now: u64) -> Change {
        let Some(mut alarm) = self.active.remove(id) else {
            return Change::Nothing;
        };
        alarm.cleared = Some(now);
        if self.history.len() == MOST_HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(alarm.clone());
        Change::Cleared(alarm)
    }

    /// Who watches has looked: what nobody raised again is over.
    fn settle(&mut self, now: u64) -> Vec<Change> {
        let left = std::mem::take(&mut self.unconfirmed);
        left.iter().map(|id| self.clear(id, now)).collect()
    }
}

/// The gateway's alarms. Clones share them.
#[derive(Clone)]
pub(crate) struct Alarms(Arc<Inner>);

struct Inner {
    hub: Hub,
    node: Mutex<String>,
    /// Where they are kept, if they are.
    file: DataPath,
    keeps: Keeps,
    book: Mutex<Book>,
    changed: Notify,
}

impl Alarms {
    /// Those of before, if `folder` keeps some. Alerts that the bus still has of others are taken back.
    pub(crate) fn start(hub: Hub, node: &str, folder: &DataDir, keeps: Keeps) -> Self {
        let file = folder.join("alarms.json");
        let known = Some(file.now()).filter(|_| keeps.now());
        let kept = known.and_then(|file| {
            let text = private::read(&file, private::LONGEST).ok()?;
            let book = Book::kept(&text);
            if book.is_none() {
                tracing::warn!(file = %file.display(), "the file with the alarms cannot be read: what was is forgotten");
            }
            book
        });
        let alarms = Self(Arc::new(Inner {
            hub,
            node: Mutex::new(node.to_owned()),
            file,
            keeps,
            book: Mutex::new(kept.unwrap_or_default()),
            changed: Notify::new(),
        }));
        alarms.take_back_old_alerts();
        alarms
    }

    /// What is so with the cause that `id` names: trouble, or none.
    pub(crate) fn set(&self, id: &str, trouble: Option<Trouble>) {
        // Told under the lock: an alert and what takes it back never change places.
        let mut book = self.0.book.lock();
        let change = book.set(id, trouble, unix_time());
        self.tell(id, &change);
    }

    /// The gateway has this name from now on: what stands is told under it, and no more under the old one.
    pub(crate) fn set_node(&self, node: &str) {
        let book = self.0.book.lock();
        if *self.0.node.lock() == node {
            return;
        }
        for id in book.active.keys() {
            self.publish(id, "alert", String::new(), true);
        }
        node.clone_into(&mut self.0.node.lock());
        for alarm in book.active.values() {
            self.alert(alarm);
        }
    }

    /// Those that stand, and those that are over, the latest first.
    pub(crate) fn lists(&self) -> (Vec<Alarm>, Vec<Alarm>) {
        let book = self.0.book.lock();
        let active = book.active.values().cloned().collect();
        (active, book.history.iter().rev().cloned().collect())
    }

    /// Clears those of before that nobody raised again, and writes changes down, for ever.
    pub(crate) async fn keep(self) {
        let settle = tokio::time::sleep(SETTLED);
        tokio::pin!(settle);
        let mut settled = false;
        let mut unwritten = false;
        loop {
            tokio::select! {
                () = &mut settle, if !settled => {
                    settled = true;
                    let mut book = self.0.book.lock();
                    for change in book.settle(unix_time()) {
                        if let Change::Cleared(alarm) = &change {
                            self.tell(&alarm.id, &change);
                        }
                    }
                    continue;
                }
                () = self.0.changed.notified() => {}
            }
            let alarms = self.clone();
            let saved = tokio::task::spawn_blocking(move || alarms.save()).await;
            match saved {
                Ok(Err(error)) if !unwritten => {
                    unwritten = true;
                    tracing::warn!(%error, "the alarms cannot be written down");
                }
                Ok(Ok(())) if unwritten => {
                    unwritten = false;
                    tracing::info!("the alarms are written down again");
                }
                _ => {}
            }
            tokio::select! {
                () = &mut settle, if !settled => self.0.changed.notify_one(),
                () = tokio::time::sleep(WRITE_EVERY) => {}
            }
        }
    }

    /// Writes them down, where they are kept.
    pub(crate) fn save(&self) -> std::io::Result<()> {
        if !self.0.keeps.now() {
            return Ok(());
        }
        let text = serde_json::to_vec(&*self.0.book.lock())?;
        private::replace(&self.0.file.now(), &text)
    }

    /// They are kept from now on.
    pub(crate) fn write_soon(&self) {
        self.0.changed.notify_one();
    }

    /// EMQ 2: `alarms/{id}/alert` when it is raised, `alarms/{id}/clear` when it is over. An alert is retained until then.
    fn tell(&self, id: &str, change: &Change) {
        match change {
            Change::Raised(alarm) => {
                let (severity, summary) = (alarm.severity.name(), alarm.summary.as_str());
                tracing::warn!(alarm = id, severity, summary, "alarm");
                self.alert(alarm);
            }
            Change::Cleared(alarm) => {
                let lasted = alarm.cleared.unwrap_or_default().saturating_sub(alarm.raised);
                tracing::info!(alarm = id, lasted_s = lasted, "alarm is over");
                self.publish(id, "alert", String::new(), true);
                let body = json!({ "id": id, "ts": alarm.cleared }).to_string();
                self.publish(id, "clear", body, false);
            }
            Change::NoPlace => {
                tracing::warn!(alarm = id, "too many alarms: one more is not kept");
                return;
            }
            Change::Nothing => return,
        }
        self.0.changed.notify_one();
    }

    fn alert(&self, alarm: &Alarm) {
        let body = json!({
            "id": alarm.id,
            "severity": alarm.severity.name(),
            "summary": alarm.summary,
            "details": alarm.details,
            "ts": alarm.raised,
        });
        self.publish(&alarm.id, "alert", body.to_string(), true);
    }

    fn publish(&self, id: &str, what: &str, payload: String, retain: bool) {
        let topic = format!(
            "$SYS/brokers/{}/alarms/{}/{what}",
            self.0.node.lock(),
            topic_level(id)
        );
        let Ok(topic) = Topic::try_from(&*topic) else {
            return;
        };
        self.0.hub.publish_now(Message {
            qos: Qos::AtLeastOnce,
            retain,
            ..Message::new(topic, Bytes::from(payload))
        });
    }

    /// The store keeps alerts, and the file with the alarms may be gone.
    fn take_back_old_alerts(&self) {
        let filter = format!("$SYS/brokers/{}/alarms/+/alert", self.0.node.lock());
        let Ok(filter) = TopicFilter::try_from(&*filter) else {
            return;
        };
        let known: Vec<String> = self.0.book.lock().active.keys().cloned().collect();
        let known: Vec<String> = known.iter().map(|id| topic_level(id)).collect();
        let page = self.0.hub.retained(&filter, None, MOST_ACTIVE);
        for message in page.rows {
            let level = message.topic.as_str().rsplit('/').nth(1).unwrap_or_default();
            if !known.iter().any(|known| known == level) {
                self.0.hub.publish_now(Message {
                    qos: Qos::AtLeastOnce,
                    retain: true,
                    ..Message::new(message.topic.clone(), Bytes::new())
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trouble(severity: Severity) -> Option<Trouble> {
        Some(Trouble::new(severity, "it burns").with("where", "cellar"))
    }

    #[test]
    fn an_alarm_is_told_when_it_begins_grows_and_ends_and_no_more_often() {
        let mut book = Book::default();
        assert_eq!(book.set("fire", None, 1), Change::Nothing);
        assert!(
            matches!(book.set("fire", trouble(Severity::Warning), 2), Change::Raised(alarm) if alarm.raised == 2)
        );
        assert_eq!(book.set("fire", trouble(Severity::Warning), 3), Change::Nothing);
        // More urgent, and it has stood since it began.
        assert!(
            matches!(book.set("fire", trouble(Severity::Critical), 4), Change::Raised(alarm) if alarm.raised == 2)
        );
        assert!(
            matches!(book.set("fire", None, 5), Change::Cleared(alarm) if alarm.raised == 2 && alarm.cleared == Some(5))
        );
        assert_eq!(book.set("fire", None, 6), Change::Nothing);
        assert_eq!((book.active.len(), book.history.len()), (0, 1));
    }

    #[test]
    fn both_lists_are_bounded() {
        let mut book = Book::default();
        for n in 0..MOST_ACTIVE {
            book.set(&n.to_string(), trouble(Severity::Error), 1);
        }
        assert_eq!(book.set("one more", trouble(Severity::Error), 2), Change::NoPlace);
        for n in 0..2 * MOST_HISTORY as u64 {
            book.set("0", None, n);
            book.set("0", trouble(Severity::Error), n);
        }
        assert_eq!(
            (book.active.len(), book.history.len()),
            (MOST_ACTIVE, MOST_HISTORY)
        );
    }

    /// What stood before a restart stands with its time until somebody has looked, and no longer.
    #[test]
    fn a_restart_keeps_alarms_until_they_are_confirmed_or_settled() {
        let mut book = Book::default();
        for id in ["stays", "is over", "nobody knows"] {
            book.set(id, trouble(Severity::Error), 7);
        }
        let mut book = Book::kept(&serde_json::to_vec(&book).unwrap()).unwrap();
        assert_eq!(book.active.len(), 3);
        assert_eq!(book.set("stays", trouble(Severity::Error), 10), Change::Nothing);
        assert!(matches!(book.set("is over", None, 10), Change::Cleared(_)));
        let settled = book.settle(70);
        assert!(
            matches!(&settled[..], [Change::Cleared(alarm)] if alarm.id == "nobody knows"),
            "{settled:?}"
        );
        assert_eq!(book.active["stays"].raised, 7);
        assert!(Book::kept(b"{").is_none());
    }
}
