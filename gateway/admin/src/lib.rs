//! Who runs the gateway, apart from the users of its devices: administrators with roles, their sessions, API keys, the code that a new gateway is set up
//! with, and the audit log.
//!
//! Nobody is there by default: until the first administrator is made with the code, nobody can log in. Nothing here reads a clock: a [`Moment`] is handed in.

mod audit;
mod keys;
mod lockout;
mod people;
mod remembered;
mod secret;
mod sessions;

pub use audit::{AuditEntry, AuditLog, AuditPage};
pub use keys::{KeyView, NewKey};
pub use lockout::Locked;
pub use people::{AdministratorView, MIN_PASSWORD};
pub use sessions::{Login, SESSIONS_OF_ONE};

use headgate_auth::data_dir::DataDir;
use keys::Key;
use lockout::Lockout;
use parking_lot::Mutex;
use people::{Administrator, Hashed};
use remembered::Remembered;
use schemars::JsonSchema;
use secret::Secret;
use serde::{Deserialize, Serialize};
use sessions::Sessions;
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What somebody may do; each role may do what the ones before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Looks.
    Viewer,
    /// Runs what is there: clients, queues, bridges, messages.
    Operator,
    /// Changes what is there: configuration, users, certificates, administrators.
    Administrator,
}

impl Role {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Administrator => "administrator",
        }
    }
}

/// When something happens.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// By a clock that never jumps.
    pub steady: Instant,
    /// Seconds since 1970.
    pub unix: u64,
}

/// Why somebody does not come in, or a change is not made.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Name, password or code are wrong. Which of them is not said.
    #[error("{0}")]
    Wrong(&'static str),
    /// Too many were wrong.
    #[error(transparent)]
    Locked(#[from] Locked),
    /// There is somebody of this name.
    #[error("there is an administrator `{0}` already")]
    Exists(String),
    /// There is nobody of this name.
    #[error("there is no administrator `{0}`")]
    Unknown(String),
    /// There is a key of this name: rules and the audit log go by it.
    #[error("there is an API key `{0}` already")]
    KeyExists(String),
    /// There is no such key.
    #[error("there is no API key `{0}`")]
    UnknownKey(String),
    /// Somebody must be able to run the gateway.
    #[error("`{0}` is the last with the role administrator: somebody must be able to run the gateway")]
    Last(String),
    /// The gateway has somebody who runs it.
    #[error("the gateway is set up already: log in")]
    SetUp,
    /// A name that nobody may have.
    #[error(
        "a name has 1 to 64 characters, and no control characters or `:`, and does not begin with `key ` or `local user`; none that cannot be seen"
    )]
    Name,
    /// A password that nobody may have.
    #[error("a password has {MIN_PASSWORD} characters or more, and 1,024 bytes at most; it is not the name")]
    Password,
    /// So many keys are enough.
    #[error("there are {0} API keys already: delete some")]
    TooManyKeys(usize),
    /// So many administrators are enough.
    #[error("there are {0} administrators already")]
    TooMany(usize),
    /// A file cannot be read or written.
    #[error("{path}: {cause}")]
    File {
        /// Which one.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: io::Error,
    },
    /// The system has no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(#[from] getrandom::Error),
    /// The password cannot be hashed.
    #[error("the password cannot be hashed: {0}")]
    Hash(String),
}

/// Administrators that there may be.
const MAX_ADMINISTRATORS: usize = 256;
/// API keys that there may be.
const MAX_KEYS: usize = 256;
/// The file of administrators and keys, in the data folder.
const FILE: &str = "administrators.json";
/// The file with the code of a new gateway, in the data folder.
const CODE_FILE: &str = "setup-code";

/// All who run the gateway. Cheap to clone.
#[derive(Clone)]
pub struct Admin(Arc<Inner>);

struct Inner {
    data_dir: DataDir,
    state: Mutex<State>,
    lockout: Mutex<Lockout>,
    /// What a wrong name is checked against, so that it takes as long as a right one.
    nobody: Hashed,
}

struct State {
    people: People,
    sessions: Sessions,
    /// Of a gateway that nobody runs yet.
    code: Option<String>,
    /// When each key was used last, in seconds since 1970; since the start.
    used: BTreeMap<String, u64>,
    /// When each administrator logged in last; since the start.
    seen: BTreeMap<String, u64>,
    /// Whose password was right lately.
    remembered: Remembered,
    /// How often who is there has changed since the start.
    changes: u64,
}

