//! A bridge: this gateway as a client of another broker, whose queue is a durable session of the bus. Without I/O.
//!
//! [`BridgePlan`] is what an operator set, checked. [`BridgeEndpoint`] decides everything about one connection to the remote, and stands in the
//! shell's loop as the endpoint of any client does. [`Uplink`] decides when to connect and to which address. [`BridgeStatus`] is what they tell.
//!
//! Always true: a message leaves the queue only when the remote has acknowledged it, or as a dead letter, or counted as dropped with its reason; what came
//! from the remote is acknowledged after the bus said that it may.

mod azure;
mod batch_body;
mod batch_settings;
mod batches;
mod batching;
mod clocks;
mod cloud_topics;
mod compression;
mod connect;
mod convert;
mod dps;
mod endpoint;
mod inbound;
mod mapping;
mod outbound;
mod plan;
mod presets;
mod rate;
mod reasons;
mod remote;
mod settings;
mod status;
mod throttle;
mod topics;
mod uplink;
mod uplink_settings;
mod wire;

pub use azure::{Assignment, Provisioning};
pub use batch_settings::BatchSettings;
pub use compression::Compression;
pub use dps::{Provisioned, ProvisioningError, ProvisioningInput, Registration};
pub use endpoint::BridgeEndpoint;
pub use mapping::{Mapped, TopicMap, Unmapped};
pub use plan::{BridgePlan, Credentials, CredentialsError};
pub use presets::Preset;
pub use reasons::{DeadReason, DropReason, EndReason};
pub use remote::{BridgeTls, Jwt, JwtAlgorithm, Login, Sas};
pub use settings::{
    BridgeSettings, BridgeSettingsError, BridgeVersion, BudgetSettings, QueueSettings, RateSettings,
};
pub use status::{BridgeState, BridgeStatus, Counter, DeadLetter};
pub use topics::{Direction, RetainRule, Rewrite, Throttle, TopicRule, TopicRuleError};
pub use uplink::{Uplink, UplinkAction, UplinkInput};
pub use uplink_settings::{
    LazySettings, RestartSettings, Start, UplinkSettings, UplinkSettingsError, Window,
};
pub use wire::{BridgeWire, Received};
