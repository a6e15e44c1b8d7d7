//! The service behind every listener: answers the questions of endpoints.

use crate::acl::{Acl, AclError, Rulebook};
use crate::fair::Origin;
use crate::hashing::{Busy, Hashing};
use crate::remembered::Remembered;
use crate::renewals::Renewals;
use crate::scram::{self, ClientFirst, Exchange, ScramKeys};
use crate::settings::{Anonymous, AuthSettings};
use crate::users::{LONGEST, User, Users, UsersError, Verdict};
use base64::Engine as _;
use bytes::Bytes;
use headgate_access::Answering;
use headgate_access::{AccessService, AccessSession, ConnectionInfo, PeerAddr};
use headgate_model::access::{AuthRefusal, Credentials};
use headgate_model::{AccessDecision, AccessPolicy, Answer, Identity, Question};
use parking_lot::Mutex;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// How often the file of users is looked at, at most.
const RELOAD: Duration = Duration::from_secs(1);
/// How long renewed hashes wait for others, to be written together.
const GATHER: Duration = Duration::from_secs(5);

/// Users and rules. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Access(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    anonymous: Anonymous,
    rules: Arc<Rulebook>,
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
    path: PathBuf,
    users: Arc<Users>,
    version: Option<FileVersion>,
    looked: Instant,
}

/// What tells one version of the file from the next: it is replaced as a whole.
type FileVersion = (SystemTime, u64, u64);

/// Log-ins with passwords since the start, but for `waiting`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoginStats {
    /// Passwords that were hashed and compared.
    pub checked: u64,
    /// Log-ins that were remembered.
    pub remembered: u64,
    /// Log-ins that were refused because too many wait.
    pub busy: u64,
    /// Clients that were gone before their turn.
    pub left: u64,
    /// Log-ins that wait now.
    pub waiting: u64,
}

