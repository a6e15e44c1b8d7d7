//! Rules: parsed once, cut down to those that can concern a client when it connects, then asked for every request.

use crate::foreign::AclFileError;
use crate::rules::{Asker, Condition, Entry, Names, Origin, RuleView, Template};
use crate::settings::{AclAction, AclEffect, AclFormat, AclRule, AuthSettings, OnDeny, RefuseWith};
use headgate_model::access::{AccessQuery, DenyCode};
use headgate_model::bus::{PeerName, Presence};
use headgate_model::{AccessDecision, AccessPolicy, Action, ClientId, Fault, TopicFilter};
use parking_lot::{Mutex, RwLock};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Weak};

/// A rule that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum AclError {
    /// Not a topic filter.
    #[error("acl.topics: `{topic}` is not a topic filter: {cause}")]
    Topic {
        /// As written.
        topic: String,
        /// What is wrong.
        cause: String,
    },
    /// A list without an entry.
    #[error("acl.topics: an empty list is for no topic at all; leave `topics` out for all topics")]
    NoTopics,
    /// The file of rules cannot be used.
    #[error("acl_file: {0}")]
    File(#[from] AclFileError),
}

/// Topics of rules with what looks like a placeholder and is none, so that it stands for itself: keys as seen from `auth`.
pub fn unknown_placeholders(rules: &[AclRule]) -> Vec<Fault> {
    let mut warnings = Vec::new();
    for (n, rule) in rules.iter().enumerate() {
        for (at, topic) in rule.topics.iter().flatten().enumerate() {
            if let Some(unknown) = unknown_placeholder(topic) {
                let what = format!(
                    "`{topic}`: `{unknown}` stands for itself; placeholders are `%c` for the client id and `%u` for the user name"
                );
                warnings.push(Fault::new(format!("acl[{n}].topics[{at}]"), what));
            }
        }
    }
    warnings
}

/// `%x`, or `${name}` as other brokers write it.
fn unknown_placeholder(topic: &str) -> Option<&str> {
    topic.char_indices().find_map(|(at, c)| {
        let rest = &topic[at..];
        let end = match c {
            '%' => match rest.as_bytes().get(1)? {
                b'c' | b'u' => return None,
                letter if letter.is_ascii_alphabetic() => 2,
                _ => return None,
            },
            '$' if rest.starts_with("${") => rest.find('}')? + 1,
            _ => return None,
        };
        Some(&rest[..end])
    })
}

/// The rules that are valid now. Clients look here when they are told that the rules have changed.
#[derive(Debug)]
pub(crate) struct Rulebook {
    /// At this listener.
    listener: Arc<str>,
    current: RwLock<Arc<Acl>>,
}

impl Rulebook {
    pub(crate) fn new(listener: &str, acl: Arc<Acl>) -> Arc<Self> {
        let (listener, current) = (listener.into(), RwLock::new(acl));
        Arc::new(Self { listener, current })
    }

    /// These rules from now on; whether they say something else.
    pub(crate) fn replace(&self, acl: Arc<Acl>) -> bool {
        let old = std::mem::replace(&mut *self.current.write(), acl);
        !old.says_the_same(&self.current.read())
    }

    /// The rules that can concern this client.
    pub(crate) fn policy(
        self: &Arc<Self>,
        client: &str,
        user: Option<&str>,
        address: IpAddr,
    ) -> Arc<ClientPolicy> {
        let acl = Arc::clone(&self.current.read());
        let asker = Asker {
            client,
            user,
            address,
        };
        acl.policy(self, asker)
    }
}

