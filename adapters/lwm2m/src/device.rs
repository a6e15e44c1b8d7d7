//! What is known of one client.

use crate::command::{Command, Kind};
use crate::exchange::Exchange;
use crate::firmware::Firmware;
use crate::registration::Registration;
use headgate_coap::Requester;
use headgate_coap_codec::{Message, Token};
use headgate_lwm2m_codec::{Format, Path};
use headgate_model::bus::Presence;
use headgate_model::gate::Waiting;
use headgate_model::{
    BusCommand, ClientId, CloseReason, DeliveryId, Identity, Instant, Pace, SessionKey, Subscription,
};
use serde_json::{Map, Value as Json};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// One client, from its registration to the end of it.
#[derive(Debug)]
pub(crate) struct Device<A> {
    /// Where it was last heard of.
    pub at: A,
    /// Its endpoint name, as access rules know it.
    pub id: ClientId,
    /// Its session on the bus.
    pub seat: SessionKey,
    pub state: State,
    pub identity: Option<Identity>,
    /// Who it was before the start.
    pub owner: Option<Arc<str>>,
    pub who: Option<Arc<Presence>>,
    pub registration: Registration,
    /// The name of its registration, which only it knows: `/rd/{location}`.
    pub location: String,
    /// When it registered, or updated that, for the last time.
    pub renewed: Instant,
    /// It registered before the start, and its session ends soon after this: the registration ends first, so that what waits is answered.
    pub ends_by: Option<Instant>,
    /// Until then it listens; `None` for ever, unless it sleeps now.
    pub awake_until: Option<Instant>,
    /// A registration or an update that is not answered yet.
    pub requester: Option<(Requester<A>, Message)>,
    /// What is to be done of our own accord, before commands.
    pub jobs: VecDeque<Job>,
    /// It did not answer when it was to be observed: that waits until it is heard of again.
    pub is_silent: bool,
    /// Commands that wait, in order.
    pub commands: VecDeque<Pending>,
    /// Answers that wait until a note is durable, with what they settle and how long it is.
    pub noted: VecDeque<(Json, Option<DeliveryId>, u32)>,
    /// What is being done.
    pub exchange: Option<Running>,
    pub observations: Vec<Observation>,
    pub firmware: Option<Firmware>,
    /// How far its firmware update is, for the next start.
    pub firmware_mark: Option<String>,
    /// Why it leaves, once it does.
    pub leaving: CloseReason,
    /// The bus has nothing for it any more, once it leaves.
    pub is_drained: bool,
    /// The access service is asked who it is.
    pub asked: bool,
    /// What the access service is asked about.
    pub asking: Option<Vec<Asking>>,
    /// What it is asked about next.
    pub to_ask: Vec<Asking>,
    /// Responses that came before it was let in again after a restart.
    pub early: Vec<(Requester<A>, Message)>,
    /// Requests that are answered when the bus has what they brought.
    pub awaiting: HashMap<u32, (Requester<A>, Message)>,
    pub last_token: u32,
    pub pace: Pace,
    /// When its place may be written down again, and whether another one is to be.
    pub place_due: Option<Instant>,
    pub place_is_old: bool,
    /// Resources whose last value is retained, in order.
    pub retained: Vec<Path>,
    /// Which topics its commands come by: see [`Core::topics`](crate::core::Core).
    pub topics: u32,
    /// Its entry among the timers.
    pub armed: Option<Instant>,
    /// Bytes that it was last found to hold.
    pub weighed: usize,
}

/// How far a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It registered before the gateway was started, and has yet to be let in again.
    Restored,
    /// The access service is asked who it is.
    LoggingIn,
    /// The bus is opening its session.
    Opening,
    /// It is registered.
    Open,
    /// It comes from somewhere else: the access service is asked who it is now.
    Moving,
    /// It is gone; commands that wait for it are answered so.
    Leaving,
}

impl State {
    /// Whether it has a session on the bus, or has asked for one.
    pub(crate) fn has_session(self) -> bool {
        !matches!(self, Self::Restored | Self::LoggingIn)
    }

    /// Whether its lifetime can end now. While somebody is being let in, that is waited for.
    pub(crate) fn can_end(self) -> bool {
        matches!(self, Self::Restored | Self::Open)
    }
}

/// A command that waits, or is being done.
#[derive(Debug)]
pub(crate) struct Pending {
    pub command: Command,
    /// What is settled when it has its answer; `None` for QoS 0.
    pub delivery: Option<DeliveryId>,
    /// Bytes of its message.
    pub size: u32,
    pub expires: Instant,
    /// The client has acknowledged it, and that was told.
    pub acknowledged: bool,
}

/// What a client is asked for.
#[derive(Debug)]
pub(crate) enum Job {
    /// A command from the bus.
    Command(Pending),
    /// To observe what it was observed for before it registered anew.
    Observe(Wanted),
    /// The rest of a notification that came with its first block.
    Rest {
        token: Token,
        sequence: u32,
        first: Message,
    },
    /// A step of its firmware update.
    Firmware,
}

