//! Links: sessions whose other side is another broker, whoever of the two opened the connection.

use crate::TopicFilter;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Sessions whose client id begins so are the gateway's own, one for each link that it opens itself: nobody from outside may have one.
pub const RESERVED_CLIENT_ID: &str = "$bridge/";

/// Sessions whose client id begins with one of these are opened by an adapter beside that of a client, such as a durable subscription of STOMP or an observation of CoAP, or for somebody who looks on in the web UI: nobody
/// from outside may have one.
pub const INNER_CLIENT_IDS: [&str; 4] = ["$stomp/", "$coap/", "$lwm2m/", "$web/"];

/// User property of a CONNECT of MQTT 5 by which a gateway says that it is a broker; its value is the gateway's name.
pub const BRIDGE_PROPERTY: &str = "headgate-bridge";

/// What the bus must know of a session whose other side is another broker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// How its queue behaves; `None` for a broker that connected to us: as every session's. A session with rules of its own is one that an operator
    /// defined: no limit of session expiry cuts it.
    pub queue: Option<QueueRules>,
    /// Deliveries that may be under way at once although `bus.max_inflight` says less, for many go in one packet; 0 for no more than that.
    pub window: u16,
}

/// How the queue of one session behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueRules {
    /// Messages that may be queued. QoS 0 gives way first; then `when_full` decides.
    pub max_messages: usize,
    /// Bytes that may be queued.
    pub max_bytes: usize,
    /// What has waited longer is dropped when it would be sent, or when room is needed; zero keeps it for ever. Counted in seconds, and in parts
    /// of a 64th; after a restart of the gateway it counts anew.
    pub max_age: Duration,
    /// What happens to a QoS 1 or 2 message that does not fit.
    pub when_full: QueueFull,
    /// Whether QoS 0 messages are queued while the other side is away, in memory.
    pub store_qos0: bool,
    /// Topics whose messages go first; the first filter that matches decides, others have priority 0.
    pub priorities: Vec<(TopicFilter, u8)>,
}

impl QueueRules {
    /// The priority of a topic.
    pub fn priority(&self, topic: &[u8]) -> u8 {
        let first = self.priorities.iter().find(|(filter, _)| filter.matches(topic));
        first.map_or(0, |(_, priority)| *priority)
    }
}

/// What happens to a QoS 1 or 2 message that does not fit into a queue. Every drop is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum QueueFull {
    /// The oldest queued message gives way.
    #[default]
    DropOldest,
    /// The new message is not queued.
    DropNewest,
    /// The publisher is refused (0x97) and nobody gets the message.
    Refuse,
}
