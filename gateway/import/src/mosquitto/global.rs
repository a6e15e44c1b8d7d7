//! What holds for the whole broker.

use super::Source;
use super::read::Section;
use super::values::{flag, number, without_comment, word, words};
use crate::draft::{Draft, Of};
use crate::log::Sinks;
use crate::value::Value;

/// A limit that is none.
const MOST: i64 = i64::MAX;

impl Source<'_> {
    pub(super) fn global(&mut self, global: &Section) {
        let mut last = |name: &str| global.last(&mut self.draft, name);
        let numbers = [
            (last("max_inflight_bytes"), "bus.max_inflight_bytes"),
            (last("max_queued_messages"), "bus.max_queued_messages"),
            (last("max_queued_bytes"), "bus.max_queued_bytes"),
            (last("memory_limit"), "bus.max_memory_bytes"),
        ];
        let flags = [
            (last("queue_qos0_messages"), "bus.store_qos0"),
            (last("upgrade_outgoing_qos"), "bus.upgrade_qos"),
            (last("retain_available"), "mqtt.retain_available"),
        ];
        for (of, setting) in numbers {
            self.number(of, setting, 0, MOST);
        }
        for (of, setting) in flags {
            self.flag(of, setting);
        }
        self.queue(global);
        let of = global.last(&mut self.draft, "global_max_connections");
        if let Some(of) = of
            && let Some(most) = number(&mut self.draft, of, -1, MOST)
        {
            self.draft.set(of, "max_connections", most.max(0));
        }
        let of = global.last(&mut self.draft, "max_inflight_messages");
        self.max_inflight(of);
        self.packet_size(global);
        self.times(global);
        let of = global.last(&mut self.draft, "persistence");
        self.persistence(of);
        let of = global.last(&mut self.draft, "allow_duplicate_messages");
        self.overlap(of);
        let of = global.last(&mut self.draft, "check_retain_source");
        self.retain_source(of);
        self.log(global);
    }

    /// mosquitto drops what comes when a queue is full, not what waits.
    fn queue(&mut self, global: &Section) {
        let limits = ["max_queued_messages", "max_queued_bytes"];
        let limit = limits.iter().find_map(|name| global.all(name).last().copied());
        if let Some(of) = limit {
            self.draft.set(of, "bus.when_full", "drop_newest");
        }
    }

    /// 0 is no limit; here it is the most that the protocol has.
    fn max_inflight(&mut self, of: Option<Of>) {
        if let Some(of) = of
            && let Some(most) = number(&mut self.draft, of, 0, 65_535)
        {
            let most = if most == 0 { 65_535 } else { most };
            self.draft.set(of, "bus.max_inflight", most);
        }
    }

    fn packet_size(&mut self, global: &Section) {
        const LARGEST: i64 = 268_435_460;
        let packet = global.last(&mut self.draft, "max_packet_size");
        let payload = global.last(&mut self.draft, "message_size_limit");
        if let Some(of) = packet
            && let Some(size) = number(&mut self.draft, of, 0, MOST)
        {
            let size = if size == 0 {
                LARGEST
            } else {
                size.clamp(64, LARGEST)
            };
            self.draft.set(of, "mqtt.max_packet_size", size);
        }
        let Some(of) = payload else { return };
        let Some(size) = number(&mut self.draft, of, 0, MOST) else {
            return;
        };
        if size == 0 {
            return self
                .draft
                .meaningless(of, "0 is no limit; mqtt.max_packet_size is one");
        }
        if packet.is_some() {
            let because = "mqtt.max_packet_size is taken from max_packet_size";
            return self
                .draft
                .not_taken(of, because, "Lower mqtt.max_packet_size, if that is meant.");
        }
        let size = (size + 65_544).min(LARGEST);
        self.draft.set(of, "mqtt.max_packet_size", size);
        self.draft.but(
            of,
            "with room for the longest topic; a client that sends more is disconnected",
        );
    }

    fn times(&mut self, global: &Section) {
        if let Some(of) = global.last(&mut self.draft, "max_keepalive")
            && let Some(seconds) = number(&mut self.draft, of, 0, 65_535)
        {
            self.draft.set(of, "mqtt.max_keep_alive", format!("{seconds}s"));
        }
        if let Some(of) = global.last(&mut self.draft, "sys_interval")
            && let Some(seconds) = number(&mut self.draft, of, 0, i64::from(u32::MAX))
        {
            self.draft.set(of, "sys.interval", format!("{seconds}s"));
        }
        self.draft.config.set("sys.mosquitto", true);
        self.draft
            .remark("sys.mosquitto = true: what dashboards read below $SYS/broker stays");
        match global.last(&mut self.draft, "persistent_client_expiration") {
            Some(of) => self.expiration(of),
            None => {
                self.draft.config.set("mqtt.v3_session_expiry", "0s");
                self.draft.remark(
                    "mqtt.v3_session_expiry = \"0s\": sessions of MQTT 3 clients are kept for ever, as there",
                );
            }
        }
    }

    /// `14d`: hours, days, weeks, months, years.
    fn expiration(&mut self, of: Of) {
        let word = word(&self.draft, of);
        let unit = word.chars().last().unwrap_or(' ');
        let digits = word.trim_end_matches(unit);
        let unit = match unit {
            'h' | 'd' | 'w' | 'y' => unit,
            'm' => 'M',
            _ => ' ',
        };
        if unit == ' ' || digits.is_empty() || digits.parse::<u32>().is_err() {
            let because = format!("`{word}` is no number with h, d, w, m or y");
            return self
                .draft
                .not_taken(of, because, "mosquitto does not start with it.");
        }
        let time = format!("{digits}{unit}");
        self.draft.set(of, "mqtt.v3_session_expiry", time.clone());
        self.draft.set(of, "bus.max_session_expiry", time);
    }

    fn persistence(&mut self, of: Option<Of>) {
        let Some(of) = of else {
            let remark = "what is acknowledged survives a restart: store.durability = \"power-loss\" (mosquitto writes nothing where the source does not say persistence true)";
            return self.draft.remark(remark);
        };
        match flag(&mut self.draft, of) {
            Some(true) => self.draft.set(of, "store.durability", "power-loss"),
            Some(false) => self.draft.set(of, "store.durability", "memory"),
            None => {}
        }
    }

    fn overlap(&mut self, of: Option<Of>) {
        if let Some(of) = of
            && let Some(each) = flag(&mut self.draft, of)
        {
            let overlap = if each { "each_subscription" } else { "one_copy" };
            self.draft.set(of, "bus.overlap", overlap);
        }
    }

    fn retain_source(&mut self, of: Option<Of>) {
        let Some(of) = of else { return };
        match flag(&mut self.draft, of) {
            Some(true) => {
                let because = "a retained message belongs to nobody here: who may read its topic gets it";
                let todo = "When a client loses the right to publish, clear what it retained.";
                self.draft.not_taken(of, because, todo);
            }
            Some(false) => self.draft.is_so(of),
            None => {}
        }
    }

    fn log(&mut self, global: &Section) {
        self.log_destinations(global);
        if let Some(of) = global.last(&mut self.draft, "log_timestamp") {
            self.draft.meaningless(of, "each line has its time");
        }
        if let Some(of) = global.last(&mut self.draft, "connection_messages") {
            match flag(&mut self.draft, of) {
                Some(true) => self.draft.is_so(of),
                Some(false) => {
                    let because = "there is no setting for these lines alone";
                    self.draft
                        .not_taken(of, because, "log.level says by module what is written.");
                }
                None => {}
            }
        }
        self.log_level(&global.all("log_type"));
    }

    /// Without a word it is standard error; with one it is that, and no other.
    fn log_destinations(&mut self, global: &Section) {
        let mut sinks = Sinks::default();
        let all = global.all("log_dest");
        let has_one_of = |names: &[&str]| {
            all.iter()
                .any(|of| names.contains(&word(&self.draft, *of).as_str()))
        };
        let to_stderr = has_one_of(&["stderr", "stdout"]);
        // What is not taken is no reason to write nowhere.
        let elsewhere = has_one_of(&["syslog", "file", "none"]);
        let facility = global.last(&mut self.draft, "log_facility");
        for of in &all {
            match word(&self.draft, *of).as_str() {
                "stderr" => sinks.stderr(&mut self.draft, *of, true),
                "stdout" => {
                    sinks.stderr(&mut self.draft, *of, true);
                    self.draft.but(*of, "of the two, standard error");
                }
                "none" => sinks.stderr(&mut self.draft, *of, to_stderr),
                "syslog" => {
                    let facility = facility.and_then(|of| self.facility(of));
                    sinks.syslog(&mut self.draft, *of, facility);
                }
                "file" => {
                    let text = without_comment(&self.draft, *of);
                    let file = text.strip_prefix("file").unwrap_or_default().trim();
                    let path = self.options.start_dir.join(file).display().to_string();
                    sinks.file(&mut self.draft, *of, path);
                }
                "topic" => {
                    let because = "the log is not published";
                    self.draft
                        .not_taken(*of, because, "What clients should see is below $SYS.");
                }
                other => {
                    let because = format!("there is no destination `{other}`");
                    self.draft.not_taken(
                        *of,
                        because,
                        "docs/configuration.md has those that there are: [log].",
                    );
                }
            }
        }
        if elsewhere && !to_stderr {
            self.draft.config.set("log.stderr", false);
            self.draft
                .remark("log.stderr = false: the source names other destinations");
        }
        if let Some(of) = facility
            && !self.draft.has_fate(of)
        {
            self.draft.meaningless(of, "nothing is sent to syslog");
        }
    }

    /// `0` to `7`.
    fn facility(&mut self, of: Of) -> Option<(Of, String)> {
        let number = number(&mut self.draft, of, 0, 7)?;
        Some((of, format!("local{number}")))
    }

    /// The most talkative type decides.
    fn log_level(&mut self, types: &[Of]) {
        const LEVELS: [&str; 4] = ["error", "warn", "info", "debug"];
        let level = |draft: &Draft, of: Of| {
            let text = draft.text(of);
            let of_word = |word: &&str| match *word {
                "none" | "error" => Some(0),
                "warning" => Some(1),
                "notice" | "information" | "subscribe" | "unsubscribe" => Some(2),
                "debug" | "all" | "websockets" | "internal" => Some(3),
                _ => None,
            };
            words(&text).first().and_then(of_word)
        };
        let mut highest: Option<usize> = None;
        for of in types {
            match level(&self.draft, *of) {
                Some(level) => highest = highest.max(Some(level)),
                None => {
                    let because = "there is no such type of lines";
                    let todo = "log.level says what is written, also by module.";
                    self.draft.not_taken(*of, because, todo);
                }
            }
        }
        let Some(highest) = highest else { return };
        let setting = format!("log.level = \"{}\"", LEVELS[highest]);
        for of in types {
            if level(&self.draft, *of).is_some() {
                self.draft.taken(*of, setting.clone());
            }
        }
        self.draft.config.set("log.level", Value::from(LEVELS[highest]));
    }
}
