//! The subscriptions of one connection, their sessions, and what was delivered by them and is not acknowledged.

use bytes::Bytes;
use headgate_model::{AckToken, Admitted, Delivery, Instant, SessionKey, Subscription as OnBus};
use headgate_stomp_codec::Text;
use std::collections::BTreeMap;
use std::fmt;

/// The session of the connection itself.
pub(crate) const OWN: SessionKey = SessionKey {
    index: 0,
    generation: 0,
};

/// How the client acknowledges. STOMP 1.2, SUBSCRIBE ack Header
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AckMode {
    /// Not at all: a message that is written is done.
    Auto,
    /// Each message with all before it.
    Client,
    /// Each message alone.
    ClientIndividual,
}

impl AckMode {
    /// As the header says it; `auto` without one.
    pub(crate) fn parse(text: Option<&str>) -> Option<Self> {
        match text {
            None | Some("auto") => Some(Self::Auto),
            Some("client") => Some(Self::Client),
            Some("client-individual") => Some(Self::ClientIndividual),
            Some(_) => None,
        }
    }
}

/// Names a MESSAGE of this connection: the subscription's number, and the message's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AckId {
    pub number: u32,
    pub serial: u64,
}

impl AckId {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (number, serial) = text.split_once('-')?;
        let (number, serial) = (number.parse().ok()?, serial.parse().ok()?);
        Some(Self { number, serial })
    }
}

impl fmt::Display for AckId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.number, self.serial)
    }
}

/// One subscription of the client.
#[derive(Debug)]
pub(crate) struct Subscription {
    /// As the client said it; `None` if it said none, as it may in STOMP 1.0.
    pub id: Option<Text>,
    /// What it is unsubscribed by: its id, or else its destination.
    pub name: Text,
    pub session: SessionKey,
    /// As on the bus.
    pub identifier: u32,
    /// The filter with its prefixes, as the client means it.
    pub filter: Bytes,
    pub ack: AckMode,
    /// Its name among the client's durable subscriptions.
    pub durable: Option<Text>,
    /// Waits for its session, with the step of its SUBSCRIBE.
    pub opening: Option<(AckToken, Box<Admitted<OnBus>>)>,
    /// Sent, and to be acknowledged, by their numbers.
    pub unsettled: BTreeMap<u64, Unsettled>,
    /// Of the next message.
    pub next: u64,
}

/// A message that the client has yet to acknowledge.
#[derive(Debug)]
pub(crate) struct Unsettled {
    pub delivery: Delivery,
    /// How often it came back by NACK.
    pub nacks: u32,
}

/// What a session beside the connection's own is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seat {
    /// The subscription of this number.
    Subscription(u32),
    /// It is opened to be thrown away, for this step.
    Ending(AckToken),
    /// It is closed as soon as all is answered that its client has acknowledged.
    Leaving,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    by_name: BTreeMap<Text, u32>,
    by_number: BTreeMap<u32, Subscription>,
    seats: BTreeMap<SessionKey, Seat>,
    /// Messages that came back by NACK, by when they are sent again, with the subscription's number.
    returning: BTreeMap<(Instant, u64), (u32, Unsettled)>,
    returned: u64,
    last_number: u32,
    /// The session that is on its way: no frame is taken meanwhile, so that what follows finds it made, or ended.
    pub(crate) awaited: Option<SessionKey>,
    /// Sessions so far.
    generation: u32,
    /// Indexes that were used and are free.
    free: Vec<u32>,
    /// Those whose end the bus has yet to answer, by the steps of their UNSUBSCRIBE.
    pub(crate) ending: BTreeMap<u32, u32>,
    /// Messages that wait for their acknowledgement.
    unsettled: usize,
    /// Bytes of names and filters.
    bytes: usize,
}

/// What a message that waits for its acknowledgement takes beside the message itself.
const UNSETTLED: usize = 128;

impl Subscriptions {
    pub(crate) fn len(&self) -> usize {
        self.by_number.len()
    }

    /// A number for the next one: up to 268,435,455, as the bus wants it.
    pub(crate) fn next_number(&mut self) -> Option<u32> {
        self.last_number += u32::from(self.last_number < 268_435_456);
        (self.last_number < 268_435_456).then_some(self.last_number)
    }

    pub(crate) fn insert(&mut self, number: u32, subscription: Subscription) {
        self.bytes += subscription.held();
        self.by_name.insert(subscription.name.clone(), number);
        self.by_number.insert(number, subscription);
    }

