//! Azure IoT Hub, and the Device Provisioning Service (DPS) that says which hub is a device's.
//!
//! Sources, as of 2026: Azure "Communicate with an IoT hub using the MQTT protocol", "Communicate with DPS using the MQTT protocol", "Symmetric key attestation".

use crate::presets::Preset;
use crate::remote::{Login, Sas};
use crate::settings::{BridgeSettings, BridgeSettingsError};
use crate::topics::{Direction, Rewrite, TopicRule};
use headgate_model::Secret;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// How long a registration id or device id may be.
pub(crate) const LONGEST_ID: usize = 128;

/// The hub and the device that the provisioning service assigned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Host name, with a port if it is not the usual one.
    pub hub: String,
    /// The device's id there.
    pub device: String,
}

/// How the provisioning service is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provisioning {
    /// Where it is: `mqtts://…`.
    pub address: String,
    /// The client identifier there.
    pub registration_id: String,
    /// As whom.
    pub login: Login,
    /// What is asked, JSON.
    pub request: String,
}

/// A symmetric key, wherever it is; none for a certificate.
#[derive(Clone, Debug, Default)]
pub(crate) struct AzureKey {
    key: Secret,
    file: Option<PathBuf>,
    /// It is a group's: the registration id that the device's own is made of.
    derive_for: Option<String>,
}

impl AzureKey {
    /// A device's own.
    pub(crate) fn own(key: &Secret, file: Option<&PathBuf>) -> Self {
        Self {
            key: key.clone(),
            file: file.cloned(),
            derive_for: None,
        }
    }

    fn of_group(key: &Secret, file: Option<&PathBuf>, registration_id: &str) -> Self {
        Self {
            derive_for: Some(registration_id.to_owned()),
            ..Self::own(key, file)
        }
    }

    fn signs(&self, resource: String, policy: Option<&str>) -> Option<Sas> {
        let is_there = !self.key.is_empty() || self.file.is_some();
        is_there.then(|| Sas {
            resource,
            key: self.key.clone(),
            key_file: self.file.clone(),
            derive_for: self.derive_for.clone(),
            policy: policy.map(str::to_owned),
            lifetime: Duration::from_secs(3_600),
        })
    }
}

/// What the preset `azure-iot-dps` says.
struct Dps<'a> {
    id_scope: &'a str,
    registration_id: &'a str,
    endpoint: &'a str,
    key: AzureKey,
    payload: Option<&'a str>,
}

impl<'a> Dps<'a> {
    fn of(preset: &'a Option<Preset>) -> Option<Self> {
        let Some(Preset::AzureIotDps {
            id_scope,
            registration_id,
            endpoint,
            key,
            key_file,
            group_key,
            group_key_file,
            payload,
        }) = preset
        else {
            return None;
        };
        let is_group = !group_key.is_empty() || group_key_file.is_some();
        let key = if is_group {
            AzureKey::of_group(group_key, group_key_file.as_ref(), registration_id)
        } else {
            AzureKey::own(key, key_file.as_ref())
        };
        Some(Self {
            id_scope,
            registration_id,
            endpoint,
            key,
            payload: payload.as_deref(),
        })
    }

    fn address(&self) -> String {
        format!("mqtts://{}", self.endpoint)
    }
}

impl BridgeSettings {
    /// How the provisioning service is asked for the hub, if the preset says so.
    pub fn provisioning(&self) -> Option<Provisioning> {
        let dps = Dps::of(&self.preset)?;
        let resource = format!("{}/registrations/{}", dps.id_scope, dps.registration_id);
        let mut request = serde_json::json!({ "registrationId": dps.registration_id });
        if let Some(payload) = dps.payload {
            request["payload"] = serde_json::from_str(payload).unwrap_or_default();
        }
        Some(Provisioning {
            address: dps.address(),
            registration_id: dps.registration_id.to_owned(),
            login: Login {
                username: Some(format!("{resource}/api-version=2019-03-31")),
                sas: dps.key.signs(resource, Some("registration")),
                ..Login::default()
            },
            request: request.to_string(),
        })
    }

    /// With what the provisioning service assigned, and with what the preset says.
    #[must_use]
    pub fn with_assignment(mut self, assignment: &Assignment) -> Self {
        let key = Dps::of(&self.preset).map(|dps| dps.key).unwrap_or_default();
        self.be_azure(&assignment.hub, &assignment.device, &key);
        self
    }

    /// Until something is assigned. The device's id nearly always is the registration id.
    pub(crate) fn await_assignment(&mut self) {
        let preset = self.preset.clone();
        let Some(dps) = Dps::of(&preset) else { return };
        self.reach(dps.address());
        self.be_azure(dps.endpoint, dps.registration_id, &dps.key);
    }

