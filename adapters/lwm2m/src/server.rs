//! All clients of one socket: the message layer, and what its messages are about.

use crate::core::{Core, Effect, Out, SESSIONS, Tag};
use crate::counters::Lwm2mMetric;
use crate::settings::Lwm2mSettings;
use bytes::Bytes;
use headgate_coap::{Messenger, Outcome, Received, Unguessable, trace_message};
use headgate_coap_codec::{Kind, decode, number};
use headgate_model::datagram::{Address, Places, Restored};
use headgate_model::memory::Held;
use headgate_model::trace::PacketTrace;
use headgate_model::{
    Answer, BusEvent, Counter, DatagramServer, Instant, MemoryLimit, Naming, SessionKey, UserRates, WallTime,
};
use std::sync::Arc;

/// LwM2M over datagrams. See the crate's documentation.
#[derive(Debug)]
pub struct Lwm2mServer<A> {
    messenger: Messenger<A, Tag>,
    core: Core<A>,
    held: Held,
    stopped: bool,
}

impl<A: Address> Lwm2mServer<A> {
    /// A server without clients.
    pub fn new(settings: Lwm2mSettings, naming: Arc<Naming>, memory: Arc<MemoryLimit>) -> Self {
        Self::with_numbers(settings, naming, memory, Unguessable::new(), Unguessable::new())
    }

    /// The same, with numbers that repeat. For simulations.
    pub fn repeating(settings: Lwm2mSettings, naming: Arc<Naming>, seed: u64) -> Self {
        let [first, second] = [Unguessable::repeating(seed), Unguessable::repeating(!seed)];
        Self::with_numbers(settings, naming, Arc::default(), first, second)
    }

    fn with_numbers(
        settings: Lwm2mSettings,
        naming: Arc<Naming>,
        memory: Arc<MemoryLimit>,
        first: Unguessable,
        second: Unguessable,
    ) -> Self {
        Self {
            messenger: Messenger::new(settings.transmission.clone(), first),
            core: Core::new(settings, naming, second),
            held: Held::new(memory),
            stopped: false,
        }
    }

    /// Other settings and names from now on. Clients stay as they are.
    pub fn change(&mut self, settings: Lwm2mSettings, naming: Arc<Naming>) {
        self.messenger.set_transmission(settings.transmission.clone());
        self.core.change(settings, naming);
    }

    /// Entries of all tables but those of messages, for tests: none when nobody is there.
    #[doc(hidden)]
    pub fn tables(&self) -> [(&'static str, usize); 7] {
        self.core.tables()
    }

    /// Panics unless all tables agree, for tests.
    #[doc(hidden)]
    pub fn check(&self) {
        self.core.check();
    }

    /// Sends what the core wants to be sent, and tells it what becomes of that, until nothing is left.
    fn flush(&mut self, now: Instant, out: &mut Out<A>) {
        while let Some(effect) = self.core.effects.pop_front() {
            match effect {
                // Whoever asks is asked things in turn.
                Effect::Respond(to, response) if response.code.is_success() => {
                    self.messenger.respond_and_expect(&to, response, now, out);
                }
                Effect::Respond(to, response) => self.messenger.respond(&to, response, now, out),
                Effect::Expect(at) => self.messenger.expect(at, now),
                Effect::Send(to, message, tag) => {
                    if !self.messenger.send(to, message, tag, now, out) {
                        self.core.on_outcome(Outcome::Lost(tag), now, out);
                    }
                }
                Effect::Acknowledge(to) => self.messenger.acknowledge(&to, out),
                Effect::Reject(to) => self.messenger.reject(&to, out),
                Effect::Forget(at, key) => self.messenger.forget(at, |tag: &Tag| tag.key == key, now, out),
            }
        }
        let bytes = self.messenger.held() + self.core.held();
        self.core.has_memory = self.held.set(bytes);
        self.count(out);
    }

    fn count(&mut self, out: &mut Out<A>) {
        let counts = std::mem::take(&mut self.messenger.counts);
        let dropped = std::mem::take(&mut self.core.uploads.dropped);
        for (metric, n) in [
            (Lwm2mMetric::DatagramsSent, counts.sent),
            (Lwm2mMetric::Malformed, counts.malformed),
            (Lwm2mMetric::Duplicates, counts.duplicates),
            (Lwm2mMetric::Retransmissions, counts.retransmissions),
            (Lwm2mMetric::Lost, counts.lost),
            (Lwm2mMetric::Rejected, counts.rejected),
            (Lwm2mMetric::Unproved, counts.unproved),
            (Lwm2mMetric::Forgotten, counts.forgotten),
            (Lwm2mMetric::Overflowed, counts.overflowed),
            (Lwm2mMetric::TransfersDropped, dropped),
        ] {
            if n > 0 {
                out.counts.add_own_n(metric, n);
            }
        }
    }
}

impl<A: Address> DatagramServer for Lwm2mServer<A> {
    type Address = A;