/// What the file holds.
#[derive(Clone, Default)]
struct People {
    administrators: BTreeMap<String, Administrator>,
    keys: BTreeMap<String, Key>,
    later: Later,
}

/// What a later version has written that this one cannot read. A machine may fall back to this version: it lets none of these in, for it does not know what
/// that says, leaves them as they are, and works with all others.
#[derive(Clone, Default)]
struct Later {
    administrators: Fields,
    keys: Fields,
    /// Beside these two.
    more: Fields,
}

type Fields = serde_json::Map<String, serde_json::Value>;

/// Those that this version can read, and the others.
fn apart<T: serde::de::DeserializeOwned>(all: Fields) -> (BTreeMap<String, T>, Fields) {
    let (mut known, mut later) = (BTreeMap::new(), Fields::new());
    for (name, value) in all {
        match T::deserialize(&value) {
            Ok(read) => drop(known.insert(name, read)),
            Err(_) => drop(later.insert(name, value)),
        }
    }
    (known, later)
}

/// Who asks, when that is an API key or a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The administrator's name, or the key's.
    pub name: String,
    /// What it may do.
    pub role: Role,
}

impl Admin {
    /// Reads who is in the data folder. Where nobody is, a code is made, unless there is one.
    pub fn load(data_dir: impl Into<DataDir>, idle: Duration) -> Result<Self, AdminError> {
        let data_dir = data_dir.into();
        let people = People::load(&data_dir.join(FILE).now())?;
        let code = match people.has_administrator() {
            true => None,
            false => Some(read_or_make_code(&data_dir.join(CODE_FILE).now())?),
        };
        Ok(Self(Arc::new(Inner {
            data_dir,
            state: Mutex::new(State {
                people,
                sessions: Sessions::new(idle),
                code,
                used: BTreeMap::new(),
                seen: BTreeMap::new(),
                remembered: Remembered::new()?,
                changes: 0,
            }),
            lockout: Mutex::default(),
            nobody: Hashed::of_nobody()?,
        })))
    }

    /// The code that the first administrator is made with; `None` when there is one.
    pub fn setup_code(&self) -> Option<String> {
        self.0.state.lock().code.clone()
    }

    /// Administrators and keys that a later version has written, and this one cannot read: nobody is let in by them.
    pub fn of_later_version(&self) -> usize {
        let later = &self.0.state.lock().people.later;
        later.administrators.len() + later.keys.len()
    }

    /// Where administrators and keys are kept.
    pub fn file(&self) -> PathBuf {
        self.0.data_dir.join(FILE).now().to_owned()
    }

    /// Where the code stands.
    pub fn code_file(&self) -> PathBuf {
        self.0.data_dir.join(CODE_FILE).now().to_owned()
    }

    /// How long a session may be idle from now on.
    pub fn set_idle(&self, idle: Duration) {
        self.0.state.lock().sessions.set_idle(idle);
    }

    /// Makes the first administrator. Takes tens of milliseconds, as all that has to do with passwords.
    pub fn set_up(
        &self,
        code: &str,
        name: &str,
        password: &str,
        from: IpAddr,
        now: Moment,
    ) -> Result<Login, AdminError> {
        let wanted = self.setup_code().ok_or(AdminError::SetUp)?;
        self.0.lockout.lock().check("", from, now.steady)?;
        if !secret::same(letters(code).as_bytes(), letters(&wanted).as_bytes()) {
            self.0.lockout.lock().failed("", from, now.steady);
            return Err(AdminError::Wrong("the code is wrong"));
        }
        let administrator = Administrator::new(name, password, Role::Administrator, now.unix)?;
        let mut state = self.0.state.lock();
        if state.code.is_none() {
            return Err(AdminError::SetUp);
        }
        self.change(&mut state, |people| {
            people.administrators.insert(name.to_owned(), administrator);
            Ok(())
        })?;
        state.code = None;
        // Who is set up has an administrator: a code that stays is nobody's.
        let _ = headgate_auth::file::remove(&self.0.data_dir.join(CODE_FILE).now());
        state.sessions.begin(name, Role::Administrator, now)
    }

