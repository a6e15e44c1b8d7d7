//! What can be asked about the bus, page by page: no question walks through more than a page at once.
//!
//! Every list has an order that does not change, and each page says behind what the next one begins. What is there from the first page to the last is seen
//! once; what comes or goes in between may be seen or not. A page may be short, even empty, though there is another: its work is bounded, not its luck.

use crate::attachment::{Attachment, Stage};
use crate::bus::Bus;
use crate::gauges::Load;
use crate::index::Matches;
use crate::lanes::Lane;
use crate::ledger::seconds;
use crate::paging::FetchRequest;
use crate::queue::Queued;
use crate::retained::Scanned;
use crate::session::Session;
use crate::sessions::SessionRef;
use crate::slow::{SlowClient, waiting_since};
use headgate_model::bus::Presence;
use headgate_model::store::{Fetched, MessageId};
use headgate_model::{
    ClientId, DeliveryId, Instant, Message, Qos, SessionId, StoreError, Subscription, Topic, TopicFilter,
    Will,
};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

/// Rows of one page at most.
pub const MAX_PAGE: usize = 1_000;
/// What one page of a list looks at, at most: sessions without a subscription, topics that do not match.
pub(crate) const MAX_LOOKS: usize = 4_096;

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T, Cursor> {
    /// The rows.
    pub rows: Vec<T>,
    /// Where the next page begins: behind this. `None` when nothing is left.
    pub next: Option<Cursor>,
}

/// How a client and its session are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientState {
    /// No connection has the session.
    Away,
    /// The client sleeps. MQTT-SN 1.2 §6.14
    Asleep,
    /// A connection waits until its session is durable.
    Opening,
    /// It is connected.
    Online,
    /// It sleeps and is awake for a moment.
    Awake,
    /// It waits until that it sleeps is durable.
    FallingAsleep,
    /// Another connection takes over.
    Leaving,
}

impl ClientState {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Away => "away",
            Self::Asleep => "asleep",
            Self::Opening => "opening",
            Self::Online => "connected",
            Self::Awake => "awake",
            Self::FallingAsleep => "falling asleep",
            Self::Leaving => "leaving",
        }
    }
}

/// A client that has a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientInfo {
    /// Who.
    pub client: ClientId,
    /// As it was when it was last connected.
    pub presence: Arc<Presence>,
    /// How it is connected.
    pub state: ClientState,
    /// Since when it is connected.
    pub connected: Option<Instant>,
    /// Since when it is away or asleep, if it was here since the start.
    pub left: Option<Instant>,
    /// Whether its session outlives its connection.
    pub durable: bool,
    /// Subscriptions.
    pub subscriptions: usize,
    /// Deliveries that wait.
    pub queued: usize,
    /// Deliveries under way.
    pub inflight: usize,
    /// Since when the oldest of these has waited for a client that is connected; what came while it was away, since it came. `None` when nothing does, or
    /// since when is not known.
    pub waiting_since: Option<Instant>,
}

/// All that is known of one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    /// Its number, which its messages have.
    pub id: SessionId,
    /// What a list of clients says.
    pub client: ClientInfo,
    /// How long it lasts without a connection; [`NEVER`](headgate_model::bus::NEVER) for ever.
    pub expiry: Duration,
    /// When it ends, of a client that is away.
    pub ends_at: Option<Instant>,
    /// What is published if the client is lost.
    pub will: Option<Will>,
    /// Bytes that wait, in memory or in the store alone.
    pub queued_bytes: usize,
    /// Deliveries that wait in the store alone.
    pub stored: usize,
    /// Bytes of these.
    pub stored_bytes: usize,
    /// Bytes under way.
    pub inflight_bytes: usize,
    /// How many deliveries the client takes without acknowledging one.
    pub receive_maximum: u16,
    /// QoS 2 packet identifiers of the client that it has yet to release.
    pub awaiting_release: usize,
    /// Its other side is another broker.
    pub is_link: bool,
}

/// A place in the list of all subscriptions: by client id, and for each client by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionCursor {
    /// Whose.
    pub client: ClientId,
    /// The [stored name](Subscription::stored_name) of a subscription of it; `None` when all of the client's were seen.
    pub text: Option<String>,
}

/// A subscription and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionInfo {
    /// Whose.
    pub client: ClientId,
    /// The subscription.
    pub subscription: Subscription,
}

/// A place in the list of delayed messages: when one is due, and which of these it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DelayedCursor(pub Instant, pub MessageId);

/// A message that waits for its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DelayedInfo {
    /// When it is published.
    pub due: Instant,
    /// What is published.
    pub message: Arc<Message>,
}

