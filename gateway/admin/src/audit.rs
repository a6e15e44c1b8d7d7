//! The audit log: who changed what, before and after; a line of JSON for each change, in files that are put aside when they are large.
//!
//! A change that begins stands in a file of its own until it has ended: what a `kill -9` interrupts is an entry whose outcome is not known. What was refused
//! is no entry. Changes of administrators and those of others have files of their own, so that whoever may do less pushes nothing out that was done by who
//! may do more.
//!
//! Always true: a change is on the disk before it begins and when [`AuditLog::end`] comes back; no number is given twice; no more than [`KEPT`] files of
//! [`FILE_BYTES`] of each kind are kept, the oldest goes.

use crate::Role;
use headgate_auth::data_dir::{DataDir, Here};
use headgate_auth::file;
use parking_lot::{Mutex, MutexGuard};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The files, of administrators and of others.
const KINDS: [&str; 2] = ["audit.log", "audit-others.log"];
/// The file of changes that are under way.
const BEGUN: &str = "audit.begun";
/// Bytes at which a file is put aside.
const FILE_BYTES: u64 = 1 << 20;
/// Files that are kept of each kind.
const KEPT: usize = 4;
/// Bytes of what was there before or after that an entry has at most.
const LONGEST: usize = 16 << 10;
/// Bytes of the file of changes that are under way, above which it is written anew.
const BEGUN_BYTES: u64 = 256 << 10;
/// No number is above this: it counts one by one.
const LAST: u64 = 1 << 53;

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
pub struct AuditLog(Arc<Log>);

struct Log {
    dir: DataDir,
    inner: Mutex<Inner>,
}

struct Inner {
    /// Where the files are.
    folder: PathBuf,
    /// Of administrators, and of others.
    kinds: [Files; 2],
    begun: Begun,
    last: u64,
}

/// The files of one kind.
struct Files {
    path: PathBuf,
    file: Option<File>,
}

/// Changes that are under way.
struct Begun {
    path: PathBuf,
    file: Option<File>,
    entries: BTreeMap<u64, (Role, AuditEntry)>,
}

/// A line of the file of changes that are under way.
#[derive(Serialize, Deserialize)]
struct BegunLine {
    role: Role,
    entry: AuditEntry,
}

impl AuditLog {
    /// In the data folder. What was under way when the gateway ended becomes an entry.
    pub fn open(data_dir: impl Into<DataDir>) -> Self {
        let dir = data_dir.into();
        let folder = dir.now().to_owned();
        let kinds = KINDS.map(|name| Files {
            path: folder.join(name),
            file: None,
        });
        let begun = Begun {
            path: folder.join(BEGUN),
            file: None,
            entries: BTreeMap::new(),
        };
        let left: Vec<BegunLine> = lines(&begun.path).collect();
        let ended: BTreeMap<u64, AuditEntry> = kinds.iter().flat_map(Files::entries).collect();
        let numbers = left.iter().map(|line| line.entry.number);
        let numbers = numbers
            .filter(|number| *number < LAST)
            .chain(ended.keys().copied());
        let mut inner = Inner {
            last: numbers.max().unwrap_or(0),
            folder,
            kinds,
            begun,
        };
        for BegunLine { role, entry } in left {
            if entry.number < LAST && !ended.contains_key(&entry.number) {
                // It stands in the other file until this is done.
                let _ = inner.kinds[kind(role)].write(&entry);
            }
        }
        let _ = inner.begun.empty();
        let inner = Mutex::new(inner);
        Self(Arc::new(Log { dir, inner }))
    }

    /// Writes down that a change begins, and waits for the disk. Its number; also where it could not be written.
    pub fn begin(&self, role: Role, mut entry: AuditEntry) -> (u64, io::Result<()>) {
        let (_here, mut inner) = self.0.here();
        inner.last = (inner.last + 1).min(LAST);
        entry.number = inner.last;
        let number = entry.number;
        (number, inner.begun.add(role, entry))
    }

    /// Writes down what became of a change, and waits for the disk.
    pub fn end(&self, role: Role, mut entry: AuditEntry) -> io::Result<()> {
        for value in [&mut entry.before, &mut entry.after] {
            if value
                .as_ref()
                .is_some_and(|value| value.to_string().len() > LONGEST)
            {
                *value = Some("too long to be kept".into());
            }
        }
        let (_here, mut inner) = self.0.here();
        let written = inner.kinds[kind(role)].write(&entry);
        inner.begun.remove(entry.number);
        written
    }

    /// A change came to nothing: it is no entry.
    pub fn forget(&self, number: u64) {
        let (_here, mut inner) = self.0.here();
        inner.begun.remove(number);
    }

