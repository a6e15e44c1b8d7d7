//! What the types cannot say: all faults of the values, without a look at the system.

use super::words::nearest;
use super::{Config, HttpSettings, LogSettings, addresses, bridges, system, users};
use crate::log::{MODULES, SyslogAddress, is_module};
use crate::protocols::{self, Entry};
use crate::wans::too_many;
use headgate_auth::{Anonymous, ListenerAuth};
use headgate_model::{Fault, MountPoint, Topic};
use headgate_shell::{DatagramListener, DatagramPlace, ListenerKind, ListenerSettings};
use std::net::SocketAddr;
use std::time::Duration;

/// A store with less has no room for its own files.
const LEAST_STORE: u64 = 1 << 20;
/// Lines of the log that may wait in memory, in bytes.
const MOST_HELD: usize = 16 << 20;

/// All faults, each with its key.
pub(super) fn faults(config: &Config) -> Vec<Fault> {
    let mut faults = Vec::new();
    faults.extend(log(&config.log));
    if config.node.is_empty() || config.node.contains(['/', '+', '#']) {
        let what = format!("`{}` must not be empty nor hold `/`, `+` or `#`", config.node);
        faults.push(Fault::new("node", what));
    }
    let in_zone = |c: char| c.is_ascii_alphanumeric() || "/_+-".contains(c);
    if config.time_zone.len() > 64 || !config.time_zone.chars().all(in_zone) {
        let what = format!("`{}` is no name such as `Europe/Berlin`", config.time_zone);
        faults.push(Fault::new("time_zone", what));
    }
    if config.data_dir.as_os_str().is_empty() {
        faults.push(Fault::new("data_dir", "the name of the folder is empty"));
    }
    if config.data_dir.starts_with("~") {
        let what =
            "`~` stands for nothing here: name the folder from the root, such as `/home/joe/headgate-data`";
        faults.push(Fault::new("data_dir", what));
    }
    if config.sys.presence_qos > 2 {
        let what = format!("{} is out of range, allowed is 0 to 2", config.sys.presence_qos);
        faults.push(Fault::new("sys.presence_qos", what));
    }
    if !config.sys.interval.is_zero() && config.sys.interval < Duration::from_secs(1) {
        let what = format!(
            "{:?} is out of range, allowed is 0s, or 1s and more",
            config.sys.interval
        );
        faults.push(Fault::new("sys.interval", what));
    }
    if (1..LEAST_STORE).contains(&config.store.max_bytes) {
        let what = format!(
            "{} is out of range, allowed is 0, or {LEAST_STORE} and more",
            config.store.max_bytes
        );
        faults.push(Fault::new("store.max_bytes", what));
    }
    if config.metrics.top_sessions > 1_000 {
        let what = format!(
            "{} is out of range, allowed is 0 to 1000",
            config.metrics.top_sessions
        );
        faults.push(Fault::new("metrics.top_sessions", what));
    }
    if !(1..=1_000).contains(&config.backups.keep) {
        let what = out_of_range(config.backups.keep, "1 to 1000");
        faults.push(Fault::new("backups.keep", what));
    }
    if config.firmware.trial_time < Duration::from_secs(10) {
        faults.push(Fault::new(
            "firmware.trial_time",
            "10s or more: a gateway takes its time to start",
        ));
    }
    if config.firmware.reboot.is_empty() {
        faults.push(Fault::new(
            "firmware.reboot",
            "a program, and its arguments: [\"systemctl\", \"reboot\"]",
        ));
    }
    let recovery = &config.recovery;
    if !recovery.after.is_zero() && recovery.after < Duration::from_secs(10) {
        let what = format!(
            "{:?} is out of range, allowed is 0s, or 10s and more",
            recovery.after
        );
        faults.push(Fault::new("recovery.after", what));
    }
    if recovery.longest < recovery.after {
        let what = format!("{:?} is less than `recovery.after`", recovery.longest);
        faults.push(Fault::new("recovery.longest", what));
    }
    if recovery.reboot && !recovery.after.is_zero() && recovery.longest < Duration::from_secs(3_600) {
        let what = "1h or more where `recovery.reboot` is set: a machine that is started anew every few minutes serves nobody";
        faults.push(Fault::new("recovery.longest", what));
    }
    if let Some(unknown) = recovery
        .uplinks
        .iter()
        .find(|name| !config.bridges.iter().any(|bridge| bridge.name == **name))
    {
        faults.push(Fault::new(
            "recovery.uplinks",
            format!("there is no bridge `{unknown}`"),
        ));
    }
    faults.extend(update_commands(config));
    if !config.backups.every.is_zero() && config.backups.every < Duration::from_secs(60) {
        let what = format!(
            "{:?} is out of range, allowed is 0s, or 1m and more",
            config.backups.every
        );
        faults.push(Fault::new("backups.every", what));
    }
    let sections = [
        ("bus", config.bus.faults()),
        ("auth", config.auth.faults()),
        ("telemetry", config.telemetry.faults()),
    ];
    for (section, found) in sections {
        faults.extend(found.into_iter().map(|fault| fault.below(section)));
    }
    faults.extend(session_idle(config));
    faults.extend(protocols::faults(config));
    faults.extend(listeners(config));
    faults.extend(datagram_listeners(config));
    faults.extend(auth_listeners(config));
    faults.extend(addresses::faults(config));
    faults.extend(bridges::faults(config));
    faults.extend(wans(config));
    faults
}

