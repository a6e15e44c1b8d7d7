//! Reads all rows back into a [`StoreImage`] and sorts out what cannot be.

use crate::rows::{self, Key, RowError};
use headgate_model::store::{MessageId, SessionImage};
use headgate_model::{SessionId, StoreImage, WallTime};
use std::collections::{BTreeMap, BTreeSet};

/// Damaged rows that are told one by one.
const TOLD: usize = 100;

/// What the scan of a store found.
#[derive(Default)]
pub struct Scan {
    /// What can be used.
    pub image: StoreImage,
    /// Keys of rows that cannot.
    pub bad: Vec<Key>,
    /// How many commits there were.
    pub commits: u64,
    /// Whether there was any row at all.
    pub any: bool,
}

#[derive(Default)]
struct Building {
    scan: Scan,
    sessions: BTreeMap<u64, SessionImage>,
    messages: BTreeSet<u64>,
    /// How many further parts each long body has.
    long: BTreeMap<Key, u32>,
}

impl Scan {
    /// Reads everything. Tables that others refer to come first.
    pub fn read(db: &sled::Db) -> sled::Result<Self> {
        let mut building = Building::default();
        let tables = [
            rows::MESSAGE,
            rows::SESSION,
            rows::SUBSCRIPTION,
            rows::QUEUED,
            rows::RECEIVED,
            rows::RETAINED,
            rows::DELAYED,
        ];
        for table in tables {
            for row in db.scan_prefix([table]) {
                let (key, value) = row?;
                building.row(db, &key, &value)?;
            }
        }
        for key in db.scan_prefix([rows::PART]).keys() {
            building.part(&key?);
        }
        building.about(db)?;
        Ok(building.done())
    }
}

impl Building {
    fn row(&mut self, db: &sled::Db, key: &[u8], value: &[u8]) -> sled::Result<()> {
        let further = rows::further_parts(key, value);
        // The error of a look-up is not the row's fault.
        let mut failed = None;
        let failure = std::cell::RefCell::new(&mut failed);
        let body = rows::join(key, value, |part| match db.get(part) {
            Ok(row) => row.map(|row| row.to_vec()),
            Err(error) => {
                failure.borrow_mut().replace(error);
                None
            }
        });
        if let Some(error) = failed {
            return Err(error);
        }
        match body.and_then(|body| self.take(key, &body)) {
            Ok(()) if further > 0 => drop(self.long.insert(key.to_vec(), further)),
            Ok(()) => {}
            Err(error) => self.bad(key, error),
        }
        Ok(())
    }

    fn take(&mut self, key: &[u8], body: &[u8]) -> Result<(), RowError> {
        let (first, second) = rows::numbers(key)?;
        let image = &mut self.scan.image;
        match key[0] {
            rows::MESSAGE => {
                image.messages.push((MessageId(first), rows::read_message(body)?));
                self.messages.insert(first);
            }
            rows::SESSION => drop(self.sessions.insert(
                first,
                SessionImage {
                    id: SessionId(first),
                    record: rows::read_session(body)?,
                    subscriptions: Vec::new(),
                    queue: Vec::new(),
                    received: Vec::new(),
                },
            )),
            rows::SUBSCRIPTION => {
                let subscription = rows::read_subscription(body)?;
                self.session(first)?.subscriptions.push(subscription);
            }
            rows::QUEUED => {
                let entry = rows::read_queued(body)?;
                self.refers_to(entry.message.0)?;
                self.session(first)?.queue.push((second, entry));
            }
            rows::RECEIVED => {
                rows::read_nothing(body)?;
                let packet = u16::try_from(second).map_err(|_| RowError::Key)?;
                self.session(first)?.received.push(packet);
            }
            rows::RETAINED => {
                rows::read_nothing(body)?;
                self.refers_to(first)?;
                self.scan.image.retained.push(MessageId(first));
            }
            rows::DELAYED => {
                let until = WallTime(rows::read_number(body)?);
                self.refers_to(first)?;
                self.scan.image.delayed.push((MessageId(first), until));
            }
            _ => return Err(RowError::Key),
        }
        Ok(())
    }

    fn session(&mut self, id: u64) -> Result<&mut SessionImage, RowError> {
        self.sessions.get_mut(&id).ok_or(RowError::NoSession)
    }

    fn refers_to(&self, message: u64) -> Result<(), RowError> {
        self.messages
            .contains(&message)
            .then_some(())
            .ok_or(RowError::NoMessage)
    }

    /// Whether a further part belongs to a body that was read.
    fn part(&mut self, key: &[u8]) {
        let owner = key[1..].split_last_chunk::<4>();
        let known = owner.is_some_and(|(owner, n)| {
            let count = self.long.get(owner).copied().unwrap_or(0);
            (1..=count).contains(&u32::from_be_bytes(*n))
        });
        if !known {
            self.bad(key, RowError::NoBody);
        }
    }

    fn about(&mut self, db: &sled::Db) -> sled::Result<()> {
        self.scan.any = db.iter().next().is_some();
        if let Some(value) = db.get(rows::COMMITS_KEY)? {
            let commits = rows::join(rows::COMMITS_KEY, &value, |_| None).and_then(|b| rows::read_number(&b));
            match commits {
                Ok(commits) => self.scan.commits = commits,
                Err(error) => self.bad(rows::COMMITS_KEY, error),
            }
        }
        Ok(())
    }

    fn bad(&mut self, key: &[u8], error: RowError) {
        if self.scan.bad.len() < TOLD {
            let words = format!("{}: {error}", name(key));
            self.scan.image.damage.push(words);
        }
        self.scan.bad.push(key.to_vec());
    }

    fn done(mut self) -> Scan {
        self.scan.image.sessions = self.sessions.into_values().collect();
        if let Some(more @ 1..) = self.scan.bad.len().checked_sub(TOLD) {
            self.scan.image.damage.push(format!("and {more} rows more"));
        }
        self.scan
    }
}

/// What a row is, in words.
fn name(key: &[u8]) -> String {
    let what = match key.first() {
        Some(&rows::MESSAGE) => "message",
        Some(&rows::SESSION) => "session",
        Some(&rows::SUBSCRIPTION) => "a subscription of session",
        Some(&rows::QUEUED) => "queue entry of session",
        Some(&rows::RECEIVED) => "received packet identifier of session",
        Some(&rows::RETAINED) => "retained message",
        Some(&rows::DELAYED) => "delayed message",
        Some(&rows::PART) => "part of a body",
        _ => "row",
    };
    match (rows::numbers(key), key.first()) {
        (Ok((session, n)), Some(&(rows::QUEUED | rows::RECEIVED))) => format!("{what} {session}, number {n}"),
        (Ok((n, _)), _) => format!("{what} {n}"),
        (Err(_), _) => format!("{what} with key {}", key.escape_ascii()),
    }
}
