//! Listeners: where they listen, how connections are wrapped, and what limits they have.

use super::read::{Lines, ListenerLines, Section};
use super::values::{flag, number, without_comment, word, words};
use super::{Source, Version};
use crate::draft::Of;
use crate::value::{Table, Value};
use std::path::Path;

/// A listener that is in the new configuration.
pub(super) struct Listener {
    pub(super) name: String,
    /// Its place among the lines.
    pub(super) n: usize,
    /// It serves this machine alone, because the source has no listener.
    pub(super) is_local: bool,
    /// Who has a certificate goes by what is in it, and nobody else comes in.
    pub(super) user_name: Option<(Of, &'static str)>,
    /// Nobody comes in: why is told already.
    pub(super) is_shut: bool,
}

/// Where a listener listens.
struct Place {
    kind: Kind,
    bind: String,
    ipv6_only: bool,
    /// For its name.
    port: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Stream,
    Unix,
}

/// Why a listener is not in the new configuration.
struct LeftOut {
    of: Of,
    because: String,
    todo: &'static str,
}

/// Options that make mosquitto start the default listener, if there are others.
const OF_THE_DEFAULT: &[&str] = &[
    "bind_address",
    "bind_interface",
    "cafile",
    "capath",
    "certfile",
    "ciphers",
    "ciphers_tls1.3",
    "crlfile",
    "dhparamfile",
    "keyfile",
    "max_connections",
    "max_qos",
    "mount_point",
    "port",
    "protocol",
    "psk_hint",
    "require_certificate",
    "socket_domain",
    "tls_engine",
    "tls_keyform",
    "use_identity_as_username",
    "use_subject_as_username",
    "use_username_as_clientid",
];

impl Source<'_> {
    /// All listeners that there are in the end.
    pub(super) fn listeners(&mut self, lines: &Lines) -> Vec<Listener> {
        self.draft.config.set("listeners", Value::List(Vec::new()));
        let mut listeners = Vec::new();
        let default = &lines.listeners[0];
        let has_others = lines.listeners.len() > 1;
        let addressed = default.own.has("port") || default.own.has("bind_address");
        let is_local = !has_others && !addressed && self.options.version == Version::Two;
        if is_local {
            listeners.push(self.local_listener(default));
        } else if !has_others || self.is_started(default) {
            listeners.extend(self.listener(lines, 0, &listeners));
        } else {
            let because = "it is of the default listener, which mosquitto does not start beside others";
            for of in default.own.every() {
                self.draft.meaningless(of, because);
            }
            if self.per_listener {
                for of in default.security.every() {
                    self.draft.meaningless(of, because);
                }
            }
        }
        for n in 1..lines.listeners.len() {
            let found = self.listener(lines, n, &listeners);
            listeners.extend(found);
        }
        self.of_all(lines, &listeners, "max_qos", "mqtt.max_qos", 2);
        self.of_all(
            lines,
            &listeners,
            "max_topic_alias",
            "mqtt.topic_alias_maximum",
            10,
        );
        self.of_all(
            lines,
            &listeners,
            "max_topic_alias_broker",
            "mqtt.outbound_topic_alias_maximum",
            10,
        );
        if let Some(of) = lines.global.last(&mut self.draft, "set_tcp_nodelay")
            && !self.draft.has_fate(of)
        {
            self.draft.meaningless(of, "no listener is a TCP socket");
        }
        if let Some(of) = lines.global.last(&mut self.draft, "websockets_headers_size")
            && !self.draft.has_fate(of)
        {
            self.draft
                .meaningless(of, "no listener speaks WebSocket, or it is the default");
        }
        listeners
    }

    fn is_started(&self, default: &ListenerLines) -> bool {
        let own = OF_THE_DEFAULT.iter().any(|name| default.own.has(name));
        let access = ["password_file", "psk_file", "plugin"];
        own || self.per_listener && access.iter().any(|name| default.security.has(name))
    }

    /// mosquitto 2 without a listener.
    fn local_listener(&mut self, default: &ListenerLines) -> Listener {
        for of in default.own.every() {
            let because =
                "without a port mosquitto serves this machine alone, on its default listener as it is";
            self.draft.meaningless(of, because);
        }
        let mut table = Table::default();
        table.set("name", "tcp-1883");
        table.set("bind", "127.0.0.1:1883");
        self.draft.config.push("listeners", table);
        self.draft.remark(
            "the source has no listener, so mosquitto 2 serves this machine alone: listeners.tcp-1883.bind = \"127.0.0.1:1883\" (mosquitto 1.x: every interface; see --assume)",
        );
        Listener {
            name: "tcp-1883".to_owned(),
            n: 0,
            is_local: true,
            user_name: None,
            is_shut: false,
        }
    }

