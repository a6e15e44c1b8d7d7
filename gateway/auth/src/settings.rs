//! What an operator may set about access.

use crate::acl::Acl;
use headgate_access::Network;
use headgate_model::Fault;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// Who may connect and what they may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AuthSettings {
    /// Where clients without user name are let in.
    pub anonymous: Anonymous,
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
    /// How a client is told that no rule allows what it asked for. `headgate reload` takes another value.
    pub refuse_with: RefuseWith,
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
        let errors = self.acl_file.as_ref().map(AclFile::read).and_then(Result::err);
        let errors = errors.into_iter().flatten();
        errors
            .map(|error| Fault::new("acl_file", error.to_string()))
            .collect()
    }

    /// Whether it has the same rules: those that can change while the gateway runs. What a file says may be another all the same.
    pub fn has_rules_of(&self, other: &Self) -> bool {
        self.acl == other.acl
            && self.acl_file == other.acl_file
            && self.links == other.links
            && self.refuse_with == other.refuse_with
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
            refuse_with: RefuseWith::default(),
        };
        Self {
            anonymous: Anonymous::default(),
            users_file: None,
            passwords: PasswordSettings::default(),
            acl: vec![
                rule(AclEffect::Allow, Some("127.0.0.0/8"), None, None),
                rule(AclEffect::Allow, Some("::1/128"), None, None),
                rule(AclEffect::Allow, None, Some("*"), Some("#")),
            ],
            acl_file: None,
            refuse_with: RefuseWith::default(),
            links: Vec::new(),
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
        let rules = Acl::errors(self).into_iter();
        let rules = rules.map(|(n, at, error)| {
            let mut fault = Fault::of(&error).of_entry(n);
            if let Some(at) = at {
                fault.key.push_str(&format!("[{at}]"));
            }
            fault
        });
        let passwords = self.passwords.faults().into_iter();
        rules
            .chain(passwords.map(|fault| fault.below("passwords")))
            .collect()
    }
}

/// Where clients without user name are let in.
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
    /// How a denied client is told.
    #[serde(default)]
    pub refuse_with: RefuseWith,
}

/// A file of rules of another broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AclFile {
    /// The file.
    pub path: PathBuf,
    /// Whose it is.
    pub format: AclFormat,
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
