//! A server, its clients, and what is between them.

use super::client::{Client, Config};
use super::credentials;
use crate::credentials::Credentials;
use crate::outputs::{COUNTERS, Event, Outputs};
use crate::server::DtlsServer;
use crate::settings::ServerSettings;
use headgate_model::Instant;
use std::time::Duration;

/// What the link does, in percent.
#[derive(Clone, Copy, Default)]
pub(super) struct Faults {
    pub(super) lost: u32,
    pub(super) doubled: u32,
    pub(super) late: u32,
}

pub(super) struct Bench {
    pub(super) server: DtlsServer<u16>,
    pub(super) now: Instant,
    pub(super) clients: Vec<(u16, Client)>,
    pub(super) events: Vec<Event<u16>>,
    /// All that went to and came from the server, in order.
    pub(super) seen: Vec<(bool, u16, Vec<u8>)>,
    pub(super) faults: Faults,
    /// Bytes of the longest datagram that goes through.
    pub(super) widest: usize,
    /// Keys are given when this is over.
    pub(super) key_takes: Duration,
    counts: Vec<u64>,
    rng: fastrand::Rng,
    /// When, whether to the server, the client's address, what.
    under_way: Vec<(Instant, bool, u16, Vec<u8>)>,
    asked: Vec<(Instant, u64, Vec<u8>)>,
}

impl Bench {
    pub(super) fn new(settings: ServerSettings) -> Self {
        Self::with(settings, credentials(false), 1)
    }

    pub(super) fn with(settings: ServerSettings, credentials: Credentials, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let random = Box::new(move |bytes: &mut [u8]| random.fill(bytes));
        Self {
            server: DtlsServer::new(settings, credentials, random, Instant(0)),
            now: Instant(0),
            clients: Vec::new(),
            events: Vec::new(),
            seen: Vec::new(),
            faults: Faults::default(),
            widest: usize::MAX,
            key_takes: Duration::ZERO,
            counts: vec![0; COUNTERS.len()],
            rng: fastrand::Rng::with_seed(seed + 1),
            under_way: Vec::new(),
            asked: Vec::new(),
        }
    }

    /// A client at an address, which begins.
    pub(super) fn client(&mut self, address: u16, config: Config) {
        let mut client = Client::new(config);
        let mut out = Outputs::default();
        client.start(self.now, &mut out);
        self.clients.push((address, client));
        self.client_sent(address, out);
    }

    pub(super) fn connected(&mut self, config: Config) -> u64 {
        let address = 1000 + self.clients.len() as u16;
        self.client(address, config);
        self.run(Duration::from_millis(10));
        assert!(self.clients.last().unwrap().1.connected, "{:?}", self.events);
        self.events
            .iter()
            .rev()
            .find_map(|event| match event {
                Event::Opened { session, .. } => Some(*session),
                _ => None,
            })
            .unwrap()
    }

    pub(super) fn say(&mut self, n: usize, bytes: &[u8]) {
        let mut out = Outputs::default();
        self.clients[n].1.send(bytes, &mut out);
        let address = self.clients[n].0;
        self.client_sent(address, out);
        self.run(Duration::from_millis(10));
    }

    /// The client's next datagram, which goes nowhere yet.
    pub(super) fn written(&mut self, n: usize, bytes: &[u8]) -> Vec<u8> {
        let mut out = Outputs::default();
        self.clients[n].1.send(bytes, &mut out);
        let mut all = Vec::new();
        out.drain_datagrams(|(), bytes| all.push(bytes.to_vec()));
        all.remove(0)
    }

    pub(super) fn tell(&mut self, session: u64, bytes: &[u8]) {
        let mut out = Outputs::default();
        self.server.send(session, bytes, &mut out).unwrap();
        self.server_sent(out);
        self.run(Duration::from_millis(10));
    }

    /// Whoever may send anything from anywhere. What is answered.
    pub(super) fn inject(&mut self, from: u16, bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
        let mut out = Outputs::default();
        self.server.handle_datagram(from, bytes, self.now, &mut out);
        let mut answers = Vec::new();
        out.drain_datagrams(|to, bytes| answers.push((to, bytes.to_vec())));
        self.keep(&mut out);
        answers
    }

