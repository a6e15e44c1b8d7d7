//! Clouds that a few lines are enough for: what their documentation wants of a client, filled in where the operator set nothing.
//!
//! Sources, as of 2026: AWS IoT Core "Device communication protocols" and "Service quotas"; HiveMQ Cloud, EMQX
//! Cloud "Connect"; ThingsBoard "MQTT Gateway API"; Cumulocity "MQTT implementation"; Google's IoT Core, whose way of log-in others carry on. Azure has a module of its own.

use crate::azure::AzureKey;
use crate::cloud_topics;
use crate::remote::{Jwt, JwtAlgorithm};
use crate::settings::{BridgeSettings, BridgeVersion, RateSettings};
use headgate_model::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// A cloud, by what is known of it. Whatever is set beside it counts instead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "cloud", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Preset {
    /// AWS IoT Core: port 443 with ALPN, QoS 1 at most, nothing retained. Needs `tls.certificate` and `tls.key`.
    AwsIot {
        /// `{account}-ats.iot.{region}.amazonaws.com`
        endpoint: String,
        /// The thing's name: the client identifier.
        thing: String,
    },
    /// Azure IoT Hub, with a symmetric key, or without one and with `tls.certificate` and `tls.key`.
    AzureIotHub {
        /// `{name}.azure-devices.net`
        hub: String,
        /// The device's id.
        device: String,
        /// The device's symmetric key, base64; shared access signatures are made of it and renewed.
        #[serde(default)]
        #[schemars(with = "String")]
        key: Secret,
        /// The same, in the first line of a file, which is read for every connection.
        #[serde(default)]
        key_file: Option<PathBuf>,
    },
    /// Azure's Device Provisioning Service, which says which IoT Hub is the device's. With a symmetric key, or without one and with `tls.certificate` and
    /// `tls.key`. `addresses` are where the hub is reached, if that is not `mqtts://{its name}:8883`.
    AzureIotDps {
        /// `0ne…`
        id_scope: String,
        /// The registration's id: of an individual enrolment, of a device of a group, or the common name of the certificate.
        registration_id: String,
        /// Host name of the service, with a port if it is not 8883.
        #[serde(default = "global_dps")]
        endpoint: String,
        /// The device's symmetric key, base64.
        #[serde(default)]
        #[schemars(with = "String")]
        key: Secret,
        /// The same, in the first line of a file, which is read for every connection.
        #[serde(default)]
        key_file: Option<PathBuf>,
        /// The symmetric key of an enrolment group, base64: the device's own is made of it.
        #[serde(default)]
        #[schemars(with = "String")]
        group_key: Secret,
        /// The same, in the first line of a file.
        #[serde(default)]
        group_key_file: Option<PathBuf>,
        /// What the service is told beside the registration id, JSON. A custom allocation policy may look at it.
        #[serde(default)]
        payload: Option<String>,
    },
    /// HiveMQ Cloud. Needs `login`.
    HivemqCloud {
        /// `{cluster}.s1.eu.hivemq.cloud`
        host: String,
    },
    /// EMQX Cloud. Needs `login`; a serverless or dedicated cluster may want `tls.ca`.
    EmqxCloud {
        /// `{deployment}.emqxcloud.com`
        host: String,
    },
    /// ThingsBoard, as a gateway.
    Thingsboard {
        /// `mqtt.thingsboard.cloud`, or one's own.
        host: String,
        /// The access token of the gateway device.
        #[schemars(with = "String")]
        token: Secret,
    },
    /// Cumulocity. Needs `login` with the user name `{tenant}/{user}`, or `tls.certificate` and `tls.key`.
    Cumulocity {
        /// `{tenant}.cumulocity.com`, or one's own domain.
        host: String,
        /// The device's id: the client identifier, and the common name of a certificate.
        device: String,
    },
    /// A cloud whose password is a JSON Web Token, as Google's was.
    JwtPassword {
        /// Host name.
        host: String,
        /// Client identifier: `projects/…/locations/…/registries/…/devices/…`.
        client_id: String,
        /// Our private key, PEM.
        key: PathBuf,
        /// How it signs.
        #[serde(default)]
        algorithm: JwtAlgorithm,
        /// Whom the token is for: the project.
        audience: String,
    },
}

impl Preset {
    /// Whether the cloud knows a device by its client identifier: under another, its credentials are refused.
    pub(crate) fn binds_client_id(&self) -> bool {
        match self {
            Self::AwsIot { .. }
            | Self::AzureIotHub { .. }
            | Self::AzureIotDps { .. }
            | Self::Cumulocity { .. }
            | Self::JwtPassword { .. } => true,
            Self::HivemqCloud { .. } | Self::EmqxCloud { .. } | Self::Thingsboard { .. } => false,
        }
    }
}

fn global_dps() -> String {
    "global.azure-devices-provisioning.net".into()
}

