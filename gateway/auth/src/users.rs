//! The file of users: names, argon2id hashes and SCRAM-SHA-256 keys, or hashes of other brokers. Written as a whole, or not at all.

use crate::file;
use crate::foreign::hash::{ForeignHash, Known};
use crate::foreign::passwords::{self, ForeignUser, ImportError, UsersFormat};
use crate::scram::ScramKeys;
use argon2::password_hash::{Output, PasswordHash, PasswordHasher, Salt, SaltString};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// Bytes of the longest name and the longest password. Longer ones are nobody's, so nothing needs to be kept of them.
pub(crate) const LONGEST: usize = 1_024;

/// A user who may connect.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct User {
    password: Password,
}

/// What is kept of a password.
#[derive(Clone, PartialEq, Eq)]
enum Password {
    Own {
        /// PHC string.
        argon2id: String,
        scram_sha_256: ScramKeys,
    },
    Foreign(ForeignHash),
}

/// A user as the file has it.
#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Written {
    #[serde(skip_serializing_if = "Option::is_none")]
    argon2id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scram_sha_256: Option<ScramKeys>,
    #[serde(skip_serializing_if = "Option::is_none")]
    foreign: Option<ForeignHash>,
}

impl TryFrom<Written> for User {
    type Error = UsersError;

    fn try_from(written: Written) -> Result<Self, UsersError> {
        let password = match (written.argon2id, written.scram_sha_256, written.foreign) {
            (Some(argon2id), Some(scram_sha_256), None) => Password::Own {
                argon2id,
                scram_sha_256,
            },
            (None, None, Some(hash)) => {
                let hash = hash.affordable();
                Password::Foreign(hash.map_err(|e| UsersError::Hash(e.to_string()))?)
            }
            _ => return Err(UsersError::Kept),
        };
        Ok(Self { password })
    }
}

impl From<User> for Written {
    fn from(user: User) -> Self {
        match user.password {
            Password::Own {
                argon2id,
                scram_sha_256,
            } => Self {
                argon2id: Some(argon2id),
                scram_sha_256: Some(scram_sha_256),
                foreign: None,
            },
            Password::Foreign(hash) => Self {
                foreign: Some(hash),
                ..Self::default()
            },
        }
    }
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
        #[source]
        cause: std::io::Error,
    },
    /// Somebody else could name users.
    #[error(
        "{path}: others can change it: it must belong to root or to the gateway's user, and be writable by its owner alone"
    )]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The gateway has taken it with its data.
    #[error("the users went to another folder meanwhile (data_dir): try again")]
    Moved,
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
    #[error("a user name must not be empty, hold a control character, or have more than {LONGEST} bytes")]
    Name,
    /// A password nobody may have.
    #[error("a password must not be empty or have more than {LONGEST} bytes")]
    Password,
    /// There is no such user.
    #[error("there is no user `{0}`")]
    Unknown(String),
    /// The file keeps something else of a user.
    #[error("a user has `argon2id` and `scram_sha_256`, or `foreign`")]
    Kept,
    /// Users of another broker cannot be taken over.
    #[error(transparent)]
    Import(#[from] Box<ImportError>),
    /// The system has no random numbers, or no memory for a hash.
    #[error("the password cannot be hashed: {0}")]
    Hash(String),
}

/// Whether others than root and this process's user can change the file. Root may work on the file of whoever has its folder: that is the gateway's user.
fn is_foreign(file: &File, path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let ours = rustix::process::geteuid().as_raw();
        let folder = path.parent().and_then(|folder| std::fs::metadata(folder).ok());
        let gateways = folder.filter(|_| ours == 0).map_or(ours, |folder| folder.uid());
        let is =
            |data: std::fs::Metadata| ![0, ours, gateways].contains(&data.uid()) || data.mode() & 0o002 != 0;
        file.metadata().is_ok_and(is)
    }
    #[cfg(not(unix))]
    {
        let _ = (file, path);
        false
    }
}

/// The folder of the file, if it is not there: [`Users::save`] makes it.
pub fn missing_folder(path: &Path) -> Option<&Path> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty())?;
    (!folder.exists()).then_some(folder)
}

