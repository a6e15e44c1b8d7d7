//! Users of the file that `headgate users` keeps.

use crate::chain::{Attempt, Checking, Provider, Verdict};
use crate::fair::Origin;
use crate::hashing::{Busy, Hashing};
use crate::remembered::Remembered;
use crate::scram::ScramKeys;
use crate::service::{AccessError, LoginStats};
use crate::settings::PasswordSettings;
use crate::users::{LONGEST, User, Users};
use headgate_model::access::AuthRefusal;
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// How often the file of users is looked at, at most.
const RELOAD: Duration = Duration::from_secs(1);

/// The users, and what it takes to check their passwords.
#[derive(Debug)]
pub(crate) struct UserStore {
    file: Mutex<UsersFile>,
    nobody: Arc<User>,
    /// Seeds what unknown names are shown.
    secret: [u8; 32],
    hashing: Hashing,
    remembered: Remembered,
    remembered_count: AtomicU64,
}

#[derive(Debug)]
struct UsersFile {
    path: PathBuf,
    users: Arc<Users>,
    version: Option<FileVersion>,
    looked: Instant,
}

/// What tells one version of the file from the next: it is replaced as a whole.
type FileVersion = (SystemTime, u64, u64);

impl UserStore {
    /// Reads the users.
    pub(crate) fn load(path: PathBuf, passwords: &PasswordSettings) -> Result<Self, AccessError> {
        let (mut secret, mut key) = ([0; 32], [0; 32]);
        getrandom::fill(&mut secret)?;
        getrandom::fill(&mut key)?;
        let file = UsersFile {
            users: Arc::new(Users::load(&path)?),
            version: version(&path),
            path,
            looked: Instant::now(),
        };
        Ok(Self {
            file: Mutex::new(file),
            nobody: Arc::new(User::nobody()?),
            secret,
            hashing: Hashing::new(passwords),
            remembered: Remembered::new(key, passwords.remember),
            remembered_count: AtomicU64::new(0),
        })
    }

    /// What was counted.
    pub(crate) fn stats(&self) -> LoginStats {
        let counts = self.hashing.counts();
        LoginStats {
            checked: counts.checked.load(Ordering::Relaxed),
            remembered: self.remembered_count.load(Ordering::Relaxed),
            busy: counts.busy.load(Ordering::Relaxed),
            left: counts.left.load(Ordering::Relaxed),
            waiting: self.hashing.waiting() as u64,
        }
    }

    /// The SCRAM keys of a user; of an unknown name some that nobody has.
    pub(crate) fn scram_keys(&self, name: &str) -> ScramKeys {
        match self.users().get(name) {
            Some(user) => user.scram_sha_256.clone(),
            None => ScramKeys::of_nobody(&self.secret, name),
        }
    }

    /// The users, as the file has them now. A file that cannot be read keeps the old ones.
    fn users(&self) -> Arc<Users> {
        let mut file = self.file.lock();
        if file.looked.elapsed() >= RELOAD {
            file.looked = Instant::now();
            let now = version(&file.path);
            if now != file.version {
                file.version = now;
                match Users::load(&file.path) {
                    Ok(users) => {
                        tracing::info!(count = users.names().count(), "users read again");
                        let old = std::mem::replace(&mut file.users, Arc::new(users));
                        let new = &file.users;
                        self.remembered
                            .retain(|name| new.get(name).is_some_and(|user| old.get(name) == Some(user)));
                    }
                    Err(error) => tracing::error!(%error, "users not read again: the old ones stay"),
                }
            }
        }
        Arc::clone(&file.users)
    }

