//! CoAP as a protocol that is registered.

use crate::{CoapConnection, CoapServer, CoapSettings, CoapWire};
use headgate_model::datagram::Address;
use headgate_model::{
    ConfiguredLogin, DatagramProtocol, Fault, Instant, MemoryLimit, MountPoint, Naming, NoFramer, NoFraming,
    PeerFacts, Rewriter, StreamProtocol,
};
use std::sync::Arc;

/// CoAP over datagrams.
#[derive(Debug)]
pub struct Coap;

/// CoAP over connections. RFC 8323
#[derive(Clone, Debug)]
pub struct CoapTcp(CoapSettings);

impl StreamProtocol for CoapTcp {
    const NAME: &'static str = "coap";

    type Settings = CoapSettings;
    type Endpoint = CoapConnection;
    type Wire = CoapWire;

    fn faults(settings: &CoapSettings) -> Vec<Fault> {
        settings.faults()
    }

    fn new(settings: &CoapSettings, _node: &str) -> Self {
        Self(settings.clone())
    }

    fn naming(&self, mount: MountPoint, rewriter: Arc<Rewriter>) -> Naming {
        Naming {
            mount,
            rewriter,
            ..Naming::default()
        }
    }

    fn endpoint(&self, facts: PeerFacts, now: Instant) -> CoapConnection {
        CoapConnection::new(self.0.clone(), facts, now)
    }

    fn wire(&self) -> CoapWire {
        CoapWire::new(&self.0)
    }
}

impl DatagramProtocol for Coap {
    const NAME: &'static str = "coap";
    const DEFAULT_BIND: Option<&'static str> = Some("127.0.0.1:5683");

    type Settings = CoapSettings;
    type Framing = NoFraming;
    type Framer = NoFramer;
    type Server<A: Address + Unpin + Send + 'static> = CoapServer<A>;

    fn faults(settings: &CoapSettings, _: &MountPoint) -> Vec<Fault> {
        settings.faults()
    }

    fn unanswered_anonymous(_: &CoapSettings) -> Option<&'static str> {
        None
    }

    fn logins(settings: &CoapSettings) -> Vec<ConfiguredLogin> {
        settings.logins()
    }

    fn user_of(settings: &CoapSettings, _: &str) -> Option<String> {
        let user = &settings.default_username;
        (!user.is_empty()).then(|| user.clone())
    }

    fn server<A: Address + Unpin + Send + 'static>(
        settings: &CoapSettings,
        naming: Arc<Naming>,
        _: Instant,
        memory: Arc<MemoryLimit>,
    ) -> CoapServer<A> {
        CoapServer::new(settings.clone(), naming, memory)
    }

    fn change<A: Address + Unpin + Send + 'static>(
        server: &mut CoapServer<A>,
        settings: &CoapSettings,
        naming: Arc<Naming>,
        _: Instant,
    ) {
        server.change(settings.clone(), naming);
    }

    fn framer(_: &CoapSettings, _: &NoFraming) -> Option<NoFramer> {
        None
    }
}
