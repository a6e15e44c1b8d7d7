//! What a socket or serial line with all its clients is told.

use super::faults::vain_rules;
use super::{
    AddressRules, DEFAULT_RECEIVE_BUFFER, DtlsSettings, MulticastSettings, SerialSettings, UdpSettings,
};
use headgate_model::{Fault, MountPoint, TopicError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// A UDP socket or a serial line, with all its clients.
//
// `G`: the protocol's own settings; `F`: how its frames are told apart on a line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(bound = "G: JsonSchema + Default + Serialize, F: JsonSchema + Default + Serialize")]
pub struct DatagramSettings<G, F> {
    /// The name in logs and under `$SYS`.
    pub name: String,
    /// Whether it listens; its settings stay where it does not. Default: true.
    #[serde(default = "super::yes")]
    pub enabled: bool,
    /// What the messages go over. Default: `udp`.
    #[serde(default)]
    pub kind: DatagramKind,
    /// For `udp` and `dtls`: where to listen, `0.0.0.0:1884`, `[::]:1884`. Port 0 lets the system choose.
    #[serde(default)]
    pub bind: Option<String>,
    /// For `udp` and `dtls`: an IPv6 address takes no IPv4 datagrams. Default: false, `[::]` takes both.
    #[serde(default)]
    pub ipv6_only: bool,
    /// For `udp` and `dtls`: whose datagrams are taken, as in `listeners`.
    #[serde(default)]
    pub access: AddressRules,
    /// For `udp` and `dtls`: room in the system for datagrams that wait to be read. Without the right to more, the system may give less. 0 for what the system
    /// gives. Default: 4 MiB.
    #[serde(default = "default_receive_buffer")]
    pub receive_buffer_bytes: usize,
    /// For `udp`: a group by which clients find the gateway.
    #[serde(default)]
    pub multicast: Option<MulticastSettings>,
    /// For `udp`: where what is for everybody goes, such as ADVERTISE of MQTT-SN: an address of everybody with a port. Default: the multicast group; without one
    /// nothing is advertised.
    #[serde(default)]
    pub advertise_to: Option<SocketAddr>,
    /// For `dtls`: keys, certificates and limits.
    #[serde(default)]
    pub dtls: Option<DtlsSettings>,
    /// For `serial`: the line.
    #[serde(default)]
    pub serial: Option<SerialSettings>,
    /// For `serial`: how frames are told apart.
    #[serde(default)]
    pub framing: F,
    /// Put in front of the topics of this gateway's clients. Default: none.
    #[serde(default)]
    pub mount_point: Option<String>,
    /// Limits and habits of the protocol.
    #[serde(default)]
    pub gateway: G,
}

/// What datagrams go over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DatagramKind {
    /// UDP datagrams.
    #[default]
    Udp,
    /// DTLS 1.2 in UDP datagrams: every client has a session with keys of its own.
    Dtls,
    /// A serial line: RS-232, RS-485, a radio modem.
    Serial,
}

impl DatagramKind {
    /// As it stands in the settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Dtls => "dtls",
            Self::Serial => "serial",
        }
    }
}

fn default_receive_buffer() -> usize {
    DEFAULT_RECEIVE_BUFFER
}

impl<G: Default, F: Default> DatagramSettings<G, F> {
    /// A UDP socket.
    pub fn udp_at(name: &str, bind: &str) -> Self {
        Self {
            name: name.to_owned(),
            enabled: true,
            kind: DatagramKind::Udp,
            bind: Some(bind.to_owned()),
            ipv6_only: false,
            access: AddressRules::default(),
            receive_buffer_bytes: DEFAULT_RECEIVE_BUFFER,
            multicast: None,
            advertise_to: None,
            dtls: None,
            serial: None,
            framing: F::default(),
            mount_point: None,
            gateway: G::default(),
        }
    }
}

