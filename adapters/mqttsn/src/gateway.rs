//! The gateway's state, its tables of clients, its timers, and what happens to each thing that comes in.

use crate::client::{Client, Purpose, State, received};
use crate::counters::SnMetric;
use crate::handshake::Handshake;
use crate::memory::Memory;
use crate::outputs::{Send, SnOutputs};
use crate::party::{Party, Sender};
use crate::publisher::Publisher;
use crate::settings::{Config, SnSettings, SnSettingsError};
use crate::topics::Names;
use crate::trace;
use bytes::Bytes;
use core::net::SocketAddr;
use hashbrown::{DefaultHashBuilder, HashTable};
use headgate_model::bus::Protocol;
use headgate_model::datagram::{Address, Credit};
use headgate_model::trace::PacketTrace;
use headgate_model::{
    Answer, Asked, BusCommand, BusEvent, CloseReason, Counter, DatagramServer, Gate, Instant, MemoryLimit,
    Naming, Question, SessionKey, UserLimit, UserRates,
};
use headgate_mqttsn_codec::{DecodeError, GwInfo, Message, Qos, decode, unwrap_datagram};
use std::collections::BTreeSet;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

/// The word for operators.
pub(crate) const SPOKEN: &str = "mqtt-sn";
pub(crate) static PROTOCOL: Protocol = Protocol { name: SPOKEN };

pub(crate) type Out<A> = SnOutputs<A>;

/// How many there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnStats {
    /// Clients, those that sleep among them.
    pub clients: usize,
    /// Being let in.
    pub handshakes: usize,
    /// Names with topic ids.
    pub names: usize,
    /// Clients that have gone, whose topic ids are remembered.
    pub remembered: usize,
}

/// The MQTT-SN gateway of one transport. See the crate's documentation.
#[derive(Debug)]
pub struct SnGateway<A> {
    pub(crate) config: Config,
    pub(crate) places: Vec<TableEntry<A>>,
    free: Vec<u32>,
    /// Clients and handshakes by where they are; a place may have one of each.
    parties: HashTable<u32>,
    /// Clients by their id.
    ids: HashTable<u32>,
    hasher: DefaultHashBuilder,
    pub(crate) names: Names,
    pub(crate) memory: Memory,
    pub(crate) clients: usize,
    pub(crate) handshakes: usize,
    /// One entry for each place that has a deadline, at that or earlier: packets only ever move a deadline back, and cost nothing here.
    timers: BTreeSet<(Instant, u32)>,
    advertise_at: Option<Instant>,
    pub(crate) publisher: Publisher,
    pub(crate) stopped: bool,
    /// Nobody new comes in.
    pub(crate) overloaded: bool,
    /// How fast the clients of a user may send, once that is known.
    user_rates: Option<Arc<dyn UserRates>>,
}

/// Where a client, or one that wants to be one, is kept.
#[derive(Debug)]
pub(crate) struct TableEntry<A> {
    generation: u32,
    /// When its entry among the timers is.
    armed: Option<Instant>,
    pub slot: Occupant<A>,
}

#[derive(Debug)]
pub(crate) enum Occupant<A> {
    Free,
    Handshake(Box<Handshake<A>>),
    Client(Client<A>),
    /// See [`Publisher`].
    Publisher,
}

#[cfg(target_pointer_width = "64")]
const _: () = assert!(
    size_of::<TableEntry<SocketAddr>>() <= 256,
    "a gateway has a million of these"
);

/// Timers handled in one turn; the others wait for the next one.
const TIMERS_PER_TURN: usize = 256;

impl<A: Address> SnGateway<A> {
    /// A gateway without clients, which will name topics by `naming`.
    pub fn new(settings: SnSettings, naming: Arc<Naming>, now: Instant) -> Result<Self, SnSettingsError> {
        let config = Config::new(settings, naming)?;
        Ok(Self {
            advertise_at: (!config.settings.advertise_interval.is_zero()).then_some(now),
            publisher: Publisher::new(&config.settings.qos_minus_one, now),
            config,
            places: Vec::new(),
            free: Vec::new(),
            parties: HashTable::new(),
            ids: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            names: Names::default(),
            memory: Memory::default(),
            clients: 0,
            handshakes: 0,
            timers: BTreeSet::new(),
            stopped: false,
            overloaded: false,
            user_rates: None,
        })
    }

