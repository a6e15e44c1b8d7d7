//! MQTT as a protocol that listeners speak.

use crate::{MqttEndpoint, MqttSettings, MqttWire};
use headgate_model::{Fault, Instant, MountPoint, Naming, PeerFacts, Rewriter, StreamProtocol};
use std::sync::Arc;

/// MQTT 3.1, 3.1.1 and 5.
#[derive(Clone, Debug)]
pub struct Mqtt(Arc<MqttSettings>);

impl StreamProtocol for Mqtt {
    const NAME: &'static str = "mqtt";

    /// \[MQTT-6.0.0-3\]; and what clients of 3.1 say.
    const SUBPROTOCOLS: &'static [&'static str] = &["mqtt", "mqttv3.1", "mqttv3.1.1"];

    type Settings = MqttSettings;
    type Endpoint = MqttEndpoint;
    type Wire = MqttWire;

    fn faults(settings: &MqttSettings) -> Vec<Fault> {
        settings.faults()
    }

    fn new(settings: &MqttSettings, node: &str) -> Self {
        Self(Arc::new(MqttSettings {
            node: node.to_owned(),
            ..settings.clone().without_zeros()
        }))
    }

    fn naming(&self, mount: MountPoint, rewriter: Arc<Rewriter>) -> Naming {
        self.0.naming(mount, rewriter)
    }

    fn endpoint(&self, facts: PeerFacts, now: Instant) -> MqttEndpoint {
        MqttEndpoint::new(Arc::clone(&self.0), facts, now)
    }

    fn wire(&self) -> MqttWire {
        MqttWire::new(self.0.max_packet_size, self.0.max_connect_size)
    }
}
