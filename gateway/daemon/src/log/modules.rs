//! The modules that write to the log: their levels may be set by themselves.

/// Names as `log.level` takes them, and what is told there. A name stands for all modules below it too; `headgate` for all.
pub(crate) const MODULES: [(&str, &str); 80] = [
    ("headgate", "all of the following"),
    (
        "headgate_access::service",
        "an access service that does not answer",
    ),
    (
        "headgate_auth",
        "log-ins, bans, and the file of users: all of the following `headgate_auth::`",
    ),
    ("headgate_auth::hashing", "the threads that check passwords"),
    (
        "headgate_auth::providers::users",
        "the file of users, when it is read again",
    ),
    (
        "headgate_auth::service",
        "who was refused at log-in and why, and bans that came by themselves",
    ),
    (
        "headgate_auth::users",
        "hashes of another broker that cannot be renewed",
    ),
    (
        "headgate_bus::handle::commits",
        "what is written to the store, what the disk refuses, and memory that runs short",
    ),
    ("headgate_daemon", "all of the following `headgate_daemon::`"),
    ("headgate_daemon::alarms", "alarms that are raised and lifted"),
    (
        "headgate_daemon::api",
        "what operators do by the command line and over HTTP: all of the following `headgate_daemon::api::`",
    ),
    ("headgate_daemon::api::bans", "bans of operators"),
    (
        "headgate_daemon::api::clients",
        "clients, sessions and queues that operators change",
    ),
    (
        "headgate_daemon::api::clock",
        "the machine's clock that administrators set",
    ),
    (
        "headgate_daemon::api::compat::basic",
        "administrators who log in by APIs of other brokers",
    ),
    (
        "headgate_daemon::api::compat::deeds",
        "clients and retained messages that operators change by APIs of other brokers",
    ),
    (
        "headgate_daemon::api::guard",
        "changes that could not be written into the audit log",
    ),
    (
        "headgate_daemon::api::log",
        "levels of the log that operators set",
    ),
    ("headgate_daemon::api::login", "administrators who log in and out"),
    (
        "headgate_daemon::api::provisioning",
        "provisioning files that wait for the next start",
    ),
    (
        "headgate_daemon::api::publish",
        "messages over HTTP that rules do not let pass",
    ),
    (
        "headgate_daemon::api::retained",
        "retained messages that operators remove",
    ),
    ("headgate_daemon::api::server", "the control socket"),
    (
        "headgate_daemon::backups",
        "backups that are made, and taken back",
    ),
    (
        "headgate_daemon::bridges",
        "bridges: connections, refusals, queues; all of the following `headgate_daemon::bridges::`",
    ),
    (
        "headgate_daemon::bridges::provisioner",
        "hubs that a provisioning service assigns",
    ),
    (
        "headgate_daemon::bridges::runner",
        "connections of bridges: attempts, losses, ends",
    ),
    ("headgate_daemon::daemon", "start and stop"),
    (
        "headgate_daemon::firmware",
        "updates of the system, and whether it is good: all of the following `headgate_daemon::firmware::`",
    ),
    (
        "headgate_daemon::firmware::bus",
        "commands about updates by messages on the bus",
    ),
    ("headgate_daemon::history", "the history of the configuration"),
    ("headgate_daemon::http", "pages for browsers"),
    (
        "headgate_daemon::listeners",
        "listeners that are added, changed and removed",
    ),
    ("headgate_daemon::live", "changes of the configuration"),
    (
        "headgate_daemon::log",
        "the log itself: its level, and all of the following `headgate_daemon::log::`",
    ),
    (
        "headgate_daemon::log::destination",
        "destinations of the log that fail",
    ),
    ("headgate_daemon::log::limit", "lines that are left out"),
    ("headgate_daemon::memory", "the limit of memory"),
    (
        "headgate_daemon::moving",
        "data that go to another folder, and why they cannot: all of the following `headgate_daemon::moving::`",
    ),
    (
        "headgate_daemon::moving::files",
        "files in the folder of before that cannot be removed",
    ),
    ("headgate_daemon::private", "owners and permissions of files"),
    (
        "headgate_daemon::provisioning",
        "provisioning files that were taken",
    ),
    (
        "headgate_daemon::recovery",
        "what is done when no uplink is connected for long",
    ),
    ("headgate_daemon::service", "systemd and its watchdog"),
    (
        "headgate_daemon::starts",
        "why the machine or the gateway was started",
    ),
    ("headgate_daemon::sys", "`$SYS`"),
    (
        "headgate_daemon::telemetry",
        "the collector of spans, when it takes none",
    ),
    (
        "headgate_daemon::timeline",
        "clocks that jump, and pauses of the machine",
    ),
    ("headgate_daemon::traces", "traces that are begun and ended"),
    (
        "headgate_daemon::trends",
        "what the gateway was like, where it cannot be written down",
    ),
    (
        "headgate_daemon::wans",
        "ways out of which another one is taken, which work again, and which do not",
    ),
    (
        "headgate_shell",
        "listeners and clients of every protocol: all of the following `headgate_shell::`",
    ),
    (
        "headgate_shell::datagram",
        "listeners for datagrams: start and stop",
    ),
    (
        "headgate_shell::denials",
        "what clients were refused, by which rule or limit",
    ),
    (
        "headgate_shell::drive",
        "connections: who is disconnected, and what broke",
    ),
    ("headgate_shell::dtls", "DTLS: files, sessions, handshakes"),
    ("headgate_shell::http", "HTTP connections"),
    (
        "headgate_shell::listener",
        "listeners for connections: start and stop, connections that are refused",
    ),
    (
        "headgate_shell::protocols",
        "connections that are refused for want of memory",
    ),
    (
        "headgate_shell::serial",
        "serial lines that open and that are lost",
    ),
    ("headgate_shell::spans", "the ids of spans"),
    (
        "headgate_shell::supervise",
        "listeners that fail and are started anew",
    ),
    ("headgate_shell::tls", "TLS files that are read again"),
    ("headgate_shell::udp", "UDP sockets: settings, failures"),
    ("headgate_shell::unix", "files of Unix sockets"),
    (
        "headgate_sockjs",
        "SockJS: all of the following `headgate_sockjs::`",
    ),
    ("headgate_sockjs::http", "requests of SockJS that are refused"),
    (
        "headgate_sockjs::live",
        "sessions of SockJS that end because memory runs short",
    ),
    (
        "headgate_sockjs::websocket",
        "clients of SockJS that leave before their WebSocket begins",
    ),
    (
        "headgate_store",
        "the journal, the tables, and what was found damaged: all of the following `headgate_store::`",
    ),
    (
        "headgate_store::checkpoint",
        "messages that a checkpoint cannot read",
    ),
    (
        "headgate_store::compaction",
        "messages that compaction cannot read",
    ),
    (
        "headgate_store::disk",
        "messages and queues that cannot be read, and all of the following `headgate_store::disk::`",
    ),
    ("headgate_store::disk::ballast", "a disk that is full"),
    ("headgate_store::disk::checkpoints", "checkpoints that fail"),
    ("headgate_store::format1", "stores of format 1"),
    (
        "headgate_store::live",
        "where the store goes, and why it cannot: all of the following `headgate_store::live::`",
    ),
    (
        "headgate_store::live::folders",
        "file systems that cannot exchange two folders",
    ),
    (
        "headgate_store::live::to_memory",
        "messages that are lost on the way to memory",
    ),
    ("headgate_store::tables", "tables that cannot be used"),
];

