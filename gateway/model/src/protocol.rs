//! What a protocol gives to whoever serves it, over connections or over datagrams. docs/adapters.md shows how to add one.

use crate::bus::PeerName;
use crate::datagram::Address;
use crate::{
    DatagramServer, Endpoint, Fault, Framer, Instant, MemoryLimit, MountPoint, Naming, Qos, Rewriter, Secret,
    Wire,
};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Files of a folder by their names, whole.
pub type Files = BTreeMap<String, Bytes>;

/// One protocol over connections, with its settings: it makes an endpoint and a wire for each of them.
pub trait StreamProtocol: Send + Sync + Sized + 'static {
    /// As in `protocol` of a listener.
    const NAME: &'static str;

    /// Its subprotocols of WebSocket, best first. RFC 6455 §1.9
    const SUBPROTOCOLS: &'static [&'static str] = &[];

    /// It is text as far as its frames are: clients may send text frames of WebSocket, and get some where the bytes are UTF-8; and SockJS can carry it. RFC 6455 §5.6
    const IS_TEXT: bool = false;

    /// Its clients need not say a QoS: a listener may say one for them ([`PeerFacts::default_qos`]).
    const HAS_DEFAULT_QOS: bool = false;

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

/// One protocol over datagrams: it makes the server of one socket or serial line.
pub trait DatagramProtocol: 'static {
    /// As in messages, and in front of what is told of its listeners under `$SYS`.
    const NAME: &'static str;

    /// What its clients are said to speak, where they are listed.
    const SPOKEN: &'static str = Self::NAME;

    /// Where a gateway without a configuration serves it; `None` for nowhere.
    const DEFAULT_BIND: Option<&'static str> = None;

    /// Its part of a listener's settings.
    type Settings: Clone + PartialEq + Send + Sync + 'static;
    /// How frames are told apart on a serial line; `()` if it has no serial form.
    type Framing: Clone + PartialEq + Send + Sync + 'static;
    /// Cuts them; [`NoFramer`](crate::NoFramer) if it has no serial form.
    type Framer: Framer + Unpin + Send + 'static;
    /// All clients of one socket or line.
    type Server<A: Address + Unpin + Send + 'static>: DatagramServer<Address = A> + Unpin + Send + 'static;

    /// All that is wrong with the settings, for clients whose topics have `mount` in front; keys as seen from their section.
    fn faults(settings: &Self::Settings, mount: &MountPoint) -> Vec<Fault>;

    /// The key of the user name that is missing when the settings publish without one for senders who are never answered: if anonymous clients
    /// are not let in, that would be dropped without a word. `None` if every client hears that it is refused.
    fn unanswered_anonymous(settings: &Self::Settings) -> Option<&'static str>;

    /// The log-ins that stand in the settings, for clients that cannot send one. Default: none.
    fn logins(_settings: &Self::Settings) -> Vec<ConfiguredLogin> {
        Vec::new()
    }

    /// The user name that the settings have for a client of this id, which sends none. Default: none.
    fn user_of(_settings: &Self::Settings, _client_id: &str) -> Option<String> {
        None
    }

    /// Folders that the settings name, by their keys as seen from the section. Whoever serves the protocol reads their files, and gives them to [`Self::supply`]. Default: none.
    fn folders(_settings: &Self::Settings) -> Vec<(&'static str, &Path)> {
        Vec::new()
    }

    /// Puts what is in such a folder into the settings. What of it is no good, in words: that is left out. The same files again are the same settings.
    fn supply(_settings: &mut Self::Settings, _key: &'static str, _files: &Arc<Files>) -> Vec<String> {
        Vec::new()
    }

    /// The server of a socket or line, with settings that have no faults for the mount point of `naming`. What it keeps is counted in `memory`.
    ///
    /// # Panics
    ///
    /// May panic if they have faults.
    fn server<A: Address + Unpin + Send + 'static>(
        settings: &Self::Settings,
        naming: Arc<Naming>,
        now: Instant,
        memory: Arc<MemoryLimit>,
    ) -> Self::Server<A>;

    /// Gives a server other settings, that have no faults either, and other names with the same mount point. Clients that are connected stay.
    fn change<A: Address + Unpin + Send + 'static>(
        server: &mut Self::Server<A>,
        settings: &Self::Settings,
        naming: Arc<Naming>,
        now: Instant,
    );

    /// The framer of a serial line; `None` if the protocol has no serial form.
    fn framer(settings: &Self::Settings, framing: &Self::Framing) -> Option<Self::Framer>;
}

/// A user name and a password that stand in the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfiguredLogin {
    /// The key of the user name, as seen from the protocol's section.
    pub key: String,
    /// The user name; not empty.
    pub username: String,
    /// The password.
    pub password: Secret,
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
    /// QoS of what says none, if the listener has one for that.
    pub default_qos: Option<Qos>,
    /// Nothing but UTF-8 can be carried to the peer, as by SockJS.
    pub carries_text_only: bool,
}
