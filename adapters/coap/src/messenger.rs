//! The message layer of one socket: what is sent again, what has come before, and what may be sent at all. RFC 7252 §4
//!
//! It knows messages, not what they are about. Whoever uses it is told of each request and response once, answers requests with [`Messenger::respond`], sends with [`Messenger::send`], and hears
//! what became of each message that wanted to be acknowledged by the tag that it gave.
//!
//! Always true: at most NSTART confirmable messages of a peer are under way; an address that has not proved that it receives gets no more than a few times what came from it. The proof is
//! the acknowledgement, or the rejection, of a message whose ID nobody can guess. What does not fit before waits behind a ping, four bytes that every peer must answer. §4.3
//! What came to a group gets one message at most, which is not confirmable and no error, some time later. §8

use crate::exchanges::{Exchanges, Seen};
use crate::leisure::Leisure;
use crate::transmission::Transmission;
use crate::unguessable::Unguessable;
use bytes::BytesMut;
use headgate_coap_codec::{Code, DecodeError, Kind, Message, Token, decode, encode};
use headgate_model::datagram::{Address, Credit};
use headgate_model::{DatagramOutputs, Destination, Instant};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

/// Messages that want no acknowledgement, and of which is remembered whom a rejection is about.
const UNCONFIRMED: usize = 8;
/// What a peer takes, with its places in the tables.
const EACH_PEER: usize = 320;
/// Peers that have proved that they receive are remembered for so many lifetimes of an exchange.
const PROVED: u32 = 8;
/// Timers handled in one turn; the others wait for the next one.
const TIMERS_PER_TURN: usize = 256;

/// Who asked, and how: what an answer needs to know of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requester<A> {
    /// Where.
    pub at: A,
    /// Whether the request is confirmable.
    pub kind: Kind,
    /// The message ID of the request.
    pub id: u16,
    /// The token of the request.
    pub token: Token,
    /// Bytes of the datagram that it came in.
    pub bytes: usize,
    /// Bytes that may be sent there before it has proved that it receives; `None` for any number.
    pub allowed: Option<usize>,
}

/// What a datagram turned out to be.
#[derive(Debug)]
pub enum Received<A, T> {
    /// A request, for the first time.
    Request(Requester<A>, Message),
    /// A response. With the tag of the message that it acknowledges, if it does.
    Response(Requester<A>, Message, Option<T>),
    /// What became of a message.
    Outcome(Outcome<T>),
}

/// What became of a message that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<T> {
    /// It arrived.
    Acknowledged(T),
    /// The peer does not know what it is about. §4.2: RST
    Rejected(T),
    /// Nothing came back for it, or there was no room for it.
    Lost(T),
}

/// How much of what happened, since it was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessengerCounts {
    /// Datagrams sent.
    pub sent: u32,
    /// Datagrams that are no messages.
    pub malformed: u32,
    /// Messages that came again.
    pub duplicates: u32,
    /// Messages sent again.
    pub retransmissions: u32,
    /// Messages that were never acknowledged.
    pub lost: u32,
    /// Messages that a peer rejected.
    pub rejected: u32,
    /// Messages that were not sent, or not again, because their receiver has not proved that it receives.
    pub unproved: u32,
    /// Messages that came, and were forgotten before their time.
    pub forgotten: u32,
    /// Messages for which there was no room.
    pub overflowed: u32,
}

/// See the module. `T`: what tells messages apart for whoever sends them.
#[derive(Debug)]
pub struct Messenger<A, T> {
    transmission: Transmission,
    unguessable: Unguessable,
    exchanges: Exchanges<A>,
    peers: Vec<Option<Peer<A, T>>>,
    free: Vec<u32>,
    by_address: HashMap<A, u32>,
    /// When the first message of a peer is to be sent again, or given up.
    timers: BTreeSet<(Instant, u32)>,
    /// Peers by when they were made or found in use: who is to be forgotten is looked for from the front.
    order: VecDeque<(u32, u64)>,
    made: u64,
    /// Bytes that wait for all peers together.
    waiting_bytes: usize,
    /// Answers to what came to a group.
    leisure: Leisure<A>,
    /// What has happened since it was last asked.
    pub counts: MessengerCounts,
    scratch: BytesMut,
}