    pub(crate) fn number_of(&self, name: &Text) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn get(&self, number: u32) -> Option<&Subscription> {
        self.by_number.get(&number)
    }

    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut Subscription> {
        self.by_number.get_mut(&number)
    }

    /// Takes one out. Its session stays.
    pub(crate) fn remove(&mut self, number: u32) -> Option<Subscription> {
        let gone = self.by_number.remove(&number)?;
        self.bytes -= gone.held();
        self.unsettled -= gone.unsettled.len();
        self.forget_name(&gone.name, number);
        Some(gone)
    }

    /// The client may use the name for another one; messages may still come by this one.
    pub(crate) fn forget_name(&mut self, name: &Text, number: u32) {
        if self.number_of(name) == Some(number) {
            self.by_name.remove(name);
        }
    }

    /// A message was sent that the client is to acknowledge under this name.
    pub(crate) fn hold(&mut self, id: AckId, unsettled: Unsettled) {
        if let Some(subscription) = self.by_number.get_mut(&id.number) {
            subscription.unsettled.insert(id.serial, unsettled);
            self.unsettled += 1;
        }
    }

    /// Takes the messages that an acknowledgement means, with their session; `None` if there never was such a message. STOMP 1.2, ACK
    pub(crate) fn take_acknowledged(&mut self, id: AckId) -> Option<(SessionKey, Vec<Unsettled>)> {
        let subscription = self.by_number.get_mut(&id.number)?;
        let taken: Vec<_> = match subscription.ack {
            AckMode::Auto => return None,
            // What was acknowledged with a later one may be acknowledged again.
            AckMode::Client if id.serial > subscription.next => return None,
            AckMode::Client => {
                let later = subscription.unsettled.split_off(&(id.serial + 1));
                std::mem::replace(&mut subscription.unsettled, later)
                    .into_values()
                    .collect()
            }
            AckMode::ClientIndividual => vec![subscription.unsettled.remove(&id.serial)?],
        };
        self.unsettled -= taken.len();
        Some((subscription.session, taken))
    }

    /// The subscription of a durable name.
    pub(crate) fn durable(&self, name: &Text) -> Option<u32> {
        let mut all = self.by_number.iter();
        let found = all.find(|(_, subscription)| subscription.durable.as_ref() == Some(name));
        found.map(|(number, _)| *number)
    }

    /// The key of a new session, which is awaited. The index is used again, the two together never.
    pub(crate) fn take_seat(&mut self, seat: Seat) -> SessionKey {
        self.generation += 1;
        let used = self.seats.len() + self.free.len();
        let index = self
            .free
            .pop()
            .unwrap_or_else(|| u32::try_from(used + 1).expect("bounded"));
        let key = SessionKey {
            index,
            generation: self.generation,
        };
        self.seats.insert(key, seat);
        self.awaited = Some(key);
        key
    }

    /// What the session is for from now on.
    pub(crate) fn change_seat(&mut self, key: SessionKey, seat: Seat) {
        self.seats.insert(key, seat);
    }

    pub(crate) fn seat(&self, key: SessionKey) -> Option<Seat> {
        self.seats.get(&key).copied()
    }

    pub(crate) fn leave_seat(&mut self, key: SessionKey) {
        if self.seats.remove(&key).is_some() {
            self.free.push(key.index);
        }
    }

    /// The keys of all sessions beside the connection's own.
    pub(crate) fn seats(&self) -> impl Iterator<Item = SessionKey> {
        self.seats.keys().copied()
    }

    /// Sends a message again then.
    pub(crate) fn return_at(&mut self, at: Instant, number: u32, unsettled: Unsettled) {
        self.returned += 1;
        self.returning.insert((at, self.returned), (number, unsettled));
    }

    /// When the first message is sent again.
    pub(crate) fn returns_at(&self) -> Option<Instant> {
        let ((at, _), _) = self.returning.first_key_value()?;
        Some(*at)
    }

    /// Takes the next message that is due to be sent again.
    pub(crate) fn take_returning(&mut self, now: Instant) -> Option<(u32, Unsettled)> {
        let first = self.returning.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    pub(crate) fn held(&self) -> usize {
        self.bytes + (self.unsettled + self.returning.len()) * UNSETTLED
    }
}

impl Subscription {
    fn held(&self) -> usize {
        size_of::<Self>() + 2 * self.name.len() + self.filter.len()
    }

    /// The next message's number.
    pub(crate) fn next_serial(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}
