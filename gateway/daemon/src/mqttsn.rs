//! MQTT-SN gateways: their settings, and the sockets and lines they are served on.

use headgate_access::AddressRules;
use headgate_auth::Anonymous;
use headgate_model::datagram::Address;
use headgate_model::{Fault, MountPoint, Naming, Rewriter};
use headgate_mqttsn::{Framing, SnFramer, SnGateway, SnSettings};
use headgate_shell::datagram::{DatagramTransport, serve};
use headgate_shell::settings::{DEFAULT_RECEIVE_BUFFER, MulticastSettings, SerialSettings, UdpSettings};
use headgate_shell::{DatagramStats, ListenError, SerialTransport, Serving, UdpTransport, keep_serving};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::task::JoinSet;

/// One MQTT-SN gateway: a UDP socket or a serial line, with all its clients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MqttSnSettings {
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
    /// For `udp`: room in the system for datagrams that wait to be read. Without the right to more, the system may give less. 0 for what the system
    /// gives. Default: 4 MiB.
    #[serde(default = "default_receive_buffer")]
    pub receive_buffer_bytes: usize,
    /// For `udp`: a group by which clients find the gateway.
    #[serde(default)]
    pub multicast: Option<MulticastSettings>,
    /// For `udp`: where ADVERTISE goes, an address of everybody with a port. Default: the multicast group; without one nothing is advertised.
    #[serde(default)]
    pub advertise_to: Option<SocketAddr>,
    /// For `serial`: the line.
    #[serde(default)]
    pub serial: Option<SerialSettings>,
    /// For `serial`: how frames are told apart. Default: `length`.
    #[serde(default)]
    pub framing: Framing,
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
pub(crate) enum MqttSnKind {
    /// UDP datagrams.
    #[default]
    Udp,
    /// A serial line: RS-232, RS-485, a radio modem.
    Serial,
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
            serial: None,
            framing: Framing::default(),
            mount_point: None,
            gateway: SnSettings::default(),
        }
    }
}

fn default_receive_buffer() -> usize {
    DEFAULT_RECEIVE_BUFFER
}

