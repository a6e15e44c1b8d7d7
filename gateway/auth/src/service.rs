//! The service behind every listener: answers the questions of endpoints.

use crate::acl::{Acl, AclError, Rulebook};
use crate::bans::{Ban, BanError, Banned, Bans};
use crate::chain::{Attempt, Chain, Prospect, Provider, Verdict};
use crate::data_dir::{DataDir, DataPath};
use crate::providers::{Addresses, Certificates, ClientIds, FileUsers, Identities, UserStore};
use crate::rules::RuleView;
use crate::scram::{self, ClientFirst, Exchange, ScramKeys};
use crate::settings::{
    Anonymous, AuthSettings, BanSettings, ListenerAuth, PasswordSettings, ProviderName, UnknownUsers,
};
use crate::users::UsersError;
use base64::Engine as _;
use bytes::Bytes;
use headgate_access::{
    AccessService, AccessSession, Answering, ClientCert, ConnectionInfo, Finding, PeerAddr,
};
use headgate_model::access::{AuthRefusal, Credentials, Readmission};
use headgate_model::{AccessDecision, AccessPolicy, Answer, ClientId, Identity, Question};
use parking_lot::{Mutex, RwLock};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The file of users in the data folder.
const USERS: &str = "users.json";

/// Users and rules. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Access(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    data_dir: DataDir,
    users: RwLock<KnownUsers>,
    bans: Bans,
    doors: RwLock<Doors>,
    /// The rules of each listener, as long as the gateway runs: clients look there when they are told that the rules have changed.
    books: Mutex<HashMap<Box<str>, Arc<Rulebook>>>,
}

/// The users, and what they were read with.
#[derive(Clone, Debug)]
struct KnownUsers {
    store: Arc<UserStore>,
    /// As the settings have it; `None` for that in the data folder.
    path: Option<PathBuf>,
    passwords: PasswordSettings,
    /// What was counted with other settings.
    before: LoginStats,
}

impl KnownUsers {
    /// The same, or others where the settings say so.
    fn by(&self, settings: &AuthSettings, data_dir: &DataDir) -> Result<Self, AccessError> {
        if settings.users_file == self.path && settings.passwords == self.passwords {
            return Ok(self.clone());
        }
        Ok(Self {
            before: LoginStats {
                waiting: 0,
                ..self.stats()
            },
            ..Self::load(settings, data_dir)?
        })
    }

    fn load(settings: &AuthSettings, data_dir: &DataDir) -> Result<Self, AccessError> {
        let path = Access::users_path(settings, data_dir);
        Ok(Self {
            store: Arc::new(UserStore::load(path, &settings.passwords)?),
            path: settings.users_file.clone(),
            passwords: settings.passwords,
            before: LoginStats::default(),
        })
    }

    fn stats(&self) -> LoginStats {
        let (now, before) = (self.store.stats(), self.before);
        LoginStats {
            checked: before.checked + now.checked,
            remembered: before.remembered + now.remembered,
            busy: before.busy + now.busy,
            left: before.left + now.left,
            waiting: now.waiting,
        }
    }
}

/// Why a client without a name is not let in.
const NO_NAME: &str = "no user name, and anonymous clients may not connect from there (auth.anonymous)";

/// What would become of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Foreseen {
    /// It is let in, by this name or as an anonymous one.
    LetIn(Option<Arc<str>>),
    /// It is not, and why.
    Refused(Cow<'static, str>),
}

/// Settings that [`Access::take`] makes valid.
#[derive(Debug)]
pub struct PreparedAccess {
    users: KnownUsers,
    doors: Doors,
    bans: BanSettings,
}

/// How clients are let in, by listener.
#[derive(Debug)]
struct Doors {
    by_listener: HashMap<String, Arc<Door>>,
    /// At listeners of which nothing else is said.
    others: Arc<Door>,
}

