//! MQTT-SN as a protocol that is registered.

use crate::gateway::SPOKEN;
use crate::{Framing, SnFramer, SnGateway, SnSettings};
use headgate_model::datagram::Address;
use headgate_model::{ConfiguredLogin, DatagramProtocol, Fault, Instant, MemoryLimit, MountPoint, Naming};
use std::sync::Arc;

/// MQTT-SN 1.2.
#[derive(Debug)]
pub struct MqttSn;

impl DatagramProtocol for MqttSn {
    const NAME: &'static str = "mqttsn";
    const SPOKEN: &'static str = SPOKEN;
    const DEFAULT_BIND: Option<&'static str> = Some("127.0.0.1:1884");

    type Settings = SnSettings;
    type Framing = Framing;
    type Framer = SnFramer;
    type Server<A: Address + Unpin + Send + 'static> = SnGateway<A>;

    fn faults(settings: &SnSettings, mount: &MountPoint) -> Vec<Fault> {
        settings.faults(mount)
    }

    fn unanswered_anonymous(settings: &SnSettings) -> Option<&'static str> {
        let publisher = &settings.qos_minus_one;
        (publisher.enabled && publisher.username.is_empty()).then_some("qos_minus_one.username")
    }

    fn logins(settings: &SnSettings) -> Vec<ConfiguredLogin> {
        settings.logins()
    }

    fn user_of(settings: &SnSettings, client_id: &str) -> Option<String> {
        let own = settings
            .credentials
            .iter()
            .find(|entry| entry.client_id == client_id);
        let user = own.map_or(&settings.default_username, |entry| &entry.username);
        (!user.is_empty()).then(|| user.clone())
    }

    fn server<A: Address + Unpin + Send + 'static>(
        settings: &SnSettings,
        naming: Arc<Naming>,
        now: Instant,
        memory: Arc<MemoryLimit>,
    ) -> SnGateway<A> {
        let gateway = SnGateway::new(settings.clone(), naming, now).expect("settings have no faults");
        gateway.with_memory(memory)
    }

    fn change<A: Address + Unpin + Send + 'static>(
        server: &mut SnGateway<A>,
        settings: &SnSettings,
        naming: Arc<Naming>,
        now: Instant,
    ) {
        server
            .set_settings(settings.clone(), naming, now)
            .expect("settings have no faults");
    }

    fn framer(settings: &SnSettings, framing: &Framing) -> Option<SnFramer> {
        Some(SnFramer::new(*framing, settings.max_datagram_bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::QosMinusOneSettings;

    /// §6.8: PUBLISH at QoS −1 is never answered.
    #[test]
    fn only_qos_minus_one_without_a_user_name_goes_unanswered() {
        let with = |enabled, username: &str| {
            MqttSn::unanswered_anonymous(&SnSettings {
                qos_minus_one: QosMinusOneSettings {
                    enabled,
                    username: username.into(),
                    ..QosMinusOneSettings::default()
                },
                ..SnSettings::default()
            })
        };
        assert_eq!(with(true, ""), Some("qos_minus_one.username"));
        assert_eq!(with(true, "sensors"), None);
        assert_eq!(with(false, ""), None);
    }
}
