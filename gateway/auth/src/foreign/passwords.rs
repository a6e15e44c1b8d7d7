//! Users of other brokers: mosquitto's `password_file`, and tables of EMQ as CSV.

use super::hash::{ForeignHash, HashError, HashMethod, Known};
use super::{FileError, read, without_mark};
use crate::users::{UsersError, check_name, check_password};
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
    File(#[from] FileError),
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
    /// A name or a password that nobody may have.
    #[error(transparent)]
    User(#[from] UsersError),
    /// A hash that cannot be.
    #[error("`{name}`: {error}")]
    Hash {
        /// The user.
        name: String,
        /// What is wrong.
        error: HashError,
    },
}

/// A user of another broker, with what it kept of the password.
#[derive(Clone, PartialEq, Eq)]
pub struct ForeignUser {
    name: String,
    pub(crate) known: Known,
}

impl ForeignUser {
    /// One whose password is known.
    pub fn with_password(name: &str, password: &str) -> Result<Self, UserFault> {
        Self::checked(name.to_owned(), Known::Password(password.to_owned()))
    }

    /// The user name.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn checked(name: String, known: Known) -> Result<Self, UserFault> {
        check_name(&name)?;
        if let Known::Password(password) = &known {
            check_password(password)?;
        }
        Ok(Self { name, known })
    }
}

impl std::fmt::Debug for ForeignUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ForeignUser").field(&self.name).finish()
    }
}

/// Users of another broker, and what is wrong with others, each with its line from 1.
pub fn read_users(bytes: &[u8], format: UsersFormat) -> Vec<(u64, Result<ForeignUser, UserFault>)> {
    let rows = match format {
        UsersFormat::Mosquitto => of_mosquitto(without_mark(bytes)),
        UsersFormat::Csv(method) => of_csv(without_mark(bytes), method),
    };
    let mut names = BTreeSet::new();
    let mut checked = |row: Result<(String, Known), UserFault>| {
        let (name, known) = row?;
        if names.insert(name.clone()) {
            ForeignUser::checked(name, known)
        } else {
            Err(UserFault::Twice(name))
        }
    };
    rows.into_iter().map(|(line, row)| (line, checked(row))).collect()
}

/// Users, or all that is wrong.
pub(crate) fn users(path: &Path, format: UsersFormat) -> Result<Vec<ForeignUser>, ImportError> {
    let (mut users, mut faults) = (Vec::new(), Vec::new());
    for (line, row) in read_users(&read(path)?, format) {
        match row {
            Ok(user) => users.push(user),
            Err(fault) => faults.push((line, fault)),
        }
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
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::Headers)
        .from_reader(bytes);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8], format: UsersFormat) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, text).unwrap();
        let users = users(&path, format);
        let names = users.map(|users| users.into_iter().map(|user| user.name).collect());
        names.map_err(|error| error.to_string().replace(&format!("{}:", path.display()), ""))
    }

    const HASH: &str = "$6$t0i5ITi8siX8eF6z$fpD6jNDvJf3GsGJzp1SvAJf5v2D2AApjCwJPI6OrCD26jVYCAAtucgaO+Jw6DXKilTFXwj0TgWicZFothHg7MA==";

    #[test]
    fn a_password_file_is_read_as_mosquitto_does_and_every_fault_is_told() {
        let good = format!("\u{feff}# users\r\n\r\njoe:{HASH}\r\n ann smith : {HASH} \n");
        let read = |text: &str| read(text.as_bytes(), UsersFormat::Mosquitto);
        assert_eq!(read(&good), Ok(vec!["joe".into(), "ann smith".into()]));
        assert_eq!(read(""), Ok(Vec::new()));
        let bad = format!("joe\njoe:{HASH}\njoe:{HASH}\n:{HASH}\nann:secret\n");
        let told = read(&bad).unwrap_err();
        let lines: Vec<&str> = told.lines().collect();
        let starts = [
            "1: allowed is NAME:HASH",
            "3: `joe` stands twice",
            "4: a user name must not be empty",
            "5: `ann`: it is no hash of mosquitto's, allowed is $7$",
        ];
        assert_eq!(lines.len(), starts.len(), "{told}");
        for (line, start) in lines.iter().zip(starts) {
            assert!(line.starts_with(start), "{line}");
        }
        assert!(
            !told.contains("secret"),
            "what may be a password is not repeated: {told}"
        );
    }

    #[test]
    fn a_table_is_read_by_the_names_of_its_columns() {
        let read = |text: &str, method: &str| {
            let format = UsersFormat::Csv(method.parse().unwrap());
            read(text.as_bytes(), format)
        };
        let two = Ok(vec!["a,b".into(), "c".into()]);
        assert_eq!(read("id, Password ,User\n1,x,\"a,b\"\n2,y,c\n", "plain"), two);
        for (text, method, told) in [
            (
                "user,password\na,\n",
                "plain",
                "2: a password must not be empty or have more than 1024 bytes",
            ),
            ("user,salt\n", "plain", "1: the header names no column `password`"),
            ("", "plain", "1: the header names no column `username`"),
            (
                "user,password\na,xyz\n",
                "md5",
                "2: `a`: it is not 32 hexadecimal digits",
            ),
        ] {
            assert_eq!(read(text, method), Err(told.to_owned()));
        }
        let short = read("user,password\na\n", "plain").unwrap_err();
        assert!(short.starts_with("2: "), "{short}");
    }
}