/// How clients are let in at one listener.
#[derive(Debug)]
struct Door {
    anonymous: Anonymous,
    unknown_users: UnknownUsers,
    chain: Chain,
    /// Who is asked before the users, and so before SCRAM; `None` where the chain has no users.
    before_users: Option<Chain>,
    users: Arc<UserStore>,
    /// Users who are known here; `None` for all.
    of_here: Option<Arc<HashSet<String>>>,
    acl: Arc<Acl>,
}

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
    /// The bans cannot be read.
    #[error("bans: {0}")]
    Bans(#[from] BanError),
    /// The system has no random numbers.
    #[error("no random numbers: {0}")]
    Random(#[from] getrandom::Error),
}

impl Access {
    /// Reads users and rules.
    pub fn load(settings: &AuthSettings, data_dir: impl Into<DataDir>) -> Result<Self, AccessError> {
        let data_dir = data_dir.into();
        let users = KnownUsers::load(settings, &data_dir)?;
        let bans = Bans::load(data_dir.join("bans.json"), &settings.bans)?;
        let doors = RwLock::new(Doors::new(settings, &users.store)?);
        let books = Mutex::default();
        Ok(Self(Arc::new(Inner {
            data_dir,
            users: RwLock::new(users),
            bans,
            doors,
            books,
        })))
    }

    /// Other settings from now on. Who is connected stays, and has the new rules when the bus has asked for them
    /// (`Hub::renew_rules`). If they are faulty, the old ones stay. Whether
    /// the rules say something else; `acl_file` is read.
    pub fn set(&self, settings: &AuthSettings) -> Result<bool, AccessError> {
        Ok(self.take(self.prepare(settings)?))
    }

    /// Makes other settings ready: files of rules and users are read, nothing is changed.
    pub fn prepare(&self, settings: &AuthSettings) -> Result<PreparedAccess, AccessError> {
        let users = self.0.users.read().by(settings, &self.0.data_dir)?;
        Ok(PreparedAccess {
            doors: Doors::new(settings, &users.store)?,
            users,
            bans: settings.bans,
        })
    }

    /// The second half of [`Self::set`].
    pub fn take(&self, prepared: PreparedAccess) -> bool {
        let PreparedAccess {
            users,
            doors: new,
            bans,
        } = prepared;
        *self.0.users.write() = users;
        let mut doors = self.0.doors.write();
        let mut are_others = false;
        for (listener, book) in self.0.books.lock().iter() {
            are_others |= book.replace(Arc::clone(&new.of(listener).acl));
        }
        *doors = new;
        self.0.bans.set(&bans);
        are_others
    }

    /// Keeps somebody out from now on; who is connected is not thrown out by this. It is on the disk when this returns.
    pub fn ban(&self, ban: Ban) -> Result<(), BanError> {
        self.0.bans.add(ban)
    }

    /// A client has been let in and has its session: counts what may lead to a ban of one that comes too often.
    pub fn note_connected(&self, client: &ClientId) {
        if let Some(ban) = self.0.bans.connected(client.as_str()) {
            tracing::warn!(
                client = client.as_str(),
                reason = ban.reason,
                until = ban.until,
                "banned by itself"
            );
        }
    }

    /// Ends a ban. Whether there was one.
    pub fn unban(&self, who: &Banned) -> Result<bool, BanError> {
        self.0.bans.remove(who)
    }

    /// All bans that are valid, the oldest first.
    pub fn bans(&self) -> Vec<Ban> {
        self.0.bans.all()
    }

    /// The ban that keeps a client out who comes by this id and name, from this address.
    pub fn ban_of(&self, client: &str, user: Option<&str>, address: IpAddr) -> Option<Ban> {
        self.0.bans.of(client, user, address)
    }

    /// What would become of a client at a listener, if it shows what it should: the name by which it is let in, or why it is not. Bans are not asked: see [`Self::ban_of`].
    pub fn foresee(&self, listener: &str, asked: &Prospect<'_>) -> Foreseen {
        self.0.door(listener).foresee(asked)
    }

    /// All rules of a listener, in the order in which they are asked.
    pub fn rules(&self, listener: &str) -> Vec<RuleView> {
        self.0.door(listener).acl.views()
    }

    /// The rules of somebody who would be let in at a listener by this client id and name, from this address.
    pub fn policy(
        &self,
        listener: &str,
        client: &str,
        user: Option<&str>,
        address: IpAddr,
    ) -> Arc<dyn AccessPolicy> {
        self.0.book(listener).policy(client, user, address)
    }

    /// What was counted.
    pub fn stats(&self) -> LoginStats {
        self.0.users.read().stats()
    }

    /// The file of users has changed: what it says is valid when this returns. Otherwise it is looked at once a second.
    pub fn look_at_users(&self) {
        let store = Arc::clone(&self.0.users.read().store);
        store.look();
    }

    /// Where the users are kept, also when the data are elsewhere.
    pub fn users_path(settings: &AuthSettings, data_dir: &DataDir) -> DataPath {
        match settings.users_file.clone() {
            Some(path) => path.into(),
            None => data_dir.join(USERS),
        }
    }

    /// Where the users are kept.
    pub fn users_file(settings: &AuthSettings, data_dir: &Path) -> PathBuf {
        settings
            .users_file
            .clone()
            .unwrap_or_else(|| data_dir.join(USERS))
    }
}

impl Doors {
    fn new(settings: &AuthSettings, users: &Arc<UserStore>) -> Result<Self, AclError> {
        let acl = Arc::new(Acl::compile(settings)?);
        let door = |listener: Option<&ListenerAuth>| {
            let acl = match listener.filter(|listener| listener.has_rules()) {
                None => Arc::clone(&acl),
                Some(listener) => Arc::new(Acl::compile(&settings.at(listener))?),
            };
            Ok::<_, AclError>(Arc::new(Door::new(settings, listener, acl, users)))
        };
        let named = settings.listeners.iter();
        let named = named.map(|listener| Ok((listener.name.clone(), door(Some(listener))?)));
        Ok(Self {
            by_listener: named.collect::<Result<_, AclError>>()?,
            others: door(None)?,
        })
    }

    fn of(&self, listener: &str) -> &Arc<Door> {
        self.by_listener.get(listener).unwrap_or(&self.others)
    }
}

impl Door {
    fn new(
        settings: &AuthSettings,
        listener: Option<&ListenerAuth>,
        acl: Arc<Acl>,
        users: &Arc<UserStore>,
    ) -> Self {
        let certificate = listener.and_then(|listener| listener.certificate);
        let certificate = certificate.unwrap_or(settings.certificate);
        let psk = listener.and_then(|listener| listener.psk).unwrap_or(settings.psk);
        let chain = listener.and_then(|listener| listener.chain.as_ref());
        let chain = chain.unwrap_or(&settings.chain);
        let of_here = listener.and_then(|listener| listener.users.as_ref());
        let of_here: Option<Arc<HashSet<String>>> =
            of_here.map(|names| Arc::new(names.iter().cloned().collect()));
        let provider = |name: &ProviderName| -> Arc<dyn Provider> {
            match name {
                ProviderName::Addresses => Arc::new(Addresses(settings.addresses.clone())),
                ProviderName::Certificate => Arc::new(Certificates(certificate)),
                ProviderName::Psk => Arc::new(Identities(psk)),
                ProviderName::ClientIds => Arc::new(ClientIds::new(&settings.client_ids)),
                ProviderName::Users => Arc::new(FileUsers {
                    store: Arc::clone(users),
                    of_here: of_here.clone(),
                }),
            }
        };
        let providers: Vec<_> = chain.iter().map(provider).collect();
        let users_stand = chain.iter().position(|name| *name == ProviderName::Users);
        let before_users = users_stand.map(|at| Chain::new(providers[..at].to_vec(), settings.answer_in));
        let unknown_users = listener.and_then(|listener| listener.unknown_users);
        Self {
            unknown_users: unknown_users.unwrap_or(settings.unknown_users),
            anonymous: listener
                .and_then(|listener| listener.anonymous)
                .unwrap_or(settings.anonymous),
            chain: Chain::new(providers, settings.answer_in),
            before_users,
            users: Arc::clone(users),
            of_here,
            acl,
        }
    }

    /// What would become of a client that shows what it should.
    fn foresee(&self, asked: &Prospect<'_>) -> Foreseen {
        match self.chain.foresee(asked) {
            Verdict::Allow(name) => Foreseen::LetIn(name),
            Verdict::Deny { why, .. } => Foreseen::Refused(why),
            Verdict::Ignore => self.foresee_unknown(asked),
        }
    }

    /// What becomes of one that no provider knows.
    fn foresee_unknown(&self, asked: &Prospect<'_>) -> Foreseen {
        let has_name = asked.username.is_some();
        if has_name && self.unknown_users == UnknownUsers::Refuse {
            return Foreseen::Refused("nobody is known by this user name (auth.unknown_users)".into());
        }
        if self.lets_in_anonymous(asked.address.is_loopback()) {
            return Foreseen::LetIn(None);
        }
        let why = match has_name {
            true => {
                "nobody is known by this user name, and anonymous clients may not connect from there (auth.anonymous)"
            }
            false => NO_NAME,
        };
        Foreseen::Refused(why.into())
    }

    /// The SCRAM keys of a user who is known here, as the file has them now.
    fn scram_keys(&self, name: &str) -> ScramKeys {
        self.users.scram_keys(name, self.of_here.as_deref())
    }

    /// Whether somebody who is there may come in without a name.
    fn lets_in_anonymous(&self, local: bool) -> bool {
        match self.anonymous {
            Anonymous::Nowhere => false,
            Anonymous::Loopback => local,
            Anonymous::Everywhere => true,
        }
    }
}

impl Inner {
    /// How clients are let in at a listener now.
    fn door(&self, listener: &str) -> Arc<Door> {
        Arc::clone(self.doors.read().of(listener))
    }

    /// The rules of a listener, which are those of its door.
    fn book(&self, listener: &str) -> Arc<Rulebook> {
        let doors = self.doors.read();
        let mut books = self.books.lock();
        if let Some(book) = books.get(listener) {
            return Arc::clone(book);
        }
        let book = Rulebook::new(listener, Arc::clone(&doors.of(listener).acl));
        books.insert(listener.into(), Arc::clone(&book));
        book
    }
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
            forgeable: info.forgeable,
            gone: info.gone,
            certificate: certificate(info),
            identity: identity(info),
            client: None,
            link: false,
            exchange: None,
        })
    }

    fn shared_key(&self, listener: &str, identity: &str) -> Finding {
        let (door, identity) = (self.0.door(listener), identity.to_owned());
        Box::pin(async move { door.chain.shared_key(&identity).await })
    }
}

