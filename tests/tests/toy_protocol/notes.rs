//! A toy over datagrams: one datagram is one request or one answer. `HELLO name`, then `PUB topic text`, `SUB filter`, `BYE`; answered by `OK`, `ERR why`, and
//! `MSG topic text` for what is delivered. Who said HELLO is known by its address. This file is what the protocol's own crate would hold.

use bytes::{BufMut, Bytes};
use headgate_model::access::{Credentials, Identity};
use headgate_model::bus::{Presence, Protocol};
use headgate_model::datagram::Address;
use headgate_model::{
    AckToken, Answer, Asked, BusCommand, BusEvent, ClientId, CloseReason, DatagramOutputs, DatagramProtocol,
    DatagramServer, Destination, Fault, Gate, Instant, MemoryLimit, Message, MountPoint, Naming, NoFramer,
    Open, Qos, Question, SessionKey, Settlement, SubscriptionOptions, Topic, Verdict,
};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// The word for operators.
static PROTOCOL: Protocol = Protocol { name: "notes" };

/// The protocol, as it is registered. It has no serial form.
pub(crate) struct Notes;

impl DatagramProtocol for Notes {
    const NAME: &'static str = "notes";

    type Settings = ();
    type Framing = ();
    type Framer = NoFramer;
    type Server<A: Address + Unpin + Send + 'static> = NoteServer<A>;

    fn faults((): &(), _: &MountPoint) -> Vec<Fault> {
        Vec::new()
    }

    fn unanswered_anonymous((): &()) -> Option<&'static str> {
        None
    }

    fn server<A: Address + Unpin + Send + 'static>(
        (): &(),
        naming: Arc<Naming>,
        _: Instant,
        _: Arc<MemoryLimit>,
    ) -> NoteServer<A> {
        NoteServer {
            naming,
            clients: Vec::new(),
            by_address: HashMap::new(),
            opened: 0,
        }
    }

    fn change<A: Address + Unpin + Send + 'static>(
        server: &mut NoteServer<A>,
        (): &(),
        naming: Arc<Naming>,
        _: Instant,
    ) {
        server.naming = naming;
    }

    fn framer((): &(), (): &()) -> Option<NoFramer> {
        None
    }
}

/// Clients at a time.
const MOST: usize = 64;
/// Who says nothing for so long is gone.
const PATIENCE: Duration = Duration::from_secs(60);

/// All clients of one socket.
pub(crate) struct NoteServer<A> {
    naming: Arc<Naming>,
    /// By the index of their keys.
    clients: Vec<Option<Client<A>>>,
    by_address: HashMap<A, u32>,
    /// How many there have been.
    opened: u32,
}

struct Client<A> {
    at: A,
    /// No other client of this place had the same.
    generation: u32,
    name: ClientId,
    /// Nobody until the question was answered.
    identity: Option<Identity>,
    until: Instant,
}

type Out<A> = DatagramOutputs<A>;

fn say<A: Copy>(to: A, text: &str, out: &mut Out<A>) {
    let written = out.datagram(Destination::To(to), |bytes| {
        bytes.put_slice(text.as_bytes());
        Ok::<_, std::convert::Infallible>(())
    });
    written.expect("nothing can fail");
}

impl<A: Address> NoteServer<A> {
    fn key(&self, index: u32) -> Option<SessionKey> {
        let client = self.clients[index as usize].as_ref()?;
        let generation = client.generation;
        Some(SessionKey { index, generation })
    }

    /// The client with this key, if it is still there.
    fn client(&self, key: SessionKey) -> Option<&Client<A>> {
        let client = self.clients.get(key.index as usize)?.as_ref();
        client.filter(|client| client.generation == key.generation)
    }

    fn gate<'a>(&'a self, client: &'a Client<A>) -> Gate<'a> {
        let policy = client.identity.as_ref().map(|identity| &identity.policy);
        self.naming.gate(&client.name, policy)
    }

    fn hello(&mut self, at: A, name: &str, now: Instant, out: &mut Out<A>) {
        let free = self.clients.iter().position(Option::is_none);
        let index = free.unwrap_or(self.clients.len());
        if index == MOST {
            return say(at, "ERR full", out);
        }
        if index == self.clients.len() {
            self.clients.push(None);
        }
        self.opened += 1;
        let name = ClientId::from(name);
        let credentials = Credentials {
            client_id: name.clone(),
            username: None,
            password: None,
            method: None,
            data: None,
            link: false,
        };
        self.clients[index] = Some(Client {
            at,
            generation: self.opened,
            name,
            identity: None,
            until: now + PATIENCE,
        });
        let index = index as u32;
        self.by_address.insert(at, index);
        out.questions.push(Asked {
            key: self.key(index).expect("it was just put there"),
            at: Some(at),
            question: Question::Authenticate(Box::new(credentials)),
        });
    }

    fn publish(&self, key: SessionKey, rest: &str, out: &mut Out<A>) {
        let Some(client) = self.client(key) else { return };
        let (topic, text) = rest.split_once(' ').unwrap_or((rest, ""));
        let Ok(topic) = Topic::try_from(topic) else {
            return say(client.at, "ERR no topic", out);
        };
        let message = Message {
            qos: Qos::AtLeastOnce,
            ..Message::new(topic, Bytes::copy_from_slice(text.as_bytes()))
        };
        match self.gate(client).publish(message) {
            Verdict::Admitted(message) => {
                let (ack, dedup) = (Some(AckToken(0)), None);
                out.bus.push((key, BusCommand::Publish { message, ack, dedup }));
            }
            _ => say(client.at, "ERR you may not", out),
        }
    }

