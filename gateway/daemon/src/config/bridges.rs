//! What is wrong with bridges: all of it, where whoever starts one stops at the first.

use super::checks::{name_twice, of_entry};
use super::{Config, DEFAULT_NODE};
use crate::bridges::{Checked, address_faults, check_service, tls_faults};
use headgate_bridge::{BridgePlan, BridgeSettings};
use headgate_model::Fault;
use serde_json::Value;

/// Faults of one bridge that are told at most.
const MOST: usize = 100;

/// All that is wrong with the settings of all bridges.
pub(super) fn faults(config: &Config) -> Vec<Fault> {
    let mut faults = Vec::new();
    if config.node == DEFAULT_NODE && !config.bridges.is_empty() {
        let what = format!(
            "it is still `{DEFAULT_NODE}`: a gateway with bridges needs a name of its own, for messages that come round a ring are known by it"
        );
        faults.push(Fault::new("node", what));
    }
    for (n, bridge) in config.bridges.iter().enumerate() {
        let mut found = of_bridge(bridge, &config.node);
        // In another way than those that were looked for, whatever it is.
        if found.is_empty()
            && config.node != DEFAULT_NODE
            && let Err(fault) = Checked::new(bridge, &config.node)
        {
            found.push(fault);
        }
        faults.extend(of_entry("bridges", n, &bridge.name, found));
        let names = config.bridges.iter().map(|other| other.name.as_str());
        faults.extend(name_twice("bridges", n, names));
    }
    faults
}

/// Files for TLS that cannot be used now. They are read for every connection, so they may come later: no reason not to start.
pub(super) fn warnings(config: &Config) -> Vec<Fault> {
    let bridges = config.bridges.iter().enumerate();
    bridges
        .flat_map(|(n, bridge)| of_entry("bridges", n, &bridge.name, tls_faults(bridge)))
        .collect()
}

fn of_bridge(bridge: &BridgeSettings, node: &str) -> Vec<Fault> {
    let mut faults: Vec<Fault> = Vec::new();
    let mut note = |fault: Fault| {
        if !faults.contains(&fault) {
            faults.push(fault);
        }
    };
    if let Err(error) = bridge.login.check() {
        note(error.fault());
    }
    if let Err(fault) = check_service(bridge, node) {
        note(fault);
    }
    for fault in of_plan(bridge.clone(), node) {
        note(fault);
    }
    for fault in address_faults(bridge) {
        note(fault);
    }
    faults
}

/// What [`BridgePlan::new`] says, again and again: what it says is told, and put back to its default.
fn of_plan(mut bridge: BridgeSettings, node: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    // The places of the rules that are left.
    let mut rules: Vec<usize> = (0..bridge.topics.len()).collect();
    while faults.len() < MOST {
        let Err(error) = BridgePlan::new(bridge.clone(), node) else {
            break;
        };
        let fault = error.fault();
        let rule = fault
            .key
            .strip_prefix("topics[")
            .and_then(|rest| rest.split_once(']'));
        let rule = rule.and_then(|(n, _)| n.parse::<usize>().ok());
        match rule.filter(|n| *n < rules.len()) {
            Some(n) => {
                let message = fault.message;
                faults.push(Fault::new(format!("topics[{}]", rules.remove(n)), message));
                bridge.topics.remove(n);
            }
            None => {
                let repaired = with_default(&bridge, &fault.key);
                faults.push(fault);
                match repaired.filter(|repaired| *repaired != bridge) {
                    Some(repaired) => bridge = repaired,
                    None => break,
                }
            }
        }
    }
    faults
}

/// The settings with the default of one of them.
fn with_default(bridge: &BridgeSettings, key: &str) -> Option<BridgeSettings> {
    let mut settings = serde_json::to_value(bridge).ok()?;
    // A bridge needs a name.
    let defaults = BridgeSettings {
        name: "bridge".into(),
        ..BridgeSettings::default()
    };
    let defaults = serde_json::to_value(defaults).ok()?;
    put_back(&mut settings, &defaults, key)?;
    let mut repaired: BridgeSettings = serde_json::from_value(settings).ok()?;
    // Written as a line, a rule would be read as a table: the same, but for what it was written as.
    repaired.topics.clone_from(&bridge.topics);
    if key == "topics" {
        repaired.topics.clear();
    }
    Some(repaired)
}

fn put_back(settings: &mut Value, defaults: &Value, key: &str) -> Option<()> {
    let (first, rest) = match key.split_once('.') {
        Some((first, rest)) => (first, Some(rest)),
        None => (key, None),
    };
    let (mine, default) = (settings.get_mut(first)?, defaults.get(first)?);
    match rest {
        Some(rest) if default.is_object() => put_back(mine, default, rest),
        // A section that is not there by default goes as a whole.
        _ => {
            *mine = default.clone();
            Some(())
        }
    }
}
