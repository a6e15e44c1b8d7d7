//! What the tables and the journal say, in memory: built by a start, kept up to date by every commit.

use crate::checkpoint::Row;
use crate::delta::Delta;
use crate::journal::Boundary;
use crate::lanes::Queues;
use crate::open::failed;
use crate::records::Record;
use crate::rows::{self, Key};
use crate::tables::{Tables, read_page};
use headgate_model::StoreError;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the journal says, in memory.
#[derive(Debug, Default)]
pub(super) struct State {
    pub queues: Queues,
    pub rows: Delta,
    pub dropped: Vec<u64>,
    /// Rows that a checkpoint is writing.
    pub writing: Option<Arc<BTreeMap<Key, Row>>>,
    /// The export has the same rows as the tables, but for those.
    pub even: bool,
}

impl State {
    /// No copy has the row, nor will have it: when it goes, there is nothing to be written.
    pub(super) fn is_new(&self, key: &[u8], tables: &Tables) -> bool {
        let written = self.writing.as_ref().is_some_and(|rows| rows.contains_key(key));
        self.even && !written && !tables.may_hold(key)
    }

    /// The tables' sessions and pages. The furthest place of the journal where they say that a body ends.
    pub(super) fn read(&mut self, tables: &Tables, damage: &mut Vec<String>) -> Result<Boundary, StoreError> {
        let mut upto = Boundary::default();
        for row in tables.rows_in(&[rows::SESSION]) {
            let (key, _) = row.map_err(|e| failed("read the tables", e))?;
            if let Ok((id, _)) = rows::numbers(&key) {
                self.queues.add_session(id);
            }
        }
        for row in tables.rows_in(&[rows::QUEUED]) {
            let (key, body) = row.map_err(|e| failed("read the tables", e))?;
            let Ok(body) = body else { continue };
            let page = rows::page_of(&key).and_then(|page| Ok((page, read_page(&body)?)));
            let entries = page.iter().flat_map(|(_, entries)| entries);
            upto = entries.map(|entry| entry.at.end()).fold(upto, Boundary::max);
            match page {
                Ok((page, entries)) if self.queues.contains(page.session) => self.queues.load(page, entries),
                Ok((page, _)) => self.dropped.push(page.session),
                Err(error) => damage.push(format!("{}: {error}; lost", rows::name(&key))),
            }
        }
        self.dropped.dedup();
        Ok(upto)
    }

    pub(super) fn apply(&mut self, record: Record, tables: &mut Tables) {
        match record {
            Record::Row(key, body) => {
                let Ok((id, _)) = rows::numbers(&key) else { return };
                match key[0] {
                    rows::SESSION => self.queues.add_session(id),
                    rows::NOTE | rows::SUBSCRIPTION | rows::RECEIVED if !self.queues.contains(id) => return,
                    _ => {}
                }
                self.rows.insert(key, Row::Bytes(body));
            }
            Record::NoRow(key) if self.is_new(&key, tables) => self.rows.remove(&key),
            Record::NoRow(key) => self.rows.insert(key, Row::Gone),
            Record::RowAt(key, beginning, at) => self.rows.insert(key, Row::At(beginning, at)),
            Record::NoSession(id) => {
                self.queues.remove_session(id);
                for table in [rows::SESSION, rows::NOTE, rows::SUBSCRIPTION, rows::RECEIVED] {
                    self.rows.remove_all(&rows::key(table, id));
                }
                if !self.is_new(&rows::key(rows::SESSION, id), tables) {
                    self.dropped.push(id);
                }
            }
            Record::Body => {}
            Record::Queued(session, lane, entry) => self.queues.put(session, lane, entry, tables),
            Record::Received(session, seq) => self.queues.mark_received(session, seq, tables),
            Record::Unqueued(session, seq) => self.queues.remove(session, seq, tables),
        }
    }
}
