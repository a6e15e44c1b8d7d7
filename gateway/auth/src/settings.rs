//! What an operator may set about access.

use crate::acl::Acl;
use headgate_access::{Network, SharedKey};
use headgate_model::{Fault, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// Who may connect and what they may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AuthSettings {
    /// Where clients are let in without being known: without a user name, or with one that nobody in the chain knows. Such a client has no user name for the
    /// rules.
    pub anonymous: Anonymous,
    /// What becomes of a client that gives a user name which nobody knows, where anonymous clients are let in.
    pub unknown_users: UnknownUsers,
    /// Who is asked whether a client may come in, in this order: the first that knows it decides. `addresses`, `certificate`, `psk`, `client_ids` and `users` are
    /// the sections of these names and the file of users. Default: all, in this order.
    pub chain: Vec<ProviderName>,
    /// How long each of them may take; who is asked about there is refused then.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub answer_in: Duration,
    /// Clients that are let in, or kept out, by their address. The first entry that has the address decides.
    pub addresses: Vec<AddressLogin>,
    /// Clients that are known by their certificate, where a listener asks for one.
    pub certificate: CertificateSettings,
    /// Clients that are known by a key of their own: a shared key of DTLS (`psk_file`, `psk`), or a raw public key (`raw_keys`).
    pub psk: PskSettings,
    /// Clients that are known by their client id.
    pub client_ids: Vec<ClientIdLogin>,
    /// User names whose clients are asked no rule. `$SYS` stays the gateway's.
    pub superusers: Vec<String>,
    /// What is different at some listeners.
    pub listeners: Vec<ListenerAuth>,
    /// Who is kept out by itself for a time. `headgate bans` shows all bans, and adds and removes some.
    pub bans: BanSettings,
    /// The file of users, which `headgate users` keeps. Default: `users.json` in the data folder.
    pub users_file: Option<PathBuf>,
    /// How passwords are checked.
    pub passwords: PasswordSettings,
    /// Rules, the first that matches decides. Where none does, the answer is no. They are asked about topics as they are on the bus: with the mount point,
    /// and rewritten. `headgate reload` takes other rules, and they hold for open connections and sessions at once.
    /// Default: this machine may do everything; a client with a user name everything but `$SYS`.
    pub acl: Vec<AclRule>,
    /// A file of rules as another broker has them. They are asked after those of `acl`, or instead of them where `acl` is left out. It is read again with
    /// `headgate reload`; if it is faulty, the rules of before stay. docs/security.md says what is read how.
    pub acl_file: Option<AclFile>,
    /// Whether every subscription is granted that no rule of `acl` denies, and what the rules do not allow to read is not delivered, as mosquitto does it:
    /// then a client with narrow rights may subscribe to `#`. Otherwise a subscription needs a rule that allows all of it. Default: as the broker does it whose
    /// `acl_file` is read; false without one.
    pub grant_subscriptions: Option<bool>,
    /// How a client is told that no rule allows what it asked for. `headgate reload` takes another value.
    pub refuse_with: RefuseWith,
    /// What becomes of a client that publishes or subscribes where it may not. `headgate reload` takes another value.
    pub on_deny: OnDeny,
    /// User names of other brokers that bridge to this one, which may be links: nothing goes back that came from them, and what came by another link
    /// too is not routed again. `*` stands for every client that is let in, with or without a name. Default: nobody. A bridge that is not named here is a
    /// client like any other. `headgate reload` takes other names.
    pub links: Vec<String>,
}

impl AuthSettings {
    /// The rules of `acl`: without those of the default, if a file stands for them.
    pub(crate) fn rules(&self) -> &[AclRule] {
        let is_default = self.acl_file.is_some() && self.acl == Self::default().acl;
        if is_default { &[] } else { &self.acl }
    }

    /// All that is wrong with the files of other brokers.
    pub fn obstacles(&self) -> Vec<Fault> {
        let own = self.acl_file.iter().map(|file| ("acl_file".to_owned(), file));
        let listeners = self.listeners.iter().enumerate();
        let theirs = listeners.filter_map(|(n, listener)| {
            let file = listener.acl_file.as_ref()?;
            Some((format!("listeners[{n}].acl_file"), file))
        });
        let errors = own.chain(theirs).flat_map(|(key, file)| {
            let errors = file.read().err().unwrap_or_default().into_iter();
            errors.map(move |error| Fault::new(key.clone(), error.to_string()))
        });
        errors.collect()
    }

