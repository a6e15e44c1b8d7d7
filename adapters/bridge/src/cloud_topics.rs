//! The topics that a cloud has of its own: what its preset adds where the operator names none.
//!
//! Sources, as of 2026: AWS IoT Core "Device Shadow MQTT topics", which advises against wildcards; Cumulocity "MQTT implementation", "SmartREST 2.0" and "JSON via
//! MQTT"; ThingsBoard "MQTT Gateway API". Azure's are in [`crate::azure`].

use crate::topics::{Direction, TopicRule};

/// What a shadow is asked.
const ASKED: [&str; 3] = ["get", "update", "delete"];
/// What it answers, and tells by itself.
const ANSWERED: [&str; 8] = [
    "get/accepted",
    "get/rejected",
    "update/accepted",
    "update/rejected",
    "update/delta",
    "update/documents",
    "delete/accepted",
    "delete/rejected",
];

/// The thing's own topics, its classic shadow and its named ones.
pub(crate) fn aws(thing: &str) -> Vec<TopicRule> {
    let own = format!("{thing}/");
    let shadow = format!("$aws/things/{thing}/shadow/");
    let mut rules = vec![
        rule("telemetry/#", Direction::Out, "", &own),
        rule("cmd/#", Direction::In, "aws/", &own),
    ];
    for kind in ["", "name/+/"] {
        let shadows = |direction| {
            let shadow = &shadow;
            move |part: &&str| rule(&format!("{kind}{part}"), direction, "aws/shadow/", shadow)
        };
        rules.extend(ASKED.iter().map(shadows(Direction::Out)));
        rules.extend(ANSWERED.iter().map(shadows(Direction::In)));
    }
    rules
}

/// SmartREST 2.0 with its four modes of processing, JSON, and tokens; all under `c8y/`.
pub(crate) fn cumulocity() -> Vec<TopicRule> {
    let out = [
        "s/us/#",
        "t/us/#",
        "q/us/#",
        "c/us/#",
        "s/uc/#",
        "t/uc/#",
        "q/uc/#",
        "c/uc/#",
        "s/ut/#",
        "s/uat",
        "measurement/#",
        "event/#",
        "alarm/#",
        "inventory/managedObjects/update/#",
    ];
    let incoming = [
        "s/ds",
        "s/dc/#",
        "s/dt",
        "s/dat",
        "s/e",
        "devicecontrol/notifications",
        "error",
    ];
    let out = out.map(|filter| rule(filter, Direction::Out, "c8y/", ""));
    let incoming = incoming.map(|filter| rule(filter, Direction::In, "c8y/", ""));
    out.into_iter().chain(incoming).collect()
}

/// The gateway API, under its own names.
pub(crate) fn thingsboard() -> Vec<TopicRule> {
    vec![
        rule("v1/gateway/rpc", Direction::Both, "", ""),
        rule("v1/gateway/attributes", Direction::Both, "", ""),
        rule("v1/gateway/attributes/response", Direction::In, "", ""),
        rule("v1/gateway/#", Direction::Out, "", ""),
    ]
}

fn rule(filter: &str, direction: Direction, local_prefix: &str, remote_prefix: &str) -> TopicRule {
    TopicRule {
        filter: filter.into(),
        direction,
        qos: 1,
        local_prefix: local_prefix.into(),
        remote_prefix: remote_prefix.into(),
        ..TopicRule::default()
    }
}
