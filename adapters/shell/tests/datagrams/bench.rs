//! A server with a protocol of words, and a bus for it.

use bytes::Bytes;
use headgate_access::Answering;
use headgate_access::{AccessService, AccessSession, ConnectionInfo};
use headgate_bus::handle::{Clock, Hub};
use headgate_bus::{Bus, BusSettings};
use headgate_model::access::{AccessQuery, Credentials};
use headgate_model::bus::NEVER;
use headgate_model::bus::Presence;
use headgate_model::datagram::{Address, Restored};
use headgate_model::store::{FetchLimit, Fetched};
use headgate_model::{
    AccessDecision, AccessPolicy, Admitted, Answer, Asked, BusCommand, BusEvent, CloseReason,
    DatagramOutputs, DatagramServer, Destination, Entrant, Identity, Instant, Message, MountPoint, Open,
    Question, SessionId, SessionKey, Store, StoreError, StoreImage, StoreOp, Subscription,
    SubscriptionOptions, Topic,
};
use headgate_shell::datagram::{DatagramTransport, serve};
use headgate_shell::{ConnectionLimit, DatagramStats, Metrics, Serving, keep_serving};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

/// `echo …` is answered with itself; `open`, `ask`, `later`, `all`, `close` do what they say; `new` tells whether somebody new may come in; `publish …` publishes to everybody who is open. `remember …` opens a durable session with a note. `pages` tells how many sessions
/// with notes were in each page at its start, and `restored` which of a short list were. At `panic` it does.
pub(crate) struct Words<A> {
    /// Whom the answers of the bus and the access service go to.
    clients: BTreeMap<SessionKey, A>,
    next: u32,
    due: Option<(Instant, A)>,
    overloaded: bool,
    /// What it got back at its start, by page.
    pages: Vec<Vec<Restored>>,
    restored: bool,
}

impl<A: Address> Default for Words<A> {
    fn default() -> Self {
        Self {
            clients: BTreeMap::new(),
            next: 0,
            due: None,
            overloaded: false,
            pages: Vec::new(),
            restored: false,
        }
    }
}

impl<A: Address> Words<A> {
    fn key_of(&self, at: A) -> Option<SessionKey> {
        let found = self.clients.iter().find(|(_, client)| **client == at);
        found.map(|(key, _)| *key)
    }

    fn enter(&mut self, at: A) -> SessionKey {
        let index = self.next;
        self.next += 1;
        let key = SessionKey {
            index,
            generation: index * 3,
        };
        self.clients.insert(key, at);
        key
    }
}

fn say<A: Copy>(to: Destination<A>, text: &str, out: &mut DatagramOutputs<A>) {
    let written = out.datagram::<()>(to, |bytes| {
        bytes.extend_from_slice(text.as_bytes());
        Ok(())
    });
    written.expect("it is written");
}

impl<A: Address> DatagramServer for Words<A> {
    type Address = A;

    const NOTES: Option<&'static str> = Some("durable/");

    fn restore(&mut self, found: Vec<Restored>, _: Instant, out: &mut DatagramOutputs<A>) {
        assert!(!self.restored);
        self.pages.push(found);
        let page = format!("page {}", self.pages.len());
        say(Destination::Broadcast, &page, out);
    }

    fn restored(&mut self, _: Instant, _: &mut DatagramOutputs<A>) {
        assert!(!self.restored, "said once");
        self.restored = true;
    }