impl BridgeSettings {
    /// With what the preset says, where nothing else is said.
    #[must_use]
    pub fn with_preset(mut self) -> Self {
        match self.preset.clone() {
            None => {}
            Some(Preset::AwsIot { endpoint, thing }) => self.be_aws(&endpoint, thing),
            Some(Preset::AzureIotHub {
                hub,
                device,
                key,
                key_file,
            }) => self.be_azure(&hub, &device, &AzureKey::own(&key, key_file.as_ref())),
            Some(Preset::AzureIotDps { .. }) => self.await_assignment(),
            Some(Preset::HivemqCloud { host } | Preset::EmqxCloud { host }) => {
                self.reach(format!("mqtts://{host}:8883"));
                self.version = self.version.or(BridgeVersion::MqttV50);
            }
            Some(Preset::Thingsboard { host, token }) => self.be_thingsboard(&host, &token),
            Some(Preset::Cumulocity { host, device }) => self.be_cumulocity(&host, device),
            Some(Preset::JwtPassword {
                host,
                client_id,
                key,
                algorithm,
                audience,
            }) => {
                self.reach(format!("mqtts://{host}:8883"));
                self.keep_to_itself();
                fill(&mut self.client_id, client_id);
                // It is not looked at, but MQTT 3.1.1 wants one with a password.
                self.login.username.get_or_insert_with(|| "unused".into());
                self.login.jwt.get_or_insert(Jwt {
                    key,
                    algorithm,
                    audience,
                    subject: None,
                    lifetime: Duration::from_secs(3_600),
                });
            }
        }
        self
    }

    pub(crate) fn reach(&mut self, address: String) {
        if self.addresses.is_empty() {
            self.addresses.push(address);
        }
    }

    /// A cloud that is no broker: it closes the connection for topics under `$SYS`, for the bridge bit, for QoS 2 and for retained messages.
    pub(crate) fn keep_to_itself(&mut self) {
        self.notifications_local_only = true;
        self.try_private = false;
        self.attempt_unsubscribe = false;
        self.max_qos = self.max_qos.min(1);
        self.outgoing_retain = false;
    }

    fn be_aws(&mut self, endpoint: &str, thing: String) {
        self.reach(format!("mqtts://{endpoint}:443"));
        self.keep_to_itself();
        if self.topics.is_empty() {
            self.topics = cloud_topics::aws(&thing);
        }
        fill(&mut self.client_id, thing);
        if self.tls.alpn.is_empty() {
            self.tls.alpn.push("x-amzn-mqtt-ca".into());
        }
        if self.max_outgoing_packet_size == 0 {
            self.max_outgoing_packet_size = 128 << 10;
        }
        // Beyond it AWS throttles the connection.
        self.rate.get_or_insert(RateSettings {
            messages_per_second: 100,
            burst: 100,
        });
    }

    fn be_thingsboard(&mut self, host: &str, token: &Secret) {
        self.reach(format!("mqtts://{host}:8883"));
        self.keep_to_itself();
        self.login
            .username
            .get_or_insert_with(|| token.reveal().to_owned());
        if self.topics.is_empty() {
            self.topics = cloud_topics::thingsboard();
        }
    }

    fn be_cumulocity(&mut self, host: &str, device: String) {
        self.reach(format!("mqtts://{host}:8883"));
        self.keep_to_itself();
        fill(&mut self.client_id, device);
        if self.max_outgoing_packet_size == 0 {
            self.max_outgoing_packet_size = 16 << 10;
        }
        if self.topics.is_empty() {
            self.topics = cloud_topics::cumulocity();
        }
    }
}

impl BridgeVersion {
    fn or(self, other: Self) -> Self {
        if self == Self::default() { other } else { self }
    }
}

