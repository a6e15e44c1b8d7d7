//! All clients of one socket: the message layer, and what its messages are about.

use crate::core::{Core, Effect, Tag};
use crate::counters::CoapMetric;
use crate::{CoapSettings, Messenger, Outcome, Received, Requester, Unguessable, trace};
use bytes::Bytes;
use headgate_coap_codec::{Block, Code, Kind, decode, number};
use headgate_model::datagram::{Address, Places, Restored};
use headgate_model::memory::Held;
use headgate_model::trace::PacketTrace;
use headgate_model::{
    Answer, BusEvent, Counter, DatagramOutputs, DatagramServer, Instant, MemoryLimit, Naming, SessionKey,
    UserRates,
};
use std::sync::Arc;

/// CoAP over datagrams. See the crate's documentation.
#[derive(Debug)]
pub struct CoapServer<A> {
    messenger: Messenger<A, Tag>,
    core: Core<A>,
    held: Held,
    stopped: bool,
}

type Out<A> = DatagramOutputs<A>;

impl<A: Address> CoapServer<A> {
    /// A server without clients.
    pub fn new(settings: CoapSettings, naming: Arc<Naming>, memory: Arc<MemoryLimit>) -> Self {
        Self::with_numbers(settings, naming, memory, Unguessable::new(), Unguessable::new())
    }

    /// The same, with numbers that repeat. For simulations.
    pub fn repeating(settings: CoapSettings, naming: Arc<Naming>, seed: u64) -> Self {
        let numbers = [Unguessable::repeating(seed), Unguessable::repeating(!seed)];
        let [first, second] = numbers;
        Self::with_numbers(settings, naming, Arc::default(), first, second)
    }

    fn with_numbers(
        settings: CoapSettings,
        naming: Arc<Naming>,
        memory: Arc<MemoryLimit>,
        first: Unguessable,
        second: Unguessable,
    ) -> Self {
        let szx = Block::szx_within(settings.max_block_bytes);
        Self {
            messenger: Messenger::new(settings.transmission.clone(), first),
            core: Core::new(settings, naming, second, Some(szx)),
            held: Held::new(memory),
            stopped: false,
        }
    }

    /// Other settings and names from now on. Clients stay as they are.
    pub fn change(&mut self, settings: CoapSettings, naming: Arc<Naming>) {
        self.messenger.set_transmission(settings.transmission.clone());
        self.core.szx = Some(Block::szx_within(settings.max_block_bytes));
        self.core.change(settings, naming);
    }

    /// Sends what the core wants to be sent, and tells it what becomes of that, until nothing is left.
    fn flush(&mut self, now: Instant, out: &mut Out<A>) {
        while let Some(effect) = self.core.effects.pop_front() {
            match effect {
                Effect::Respond(to, response) => self.respond(&to, response, now, out),
                Effect::Notify(to, mut message, mut tag) => {
                    self.messenger.expect(to, now);
                    if message.kind == Kind::NonConfirmable && !self.messenger.is_proved(to) {
                        // It goes when its receiver has shown that it receives.
                        message.kind = Kind::Confirmable;
                        if let Tag::Notification(key, ..) = tag {
                            tag = Tag::Settled(key);
                        }
                    }
                    if !self.messenger.send(to, message, tag, now, out) {
                        self.core.on_outcome(Outcome::Lost(tag), now, out);
                    }
                }
                Effect::Ping(to, tag) => {
                    self.messenger.expect(to, now);
                    if !self.messenger.ping(to, tag, now, out) {
                        self.core.on_outcome(Outcome::Lost(tag), now, out);
                    }
                }
                Effect::Forget(at, key) => {
                    let is_meant = |tag: &Tag| match tag {
                        Tag::Notification(of, ..) | Tag::FirstBlock(of) | Tag::Settled(of) => *of == key,
                        Tag::Alive(_) => false,
                    };
                    self.messenger.forget(at, is_meant, now, out);
                }
            }
        }
        let bytes = self.messenger.held() + self.core.held();
        self.core.has_memory = self.held.set(bytes);
        self.count(out);
    }

    fn respond(
        &mut self,
        to: &Requester<A>,
        response: headgate_coap_codec::Message,
        now: Instant,
        out: &mut Out<A>,
    ) {
        if response.code != Code::EMPTY {
            // Who fetches a long body has more to ask, and may have more at once when it has proved that it receives.
            match response.options.has(number::OBSERVE) || response.options.has(number::SIZE2) {
                true => self.messenger.respond_and_expect(to, response, now, out),
                false => self.messenger.respond(to, response, now, out),
            }
        } else if to.kind == Kind::Confirmable {
            self.messenger.acknowledge(to, out); // RFC 7967 §2.1
        }
    }