    /// Other settings from now on, and other names with the same mount point. Clients stay as they are: what was decided when they connected, their log-in
    /// and the life of their session, holds until they connect again, and a topic id that was given keeps its meaning.
    pub fn set_settings(
        &mut self,
        settings: SnSettings,
        naming: Arc<Naming>,
        now: Instant,
    ) -> Result<(), SnSettingsError> {
        let config = Config::new(settings, naming)?;
        let (old, new) = (&self.config.settings, &config.settings);
        if old.advertise_interval != new.advertise_interval {
            self.advertise_at = (!new.advertise_interval.is_zero()).then_some(now);
        }
        self.publisher.change(&old.qos_minus_one, &new.qos_minus_one);
        self.config = config;
        Ok(())
    }

    /// What its clients' topic ids take is counted in this ledger, and asked of it.
    #[must_use]
    pub fn with_memory(mut self, memory: Arc<MemoryLimit>) -> Self {
        self.names.count_in(memory);
        self
    }

    /// The first topic id that each client is given from now on, and the first id of a message to it. Unless it is told, the gateway begins somewhere that
    /// nobody can guess: what a client still knows from before a restart is then answered with 0x02 most likely, and not taken for another topic; and an
    /// acknowledgement proves that it was received. For simulations, which must repeat.
    pub fn start_ids_at(&mut self, first: u16) {
        self.names.start_ids_at(first);
    }

    /// How many there are.
    pub fn stats(&self) -> SnStats {
        SnStats {
            clients: self.clients,
            handshakes: self.handshakes,
            names: self.names.len(),
            remembered: self.memory.len(),
        }
    }
}

impl<A: Address> DatagramServer for SnGateway<A> {
    type Address = A;