/// How many users of another broker were taken over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Imported {
    /// New ones.
    pub added: usize,
    /// Those that were there already, with another password now.
    pub replaced: usize,
    /// Those that were there already, and stay as they were.
    pub kept: usize,
}

/// A name that somebody may have.
pub(crate) fn check_name(name: &str) -> Result<(), UsersError> {
    let is_wrong = name.is_empty() || name.len() > LONGEST || name.chars().any(char::is_control);
    if is_wrong { Err(UsersError::Name) } else { Ok(()) }
}

/// A password that somebody may have.
pub(crate) fn check_password(password: &str) -> Result<(), UsersError> {
    let is_wrong = password.is_empty() || password.len() > LONGEST;
    if is_wrong {
        Err(UsersError::Password)
    } else {
        Ok(())
    }
}

/// All users.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Users(BTreeMap<String, Arc<User>>, Later);

/// What a later version keeps of users beside what this one knows. A machine may fall back to this version: it lets none of these in, for it does not know
/// what that says, leaves them as they are, and works with all others.
type Later = BTreeMap<String, serde_json::Value>;

/// What this version knows of a user.
const KNOWN: [&str; 3] = ["argon2id", "scram_sha_256", "foreign"];

/// The users of a text, and those of a later version.
fn users_in(text: &str) -> Result<Users, serde_json::Error> {
    let shared = |users: BTreeMap<String, User>| {
        let users = users.into_iter();
        users.map(|(name, user)| (name, Arc::new(user))).collect()
    };
    let error = match serde_json::from_str(text) {
        Ok(users) => return Ok(Users(shared(users), Later::new())),
        Err(error) => error,
    };
    let Ok(all) = serde_json::from_str::<Later>(text) else {
        return Err(error);
    };
    let is_later = |user: &serde_json::Value| {
        let keys = user.as_object().map(|user| user.keys());
        keys.is_some_and(|mut keys| keys.any(|key| !KNOWN.contains(&key.as_str())))
    };
    let (later, known): (Later, Later) = all.into_iter().partition(|(_, user)| is_later(user));
    let known = serde_json::from_value(serde_json::Value::Object(known.into_iter().collect()));
    // What is wrong with the others was said with its place.
    let known = known.map_err(|_| error)?;
    let names: Vec<&str> = later.keys().map(String::as_str).take(10).collect();
    tracing::warn!(
        users = later.len(),
        ?names,
        "a later version has written these users: nobody is let in by them"
    );
    Ok(Users(shared(known), later))
}