/// What is probably not as it was meant, but no reason not to start.
pub(super) fn warnings(config: &Config) -> Vec<Fault> {
    let mut warnings = Vec::new();
    for Entry { list, n, listener } in protocols::datagram_listeners(config) {
        warnings.extend(of_entry(list, n, listener.name(), listener.warnings()));
    }
    for (n, listener) in config.listeners.iter().enumerate() {
        warnings.extend(of_entry("listeners", n, &listener.name, listener.warnings()));
    }
    warnings.extend(bridges::warnings(config));
    warnings.extend(unprobed_wans(config));
    warnings.extend(nobody_commands(config));
    warnings.extend(unknown_commanders(config));
    warnings.extend(never_recovers(config));
    warnings.extend(users::warnings(config));
    warnings.extend(system::loose_data_dir(&config.data_dir));
    warnings.extend(system::missing_reset(config));
    warnings.extend(system::missing_interfaces(config));
    warnings
}

/// The topics of commands about updates. They are made of `topic` and a level more.
fn update_commands(config: &Config) -> Vec<Fault> {
    /// Bytes, so that a level more has room.
    const LONGEST: usize = 1_024;
    let commands = &config.firmware.commands;
    let fault = |what: String| vec![Fault::new("firmware.commands.topic", what)];
    let Some(prefix) = commands.prefix(&config.node) else {
        return Vec::new();
    };
    let topic = &commands.topic;
    if let Err(error) = Topic::try_from(prefix.as_str()) {
        return fault(format!("`{topic}`: {error}"));
    }
    if prefix.contains(['{', '}']) {
        return fault(format!("`{topic}`: the only placeholder is {{node}}"));
    }
    if prefix.starts_with('/') || prefix.ends_with('/') || prefix.len() > LONGEST {
        return fault(format!(
            "`{topic}` must not begin or end with `/`, nor be longer than {LONGEST} bytes"
        ));
    }
    let reserved = ["$SYS", "$delayed", "$share", "$queue", "$exclusive"];
    if reserved.contains(&prefix.split('/').next().unwrap_or_default()) {
        return fault(format!("`{topic}`: what begins so has a meaning of its own"));
    }
    Vec::new()
}

/// Commands that nobody may give.
fn nobody_commands(config: &Config) -> Vec<Fault> {
    let commands = &config.firmware.commands;
    if commands.topic.is_empty() && !commands.users.is_empty() {
        return vec![Fault::new(
            "firmware.commands",
            "no commands are taken without `topic`",
        )];
    }
    if commands.topic.is_empty() || !(commands.users.is_empty() && commands.bridges.is_empty()) {
        return Vec::new();
    }
    vec![Fault::new(
        "firmware.commands",
        "nobody may ask: name users in `users`, or bridges in `bridges`",
    )]
}