    pub(super) fn client_sent(&mut self, address: u16, mut out: Outputs<()>) {
        out.drain_datagrams(|(), bytes| self.carry(true, address, bytes));
    }

    pub(super) fn server_sent(&mut self, mut out: Outputs<u16>) {
        out.drain_datagrams(|to, bytes| self.carry(false, to, bytes));
        self.keep(&mut out);
    }

    fn keep(&mut self, out: &mut Outputs<u16>) {
        super::ledger::check(&self.server);
        out.drain_counts(|n, count| self.counts[n] += count);
        for event in std::mem::take(&mut out.events) {
            if let Event::Psk { handshake, identity } = &event {
                let at = self.now + self.key_takes;
                self.asked.push((at, *handshake, identity.clone()));
            }
            self.events.push(event);
        }
    }

    fn carry(&mut self, to_server: bool, address: u16, bytes: &[u8]) {
        let is = |rng: &mut fastrand::Rng, percent| rng.u32(..100) < percent;
        let copies = 1 + u32::from(is(&mut self.rng, self.faults.doubled));
        for _ in 0..copies {
            if is(&mut self.rng, self.faults.lost) || bytes.len() > self.widest {
                continue;
            }
            let late = match is(&mut self.rng, self.faults.late) {
                true => self.rng.u64(..500),
                false => 1,
            };
            let at = self.now + Duration::from_millis(late);
            self.under_way.push((at, to_server, address, bytes.to_vec()));
        }
    }

    /// Lets this much time go by.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let clients = self.clients.iter().filter_map(|(_, client)| client.deadline());
            let due = self.under_way.iter().map(|(at, ..)| *at);
            let asked = self.asked.iter().map(|(at, ..)| *at);
            let next = clients
                .chain(due)
                .chain(asked)
                .chain(self.server.deadline())
                .min();
            let Some(next) = next.filter(|next| *next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            self.step();
        }
        self.now = end;
    }

    fn step(&mut self) {
        let now = self.now;
        let due = |at: Instant| at <= now;
        while let Some(n) = self.asked.iter().position(|(at, ..)| due(*at)) {
            let (_, handshake, identity) = self.asked.remove(n);
            let key = (identity == b"pump-7").then_some(&b"secret key"[..]);
            let mut out = Outputs::default();
            self.server.psk_answer(handshake, key, now, &mut out);
            self.server_sent(out);
        }
        while let Some(n) = self.under_way.iter().position(|(at, ..)| due(*at)) {
            let (_, to_server, address, bytes) = self.under_way.remove(n);
            self.seen.push((to_server, address, bytes.clone()));
            if to_server {
                let mut out = Outputs::default();
                self.server.handle_datagram(address, &bytes, now, &mut out);
                self.server_sent(out);
            } else if let Some((_, client)) = self.clients.iter_mut().rev().find(|(at, _)| *at == address) {
                let mut out = Outputs::default();
                client.receive(&bytes, now, &mut out);
                self.client_sent(address, out);
            }
        }
        let mut out = Outputs::default();
        self.server.handle_timeout(now, &mut out);
        self.server_sent(out);
        for n in 0..self.clients.len() {
            let mut out = Outputs::default();
            self.clients[n].1.handle_timeout(now, &mut out);
            let address = self.clients[n].0;
            self.client_sent(address, out);
        }
    }

    /// Loses what is under way.
    pub(super) fn drop_all(&mut self) {
        self.under_way.clear();
    }

    pub(super) fn count(&self, name: &str) -> u64 {
        let at = COUNTERS.iter().position(|known| known.ends_with(name)).unwrap();
        self.counts[at]
    }

    pub(super) fn heard(&self) -> Vec<Vec<u8>> {
        self.events
            .iter()
            .filter_map(|event| match event {
                Event::Data { bytes, .. } => Some(bytes.clone()),
                _ => None,
            })
            .collect()
    }
}
