//! The protocols that listeners speak: each is registered once, under its name, and serves connections of any kind.

use crate::connection::Connection;
use crate::drive::{Connections, drive};
use crate::http::Http;
use crate::limit::ConnectionLimit;
use crate::metrics::Metrics;
use crate::stages::Stages;
use crate::trace::Tracer;
use crate::transport::Transport;
use headgate_access::{AccessService, PeerAddr};
use headgate_bus::handle::{Attach, Hub};
use headgate_model::memory::Want;
use headgate_model::{Endpoint, Metric, MountPoint, Naming, PeerFacts, Qos, Rewriter, StreamProtocol};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio_util::task::TaskTracker;

/// What every connection needs, of whatever protocol.
#[derive(Clone)]
pub struct Serving {
    /// The bus.
    pub hub: Hub,
    /// Where what is counted is added up.
    pub metrics: Arc<Metrics>,
    /// Knows who may connect.
    pub access: Arc<dyn AccessService>,
    /// Counts what is open: who stops the gateway waits for it.
    pub open: TaskTracker,
    /// Who is traced.
    pub tracer: Tracer,
    /// What holds for all clients together.
    pub total: ConnectionLimit,
}

/// The protocols by their names.
pub struct Protocols {
    serving: Serving,
    by_name: BTreeMap<&'static str, Arc<dyn Serve>>,
}

impl Protocols {
    /// None yet.
    pub fn new(serving: Serving) -> Self {
        Self {
            serving,
            by_name: BTreeMap::new(),
        }
    }

    /// One more. A name stands for the protocol that was registered last under it.
    pub fn register<P>(&mut self, protocol: P)
    where
        P: StreamProtocol<Endpoint: Endpoint<Sessions: Attach>>,
    {
        let Serving {
            hub,
            metrics,
            open,
            tracer,
            ..
        } = self.serving.clone();
        let served = Served {
            protocol,
            serving: self.serving.clone(),
            connections: Arc::new(Connections::new(hub, &metrics, open).traced_by(tracer)),
        };
        self.by_name.insert(P::NAME, Arc::new(served));
    }

    /// HTTP, under this name.
    pub fn register_http(&mut self, name: &'static str, http: Http) {
        let open = self.serving.open.clone();
        self.by_name.insert(name, Arc::new(ServedHttp { http, open }));
    }

    /// How clients of a listener that speaks this protocol name topics; `None` for a name that nobody registered.
    pub fn naming(&self, name: &str, mount: MountPoint, rewriter: &Arc<Rewriter>) -> Option<Naming> {
        Some(self.by_name.get(name)?.naming(mount, Arc::clone(rewriter)))
    }

    /// What [runs](crate::Listener::run) a listener that speaks this protocol and has this mount point, and this QoS for what says none; `None` for a name that nobody registered.
    pub fn handler(
        &self,
        name: &str,
        mount: MountPoint,
        rewriter: &Arc<Rewriter>,
        default_qos: Option<Qos>,
    ) -> Option<impl Fn(Connection) -> Stages + Send + Sync + 'static> {
        let served = Arc::clone(self.by_name.get(name)?);
        let naming = Arc::new(served.naming(mount, Arc::clone(rewriter)));
        Some(move |connection| served.serve(connection, &naming, default_qos))
    }
}

/// A protocol without its types.
trait Serve: Send + Sync {
    fn naming(&self, mount: MountPoint, rewriter: Arc<Rewriter>) -> Naming;
    fn serve(&self, connection: Connection, naming: &Arc<Naming>, default_qos: Option<Qos>) -> Stages;
}

struct Served<P: StreamProtocol> {
    protocol: P,
    serving: Serving,
    connections: Arc<Connections<P::Endpoint>>,
}

impl<P: StreamProtocol<Endpoint: Endpoint<Sessions: Attach>>> Serve for Served<P> {
    fn naming(&self, mount: MountPoint, rewriter: Arc<Rewriter>) -> Naming {
        self.protocol.naming(mount, rewriter)
    }

    fn serve(&self, connection: Connection, naming: &Arc<Naming>, default_qos: Option<Qos>) -> Stages {
        let memory = self.serving.hub.memory();
        if !memory.allows(Want::ToGoOn, memory.used()) {
            tracing::info!(peer = %connection.info.peer, "no memory left: a connection is refused");
            self.connections.count(Metric::MemoryShed);
            return Stages::one(async move { drop(connection) });
        }
        connection.transport.count_in(memory);
        let (peer, peer_port) = match connection.info.peer {
            PeerAddr::Ip(address) => (address.ip().into(), address.port()),
            other => (other.to_string().as_str().into(), 0),
        };
        let facts = PeerFacts {
            peer,
            peer_port,
            naming: Arc::clone(naming),
            nonce: nonce(),
            default_qos,
            carries_text_only: matches!(connection.transport, Transport::SockJs(_)),
        };
        let endpoint = self.protocol.endpoint(facts, self.serving.hub.clock().now());
        let access = self.serving.access.session(&connection.info);
        drive(
            endpoint,
            self.protocol.wire(),
            connection,
            access,
            &self.connections,
        )
    }
}

struct ServedHttp {
    http: Http,
    open: TaskTracker,
}

impl Serve for ServedHttp {
    fn naming(&self, mount: MountPoint, rewriter: Arc<Rewriter>) -> Naming {
        Naming {
            mount,
            rewriter,
            ..Naming::default()
        }
    }

    fn serve(&self, connection: Connection, _: &Arc<Naming>, _: Option<Qos>) -> Stages {
        self.http.serve(connection, &self.open)
    }
}

/// A number nobody can guess.
fn nonce() -> u128 {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the system had random numbers when the gateway started");
    u128::from_ne_bytes(bytes)
}
