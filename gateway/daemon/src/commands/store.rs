//! `headgate store`: looks into a store that no gateway has open, and repairs or shrinks it. A running gateway tells the same under
//! `$SYS/brokers/{node}/stats/store/`.

use super::{config_to_change, data_dir};
use crate::config::Durability;
use clap::{Args, Subcommand};
use headgate_cli::{Outcome, note, say, say_json};
use headgate_model::store::{FetchLimit, SessionImage, StoreImage, StoredDelivery, StoredMessage};
use headgate_model::{Store, StoreError, WallTime};
use headgate_store::{DiskSettings, DiskStore};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

/// Look into the store of a gateway that does not run.
#[derive(Args)]
pub struct StoreCommand {
    /// The configuration, which says where the store is.
    #[arg(long, value_name = "FILE", env = "HEADGATE_CONFIG", global = true)]
    config: Option<PathBuf>,
    /// Answer in JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Clone, Copy, PartialEq, Eq)]
enum Action {
    /// Read everything and verify every checksum. What a start would repair is repaired. Fails when something is lost.
    Check,
    /// Print sessions, subscriptions, queues, retained and delayed messages, one JSON object a line. Payloads are left out.
    Dump,
    /// Count what is there, and the bytes it takes.
    Stats,
    /// Give back the space of what was settled.
    Compact,
}

const LIMIT: FetchLimit = FetchLimit {
    count: 512,
    bytes: 1 << 20,
};
/// Messages between two words of progress.
const PROGRESS: u64 = 100_000;

impl StoreCommand {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        crate::private::make_files_private();
        let needed = ["data_dir", "store.durability"];
        let (config, _acting) = config_to_change(&needed, self.config.as_deref(), data_dir)?;
        let path = config.data_dir.join("store");
        if config.store.durability == Durability::Memory {
            return Err("store.durability: this gateway keeps nothing".into());
        }
        if !path.is_dir() {
            return Err(format!("{}: there is no store", path.display()).into());
        }
        let told = |error: StoreError| format!("{}: {error}", path.display());
        let mut store = DiskStore::open(&path, DiskSettings::default()).map_err(told)?;
        let image = store.load().map_err(told)?;
        match self.action {
            Action::Check => self.check(&mut store, &image),
            Action::Dump => dump(&mut store, &image),
            Action::Stats => {
                self.answer(stats(&store, &image));
                Ok(())
            }
            Action::Compact => {
                let before = store.stats().disk_bytes;
                let compacted = store.compact(&mut |bytes| note(format!("{} MB", bytes >> 20)));
                compacted.map_err(told)?;
                drop(store);
                // sled gives its space back when it is opened.
                let store = DiskStore::open(&path, DiskSettings::default()).map_err(told)?;
                self.answer(json!({ "bytes_before": before, "bytes": store.stats().disk_bytes }));
                Ok(())
            }
        }
    }

    fn check(&self, store: &mut DiskStore, image: &StoreImage) -> Outcome {
        let total: u64 = image
            .sessions
            .iter()
            .flat_map(|s| &s.lanes)
            .map(|lane| lane.count)
            .sum();
        let (mut read, mut lost) = (0, 0);
        for session in &image.sessions {
            lost += each_queued(store, session, |_| {
                read += 1;
                if read % PROGRESS == 0 {
                    note(format!("{read} of {total} messages read"));
                }
            })?;
        }
        let mut answer = stats(store, image);
        answer["damage"] = json!(image.damage);
        answer["lost"] = json!(lost);
        answer["ok"] = json!(lost == 0 && image.damage.is_empty());
        let ok = answer["ok"] == json!(true);
        self.answer(answer);
        if ok {
            Ok(())
        } else {
            Err("the store is damaged; what can be read is kept".into())
        }
    }

    fn answer(&self, answer: Value) {
        if self.json {
            return say_json(answer);
        }
        for (key, value) in answer.as_object().into_iter().flatten() {
            match value.as_array() {
                Some(lines) => lines.iter().for_each(|line| say(format!("{key}: {line}"))),
                None => say(format!("{key}: {value}")),
            }
        }
    }
}

fn stats(store: &DiskStore, image: &StoreImage) -> Value {
    let stats = store.stats();
    let lanes = image.sessions.iter().flat_map(|session| &session.lanes);
    json!({
        "sessions": image.sessions.len(),
        "subscriptions": image.sessions.iter().map(|s| s.subscriptions.len()).sum::<usize>(),
        "queued": stats.queued,
        "queued_bytes": lanes.map(|lane| lane.bytes).sum::<u64>(),
        "retained": image.retained.len(),
        "delayed": image.delayed.len(),
        "disk_bytes": stats.disk_bytes,
    })
}

/// Reads a session's queue to its end. How many entries could not be read.
fn each_queued(
    store: &mut DiskStore,
    session: &SessionImage,
    mut take: impl FnMut(&StoredDelivery),
) -> Result<usize, headgate_model::StoreError> {
    let mut lost = 0;
    for lane in &session.lanes {
        let mut from = 0;
        loop {
            let found = store.fetch(session.id, lane.lane, from, LIMIT)?;
            found.deliveries.iter().for_each(&mut take);
            lost += found.lost;
            from = found.next;
            if found.at_end {
                break;
            }
        }
    }
    Ok(lost)
}

fn dump(store: &mut DiskStore, image: &StoreImage) -> Outcome {
    for session in &image.sessions {
        let record = &session.record;
        let client = record.client_id.as_str();
        say_json(json!({
            "session": session.id.0,
            "client": client,
            "username": record.username.as_deref(),
            "expiry_s": (record.expiry < Duration::MAX).then_some(record.expiry.as_secs()),
            "ends_ms": record.ends.map(|WallTime(ms)| ms),
            "will": record.will.as_ref().map(|will| will.message.topic.as_str()),
            "awaiting_release": session.received.len(),
            "note_bytes": session.note.len(),
        }));
        for subscription in &session.subscriptions {
            let qos = subscription.options.qos as u8;
            say_json(json!({ "subscription": subscription.to_text(), "client": client, "qos": qos }));
        }
        let line = |delivery: &StoredDelivery, received: bool| {
            let mut line = message("queued", &delivery.message);
            line["client"] = json!(client);
            line["number"] = json!(delivery.seq);
            line["qos"] = json!(delivery.entry.qos as u8);
            line["received"] = json!(received);
            say_json(line);
        };
        session.held.iter().for_each(|delivery| line(delivery, true));
        each_queued(store, session, |delivery| line(delivery, false))?;
    }
    for (_, stored) in &image.retained {
        say_json(message("retained", stored));
    }
    for (_, stored, WallTime(due)) in &image.delayed {
        let mut line = message("delayed", stored);
        line["due_ms"] = json!(due);
        say_json(line);
    }
    Ok(())
}

fn message(what: &str, stored: &StoredMessage) -> Value {
    json!({
        what: stored.message.topic.as_str(),
        "payload_bytes": stored.message.payload.len(),
        "expires_ms": stored.expires.map(|WallTime(ms)| ms),
    })
}
