//! Who may come in, and what they may do: for all, or with `per_listener_settings` for each listener.

use super::listeners::Listener;
use super::read::{Lines, Section};
use super::values::{flag, word, words};
use super::{Source, Version};
use crate::draft::{Of, users};
use crate::value::{Table, Value};
use headgate_auth::{UsersFormat, read_users};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Plugins of mosquitto's own that let nobody in and keep nobody out.
const HARMLESS: [&str; 2] = ["mosquitto_persist_sqlite", "mosquitto_sparkplug_aware"];

/// Names that a password file is good for.
type Names = BTreeMap<PathBuf, Vec<String>>;

impl Source<'_> {
    pub(super) fn access(&mut self, lines: &Lines, listeners: &[Listener]) {
        self.draft.config.set("auth.grant_subscriptions", true);
        self.draft.remark(
            "auth.grant_subscriptions = true: every subscription is granted, and what may not be read is not delivered, as mosquitto does it",
        );
        let all_shut = self.shut_for_all(lines);
        let mut names = Names::new();
        if self.per_listener {
            self.each_listener(lines, listeners, all_shut, &mut names);
        } else {
            self.together(lines, listeners, all_shut, &mut names);
        }
        for of in &lines.plugin_options {
            self.draft
                .not_taken(*of, "it is an option of a plugin", "See the plugin's line.");
        }
    }

    /// What decides for every listener, and cannot be taken over.
    fn shut_for_all(&mut self, lines: &Lines) -> bool {
        let mut shut = false;
        for of in lines.global.all("plugin_load") {
            let because = "plugins of mosquitto are not loaded";
            self.draft
                .not_taken(of, because, "See where it is used (plugin_use).");
        }
        for of in lines.global.all("global_plugin") {
            shut |= self.plugin(of);
        }
        if let Some(of) = lines.global.last(&mut self.draft, "clientid_prefixes") {
            let because = "client ids are not looked at by their beginnings, so all listeners stay shut";
            let todo = "Where users and rules are enough, import again without the line.";
            self.draft.not_taken(of, because, todo);
            shut = true;
        }
        shut
    }

    /// Whether it decides who may come in. Then nobody comes in.
    fn plugin(&mut self, of: Of) -> bool {
        let text = self.draft.text(of);
        let words = words(&text);
        let name = words.first().map(Path::new).and_then(Path::file_stem);
        let name = name.unwrap_or_default().to_string_lossy();
        let decides = !HARMLESS.contains(&&*name);
        let because = if name.contains("dynamic_security") {
            "users, groups and roles of dynamic security are not read, so its listeners stay shut"
        } else if decides {
            "plugins of mosquitto are not loaded; it may decide who comes in, so its listeners stay shut"
        } else {
            "plugins of mosquitto are not loaded"
        };
        let todo = if decides {
            "Add users (`headgate users add`) and rules (auth.acl), then take `chain = []` and `anonymous` out."
        } else {
            "Nothing need be done: it lets nobody in."
        };
        self.draft.not_taken(of, because, todo);
        decides
    }

    fn together(&mut self, lines: &Lines, listeners: &[Listener], all_shut: bool, names: &mut Names) {
        let security = lines.all_security();
        let is_local = listeners.iter().any(|listener| listener.is_local);
        let mut auth = match self.draft.config.get("auth") {
            Some(Value::Table(auth)) => auth.clone(),
            _ => Table::default(),
        };
        let is_shut = self
            .door(&security, &mut auth, "auth", is_local, all_shut, names)
            .1;
        for listener in listeners.iter().filter(|_| !is_shut) {
            let mut table = Table::default();
            self.special(listener, &mut table);
            if !table.is_empty() {
                let mut named = Table::default();
                named.set("name", listener.name.as_str());
                named.extend(table);
                auth.push("listeners", named);
            }
        }
        for listener in listeners.iter().filter(|_| is_shut) {
            self.nobody_is_named(listener);
        }
        self.draft.config.set("auth", auth);
    }

    fn each_listener(&mut self, lines: &Lines, listeners: &[Listener], all_shut: bool, names: &mut Names) {
        let mut doors = Vec::new();
        for listener in listeners {
            let mut table = Table::default();
            table.set("name", listener.name.as_str());
            let place = format!("auth.listeners.{}", listener.name);
            let security = &lines.listeners[listener.n].security;
            let (file, is_shut) = self.door(security, &mut table, &place, listener.is_local, all_shut, names);
            match is_shut {
                true => self.nobody_is_named(listener),
                false => self.special(listener, &mut table),
            }
            doors.push((table, file));
        }
        let files = doors.iter().map(|(_, file)| file);
        let differ = files.clone().any(|file| Some(file) != files.clone().next());
        for (mut table, file) in doors {
            if differ {
                let known = file
                    .and_then(|file| names.get(&file).cloned())
                    .unwrap_or_default();
                table.set("users", known);
            }
            self.draft.config.push("auth.listeners", table);
        }
    }

    /// A listener of which the source knows nothing: what it says of others says nothing of this one.
    pub(super) fn shut_to_clients(&mut self, name: &str) {
        let mut table = Table::default();
        table.set("name", name);
        shut(&mut table);
        self.draft.config.push("auth.listeners", table);
    }

    /// Certificates name nobody where nobody comes in.
    fn nobody_is_named(&mut self, listener: &Listener) {
        if let Some((of, _)) = listener.user_name {
            self.draft.meaningless(of, "nobody comes in");
        }
    }

    /// What a listener's certificates mean for who comes in.
    fn special(&mut self, listener: &Listener, table: &mut Table) {
        let place = format!("auth.listeners.{}", listener.name);
        if listener.is_shut {
            shut(table);
            self.nobody_is_named(listener);
        } else if let Some((of, name)) = listener.user_name {
            self.draft
                .set_in(of, table, &place, "certificate.user_name", name);
            self.draft.set_in(of, table, &place, "chain", vec!["certificate"]);
            self.draft.set_in(of, table, &place, "anonymous", "nowhere");
            let but = "a client that says another user name than its certificate is refused; mosquitto overlooks it";
            self.draft.but(of, but);
        }
    }

    /// Who comes in by one door and what they may do. The file of passwords that holds there, and whether nobody comes in.
    fn door(
        &mut self,
        security: &Section,
        table: &mut Table,
        place: &str,
        is_local: bool,
        all_shut: bool,
        names: &mut Names,
    ) -> (Option<PathBuf>, bool) {
        let mut is_shut = all_shut;
        for of in security
            .all("plugin")
            .into_iter()
            .chain(security.all("plugin_use"))
        {
            is_shut |= self.plugin(of);
        }
        let password_file = security.last(&mut self.draft, "password_file");
        let acl_file = security.last(&mut self.draft, "acl_file");
        let anonymous = security.last(&mut self.draft, "allow_anonymous");
        if let Some(of) = security.last(&mut self.draft, "allow_zero_length_clientid") {
            match flag(&mut self.draft, of) {
                Some(true) => self.draft.is_so(of),
                Some(false) => {
                    let because = "a client without a client id is given one";
                    self.draft.not_taken(
                        of,
                        because,
                        "Nothing need be done: such a session ends with its connection.",
                    );
                }
                None => {}
            }
        }
        let file = password_file.and_then(|of| self.passwords(of, names));
        if is_shut {
            shut(table);
            if let Some(of) = anonymous {
                self.draft.meaningless(of, "nobody comes in, see the plugin");
            }
        } else {
            let has_others = password_file.is_some() || security.has("psk_file") || security.has("plugin");
            self.anonymous(anonymous, table, place, is_local, has_others);
            self.unchecked_names(anonymous, password_file, acl_file, table);
        }
        self.rules(acl_file, table, place, is_shut);
        (file, is_shut)
    }

    fn anonymous(
        &mut self,
        of: Option<Of>,
        table: &mut Table,
        place: &str,
        is_local: bool,
        has_others: bool,
    ) {
        if is_local {
            if let Some(of) = of {
                self.draft.meaningless(
                    of,
                    "without a listener mosquitto lets in everybody on this machine",
                );
            }
            return table.set("anonymous", "loopback");
        }
        let of_version_one = self.options.version == Version::One && !has_others;
        match of.map(|of| (of, flag(&mut self.draft, of))) {
            Some((of, Some(true))) => self.draft.set_in(of, table, place, "anonymous", "everywhere"),
            Some((of, Some(false))) => self.draft.set_in(of, table, place, "anonymous", "nowhere"),
            // Not readable.
            Some((_, None)) => table.set("anonymous", "nowhere"),
            None if of_version_one => {
                table.set("anonymous", "everywhere");
                let remark = "nothing is said of clients without a user name, and mosquitto 1.x lets them in";
                self.draft
                    .remark(format!("{place}.anonymous = \"everywhere\": {remark}"));
            }
            None => {
                table.set("anonymous", "nowhere");
                let remark = "nothing is said of clients without a user name, and mosquitto 2 lets none in";
                let one = if self.options.version == Version::Two {
                    " (1.x does, unless there is a file of passwords; see --assume)"
                } else {
                    ""
                };
                self.draft
                    .remark(format!("{place}.anonymous = \"nowhere\": {remark}{one}"));
            }
        }
    }

    /// mosquitto refuses a name that its file does not have. Names that nobody checks are nobody's here.
    fn unchecked_names(
        &mut self,
        anonymous: Option<Of>,
        password_file: Option<Of>,
        acl_file: Option<Of>,
        table: &mut Table,
    ) {
        let Some(of) = anonymous.filter(|of| ["true", "1"].contains(&word(&self.draft, *of).as_str())) else {
            return;
        };
        if password_file.is_some() {
            table.set("unknown_users", "refuse");
        } else if acl_file.is_some() {
            let but = "there is no password_file, so nobody has a user name: rules for users and %u fit nobody; mosquitto believes any name";
            self.draft.but(of, but);
        }
    }

    fn rules(&mut self, of: Option<Of>, table: &mut Table, place: &str, is_shut: bool) {
        match of {
            Some(of) => {
                let named = self.path(of);
                let mut file = Table::default();
                file.set("path", named.text());
                file.set("format", "mosquitto");
                self.draft.set_in(of, table, place, "acl_file", file);
                if let Some(but) = named.but {
                    self.draft.but(of, but);
                }
                let bytes = if named.is_there {
                    self.files.read(&named.path).ok()
                } else {
                    None
                };
                let is_empty = |bytes: &Vec<u8>| bytes.iter().all(u8::is_ascii_whitespace);
                if bytes.as_ref().is_some_and(is_empty) {
                    self.draft.but(of, "it is empty, so nothing is allowed");
                }
            }
            None => {
                let (effect, why) = if is_shut {
                    (
                        "deny",
                        "nothing is allowed until there are rules in its place, for what decided who comes in may have decided that, too",
                    )
                } else {
                    (
                        "allow",
                        "without an acl_file everything is allowed to who comes in",
                    )
                };
                let mut rule = Table::default();
                rule.set("effect", effect);
                self.draft
                    .remark(format!("{place}.acl = [{}]: {why}", Value::from(rule.clone())));
                table.push("acl", rule);
            }
        }
    }

    /// Takes the users of a file over. It is read once.
    fn passwords(&mut self, of: Of, names: &mut Names) -> Option<PathBuf> {
        let named = self.path(of);
        let told = |names: &[String], target: &crate::Target| {
            format!(
                "{} in {}",
                users(names.len()),
                target.data_dir.join("users.json").display()
            )
        };
        if let Some(known) = names.get(&named.path) {
            let told = told(known, self.target);
            self.draft.taken(of, told);
            return Some(named.path);
        }
        let bytes = match self.files.read(&named.path) {
            Ok(bytes) => bytes,
            Err(error) => {
                let because = format!("{}: {error}, and nobody in it comes in", named.text());
                let todo = "`headgate users import --format mosquitto` takes it over later.";
                self.draft.not_taken(of, because, todo);
                return Some(named.path);
            }
        };
        let (found, faults) = self.draft.take_users(read_users(&bytes, UsersFormat::Mosquitto));
        let told = told(&found, self.target);
        if faults.is_empty() {
            self.draft.taken(of, told);
            if let Some(but) = named.but {
                self.draft.but(of, but);
            }
        } else {
            let because = format!("{told}, but not all: {}", faults.join("; "));
            self.draft
                .not_taken(of, because, "Give these users a password: `headgate users add`.");
        }
        names.insert(named.path.clone(), found);
        Some(named.path)
    }
}

/// Nobody comes in.
fn shut(table: &mut Table) {
    table.set("anonymous", "nowhere");
    table.set("chain", Value::List(Vec::new()));
}