    fn handle_datagram(&mut self, from: A, datagram: Bytes, now: Instant, out: &mut DatagramOutputs<A>) {
        let text = String::from_utf8_lossy(&datagram).into_owned();
        let (word, rest) = text.split_once(' ').unwrap_or((&text, ""));
        assert!(self.restored, "notes come first");
        match word {
            "panic" => panic!("as told"),
            "echo" => say(Destination::To(from), &text, out),
            "group" => say(Destination::To(from), &format!("{}", from.is_by_group()), out),
            "new" => say(
                Destination::To(from),
                ["yes", "no"][usize::from(self.overloaded)],
                out,
            ),
            "all" => say(Destination::Broadcast, &text, out),
            "later" => self.due = Some((now + Duration::from_millis(20), from)),
            "ask" => {
                let key = self.enter(from);
                let question = Question::Authenticate(Box::new(Credentials {
                    client_id: rest.into(),
                    username: None,
                    password: None,
                    method: None,
                    data: None,
                    link: false,
                }));
                let at = Some(from);
                out.questions.push(Asked { key, at, question });
            }
            "pages" => {
                let pages: Vec<usize> = self.pages.iter().map(Vec::len).collect();
                say(Destination::To(from), &format!("{pages:?}"), out);
            }
            "restored" => {
                let all = self.pages.iter().flatten();
                let all: Vec<String> = all
                    .map(|found| {
                        let (client, note) = (found.client_id.as_str(), String::from_utf8_lossy(&found.note));
                        format!("{client}={note} attached={}", found.attached)
                    })
                    .collect();
                say(Destination::To(from), &all.join(", "), out);
            }
            "open" | "remember" => {
                let key = self.enter(from);
                let open = Open {
                    client: Entrant::of_gateway(rest.into(), Presence::default()),
                    clean_start: true,
                    expiry: if rest.starts_with("durable") {
                        NEVER
                    } else {
                        Duration::ZERO
                    },
                    will: None.into(),
                    receive_maximum: 10,
                    credit: 1_000,
                    forgeable: false,
                    wants_expired: false,
                    link: None,
                };
                out.bus.push((key, BusCommand::Open(Box::new(open))));
                if word == "remember" {
                    let note = format!("note of {rest}");
                    out.bus.push((key, BusCommand::SetNote(note.into())));
                }
                let all = Subscription::parse(
                    &"words".into(),
                    SubscriptionOptions::default(),
                    &MountPoint::default(),
                );
                out.bus.push((
                    key,
                    BusCommand::Subscribe {
                        token: headgate_model::AckToken(1),
                        subscriptions: vec![Admitted::of_gateway(all.expect("a good filter"))],
                    },
                ));
            }
            "publish" | "retain" => {
                let Some(key) = self.key_of(from) else { return };
                let topic = if word == "retain" { rest } else { "words" };
                let message = Message {
                    retain: word == "retain",
                    ..Message::new(Topic::try_from(topic).expect("a good name"), rest.to_owned())
                };
                let (ack, dedup) = (None, None);
                out.bus.push((
                    key,
                    BusCommand::Publish {
                        message: Admitted::of_gateway(message),
                        ack,
                        dedup,
                    },
                ));
            }
            _ => {}
        }
    }

    fn handle_bus(&mut self, key: SessionKey, event: BusEvent, _: Instant, out: &mut DatagramOutputs<A>) {
        let Some(at) = self.clients.get(&key).copied() else {
            return;
        };
        match event {
            BusEvent::Subscribed { .. } => say(Destination::To(at), "opened", out),
            BusEvent::Delivery(delivery) => {
                let text = String::from_utf8_lossy(&delivery.message.payload);
                say(Destination::To(at), &text, out);
                out.bus.push((key, BusCommand::credit(1)));
            }
            _ => {}
        }
    }

    fn handle_answer(&mut self, key: SessionKey, answer: Answer, _: Instant, out: &mut DatagramOutputs<A>) {
        let at = self.clients[&key];
        match answer {
            Answer::Allowed { .. } => {
                let question = Question::Authorize(Vec::new());
                let at = Some(at);
                out.questions.push(Asked { key, at, question });
            }
            _ => say(Destination::To(at), "answered", out),
        }
    }

