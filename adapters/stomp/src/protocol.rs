//! STOMP as a protocol that listeners speak.

use crate::{StompEndpoint, StompSettings, StompWire};
use headgate_model::{Fault, Instant, MountPoint, Naming, PeerFacts, Rewriter, StreamProtocol};
use std::sync::Arc;

/// STOMP 1.0, 1.1 and 1.2.
#[derive(Clone, Debug)]
pub struct Stomp(Arc<StompSettings>);

impl StreamProtocol for Stomp {
    const NAME: &'static str = "stomp";

    /// As in the registry of subprotocols of RFC 6455 §11.5.
    const SUBPROTOCOLS: &'static [&'static str] = &["v12.stomp", "v11.stomp", "v10.stomp"];

    const IS_TEXT: bool = true;

    const HAS_DEFAULT_QOS: bool = true;

    type Settings = StompSettings;
    type Endpoint = StompEndpoint;
    type Wire = StompWire;

    fn faults(settings: &StompSettings) -> Vec<Fault> {
        settings.faults()
    }

    fn new(settings: &StompSettings, _node: &str) -> Self {
        Self(Arc::new(settings.clone()))
    }

    fn naming(&self, mount: MountPoint, rewriter: Arc<Rewriter>) -> Naming {
        self.0.naming(mount, rewriter)
    }

    fn endpoint(&self, facts: PeerFacts, now: Instant) -> StompEndpoint {
        StompEndpoint::new(Arc::clone(&self.0), facts, now)
    }

    fn wire(&self) -> StompWire {
        StompWire::new(Arc::clone(&self.0))
    }
}
