//! One connection of a bridge: from credentials to the end of the link.

use super::provisioner::{Assigned, Provisioner};
use super::{BridgeError, credentials, way};
use headgate_access::{AccessSession, Answering};
use headgate_bridge::{BridgeEndpoint, BridgePlan, BridgeStatus, BridgeWire, EndReason};
use headgate_dial::{self as dial, Dial, Step};
use headgate_model::Naming;
use headgate_shell::{Connection, Connections, Transport, drive};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::timeout;

/// For name, network, proxy, TLS and WebSocket together.
const DIAL_TIME: Duration = Duration::from_secs(30);

/// What one connection needs.
pub(super) struct Attempt {
    pub plan: Arc<BridgePlan>,
    pub status: Arc<BridgeStatus>,
    pub connections: Arc<Connections<BridgeEndpoint>>,
    pub naming: Arc<Naming>,
    pub dial: Dial,
    /// Who knows the remote, if the settings do not say it.
    pub provisioner: Option<Arc<Provisioner>>,
}

/// A connection that is there, and not yet used.
pub(super) struct Dialed {
    endpoint: BridgeEndpoint,
    wire: BridgeWire,
    connection: Connection,
    /// When it should be opened again, for what it was opened with ends.
    pub renew_after: Option<Duration>,
    /// The password that it was opened with, to see whether another is there now.
    pub password: Option<String>,
    /// It leaves by the WAN that is the way out.
    pub by_wan: bool,
}

impl Attempt {
    /// Everything up to CONNECT. The error is for operators.
    pub(super) async fn dial(&self) -> Result<Dialed, BridgeError> {
        let Assigned { plan, dial } = match &self.provisioner {
            Some(provisioner) => provisioner.place(&self.dial).await?,
            None => Assigned {
                plan: Arc::clone(&self.plan),
                dial: self.dial.clone(),
            },
        };
        let settings = plan.settings();
        let login = credentials::read(&settings.login, SystemTime::now()).await?;
        let credentials = login.credentials(plan.version())?;
        let place = dial.target.place.to_string();
        let mut by_wan = false;
        let mut hear = |step| by_wan |= matches!(step, Step::Leaves(_));
        let dialing = dial.connect(&mut hear);
        let dialed = timeout(DIAL_TIME, dialing).await;
        if let Some(provisioner) = &self.provisioner {
            provisioner.reached(matches!(dialed, Ok(Ok(_))));
        }
        let Ok(dialed) = dialed else {
            let within = DIAL_TIME;
            return Err(BridgeError::Timeout { place, within });
        };
        let dialed = dialed?;
        self.status.set_remote(&place);
        let private = settings.try_private && self.status.may_be_private();
        let now = self.connections.hub().clock().now();
        Ok(Dialed {
            endpoint: BridgeEndpoint::new(
                Arc::clone(&plan),
                credentials,
                Arc::clone(&self.status),
                private,
                now,
            )
            .with_naming(Arc::clone(&self.naming)),
            wire: BridgeWire::new(plan.version(), settings.max_packet_size),
            connection: Connection::outgoing(&settings.name, transport(dialed)),
            renew_after: login.renew_after,
            password: login.password,
            by_wan,
        })
    }

    /// Uses the connection until it ends.
    pub(super) async fn run(&self, dialed: Dialed) -> EndReason {
        let Dialed {
            endpoint,
            wire,
            mut connection,
            ..
        } = dialed;
        let broken_by = connection.broken_by();
        drive(
            endpoint,
            wire,
            connection,
            Box::new(NobodyAsks),
            &self.connections,
        )
        .await;
        let end = self.status.take_end().unwrap_or(EndReason::Lost);
        if end == EndReason::Lost
            && let Some(cause) = broken_by.cause()
        {
            self.status.set_error(&format!("the connection broke: {cause}"));
        }
        if let Some(provisioner) = &self.provisioner {
            provisioner.ended(end);
        }
        end
    }

    /// Whether somebody accepts connections there.
    pub(super) async fn answers(dial: Dial) -> bool {
        let bare = way::bare(dial);
        let mut unheard = |_| {};
        let connecting = bare.connect(&mut unheard);
        matches!(timeout(DIAL_TIME, connecting).await, Ok(Ok(_)))
    }
}

/// What `drive` takes.
fn transport(dialed: dial::Dialed) -> Transport {
    match dialed {
        dial::Dialed::Tcp(stream) => Transport::Tcp(stream),
        dial::Dialed::Tls(stream) => Transport::TlsOut(stream),
        dial::Dialed::WebSocket(piped) => Transport::Memory(piped.into_pipe()),
        #[cfg(unix)]
        dial::Dialed::Unix(stream) => Transport::Unix(stream),
    }
}

/// A bridge comes to the bus by configuration: nobody has to be asked.
struct NobodyAsks;

impl AccessSession for NobodyAsks {
    fn answer(self: Box<Self>, _: headgate_model::Question) -> Answering {
        Box::pin(std::future::pending())
    }
}
