//! Clients that are known by their client ids.

use crate::chain::{Attempt, Checking, Prospect, Provider, Searching, Verdict};
use crate::settings::ClientIdLogin;
use headgate_access::SharedKey;
use headgate_model::access::AuthRefusal;
use std::collections::HashMap;
use std::future::ready;
use subtle::ConstantTimeEq;

/// Client ids of the configuration, with their passwords.
#[derive(Debug)]
pub(crate) struct ClientIds(HashMap<String, ClientIdLogin>);

impl ClientIds {
    pub(crate) fn new(logins: &[ClientIdLogin]) -> Self {
        Self(
            logins
                .iter()
                .map(|login| (login.id.clone(), login.clone()))
                .collect(),
        )
    }

    fn verdict(&self, attempt: &Attempt) -> Verdict {
        let Some(login) = self.0.get(attempt.client_id.as_str()) else {
            return Verdict::Ignore;
        };
        // Who has its key needs no password, and where there is a key alone nothing else will do.
        let has_key = attempt.identity.as_deref() == Some(login.id.as_str());
        if !login.psk.is_empty() && (has_key || login.password.is_empty()) {
            if !has_key {
                return by_key_alone();
            }
            return Verdict::Allow(login.user.as_deref().map(Into::into));
        }
        let wanted = login.password.reveal().as_bytes();
        let given = attempt.password.as_deref().unwrap_or_default();
        if !wanted.is_empty() && !bool::from(wanted.ct_eq(given)) {
            let why = "wrong password for this client id (auth.client_ids)";
            return Verdict::deny(why, AuthRefusal::BadUserNameOrPassword);
        }
        let user = login.user.as_deref().map(Into::into);
        Verdict::Allow(user)
    }
}

fn by_key_alone() -> Verdict {
    let why = "this client id has a shared key, and comes in by DTLS alone (auth.client_ids)";
    Verdict::deny(why, AuthRefusal::NotAuthorized)
}

impl Provider for ClientIds {
    fn name(&self) -> &'static str {
        "client_ids"
    }

    fn check<'a>(&'a self, attempt: &'a Attempt) -> Checking<'a> {
        Box::pin(ready(self.verdict(attempt)))
    }

    fn foresee(&self, asked: &Prospect<'_>) -> Verdict {
        match self.0.get(asked.client_id) {
            None => Verdict::Ignore,
            Some(login) if !login.psk.is_empty() && login.password.is_empty() && !asked.keys => {
                by_key_alone()
            }
            Some(login) => Verdict::Allow(login.user.as_deref().map(Into::into)),
        }
    }

    /// The identity is the client id.
    fn shared_key<'a>(&'a self, identity: &'a str) -> Searching<'a> {
        let login = self.0.get(identity);
        let key = login.and_then(|login| SharedKey::parse(login.psk.reveal()).ok());
        Box::pin(ready(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn ids() -> ClientIds {
        let entries = r#"
            client_ids = [
                { id = "pump-7", psk = "0011", user = "pump" },
                { id = "pump-8", psk = "0022", password = "p" },
                { id = "pump-9", password = "p" },
            ]
        "#;
        let settings: crate::AuthSettings = toml::from_str(entries).unwrap();
        ClientIds::new(&settings.client_ids)
    }

    fn verdict(id: &str, identity: Option<&str>, password: Option<&'static str>) -> Verdict {
        ids().verdict(&Attempt {
            client_id: id.into(),
            username: None,
            password: password.map(Into::into),
            address: Ipv4Addr::LOCALHOST.into(),
            certificate: None,
            identity: identity.map(Into::into),
            may_be_anonymous: true,
        })
    }

    #[tokio::test]
    async fn a_client_id_may_have_a_shared_key() {
        let key = ids().shared_key("pump-7").await.unwrap();
        assert_eq!(key.reveal(), [0, 0x11]);
        assert_eq!(ids().shared_key("pump-9").await, None);
        assert_eq!(ids().shared_key("nobody").await, None);
    }

    /// A key does not open a second door beside it.
    #[test]
    fn a_client_id_with_a_key_alone_comes_in_by_it_alone() {
        let denied = |verdict| matches!(verdict, Verdict::Deny { .. });
        assert_eq!(
            verdict("pump-7", Some("pump-7"), None),
            Verdict::Allow(Some("pump".into()))
        );
        assert!(denied(verdict("pump-7", None, None)));
        assert!(denied(verdict("pump-7", Some("pump-8"), None)));
        assert_eq!(verdict("pump-8", Some("pump-8"), None), Verdict::Allow(None));
        assert_eq!(verdict("pump-8", None, Some("p")), Verdict::Allow(None));
        assert!(denied(verdict("pump-8", None, None)));
        assert!(denied(verdict("pump-9", Some("pump-9"), None)));
    }
}