    const COUNTERS: &'static [&'static str] = SnMetric::NAMES;

    fn handle_datagram(&mut self, from: A, datagram: Bytes, now: Instant, out: &mut Out<A>) {
        out.counts.add_own(SnMetric::DatagramsReceived);
        if self.stopped {
            return;
        }
        let factor = if A::FORGEABLE {
            self.config.settings.amplification_limit
        } else {
            0
        };
        match read(from, &datagram, factor) {
            Ok((sender, message)) => self.on_message(&sender, message, now, out),
            Err(_) => out.counts.add_own(SnMetric::Malformed),
        }
    }

    fn handle_bus(&mut self, key: SessionKey, event: BusEvent, now: Instant, out: &mut Out<A>) {
        let Some(index) = self.index(key) else { return };
        match &self.places[index as usize].slot {
            Occupant::Client(_) => {
                self.on_event(index, event, now, out);
                self.arm(index);
            }
            Occupant::Publisher => self.on_publisher_event(&event, now, out),
            Occupant::Handshake(_) | Occupant::Free => {}
        }
    }

    fn handle_answer(&mut self, key: SessionKey, answer: Answer, now: Instant, out: &mut Out<A>) {
        let Some(index) = self.index(key) else { return };
        match &self.places[index as usize].slot {
            Occupant::Handshake(_) => self.on_handshake_answer(index, answer, now, out),
            Occupant::Client(_) => self.on_client_answer(index, &answer, now, out),
            Occupant::Publisher => self.on_publisher_answer(answer, now, out),
            Occupant::Free => {}
        }
        self.arm(index);
    }

    fn deadline(&self) -> Option<Instant> {
        if self.stopped {
            return None;
        }
        let first = self.timers.first().map(|(at, _)| *at);
        first.into_iter().chain(self.advertise_at).min()
    }

    fn handle_timeout(&mut self, now: Instant, out: &mut Out<A>) {
        if self.stopped {
            return;
        }
        if self.advertise_at.is_some_and(|at| at <= now) {
            self.advertise(now, out);
        }
        for _ in 0..TIMERS_PER_TURN {
            if self.timers.first().is_none_or(|(at, _)| *at > now) {
                break;
            }
            let (_, index) = self.timers.pop_first().expect("just looked at");
            self.places[index as usize].armed = None;
            match &self.places[index as usize].slot {
                Occupant::Handshake(handshake) if handshake.until <= now => self.give_up(index, out),
                Occupant::Client(_) => self.on_client_timeout(index, now, out),
                _ => {}
            }
            self.arm(index);
        }
    }

    fn set_overloaded(&mut self, overloaded: bool) {
        self.overloaded = overloaded;
    }

    fn set_user_rates(&mut self, rates: Arc<dyn UserRates>) {
        self.user_rates = Some(rates);
    }

    fn shutdown(&mut self, out: &mut Out<A>) {
        for index in 0..self.places.len() {
            let index = u32::try_from(index).expect("indices are u32");
            let key = self.key(index);
            let close = (
                key,
                BusCommand::Close {
                    reason: CloseReason::Shutdown,
                    expiry: None,
                },
            );
            match &self.places[index as usize].slot {
                Occupant::Client(client) if client.has_endpoint() => {
                    if !matches!(client.state, State::FallingAsleep { .. }) {
                        out.send(&client.party, &Message::Disconnect(None));
                    }
                    out.bus.push(close);
                }
                Occupant::Publisher if self.publisher.has_endpoint() => out.bus.push(close),
                _ => {}
            }
        }
        self.stopped = true;
    }

    fn party(&self, key: SessionKey) -> (Option<String>, Option<A>) {
        let slot = self.index(key).map(|index| &self.places[index as usize].slot);
        match slot {
            Some(Occupant::Client(client)) => {
                (Some(client.id.as_str().to_owned()), Some(client.party.address))
            }
            Some(Occupant::Handshake(handshake)) => (
                Some(handshake.id().as_str().to_owned()),
                Some(handshake.party.address),
            ),
            Some(Occupant::Publisher) => {
                let id = &self.config.settings.qos_minus_one.client_id;
                (Some(id.clone()), None)
            }
            Some(Occupant::Free) | None => (None, None),
        }
    }

    fn trace(&self, at: A, datagram: &[u8]) -> Option<PacketTrace> {
        let (sender, message) = match read(at, &Bytes::copy_from_slice(datagram), 0) {
            Ok(read) => read,
            Err(error) => return Some(PacketTrace::new(format!("malformed: {error}"))),
        };
        let mut packet = trace::message(&message);
        if packet.client.is_none() {
            let client = self.find_client(&sender).map(|index| &self.client(index).id);
            let shaking = || {
                let index = self.find_handshake(&sender)?;
                match &self.places[index as usize].slot {
                    Occupant::Handshake(handshake) => Some(handshake.id()),
                    _ => None,
                }
            };
            packet.client = client.or_else(shaking).map(|id| id.as_str().to_owned());
        }
        Some(packet)
    }

    fn gauges(&self, tell: &mut dyn FnMut(&'static str, usize)) {
        tell("clients", self.clients);
        tell("handshakes", self.handshakes);
        tell("names", self.names.len());
        tell("remembered", self.memory.len());
    }
}

impl<A: Address> SnGateway<A> {
    fn on_message(&mut self, from: &Sender<A>, message: Message, now: Instant, out: &mut Out<A>) {
        if let Some(metric) = received(message.kind()) {
            out.counts.add_own(metric);
        }
        match message {
            // What only a gateway says: another one is near, or somebody tries to make two of us talk for ever.
            Message::Advertise { .. }
            | Message::GwInfo(_)
            | Message::ConnAck(_)
            | Message::WillTopicReq
            | Message::WillMsgReq
            | Message::SubAck(_)
            | Message::UnsubAck(_)
            | Message::PingResp
            | Message::WillTopicResp(_)
            | Message::WillMsgResp(_) => out.counts.add_own(SnMetric::Dropped),
            Message::SearchGw { .. } => self.on_search(from, out),
            Message::Connect(connect) => self.on_connect(from, connect, now, out),
            Message::WillTopic(_) | Message::WillMsg(_) => self.on_will_message(from, message, out),
            Message::PingReq(Some(client_id)) => self.on_ping_with_id(from, &client_id, now, out),
            Message::Publish(publish) if publish.qos == Qos::NoConnection => match self.find_client(from) {
                Some(index) if self.client(index).is_open() => {
                    self.on_client_message(index, from, Message::Publish(publish), now, out);
                }
                _ => self.on_unconnected_publish(publish, from.bytes, now, out),
            },
            message => match self.find_client(from) {
                Some(index) => self.on_client_message(index, from, message, now, out),
                None => self.on_unknown(from, &message, out),
            },
        }
    }

