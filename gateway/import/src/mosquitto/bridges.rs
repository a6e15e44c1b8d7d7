//! Bridges, also with the names that their directives had before.

use super::Source;
use super::read::{BridgeLines, Lines, Section};
use super::values::{flag, number, word, words};
use crate::draft::Of;
use crate::value::{Table, Value};
use std::collections::BTreeSet;

/// Where systems keep the authorities that they believe.
const OF_THE_SYSTEM: [&str; 2] = ["/etc/ssl/certs", "/etc/pki/tls/certs"];

/// Why a bridge is not in the new configuration.
struct LeftOut(Of, &'static str, &'static str);

impl Source<'_> {
    /// Messages that come round a ring are known by the gateway's name.
    pub(super) fn bridge_names(&mut self, lines: &Lines) {
        if !lines.bridges.is_empty() {
            self.draft.config.set("node", self.target.node.as_str());
            let node = Value::from(self.target.node.as_str());
            self.draft.remark(format!(
                "node = {node}: a gateway with bridges needs a name of its own"
            ));
        }
    }

    pub(super) fn bridges(&mut self, lines: &Lines) {
        let mut names = BTreeSet::new();
        for bridge in &lines.bridges {
            if let Some(LeftOut(of, because, todo)) = self.is_impossible(bridge) {
                self.draft
                    .not_taken(of, format!("{because}, and the bridge is left out"), todo);
                let place = self.draft.place(of);
                let others = bridge.own.every().chain([bridge.begins]);
                for other in others.filter(|other| *other != of) {
                    self.draft
                        .meaningless(other, format!("its bridge is left out, see {place}"));
                }
                continue;
            }
            let table = self.bridge(bridge, &mut names);
            self.draft.config.push("bridges", table);
        }
    }

    fn is_impossible(&mut self, bridge: &BridgeLines) -> Option<LeftOut> {
        let own = &bridge.own;
        let mut last = |name: &str| own.last(&mut self.draft, name);
        let psk = last("bridge_psk").or(last("bridge_identity"));
        let capath = last("bridge_capath");
        let manual = last("start_type");
        if let Some(of) = psk {
            let todo = "Give it a certificate, or the authority of the remote's: tls.ca.";
            return Some(LeftOut(of, "there are no pre-shared keys for TLS", todo));
        }
        if let Some(of) = capath.filter(|_| !own.has("bridge_cafile"))
            && !OF_THE_SYSTEM.contains(&self.draft.text(of).trim_end_matches('/'))
        {
            let todo = "Write the certificates of the folder into one file, and name it as tls.ca.";
            return Some(LeftOut(of, "authorities are one file here, not a folder", todo));
        }
        if let Some(of) = manual.filter(|of| word(&self.draft, *of) == "manual") {
            let todo = "`headgate bridge add` adds it later, and `pause` stops one.";
            return Some(LeftOut(
                of,
                "mosquitto does not connect it by itself either",
                todo,
            ));
        }
        let needed = [("address", "it has no address"), ("topic", "it has no topic")];
        let missing = needed.iter().find(|(name, _)| !own.has(name));
        missing.map(|(_, because)| LeftOut(bridge.begins, because, "mosquitto does not start with it."))
    }

    fn bridge(&mut self, bridge: &BridgeLines, names: &mut BTreeSet<String>) -> Table {
        let own = &bridge.own;
        let text = self.draft.text(bridge.begins);
        let name = unused(&text, names);
        let place = format!("bridges.{name}");
        let mut table = Table::default();
        self.draft
            .set_in(bridge.begins, &mut table, &place, "name", name.as_str());
        self.addresses_of(own, &mut table, &place);
        self.login(own, &mut table, &place, &name);
        self.protocol_of(own, &mut table, &place);
        self.flags_of(own, &mut table, &place);
        self.numbers_of(own, &mut table, &place);
        self.uplink(own, &mut table, &place);
        self.tls_of(own, &mut table, &place);
        self.topics(own, &mut table, &place);
        if !own.has("remote_clientid") {
            let node = &self.target.node;
            let but = format!(
                "client id {name}.{node} there; mosquitto's is made of the host's name, too, and it is another one"
            );
            self.draft.but(bridge.begins, but);
        }
        table
    }

    fn has_tls(&mut self, own: &Section) -> bool {
        let system = own.last(&mut self.draft, "bridge_tls_use_os_certs");
        let system = system.is_some_and(|of| flag(&mut self.draft, of) == Some(true));
        system || own.has("bridge_cafile") || own.has("bridge_capath")
    }

    fn addresses_of(&mut self, own: &Section, table: &mut Table, place: &str) {
        let scheme = if self.has_tls(own) { "mqtts" } else { "mqtt" };
        let mut addresses = Vec::new();
        for of in own.all("address") {
            let text = self.draft.text(of);
            addresses.extend(words(&text).into_iter().map(|word| address(scheme, word)));
        }
        for of in own.all("address") {
            self.draft
                .set_in(of, table, place, "addresses", addresses.clone());
        }
    }

    fn login(&mut self, own: &Section, table: &mut Table, place: &str, name: &str) {
        if let Some(of) = own.last(&mut self.draft, "remote_clientid") {
            let id = self.draft.text(of);
            self.draft.set_in(of, table, place, "client_id", id);
        }
        let user = own.last(&mut self.draft, "remote_username");
        if let Some(of) = user {
            let user = self.draft.text(of);
            self.draft.set_in(of, table, place, "login.username", user);
        }
        let Some(of) = own.last(&mut self.draft, "remote_password") else {
            return;
        };
        if user.is_none() {
            return self
                .draft
                .meaningless(of, "without remote_username mosquitto sends none");
        }
        let secret = self.draft.text(of);
        let file = self
            .draft
            .secret_file(self.target, &format!("bridge-{name}.password"), &secret);
        self.draft.set_in(of, table, place, "login.password_file", file);
    }

    fn protocol_of(&mut self, own: &Section, table: &mut Table, place: &str) {
        if let Some(of) = own.last(&mut self.draft, "bridge_protocol_version") {
            match word(&self.draft, of).as_str() {
                version @ ("mqttv31" | "mqttv311" | "mqttv50") => {
                    self.draft.set_in(of, table, place, "version", version);
                }
                other => {
                    let because = format!("`{other}` is none of mqttv31, mqttv311 and mqttv50");
                    self.draft
                        .not_taken(of, because, "mosquitto does not start with it.");
                }
            }
        }
        if let Some(of) = own.last(&mut self.draft, "local_cleansession") {
            match flag(&mut self.draft, of) {
                Some(true) => {
                    let because = "what waits for the remote is kept, whatever becomes of the connection";
                    self.draft
                        .not_taken(of, because, "queue.max_age bounds how long it waits.");
                }
                Some(false) => self.draft.is_so(of),
                None => {}
            }
        }
        for (name, setting) in [
            ("notification_topic", "notification_topic"),
            ("bridge_bind_address", "bind"),
        ] {
            if let Some(of) = own.last(&mut self.draft, name) {
                let value = word(&self.draft, of);
                self.draft.set_in(of, table, place, setting, value);
            }
        }
    }

    fn flags_of(&mut self, own: &Section, table: &mut Table, place: &str) {
        for (name, setting) in [
            ("cleansession", "clean_session"),
            ("try_private", "try_private"),
            ("bridge_attempt_unsubscribe", "attempt_unsubscribe"),
            ("bridge_outgoing_retain", "outgoing_retain"),
            ("notifications", "notifications"),
            ("notifications_local_only", "notifications_local_only"),
            ("round_robin", "uplink.round_robin"),
        ] {
            if let Some(of) = own.last(&mut self.draft, name)
                && let Some(on) = flag(&mut self.draft, of)
            {
                self.draft.set_in(of, table, place, setting, on);
            }
        }
    }

    fn numbers_of(&mut self, own: &Section, table: &mut Table, place: &str) {
        let seconds = [
            ("keepalive_interval", "keep_alive", 5, 65_535),
            ("idle_timeout", "uplink.lazy.idle_timeout", 1, 86_400),
            ("bridge_session_expiry_interval", "session_expiry", 1, 0xFFFF_FFFF),
        ];
        for (name, setting, least, most) in seconds {
            if let Some(of) = own.last(&mut self.draft, name)
                && let Some(seconds) = number(&mut self.draft, of, least, most)
            {
                // The largest is for ever, which 0s is here.
                let seconds = if seconds == 0xFFFF_FFFF { 0 } else { seconds };
                self.draft
                    .set_in(of, table, place, setting, format!("{seconds}s"));
            }
        }
        let numbers = [
            ("threshold", "uplink.lazy.threshold", 1, i64::from(u32::MAX)),
            ("bridge_receive_maximum", "receive_maximum", 1, 65_535),
            (
                "bridge_max_packet_size",
                "max_outgoing_packet_size",
                0,
                268_435_460,
            ),
        ];
        for (name, setting, least, most) in numbers {
            if let Some(of) = own.last(&mut self.draft, name)
                && let Some(number) = number(&mut self.draft, of, least, most)
            {
                self.draft.set_in(of, table, place, setting, number);
            }
        }
    }

    fn uplink(&mut self, own: &Section, table: &mut Table, place: &str) {
        if let Some(of) = own.last(&mut self.draft, "start_type") {
            match word(&self.draft, of).as_str() {
                start @ ("automatic" | "lazy" | "once") => {
                    self.draft.set_in(of, table, place, "uplink.start", start);
                }
                other => {
                    let because = format!("`{other}` is none of automatic, lazy and once");
                    self.draft
                        .not_taken(of, because, "mosquitto does not start with it.");
                }
            }
        }
        let Some(of) = own.last(&mut self.draft, "restart_timeout") else {
            return;
        };
        let text = self.draft.text(of);
        let numbers: Vec<u64> = words(&text).iter().filter_map(|word| word.parse().ok()).collect();
        let (base, cap) = match numbers[..] {
            [constant] => (constant, constant),
            [base, cap] if base <= cap => (base, cap),
            _ => {
                let todo = "mosquitto does not start with it.";
                return self
                    .draft
                    .not_taken(of, "one time or two, the first the shorter, are wanted", todo);
            }
        };
        for (setting, seconds) in [("base", base), ("cap", cap)] {
            let setting = format!("uplink.restart_timeout.{setting}");
            self.draft
                .set_in(of, table, place, &setting, format!("{}s", seconds.max(1)));
        }
    }

    fn tls_of(&mut self, own: &Section, table: &mut Table, place: &str) {
        let has_tls = self.has_tls(own);
        let no_tls = "the bridge has no TLS: neither bridge_cafile nor bridge_capath";
        for (name, setting) in [
            ("bridge_cafile", "tls.ca"),
            ("bridge_certfile", "tls.certificate"),
            ("bridge_keyfile", "tls.key"),
        ] {
            match own.last(&mut self.draft, name) {
                Some(of) if has_tls => self.set_path(of, table, place, setting),
                Some(of) => self.draft.meaningless(of, no_tls),
                None => {}
            }
        }
        if let Some(of) = own.last(&mut self.draft, "bridge_alpn") {
            let protocol = word(&self.draft, of);
            match has_tls {
                true => self.draft.set_in(of, table, place, "tls.alpn", vec![protocol]),
                false => self.draft.meaningless(of, no_tls),
            }
        }
        if let Some(of) = own.last(&mut self.draft, "bridge_capath") {
            match own.has("bridge_cafile") {
                true => {
                    let because = "authorities are one file here, and that of bridge_cafile is taken";
                    self.draft.not_taken(
                        of,
                        because,
                        "Append the certificates of the folder to it, if they are needed.",
                    );
                }
                false => {
                    self.draft.is_so(of);
                    self.draft.but(of, "the system's authorities are believed");
                }
            }
        }
        if let Some(of) = own.last(&mut self.draft, "bridge_tls_use_os_certs") {
            self.draft.is_so(of);
        }
        for (name, because, todo) in [
            (
                "bridge_insecure",
                "a certificate without a check of its name is none: tls.insecure would believe any certificate",
                "Name the host that is in the certificate: tls.server_name.",
            ),
            (
                "bridge_require_ocsp",
                "bridges ask for no OCSP response",
                "Nothing here stands for it.",
            ),
        ] {
            let Some(of) = own.last(&mut self.draft, name) else {
                continue;
            };
            match flag(&mut self.draft, of) {
                Some(true) => self.draft.not_taken(of, because, todo),
                Some(false) => self.draft.is_so(of),
                None => {}
            }
        }
        if let Some(of) = own.last(&mut self.draft, "bridge_tls_version") {
            match word(&self.draft, of).as_str() {
                "tlsv1.2" | "tlsv1.3" => {
                    self.draft.is_so(of);
                    self.draft
                        .but(of, "1.3 or 1.2 is spoken, whichever the remote has");
                }
                other => {
                    let because = format!("`{other}` is older than 1.2, which is the oldest that is spoken");
                    self.draft.not_taken(of, because, "Renew the remote.");
                }
            }
        }
    }

    fn topics(&mut self, own: &Section, table: &mut Table, place: &str) {
        for of in own.all("topic") {
            let text = self.draft.text(of);
            let (first, rest) = text.split_once([' ', '\t']).unwrap_or((&text, ""));
            let mut line = vec![first];
            // The first word may be `#`; behind it that begins a comment.
            line.extend(words(rest));
            let directions = ["in", "out", "both"];
            let levels = ["0", "1", "2"];
            let good = |at: usize, allowed: &[&str]| line.get(at).is_none_or(|word| allowed.contains(word));
            if !good(1, &directions) || !good(2, &levels) || line.len() > 5 {
                let because = "allowed is PATTERN [in|out|both [0|1|2 [LOCAL-PREFIX REMOTE-PREFIX]]]";
                self.draft
                    .not_taken(of, because, "mosquitto does not start with it.");
                continue;
            }
            let line = line.join(" ");
            self.draft
                .taken(of, format!("{place}.topics += {}", Value::from(line.as_str())));
            table.push("topics", line);
        }
    }
}

/// `host:port`, with port 1883 where there is none, with TLS too. IPv6 addresses have a port always.
fn address(scheme: &str, word: &str) -> String {
    let (host, port) = word.rsplit_once(':').unwrap_or((word, "1883"));
    let is_bare = host.contains(':') && !host.starts_with('[');
    match is_bare {
        true => format!("{scheme}://[{host}]:{port}"),
        false => format!("{scheme}://{host}:{port}"),
    }
}

/// A name that a bridge may have here, and that no other has.
fn unused(text: &str, names: &mut BTreeSet<String>) -> String {
    let mut name: String = text.chars().take(90).collect();
    name = name.replace(['/', '+', '#', ','], "-");
    if name.is_empty() {
        name.push_str("bridge");
    }
    while !names.insert(name.clone()) {
        name.push_str("-2");
    }
    name
}