    fn listener(&mut self, lines: &Lines, n: usize, others: &[Listener]) -> Option<Listener> {
        let own = &lines.listeners[n].own;
        let begins = lines.listeners[n].begins;
        let place = match self
            .place(begins, own)
            .and_then(|place| self.tls_is_possible(own).map(|()| place))
        {
            Ok(place) => place,
            Err(left_out) => {
                self.leave_out(lines, n, left_out);
                return None;
            }
        };
        let is_ws = self.is_websocket(own);
        let has_tls = own.has("certfile") && place.kind != Kind::Unix;
        let kind = match (place.kind, is_ws, has_tls) {
            (Kind::Unix, ..) => "unix",
            (_, false, false) => "tcp",
            (_, false, true) => "tls",
            (_, true, false) => "ws",
            (_, true, true) => "wss",
        };
        let mut name = format!("{kind}-{}", place.port);
        let is_taken = |name: &str| others.iter().any(|other| other.name == name);
        if is_taken(&name) {
            name = (2..)
                .map(|n| format!("{name}-{n}"))
                .find(|name| !is_taken(name))
                .unwrap_or(name);
        }
        let mut listener = Listener {
            name: name.clone(),
            n,
            is_local: false,
            user_name: None,
            is_shut: false,
        };
        let place_in_config = format!("listeners.{name}");
        let mut table = Table::default();
        table.set("name", name.as_str());
        table.set("kind", kind);
        table.set("bind", place.bind.as_str());
        if place.ipv6_only {
            table.set("ipv6_only", true);
        }
        let said = format!("{place_in_config}: kind = \"{kind}\", bind = \"{}\"", place.bind);
        for of in begins.into_iter().chain(self.addresses(own)) {
            self.draft.taken(of, said.clone());
        }
        if begins.is_none() && !own.has("port") && !own.has("bind_address") {
            let remark =
                "mosquitto starts its default listener, for no other is told, or something is said of it";
            self.draft.remark(format!("{said}: {remark}"));
        }
        self.wrapping(own, &mut table, &place_in_config, is_ws);
        self.limits(lines, own, &mut table, &place_in_config, place.kind);
        if has_tls {
            self.tls(own, &mut table, &place_in_config);
        } else {
            self.without_tls(own);
        }
        self.certificate_names(own, &mut listener, has_tls);
        self.draft.config.push("listeners", table);
        Some(listener)
    }

    /// The directives of the default listener that say where it is.
    fn addresses(&mut self, own: &Section) -> Vec<Of> {
        let names = ["port", "bind_address"];
        let found = names.map(|name| own.last(&mut self.draft, name));
        found.into_iter().flatten().collect()
    }

    fn leave_out(&mut self, lines: &Lines, n: usize, LeftOut { of, because, todo }: LeftOut) {
        let listener = &lines.listeners[n];
        let place = self.draft.place(of);
        let because = format!("{because}, and the listener is left out");
        self.draft.not_taken(of, because, todo);
        let access = listener.security.every().filter(|_| self.per_listener);
        let all: Vec<Of> = listener
            .begins
            .into_iter()
            .chain(listener.own.every())
            .chain(access)
            .collect();
        for other in all.into_iter().filter(|other| *other != of) {
            self.draft
                .meaningless(other, format!("its listener is left out, see {place}"));
        }
    }