    const COUNTERS: &'static [&'static str] = Lwm2mMetric::NAMES;
    const NOTES: Option<&'static str> = Some(SESSIONS);

    fn begin(&mut self, listener: &str, epoch: WallTime) {
        listener.clone_into(&mut self.core.listener);
        self.core.epoch = epoch;
    }

    fn set_places(&mut self, places: Arc<dyn Places<A>>) {
        self.core.places = Some(places);
    }

    fn restore(&mut self, found: Vec<Restored>, now: Instant, out: &mut Out<A>) {
        self.core.restore(found, now);
        self.core.go_on_restoring(out);
        self.flush(now, out);
    }

    fn handle_datagram(&mut self, from: A, datagram: Bytes, now: Instant, out: &mut Out<A>) {
        out.counts.add_own(Lwm2mMetric::DatagramsReceived);
        if self.stopped {
            return;
        }
        match self.messenger.receive(from, &datagram, now, out) {
            Some(Received::Request(requester, request)) => self.core.request(requester, request, now, out),
            Some(Received::Outcome(outcome)) => self.core.on_outcome(outcome, now, out),
            // §5.3.2: an acknowledgement carries the response of the message that it acknowledges, and of no other.
            Some(Received::Response(requester, _, None)) if requester.kind == Kind::Acknowledgement => {
                out.counts.add_own(Lwm2mMetric::Malformed);
            }
            Some(Received::Response(requester, response, _)) => {
                self.core.on_response(requester, response, now, out);
            }
            None => {}
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
        let messages = self.messenger.deadline();
        messages.into_iter().chain(self.core.deadline()).min()
    }

    fn set_user_rates(&mut self, rates: Arc<dyn UserRates>) {
        self.core.user_rates = Some(rates);
    }

    fn set_overloaded(&mut self, overloaded: bool) {
        self.core.overloaded = overloaded;
    }

    fn shutdown(&mut self, out: &mut Out<A>) {
        self.core.shutdown(out);
        self.stopped = true;
    }

    fn party(&self, key: SessionKey) -> (Option<String>, Option<A>) {
        match self.core.device_of(key) {
            Some(index) => {
                let device = self.core.device(index);
                (Some(device.id.as_str().to_owned()), Some(device.at))
            }
            None => (None, None),
        }
    }

    fn trace(&self, at: A, datagram: &[u8]) -> Option<PacketTrace> {
        let Ok(message) = decode(datagram) else {
            return Some(PacketTrace::new("malformed"));
        };
        let mut trace = trace_message(&message);
        // Only a registration says whose it is; its other messages come from its address.
        if trace.client.is_none()
            && !(message.kind == Kind::Confirmable && message.options.has(number::URI_QUERY))
        {
            let index = self.core.by_address.get(&at);
            trace.client = index.map(|index| self.core.device(*index).id.as_str().to_owned());
        }
        Some(trace)
    }

    fn gauges(&self, tell: &mut dyn FnMut(&'static str, usize)) {
        let (peers, exchanges) = self.messenger.len();
        tell("clients", self.core.devices());
        tell("logging_in", self.core.logging_in);
        tell("observations", self.core.observations);
        tell("bootstraps", self.core.bootstraps.len());
        tell("peers", peers);
        tell("exchanges", exchanges);
    }
}
