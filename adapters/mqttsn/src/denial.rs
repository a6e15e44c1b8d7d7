//! Telling what a client was denied: for the log, with what is known of the client.

use crate::gateway::{Out, SnGateway};
use headgate_model::access::{Denial, Wanted, Wish};
use headgate_model::bus::{Presence, Protocol};
use headgate_model::datagram::Address;
use headgate_model::{Action, ClientId, Identity};
use std::borrow::Cow;
use std::sync::Arc;

/// Somebody at `address` wanted this under the name `client`, and does not get it.
pub(crate) fn tell<A: Address>(
    address: A,
    client: &str,
    identity: Option<&Identity>,
    wanted: impl FnOnce() -> Wanted,
    why: impl FnOnce() -> Cow<'static, str>,
    out: &mut Out<A>,
) {
    out.denials.tell(|| {
        let (peer, peer_port) = address.presence();
        let who = Presence {
            username: identity.and_then(|identity| identity.username.clone()),
            protocol: Protocol::MqttSn,
            version: 1,
            peer,
            peer_port,
            ..Presence::default()
        };
        Denial {
            client: ClientId::from(client),
            who: Arc::new(who),
            wanted: wanted(),
            why: why(),
        }
    });
}

/// Which rule denies the wish.
pub(crate) fn why(identity: Option<&Identity>, wish: Wish<'_>) -> Cow<'static, str> {
    if wish.action == Action::Publish && wish.topic.starts_with(b"$SYS/") {
        return "topics under $SYS are the gateway's".into();
    }
    identity.map_or("it has no rules".into(), |identity| identity.policy.why(wish))
}

impl<A: Address> SnGateway<A> {
    /// A client wanted this, and does not get it.
    pub(crate) fn tell(
        &self,
        index: u32,
        wanted: impl FnOnce() -> Wanted,
        why: impl FnOnce() -> Cow<'static, str>,
        out: &mut Out<A>,
    ) {
        let client = self.client(index);
        let (id, identity) = (client.id.as_str(), Some(&client.identity));
        tell(client.party.address, id, identity, wanted, why, out);
    }

    /// A client's rules deny this.
    pub(crate) fn tell_denied(&self, index: u32, wish: Wish<'_>, out: &mut Out<A>) {
        let topic = || bytes::Bytes::copy_from_slice(wish.topic);
        let wanted = || match wish.action {
            Action::Publish => Wanted::Publish(topic()),
            Action::Subscribe => Wanted::Subscribe(topic()),
        };
        let why = || why(Some(&self.client(index).identity), wish);
        self.tell(index, wanted, why, out);
    }
}
