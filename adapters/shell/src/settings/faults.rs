//! What is wrong with settings: all of it at once. `faults` looks at the settings alone, `obstacles` at the system they are for: files, addresses, folders. Nothing
//! is changed by either, and an address that is taken is no obstacle: the gateway that runs has it.

use super::{AddressRules, ListenerKind, ListenerSettings, SerialSettings, UdpSettings};
use crate::serial::{NAMED_BAUDS, USUAL_BAUDS, takes_any_baud};
use crate::socket::parse_address;
use crate::{socket, tls, udp};
use headgate_model::Fault;
use humantime_serde::re::humantime::format_duration;
use std::io::{self, ErrorKind};
use std::ops::RangeInclusive;
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);

fn range<T: PartialOrd + std::fmt::Display>(
    key: &str,
    value: T,
    range: RangeInclusive<T>,
    allowed: &str,
) -> Option<Fault> {
    let wrong = !range.contains(&value);
    wrong.then(|| Fault::new(key, format!("{value} is out of range, allowed is {allowed}")))
}

fn at_least_a_ms(key: &str, value: Duration) -> Option<Fault> {
    let what = || {
        format!(
            "{} is out of range, allowed is 1ms and more",
            format_duration(value)
        )
    };
    (value < MS).then(|| Fault::new(key, what()))
}

/// Who writes whom to let in mostly means that nobody else may.
pub(super) fn vain_rules(access: &AddressRules) -> Option<Fault> {
    let what = "these rules keep nobody out, for where none is about an address it may come in: end them with `deny all`";
    access.is_vain().then(|| Fault::new("access", what))
}

impl ListenerSettings {
    /// All that is wrong with the settings themselves.
    pub fn faults(&self) -> Vec<Fault> {
        let contradictions = self.contradictions().into_iter();
        let mut faults: Vec<Fault> = contradictions.map(|(key, what)| Fault::new(key, what)).collect();
        match self.kind {
            ListenerKind::Unix => faults.extend(self.unix_faults()),
            _ => faults.extend(
                parse_address(&self.bind)
                    .err()
                    .map(|e| Fault::new("bind", e.to_string())),
            ),
        }
        let head = self
            .websocket
            .as_ref()
            .map_or(usize::MAX, |ws| ws.max_header_bytes);
        let limits = [
            range(
                "connect_burst",
                self.connect_burst.unwrap_or(1),
                1..=u32::MAX,
                "1 and more",
            ),
            range(
                "websocket.max_header_bytes",
                head,
                256..=usize::MAX,
                "256 and more",
            ),
            // Whoever has not come in yet may not stay for ever.
            at_least_a_ms("handshake_timeout", self.handshake_timeout),
            at_least_a_ms("proxy_timeout", self.proxy_timeout),
        ];
        faults.extend(limits.into_iter().flatten());
        let path = self.websocket.as_ref().map_or("*", |ws| &ws.path);
        // Without one it is that of the protocol.
        if !path.is_empty() && path != "*" && !path.starts_with('/') {
            let what = format!("`{path}` is no path, allowed is one that begins with `/`, or `*` for any");
            faults.push(Fault::new("websocket.path", what));
        }
        let sockjs = self.sockjs.iter().flat_map(|settings| settings.faults());
        faults.extend(sockjs.map(|fault| fault.below("sockjs")));
        faults
    }

    /// All that the system has against them.
    pub fn obstacles(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if let Some(settings) = &self.tls {
            let found = tls::faults(settings).into_iter();
            faults.extend(found.map(|fault| fault.below("tls")));
        }
        match self.kind {
            ListenerKind::Unix => faults.extend(self.unix_obstacles()),
            _ if parse_address(&self.bind).is_err() => {}
            _ => faults.extend(unless_taken(socket::Socket::try_tcp(self), &self.bind)),
        }
        faults
    }

    /// What is probably not as it was meant: a path that reads as an address, a CA's certificate.
    pub fn warnings(&self) -> Vec<Fault> {
        let is_address = self.kind == ListenerKind::Unix && reads_as_address(&self.bind);
        let what = || {
            let bind = &self.bind;
            format!(
                "kind is `unix`: a file called `{bind}` is made; for an address, kind is `tcp`, `tls`, `ws`, `wss` or `sockjs`"
            )
        };
        let bind = is_address.then(|| Fault::new("bind", what()));
        let tls = self.tls.as_ref().map(tls::warnings).unwrap_or_default();
        bind.into_iter()
            .chain(vain_rules(&self.access))
            .chain(tls.into_iter().map(|fault| fault.below("tls")))
            .collect()
    }

    #[cfg(unix)]
    fn unix_faults(&self) -> Vec<Fault> {
        crate::unix::faults(self)
    }