/// Steps of a recovery that never begins.
fn never_recovers(config: &Config) -> Option<Fault> {
    let recovery = &config.recovery;
    let has_steps = recovery.reboot || !recovery.reset.is_empty();
    let what = "nothing is done without `recovery.after`, which says how long no bridge may be connected";
    (recovery.after.is_zero() && has_steps).then(|| Fault::new("recovery", what))
}

/// Bridges that may command and that there are not.
fn unknown_commanders(config: &Config) -> Vec<Fault> {
    let is_known = |name: &String| config.bridges.iter().any(|bridge| bridge.name == *name);
    let names = config.firmware.commands.bridges.iter().enumerate();
    let unknown = names.filter(|(_, name)| !is_known(name));
    let fault = |(n, name)| {
        Fault::new(
            format!("firmware.commands.bridges[{n}]"),
            format!("there is no bridge `{name}`"),
        )
    };
    unknown.map(fault).collect()
}

fn wans(config: &Config) -> Vec<Fault> {
    let mut faults: Vec<Fault> = too_many(&config.wans).into_iter().collect();
    for (n, wan) in config.wans.iter().enumerate() {
        faults.extend(of_entry("wans", n, &wan.name, wan.faults()));
        faults.extend(name_twice(
            "wans",
            n,
            config.wans.iter().map(|other| other.name.as_str()),
        ));
        if config.wans[..n]
            .iter()
            .any(|other| other.interface == wan.interface)
        {
            let what = format!("`{}` stands twice", wan.interface);
            faults.push(Fault::new(format!("wans[{n}].interface"), what));
        }
    }
    faults
}

/// Of several WANs one whose link is all that is looked at: a router that lost its own way out still has one.
fn unprobed_wans(config: &Config) -> Vec<Fault> {
    let several = config.wans.len() > 1;
    let wans = config.wans.iter().enumerate();
    let unprobed = wans.filter(|(_, wan)| several && wan.probe.is_empty());
    let what = "without it a WAN works while its link is there, whatever is behind that: name what must be reachable, such as `cloud.plant:8883`";
    let faults =
        unprobed.flat_map(|(n, wan)| of_entry("wans", n, &wan.name, vec![Fault::new("probe", what)]));
    faults.collect()
}

fn listeners(config: &Config) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (n, listener) in config.listeners.iter().enumerate() {
        let mut found = listener.faults();
        if !protocols::NAMES.contains(&listener.protocol.as_str()) {
            let allowed = protocols::NAMES.join(", ");
            let what = format!("`{}` is not spoken here, allowed is {allowed}", listener.protocol);
            found.push(Fault::new("protocol", what));
        }
        if let Some(mount) = &listener.mount_point
            && let Err(error) = MountPoint::parse(mount)
        {
            found.push(Fault::new("mount_point", format!("`{mount}`: {error}")));
        }
        if listener.protocol == protocols::HTTP {
            found.extend(http(listener, &config.http));
        }
        if listener.kind == ListenerKind::Sockjs && !protocols::is_text(&listener.protocol) {
            let what = format!("SockJS carries text, and `{}` is none", listener.protocol);
            found.push(Fault::new("kind", what));
        }
        if let Some(qos) = listener.default_qos {
            let speaks = protocols::has_default_qos(&listener.protocol);
            let alone = || format!("clients of `{}` always say a QoS", listener.protocol);
            let range = || format!("{qos} is out of range, allowed is 0 to 2");
            let what = if speaks {
                (qos > 2).then(range)
            } else {
                Some(alone())
            };
            found.extend(what.map(|what| Fault::new("default_qos", what)));
        }
        faults.extend(of_entry("listeners", n, &listener.name, found));
        let names = config.listeners.iter().map(|other| other.name.as_str());
        faults.extend(name_twice("listeners", n, names));
    }
    faults
}

