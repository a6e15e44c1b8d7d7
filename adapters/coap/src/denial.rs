//! Telling what a client was denied: to the client by a code, and for the log with what is known of it.

use crate::Requester;
use crate::core::{Core, Out, PROTOCOL};
use headgate_coap_codec::{Code, Message};
use headgate_model::access::{Denial, DenyCode, Wanted};
use headgate_model::bus::{OpenRefusal, Presence};
use headgate_model::datagram::Address;
use headgate_model::{ClientId, CloseReason, Refused};
use std::borrow::Cow;
use std::sync::Arc;

impl<A: Address> Core<A> {
    /// The gate refused this to a client.
    pub(crate) fn deny(
        &mut self,
        index: u32,
        from: &Requester<A>,
        request: &Message,
        refused: &Refused,
        out: &mut Out<A>,
    ) {
        let (code, words) = match (refused.name_error(), refused.code()) {
            (Some(error), _) => (Code::BAD_REQUEST, error.to_string()),
            (None, DenyCode::NotAuthorized | DenyCode::Unspecified) => (Code::FORBIDDEN, String::new()),
        };
        let policy = self
            .client(index)
            .identity
            .as_ref()
            .map(|identity| Arc::clone(&identity.policy));
        let disconnects =
            policy.as_ref().is_some_and(|policy| policy.disconnects()) && refused.name_error().is_none();
        self.tell(
            index,
            || refused.wanted.clone(),
            || refused.why(policy.as_ref()),
            out,
        );
        self.refuse(from, request, code, &words, out);
        if disconnects {
            self.lose(index, CloseReason::Kicked, out);
        }
    }

    /// Refuses a request of somebody who is not let in, under the client id that it says, and tells so.
    pub(crate) fn refuse_stranger(
        &mut self,
        from: &Requester<A>,
        request: &Message,
        client_id: &str,
        (code, why): (Code, &str),
        out: &mut Out<A>,
    ) {
        let place = self.place.clone();
        let is_id = client_id.len() <= self.settings.max_client_id_bytes;
        out.denials.tell(|| {
            let (peer, peer_port) = place.unwrap_or_else(|| from.at.presence());
            Denial {
                client: ClientId::from(if is_id { client_id } else { "" }),
                who: Arc::new(Presence {
                    protocol: &PROTOCOL,
                    version: 1,
                    peer,
                    peer_port,
                    ..Presence::default()
                }),
                wanted: Wanted::Connect,
                why: why.to_owned().into(),
                disconnects: false,
            }
        });
        self.refuse(from, request, code, why, out);
    }

    /// A client wanted this, and does not get it.
    pub(crate) fn tell(
        &self,
        index: u32,
        wanted: impl FnOnce() -> Wanted,
        why: impl FnOnce() -> Cow<'static, str>,
        out: &mut Out<A>,
    ) {
        let client = self.client(index);
        out.denials.tell(|| {
            let who = client.who.clone().unwrap_or_else(|| {
                let place = self.place.clone();
                let (peer, peer_port) = place.unwrap_or_else(|| client.at.presence());
                Arc::new(Presence {
                    protocol: &PROTOCOL,
                    version: 1,
                    peer,
                    peer_port,
                    ..Presence::default()
                })
            });
            let identity = client.identity.as_ref();
            Denial {
                client: client.id.clone(),
                who,
                wanted: wanted(),
                why: why(),
                disconnects: identity.is_some_and(|identity| identity.policy.disconnects()),
            }
        });
    }

    /// A client sends more than this limit lets it.
    pub(crate) fn tell_too_fast(&self, index: u32, limit: &'static str, out: &mut Out<A>) {
        self.tell(index, || Wanted::Send, || limit.into(), out);
    }

    pub(crate) fn tell_refused_open(&self, index: u32, why: OpenRefusal, out: &mut Out<A>) {
        self.tell(index, || Wanted::Connect, || why.to_string().into(), out);
    }
}
