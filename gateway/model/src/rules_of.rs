//! The rules of a session that an adapter opens beside that of a client: those of the client, whatever the session is called.

use crate::ClientId;
use crate::access::{AccessDecision, AccessPolicy, AccessQuery};
use crate::bus::Presence;
use std::borrow::Cow;
use std::sync::Arc;

/// The rules of `client`. When they change, they are looked up by its id again, not by that of the session.
#[derive(Clone, Debug)]
pub struct RulesOf {
    /// Whose.
    pub client: ClientId,
    /// They.
    pub rules: Arc<dyn AccessPolicy>,
}

impl AccessPolicy for RulesOf {
    fn check(&self, query: AccessQuery<'_>) -> AccessDecision {
        self.rules.check(query)
    }

    fn why(&self, query: AccessQuery<'_>) -> Cow<'static, str> {
        self.rules.why(query)
    }

    fn narrows(&self, filter: &[u8]) -> bool {
        self.rules.narrows(filter)
    }

    fn may_read(&self, topic: &[u8]) -> bool {
        self.rules.may_read(topic)
    }

    fn renewed(&self, _session: &ClientId, who: &Presence) -> Option<Arc<dyn AccessPolicy>> {
        let rules = self.rules.renewed(&self.client, who)?;
        let client = self.client.clone();
        Some(Arc::new(Self { client, rules }))
    }

    fn disconnects(&self) -> bool {
        self.rules.disconnects()
    }

    fn may_ask(&self) -> bool {
        self.rules.may_ask()
    }

    fn may_link(&self) -> bool {
        self.rules.may_link()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rules that allow a client's own topic alone.
    #[derive(Debug)]
    struct Own(ClientId);

    impl AccessPolicy for Own {
        fn check(&self, query: AccessQuery<'_>) -> AccessDecision {
            match query.topic == self.0.as_str().as_bytes() {
                true => AccessDecision::Allow,
                false => AccessDecision::Deny(Default::default()),
            }
        }

        fn renewed(&self, client: &ClientId, _: &Presence) -> Option<Arc<dyn AccessPolicy>> {
            Some(Arc::new(Self(client.clone())))
        }
    }

    #[test]
    fn new_rules_are_those_of_the_client_and_not_of_its_session() {
        let client = ClientId::from("a");
        let rules: Arc<dyn AccessPolicy> = Arc::new(Own(client.clone()));
        let session = RulesOf { client, rules };
        let new = session
            .renewed(&ClientId::from("$stomp/a/1"), &Presence::default())
            .unwrap();
        let new = new
            .renewed(&ClientId::from("$stomp/a/1"), &Presence::default())
            .unwrap();
        let query = AccessQuery::subscribe(b"a", Default::default());
        assert_eq!(new.check(query), AccessDecision::Allow);
    }
}