impl Job {
    /// What it is to observe, if that is what it is for.
    pub(crate) fn wanted(&self) -> Option<&Wanted> {
        match self {
            Self::Observe(wanted) => Some(wanted),
            _ => None,
        }
    }
}

/// What is to be observed.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub paths: Vec<Path>,
    pub kind: Kind,
    pub format: Option<Format>,
    /// What notifications say again of the command.
    pub said: Map<String, Json>,
}

/// A request to a client that is under way.
#[derive(Debug)]
pub(crate) struct Running {
    pub job: Job,
    pub exchange: Exchange,
    /// Which message of ours it is.
    pub number: u32,
    /// The token that an observation has if this request begins one.
    pub first_token: Token,
    /// When nobody waits for it any more.
    pub until: Instant,
}

/// One observation. RFC 7641
#[derive(Debug)]
pub(crate) struct Observation {
    pub token: Token,
    pub wanted: Wanted,
    /// The last sequence number, and when it came. RFC 7641 §3.4
    pub last: Option<(u32, Instant)>,
}

impl Observation {
    /// Whether a notification is newer than the last one. RFC 7641 §3.4
    pub(crate) fn is_newer(&self, sequence: u32, now: Instant) -> bool {
        const HALF: u32 = 1 << 23;
        let Some((last, at)) = self.last else {
            return true;
        };
        let ahead = last < sequence && sequence - last < HALF || last > sequence && last - sequence > HALF;
        ahead || now.since(at).as_secs() > 128
    }
}

/// Something that the access service decides.
#[derive(Debug)]
pub(crate) enum Asking {
    /// What is published, and what follows then.
    Publish(
        Box<Waiting<headgate_model::Message>>,
        Option<u32>,
        Vec<BusCommand>,
    ),
    /// Commands that it is to get.
    Subscribe(Box<Waiting<Subscription>>),
}

impl<A> Device<A> {
    /// Whether it can be sent something now.
    pub(crate) fn listens(&self, now: Instant) -> bool {
        !self.registration.queue_mode || self.awake_until.is_some_and(|until| until > now)
    }

    /// What it is observed for, and is to be as soon as it listens.
    pub(crate) fn to_observe(&self) -> impl Iterator<Item = &Wanted> {
        let running = self.exchange.iter().map(|running| &running.job);
        running.chain(&self.jobs).filter_map(Job::wanted)
    }

    /// A number for a command whose answer is awaited; never 0.
    pub(crate) fn take_token(&mut self) -> u32 {
        self.last_token = self.last_token.wrapping_add(1).max(1);
        self.last_token
    }

    /// Whether the last value of a resource may be retained: there are so many at most.
    pub(crate) fn may_retain(&mut self, path: Path, most: usize) -> bool {
        match self.retained.binary_search(&path) {
            Ok(_) => true,
            Err(at) if self.retained.len() < most => {
                self.retained.insert(at, path);
                true
            }
            Err(_) => false,
        }
    }

    /// Bytes that it holds beside its place.
    pub(crate) fn held(&self) -> usize {
        let registration =
            self.registration.links.len() + self.registration.endpoint.len() + self.location.len();
        let commands: usize = self.commands.iter().map(|pending| pending.size as usize).sum();
        let running = self
            .exchange
            .as_ref()
            .map_or(0, |running| running.exchange.held());
        let jobs = self.jobs.iter().map(|job| match job {
            Job::Rest { first, .. } => size_of::<Job>() + first.payload.len(),
            _ => size_of::<Job>(),
        });
        let early = self
            .early
            .iter()
            .map(|(_, response)| size_of::<Message>() + response.payload.len());
        let asked = self.asking.iter().flatten().chain(&self.to_ask).map(|asking| {
            size_of::<Asking>()
                + match asking {
                    Asking::Publish(waiting, ..) => waiting.value().size(),
                    Asking::Subscribe(_) => 0,
                }
        });
        let waiting = jobs.chain(early).chain(asked).sum::<usize>();
        let observations = self.observations.len() * size_of::<Observation>();
        registration + commands + running + waiting + observations
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7641 §3.4: by its number, which goes round; after 128 s any notification is newer. \[RFC7641-3.4-1\] \[LWM2M-6.4.2-ORDER\]
    #[test]
    fn a_notification_is_newer_or_not() {
        let is_newer = |last: u32, sequence: u32, seconds: u64| {
            let wanted = Wanted {
                paths: Vec::new(),
                kind: Kind::Single,
                format: None,
                said: Map::new(),
            };
            let observation = Observation {
                token: Token::default(),
                wanted,
                last: Some((last, Instant(0))),
            };
            observation.is_newer(sequence, Instant(seconds * 1_000))
        };
        assert!(is_newer(1, 2, 0) && !is_newer(2, 2, 0) && !is_newer(2, 1, 0));
        assert!(is_newer((1 << 24) - 1, 0, 0) && !is_newer(0, (1 << 24) - 1, 0));
        assert!(!is_newer(2, 1, 128) && is_newer(2, 1, 129));
    }
}
