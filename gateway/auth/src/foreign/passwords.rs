//! Users of other brokers: mosquitto's `password_file`, and tables of EMQ as CSV.

use super::hash::{ForeignHash, HashError, HashMethod, Known};
use super::{AclFileError, read};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Whose file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsersFormat {
    /// `NAME:HASH` in each line. mosquitto_passwd(1)
    Mosquitto,
    /// A header and rows with the columns `username` (or `user`), `password` (or `password_hash`, `password-hash`) and, if there is one, `salt`. Other
    /// columns do not matter.
    Csv(HashMethod),
}

/// Why users are not taken over.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file cannot be read.
    #[error(transparent)]
    Io(#[from] AclFileError),
    /// It says something that cannot be; each fault with its line.
    #[error("{}", faults.iter().map(|(line, fault)| format!("{}:{line}: {fault}", path.display())).collect::<Vec<_>>().join("\n"))]
    Faulty {
        /// The file.
        path: PathBuf,
        /// Lines, from 1, and what is wrong there.
        faults: Vec<(u64, UserFault)>,
    },
}

/// What is wrong with a user of another broker.
#[derive(Debug, thiserror::Error)]
pub enum UserFault {
    /// Bytes that are no text.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// No name and hash.
    #[error("allowed is NAME:HASH")]
    NoHash,
    /// No such column.
    #[error("the header names no column {0}")]
    NoColumn(&'static str),
    /// No CSV.
    #[error("{0}")]
    Csv(String),
    /// A second one.
    #[error("`{0}` stands twice")]
    Twice(String),
    /// A name that nobody may have.
    #[error(transparent)]
    Name(#[from] crate::users::UsersError),
    /// A hash that cannot be.
    #[error("`{name}`: {error}")]
    Hash {
        /// The user.
        name: String,
        /// What is wrong.
        error: HashError,
    },
}

/// Users, or all that is wrong.
pub(crate) fn users(path: &Path, format: UsersFormat) -> Result<Vec<(String, Known)>, ImportError> {
    let bytes = read(path)?;
    let rows = match format {
        UsersFormat::Mosquitto => of_mosquitto(&bytes),
        UsersFormat::Csv(method) => of_csv(&bytes, method),
    };
    let (mut users, mut faults, mut names) = (Vec::new(), Vec::new(), BTreeSet::new());
    for (line, row) in rows {
        let fault = match row {
            Ok((name, _)) if !names.insert(name.clone()) => UserFault::Twice(name),
            Ok((name, known)) => match crate::users::check_name(&name) {
                Ok(()) => {
                    users.push((name, known));
                    continue;
                }
                Err(error) => error.into(),
            },
            Err(fault) => fault,
        };
        faults.push((line, fault));
    }
    if faults.is_empty() {
        return Ok(users);
    }
    let path = path.to_owned();
    Err(ImportError::Faulty { path, faults })
}

/// A line, and the user that it names.
type Row = (u64, Result<(String, Known), UserFault>);

fn of_mosquitto(bytes: &[u8]) -> Vec<Row> {
    let row = |line: &[u8]| {
        let Ok(line) = std::str::from_utf8(line) else {
            return Some(Err(UserFault::NotUtf8));
        };
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return None;
        }
        let Some((name, hash)) = line.split_once(':') else {
            return Some(Err(UserFault::NoHash));
        };
        let name = name.trim().to_owned();
        Some(match ForeignHash::of_mosquitto(hash.trim()) {
            Ok(hash) => Ok((name, Known::Hash(hash))),
            Err(error) => Err(UserFault::Hash { name, error }),
        })
    };
    let lines = bytes.split(|b| *b == b'\n').zip(1..);
    lines.filter_map(|(line, n)| Some((n, row(line)?))).collect()
}

fn of_csv(bytes: &[u8], method: HashMethod) -> Vec<Row> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::Headers).from_reader(bytes);
    let header = match reader.headers() {
        Ok(header) => header.clone(),
        Err(error) => return vec![(1, Err(UserFault::Csv(error.to_string())))],
    };
    let column = |names: &[&str]| {
        let mut header = header.iter();
        header.position(|column| names.iter().any(|name| name.eq_ignore_ascii_case(column)))
    };
    let Some(user) = column(&["username", "user"]) else {
        return vec![(1, Err(UserFault::NoColumn("`username`")))];
    };
    let Some(password) = column(&["password", "password_hash", "password-hash"]) else {
        return vec![(1, Err(UserFault::NoColumn("`password`")))];
    };
    let salt = column(&["salt"]);
    let row = |record: Result<csv::StringRecord, csv::Error>| match record {
        Ok(record) => {
            let line = record.position().map_or(0, csv::Position::line);
            let cell = |at: usize| record.get(at).unwrap_or_default();
            let name = cell(user).to_owned();
            let known = method.read(cell(password), salt.map_or("", cell));
            let known = known.map_err(|error| UserFault::Hash {
                name: name.clone(),
                error,
            });
            (line, known.map(|known| (name, known)))
        }
        Err(error) => {
            let line = error.position().map_or(0, csv::Position::line);
            (line, Err(UserFault::Csv(error.to_string())))
        }
    };
    reader.records().map(row).collect()
}