    pub(crate) fn be_azure(&mut self, hub: &str, device: &str, key: &AzureKey) {
        self.reach(format!("mqtts://{hub}"));
        self.keep_to_itself();
        fill(&mut self.client_id, device.to_owned());
        // The port is none of the name's.
        let hub = hub.split(':').next().unwrap_or(hub);
        let username = format!("{hub}/{device}/?api-version=2021-04-12");
        self.login.username.get_or_insert(username);
        if self.login.sas.is_none() {
            self.login.sas = key.signs(format!("{hub}/devices/{device}"), None);
        }
        if self.max_outgoing_packet_size == 0 {
            self.max_outgoing_packet_size = 256 << 10;
        }
        if self.topics.is_empty() {
            self.topics = topics(device);
        }
    }
}

/// Events, messages from the cloud, the device twin and direct methods, under names that need no `$` and no `?`.
fn topics(device: &str) -> Vec<TopicRule> {
    let events = format!("devices/{device}/messages/events/");
    let inbox = format!("devices/{device}/messages/devicebound/");
    vec![
        out("telemetry/#", "^.*$", &events.replace('$', "$$")),
        TopicRule {
            rewrite: None,
            ..incoming(&inbox, "azure/devicebound/", "", "")
        },
        out("azure/twin/get/+", "^.*/([^/]+)$", "$$iothub/twin/GET/?$$rid=$1"),
        out(
            "azure/twin/reported/+",
            "^.*/([^/]+)$",
            "$$iothub/twin/PATCH/properties/reported/?$$rid=$1",
        ),
        incoming(
            "$iothub/twin/res/",
            "azure/twin/res/",
            r"^(.*)/\?\$rid=([^&]*).*$",
            "$1/$2",
        ),
        incoming(
            "$iothub/twin/PATCH/properties/desired/",
            "azure/twin/desired/",
            "^.*$",
            "azure/twin/desired",
        ),
        incoming(
            "$iothub/methods/POST/",
            "azure/methods/call/",
            r"^(.*)/\?\$rid=([^&]*).*$",
            "$1/$2",
        ),
        out(
            "azure/methods/res/+/+",
            "^.*/([^/]+)/([^/]+)$",
            "$$iothub/methods/res/$1/?$$rid=$2",
        ),
    ]
}

fn out(filter: &str, pattern: &str, target: &str) -> TopicRule {
    TopicRule {
        filter: filter.into(),
        qos: 1,
        rewrite: Some(Rewrite {
            pattern: pattern.into(),
            target: target.into(),
        }),
        ..TopicRule::default()
    }
}

fn incoming(remote_prefix: &str, local_prefix: &str, pattern: &str, target: &str) -> TopicRule {
    TopicRule {
        direction: Direction::In,
        local_prefix: local_prefix.into(),
        remote_prefix: remote_prefix.into(),
        ..out("#", pattern, target)
    }
}

fn fill(text: &mut String, value: String) {
    if text.is_empty() {
        *text = value;
    }
}

/// What is wrong with the preset, if it is one of these.
pub(crate) fn check(preset: &Preset) -> Result<(), BridgeSettingsError> {
    let fault = |key: &'static str, value: &str, what: &str| BridgeSettingsError::Text {
        key,
        value: value.to_owned(),
        what: what.into(),
    };
    let is_one = |keys: &[bool]| keys.iter().filter(|key| **key).count() <= 1;
    match preset {
        Preset::AzureIotHub { key, key_file, .. } if !is_one(&[!key.is_empty(), key_file.is_some()]) => {
            let what = "has key and key_file: one is wanted";
            return Err(fault("preset", "azure-iot-hub", what));
        }
        Preset::AzureIotDps {
            id_scope,
            registration_id,
            key,
            key_file,
            group_key,
            group_key_file,
            payload,
            ..
        } => {
            let keys = [
                !key.is_empty(),
                key_file.is_some(),
                !group_key.is_empty(),
                group_key_file.is_some(),
            ];
            if !is_one(&keys) {
                let what = "has several of key, key_file, group_key and group_key_file: one is wanted";
                return Err(fault("preset", "azure-iot-dps", what));
            }
            for (key, id) in [
                ("preset.id_scope", id_scope),
                ("preset.registration_id", registration_id),
            ] {
                if !is_id(id) {
                    let what = "is none: 1 to 128 letters, digits and `-._:` are wanted";
                    return Err(fault(key, id, what));
                }
            }
            if let Some(payload) = payload
                && serde_json::from_str::<serde_json::Value>(payload).is_err()
            {
                return Err(fault("preset.payload", payload, "is not JSON"));
            }
        }
        _ => {}
    }
    Ok(())
}

fn is_id(id: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
    (1..=LONGEST_ID).contains(&id.len()) && id.chars().all(good)
}