    /// A message of a client, which is not its first.
    fn on_client_message(
        &mut self,
        index: u32,
        from: &Sender<A>,
        message: Message,
        now: Instant,
        out: &mut Out<A>,
    ) {
        let settings = &self.config.settings;
        let (per_second, burst) = (
            settings.max_client_packets_per_second,
            settings.client_burst_packets,
        );
        let client = self.client_mut(index);
        client.party.credit.join(&from.credit);
        client.hear(now);
        if is_request(&message) && !client.pace.take(per_second, burst, now) {
            out.counts.add_own(SnMetric::TooFast);
            self.tell_too_fast(index, "max_client_packets_per_second", out);
            return self.arm(index);
        }
        if let Err(limit) = self.user_may_send(index, from.bytes, &message, now) {
            self.tell_too_fast(index, limit.name(), out);
            self.refuse_too_fast(index, message, out);
            return self.arm(index);
        }
        let client = self.client(index);
        match client.state {
            State::Opening(Purpose::Wake) if matches!(message, Message::Publish(_)) => {
                self.hold_publish(index, message, out);
            }
            // It was told nothing yet: it will ask again.
            State::Opening(_) | State::FallingAsleep { .. } => out.counts.add_own(SnMetric::Dropped),
            State::Active { .. } | State::Awake { .. } => self.on_open_message(index, message, now, out),
            State::Asleep { .. } => self.on_message_while_asleep(index, from, &message, now, out),
            State::Disconnected { .. } => match message {
                Message::Disconnect(None | Some(0)) => out.send(&client.party, &Message::Disconnect(None)),
                message => self.on_unknown(from, &message, out),
            },
        }
        self.send_held(index, now, out);
        self.arm(index);
    }

    /// Whether the user's rate has room for it; the limit if not. Answers have to be taken, and PINGREQ is how others of the user stay connected: they count, and pass.
    fn user_may_send(
        &self,
        index: u32,
        bytes: usize,
        message: &Message,
        now: Instant,
    ) -> Result<(), UserLimit> {
        let (Some(rates), Some(user)) = (&self.user_rates, &self.client(index).identity.username) else {
            return Ok(());
        };
        if is_request(message) && !matches!(message, Message::PingReq(_)) {
            return rates.admits(user, bytes, now);
        }
        rates.took(user, bytes, now);
        Ok(())
    }

    /// Whether a message of nobody who is connected fits in the rate of the user that it goes by.
    pub(crate) fn publisher_may_send(
        &self,
        user: Option<&Arc<str>>,
        bytes: usize,
        now: Instant,
    ) -> Result<(), UserLimit> {
        match (&self.user_rates, user) {
            (Some(rates), Some(user)) => rates.admits(user, bytes, now),
            _ => Ok(()),
        }
    }

    fn on_open_message(&mut self, index: u32, message: Message, now: Instant, out: &mut Out<A>) {
        match message {
            Message::RegAck(ack) => self.on_regack(index, ack, now, out),
            Message::PubAck(ack) => self.on_puback(index, ack, now, out),
            Message::PubRec(msg_id) => self.on_pubrec(index, msg_id, out),
            Message::PubComp(msg_id) => self.on_pubcomp(index, msg_id, now, out),
            Message::PingReq(_) => {
                // An awake client asks again while its messages are on their way: PINGRESP is to come last.
                let client = self.client(index);
                if matches!(client.state, State::Active { .. }) {
                    out.send(&client.party, &Message::PingResp);
                }
            }
            message => self.on_request(index, message, now, out),
        }
    }

    /// A peer that is no client. It is told so, but never in more bytes than it sent, and not when it only says goodbye: two gateways would do so
    /// for ever. Nor when it wants to sleep: it would take that for a promise that nobody gave. Nor where a client is connected: that would hear it.
    pub(crate) fn on_unknown(&mut self, from: &Sender<A>, message: &Message, out: &mut Out<A>) {
        out.counts.add_own(SnMetric::UnknownSender);
        let is_heard = self
            .find_client(from)
            .is_some_and(|here| self.client(here).has_endpoint());
        if matches!(message, Message::Disconnect(_)) || is_heard {
            return;
        }
        match self.find_client(from) {
            // What came counts for it already.
            Some(here) => out.send(&self.client(here).party, &Message::Disconnect(None)),
            None => out.send(&from.party(), &Message::Disconnect(None)),
        }
    }

