//! The task of one bridge: does what its [`Uplink`] decides.

use super::attempt::Attempt;
use super::budget::Budget;
use super::provisioner::Provisioner;
use super::{BridgeError, bytes_of, credentials};
use crate::deadline::until;
use crate::sys::unix_time;
use crate::timeline::ClockState;
use crate::wans::{Wans, Way};
use headgate_bridge::{
    BridgeEndpoint, BridgePlan, BridgeStatus, EndReason, Start, Uplink, UplinkAction, UplinkInput,
};
use headgate_bus::handle::Hub;
use headgate_dial::Dial;
use headgate_model::Naming;
use headgate_shell::{Connections, Metrics};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval};

/// How often the queue's length and the password's file are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long a connection may take to end that is asked to.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the task is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// End the connection, and make none.
    Pause,
    /// Go on.
    Resume,
    /// End the connection and the task.
    Leave,
}

/// What a task of a connection tells.
enum Told {
    Input(UplinkInput),
    /// Why there is no connection to this address.
    Unreached(String, BridgeError),
    /// The connection is there.
    Opened(Opened),
}

/// Of which connection it is told: those of one that was given up say nothing any more. `None`: of none.
type Tells = mpsc::UnboundedSender<(Option<u64>, Told)>;

struct Opened {
    renew_after: Option<Duration>,
    password: Option<String>,
    by_wan: bool,
}

/// See the module.
pub(super) struct Runner {
    /// Whether the system's clock is trusted.
    pub clock: Arc<ClockState>,
    pub hub: Hub,
    /// By which it leaves, if its settings do not say otherwise.
    pub wans: Wans,
    pub connections: Arc<Connections<BridgeEndpoint>>,
    /// How topics are rewritten of what comes in by the next connection.
    pub naming: Arc<Mutex<Arc<Naming>>>,
    /// What the connections counts.
    pub metrics: Arc<Metrics>,
    /// What it may move.
    pub budget: Option<Budget>,
    /// An operator does not want it to connect.
    pub paused: bool,
    pub plan: Arc<BridgePlan>,
    pub dials: Vec<Dial>,
    pub provisioner: Option<Arc<Provisioner>>,
    pub status: Arc<BridgeStatus>,
    pub uplink: Uplink,
    /// How many were dialed.
    pub connections_made: u64,
    pub orders: mpsc::UnboundedReceiver<Order>,
}

/// The connection that is dialed or open.
struct Open {
    /// Another one for each.
    number: u64,
    task: JoinHandle<()>,
    /// When it is opened again.
    renew_at: Option<Instant>,
    /// When it is cut off, for it was asked to end and did not.
    cut_at: Option<Instant>,
    password: Option<String>,
    /// It leaves by the WAN that was the way out, or would have.
    by_wan: bool,
    /// Which was that, when it was dialed.
    way: Option<Way>,
    /// It is not there yet.
    dialing: bool,
}

