//! Letting clients in: CONNECT with its will, and clients that come from somewhere else. §6.2, §6.3
//!
//! A handshake is kept apart from clients: as long as it is not known that the peer is who it says, nobody else is disturbed.

use crate::client::{Client, Purpose, State};
use crate::counters::SnMetric;
use crate::denial;
use crate::gateway::{Occupant, Out, PROTOCOL, SnGateway};
use crate::outputs::Send;
use crate::party::{Party, Sender};
use crate::settings::Login;
use crate::topics::TopicIds;
use bytes::Bytes;
use headgate_model::Qos;
use headgate_model::access::{AuthRefusal, Credentials, Wanted};
use headgate_model::bus::{NEVER, Presence};
use headgate_model::datagram::{Address, Credit};
use headgate_model::gate::{Waiting, is_reserved};
use headgate_model::{
    Answer, ClientId, CloseReason, Identity, Instant, Metric, Open, OpenWill, Pace, Question, Refused, Topic,
    Verdict, Will,
};
use headgate_mqttsn_codec::{self as codec, Connect, Message, ReturnCode};
use std::time::Duration;

/// A CONNECT that is the same as the one before, and comes so soon after that was answered and before anything else, is a copy of it.
pub(crate) const STALE: Duration = Duration::from_secs(5);

/// Somebody who wants to be let in.
#[derive(Debug)]
pub(crate) struct Handshake<A> {
    pub party: Party<A>,
    pub until: Instant,
    id: ClientId,
    wants: Wants,
    phase: Phase,
    identity: Option<Identity>,
}

/// What it wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wants {
    Connect {
        will: bool,
        clean: bool,
        keep_alive: u16,
    },
    /// PINGREQ with a client id, from where that client was not.
    Wake,
}

/// What comes next.
#[derive(Debug)]
enum Phase {
    Authenticate,
    /// WILLTOPICREQ was sent.
    WillTopic,
    /// WILLMSGREQ was sent.
    WillMsg {
        topic: Topic,
        qos: Qos,
        retain: bool,
    },
    /// May its will be published?
    WillAccess(Box<Waiting<Will>>),
}

impl<A> Handshake<A> {
    pub(crate) fn id(&self) -> &ClientId {
        &self.id
    }
}

