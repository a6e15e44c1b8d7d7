//! What a protocol over connections gives to whoever serves them. docs/adapters.md shows how to add one.

use crate::bus::PeerName;
use crate::{Endpoint, Fault, Instant, MountPoint, Naming, Rewriter, Wire};
use std::sync::Arc;

/// One protocol over connections, with its settings: it makes an endpoint and a wire for each of them.
pub trait StreamProtocol: Send + Sync + Sized + 'static {
    /// As in `protocol` of a listener.
    const NAME: &'static str;

    /// Its section of the configuration.
    type Settings;
    /// One client.
    type Endpoint: Endpoint<In: Send, Out: Send> + Send + 'static;
    /// Its bytes.
    type Wire: Wire<In = <Self::Endpoint as Endpoint>::In, Out = <Self::Endpoint as Endpoint>::Out>
        + Send
        + 'static;

    /// All that is wrong with the settings, with keys as seen from their section.
    fn faults(settings: &Self::Settings) -> Vec<Fault>;

    /// The protocol with settings that have no faults. `node`: the gateway's name among others.
    fn new(settings: &Self::Settings, node: &str) -> Self;

    /// How clients of a listener with this mount point name topics.
    fn naming(&self, mount: MountPoint, rewriter: Arc<Rewriter>) -> Naming;

    /// The endpoint of a connection that was accepted at `now` and has said nothing yet.
    fn endpoint(&self, facts: PeerFacts, now: Instant) -> Self::Endpoint;

    /// The wire of the same connection.
    fn wire(&self) -> Self::Wire;
}

/// What is known of a connection before the first byte.
#[derive(Clone, Debug, Default)]
pub struct PeerFacts {
    /// Where the peer is, without port.
    pub peer: PeerName,
    /// Peer port; 0 when there is none.
    pub peer_port: u16,
    /// How clients of the listener name topics.
    pub naming: Arc<Naming>,
    /// A number nobody else has: the client identifier of a client that sends none is made of it.
    pub nonce: u128,
}