fn fill(text: &mut String, value: String) {
    if text.is_empty() {
        *text = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BridgePlan;
    use headgate_model::Topic;

    fn settings(text: &str) -> BridgeSettings {
        let text = format!("name = \"cloud\"\n{text}");
        let settings: BridgeSettings = toml::from_str(&text).unwrap();
        let settings = settings.with_preset();
        BridgePlan::new(settings.clone(), "edge").unwrap();
        settings
    }

    #[test]
    fn aws_is_reached_on_443_with_alpn_and_hears_of_nothing_it_refuses() {
        let aws = settings(
            "preset = { cloud = \"aws-iot\", endpoint = \"x-ats.iot.eu-central-1.amazonaws.com\", thing = \"gw-7\" }\n\
             topics = [\"# out 2 plant/ plant/\"]",
        );
        assert_eq!(
            aws.addresses,
            ["mqtts://x-ats.iot.eu-central-1.amazonaws.com:443"]
        );
        assert_eq!(
            (aws.client_id.as_str(), &aws.tls.alpn[..]),
            ("gw-7", &["x-amzn-mqtt-ca".to_owned()][..])
        );
        assert_eq!(
            (aws.max_qos, aws.outgoing_retain, aws.try_private),
            (1, false, false)
        );
        assert!(aws.notifications_local_only);
    }

    /// AWS IoT Core "Device Shadow MQTT topics"
    #[test]
    fn aws_has_shadows_where_no_topics_are_named() {
        let aws = settings("preset = { cloud = \"aws-iot\", endpoint = \"x\", thing = \"gw-7\" }");
        let plan = BridgePlan::new(aws, "edge").unwrap();
        for (here, there) in [
            ("telemetry/t", "gw-7/telemetry/t"),
            ("aws/shadow/update", "$aws/things/gw-7/shadow/update"),
            (
                "aws/shadow/name/door/get",
                "$aws/things/gw-7/shadow/name/door/get",
            ),
        ] {
            assert_eq!(sent_as(&plan, here).as_deref(), Some(there));
        }
        assert_eq!(
            sent_as(&plan, "aws/shadow/update/delta"),
            None,
            "it came from there"
        );
        let wanted = plan.topics().remote_subscriptions();
        assert_eq!(wanted.len(), 17);
        let delta = "$aws/things/gw-7/shadow/name/+/update/delta";
        assert!(wanted.iter().any(|(filter, _)| filter.to_string() == delta));
    }

    /// Cumulocity "MQTT implementation": 16 KiB, device ids as client identifiers.
    #[test]
    fn cumulocity_is_spoken_to_under_c8y() {
        let c8y =
            settings("preset = { cloud = \"cumulocity\", host = \"t.cumulocity.com\", device = \"gw-7\" }");
        assert_eq!(c8y.addresses, ["mqtts://t.cumulocity.com:8883"]);
        assert_eq!(
            (c8y.client_id.as_str(), c8y.max_outgoing_packet_size),
            ("gw-7", 16_384)
        );
        let plan = BridgePlan::new(c8y, "edge").unwrap();
        for (here, there) in [
            ("c8y/s/us", "s/us"),
            ("c8y/s/us/pump-1", "s/us/pump-1"),
            (
                "c8y/measurement/measurements/create",
                "measurement/measurements/create",
            ),
        ] {
            assert_eq!(sent_as(&plan, here).as_deref(), Some(there));
        }
        assert_eq!(sent_as(&plan, "c8y/s/ds"), None);
    }

    fn sent_as(plan: &BridgePlan, topic: &str) -> Option<String> {
        let topic = Topic::try_from(topic).unwrap();
        let mapped = plan.topics().outgoing(&topic).ok()?;
        Some(mapped.topic.as_str().to_owned())
    }

    #[test]
    fn azure_logs_in_by_signatures_of_its_key() {
        let azure = settings(
            "preset = { cloud = \"azure-iot-hub\", hub = \"h.azure-devices.net\", device = \"d\", key = \"c2VjcmV0\" }",
        );
        assert_eq!(
            azure.login.username.as_deref(),
            Some("h.azure-devices.net/d/?api-version=2021-04-12")
        );
        assert_eq!(azure.login.sas.unwrap().resource, "h.azure-devices.net/devices/d");
        assert_eq!(azure.topics.len(), 8);
        assert_eq!(azure.addresses, ["mqtts://h.azure-devices.net"]);
        let shown = format!("{:?}", azure.preset);
        assert!(!shown.contains("c2VjcmV0"), "{shown}");
    }

    #[test]
    fn what_is_set_beside_a_preset_counts() {
        let hive = settings(
            "preset = { cloud = \"hivemq-cloud\", host = \"c.s1.eu.hivemq.cloud\" }\naddresses = [\"wss://c.s1.eu.hivemq.cloud:8884/mqtt\"]",
        );
        assert_eq!(hive.addresses, ["wss://c.s1.eu.hivemq.cloud:8884/mqtt"]);
        assert_eq!(hive.version, BridgeVersion::MqttV50);
        let wrong = "name = \"x\"\npreset = { cloud = \"hivemq-cloud\", hots = \"a\" }";
        assert!(toml::from_str::<BridgeSettings>(wrong).is_err());
    }

    #[test]
    fn thingsboard_and_jwt_clouds_log_in_their_way() {
        let board = settings("preset = { cloud = \"thingsboard\", host = \"tb.example\", token = \"T0K\" }");
        assert_eq!(board.login.username.as_deref(), Some("T0K"));
        assert_eq!(board.topics.len(), 4);
        let jwt = settings(
            "preset = { cloud = \"jwt-password\", host = \"h\", client_id = \"projects/p/devices/d\", key = \"k.pem\", audience = \"p\" }",
        );
        assert_eq!(jwt.login.jwt.unwrap().audience, "p");
    }
}