#[derive(Debug)]
struct Peer<A, T> {
    at: A,
    /// Which use of its place this is.
    made: u64,
    credit: Credit,
    /// Its credit is for pings, until it has proved that it receives.
    pings_only: bool,
    next_id: u16,
    heard: Instant,
    /// The first NSTART are under way.
    waiting: VecDeque<Outgoing<T>>,
    /// Those under way.
    under_way: usize,
    unconfirmed: VecDeque<(u16, T)>,
    /// Answers that wait for a proof, with their bytes.
    held: Vec<(Requester<A>, Message, usize)>,
    armed: Option<Instant>,
}

#[derive(Debug)]
struct Outgoing<T> {
    id: u16,
    datagram: Box<[u8]>,
    /// `None`: nobody asks what becomes of it.
    tag: Option<T>,
    /// A ping: its rejection is what was wanted. §4.3
    is_ping: bool,
    /// How often it was to be sent already.
    sent: u8,
    timeout: Duration,
    due: Instant,
}

type Out<A> = DatagramOutputs<A>;

impl<A: Address, T: Copy> Messenger<A, T> {
    /// A messenger that has seen nothing.
    pub fn new(transmission: Transmission, unguessable: Unguessable) -> Self {
        Self {
            transmission,
            unguessable,
            exchanges: Exchanges::default(),
            peers: Vec::new(),
            free: Vec::new(),
            by_address: HashMap::new(),
            timers: BTreeSet::new(),
            order: VecDeque::new(),
            made: 0,
            waiting_bytes: 0,
            leisure: Leisure::default(),
            counts: MessengerCounts::default(),
            scratch: BytesMut::new(),
        }
    }

    /// Other settings for what is sent from now on.
    pub fn set_transmission(&mut self, transmission: Transmission) {
        self.transmission = transmission;
    }

    /// What nobody can guess, for others of the same socket.
    pub fn unguessable(&mut self) -> &mut Unguessable {
        &mut self.unguessable
    }

    /// Peers and messages that are remembered.
    pub fn len(&self) -> (usize, usize) {
        (self.by_address.len(), self.exchanges.len())
    }

    /// Bytes that peers, what waits for them and what is remembered take.
    pub fn held(&self) -> usize {
        self.by_address.len() * EACH_PEER + self.waiting_bytes + self.exchanges.held() + self.leisure.held()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == (0, 0)
    }

    /// A datagram came. What it says to whoever uses this layer, if anything.
    pub fn receive(
        &mut self,
        from: A,
        datagram: &[u8],
        now: Instant,
        out: &mut Out<A>,
    ) -> Option<Received<A, T>> {
        self.counts.forgotten += std::mem::take(&mut self.exchanges.forgotten);
        let message = match decode(datagram) {
            Ok(message) => message,
            Err(error) => {
                self.counts.malformed += 1;
                if let DecodeError::Malformed {
                    kind: Kind::Confirmable,
                    id,
                    ..
                } = error
                    && !from.is_by_group()
                {
                    self.send_empty(from, Kind::Reset, id, datagram.len(), out);
                }
                return None;
            }
        };
        self.hear(from, datagram.len(), now);
        let (kind, code, id) = (message.kind, message.code, message.id);
        let requester = Requester {
            at: from,
            kind,
            id,
            token: message.token,
            bytes: datagram.len(),
            allowed: self.allowed(from, datagram.len()),
        };
        if from.is_by_group() {
            // §8.1: such requests are not confirmable, and nothing else has a meaning there.
            let is_request = kind == Kind::NonConfirmable && code.is_request();
            let is_new = is_request && self.is_new(&requester, now, out);
            return is_new.then_some(Received::Request(requester, message));
        }
        match kind {
            Kind::Acknowledgement if code == Code::EMPTY => {
                let tag = self.settle(from, id, now, out).flatten()?;
                Some(Received::Outcome(Outcome::Acknowledged(tag)))
            }
            Kind::Acknowledgement if code.is_response() => {
                let tag = self.settle(from, id, now, out).flatten();
                Some(Received::Response(requester, message, tag))
            }
            Kind::Reset if code == Code::EMPTY => self.on_reset(from, id, now, out),
            // §4.2: a recipient must acknowledge or reject a confirmable message.
            Kind::Confirmable if !(code.is_request() || code.is_response()) => {
                self.send_empty(from, Kind::Reset, id, datagram.len(), out);
                None
            }
            Kind::Confirmable | Kind::NonConfirmable if code.is_request() || code.is_response() => {
                if !self.is_new(&requester, now, out) {
                    return None;
                }
                Some(match code.is_request() {
                    true => Received::Request(requester, message),
                    false => Received::Response(requester, message, None),
                })
            }
            _ => {
                self.counts.malformed += 1;
                None
            }
        }
    }