/// The rules of the configuration, then those of its file.
#[derive(Debug)]
pub(crate) struct Acl {
    rules: Vec<Entry>,
    /// The places of the rules that concern nobody without this user name,
    by_user: HashMap<String, Vec<usize>>,
    /// and of all others.
    for_many: Vec<usize>,
    /// Whether everybody may subscribe to everything, and gets what may be read.
    grants_subscriptions: bool,
    /// Who wants what it may not is disconnected.
    disconnects: bool,
    nomatch: DenyCode,
    /// Users whose sessions may be links.
    links: HashSet<String>,
    /// Users who may do everything but speak for the gateway.
    superusers: HashSet<String>,
    /// What many clients of one listener share. Those of another may have other rules tomorrow.
    shared: Mutex<HashMap<Shared, Arc<ClientPolicy>>>,
}

/// The places of the rules that concern a client, whether it may be a link, and whether no rule is asked.
type Concerned = (Vec<usize>, bool, bool);

/// By which listener, and what of the rules.
type Shared = (Arc<str>, Concerned);

/// Sets of rules that are remembered.
const MAX_SHARED: usize = 1_000;

impl Acl {
    pub(crate) fn compile(settings: &AuthSettings) -> Result<Self, AclError> {
        if let Some((.., error)) = Self::errors(settings).into_iter().next() {
            return Err(error);
        }
        let settled = settings.rules().iter().enumerate();
        let mut rules: Vec<Entry> = settled.map(|(n, rule)| Entry::of_setting(n, rule)).collect();
        if let Some(file) = &settings.acl_file {
            rules.extend(file.read().map_err(|mut errors| errors.swap_remove(0))?);
            if file.nomatch == AclEffect::Allow {
                rules.push(Entry::of_nomatch());
            }
        }
        Ok(Self::of(rules, settings))
    }

    fn of(rules: Vec<Entry>, settings: &AuthSettings) -> Self {
        let mut by_user: HashMap<String, Vec<usize>> = HashMap::new();
        let mut for_many = Vec::new();
        for (place, rule) in rules.iter().enumerate() {
            match rule.who.only_user() {
                Some(user) => by_user.entry(user.to_owned()).or_default().push(place),
                None => for_many.push(place),
            }
        }
        let format = settings.acl_file.as_ref().map(|file| file.format);
        let as_the_file = format == Some(AclFormat::Mosquitto);
        Self {
            rules,
            by_user,
            for_many,
            grants_subscriptions: settings.grant_subscriptions.unwrap_or(as_the_file),
            disconnects: settings.on_deny == OnDeny::Disconnect,
            nomatch: deny_code(settings.refuse_with),
            links: settings.links.iter().cloned().collect(),
            superusers: settings.superusers.iter().cloned().collect(),
            shared: Mutex::default(),
        }
    }

    /// As operators are told.
    pub(crate) fn views(&self) -> Vec<RuleView> {
        self.rules.iter().map(Entry::view).collect()
    }

    fn says_the_same(&self, other: &Self) -> bool {
        let said = |acl: &Self| (acl.grants_subscriptions, acl.nomatch, acl.disconnects);
        said(self) == said(other) && self.rules == other.rules && self.links == other.links
    }

    /// All that is wrong with the rules, by their places, and by those of their topics.
    pub(crate) fn errors(settings: &AuthSettings) -> Vec<(usize, Option<usize>, AclError)> {
        let mut errors = Vec::new();
        for (n, rule) in settings.acl.iter().enumerate() {
            let topics = rule.topics.as_deref();
            if topics.is_some_and(<[String]>::is_empty) {
                errors.push((n, None, AclError::NoTopics));
            }
            for (at, topic) in topics.unwrap_or_default().iter().enumerate() {
                let filter = topic.strip_prefix("eq ").unwrap_or(topic);
                if let Err(cause) = TopicFilter::try_from(filter) {
                    let (topic, cause) = (topic.clone(), cause.to_string());
                    errors.push((n, Some(at), AclError::Topic { topic, cause }));
                }
            }
        }
        errors
    }