    /// Whether there is a file of rules, for all or for one listener: it may have changed.
    pub fn has_acl_file(&self) -> bool {
        let mut listeners = self.listeners.iter();
        self.acl_file.is_some() || listeners.any(|listener| listener.acl_file.is_some())
    }

    /// What holds at one listener.
    pub(crate) fn at(&self, listener: &ListenerAuth) -> Self {
        let mut settings = self.clone();
        if let Some(acl) = &listener.acl {
            settings.acl.clone_from(acl);
        }
        if listener.acl_file.is_some() {
            settings.acl_file.clone_from(&listener.acl_file);
        }
        settings.grant_subscriptions = listener.grant_subscriptions.or(self.grant_subscriptions);
        settings
    }
}

impl Default for AuthSettings {
    fn default() -> Self {
        let rule = |effect, address: Option<&str>, user: Option<&str>, topic: Option<&str>| AclRule {
            effect,
            action: AclAction::All,
            user: user.map(str::to_owned),
            client: None,
            address: address.map(|net| net.parse().expect("a constant")),
            topics: topic.map(|topic| vec![topic.to_owned()]),
            qos: None,
            retain: None,
            refuse_with: RefuseWith::default(),
        };
        Self {
            anonymous: Anonymous::default(),
            unknown_users: UnknownUsers::default(),
            chain: ProviderName::ALL.to_vec(),
            answer_in: Duration::from_secs(10),
            addresses: Vec::new(),
            certificate: CertificateSettings::default(),
            psk: PskSettings::default(),
            client_ids: Vec::new(),
            superusers: Vec::new(),
            listeners: Vec::new(),
            bans: BanSettings::default(),
            users_file: None,
            passwords: PasswordSettings::default(),
            acl: vec![
                rule(AclEffect::Allow, Some("127.0.0.0/8"), None, None),
                rule(AclEffect::Allow, Some("::1/128"), None, None),
                rule(AclEffect::Allow, None, Some("*"), Some("#")),
            ],
            acl_file: None,
            grant_subscriptions: None,
            refuse_with: RefuseWith::default(),
            on_deny: OnDeny::default(),
            links: Vec::new(),
        }
    }
}

/// Who is kept out by itself for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BanSettings {
    /// Log-ins that fail from one address within `within` before nobody is let in from there; an IPv6 network of 64 bits counts as one. This machine is never
    /// banned by itself. 0 for no such ban.
    pub failures: u32,
    /// How often one client id may connect within `within` before it is kept out. 0 for no such ban.
    pub connects: u32,
    /// See these.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub within: Duration,
    /// How long such a ban lasts.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub lasts: Duration,
}

impl Default for BanSettings {
    fn default() -> Self {
        Self {
            failures: 100,
            connects: 0,
            within: Duration::from_secs(60),
            lasts: Duration::from_secs(300),
        }
    }
}

/// How passwords are checked. One check takes a core for tens of milliseconds and 19 MiB of memory, and anybody may ask for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PasswordSettings {
    /// Passwords that are checked at a time, 1 to 64. Default: half as many as there are cores, at most 2.
    pub at_once: usize,
    /// Log-ins that wait for their check. Addresses take turns; a further log-in is refused as busy (0x89), or takes the place of one from an address with
    /// more of them.
    pub max_waiting: usize,
    /// Log-ins of one address that wait; an IPv6 network of 64 bits counts as one. A further one is refused as busy (0x89).
    pub max_waiting_per_address: usize,
    /// How long a right log-in is remembered, under a key and in memory only, so that a client that comes back costs no check. It is forgotten when the
    /// user gets another password or is removed. `0s` for never.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub remember: Duration,
}

impl Default for PasswordSettings {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            at_once: (cores / 2).clamp(1, 2),
            max_waiting: 1_000,
            max_waiting_per_address: 100,
            remember: Duration::from_secs(24 * 3_600),
        }
    }
}

