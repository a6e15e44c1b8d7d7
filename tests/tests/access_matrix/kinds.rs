//! Every kind of rule, for every adapter, publishing and reading, as one that allows and as one that denies, for whom it is meant and for whom it is not.

use crate::rules::{Door, allow, deny, only, settings};
use crate::{Action, Detour, Seen, Who, coap, mqtt, sensor, stomp};
use headgate_auth::{AclAction, AclEffect, AclFile, AclFormat, AclRule, AuthSettings, ListenerAuth};
use headgate_tests::{V5, V31, V311};
use std::path::PathBuf;

/// Who tries.
const WHO: [Who; 6] = [
    Who::Mqtt(V31),
    Who::Mqtt(V311),
    Who::Mqtt(V5),
    Who::Sensor,
    Who::Stomp,
    Who::Coap,
];

/// What is published, and what is subscribed to.
#[derive(Clone, Copy)]
struct Topics {
    publish: &'static str,
    read: &'static str,
}

const OPEN: Topics = Topics {
    publish: "open/y",
    read: "open/x",
};
/// Nothing is published there, but a subscription is granted or not.
const OF_C: Topics = Topics {
    publish: "c/y",
    read: "c/x",
};
const OF_U: Topics = Topics {
    publish: "u/y",
    read: "u/x",
};

/// How often of six it is published, of three delivered: a rule may be about some QoS, or some messages.
type Times = (usize, usize);
const ALL: Times = (6, 3);

/// A kind of rule that says `effect` of `open/#`, or of a client's own topics. Whoever it is not about meets rules that say the opposite.
struct Kind {
    name: &'static str,
    user: Option<&'static str>,
    topics: Topics,
    /// How often it decides.
    decides: Times,
    settings: fn(AclEffect) -> AuthSettings,
}

fn rule(effect: AclEffect, topics: &[&str]) -> AclRule {
    match effect {
        AclEffect::Allow => allow(topics),
        AclEffect::Deny => deny(topics),
    }
}

fn opposite(effect: AclEffect) -> AclEffect {
    match effect {
        AclEffect::Allow => AclEffect::Deny,
        AclEffect::Deny => AclEffect::Allow,
    }
}

/// The rule, and behind it one that says the opposite of everything.
fn before_opposite(effect: AclEffect, rule: AclRule) -> AuthSettings {
    let rest = AclRule {
        effect: opposite(effect),
        topics: None,
        ..allow(&[])
    };
    settings(vec![rule, rest])
}

fn with(effect: AclEffect, change: impl FnOnce(&mut AclRule)) -> AuthSettings {
    let mut rule = rule(effect, &["open/#"]);
    change(&mut rule);
    before_opposite(effect, rule)
}

/// A file of rules, behind those for `plant` and `watcher`, that says the opposite of everything where it says nothing.
fn file(effect: AclEffect, format: AclFormat, text: &str) -> AuthSettings {
    let folder = tempfile::tempdir().unwrap();
    // It is read whenever rules are set.
    let path: PathBuf = folder.keep().join("acl");
    std::fs::write(&path, text).unwrap();
    let mut settings = settings(Vec::new());
    settings.acl_file = Some(AclFile {
        path,
        format,
        nomatch: opposite(effect),
    });
    settings
}

fn word(effect: AclEffect, allow: &'static str, deny: &'static str) -> &'static str {
    match effect {
        AclEffect::Allow => allow,
        AclEffect::Deny => deny,
    }
}

const fn kind(name: &'static str, settings: fn(AclEffect) -> AuthSettings) -> Kind {
    Kind {
        name,
        user: None,
        topics: OPEN,
        decides: ALL,
        settings,
    }
}

const fn named(name: &'static str, settings: fn(AclEffect) -> AuthSettings) -> Kind {
    Kind {
        user: Some("u"),
        ..kind(name, settings)
    }
}

/// It is about somebody else.
const fn others(kind: Kind) -> Kind {
    Kind {
        decides: (0, 0),
        ..kind
    }
}

