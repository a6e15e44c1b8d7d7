//! Who keeps the system's clock right, and how right it is: what the kernel, the time service and the clock chip say. And setting it by hand, where there is
//! no network to ask.

use schemars::JsonSchema;
use serde::Serialize;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// How the system's clock is kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Timekeeping {
    /// Somebody keeps it right: the kernel was told so in the last hours. adjtimex(2)
    pub synchronized: Option<bool>,
    /// By so many seconds it may be wrong, as who keeps it right thinks; of use while it is synchronised.
    pub max_error_seconds: Option<f64>,
    /// So many seconds it is being moved.
    pub offset_seconds: Option<f64>,
    /// The service that is there for it.
    pub service: Option<&'static str>,
    /// The servers that the service is told to ask; none: its own, or those of DHCP.
    pub servers: Vec<String>,
    /// What a clock chip says, in seconds since 1970; none: there is no chip.
    pub chip: Option<u64>,
}

impl Timekeeping {
    /// As it is now.
    pub(crate) fn look() -> Self {
        let service = SERVICES.iter().find(|(_, sign, _)| Path::new(sign).exists());
        let kernel = kernel();
        Self {
            synchronized: kernel.map(|kernel| kernel.synchronized),
            max_error_seconds: kernel.map(|kernel| kernel.max_error_seconds),
            offset_seconds: kernel.map(|kernel| kernel.offset_seconds),
            service: service.map(|(name, ..)| *name),
            servers: service.map_or_else(Vec::new, |(.., files)| servers(files)),
            chip: fs::read_to_string("/sys/class/rtc/rtc0/since_epoch")
                .ok()
                .and_then(|text| text.trim().parse().ok()),
        }
    }
}

/// Whether somebody keeps the clock right: the kernel was told so in the last hours. adjtimex(2)
pub(crate) fn is_synchronized() -> bool {
    kernel().is_some_and(|kernel| kernel.synchronized)
}

/// Services: a name, what is there while they run, and where their servers stand.
const SERVICES: &[(&str, &str, &[&str])] = &[
    (
        "chrony",
        "/run/chrony",
        &["/etc/chrony/chrony.conf", "/etc/chrony.conf"],
    ),
    (
        "ntpsec",
        "/run/ntpd.pid",
        &["/etc/ntpsec/ntp.conf", "/etc/ntp.conf"],
    ),
    (
        "systemd-timesyncd",
        "/run/systemd/timesync",
        &[
            "/etc/systemd/timesyncd.conf",
            "/run/systemd/timesyncd.conf.d/headgate.conf",
        ],
    ),
];

fn servers(files: &[&str]) -> Vec<String> {
    let texts = files.iter().filter_map(|file| fs::read_to_string(file).ok());
    texts.flat_map(|text| servers_in(&text)).collect()
}

/// The servers that a configuration names: `NTP=a b` (timesyncd.conf(5)), `server a iburst` or `pool a` (chrony.conf(5), ntp.conf(5)).
fn servers_in(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(names) = line.strip_prefix("NTP=") {
            found.extend(names.split_ascii_whitespace().map(str::to_owned));
        }
        let mut words = line.split_ascii_whitespace();
        if let (Some("server" | "pool" | "peer"), Some(name)) = (words.next(), words.next()) {
            found.push(name.to_owned());
        }
    }
    found
}

#[derive(Clone, Copy)]
struct Kernel {
    synchronized: bool,
    max_error_seconds: f64,
    offset_seconds: f64,
}

#[allow(unsafe_code, reason = "only the kernel knows, and has no other face")]
fn kernel() -> Option<Kernel> {
    const MICRO: f64 = 1e-6;
    const NANO: f64 = 1e-9;
    // SAFETY: all zeros is a timex that asks for nothing to be changed (`modes`), and the kernel writes no further than its end.
    let (state, told) = unsafe {
        let mut told: libc::timex = std::mem::zeroed();
        (libc::adjtimex(&raw mut told), told)
    };
    let unit = match told.status & libc::STA_NANO {
        0 => MICRO,
        _ => NANO,
    };
    // A process may be told another time than the kernel has, and what is said here is not about that one.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    #[allow(clippy::useless_conversion, reason = "it has 32 bits on machines of 32 bits")]
    let kernels: i64 = told.time.tv_sec.into();
    let is_ours = since.as_secs().cast_signed().abs_diff(kernels) < 60;
    (state >= 0).then_some(Kernel {
        synchronized: is_ours && state != libc::TIME_ERROR && told.status & libc::STA_UNSYNC == 0,
        max_error_seconds: told.maxerror as f64 * MICRO,
        offset_seconds: told.offset as f64 * unit,
    })
}

/// Sets the system's clock; takes the right to do so (CAP_SYS_TIME).
pub(crate) fn set_clock(to: SystemTime) -> io::Result<()> {
    let since = to
        .duration_since(UNIX_EPOCH)
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let time = rustix::time::Timespec {
        tv_sec: i64::try_from(since.as_secs()).map_err(|_| io::ErrorKind::InvalidInput)?,
        tv_nsec: since.subsec_nanos().into(),
    };
    Ok(rustix::time::clock_settime(
        rustix::time::ClockId::Realtime,
        time,
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_found_as_each_service_names_them() {
        let timesyncd = "[Time]\n#NTP=none\nNTP=10.0.0.1 ntp.plant\nFallbackNTP=x\n";
        assert_eq!(servers_in(timesyncd), ["10.0.0.1", "ntp.plant"]);
        let chrony = "# server no\nserver a.plant iburst\npool 2.pool maxsources 4\nmakestep 1 3\n";
        assert_eq!(servers_in(chrony), ["a.plant", "2.pool"]);
    }

    #[test]
    fn the_kernel_says_how_its_clock_is_kept() {
        let now = Timekeeping::look();
        assert!(now.synchronized.is_some() && now.max_error_seconds.is_some_and(|error| error >= 0.0));
    }
}
