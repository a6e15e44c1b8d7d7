//! Telling what a client was denied: for the log, with what is known of the client.

use crate::gateway::{Out, PROTOCOL, SnGateway};
use headgate_model::access::{Denial, Wanted};
use headgate_model::bus::Presence;
use headgate_model::datagram::Address;
use headgate_model::{ClientId, Identity, Refused};
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
            protocol: &PROTOCOL,
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
            disconnects: identity.is_some_and(|identity| identity.policy.disconnects()),
        }
    });
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

    /// A client sends more than this limit lets it.
    pub(crate) fn tell_too_fast(&self, index: u32, limit: &'static str, out: &mut Out<A>) {
        self.tell(index, || Wanted::Send, || limit.into(), out);
    }

    /// The gate refused this to a client.
    pub(crate) fn tell_refused(&self, index: u32, refused: &Refused, out: &mut Out<A>) {
        let why = || refused.why(Some(&self.client(index).identity.policy));
        self.tell(index, || refused.wanted.clone(), why, out);
    }
}