    /// The rules that can concern this client. Clients for which they are the same share them.
    fn policy(self: &Arc<Self>, book: &Arc<Rulebook>, asker: Asker<'_>) -> Arc<ClientPolicy> {
        let own = asker.user.and_then(|user| self.by_user.get(user));
        let candidates = self.for_many.iter().chain(own.into_iter().flatten());
        let concerned = candidates.filter(|at| self.rules[**at].who.includes(&asker));
        let mut chosen: Vec<usize> = concerned.copied().collect();
        chosen.sort_unstable();
        let may_link = self.links.contains("*") || asker.user.is_some_and(|user| self.links.contains(user));
        let superuser = asker.user.is_some_and(|user| self.superusers.contains(user));
        if superuser {
            chosen.clear();
        }
        let topics = chosen.iter().flat_map(|at| &self.rules[*at].topics);
        if topics.flatten().any(Template::is_personal) {
            return Arc::new(self.cut_down(book, &(chosen, may_link, superuser), asker));
        }
        let key = (Arc::clone(&book.listener), (chosen, may_link, superuser));
        let mut shared = self.shared.lock();
        if let Some(policy) = shared.get(&key) {
            return Arc::clone(policy);
        }
        let policy = Arc::new(self.cut_down(book, &key.1, asker));
        if shared.len() < MAX_SHARED {
            shared.insert(key, Arc::clone(&policy));
        }
        policy
    }

    fn cut_down(
        self: &Arc<Self>,
        book: &Arc<Rulebook>,
        (chosen, may_link, superuser): &Concerned,
        asker: Asker<'_>,
    ) -> ClientPolicy {
        let rules = chosen.iter().map(|at| &self.rules[*at]);
        let rules = rules.map(|rule| Rule {
            origin: rule.origin.clone(),
            decision: match rule.effect {
                AclEffect::Allow => AccessDecision::Allow,
                AclEffect::Deny => AccessDecision::Deny(deny_code(rule.refuse_with)),
            },
            action: rule.action,
            condition: rule.condition,
            topics: rule.topics.as_ref().map(|topics| {
                let denies = rule.effect == AclEffect::Deny;
                let patterns = topics.iter().map(|topic| {
                    let pattern = Pattern::of(topic, asker);
                    pattern.or_else(|| denies.then(|| Pattern::around(topic, asker.user))?)
                });
                patterns.flatten().collect()
            }),
        });
        ClientPolicy {
            rules: rules.collect(),
            grants_subscriptions: self.grants_subscriptions,
            disconnects: self.disconnects,
            nomatch: match superuser {
                true => AccessDecision::Allow,
                false => AccessDecision::Deny(self.nomatch),
            },
            may_link: *may_link,
            book: Arc::downgrade(book),
            of: Arc::downgrade(self),
        }
    }
}

/// The rules of one client.
#[derive(Debug)]
pub(crate) struct ClientPolicy {
    rules: Vec<Rule>,
    /// Where those are that are valid now,
    book: Weak<Rulebook>,
    /// and of which rules these are a part.
    of: Weak<Acl>,
    grants_subscriptions: bool,
    disconnects: bool,
    /// Where no rule decides.
    nomatch: AccessDecision,
    may_link: bool,
}

#[derive(Debug)]
struct Rule {
    origin: Origin,
    decision: AccessDecision,
    action: AclAction,
    condition: Condition,
    /// `None` for any topic and filter whatsoever, also those with `$` in front, which no wildcard stands for.
    topics: Option<Vec<Pattern>>,
}

impl Rule {
    fn is_about(&self, action: Action) -> bool {
        match self.action {
            AclAction::All => true,
            AclAction::Publish => action == Action::Publish,
            AclAction::Subscribe => action == Action::Subscribe,
        }
    }

    /// Whether it says something of what is delivered. What is delivered is held against no QoS: a rule that allows some of them lets it be read, and one that
    /// denies some of them keeps nothing back.
    fn is_about_reading(&self) -> bool {
        self.is_about(Action::Subscribe) && self.condition.is_about_reading(self.allows())
    }

