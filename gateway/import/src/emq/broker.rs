//! What holds for the whole broker.

use super::Source;
use super::values::{bytes, flag, number, time};
use crate::draft::Of;
use crate::log::Sinks;
use crate::value::{Table, Value};

impl Source<'_> {
    pub(super) fn broker(&mut self) {
        self.node();
        self.log();
        for (key, setting, most) in [
            (
                "mqtt.max_clientid_len",
                "mqtt.max_client_id_bytes",
                i64::from(u16::MAX),
            ),
            (
                "mqtt.session.max_subscriptions",
                "bus.max_subscriptions",
                i64::MAX,
            ),
            (
                "mqtt.session.max_awaiting_rel",
                "bus.max_awaiting_release",
                i64::from(u16::MAX),
            ),
            ("mqtt.mqueue.max_length", "bus.max_queued_messages", i64::MAX),
        ] {
            if let Some((of, _)) = self.last(key)
                && let Some(number) = number(&mut self.draft, of, most)
            {
                self.draft.set(of, setting, number);
            }
        }
        for (key, setting) in [
            ("mqtt.session.upgrade_qos", "bus.upgrade_qos"),
            ("mqtt.session.ignore_loop_deliver", "mqtt.ignore_loop_deliver"),
            ("mqtt.mqueue.store_qos0", "bus.store_qos0"),
        ] {
            if let Some((of, _)) = self.last(key)
                && let Some(on) = flag(&mut self.draft, of)
            {
                self.draft.set(of, setting, on);
            }
        }
        for (key, setting) in [
            ("mqtt.client.idle_timeout", "mqtt.connect_timeout"),
            ("mqtt.session.expiry_interval", "mqtt.v3_session_expiry"),
            ("mqtt.broker.sys_interval", "sys.interval"),
        ] {
            if let Some((of, _)) = self.last(key)
                && let Some(time) = time(&mut self.draft, of)
            {
                self.draft.set(of, setting, time);
            }
        }
        self.sizes();
        self.priorities();
        if let Some((of, text)) = self.last("mqtt.keepalive_backoff") {
            match text.as_str() {
                "0.75" => self.draft.is_so(of),
                _ => {
                    let because = "a client is lost after one and a half times its keep alive, as MQTT says";
                    self.draft
                        .not_taken(of, because, "mqtt.max_keep_alive bounds it.");
                }
            }
        }
    }

    fn node(&mut self) {
        if let Some((of, name)) = self.last("node.name") {
            let is_bad = name.is_empty() || name.contains(['/', '+', '#']);
            match is_bad {
                true => self.draft.not_taken(of, "it is no name for a topic", "Set node."),
                false => self.draft.set(of, "node", name),
            }
        }
        if let Some((of, how)) = self.last("cluster.discovery") {
            match how.as_str() {
                "manual" => self
                    .draft
                    .meaningless(of, "gateways are linked by bridges, not clustered"),
                _ => {
                    let because = "gateways are linked by bridges, not clustered";
                    self.draft
                        .not_taken(of, because, "Link the gateways: [[bridges]], docs/bridges.md.");
                }
            }
        }
    }

    fn log(&mut self) {
        let mut sinks = Sinks::default();
        let console = self.last("log.console");
        let is = |words: &[&str]| {
            console
                .as_ref()
                .is_none_or(|(_, text)| words.contains(&text.as_str()))
        };
        let (to_console, to_file) = (
            is(&["console", "both"]),
            console.is_some() && is(&["file", "both"]),
        );
        if let Some((of, _)) = &console {
            sinks.stderr(&mut self.draft, *of, to_console);
        }
        self.log_level(to_console || to_file);
        // Of several files the most talkative one.
        for (part, is_used) in [("console", to_file), ("info", true), ("error", true)] {
            self.log_file(&mut sinks, part, is_used);
        }
        self.syslog(&sinks);
    }

    fn log_level(&mut self, is_used: bool) {
        let Some((of, level)) = self.last("log.console.level") else {
            return;
        };
        let ours = match level.as_str() {
            "debug" => "debug",
            "info" | "notice" => "info",
            "warning" => "warn",
            _ => "error",
        };
        match is_used {
            true => self.draft.set(of, "log.level", ours),
            false => self.draft.meaningless(of, "log.console is off"),
        }
    }

    fn log_file(&mut self, sinks: &mut Sinks, part: &str, is_used: bool) {
        let file = self.last(&format!("log.{part}.file"));
        let is_taken = match file {
            Some((of, _)) if is_used => {
                let path = self.path(of).display().to_string();
                sinks.file(&mut self.draft, of, path)
            }
            Some((of, _)) => {
                self.draft.meaningless(of, "log.console names no file");
                false
            }
            None => false,
        };
        for (key, setting, most) in [
            ("size", "log.file.max_bytes", i64::MAX),
            ("count", "log.file.keep", 1_000),
        ] {
            let Some((of, _)) = self.last(&format!("log.{part}.{key}")) else {
                continue;
            };
            if !is_taken {
                self.draft
                    .meaningless(of, format!("log.{part}.file is not written"));
            } else if let Some(number) = number(&mut self.draft, of, most) {
                let least = if key == "size" { 4_096 } else { 0 };
                self.draft.set(of, setting, number.max(least));
            }
        }
    }

    fn syslog(&mut self, sinks: &Sinks) {
        let syslog = self.last("log.syslog");
        let is_on = syslog
            .as_ref()
            .is_some_and(|(of, _)| flag(&mut self.draft, *of) == Some(true));
        let facility = self.last("log.syslog.facility");
        let usable = |text: &str| {
            ["user", "daemon"].contains(&text)
                || text
                    .strip_prefix("local")
                    .is_some_and(|n| ["0", "1", "2", "3", "4", "5", "6", "7"].contains(&n))
        };
        if let Some((of, _)) = syslog {
            match is_on {
                true => sinks.syslog(&mut self.draft, of, facility.filter(|(_, text)| usable(text))),
                false => self.draft.is_so(of),
            }
        }
        for key in ["log.syslog.identity", "log.syslog.facility", "log.syslog.level"] {
            let Some((of, _)) = self.last(key) else { continue };
            if self.draft.has_fate(of) {
                continue;
            }
            match is_on {
                true => self.draft.not_taken(
                    of,
                    "there is no such setting for syslog",
                    "log.level is for all destinations.",
                ),
                false => self.draft.meaningless(of, "nothing is sent to syslog"),
            }
        }
    }

    fn sizes(&mut self) {
        if let Some((of, _)) = self.last("mqtt.max_packet_size")
            && let Some(size) = bytes(&mut self.draft, of)
        {
            self.draft
                .set(of, "mqtt.max_packet_size", size.clamp(64, 268_435_460));
        }
        if let Some((of, _)) = self.last("mqtt.session.max_inflight")
            && let Some(most) = number(&mut self.draft, of, 65_535)
        {
            // 0 is no limit; here it is the most that the protocol has.
            self.draft
                .set(of, "bus.max_inflight", if most == 0 { 65_535 } else { most });
        }
    }

    /// `type = priority` and `priority = topic/1=10,topic/2=8`.
    fn priorities(&mut self) {
        let kind = self.last("mqtt.mqueue.type");
        let is_used = kind.as_ref().is_some_and(|(_, kind)| kind == "priority");
        if let Some((of, _)) = kind {
            self.draft.is_so(of);
        }
        let Some((of, text)) = self.last("mqtt.mqueue.priority") else {
            return;
        };
        if !is_used {
            return self.draft.meaningless(of, "mqtt.mqueue.type is not priority");
        }
        let mut entries = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let split = part.rsplit_once('=');
            let number = split.and_then(|(topic, n)| Some((topic, n.trim().parse::<u8>().ok()?)));
            let Some((topic, priority)) = number else {
                let because = format!("`{part}` is no TOPIC=PRIORITY from 0 to 255");
                return self.draft.not_taken(of, because, "Write bus.priorities.");
            };
            let mut entry = Table::default();
            entry.set("topic", topic.trim());
            entry.set("priority", i64::from(priority));
            entries.push(Value::from(entry));
        }
        self.draft.set(of, "bus.priorities", Value::List(entries));
    }

    /// A path in a table that is put into the configuration later.
    pub(super) fn set_path(&mut self, of: Of, table: &mut Table, place: &str, setting: &str) {
        let path = self.path(of);
        self.draft
            .set_in(of, table, place, setting, path.display().to_string());
        self.is_there(of, &path);
    }

    pub(super) fn path(&mut self, of: Of) -> std::path::PathBuf {
        let text = self.draft.text(of);
        self.places.path(&text)
    }

    /// Says what is odd about a file that a directive names.
    pub(super) fn is_there(&mut self, of: Of, path: &std::path::Path) {
        if !self.files.exists(path) {
            self.draft.but(
                of,
                "there is no such file, and `headgate check` refuses until there is one",
            );
        } else if super::places::is_template(&self.draft.text(of)) {
            self.draft.but(of, "the package would have filled in the folder");
        }
    }
}