    /// `limit` entries before the number `after`, the latest first.
    pub fn page(&self, after: Option<u64>, limit: usize) -> AuditPage {
        let (_here, inner) = self.0.here();
        let begun = inner.begun.entries.values();
        let begun: Vec<_> = begun.map(|(_, entry)| (entry.number, entry.clone())).collect();
        let paths: Vec<PathBuf> = inner.kinds.iter().flat_map(Files::paths).collect();
        drop(inner);
        let kept = paths.iter().flat_map(|path| entries(path));
        // What has ended counts, and not that it began.
        let all: BTreeMap<u64, AuditEntry> = begun.into_iter().chain(kept).collect();
        let before = all
            .into_iter()
            .filter(|(number, _)| after.is_none_or(|after| *number < after));
        let mut rows: Vec<_> = before.map(|(_, entry)| entry).collect();
        rows.reverse();
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| more).map(|last| last.number);
        AuditPage { rows, next }
    }
}

impl Log {
    /// What there is, in the data folder as long as that stays where it is.
    fn here(&self) -> (Here<'_>, MutexGuard<'_, Inner>) {
        let here = self.dir.now();
        let mut inner = self.inner.lock();
        inner.go_to(&here);
        (here, inner)
    }
}

impl Inner {
    /// Goes on with the copies of the files, where the data are in another folder now.
    fn go_to(&mut self, folder: &Path) {
        if self.folder == folder {
            return;
        }
        folder.clone_into(&mut self.folder);
        for (files, name) in self.kinds.iter_mut().zip(KINDS) {
            files.path = folder.join(name);
            files.file = None;
        }
        self.begun.path = folder.join(BEGUN);
        self.begun.file = None;
    }
}

/// Whose files.
fn kind(role: Role) -> usize {
    usize::from(role != Role::Administrator)
}

/// The lines of a file that can be read; one that was cut off by a power cut is left out.
fn lines<T: serde::de::DeserializeOwned>(path: &Path) -> impl Iterator<Item = T> {
    let text = file::read(path, file::LONGEST).unwrap_or_default();
    let lines: Vec<T> = text
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect();
    lines.into_iter()
}

/// What stands in a file, by numbers.
fn entries(path: &Path) -> impl Iterator<Item = (u64, AuditEntry)> {
    let entries = lines::<AuditEntry>(path).filter(|entry| entry.number < LAST);
    entries.map(|entry| (entry.number, entry))
}

/// Appends a line, and waits for the disk.
fn append(file: &mut File, line: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    file.write_all(&text)?;
    file.sync_data()
}

/// To be appended to. A line that a power cut has cut off ends here.
fn opened(path: &Path) -> io::Result<File> {
    let text = match file::read(path, file::LONGEST) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        text => text?,
    };
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)?;
    if !text.is_empty() && !text.ends_with(b"\n") {
        file.write_all(b"\n")?;
    }
    Ok(file)
}

impl Files {
    fn aside(&self, n: usize) -> PathBuf {
        match n {
            0 => self.path.clone(),
            n => self.path.with_extension(format!("log.{n}")),
        }
    }

    /// The latest first.
    fn paths(&self) -> Vec<PathBuf> {
        (0..KEPT).map(|n| self.aside(n)).collect()
    }

    fn entries(&self) -> Vec<(u64, AuditEntry)> {
        self.paths().iter().flat_map(|path| entries(path)).collect()
    }

    fn write(&mut self, entry: &AuditEntry) -> io::Result<()> {
        let written = self.file().and_then(|file| append(file, entry));
        if written.is_err() {
            // What came of it is not known: the next entry begins with a look.
            self.file = None;
        }
        written
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
        match &mut self.file {
            Some(file) => Ok(file),
            none => Ok(none.insert(opened(&self.path)?)),
        }
    }
}

impl Begun {
    fn add(&mut self, role: Role, entry: AuditEntry) -> io::Result<()> {
        let line = BegunLine { role, entry };
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(opened(&self.path)?),
        };
        let written = append(file, &line);
        self.entries.insert(line.entry.number, (role, line.entry));
        written
    }

    /// A failure is mended at the next start: the entry that ended has its own line.
    fn remove(&mut self, number: u64) {
        self.entries.remove(&number);
        let length = fs::metadata(&self.path).map_or(0, |data| data.len());
        if self.entries.is_empty() {
            let _ = self.empty();
        } else if length > BEGUN_BYTES {
            let _ = self.write_anew();
        }
    }

    fn empty(&mut self) -> io::Result<()> {
        match &self.file {
            Some(file) => file.set_len(0),
            None => match fs::remove_file(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
        }
    }

    fn write_anew(&mut self) -> io::Result<()> {
        let mut text = Vec::new();
        for (role, entry) in self.entries.values() {
            let line = BegunLine {
                role: *role,
                entry: entry.clone(),
            };
            text.extend(serde_json::to_vec(&line)?);
            text.push(b'\n');
        }
        file::replace(&self.path, &text)?;
        self.file = Some(opened(&self.path)?);
        Ok(())
    }
}