/// Whom a message with some topic would go to now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receivers {
    /// Sessions, by client id: the first of them.
    pub clients: Vec<ClientId>,
    /// How many there are.
    pub sessions: usize,
    /// Of others, sessions whose rules do not let them read it.
    pub kept_from: usize,
    /// Shared subscriptions, each of which gets one copy.
    pub groups: usize,
}

/// A delivery that waits in memory or is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryInfo {
    /// The message.
    pub message: Arc<Message>,
    /// Its name, at QoS 1 and 2.
    pub id: Option<DeliveryId>,
    /// At which QoS it goes.
    pub qos: Qos,
    /// Higher goes first.
    pub priority: u8,
    /// Handed to the client, and not acknowledged.
    pub inflight: bool,
    /// Handed to the client, on this connection or an earlier one.
    pub sent: bool,
    /// What it counts for in the queue, in bytes.
    pub bytes: usize,
}

/// One page of what waits for a client: first what is under way, in the order in which it was sent, then what waits in memory, as it will go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuePage {
    /// The rows; the next page begins behind so many of the list. What leaves the queue in between moves the others up.
    pub page: Page<DeliveryInfo, usize>,
    /// Behind all of these, in the store alone: so many,
    pub stored: usize,
    /// of so many bytes.
    pub stored_bytes: usize,
}

/// A place in what waits in the store alone: by priority, highest first, and there in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredCursor {
    priority: u8,
    from: u64,
}

impl std::fmt::Display for StoredCursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.priority, self.from)
    }
}

impl std::str::FromStr for StoredCursor {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (priority, from) = text.split_once('.').unwrap_or((text, ""));
        Ok(Self {
            priority: priority.parse()?,
            from: from.parse()?,
        })
    }
}

/// Why a question was not answered.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// Others ask the store, too.
    #[error("as many questions wait for the store as may")]
    Busy,
    /// Something is to be written first, and cannot be.
    #[error("the store takes no commits")]
    StoreFails,
    /// It could not be read.
    #[error("the store could not be read: {0}")]
    Store(#[from] StoreError),
    /// The gateway stops.
    #[error("the gateway stops")]
    Stopped,
}

impl Bus {
    /// Clients that have a session, by client id: those behind `after`, [`MAX_PAGE`] at most.
    pub fn clients(&self, after: Option<&str>, limit: usize) -> Page<ClientInfo, ClientId> {
        let mut sessions = self.sessions.by_client_id(after);
        let limit = limit.clamp(1, MAX_PAGE);
        let rows: Vec<_> = sessions.by_ref().take(limit).map(client_info).collect();
        let next = sessions.next().and(rows.last()).map(|last| last.client.clone());
        Page { rows, next }
    }

    /// Clients whose deliveries were settled late, the slowest first; a few of them.
    pub fn slow(&self, now: Instant) -> Vec<SlowClient> {
        self.slow.list(seconds(now))
    }

    /// What is known of a client's session.
    pub fn session_info(&self, client: &str) -> Option<SessionInfo> {
        let session = &self.sessions[self.sessions.of_client(client)?];
        let deliveries = &session.deliveries;
        let stored = deliveries.lanes.load();
        Some(SessionInfo {
            id: session.id,
            client: client_info(session),
            expiry: session.expiry,
            ends_at: session.ends_at,
            will: session.will.as_deref().cloned(),
            queued_bytes: deliveries.queued().bytes,
            stored: stored.entries,
            stored_bytes: stored.bytes,
            inflight_bytes: deliveries.inflight.load().bytes,
            receive_maximum: deliveries.receive_maximum,
            awaiting_release: session.rare.received(),
            is_link: session.is_link(),
        })
    }

