//! Users of the file that `headgate users` keeps.

use crate::chain::{Attempt, Checking, Prospect, Provider, Verdict};
use crate::data_dir::DataPath;
use crate::fair::Origin;
use crate::hashing::{Busy, Hashing};
use crate::remembered::Remembered;
use crate::renewals::Renewals;
use crate::scram::ScramKeys;
use crate::service::{AccessError, LoginStats};
use crate::settings::PasswordSettings;
use crate::users::{self, LONGEST, User, Users};
use headgate_model::access::AuthRefusal;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// How often the file of users is looked at, at most.
const RELOAD: Duration = Duration::from_secs(1);
/// How long renewed hashes wait for others, to be written together.
const GATHER: Duration = Duration::from_secs(5);

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
    renewals: Renewals,
}

#[derive(Debug)]
struct UsersFile {
    path: DataPath,
    users: Arc<Users>,
    version: Option<FileVersion>,
    looked: Instant,
}

/// What tells one version of the file from the next: it is replaced as a whole.
type FileVersion = (SystemTime, u64, u64);

impl UserStore {
    /// Reads the users.
    pub(crate) fn load(path: DataPath, passwords: &PasswordSettings) -> Result<Self, AccessError> {
        let (mut secret, mut key) = ([0; 32], [0; 32]);
        getrandom::fill(&mut secret)?;
        getrandom::fill(&mut key)?;
        let (users, version) = (Users::load(&path.now())?, version(&path.now()));
        let file = UsersFile {
            users: Arc::new(users),
            version,
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
            renewals: Renewals::default(),
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

    /// The SCRAM keys of a user of these; of an unknown name some that nobody has.
    pub(crate) fn scram_keys(&self, name: &str, among: Option<&HashSet<String>>) -> ScramKeys {
        let user = self.user(name, among);
        match user.as_ref().and_then(|user| user.scram()) {
            Some(keys) => keys.clone(),
            None => ScramKeys::of_nobody(&self.secret, name),
        }
    }

    /// The users, as the file has them now. A file that cannot be read keeps the old ones.
    fn users(&self) -> Arc<Users> {
        self.users_looking_after(RELOAD)
    }

    /// The file has changed: what it says is valid when this returns.
    pub(crate) fn look(&self) {
        self.users_looking_after(Duration::ZERO);
    }

    fn users_looking_after(&self, pause: Duration) -> Arc<Users> {
        let mut file = self.file.lock();
        if file.looked.elapsed() >= pause {
            file.looked = Instant::now();
            let now = version(&file.path.now());
            if now != file.version {
                file.version = now;
                let read = Users::load(&file.path.now());
                match read {
                    Ok(users) => {
                        tracing::info!(count = users.names().count(), "users read again");
                        self.take_over(&mut file, users, |_| false);
                    }
                    Err(error) => tracing::error!(%error, "users not read again: the old ones stay"),
                }
            }
        }
        Arc::clone(&file.users)
    }

    /// Who has this name and is one of these, with a hash that was just renewed too.
    fn user(&self, name: &str, among: Option<&HashSet<String>>) -> Option<Arc<User>> {
        if among.is_some_and(|names| !names.contains(name)) {
            return None;
        }
        let user = Arc::clone(self.users().get(name)?);
        Some(self.renewals.current(name, user))
    }

    /// Whether this is the password of the user of this name. An unknown name takes as long as a wrong password.
    async fn password_is_right(
        self: &Arc<Self>,
        name: &str,
        among: Option<&HashSet<String>>,
        password: &[u8],
        from: Origin,
    ) -> Result<bool, Busy> {
        let user = self.user(name, among);
        let known = user.is_some() && password.len() <= LONGEST;
        let user = user.unwrap_or_else(|| Arc::clone(&self.nobody));
        let password = &password[..password.len().min(LONGEST)];
        let tag = self.remembered.tag(name, password, &user);
        if known && self.remembered.knows(name, &tag, Instant::now()) {
            self.remembered_count.fetch_add(1, Ordering::Relaxed);
            return Ok(true);
        }
        let verdict = self.hashing.check(from, Arc::clone(&user), password).await?;
        if !known {
            return Ok(false);
        }
        let tag = match verdict {
            users::Verdict::Wrong => return Ok(false),
            users::Verdict::Right => tag,
            users::Verdict::Renewed(new) => {
                let tag = self.remembered.tag(name, password, &new);
                if self.renewals.add(name, user, new) {
                    tokio::spawn(Arc::clone(self).write_renewals());
                }
                tag
            }
        };
        self.remembered.add(name, tag, Instant::now());
        Ok(true)
    }

    /// Writes renewed hashes, as long as there are some.
    async fn write_renewals(self: Arc<Self>) {
        loop {
            tokio::time::sleep(GATHER).await;
            let shared = Arc::clone(&self);
            let are_more = tokio::task::spawn_blocking(move || shared.write_renewed_users()).await;
            if !are_more.unwrap_or(false) {
                return;
            }
        }
    }

    /// Whether others have been renewed meanwhile.
    fn write_renewed_users(&self) -> bool {
        let (path, renewed) = (self.file.lock().path.clone(), self.renewals.waiting());
        let written = Users::change(&path.now(), |users| {
            for (name, (old, new)) in &renewed {
                users.renew(name, old, new);
            }
            Ok(())
        });
        match written {
            Ok(((), users)) => {
                tracing::info!(count = renewed.len(), "hashes of another broker renewed");
                self.take_over(&mut self.file.lock(), users, |name| renewed.contains_key(name));
                self.renewals.written(&renewed)
            }
            Err(error) => {
                tracing::error!(%error, "renewed hashes are not written: the next log-in tries again");
                self.renewals.failed();
                false
            }
        }
    }

    /// Other users from now on. Log-ins of who has changed are forgotten, but for these.
    fn take_over(&self, file: &mut UsersFile, users: Users, is_renewed: impl Fn(&str) -> bool) {
        let old = std::mem::replace(&mut file.users, Arc::new(users));
        let new = &file.users;
        self.remembered.retain(|name| {
            let user = new.get(name);
            user.is_some_and(|user| old.get(name) == Some(user) || is_renewed(name))
        });
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

/// The users as a provider.
#[derive(Debug)]
pub(crate) struct FileUsers {
    pub(crate) store: Arc<UserStore>,
    /// Users who are known at this listener; `None` for all.
    pub(crate) of_here: Option<Arc<HashSet<String>>>,
}

impl Provider for FileUsers {
    fn name(&self) -> &'static str {
        "users"
    }

    fn check<'a>(&'a self, attempt: &'a Attempt) -> Checking<'a> {
        Box::pin(async move {
            let Some(name) = &attempt.username else {
                return Verdict::Ignore;
            };
            let among = self.of_here.as_deref();
            let known = self.store.user(name, among).is_some();
            if !known && attempt.may_be_anonymous {
                return Verdict::Ignore;
            }
            let password = attempt.password.as_deref().unwrap_or_default();
            match self
                .store
                .password_is_right(name, among, password, attempt.address.into())
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

    fn foresee(&self, asked: &Prospect<'_>) -> Verdict {
        let known = asked
            .username
            .filter(|name| self.store.user(name, self.of_here.as_deref()).is_some());
        known.map_or(Verdict::Ignore, |name| Verdict::Allow(Some(name.into())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::foreign::passwords::UsersFormat;
    use std::net::{IpAddr, Ipv4Addr};

    async fn log_in(store: &Arc<UserStore>, name: &str, password: &str) -> bool {
        let origin = IpAddr::V4(Ipv4Addr::LOCALHOST).into();
        store
            .password_is_right(name, None, password.as_bytes(), origin)
            .await
            .unwrap()
    }

    fn store(folder: &Path) -> Arc<UserStore> {
        Arc::new(UserStore::load(folder.join("users.json").into(), &PasswordSettings::default()).unwrap())
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
        let store = store(folder.path());
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

    /// `auth.listeners.users`: others are as unknown there as those who are nobody.
    #[tokio::test]
    async fn a_listener_knows_the_users_it_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.json");
        for name in ["joe", "ann"] {
            set(&path, name, "one");
        }
        let users = FileUsers {
            store: store(folder.path()),
            of_here: Some(Arc::new(["ann".to_owned()].into())),
        };
        for may_be_anonymous in [true, false] {
            for (name, verdict) in [
                ("ann", Verdict::Allow(Some("ann".into()))),
                ("joe", Verdict::Ignore),
                ("tim", Verdict::Ignore),
            ] {
                let attempt = Attempt {
                    client_id: "c".into(),
                    username: Some(name.into()),
                    password: Some("one".into()),
                    address: Ipv4Addr::LOCALHOST.into(),
                    certificate: None,
                    identity: None,
                    may_be_anonymous,
                };
                assert_eq!(users.check(&attempt).await, verdict, "{name}");
            }
        }
        let of = |among| users.store.scram_keys("joe", among);
        assert!(of(None) != of(users.of_here.as_deref()));
    }

    /// What is longer than anybody's is wrong, also when its beginning is right.
    #[tokio::test]
    async fn a_longer_password_than_any_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let longest = "x".repeat(LONGEST);
        set(&folder.path().join("users.json"), "joe", &longest);
        let store = store(folder.path());
        assert!(log_in(&store, "joe", &longest).await);
        assert!(!log_in(&store, "joe", &format!("{longest}x")).await);
    }

    /// A hash of another broker is checked as it is, and replaced at the first right log-in: in memory at once, in the file with others.
    #[tokio::test]
    async fn a_hash_of_another_broker_is_renewed_by_the_right_password() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.json");
        let table = folder.path().join("table.csv");
        // MD5 of `abc`, and of `a` and the salt `bc`.
        let hash = "900150983cd24fb0d6963f7d28e17f72";
        std::fs::write(
            &table,
            format!("id,username,password,salt\n1,joe,{hash},bc\n2,ann,{hash},bc\n"),
        )
        .unwrap();
        let format = UsersFormat::Csv("md5,salt".parse().unwrap());
        let (imported, _) = Users::change(&path, |users| users.import(&table, format, false)).unwrap();
        assert_eq!(imported.added, 2);
        let store = store(folder.path());
        let scram = |name: &str| store.user(name, None).unwrap().scram().is_some();

        assert!(!log_in(&store, "joe", "abc").await && !log_in(&store, "joe", "").await);
        assert!(!scram("joe"), "what is wrong renews nothing");
        assert!(log_in(&store, "joe", "a").await);
        assert!(scram("joe") && !scram("ann"));
        assert!(log_in(&store, "joe", "a").await && !log_in(&store, "joe", "abc").await);
        assert_eq!(store.stats().remembered, 1);

        // Somebody else changes the file meanwhile.
        set(&path, "tim", "x");
        assert!(!store.write_renewed_users(), "all is written");
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            (
                text.matches("$argon2id$").count(),
                text.matches("foreign").count()
            ),
            (2, 1),
            "{text}"
        );
        assert!(log_in(&store, "joe", "a").await && log_in(&store, "tim", "x").await);
        assert_eq!(store.stats().remembered, 2, "a renewed log-in is still known");
        assert!(!log_in(&store, "ann", "abc").await && log_in(&store, "ann", "a").await);
    }

    /// Who has another password meanwhile keeps that.
    #[tokio::test]
    async fn a_renewed_hash_does_not_undo_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.json");
        let table = folder.path().join("table.csv");
        std::fs::write(&table, "user,password\njoe,900150983cd24fb0d6963f7d28e17f72\n").unwrap();
        let format = UsersFormat::Csv("md5".parse().unwrap());
        Users::change(&path, |users| users.import(&table, format, false)).unwrap();
        let store = store(folder.path());
        assert!(log_in(&store, "joe", "abc").await);
        set(&path, "joe", "other");
        store.write_renewed_users();
        assert!(log_in(&store, "joe", "other").await && !log_in(&store, "joe", "abc").await);
    }
}
