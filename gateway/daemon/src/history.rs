//! The configurations that were valid: a file for each in the data folder, and a list that says when and why.
//!
//! Always true: no more than [`KEPT`] are kept, the oldest goes; the same text twice in a row is one entry; what is kept survives a power cut. Of each version
//! of the gateway that was here lately, the last configuration that it had is kept besides, so that it finds one that it can read when the machine falls back.

use crate::private;
use crate::sys::unix_time;
use headgate_auth::data_dir::{DataDir, DataPath};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Configurations that are kept.
const KEPT: usize = 50;
/// Versions of which the last one is kept.
const VERSIONS: usize = 4;
/// What the names of these begin with.
const OF_VERSION: &str = "of-";
/// Bytes of a configuration that can be applied.
pub(crate) const LONGEST: usize = 1 << 20;

/// The list, and where it is.
#[derive(Debug)]
pub(crate) struct History {
    folder: DataPath,
    entries: Vec<Entry>,
}

/// One configuration that was valid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Entry {
    /// It goes by this; never given twice.
    pub number: u64,
    /// Seconds since 1970.
    pub at: u64,
    /// How it became valid.
    pub by: Cause,
    /// What it changed, as far as that is shown.
    pub changes: Vec<String>,
}

/// How a configuration became valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Cause {
    /// The gateway was started with it.
    Start,
    /// The file was changed, and read again.
    Reload,
    /// It was applied.
    Apply,
    /// An operator went back to it.
    Rollback,
    /// The one after it was not confirmed.
    NotConfirmed,
    /// In a way that a later version knows.
    #[serde(other)]
    Other,
}

impl Cause {
    /// In a word.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Reload => "reload",
            Self::Apply => "apply",
            Self::Rollback => "rollback",
            Self::NotConfirmed => "not confirmed",
            Self::Other => "a later version",
        }
    }
}

/// Why there is no such configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HistoryError {
    /// It was never there, or is not kept any more.
    #[error("there is no configuration {0}: `headgate config history` lists them")]
    Unknown(u64),
    /// There is none before it.
    #[error("there is no configuration before this one")]
    First,
    /// A file cannot be read or written.
    #[error("{path}: {cause}")]
    File {
        /// Which one.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: io::Error,
    },
}

impl History {
    /// What is in the data folder. A list that cannot be read is begun anew, with a word.
    pub(crate) fn load(data_dir: impl Into<DataDir>) -> Self {
        let folder = data_dir.into().join("configurations");
        let list = folder.now().join("list.json");
        let entries = match private::read(&list, private::LONGEST) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!(file = %list.display(), %error, "the list of earlier configurations cannot be read");
                Vec::new()
            }),
            Err(_) => Vec::new(),
        };
        Self { folder, entries }
    }

    /// All, the oldest first.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What is valid now.
    pub(crate) fn last(&self) -> Option<&Entry> {
        self.entries.last()
    }

    /// The number of the one before this.
    pub(crate) fn before(&self, number: u64) -> Option<u64> {
        let mut before = self.entries.iter().rev().map(|entry| entry.number);
        before.find(|earlier| *earlier < number)
    }

    /// The text of one of them.
    pub(crate) fn text(&self, number: u64) -> Result<String, HistoryError> {
        if !self.entries.iter().any(|entry| entry.number == number) {
            return Err(HistoryError::Unknown(number));
        }
        let _here = self.folder.now();
        let path = self.file(number);
        private::read_text(&path, private::LONGEST).map_err(|cause| HistoryError::File { path, cause })
    }

    /// The number of the latest that says just this.
    pub(crate) fn number_of(&self, text: &str) -> Option<u64> {
        let mut numbers = self.entries.iter().rev().map(|entry| entry.number);
        numbers.find(|number| self.text(*number).is_ok_and(|known| known == text))
    }

    /// One more. Nothing is added where the text is that of the last.
    pub(crate) fn add(&mut self, text: &str, by: Cause, changes: Vec<String>) -> Result<(), HistoryError> {
        let last = self.last().map(|entry| entry.number);
        if last.is_some_and(|last| self.text(last).is_ok_and(|known| known == text)) {
            return Ok(());
        }
        let folder = self.folder.now();
        let number = last.max(self.last_file()).unwrap_or(0) + 1;
        fs::create_dir_all(&folder).map_err(|cause| HistoryError::File {
            path: folder.to_owned(),
            cause,
        })?;
        let path = self.file(number);
        private::replace(&path, text.as_bytes()).map_err(|cause| HistoryError::File { path, cause })?;
        let mut entries = self.entries.clone();
        entries.push(Entry {
            number,
            at: unix_time(),
            by,
            changes,
        });
        let over = entries.len().saturating_sub(KEPT);
        let gone: Vec<Entry> = entries.drain(..over).collect();
        let list = serde_json::to_vec_pretty(&entries).unwrap_or_default();
        let path = folder.join("list.json");
        private::replace(&path, &list).map_err(|cause| HistoryError::File { path, cause })?;
        for gone in gone {
            let _ = fs::remove_file(self.file(gone.number));
        }
        drop(folder);
        self.entries = entries;
        Ok(())
    }

    /// This is what the gateway of this version has now.
    pub(crate) fn keep_for(&self, version: &str, text: &str) -> io::Result<()> {
        let folder = self.folder.now();
        let path = folder.join(format!("{OF_VERSION}{version}.toml"));
        if private::read_text(&path, private::LONGEST).is_ok_and(|known| known == text) {
            return Ok(());
        }
        private::replace(&path, text.as_bytes())?;
        for gone in of_versions(&folder).into_iter().skip(VERSIONS) {
            let _ = fs::remove_file(gone);
        }
        Ok(())
    }

    /// The files of all that are kept, whatever the list says: the latest first, and then those of versions.
    pub(crate) fn kept(data_dir: &Path) -> Vec<PathBuf> {
        let folder = data_dir.join("configurations");
        let files = fs::read_dir(&folder).into_iter().flatten().flatten();
        let number = |path: &PathBuf| {
            path.file_name()?
                .to_str()?
                .strip_suffix(".toml")?
                .parse::<u64>()
                .ok()
        };
        let numbered = files.filter_map(|file| Some((number(&file.path())?, file.path())));
        let mut numbered: Vec<_> = numbered.collect();
        numbered.sort_by(|one, other| other.cmp(one));
        let numbered = numbered.into_iter().map(|(_, path)| path);
        numbered.chain(of_versions(&folder)).collect()
    }

    /// The highest number that has a file: the list may have been lost.
    fn last_file(&self) -> Option<u64> {
        let files = fs::read_dir(self.folder.now()).ok()?.flatten();
        let numbers = files.filter_map(|file| file.file_name().to_str()?.strip_suffix(".toml")?.parse().ok());
        numbers.max()
    }

    fn file(&self, number: u64) -> PathBuf {
        self.folder.now().join(format!("{number}.toml"))
    }
}