impl MqttSnSettings {
    /// All that is wrong with the settings themselves.
    pub(crate) fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let name = &self.name;
        if name.is_empty() || name.contains(['/', '+', '#']) {
            faults.push(Fault::new("name", "must not be empty nor hold `/`, `+` or `#`"));
        }
        let mount = self.mount().unwrap_or_else(|error| {
            faults.push(Fault::of(&error));
            MountPoint::default()
        });
        let found = self.gateway.faults(&mount).into_iter();
        faults.extend(found.map(|fault| fault.below("gateway")));
        match self.kind {
            MqttSnKind::Udp => {
                if self.bind.is_none() {
                    faults.push(Fault::new("bind", "bind is missing"));
                } else {
                    faults.extend(self.udp().faults());
                }
                if self.serial.is_some() {
                    faults.push(Fault::new("serial", "serial is set, but kind is `udp`"));
                }
            }
            MqttSnKind::Serial => {
                if self.bind.is_some() {
                    faults.push(Fault::new("bind", "bind is set, but kind is `serial`"));
                }
                match &self.serial {
                    Some(serial) => {
                        let found = serial.faults().into_iter();
                        faults.extend(found.map(|fault| fault.below("serial")));
                    }
                    None => faults.push(Fault::new("serial", "serial is missing")),
                }
            }
        }
        faults
    }

    /// All that the system has against them.
    pub(crate) fn obstacles(&self) -> Vec<Fault> {
        match self.kind {
            MqttSnKind::Udp => self.udp().obstacles(),
            // A line may be plugged in later.
            MqttSnKind::Serial => Vec::new(),
        }
    }

    /// What is probably not as it was meant.
    pub(crate) fn warnings(&self) -> Vec<Fault> {
        let line = self.serial.as_ref().filter(|_| self.kind == MqttSnKind::Serial);
        let warnings = line.map(SerialSettings::warnings).unwrap_or_default();
        let warnings = warnings.into_iter().map(|warning| warning.below("serial"));
        warnings.collect()
    }

    /// Finds QoS −1 that is switched on, but whose identity nobody lets in: it would be dropped without a word, for its senders are never answered.
    pub(crate) fn anonymous_fault(&self, anonymous: Anonymous) -> Option<Fault> {
        let settings = &self.gateway.qos_minus_one;
        // A name is looked up when it is bound.
        let bind = self
            .bind
            .as_deref()
            .and_then(|bind| bind.parse::<SocketAddr>().ok());
        let is_let_in = match anonymous {
            Anonymous::Nowhere => false,
            Anonymous::Loopback => bind.is_none_or(|bind| bind.ip().is_loopback()),
            Anonymous::Everywhere => true,
        };
        if !settings.enabled || !settings.username.is_empty() || is_let_in {
            return None;
        }
        Some(Fault::new(
            "gateway.qos_minus_one.username",
            "without one it is an anonymous client, which `auth.anonymous` does not let in",
        ))
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
pub(crate) struct Bound {
    settings: MqttSnSettings,
    link: Link,
}

enum Link {
    Udp(Box<UdpTransport>),
    Serial(Box<SerialTransport<SnFramer>>),
}

impl Bound {
    /// Binds the socket; what comes waits in the system. A serial line need not be there yet.
    pub(crate) fn bind(settings: &MqttSnSettings) -> Result<Self, ListenError> {
        let (name, mount) = (&settings.name, settings.mount_point.as_deref());
        let link = match settings.kind {
            MqttSnKind::Serial => Link::Serial(Box::new(serial_link(settings))),
            MqttSnKind::Udp => Link::Udp(Box::new(UdpTransport::bind(name, mount, &settings.udp())?)),
        };
        Ok(Self {
            settings: settings.clone(),
            link,
        })
    }

    /// Serves its clients until the bus says goodbye; anew, with a socket of its own, whenever that fails. What it counts.
    pub(crate) fn serve(
        self,
        parts: &Serving,
        rewriter: &Arc<Rewriter>,
        serving: &mut JoinSet<()>,
    ) -> (String, Arc<DatagramStats>) {
        let Self { settings, link } = self;
        let name = settings.name.clone();
        let naming = Arc::new(Naming {
            mount: settings.mount().expect("checked with the configuration"),
            rewriter: Arc::clone(rewriter),
            ..Naming::default()
        });
        let stats = match link {
            Link::Udp(link) => {
                let stats = link.stats();
                // Clients look for it where it was, also if the system chose the port.
                let udp = match settings.udp() {
                    udp if udp.bind.ends_with(":0") => UdpSettings {
                        bind: link.local_addr().to_string(),
                        ..udp
                    },
                    udp => udp,
                };
                let again = {
                    let (settings, stats) = (settings.clone(), Arc::clone(&stats));
                    move || {
                        let link = UdpTransport::bind(&settings.name, settings.mount_point.as_deref(), &udp)?;
                        Ok(link.counting_on(Arc::clone(&stats)))
                    }
                };
                serving.spawn(keep(settings, naming, *link, again, parts.clone()));
                stats
            }
            Link::Serial(link) => {
                let stats = link.stats();
                let again = {
                    let (settings, stats) = (settings.clone(), Arc::clone(&stats));
                    move || Ok(serial_link(&settings).counting_on(Arc::clone(&stats)))
                };
                serving.spawn(keep(settings, naming, *link, again, parts.clone()));
                stats
            }
        };
        (name, stats)
    }
}

/// Serves a link, and when that fails the next one.
async fn keep<L: DatagramTransport>(
    settings: MqttSnSettings,
    naming: Arc<Naming>,
    link: L,
    mut again: impl FnMut() -> Result<L, ListenError>,
    parts: Serving,
) {
    let stats = Arc::clone(link.stats());
    let mut first = Some(link);
    let start = || {
        let link = first.take().map_or_else(&mut again, Ok)?;
        let gateway = gateway::<L::Address>(&settings, &naming, &parts);
        Ok::<_, ListenError>(serve(gateway, link, &parts))
    };
    keep_serving(&settings.name, start, || stats.restarted()).await;
}

/// For `serial` only: the line of the settings.
fn serial_link(settings: &MqttSnSettings) -> SerialTransport<SnFramer> {
    let serial = settings.serial.clone().unwrap_or_default();
    let framer = SnFramer::new(settings.framing, settings.gateway.max_datagram_bytes);
    SerialTransport::new(&settings.name, settings.mount_point.as_deref(), serial, framer)
}

fn gateway<A: Address>(settings: &MqttSnSettings, naming: &Arc<Naming>, parts: &Serving) -> SnGateway<A> {
    let now = parts.hub.clock().now();
    let gateway = SnGateway::new(settings.gateway.clone(), Arc::clone(naming), now)
        .expect("checked with the configuration");
    gateway.with_memory(Arc::clone(parts.hub.memory()))
}
