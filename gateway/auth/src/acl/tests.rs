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
    Rulebook::new("tcp", Arc::new(Acl::of(rules, &AuthSettings::default())))
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
    Rulebook::new("tcp", Arc::new(Acl::compile(settings).unwrap()))
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

/// Two listeners have the same rules now: clients of one do not get those that the other has later.
#[test]
fn rules_are_renewed_as_those_of_the_listener() {
    let settings = |topic| AuthSettings {
        acl: vec![rule(AclEffect::Allow, &[topic])],
        ..AuthSettings::default()
    };
    let same = Arc::new(Acl::compile(&settings("before/#")).unwrap());
    let books = ["field", "hall"].map(|listener| Rulebook::new(listener, Arc::clone(&same)));
    let [field, hall] = [&books[0], &books[1]].map(|book| book.policy("pump", None, ELSEWHERE));
    assert_eq!(
        [&field, &hall].map(|policy| policy.listener().unwrap()),
        ["field".into(), "hall".into()]
    );
    for (book, topic) in books.iter().zip(["field/#", "hall/#"]) {
        book.replace(Arc::new(Acl::compile(&settings(topic)).unwrap()));
    }
    let renewed = hall
        .renewed(&"pump".into(), &Presence::default())
        .expect("others");
    assert!(renewed.may_read(b"hall/t") && !renewed.may_read(b"field/t"));
    let again = books[1].policy("other", None, ELSEWHERE);
    assert!(
        Arc::ptr_eq(&again, &books[1].policy("third", None, ELSEWHERE)),
        "shared"
    );
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
    let published =
        |topic: &'static str, retain| qos.map(|qos| may(AccessQuery::publish(topic.as_bytes(), qos, retain)));
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