impl Users {
    /// Reads the file; one that does not exist holds nobody.
    pub fn load(path: &Path) -> Result<Self, UsersError> {
        let longest = file::LONGEST;
        let text = match file::open(path) {
            Ok(file) if is_foreign(&file, path) => {
                return Err(UsersError::Foreign {
                    path: path.to_owned(),
                });
            }
            Ok(file) => std::io::read_to_string(std::io::Read::take(file, longest)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => Err(error),
        };
        let text = text.map_err(|cause| UsersError::Io {
            path: path.to_owned(),
            cause,
        })?;
        users_in(&text).map_err(|cause| UsersError::Format {
            path: path.to_owned(),
            line: cause.line(),
            column: cause.column(),
            cause,
        })
    }

    /// Writes the file: beside it first, then over it, readable by its owner alone.
    pub fn save(&self, path: &Path) -> Result<(), UsersError> {
        #[derive(Serialize)]
        #[serde(untagged)]
        enum Kept<'a> {
            Known(&'a User),
            Later(&'a serde_json::Value),
        }
        let known = self.0.iter().map(|(name, user)| (name, Kept::Known(user)));
        let later = self.1.iter().map(|(name, user)| (name, Kept::Later(user)));
        // Who was given a password by this version is one of this version.
        let users: BTreeMap<&String, Kept<'_>> = later.chain(known).collect();
        file::replace_with_json(path, &users).map_err(|cause| UsersError::Io {
            path: path.to_owned(),
            cause,
        })
    }

    /// Whether somebody may have this name and this password.
    pub fn check(name: &str, password: &str) -> Result<(), UsersError> {
        check_name(name)?;
        check_password(password)
    }

    /// Adds a user, or gives one a new password. True for a new one.
    pub fn set(&mut self, name: &str, password: &str) -> Result<bool, UsersError> {
        check_name(name)?;
        check_password(password)?;
        let user = User::with_password(password.as_bytes())?;
        self.1.remove(name);
        Ok(self.0.insert(name.to_owned(), Arc::new(user)).is_none())
    }

    /// Takes over users of another broker with their hashes; who has a name already is kept as it is, unless it shall be replaced. All or none.
    pub fn import(
        &mut self,
        path: &Path,
        format: UsersFormat,
        replace: bool,
    ) -> Result<Imported, UsersError> {
        let users = passwords::users(path, format).map_err(Box::new)?;
        self.take(users, replace)
    }

    /// The same with users that were read already. Passwords are hashed now, which takes tens of milliseconds each.
    pub fn take(
        &mut self,
        others: impl IntoIterator<Item = ForeignUser>,
        replace: bool,
    ) -> Result<Imported, UsersError> {
        let mut imported = Imported::default();
        let mut users = self.0.clone();
        for other in others {
            let name = other.name().to_owned();
            let is_there = users.contains_key(&name);
            if is_there && !replace {
                imported.kept += 1;
                continue;
            }
            let user = match other.known {
                Known::Password(password) => User::with_password(password.as_bytes())?,
                Known::Hash(hash) => User {
                    password: Password::Foreign(hash),
                },
            };
            users.insert(name, Arc::new(user));
            imported.added += usize::from(!is_there);
            imported.replaced += usize::from(is_there);
        }
        self.0 = users;
        Ok(imported)
    }

    /// Reads the file, changes what it says and writes it, while nobody else does: neither a command nor a gateway.
    pub fn change<T>(
        path: &Path,
        change: impl FnOnce(&mut Self) -> Result<T, UsersError>,
    ) -> Result<(T, Self), UsersError> {
        let locked = Self::lock(path).and_then(|file| file.lock().map(|()| file));
        let lock = locked.map_err(|cause| UsersError::Io {
            path: path.with_extension("lock"),
            cause,
        })?;
        let mut users = Self::load(path)?;
        let done = change(&mut users)?;
        users.save(path)?;
        drop(lock);
        Ok((done, users))
    }

    /// What is locked while the file is read and written. It is made, with its folder.
    pub fn lock(path: &Path) -> std::io::Result<File> {
        std::fs::create_dir_all(file::folder_of(path))?;
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(false);
        // A pipe would be waited for.
        let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOFOLLOW;
        options.mode(0o600).custom_flags(flags.bits().cast_signed());
        options.open(path.with_extension("lock"))
    }

    /// Another user in the place of this one, if it is still there.
    pub(crate) fn renew(&mut self, name: &str, old: &User, new: &Arc<User>) {
        if let Some(user) = self.0.get_mut(name).filter(|user| ***user == *old) {
            *user = Arc::clone(new);
        }
    }

    /// Removes a user.
    pub fn remove(&mut self, name: &str) -> Result<(), UsersError> {
        self.0
            .remove(name)
            .map(drop)
            .or_else(|| self.1.remove(name).map(drop))
            .ok_or_else(|| UsersError::Unknown(name.to_owned()))
    }

    /// All names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Whether there is such a user.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Whether this is the user's password, as SCRAM has it; `None` if there is no such user. Takes about a millisecond. A hash of another
    /// broker, which may take longer, is not checked.
    pub fn has_password(&self, name: &str, password: &str) -> Option<bool> {
        let user = self.0.get(name)?;
        let keys = user.scram();
        Some(keys.is_none_or(|keys| keys.are_of(password.as_bytes())))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Arc<User>> {
        self.0.get(name)
    }
}

/// What a check works in, kept for the next one.
#[derive(Debug, Default)]
pub(crate) struct Memory(Vec<Block>);

/// What came of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Wrong,
    Right,
    /// Right, and what is kept of it from now on.
    Renewed(Arc<User>),
}

impl User {
    fn with_password(password: &[u8]) -> Result<Self, UsersError> {
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).map_err(|e| UsersError::Hash(e.to_string()))?;
        let encoded = SaltString::encode_b64(&salt).map_err(|e| UsersError::Hash(e.to_string()))?;
        let hash = Argon2::default()
            .hash_password(password, &encoded)
            .map_err(|e| UsersError::Hash(e.to_string()))?;
        let mut scram_salt = [0; 16];
        getrandom::fill(&mut scram_salt).map_err(|e| UsersError::Hash(e.to_string()))?;
        let password = Password::Own {
            argon2id: hash.to_string(),
            scram_sha_256: ScramKeys::derive(password, &scram_salt),
        };
        Ok(Self { password })
    }

    /// Whether this is the password. Takes tens of milliseconds, on purpose: a hash of another broker takes as long as one of ours, and its own time.
    pub(crate) fn verify(&self, password: &[u8], memory: &mut Memory) -> Verdict {
        match &self.password {
            Password::Own { argon2id, .. } => match matches(argon2id, password, memory) {
                Some(true) => Verdict::Right,
                Some(false) | None => Verdict::Wrong,
            },
            Password::Foreign(hash) if hash.verify(password) => match Self::with_password(password) {
                Ok(user) => Verdict::Renewed(Arc::new(user)),
                Err(error) => {
                    tracing::warn!(%error, "the hash of another broker is not renewed");
                    Verdict::Right
                }
            },
            Password::Foreign(_) => {
                if let Ok(Password::Own { argon2id, .. }) = Self::nobody().map(|nobody| nobody.password) {
                    matches(&argon2id, password, memory);
                }
                Verdict::Wrong
            }
        }
    }

    /// The keys for SCRAM; `None` until the hash of another broker is renewed.
    pub(crate) fn scram(&self) -> Option<&ScramKeys> {
        match &self.password {
            Password::Own { scram_sha_256, .. } => Some(scram_sha_256),
            Password::Foreign(_) => None,
        }
    }

    /// What is stored: another text after every change.
    pub(crate) fn stored(&self) -> Cow<'_, str> {
        match &self.password {
            Password::Own { argon2id, .. } => argon2id.into(),
            Password::Foreign(hash) => serde_json::to_string(hash).unwrap_or_default().into(),
        }
    }

