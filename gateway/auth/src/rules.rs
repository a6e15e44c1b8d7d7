//! Rules as they are used, wherever they come from: the configuration, or a file of another broker.

use crate::settings::{AclAction, AclEffect, AclRule, RefuseWith};
use headgate_access::Network;
use headgate_model::access::{AccessQuery, Action};
use schemars::JsonSchema;
use serde::Serialize;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) origin: Origin,
    pub(crate) effect: AclEffect,
    pub(crate) action: AclAction,
    pub(crate) who: Who,
    /// `None` for any topic and filter whatsoever.
    pub(crate) topics: Option<Vec<Template>>,
    pub(crate) condition: Condition,
    pub(crate) refuse_with: RefuseWith,
}

/// What else must hold for a rule to be about a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    /// By QoS.
    qos: [bool; 3],
    retain: Option<bool>,
}

/// None.
impl Default for Condition {
    fn default() -> Self {
        Self {
            qos: [true; 3],
            retain: None,
        }
    }
}

impl Condition {
    fn of(rule: &AclRule) -> Self {
        let is_meant = |qos: u8| rule.qos.as_ref().is_none_or(|meant| meant.contains(&qos));
        Self {
            qos: [0, 1, 2].map(is_meant),
            retain: rule.retain,
        }
    }

    pub(crate) fn holds(self, query: AccessQuery<'_>) -> bool {
        let retain = || match query.action {
            Action::Publish => self.retain.is_none_or(|retain| retain == query.retain),
            Action::Subscribe => self.retain.is_none(),
        };
        self.qos[query.qos as usize] && retain()
    }

    /// Whether a rule with it, that allows or denies, says something of what is delivered.
    pub(crate) fn is_about_reading(self, allows: bool) -> bool {
        self.retain.is_none() && (allows || self.qos == [true; 3])
    }
}

/// Where a rule stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// In `auth.acl`, from 0.
    Setting(usize),
    /// In `auth.acl_file`; lines from 1.
    File { path: Arc<Path>, line: usize },
    /// `auth.acl_file.nomatch`.
    NoMatch,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setting(n) => write!(f, "auth.acl[{n}]"),
            Self::File { path, line } => write!(f, "auth.acl_file {}:{line}", path.display()),
            Self::NoMatch => f.write_str("auth.acl_file.nomatch"),
        }
    }
}

/// Whom a rule concerns. `All` of nothing is everybody, `Any` of nothing is nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// Who has a user name.
    Named,
    /// Who has none.
    Anonymous,
    User(String),
    Client(String),
    From(Network),
    /// Who has `+` or `#` in the user name or the client id.
    WithWildcard,
    All(Vec<Who>),
    Any(Vec<Who>),
}

/// A client that rules may concern.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker<'a> {
    pub(crate) client: &'a str,
    pub(crate) user: Option<&'a str>,
    pub(crate) address: IpAddr,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |f: &mut fmt::Formatter<'_>, all: &[Self], word: &str, none: &str| match all {
            [] => f.write_str(none),
            all => {
                let all: Vec<String> = all.iter().map(Self::to_string).collect();
                f.write_str(&all.join(word))
            }
        };
        match self {
            Self::Named => f.write_str("any user"),
            Self::Anonymous => f.write_str("who has no user name"),
            Self::User(name) => write!(f, "user {name}"),
            Self::Client(id) => write!(f, "client {id}"),
            Self::From(network) => write!(f, "from {network}"),
            Self::WithWildcard => f.write_str("who has a wildcard in the name"),
            Self::All(all) => joined(f, all, " and ", "everybody"),
            Self::Any(all) => joined(f, all, " or ", "nobody"),
        }
    }
}

impl Entry {
    /// As operators are told.
    pub(crate) fn view(&self) -> RuleView {
        let topic = |template: &Template| match template.exactly {
            true => format!("eq {}", template.filter),
            false => template.filter.clone(),
        };
        RuleView {
            rule: self.origin.to_string(),
            effect: self.effect,
            action: self.action,
            who: self.who.to_string(),
            topics: self
                .topics
                .as_ref()
                .map(|topics| topics.iter().map(topic).collect()),
            qos: (0..=2)
                .filter(|qos| self.condition.qos[usize::from(*qos)])
                .collect(),
            retain: self.condition.retain,
        }
    }
}

