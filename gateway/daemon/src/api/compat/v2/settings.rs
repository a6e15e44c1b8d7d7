//! Plugins and configuration. Here a plugin is a part of the gateway that is there always, and is active if the configuration uses it; EMQ's keys stand for
//! settings of ours. Neither is changed by this API: a change of the configuration is taken whole or not at all, and lasts (`/api/v1/configuration`).

use super::{Answer, Code, Kind, Params, Told, Untold, of_this_node};
use crate::api::compat::table::Call;
use crate::api::compat::told::VERSION;
use crate::config::Config;
use crate::protocols::STOMP;
use headgate_auth::{Anonymous, ProviderName};
use serde_json::{Value, json};

/// A part of the gateway by the name of EMQ's plugin.
struct Part {
    name: &'static str,
    description: &'static str,
    is_active: fn(&Config) -> bool,
}

const PARTS: &[Part] = &[
    Part {
        name: "emq_auth_clientid",
        description: "Clients by client id and password (auth.client_ids)",
        is_active: |config| !config.auth.client_ids.is_empty(),
    },
    Part {
        name: "emq_auth_username",
        description: "Users by name and password (auth.chain)",
        is_active: |config| config.auth.chain.contains(&ProviderName::Users),
    },
    Part {
        name: "emq_coap",
        description: "CoAP servers ([[coap]])",
        is_active: |config| !config.coap.is_empty(),
    },
    Part {
        name: "emq_dashboard",
        description: "Web UI and HTTP API (http.api)",
        is_active: |_| true,
    },
    Part {
        name: "emq_delayed_publish",
        description: "Delayed messages (bus.delayed)",
        is_active: |config| config.bus.delayed.available,
    },
    Part {
        name: "emq_lwm2m",
        description: "LwM2M servers ([[lwm2m]])",
        is_active: |config| !config.lwm2m.is_empty(),
    },
    Part {
        name: "emq_modules",
        description: "Presence, subscriptions and rewriting (sys.presence, bus.auto_subscribe, bus.rewrite)",
        is_active: |config| {
            config.sys.presence || !config.bus.auto_subscribe.is_empty() || !config.bus.rewrite.is_empty()
        },
    },
    Part {
        name: "emq_retainer",
        description: "Retained messages (bus.retained)",
        is_active: |config| config.bus.retained.available,
    },
    Part {
        name: "emq_sn",
        description: "MQTT-SN gateways ([[mqttsn]])",
        is_active: |config| !config.mqttsn.is_empty(),
    },
    Part {
        name: "emq_stomp",
        description: "Listeners for STOMP (protocol = \"stomp\")",
        is_active: |config| config.listeners.iter().any(|listener| listener.protocol == STOMP),
    },
];

pub(super) async fn plugins(call: Call) -> Answer {
    of_this_node(&call)?;
    let config = call.control.live.config().await;
    let row = |part: &Part| {
        json!({
            "name": part.name,
            "version": VERSION,
            "description": part.description,
            "active": (part.is_active)(&config),
        })
    };
    Ok(Told(PARTS.iter().map(row).collect()))
}

/// What is wanted is so, or is said by the configuration.
pub(super) async fn load_plugin(call: Call) -> Answer {
    of_this_node(&call)?;
    let wanted = Params::of(&call, &[("active", Kind::Bool)])?.0["active"] == true;
    let name = call.path[1].as_str();
    let part = PARTS.iter().find(|part| part.name == name);
    let part = part.ok_or_else(|| Untold::code(Code::Unknown, "unknown"))?;
    let config = call.control.live.config().await;
    match ((part.is_active)(&config), wanted) {
        (true, true) => Err(Untold::code(Code::Loaded, "already_started")),
        (false, false) => Err(Untold::code(Code::Unloaded, "not_started")),
        _ => {
            let what = format!("{name} is switched by the configuration: {}", part.description);
            Err(Untold::code(Code::Unknown, what))
        }
    }
}

/// A setting by the name of EMQ's key.
struct Key {
    name: &'static str,
    /// EMQ's word for what it is.
    kind: &'static str,
    /// Where it stands here.
    here: &'static str,
    value: fn(&Config) -> String,
}

fn span_text(time: std::time::Duration) -> String {
    humantime::format_duration(time).to_string().replace(' ', "")
}

