//! What a client may publish, leave as its will, subscribe to and read: every adapter, every action and every detour against one table of rules.
//!
//! The rules are those of `headgate-auth`, as a configuration has them. Of reads, mosquitto's behaviour is the reference: a subscription is granted, and
//! what its rules deny of it is not delivered. What a bridge takes in has rules of its own: `adapters/bridge/tests/inbound.rs`.

mod changes;
mod coap;
mod cost;
mod kinds;
mod mqtt;
mod rules;
mod sensor;
mod stomp;

use headgate_model::{MountPoint, RewriteAction, RewriteRule};
use headgate_mqtt_codec::Version;
use headgate_tests::{V5, V31, V311};

/// Who wants something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Mqtt(Version),
    /// A client of STOMP 1.2.
    Stomp,
    /// A client of CoAP.
    Coap,
    /// A client of MQTT-SN with a connection.
    Sensor,
    /// A sender of MQTT-SN without one. QoS −1
    Unconnected,
}

/// What stands between the name that is written and the one that is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Detour {
    Plain,
    /// Of all its topics.
    Mount(&'static str),
    /// What, source, pattern, target.
    Rewrite(RewriteAction, &'static str, &'static str, &'static str),
    /// Named by a topic alias that was given before. MQTT 5 §3.3.2.3.4
    Alias,
    /// Named by an id that was registered. MQTT-SN 1.2 §6.5
    Registered,
    /// Named by the id that both sides know. MQTT-SN 1.2 §6.7
    Predefined,
    /// Named by its two bytes. MQTT-SN 1.2 §6.7
    Short,
}

/// What is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// At each QoS, retained and not.
    Publish(&'static str),
    /// The topic and what it says.
    Will(&'static str, &'static str),
    /// It has a will somewhere else, and changes where. MQTT-SN 1.2 §6.4
    WillTopicUpd(&'static str),
    /// It has a will of its own state, and changes what that says. MQTT-SN 1.2 §6.4
    WillMsgUpd(&'static str),
    /// What is published at each QoS while it is there.
    Read(&'static str),
    /// What is published while it is away, or asleep.
    ReadLater(&'static str),
    /// What was retained before it subscribes.
    ReadRetained(&'static str),
}
use Action::*;
use Detour::*;

/// What comes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It is published there, by this name on the bus.
    Reaches(&'static str),
    Refused,
    /// Subscribed; of the [plant](PLANT) it gets these, and no others.
    Gets(&'static [&'static str]),
}
use Outcome::*;

/// What there is to read.
const PLANT: [&str; 9] = [
    "open/x",
    "open/secret/x",
    "open/eq",
    "deny",
    "deny/x",
    "unread/x",
    "unwritten/x",
    "m/deny/x",
    "$SYS/broker/connection/plant/state",
];

const MQTT: &[Who] = &[Who::Mqtt(V31), Who::Mqtt(V311), Who::Mqtt(V5)];
const ONLY_V5: &[Who] = &[Who::Mqtt(V5)];
const SENSOR: &[Who] = &[Who::Sensor];
const UNCONNECTED: &[Who] = &[Who::Unconnected];
/// STOMP and CoAP have no wills.
const CLIENTS: &[Who] = &[
    Who::Mqtt(V31),
    Who::Mqtt(V311),
    Who::Mqtt(V5),
    Who::Sensor,
    Who::Stomp,
    Who::Coap,
];

const TO_DENIED: Detour = Rewrite(RewriteAction::All, "in/#", "^in/(.*)$", "deny/$1");
const TO_SYSTEM: Detour = Rewrite(RewriteAction::All, "in/#", "^in/(.*)$", "$$SYS/$1");
const TO_ALL: Detour = Rewrite(RewriteAction::Subscribe, "in/all", "^in/all$", "#");
const TO_DELAYED: Detour = Rewrite(RewriteAction::Publish, "in/#", "^in/(.*)$", "$$delayed/0/deny/$1");
const FROM_DENIED: Detour = Rewrite(RewriteAction::All, "deny/#", "^deny/(.*)$", "open/$1");

/// All that `#` may read.
const OPEN: &[&str] = &["open/x", "unwritten/x"];

type Row = (&'static [Who], Detour, Action, Outcome);

#[rustfmt::skip]
const TABLE: &[Row] = &[
    // Publishing
    (CLIENTS, Plain, Publish("open/y"), Reaches("open/y")),
    (CLIENTS, Plain, Publish("unread/y"), Reaches("unread/y")),
    (CLIENTS, Plain, Publish("deny/y"), Refused),
    (CLIENTS, Plain, Publish("deny"), Refused),
    (CLIENTS, Plain, Publish("unwritten/y"), Refused),
    (CLIENTS, Plain, Publish("a/secret/y"), Refused),
    (CLIENTS, Plain, Publish("open/eq"), Refused),
    (CLIENTS, Plain, Publish("$SYS/y"), Refused),
    (CLIENTS, Plain, Publish("$SYS/broker/connection/c/state"), Reaches("$SYS/broker/connection/c/state")),
    (CLIENTS, Plain, Publish("$SYS/broker/connection/other/state"), Refused),
    (CLIENTS, Plain, Publish("$SYS"), Refused),
    (CLIENTS, Plain, Publish("$delayed/0/open/y"), Reaches("open/y")),
    (CLIENTS, Plain, Publish("$delayed/0/deny/y"), Refused),
    (CLIENTS, Plain, Publish("$delayed/0/$SYS/y"), Refused),
    (CLIENTS, Plain, Publish("$delayed/0/$delayed/0/deny/y"), Refused),
    (CLIENTS, Plain, Publish("$delayed/0/$delayed/0/$SYS/y"), Refused),
    (CLIENTS, Plain, Publish("$delayed//deny/y"), Refused),
    (CLIENTS, Plain, Publish("$delayed/x/deny/y"), Refused),
    (CLIENTS, Mount("deny/"), Publish("open/y"), Refused),
    (CLIENTS, Mount("open/"), Publish("deny/y"), Reaches("open/deny/y")),
    (CLIENTS, Mount("open/"), Publish("$SYS/y"), Reaches("open/$SYS/y")),
    (CLIENTS, Mount("deny/"), Publish("$delayed/0/open/y"), Refused),
    (CLIENTS, Mount("a/"), Publish("secret/y"), Refused),
    (CLIENTS, TO_DENIED, Publish("in/y"), Refused),
    (CLIENTS, TO_DENIED, Publish("$delayed/0/in/y"), Refused),
    (CLIENTS, TO_SYSTEM, Publish("in/y"), Refused),
    (CLIENTS, TO_SYSTEM, Publish("in/broker/connection/other/state"), Refused),
    (CLIENTS, TO_DELAYED, Publish("in/y"), Refused),
    (CLIENTS, FROM_DENIED, Publish("deny/y"), Reaches("open/y")),
    (ONLY_V5, Alias, Publish("open/y"), Reaches("open/y")),
    (ONLY_V5, Alias, Publish("deny/y"), Refused),
    (ONLY_V5, Alias, Publish("$SYS/y"), Refused),
    (ONLY_V5, Alias, Publish("$delayed/0/deny/y"), Refused),
    (SENSOR, Registered, Publish("open/y"), Reaches("open/y")),
    (SENSOR, Registered, Publish("deny/y"), Refused),
    (SENSOR, Predefined, Publish("known/open"), Reaches("known/open")),
    (SENSOR, Predefined, Publish("deny/known"), Refused),
    (SENSOR, Short, Publish("ok"), Reaches("ok")),
    (SENSOR, Short, Publish("no"), Refused),
    (UNCONNECTED, Predefined, Publish("known/open"), Reaches("known/open")),
    (UNCONNECTED, Predefined, Publish("deny/known"), Refused),
    (UNCONNECTED, Predefined, Publish("$SYS/known"), Refused),
    (UNCONNECTED, Predefined, Publish("$delayed/0/deny/known"), Refused),
    (UNCONNECTED, Mount("deny/"), Publish("ok"), Refused),
    (UNCONNECTED, Rewrite(RewriteAction::All, "ok", "^ok$", "deny/y"), Publish("ok"), Refused),
    (UNCONNECTED, Rewrite(RewriteAction::All, "ok", "^ok$", "$$SYS/y"), Publish("ok"), Refused),
    (UNCONNECTED, Short, Publish("ok"), Reaches("ok")),
    (UNCONNECTED, Short, Publish("no"), Refused),
    // Wills
    (CLIENTS, Plain, Will("open/w", "gone"), Reaches("open/w")),
    (CLIENTS, Plain, Will("deny/w", "gone"), Refused),
    (CLIENTS, Plain, Will("unwritten/w", "gone"), Refused),
    (CLIENTS, Plain, Will("$SYS/w", "gone"), Refused),
    (CLIENTS, Plain, Will("$delayed/0/deny/w", "gone"), Refused),
    (CLIENTS, Plain, Will("$delayed/0/$SYS/w", "gone"), Refused),
    (CLIENTS, Plain, Will("$delayed/0/$delayed/0/deny/w", "gone"), Refused),
    (CLIENTS, Mount("deny/"), Will("open/w", "gone"), Refused),
    (CLIENTS, TO_DENIED, Will("in/w", "gone"), Refused),
    (CLIENTS, TO_SYSTEM, Will("in/w", "gone"), Refused),
    (CLIENTS, TO_DELAYED, Will("in/w", "gone"), Refused),
    (CLIENTS, FROM_DENIED, Will("deny/w", "gone"), Reaches("open/w")),
    (CLIENTS, Plain, Will("$SYS/broker/connection/c/state", "0"), Reaches("$SYS/broker/connection/c/state")),
    (CLIENTS, Plain, Will("$SYS/broker/connection/c/state", "gone"), Refused),
    (CLIENTS, Plain, Will("$SYS/broker/connection/c/state", ""), Refused),
    (CLIENTS, Plain, Will("$SYS/broker/connection/other/state", "0"), Refused),
    (SENSOR, Plain, WillTopicUpd("open/u"), Reaches("open/u")),
    (SENSOR, Plain, WillTopicUpd("deny/u"), Refused),
    (SENSOR, Plain, WillTopicUpd("$SYS/u"), Refused),
    (SENSOR, Plain, WillTopicUpd("$SYS/broker/connection/c/state"), Refused),
    (SENSOR, Plain, WillTopicUpd("$delayed/0/deny/u"), Refused),
    (SENSOR, Mount("deny/"), WillTopicUpd("open/u"), Refused),
    (SENSOR, TO_DENIED, WillTopicUpd("in/u"), Refused),
    (SENSOR, TO_SYSTEM, WillTopicUpd("in/u"), Refused),
    (SENSOR, Plain, WillMsgUpd("1"), Refused),
    (SENSOR, Plain, WillMsgUpd("anything"), Refused),
    // Reading what is published now
    (CLIENTS, Plain, Read("open/+"), Gets(&["open/x"])),
    (CLIENTS, Plain, Read("#"), Gets(OPEN)),
    (CLIENTS, Plain, Read("+/x"), Gets(OPEN)),
    (CLIENTS, Plain, Read("+/#"), Gets(OPEN)),
    (CLIENTS, Plain, Read("+"), Gets(&[])),
    (CLIENTS, Plain, Read("open/#"), Gets(&["open/x"])),
    (CLIENTS, Plain, Read("open/eq"), Refused),
    (CLIENTS, Plain, Read("deny"), Refused),
    (CLIENTS, Plain, Read("deny/x"), Refused),
    (CLIENTS, Plain, Read("deny/#"), Refused),
    (CLIENTS, Plain, Read("unread/#"), Refused),
    (CLIENTS, Plain, Read("$SYS/#"), Refused),
    (CLIENTS, Plain, Read("$SYS/broker/connection/c/state"), Refused),
    (CLIENTS, Plain, Read("$SYS/broker/connection/plant/state"), Refused),
    (CLIENTS, Plain, Read("$delayed/#"), Refused),
    (CLIENTS, Plain, Read("$share/g/#"), Gets(OPEN)),
    (CLIENTS, Plain, Read("$share/g/+/x"), Gets(OPEN)),
    (CLIENTS, Plain, Read("$share/g/deny/#"), Refused),
    (CLIENTS, Plain, Read("$share/g/$SYS/#"), Refused),
    (CLIENTS, Plain, Read("$queue/#"), Gets(OPEN)),
    (CLIENTS, Plain, Read("$queue/deny/x"), Refused),
    (CLIENTS, Plain, Read("$queue/$SYS/#"), Refused),
    (CLIENTS, Plain, Read("$local/#"), Gets(OPEN)),
    (CLIENTS, Plain, Read("$local/deny/#"), Refused),
    (CLIENTS, Plain, Read("$local/$share/g/#"), Gets(OPEN)),
    (CLIENTS, Plain, Read("$local/$queue/deny/#"), Refused),
    (CLIENTS, Plain, Read("$exclusive/open/x"), Gets(&["open/x"])),
    (CLIENTS, Plain, Read("$exclusive/deny/x"), Refused),
    (CLIENTS, Mount("m/"), Read("#"), Gets(&[])),
    (CLIENTS, Mount("m/"), Read("deny/#"), Refused),
    (CLIENTS, Mount("deny/"), Read("#"), Refused),
    (CLIENTS, Mount("deny/"), Read("$share/g/x"), Refused),
    (CLIENTS, Mount("open/"), Read("#"), Gets(&["x"])),
    (CLIENTS, TO_DENIED, Read("in/x"), Refused),
    (CLIENTS, TO_DENIED, Read("in/#"), Refused),
    (CLIENTS, TO_DENIED, Read("$share/g/in/#"), Refused),
    (CLIENTS, TO_SYSTEM, Read("in/#"), Refused),
    (CLIENTS, TO_ALL, Read("in/all"), Gets(OPEN)),
    (CLIENTS, TO_ALL, Read("$share/g/in/all"), Gets(OPEN)),
    (MQTT, FROM_DENIED, Read("deny/x"), Gets(&["open/x"])),
    // The id of SUBACK is that of the name it subscribed to. MQTT-SN 1.2 §5.4.16
    (SENSOR, FROM_DENIED, Read("deny/x"), Gets(&["deny/x"])),
    (SENSOR, Predefined, Read("deny/known"), Refused),
    (SENSOR, Short, Read("no"), Refused),
    (SENSOR, Short, Read("+/"), Gets(&[])),
    // Reading what waited
    (CLIENTS, Plain, ReadLater("#"), Gets(OPEN)),
    (CLIENTS, Plain, ReadLater("+/x"), Gets(OPEN)),
    (CLIENTS, Plain, ReadLater("open/#"), Gets(&["open/x"])),
    (CLIENTS, Plain, ReadLater("$share/g/#"), Gets(OPEN)),
    (CLIENTS, Plain, ReadLater("$queue/+/x"), Gets(OPEN)),
    (CLIENTS, Plain, ReadLater("$local/#"), Gets(OPEN)),
    (CLIENTS, Mount("m/"), ReadLater("#"), Gets(&[])),
    (CLIENTS, TO_ALL, ReadLater("in/all"), Gets(OPEN)),
    // Reading what was retained
    (CLIENTS, Plain, ReadRetained("#"), Gets(OPEN)),
    (CLIENTS, Plain, ReadRetained("+/x"), Gets(OPEN)),
    (CLIENTS, Plain, ReadRetained("+/#"), Gets(OPEN)),
    (CLIENTS, Plain, ReadRetained("open/#"), Gets(&["open/x"])),
    (CLIENTS, Plain, ReadRetained("$local/#"), Gets(OPEN)),
    (CLIENTS, Plain, ReadRetained("$exclusive/open/x"), Gets(&["open/x"])),
    (CLIENTS, Plain, ReadRetained("$SYS/#"), Refused),
    (CLIENTS, Mount("m/"), ReadRetained("#"), Gets(&[])),
    (CLIENTS, TO_ALL, ReadRetained("in/all"), Gets(OPEN)),
];

/// What a driver of an adapter saw.
#[derive(Debug, Default)]
struct Seen {
    /// The client was told no.
    refused: bool,
    /// What came out on the bus, or was delivered to the client: names, one for each time.
    topics: Vec<String>,
}

/// How often each row tries: at each QoS, retained and not.
const TIMES_PUBLISHED: usize = 6;
/// At each QoS.
const TIMES_READ: usize = 3;

fn times(who: Who, action: Action) -> usize {
    match action {
        Publish(_) if who == Who::Unconnected => 2,
        Publish(_) => TIMES_PUBLISHED,
        // An observation of QoS 0 does not wait for its client.
        ReadLater(_) if who == Who::Coap => TIMES_READ - 1,
        Read(_) | ReadLater(_) | ReadRetained(_) => TIMES_READ,
        Will(..) | WillTopicUpd(_) | WillMsgUpd(_) => 1,
    }
}

/// What is wrong with a row.
fn fault(who: Who, detour: Detour, action: Action, expected: Outcome) -> Option<String> {
    let seen = match who {
        Who::Mqtt(version) => mqtt::tries(version, detour, action),
        Who::Sensor => sensor::tries(detour, action),
        Who::Stomp => stomp::tries(detour, action),
        Who::Coap => coap::tries(detour, action),
        Who::Unconnected => sensor::tries_unconnected(detour, action),
    };
    let reads = matches!(action, Read(_) | ReadLater(_) | ReadRetained(_));
    let names: Vec<&str> = match expected {
        Reaches(topic) => vec![topic],
        Gets(topics) => topics.to_vec(),
        Refused => Vec::new(),
    };
    let mut wanted: Vec<String> = (0..times(who, action))
        .flat_map(|_| names.iter().map(|name| (*name).to_owned()))
        .collect();
    wanted.sort();
    let mut got = seen.topics;
    got.sort();
    // QoS −1 and MQTT 3 have no word for a refused publish or will change.
    let told = seen.refused == (expected == Refused) || !reads;
    (got != wanted || !told).then(|| {
        let refused = if seen.refused { "refused" } else { "granted" };
        format!("{who:?}, {detour:?}, {action:?}: wanted {expected:?}; {refused}, came {got:?}")
    })
}

#[test]
fn the_rules_hold_for_every_adapter_action_and_detour() {
    let rows = TABLE.iter().flat_map(|(who, detour, action, expected)| {
        let has_wills = |who: Who| !matches!(who, Who::Stomp | Who::Coap);
        let has_it = move |who: &&Who| has_wills(**who) || !matches!(action, Will(..));
        who.iter()
            .filter(has_it)
            .filter_map(|who| fault(*who, *detour, *action, *expected))
    });
    let faults: Vec<String> = rows.collect();
    assert!(
        faults.is_empty(),
        "{} rows fail:\n{}",
        faults.len(),
        faults.join("\n")
    );
}

/// The mount point that a detour stands for.
fn mount(detour: Detour) -> MountPoint {
    match detour {
        Mount(mount) => MountPoint::parse(mount).expect("a good one"),
        _ => MountPoint::default(),
    }
}

/// The rules of rewriting that a detour stands for.
fn rewriting(detour: Detour) -> Vec<RewriteRule> {
    match detour {
        Rewrite(action, source, pattern, target) => vec![RewriteRule {
            action,
            source: source.into(),
            pattern: pattern.into(),
            target: target.into(),
        }],
        _ => Vec::new(),
    }
}