impl PasswordSettings {
    fn faults(&self) -> Vec<Fault> {
        let numbers = [
            ("at_once", self.at_once, 64),
            ("max_waiting", self.max_waiting, 100_000),
            ("max_waiting_per_address", self.max_waiting_per_address, 100_000),
        ];
        let wrong = numbers
            .into_iter()
            .filter(|(_, value, most)| !(1..=*most).contains(value));
        let fault = |(key, value, most): (&str, usize, usize)| {
            Fault::new(key, format!("{value} is out of range, allowed is 1 to {most}"))
        };
        wrong.map(fault).collect()
    }
}

impl AuthSettings {
    /// All that is wrong, as far as it can be seen without reading a file.
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = rule_faults(self);
        let passwords = self.passwords.faults().into_iter();
        faults.extend(passwords.map(|fault| fault.below("passwords")));
        for (key, value) in [("bans.within", self.bans.within), ("bans.lasts", self.bans.lasts)] {
            if value < Duration::from_secs(1) {
                faults.push(Fault::new(
                    key,
                    format!("{value:?} is out of range, allowed is 1s and more"),
                ));
            }
        }
        if self.answer_in.is_zero() {
            faults.push(Fault::new(
                "answer_in",
                "0s is out of range, allowed is 1ms and more",
            ));
        }
        faults.extend(twice("chain", &self.chain));
        for (n, login) in self.client_ids.iter().enumerate() {
            if login.id.is_empty() {
                faults.push(Fault::new(
                    format!("client_ids[{n}].id"),
                    "the client id is empty: nobody has it",
                ));
            }
            if !login.psk.is_empty()
                && let Err(fault) = SharedKey::parse(login.psk.reveal())
            {
                faults.push(Fault::new(format!("client_ids[{n}].psk"), fault.to_string()));
            }
            if self.client_ids[..n].iter().any(|other| other.id == login.id) {
                let what = format!("`{}` stands twice", login.id);
                faults.push(Fault::new(format!("client_ids[{n}].id"), what));
            }
        }
        for (n, listener) in self.listeners.iter().enumerate() {
            let below = format!("listeners[{n}]");
            let mut found: Vec<Fault> = listener
                .chain
                .iter()
                .flat_map(|chain| twice("chain", chain))
                .collect();
            if self.listeners[..n]
                .iter()
                .any(|other| other.name == listener.name)
            {
                found.push(Fault::new("name", format!("`{}` stands twice", listener.name)));
            }
            if let Some(acl) = &listener.acl {
                let acl = acl.clone();
                found.extend(rule_faults(&Self {
                    acl,
                    ..Self::default()
                }));
            }
            faults.extend(found.into_iter().map(|fault| fault.below(&below)));
        }
        faults
    }
}

fn rule_faults(settings: &AuthSettings) -> Vec<Fault> {
    let rules = Acl::errors(settings).into_iter();
    let fault = |(n, at, error): (usize, Option<usize>, _)| {
        let mut fault = Fault::of(&error).of_entry(n);
        if let Some(at) = at {
            fault.key.push_str(&format!("[{at}]"));
        }
        fault
    };
    let mut faults: Vec<Fault> = rules.map(fault).collect();
    for (n, rule) in settings.rules().iter().enumerate() {
        let qos = rule.qos.as_ref();
        if let Some(wrong) = qos.and_then(|qos| qos.iter().find(|qos| **qos > 2)) {
            let what = format!("{wrong} is out of range, allowed is 0 to 2");
            faults.push(Fault::new(format!("acl[{n}].qos"), what));
        }
        if qos.is_some_and(Vec::is_empty) {
            let what = "an empty list is for no QoS at all; leave `qos` out for any";
            faults.push(Fault::new(format!("acl[{n}].qos"), what));
        }
        if rule.retain.is_some() && rule.action == AclAction::Subscribe {
            let what = "a subscription is not retained: leave it out, or say `action = \"publish\"`";
            faults.push(Fault::new(format!("acl[{n}].retain"), what));
        }
    }
    faults
}

/// Who stands in a chain twice.
fn twice<'a>(key: &'a str, chain: &'a [ProviderName]) -> impl Iterator<Item = Fault> + 'a {
    let again = (0..chain.len()).filter(|n| chain[..*n].contains(&chain[*n]));
    again.map(move |n| Fault::new(format!("{key}[{n}]"), "it stands there twice"))
}

