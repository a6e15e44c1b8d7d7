//! What became of each directive of the source.

use serde::Serialize;
use std::fmt;
use std::path::PathBuf;

/// What became of one directive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Fate {
    /// It is said in the new configuration.
    Taken {
        /// The settings, `bus.max_inflight = 20` for instance; empty where it is so without a word.
        settings: Vec<String>,
        /// What is not quite the same.
        #[serde(skip_serializing_if = "Option::is_none")]
        remark: Option<String>,
    },
    /// There is nothing here that it could change.
    Meaningless {
        /// Why not.
        because: String,
    },
    /// It is missing in the new configuration.
    NotTaken {
        /// Why.
        because: String,
        /// What to do about it.
        todo: String,
    },
}

/// A directive of the source, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Where it stands.
    pub file: PathBuf,
    /// From 1.
    pub line: usize,
    /// As written, but for what is secret in it.
    pub directive: String,
    /// What became of it.
    #[serde(flatten)]
    pub fate: Fate,
}

/// What became of the source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// One for each directive, in the order in which the other broker reads them.
    pub lines: Vec<Line>,
    /// What is so without a directive, and what differs from the other broker.
    pub remarks: Vec<String>,
}

impl Report {
    /// How many directives are missing in the new configuration.
    pub fn not_taken(&self) -> usize {
        let mut count = 0;
        for line in &self.lines {
            count += usize::from(matches!(line.fate, Fate::NotTaken { .. }));
        }
        count
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}: {}: {}",
            self.file.display(),
            self.line,
            self.directive,
            self.fate
        )
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken { settings, remark } => {
                if settings.is_empty() {
                    f.write_str("is so here")?;
                } else {
                    write!(f, "taken as {}", settings.join(", "))?;
                }
                remark.as_ref().map_or(Ok(()), |remark| write!(f, "; {remark}"))
            }
            Self::Meaningless { because } => write!(f, "has no meaning here: {because}"),
            Self::NotTaken { because, todo } => write!(f, "NOT TAKEN: {because}. {todo}"),
        }
    }
}