    /// Begins a session. Takes tens of milliseconds, on purpose: off the threads that others wait for.
    pub fn log_in(&self, name: &str, password: &str, from: IpAddr, now: Moment) -> Result<Login, AdminError> {
        let checked = self.checked(name, password, from, now)?;
        let mut state = self.0.state.lock();
        // It may have gone meanwhile, or have another password: then a session of the old one would go on.
        let known = state.people.administrators.get(name);
        let is_the_same = known.is_some_and(|known| known.password == checked.password);
        let role = known
            .filter(|_| is_the_same)
            .map(|known| known.role)
            .ok_or(WRONG)?;
        state.seen.insert(name.to_owned(), now.unix);
        state.sessions.begin(name, role, now)
    }

    /// Whether this is the administrator's password; what it may do then.
    pub fn check_password(
        &self,
        name: &str,
        password: &str,
        from: IpAddr,
        now: Moment,
    ) -> Result<Role, AdminError> {
        Ok(self.checked(name, password, from, now)?.role)
    }

    /// Whose password it is, as that was kept when it was checked.
    fn checked(
        &self,
        name: &str,
        password: &str,
        from: IpAddr,
        now: Moment,
    ) -> Result<Administrator, AdminError> {
        // Counted before it is checked: who asks many times at once has no more tries.
        self.0.lockout.lock().try_one(name, from, now.steady)?;
        let known = self.0.state.lock().people.administrators.get(name).cloned();
        let is_right = known.as_ref().map_or(&self.0.nobody, |known| &known.password);
        let is_right = is_right.verify(password);
        let known = known.filter(|_| is_right).ok_or(WRONG)?;
        self.0.lockout.lock().succeeded(name, from);
        Ok(known)
    }

    /// Who shows a password that was right in the last minutes: it need not be hashed again. `None`: it has to be [checked](Self::check_and_remember). Who is
    /// locked out stays out either way.
    pub fn remembered(
        &self,
        name: &str,
        password: &str,
        from: IpAddr,
        now: Moment,
    ) -> Result<Option<Identity>, AdminError> {
        self.0.lockout.lock().check(name, from, now.steady)?;
        let mut state = self.0.state.lock();
        let known = state.people.administrators.get(name);
        let role = known.map(|known| known.role);
        let is_known = role.is_some() && state.remembered.knows(name, password, now.steady);
        let Some(role) = role.filter(|_| is_known) else {
            return Ok(None);
        };
        state.seen.insert(name.to_owned(), now.unix);
        let name = name.to_owned();
        Ok(Some(Identity { name, role }))
    }

    /// As [`Self::check_password`], for who shows it with each request: it is remembered for some minutes, or until administrators change.
    pub fn check_and_remember(
        &self,
        name: &str,
        password: &str,
        from: IpAddr,
        now: Moment,
    ) -> Result<Identity, AdminError> {
        if let Some(known) = self.remembered(name, password, from, now)? {
            return Ok(known);
        }
        let changes = self.0.state.lock().changes;
        let role = self.check_password(name, password, from, now)?;
        let mut state = self.0.state.lock();
        // It may have another password by now.
        if state.changes == changes {
            state.remembered.keep(name, password, now.steady);
        }
        state.seen.insert(name.to_owned(), now.unix);
        let name = name.to_owned();
        Ok(Identity { name, role })
    }

    /// Who has this session, and what its changes must show. It is idle from now on if somebody `uses` it, and else as before. `None`: it is over, or never was.
    pub fn session(&self, token: &str, uses: bool, now: Moment) -> Option<(Identity, String)> {
        self.0.state.lock().sessions.touch(token, uses, now)
    }

    /// The same, and the session is as idle as before.
    pub fn look(&self, token: &str, now: Moment) -> Option<Identity> {
        let known = self.0.state.lock().sessions.touch(token, false, now);
        known.map(|(who, _)| who)
    }

    /// Ends a session.
    pub fn log_out(&self, token: &str) {
        self.0.state.lock().sessions.end(token);
    }

    /// Who has this API key.
    pub fn key(&self, id: &str, secret: &str, now: Moment) -> Option<Identity> {
        let mut state = self.0.state.lock();
        let key = state.people.keys.get(id).filter(|key| key.is(secret, now.unix))?;
        let identity = Identity {
            name: format!("{}{}", people::KEY, key.name),
            role: key.role,
        };
        state.used.insert(id.to_owned(), now.unix);
        Some(identity)
    }

