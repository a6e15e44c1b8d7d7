//! Configurations of other brokers, said in Headgate's words, with an exact report: one line for each directive, and what became of it.
//!
//! Reads files by a trait and writes none: what comes out is a text of TOML, users, files with secrets, and the report. What cannot be carried over and decides
//! who may come in keeps its door shut. Nothing secret is in the report.

#[cfg(test)]
mod disk;
mod draft;
pub mod emq;
mod log;
pub mod mosquitto;
mod report;
mod tls;
mod value;

pub use report::{Fate, Line, Report};

use headgate_auth::ForeignUser;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The files of the source.
pub trait Files {
    /// The content of a file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Whether there is such a file.
    fn exists(&self, path: &Path) -> bool;

    /// The files in a folder, in any order.
    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>>;
}

/// What is known about the new gateway.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where it shall keep its data.
    pub data_dir: PathBuf,
    /// Where files with secrets go that the configuration names.
    pub secrets_dir: PathBuf,
    /// Its name, for bridges.
    pub node: String,
    /// Its lists of sockets for datagrams: each that the source says nothing of is empty, so that the new gateway opens nothing that the old one did not.
    pub datagram_lists: &'static [&'static str],
}

/// What an import makes.
#[derive(Debug)]
pub struct Import {
    /// The text of the new configuration.
    pub config: String,
    /// Whether somebody who reads it learns a password.
    pub has_secrets: bool,
    /// Users for the file of users.
    pub users: Vec<ForeignUser>,
    /// Files that the configuration names.
    pub secrets: Vec<SecretFile>,
    /// What became of the source.
    pub report: Report,
}

/// A file that its owner alone may read.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretFile {
    /// Where.
    pub path: PathBuf,
    /// What is in it.
    pub content: String,
}

impl fmt::Debug for SecretFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SecretFile").field(&self.path).finish()
    }
}

/// Why nothing can be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file cannot be read.
    #[error("{path}: {cause}")]
    Read {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The configuration cannot be written as TOML.
    #[error("the configuration cannot be written: {0}")]
    Write(#[from] toml::ser::Error),
}