const KEYS: &[Key] = &[
    Key {
        name: "mqtt.allow_anonymous",
        kind: "enum",
        here: "auth.anonymous",
        value: |config| (config.auth.anonymous == Anonymous::Everywhere).to_string(),
    },
    Key {
        name: "mqtt.broker.sys_interval",
        kind: "duration",
        here: "sys.interval",
        value: |config| span_text(config.sys.interval),
    },
    Key {
        name: "mqtt.client.idle_timeout",
        kind: "duration",
        here: "mqtt.connect_timeout",
        value: |config| span_text(config.mqtt.connect_timeout),
    },
    Key {
        name: "mqtt.max_clientid_len",
        kind: "integer",
        here: "mqtt.max_client_id_bytes",
        value: |config| config.mqtt.max_client_id_bytes.to_string(),
    },
    Key {
        name: "mqtt.max_packet_size",
        kind: "bytesize",
        here: "mqtt.max_packet_size",
        value: |config| config.mqtt.max_packet_size.to_string(),
    },
    Key {
        name: "mqtt.mqueue.max_length",
        kind: "integer",
        here: "bus.max_queued_messages",
        value: |config| config.bus.max_queued_messages.to_string(),
    },
    Key {
        name: "mqtt.mqueue.store_qos0",
        kind: "enum",
        here: "bus.store_qos0",
        value: |config| config.bus.store_qos0.to_string(),
    },
    Key {
        name: "mqtt.session.expiry_interval",
        kind: "duration",
        here: "mqtt.v3_session_expiry",
        value: |config| span_text(config.mqtt.v3_session_expiry),
    },
    Key {
        name: "mqtt.session.ignore_loop_deliver",
        kind: "enum",
        here: "mqtt.ignore_loop_deliver",
        value: |config| config.mqtt.ignore_loop_deliver.to_string(),
    },
    Key {
        name: "mqtt.session.max_awaiting_rel",
        kind: "integer",
        here: "bus.max_awaiting_release",
        value: |config| config.bus.max_awaiting_release.to_string(),
    },
    Key {
        name: "mqtt.session.max_inflight",
        kind: "integer",
        here: "bus.max_inflight",
        value: |config| config.bus.max_inflight.to_string(),
    },
    Key {
        name: "mqtt.session.max_subscriptions",
        kind: "integer",
        here: "bus.max_subscriptions",
        value: |config| config.bus.max_subscriptions.to_string(),
    },
    Key {
        name: "mqtt.session.upgrade_qos",
        kind: "flag",
        here: "bus.upgrade_qos",
        value: |config| config.bus.upgrade_qos.to_string(),
    },
];

/// EMQ writes the name of the third field so.
fn config_rows(config: &Config) -> Value {
    let row = |key: &Key| {
        json!({
            "key": key.name,
            "value": (key.value)(config),
            "datatpye": key.kind,
            "app": "emqttd",
        })
    };
    KEYS.iter().map(row).collect()
}

pub(super) async fn configs(call: Call) -> Answer {
    let rows = config_rows(&*call.control.live.config().await);
    Ok(Told(json!([{ call.control.counters.node(): rows }])))
}

pub(super) async fn configs_of(call: Call) -> Answer {
    of_this_node(&call)?;
    Ok(Told(config_rows(&*call.control.live.config().await)))
}

pub(super) async fn set(call: Call) -> Answer {
    refuse(&call)
}

pub(super) async fn set_of(call: Call) -> Answer {
    of_this_node(&call)?;
    refuse(&call)
}

/// Says where the setting stands.
fn refuse(call: &Call) -> Answer {
    let params = Params::of(call, &[("key", Kind::Text), ("value", Kind::Text)])?;
    let key = KEYS.iter().find(|key| key.name == params.text("key"));
    let what = match key {
        Some(key) => format!(
            "{} stands in the configuration of this gateway: {}",
            key.name, key.here
        ),
        None => format!("{} has no meaning here", params.text("key")),
    };
    Err(Untold::code(Code::Unknown, what))
}

/// Parts have their sections of the configuration, and no keys of EMQ's.
pub(super) async fn plugin_configs(call: Call) -> Answer {
    of_this_node(&call)?;
    plugin(&call)?;
    Ok(Told(json!([])))
}

pub(super) async fn set_plugin(call: Call) -> Answer {
    of_this_node(&call)?;
    let part = plugin(&call)?;
    Params::of(&call, &[])?;
    let what = format!(
        "{} has its place in the configuration: {}",
        part.name, part.description
    );
    Err(Untold::code(Code::Unknown, what))
}

/// EMQ's handler ends with an error for others, which is answered as what does not exist.
fn plugin(call: &Call) -> Result<&'static Part, Untold> {
    let part = PARTS.iter().find(|part| part.name == call.path[1]);
    part.ok_or(Untold::NoNode)
}
