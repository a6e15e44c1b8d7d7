//! What the system says of its network interfaces.

use headgate_dial::Bind;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use nix::sys::socket::SockaddrStorage;
use std::fs::File;
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr};

/// Bytes of a table of routes that are looked at.
const LONGEST_TABLE: u64 = 1 << 20;
/// The metric of the copy.
const COPY: &str = "1";

/// An address of an interface, and the network that it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Local {
    pub interface: String,
    /// It is up, and has a link.
    pub runs: bool,
    pub address: IpAddr,
    pub mask: IpAddr,
}

impl Local {
    /// Whether an address is in its network.
    fn has(&self, address: IpAddr) -> bool {
        match (self.address, self.mask, address) {
            (IpAddr::V4(ours), IpAddr::V4(mask), IpAddr::V4(theirs)) => {
                let (ours, mask, theirs) = (ours.to_bits(), mask.to_bits(), theirs.to_bits());
                mask != 0 && ours & mask == theirs & mask
            }
            (IpAddr::V6(ours), IpAddr::V6(mask), IpAddr::V6(theirs)) => {
                let (ours, mask, theirs) = (ours.to_bits(), mask.to_bits(), theirs.to_bits());
                mask != 0 && ours & mask == theirs & mask
            }
            _ => false,
        }
    }

    /// Whether it reaches further than its own cable.
    fn is_global(&self) -> bool {
        match self.address {
            IpAddr::V4(address) => !address.is_link_local(),
            IpAddr::V6(address) => !address.is_unicast_link_local(),
        }
    }
}

/// All addresses of this machine; `None` where the system does not say.
pub(super) fn locals() -> Option<Vec<Local>> {
    let ip = |storage: SockaddrStorage| {
        let v4 = storage.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| storage.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    };
    let found = getifaddrs().ok()?;
    let local = found.filter_map(|entry| {
        Some(Local {
            runs: entry
                .flags
                .contains(InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING),
            address: ip(entry.address?)?.to_canonical(),
            mask: ip(entry.netmask?)?,
            interface: entry.interface_name,
        })
    });
    Some(local.collect())
}

/// What is another one when an interface has gone and come back, or has another address by now: connections of before lead nowhere then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stamp {
    index: Option<u32>,
    addresses: Vec<Ipv4Addr>,
}

impl Stamp {
    pub(super) fn of(locals: &[Local], bind: &Bind) -> Self {
        let locals = of_wan(locals, bind);
        let v4 = |local: &&Local| match local.address {
            IpAddr::V4(address) => Some(address),
            // They come and go for the sake of privacy.
            IpAddr::V6(_) => None,
        };
        Self {
            index: match bind {
                Bind::Interface(name) => if_nametoindex(&**name).ok(),
                Bind::Address(_) => None,
            },
            addresses: locals.iter().filter_map(v4).collect(),
        }
    }
}

/// The default routes of an interface as the system tells them, without the copy that comes first (firmware-image/root/usr/lib/headgate/wan): they are
/// others when its router is another one.
pub(super) fn default_routes(interface: &str) -> Vec<String> {
    let read = |table: &str| {
        let mut text = String::new();
        let file = File::open(table).map(|file| file.take(LONGEST_TABLE));
        let _ = file.and_then(|mut file| file.read_to_string(&mut text));
        text
    };
    let (v4, v6) = (read("/proc/net/route"), read("/proc/net/ipv6_route"));
    let mut routes = Vec::from_iter(v4.lines().filter_map(|line| default_route_v4(line, interface)));
    routes.extend(v6.lines().filter_map(|line| default_route_v6(line, interface)));
    routes.sort_unstable();
    routes
}

/// Router and metric. proc_pid_net(5): Iface Destination Gateway Flags RefCnt Use Metric Mask MTU …
fn default_route_v4(line: &str, interface: &str) -> Option<String> {
    let words = Vec::from_iter(line.split_ascii_whitespace());
    let [name, "00000000", router, _, _, _, metric, "00000000", ..] = words[..] else {
        return None;
    };
    (name == interface && metric != COPY).then(|| format!("{router} {metric}"))
}

/// Router and metric, in hexadecimal: destination, its bits, source, its bits, router, metric, … and at last the interface.
fn default_route_v6(line: &str, interface: &str) -> Option<String> {
    let words = Vec::from_iter(line.split_ascii_whitespace());
    let [destination, "00", _, "00", router, metric, .., name] = words[..] else {
        return None;
    };
    let is_default = destination.bytes().all(|digit| digit == b'0') && name == interface;
    let metric = metric.trim_start_matches('0');
    (is_default && metric != COPY).then(|| format!("{router} {metric}"))
}

/// The addresses with which a WAN leaves: those of its interface that reach further than its cable, or the one that it is. None: it has no link.
pub(super) fn of_wan<'l>(locals: &'l [Local], bind: &Bind) -> Vec<&'l Local> {
    let is = |local: &&Local| match bind {
        Bind::Interface(name) => local.interface == *name && local.is_global(),
        // All of 127/8 is ours.
        Bind::Address(address) => {
            local.address == *address || local.address.is_loopback() && local.has(*address)
        }
    };
    locals.iter().filter(|local| local.runs).filter(is).collect()
}

