//! Telling what the client was denied: for the log, with what is known of the client.

use crate::connect::wish_to_publish;
use crate::endpoint::{MqttEndpoint, Out, Phase};
use headgate_model::access::{Denial, Wanted, Wish};
use headgate_model::bus::{Presence, Protocol};
use headgate_model::{Action, Message};
use std::borrow::Cow;
use std::sync::Arc;

impl MqttEndpoint {
    /// The client wanted this, and does not get it.
    pub(crate) fn tell(
        &self,
        wanted: impl FnOnce() -> Wanted,
        why: impl FnOnce() -> Cow<'static, str>,
        out: &mut Out,
    ) {
        out.denials.tell(|| Denial {
            client: self.client_id.clone(),
            who: self.who(),
            wanted: wanted(),
            why: why(),
        });
    }

    /// The client's rules deny this.
    pub(crate) fn tell_denied(&self, wish: Wish<'_>, out: &mut Out) {
        let topic = || bytes::Bytes::copy_from_slice(wish.topic);
        let wanted = || match wish.action {
            Action::Publish => Wanted::Publish(topic()),
            Action::Subscribe => Wanted::Subscribe(topic()),
        };
        self.tell(wanted, || self.why(wish), out);
    }

    /// The client's rules deny it this will.
    pub(crate) fn tell_will_denied(&self, will: &Message, out: &mut Out) {
        let wanted = || Wanted::Will(will.topic.bytes().clone());
        self.tell(wanted, || self.why(wish_to_publish(will)), out);
    }

    fn why(&self, wish: Wish<'_>) -> Cow<'static, str> {
        match &self.policy {
            Some(policy) => policy.why(wish),
            None => "it has no rules".into(),
        }
    }

    fn who(&self) -> Arc<Presence> {
        let facts = match &self.phase {
            Phase::Open(who) => return Arc::clone(who),
            Phase::Opening(opening) => return Arc::clone(&opening.who),
            Phase::Leaving(leaving) => return Arc::clone(&leaving.who),
            Phase::Connecting(connecting) => (&connecting.facts, connecting.username.clone()),
            Phase::Fresh(fresh) => (&fresh.facts, None),
            Phase::Closed => return Arc::default(),
        };
        let (facts, username) = facts;
        Arc::new(Presence {
            username,
            protocol: Protocol::Mqtt,
            version: self.version.level(),
            peer: facts.peer.clone(),
            peer_port: facts.peer_port,
            ..Presence::default()
        })
    }
}
