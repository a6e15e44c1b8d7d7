//! Telling what the client was denied: for the log, with what is known of the client.

use crate::endpoint::{Out, PROTOCOL, Phase, StompEndpoint};
use headgate_model::Refused;
use headgate_model::access::{Denial, Wanted};
use headgate_model::bus::Presence;
use std::borrow::Cow;
use std::sync::Arc;

impl StompEndpoint {
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
            disconnects: self.policy().is_some_and(|policy| policy.disconnects()),
        });
    }

    /// The gate refused this.
    pub(crate) fn tell_refused(&self, refused: &Refused, out: &mut Out) {
        let why = || refused.why(self.policy());
        self.tell(|| refused.wanted.clone(), why, out);
    }

    fn who(&self) -> Arc<Presence> {
        let facts = match &self.phase {
            Phase::Open(who) | Phase::Leaving { who, .. } => return Arc::clone(who),
            Phase::Opening(opening) => return Arc::clone(&opening.who),
            Phase::Fresh(fresh) => &fresh.facts,
            Phase::Connecting(connecting) => &connecting.facts,
            Phase::Closed => return Arc::default(),
        };
        Arc::new(Presence {
            protocol: &PROTOCOL,
            version: self.level(),
            peer: facts.peer.clone(),
            peer_port: facts.peer_port,
            ..Presence::default()
        })
    }
}
