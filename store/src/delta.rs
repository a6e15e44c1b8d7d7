//! Rows that differ from the tables, until a checkpoint has written them, and how much memory they take.

use crate::checkpoint::Row;
use crate::rows::Key;
use std::collections::{BTreeMap, btree_map};

/// About the bytes that a row takes besides its key and body: its place in the tree and what the allocator adds.
const PLACE: usize = 144;

/// Rows by their keys.
#[derive(Debug, Default)]
pub(crate) struct Delta {
    rows: BTreeMap<Key, Row>,
    bytes: usize,
}

impl Delta {
    pub(crate) fn insert(&mut self, key: Key, row: Row) {
        match self.rows.entry(key) {
            btree_map::Entry::Vacant(place) => {
                self.bytes += bytes(place.key(), &row);
                place.insert(row);
            }
            btree_map::Entry::Occupied(mut place) => {
                self.bytes += body(&row);
                self.bytes -= body(&place.insert(row));
            }
        }
    }

    /// Puts a row there unless there is a newer one.
    pub(crate) fn put_back(&mut self, key: Key, row: Row) {
        if let btree_map::Entry::Vacant(place) = self.rows.entry(key) {
            self.bytes += bytes(place.key(), &row);
            place.insert(row);
        }
    }

    pub(crate) fn remove(&mut self, key: &[u8]) {
        if let Some((key, row)) = self.rows.remove_entry(key) {
            self.bytes -= bytes(&key, &row);
        }
    }

    /// Removes all rows whose keys begin so.
    pub(crate) fn remove_all(&mut self, prefix: &[u8]) {
        let own = self.rows.range(prefix.to_vec()..).map(|(key, _)| key);
        let own: Vec<Key> = own.take_while(|key| key.starts_with(prefix)).cloned().collect();
        own.iter().for_each(|key| self.remove(key));
    }

    /// All of them, for a checkpoint to write.
    pub(crate) fn take(&mut self) -> BTreeMap<Key, Row> {
        std::mem::take(self).rows
    }

    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        self.rows.contains_key(key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Key, &Row)> {
        self.rows.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// About the bytes of memory that they take.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

fn bytes(key: &Key, row: &Row) -> usize {
    PLACE + key.len() + body(row)
}

fn body(row: &Row) -> usize {
    match row {
        Row::Gone => 0,
        Row::Bytes(body) | Row::At(body, _) => body.len(),
    }
}
