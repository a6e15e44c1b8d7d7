//! The service behind every listener: answers the questions of endpoints.

use crate::acl::{Acl, AclError};
use crate::scram::{self, ClientFirst, Exchange, ScramKeys};
use crate::settings::{Anonymous, AuthSettings};
use crate::users::{User, Users, UsersError};
use base64::Engine as _;
use bytes::Bytes;
use headgate_model::access::{AuthRefusal, Credentials};
use headgate_model::{AccessDecision, AccessPolicy, Answer, Identity, Question};
use headgate_shell::access::Answering;
use headgate_shell::{AccessService, AccessSession, ConnectionInfo, PeerAddr};
use parking_lot::Mutex;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::Semaphore;

/// How often the file of users is looked at, at most.
const RELOAD: Duration = Duration::from_secs(1);
/// Passwords checked at once: each takes a core for a while and 19 MiB of memory.
const HASHES_AT_ONCE: usize = 2;

/// Users and rules. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Access(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    anonymous: Anonymous,
    acl: Acl,
    file: Mutex<UsersFile>,
    nobody: User,
    /// Seeds what unknown names are shown.
    secret: [u8; 32],
    hashing: Semaphore,
}

#[derive(Debug)]
struct UsersFile {
    path: PathBuf,
    users: Arc<Users>,
    modified: Option<SystemTime>,
    looked: Instant,
}

/// What stands in the way of a start.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// A rule cannot be.
    #[error("auth.{0}")]
    Acl(#[from] AclError),
    /// The users cannot be read.
    #[error("users: {0}")]
    Users(#[from] UsersError),
    /// The system has no random numbers.
    #[error("no random numbers: {0}")]
    Random(#[from] getrandom::Error),
}

impl Access {
    /// Reads users and rules.
    pub fn load(settings: &AuthSettings, data_dir: &Path) -> Result<Self, AccessError> {
        let path = Self::users_file(settings, data_dir);
        let mut secret = [0; 32];
        getrandom::fill(&mut secret)?;
        let file = UsersFile {
            users: Arc::new(Users::load(&path)?),
            modified: modified(&path),
            path,
            looked: Instant::now(),
        };
        Ok(Self(Arc::new(Shared {
            anonymous: settings.anonymous,
            acl: Acl::compile(settings)?,
            file: Mutex::new(file),
            nobody: User::nobody()?,
            secret,
            hashing: Semaphore::new(HASHES_AT_ONCE),
        })))
    }

    /// Checks what can be checked without reading a file.
    pub fn check(settings: &AuthSettings) -> Result<(), AclError> {
        Acl::compile(settings).map(drop)
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
            let now = modified(&file.path);
            if now != file.modified {
                file.modified = now;
                match Users::load(&file.path) {
                    Ok(users) => {
                        tracing::info!(count = users.names().count(), "users read again");
                        file.users = Arc::new(users);
                    }
                    Err(error) => tracing::error!(%error, "users not read again: the old ones stay"),
                }
            }
        }
        Arc::clone(&file.users)
    }

    async fn password_is_right(self: &Arc<Self>, name: &str, password: Bytes) -> bool {
        let Ok(permit) = self.hashing.acquire().await else {
            return false;
        };
        let (shared, user) = (Arc::clone(self), self.users().get(name).cloned());
        let known = user.is_some();
        let checked =
            tokio::task::spawn_blocking(move || user.as_ref().unwrap_or(&shared.nobody).verify(&password));
        let right = checked.await.unwrap_or(false);
        drop(permit);
        known && right
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|meta| meta.modified()).ok()
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
                // Rules decide at once: they never leave a wish to be asked for.
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
            return if allowed {
                self.allowed(None, None)
            } else {
                Answer::Refused(AuthRefusal::NotAuthorized)
            };
        };
        let password = credentials.password.unwrap_or_default();
        if self.shared.password_is_right(&name, password).await {
            self.allowed(Some(name), None)
        } else {
            tracing::info!(user = %name, address = %self.address, "wrong user name or password");
            Answer::Refused(AuthRefusal::BadUserNameOrPassword)
        }
    }

    fn start_exchange(&mut self, method: &str, data: &[u8]) -> Answer {
        if method != scram::METHOD {
            return Answer::Refused(AuthRefusal::BadMethod);
        }
        let Some(first) = ClientFirst::parse(data) else {
            return Answer::Refused(AuthRefusal::NotAuthorized);
        };
        let keys = match self.shared.users().get(&first.username) {
            Some(user) => user.scram_sha_256.clone(),
            None => ScramKeys::of_nobody(&self.shared.secret, &first.username),
        };
        let mut nonce = [0; 18];
        if getrandom::fill(&mut nonce).is_err() {
            return Answer::Refused(AuthRefusal::Unavailable);
        }
        let nonce = base64::engine::general_purpose::STANDARD.encode(nonce);
        let (exchange, challenge) = Exchange::start(first, keys, &nonce);
        self.exchange = Some(Box::new(exchange));
        Answer::Challenge(challenge.into())
    }

    fn continue_exchange(&mut self, data: &[u8]) -> Answer {
        let Some(exchange) = self.exchange.take() else {
            return Answer::Refused(AuthRefusal::NotAuthorized);
        };
        match exchange.finish(data) {
            Some(verifier) => self.allowed(Some(exchange.username().into()), Some(verifier.into())),
            None => {
                tracing::info!(user = exchange.username(), address = %self.address, "wrong SCRAM proof");
                Answer::Refused(AuthRefusal::NotAuthorized)
            }
        }
    }

    fn allowed(&self, username: Option<Arc<str>>, data: Option<Bytes>) -> Answer {
        let client = self.client.as_ref().map_or("", |client| client.as_str());
        let policy: Arc<dyn AccessPolicy> = self.shared.acl.policy(client, username.as_deref(), self.address);
        if self.link && !policy.may_link() {
            let user = username.as_deref().unwrap_or_default();
            tracing::info!(
                ?client, ?user, address = %self.address,
                "it says that it is a broker, but may not be a link: it is a client like any other (auth.links)"
            );
        }
        Answer::Allowed {
            identity: Identity { username, policy },
            data,
        }
    }
}
