//! TLS of a listener.

use super::Source;
use super::read::Section;
use super::values::{flag, word};
use crate::draft::Of;
use crate::tls;
use crate::value::Table;

impl Source<'_> {
    /// Certificates, who is asked for one, versions and suites.
    pub(super) fn tls(&mut self, own: &Section, table: &mut Table, place: &str) {
        for (name, setting) in [("certfile", "tls.certificate"), ("keyfile", "tls.key")] {
            if let Some(of) = own.last(&mut self.draft, name) {
                self.set_path(of, table, place, setting);
            }
        }
        let require = own.last(&mut self.draft, "require_certificate");
        let asks = require.is_some_and(|of| flag(&mut self.draft, of) == Some(true));
        if let Some(of) = own.last(&mut self.draft, "cafile") {
            if asks {
                self.set_path(of, table, place, "tls.client_ca");
            } else {
                let because = "clients are not asked for a certificate (require_certificate); certificates of authorities above the listener's own belong into tls.certificate";
                self.draft.meaningless(of, because);
            }
        }
        if let Some(of) = require {
            match asks {
                true => self
                    .draft
                    .set_in(of, table, place, "tls.require_client_certificate", true),
                false => self.draft.is_so(of),
            }
        }
        if let Some(of) = own.last(&mut self.draft, "crlfile") {
            if asks {
                let named = self.path(of);
                self.draft.set_in(of, table, place, "tls.crl", vec![named.text()]);
                if let Some(but) = named.but {
                    self.draft.but(of, but);
                }
            } else {
                self.draft
                    .meaningless(of, "clients are not asked for a certificate");
            }
        }
        if let Some(of) = own.last(&mut self.draft, "disable_client_cert_date_checks") {
            match flag(&mut self.draft, of) {
                Some(true) => {
                    let because = "a certificate past its date is refused";
                    self.draft
                        .not_taken(of, because, "Renew the certificates of clients.");
                }
                Some(false) => self.draft.is_so(of),
                None => {}
            }
        }
        self.tls_version(own, table, place);
        self.ciphers(own, table, place);
    }

    fn tls_version(&mut self, own: &Section, table: &mut Table, place: &str) {
        let Some(of) = own.last(&mut self.draft, "tls_version") else {
            return;
        };
        match word(&self.draft, of).as_str() {
            "tlsv1.3" => self.draft.set_in(of, table, place, "tls.min_version", "1.3"),
            "tlsv1.2" => self.draft.set_in(of, table, place, "tls.min_version", "1.2"),
            other => {
                let because = format!("`{other}` is older than 1.2, which is the oldest that is spoken");
                self.draft
                    .not_taken(of, because, "Renew clients that know nothing newer.");
            }
        }
    }

    fn ciphers(&mut self, own: &Section, table: &mut Table, place: &str) {
        let mut lists = ["ciphers", "ciphers_tls1.3"].map(|name| {
            let of = own.last(&mut self.draft, name)?;
            let (known, unknown) = tls::suites(&self.draft.text(of));
            if known.is_empty() {
                let because = "none of these suites is built in";
                let todo = "All that are built in are offered, all of them good; tls.ciphers chooses.";
                self.draft.not_taken(of, because, todo);
                return None;
            }
            Some((of, known, unknown))
        });
        let of: Vec<(Of, Vec<String>)> = lists
            .iter()
            .flatten()
            .map(|(of, _, unknown)| (*of, unknown.clone()))
            .collect();
        if of.is_empty() {
            return;
        }
        let [old, new] = [0, 1].map(|n| lists[n].take().map(|(_, known, _)| known));
        let suites = tls::both_versions(old, new);
        for (of, unknown) in of {
            self.draft.set_in(of, table, place, "tls.ciphers", suites.clone());
            if !unknown.is_empty() {
                let but = format!("without {}, which are not built in", unknown.join(", "));
                self.draft.but(of, but);
            }
        }
    }

    /// What is said of TLS where there is none.
    pub(super) fn without_tls(&mut self, own: &Section) {
        const OF_TLS: &[&str] = &[
            "certfile",
            "keyfile",
            "cafile",
            "capath",
            "require_certificate",
            "crlfile",
            "ciphers",
            "ciphers_tls1.3",
            "tls_version",
            "disable_client_cert_date_checks",
        ];
        for of in OF_TLS.iter().flat_map(|name| own.all(name)) {
            self.draft
                .meaningless(of, "the listener has no TLS: no certfile and keyfile");
        }
    }
}