/// The client's certificate, as this gateway or a trusted proxy has verified it.
fn certificate(info: &ConnectionInfo) -> Option<Arc<ClientCert>> {
    let own = info.tls.as_ref().and_then(|tls| tls.client_cert.clone());
    let of_proxy = || {
        let common_name = info.proxy_common_name.clone()?;
        Some(ClientCert {
            subject: format!("CN={common_name}"),
            common_name: Some(common_name),
            issuer: String::new(),
            serial: String::new(),
            san: Vec::new(),
            sha256: [0; 32],
        })
    };
    own.or_else(of_proxy).map(Arc::new)
}

/// The name of the key that the client has proved to have.
fn identity(info: &ConnectionInfo) -> Option<Arc<str>> {
    let identity = info.tls.as_ref()?.identity.as_deref()?;
    Some(identity.into())
}

/// One connection's conversation.
struct Session {
    shared: Arc<Inner>,
    listener: Arc<str>,
    peer: PeerAddr,
    address: IpAddr,
    local: bool,
    /// Others may have sent what is said to come from there.
    forgeable: bool,
    /// What it had shown is not known any more.
    gone: bool,
    certificate: Option<Arc<ClientCert>>,
    identity: Option<Arc<str>>,
    client: Option<ClientId>,
    /// It says that it is a broker.
    link: bool,
    exchange: Option<Box<Exchange>>,
}

