//! emq_stomp and emq_coap, which serve protocols of their own. emq_stomp.schema and emq_coap.schema of EMQ 2.3

use super::Source;
use super::values::{address, flag, number};
use crate::value::Table;
use headgate_auth::ForeignUser;

const STOMP: &str = "emq_stomp";
const COAP: &str = "emq_coap";
const LISTENER: &str = "stomp";
const PLACE: &str = "listeners.stomp";

impl Source<'_> {
    pub(super) fn stomp(&mut self) {
        if !self.counts(STOMP) {
            return;
        }
        let mut table = Table::default();
        table.set("name", LISTENER);
        table.set("protocol", "stomp");
        match self.said(STOMP, "stomp.listener") {
            Some((of, text)) => match address(&text) {
                Some(bind) => self.draft.set_in(of, &mut table, PLACE, "bind", bind.to_string()),
                None => {
                    let because = "it is no address with a port, nor a port, and the listener is left out";
                    self.draft
                        .not_taken(of, because, "Write [[listeners]] with protocol = \"stomp\".");
                    return self.rest_is_meaningless();
                }
            },
            None => table.set("bind", "0.0.0.0:61613"),
        }
        if let Some((of, _)) = self.said(STOMP, "stomp.listener.max_clients")
            && let Some(most) = number(&mut self.draft, of, i64::from(u32::MAX))
        {
            self.draft.set_in(of, &mut table, PLACE, "max_connections", most);
        }
        if !self.stomp_tls(&mut table) {
            return self.rest_is_meaningless();
        }
        self.draft.config.push("listeners", table);
        self.stomp_frames();
        self.stomp_users();
    }

    /// The listener is left out, and with it all that is said of it.
    fn rest_is_meaningless(&mut self) {
        let all = self.plugins.files.get(STOMP).map(|conf| conf.every());
        for (_, of) in all.into_iter().flatten() {
            if !self.draft.has_fate(of) {
                self.draft.meaningless(of, "its listener is left out");
            }
        }
    }

    /// False: there is no listener without it.
    fn stomp_tls(&mut self, table: &mut Table) -> bool {
        let key = |part: &str| format!("stomp.listener.{part}");
        let ssl = self.said(STOMP, "stomp.listener.ssl");
        let is_on = ssl.and_then(|(of, _)| Some((of, flag(&mut self.draft, of)?)));
        let Some((of, true)) = is_on else {
            if let Some((of, false)) = is_on {
                self.draft.is_so(of);
            }
            for part in [
                "certfile",
                "keyfile",
                "cacertfile",
                "verify",
                "fail_if_no_peer_cert",
            ] {
                if let Some((of, _)) = self.said(STOMP, &key(part)) {
                    self.draft.meaningless(of, "the listener has no TLS");
                }
            }
            return true;
        };
        let files = ["certfile", "keyfile"].map(|part| self.said(STOMP, &key(part)));
        let [Some((certificate, _)), Some((secret, _))] = files else {
            let because = "TLS needs certfile and keyfile, and the listener is left out";
            self.draft
                .not_taken(of, because, "Write tls.certificate and tls.key.");
            return false;
        };
        self.draft.set_in(of, table, PLACE, "kind", "tls");
        self.set_path(certificate, table, PLACE, "tls.certificate");
        self.set_path(secret, table, PLACE, "tls.key");
        let verify = self.said(STOMP, &key("verify"));
        let verifies = verify.as_ref().is_some_and(|(_, verify)| verify == "verify_peer");
        if let Some((of, _)) = verify {
            match verifies {
                true => self.draft.taken(of, format!("{PLACE}.tls.client_ca")),
                false => self.draft.is_so(of),
            }
        }
        if let Some((of, _)) = self.said(STOMP, &key("cacertfile")) {
            match verifies {
                true => self.set_path(of, table, PLACE, "tls.client_ca"),
                false => self
                    .draft
                    .meaningless(of, "clients are not asked for a certificate (verify)"),
            }
        }
        if let Some((of, _)) = self.said(STOMP, &key("fail_if_no_peer_cert"))
            && let Some(required) = flag(&mut self.draft, of)
        {
            match verifies {
                true => {
                    let setting = "tls.require_client_certificate";
                    self.draft.set_in(of, table, PLACE, setting, required);
                }
                false => self
                    .draft
                    .meaningless(of, "clients are not asked for a certificate (verify)"),
            }
        }
        true
    }

    fn stomp_frames(&mut self) {
        for (part, setting, most) in [
            ("max_headers", "stomp.max_headers", 1_000),
            ("max_header_length", "stomp.max_header_bytes", 65_535),
            ("max_body_length", "stomp.max_body_bytes", i64::from(u32::MAX)),
        ] {
            if let Some((of, _)) = self.said(STOMP, &format!("stomp.frame.{part}"))
                && let Some(number) = number(&mut self.draft, of, most)
            {
                self.draft.set(of, setting, number);
            }
        }
    }

    /// EMQ lets in who says login and passcode of the default user, and who says none, if `allow_anonymous` has it so.
    fn stomp_users(&mut self) {
        let login = self.said(STOMP, "stomp.default_user.login");
        let passcode = self.said(STOMP, "stomp.default_user.passcode");
        let anonymous = self.said(STOMP, "stomp.allow_anonymous");
        let anonymous = anonymous.and_then(|(of, _)| Some((of, flag(&mut self.draft, of)?)));
        if self.is_shut {
            let all = [&login, &passcode].map(|said| said.as_ref().map(|(of, _)| *of));
            for of in all.into_iter().chain([anonymous.map(|(of, _)| of)]).flatten() {
                self.draft.meaningless(of, "nobody comes in, see the plugins");
            }
            return;
        }
        let mut table = Table::default();
        table.set("name", LISTENER);
        table.set("unknown_users", "refuse");
        let place = "auth.listeners.stomp";
        match anonymous {
            Some((of, lets_in)) => {
                let from = if lets_in { "everywhere" } else { "nowhere" };
                self.draft.set_in(of, &mut table, place, "anonymous", from);
            }
            None => table.set("anonymous", "nowhere"),
        }
        match (login, passcode) {
            (Some((of, name)), Some((secret_of, secret))) => {
                let (_, faults) = self
                    .draft
                    .take_users(vec![(0, ForeignUser::with_password(&name, &secret))]);
                match faults.first() {
                    None => {
                        let users = crate::value::Value::List(vec![name.as_str().into()]);
                        self.draft.set_in(of, &mut table, place, "users", users);
                        self.draft
                            .taken(secret_of, "the user's password, hashed".to_owned());
                    }
                    Some(fault) => {
                        let fault = fault.trim_start_matches("line 0: ").to_owned();
                        for of in [of, secret_of] {
                            self.draft.not_taken(
                                of,
                                fault.clone(),
                                "Give it another one: `headgate users add`.",
                            );
                        }
                    }
                }
            }
            (Some((of, _)), None) | (None, Some((of, _))) => {
                let todo = "Add the user: `headgate users add`.";
                self.draft
                    .not_taken(of, "a user needs a login and a passcode", todo);
            }
            (None, None) => {}
        }
        self.draft.config.push("auth.listeners", table);
    }

    pub(super) fn coap(&mut self) {
        if !self.counts(COAP) {
            return;
        }
        let (mut table, place) = (Table::default(), "coap.udp-coap");
        table.set("name", "udp-coap");
        match self.said(COAP, "coap.port") {
            Some((of, text)) => match address(&text) {
                Some(bind) => self.draft.set_in(of, &mut table, place, "bind", bind.to_string()),
                None => {
                    let because = "it is no address with a port, nor a port, and the server is left out";
                    return self.draft.not_taken(of, because, "Write [[coap]].");
                }
            },
            None => table.set("bind", "0.0.0.0:5683"),
        }
        if let Some((of, text)) = self.said(COAP, "coap.keepalive") {
            match text.trim_end_matches('s').parse::<u32>() {
                Ok(seconds @ 1..) => {
                    let setting = "gateway.keep_alive";
                    self.draft
                        .set_in(of, &mut table, place, setting, format!("{seconds}s"));
                }
                Ok(0) | Err(_) => {
                    let because = format!("`{text}` is no number of seconds");
                    self.draft.not_taken(of, because, "Write gateway.keep_alive.");
                }
            }
        }
        self.draft.config.push("coap", table);
    }
}