#[rustfmt::skip]
const KINDS: &[Kind] = &[
    kind("by topic", |e| with(e, |_| {})),
    kind("about everything", |e| with(e, |rule| rule.topics = None)),
    others(kind("about another topic", |e| before_opposite(e, rule(e, &["other/#"])))),
    kind("by client id", |e| with(e, |rule| rule.client = Some("c".into()))),
    others(kind("by another client id", |e| with(e, |rule| rule.client = Some("d".into())))),
    kind("by network", |e| with(e, |rule| rule.address = Some("192.0.2.0/24".parse().unwrap()))),
    others(kind("by another network", |e| with(e, |rule| rule.address = Some("198.51.100.0/24".parse().unwrap())))),
    named("by user name", |e| with(e, |rule| rule.user = Some("u".into()))),
    others(named("by another user name", |e| with(e, |rule| rule.user = Some("v".into())))),
    others(kind("by user name, for a client without", |e| with(e, |rule| rule.user = Some("u".into())))),
    named("by having a user name", |e| with(e, |rule| rule.user = Some("*".into()))),
    others(kind("by having a user name, for a client without", |e| with(e, |rule| rule.user = Some("*".into())))),
    Kind { topics: OF_C, ..kind("%c", |e| before_opposite(e, rule(e, &["%c/#"]))) },
    Kind { topics: OF_U, ..named("%u", |e| before_opposite(e, rule(e, &["%u/#"]))) },
    others(Kind { topics: OF_C, ..named("%u, of another", |e| before_opposite(e, rule(e, &["%u/#"]))) }),
    Kind { topics: Topics { publish: "open/x", read: "open/x" }, ..kind("the very topic", |e| before_opposite(e, rule(e, &["eq open/x"]))) },
    others(kind("the very filter", |e| before_opposite(e, rule(e, &["eq open/#"])))),
    Kind { decides: (6, 0), ..kind("about publishing", |e| before_opposite(e, only(AclAction::Publish, rule(e, &["open/#"])))) },
    Kind { decides: (0, 3), ..kind("about subscribing", |e| before_opposite(e, only(AclAction::Subscribe, rule(e, &["open/#"])))) },
    Kind { decides: (3, 0), ..kind("about what is retained", |e| with(e, |rule| rule.retain = Some(true))) },
    Kind { decides: (4, 2), ..kind("about QoS 0 and 1", |e| with(e, |rule| rule.qos = Some(vec![0, 1]))) },
    kind("of the listener", |e| of_listener(e, "matrix")),
    others(kind("of another listener", |e| of_listener(e, "other"))),
    kind("mosquitto: of everybody", |e| mosquitto(e, "")),
    named("mosquitto: of a user", |e| mosquitto(e, "user u\n")),
    Kind { topics: OF_C, ..kind("mosquitto: a pattern", |e| file(e, AclFormat::Mosquitto, &format!("pattern {} %c/#\n", word(e, "readwrite", "deny")))) },
    kind("EMQ: all", |e| emq(e, "all")),
    kind("EMQ: client", |e| emq(e, "{client, \"c\"}")),
    others(kind("EMQ: another client", |e| emq(e, "{client, \"d\"}"))),
    named("EMQ: user", |e| emq(e, "{user, \"u\"}")),
    kind("EMQ: ipaddr", |e| emq(e, "{ipaddr, \"192.0.2.0/24\"}")),
    others(kind("EMQ: and", |e| emq(e, "{'and', [{client, \"c\"}, {user, \"u\"}]}"))),
    kind("EMQ: or", |e| emq(e, "{'or', [{client, \"c\"}, {user, \"u\"}]}")),
];

fn of_listener(effect: AclEffect, name: &str) -> AuthSettings {
    let own = with(effect, |_| {}).acl;
    let rest = AclRule {
        effect: opposite(effect),
        topics: None,
        ..allow(&[])
    };
    let mut settings = settings(vec![rest]);
    settings.listeners = vec![ListenerAuth {
        acl: Some(own),
        ..toml::from_str(&format!("name = \"{name}\"")).unwrap()
    }];
    settings
}

