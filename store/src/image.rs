//! Reads back what is durable, but for the contents of queues.

use crate::checkpoint::Row;
use crate::disk::DiskStore;
use crate::lanes::Entry;
use crate::open::failed;
use crate::rows::{self, Key, RowError};
use bytes::Bytes;
use headgate_model::store::{LaneImage, MessageId, SessionImage, StoredDelivery};
use headgate_model::{SessionId, StoreError, StoreImage};
use std::collections::{BTreeMap, HashSet};

/// Damaged rows that are told one by one.
const TOLD: usize = 100;

#[derive(Default)]
struct Building {
    image: StoreImage,
    sessions: BTreeMap<u64, SessionImage>,
    bad: usize,
}

/// Everything: the tables, with what the journal says since.
pub(crate) fn read(
    store: &mut DiskStore,
    mut body: impl FnMut(&mut DiskStore, SessionId, &Entry, u8) -> Option<StoredDelivery>,
) -> Result<StoreImage, StoreError> {
    let mut building = Building::default();
    // Sessions before what belongs to them.
    let mut later = Vec::new();
    let dropped: HashSet<u64> = store.dropped.iter().copied().collect();
    let tables = [
        rows::SESSION,
        rows::NOTE,
        rows::SUBSCRIPTION,
        rows::RECEIVED,
        rows::RETAINED,
        rows::DELAYED,
        rows::NUMBERS,
    ];
    for row in tables
        .iter()
        .flat_map(|table| store.tables.rows_in(std::slice::from_ref(table)))
    {
        let (key, bytes) = row.map_err(|e| failed("read the tables", e))?;
        let Ok(bytes) = bytes else { continue }; // Told when it was opened.
        let newer = store.rows.contains(&key);
        let gone = rows::belongs_to_session(&key)
            && !rows::numbers(&key).is_ok_and(|(id, _)| store.queues.contains(id) && !dropped.contains(&id));
        if newer || gone {
            continue;
        }
        building.row_or_later(key, bytes, &mut later);
    }
    for (key, row) in store.rows.iter() {
        match row {
            Row::Gone => {}
            Row::Bytes(bytes) => building.row_or_later(key.clone(), bytes.clone(), &mut later),
            Row::At(beginning, at) => match store.journal.read(*at) {
                Ok(body) => {
                    building.row_or_later(key.clone(), [beginning, &*body].concat(), &mut later);
                }
                Err(error) => building.bad(key, &error),
            },
        }
    }
    for (key, bytes) in later {
        building.row(&key, &bytes);
    }
    let mut sessions = std::mem::take(&mut building.sessions);
    for (id, session) in &mut sessions {
        session.received.sort_unstable();
        let Some(queue) = store.queues.get(*id) else {
            continue;
        };
        session.next_seq = queue.next_seq;
        session.lanes = queue
            .lanes()
            .map(|(lane, waiting)| LaneImage {
                lane,
                count: waiting.waiting,
                bytes: waiting.bytes,
            })
            .collect();
        for (seq, lane) in queue.held.clone() {
            let Some(entry) = store.queues.entry(*id, seq, &mut store.tables) else {
                continue;
            };
            session.held.extend(body(store, SessionId(*id), &entry, lane));
        }
    }
    let mut image = building.image;
    image.sessions = sessions.into_values().collect();
    image.retained.sort_by_key(|(id, _)| *id);
    image.delayed.sort_by_key(|(id, ..)| *id);
    if let Some(more @ 1..) = building.bad.checked_sub(TOLD) {
        image.damage.push(format!("and {more} rows more"));
    }
    Ok(image)
}

impl Building {
    fn row_or_later(&mut self, key: Key, body: Vec<u8>, later: &mut Vec<(Key, Vec<u8>)>) {
        if key[0] == rows::SESSION {
            self.row(&key, &body);
        } else {
            later.push((key, body));
        }
    }

    fn row(&mut self, key: &[u8], body: &[u8]) {
        if let Err(error) = self.take(key, body) {
            self.bad(key, &error);
        }
    }

    fn take(&mut self, key: &[u8], body: &[u8]) -> Result<(), RowError> {
        let (first, second) = rows::numbers(key)?;
        match key[0] {
            rows::SESSION => {
                let session = SessionImage {
                    id: SessionId(first),
                    record: rows::read_session(body)?,
                    note: Bytes::new(),
                    subscriptions: Vec::new(),
                    next_seq: 0,
                    lanes: Vec::new(),
                    held: Vec::new(),
                    received: Vec::new(),
                };
                self.sessions.insert(first, session);
            }
            rows::NOTE => self.session(first)?.note = Bytes::copy_from_slice(body),
            rows::SUBSCRIPTION => {
                let subscription = rows::read_subscription(body)?;
                self.session(first)?.subscriptions.push(subscription);
            }
            rows::RECEIVED => {
                rows::read_nothing(body)?;
                let packet = u16::try_from(second).map_err(|_| RowError::Key)?;
                self.session(first)?.received.push(packet);
            }
            rows::RETAINED => {
                let message = rows::read_message(body)?;
                self.image.retained.push((MessageId(first), message));
            }
            rows::DELAYED => {
                let (due, message) = rows::read_delayed(body)?;
                self.image.delayed.push((MessageId(first), message, due));
            }
            rows::NUMBERS => self.image.next_session = rows::read_number(body)?,
            _ => return Err(RowError::Key),
        }
        Ok(())
    }

    fn session(&mut self, id: u64) -> Result<&mut SessionImage, RowError> {
        self.sessions.get_mut(&id).ok_or(RowError::NoSession)
    }

    fn bad(&mut self, key: &[u8], error: &impl std::fmt::Display) {
        self.bad += 1;
        if self.bad <= TOLD {
            self.image
                .damage
                .push(format!("{}: {error}; lost", rows::name(key)));
        }
    }
}