    /// §6.1
    fn on_search(&mut self, from: &Sender<A>, out: &mut Out<A>) {
        let info = Message::GwInfo(GwInfo {
            gw_id: self.config.settings.gateway_id,
            address: Bytes::new(),
        });
        if self.config.settings.broadcast_gwinfo {
            out.broadcast(&info);
        } else {
            out.send(&from.party(), &info);
        }
    }

    fn advertise(&mut self, now: Instant, out: &mut Out<A>) {
        let interval = self.config.settings.advertise_interval;
        self.advertise_at = Some(now + interval);
        out.broadcast(&Message::Advertise {
            gw_id: self.config.settings.gateway_id,
            duration: u16::try_from(interval.as_secs()).unwrap_or(u16::MAX),
        });
    }

    fn on_event(&mut self, index: u32, event: BusEvent, now: Instant, out: &mut Out<A>) {
        let falls_asleep = matches!(self.client(index).state, State::FallingAsleep { .. });
        match event {
            // It goes back to the mailbox.
            BusEvent::Delivery(_) | BusEvent::Received(_) if falls_asleep => {}
            BusEvent::Opened { present, .. } => self.on_opened(index, present, now, out),
            BusEvent::OpenRefused(why) => self.on_open_refused(index, why, out),
            BusEvent::RulesChanged(who) => {
                if let Some(policy) = who.rules.policy() {
                    self.client_mut(index).identity.policy = Arc::clone(policy);
                }
            }
            // Its session is somewhere else from now on, or an operator has thrown it out.
            BusEvent::TakenOver | BusEvent::Kicked => {
                let reason = match event {
                    BusEvent::TakenOver => CloseReason::TakenOver,
                    _ => CloseReason::Kicked,
                };
                self.close(index, reason, None, out);
                // Who waits to hear that it may sleep would take it for that.
                if !falls_asleep {
                    out.send(&self.client(index).party, &Message::Disconnect(None));
                }
                self.remove(index);
            }
            BusEvent::Subscribed { token, results } => self.on_subscribed(index, token, &results, now, out),
            BusEvent::Unsubscribed { token, .. } => self.on_unsubscribed(index, token, now, out),
            BusEvent::Accepted(token, _) => self.on_accepted(index, token, now, out),
            BusEvent::Refused(token, why) => self.on_refused(index, token, why, now, out),
            BusEvent::Released { packet, .. } => {
                out.send(&self.client(index).party, &Message::PubComp(packet));
            }
            BusEvent::Delivery(delivery) => self.on_delivery(index, delivery, now, out),
            BusEvent::Received(id) => self.on_received(index, id, now, out),
            BusEvent::Drained => self.on_drained(index, now, out),
            BusEvent::Asleep => self.on_asleep(index, now, out),
            // Nobody asks here.
            BusEvent::Retained(..) => {}
            BusEvent::WillChanged(changed) => self.on_will_changed(index, changed, now, out),
        }
    }

    fn on_client_timeout(&mut self, index: u32, now: Instant, out: &mut Out<A>) {
        let max_silence = self.config.settings.max_silence;
        let client = self.client(index);
        match client.state {
            State::Disconnected { until } if until <= now => self.remove(index),
            // The bus publishes its will at the same time.
            State::Asleep { until } if until <= now => {
                out.counts.add_own(SnMetric::Lost);
                self.remove(index);
            }
            State::Active { heard, .. } if heard + client.patience(max_silence) <= now => {
                self.lose(index, CloseReason::KeepAlive, out);
            }
            State::Active { .. } | State::Awake { .. } => self.on_retry_time(index, now, out),
            _ => {}
        }
    }

    /// §6.14 figure 4: lost. Its will is published; its session stays if it is to.
    pub(crate) fn lose(&mut self, index: u32, reason: CloseReason, out: &mut Out<A>) {
        out.counts.add_own(SnMetric::Lost);
        let expiry = self.client(index).clean.then_some(Duration::ZERO);
        self.close(index, reason, expiry, out);
        self.remove(index);
    }

    /// Ends the endpoint on the bus; the client stays. What the bus or the access service still had to say to it is not taken any more.
    pub(crate) fn close(
        &mut self,
        index: u32,
        reason: CloseReason,
        expiry: Option<Duration>,
        out: &mut Out<A>,
    ) {
        out.bus
            .push((self.key(index), BusCommand::Close { reason, expiry }));
        let place = &mut self.places[index as usize];
        place.generation = place.generation.wrapping_add(1);
        if let Occupant::Client(client) = &mut place.slot {
            client.inbound = None;
            client.drop_outbound(out);
        }
    }

