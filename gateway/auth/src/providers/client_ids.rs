//! Clients that are known by their client ids.

use crate::chain::{Attempt, Checking, Provider, Verdict};
use crate::settings::ClientIdLogin;
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

impl Provider for ClientIds {
    fn name(&self) -> &'static str {
        "client_ids"
    }

    fn check<'a>(&'a self, attempt: &'a Attempt) -> Checking<'a> {
        Box::pin(ready(self.verdict(attempt)))
    }
}
