//! The modules that write to the log: their levels may be set by themselves.

/// Names as `log.level` takes them, and what is told there. A name stands for all modules below it too.
pub(crate) const MODULES: [(&str, &str); 24] = [
    ("headgate_access", "a provider of log-ins that does not answer"),
    ("headgate_auth", "log-ins, bans, and the file of users"),
    (
        "headgate_auth::service",
        "who was refused at log-in and why, and bans that came by themselves",
    ),
    (
        "headgate_bus",
        "what is written to the store, and what the disk refuses",
    ),
    ("headgate_daemon", "all of the following"),
    ("headgate_daemon::alarms", "alarms that are raised and lifted"),
    (
        "headgate_daemon::bridges",
        "bridges: connections, refusals, queues",
    ),
    (
        "headgate_daemon::control",
        "what operators do by the command line",
    ),
    ("headgate_daemon::daemon", "start and stop"),
    ("headgate_daemon::history", "the history of the configuration"),
    ("headgate_daemon::http", "pages for browsers"),
    (
        "headgate_daemon::listeners",
        "listeners that are added, changed and removed",
    ),
    ("headgate_daemon::live", "changes of the configuration"),
    (
        "headgate_daemon::log",
        "the log itself: destinations that fail, lines that are left out",
    ),
    ("headgate_daemon::memory", "the limit of memory"),
    ("headgate_daemon::private", "owners and permissions of files"),
    ("headgate_daemon::service", "systemd and its watchdog"),
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
        "headgate_shell",
        "listeners and clients of every protocol: connections, refusals with their rules, certificates, sockets",
    ),
    ("headgate_sockjs", "SockJS"),
    (
        "headgate_store",
        "the journal, the tables, and what was found damaged",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

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
                let levels = ["error", "warn", "info", "debug", "trace"];
                if levels
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
            // Of the daemon each module is listed by itself.
            let listed = MODULES
                .iter()
                .filter(|(listed, _)| *listed != "headgate_daemon" && is_below(module, listed));
            assert!(listed.count() > 0, "{module} writes to the log and is not listed");
        }
        for (listed, _) in MODULES {
            assert!(
                found.iter().any(|module| is_below(module, listed)),
                "{listed} writes nothing"
            );
        }
    }
}