impl Runner {
    /// Runs until told to leave.
    pub(super) async fn run(mut self) {
        let (told, mut tells) = mpsc::unbounded_channel();
        let mut open: Option<Open> = None;
        let mut look = interval(LOOK);
        let mut leaving = false;
        let mut spent = self.is_spent();
        let mut way = self.wans.way();
        if self.paused || spent {
            self.step(UplinkInput::Paused, &told, &mut open);
        }
        self.step(UplinkInput::Started, &told, &mut open);
        while !leaving || open.is_some() {
            let clock = self.hub.clock();
            let deadline = self
                .uplink
                .deadline()
                .map(|at| Instant::from_std(clock.to_system(at)));
            tokio::select! {
                order = self.orders.recv() => match order {
                    Some(Order::Pause) => {
                        self.paused = true;
                        self.step(UplinkInput::Paused, &told, &mut open);
                    }
                    Some(Order::Resume) => {
                        self.paused = false;
                        if !spent {
                            self.step(UplinkInput::Resumed, &told, &mut open);
                        }
                    }
                    Some(Order::Leave) | None => {
                        leaving = true;
                        self.orders.close();
                        self.step(UplinkInput::Paused, &told, &mut open);
                    }
                },
                Some((of, tell)) = tells.recv() => match tell {
                    _ if of.is_some() && of != open.as_ref().map(|open| open.number) => {}
                    Told::Opened(opened) => {
                        if let Some(open) = &mut open {
                            open.renew_at = opened.renew_after.map(|after| Instant::now() + after);
                            open.password = opened.password;
                            open.by_wan = opened.by_wan;
                            open.dialing = false;
                        }
                    }
                    Told::Unreached(address, error) => {
                        let bridge = &self.plan.settings().name;
                        self.status.set_failure(&address, &error.to_string());
                        tracing::warn!(bridge, %error, "bridge does not reach its remote");
                        if self.leaves_by_wan(open.as_ref()) {
                            self.wans.doubt();
                        }
                    }
                    Told::Input(input) => {
                        let by_wan = self.leaves_by_wan(open.as_ref());
                        if matches!(&input, UplinkInput::Ended(_) | UplinkInput::Dialed(false)) {
                            open = None;
                        }
                        self.note(&input);
                        if by_wan && matches!(&input, UplinkInput::Ended(reason) if *reason != EndReason::Asked) {
                            self.wans.doubt();
                        }
                        self.step(input, &told, &mut open);
                    }
                },
                () = until(deadline) => self.step(UplinkInput::Timeout, &told, &mut open),
                _ = look.tick() => {
                    let was_spent = std::mem::replace(&mut spent, self.is_spent());
                    if spent && !was_spent {
                        self.step(UplinkInput::Paused, &told, &mut open);
                    } else if was_spent && !spent && !self.paused {
                        self.step(UplinkInput::Resumed, &told, &mut open);
                    }
                    let before = std::mem::replace(&mut way, self.wans.way());
                    let left_by = open.as_ref().map_or(&before, |open| &open.way);
                    let is_moved = *left_by != way && self.leaves_by_wan(open.as_ref());
                    if is_moved && !self.paused && !spent && !leaving {
                        self.come_again(&told, &mut open);
                    }
                    self.look(&told, &mut open).await;
                }
            }
        }
    }

    /// Whether the month's volume is used up.
    fn is_spent(&mut self) -> bool {
        let Some(budget) = &mut self.budget else {
            return false;
        };
        let spent = budget.is_spent(bytes_of(&self.metrics), unix_time());
        if spent {
            self.status.set_error("the month's volume is spent");
        }
        spent
    }

    /// By another WAN, and at once: its queue stays what it is.
    fn come_again(&mut self, told: &Tells, open: &mut Option<Open>) {
        if let Some(dialed) = open.take_if(|open| open.dialing) {
            dialed.task.abort();
            self.step(UplinkInput::Dialed(false), told, open);
        }
        self.step(UplinkInput::Paused, told, open);
        self.step(UplinkInput::Resumed, told, open);
    }

    /// Whether it should come again when another WAN is the way out: what does not leave by one goes on.
    fn leaves_by_wan(&self, open: Option<&Open>) -> bool {
        let settings = self.plan.settings();
        settings.wan && settings.bind.is_none() && open.is_none_or(|open| open.by_wan)
    }

    /// What operators shall know of it.
    fn note(&self, input: &UplinkInput) {
        let bridge = &self.plan.settings().name;
        match input {
            UplinkInput::Dialed(true) => {
                tracing::debug!(bridge, remote = self.status.remote(), "bridge connects");
            }
            UplinkInput::Ended(EndReason::Asked) => tracing::info!(bridge, "bridge disconnected"),
            UplinkInput::Ended(reason) => {
                // What the remote said, or what broke the connection, says more.
                let error = match self.status.last_error() {
                    error if error.is_empty() => reason.to_string(),
                    error => error,
                };
                tracing::warn!(bridge, %reason, error, "bridge lost its remote");
                self.status.set_failure(&self.status.remote(), &error);
            }
            _ => {}
        }
    }

    fn step(&mut self, input: UplinkInput, told: &Tells, open: &mut Option<Open>) {
        let clock = self.hub.clock();
        let mut actions = Vec::new();
        self.uplink
            .handle(input, clock.now(), self.wall_time(), &mut actions);
        for action in actions {
            match action {
                UplinkAction::Dial(at) => *open = Some(self.connect(at, told.clone())),
                UplinkAction::Close => self.close(told, open),
                UplinkAction::ProbePrimary => {
                    let (dial, told) = (self.dials[0].clone(), told.clone());
                    tokio::spawn(async move {
                        let answers = Attempt::answers(dial).await;
                        let _ = told.send((None, Told::Input(UplinkInput::PrimaryAnswers(answers))));
                    });
                }
                UplinkAction::SetState(state) => self.status.set_state(state, clock.now()),
            }
        }
        self.status.set_next_try(self.uplink.next_try());
        let by_wan = open.as_ref().filter(|open| open.by_wan && !open.dialing);
        let way = by_wan.and_then(|open| open.way.as_ref());
        self.status.set_way_out(way.map(Way::name));
    }

