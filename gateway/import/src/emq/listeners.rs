//! `listener.tcp.external` and the like.

use super::Source;
use super::values::{address, flag, number, time};
use crate::draft::Of;
use crate::tls;
use crate::value::{Table, Value};

/// EMQ's names of transports, and ours.
const KINDS: [(&str, &str); 4] = [("tcp", "tcp"), ("ssl", "tls"), ("ws", "ws"), ("wss", "wss")];

impl Source<'_> {
    pub(super) fn listeners(&mut self) {
        for (emq, kind) in KINDS {
            let prefix = format!("listener.{emq}.");
            let mut names: Vec<String> = Vec::new();
            for key in self.conf.below(&prefix) {
                let name = key.split('.').next().unwrap_or_default().to_owned();
                if !names.contains(&name) {
                    names.push(name);
                }
            }
            for name in names {
                self.listener(&format!("{prefix}{name}"), kind, &name);
            }
        }
        for key in ["mqtt.websocket_protocol_header", "mqtt.client.max_publish_rate"] {
            if let Some((of, _)) = self.last(key)
                && !self.draft.has_fate(of)
            {
                self.draft
                    .meaningless(of, "there is no such listener, or it is the default");
            }
        }
    }

    /// All keys of a listener.
    fn of_listener(&self, key: &str) -> Vec<Of> {
        let below = self.conf.below(&format!("{key}."));
        let below = below
            .iter()
            .flat_map(|rest| self.conf.all(&format!("{key}.{rest}")));
        self.conf.all(key).into_iter().chain(below).collect()
    }

    fn leave_out(&mut self, key: &str, of: Of, because: &str, todo: &str) {
        self.draft
            .not_taken(of, format!("{because}, and the listener is left out"), todo);
        let place = self.draft.place(of);
        for other in self.of_listener(key).into_iter().filter(|other| *other != of) {
            self.draft
                .meaningless(other, format!("its listener is left out, see {place}"));
        }
    }

    fn listener(&mut self, key: &str, kind: &str, name: &str) {
        let Some((of, text)) = self.last(key) else {
            for of in self.of_listener(key) {
                self.draft.meaningless(of, format!("there is no {key}"));
            }
            return;
        };
        let Some(bind) = address(&text) else {
            return self.leave_out(
                key,
                of,
                "it is no address with a port, nor a port",
                "Write bind as it is meant.",
            );
        };
        if let Some((of, mount)) = self.last(&format!("{key}.mountpoint"))
            && mount.contains('%')
        {
            let because = "a mount point is a text, without names in it";
            return self.leave_out(
                key,
                of,
                because,
                "Give each user topics of its own by rules with %u.",
            );
        }
        let is_secure = kind == "tls" || kind == "wss";
        if is_secure {
            let has = |part: &str| self.conf.has(&format!("{key}.{part}"));
            if !has("certfile") || !has("keyfile") {
                return self.leave_out(
                    key,
                    of,
                    "TLS needs certfile and keyfile",
                    "Write tls.certificate and tls.key.",
                );
            }
            let verify = self.last(&format!("{key}.verify"));
            if let Some((of, _)) = verify.filter(|(_, verify)| verify == "verify_peer")
                && !self.conf.has(&format!("{key}.cacertfile"))
            {
                let because = "to verify clients, cacertfile is needed";
                return self.leave_out(key, of, because, "Write tls.client_ca.");
            }
        }
        let (name, mut table) = (format!("{kind}-{name}"), Table::default());
        let place = format!("listeners.{name}");
        table.set("name", name.as_str());
        table.set("kind", kind);
        self.draft
            .set_in(of, &mut table, &place, "bind", bind.to_string());
        self.numbers(key, &mut table, &place);
        self.rate(key, &mut table, &place);
        self.access_list(key, &mut table, &place);
        self.proxy(key, &mut table, &place);
        if let Some((of, mount)) = self.last(&format!("{key}.mountpoint")) {
            self.draft.set_in(of, &mut table, &place, "mount_point", mount);
        }
        self.tls(key, is_secure, &mut table, &place);
        if kind.starts_with('w')
            && let Some((of, _)) = self.last("mqtt.websocket_protocol_header")
            && let Some(required) = flag(&mut self.draft, of)
        {
            self.draft
                .set_in(of, &mut table, &place, "websocket.require_subprotocol", required);
        }
        self.certificate_name(key, &name);
        self.draft.config.push("listeners", table);
    }

    fn numbers(&mut self, key: &str, table: &mut Table, place: &str) {
        for (part, setting) in [("max_clients", "max_connections"), ("backlog", "backlog")] {
            if let Some((of, _)) = self.last(&format!("{key}.{part}"))
                && let Some(number) = number(&mut self.draft, of, i64::from(u32::MAX))
            {
                self.draft.set_in(of, table, place, setting, number);
            }
        }
        if let Some((of, _)) = self.last(&format!("{key}.nodelay"))
            && let Some(on) = flag(&mut self.draft, of)
        {
            self.draft.set_in(of, table, place, "tcp_nodelay", on);
        }
        for (part, setting) in [
            ("proxy_protocol_timeout", "proxy_timeout"),
            ("handshake_timeout", "handshake_timeout"),
        ] {
            if let Some((of, _)) = self.last(&format!("{key}.{part}"))
                && let Some(time) = time(&mut self.draft, of)
            {
                self.draft.set_in(of, table, place, setting, time);
            }
        }
        if let Some((of, _)) = self.last("mqtt.client.max_publish_rate")
            && let Some(rate) = number(&mut self.draft, of, i64::from(u32::MAX))
        {
            self.draft
                .set_in(of, table, place, "max_client_packets_per_second", rate);
        }
    }

    /// `burst,rate` in KB a second.
    fn rate(&mut self, key: &str, table: &mut Table, place: &str) {
        let Some((of, text)) = self.last(&format!("{key}.rate_limit")) else {
            return;
        };
        let numbers = text.split_once(',').and_then(|(burst, rate)| {
            let kb = |text: &str| text.trim().parse::<i64>().ok()?.checked_mul(1024);
            Some((kb(burst)?, kb(rate)?))
        });
        let most = i64::from(u32::MAX);
        match numbers.filter(|(burst, rate)| (1..=most).contains(burst) && (1..=most).contains(rate)) {
            Some((burst, rate)) => {
                self.draft
                    .set_in(of, table, place, "max_client_bytes_per_second", rate);
                self.draft.set_in(of, table, place, "client_burst_bytes", burst);
            }
            None => {
                let todo = "Write max_client_bytes_per_second and client_burst_bytes.";
                self.draft.not_taken(of, "`burst,rate` in KB is wanted", todo);
            }
        }
    }

    /// `access.1 = allow 10.0.0.0/8`, by their numbers.
    fn access_list(&mut self, key: &str, table: &mut Table, place: &str) {
        let prefix = format!("{key}.access.");
        let mut numbers = self.conf.below(&prefix);
        numbers.sort_by_key(|text| (text.parse::<u32>().unwrap_or(u32::MAX), text.clone()));
        let mut list = Vec::new();
        for number in numbers {
            let Some((of, rule)) = self.last(&format!("{prefix}{number}")) else {
                continue;
            };
            let words: Vec<&str> = rule.split_whitespace().collect();
            let is_network = |text: &str| {
                let (address, bits) = text.split_once('/').unwrap_or((text, "0"));
                address.parse::<core::net::IpAddr>().is_ok()
                    && bits.parse::<u8>().is_ok_and(|bits| bits <= 128)
            };
            match words[..] {
                ["allow" | "deny", whom] if whom == "all" || is_network(whom) => {
                    let rule = words.join(" ");
                    self.draft.taken(of, format!("{place}.access += \"{rule}\""));
                    list.push(rule);
                }
                _ => {
                    // Whom it meant is not known.
                    list.push("deny all".to_owned());
                    let because = "it is no rule such as `allow 10.0.0.0/8`, so nobody comes in behind it";
                    self.draft.not_taken(
                        of,
                        because,
                        "Write it into access, in the place of its `deny all`.",
                    );
                }
            }
        }
        if !list.is_empty() {
            table.set("access", list);
        }
    }

    fn proxy(&mut self, key: &str, table: &mut Table, place: &str) {
        if let Some((of, _)) = self.last(&format!("{key}.proxy_protocol"))
            && let Some(on) = flag(&mut self.draft, of)
        {
            self.draft.set_in(of, table, place, "proxy_protocol", on);
            if on {
                self.draft
                    .set_in(of, table, place, "trusted_proxies", vec!["0.0.0.0/0", "::/0"]);
                self.draft.but(
                    of,
                    "name your proxies in trusted_proxies, for whoever is there is believed",
                );
            }
        }
        for part in ["proxy_address_header", "proxy_port_header"] {
            if let Some((of, _)) = self.last(&format!("{key}.{part}")) {
                let because = "EMQ believes anybody who sends the header; here forwarders are named";
                let todo = "Name them in websocket.trusted_forwarders; X-Forwarded-For and X-Forwarded-Port are read.";
                self.draft.not_taken(of, because, todo);
            }
        }
    }

    fn tls(&mut self, key: &str, is_secure: bool, table: &mut Table, place: &str) {
        const PARTS: [&str; 8] = [
            "certfile",
            "keyfile",
            "cacertfile",
            "verify",
            "fail_if_no_peer_cert",
            "tls_versions",
            "ciphers",
            "handshake_timeout",
        ];
        if !is_secure {
            for part in &PARTS[..7] {
                for of in self.conf.all(&format!("{key}.{part}")) {
                    self.draft.meaningless(of, "the listener has no TLS");
                }
            }
            return;
        }
        for (part, setting) in [("certfile", "tls.certificate"), ("keyfile", "tls.key")] {
            if let Some((of, _)) = self.last(&format!("{key}.{part}")) {
                self.set_path(of, table, place, setting);
            }
        }
        let verify = self.last(&format!("{key}.verify"));
        let verifies = verify.as_ref().is_some_and(|(_, verify)| verify == "verify_peer");
        if let Some((of, _)) = verify {
            match verifies {
                true => self.draft.taken(of, format!("{place}.tls.client_ca")),
                false => self.draft.is_so(of),
            }
        }
        if let Some((of, _)) = self.last(&format!("{key}.cacertfile")) {
            match verifies {
                true => self.set_path(of, table, place, "tls.client_ca"),
                false => self.draft.meaningless(of, "clients are not asked for a certificate (verify); certificates of authorities above the listener's own belong into tls.certificate"),
            }
        }
        if let Some((of, _)) = self.last(&format!("{key}.fail_if_no_peer_cert"))
            && let Some(required) = flag(&mut self.draft, of)
        {
            match verifies {
                true => self
                    .draft
                    .set_in(of, table, place, "tls.require_client_certificate", required),
                false => self
                    .draft
                    .meaningless(of, "clients are not asked for a certificate (verify)"),
            }
        }
        self.versions(key, table, place);
    }

    fn versions(&mut self, key: &str, table: &mut Table, place: &str) {
        if let Some((of, text)) = self.last(&format!("{key}.tls_versions")) {
            match text.contains("tlsv1.2") || text.contains("tlsv1.3") {
                true => {
                    self.draft.set_in(of, table, place, "tls.min_version", "1.2");
                    self.draft.but(of, "1.3 is spoken, too, and nothing older");
                }
                false => {
                    let because = "1.2 is the oldest version that is spoken";
                    self.draft
                        .not_taken(of, because, "Renew clients that know nothing newer.");
                }
            }
        }
        let Some((of, text)) = self.last(&format!("{key}.ciphers")) else {
            return;
        };
        let (known, unknown) = tls::suites(&text);
        if known.is_empty() {
            let todo = "All that are built in are offered, all of them good; tls.ciphers chooses.";
            return self.draft.not_taken(of, "none of these suites is built in", todo);
        }
        let suites = tls::both_versions(Some(known), None);
        self.draft.set_in(of, table, place, "tls.ciphers", suites);
        if !unknown.is_empty() {
            self.draft.but(
                of,
                format!("without {}, which are not built in", unknown.join(", ")),
            );
        }
    }

    /// `peer_cert_as_username = cn`: EMQ asks the plugins about that name all the same.
    fn certificate_name(&mut self, key: &str, listener: &str) {
        let Some((of, text)) = self.last(&format!("{key}.peer_cert_as_username")) else {
            return;
        };
        let name = match text.as_str() {
            "cn" => "common_name",
            "dn" | "true" => "subject",
            _ => {
                let because = "allowed is cn and dn";
                return self.draft.not_taken(of, because, "EMQ does not start with it.");
            }
        };
        if self.plugins.checks_passwords() {
            let because = "EMQ asks for the password of that name, too; here a certificate is enough, so it names nobody";
            let todo = "Where it shall be enough: certificate.user_name in auth.listeners.";
            return self.draft.not_taken(of, because, todo);
        }
        if self.is_shut {
            return self.draft.meaningless(of, "nobody comes in");
        }
        let (mut entry, place) = (Table::default(), format!("auth.listeners.{listener}"));
        entry.set("name", listener);
        self.draft
            .set_in(of, &mut entry, &place, "certificate.user_name", name);
        self.draft.config.push("auth.listeners", Value::from(entry));
        if name == "subject" {
            self.draft.but(of, "the subject is written CN=…,O=… (RFC 4514)");
        }
    }
}
