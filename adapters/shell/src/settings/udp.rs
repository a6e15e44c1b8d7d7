//! What a UDP socket is told.

use std::net::{IpAddr, SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::AddressRules;

/// One UDP socket, as its protocol's settings describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdpSettings {
    /// Where to listen, as in [`ListenerSettings`](super::ListenerSettings).
    pub bind: String,
    /// An IPv6 address takes no IPv4 datagrams.
    pub ipv6_only: bool,
    /// Whose datagrams are taken.
    pub access: AddressRules,
    /// Room in the system for datagrams that wait to be read; 0 for what the system gives.
    pub receive_buffer_bytes: usize,
    /// A group to listen to.
    pub multicast: Option<MulticastSettings>,
    /// Where what is for everybody is sent; by default to the multicast group, if there is one.
    pub broadcast_to: Option<SocketAddr>,
}

/// A multicast group by which clients find the gateway. The socket must be bound to `0.0.0.0` or `[::]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MulticastSettings {
    /// The group's address, such as `239.1.1.1` or `ff02::1:1`.
    pub group: IpAddr,
    /// Interfaces on which it is joined, by name or number. Default: the one that the system chooses.
    #[serde(default)]
    pub interfaces: Vec<String>,
    /// How many routers what we send to the group may pass, plus one. Default: 1, it stays in the network.
    #[serde(default = "one")]
    pub hops: u8,
}

/// Room for datagrams that wait, where nothing else is said: a burst of a few thousand.
pub const DEFAULT_RECEIVE_BUFFER: usize = 4 << 20;

impl Default for UdpSettings {
    fn default() -> Self {
        Self {
            bind: "127.0.0.1:0".into(),
            ipv6_only: false,
            access: AddressRules::default(),
            receive_buffer_bytes: DEFAULT_RECEIVE_BUFFER,
            multicast: None,
            broadcast_to: None,
        }
    }
}

fn one() -> u8 {
    1
}