/// Who may be asked whether a client may come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProviderName {
    /// `auth.addresses`.
    Addresses,
    /// `auth.certificate`.
    Certificate,
    /// `auth.psk`.
    Psk,
    /// `auth.client_ids`.
    ClientIds,
    /// The file of users, and SCRAM.
    Users,
}

impl ProviderName {
    /// All of them, in their usual order.
    pub const ALL: [Self; 5] = [
        Self::Addresses,
        Self::Certificate,
        Self::Psk,
        Self::ClientIds,
        Self::Users,
    ];
}

/// Clients that are let in, or kept out, by their address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AddressLogin {
    /// Address or network, such as `10.0.0.0/8`. A Unix-domain socket counts as `127.0.0.1`.
    #[schemars(with = "String")]
    pub network: Network,
    /// Whether they are let in without a password, or kept out.
    pub effect: AclEffect,
    /// The user name they go by. Default: none.
    #[serde(default)]
    pub user: Option<String>,
}

/// Clients that are known by their certificate. Nobody asks for a password.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CertificateSettings {
    /// What in the certificate is the user name. Default: nothing, a certificate names nobody.
    pub user_name: Option<CertificateName>,
    /// Which client ids the certificate is good for.
    pub client_id: CertificateClientId,
}

/// What in a certificate is the user name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CertificateName {
    /// The (last) common name of the subject, as with mosquitto's `use_identity_as_username`.
    CommonName,
    /// The whole subject, `CN=pump-7,O=Plant` (RFC 4514), as with mosquitto's `use_subject_as_username`.
    Subject,
    /// The first of the subject's alternative names.
    San,
}

impl CertificateName {
    pub(crate) fn in_words(self) -> &'static str {
        match self {
            Self::CommonName => "common name",
            Self::Subject => "subject",
            Self::San => "alternative name",
        }
    }
}

/// Which client ids a certificate is good for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CertificateClientId {
    /// Any.
    #[default]
    Any,
    /// The one that is the user name.
    UserName,
}

/// Clients that are known by a key of their own. Nobody asks for a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PskSettings {
    /// Whether the identity of the key is the user name. Otherwise a key lets a client speak, and says nothing of who it is.
    pub user_name: bool,
    /// Which client ids the key is good for.
    pub client_id: PskClientId,
}

impl Default for PskSettings {
    fn default() -> Self {
        Self {
            user_name: true,
            client_id: PskClientId::Any,
        }
    }
}

/// Which client ids a key is good for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PskClientId {
    /// Any.
    #[default]
    Any,
    /// The one that is the identity.
    Identity,
}

/// A client that is known by its client id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientIdLogin {
    /// The client id.
    pub id: String,
    /// Its password. Default: none is asked for, and whoever calls itself so comes in, unless there is `psk`.
    #[serde(default)]
    #[schemars(with = "String")]
    pub password: Secret,
    /// Its shared key for DTLS, hexadecimal, 1 to 64 bytes; the identity is the client id. With a key and no password it comes in by DTLS alone. Default: none.
    #[serde(default)]
    #[schemars(with = "String")]
    pub psk: Secret,
    /// The user name it goes by. Default: none.
    #[serde(default)]
    pub user: Option<String>,
}

/// What is different at one listener. What is left out is as for all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerAuth {
    /// The listener's name, of `listeners` or of a gateway for datagrams.
    pub name: String,
    /// As `auth.anonymous`.
    #[serde(default)]
    pub anonymous: Option<Anonymous>,
    /// As `auth.unknown_users`.
    #[serde(default)]
    pub unknown_users: Option<UnknownUsers>,
    /// As `auth.chain`.
    #[serde(default)]
    pub chain: Option<Vec<ProviderName>>,
    /// As `auth.certificate`.
    #[serde(default)]
    pub certificate: Option<CertificateSettings>,
    /// As `auth.psk`.
    #[serde(default)]
    pub psk: Option<PskSettings>,
    /// As `auth.acl`, and instead of it.
    #[serde(default)]
    pub acl: Option<Vec<AclRule>>,
    /// As `auth.acl_file`, and instead of it.
    #[serde(default)]
    pub acl_file: Option<AclFile>,
    /// As `auth.grant_subscriptions`.
    #[serde(default)]
    pub grant_subscriptions: Option<bool>,
    /// Which users of the file may come in here; all others are unknown at this listener. Default: all users.
    #[serde(default)]
    pub users: Option<Vec<String>>,
}