/// The files of versions, the latest first.
fn of_versions(folder: &Path) -> Vec<PathBuf> {
    let is_one = |name: &str| name.starts_with(OF_VERSION) && name.ends_with(".toml");
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    let files = files.filter(|file| file.file_name().to_str().is_some_and(is_one));
    let at = |file: &fs::DirEntry| file.metadata().and_then(|known| known.modified()).ok();
    let mut files: Vec<_> = files.map(|file| (at(&file), file.path())).collect();
    files.sort_by(|one, other| other.cmp(one));
    files.into_iter().map(|(_, path)| path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_valid_is_kept_over_a_restart_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let mut history = History::load(folder.path());
        assert_eq!(history.before(1), None);
        for n in 1..=KEPT + 5 {
            let text = format!("# {n}\n");
            history
                .add(&text, Cause::Apply, vec![format!("change {n}")])
                .unwrap();
            history.add(&text, Cause::Reload, Vec::new()).unwrap();
        }
        let mut history = History::load(folder.path());
        assert_eq!(history.entries().len(), KEPT);
        let last = history.last().unwrap();
        assert_eq!((last.number, last.by), (KEPT as u64 + 5, Cause::Apply));
        assert_eq!(last.changes, ["change 55"]);
        assert_eq!(history.text(55).unwrap(), "# 55\n");
        assert!(matches!(history.text(5), Err(HistoryError::Unknown(5))));
        assert_eq!((history.before(55), history.before(6)), (Some(54), None));
        assert_eq!(
            fs::read_dir(folder.path().join("configurations"))
                .unwrap()
                .count(),
            KEPT + 1
        );

        // A number is never given twice, also when an earlier text comes again.
        history.add("# 54\n", Cause::Rollback, Vec::new()).unwrap();
        assert_eq!(history.last().unwrap().number, 56);
    }

    #[test]
    fn a_list_that_cannot_be_read_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("configurations")).unwrap();
        fs::write(folder.path().join("configurations/list.json"), "half a li").unwrap();
        let mut history = History::load(folder.path());
        assert_eq!(history.entries(), []);
        fs::write(folder.path().join("configurations/7.toml"), "of before").unwrap();
        history.add("a = 1\n", Cause::Start, Vec::new()).unwrap();
        let numbers = History::load(folder.path())
            .entries
            .into_iter()
            .map(|entry| entry.number);
        assert_eq!(numbers.collect::<Vec<_>>(), [8], "a number is never given twice");
    }
}