    /// Whether there is still such a key.
    pub fn has_key(&self, id: &str, now: Moment) -> bool {
        let state = self.0.state.lock();
        state
            .people
            .keys
            .get(id)
            .is_some_and(|key| key.is_valid(now.unix))
    }

    /// How long a session may be idle.
    pub fn idle(&self) -> Duration {
        self.0.state.lock().sessions.idle()
    }

    /// All administrators.
    pub fn administrators(&self) -> Vec<AdministratorView> {
        let state = self.0.state.lock();
        let rows = state.people.administrators.iter();
        rows.map(|(name, known)| known.view(name, state.seen.get(name).copied()))
            .collect()
    }

    /// Whether an administrator may have this name and this password.
    pub fn check(name: &str, password: &str) -> Result<(), AdminError> {
        people::check_name(name)?;
        people::check_password(name, password)
    }

    /// One more.
    pub fn add(&self, name: &str, password: &str, role: Role, now: Moment) -> Result<(), AdminError> {
        let administrator = Administrator::new(name, password, role, now.unix)?;
        let mut state = self.0.state.lock();
        self.change(&mut state, |people| {
            if people.administrators.contains_key(name) {
                return Err(AdminError::Exists(name.to_owned()));
            }
            if people.administrators.len() >= MAX_ADMINISTRATORS {
                return Err(AdminError::TooMany(MAX_ADMINISTRATORS));
            }
            people.administrators.insert(name.to_owned(), administrator);
            Ok(())
        })?;
        if state.code.is_some() && state.people.has_administrator() {
            state.code = None;
            let _ = headgate_auth::file::remove(&self.0.data_dir.join(CODE_FILE).now());
        }
        Ok(())
    }

    /// Another password or role. Its sessions end.
    pub fn alter(&self, name: &str, password: Option<&str>, role: Option<Role>) -> Result<(), AdminError> {
        let hashed = password.map(|password| Hashed::new(name, password)).transpose()?;
        let mut state = self.0.state.lock();
        self.change(&mut state, |people| {
            let known = people.administrators.get_mut(name);
            let known = known.ok_or_else(|| AdminError::Unknown(name.to_owned()))?;
            known.password = hashed.unwrap_or_else(|| known.password.clone());
            known.role = role.unwrap_or(known.role);
            match people.has_administrator() {
                true => Ok(()),
                false => Err(AdminError::Last(name.to_owned())),
            }
        })?;
        state.sessions.end_all_of(name);
        Ok(())
    }

    /// One is gone, with its sessions.
    pub fn remove(&self, name: &str) -> Result<(), AdminError> {
        let mut state = self.0.state.lock();
        self.change(&mut state, |people| {
            let gone = people.administrators.remove(name);
            gone.ok_or_else(|| AdminError::Unknown(name.to_owned()))?;
            match people.has_administrator() {
                true => Ok(()),
                false => Err(AdminError::Last(name.to_owned())),
            }
        })?;
        state.sessions.end_all_of(name);
        Ok(())
    }

    /// All API keys.
    pub fn keys(&self) -> Vec<KeyView> {
        let state = self.0.state.lock();
        let keys = state.people.keys.iter();
        keys.map(|(id, key)| key.view(id, state.used.get(id).copied()))
            .collect()
    }

    /// One more. Its secret is told this once.
    pub fn add_key(
        &self,
        name: &str,
        role: Role,
        lasts: Option<Duration>,
        now: Moment,
    ) -> Result<NewKey, AdminError> {
        people::check_name(name)?;
        let id = format!("hg_{}", secret::hex::<8>()?);
        let secret = Secret::draw()?;
        let expires = lasts.map(|lasts| now.unix.saturating_add(lasts.as_secs()));
        let key = Key::new(name, role, &secret, now.unix, expires);
        let view = key.view(&id, None);
        let mut state = self.0.state.lock();
        self.change(&mut state, |people| {
            if people.keys.values().any(|known| known.name == name) {
                return Err(AdminError::KeyExists(name.to_owned()));
            }
            if people.keys.len() >= MAX_KEYS {
                return Err(AdminError::TooManyKeys(MAX_KEYS));
            }
            people.keys.insert(id.clone(), key);
            Ok(())
        })?;
        Ok(NewKey {
            key: view,
            secret: secret.text().to_owned(),
        })
    }

