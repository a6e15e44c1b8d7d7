//! Telling what a client was denied, for the log.

use crate::core::{Core, Out, PROTOCOL};
use crate::registration::check_endpoint;
use headgate_coap::Requester;
use headgate_coap_codec::{Code, Message, number};
use headgate_model::access::{Denial, Wanted};
use headgate_model::bus::{OpenRefusal, Presence};
use headgate_model::datagram::Address;
use headgate_model::{ClientId, Refused};
use std::borrow::Cow;
use std::sync::Arc;

impl<A: Address> Core<A> {
    /// The gate refused this to a client.
    pub(crate) fn tell_denied(&self, index: u32, refused: &Refused, out: &mut Out<A>) {
        let identity = self.device(index).identity.as_ref();
        let policy = identity.map(|identity| Arc::clone(&identity.policy));
        self.tell_denial(
            index,
            || refused.wanted.clone(),
            || refused.why(policy.as_ref()),
            out,
        );
    }

    pub(crate) fn tell_refused_open(&self, index: u32, why: OpenRefusal, out: &mut Out<A>) {
        self.tell_denial(index, || Wanted::Connect, || why.to_string().into(), out);
    }

    /// Refuses a request of somebody who is not registered, or not from there, and tells so: under the endpoint name that it says, if that can be one.
    pub(crate) fn refuse_stranger(
        &mut self,
        from: &Requester<A>,
        request: &Message,
        code: Code,
        why: &str,
        out: &mut Out<A>,
    ) {
        self.tell_stranger(from.at, said_endpoint(request), why, out);
        self.refuse(from, request, code, why, out);
    }

    /// Somebody wanted to be let in, and is not.
    pub(crate) fn tell_stranger(&self, at: A, endpoint: &str, why: &str, out: &mut Out<A>) {
        let (peer, peer_port) = at.presence();
        let is_name = check_endpoint(endpoint, &self.settings).is_ok();
        out.denials.tell(|| Denial {
            client: ClientId::from(if is_name { endpoint } else { "" }),
            who: Arc::new(Presence {
                protocol: &PROTOCOL,
                peer,
                peer_port,
                ..Presence::default()
            }),
            wanted: Wanted::Connect,
            why: why.to_owned().into(),
            disconnects: false,
        });
    }

    pub(crate) fn tell_denial(
        &self,
        index: u32,
        wanted: impl FnOnce() -> Wanted,
        why: impl FnOnce() -> Cow<'static, str>,
        out: &mut Out<A>,
    ) {
        let device = self.device(index);
        out.denials.tell(|| {
            let who = device.who.clone().unwrap_or_else(|| {
                let (peer, peer_port) = device.at.presence();
                Arc::new(Presence {
                    protocol: &PROTOCOL,
                    peer,
                    peer_port,
                    ..Presence::default()
                })
            });
            Denial {
                client: device.id.clone(),
                who,
                wanted: wanted(),
                why: why(),
                disconnects: false,
            }
        });
    }
}

/// The endpoint name that a request says; empty if it says none.
fn said_endpoint(request: &Message) -> &str {
    let words = request.options.all(number::URI_QUERY);
    let mut said = words.filter_map(|word| std::str::from_utf8(word).ok()?.strip_prefix("ep="));
    said.next().unwrap_or_default()
}