/// Whether an address is reached without the WAN of this interface: this machine itself, or one in a network of another interface.
pub(super) fn is_elsewhere(locals: &[Local], interface: Option<&str>, remote: IpAddr) -> bool {
    let remote = remote.to_canonical();
    let there = locals.iter().filter(|local| local.runs && local.has(remote));
    let (mut ours, mut others) = (false, false);
    for local in there {
        match interface == Some(&*local.interface) {
            true => ours = true,
            false => others = true,
        }
    }
    others && !ours
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(interface: &str, address: &str, mask: &str) -> Local {
        Local {
            interface: interface.into(),
            runs: true,
            address: address.parse().unwrap(),
            mask: mask.parse().unwrap(),
        }
    }

    fn machine() -> Vec<Local> {
        vec![
            local("lo", "127.0.0.1", "255.0.0.0"),
            local("lo", "::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            local("eth0", "192.0.2.7", "255.255.255.0"),
            local("eth0", "fe80::7", "ffff:ffff:ffff:ffff::"),
            local("eth1", "169.254.1.2", "255.255.0.0"),
            local("wwan0", "10.64.0.5", "255.255.255.255"),
        ]
    }

    #[test]
    fn a_wan_has_a_link_while_its_interface_runs_and_has_an_address_that_leads_further() {
        let mut machine = machine();
        let addresses = |machine: &[Local], wan: &str| {
            let found = of_wan(machine, &Bind::from(wan));
            let addresses = found.iter().map(|local| local.address.to_string());
            addresses.collect::<Vec<_>>()
        };
        assert_eq!(addresses(&machine, "eth0"), ["192.0.2.7"]);
        assert_eq!(addresses(&machine, "192.0.2.7"), ["192.0.2.7"]);
        assert_eq!(addresses(&machine, "127.0.7.1"), ["127.0.0.1"]);
        assert!(
            addresses(&machine, "eth1").is_empty(),
            "no server gave it an address"
        );
        assert!(addresses(&machine, "eth2").is_empty());
        machine[2].runs = false;
        assert!(addresses(&machine, "eth0").is_empty(), "its cable is out");
    }

    #[test]
    fn what_is_in_another_network_of_ours_is_reached_without_the_wan() {
        let machine = machine();
        let elsewhere = |wan: &str, remote: &str| is_elsewhere(&machine, Some(wan), remote.parse().unwrap());
        assert!(
            elsewhere("wwan0", "192.0.2.99"),
            "a server of the plant's own network"
        );
        assert!(!elsewhere("eth0", "192.0.2.99"));
        assert!(!elsewhere("wwan0", "198.51.100.1") && !elsewhere("eth0", "198.51.100.1"));
        assert!(elsewhere("eth0", "127.0.0.1") && elsewhere("eth0", "::1"));
        assert!(elsewhere("wwan0", "::ffff:192.0.2.99"));
        assert!(!elsewhere("wwan0", "2001:db8::1"));
    }

    #[test]
    fn the_system_tells_of_the_loopback() {
        let locals = locals().unwrap();
        let loopback = of_wan(&locals, &Bind::from("127.0.0.1"));
        assert!(
            loopback.iter().any(|local| local.address.is_loopback()),
            "{locals:?}"
        );
    }

    #[test]
    fn a_default_route_is_told_but_for_the_copy_that_comes_first() {
        let v4 = |line| default_route_v4(line, "eth0");
        let dhcp = "eth0\t00000000\t010200C0\t0003\t0\t0\t1024\t00000000\t0\t0\t0";
        assert_eq!(v4(dhcp).as_deref(), Some("010200C0 1024"));
        for other in [
            "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT",
            "eth0\t00000000\t010200C0\t0003\t0\t0\t1\t00000000\t0\t0\t0",
            "eth0\t000200C0\t00000000\t0001\t0\t0\t1024\t00FFFFFF\t0\t0\t0",
            "eth1\t00000000\t010200C0\t0003\t0\t0\t1024\t00000000\t0\t0\t0",
        ] {
            assert_eq!(v4(other), None, "{other}");
        }
        let v6 = |destination: &str, metric: &str| {
            let nothing = "0".repeat(32);
            let router = "fe800000000000000000000000000001";
            let line = format!(
                "{destination} 00 {nothing} 00 {router} {metric} 00000001 00000000 00450003     eth0"
            );
            default_route_v6(&line, "eth0")
        };
        let nothing = "0".repeat(32);
        assert_eq!(
            v6(&nothing, "00000400").as_deref(),
            Some("fe800000000000000000000000000001 400")
        );
        assert_eq!(v6(&nothing, "00000001"), None);
        assert_eq!(v6("20010db8000000000000000000000000", "00000400"), None);
    }
}