    /// Whether it has not come before. What was sent for it then is sent again. §4.5
    fn is_new(&mut self, from: &Requester<A>, now: Instant, out: &mut Out<A>) -> bool {
        let lifetime = self.transmission.exchange_lifetime();
        let confirmable = from.kind == Kind::Confirmable;
        let acknowledge_at = confirmable.then(|| now + self.transmission.ack_delay());
        let max = self.transmission.max_exchange_bytes;
        let again = match self
            .exchanges
            .begin((from.at, from.id), acknowledge_at, now, lifetime, max)
        {
            Seen::Never => return true,
            Seen::Open { acknowledged } => {
                self.counts.duplicates += 1;
                if acknowledged && confirmable {
                    self.send_empty(from.at, Kind::Acknowledgement, from.id, from.bytes, out);
                }
                return false;
            }
            Seen::Closed(answer) => answer.to_vec(),
        };
        self.counts.duplicates += 1;
        if confirmable && !again.is_empty() {
            self.send_within(from.at, &again, from.bytes, out);
        }
        false
    }

    /// Answers a request. What does not fit into what the requester may be sent waits until it has proved that it receives. An answer to what came to a group
    /// waits for its time, and an error is no answer there.
    pub fn respond(&mut self, to: &Requester<A>, mut response: Message, now: Instant, out: &mut Out<A>) {
        response.token = to.token;
        if to.at.is_by_group() {
            return self.respond_at_leisure(to, response, now);
        }
        let name = (to.at, to.id);
        let confirmable = to.kind == Kind::Confirmable;
        let piggybacked = confirmable && self.exchanges.is_unacknowledged(name);
        if confirmable && !piggybacked {
            // §5.2.2: it was acknowledged already, in four bytes, so its response wants to be.
            self.enqueue(to.at, to.bytes.saturating_sub(4), response, None, now, out);
            return;
        }
        (response.kind, response.id) = if piggybacked {
            (Kind::Acknowledgement, to.id) // §5.2.1
        } else {
            (Kind::NonConfirmable, self.next_id(to.at)) // §5.2.3
        };
        let Some(datagram) = self.encoded(&response) else {
            return;
        };
        if self.may_send(to.at, datagram.len(), to.bytes) {
            let max = self.transmission.max_exchange_bytes;
            let kept: &[u8] = if piggybacked { &datagram } else { &[] };
            self.exchanges.close(name, kept, max);
            self.counts.forgotten += std::mem::take(&mut self.exchanges.forgotten);
            self.counts.sent += 1;
            write(to.at, &datagram, out);
        } else {
            self.hold(*to, response, datagram.len(), now, out);
        }
    }

    /// §8.2: not at once, and never with an error.
    fn respond_at_leisure(&mut self, to: &Requester<A>, response: Message, now: Instant) {
        if !response.code.is_success() {
            return;
        }
        let by = (self.transmission.leisure, self.unguessable.number());
        if !self.leisure.put(*to, response, by, now) {
            self.counts.overflowed += 1;
        }
    }

    /// The time has come of an answer to what came to a group.
    fn respond_late(&mut self, to: &Requester<A>, mut response: Message, out: &mut Out<A>) {
        (response.kind, response.id) = (Kind::NonConfirmable, self.next_id(to.at));
        if let Some(datagram) = self.encoded(&response) {
            self.send_within(to.at, &datagram, to.bytes, out);
        }
    }