impl<A: Address> SnGateway<A> {
    pub(crate) fn on_connect(&mut self, from: &Sender<A>, connect: Connect, now: Instant, out: &mut Out<A>) {
        let refuse = |code, why: &'static str, out: &mut Out<A>| {
            out.counts.add(Metric::ConnectRefused);
            let id = String::from_utf8_lossy(&connect.client_id);
            denial::tell(from.address, &id, None, || Wanted::Connect, || why.into(), out);
            out.send(&from.party(), &Message::ConnAck(code));
        };
        if connect.protocol_id != 1 {
            return refuse(ReturnCode::NotSupported, "another version than 1.2", out);
        }
        let Some(id) = self.client_id(&connect.client_id) else {
            return refuse(
                ReturnCode::NotSupported,
                "not a client id that is taken here",
                out,
            );
        };
        let wants = Wants::Connect {
            will: connect.will,
            clean: connect.clean_session,
            keep_alive: connect.duration,
        };
        if let Some(index) = self
            .find_client(from)
            .filter(|index| self.client(*index).id.as_str() == id)
        {
            let client = self.client_mut(index);
            let same = client.clean == connect.clean_session
                && client.will == connect.will
                && client.keep_alive == connect.duration;
            match client.state {
                // Its answer is on its way.
                State::Opening(Purpose::Connect) if same => return client.party.credit.join(&from.credit),
                // Who has a will waits for WILLTOPICREQ now.
                State::Active {
                    copies_until: Some(until),
                    ..
                } if same && !connect.will && now < until => {
                    client.party.credit.join(&from.credit);
                    if let Some(outbound) = client.outbound.as_deref_mut() {
                        outbound.forgive();
                    }
                    return out.send(&client.party, &Message::ConnAck(ReturnCode::Accepted));
                }
                _ => {}
            }
        }
        if self.repeats_handshake(from, &id, wants, out) {
            return;
        }
        if self.is_full(from, &id) {
            let why = match self.overloaded {
                true => "the gateway is overloaded (limits.max_delay)",
                false => "too many clients (max_clients, max_handshakes)",
            };
            return refuse(ReturnCode::Congestion, why, out);
        }
        self.begin(from, &id, wants, now, out);
    }

    /// PINGREQ with a client id: of a client that sleeps, or of one that a restarted gateway does not know, or of one that has another address now.
    pub(crate) fn on_ping_with_id(
        &mut self,
        from: &Sender<A>,
        client_id: &Bytes,
        now: Instant,
        out: &mut Out<A>,
    ) {
        let ping = Message::PingReq(None);
        let Some(id) = self.client_id(client_id) else {
            return self.on_unknown(from, &ping, out);
        };
        if let Some(index) = self
            .find_client(from)
            .filter(|index| self.client(*index).id.as_str() == id)
        {
            self.client(index).party.credit.join(&from.credit);
            self.on_ping_of_client(index, from, now, out);
            return self.send_held(index, now, out);
        }
        if self
            .find_id(&id)
            .is_some_and(|index| self.is_waking_at(index, from))
        {
            return; // Its answer is on its way.
        }
        if self.repeats_handshake(from, &id, Wants::Wake, out) {
            return;
        }
        if self.is_full(from, &id) {
            return self.on_unknown(from, &ping, out);
        }
        self.begin(from, &id, Wants::Wake, now, out);
    }

    fn client_id(&self, raw: &Bytes) -> Option<String> {
        let fits = (1..=self.config.settings.max_client_id_bytes).contains(&raw.len());
        let text = std::str::from_utf8(raw).ok().filter(|_| fits)?;
        let is_free = !text.contains('\0') && !is_reserved(text);
        is_free.then(|| text.to_owned())
    }

    /// Whether the handshake is under way already: then it goes on where it is. Another one from the same place is over, but never while the access
    /// service is asked about it: a peer has one question open at a time.
    fn repeats_handshake(&mut self, from: &Sender<A>, id: &str, wants: Wants, out: &mut Out<A>) -> bool {
        let Some(index) = self.find_handshake(from) else {
            return false;
        };
        let Occupant::Handshake(handshake) = &self.places[index as usize].slot else {
            unreachable!("the index of a handshake")
        };
        handshake.party.credit.join(&from.credit);
        let asked = matches!(handshake.phase, Phase::Authenticate | Phase::WillAccess(_));
        if handshake.id.as_str() != id || handshake.wants != wants {
            if asked {
                out.counts.add_own(SnMetric::Dropped);
            } else {
                self.remove(index);
            }
            return asked;
        }
        match handshake.phase {
            Phase::WillTopic => out.send(&handshake.party, &Message::WillTopicReq),
            Phase::WillMsg { .. } => out.send(&handshake.party, &Message::WillMsgReq),
            Phase::Authenticate | Phase::WillAccess(_) => {}
        }
        true
    }

    /// Whether there is no room for one more; who has a place already needs none.
    fn is_full(&self, from: &Sender<A>, id: &str) -> bool {
        let settings = &self.config.settings;
        let is_new = self.find_client(from).is_none() && self.find_id(id).is_none();
        self.handshakes >= settings.max_handshakes
            || (is_new && (self.overloaded || self.clients + self.handshakes >= settings.max_clients))
    }

    fn begin(&mut self, from: &Sender<A>, id: &str, wants: Wants, now: Instant, out: &mut Out<A>) {
        let index = self.place(Occupant::Handshake(Box::new(Handshake {
            party: from.party(),
            until: now + self.config.settings.connect_timeout,
            id: id.into(),
            wants,
            phase: Phase::Authenticate,
            identity: None,
        })));
        let credentials = credentials(id, self.config.login(id));
        self.ask(index, Question::Authenticate(Box::new(credentials)), out);
        self.arm(index);
    }

    pub(crate) fn on_handshake_answer(&mut self, index: u32, answer: Answer, now: Instant, out: &mut Out<A>) {
        let handshake = self.handshake(index);
        match (&handshake.phase, answer) {
            (Phase::Authenticate, Answer::Allowed { identity, .. }) => {
                handshake.identity = Some(identity);
                match handshake.wants {
                    Wants::Connect { will: true, .. } => {
                        handshake.phase = Phase::WillTopic;
                        out.send(&handshake.party, &Message::WillTopicReq);
                    }
                    // §6.3 table: without the will flag a client keeps the will it has, unless it starts anew.
                    Wants::Connect { clean, .. } => {
                        let will = if clean { None.into() } else { OpenWill::Keep };
                        self.admit(index, will, out);
                    }
                    Wants::Wake => self.come_back(index, now, out),
                }
            }
            (Phase::Authenticate, Answer::Refused(why)) => {
                let code = match why {
                    AuthRefusal::Unavailable | AuthRefusal::Busy => ReturnCode::Congestion,
                    AuthRefusal::BadUserNameOrPassword
                    | AuthRefusal::NotAuthorized
                    | AuthRefusal::Banned
                    | AuthRefusal::BadMethod => ReturnCode::NotSupported,
                };
                // The access service has written to the log whom it refused, and why.
                self.turn_away(index, code, out);
            }
            (Phase::WillAccess(_), answer @ Answer::Authorized(_)) => {
                let Phase::WillAccess(will) = std::mem::replace(&mut handshake.phase, Phase::Authenticate)
                else {
                    unreachable!("just looked at")
                };
                match will.decide(answer.decision(0)) {
                    Ok(will) => self.admit(index, Some(will).into(), out),
                    Err(refused) => self.deny_will(index, &refused, out),
                }
            }
            // Nothing that was asked.
            _ => self.refuse(
                index,
                ReturnCode::NotSupported,
                "no answer from the access service",
                out,
            ),
        }
    }

    /// WILLTOPIC or WILLMSG.
    pub(crate) fn on_will_message(&mut self, from: &Sender<A>, message: Message, out: &mut Out<A>) {
        let Some(index) = self.find_handshake(from) else {
            // Sent again, after all was well; or by nobody that is known.
            return match self.find_client(from) {
                Some(_) => out.counts.add_own(SnMetric::Dropped),
                None => self.on_unknown(from, &message, out),
            };
        };
        let handshake = self.handshake(index);
        handshake.party.credit.join(&from.credit);
        match (&handshake.phase, message) {
            (Phase::WillTopic, Message::WillTopic(Some(will))) => {
                let Ok(topic) = Topic::parse(will.topic) else {
                    return self.refuse(
                        index,
                        ReturnCode::NotSupported,
                        "the topic of its will is none",
                        out,
                    );
                };
                handshake.phase = Phase::WillMsg {
                    topic: topic.compact(),
                    qos: from_wire(will.qos),
                    retain: will.retain,
                };
                out.send(&handshake.party, &Message::WillMsgReq);
            }
            // It has none after all. §5.4.7
            (Phase::WillTopic, Message::WillTopic(None)) => self.admit(index, None.into(), out),
            (Phase::WillMsg { .. }, Message::WillTopic(_)) => {
                out.send(&handshake.party, &Message::WillMsgReq);
            }
            (Phase::WillMsg { .. }, Message::WillMsg(payload)) => {
                self.on_will_complete(index, &payload, out);
            }
            _ => out.counts.add_own(SnMetric::Dropped),
        }
    }

    fn on_will_complete(&mut self, index: u32, payload: &[u8], out: &mut Out<A>) {
        let handshake = self.handshake(index);
        let Phase::WillMsg { topic, qos, retain } =
            std::mem::replace(&mut handshake.phase, Phase::Authenticate)
        else {
            unreachable!("just looked at")
        };
        let message = headgate_model::Message {
            qos,
            retain,
            ..headgate_model::Message::new(topic, Bytes::copy_from_slice(payload))
        };
        let will = Will {
            message,
            delay: Duration::ZERO,
            message_expiry: None,
        };
        let Occupant::Handshake(handshake) = &mut self.places[index as usize].slot else {
            unreachable!("the index of a handshake")
        };
        let policy = handshake.identity.as_ref().map(|identity| &identity.policy);
        match self.config.naming.gate(&handshake.id, policy).will(will) {
            Verdict::Admitted(will) => self.admit(index, Some(will).into(), out),
            Verdict::Refused(refused) => self.deny_will(index, &refused, out),
            Verdict::Ask(will) => {
                let question = Question::Authorize(vec![will.request()]);
                handshake.phase = Phase::WillAccess(will);
                self.ask(index, question, out);
            }
        }
    }

    fn deny_will(&mut self, index: u32, refused: &Refused, out: &mut Out<A>) {
        let handshake = self.handshake(index);
        let (id, identity) = (handshake.id.as_str(), handshake.identity.as_ref());
        let why = || refused.why(identity.map(|identity| &identity.policy));
        let address = handshake.party.address;
        denial::tell(address, id, identity, || refused.wanted.clone(), why, out);
        self.turn_away(index, ReturnCode::NotSupported, out);
    }

    /// The client is let in. Whoever was at its place, or had its id, is no more; then the bus opens its session, and CONNACK follows.
    fn admit(&mut self, index: u32, will: OpenWill, out: &mut Out<A>) {
        let Wants::Connect {
            clean,
            keep_alive,
            will: has_will,
        } = self.handshake(index).wants
        else {
            return;
        };
        let Some(client) = self.take_place(index, out) else {
            return;
        };
        self.become_client(
            index,
            Client {
                keep_alive,
                clean,
                will: has_will,
                ..client
            },
        );
        let settings = &self.config.settings;
        let expiry = match (clean, settings.session_expiry) {
            // It must have a session that can outlast a sleep.
            (true, _) => self.client(index).patience(settings.max_silence),
            (false, Duration::ZERO) => NEVER,
            (false, expiry) => expiry,
        };
        let open = self.open_of(index, clean, expiry, will);
        self.open(index, Purpose::Connect, open, out);
    }

    /// A client that sleeps, or was active, is here from now on; or one that only the bus may know.
    fn come_back(&mut self, index: u32, now: Instant, out: &mut Out<A>) {
        let handshake = self.handshake(index);
        let (party, id) = (handshake.party.clone(), handshake.id.clone());
        let known = self.find_id(id.as_str());
        let known = known.filter(|old| !matches!(self.client(*old).state, State::Disconnected { .. }));
        if let Some(old) = known {
            self.inherit_credit(index);
            let party = self.handshake(index).party.clone();
            self.remove(index);
            self.make_room(&party, out);
            out.counts.add_own(SnMetric::Moved);
            self.move_client(old, party.clone());
            self.on_ping_of_client(old, &sender(&party), now, out);
            return;
        }
        // The bus may not know it: until then it disturbs nobody who is connected here.
        let here = self.find_client(&sender(&party));
        if here.is_some_and(|here| self.client(here).has_endpoint()) {
            self.unlist_party(index);
        } else {
            self.inherit_credit(index);
            self.make_room(&party, out);
        }
        let topics = self.topics_of(&id, false, out);
        let Some(client) = self.new_client(index, topics) else {
            return;
        };
        self.become_client(index, client);
        self.wake(index, Purpose::Wake, out);
    }

    /// Whether it asked for its mailbox from here, and the bus has not answered yet.
    fn is_waking_at(&self, index: u32, from: &Sender<A>) -> bool {
        let client = self.client(index);
        client.state == State::Opening(Purpose::Wake) && client.party.is(from)
    }

    /// The bus knows a client that woke: whoever else was at its place is lost.
    pub(crate) fn take_place_awake(&mut self, index: u32, out: &mut Out<A>) {
        let party = self.client(index).party.clone();
        let here = self.find_client(&sender(&party));
        if here != Some(index) {
            if let Some(here) = here {
                self.client(index)
                    .party
                    .credit
                    .join(&self.client(here).party.credit);
            }
            self.make_room(&party, out);
            self.list_party(index);
        }
    }

    /// The bus does not know it. It is told, unless somebody else would hear it.
    pub(crate) fn forget_waking(&mut self, index: u32, out: &mut Out<A>) {
        let party = self.client(index).party.clone();
        self.remove(index);
        self.disconnect_stranger(&party, out);
    }

    fn disconnect_stranger(&self, party: &Party<A>, out: &mut Out<A>) {
        let here = self.find_client(&sender(party));
        if !here.is_some_and(|here| self.client(here).has_endpoint()) {
            out.send(party, &Message::Disconnect(None));
        }
    }

    /// Makes a client of a handshake, and room for it. What it knew of topic ids it still knows, if it has not started anew.
    fn take_place(&mut self, index: u32, out: &mut Out<A>) -> Option<Client<A>> {
        let handshake = self.handshake(index);
        let anew = matches!(handshake.wants, Wants::Connect { clean: true, .. });
        let (party, id) = (handshake.party.clone(), handshake.id.clone());
        if let Some(old) = self.find_id(id.as_str())
            && self.client(old).party != party
        {
            out.counts.add_own(SnMetric::Moved);
        }
        self.inherit_credit(index);
        // Coming anew gives no new burst.
        let known = self
            .find_id(id.as_str())
            .or_else(|| self.find_client(&sender(&party)));
        let pace = known.map_or(Pace::default(), |known| self.client(known).pace);
        let topics = self.topics_of(&id, anew, out);
        self.make_room(&party, out);
        let client = self.new_client(index, topics)?;
        Some(Client { pace, ..client })
    }

    /// The topic ids of a client that comes; it is nowhere else any more. Without CleanSession they mean what they meant; otherwise none of them means
    /// another topic soon.
    fn topics_of(&mut self, id: &ClientId, anew: bool, out: &mut Out<A>) -> TopicIds {
        if let Some(old) = self.find_id(id.as_str()) {
            if self.client(old).has_endpoint() {
                // It is the same client, which was not lost: no will.
                let expiry = self.client(old).clean.then_some(Duration::ZERO);
                self.close(old, CloseReason::KeepingWill, expiry, out);
            }
            self.remove(old);
        }
        let mut topics = self.memory.take(id).unwrap_or_default();
        if anew {
            topics.clear(&mut self.names);
        }
        topics.forget_known();
        topics
    }

    /// Who was at this place before may have proved that it receives.
    fn inherit_credit(&mut self, index: u32) {
        let from = sender(&self.handshake(index).party);
        if let Some(here) = self.find_client(&from) {
            let credit = self.client(here).party.credit.clone();
            self.handshake(index).party.credit.join(&credit);
        }
    }

    /// Another client is here from now on: the one that was is lost, or sleeps without a place where it could be reached.
    fn make_room(&mut self, party: &Party<A>, out: &mut Out<A>) {
        match self.find_client(&sender(party)) {
            Some(other) if self.client(other).has_endpoint() => self.lose(other, CloseReason::Lost, out),
            Some(other) => self.remove(other),
            None => {}
        }
    }

    fn new_client(&mut self, index: u32, topics: TopicIds) -> Option<Client<A>> {
        let last_msg_id = self.names.before_first_id();
        let handshake = self.handshake(index);
        Some(Client {
            party: handshake.party.clone(),
            id: handshake.id.clone(),
            identity: handshake.identity.take()?,
            state: State::Opening(Purpose::Connect),
            keep_alive: 0,
            sleep: 0,
            clean: false,
            will: false,
            last_msg_id,
            pace: Pace::default(),
            topics,
            outbound: None,
            inbound: None,
        })
    }

    /// What the bus is asked to open for a client.
    pub(crate) fn open_of(&self, index: u32, clean_start: bool, expiry: Duration, will: OpenWill) -> Open {
        let client = self.client(index);
        let (peer, peer_port) = client.party.address.presence();
        let who = Presence {
            username: client.identity.username.clone(),
            protocol: &PROTOCOL,
            version: 1,
            peer,
            peer_port,
            keep_alive: client.keep_alive,
            clean_start,
            ..Presence::default()
        };
        Open {
            client: self.gate(index).enter(who).expect("looked at when it came"),
            clean_start,
            expiry,
            will,
            receive_maximum: 1,
            credit: 1,
            forgeable: true,
            wants_expired: false,
            link: None,
        }
    }

    fn refuse(&mut self, index: u32, code: ReturnCode, why: &'static str, out: &mut Out<A>) {
        let handshake = self.handshake(index);
        let (id, identity) = (handshake.id.as_str(), handshake.identity.as_ref());
        let address = handshake.party.address;
        denial::tell(address, id, identity, || Wanted::Connect, || why.into(), out);
        self.turn_away(index, code, out);
    }

    fn turn_away(&mut self, index: u32, code: ReturnCode, out: &mut Out<A>) {
        out.counts.add(Metric::ConnectRefused);
        let handshake = self.handshake(index);
        let (party, wants) = (handshake.party.clone(), handshake.wants);
        self.remove(index);
        match wants {
            Wants::Connect { .. } => out.send(&party, &Message::ConnAck(code)),
            Wants::Wake => self.disconnect_stranger(&party, out),
        }
    }

    /// The handshake took too long: if it was our turn, the peer is told to try again.
    pub(crate) fn give_up(&mut self, index: u32, out: &mut Out<A>) {
        let ours = matches!(
            self.handshake(index).phase,
            Phase::Authenticate | Phase::WillAccess(_)
        );
        if ours {
            return self.refuse(
                index,
                ReturnCode::Congestion,
                "no answer from the access service in time",
                out,
            );
        }
        out.counts.add(Metric::ConnectRefused);
        self.remove(index);
    }

    fn handshake(&mut self, index: u32) -> &mut Handshake<A> {
        match &mut self.places[index as usize].slot {
            Occupant::Handshake(handshake) => handshake,
            _ => unreachable!("the index of a handshake"),
        }
    }
}