    pub(crate) fn key(&self, index: u32) -> SessionKey {
        SessionKey {
            index,
            generation: self.places[index as usize].generation,
        }
    }

    fn index(&self, key: SessionKey) -> Option<u32> {
        let place = self.places.get(key.index as usize)?;
        (place.generation == key.generation && !self.stopped).then_some(key.index)
    }

    pub(crate) fn bus(&self, index: u32, command: BusCommand, out: &mut Out<A>) {
        out.bus.push((self.key(index), command));
    }

    pub(crate) fn ask(&self, index: u32, question: Question, out: &mut Out<A>) {
        let at = match &self.places[index as usize].slot {
            Occupant::Client(client) => Some(client.party.address),
            Occupant::Handshake(handshake) => Some(handshake.party.address),
            Occupant::Publisher | Occupant::Free => None,
        };
        let key = self.key(index);
        out.questions.push(Asked { key, at, question });
    }

    pub(crate) fn client(&self, index: u32) -> &Client<A> {
        match &self.places[index as usize].slot {
            Occupant::Client(client) => client,
            _ => unreachable!("the index of a client"),
        }
    }

    pub(crate) fn client_mut(&mut self, index: u32) -> &mut Client<A> {
        match &mut self.places[index as usize].slot {
            Occupant::Client(client) => client,
            _ => unreachable!("the index of a client"),
        }
    }

    /// A client's table of topic ids, and the names in it.
    pub(crate) fn client_and_names(&mut self, index: u32) -> (&mut Client<A>, &mut Names) {
        match &mut self.places[index as usize].slot {
            Occupant::Client(client) => (client, &mut self.names),
            _ => unreachable!("the index of a client"),
        }
    }

    pub(crate) fn find_client(&self, at: &Sender<A>) -> Option<u32> {
        self.find(at, |slot| match slot {
            Occupant::Client(client) => Some(&client.party),
            _ => None,
        })
    }

    pub(crate) fn find_handshake(&self, at: &Sender<A>) -> Option<u32> {
        self.find(at, |slot| match slot {
            Occupant::Handshake(handshake) => Some(&handshake.party),
            _ => None,
        })
    }

    fn find(&self, at: &Sender<A>, party: impl Fn(&Occupant<A>) -> Option<&Party<A>>) -> Option<u32> {
        let same = |index: &u32| party(&self.places[*index as usize].slot).is_some_and(|party| party.is(at));
        self.parties.find(self.hasher.hash_one(at), same).copied()
    }

    pub(crate) fn find_id(&self, client_id: &str) -> Option<u32> {
        let hash = self.hasher.hash_one(client_id);
        let same = |index: &u32| self.client(*index).id.as_str() == client_id;
        self.ids.find(hash, same).copied()
    }