    /// Keeps an answer until its requester has proved that it receives, which it is asked for. In time it is still carried by the acknowledgement.
    fn hold(&mut self, to: Requester<A>, response: Message, bytes: usize, now: Instant, out: &mut Out<A>) {
        let Some(index) = self.peer(to.at, to.bytes, now) else {
            return;
        };
        if !self.has_room(index, bytes) {
            self.counts.overflowed += 1;
            return;
        }
        self.waiting_bytes += bytes;
        self.at(index).held.push((to, response, bytes));
        self.ask_for_proof(index, now, out);
    }

    /// Pings a peer, unless it has proved that it receives, or is being asked already.
    fn ask_for_proof(&mut self, index: u32, now: Instant, out: &mut Out<A>) {
        let peer = self.at(index);
        if peer.credit.is_limited() && !peer.waiting.iter().any(|outgoing| outgoing.is_ping) {
            self.push_ping(index, None, now);
            self.start(index, now, out);
        }
    }

    /// A peer has shown that it receives: what was held back is said.
    fn proved(&mut self, at: A, now: Instant, out: &mut Out<A>) {
        let Some(peer) = self.peer_mut(at) else { return };
        peer.credit.prove();
        for (to, response, bytes) in std::mem::take(&mut peer.held) {
            self.waiting_bytes -= bytes;
            self.respond(&to, response, now, out);
        }
    }

    /// Acknowledges a request or response without answering it.
    pub fn acknowledge(&mut self, to: &Requester<A>, out: &mut Out<A>) {
        self.close_with(to, Kind::Acknowledgement, out);
    }

    /// Rejects a response to what was never asked. §4.2
    pub fn reject(&mut self, to: &Requester<A>, out: &mut Out<A>) {
        self.close_with(to, Kind::Reset, out);
    }

    fn close_with(&mut self, to: &Requester<A>, kind: Kind, out: &mut Out<A>) {
        let empty = self.encoded(&Message::empty(kind, to.id)).expect("four bytes");
        let max = self.transmission.max_exchange_bytes;
        self.exchanges.close((to.at, to.id), &empty, max);
        self.send_within(to.at, &empty, to.bytes, out);
    }

    /// Sends a message of our own. A confirmable one waits for its turn, and what becomes of it is told by its tag; of one that is not, only that it was rejected.
    ///
    /// False when there is no room: then nothing is told.
    pub fn send(&mut self, to: A, mut message: Message, tag: T, now: Instant, out: &mut Out<A>) -> bool {
        if message.kind == Kind::Confirmable {
            return self.enqueue(to, 0, message, Some(tag), now, out);
        }
        let Some(index) = self.peer(to, 0, now) else {
            return false;
        };
        let id = self.at(index).take_id();
        message.id = id;
        let Some(datagram) = self.encoded(&message) else {
            return false;
        };
        if !self.may_send(to, datagram.len(), 0) {
            self.counts.unproved += 1;
            return false;
        }
        let peer = self.at(index);
        if peer.unconfirmed.len() == UNCONFIRMED {
            peer.unconfirmed.pop_front();
        }
        peer.unconfirmed.push_back((id, tag));
        self.counts.sent += 1;
        write(to, &datagram, out);
        true
    }

    /// Asks whether a peer is there: a "ping". §4.3. Told as acknowledged when it is, and as lost when it is not.
    pub fn ping(&mut self, to: A, tag: T, now: Instant, out: &mut Out<A>) -> bool {
        let Some(index) = self.peer(to, 0, now) else {
            return false;
        };
        self.push_ping(index, Some(tag), now);
        self.start(index, now, out);
        true
    }

    /// Somebody will be sent messages who was there before, and may be forgotten since, by a restart for example: then it may be asked by a ping for a proof that it
    /// receives, as if it had sent a datagram of a few bytes.
    pub fn expect(&mut self, at: A, now: Instant) {
        if self.by_address.contains_key(&at) {
            return;
        }
        let pings = usize::from(self.transmission.max_retransmit) + 1;
        let factor = usize::from(self.transmission.amplification_limit).max(1);
        if let Some(index) = self.peer(at, (4 * pings).div_ceil(factor), now) {
            self.at(index).pings_only = true;
        }
    }