    /// Somebody nobody is, with a hash that was drawn and not computed: checking a password against it takes as long as against a real one, so that an
    /// unknown name cannot be told from a wrong password.
    pub(crate) fn nobody() -> Result<Self, UsersError> {
        let mut random = [0; 48];
        getrandom::fill(&mut random).map_err(|e| UsersError::Hash(e.to_string()))?;
        let wrong = |e: argon2::password_hash::Error| UsersError::Hash(e.to_string());
        let (salt, hash) = random.split_at(16);
        let salt = SaltString::encode_b64(salt).map_err(wrong)?;
        let hash = PasswordHash {
            algorithm: Algorithm::default().ident(),
            version: Some(Version::default().into()),
            params: Params::default().try_into().map_err(wrong)?,
            salt: Some(salt.as_salt()),
            hash: Some(Output::new(hash).map_err(wrong)?),
        };
        let password = Password::Own {
            argon2id: hash.to_string(),
            scram_sha_256: ScramKeys::of_nobody(&random, ""),
        };
        Ok(Self { password })
    }
}

fn matches(argon2id: &str, password: &[u8], memory: &mut Memory) -> Option<bool> {
    let hash = PasswordHash::new(argon2id).ok()?;
    let algorithm = Algorithm::try_from(hash.algorithm).ok()?;
    let version = hash
        .version
        .map_or(Ok(Version::default()), Version::try_from)
        .ok()?;
    let params = Params::try_from(&hash).ok()?;
    let mut salt = [0; Salt::MAX_LENGTH];
    let salt = hash.salt?.decode_b64(&mut salt).ok()?;
    let expected = hash.hash?;
    if memory.0.len() < params.block_count() {
        memory.0.resize(params.block_count(), Block::default());
    }
    let mut found = [0; Output::MAX_LENGTH];
    let found = &mut found[..expected.len()];
    let argon2 = Argon2::new(algorithm, version, params);
    argon2
        .hash_password_into_with_memory(password, salt, found, &mut memory.0[..])
        .ok()?;
    Some(found.ct_eq(expected.as_bytes()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine may fall back to this version: nobody is lost by that, and nobody is let in who has more to show by now.
    #[test]
    fn users_of_a_later_version_are_kept_and_not_let_in() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.json");
        let mut users = Users::default();
        users.set("joe", "hunter2").unwrap();
        users.set("ann", "hunter2").unwrap();
        users.save(&path).unwrap();
        let mut text: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        text["ann"]["second_factor"] = "totp".into();
        std::fs::write(&path, text.to_string()).unwrap();
        let read =
            || -> serde_json::Value { serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap() };

        let mut users = Users::load(&path).unwrap();
        assert_eq!(users.names().collect::<Vec<_>>(), ["joe"]);
        assert_eq!(users.has_password("ann", "hunter2"), None);
        users.set("eve", "hunter2").unwrap();
        users.save(&path).unwrap();
        assert_eq!(read()["ann"], text["ann"], "as the later version left it");
        assert_eq!(
            Users::load(&path).unwrap().names().collect::<Vec<_>>(),
            ["eve", "joe"]
        );

        // Who is removed or gets a password here is this version's.
        users.set("ann", "hunter3").unwrap();
        users.save(&path).unwrap();
        assert_eq!(
            Users::load(&path).unwrap().has_password("ann", "hunter3"),
            Some(true)
        );
        std::fs::write(&path, text.to_string()).unwrap();
        let mut users = Users::load(&path).unwrap();
        users.remove("ann").unwrap();
        users.save(&path).unwrap();
        assert_eq!(read().get("ann"), None);

        // What is wrong otherwise is wrong as ever.
        text["joe"]["argon2id"] = 7.into();
        std::fs::write(&path, text.to_string()).unwrap();
        assert!(matches!(Users::load(&path), Err(UsersError::Format { .. })));
    }

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
        let mut memory = Memory::default();
        let passwords = [("joe", "hunter3"), ("joe", "hunter2"), ("ann", "hunter3")];
        let fit = passwords.map(|(name, password)| loaded.has_password(name, password));
        assert_eq!(fit, [Some(true), Some(false), None]);
        assert_eq!(
            loaded.get("joe").unwrap().verify(b"hunter3", &mut memory),
            Verdict::Right
        );
        assert_eq!(
            loaded.get("joe").unwrap().verify(b"hunter2", &mut memory),
            Verdict::Wrong
        );
        assert_eq!(
            loaded.get("joe").unwrap().verify(b"hunter3", &mut memory),
            Verdict::Right,
            "memory is used again"
        );
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

    /// Nobody's hash has the cost of everybody's.
    #[test]
    fn nobody_takes_as_long_as_somebody() {
        let mut users = Users::default();
        users.set("joe", "hunter2").unwrap();
        let cost = |user: &User| {
            let hash = user.stored().into_owned();
            let hash = PasswordHash::new(&hash).unwrap();
            let hash_len = hash.hash.unwrap().len();
            (
                hash.algorithm.to_string(),
                hash.version,
                hash.params.to_string(),
                hash_len,
            )
        };
        let nobody = User::nobody().unwrap();
        assert_eq!(cost(&nobody), cost(users.get("joe").unwrap()));
        assert_eq!(
            matches(&nobody.stored(), b"hunter2", &mut Memory::default()),
            Some(false)
        );
    }

    #[test]
    fn names_and_passwords_must_be_something() {
        let mut users = Users::default();
        assert!(matches!(users.set("", "x"), Err(UsersError::Name)));
        assert!(matches!(users.set("joe", ""), Err(UsersError::Password)));
        let long = "x".repeat(LONGEST + 1);
        assert!(matches!(users.set(&long, "x"), Err(UsersError::Name)));
        assert!(matches!(users.set("joe", &long), Err(UsersError::Password)));
        assert!(matches!(users.remove("joe"), Err(UsersError::Unknown(_))));
    }
}