    /// A new place for a handshake, or for the publisher.
    pub(crate) fn place(&mut self, slot: Occupant<A>) -> u32 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(TableEntry {
                generation: 0,
                armed: None,
                slot: Occupant::Free,
            });
            u32::try_from(self.places.len() - 1).expect("fewer than four billion clients")
        });
        self.handshakes += usize::from(matches!(slot, Occupant::Handshake(_)));
        self.places[index as usize].slot = slot;
        self.list_party(index);
        index
    }

    /// The handshake is over: the place is a client's from now on.
    pub(crate) fn become_client(&mut self, index: u32, client: Client<A>) {
        self.handshakes -= 1;
        self.clients += 1;
        // Where it is has not changed, so its entry by party stays.
        self.places[index as usize].slot = Occupant::Client(client);
        let Self {
            ids, places, hasher, ..
        } = self;
        let id_of = |index: &u32| match &places[*index as usize].slot {
            Occupant::Client(client) => client.id.as_str(),
            _ => unreachable!("only clients are listed by id"),
        };
        ids.insert_unique(hasher.hash_one(id_of(&index)), index, |index| {
            hasher.hash_one(id_of(index))
        });
    }

    /// The client is somewhere else from now on.
    pub(crate) fn move_client(&mut self, index: u32, party: Party<A>) {
        self.unlist_party(index);
        self.client_mut(index).party = party;
        self.list_party(index);
    }

    /// Nobody is there any more; what was asked in its name is not answered.
    pub(crate) fn remove(&mut self, index: u32) {
        self.unlist_party(index);
        let hash = match &self.places[index as usize].slot {
            Occupant::Client(client) => Some(self.hasher.hash_one(client.id.as_str())),
            _ => None,
        };
        if let Some(entry) = hash.and_then(|hash| self.ids.find_entry(hash, |at| *at == index).ok()) {
            entry.remove();
        }
        let place = &mut self.places[index as usize];
        place.generation = place.generation.wrapping_add(1);
        if let Some(at) = place.armed.take() {
            self.timers.remove(&(at, index));
        }
        match std::mem::replace(&mut place.slot, Occupant::Free) {
            Occupant::Client(mut client) => {
                if client.clean {
                    client.topics.clear(&mut self.names);
                }
                let limit = self.config.settings.max_remembered_bytes;
                self.memory.keep(client.id, client.topics, limit, &mut self.names);
                self.clients -= 1;
            }
            Occupant::Handshake(_) => self.handshakes -= 1,
            Occupant::Publisher | Occupant::Free => {}
        }
        self.free.push(index);
    }

    pub(crate) fn list_party(&mut self, index: u32) {
        let Self {
            parties,
            places,
            hasher,
            ..
        } = self;
        let hash =
            |index: &u32| party_of(&places[*index as usize].slot).map_or(0, |party| hasher.hash_one(party));
        if party_of(&places[index as usize].slot).is_some() {
            parties.insert_unique(hash(&index), index, hash);
        }
    }

    pub(crate) fn unlist_party(&mut self, index: u32) {
        let Some(party) = party_of(&self.places[index as usize].slot) else {
            return;
        };
        let hash = self.hasher.hash_one(party);
        if let Ok(entry) = self.parties.find_entry(hash, |at| *at == index) {
            entry.remove();
        }
    }

    /// Makes sure that the place's deadline is not missed.
    pub(crate) fn arm(&mut self, index: u32) {
        let place = &mut self.places[index as usize];
        let wanted = match &place.slot {
            Occupant::Handshake(handshake) => Some(handshake.until),
            Occupant::Client(client) => client.deadline(self.config.settings.max_silence),
            Occupant::Publisher | Occupant::Free => None,
        };
        let Some(wanted) = wanted else { return };
        if place.armed.is_some_and(|at| at <= wanted) {
            return;
        }
        if let Some(at) = place.armed.replace(wanted) {
            self.timers.remove(&(at, index));
        }
        self.timers.insert((wanted, index));
    }

    /// What a client's requests pass.
    pub(crate) fn gate(&self, index: u32) -> Gate<'_> {
        let client = self.client(index);
        self.config.naming.gate(&client.id, Some(&client.identity.policy))
    }

    /// Opens the session of a client on the bus.
    pub(crate) fn open(
        &mut self,
        index: u32,
        purpose: Purpose,
        open: headgate_model::Open,
        out: &mut Out<A>,
    ) {
        self.client_mut(index).state = State::Opening(purpose);
        self.bus(index, BusCommand::Open(Box::new(open)), out);
    }
}

fn party_of<A>(slot: &Occupant<A>) -> Option<&Party<A>> {
    match slot {
        Occupant::Client(client) => Some(&client.party),
        Occupant::Handshake(handshake) => Some(&handshake.party),
        Occupant::Publisher | Occupant::Free => None,
    }
}

fn read<A>(from: A, datagram: &Bytes, factor: u8) -> Result<(Sender<A>, Message), DecodeError> {
    let (layer, inner) = unwrap_datagram(datagram)?;
    let sender = Sender {
        address: from,
        node: layer.map(|layer| layer.node),
        credit: Credit::new(datagram.len(), factor),
        bytes: datagram.len(),
    };
    Ok((sender, decode(&inner)?))
}

/// What makes work by itself. Answers, and what ends a flow or the connection, are taken at any rate.
fn is_request(message: &Message) -> bool {
    matches!(
        message,
        Message::Publish(_)
            | Message::Register(_)
            | Message::Subscribe(_)
            | Message::Unsubscribe(_)
            | Message::PingReq(_)
            | Message::WillTopicUpd(_)
            | Message::WillMsgUpd(_)
    )
}
