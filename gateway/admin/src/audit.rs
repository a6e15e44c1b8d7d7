//! The audit log: who changed what, before and after; a line of JSON when a change begins and one with the same number when it has ended, in files that
//! are put aside when they are large.
//!
//! Always true: an entry is on the disk when [`AuditLog::write`] comes back; of one number the last line counts; no more than [`KEPT`] files of [`FILE_BYTES`] are kept, the oldest goes.

use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes at which a file is put aside.
const FILE_BYTES: u64 = 1 << 20;
/// Files that are kept.
const KEPT: usize = 4;
/// Bytes of what was there before or after that an entry has at most.
const LONGEST: usize = 16 << 10;

/// A change, or that somebody tried one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AuditEntry {
    /// Its number; no other change gets it.
    #[serde(default)]
    pub number: u64,
    /// Seconds since 1970.
    pub at: u64,
    /// The administrator, the API key, or who has the control socket.
    pub who: String,
    /// The address that it came from.
    pub from: String,
    /// What was asked: `POST /api/v1/bans`.
    pub request: String,
    /// In words.
    pub action: String,
    /// The status of the answer; none while the change is under way, or for ever if the gateway ended meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// What was there before, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// What was there afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}

/// Some entries, the latest first.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct AuditPage {
    /// The entries.
    pub rows: Vec<AuditEntry>,
    /// Behind this number are more.
    pub next: Option<u64>,
}

/// The log. Cheap to clone.
#[derive(Clone)]
pub struct AuditLog(Arc<Mutex<Inner>>);

struct Inner {
    path: PathBuf,
    file: Option<File>,
    last: u64,
}

impl AuditLog {
    /// In the data folder.
    pub fn open(data_dir: &Path) -> Self {
        let path = data_dir.join("audit.log");
        let inner = Inner {
            last: 0,
            path,
            file: None,
        };
        let last = inner
            .files()
            .iter()
            .find_map(|file| entries(file).iter().map(|entry| entry.number).max());
        Self(Arc::new(Mutex::new(Inner {
            last: last.unwrap_or(0),
            ..inner
        })))
    }

    /// Writes an entry down, and waits for the disk. Its number: one that it has is kept, 0 is replaced by the next.
    pub fn write(&self, mut entry: AuditEntry) -> io::Result<u64> {
        for value in [&mut entry.before, &mut entry.after] {
            if value
                .as_ref()
                .is_some_and(|value| value.to_string().len() > LONGEST)
            {
                *value = Some("too long to be kept".into());
            }
        }
        let mut inner = self.0.lock();
        if entry.number == 0 {
            inner.last += 1;
            entry.number = inner.last;
        }
        let mut line = serde_json::to_vec(&entry)?;
        line.push(b'\n');
        let file = inner.file()?;
        let written = file.write_all(&line).and_then(|()| file.sync_data());
        if written.is_err() {
            // What came of it is not known: the next entry begins with a look.
            inner.file = None;
        }
        written.map(|()| entry.number)
    }

    /// `limit` entries before the number `after`, the latest first.
    pub fn page(&self, after: Option<u64>, limit: usize) -> AuditPage {
        let files = self.0.lock().files();
        let oldest_first = files.iter().rev().flat_map(|file| entries(file));
        let wanted = oldest_first.filter(|entry| after.is_none_or(|after| entry.number < after));
        let by_number: BTreeMap<u64, AuditEntry> = wanted.map(|entry| (entry.number, entry)).collect();
        let mut rows: Vec<_> = by_number.into_values().rev().take(limit + 1).collect();
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| more).map(|last| last.number);
        AuditPage { rows, next }
    }
}

/// What stands in a file; a line that was cut off by a power cut is left out.
fn entries(path: &Path) -> Vec<AuditEntry> {
    let text = fs::read(path).unwrap_or_default();
    let lines = text.split(|byte| *byte == b'\n');
    lines
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect()
}

impl Inner {
    fn aside(&self, n: usize) -> PathBuf {
        match n {
            0 => self.path.clone(),
            n => self.path.with_extension(format!("log.{n}")),
        }
    }

    /// The latest first.
    fn files(&self) -> Vec<PathBuf> {
        (0..KEPT).map(|n| self.aside(n)).collect()
    }

    fn file(&mut self) -> io::Result<&mut File> {
        let length = fs::metadata(&self.path).map_or(0, |data| data.len());
        if length >= FILE_BYTES {
            self.file = None;
            for n in (1..KEPT).rev() {
                match fs::rename(self.aside(n - 1), self.aside(n)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        if self.file.is_none() {
            let mut options = OpenOptions::new();
            let mut file = options.append(true).create(true).mode(0o600).open(&self.path)?;
            // A line that a power cut has cut off ends here.
            if !fs::read(&self.path)?.ends_with(b"\n") && length > 0 && length < FILE_BYTES {
                file.write_all(b"\n")?;
            }
            self.file = Some(file);
        }
        Ok(self.file.as_mut().expect("it was opened"))
    }
}