impl<G, F> DatagramSettings<G, F> {
    /// All that is wrong with what every protocol has.
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let name = &self.name;
        if name.is_empty() || name.contains(['/', '+', '#']) {
            faults.push(Fault::new("name", "must not be empty nor hold `/`, `+` or `#`"));
        }
        if let Err(error) = self.mount() {
            let text = self.mount_point.as_deref().unwrap_or_default();
            faults.push(Fault::new("mount_point", format!("`{text}`: {error}")));
        }
        if self.dtls.is_some() && self.kind != DatagramKind::Dtls {
            faults.push(Fault::new("dtls", "dtls is set, but kind is not `dtls`"));
        }
        match self.kind {
            DatagramKind::Udp | DatagramKind::Dtls => {
                faults.extend(self.dtls_faults());
                if self.bind.is_none() {
                    faults.push(Fault::new(
                        "bind",
                        "bind is missing, such as `bind = \"0.0.0.0:1884\"`",
                    ));
                } else {
                    faults.extend(self.udp().faults());
                }
                if self.serial.is_some() {
                    let what = format!("serial is set, but kind is `{}`", self.kind.name());
                    faults.push(Fault::new("serial", what));
                }
            }
            DatagramKind::Serial => {
                if self.bind.is_some() {
                    faults.push(Fault::new("bind", "bind is set, but kind is `serial`"));
                }
                match &self.serial {
                    Some(serial) => {
                        let found = serial.faults().into_iter();
                        faults.extend(found.map(|fault| fault.below("serial")));
                    }
                    None => faults.push(Fault::new(
                        "serial",
                        "serial is missing, such as `serial = { port = \"/dev/ttyUSB0\" }`",
                    )),
                }
            }
        }
        faults
    }

    fn dtls_faults(&self) -> Vec<Fault> {
        if self.kind != DatagramKind::Dtls {
            return Vec::new();
        }
        let mut faults = Vec::new();
        match &self.dtls {
            Some(dtls) => faults.extend(dtls.faults().into_iter().map(|fault| fault.below("dtls"))),
            None => faults.push(Fault::new(
                "dtls",
                "dtls is missing, such as `dtls = { psk_file = \"FILE\" }`",
            )),
        }
        let groups = [
            ("multicast", self.multicast.is_some()),
            ("advertise_to", self.advertise_to.is_some()),
        ];
        let vain = groups.into_iter().filter(|(_, is_set)| *is_set);
        faults.extend(vain.map(|(key, _)| {
            let what = format!("{key} is set, but kind is `dtls`: nothing can be said to everybody there");
            Fault::new(key, what)
        }));
        faults
    }

    /// All that the system has against them.
    pub fn obstacles(&self) -> Vec<Fault> {
        match self.kind {
            DatagramKind::Udp => self.udp().obstacles(),
            DatagramKind::Dtls => {
                let files = self.dtls.iter().flat_map(crate::dtls::faults);
                let files = files.map(|fault| fault.below("dtls"));
                files.chain(self.udp().obstacles()).collect()
            }
            // A line may be plugged in later.
            DatagramKind::Serial => Vec::new(),
        }
    }

    /// What is probably not as it was meant.
    pub fn warnings(&self) -> Vec<Fault> {
        let line = self.serial.as_ref().filter(|_| self.kind == DatagramKind::Serial);
        let warnings = line.map(SerialSettings::warnings).unwrap_or_default();
        let warnings = warnings.into_iter().map(|warning| warning.below("serial"));
        let dtls = self.dtls.as_ref().filter(|_| self.kind == DatagramKind::Dtls);
        let dtls = dtls.map(crate::dtls::warnings).unwrap_or_default();
        let dtls = dtls.into_iter().map(|warning| warning.below("dtls"));
        warnings.chain(dtls).chain(vain_rules(&self.access)).collect()
    }

    /// What is put in front of the topics of its clients.
    pub fn mount(&self) -> Result<MountPoint, TopicError> {
        let text = self.mount_point.as_deref();
        text.map_or(Ok(MountPoint::default()), MountPoint::parse)
    }

    /// Its socket.
    pub fn udp(&self) -> UdpSettings {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    type Settings = DatagramSettings<BTreeMap<String, String>, BTreeMap<String, String>>;

    fn faults(text: &str) -> Vec<(String, String)> {
        let text = format!("name = \"field\"\n{text}");
        let settings: Settings = toml::from_str(&text).unwrap();
        let faults = settings.faults().into_iter();
        faults.map(|fault| (fault.key, fault.message)).collect()
    }

    #[test]
    fn what_does_not_go_with_dtls_is_told() {
        let dtls = "kind = \"dtls\"\nbind = \"127.0.0.1:8883\"\n";
        assert_eq!(faults(&format!("{dtls}dtls = {{ psk_file = \"psk\" }}")), []);
        let keys = |text: &str| -> Vec<String> { faults(text).into_iter().map(|(key, _)| key).collect() };
        assert_eq!(keys(dtls), ["dtls"]);
        assert_eq!(
            keys(&format!("{dtls}dtls = {{ certificate = \"c\" }}")),
            ["dtls.key"]
        );
        assert_eq!(
            keys(&format!(
                "{dtls}advertise_to = \"239.1.1.1:1884\"\ndtls = {{ psk_file = \"psk\" }}"
            )),
            ["advertise_to"]
        );
        assert_eq!(
            keys("bind = \"127.0.0.1:8883\"\ndtls = { psk_file = \"psk\" }"),
            ["dtls"]
        );
    }
}