/// What makes no sense where HTTP is spoken.
fn http(listener: &ListenerSettings, settings: &HttpSettings) -> impl Iterator<Item = Fault> {
    let websocket = listener.kind.has_websocket();
    let kind = websocket.then(|| Fault::new("kind", "HTTP is spoken plainly, allowed is tcp, tls or unix"));
    let mount = listener.mount_point.is_some();
    let mount = mount.then(|| Fault::new("mount_point", "HTTP has no topics"));
    let is_open = listener.kind == ListenerKind::Tcp && !is_loopback(&listener.bind);
    let open = is_open && !settings.plain_beyond_loopback;
    let open = open.then(|| {
        let what = "HTTP without TLS is for this machine: allowed is a loopback address, or `kind = \"tls\"`, or `plain_beyond_loopback = true` in `[http]`";
        Fault::new("bind", what)
    });
    kind.into_iter().chain(mount).chain(open)
}

/// Whether nobody but this machine reaches an address, as it is written.
fn is_loopback(bind: &str) -> bool {
    let host = bind.rsplit_once(':').map_or(bind, |(host, _)| host);
    let address: Result<SocketAddr, _> = bind.parse();
    host == "localhost" || address.is_ok_and(|address| address.ip().to_canonical().is_loopback())
}

/// How long a session may be idle.
fn session_idle(config: &Config) -> Option<Fault> {
    let allowed = Duration::from_secs(60)..=Duration::from_secs(12 * 3_600);
    let is_wrong = !allowed.contains(&config.http.session_idle);
    is_wrong.then(|| {
        let what = format!(
            "{:?} is out of range, allowed is 1m to 12h",
            config.http.session_idle
        );
        Fault::new("http.session_idle", what)
    })
}

/// Settings for a listener that is not there.
fn auth_listeners(config: &Config) -> Vec<Fault> {
    let datagrams: Vec<Entry<'_>> = protocols::datagram_listeners(config).collect();
    let streams = config.listeners.iter().map(|listener| listener.name.as_str());
    let all: Vec<&str> = streams
        .chain(datagrams.iter().map(|entry| entry.listener.name()))
        .collect();
    let entries = config.auth.listeners.iter().enumerate();
    let unknown = entries.filter(|(_, entry)| !all.contains(&entry.name.as_str()));
    let fault = |(n, entry): (usize, &ListenerAuth)| {
        let what = format!(
            "there is no listener `{}`, allowed is {}",
            entry.name,
            all.join(", ")
        );
        Fault::new(format!("auth.listeners[{n}].name"), what)
    };
    unknown.map(fault).collect()
}

fn datagram_listeners(config: &Config) -> Vec<Fault> {
    let mut faults = Vec::new();
    let all: Vec<Entry<'_>> = protocols::datagram_listeners(config).collect();
    for Entry { list, n, listener } in &all {
        let mut found = listener.faults();
        found.extend(nobody_lets_it_in(&**listener, config.auth.anonymous));
        faults.extend(of_entry(list, *n, listener.name(), found));
        let names = all.iter().filter(|other| other.list == *list);
        faults.extend(name_twice(list, *n, names.map(|other| other.listener.name())));
    }
    faults
}

/// Finds a user name that is missing where nobody would be told that anonymous clients are not let in.
fn nobody_lets_it_in(listener: &dyn DatagramListener, anonymous: Anonymous) -> Option<Fault> {
    let key = listener.unanswered_anonymous()?;
    let address = match listener.place() {
        // A name is looked up when it is bound.
        Some(DatagramPlace::Udp { bind, .. }) => bind.parse::<SocketAddr>().ok(),
        _ => None,
    };
    let is_let_in = match anonymous {
        Anonymous::Nowhere => false,
        Anonymous::Loopback => address.is_none_or(|address| address.ip().is_loopback()),
        Anonymous::Everywhere => true,
    };
    let what = "without one it is an anonymous client, which `auth.anonymous` does not let in";
    (!is_let_in).then(|| Fault::new(key, what))
}

/// The faults of one entry of a list, which is told by its name.
pub(super) fn of_entry(list: &str, n: usize, name: &str, faults: Vec<Fault>) -> impl Iterator<Item = Fault> {
    let (section, name) = (format!("{list}[{n}]"), name.to_owned());
    faults.into_iter().map(move |fault| {
        let message = format!("`{name}`: {}", fault.message);
        Fault::new(fault.key, message).below(&section)
    })
}