    /// What the system's clock says, by which certificates and windows are judged; 1970 as long as it is not trusted.
    fn wall_time(&self) -> headgate_model::WallTime {
        match self.clock.is_untrusted() {
            true => headgate_model::WallTime(0),
            false => system_time(),
        }
    }

    fn connect(&mut self, at: usize, told: Tells) -> Open {
        let attempt = Attempt {
            plan: Arc::clone(&self.plan),
            status: Arc::clone(&self.status),
            connections: Arc::clone(&self.connections),
            naming: Arc::clone(&self.naming.lock()),
            dial: self.dials[at].clone(),
            provisioner: self.provisioner.clone(),
        };
        // Before the first WAN has a link it leaves as the system says, and is to come by that one.
        let way = self.wans.way();
        let is_undecided = way.is_none();
        self.connections_made += 1;
        let number = self.connections_made;
        // Nobody hears of it only when the bridge has left.
        let task = tokio::spawn(async move {
            let tell = |told_of: Told| drop(told.send((Some(number), told_of)));
            let input = match attempt.dial().await {
                Err(error) => {
                    let address = attempt.dial.target.place.to_string();
                    tell(Told::Unreached(address, error));
                    UplinkInput::Dialed(false)
                }
                Ok(dialed) => {
                    tell(Told::Opened(Opened {
                        renew_after: dialed.renew_after,
                        password: dialed.password.clone(),
                        by_wan: dialed.by_wan || is_undecided,
                    }));
                    tell(Told::Input(UplinkInput::Dialed(true)));
                    UplinkInput::Ended(attempt.run(dialed).await)
                }
            };
            tell(Told::Input(input));
        });
        Open {
            number,
            task,
            renew_at: None,
            cut_at: None,
            password: None,
            by_wan: true,
            way,
            dialing: true,
        }
    }

    /// Asks the endpoint to say goodbye; one that cannot is cut off later. One that has not opened the session yet could not hear of it, and go on to
    /// send: it is cut off at once.
    fn close(&self, told: &Tells, open: &mut Option<Open>) {
        let Some(connection) = open else { return };
        if self.hub.kick(self.plan.local_client_id().as_str()) {
            connection.cut_at.get_or_insert(Instant::now() + PATIENCE);
            return;
        }
        connection.task.abort();
        *open = None;
        let _ = told.send((None, Told::Input(UplinkInput::Ended(EndReason::Asked))));
    }

    async fn look(&mut self, told: &Tells, open: &mut Option<Open>) {
        // Nothing else is decided by it, and the bus is held while it is summed up.
        if self.plan.settings().uplink.start == Start::Lazy {
            let report = self.hub.link_report(self.plan.local_client_id().as_str());
            let waiting = report.map_or(0, |report| report.queued + report.queued_qos0 + report.in_flight);
            self.step(UplinkInput::QueueLength(waiting), told, open);
        }
        let Some(connection) = open else { return };
        let now = Instant::now();
        if connection.cut_at.is_some_and(|at| at <= now) {
            connection.task.abort();
            *open = None;
            return self.step(UplinkInput::Ended(EndReason::Asked), told, open);
        }
        let password = credentials::changed_password(&self.plan.settings().login).await;
        let changed = password.is_some() && connection.password.is_some() && password != connection.password;
        if changed || connection.renew_at.is_some_and(|at| at <= now) {
            (connection.renew_at, connection.password) = (None, None);
            // It ends, and begins anew at once.
            self.step(UplinkInput::Paused, told, open);
            self.step(UplinkInput::Resumed, told, open);
        }
    }
}

/// What the system's clock says: certificates and windows are judged by it, not by the gateway's own time.
fn system_time() -> headgate_model::WallTime {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
    let ms = since_1970.map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    headgate_model::WallTime(ms)
}