fn mosquitto(effect: AclEffect, section: &str) -> AuthSettings {
    let text = format!("{section}topic {} open/#\n", word(effect, "readwrite", "deny"));
    file(effect, AclFormat::Mosquitto, &text)
}

fn emq(effect: AclEffect, who: &str) -> AuthSettings {
    let text = format!(
        "{{{}, {who}, pubsub, [\"open/#\"]}}.\n",
        word(effect, "allow", "deny")
    );
    file(effect, AclFormat::Emq, &text)
}

fn tries(door: &Door, who: Who, user: Option<&str>, action: Action) -> Seen {
    match who {
        Who::Mqtt(version) => mqtt::tries_by(door, user, version, Detour::Plain, action),
        Who::Sensor => sensor::tries_by(door, user, Detour::Plain, action),
        Who::Stomp => stomp::tries_by(door, user, Detour::Plain, action),
        Who::Coap => coap::tries_by(door, user, Detour::Plain, action),
        Who::Unconnected => unreachable!("it has no name"),
    }
}

/// What is wrong with a kind for one adapter.
fn faults(kind: &Kind, who: Who, effect: AclEffect) -> Vec<String> {
    let door = Door::of((kind.settings)(effect));
    let of = |decided: usize, all: usize| match effect {
        AclEffect::Allow => decided,
        AclEffect::Deny => all - decided,
    };
    let fault = |what: &str, wanted: usize, seen: &Seen| {
        let name = kind.name;
        format!(
            "{name} ({effect:?}), {who:?}, {what}: wanted {wanted}, came {:?}, refused: {}",
            seen.topics, seen.refused
        )
    };
    let mut faults = Vec::new();
    let published = tries(&door, who, kind.user, Action::Publish(kind.topics.publish));
    let wanted = of(kind.decides.0, ALL.0);
    if published.topics != vec![kind.topics.publish; wanted] {
        faults.push(fault("published", wanted, &published));
    }
    let read = tries(&door, who, kind.user, Action::Read(kind.topics.read));
    let wanted = of(kind.decides.1, ALL.1);
    // Nothing is published to a client's own topics: there the answer tells. mosquitto grants everything.
    let delivered = if kind.topics.read == OPEN.read { wanted } else { 0 };
    let is_refused = wanted < ALL.1 && !kind.name.starts_with("mosquitto");
    if read.topics.len() != delivered || read.refused != is_refused {
        faults.push(fault("read", delivered, &read));
    }
    faults
}

#[test]
fn every_kind_of_rule_holds_for_every_adapter_both_ways() {
    let tried = KINDS.iter().flat_map(|kind| {
        WHO.into_iter().flat_map(move |who| {
            let effects = [AclEffect::Allow, AclEffect::Deny].into_iter();
            effects.flat_map(move |effect| faults(kind, who, effect))
        })
    });
    let faults: Vec<String> = tried.collect();
    assert!(faults.is_empty(), "{} fail:\n{}", faults.len(), faults.join("\n"));
}

/// Who is asked no rule.
#[test]
fn a_superuser_may_do_all_by_every_adapter() {
    let mut settings = settings(vec![deny(&["#"])]);
    settings.superusers = vec!["u".into()];
    let door = Door::of(settings);
    for who in WHO {
        for (user, published, delivered) in [(Some("u"), 6, 3), (Some("v"), 0, 0), (None, 0, 0)] {
            let seen = tries(&door, who, user, Action::Publish(OPEN.publish));
            assert_eq!(seen.topics.len(), published, "{who:?} {user:?}");
            let seen = tries(&door, who, user, Action::Read(OPEN.read));
            assert_eq!(
                (seen.topics.len(), seen.refused),
                (delivered, delivered == 0),
                "{who:?} {user:?}"
            );
        }
    }
}