    fn subscribe(&self, key: SessionKey, filter: &str, out: &mut Out<A>) {
        let Some(client) = self.client(key) else { return };
        let options = SubscriptionOptions::default();
        match self
            .gate(client)
            .subscribe(&Bytes::copy_from_slice(filter.as_bytes()), options)
        {
            Verdict::Admitted(subscription) => {
                let (token, subscriptions) = (AckToken(0), vec![subscription]);
                out.bus
                    .push((key, BusCommand::Subscribe { token, subscriptions }));
            }
            _ => say(client.at, "ERR you may not", out),
        }
    }

    fn leave(&mut self, key: SessionKey, reason: CloseReason, out: &mut Out<A>) {
        if let Some(client) = self.clients[key.index as usize].take() {
            self.by_address.remove(&client.at);
            let expiry = None;
            out.bus.push((key, BusCommand::Close { reason, expiry }));
        }
    }
}

impl<A: Address> DatagramServer for NoteServer<A> {
    type Address = A;

    fn handle_datagram(&mut self, from: A, datagram: Bytes, now: Instant, out: &mut Out<A>) {
        let Ok(text) = std::str::from_utf8(&datagram) else {
            return say(from, "ERR no text", out);
        };
        let (word, rest) = text.trim_end().split_once(' ').unwrap_or((text.trim_end(), ""));
        let key = self.by_address.get(&from).and_then(|index| self.key(*index));
        let Some(key) = key else {
            return match word {
                "HELLO" => self.hello(from, rest, now, out),
                _ => say(from, "ERR say HELLO", out),
            };
        };
        let client = self.clients[key.index as usize]
            .as_mut()
            .expect("its key was found");
        client.until = now + PATIENCE;
        if client.identity.is_none() {
            return; // Its question is open: it asks again if it wants an answer.
        }
        match word {
            "PUB" => self.publish(key, rest, out),
            "SUB" => self.subscribe(key, rest, out),
            "BYE" => self.leave(key, CloseReason::Normal, out),
            _ => say(from, "ERR not now", out),
        }
    }

    fn handle_answer(&mut self, key: SessionKey, answer: Answer, _: Instant, out: &mut Out<A>) {
        let Some(client) = self.client(key) else { return };
        let (at, name) = (client.at, client.name.clone());
        let Answer::Allowed { identity, .. } = answer else {
            say(at, "ERR you may not come in", out);
            return self.leave(key, CloseReason::Normal, out);
        };
        let (peer, peer_port) = at.presence();
        let who = Presence {
            username: identity.username.clone(),
            protocol: &PROTOCOL,
            peer,
            peer_port,
            clean_start: true,
            ..Presence::default()
        };
        let Some(client) = self.naming.gate(&name, Some(&identity.policy)).enter(who) else {
            say(at, "ERR nobody may have this name", out);
            return self.leave(key, CloseReason::Normal, out);
        };
        let open = Open {
            client,
            clean_start: true,
            expiry: Duration::ZERO,
            will: None.into(),
            receive_maximum: 16,
            credit: 16,
            forgeable: A::FORGEABLE,
            wants_expired: false,
            link: None,
        };
        out.bus.push((key, BusCommand::Open(Box::new(open))));
        if let Some(client) = &mut self.clients[key.index as usize] {
            client.identity = Some(identity);
        }
    }

    fn handle_bus(&mut self, key: SessionKey, event: BusEvent, _: Instant, out: &mut Out<A>) {
        let Some(client) = self.client(key) else { return };
        let at = client.at;
        match event {
            BusEvent::Opened { .. } | BusEvent::Accepted(..) | BusEvent::Subscribed { .. } => {
                say(at, "OK", out);
            }
            BusEvent::Refused(_, why) => say(at, &format!("ERR {why}"), out),
            BusEvent::Delivery(delivery) => {
                let topic = self.naming.mount.unmount(&delivery.message.topic);
                let text = String::from_utf8_lossy(&delivery.message.payload);
                say(at, &format!("MSG {topic} {text}"), out);
                out.bus
                    .push((key, BusCommand::credit_of(delivery.message.size())));
                if let Some(id) = delivery.id {
                    out.bus.push((key, BusCommand::Settle(id, Settlement::Done)));
                }
            }
            BusEvent::OpenRefused(_) | BusEvent::Kicked => self.leave(key, CloseReason::Kicked, out),
            BusEvent::TakenOver => self.leave(key, CloseReason::TakenOver, out),
            _ => {}
        }
    }

    fn handle_timeout(&mut self, now: Instant, out: &mut Out<A>) {
        for index in 0..self.clients.len() as u32 {
            let late = self.clients[index as usize]
                .as_ref()
                .is_some_and(|client| client.until <= now);
            if let Some(key) = self.key(index).filter(|_| late) {
                self.leave(key, CloseReason::KeepAlive, out);
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.clients.iter().flatten().map(|client| client.until).min()
    }

    fn shutdown(&mut self, out: &mut Out<A>) {
        for index in 0..self.clients.len() as u32 {
            if let Some(key) = self.key(index) {
                self.leave(key, CloseReason::Shutdown, out);
            }
        }
    }

    fn gauges(&self, tell: &mut dyn FnMut(&'static str, usize)) {
        tell("clients", self.by_address.len());
    }
}