    fn allows(&self) -> bool {
        self.decision == AccessDecision::Allow
    }

    fn covers(&self, query: AccessQuery<'_>) -> bool {
        let action = self.is_about(query.action) && self.condition.holds(query);
        let covered = |topics: &Vec<Pattern>| topics.iter().any(|topic| topic.covers(query.topic));
        action && self.topics.as_ref().is_none_or(covered)
    }
}

#[derive(Debug)]
enum Pattern {
    Filter(TopicFilter),
    /// `eq`: the topic asked for must be this very text.
    Exactly(TopicFilter),
}

impl ClientPolicy {
    /// The first rule that matches.
    fn rule(&self, query: AccessQuery<'_>) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.covers(query))
    }

    /// A rule of the configuration refuses a subscription all the same.
    fn is_granted_anyway(&self, query: AccessQuery<'_>, rule: Option<&Rule>) -> bool {
        let is_configured = rule.is_some_and(|rule| matches!(rule.origin, Origin::Setting(_)));
        self.grants_subscriptions && query.action == Action::Subscribe && !is_configured
    }
}

impl AccessPolicy for ClientPolicy {
    fn check(&self, query: AccessQuery<'_>) -> AccessDecision {
        match self.rule(query) {
            Some(rule) if rule.allows() => AccessDecision::Allow,
            rule if self.is_granted_anyway(query, rule) => AccessDecision::Allow,
            Some(rule) => rule.decision,
            None => self.nomatch,
        }
    }

