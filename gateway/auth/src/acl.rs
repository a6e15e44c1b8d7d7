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
    current: RwLock<Arc<Acl>>,
}

impl Rulebook {
    pub(crate) fn new(acl: Arc<Acl>) -> Arc<Self> {
        let current = RwLock::new(acl);
        Arc::new(Self { current })
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
    /// What many clients share.
    shared: Mutex<HashMap<Concerned, Arc<ClientPolicy>>>,
}

/// The places of the rules that concern a client, whether it may be a link, and whether no rule is asked.
type Concerned = (Vec<usize>, bool, bool);

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
        let key = (chosen, may_link, superuser);
        let mut shared = self.shared.lock();
        if let Some(policy) = shared.get(&key) {
            return Arc::clone(policy);
        }
        let policy = Arc::new(self.cut_down(book, &key, asker));
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
pub(crate) mod tests {
    use super::*;
    use crate::settings::{AclFile, AclRule};
    use bytes::Bytes;
    use headgate_model::Qos;

    const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const ELSEWHERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 7));

    fn rule(effect: AclEffect, topics: &[&str]) -> AclRule {
        AclRule {
            effect,
            action: AclAction::All,
            user: None,
            client: None,
            address: None,
            topics: Some(topics.iter().map(|t| (*t).to_owned()).collect()),
            qos: None,
            retain: None,
            refuse_with: RefuseWith::default(),
        }
    }

    fn ask(policy: &ClientPolicy, action: Action, topic: &str) -> AccessDecision {
        let topic = Bytes::copy_from_slice(topic.as_bytes());
        policy.check(AccessQuery {
            action,
            topic: &topic,
            qos: Qos::AtMostOnce,
            retain: false,
        })
    }

    /// These rules, and no others.
    pub(crate) fn compiled(rules: Vec<Entry>) -> Arc<Rulebook> {
        Rulebook::new(Arc::new(Acl::of(rules, &AuthSettings::default())))
    }

    /// Whether a client may publish (`p`) or subscribe (`s`).
    pub(crate) fn asked(
        book: &Arc<Rulebook>,
        client: &str,
        user: Option<&str>,
        address: IpAddr,
        action: char,
        topic: &str,
    ) -> bool {
        let action = if action == 'p' {
            Action::Publish
        } else {
            Action::Subscribe
        };
        ask(&book.policy(client, user, address), action, topic) == AccessDecision::Allow
    }

    fn compile(acl: Vec<AclRule>) -> Arc<Rulebook> {
        book(&AuthSettings {
            acl,
            ..AuthSettings::default()
        })
    }

    fn book(settings: &AuthSettings) -> Arc<Rulebook> {
        Rulebook::new(Arc::new(Acl::compile(settings).unwrap()))
    }

    #[test]
    fn the_defaults_allow_this_machine_everything_and_others_by_name() {
        let acl = book(&AuthSettings::default());
        let local = acl.policy("c", None, LOOPBACK);
        assert_eq!(ask(&local, Action::Subscribe, "$SYS/#"), AccessDecision::Allow);
        assert_eq!(ask(&local, Action::Publish, "a/b"), AccessDecision::Allow);
        let named = acl.policy("c", Some("joe"), ELSEWHERE);
        assert_eq!(ask(&named, Action::Subscribe, "#"), AccessDecision::Allow);
        assert_eq!(
            ask(&named, Action::Subscribe, "$SYS/#"),
            AccessDecision::Deny(DenyCode::NotAuthorized)
        );
        let anonymous = acl.policy("c", None, ELSEWHERE);
        assert_eq!(
            ask(&anonymous, Action::Publish, "a"),
            AccessDecision::Deny(DenyCode::NotAuthorized)
        );
    }

    #[test]
    fn only_who_is_named_may_be_a_link() {
        let may = |links: &[&str], user: Option<&str>| {
            let acl = book(&AuthSettings {
                links: links.iter().map(|name| (*name).to_owned()).collect(),
                ..AuthSettings::default()
            });
            // The same rules concern all of them.
            acl.policy("c", Some("joe"), LOOPBACK);
            acl.policy("c", user, LOOPBACK).may_link()
        };
        assert!(!may(&[], Some("hall")) && !may(&[], None));
        assert!(may(&["hall"], Some("hall")) && !may(&["hall"], Some("joe")) && !may(&["hall"], None));
        assert!(may(&["*"], Some("hall")) && may(&["*"], None));
    }

    #[test]
    fn the_first_rule_that_matches_decides_and_chooses_the_code() {
        let deny = AclRule {
            refuse_with: RefuseWith::UnspecifiedError,
            ..rule(AclEffect::Deny, &["a/secret"])
        };
        let acl = compile(vec![deny, rule(AclEffect::Allow, &["a/#"])]);
        let policy = acl.policy("c", None, ELSEWHERE);
        assert_eq!(
            ask(&policy, Action::Publish, "a/secret"),
            AccessDecision::Deny(DenyCode::Unspecified)
        );
        assert_eq!(ask(&policy, Action::Publish, "a/open"), AccessDecision::Allow);
    }

    #[test]
    fn a_subscription_needs_a_rule_that_covers_all_of_it() {
        let policy = compile(vec![rule(AclEffect::Allow, &["a/+"])]).policy("c", None, ELSEWHERE);
        assert_eq!(ask(&policy, Action::Subscribe, "a/b"), AccessDecision::Allow);
        assert_eq!(ask(&policy, Action::Subscribe, "a/+"), AccessDecision::Allow);
        for wider in ["a/#", "#", "+/b", "a/b/c", "a"] {
            assert_ne!(
                ask(&policy, Action::Subscribe, wider),
                AccessDecision::Allow,
                "{wider}"
            );
        }
    }

    /// mosquitto grants every subscription and looks at messages instead; a rule of `acl` that denies refuses all the same.
    #[test]
    fn where_subscriptions_are_granted_messages_are_looked_at() {
        let granted = |grant_subscriptions| {
            let settings = AuthSettings {
                acl: vec![
                    rule(AclEffect::Deny, &["a/secret/#"]),
                    rule(AclEffect::Allow, &["a/#"]),
                ],
                grant_subscriptions,
                ..AuthSettings::default()
            };
            book(&settings).policy("c", None, ELSEWHERE)
        };
        let policy = granted(Some(true));
        for filter in ["#", "b", "a/#", "+/secret/x"] {
            assert_eq!(
                ask(&policy, Action::Subscribe, filter),
                AccessDecision::Allow,
                "{filter}"
            );
        }
        assert!(policy.narrows(b"#") && policy.narrows(b"b"));
        assert!(policy.may_read(b"a/b") && !policy.may_read(b"a/secret/x") && !policy.may_read(b"b"));
        for (action, topic) in [(Action::Subscribe, "a/secret/x"), (Action::Publish, "b")] {
            assert_ne!(ask(&policy, action, topic), AccessDecision::Allow, "{topic}");
        }
        for not in [None, Some(false)] {
            assert_ne!(ask(&granted(not), Action::Subscribe, "#"), AccessDecision::Allow);
        }
    }

    #[test]
    fn where_no_rule_of_a_file_matches_the_setting_decides() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("acl.conf");
        std::fs::write(&path, "{deny, all, subscribe, [\"$SYS/#\"]}.\n").unwrap();
        let policy = |nomatch| {
            let file = AclFile {
                path: path.clone(),
                format: AclFormat::Emq,
                nomatch,
            };
            let settings = AuthSettings {
                acl_file: Some(file),
                ..AuthSettings::default()
            };
            book(&settings).policy("c", None, ELSEWHERE)
        };
        let (allow, deny) = (policy(AclEffect::Allow), policy(AclEffect::Deny));
        assert_eq!(ask(&allow, Action::Subscribe, "a/#"), AccessDecision::Allow);
        assert_ne!(ask(&allow, Action::Subscribe, "$SYS/#"), AccessDecision::Allow);
        assert_ne!(ask(&deny, Action::Subscribe, "a/#"), AccessDecision::Allow);
    }

    #[test]
    fn what_looks_like_a_placeholder_and_is_none_is_told() {
        for (topic, told) in [
            ("plant/%u/%c/#", None),
            ("humidity/%", None),
            ("humidity/%/100%", None),
            ("a/%7/b", None),
            ("plant/%x/#", Some("%x")),
            ("%u/%U", Some("%U")),
            ("a/${clientid}/b", Some("${clientid}")),
            ("$share/g/a", None),
        ] {
            assert_eq!(unknown_placeholder(topic), told, "{topic}");
        }
    }

    #[test]
    fn placeholders_stand_for_the_client_and_cannot_be_widened() {
        let acl = compile(vec![rule(AclEffect::Allow, &["dev/%c/#", "user/%u"])]);
        let policy = acl.policy("pump", Some("joe"), ELSEWHERE);
        assert_eq!(ask(&policy, Action::Publish, "dev/pump/t"), AccessDecision::Allow);
        assert_eq!(ask(&policy, Action::Publish, "user/joe"), AccessDecision::Allow);
        assert_ne!(
            ask(&policy, Action::Publish, "dev/other/t"),
            AccessDecision::Allow
        );
        let evil = acl.policy("+", None, ELSEWHERE);
        assert_ne!(ask(&evil, Action::Subscribe, "dev/+/#"), AccessDecision::Allow);
    }

    /// Who chooses an odd name is not let out of a rule that denies by it. Without a user name there is none that could be meant.
    #[test]
    fn an_odd_name_is_no_way_around_a_rule_that_denies() {
        let acl = compile(vec![
            rule(AclEffect::Deny, &["inbox/%c/#", "eq user/%u"]),
            rule(AclEffect::Allow, &["#"]),
        ]);
        for (client, user, topic, allowed) in [
            ("pump", Some("joe"), "inbox/pump/a", false),
            ("pump", Some("joe"), "inbox/other/a", true),
            ("a/b", Some("joe"), "inbox/a/b", false),
            ("#", Some("joe"), "inbox/x/a", false),
            ("+", Some("joe"), "inbox/x/a", false),
            ("pump", Some("joe"), "user/joe", false),
            ("pump", Some("a/b"), "user/a/b", false),
            ("pump", None, "user/joe", true),
        ] {
            let policy = acl.policy(client, user, ELSEWHERE);
            let decision = ask(&policy, Action::Publish, topic);
            assert_eq!(
                decision == AccessDecision::Allow,
                allowed,
                "{client} {user:?} {topic}"
            );
        }
    }

    /// A client may call itself `$SYS`.
    #[test]
    fn a_name_does_not_make_topics_of_the_gateway() {
        let acl = compile(vec![rule(AclEffect::Allow, &["%c/#", "%u", "$SYS/of/%c"])]);
        for name in ["$SYS", "$SYS/#", "$"] {
            let policy = acl.policy(name, Some(name), ELSEWHERE);
            for filter in ["$SYS/#", "$SYS/broker/uptime", "$SYS", "$/a", "$"] {
                assert_ne!(
                    ask(&policy, Action::Subscribe, filter),
                    AccessDecision::Allow,
                    "{name}: {filter}"
                );
                assert!(!policy.may_read(filter.as_bytes()), "{name}: {filter}");
            }
        }
        let policy = acl.policy("pump", None, ELSEWHERE);
        assert_eq!(
            ask(&policy, Action::Subscribe, "$SYS/of/pump"),
            AccessDecision::Allow
        );
    }

    #[test]
    fn eq_means_the_very_filter() {
        let acl = compile(vec![
            rule(AclEffect::Deny, &["eq #"]),
            rule(AclEffect::Allow, &["#"]),
        ]);
        let policy = acl.policy("c", None, ELSEWHERE);
        assert_ne!(ask(&policy, Action::Subscribe, "#"), AccessDecision::Allow);
        assert_eq!(ask(&policy, Action::Subscribe, "a/#"), AccessDecision::Allow);
    }

    /// What a rule leaves out matches all: `$` topics and shared subscriptions too, which `#` does not stand for. \[MQTT-4.7.2-1\]
    #[test]
    fn a_rule_without_topics_is_for_every_topic() {
        let everything = [
            "a",
            "a/b/c",
            "$SYS/broker/uptime",
            "$delayed/5/a",
            "$a",
            "/",
            "x/$y",
        ];
        let filters = [
            "#",
            "+/a",
            "$SYS/#",
            "$share/g/#",
            "$share/g/$SYS/#",
            "$queue/#",
            "a",
        ];
        let queries = |action| {
            let topics = match action {
                Action::Publish => everything,
                Action::Subscribe => filters,
            };
            topics.map(|topic| (action, topic))
        };
        let all = [queries(Action::Publish), queries(Action::Subscribe)].concat();
        let anything = |effect, action| AclRule {
            action,
            topics: None,
            ..rule(effect, &[])
        };
        for action in [AclAction::All, AclAction::Publish, AclAction::Subscribe] {
            let about = |query: Action| match action {
                AclAction::All => true,
                AclAction::Publish => query == Action::Publish,
                AclAction::Subscribe => query == Action::Subscribe,
            };
            // Alone it allows what it is about, and nothing else.
            let policy = compile(vec![anything(AclEffect::Allow, action)]).policy("c", None, ELSEWHERE);
            // In front of rules that allow everything it denies what it is about, whatever they name.
            let denying = vec![
                anything(AclEffect::Deny, action),
                rule(AclEffect::Allow, &["#", "$SYS/#", "eq $share/g/#"]),
                anything(AclEffect::Allow, AclAction::All),
            ];
            let denied = compile(denying).policy("c", None, ELSEWHERE);
            for (query, topic) in &all {
                let allows = |policy| ask(policy, *query, topic) == AccessDecision::Allow;
                assert_eq!(
                    allows(&policy),
                    about(*query),
                    "allow {action:?}: {query:?} {topic}"
                );
                assert_eq!(
                    allows(&denied),
                    !about(*query),
                    "deny {action:?}: {query:?} {topic}"
                );
            }
        }
    }

    #[test]
    fn a_list_of_topics_that_is_empty_is_refused_and_every_fault_is_found() {
        let settings = AuthSettings {
            acl: vec![
                rule(AclEffect::Allow, &[]),
                rule(AclEffect::Allow, &["a/#/b", "b", "eq c+"]),
            ],
            ..AuthSettings::default()
        };
        let errors = Acl::errors(&settings);
        let places: Vec<_> = errors.iter().map(|(n, at, _)| (*n, *at)).collect();
        assert_eq!(places, [(0, None), (1, Some(0)), (1, Some(2))]);
        assert!(errors[0].2.to_string().contains("leave `topics` out"));
        Acl::compile(&settings).unwrap_err();
    }

    /// Whether a filter is narrowed, and which of these topics may be read by it.
    fn reads(policy: &ClientPolicy, filter: &str, topics: &[&str]) -> (bool, Vec<bool>) {
        let topics = topics.iter().map(|topic| policy.may_read(topic.as_bytes()));
        (policy.narrows(filter.as_bytes()), topics.collect())
    }

    /// A rule that denies a part of what a filter matches narrows it; other filters need no look at each message.
    #[test]
    fn a_denied_part_narrows_a_subscription() {
        let acl = compile(vec![
            rule(AclEffect::Deny, &["deny/#", "+/secret/+"]),
            rule(AclEffect::Allow, &["#"]),
        ]);
        let policy = acl.policy("c", None, ELSEWHERE);
        for (filter, narrowed) in [
            ("#", true),
            ("+/x", true),
            ("+/#", true),
            ("deny/x", true),
            ("+", true), // `deny/#` matches `deny`, too.
            ("a/+/b", true),
            ("a/secret/b", true),
            ("a/b", false),
            ("a/b/c", false),
            ("a/b/c/d/#", false),
        ] {
            assert_eq!(policy.narrows(filter.as_bytes()), narrowed, "{filter}");
        }
        let (_, read) = reads(&policy, "#", &["deny", "deny/x", "a/secret/b", "a/secret", "a/b"]);
        assert_eq!(read, [false, false, false, true, true]);
    }

    /// A session that goes on under other rules may have filters that they do not allow at all.
    #[test]
    fn a_filter_that_is_allowed_no_more_reads_what_is_still_allowed() {
        let policy = compile(vec![rule(AclEffect::Allow, &["a/#"])]).policy("c", None, ELSEWHERE);
        assert_eq!(reads(&policy, "+/x", &["a/x", "b/x"]), (true, vec![true, false]));
        assert_eq!(reads(&policy, "a/+", &["a/x"]), (false, vec![true]));
    }

    /// `eq` in front is about the filter as it is written: allowed, it reads what it matches; denied, nothing else is meant.
    #[test]
    fn eq_reads_what_the_filter_matches() {
        let policy = compile(vec![
            rule(AclEffect::Deny, &["eq #", "eq a/x"]),
            rule(AclEffect::Allow, &["eq +/x"]),
        ]);
        let policy = policy.policy("c", None, ELSEWHERE);
        assert_eq!(
            reads(&policy, "+/x", &["a/x", "b/x", "b/y"]),
            (true, vec![false, true, false])
        );
    }

    /// What a first level with a wildcard does not match is not denied by it. \[MQTT-4.7.2-1\]
    #[test]
    fn rules_meet_filters_only_where_some_topic_matches_both() {
        for (one, other, both) in [
            ("#", "a", true),
            ("#", "$SYS/#", false),
            ("+/a", "$x/a", false),
            ("$SYS/#", "$SYS/+/a", true),
            ("a/#", "a", true),
            ("a/+", "a", false),
            ("a/+/c", "a/b/+", true),
            ("a/+/c", "a/b/d", false),
            ("+/+", "#", true),
            ("a/b", "a/b/#", true),
            ("a", "b", false),
        ] {
            assert_eq!(meet(one.as_bytes(), other.as_bytes()), both, "{one} {other}");
            assert_eq!(meet(other.as_bytes(), one.as_bytes()), both, "{other} {one}");
        }
    }

    /// A client has its rules until it is told that there are others; then it asks for its own of those.
    #[test]
    fn rules_are_renewed_for_the_same_client() {
        let book = compile(vec![rule(AclEffect::Allow, &["dev/%c/#"])]);
        let policy = book.policy("pump", Some("joe"), ELSEWHERE);
        let who = Presence {
            username: Some("joe".into()),
            peer: ELSEWHERE.into(),
            ..Presence::default()
        };
        assert!(policy.renewed(&"pump".into(), &who).is_none());
        let changed = AuthSettings {
            acl: vec![rule(AclEffect::Allow, &["other/%c/#"])],
            ..AuthSettings::default()
        };
        book.replace(Arc::new(Acl::compile(&changed).unwrap()));
        assert!(policy.may_read(b"dev/pump/t"), "as long as it is not told");
        let renewed = policy.renewed(&"pump".into(), &who).expect("others");
        assert!(renewed.may_read(b"other/pump/t") && !renewed.may_read(b"dev/pump/t"));
        assert!(renewed.renewed(&"pump".into(), &who).is_none());
    }

    /// EMQX: `{allow, all, {publish, [{qos, 1}, {retain, false}]}, …}`.
    #[test]
    fn a_rule_may_be_about_some_qos_and_about_what_is_retained() {
        let few = AclRule {
            qos: Some(vec![0, 1]),
            ..rule(AclEffect::Allow, &["a/#"])
        };
        let unretained = AclRule {
            action: AclAction::Publish,
            retain: Some(false),
            ..rule(AclEffect::Allow, &["b/#"])
        };
        let both = AclRule {
            retain: Some(true),
            ..rule(AclEffect::Allow, &["c"])
        };
        let acl = compile(vec![few, unretained, both]);
        let policy = acl.policy("c", None, ELSEWHERE);
        let may = |query| policy.check(query) == AccessDecision::Allow;
        let qos = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce];
        let published = |topic: &'static str, retain| {
            qos.map(|qos| may(AccessQuery::publish(topic.as_bytes(), qos, retain)))
        };
        let subscribed =
            |filter: &'static str| qos.map(|qos| may(AccessQuery::subscribe(filter.as_bytes(), qos)));
        assert_eq!(published("a/x", false), [true, true, false]);
        assert_eq!(published("a/x", true), [true, true, false]);
        assert_eq!(subscribed("a/#"), [true, true, false]);
        assert_eq!(
            (published("b/x", false), published("b/x", true)),
            ([true; 3], [false; 3])
        );
        assert_eq!(subscribed("b/x"), [false; 3]);
        assert_eq!(
            (published("c", false), published("c", true)),
            ([false; 3], [true; 3])
        );
        // A subscription is not retained, so the rule is not about one.
        assert_eq!(subscribed("c"), [false; 3]);
    }

    /// What is asked for has a QoS; what is delivered is not held against it.
    #[test]
    fn a_rule_about_qos_says_nothing_of_what_is_delivered() {
        let loud = AclRule {
            action: AclAction::Subscribe,
            qos: Some(vec![1, 2]),
            ..rule(AclEffect::Deny, &["a/loud/#"])
        };
        let acl = compile(vec![loud, rule(AclEffect::Allow, &["a/#"])]);
        let policy = acl.policy("c", None, ELSEWHERE);
        let at = |filter: &'static str, qos| policy.check(AccessQuery::subscribe(filter.as_bytes(), qos));
        assert_eq!(at("a/loud/x", Qos::AtMostOnce), AccessDecision::Allow);
        assert_ne!(at("a/loud/x", Qos::AtLeastOnce), AccessDecision::Allow);
        assert!(!policy.narrows(b"a/#") && policy.may_read(b"a/loud/x"));
    }

    /// A socket for both versions of IP shows an IPv4 address as IPv6.
    #[test]
    fn renewed_rules_are_those_of_the_address() {
        let book = compile(vec![]);
        let policy = book.policy("pump", None, ELSEWHERE);
        let from_there = AclRule {
            address: Some("10.0.0.0/8".parse().unwrap()),
            ..rule(AclEffect::Allow, &["#"])
        };
        let changed = AuthSettings {
            acl: vec![from_there],
            ..AuthSettings::default()
        };
        book.replace(Arc::new(Acl::compile(&changed).unwrap()));
        let mapped: IpAddr = "::ffff:10.0.0.7".parse().unwrap();
        for (peer, may) in [(ELSEWHERE, true), (mapped, true), (LOOPBACK, false)] {
            let who = Presence {
                peer: peer.into(),
                ..Presence::default()
            };
            let renewed = policy.renewed(&"pump".into(), &who).expect("others");
            assert_eq!(renewed.may_read(b"a"), may, "{peer}");
        }
    }
}
