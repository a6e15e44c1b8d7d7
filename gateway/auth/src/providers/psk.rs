//! Clients that have proved by a key of their own who they are: a shared key of DTLS, or a raw public key.

use crate::chain::{Attempt, Checking, Prospect, Provider, Verdict};
use crate::settings::{PskClientId, PskSettings};
use headgate_model::access::AuthRefusal;
use std::future::ready;

/// The key that the listener has verified is the proof: no password is asked for. RFC 4279
#[derive(Debug)]
pub(crate) struct Identities(pub PskSettings);

impl Identities {
    fn verdict(&self, attempt: &Attempt) -> Verdict {
        let Some(identity) = attempt.identity.as_ref().filter(|_| self.0.user_name) else {
            return Verdict::Ignore;
        };
        // Who says another name than that of its key would not have the rights it expects.
        if attempt
            .username
            .as_deref()
            .is_some_and(|username| *username != **identity)
        {
            let why = format!("its key is that of `{identity}`");
            return Verdict::deny(why, AuthRefusal::BadUserNameOrPassword);
        }
        if self.0.client_id == PskClientId::Identity && attempt.client_id.as_str() != &**identity {
            let why = format!("its key allows the client id `{identity}` only (auth.psk.client_id)");
            return Verdict::deny(why, AuthRefusal::NotAuthorized);
        }
        Verdict::Allow(Some(identity.clone()))
    }
}

impl Provider for Identities {
    fn name(&self) -> &'static str {
        "psk"
    }

    fn check<'a>(&'a self, attempt: &'a Attempt) -> Checking<'a> {
        Box::pin(ready(self.verdict(attempt)))
    }

    /// Which keys there are, the listener knows.
    fn foresee(&self, asked: &Prospect<'_>) -> Verdict {
        let is_bound = self.0.client_id == PskClientId::Identity;
        match asked.username {
            Some(name) if asked.keys && self.0.user_name && (!is_bound || name == asked.client_id) => {
                Verdict::Allow(Some(name.into()))
            }
            _ => Verdict::Ignore,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn verdict(settings: PskSettings, identity: Option<&str>, id: &str, user: Option<&str>) -> Verdict {
        Identities(settings).verdict(&Attempt {
            client_id: id.into(),
            username: user.map(Into::into),
            password: None,
            address: Ipv4Addr::LOCALHOST.into(),
            certificate: None,
            identity: identity.map(Into::into),
            may_be_anonymous: false,
        })
    }

    #[test]
    fn the_identity_of_the_key_is_the_user_name() {
        let on = PskSettings::default();
        let pump = Verdict::Allow(Some("pump-7".into()));
        assert_eq!(verdict(on, Some("pump-7"), "any", None), pump);
        assert_eq!(verdict(on, Some("pump-7"), "any", Some("pump-7")), pump);
        let other = verdict(on, Some("pump-7"), "any", Some("root"));
        assert!(matches!(other, Verdict::Deny { .. }));
        assert_eq!(verdict(on, None, "any", Some("pump-7")), Verdict::Ignore);
        let off = PskSettings {
            user_name: false,
            ..on
        };
        assert_eq!(verdict(off, Some("pump-7"), "any", None), Verdict::Ignore);
    }

    /// The client id may be bound to the key: one device cannot take the session of another.
    #[test]
    fn the_client_id_may_be_bound_to_the_identity() {
        let bound = PskSettings {
            client_id: PskClientId::Identity,
            ..PskSettings::default()
        };
        assert_eq!(
            verdict(bound, Some("pump-7"), "pump-7", None),
            Verdict::Allow(Some("pump-7".into()))
        );
        for other in ["pump-8", ""] {
            let verdict = verdict(bound, Some("pump-7"), other, None);
            assert!(matches!(verdict, Verdict::Deny { .. }), "{other}");
        }
    }
}