impl AccessSession for Session {
    fn answer(mut self: Box<Self>, question: Question) -> Answering {
        Box::pin(async move {
            let plain = match &question {
                Question::Authenticate(given) => given.method.is_none(),
                Question::Readmit(_) => true,
                _ => false,
            };
            let answer = match question {
                Question::Authenticate(credentials) | Question::Reauthenticate(credentials) => {
                    self.authenticate(*credentials).await
                }
                Question::Continue(data) => self.continue_exchange(data.as_deref().unwrap_or_default()),
                Question::Readmit(known) => self.readmit(*known),
                Question::Identify => Answer::Identified(self.shown_name()),
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
            Question::Authenticate(_)
            | Question::Reauthenticate(_)
            | Question::Continue(_)
            | Question::Readmit(_) => Answer::Refused(AuthRefusal::NotAuthorized),
            Question::Identify => Answer::Identified(None),
        };
        Box::pin(std::future::ready((self as Box<dyn AccessSession>, answer)))
    }
}

impl Session {
    /// What the client's key or certificate says that it is.
    fn shown_name(&self) -> Option<Arc<str>> {
        let certificate = self.certificate.as_ref();
        let common_name = || certificate?.common_name.as_deref().map(Arc::from);
        self.identity.clone().or_else(common_name)
    }

    async fn authenticate(&mut self, credentials: Credentials) -> Answer {
        self.client = Some(credentials.client_id);
        self.link = credentials.link;
        self.exchange = None;
        if self.gone {
            let user = credentials.username.as_deref();
            return self.refused(user, "its session is over (DTLS)", AuthRefusal::Unavailable);
        }
        if let Some(refusal) = self.banned(credentials.username.as_deref()) {
            return refusal;
        }
        let door = self.shared.door(&self.listener);
        let refuses_name = door.unknown_users == UnknownUsers::Refuse && credentials.username.is_some();
        let attempt = Attempt {
            client_id: self.client.clone().unwrap_or_else(|| "".into()),
            username: credentials.username,
            password: credentials.password,
            address: self.address,
            certificate: self.certificate.clone(),
            identity: self.identity.clone(),
            may_be_anonymous: door.lets_in_anonymous(self.local) && !refuses_name,
        };
        if let Some(method) = credentials.method {
            let data = credentials.data.as_deref().unwrap_or_default();
            return self.start_exchange(&door, attempt, &method, data).await;
        }
        let username = attempt.username.as_deref();
        match door.chain.check(&attempt).await {
            Verdict::Allow(name) => self.allowed(name, None),
            Verdict::Deny { why, answer } => self.refused(username, &why, answer),
            Verdict::Ignore if attempt.may_be_anonymous => {
                if username.is_some() {
                    let client = attempt.client_id.as_str();
                    tracing::info!(
                        listener = %self.listener, client, user = username, peer = %self.peer,
                        "nobody knows this user name: the client is let in as an anonymous one"
                    );
                }
                self.allowed(None, None)
            }
            Verdict::Ignore if username.is_some() => {
                let why = "wrong user name or password";
                self.refused(username, why, AuthRefusal::BadUserNameOrPassword)
            }
            Verdict::Ignore => self.refused(None, NO_NAME, AuthRefusal::NotAuthorized),
        }
    }

    /// Somebody who was let in before a restart: as each provider foresees it of one that shows what it should, but for certificates and keys of a connection,
    /// which is gone. By another name than before it would have other rights.
    fn readmit(&mut self, known: Readmission) -> Answer {
        let Readmission {
            client_id,
            username,
            owner,
        } = known;
        self.client = Some(client_id.clone());
        let user = username.as_deref();
        if self.gone {
            return self.refused(user, "its session is over (DTLS)", AuthRefusal::Unavailable);
        }
        if let Some(refusal) = self.banned(user) {
            return refusal;
        }
        let asked = Prospect {
            client_id: client_id.as_str(),
            username: user,
            address: self.address,
            certificates: false,
            keys: false,
        };
        let door = self.shared.door(&self.listener);
        match door.foresee(&asked) {
            Foreseen::LetIn(name) if name == owner => self.allowed(name, None),
            Foreseen::LetIn(_) => {
                let why = "it would go by another user name than before the restart";
                self.refused(user, why, AuthRefusal::NotAuthorized)
            }
            Foreseen::Refused(why) => self.refused(user, &why, AuthRefusal::NotAuthorized),
        }
    }

    /// The providers before the users have a say as in any log-in: who is kept out there stays out, and who is known there by a name can be no other.
    async fn start_exchange(&mut self, door: &Door, attempt: Attempt, method: &str, data: &[u8]) -> Answer {
        let Some(before_users) = door.before_users.as_ref().filter(|_| method == scram::METHOD) else {
            let why = "an authentication method that is not offered";
            return self.refused(None, why, AuthRefusal::BadMethod);
        };
        let Some(first) = ClientFirst::parse(data) else {
            return self.refused(None, "malformed SCRAM data", AuthRefusal::NotAuthorized);
        };
        let name = first.username.as_str();
        if attempt.username.as_deref().is_some_and(|given| given != name) {
            let why = "its user name is another than that of its SCRAM log-in";
            return self.refused(Some(name), why, AuthRefusal::NotAuthorized);
        }
        let attempt = Attempt {
            username: Some(name.into()),
            may_be_anonymous: false,
            ..attempt
        };
        match before_users.check(&attempt).await {
            Verdict::Deny { why, answer } => return self.refused(Some(name), &why, answer),
            Verdict::Allow(Some(known)) if *known != *name => {
                let why = format!("it is known here as `{known}`");
                return self.refused(Some(name), &why, AuthRefusal::NotAuthorized);
            }
            Verdict::Allow(_) | Verdict::Ignore => {}
        }
        let mut nonce = [0; 18];
        if getrandom::fill(&mut nonce).is_err() {
            return self.refused(None, "the system has no random numbers", AuthRefusal::Unavailable);
        }
        let nonce = base64::engine::general_purpose::STANDARD.encode(nonce);
        let keys = door.scram_keys(name);
        let (exchange, challenge) = Exchange::start(first, keys, &nonce);
        self.exchange = Some(Box::new(exchange));
        Answer::Challenge(challenge.into())
    }

    fn continue_exchange(&mut self, data: &[u8]) -> Answer {
        let Some(exchange) = self.exchange.take() else {
            return self.refused(None, "an answer to no challenge", AuthRefusal::NotAuthorized);
        };
        let name = exchange.username();
        let Some(verifier) = exchange.finish(data) else {
            return self.refused(Some(name), "wrong SCRAM proof", AuthRefusal::NotAuthorized);
        };
        // Meanwhile the user may be gone, have another password, or not be let in here any more.
        let door = self.shared.door(&self.listener);
        if door.before_users.is_none() || !exchange.is_with(&door.scram_keys(name)) {
            let why = "its user was changed during the log-in";
            return self.refused(Some(name), why, AuthRefusal::NotAuthorized);
        }
        self.allowed(Some(name.into()), Some(verifier.into()))
    }

    /// Writes to the log who is not let in, and why.
    fn refused(&self, user: Option<&str>, why: &str, answer: AuthRefusal) -> Answer {
        let client = self.client.as_ref().map_or("", |client| client.as_str());
        tracing::info!(listener = %self.listener, client, user, peer = %self.peer, why, "client refused");
        let is_failure = matches!(
            answer,
            AuthRefusal::BadUserNameOrPassword | AuthRefusal::NotAuthorized
        );
        // Who can forge an address must not have its owner kept out.
        if is_failure && !self.local && !self.forgeable {
            self.tell(self.shared.bans.failed(self.address));
        }
        Answer::Refused(answer)
    }

    /// The refusal, if the client is banned.
    fn banned(&self, user: Option<&str>) -> Option<Answer> {
        let client = self.client.as_ref().map_or("", |client| client.as_str());
        let ban = self.shared.bans.of(client, user, self.address)?;
        let why = match ban.reason.as_str() {
            "" => "it is banned".to_owned(),
            reason => format!("it is banned: {reason}"),
        };
        Some(self.refused(user, &why, AuthRefusal::Banned))
    }

    /// Counts what may lead to a ban, and tells of one.
    fn tell(&self, ban: Option<Ban>) {
        let Some(ban) = ban else { return };
        tracing::warn!(listener = %self.listener, who = ?ban.who, reason = ban.reason, until = ban.until, "banned by itself");
    }

    fn allowed(&self, username: Option<Arc<str>>, data: Option<Bytes>) -> Answer {
        // The name may be another than the one it gave.
        if let Some(refusal) = self.banned(username.as_deref()) {
            return refusal;
        }
        let client = self.client.as_ref().map_or("", |client| client.as_str());
        let policy: Arc<dyn AccessPolicy> =
            self.shared
                .book(&self.listener)
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
mod tests;