    /// Answers a request whose sender will be sent messages of ours, too: what it may be sent is remembered from now on, and it is asked for a proof that it receives, if there is none yet.
    pub fn respond_and_expect(
        &mut self,
        from: &Requester<A>,
        response: Message,
        now: Instant,
        out: &mut Out<A>,
    ) {
        if from.at.is_by_group() {
            return self.respond(from, response, now, out);
        }
        let known = self.peer(from.at, from.bytes, now);
        self.respond(from, response, now, out);
        if let Some(index) = known {
            self.ask_for_proof(index, now, out);
        }
    }

    /// Lets go of what has a tag like this: it is not sent again, and what waits behind it goes. RFC 7252 §4.2: whoever sends may give up at any time.
    pub fn forget(&mut self, to: A, is_meant: impl Fn(&T) -> bool, now: Instant, out: &mut Out<A>) {
        let Some(index) = self.by_address.get(&to).copied() else {
            return;
        };
        let peer = self.at(index);
        let mut gone = 0;
        for n in (0..peer.waiting.len()).rev() {
            if peer.waiting[n].tag.as_ref().is_some_and(&is_meant) {
                gone += peer.waiting[n].datagram.len();
                peer.waiting.remove(n);
                peer.under_way -= usize::from(n < peer.under_way);
            }
        }
        peer.unconfirmed.retain(|(_, tag)| !is_meant(tag));
        self.waiting_bytes -= gone;
        self.start(index, now, out);
    }

    /// Whether an address has proved that it receives, or need not.
    pub fn is_proved(&self, at: A) -> bool {
        !A::FORGEABLE
            || self.transmission.amplification_limit == 0
            || self.find(at).is_some_and(|peer| !peer.credit.is_limited())
    }

    /// Bytes that may be sent to an address from which so many have just come; `None` for any number.
    fn allowed(&self, at: A, received: usize) -> Option<usize> {
        if self.is_proved(at) {
            return None;
        }
        let now = received * usize::from(self.transmission.amplification_limit);
        Some(self.find(at).map_or(now, |peer| peer.credit.bytes()))
    }

    /// An address has proved by other means that it receives. RFC 9175 §2.4
    pub fn prove(&mut self, at: A, now: Instant, out: &mut Out<A>) {
        if self.peer(at, 0, now).is_some() {
            self.proved(at, now, out);
        }
    }

    /// When [`Self::handle_timeout`] is next wanted.
    pub fn deadline(&self) -> Option<Instant> {
        let first = self.timers.first().map(|(at, _)| *at);
        let others = self
            .exchanges
            .deadline()
            .into_iter()
            .chain(self.leisure.deadline());
        first.into_iter().chain(others).min()
    }

