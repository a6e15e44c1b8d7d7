//! What the configuration says of WANs.

use super::link::{locals, of_wan};
use headgate_dial::Bind;
use headgate_model::Fault;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;

/// More are no gateway's.
const MOST: usize = 8;
/// Far ends that one is asked for.
const MOST_PROBES: usize = 8;
/// The longest that anything of it may take.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A way out of the gateway's own networks: Ethernet, Wi-Fi, cellular. Bridges leave by the first that works, in the order of the list, and go back to a better one
/// when that has worked again for a while. Their queues stay what they are. See docs/bridges.md.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WanSettings {
    /// What it is called: letters, digits, `-` and `_`, up to 32.
    pub name: String,
    /// Its network interface, `eth0`; or an address of this machine, where the system routes by that.
    pub interface: String,
    /// What must be reachable by it, `HOST:PORT`: it works while one of these accepts a TCP connection. Default: none, and its link is all that counts.
    #[serde(default)]
    pub probe: Vec<String>,
    /// How often it is tried while it is the way out, or better than what is: 1 second or more. Default: 30 seconds.
    #[serde(default = "half_a_minute", with = "humantime_serde")]
    #[schemars(with = "String")]
    pub interval: Duration,
    /// How often it is tried while a better one works: what costs by the byte is spared. Default: 10 minutes.
    #[serde(default = "ten_minutes", with = "humantime_serde")]
    #[schemars(with = "String")]
    pub standby_interval: Duration,
    /// How long an answer may take: 100 milliseconds or more. Default: 5 seconds.
    #[serde(default = "five_seconds", with = "humantime_serde")]
    #[schemars(with = "String")]
    pub timeout: Duration,
    /// How often in a row nobody may answer before it does not work: 1 to 100. Default: 3.
    #[serde(default = "three")]
    pub failures: u32,
    /// How long it must work again before it is trusted; twice as long each time that it fails within that time of being trusted, up to an hour. Default: 2 minutes.
    #[serde(default = "two_minutes", with = "humantime_serde")]
    #[schemars(with = "String")]
    pub back_after: Duration,
}

fn half_a_minute() -> Duration {
    Duration::from_secs(30)
}
fn ten_minutes() -> Duration {
    Duration::from_secs(600)
}
fn five_seconds() -> Duration {
    Duration::from_secs(5)
}
fn three() -> u32 {
    3
}
fn two_minutes() -> Duration {
    Duration::from_secs(120)
}

#[cfg(test)]
impl Default for WanSettings {
    fn default() -> Self {
        toml::from_str("name = \"\"\ninterface = \"\"").expect("all else has a default")
    }
}

impl WanSettings {
    /// Whether it is the same way to the same places, whatever else is set.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        (&self.name, &self.interface, &self.probe) == (&other.name, &other.interface, &other.probe)
    }

    /// Whether this machine has its interface now, or its address.
    pub(crate) fn is_here(&self) -> bool {
        match self.bind() {
            Bind::Interface(name) => Path::new("/sys/class/net").join(name).exists(),
            bind => locals().is_none_or(|locals| !of_wan(&locals, &bind).is_empty()),
        }
    }

    /// Our end of a connection by it.
    pub(super) fn bind(&self) -> Bind {
        Bind::from(&*self.interface)
    }

    /// All that is wrong with it, by key.
    pub(crate) fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        if !(1..=32).contains(&self.name.len()) || !self.name.chars().all(is_name) {
            let what = "allowed are 1 to 32 letters, digits, `-` and `_`";
            faults.push(Fault::new("name", what));
        }
        let is_interface = |text: &str| {
            let is_of_name = |b: u8| b.is_ascii_graphic() && !b"/%:".contains(&b);
            (1..=15).contains(&text.len()) && text.bytes().all(is_of_name) && ![".", ".."].contains(&text)
        };
        if matches!(self.bind(), Bind::Interface(name) if !is_interface(&name)) {
            let what = "allowed is the name of a network interface, such as `eth0`, or an address";
            faults.push(Fault::new("interface", what));
        }
        if self.probe.len() > MOST_PROBES {
            faults.push(Fault::new("probe", format!("{MOST_PROBES} are the most")));
        }
        for (n, target) in self.probe.iter().enumerate() {
            if place(target).is_none() {
                let what = format!(
                    "`{target}` is not HOST:PORT, such as `cloud.plant:8883` or `[2001:db8::1]:8883`"
                );
                faults.push(Fault::new("probe", what).of_entry(n));
            }
        }
        let times = [
            ("interval", self.interval, Duration::from_secs(1)),
            ("standby_interval", self.standby_interval, Duration::from_secs(1)),
            ("timeout", self.timeout, Duration::from_millis(100)),
            ("back_after", self.back_after, Duration::ZERO),
        ];
        for (key, time, least) in times {
            if !(least..=DAY).contains(&time) {
                let what = format!("{time:?} is out of range, allowed is {least:?} to {DAY:?}");
                faults.push(Fault::new(key, what));
            }
        }
        if !(1..=100).contains(&self.failures) {
            let what = format!("{} is out of range, allowed is 1 to 100", self.failures);
            faults.push(Fault::new("failures", what));
        }
        faults
    }
}

/// Whether there are too many.
pub(crate) fn too_many(wans: &[WanSettings]) -> Option<Fault> {
    (wans.len() > MOST).then(|| Fault::new("wans", format!("{MOST} are the most")))
}

/// Host and port of what is to be reached.
pub(super) fn place(target: &str) -> Option<(&str, u16)> {
    let (host, port) = target.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(host) => host.strip_suffix(']').filter(|host| host.contains(':'))?,
        None => Some(host).filter(|host| !host.contains(':'))?,
    };
    let is_of_host = |b: u8| b.is_ascii_alphanumeric() || b".-_:".contains(&b);
    let is_host = (1..=253).contains(&host.len()) && host.bytes().all(is_of_host);
    let port = port.parse().ok().filter(|port| *port > 0)?;
    is_host.then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_reached_is_a_host_and_a_port() {
        assert_eq!(place("cloud.plant:8883"), Some(("cloud.plant", 8883)));
        assert_eq!(place("[2001:db8::1]:443"), Some(("2001:db8::1", 443)));
        for wrong in [
            "",
            ":1",
            "cloud",
            "cloud:0",
            "cloud:x",
            "2001:db8::1:443",
            "[cloud]:1",
            "a b:1",
            "cloud:65536",
        ] {
            assert_eq!(place(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_by_its_key() {
        let good = WanSettings {
            name: "ethernet".into(),
            interface: "eth0".into(),
            probe: vec!["cloud.plant:8883".into()],
            ..WanSettings::default()
        };
        assert!(good.faults().is_empty());
        let keys = |change: fn(&mut WanSettings)| {
            let mut settings = good.clone();
            change(&mut settings);
            let keys = settings.faults().into_iter().map(|fault| fault.key);
            keys.collect::<Vec<_>>()
        };
        assert_eq!(keys(|wan| wan.name = "a/b".into()), ["name"]);
        assert_eq!(keys(|wan| wan.interface = "../eth0".into()), ["interface"]);
        assert_eq!(keys(|wan| wan.interface = "192.0.2.7".into()), [""; 0]);
        assert_eq!(keys(|wan| wan.probe.push("cloud".into())), ["probe[1]"]);
        assert_eq!(keys(|wan| wan.interval = Duration::ZERO), ["interval"]);
        assert_eq!(keys(|wan| wan.failures = 0), ["failures"]);
    }
}