/// A rule, as operators are told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RuleView {
    /// Where it stands.
    pub rule: String,
    /// What a match means.
    pub effect: AclEffect,
    /// What it is about.
    pub action: AclAction,
    /// Whom it concerns, in words.
    pub who: String,
    /// Topics and filters; `None` for all.
    pub topics: Option<Vec<String>>,
    /// The QoS that it is about.
    pub qos: Vec<u8>,
    /// It is about messages that are to be retained, or not to be.
    pub retain: Option<bool>,
}

impl Who {
    pub(crate) const EVERYBODY: Self = Self::All(Vec::new());

    pub(crate) fn includes(&self, asker: &Asker<'_>) -> bool {
        match self {
            Self::Named => asker.user.is_some(),
            Self::Anonymous => asker.user.is_none(),
            Self::User(name) => asker.user == Some(name),
            Self::Client(id) => asker.client == id,
            Self::From(network) => network.contains(asker.address),
            Self::WithWildcard => {
                let names = [Some(asker.client), asker.user];
                names.iter().flatten().any(|name| name.contains(['+', '#']))
            }
            Self::All(conditions) => conditions.iter().all(|who| who.includes(asker)),
            Self::Any(conditions) => conditions.iter().any(|who| who.includes(asker)),
        }
    }

    /// The user without whose name it concerns nobody.
    pub(crate) fn only_user(&self) -> Option<&str> {
        match self {
            Self::User(name) => Some(name),
            Self::All(conditions) => conditions.iter().find_map(Self::only_user),
            _ => None,
        }
    }
}

/// A topic filter with places for names in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    pub(crate) filter: String,
    /// What is asked for must be this very text.
    pub(crate) exactly: bool,
    pub(crate) names: Names,
}

/// Where `%c` and `%u` stand for client id and user name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    Anywhere,
    /// Where they are a whole level.
    Levels,
    /// Nowhere: they are text.
    Nowhere,
}

impl Template {
    pub(crate) fn is_personal(&self) -> bool {
        self.names != Names::Nowhere && (self.filter.contains("%c") || self.filter.contains("%u"))
    }

    /// With the names in their places; `None` where one is missing, or holds `/`, `+` or `#`.
    pub(crate) fn filled(&self, client: &str, user: Option<&str>) -> Option<String> {
        if !self.is_personal() {
            return Some(self.filter.clone());
        }
        let value = |placeholder: &str| {
            let value = if placeholder == "%c" { Some(client) } else { user };
            value.filter(|value| !value.contains(['/', '+', '#']))
        };
        if self.names == Names::Levels {
            let levels = self.filter.split('/').map(|level| match level {
                "%c" | "%u" => value(level),
                level => Some(level),
            });
            return Some(levels.collect::<Option<Vec<_>>>()?.join("/"));
        }
        let mut text = self.filter.clone();
        for placeholder in ["%c", "%u"] {
            if self.filter.contains(placeholder) {
                text = text.replace(placeholder, value(placeholder)?);
            }
        }
        Some(text)
    }
}

impl Entry {
    /// Everything is allowed to everybody where no rule of the file matches.
    pub(crate) fn of_nomatch() -> Self {
        Self {
            origin: Origin::NoMatch,
            effect: AclEffect::Allow,
            action: AclAction::All,
            who: Who::EVERYBODY,
            topics: None,
            condition: Condition::default(),
            refuse_with: RefuseWith::default(),
        }
    }

    /// The rule that stands at this place of `auth.acl`.
    pub(crate) fn of_setting(n: usize, rule: &AclRule) -> Self {
        let user = rule.user.as_ref().map(|name| match name.as_str() {
            "*" => Who::Named,
            name => Who::User(name.to_owned()),
        });
        let client = rule.client.clone().map(Who::Client);
        let address = rule.address.map(Who::From);
        let template = |topic: &String| {
            let exact = topic.strip_prefix("eq ");
            Template {
                filter: exact.unwrap_or(topic).to_owned(),
                exactly: exact.is_some(),
                names: Names::Anywhere,
            }
        };
        Self {
            origin: Origin::Setting(n),
            effect: rule.effect,
            action: rule.action,
            who: Who::All([user, client, address].into_iter().flatten().collect()),
            topics: rule
                .topics
                .as_ref()
                .map(|topics| topics.iter().map(template).collect()),
            condition: Condition::of(rule),
            refuse_with: rule.refuse_with,
        }
    }
}
