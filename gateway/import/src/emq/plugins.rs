//! What plugins that are loaded say, those that are not, and those that are unknown here.

use super::Source;
use super::conf::Plugins;
use super::values::{address, bytes, flag, number};
use crate::draft::{Of, users};
use crate::value::{Table, Value};
use headgate_auth::ForeignUser;

/// Plugins that are spoken here.
const SPOKEN: [&str; 13] = [
    "emq_auth_username",
    "emq_auth_clientid",
    "emq_retainer",
    "emq_mod_retainer",
    "emq_modules",
    "emq_mod_presence",
    "emq_mod_subscription",
    "emq_mod_rewrite",
    "emq_sn",
    "emq_stomp",
    "emq_coap",
    "emq_lwm2m",
    "emq_delayed_publish",
];

/// Plugins that let nobody in and keep nobody out, and what becomes of them.
const HARMLESS: [(&str, &str, &str); 7] = [
    ("emq_recon", "", ""),
    ("emq_reloader", "", ""),
    (
        "emq_dashboard",
        "there is no dashboard",
        "`headgate` shows clients, bridges and bans, and $SYS has the counters.",
    ),
    (
        "emq_web_hook",
        "there are no hooks over HTTP",
        "Subscribe to $SYS/brokers/+/clients/# and to the topics.",
    ),
    (
        "emq_lua_hook",
        "there are no hooks in Lua",
        "bus.rewrite changes topics.",
    ),
    (
        "emq_kafka_bridge",
        "there is no link to Kafka",
        "Bridge to a broker that has one.",
    ),
    (
        "emq_statsd",
        "nothing is sent to statsd",
        "$SYS has the counters.",
    ),
];

impl Plugins {
    /// Whether users have passwords.
    pub(super) fn checks_passwords(&self) -> bool {
        let loaded = self.loaded.iter().flat_map(|loaded| loaded.keys());
        loaded.into_iter().any(|name| name.starts_with("emq_auth_"))
    }

    /// A file of a plugin that lets clients in, where nobody knows whether it is loaded.
    fn doubtful(&self) -> Option<&str> {
        let mut names = self.files.keys().map(String::as_str);
        let decides = |name: &&str| name.starts_with("emq_auth_");
        names.find(decides).filter(|_| self.loaded.is_none())
    }
}

