//! What was written for other brokers, read as it is.

mod emq_acl;
pub(crate) mod hash;
mod mosquitto_acl;
pub(crate) mod passwords;

use crate::rules::{Entry, Origin};
use crate::settings::{AclFile, AclFormat};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of the longest file that is read.
const LONGEST: u64 = 64 << 20;

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// What the system says.
    #[error("{path}: {cause}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// Nobody writes so much.
    #[error("{path}: it has more than {LONGEST} bytes")]
    TooLong {
        /// The file.
        path: PathBuf,
    },
}

/// Why a file of rules cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AclFileError {
    /// It cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// It says something that cannot be.
    #[error("{path}:{place}")]
    Faulty {
        /// The file.
        path: PathBuf,
        /// Where, and what is wrong.
        place: Misplaced,
    },
}

/// A fault and its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {fault}")]
pub struct Misplaced {
    /// From 1.
    pub line: usize,
    /// Characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub fault: AclFileFault,
}

/// What is wrong with a rule of another broker, and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AclFileFault {
    /// Bytes that are no text.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// A filter that cannot be.
    #[error("`{topic}` is not a topic filter: {cause}")]
    Topic {
        /// As written.
        topic: String,
        /// What is wrong.
        cause: String,
    },
    /// mosquitto: another word at the beginning.
    #[error("`{0}` is no directive, allowed is topic, pattern and user")]
    Directive(String),
    /// mosquitto: another word before the filter.
    #[error("`{0}` is no access, allowed is read, write, readwrite and deny")]
    Access(String),
    /// mosquitto: nothing behind `topic` or `pattern`.
    #[error("a topic filter is missing: [read|write|readwrite|deny] FILTER")]
    NoTopic,
    /// mosquitto: nothing behind `user`.
    #[error("a user name is missing")]
    NoName,
    /// EMQ: no Erlang term.
    #[error("{0} is expected")]
    Syntax(&'static str),
    /// EMQ: text without an end.
    #[error("the quote has no end: {0} is expected")]
    Unclosed(&'static str),
    /// EMQ: a term in a term in a term, and so on.
    #[error("terms are nested more than {0} deep")]
    TooDeep(usize),
    /// EMQ: a term that is no rule.
    #[error(
        "this is no rule, allowed is {{allow|deny, all}} and {{allow|deny, WHO, subscribe|publish|pubsub, [\"FILTER\", ...]}}"
    )]
    Rule,
    /// EMQ: another effect.
    #[error("allowed is allow and deny")]
    Effect,
    /// EMQ: another action.
    #[error("allowed is subscribe, publish and pubsub")]
    Action,
    /// EMQ: nobody.
    #[error(
        "allowed is all, {{user, \"NAME\"}}, {{client, \"ID\"}}, {{ipaddr, \"10.0.0.0/8\"}}, {{'and', [WHO, ...]}} and {{'or', [WHO, ...]}}"
    )]
    Who,
    /// EMQ: no network.
    #[error("`{0}` is no address and no network such as 10.0.0.0/8")]
    Network(String),
    /// EMQ: another term where topics are.
    #[error("allowed is a list of \"FILTER\" and {{eq, \"FILTER\"}}")]
    Topics,
}

impl AclFile {
    /// Its rules in the order in which they are asked, or all that is wrong.
    pub(crate) fn read(&self) -> Result<Vec<Entry>, Vec<AclFileError>> {
        let path = &self.path;
        let bytes = read(path).map_err(|error| vec![error.into()])?;
        let shared: Arc<Path> = path.as_path().into();
        let origin = |line| Origin::File {
            path: Arc::clone(&shared),
            line,
        };
        let parsed = match self.format {
            AclFormat::Mosquitto => mosquitto_acl::parse(&bytes, &origin),
            AclFormat::Emq => emq_acl::parse(&bytes, &origin),
        };
        let faulty = |place| AclFileError::Faulty {
            path: path.clone(),
            place,
        };
        parsed.map_err(|faults| faults.into_iter().map(faulty).collect())
    }
}

/// The whole file without a byte order mark.
fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(LONGEST + 1).read_to_end(&mut bytes))
        .map_err(|cause| FileError::Io {
            path: path.to_owned(),
            cause,
        })?;
    if bytes.len() as u64 > LONGEST {
        let path = path.to_owned();
        return Err(FileError::TooLong { path });
    }
    let mark = bytes.len() - without_mark(&bytes).len();
    bytes.drain(..mark);
    Ok(bytes)
}

/// Bytes without a byte order mark before them.
fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}