    fn place(&mut self, begins: Option<Of>, own: &Section) -> Result<Place, LeftOut> {
        let (of, port, host) = match begins {
            Some(of) => {
                let text = self.draft.text(of);
                let words = words(&text);
                let port = words.first().copied().unwrap_or_default().to_owned();
                (Some(of), port, words.get(1).map(|host| (*host).to_owned()))
            }
            None => {
                let (port, host) = (
                    own.last(&mut self.draft, "port"),
                    own.last(&mut self.draft, "bind_address"),
                );
                let text = port.map_or_else(|| "1883".to_owned(), |of| word(&self.draft, of));
                (port.or(host), text, host.map(|of| word(&self.draft, of)))
            }
        };
        if let Some(of) = own.last(&mut self.draft, "bind_interface") {
            return Err(LeftOut {
                of,
                because: "a listener is bound to an address, not to an interface".to_owned(),
                todo: "Write it with `bind` set to the interface's address.",
            });
        }
        let left_out = |because: String, todo| LeftOut {
            of: of.unwrap_or_default(),
            because,
            todo,
        };
        let Ok(number) = port.parse::<u16>() else {
            return Err(left_out(
                format!("`{port}` is no port"),
                "mosquitto does not start with it.",
            ));
        };
        if number == 0 {
            let path = host.unwrap_or_default();
            let file = Path::new(&path).file_stem().unwrap_or_default();
            let file = file.to_string_lossy().into_owned();
            if file.is_empty() {
                return Err(left_out(
                    "port 0 needs the path of a socket".to_owned(),
                    "mosquitto does not start with it.",
                ));
            }
            return Ok(Place {
                kind: Kind::Unix,
                bind: self.options.start_dir.join(path).display().to_string(),
                ipv6_only: false,
                port: file,
            });
        }
        let domain = own.last(&mut self.draft, "socket_domain");
        let domain_word = domain.map(|of| word(&self.draft, of)).unwrap_or_default();
        let (host, ipv6_only) = match host.as_deref() {
            Some("localhost") if domain_word == "ipv6" => ("::1".to_owned(), true),
            Some("localhost") => {
                if let Some(of) = of {
                    self.draft.but(of, "of localhost IPv4 alone");
                }
                ("127.0.0.1".to_owned(), false)
            }
            Some(host) => (host.to_owned(), false),
            None if domain_word == "ipv4" => ("0.0.0.0".to_owned(), false),
            None if domain_word == "ipv6" => ("::".to_owned(), true),
            None => ("::".to_owned(), false),
        };
        let Ok(address) = host.parse::<core::net::IpAddr>() else {
            let because = format!("`{host}` is no address, and names are not looked up");
            return Err(left_out(because, "Write the address instead, and import again."));
        };
        if let Some(of) = domain {
            match domain_word.as_str() {
                "ipv4" | "ipv6" => self.draft.taken(of, format!("bind = \"{address}\"")),
                _ => {
                    let because = format!("`{domain_word}` is neither ipv4 nor ipv6");
                    self.draft
                        .not_taken(of, because, "mosquitto does not start with it.");
                }
            }
        }
        Ok(Place {
            kind: Kind::Stream,
            bind: core::net::SocketAddr::new(address, number).to_string(),
            ipv6_only,
            port: number.to_string(),
        })
    }

    /// What would make a listener with keys a plain one, or one without a check a weaker one.
    fn tls_is_possible(&mut self, own: &Section) -> Result<(), LeftOut> {
        let mut last = |name: &str| own.last(&mut self.draft, name);
        let psk = last("psk_hint");
        let engine = last("tls_engine").or(last("tls_keyform"));
        let capath = last("capath");
        let [certificate, key, cafile, require] =
            ["certfile", "keyfile", "cafile", "require_certificate"].map(&mut last);
        if let Some(of) = psk {
            return Err(LeftOut {
                of,
                because: "there are no pre-shared keys for TLS".to_owned(),
                todo: "Give it a certificate: tls.certificate and tls.key.",
            });
        }
        if let Some(of) = engine
            && word(&self.draft, of) != "pem"
        {
            return Err(LeftOut {
                of,
                because: "there are no TLS engines, keys are files".to_owned(),
                todo: "Write it with a key file.",
            });
        }
        if let Some(of) = engine {
            self.draft.is_so(of);
        }
        if certificate.is_some() != key.is_some()
            || certificate.is_none() && (cafile.is_some() || capath.is_some())
        {
            let of = certificate.or(key).or(cafile).or(capath).unwrap_or_default();
            return Err(LeftOut {
                of,
                because: "TLS needs certfile and keyfile".to_owned(),
                todo: "mosquitto does not start with it.",
            });
        }
        let asks = require.is_some_and(|of| flag(&mut self.draft, of) == Some(true));
        if let Some(of) = capath {
            if asks && cafile.is_none() {
                return Err(LeftOut {
                    of,
                    because: "authorities are one file here, not a folder".to_owned(),
                    todo: "Write the certificates of the folder into one file, name it as tls.client_ca, and write the listener.",
                });
            }
            if asks {
                let because = "authorities are one file here, and that of cafile is taken";
                let todo = "Append the certificates of the folder to it, if they are needed.";
                self.draft.not_taken(of, because, todo);
            } else {
                self.draft
                    .meaningless(of, "clients are not asked for a certificate");
            }
        }
        Ok(())
    }

    fn is_websocket(&mut self, own: &Section) -> bool {
        let Some(of) = own.last(&mut self.draft, "protocol") else {
            return false;
        };
        match word(&self.draft, of).as_str() {
            "websockets" => {
                self.draft
                    .taken(of, "kind = \"ws\" or \"wss\", websocket.path = \"*\"".to_owned());
                true
            }
            "mqtt" => {
                self.draft.is_so(of);
                false
            }
            other => {
                let because = format!("`{other}` is not spoken by such a listener");
                self.draft
                    .not_taken(of, because, "MQTT-SN has sections of its own: [[mqttsn]].");
                false
            }
        }
    }