impl Source<'_> {
    pub(super) fn loaded_plugins(&mut self) {
        let list = self.plugins.list.display().to_string();
        if let Some(name) = self.plugins.doubtful() {
            let remark = format!(
                "{list} is not there, so nobody knows whether {name} and others are loaded: nobody comes in (auth.chain = []). Import again with --loaded-plugins"
            );
            self.draft.remark(remark);
            self.is_shut = true;
        } else if self.plugins.loaded.is_none() {
            self.draft.remark(format!(
                "{list} is not there: taken as if no plugin were loaded but those of every EMQ"
            ));
        }
        let loaded: Vec<(String, Of)> = self
            .plugins
            .loaded
            .clone()
            .unwrap_or_default()
            .into_iter()
            .collect();
        for (name, of) in &loaded {
            self.judge(name, *of);
        }
        let files: Vec<String> = self.plugins.files.keys().cloned().collect();
        for name in files {
            self.file_of(&name, &list);
        }
        self.retainer();
        self.modules();
        self.users();
        self.client_ids();
        self.sn();
        self.stomp();
        self.coap();
        self.lwm2m();
    }

    fn judge(&mut self, name: &str, of: Of) {
        if SPOKEN.contains(&name) {
            return self.draft.is_so(of);
        }
        match HARMLESS.iter().find(|(known, ..)| *known == name) {
            Some((_, "", _)) => self.draft.meaningless(of, "it is a tool of Erlang's"),
            Some((_, because, todo)) => self.draft.not_taken(of, *because, *todo),
            None => {
                let because = if name.starts_with("emq_auth_") {
                    "there is no such source of users yet, so nobody comes in (auth.chain = [])"
                } else {
                    "it is not known, and may decide who comes in, so nobody does (auth.chain = [])"
                };
                let todo = "Add users (`headgate users add` or `import --format csv`) and rules in auth.acl, then take `chain = []` and `anonymous` out.";
                self.draft.not_taken(of, because, todo);
                self.is_shut = true;
            }
        }
    }

    /// Whether what its file says counts: it is loaded, or nobody knows and every EMQ loads it.
    pub(super) fn counts(&self, name: &str) -> bool {
        let by_default = ["emq_modules", "emq_retainer"].contains(&name);
        match &self.plugins.loaded {
            Some(loaded) => loaded.contains_key(name),
            None => by_default,
        }
    }

    /// What needs no look at the values.
    fn file_of(&mut self, name: &str, list: &str) {
        let conf = std::mem::take(self.plugins.files.entry(name.to_owned()).or_default());
        let is_spoken = SPOKEN.contains(&name);
        for (key, of) in conf.every() {
            if !self.counts(name) {
                self.draft
                    .meaningless(of, format!("{name} is not loaded ({list})"));
            } else if !is_spoken {
                self.draft.not_taken(
                    of,
                    format!("{name} is not spoken here"),
                    format!("See {name} in {list}."),
                );
            } else {
                match super::keys::known(&key) {
                    Some(super::keys::Known::Nothing(because)) => self.draft.meaningless(of, because),
                    Some(super::keys::Known::Missing(because, todo)) => {
                        self.draft.not_taken(of, because, todo);
                    }
                    Some(super::keys::Known::Read) | None => {}
                }
            }
        }
        if is_spoken && self.counts(name) {
            self.plugins.files.insert(name.to_owned(), conf);
        }
    }

    /// A key in the file of a plugin that counts.
    pub(super) fn said(&mut self, plugin: &str, key: &str) -> Option<(Of, String)> {
        let all = self.plugins.files.get(plugin)?.all(key);
        let of = self.draft.last(&all)?;
        Some((of, self.draft.text(of)))
    }

    fn below(&self, plugin: &str, prefix: &str) -> Vec<String> {
        let mut found = self
            .plugins
            .files
            .get(plugin)
            .map(|conf| conf.below(prefix))
            .unwrap_or_default();
        found.sort_by_key(|rest| {
            rest.split('.')
                .next()
                .and_then(|n| n.parse::<u32>().ok())
                .unwrap_or(u32::MAX)
        });
        found
    }

    fn retainer(&mut self) {
        let names = ["emq_retainer", "emq_mod_retainer"];
        if !names.iter().any(|name| self.counts(name)) {
            self.draft.config.set("bus.retained.available", false);
            let remark = "bus.retained.available = false: emq_retainer is not loaded, and nothing is retained without it";
            return self.draft.remark(remark);
        }
        for plugin in names {
            if let Some((of, _)) = self.said(plugin, "retainer.max_message_num")
                && let Some(most) = number(&mut self.draft, of, i64::MAX)
            {
                self.draft.set(of, "bus.retained.max_count", most);
            }
            if let Some((of, _)) = self.said(plugin, "retainer.max_payload_size")
                && let Some(size) = bytes(&mut self.draft, of)
            {
                self.draft.set(of, "bus.retained.max_payload_bytes", size);
            }
            if let Some((of, text)) = self.said(plugin, "retainer.expiry_interval") {
                let bare = text.parse::<u64>();
                match bare {
                    Ok(0) => self.draft.set(of, "bus.retained.expiry", "0s"),
                    Ok(_) => {
                        let because = "a number without a unit has been of different units";
                        self.draft.not_taken(of, because, "Set bus.retained.expiry.");
                    }
                    Err(_) => {
                        if let Some(time) = super::values::time(&mut self.draft, of) {
                            self.draft.set(of, "bus.retained.expiry", time);
                        }
                    }
                }
            }
        }
    }

    /// Presence, subscriptions on behalf, rewriting.
    fn modules(&mut self) {
        let parts = |old| {
            if self.counts("emq_modules") {
                "emq_modules"
            } else {
                old
            }
        };
        let [presence, subscription, rewrite] =
            ["emq_mod_presence", "emq_mod_subscription", "emq_mod_rewrite"].map(parts);
        let mut is_on = self.counts(presence);
        if let Some((of, _)) = self.said(presence, "module.presence") {
            is_on = flag(&mut self.draft, of).unwrap_or(true);
            self.draft.is_so(of);
        }
        self.draft.config.set("sys.presence", is_on);
        if let Some((of, _)) = self.said(presence, "module.presence.qos")
            && let Some(qos) = number(&mut self.draft, of, 2)
        {
            self.draft.set(of, "sys.presence_qos", qos);
        }
        self.subscriptions(subscription);
        self.rewriting(rewrite);
    }

    /// Whether a module is on; without a word the old ones are.
    fn module(&mut self, plugin: &str, key: &str) -> bool {
        match self.said(plugin, key) {
            Some((of, _)) => {
                self.draft.is_so(of);
                flag(&mut self.draft, of) == Some(true)
            }
            None => plugin != "emq_modules",
        }
    }

    fn subscriptions(&mut self, plugin: &str) {
        let is_on = self.module(plugin, "module.subscription");
        for rest in self.below(plugin, "module.subscription.") {
            let Some(n) = rest.strip_suffix(".topic") else {
                continue;
            };
            let Some((of, topic)) = self.said(plugin, &format!("module.subscription.{rest}")) else {
                continue;
            };
            let qos = self.said(plugin, &format!("module.subscription.{n}.qos"));
            let directives = [Some(of), qos.as_ref().map(|(of, _)| *of)];
            if !is_on {
                for of in directives.into_iter().flatten() {
                    self.draft.meaningless(of, "module.subscription is off");
                }
                continue;
            }
            let mut entry = Table::default();
            entry.set("topic", topic.as_str());
            if let Some((of, _)) = qos
                && let Some(qos) = number(&mut self.draft, of, 2)
            {
                entry.set("qos", qos);
            }
            let told = format!("bus.auto_subscribe += {}", Value::from(entry.clone()));
            for of in directives.into_iter().flatten() {
                self.draft.taken(of, told.clone());
            }
            self.draft.config.push("bus.auto_subscribe", entry);
        }
        for rest in self.below(plugin, "module.subscription.") {
            if let Some((of, _)) = self.said(plugin, &format!("module.subscription.{rest}"))
                && !self.draft.has_fate(of)
            {
                self.draft.meaningless(of, "there is no topic of this number");
            }
        }
    }

    /// `module.rewrite.rule.1 = x/# ^x/y/(.+)$ z/y/$1`
    fn rewriting(&mut self, plugin: &str) {
        let is_on = self.module(plugin, "module.rewrite");
        for n in self.below(plugin, "module.rewrite.rule.") {
            let Some((of, text)) = self.said(plugin, &format!("module.rewrite.rule.{n}")) else {
                continue;
            };
            let words: Vec<&str> = text.split_whitespace().collect();
            match words[..] {
                _ if !is_on => self.draft.meaningless(of, "module.rewrite is off"),
                [source, pattern, target] => {
                    let mut rule = Table::default();
                    rule.set("source", source);
                    rule.set("pattern", pattern);
                    rule.set("target", target);
                    self.draft
                        .taken(of, format!("bus.rewrite += {}", Value::from(rule.clone())));
                    self.draft.config.push("bus.rewrite", rule);
                }
                _ => {
                    let because = "three words are wanted: filter, regular expression, topic (`#` ends a value, for EMQ too)";
                    self.draft.not_taken(of, because, "Write bus.rewrite.");
                }
            }
        }
    }

    fn users(&mut self) {
        const PLUGIN: &str = "emq_auth_username";
        for rest in self.below(PLUGIN, "auth.user.") {
            let Some(n) = rest.strip_suffix(".username") else {
                continue;
            };
            let Some((of, name)) = self.said(PLUGIN, &format!("auth.user.{rest}")) else {
                continue;
            };
            let Some((secret_of, secret)) = self.said(PLUGIN, &format!("auth.user.{n}.password")) else {
                self.draft
                    .not_taken(of, "it has no password", "Give it one: `headgate users add`.");
                continue;
            };
            let row = (0, ForeignUser::with_password(&name, &secret));
            let (_, faults) = self.draft.take_users(vec![row]);
            for of in [of, secret_of] {
                match faults.first() {
                    None => self.draft.taken(
                        of,
                        format!(
                            "{} in {}",
                            users(1),
                            self.target.data_dir.join("users.json").display()
                        ),
                    ),
                    Some(fault) => {
                        let fault = fault.trim_start_matches("line 0: ").to_owned();
                        self.draft
                            .not_taken(of, fault, "Give it another one: `headgate users add`.");
                    }
                }
            }
        }
        self.alone(PLUGIN, "auth.user.");
        if let Some(of) = self.plugins.is_loaded(PLUGIN) {
            let but = "users that were added while EMQ ran are in its own store: take them over with `headgate users import --format csv`";
            self.draft.but(of, but);
        }
    }

    fn client_ids(&mut self) {
        const PLUGIN: &str = "emq_auth_clientid";
        for rest in self.below(PLUGIN, "auth.client.") {
            let Some(n) = rest.strip_suffix(".clientid") else {
                continue;
            };
            let Some((of, id)) = self.said(PLUGIN, &format!("auth.client.{rest}")) else {
                continue;
            };
            let Some((secret_of, secret)) = self.said(PLUGIN, &format!("auth.client.{n}.password")) else {
                self.draft
                    .not_taken(of, "it has no password", "Write it into auth.client_ids.");
                continue;
            };
            if secret.is_empty() {
                // Without one whoever calls itself so would come in.
                self.draft
                    .not_taken(of, "its password is empty", "Write it into auth.client_ids.");
                self.draft
                    .not_taken(secret_of, "it is empty", "Write it into auth.client_ids.");
                continue;
            }
            let mut entry = Table::default();
            self.draft.set_in(of, &mut entry, "auth.client_ids", "id", id);
            self.draft
                .hide_in(secret_of, &mut entry, "auth.client_ids", "password", &secret);
            self.draft.config.push("auth.client_ids", entry);
        }
        self.alone(PLUGIN, "auth.client.");
    }

    /// Passwords of nobody.
    fn alone(&mut self, plugin: &str, prefix: &str) {
        for rest in self.below(plugin, prefix) {
            if let Some((of, _)) = self.said(plugin, &format!("{prefix}{rest}"))
                && !self.draft.has_fate(of)
            {
                self.draft.meaningless(of, "there is no name of this number");
            }
        }
    }

    fn sn(&mut self) {
        const PLUGIN: &str = "emq_sn";
        if !self.counts(PLUGIN) {
            return;
        }
        let (mut table, place) = (Table::default(), "mqttsn.udp-sn");
        table.set("name", "udp-sn");
        match self.said(PLUGIN, "mqtt.sn.port") {
            Some((of, text)) => match address(&text) {
                Some(bind) => self.draft.set_in(of, &mut table, place, "bind", bind.to_string()),
                None => {
                    let because = "it is no address with a port, nor a port, and the gateway is left out";
                    return self.draft.not_taken(of, because, "Write [[mqttsn]].");
                }
            },
            None => table.set("bind", "0.0.0.0:1884"),
        }
        if let Some((of, _)) = self.said(PLUGIN, "mqtt.sn.advertise_duration")
            && let Some(seconds) = number(&mut self.draft, of, 86_400)
        {
            self.draft
                .set_in(of, &mut table, place, "advertise_to", "255.255.255.255:1884");
            let interval = "gateway.advertise_interval";
            self.draft
                .set_in(of, &mut table, place, interval, format!("{seconds}s"));
        }
        if let Some((of, _)) = self.said(PLUGIN, "mqtt.sn.gateway_id")
            && let Some(id) = number(&mut self.draft, of, 255)
        {
            self.draft.set_in(of, &mut table, place, "gateway.gateway_id", id);
        }
        self.sn_topics(&mut table, place);
        self.sn_login(&mut table, place);
        self.draft.config.push("mqttsn", table);
    }

    fn sn_topics(&mut self, table: &mut Table, place: &str) {
        for id in self.below("emq_sn", "mqtt.sn.predefined.topic.") {
            let Some((of, topic)) = self.said("emq_sn", &format!("mqtt.sn.predefined.topic.{id}")) else {
                continue;
            };
            match id.parse::<i64>() {
                Ok(0) => self.draft.meaningless(of, "the id 0 is reserved"),
                Ok(number @ 1..=65_534) => {
                    let mut entry = Table::default();
                    entry.set("id", number);
                    entry.set("topic", topic.as_str());
                    self.draft.taken(
                        of,
                        format!("{place}.gateway.predefined += {}", Value::from(entry.clone())),
                    );
                    table.push("gateway.predefined", entry);
                }
                _ => {
                    let because = "a topic id is a number from 1 to 65534";
                    self.draft.not_taken(of, because, "Write gateway.predefined.");
                }
            }
        }
    }

    fn sn_login(&mut self, table: &mut Table, place: &str) {
        const PLUGIN: &str = "emq_sn";
        let publishes = self.said(PLUGIN, "mqtt.sn.enable_qos3");
        let publishes = publishes.and_then(|(of, _)| Some((of, flag(&mut self.draft, of)?)));
        if let Some((of, on)) = publishes {
            self.draft
                .set_in(of, table, place, "gateway.qos_minus_one.enabled", on);
        }
        let is_on = publishes.is_some_and(|(_, on)| on);
        if let Some((of, name)) = self.said(PLUGIN, "mqtt.sn.username") {
            self.draft
                .set_in(of, table, place, "gateway.default_username", name.as_str());
            if is_on {
                self.draft
                    .set_in(of, table, place, "gateway.qos_minus_one.username", name);
            }
        } else if let Some((of, true)) = publishes
            && (self.is_shut || !self.lets_in_anonymous())
        {
            table.set("gateway.qos_minus_one.enabled", false);
            let because = "it needs a user name where anonymous clients are not let in";
            self.draft.not_taken(
                of,
                because,
                "Write gateway.qos_minus_one with enabled, username and password.",
            );
        }
        if let Some((of, secret)) = self.said(PLUGIN, "mqtt.sn.password") {
            self.draft
                .hide_in(of, table, place, "gateway.default_password", &secret);
            if is_on {
                self.draft
                    .hide_in(of, table, place, "gateway.qos_minus_one.password", &secret);
            }
        }
    }
}