    fn why(&self, query: AccessQuery<'_>) -> Cow<'static, str> {
        match self.rule(query) {
            Some(rule) if rule.allows() => rule.origin.to_string().into(),
            rule if self.is_granted_anyway(query, rule) => "auth.grant_subscriptions".into(),
            Some(rule) => rule.origin.to_string().into(),
            None if self.nomatch == AccessDecision::Allow => "auth.superusers".into(),
            None => "no rule of auth.acl or auth.acl_file allows it".into(),
        }
    }

    /// The rules are looked through as for a subscription: a rule that denies some of the filter narrows it, if it stands before the one that allows all of it.
    fn narrows(&self, filter: &[u8]) -> bool {
        for rule in self.rules.iter().filter(|rule| rule.is_about_reading()) {
            let any = |of: &dyn Fn(&Pattern) -> bool| {
                rule.topics.as_ref().is_none_or(|topics| topics.iter().any(of))
            };
            if rule.allows() && any(&|topic| topic.covers(filter)) {
                return false;
            }
            if !rule.allows() && any(&|topic| topic.meets(filter)) {
                return true;
            }
        }
        self.nomatch != AccessDecision::Allow
    }

    /// The first rule that the topic matches. One that allows the very filter `eq …` allows what that matches.
    fn may_read(&self, topic: &[u8]) -> bool {
        let matches = |rule: &&Rule| {
            let matches = |pattern: &Pattern| match pattern {
                Pattern::Exactly(filter) if rule.allows() => filter.matches(topic),
                pattern => pattern.covers(topic),
            };
            let topics = rule.topics.as_ref();
            rule.is_about_reading() && topics.is_none_or(|topics| topics.iter().any(matches))
        };
        self.rules
            .iter()
            .find(matches)
            .map_or(self.nomatch == AccessDecision::Allow, Rule::allows)
    }

    fn renewed(&self, client: &ClientId, who: &Presence) -> Option<Arc<dyn AccessPolicy>> {
        let book = self.book.upgrade()?;
        if Arc::as_ptr(&book.current.read()) == self.of.as_ptr() {
            return None;
        }
        let address = match who.peer {
            PeerName::Ip(address) => address.to_canonical(),
            PeerName::Other(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        };
        Some(book.policy(client.as_str(), who.username.as_deref(), address))
    }

    fn listener(&self) -> Option<Arc<str>> {
        Some(Arc::clone(&self.book.upgrade()?.listener))
    }

    fn disconnects(&self) -> bool {
        self.disconnects
    }

    fn may_ask(&self) -> bool {
        false
    }

    fn may_link(&self) -> bool {
        self.may_link
    }
}

impl Pattern {
    /// A client id or user name that holds `/`, `+` or `#`, or makes a name of the gateway's own, must not widen a rule: then the topic matches nothing.
    fn of(topic: &Template, asker: Asker<'_>) -> Option<Self> {
        let text = topic.filled(asker.client, asker.user)?;
        if text.starts_with('$') && !topic.filter.starts_with('$') {
            return None;
        }
        let filter = TopicFilter::try_from(text.as_str()).ok()?;
        Some(if topic.exactly {
            Self::Exactly(filter)
        } else {
            Self::Filter(filter)
        })
    }

    /// What a rule denies to a client whose name does not fit in: everything below, so that an odd name is no way around it. Who has no user name has
    /// none that could be meant.
    fn around(topic: &Template, user: Option<&str>) -> Option<Self> {
        let filter = topic.filter.as_str();
        if topic.names == Names::Nowhere || user.is_none() && filter.contains("%u") {
            return None;
        }
        let at = filter.find("%c").into_iter().chain(filter.find("%u")).min()?;
        let level = filter[..at].rfind('/').map_or(0, |slash| slash + 1);
        let filter = TopicFilter::try_from(format!("{}#", &filter[..level]).as_str());
        filter.ok().map(Self::Filter)
    }

    /// Whether there is a topic that this and `filter` both match.
    fn meets(&self, filter: &[u8]) -> bool {
        match self {
            Self::Exactly(topic) => {
                !topic.has_wildcard() && headgate_model::topic::matches(filter, topic.as_bytes())
            }
            Self::Filter(other) => meet(other.as_bytes(), filter),
        }
    }

    fn covers(&self, query: &[u8]) -> bool {
        match self {
            Self::Exactly(filter) => filter.as_bytes() == query,
            Self::Filter(filter) => covers(filter.as_bytes(), query),
        }
    }
}

/// Whether every name that `query`, a name or a filter, stands for matches `filter`.
fn covers(filter: &[u8], query: &[u8]) -> bool {
    if matches!(filter.first(), Some(b'+' | b'#')) && query.first() == Some(&b'$') {
        return false;
    }
    let mut asked = query.split(|b| *b == b'/');
    for level in filter.split(|b| *b == b'/') {
        match (level, asked.next()) {
            (b"#", _) => return true,
            (_, None | Some(b"#")) => return false,
            (b"+", Some(_)) => {}
            (level, Some(asked)) if level == asked => {}
            _ => return false,
        }
    }
    asked.next().is_none()
}

/// Whether there is a topic that both filters match.
fn meet(one: &[u8], other: &[u8]) -> bool {
    let wild = |filter: &[u8]| matches!(filter.first(), Some(b'+' | b'#'));
    let system = |filter: &[u8]| filter.first() == Some(&b'$');
    if wild(one) && system(other) || system(one) && wild(other) {
        return false; // [MQTT-4.7.2-1]
    }
    let (mut one, mut other) = (one.split(|b| *b == b'/'), other.split(|b| *b == b'/'));
    loop {
        match (one.next(), other.next()) {
            (Some(b"#"), _) | (_, Some(b"#")) | (None, None) => return true,
            (None, Some(_)) | (Some(_), None) => return false,
            (Some(b"+"), Some(_)) | (Some(_), Some(b"+")) => {}
            (Some(level), Some(same)) if level == same => {}
            _ => return false,
        }
    }
}

fn deny_code(refuse_with: RefuseWith) -> DenyCode {
    match refuse_with {
        RefuseWith::NotAuthorized => DenyCode::NotAuthorized,
        RefuseWith::UnspecifiedError => DenyCode::Unspecified,
    }
}

#[cfg(test)]
pub(crate) mod tests;