impl ListenerAuth {
    /// Whether it has rules of its own.
    pub(crate) fn has_rules(&self) -> bool {
        self.acl.is_some() || self.acl_file.is_some() || self.grant_subscriptions.is_some()
    }
}

/// Where clients are let in that nobody knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Anonymous {
    /// Nowhere.
    Nowhere,
    /// From this machine: loopback addresses and Unix-domain sockets.
    #[default]
    Loopback,
    /// From everywhere. What they may do is up to the rules.
    Everywhere,
}

/// What becomes of a client with a user name that nobody knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum UnknownUsers {
    /// The name is ignored: it comes in as an anonymous client, if these are let in, and no rule for a user name fits it. So EMQ does it.
    #[default]
    Ignore,
    /// It is refused as with a wrong password. So mosquitto does it that has a file of passwords.
    Refuse,
}

/// One rule. What it leaves out matches all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AclRule {
    /// What a match means.
    pub effect: AclEffect,
    /// What it is about.
    #[serde(default)]
    pub action: AclAction,
    /// User name; `*` for any client that has one.
    #[serde(default)]
    pub user: Option<String>,
    /// Client id.
    #[serde(default)]
    pub client: Option<String>,
    /// Address or network the client comes from, such as `10.0.0.0/8`. A Unix-domain socket counts as `127.0.0.1`.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub address: Option<Network>,
    /// Topic filters; `%c` and `%u` stand for client id and user name; `eq a/#` means the very filter `a/#`. Of a message to
    /// `$delayed/{seconds}/a` the topic is `a`. Left out, the rule is for every topic and
    /// filter: those that begin with `$` and shared subscriptions too, for which `#` does not stand. A subscription to `a/#` that a rule allows is
    /// granted, and what an earlier rule denies of it, such as `a/secret/#`, is not delivered. A name with `/`, `+` or `#` in it, or one that would make
    /// a topic beginning with `$`, stands for nothing in a rule that allows; in one that denies, for everything below its place.
    #[serde(default)]
    pub topics: Option<Vec<String>>,
    /// The QoS that the rule is about, such as `[1, 2]`: of what is published, or of a subscription as it is asked for. Of what is
    /// delivered a rule that allows allows it at any QoS, and one that denies keeps nothing back. Default: any.
    #[serde(default)]
    pub qos: Option<Vec<u8>>,
    /// Only what is published to be retained, or not to be. Default: either.
    #[serde(default)]
    pub retain: Option<bool>,
    /// How a denied client is told.
    #[serde(default)]
    pub refuse_with: RefuseWith,
}

/// What becomes of a client that wants what it may not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnDeny {
    /// It is told, where its protocol can say so, and stays.
    #[default]
    Refuse,
    /// It is disconnected.
    Disconnect,
}

/// A file of rules of another broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AclFile {
    /// The file.
    pub path: PathBuf,
    /// Whose it is.
    pub format: AclFormat,
    /// What holds where no rule matches, as EMQ's `acl_nomatch`. Default: `deny`.
    #[serde(default = "deny")]
    pub nomatch: AclEffect,
}

fn deny() -> AclEffect {
    AclEffect::Deny
}

/// Who reads such a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AclFormat {
    /// `acl_file` of mosquitto. As there, every subscription is granted, and what the rules do not allow to read is not delivered.
    Mosquitto,
    /// `acl.conf` of EMQ 2.
    Emq,
}

/// What a match means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AclEffect {
    /// It may.
    Allow,
    /// It may not.
    Deny,
}

/// What a rule is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AclAction {
    /// Publishing and subscribing.
    #[default]
    All,
    /// Publishing.
    Publish,
    /// Subscribing.
    Subscribe,
}

/// How a denied client is told, where its protocol can tell. MQTT 5 §3.9.3
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RefuseWith {
    /// 0x87
    #[default]
    NotAuthorized,
    /// 0x80
    UnspecifiedError,
}