/// What the access service is shown. MQTT-SN 1.2 has no user names: they come from the settings.
pub(crate) fn credentials(client_id: &str, login: Login) -> Credentials {
    let anonymous = login.username.is_empty();
    Credentials {
        client_id: client_id.into(),
        username: (!anonymous).then(|| login.username.into()),
        password: (!anonymous).then(|| Bytes::copy_from_slice(login.password.reveal().as_bytes())),
        method: None,
        data: None,
        link: false,
    }
}

pub(crate) fn from_wire(qos: codec::Qos) -> Qos {
    match qos {
        codec::Qos::NoConnection | codec::Qos::AtMostOnce => Qos::AtMostOnce,
        codec::Qos::AtLeastOnce => Qos::AtLeastOnce,
        codec::Qos::ExactlyOnce => Qos::ExactlyOnce,
    }
}

pub(crate) fn to_wire(qos: Qos) -> codec::Qos {
    match qos {
        Qos::AtMostOnce => codec::Qos::AtMostOnce,
        Qos::AtLeastOnce => codec::Qos::AtLeastOnce,
        Qos::ExactlyOnce => codec::Qos::ExactlyOnce,
    }
}

fn sender<A: Address>(party: &Party<A>) -> Sender<A> {
    Sender {
        address: party.address,
        node: party.node.as_deref().map(Bytes::copy_from_slice),
        credit: Credit::new(0, 1),
        bytes: 0,
    }
}