/// A name that one before it has already.
pub(super) fn name_twice<'a>(list: &str, n: usize, names: impl Iterator<Item = &'a str>) -> Option<Fault> {
    let names: Vec<&str> = names.collect();
    let name = names[n];
    let twice = names[..n].contains(&name);
    twice.then(|| Fault::new(format!("{list}[{n}].name"), format!("`{name}` stands twice")))
}

fn log(settings: &LogSettings) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut note = |key: &str, what: String| faults.push(Fault::new(key, what));
    if let Some(what) = level_fault(&settings.level) {
        note("log.level", what);
    }
    if settings.ring > 100_000 {
        note("log.ring", out_of_range(settings.ring, "0 to 100000"));
    }
    if let Some(file) = &settings.file {
        if file.path.as_os_str().is_empty() {
            note("log.file.path", "the name of the file is empty".to_owned());
        }
        if file.max_bytes < 4_096 {
            note(
                "log.file.max_bytes",
                out_of_range(file.max_bytes, "4096 and more"),
            );
        }
        if file.keep > 1_000 {
            note("log.file.keep", out_of_range(file.keep, "0 to 1000"));
        }
        if file.hold_bytes > MOST_HELD {
            let allowed = format!("0 to {MOST_HELD}");
            note("log.file.hold_bytes", out_of_range(file.hold_bytes, &allowed));
        }
        if file.hold_for < Duration::from_secs(1) {
            let what = format!("{:?} is out of range, allowed is 1s and more", file.hold_for);
            note("log.file.hold_for", what);
        }
    }
    if let Some(syslog) = &settings.syslog
        && SyslogAddress::parse(&syslog.address).is_none()
    {
        let what = format!(
            "`{}` is no address, allowed is udp://HOST[:PORT], tcp://HOST[:PORT] or unix:PATH",
            syslog.address
        );
        note("log.syslog.address", what);
    }
    faults
}

fn out_of_range(value: impl std::fmt::Display, allowed: &str) -> String {
    format!("{value} is out of range, allowed is {allowed}")
}

/// The module of a part of a level, such as `headgate_shell=debug`; what EnvFilter says of spans and fields is left to it.
fn module_of(part: &str) -> Option<&str> {
    let (module, _) = part.rsplit_once('=')?;
    let module = module.split('[').next().unwrap_or_default().trim();
    (!module.is_empty()).then_some(module)
}

/// What is wrong with a level. A word that is none would be taken for the name of a module, and silence all others.
pub(crate) fn level_fault(text: &str) -> Option<String> {
    let is_level = |word: &str| {
        let levels = ["off", "error", "warn", "info", "debug", "trace"];
        levels.iter().any(|level| level.eq_ignore_ascii_case(word.trim()))
    };
    fn near(module: &str) -> Option<&'static str> {
        nearest(module, MODULES.iter().map(|(module, _)| *module))
    }
    // A library's module is not ours to know; what looks like one of ours is meant to be one.
    let is_wrong =
        |module: &&str| !is_module(module) && (module.starts_with("headgate") || near(module).is_some());
    if let Some(module) = text.split(',').filter_map(module_of).find(is_wrong) {
        let near = near(module);
        let near = near
            .map(|near| format!(" (did you mean `{near}`?)"))
            .unwrap_or_default();
        return Some(format!(
            "no module `{module}` writes to the log{near}: `headgate log modules` lists all"
        ));
    }
    let wrong = text.split(',').find(|part| {
        let level = part.rsplit_once('=').map_or(*part, |(_, level)| level);
        !is_level(level)
    });
    let what = match wrong {
        Some(wrong) => format!("`{wrong}`"),
        None => {
            let error = tracing_subscriber::EnvFilter::try_new(text).err()?;
            format!("`{text}`: {error}")
        }
    };
    let allowed = "allowed is off, error, warn, info, debug or trace, also by module: info,headgate_shell=debug (`headgate log modules`)";
    Some(format!("{what}: {allowed}"))
}