/// What stands in the way of a start.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// A rule cannot be.
    #[error("auth.{0}")]
    Acl(#[from] AclError),
    /// The users cannot be read.
    #[error("auth.users_file: {0}")]
    Users(#[from] UsersError),
    /// The system has no random numbers.
    #[error("no random numbers: {0}")]
    Random(#[from] getrandom::Error),
}

impl Access {
    /// Reads users and rules.
    pub fn load(settings: &AuthSettings, data_dir: &Path) -> Result<Self, AccessError> {
        let path = Self::users_file(settings, data_dir);
        let (mut secret, mut key) = ([0; 32], [0; 32]);
        getrandom::fill(&mut secret)?;
        getrandom::fill(&mut key)?;
        let file = UsersFile {
            users: Arc::new(Users::load(&path)?),
            version: version(&path),
            path,
            looked: Instant::now(),
        };
        Ok(Self(Arc::new(Shared {
            anonymous: settings.anonymous,
            rules: Rulebook::new(Acl::compile(settings)?),
            file: Mutex::new(file),
            nobody: Arc::new(User::nobody()?),
            secret,
            hashing: Hashing::new(&settings.passwords),
            remembered: Remembered::new(key, settings.passwords.remember),
            remembered_count: AtomicU64::new(0),
            renewals: Renewals::default(),
        })))
    }

    /// The rules from now on: `acl`, `acl_file`, which is read, `links` and `refuse_with`. Whether they are others: who is connected has them when the bus
    /// has asked for them (`Hub::renew_rules`). If they are faulty, the old ones stay.
    pub fn set_rules(&self, settings: &AuthSettings) -> Result<bool, AclError> {
        Ok(self.0.rules.replace(Acl::compile(settings)?))
    }

    /// What was counted.
    pub fn stats(&self) -> LoginStats {
        let counts = self.0.hashing.counts();
        LoginStats {
            checked: counts.checked.load(Ordering::Relaxed),
            remembered: self.0.remembered_count.load(Ordering::Relaxed),
            busy: counts.busy.load(Ordering::Relaxed),
            left: counts.left.load(Ordering::Relaxed),
            waiting: self.0.hashing.waiting() as u64,
        }
    }

    /// Where the users are kept.
    pub fn users_file(settings: &AuthSettings, data_dir: &Path) -> PathBuf {
        settings
            .users_file
            .clone()
            .unwrap_or_else(|| data_dir.join("users.json"))
    }
}

impl Shared {
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
                        self.take_over(&mut file, users, |_| false);
                    }
                    Err(error) => tracing::error!(%error, "users not read again: the old ones stay"),
                }
            }
        }
        Arc::clone(&file.users)
    }

    /// Who has this name, with a hash that was just renewed too.
    fn user(&self, name: &str) -> Option<Arc<User>> {
        let user = Arc::clone(self.users().get(name)?);
        Some(self.renewals.current(name, user))
    }

    /// Whether this is the password of the user of this name. An unknown name takes as long as a wrong password.
    async fn password_is_right(
        self: &Arc<Self>,
        name: &str,
        password: &[u8],
        from: Origin,
    ) -> Result<bool, Busy> {
        let user = self.user(name);
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
            Verdict::Wrong => return Ok(false),
            Verdict::Right => tag,
            Verdict::Renewed(new) => {
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
        let written = Users::change(&path, |users| {
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

impl AccessService for Access {
    fn session(&self, info: &ConnectionInfo) -> Box<dyn AccessSession> {
        let (address, local) = match info.peer {
            PeerAddr::Ip(address) => (address.ip(), address.ip().is_loopback()),
            PeerAddr::Unix { .. } | PeerAddr::Serial | PeerAddr::Memory => {
                (IpAddr::V4(Ipv4Addr::LOCALHOST), true)
            }
        };
        Box::new(Session {
            shared: Arc::clone(&self.0),
            listener: Arc::clone(&info.listener),
            peer: info.peer,
            address,
            local,
            client: None,
            link: false,
            exchange: None,
        })
    }
}

/// One connection's conversation.
struct Session {
    shared: Arc<Shared>,
    listener: Arc<str>,
    peer: PeerAddr,
    address: IpAddr,
    local: bool,
    client: Option<headgate_model::ClientId>,
    /// It says that it is a broker.
    link: bool,
    exchange: Option<Box<Exchange>>,
}

impl AccessSession for Session {
    fn answer(mut self: Box<Self>, question: Question) -> Answering {
        Box::pin(async move {
            let plain = matches!(&question, Question::Authenticate(given) if given.method.is_none());
            let answer = match question {
                Question::Authenticate(credentials) | Question::Reauthenticate(credentials) => {
                    self.authenticate(*credentials).await
                }
                Question::Continue(data) => self.continue_exchange(data.as_deref().unwrap_or_default()),
                // Rules decide at once: they never leave a request to be asked for.
                Question::Authorize(requests) => {
                    Answer::Authorized(vec![AccessDecision::Deny(Default::default()); requests.len()])
                }
            };
            if plain && matches!(answer, Answer::Allowed { .. }) {
                return (Box::new(Concluded) as Box<dyn AccessSession>, answer);
            }
            (self as Box<dyn AccessSession>, answer)
        })
    }
}

/// The conversation of a client that was let in without enhanced authentication: it has nothing to prove again, and nothing to remember.
struct Concluded;

impl AccessSession for Concluded {
    fn answer(self: Box<Self>, question: Question) -> Answering {
        let answer = match question {
            Question::Authorize(requests) => {
                Answer::Authorized(vec![AccessDecision::Deny(Default::default()); requests.len()])
            }
            Question::Authenticate(_) | Question::Reauthenticate(_) | Question::Continue(_) => {
                Answer::Refused(AuthRefusal::NotAuthorized)
            }
        };
        Box::pin(std::future::ready((self as Box<dyn AccessSession>, answer)))
    }
}

impl Session {
    async fn authenticate(&mut self, credentials: Credentials) -> Answer {
        self.client = Some(credentials.client_id);
        self.link = credentials.link;
        self.exchange = None;
        if let Some(method) = credentials.method {
            return self.start_exchange(&method, credentials.data.as_deref().unwrap_or_default());
        }
        let Some(name) = credentials.username else {
            let allowed = match self.shared.anonymous {
                Anonymous::Nowhere => false,
                Anonymous::Loopback => self.local,
                Anonymous::Everywhere => true,
            };
            if allowed {
                return self.allowed(None, None);
            }
            let why = "no user name, and anonymous clients may not connect from there (auth.anonymous)";
            return self.refused(None, why, AuthRefusal::NotAuthorized);
        };
        let password = credentials.password.unwrap_or_default();
        match self
            .shared
            .password_is_right(&name, &password, self.address.into())
            .await
        {
            Ok(true) => self.allowed(Some(name), None),
            Ok(false) => {
                let why = "wrong user name or password";
                self.refused(Some(&name), why, AuthRefusal::BadUserNameOrPassword)
            }
            Err(Busy) => self.refused(Some(&name), "too many log-ins wait", AuthRefusal::Busy),
        }
    }

    fn start_exchange(&mut self, method: &str, data: &[u8]) -> Answer {
        if method != scram::METHOD {
            let why = "an authentication method that is not offered";
            return self.refused(None, why, AuthRefusal::BadMethod);
        }
        let Some(first) = ClientFirst::parse(data) else {
            return self.refused(None, "malformed SCRAM data", AuthRefusal::NotAuthorized);
        };
        let user = self.shared.user(&first.username);
        let keys = match user.as_ref().and_then(|user| user.scram()) {
            Some(keys) => keys.clone(),
            None => ScramKeys::of_nobody(&self.shared.secret, &first.username),
        };
        let mut nonce = [0; 18];
        if getrandom::fill(&mut nonce).is_err() {
            return self.refused(None, "the system has no random numbers", AuthRefusal::Unavailable);
        }
        let nonce = base64::engine::general_purpose::STANDARD.encode(nonce);
        let (exchange, challenge) = Exchange::start(first, keys, &nonce);
        self.exchange = Some(Box::new(exchange));
        Answer::Challenge(challenge.into())
    }

    fn continue_exchange(&mut self, data: &[u8]) -> Answer {
        let Some(exchange) = self.exchange.take() else {
            return self.refused(None, "an answer to no challenge", AuthRefusal::NotAuthorized);
        };
        match exchange.finish(data) {
            Some(verifier) => self.allowed(Some(exchange.username().into()), Some(verifier.into())),
            None => {
                let why = "wrong SCRAM proof";
                self.refused(Some(exchange.username()), why, AuthRefusal::NotAuthorized)
            }
        }
    }

    /// Writes to the log who is not let in, and why.
    fn refused(&self, user: Option<&str>, why: &str, answer: AuthRefusal) -> Answer {
        let client = self.client.as_ref().map_or("", |client| client.as_str());
        tracing::info!(listener = %self.listener, client, user, peer = %self.peer, why, "client refused");
        Answer::Refused(answer)
    }

    fn allowed(&self, username: Option<Arc<str>>, data: Option<Bytes>) -> Answer {
        let client = self.client.as_ref().map_or("", |client| client.as_str());
        let policy: Arc<dyn AccessPolicy> =
            self.shared
                .rules
                .policy(client, username.as_deref(), self.address);
        if self.link && !policy.may_link() {
            let user = username.as_deref();
            tracing::info!(
                listener = %self.listener, client, user, peer = %self.peer,
                "it says that it is a broker, but may not be a link: it is a client like any other (auth.links)"
            );
        }
        Answer::Allowed {
            identity: Identity { username, policy },
            data,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::foreign::passwords::UsersFormat;

    async fn log_in(access: &Access, name: &str, password: &str) -> bool {
        let origin = IpAddr::V4(Ipv4Addr::LOCALHOST).into();
        access
            .0
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
        let access = Access::load(&AuthSettings::default(), folder.path()).unwrap();
        for _ in 0..3 {
            assert!(log_in(&access, "joe", "one").await);
            assert!(!log_in(&access, "joe", "two").await);
            assert!(!log_in(&access, "ann", "one").await, "an unknown name");
        }
        let stats = access.stats();
        assert_eq!((stats.checked, stats.remembered), (7, 2));

        set(&path, "joe", "two");
        access.0.file.lock().looked = Instant::now().checked_sub(RELOAD).unwrap();
        assert!(!log_in(&access, "joe", "one").await);
        assert_eq!(access.0.remembered.len(), 0);
        assert!(log_in(&access, "joe", "two").await && log_in(&access, "joe", "two").await);
        assert_eq!(access.stats().remembered, 3);

        std::fs::remove_file(&path).unwrap();
        access.0.file.lock().looked = Instant::now().checked_sub(RELOAD).unwrap();
        assert!(!log_in(&access, "joe", "two").await);
        assert_eq!(access.0.remembered.len(), 0);
    }

    /// What is longer than anybody's is wrong, also when its beginning is right.
    #[tokio::test]
    async fn a_longer_password_than_any_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let longest = "x".repeat(LONGEST);
        set(&folder.path().join("users.json"), "joe", &longest);
        let access = Access::load(&AuthSettings::default(), folder.path()).unwrap();
        assert!(log_in(&access, "joe", &longest).await);
        assert!(!log_in(&access, "joe", &format!("{longest}x")).await);
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
        let access = Access::load(&AuthSettings::default(), folder.path()).unwrap();
        let scram = |name: &str| access.0.user(name).unwrap().scram().is_some();

        assert!(!log_in(&access, "joe", "abc").await && !log_in(&access, "joe", "").await);
        assert!(!scram("joe"), "what is wrong renews nothing");
        assert!(log_in(&access, "joe", "a").await);
        assert!(scram("joe") && !scram("ann"));
        assert!(log_in(&access, "joe", "a").await && !log_in(&access, "joe", "abc").await);
        assert_eq!(access.stats().remembered, 1);

        // Somebody else changes the file meanwhile.
        set(&path, "tim", "x");
        assert!(!access.0.write_renewed_users(), "all is written");
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            (
                text.matches("$argon2id$").count(),
                text.matches("foreign").count()
            ),
            (2, 1),
            "{text}"
        );
        assert!(log_in(&access, "joe", "a").await && log_in(&access, "tim", "x").await);
        assert_eq!(access.stats().remembered, 2, "a renewed log-in is still known");
        assert!(!log_in(&access, "ann", "abc").await && log_in(&access, "ann", "a").await);
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
        let access = Access::load(&AuthSettings::default(), folder.path()).unwrap();
        assert!(log_in(&access, "joe", "abc").await);
        set(&path, "joe", "other");
        access.0.write_renewed_users();
        assert!(log_in(&access, "joe", "other").await && !log_in(&access, "joe", "abc").await);
    }
}