    fn wrapping(&mut self, own: &Section, table: &mut Table, place: &str, is_ws: bool) {
        if is_ws {
            table.set("websocket.path", "*");
        }
        let origins = own.all("websockets_origin");
        let mut allowed = Vec::new();
        for of in &origins {
            let text = self.draft.text(*of);
            allowed.extend(words(&text).into_iter().map(str::to_owned));
        }
        for of in origins {
            match is_ws {
                true => self
                    .draft
                    .set_in(of, table, place, "websocket.origins", allowed.clone()),
                false => self.draft.meaningless(of, "the listener speaks no WebSocket"),
            }
        }
        if let Some(of) = own.last(&mut self.draft, "enable_proxy_protocol") {
            match number(&mut self.draft, of, 1, 2) {
                Some(_) => {
                    self.draft.set_in(of, table, place, "proxy_protocol", true);
                    let all = vec!["0.0.0.0/0", "::/0"];
                    self.draft.set_in(of, table, place, "trusted_proxies", all);
                    let but = "versions 1 and 2 are read; name your proxies in trusted_proxies, for whoever is there is believed";
                    self.draft.but(of, but);
                }
                None => table.set("access", vec!["deny all"]),
            }
        }
        if let Some(of) = own.last(&mut self.draft, "mount_point") {
            let mount = without_comment(&self.draft, of);
            self.draft.set_in(of, table, place, "mount_point", mount);
        }
    }

    fn limits(&mut self, lines: &Lines, own: &Section, table: &mut Table, place: &str, kind: Kind) {
        if let Some(of) = own.last(&mut self.draft, "max_connections")
            && let Some(most) = number(&mut self.draft, of, -1, i64::from(u32::MAX))
        {
            if most < 0 {
                self.draft.is_so(of);
            } else {
                self.draft.set_in(of, table, place, "max_connections", most);
            }
        }
        if let Some(of) = lines.global.last(&mut self.draft, "set_tcp_nodelay")
            && kind == Kind::Stream
            && let Some(on) = flag(&mut self.draft, of)
        {
            self.draft.set_in(of, table, place, "tcp_nodelay", on);
        }
        let size = lines.global.last(&mut self.draft, "websockets_headers_size");
        if let Some(of) = size.filter(|_| table.get("websocket").is_some())
            && let Some(size) = number(&mut self.draft, of, 0, i64::from(u16::MAX))
            && size > 0
        {
            let size = size.max(256);
            self.draft
                .set_in(of, table, place, "websocket.max_header_bytes", size);
        }
        if let Some(of) = own.last(&mut self.draft, "use_username_as_clientid") {
            match flag(&mut self.draft, of) {
                Some(true) => {
                    let because = "a client keeps its own client id; sessions belong to users, so nobody takes another's";
                    let todo = "With certificates: certificate.client_id = \"user_name\" in auth.listeners.";
                    self.draft.not_taken(of, because, todo);
                }
                Some(false) => self.draft.is_so(of),
                None => {}
            }
        }
    }

    fn certificate_names(&mut self, own: &Section, listener: &mut Listener, has_tls: bool) {
        let names = [
            ("use_subject_as_username", "subject"),
            ("use_identity_as_username", "common_name"),
        ];
        for (directive, name) in names {
            let Some(of) = own.last(&mut self.draft, directive) else {
                continue;
            };
            match flag(&mut self.draft, of) {
                Some(true) if has_tls => {
                    if let Some((before, _)) = listener.user_name {
                        let by = self.draft.place(of);
                        self.draft.meaningless(before, format!("{by} comes before it"));
                    }
                    listener.user_name = Some((of, name));
                }
                Some(true) => self.draft.meaningless(of, "the listener has no TLS"),
                Some(false) => self.draft.is_so(of),
                // It may have been meant.
                None => listener.is_shut = true,
            }
        }
    }

    /// What is a listener's there and is for all here: taken if all agree.
    fn of_all(&mut self, lines: &Lines, listeners: &[Listener], name: &str, setting: &str, default: i64) {
        let mut said = Vec::new();
        let mut values = Vec::new();
        for listener in listeners.iter().filter(|listener| !listener.is_local) {
            let of = lines.listeners[listener.n].own.last(&mut self.draft, name);
            let value = of.and_then(|of| number(&mut self.draft, of, 0, 65_535));
            said.extend(of.filter(|_| value.is_some()));
            values.push(value.unwrap_or(default));
        }
        let all_agree = values.windows(2).all(|pair| pair[0] == pair[1]);
        for of in said {
            if all_agree {
                self.draft.set(of, setting, values[0]);
            } else {
                let because =
                    format!("{setting} is for all listeners, and the source says different things of them");
                self.draft.not_taken(
                    of,
                    because,
                    format!("Set {setting}, if one limit is good for all."),
                );
            }
        }
    }
}