    #[cfg(unix)]
    fn unix_obstacles(&self) -> Vec<Fault> {
        crate::unix::obstacles(self)
    }

    #[cfg(not(unix))]
    fn unix_faults(&self) -> Vec<Fault> {
        vec![Fault::new("kind", "this system has no Unix-domain sockets")]
    }

    #[cfg(not(unix))]
    fn unix_obstacles(&self) -> Vec<Fault> {
        Vec::new()
    }

    /// The same, without limits that are 0, which is no limit.
    #[must_use]
    pub(crate) fn without_zeros(mut self) -> Self {
        self.max_connections = self.max_connections.filter(|max| *max > 0);
        self.max_connections_per_ip = self.max_connections_per_ip.filter(|max| *max > 0);
        self.max_connect_rate = self.max_connect_rate.filter(|rate| *rate > 0);
        if self.backlog == 0 {
            self.backlog = u32::MAX;
        }
        if let Some(websocket) = &mut self.websocket
            && websocket.max_message_bytes == 0
        {
            websocket.max_message_bytes = u64::MAX;
        }
        self
    }
}

/// `127.0.0.1:1883`, `[::]:1883`, `localhost:1883`.
fn reads_as_address(text: &str) -> bool {
    let port = text.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
    !text.contains('/') && matches!(port, Some(Ok(_)))
}

impl UdpSettings {
    /// All that is wrong with the settings themselves.
    pub fn faults(&self) -> Vec<Fault> {
        let address = match parse_address(&self.bind) {
            Ok(address) => address,
            Err(error) => return vec![Fault::new("bind", error.to_string())],
        };
        let mut faults = Vec::new();
        if let Some(multicast) = &self.multicast {
            let group = multicast.group;
            if !group.is_multicast() {
                let what = format!("{group} is no multicast address");
                faults.push(Fault::new("multicast.group", what));
            } else if !address.ip().is_unspecified() || address.is_ipv4() != group.is_ipv4() {
                let wanted = if group.is_ipv4() { "0.0.0.0" } else { "[::]" };
                let what = format!("{} is set, but a multicast group needs {wanted}", self.bind);
                faults.push(Fault::new("bind", what));
            }
        }
        faults
    }

    /// All that the system has against them.
    pub fn obstacles(&self) -> Vec<Fault> {
        let interfaces = self.multicast.iter().flat_map(|group| &group.interfaces);
        let unknown = interfaces
            .enumerate()
            .filter_map(|(n, name)| Some((n, udp::interface_number(name).err()?)));
        let mut faults: Vec<Fault> = unknown
            .map(|(n, error)| Fault::new(format!("multicast.interfaces[{n}]"), error.to_string()))
            .collect();
        if faults.is_empty() && self.faults().is_empty() {
            faults.extend(unless_taken(udp::try_open(self), &self.bind));
        }
        faults
    }
}

/// What the system says of an address, but that it is taken.
fn unless_taken(tried: io::Result<()>, bind: &str) -> Option<Fault> {
    let error = tried.err().filter(|error| error.kind() != ErrorKind::AddrInUse)?;
    Some(Fault::new("bind", format!("cannot listen on {bind}: {error}")))
}

impl SerialSettings {
    /// All that is wrong, as far as it can be seen without opening the line.
    pub fn faults(&self) -> Vec<Fault> {
        let port = self.port.is_empty();
        let port = port.then(|| Fault::new("port", "the name of the device is empty"));
        let baud = (!takes_any_baud() && !NAMED_BAUDS.contains(&self.baud)).then(|| {
            let allowed = NAMED_BAUDS.map(|baud| baud.to_string()).join(", ");
            let what = format!(
                "{} is none that this system knows, allowed is {allowed}",
                self.baud
            );
            Fault::new("baud", what)
        });
        [
            port,
            baud,
            range("baud", self.baud, 1..=u32::MAX, "1 and more"),
            range("data_bits", self.data_bits, 5..=8, "5 to 8"),
            range("stop_bits", self.stop_bits, 1..=2, "1 and 2"),
            at_least_a_ms("frame_timeout", self.frame_timeout),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// What is probably not as it was meant: a rate that no line has, which some drivers refuse and others round.
    pub fn warnings(&self) -> Vec<Fault> {
        let mut usual = NAMED_BAUDS.into_iter().chain(USUAL_BAUDS);
        if usual.any(|usual| usual == self.baud) {
            return Vec::new();
        }
        let nearest = NAMED_BAUDS
            .into_iter()
            .min_by_key(|named| named.abs_diff(self.baud));
        let nearest = nearest.unwrap_or_default();
        let what = format!(
            "{} is no usual rate, the line's driver may refuse it or take another; did you mean {nearest}?",
            self.baud
        );
        vec![Fault::new("baud", what)]
    }
}
