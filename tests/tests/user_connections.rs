//! `bus.max_connections_per_user`: how many connections the clients of one user name have, whatever they speak. docs/security.md

use headgate_mqtt_codec::{Connect, ReasonCode, Version};
use headgate_tests::*;

fn gateway(max: usize) -> Gateway {
    let gw = Gateway::with(|settings| settings.bus.max_connections_per_user = max);
    gw.believe_user_names();
    gw
}

fn of(version: Version, id: &str, user: &str) -> Connect {
    connect(version, id).login(user, "secret")
}

/// MQTT 5 §3.2.2.2: 0x97; 3.1.1 §3.2.2.3: 3.
#[test]
fn one_more_than_the_user_may_have_is_refused() {
    for version in ALL {
        let refusal = match version {
            V5 => ReasonCode::QuotaExceeded,
            _ => ReasonCode::ServerUnavailable,
        };
        let gw = gateway(2);
        let one = gw.open(of(version, "1", "fleet"));
        let _two = gw.open(of(version, "2", "fleet"));
        assert_eq!(gw.connect(of(version, "3", "fleet")).code(), Some(refusal));
        // Others have a limit of their own, or none without a name.
        let _other = gw.open(of(version, "4", "other"));
        let _nobody: Vec<_> = ["5", "6", "7"].map(|id| gw.open(connect(version, id))).into();
        // Who takes over its own session has no more than before.
        let mut again = gw.open(of(version, "1", "fleet"));
        drop(one);
        again.lose();
        let _three = gw.open(of(version, "3", "fleet"));
        assert_eq!(gw.connect(of(version, "1", "fleet")).code(), Some(refusal));
    }
}

/// A session that waits is no connection.
#[test]
fn who_is_away_is_not_counted() {
    let gw = gateway(1);
    let mut away = gw.open(of(V5, "1", "fleet").durable());
    away.lose();
    let mut here = gw.open(of(V5, "2", "fleet"));
    assert_eq!(
        gw.connect(of(V5, "1", "fleet").durable()).code(),
        Some(ReasonCode::QuotaExceeded)
    );
    here.lose();
    gw.open(of(V5, "1", "fleet").durable());
}

/// The limit is taken with the next reload, and counts who is there.
#[test]
fn a_limit_that_comes_later_counts_who_is_there() {
    let gw = gateway(0);
    let _there: Vec<_> = ["1", "2", "3"].map(|id| gw.open(of(V5, id, "fleet"))).into();
    gw.set_bus(|settings| settings.max_connections_per_user = 3);
    assert_eq!(
        gw.connect(of(V5, "4", "fleet")).code(),
        Some(ReasonCode::QuotaExceeded)
    );
    gw.set_bus(|settings| settings.max_connections_per_user = 4);
    gw.open(of(V5, "4", "fleet"));
}
