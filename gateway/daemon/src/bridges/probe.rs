//! `headgate bridge test`: the way to a remote, one step after the other, and how each went.

use super::credentials;
use super::error::RegisterError;
use super::provisioner::Provisioner;
use headgate_bridge::BridgePlan;
use headgate_client::{Client, ClientError};
use headgate_dial::{Dial, DialError, Step};
use headgate_mqtt_codec::{Connect, Packet, PacketId, Unsubscribe, Utf8, Utf8Error, Version};
use schemars::JsonSchema;
use serde::Serialize;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

/// 2024-01-01: a clock before it was never set.
const CLOCK_IS_SET: Duration = Duration::from_secs(1_704_067_200);
/// For the answer to what we ask.
const PATIENCE: Duration = Duration::from_secs(10);

/// How one step went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Finding {
    /// The address that was tried.
    pub address: String,
    /// `clock`, `credentials`, `name`, `network`, `proxy`, `tls`, `websocket`, `provisioning`, `login` or `round_trip`.
    pub step: &'static str,
    /// Whether it is as it should be.
    pub ok: bool,
    /// What was found.
    pub detail: String,
    /// Milliseconds that it took.
    pub milliseconds: u64,
}

/// Tries all addresses, then calls `after`. The remote sees another client identifier, so that a bridge that is connected stays so; where it lets nobody in
/// under another ([`BridgePlan::is_bound_to_client_id`]), the bridge must be paused meanwhile.
pub(super) fn start(
    plan: Arc<BridgePlan>,
    dials: Vec<Dial>,
    provisioner: Option<Arc<Provisioner>>,
    after: impl FnOnce() + Send + 'static,
) -> UnboundedReceiver<Finding> {
    let (findings, found) = unbounded_channel();
    tokio::spawn(async move {
        for dial in dials {
            let mut walk = Walk {
                address: dial.target.place.to_string(),
                since: Instant::now(),
                findings: findings.clone(),
            };
            let _ = match &provisioner {
                Some(provisioner) => walk.go_provisioned(provisioner, &dial).await,
                None => walk.go(&plan, &dial).await,
            };
        }
        after();
    });
    found
}

struct Walk {
    address: String,
    since: Instant,
    findings: UnboundedSender<Finding>,
}

/// Nothing more is to be found out at this address.
struct Over;

impl Walk {
    fn tell(&mut self, step: &'static str, ok: bool, detail: impl ToString) {
        let milliseconds = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.since = Instant::now();
        let _ = self.findings.send(Finding {
            address: self.address.clone(),
            step,
            ok,
            detail: detail.to_string(),
            milliseconds,
        });
    }

    fn fail(&mut self, step: &'static str, detail: impl ToString) -> Over {
        self.tell(step, false, detail);
        Over
    }

    /// First to the service that names the remote, then to the remote.
    async fn go_provisioned(&mut self, provisioner: &Provisioner, dial: &Dial) -> Result<(), Over> {
        self.address = provisioner.service().target.place.to_string();
        let asked = provisioner.inquire(&mut |step| self.tell_step(&step)).await;
        let assignment = asked.map_err(|error| {
            let step = match &error {
                RegisterError::Credentials(_) => "credentials",
                RegisterError::Client(error) => step_of(error),
                RegisterError::Answer(_) => "provisioning",
            };
            self.fail(step, error)
        })?;
        let found = format!("assigned to `{}` as `{}`", assignment.hub, assignment.device);
        self.tell("provisioning", true, found);
        let place = provisioner.place_of(&assignment, dial);
        let place = place.map_err(|error| self.fail("provisioning", error))?;
        self.address = place.dial.target.place.to_string();
        self.go(&place.plan, &place.dial).await
    }

    fn tell_step(&mut self, step: &Step) {
        let name = match step {
            Step::Resolved(_) => "name",
            Step::Leaves(_) | Step::Connected(_) => "network",
            Step::Proxied => "proxy",
            Step::Secured(_) => "tls",
            Step::Upgraded => "websocket",
        };
        self.tell(name, true, step);
    }

    async fn go(&mut self, plan: &BridgePlan, dial: &Dial) -> Result<(), Over> {
        if dial.target.tls {
            let now = SystemTime::now();
            let set = now
                .duration_since(UNIX_EPOCH)
                .is_ok_and(|now| now >= CLOCK_IS_SET);
            let time = humantime::format_rfc3339_seconds(now);
            self.tell("clock", set, time);
        }
        let login = credentials::read(&plan.settings().login, SystemTime::now()).await;
        let login = login.map_err(|error| self.fail("credentials", error))?;
        let username = login.username.map(Utf8::try_from).transpose();
        let connect = Connect {
            keep_alive: 60,
            username: username.map_err(|error| self.fail("credentials", error))?,
            password: login.password.map(Into::into),
            ..guest(plan).map_err(|error| self.fail("credentials", error))?
        };
        let opened = Client::open_telling(dial, &connect, &mut |step| self.tell_step(&step)).await;
        let (mut client, _) = opened.map_err(|error| self.fail(step_of(&error), error))?;
        self.tell("login", true, format!("as `{}`", connect.client_id));
        client.send(&Packet::Unsubscribe(Box::new(Unsubscribe {
            packet_id: PacketId::MIN,
            filters: vec![Utf8::from("headgate/test")],
            user_properties: Vec::new(),
        })));
        match timeout(PATIENCE, client.recv()).await {
            Ok(Ok(packet)) => self.tell(
                "round_trip",
                true,
                format!("answered by {}", packet.packet_type()),
            ),
            Ok(Err(error)) => return Err(self.fail("round_trip", error)),
            Err(_) => return Err(self.fail("round_trip", format!("no answer within {PATIENCE:?}"))),
        }
        // The answer is known; how it takes its leave does not matter.
        let _ = client.close().await;
        Ok(())
    }
}

/// Who comes to look. The bridge itself leaves its session as it is.
fn guest(plan: &BridgePlan) -> Result<Connect, Utf8Error> {
    let id = plan.remote_client_id();
    if !plan.is_bound_to_client_id() {
        return Ok(Connect::new(
            plan.version(),
            Utf8::try_from(format!("{id}-test"))?,
        ));
    }
    let mut connect = Connect::new(plan.version(), Utf8::try_from(id.to_owned())?);
    connect.clean_start = plan.settings().clean_session;
    if plan.version() == Version::V5 {
        connect.properties.session_expiry = Some(plan.remote_session_expiry());
    }
    Ok(connect)
}

/// Where it ended.
fn step_of(error: &ClientError) -> &'static str {
    match error {
        ClientError::Dial(DialError::Resolve { .. }) => "name",
        ClientError::Dial(DialError::Connect { .. }) => "network",
        ClientError::Dial(DialError::Proxy { .. }) => "proxy",
        ClientError::Dial(DialError::Tls { .. } | DialError::File { .. } | DialError::NoAuthorities) => "tls",
        ClientError::Dial(DialError::WebSocket { .. }) => "websocket",
        ClientError::Timeout { .. } => "network",
        _ => "login",
    }
}