/// Whether a level may be set for a module of this name: it is one of these, or they are below it.
pub(crate) fn is_module(name: &str) -> bool {
    let is_it = |module: &str| {
        let rest = module.strip_prefix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    MODULES.iter().any(|(module, _)| is_it(module))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

    /// `headgate_shell::tls` for `adapters/shell/src/tls/mod.rs`.
    fn module(krate: &str, below_src: &Path) -> String {
        let path = below_src.with_extension("");
        let parts = path.iter().filter_map(|part| part.to_str());
        let parts = parts.filter(|part| !["mod", "lib"].contains(part));
        let name = format!("headgate_{}", krate.replace('-', "_"));
        std::iter::once(name.as_str())
            .chain(parts)
            .collect::<Vec<_>>()
            .join("::")
    }

    fn walk(krate: &str, src: &Path, folder: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(krate, src, &path, found);
            } else if let Ok(text) = fs::read_to_string(&path) {
                // The list itself says how lines are found.
                let writes = !path.ends_with("log/modules.rs");
                if writes
                    && LEVELS
                        .iter()
                        .any(|level| text.contains(&format!("tracing::{level}!(")))
                {
                    found.push(module(krate, path.strip_prefix(src).unwrap()));
                }
            }
        }
    }

    /// What writes to the log stands in the list, and nothing else does.
    #[test]
    fn every_module_that_writes_is_listed() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut found = Vec::new();
        for (krate, src) in [
            ("access", "gateway/access"),
            ("auth", "gateway/auth"),
            ("bus", "gateway/bus"),
            ("daemon", "gateway/daemon"),
            ("model", "gateway/model"),
            ("mqtt", "adapters/mqtt"),
            ("mqttsn", "adapters/mqttsn"),
            ("stomp", "adapters/stomp"),
            ("coap", "adapters/coap"),
            ("lwm2m", "adapters/lwm2m"),
            ("dtls", "adapters/dtls"),
            ("bridge", "adapters/bridge"),
            ("dial", "adapters/dial"),
            ("shell", "adapters/shell"),
            ("sockjs", "adapters/sockjs"),
            ("store", "store"),
        ] {
            let src = root.join(src).join("src");
            walk(krate, &src, &src, &mut found);
        }
        let is_below = |module: &str, listed: &str| {
            module
                .strip_prefix(listed)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        };
        for module in &found {
            let is_listed = MODULES.iter().any(|(listed, _)| listed == module);
            assert!(is_listed, "{module} writes to the log and is not listed");
        }
        for (n, (listed, tells)) in MODULES.iter().enumerate().skip(1) {
            assert!(
                found.iter().any(|module| is_below(module, listed)),
                "{listed} writes nothing"
            );
            // Whoever is told of "all of the following" finds them just below.
            let is_parent = MODULES[n + 1..]
                .first()
                .is_some_and(|next| is_below(next.0, listed));
            let says = format!("all of the following `{listed}::`");
            assert_eq!(is_parent, tells.contains(&says), "{listed}: {tells}");
            assert!(
                !tells.contains("all of the following") || tells.contains(&says),
                "{listed}: {tells}"
            );
        }
        assert!(MODULES[1..].is_sorted(), "they stand in their order");
    }

    /// The end of the arguments that begin at `from`, and where the last of them begins.
    fn arguments(text: &str, from: usize) -> (usize, usize) {
        let (mut depth, mut last, mut in_text) = (1, from, false);
        let mut chars = text[from..].char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' if in_text => drop(chars.next()),
                '"' => in_text = !in_text,
                _ if in_text => {}
                '(' | '[' | '{' => depth += 1,
                ')' | ']' | '}' => depth -= 1,
                ',' if depth == 1 && !text[from + at + 1..].trim_start().starts_with(')') => {
                    last = from + at + 1;
                }
                _ => {}
            }
            if depth == 0 {
                return (from + at, last);
            }
        }
        unreachable!("it has an end: it compiles")
    }

    /// Values are fields; what a line is about is a constant phrase.
    #[test]
    fn every_line_has_a_phrase() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut lines = 0;
        for folder in ["gateway", "adapters", "store"] {
            each_file(&root.join(folder), &mut |path, text| {
                for level in LEVELS {
                    for (at, call) in text.match_indices(&format!("tracing::{level}!(")) {
                        let (end, last) = arguments(text, at + call.len());
                        let phrase = text[last..end].trim_start();
                        assert!(phrase.starts_with('"'), "{}: {}", path.display(), &text[at..=end]);
                        lines += 1;
                    }
                }
            });
        }
        assert!(lines > 100, "{lines}");
    }

    fn each_file(folder: &Path, each: &mut dyn FnMut(&Path, &str)) {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                each_file(&path, each);
            } else if path.components().any(|part| part.as_os_str() == "src")
                && path.extension().is_some_and(|ext| ext == "rs")
                && !path.ends_with("log/mod.rs")
                && !path.ends_with("log/modules.rs")
            {
                each(&path, &fs::read_to_string(&path).unwrap());
            }
        }
    }
}
