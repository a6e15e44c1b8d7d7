//! What clients were denied: in the log, who, where, what and why. The log limits how many lines there are.

use crate::trace::Tracer;
use headgate_bus::handle::Hub;
use headgate_model::access::{Denial, Denials, Wanted};

/// Writes what was denied by this listener to the log, and to whoever traces it, and disconnects whom the rules say.
pub(crate) fn settle(listener: &str, denials: &mut Denials, hub: &Hub, tracer: &Tracer) {
    for denial in denials.drain() {
        if tracer.is_on() {
            tracer.denial(listener, &denial);
        }
        let Denial {
            client,
            who,
            wanted,
            why,
            disconnects,
        } = denial;
        if disconnects && matches!(wanted, Wanted::Publish(_) | Wanted::Subscribe(_)) {
            hub.kick(client.as_str());
        }
        let (client, user) = (client.as_str(), who.username.as_deref());
        let (peer, why) = (who.address(), &*why);
        // One place for each kind, so that many lines of one do not hide another.
        match wanted {
            Wanted::Connect => {
                tracing::info!(%listener, client, user, %peer, why, "client refused");
            }
            Wanted::Stay => {
                tracing::info!(%listener, client, user, %peer, why, "client disconnected by the gateway");
            }
            Wanted::Send => {
                tracing::info!(%listener, client, user, %peer, why, "client is too fast");
            }
            Wanted::Will(topic) => {
                let topic = text(&topic);
                tracing::info!(%listener, client, user, %peer, topic, why, "will refused");
            }
            Wanted::Publish(topic) => {
                let topic = text(&topic);
                tracing::info!(%listener, client, user, %peer, topic, why, "publish refused");
            }
            Wanted::Subscribe(filter) => {
                let filter = text(&filter);
                tracing::info!(%listener, client, user, %peer, filter, why, "subscription refused");
            }
        }
    }
}

/// A topic or filter; `None` where it is not known.
fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok().filter(|text| !text.is_empty())
}