    fn handle_timeout(&mut self, now: Instant, out: &mut DatagramOutputs<A>) {
        if let Some((_, at)) = self.due.take_if(|(due, _)| *due <= now) {
            say(Destination::To(at), "later", out);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.due.map(|(due, _)| due)
    }

    fn set_overloaded(&mut self, overloaded: bool) {
        self.overloaded = overloaded;
    }

    fn shutdown(&mut self, out: &mut DatagramOutputs<A>) {
        for (key, at) in std::mem::take(&mut self.clients) {
            say(Destination::To(at), "goodbye", out);
            let reason = CloseReason::Shutdown;
            out.bus.push((key, BusCommand::Close { reason, expiry: None }));
        }
    }

    fn gauges(&self, tell: &mut dyn FnMut(&'static str, usize)) {
        tell("clients", self.clients.len());
    }
}

/// A store whose commits wait for permits, if it is told so.
pub(crate) struct Gate(pub Option<Receiver<()>>);

impl Store for Gate {
    fn load(&mut self) -> Result<StoreImage, StoreError> {
        Ok(StoreImage::default())
    }

    fn commit(&mut self, _: &[StoreOp]) -> Result<(), StoreError> {
        if let Some(permits) = &self.0 {
            // Without a giver the gate is open.
            let _ = permits.recv();
        }
        Ok(())
    }

    fn fetch(&mut self, _: SessionId, _: u8, from: u64, _: FetchLimit) -> Result<Fetched, StoreError> {
        Ok(Fetched {
            next: from,
            at_end: true,
            ..Fetched::default()
        })
    }
}

/// Lets everybody in, after a while; remembers who asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Porter {
    pub seen: Arc<Mutex<Vec<ConnectionInfo>>>,
    pub at_once: bool,
}

impl AccessService for Porter {
    fn session(&self, info: &ConnectionInfo) -> Box<dyn AccessSession> {
        self.seen.lock().unwrap().push(info.clone());
        Box::new(self.clone())
    }
}

impl AccessSession for Porter {
    fn answer(self: Box<Self>, question: Question) -> Answering {
        Box::pin(async move {
            if !self.at_once {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let answer = match question {
                Question::Authenticate(_) => Answer::Allowed {
                    identity: Identity {
                        username: None,
                        policy: Arc::new(Everything),
                    },
                    data: None,
                },
                _ => Answer::Authorized(Vec::new()),
            };
            (self as Box<dyn AccessSession>, answer)
        })
    }
}

#[derive(Debug)]
struct Everything;

impl AccessPolicy for Everything {
    fn check(&self, _: AccessQuery<'_>) -> AccessDecision {
        AccessDecision::Allow
    }
}

/// A server that runs.
pub(crate) struct Running {
    pub hub: Hub,
    pub stats: Arc<DatagramStats>,
    pub metrics: Arc<Metrics>,
    pub total: ConnectionLimit,
    pub task: JoinHandle<()>,
}

pub(crate) fn run<L: DatagramTransport>(link: L, access: Porter, gate: Gate) -> Running {
    let mut link = Some(link);
    run_anew(move || link.take().expect("it is served once"), access, gate)
}

/// Runs a server on each of these links, one after the other, when one fails.
pub(crate) fn run_anew<L: DatagramTransport>(
    mut links: impl FnMut() -> L + Send + 'static,
    access: Porter,
    gate: Gate,
) -> Running {
    let clock = Clock::start();
    let bus = Bus::new(BusSettings::default(), clock.epoch(), 1).expect("defaults are good");
    let hub = Hub::start(bus, clock, Box::new(gate)).expect("threads start");
    let metrics = Arc::new(Metrics::default());
    let total = ConnectionLimit::default();
    let parts = Serving {
        hub: hub.clone(),
        metrics: Arc::clone(&metrics),
        access: Arc::new(access),
        open: TaskTracker::new(),
        tracer: headgate_shell::Tracer::default(),
        total: total.clone(),
    };
    let link = links();
    let stats = Arc::clone(link.stats());
    let (counting, mut first) = (Arc::clone(&stats), Some(link));
    let task = tokio::spawn(async move {
        let start = || {
            let link = first.take().unwrap_or_else(&mut links);
            Ok::<_, Infallible>(serve(Words::default(), link, &parts))
        };
        keep_serving("words", start, || counting.restarted()).await;
    });
    Running {
        hub,
        stats,
        metrics,
        total,
        task,
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
        self.hub.stop();
    }
}

/// A hang is a failure: the guard is far above anything that could be slow.
pub(crate) async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), what)
        .await
        .expect("it happens")
}