    /// One is gone.
    pub fn remove_key(&self, id: &str) -> Result<(), AdminError> {
        let mut state = self.0.state.lock();
        self.change(&mut state, |people| {
            let gone = people.keys.remove(id).map(drop);
            gone.ok_or_else(|| AdminError::UnknownKey(id.to_owned()))
        })?;
        state.used.remove(id);
        Ok(())
    }

    /// Changes what is kept, on the disk first.
    fn change(
        &self,
        state: &mut State,
        change: impl FnOnce(&mut People) -> Result<(), AdminError>,
    ) -> Result<(), AdminError> {
        let mut people = state.people.clone();
        change(&mut people)?;
        people.save(&self.0.data_dir.join(FILE).now())?;
        state.people = people;
        state.changes += 1;
        state.remembered.forget_all();
        Ok(())
    }
}

/// A code without what stands between its groups.
fn letters(code: &str) -> String {
    let letters = code.chars().filter(char::is_ascii_alphanumeric);
    letters.map(|letter| letter.to_ascii_uppercase()).collect()
}

const WRONG: AdminError = AdminError::Wrong("name or password are wrong");

impl People {
    /// A file that does not exist holds nobody.
    fn load(path: &Path) -> Result<Self, AdminError> {
        let failed = |cause| AdminError::File {
            path: path.to_owned(),
            cause,
        };
        match headgate_auth::file::read(path, headgate_auth::file::LONGEST) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(failed(error)),
            Ok(bytes) => Self::read(&bytes).map_err(|error| failed(error.into())),
        }
    }

    fn save(&self, path: &Path) -> Result<(), AdminError> {
        let written = self.written().map_err(io::Error::from);
        let written = written.and_then(|bytes| headgate_auth::file::replace(path, &bytes));
        written.map_err(|cause| AdminError::File {
            path: path.to_owned(),
            cause,
        })
    }

    /// A file that says nothing of administrators is broken: it makes no new gateway of this one.
    fn read(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let mut more: Fields = serde_json::from_slice(bytes)?;
        let mut fields = |name: &str| match more.remove(name) {
            Some(serde_json::Value::Object(fields)) => Some(fields),
            _ => None,
        };
        let administrators = fields("administrators").ok_or_else(|| {
            <serde_json::Error as serde::de::Error>::custom("there are no `administrators` in it")
        })?;
        let (administrators, later_administrators) = apart(administrators);
        let (keys, later_keys) = apart(fields("keys").unwrap_or_default());
        Ok(Self {
            administrators,
            keys,
            later: Later {
                administrators: later_administrators,
                keys: later_keys,
                more,
            },
        })
    }

    fn written(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut all = self.later.more.clone();
        // Who was made by this version is one of this version.
        let mut administrators = self.later.administrators.clone();
        for (name, known) in &self.administrators {
            administrators.insert(name.clone(), serde_json::to_value(known)?);
        }
        let mut keys = self.later.keys.clone();
        for (id, known) in &self.keys {
            keys.insert(id.clone(), serde_json::to_value(known)?);
        }
        all.insert("administrators".into(), administrators.into());
        all.insert("keys".into(), keys.into());
        serde_json::to_vec_pretty(&all)
    }

    /// Whether somebody runs the gateway. One of a later version counts, too: who has the code of a new gateway shall not take this one.
    fn has_administrator(&self) -> bool {
        let mut roles = self.administrators.values().map(|known| known.role);
        roles.any(|role| role == Role::Administrator) || !self.later.administrators.is_empty()
    }
}

fn read_or_make_code(path: &Path) -> Result<String, AdminError> {
    let known = headgate_auth::file::read(path, 256).unwrap_or_default();
    let known = String::from_utf8(known).unwrap_or_default();
    let known = known.trim();
    if secret::is_code(known) {
        return Ok(known.to_owned());
    }
    let code = secret::code()?;
    let written = headgate_auth::file::replace(path, format!("{code}\n").as_bytes());
    written.map_err(|cause| AdminError::File {
        path: path.to_owned(),
        cause,
    })?;
    Ok(code)
}

#[cfg(test)]
mod tests;
