//! Telling what a client was denied, for the log.

use crate::core::{Core, Out, PROTOCOL};
use headgate_model::Refused;
use headgate_model::access::{Denial, Wanted};
use headgate_model::bus::{OpenRefusal, Presence};
use headgate_model::datagram::Address;
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

    fn tell_denial(
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
