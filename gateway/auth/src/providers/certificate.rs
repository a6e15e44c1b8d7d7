//! Clients that a certificate names.

use crate::chain::{Attempt, Checking, Prospect, Provider, Verdict};
use crate::settings::{CertificateClientId, CertificateName, CertificateSettings};
use headgate_access::ClientCert;
use headgate_model::access::AuthRefusal;
use std::future::ready;

/// A certificate that the listener has verified is the proof: no password is asked for.
#[derive(Debug)]
pub(crate) struct Certificates(pub CertificateSettings);

impl Certificates {
    fn verdict(&self, attempt: &Attempt) -> Verdict {
        let (Some(certificate), Some(wanted)) = (&attempt.certificate, self.0.user_name) else {
            return Verdict::Ignore;
        };
        let Some(name) = name(certificate, wanted) else {
            let why = format!("its certificate has no {} (auth.certificate)", wanted.in_words());
            return Verdict::deny(why, AuthRefusal::NotAuthorized);
        };
        // Who says another name than its certificate would not have the rights it expects.
        if attempt
            .username
            .as_deref()
            .is_some_and(|username| username != name)
        {
            let why = format!("its certificate is of `{name}`");
            return Verdict::deny(why, AuthRefusal::BadUserNameOrPassword);
        }
        let client_id = attempt.client_id.as_str();
        if self.0.client_id == CertificateClientId::UserName && client_id != name {
            let why =
                format!("its certificate allows the client id `{name}` only (auth.certificate.client_id)");
            return Verdict::deny(why, AuthRefusal::NotAuthorized);
        }
        Verdict::Allow(Some(name.into()))
    }
}

impl Provider for Certificates {
    fn name(&self) -> &'static str {
        "certificate"
    }

    fn check<'a>(&'a self, attempt: &'a Attempt) -> Checking<'a> {
        Box::pin(ready(self.verdict(attempt)))
    }

    /// Which names there are, the certificates alone know.
    fn foresee(&self, asked: &Prospect<'_>) -> Verdict {
        let is_bound = self.0.client_id == CertificateClientId::UserName;
        match asked.username {
            Some(name)
                if asked.certificates
                    && self.0.user_name.is_some()
                    && (!is_bound || name == asked.client_id) =>
            {
                Verdict::Allow(Some(name.into()))
            }
            _ => Verdict::Ignore,
        }
    }
}

/// What a certificate says that stands for the user name; nothing that is empty.
fn name(certificate: &ClientCert, wanted: CertificateName) -> Option<&str> {
    let name = match wanted {
        CertificateName::CommonName => certificate.common_name.as_deref(),
        CertificateName::Subject => Some(certificate.subject.as_str()),
        CertificateName::San => certificate.san.first().map(String::as_str),
    };
    name.filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    fn pump() -> ClientCert {
        ClientCert {
            common_name: Some("pump-7".into()),
            subject: "CN=pump-7,O=Plant".into(),
            issuer: "CN=Plant CA".into(),
            serial: "01".into(),
            san: vec!["pump-7.plant.example".into(), "192.0.2.7".into()],
            sha256: [0; 32],
        }
    }

    fn verdict(
        settings: CertificateSettings,
        certificate: Option<ClientCert>,
        id: &str,
        user: Option<&str>,
    ) -> Verdict {
        Certificates(settings).verdict(&Attempt {
            client_id: id.into(),
            username: user.map(Into::into),
            password: None,
            address: Ipv4Addr::LOCALHOST.into(),
            certificate: certificate.map(Arc::new),
            identity: None,
            may_be_anonymous: false,
        })
    }

    fn of(user_name: CertificateName) -> CertificateSettings {
        CertificateSettings {
            user_name: Some(user_name),
            ..CertificateSettings::default()
        }
    }

    #[test]
    fn a_part_of_the_certificate_is_the_user_name() {
        for (part, name) in [
            (CertificateName::CommonName, "pump-7"),
            (CertificateName::Subject, "CN=pump-7,O=Plant"),
            (CertificateName::San, "pump-7.plant.example"),
        ] {
            for said in [None, Some(name)] {
                let verdict = verdict(of(part), Some(pump()), "any", said);
                assert_eq!(verdict, Verdict::Allow(Some(name.into())));
            }
        }
    }

    #[test]
    fn without_a_certificate_or_the_setting_nobody_is_known() {
        let by_name = of(CertificateName::CommonName);
        assert_eq!(verdict(by_name, None, "any", Some("pump-7")), Verdict::Ignore);
        let off = CertificateSettings::default();
        assert_eq!(verdict(off, Some(pump()), "any", None), Verdict::Ignore);
    }

    #[test]
    fn a_certificate_without_the_name_and_another_name_are_refused() {
        let denied = |verdict| matches!(verdict, Verdict::Deny { .. });
        for common_name in [None, Some(String::new())] {
            let nameless = ClientCert {
                common_name,
                ..pump()
            };
            assert!(denied(verdict(
                of(CertificateName::CommonName),
                Some(nameless),
                "any",
                None
            )));
        }
        assert!(denied(verdict(
            of(CertificateName::CommonName),
            Some(pump()),
            "any",
            Some("root")
        )));
    }

    /// The client id may be bound to the name: one device cannot take the session of another.
    #[test]
    fn the_client_id_may_be_bound_to_the_name() {
        let bound = CertificateSettings {
            client_id: CertificateClientId::UserName,
            ..of(CertificateName::CommonName)
        };
        assert_eq!(
            verdict(bound, Some(pump()), "pump-7", None),
            Verdict::Allow(Some("pump-7".into()))
        );
        for other in ["pump-8", ""] {
            let verdict = verdict(bound, Some(pump()), other, None);
            assert!(matches!(verdict, Verdict::Deny { .. }), "{other}");
        }
    }
}
