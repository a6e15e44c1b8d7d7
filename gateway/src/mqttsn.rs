//! MQTT-SN gateways: their settings, and the sockets and lines they are served on.

use headgate_model::{Instant, MountPoint};
use headgate_mqttsn::{SnGateway, SnSettings};
use headgate_shell::datagram::serve;
use headgate_shell::settings::{AddressRules, DEFAULT_RECEIVE_BUFFER, MulticastSettings, UdpSettings};
use headgate_shell::{DatagramOffice, DatagramStats, ListenError, UdpLink};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::task::JoinSet;

/// One MQTT-SN gateway: a UDP socket with all its clients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MqttSnSettings {
    /// The name in logs and under `$SYS`.
    pub name: String,
    /// What the messages go over. Default: `udp`.
    #[serde(default)]
    pub kind: MqttSnKind,
    /// For `udp`: where to listen, `0.0.0.0:1884`, `[::]:1884`. Port 0 lets the system choose.
    #[serde(default)]
    pub bind: Option<String>,
    /// For `udp`: an IPv6 address takes no IPv4 datagrams. Default: false, `[::]` takes both.
    #[serde(default)]
    pub ipv6_only: bool,
    /// For `udp`: whose datagrams are taken, as in `listeners`.
    #[serde(default)]
    pub access: AddressRules,
    /// For `udp`: room in the system for datagrams that wait to be read. Without the right to more, the system may give less. Default: 4 MiB.
    #[serde(default = "default_receive_buffer")]
    pub receive_buffer_bytes: usize,
    /// For `udp`: a group by which clients find the gateway.
    #[serde(default)]
    pub multicast: Option<MulticastSettings>,
    /// For `udp`: where ADVERTISE goes, an address of everybody with a port. Default: the multicast group; without one nothing is advertised.
    #[serde(default)]
    pub advertise_to: Option<SocketAddr>,
    /// Put in front of the topics of this gateway's clients. Default: none.
    #[serde(default)]
    pub mount_point: Option<String>,
    /// Limits and habits of the protocol.
    #[serde(default)]
    pub gateway: SnSettings,
}

/// What MQTT-SN goes over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MqttSnKind {
    /// UDP datagrams.
    #[default]
    Udp,
}

impl Default for MqttSnSettings {
    fn default() -> Self {
        Self {
            name: "mqttsn".into(),
            kind: MqttSnKind::default(),
            bind: Some("127.0.0.1:1884".into()),
            ipv6_only: false,
            access: AddressRules::default(),
            receive_buffer_bytes: default_receive_buffer(),
            multicast: None,
            advertise_to: None,
            mount_point: None,
            gateway: SnSettings::default(),
        }
    }
}

fn default_receive_buffer() -> usize {
    DEFAULT_RECEIVE_BUFFER
}

impl MqttSnSettings {
    /// Finds what can be found wrong without listening. The error names the key.
    pub fn check(&self) -> Result<(), String> {
        let name = &self.name;
        if name.is_empty() || name.contains(['/', '+', '#']) {
            return Err(format!(
                "name: `{name}` must not be empty nor hold `/`, `+` or `#`"
            ));
        }
        let mount = self.mount()?;
        SnGateway::<()>::new(self.gateway.clone(), mount, Instant::START)
            .map_err(|error| format!("gateway.{error}"))?;
        match self.kind {
            MqttSnKind::Udp if self.bind.is_none() => Err(format!("`{name}`: bind is missing")),
            MqttSnKind::Udp => Ok(()),
        }
    }

    fn mount(&self) -> Result<MountPoint, String> {
        let text = self.mount_point.as_deref().unwrap_or_default();
        let mount = self
            .mount_point
            .as_deref()
            .map_or(Ok(MountPoint::default()), MountPoint::parse);
        mount.map_err(|error| format!("mount_point: `{text}`: {error}"))
    }

    fn udp(&self) -> UdpSettings {
        UdpSettings {
            bind: self.bind.clone().unwrap_or_default(),
            ipv6_only: self.ipv6_only,
            access: self.access.clone(),
            receive_buffer_bytes: self.receive_buffer_bytes,
            multicast: self.multicast.clone(),
            broadcast_to: self.advertise_to,
        }
    }
}

/// A gateway that is bound and not served yet.
pub struct Bound {
    settings: MqttSnSettings,
    link: UdpLink,
}

impl Bound {
    /// Binds the socket; what comes waits in the system.
    pub fn bind(settings: &MqttSnSettings) -> Result<Self, ListenError> {
        let link = UdpLink::bind(&settings.name, settings.mount_point.as_deref(), &settings.udp())?;
        Ok(Self {
            settings: settings.clone(),
            link,
        })
    }

    /// Serves its clients until the bus says goodbye. What it counts.
    pub fn serve(self, office: &DatagramOffice, serving: &mut JoinSet<()>) -> (String, Arc<DatagramStats>) {
        let Self { settings, link } = self;
        let mount = settings.mount().expect("checked with the configuration");
        let now = office.hub.clock().now();
        let stats = link.stats();
        let gateway = SnGateway::new(settings.gateway, mount, now).expect("checked with the configuration");
        serving.spawn(serve(gateway, link, office));
        (settings.name, stats)
    }
}
