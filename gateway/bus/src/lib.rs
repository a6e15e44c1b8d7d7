//! The publish/subscribe bus: routing, sessions, queues, retained messages, wills, shared subscriptions.
//!
//! [`Bus`] is a plain struct: it is handed commands and the time, and writes down events for endpoints and operations for the store. It
//! holds no clock, lock, thread or `async`, and nothing it writes depends on the order of a hash map: the same input gives the same output.
//!
//! Always true:
//! - An acknowledgement ([`BusEvent::Accepted`](headgate_model::BusEvent::Accepted) and its like) leaves after the batch that holds what it
//!   promises was committed, and in the order of what it acknowledges.
//! - A QoS 1 or 2 delivery is in exactly one place of its session: in the queue or in flight.
//! - A message body is in the store as long as a queue, a retained entry or a delayed entry refers to it.

mod acks;
mod attachment;
mod bus;
mod clients;
mod delayed;
mod deliveries;
mod delivery;
mod duplicates;
mod flush;
mod gauges;
#[cfg(feature = "handle")]
pub mod handle;
mod index;
mod inflight;
mod lanes;
mod leave;
mod ledger;
mod links;
mod loops;
mod members;
mod memory;
mod notes;
mod numbers;
mod open;
mod ordered;
mod overflow;
mod paging;
mod pending;
mod publish;
mod queries;
mod queue;
mod rare;
mod reading;
mod received;
mod requests;
mod restore;
mod retained;
mod retention;
mod routing;
mod session;
mod sessions;
mod settings;
mod shared;
mod sleepers;
mod slow;
mod stamp;
mod stats;
mod store;
mod subscriptions;
mod sweep;
mod take_overs;
mod timers;
mod trie;
mod turns;
mod users;
mod wills;

pub use bus::{Bus, BusOutputs, Notice};
pub use headgate_model::QueueFull;
pub use ledger::{Drops, TopicDrops};
pub use links::LinkReport;
pub use paging::FetchRequest;
pub use publish::HUB;
pub use queries::{
    ClientInfo, ClientState, DelayedCursor, DelayedInfo, DeliveryInfo, MAX_PAGE, Page, QueryError, QueuePage,
    Receivers, SessionInfo, StoredCursor, SubscriptionCursor, SubscriptionInfo,
};
pub use reading::RulesChange;
pub use requests::{MAX_REQUEST, Request};
pub use settings::{
    AutoSubscription, BusSettings, DelayedSettings, LinkSettings, Overlap, RetainedSettings, SettingsError,
    SharedStrategy, SleeperSettings, TopicPriority,
};
pub use slow::SlowClient;
pub use stamp::{ClockQuality, StampClock};
pub use stats::{BusStats, DropReason, MemoryStats};
