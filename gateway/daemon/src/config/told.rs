//! What an operator is told about a configuration: where, which key, what is wrong, what is allowed.

use serde::{Serialize, Serializer};
use std::fmt;
use std::path::PathBuf;

/// Where a setting stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the file, or in the defaults if there is none.
    File {
        /// `None` without a file.
        path: Option<PathBuf>,
        /// From 1; `None` for what the file does not say.
        line: Option<usize>,
        /// From 1.
        column: Option<usize>,
    },
    /// In a variable of the environment.
    Variable(String),
}

/// One fault, or one warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// Where the setting stands.
    pub place: Place,
    /// As in the reference: `listeners.tls.key`. Empty for the whole.
    pub key: String,
    /// What is wrong, and what is allowed.
    pub message: String,
}

impl Place {
    /// The line of the file.
    pub(crate) fn line(&self) -> Option<usize> {
        match self {
            Self::File { line, .. } => *line,
            Self::Variable(_) => None,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::File { path, line, column } => {
                match path {
                    Some(path) => write!(f, "{}", path.display())?,
                    None => f.write_str("(defaults)")?,
                }
                for number in [line, column].into_iter().flatten() {
                    write!(f, ":{number}")?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, key, message } = self;
        match key.as_str() {
            "" => write!(f, "{place}: {message}"),
            key => write!(f, "{place}: {key}: {message}"),
        }
    }
}

/// `file`, `line` and `column`, or `variable`; then `key` and `message`.
impl Serialize for Told {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut told = serde_json::Map::new();
        match &self.place {
            Place::Variable(name) => {
                told.insert("variable".into(), name.as_str().into());
            }
            Place::File { path, line, column } => {
                let path = path.as_ref().map(|path| path.display().to_string());
                told.insert("file".into(), path.into());
                told.insert("line".into(), (*line).into());
                told.insert("column".into(), (*column).into());
            }
        }
        told.insert("key".into(), self.key.as_str().into());
        told.insert("message".into(), self.message.as_str().into());
        told.serialize(serializer)
    }
}