    fn count(&mut self, out: &mut Out<A>) {
        let counts = std::mem::take(&mut self.messenger.counts);
        let dropped = [&mut self.core.uploads.dropped, &mut self.core.downloads.dropped];
        let dropped: u32 = dropped.into_iter().map(std::mem::take).sum();
        for (metric, n) in [
            (CoapMetric::DatagramsSent, counts.sent),
            (CoapMetric::Malformed, counts.malformed),
            (CoapMetric::Duplicates, counts.duplicates),
            (CoapMetric::Retransmissions, counts.retransmissions),
            (CoapMetric::Lost, counts.lost),
            (CoapMetric::Rejected, counts.rejected),
            (CoapMetric::Unproved, counts.unproved),
            (CoapMetric::Forgotten, counts.forgotten),
            (CoapMetric::Overflowed, counts.overflowed),
            (CoapMetric::TransfersDropped, dropped),
        ] {
            if n > 0 {
                out.counts.add_own_n(metric, n);
            }
        }
    }
}

impl<A: Address> DatagramServer for CoapServer<A> {
    type Address = A;

    const COUNTERS: &'static [&'static str] = CoapMetric::NAMES;

    /// Observations.
    const NOTES: Option<&'static str> = Some("$coap/");

    fn restore(&mut self, found: Vec<Restored>, _: Instant, _: &mut Out<A>) {
        for found in found {
            self.core.restore(found);
        }
    }

    fn restored(&mut self, now: Instant, out: &mut Out<A>) {
        self.core.readmit_some(now, out);
        self.flush(now, out);
    }

    fn handle_datagram(&mut self, from: A, datagram: Bytes, now: Instant, out: &mut Out<A>) {
        out.counts.add_own(CoapMetric::DatagramsReceived);
        if self.stopped {
            return;
        }
        match self.messenger.receive(from, &datagram, now, out) {
            Some(Received::Request(requester, request)) => self.core.request(requester, request, now, out),
            Some(Received::Outcome(outcome)) => self.core.on_outcome(outcome, now, out),
            // Whoever puts a response into its acknowledgement has acknowledged all the same. RFC 7252 §4.2
            Some(Received::Response(_, _, Some(tag))) => {
                self.core.on_outcome(Outcome::Acknowledged(tag), now, out);
            }
            // Nobody was asked anything. RFC 7252 §4.2
            Some(Received::Response(requester, ..)) if requester.kind == Kind::Confirmable => {
                self.messenger.reject(&requester, out);
            }
            Some(Received::Response(..)) | None => {}
        }
        self.flush(now, out);
    }

    fn handle_bus(&mut self, key: SessionKey, event: BusEvent, now: Instant, out: &mut Out<A>) {
        if !self.stopped {
            self.core.on_bus(key, event, now, out);
            self.flush(now, out);
        }
    }

    fn handle_answer(&mut self, key: SessionKey, answer: Answer, now: Instant, out: &mut Out<A>) {
        if !self.stopped {
            self.core.on_answer(key, answer, now, out);
            self.flush(now, out);
        }
    }

    fn handle_timeout(&mut self, now: Instant, out: &mut Out<A>) {
        if self.stopped {
            return;
        }
        let mut outcomes = Vec::new();
        self.messenger
            .handle_timeout(now, out, |_, outcome| outcomes.push(outcome));
        for outcome in outcomes {
            self.core.on_outcome(outcome, now, out);
        }
        self.core.on_timeout(now, out);
        self.flush(now, out);
    }

    fn deadline(&self) -> Option<Instant> {
        if self.stopped {
            return None;
        }
        self.messenger
            .deadline()
            .into_iter()
            .chain(self.core.deadline())
            .min()
    }

    fn set_user_rates(&mut self, rates: Arc<dyn UserRates>) {
        self.core.user_rates = Some(rates);
    }

    fn set_places(&mut self, places: Arc<dyn Places<A>>) {
        self.core.places = Some(places);
    }

    fn set_overloaded(&mut self, overloaded: bool) {
        self.core.overloaded = overloaded;
    }

    fn shutdown(&mut self, out: &mut Out<A>) {
        self.core.shutdown(out);
        self.stopped = true;
    }

    fn party(&self, key: SessionKey) -> (Option<String>, Option<A>) {
        match self.core.client_of(key) {
            Some(index) => {
                let client = self.core.client(index);
                (Some(client.id.as_str().to_owned()), Some(client.at))
            }
            None => (None, None),
        }
    }

    fn trace(&self, _: A, datagram: &[u8]) -> Option<PacketTrace> {
        Some(match decode(datagram) {
            Ok(message) => trace::message(&message),
            Err(error) => PacketTrace::new(format!("malformed: {error}")),
        })
    }

    fn gauges(&self, tell: &mut dyn FnMut(&'static str, usize)) {
        let (peers, exchanges) = self.messenger.len();
        tell("clients", self.core.clients());
        tell("logging_in", self.core.logging_in);
        tell("observations", self.core.observations);
        tell("peers", peers);
        tell("exchanges", exchanges);
    }
}
