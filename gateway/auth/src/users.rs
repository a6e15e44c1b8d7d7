//! The file of users: names, argon2id hashes and SCRAM-SHA-256 keys. Written as a whole, or not at all.

use crate::scram::ScramKeys;
use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

/// A user who may connect.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// PHC string.
    argon2id: String,
    pub(crate) scram_sha_256: ScramKeys,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("User(..)")
    }
}

/// What is wrong with the users, or with their file.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    /// The file cannot be read or written.
    #[error("{path}: {cause}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The file is not what this program writes.
    #[error("{path}:{line}:{column}: {cause}")]
    Format {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// What is wrong.
        cause: serde_json::Error,
    },
    /// A name nobody may have.
    #[error("a user name must not be empty nor hold a control character")]
    Name,
    /// A password nobody may have.
    #[error("a password must not be empty")]
    Password,
    /// There is no such user.
    #[error("there is no user `{0}`")]
    Unknown(String),
    /// The system has no random numbers, or no memory for a hash.
    #[error("the password cannot be hashed: {0}")]
    Hash(String),
}

/// All users.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Users(BTreeMap<String, User>);

impl Users {
    /// Reads the file; one that does not exist holds nobody.
    pub fn load(path: &Path) -> Result<Self, UsersError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(cause) => {
                return Err(UsersError::Io {
                    path: path.to_owned(),
                    cause,
                });
            }
        };
        serde_json::from_str(&text)
            .map(Self)
            .map_err(|cause| UsersError::Format {
                path: path.to_owned(),
                line: cause.line(),
                column: cause.column(),
                cause,
            })
    }

    /// Writes the file: beside it first, then over it, readable by its owner alone.
    pub fn save(&self, path: &Path) -> Result<(), UsersError> {
        let write = || -> std::io::Result<()> {
            if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                std::fs::create_dir_all(folder)?;
            }
            let beside = path.with_extension("new");
            let mut options = std::fs::OpenOptions::new();
            options.write(true).create(true).truncate(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let mut file = options.open(&beside)?;
            file.write_all(serde_json::to_string_pretty(&self.0)?.as_bytes())?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            std::fs::rename(&beside, path)
        };
        write().map_err(|cause| UsersError::Io {
            path: path.to_owned(),
            cause,
        })
    }

    /// Adds a user, or gives one a new password. True for a new one.
    pub fn set(&mut self, name: &str, password: &str) -> Result<bool, UsersError> {
        if name.is_empty() || name.chars().any(char::is_control) {
            return Err(UsersError::Name);
        }
        if password.is_empty() {
            return Err(UsersError::Password);
        }
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).map_err(|e| UsersError::Hash(e.to_string()))?;
        let encoded = SaltString::encode_b64(&salt).map_err(|e| UsersError::Hash(e.to_string()))?;
        let hash = Argon2::default()
            .hash_password(password.as_bytes(), &encoded)
            .map_err(|e| UsersError::Hash(e.to_string()))?;
        let mut scram_salt = [0; 16];
        getrandom::fill(&mut scram_salt).map_err(|e| UsersError::Hash(e.to_string()))?;
        let scram_sha_256 = ScramKeys::derive(password.as_bytes(), &scram_salt);
        let user = User {
            argon2id: hash.to_string(),
            scram_sha_256,
        };
        Ok(self.0.insert(name.to_owned(), user).is_none())
    }

    /// Removes a user.
    pub fn remove(&mut self, name: &str) -> Result<(), UsersError> {
        self.0
            .remove(name)
            .map(drop)
            .ok_or_else(|| UsersError::Unknown(name.to_owned()))
    }

    /// All names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&User> {
        self.0.get(name)
    }
}

impl User {
    /// Whether this is the password. Takes tens of milliseconds, on purpose.
    pub fn verify(&self, password: &[u8]) -> bool {
        let Ok(hash) = PasswordHash::new(&self.argon2id) else {
            return false;
        };
        Argon2::default().verify_password(password, &hash).is_ok()
    }

    /// Somebody nobody is: checking a password against it takes as long as against a real one, so that an unknown name cannot be told from a
    /// wrong password.
    pub fn nobody() -> Result<Self, UsersError> {
        let mut password = [0; 16];
        getrandom::fill(&mut password).map_err(|e| UsersError::Hash(e.to_string()))?;
        let mut users = Users::default();
        users.set("nobody", &format!("{password:02x?}"))?;
        users.0.remove("nobody").ok_or(UsersError::Name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_kept_as_hashes_and_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/users.json");
        assert_eq!(Users::load(&path).unwrap(), Users::default(), "no file, no users");
        let mut users = Users::default();
        assert!(users.set("joe", "hunter2").unwrap());
        assert!(
            !users.set("joe", "hunter3").unwrap(),
            "a new password for an old user"
        );
        users.save(&path).unwrap();

        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("$argon2id$") && !text.contains("hunter"), "{text}");
        let loaded = Users::load(&path).unwrap();
        assert!(loaded.get("joe").unwrap().verify(b"hunter3"));
        assert!(!loaded.get("joe").unwrap().verify(b"hunter2"));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(
                std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
                0o600
            );
        }
    }

    #[test]
    fn a_damaged_file_is_refused_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.json");
        std::fs::write(&path, "{\n  \"joe\": 7\n}\n").unwrap();
        let error = Users::load(&path).unwrap_err().to_string();
        assert!(error.contains("users.json:2:"), "{error}");
    }

    #[test]
    fn names_and_passwords_must_be_something() {
        let mut users = Users::default();
        assert!(matches!(users.set("", "x"), Err(UsersError::Name)));
        assert!(matches!(users.set("joe", ""), Err(UsersError::Password)));
        assert!(matches!(users.remove("joe"), Err(UsersError::Unknown(_))));
    }
}