    /// Does what is due, never much at once. Tells what became of messages.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Out<A>, mut tell: impl FnMut(A, Outcome<T>)) {
        for _ in 0..TIMERS_PER_TURN {
            let Some((at, id)) = self.exchanges.pop_unanswered(now) else {
                break;
            };
            // What came was at least as long.
            self.send_empty(at, Kind::Acknowledgement, id, 4, out);
        }
        while let Some((to, response)) = self.leisure.pop(now) {
            self.respond_late(&to, response, out);
        }
        for _ in 0..TIMERS_PER_TURN {
            if self.timers.first().is_none_or(|(at, _)| *at > now) {
                break;
            }
            let (_, index) = self.timers.pop_first().expect("just looked at");
            self.at(index).armed = None;
            self.send_again(index, now, out, &mut tell);
        }
    }

    /// Sends again what a peer has not acknowledged in time. When one was sent too often, nothing that waits for the peer would come any sooner.
    fn send_again(
        &mut self,
        index: u32,
        now: Instant,
        out: &mut Out<A>,
        tell: &mut impl FnMut(A, Outcome<T>),
    ) {
        let max = self.transmission.max_retransmit;
        let peer = self.at(index);
        let late = peer.waiting.iter().take(peer.under_way);
        if late
            .clone()
            .any(|outgoing| outgoing.due <= now && outgoing.sent > max)
        {
            let at = peer.at;
            peer.under_way = 0;
            let waiting = std::mem::take(&mut peer.waiting);
            let held = std::mem::take(&mut peer.held);
            self.waiting_bytes -= held.iter().map(|(.., bytes)| bytes).sum::<usize>();
            self.counts.lost += u32::try_from(held.len()).unwrap_or(u32::MAX);
            self.waiting_bytes -= waiting
                .iter()
                .map(|outgoing| outgoing.datagram.len())
                .sum::<usize>();
            self.counts.lost += u32::try_from(waiting.len()).unwrap_or(u32::MAX);
            let tags = waiting.into_iter().filter_map(|outgoing| outgoing.tag);
            tags.for_each(|tag| tell(at, Outcome::Lost(tag)));
            return;
        }
        let due: Vec<usize> = (0..peer.under_way)
            .filter(|n| peer.waiting[*n].due <= now)
            .collect();
        for n in due {
            self.counts.retransmissions += 1;
            self.transmit(index, n, now, out);
        }
        self.arm(index);
    }

    fn on_reset(&mut self, from: A, id: u16, now: Instant, out: &mut Out<A>) -> Option<Received<A, T>> {
        let peer = self.peer_mut(from)?;
        if let Some(n) = peer
            .waiting
            .iter()
            .take(peer.under_way)
            .position(|outgoing| outgoing.id == id)
        {
            let is_ping = peer.waiting[n].is_ping;
            let tag = self.settle(from, id, now, out).flatten()?;
            if is_ping {
                return Some(Received::Outcome(Outcome::Acknowledged(tag)));
            }
            self.counts.rejected += 1;
            return Some(Received::Outcome(Outcome::Rejected(tag)));
        }
        let Some(n) = peer.unconfirmed.iter().position(|(sent, _)| *sent == id) else {
            peer.credit.guessed_wrong();
            return None;
        };
        let (_, tag) = peer.unconfirmed.remove(n).expect("just found");
        self.proved(from, now, out);
        self.counts.rejected += 1;
        Some(Received::Outcome(Outcome::Rejected(tag)))
    }

    /// A message under way was acknowledged or rejected: `Some` with its tag. What waits goes out instead.
    fn settle(&mut self, from: A, id: u16, now: Instant, out: &mut Out<A>) -> Option<Option<T>> {
        let index = *self.by_address.get(&from)?;
        let peer = self.at(index);
        let Some(n) = peer
            .waiting
            .iter()
            .take(peer.under_way)
            .position(|outgoing| outgoing.id == id)
        else {
            peer.credit.guessed_wrong();
            return None;
        };
        let settled = peer.waiting.remove(n).expect("just found");
        peer.under_way -= 1;
        self.waiting_bytes -= settled.datagram.len();
        self.proved(from, now, out);
        self.start(index, now, out);
        Some(settled.tag)
    }

    /// Puts a confirmable message into the queue of its peer. False if there is no room.
    fn enqueue(
        &mut self,
        to: A,
        received: usize,
        mut message: Message,
        tag: Option<T>,
        now: Instant,
        out: &mut Out<A>,
    ) -> bool {
        let Some(index) = self.peer(to, received, now) else {
            return false;
        };
        message.kind = Kind::Confirmable;
        message.id = self.at(index).take_id();
        let Some(datagram) = self.encoded(&message) else {
            return false;
        };
        if !self.has_room(index, datagram.len()) {
            self.counts.overflowed += 1;
            return false;
        }
        let peer = self.at(index);
        let proves_first = !peer.credit.has(datagram.len()) || peer.pings_only && peer.credit.is_limited();
        if proves_first && !self.at(index).waiting.iter().any(|outgoing| outgoing.is_ping) {
            self.push_ping(index, None, now);
        }
        let outgoing = Outgoing {
            id: message.id,
            datagram: Box::from(&datagram[..]),
            tag,
            is_ping: false,
            sent: 0,
            timeout: self.first_timeout(),
            due: now,
        };
        self.waiting_bytes += outgoing.datagram.len();
        self.at(index).waiting.push_back(outgoing);
        self.start(index, now, out);
        true
    }

    /// Whether so many bytes may wait for a peer. Who has not proved that it receives may have half of all there is, that nobody else is kept from his.
    fn has_room(&mut self, index: u32, bytes: usize) -> bool {
        let (most, max) = (self.transmission.max_waiting, self.transmission.max_waiting_bytes);
        let waiting = self.waiting_bytes + bytes;
        let peer = self.at(index);
        let max = if peer.credit.is_limited() { max / 2 } else { max };
        peer.waiting.len() + peer.held.len() < most && waiting <= max
    }

    /// A ping goes before what is not under way yet.
    fn push_ping(&mut self, index: u32, tag: Option<T>, now: Instant) {
        let timeout = self.first_timeout();
        let id = self.at(index).take_id();
        let datagram = self
            .encoded(&Message::empty(Kind::Confirmable, id))
            .expect("four bytes");
        let peer = self.at(index);
        let at = peer.under_way;
        let ping = Outgoing {
            id,
            datagram: Box::from(&datagram[..]),
            tag,
            is_ping: true,
            sent: 0,
            timeout,
            due: now,
        };
        peer.waiting.insert(at, ping);
        self.waiting_bytes += 4;
    }

    /// ACK_TIMEOUT, by chance up to ACK_RANDOM_FACTOR times as long. §4.2
    fn first_timeout(&mut self) -> Duration {
        let base = u64::try_from(self.transmission.ack_timeout.as_millis()).unwrap_or(u64::MAX);
        let more = base.saturating_mul(u64::from(
            self.transmission.ack_random_percent.saturating_sub(100),
        )) / 100;
        Duration::from_millis(base + self.unguessable.number() % (more + 1))
    }

    /// Lets as many of a peer's messages go as may be under way. §4.7
    fn start(&mut self, index: u32, now: Instant, out: &mut Out<A>) {
        let nstart = usize::from(self.transmission.nstart);
        loop {
            let peer = self.at(index);
            let n = peer.under_way;
            if n >= nstart || n >= peer.waiting.len() {
                break;
            }
            peer.under_way += 1;
            self.transmit(index, n, now, out);
        }
        self.arm(index);
    }

    /// Sends one of those under way, if its receiver may be sent as much, and notes when it is next due.
    fn transmit(&mut self, index: u32, n: usize, now: Instant, out: &mut Out<A>) {
        let (counts, peer) = (
            &mut self.counts,
            self.peers[index as usize].as_mut().expect("in use"),
        );
        let outgoing = &mut peer.waiting[n];
        if outgoing.sent > 0 {
            outgoing.timeout *= 2;
        }
        outgoing.sent = outgoing.sent.saturating_add(1);
        outgoing.due = now + outgoing.timeout;
        let may_be_sent = outgoing.is_ping || !peer.pings_only;
        if !peer.credit.is_limited() || may_be_sent && peer.credit.spend(outgoing.datagram.len()) {
            counts.sent += 1;
            write(peer.at, &outgoing.datagram, out);
        } else {
            counts.unproved += 1;
        }
    }

    fn arm(&mut self, index: u32) {
        let peer = self.peers[index as usize].as_mut().expect("in use");
        let wanted = peer
            .waiting
            .iter()
            .take(peer.under_way)
            .map(|outgoing| outgoing.due)
            .min();
        if peer.armed == wanted {
            return;
        }
        if let Some(at) = std::mem::replace(&mut peer.armed, wanted) {
            self.timers.remove(&(at, index));
        }
        if let Some(at) = wanted {
            self.timers.insert((at, index));
        }
    }

    fn send_empty(&mut self, to: A, kind: Kind, id: u16, received: usize, out: &mut Out<A>) {
        let empty = self.encoded(&Message::empty(kind, id)).expect("four bytes");
        self.send_within(to, &empty, received, out);
    }

    fn send_within(&mut self, to: A, datagram: &[u8], received: usize, out: &mut Out<A>) {
        if self.may_send(to, datagram.len(), received) {
            self.counts.sent += 1;
            write(to, datagram, out);
        } else {
            self.counts.unproved += 1;
        }
    }

    /// Whether so many bytes may go to an address from which so many have just come; they count as gone.
    fn may_send(&mut self, to: A, bytes: usize, received: usize) -> bool {
        if !A::FORGEABLE || self.transmission.amplification_limit == 0 {
            return true;
        }
        match self.find(to) {
            Some(peer) => peer.credit.spend(bytes),
            None => bytes <= received * usize::from(self.transmission.amplification_limit),
        }
    }

    /// The bytes of a message; `None` for one that no datagram can hold, which its sender has looked at before.
    fn encoded(&mut self, message: &Message) -> Option<BytesMut> {
        self.scratch.clear();
        encode(message, &mut self.scratch).ok()?;
        Some(self.scratch.split())
    }

    /// A peer that is known has said something.
    fn hear(&mut self, at: A, bytes: usize, now: Instant) {
        let factor = self.factor();
        if let Some(peer) = self.peer_mut(at) {
            peer.credit.join(&Credit::new(bytes, factor));
            peer.pings_only = false;
            peer.heard = now;
        }
    }

    fn factor(&self) -> u8 {
        if A::FORGEABLE {
            self.transmission.amplification_limit
        } else {
            0
        }
    }

    fn next_id(&mut self, to: A) -> u16 {
        match self.peer_mut(to) {
            Some(peer) => peer.take_id(),
            None => self.unguessable.number() as u16,
        }
    }

    fn find(&self, at: A) -> Option<&Peer<A, T>> {
        let index = *self.by_address.get(&at)?;
        self.peers[index as usize].as_ref()
    }

    fn peer_mut(&mut self, at: A) -> Option<&mut Peer<A, T>> {
        let index = *self.by_address.get(&at)?;
        self.peers[index as usize].as_mut()
    }

    fn at(&mut self, index: u32) -> &mut Peer<A, T> {
        self.peers[index as usize].as_mut().expect("its index was found")
    }

    /// The place of a peer, from which so many bytes have just come if it is new; `None` if there are too many.
    fn peer(&mut self, at: A, received: usize, now: Instant) -> Option<u32> {
        if let Some(index) = self.by_address.get(&at) {
            return Some(*index);
        }
        self.make_room(now);
        if self.by_address.len() >= self.transmission.max_peers {
            self.counts.overflowed += 1;
            return None;
        }
        let index = self.free.pop().unwrap_or_else(|| {
            self.peers.push(None);
            u32::try_from(self.peers.len() - 1).expect("fewer than four billion peers")
        });
        self.made += 1;
        self.peers[index as usize] = Some(Peer {
            at,
            made: self.made,
            credit: Credit::new(received, self.factor()),
            pings_only: false,
            next_id: self.unguessable.number() as u16,
            heard: now,
            waiting: VecDeque::new(),
            under_way: 0,
            unconfirmed: VecDeque::new(),
            held: Vec::new(),
            armed: None,
        });
        self.by_address.insert(at, index);
        self.order.push_back((index, self.made));
        Some(index)
    }

    /// Forgets peers of whom nothing need be known any more; and when there are too many, the first for whom nothing waits.
    fn make_room(&mut self, now: Instant) {
        let lifetime = self.transmission.exchange_lifetime();
        // Who listens says little, and need not prove again that it receives.
        let of_proved = lifetime * PROVED;
        // Each new peer looks at a few old ones: so there are never many that should be gone.
        for _ in 0..4 {
            let Some((index, made)) = self.order.pop_front() else {
                return;
            };
            let Some(peer) = self.peers[index as usize]
                .as_ref()
                .filter(|peer| peer.made == made)
            else {
                continue;
            };
            let full = self.by_address.len() >= self.transmission.max_peers;
            let lifetime = match peer.credit.is_limited() {
                true => lifetime,
                false => of_proved,
            };
            let is_over = peer.heard + lifetime <= now;
            if peer.waiting.is_empty() && peer.held.is_empty() && (is_over || full) {
                self.by_address.remove(&peer.at);
                self.peers[index as usize] = None;
                self.free.push(index);
            } else {
                self.order.push_back((index, made));
            }
        }
    }
}

fn write<A: Address>(to: A, datagram: &[u8], out: &mut Out<A>) {
    let written = out.datagram(Destination::To(to), |bytes| {
        bytes.extend_from_slice(datagram);
        Ok::<_, std::convert::Infallible>(())
    });
    written.expect("nothing can fail");
}

impl<A, T> Peer<A, T> {
    /// The next message ID. §4.4
    fn take_id(&mut self) -> u16 {
        self.next_id = self.next_id.wrapping_add(1);
        self.next_id
    }
}