    /// What a client is subscribed to, by filter and group: what is behind the one with the [stored name](Subscription::stored_name) `after`. `None` when it has no session.
    pub fn subscriptions(
        &self,
        client: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Option<Page<Subscription, String>> {
        let session = &self.sessions[self.sessions.of_client(client)?];
        let limit = limit.clamp(1, MAX_PAGE);
        let mut held = subscriptions_after(session, after);
        let rows: Vec<Subscription> = held.by_ref().take(limit).cloned().collect();
        let next = held.next().and(rows.last()).map(Subscription::stored_name);
        Some(Page { rows, next })
    }

    /// What all clients are subscribed to.
    pub fn all_subscriptions(
        &self,
        after: Option<&SubscriptionCursor>,
        limit: usize,
    ) -> Page<SubscriptionInfo, SubscriptionCursor> {
        let limit = limit.clamp(1, MAX_PAGE);
        let mut rows: Vec<SubscriptionInfo> = Vec::new();
        // The client of the cursor first, if it is still there: it may have more.
        let begun = after.and_then(|after| {
            Some((
                self.sessions.of_client(after.client.as_str())?,
                after.text.as_deref()?,
            ))
        });
        let begun = begun.map(|(slot, text)| (&self.sessions[slot], Some(text)));
        let others = self
            .sessions
            .by_client_id(after.map(|after| after.client.as_str()));
        let sessions = begun.into_iter().chain(others.map(|session| (session, None)));
        let mut last = None;
        for (looks, (session, text)) in sessions.enumerate() {
            if looks == MAX_LOOKS {
                let next = last.map(|client| SubscriptionCursor { client, text: None });
                return Page { rows, next };
            }
            last = Some(session.client.clone());
            for subscription in subscriptions_after(session, text) {
                if rows.len() == limit {
                    let next = rows.last().map(|last| SubscriptionCursor {
                        client: last.client.clone(),
                        text: Some(last.subscription.stored_name()),
                    });
                    return Page { rows, next };
                }
                rows.push(SubscriptionInfo {
                    client: session.client.clone(),
                    subscription: subscription.clone(),
                });
            }
        }
        Page { rows, next: None }
    }

    /// Retained messages that match, by topic: those behind the topic `after`.
    pub fn retained(
        &self,
        filter: &TopicFilter,
        after: Option<&Topic>,
        limit: usize,
        now: Instant,
    ) -> Page<Arc<Message>, Topic> {
        let limit = limit.clamp(1, MAX_PAGE);
        let mut rows = Vec::new();
        let after = after.map(Topic::bytes);
        let scanned = self
            .retention
            .messages
            .scan(filter, after, MAX_LOOKS, now, |retained| {
                rows.push(Arc::clone(&retained.message));
                if rows.len() == limit {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            });
        let next = match scanned {
            Scanned::All => None,
            Scanned::Until(topic) => Topic::parse(topic).ok(),
        };
        Page { rows, next }
    }

    /// Whether anybody has subscribed to this very filter, alone or in a group.
    pub fn has_filter(&self, filter: &TopicFilter) -> bool {
        self.index.has(filter)
    }

    /// Messages that wait for their time, the next first: those behind `after`, [`MAX_PAGE`] at most.
    pub fn delayed_messages(
        &self,
        after: Option<DelayedCursor>,
        limit: usize,
    ) -> Page<DelayedInfo, DelayedCursor> {
        let limit = limit.clamp(1, MAX_PAGE);
        let after = after.map(|DelayedCursor(at, id)| (at, id));
        let mut found: Vec<_> = self.delayed.page(after, limit + 1).collect();
        let more = found.len() > limit;
        found.truncate(limit);
        let next = found
            .last()
            .filter(|_| more)
            .map(|(at, id, _)| DelayedCursor(*at, *id));
        let rows = found.into_iter().map(|(due, _, message)| DelayedInfo {
            due,
            message: Arc::clone(message),
        });
        Page {
            rows: rows.collect(),
            next,
        }
    }

    /// Whom a message with this topic would go to now; [`MAX_PAGE`] of them by name at most. It costs as much as a publish does.
    pub fn receivers(&self, topic: &Topic, limit: usize) -> Receivers {
        let mut matches = Matches::default();
        self.index.collect(topic.as_bytes(), &mut matches);
        let mut slots: Vec<_> = matches.plain.iter().map(|entry| entry.session).collect();
        slots.sort_unstable();
        slots.dedup();
        let sessions = slots.iter().map(|slot| &self.sessions[*slot]);
        let (may, may_not): (Vec<&Session>, Vec<&Session>) =
            sessions.partition(|session| session.may_read(topic));
        let mut clients: Vec<ClientId> = may.iter().map(|session| session.client.clone()).collect();
        clients.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
        clients.truncate(limit.clamp(1, MAX_PAGE));
        Receivers {
            clients,
            sessions: may.len(),
            kept_from: may_not.len(),
            groups: matches.groups.len(),
        }
    }

    /// What waits for a client and is under way to it, behind so many. `None` when it has no session.
    pub fn queue(&self, client: &str, after: usize, limit: usize) -> Option<QueuePage> {
        let deliveries = &self.sessions[self.sessions.of_client(client)?].deliveries;
        let (inflight, queue) = (&deliveries.inflight, &deliveries.queue);
        let limit = limit.clamp(1, MAX_PAGE);
        let under_way = inflight.iter().skip(after).map(|queued| (queued, true));
        let waiting = queue.iter().skip(after.saturating_sub(inflight.len()));
        let all = under_way.chain(waiting.map(|queued| (queued, false)));
        let rows: Vec<_> = all
            .take(limit)
            .map(|(queued, inflight)| delivery_info(queued, inflight))
            .collect();
        let seen = after + rows.len();
        let next = (seen < inflight.len() + queue.len()).then_some(seen);
        let Load { entries, bytes } = deliveries.lanes.load();
        Some(QueuePage {
            page: Page { rows, next },
            stored: entries,
            stored_bytes: bytes,
        })
    }
}

impl Bus {
    /// What the store must be asked to show what waits in it alone for a client, [`MAX_PAGE`] at most: the answer is for [`Bus::show_stored`]. `None` when
    /// nothing does.
    pub fn ask_for_stored(
        &mut self,
        client: &str,
        after: Option<StoredCursor>,
        limit: usize,
    ) -> Option<FetchRequest> {
        let slot = self.sessions.of_client(client)?;
        let session = &self.sessions[slot];
        let mut lanes = session.deliveries.lanes.iter();
        let lane = lanes.find(|lane| after.is_none_or(|after| lane.priority <= after.priority))?;
        let after = after.filter(|after| after.priority == lane.priority);
        let from = after.map_or(lane.from, |after| after.from.max(lane.from));
        if lane.batch == self.pending.number {
            self.pending.hurry();
        }
        let limit = limit.clamp(1, MAX_PAGE);
        Some(FetchRequest::show(
            session.named(slot),
            lane.priority,
            from,
            limit,
        ))
    }

    /// What the store found. What was on its way into memory at that moment may be in both lists.
    pub fn show_stored(&mut self, request: FetchRequest, found: Fetched) -> Page<DeliveryInfo, StoredCursor> {
        let session = request
            .of()
            .filter(|session| self.sessions.living(*session).is_some());
        let next = session.and_then(|SessionRef { slot, .. }| {
            let lanes = &mut self.sessions[slot].deliveries.lanes;
            if found.lost > 0 {
                let (entries, bytes) = (found.lost, 0);
                lanes.take(request.lane, Load { entries, bytes }, &mut self.gauges);
                let left = lanes.get(request.lane).map_or(0, Lane::len);
                self.note_lost(slot, request.lane, left, found.lost);
            }
            if !found.at_end {
                let (priority, from) = (request.lane, found.next);
                return Some(StoredCursor { priority, from });
            }
            let mut lanes = self.sessions[slot].deliveries.lanes.iter();
            let next = lanes.find(|lane| lane.priority < request.lane)?;
            let (priority, from) = (next.priority, next.from);
            Some(StoredCursor { priority, from })
        });
        let unsent_from = session.map_or(0, |session| self.sessions[session.slot].deliveries.unsent_from);
        let rows = found.deliveries.into_iter().map(|delivery| {
            let sent = delivery.seq < unsent_from;
            delivery_info(&self.read_queued(delivery, sent), false)
        });
        Page {
            rows: rows.collect(),
            next,
        }
    }
}

fn client_info(session: &Session) -> ClientInfo {
    let state = match &session.attachment {
        Attachment::Away { .. } => ClientState::Away,
        Attachment::Asleep { .. } => ClientState::Asleep,
        Attachment::Attached(attached) => match attached.stage {
            Stage::Opening { .. } => ClientState::Opening,
            Stage::Online => ClientState::Online,
            Stage::Awake => ClientState::Awake,
            Stage::FallingAsleep => ClientState::FallingAsleep,
            Stage::Leaving { .. } => ClientState::Leaving,
        },
    };
    let at = |seconds: u32| Instant(u64::from(seconds) * 1_000);
    let attached = session.attachment.attached();
    ClientInfo {
        client: session.client.clone(),
        presence: Arc::clone(&session.presence),
        state,
        connected: attached.map(|attached| at(attached.since)),
        left: match session.attachment {
            Attachment::Away { left } | Attachment::Asleep { left } => {
                Some(left).filter(|left| *left > 0).map(at)
            }
            Attachment::Attached(_) => None,
        },
        durable: session.is_durable(),
        subscriptions: session.subscriptions.len(),
        queued: session.deliveries.queued().entries,
        inflight: session.deliveries.inflight.len(),
        waiting_since: session.attachment.attached().and_then(|attached| {
            let (inflight, queue) = (&session.deliveries.inflight, &session.deliveries.queue);
            let oldest = inflight.iter().take(1).chain(queue.front());
            waiting_since(oldest.map(|queued| queued.since), attached.since)
        }),
    }
}

fn delivery_info(queued: &Queued, inflight: bool) -> DeliveryInfo {
    DeliveryInfo {
        message: Arc::clone(&queued.message),
        id: queued.id(),
        qos: queued.qos,
        priority: queued.priority,
        inflight,
        sent: queued.sent,
        bytes: queued.size(),
    }
}

/// What a session is subscribed to behind the subscription of this stored name, which may be gone by now.
fn subscriptions_after<'a>(
    session: &'a Session,
    after: Option<&str>,
) -> impl Iterator<Item = &'a Subscription> + use<'a> {
    let parsed = after.and_then(|name| Subscription::parse_stored_name(name).ok());
    let behind = parsed.map_or(0, |held| session.subscriptions.behind(held.name()));
    session.subscriptions.iter().skip(behind)
}