    /// Whether this is the password of the user of this name. An unknown name takes as long as a wrong password.
    async fn password_is_right(&self, name: &str, password: &[u8], from: Origin) -> Result<bool, Busy> {
        let user = self.users().get(name).cloned();
        let known = user.is_some() && password.len() <= LONGEST;
        let user = user.unwrap_or_else(|| Arc::clone(&self.nobody));
        let password = &password[..password.len().min(LONGEST)];
        let tag = self.remembered.tag(name, password, &user);
        if known && self.remembered.knows(name, &tag, Instant::now()) {
            self.remembered_count.fetch_add(1, Ordering::Relaxed);
            return Ok(true);
        }
        let right = self.hashing.check(from, user, password).await? && known;
        if right {
            self.remembered.add(name, tag, Instant::now());
        }
        Ok(right)
    }
}

fn version(path: &Path) -> Option<FileVersion> {
    let meta = std::fs::metadata(path).ok()?;
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(&meta);
    #[cfg(not(unix))]
    let inode = 0;
    Some((meta.modified().ok()?, meta.len(), inode))
}

impl Provider for UserStore {
    fn name(&self) -> &'static str {
        "users"
    }

    fn check<'a>(&'a self, attempt: &'a Attempt) -> Checking<'a> {
        Box::pin(async move {
            let Some(name) = &attempt.username else {
                return Verdict::Ignore;
            };
            let known = self.users().get(name).is_some();
            if !known && attempt.may_be_anonymous {
                return Verdict::Ignore;
            }
            let password = attempt.password.as_deref().unwrap_or_default();
            match self
                .password_is_right(name, password, attempt.address.into())
                .await
            {
                Ok(true) => Verdict::Allow(Some(Arc::clone(name))),
                Ok(false) if known => {
                    Verdict::deny("wrong user name or password", AuthRefusal::BadUserNameOrPassword)
                }
                Ok(false) => Verdict::Ignore,
                Err(Busy) => Verdict::deny("too many log-ins wait", AuthRefusal::Busy),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    async fn log_in(users: &UserStore, name: &str, password: &str) -> bool {
        let origin = IpAddr::V4(Ipv4Addr::LOCALHOST).into();
        users
            .password_is_right(name, password.as_bytes(), origin)
            .await
            .unwrap()
    }

    fn set(path: &Path, name: &str, password: &str) {
        let mut users = Users::load(path).unwrap();
        users.set(name, password).unwrap();
        users.save(path).unwrap();
    }

    /// Once checked, a password costs no hash, until the user has another one or is gone. What is wrong is checked every time.
    #[tokio::test]
    async fn a_right_password_is_hashed_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.json");
        set(&path, "joe", "one");
        let store = UserStore::load(folder.path().join("users.json"), &PasswordSettings::default()).unwrap();
        for _ in 0..3 {
            assert!(log_in(&store, "joe", "one").await);
            assert!(!log_in(&store, "joe", "two").await);
            assert!(!log_in(&store, "ann", "one").await, "an unknown name");
        }
        let stats = store.stats();
        assert_eq!((stats.checked, stats.remembered), (7, 2));

        set(&path, "joe", "two");
        store.file.lock().looked = Instant::now().checked_sub(RELOAD).unwrap();
        assert!(!log_in(&store, "joe", "one").await);
        assert_eq!(store.remembered.len(), 0);
        assert!(log_in(&store, "joe", "two").await && log_in(&store, "joe", "two").await);
        assert_eq!(store.stats().remembered, 3);

        std::fs::remove_file(&path).unwrap();
        store.file.lock().looked = Instant::now().checked_sub(RELOAD).unwrap();
        assert!(!log_in(&store, "joe", "two").await);
        assert_eq!(store.remembered.len(), 0);
    }

    /// What is longer than anybody's is wrong, also when its beginning is right.
    #[tokio::test]
    async fn a_longer_password_than_any_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let longest = "x".repeat(LONGEST);
        set(&folder.path().join("users.json"), "joe", &longest);
        let store = UserStore::load(folder.path().join("users.json"), &PasswordSettings::default()).unwrap();
        assert!(log_in(&store, "joe", &longest).await);
        assert!(!log_in(&store, "joe", &format!("{longest}x")).await);
    }
}
