//! The shared vocabulary of Headgate.
//!
//! Every protocol adapter speaks these words to the bus and the bus speaks them back; the store keeps them.
//! Nothing here does I/O, reads a clock or depends on another crate of the house.

pub mod access;
pub mod bus;
mod credit;
pub mod datagram;
pub mod endpoint;
mod fault;
mod framer;
pub mod gate;
pub mod link;
pub mod memory;
pub mod message;
pub mod metrics;
mod pace;
pub mod path;
mod protocol;
pub mod rewrite;
mod rules_of;
mod seats;
mod secret;
mod sessions;
pub mod store;
pub mod subscription;
pub mod time;
pub mod topic;
pub mod trace;
pub mod traceparent;

pub use access::{AccessDecision, AccessPolicy, AccessRequest, Action, Answer, Identity, Question};
pub use bus::{
    AckToken, BusCommand, BusEvent, CloseReason, EndpointId, Open, OpenWill, Settlement, WillChange,
};
pub use datagram::{Asked, DatagramOutputs, DatagramServer, Destination, UserLimit, UserRates};
pub use endpoint::{Endpoint, Input, Outputs, Wire};
pub use fault::Fault;
pub use framer::{Framer, FramerCounts, NoFramer, NoFraming};
pub use gate::{Admitted, Entrant, Gate, NameError, Naming, Refused, Verdict, WillTopic};
pub use link::{Link, QueueFull, QueueRules};
pub use memory::MemoryLimit;
pub use message::{Delivery, DeliveryId, Message, Properties, Qos, SessionId, SubscriptionIds, Will};
pub use metrics::{Counter, Counts, Metric};
pub use pace::Pace;
pub use protocol::{ConfiguredLogin, DatagramProtocol, Files, PeerFacts, StreamProtocol};
pub use rewrite::{RewriteAction, RewriteError, RewriteRule, Rewriter};
pub use rules_of::RulesOf;
pub use seats::Seats;
pub use secret::Secret;
pub use sessions::{Many, One, SessionKey, Sessions};
pub use store::{Store, StoreError, StoreImage, StoreOp};
pub use subscription::{RetainHandling, Share, Subscription, SubscriptionName, SubscriptionOptions};
pub use time::{Instant, WallTime};
pub use topic::{ClientId, MountPoint, Topic, TopicError, TopicFilter, undelayed};
