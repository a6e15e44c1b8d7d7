//! What the gateway knows of one client.

use crate::counters::SnMetric;
use crate::inbound::Inbound;
use crate::outbound::Outbound;
use crate::party::Party;
use crate::topics::TopicIds;
use headgate_model::datagram::Address;
use headgate_model::{ClientId, Identity, Instant, Pace, TopicFilter};
use std::time::Duration;

/// A client that is connected, or sleeps. One that is disconnected or lost is here no more, but for a moment after its goodbye.
#[derive(Debug)]
pub(crate) struct Client<A> {
    pub party: Party<A>,
    pub id: ClientId,
    pub identity: Identity,
    pub state: State,
    /// Keep alive in seconds; 0 for none. §6.9
    pub keep_alive: u16,
    /// For how many seconds it sleeps; 0 when that is not known. §6.14
    pub sleep: u16,
    pub clean: bool,
    /// It said in CONNECT that it has a will.
    pub will: bool,
    pub last_msg_id: u16,
    /// How fast its requests come.
    pub pace: Pace,
    pub topics: TopicIds,
    pub outbound: Option<Box<Outbound>>,
    pub inbound: Option<Box<Inbound>>,
}

/// Figure 4 of §6.14, with the moments in between when the bus has the word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Nothing is taken from it until the bus has opened its session.
    Opening(Purpose),
    Active {
        heard: Instant,
        /// Until then a CONNECT like the last one is a copy of it; `None` once the client has said anything else.
        copies_until: Option<Instant>,
    },
    /// It is told that it sleeps as soon as that is durable.
    FallingAsleep {
        heard: Instant,
        /// It was awake, and hears PINGRESP instead of DISCONNECT.
        again: bool,
    },
    /// It has no endpoint on the bus.
    Asleep { until: Instant },
    Awake {
        heard: Instant,
        /// The bus has nothing more for it: PINGRESP is due.
        drained: bool,
    },
    /// It said goodbye; until then it may ask again.
    Disconnected { until: Instant },
}

/// Why a session is being opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// CONNECT
    Connect,
    /// PINGREQ of a sleeping client
    Wake,
    /// DISCONNECT with a duration of a sleeping client
    SleepOn,
    /// DISCONNECT of a sleeping client
    Goodbye,
}

/// §7.2: 10 % longer than it said above a minute, 50 % below.
pub(crate) fn tolerant(seconds: u16) -> Duration {
    let ms = u64::from(seconds) * 1_000;
    let more = if seconds > 60 { ms / 10 } else { ms / 2 };
    Duration::from_millis(ms + more)
}

impl<A: Address> Client<A> {
    /// How long it may be silent while it is connected.
    pub(crate) fn patience(&self, max_silence: Duration) -> Duration {
        match self.keep_alive {
            0 => max_silence,
            seconds => tolerant(seconds),
        }
    }

    /// How long it may be silent while it sleeps; `None` when it did not say so to this gateway.
    pub(crate) fn sleep_patience(&self) -> Option<Duration> {
        (self.sleep > 0).then(|| tolerant(self.sleep))
    }

    pub(crate) fn has_endpoint(&self) -> bool {
        matches!(
            self.state,
            State::Opening(_) | State::Active { .. } | State::Awake { .. } | State::FallingAsleep { .. }
        )
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state, State::Active { .. } | State::Awake { .. })
    }

    /// It said something.
    pub(crate) fn hear(&mut self, now: Instant) {
        match &mut self.state {
            State::Active { heard, copies_until } => (*heard, *copies_until) = (now, None),
            State::Awake { heard, .. } => *heard = now,
            _ => {}
        }
    }

    /// When something is to be done for it.
    pub(crate) fn deadline(&self, max_silence: Duration) -> Option<Instant> {
        let state = match self.state {
            State::Opening(_) | State::Awake { .. } | State::FallingAsleep { .. } => None,
            State::Active { heard, .. } => Some(heard + self.patience(max_silence)),
            State::Asleep { until } | State::Disconnected { until } => Some(until),
        };
        let retry = self.outbound.as_ref().and_then(|outbound| outbound.retry_at());
        state.into_iter().chain(retry).min()
    }

    /// Nothing is under way to it any more. QoS 0 that had to wait here is nowhere else.
    pub(crate) fn drop_outbound<Q: Address>(&mut self, out: &mut crate::gateway::Out<Q>) {
        if let Some(outbound) = self.outbound.take() {
            out.counts.add_own_n(SnMetric::Unsent, outbound.waiting_qos0());
        }
    }

    pub(crate) fn next_msg_id(&mut self) -> u16 {
        self.last_msg_id = self.last_msg_id.checked_add(1).unwrap_or(1);
        self.last_msg_id
    }
}

/// Not a filter with wildcards: it names a topic.
pub(crate) fn names_topic(filter: &TopicFilter) -> bool {
    !filter.has_wildcard()
}

/// Which counter a received message belongs to.
pub(crate) fn received(kind: headgate_mqttsn_codec::MessageType) -> Option<SnMetric> {
    use headgate_mqttsn_codec::MessageType as Kind;
    Some(match kind {
        Kind::Connect => SnMetric::ConnectReceived,
        Kind::Register => SnMetric::RegisterReceived,
        Kind::Publish => SnMetric::PublishReceived,
        Kind::PubAck => SnMetric::PubackReceived,
        Kind::PubRec => SnMetric::PubrecReceived,
        Kind::PubRel => SnMetric::PubrelReceived,
        Kind::PubComp => SnMetric::PubcompReceived,
        Kind::Subscribe => SnMetric::SubscribeReceived,
        Kind::Unsubscribe => SnMetric::UnsubscribeReceived,
        Kind::PingReq => SnMetric::PingreqReceived,
        Kind::Disconnect => SnMetric::DisconnectReceived,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// §7.2
    #[test]
    fn tolerance_is_a_tenth_above_a_minute_and_half_below() {
        for (seconds, ms) in [
            (1, 1_500),
            (60, 90_000),
            (61, 67_100),
            (900, 990_000),
            (65_535, 72_088_500),
        ] {
            assert_eq!(tolerant(seconds), Duration::from_millis(ms));
        }
    }
}
