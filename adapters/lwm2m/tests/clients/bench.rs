//! The bench: a real server of LwM2M with bus and store logic, without sockets, on a virtual clock. One client at one address: its messages go in, what it is sent comes out.

use bytes::{Bytes, BytesMut};
use core::net::SocketAddr;
use headgate_bus::{Bus, BusOutputs, BusSettings};
use headgate_coap_codec::{Code, Kind, Message, Token, decode, encode, number};
use headgate_lwm2m::{Lwm2mServer, Lwm2mSettings};
use headgate_model::access::{AuthRefusal, Unrestricted};
use headgate_model::bus::Presence;
use headgate_model::{
    Admitted, Answer, BusCommand, BusEvent, DatagramOutputs, DatagramServer, Destination, EndpointId,
    Entrant, Identity, Instant, Naming, Open, Qos, Question, SessionKey, Store, Topic, WallTime,
};
use headgate_store::{Disk, SimStore};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

const BACKEND: EndpointId = EndpointId(1);

/// See the module.
pub(crate) struct Bench {
    server: Lwm2mServer<SocketAddr>,
    out: DatagramOutputs<SocketAddr>,
    bus: Bus,
    bus_out: BusOutputs,
    store: SimStore,
    now: Instant,
    events: VecDeque<(EndpointId, BusEvent)>,
    sent: Vec<Message>,
    next_id: u16,
    /// Why nobody is let in.
    pub refusal: Option<AuthRefusal>,
}

fn at() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 5_683))
}

/// A request by its method, path and query.
pub(crate) fn request(code: Code, uri: &str) -> Message {
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    let mut message = Message::new(Kind::Confirmable, code, 0, Token::new(b"t").unwrap());
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        message.options.push(number::URI_PATH, segment.to_owned());
    }
    for word in query.split('&').filter(|word| !word.is_empty()) {
        message.options.push(number::URI_QUERY, word.to_owned());
    }
    message
}

/// The path that a request names.
pub(crate) fn path(message: &Message) -> String {
    let segments = message.options.all(number::URI_PATH);
    segments
        .map(|segment| format!("/{}", String::from_utf8_lossy(segment)))
        .collect()
}

/// A value in plain text.
pub(crate) fn content(text: &str) -> Message {
    let mut message = Message::new(Kind::Confirmable, Code::CONTENT, 0, Token::default());
    message.options.push_uint(number::CONTENT_FORMAT, 0);
    message.payload = Bytes::copy_from_slice(text.as_bytes());
    message
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// The address needs no proof.
    pub(crate) fn with(change: impl FnOnce(&mut Lwm2mSettings)) -> Self {
        let mut settings = Lwm2mSettings::default();
        settings.transmission.amplification_limit = 0;
        change(&mut settings);
        let mut store = SimStore::open(&Disk::default());
        let epoch = WallTime(1_700_000_000_000);
        let mut bus = Bus::new(BusSettings::default(), epoch, 1).unwrap();
        bus.load(store.load().unwrap());
        let mut server = Lwm2mServer::repeating(settings, Arc::new(Naming::default()), 7);
        server.begin("lwm2m", epoch);
        let mut bench = Self {
            server,
            out: DatagramOutputs::default(),
            bus,
            bus_out: BusOutputs::default(),
            store,
            now: Instant::START,
            events: VecDeque::new(),
            sent: Vec::new(),
            next_id: 100,
            refusal: None,
        };
        let open = Open {
            client: Entrant::of_gateway("backend".into(), Presence::default()),
            clean_start: true,
            expiry: Duration::ZERO,
            will: None.into(),
            receive_maximum: 100,
            credit: 100,
            forgeable: false,
            wants_expired: false,
            link: None,
        };
        let open = BusCommand::Open(Box::new(open));
        bench.bus.handle(BACKEND, open, bench.now, &mut bench.bus_out);
        bench.run();
        bench
    }

    /// The client says something as it is.
    pub(crate) fn receive(&mut self, message: &Message) {
        let mut bytes = BytesMut::new();
        encode(message, &mut bytes).unwrap();
        self.server
            .handle_datagram(at(), bytes.freeze(), self.now, &mut self.out);
        self.run();
    }

    /// The same under a message ID of its own.
    pub(crate) fn say(&mut self, message: Message) -> u16 {
        self.next_id += 1;
        let id = self.next_id;
        self.receive(&Message { id, ..message });
        id
    }

    /// The client asks, and has its answer at once.
    pub(crate) fn ask(&mut self, message: Message) -> Message {
        let id = self.say(message);
        let is_answer = |sent: &Message| sent.kind == Kind::Acknowledgement && sent.id == id;
        let n = self.sent.iter().position(is_answer).expect("an answer");
        self.sent.remove(n)
    }

    /// The client registers: where its registration is.
    pub(crate) fn register(&mut self, query: &str) -> String {
        let mut message = request(Code::POST, &format!("rd?{query}"));
        message.payload = Bytes::from_static(b"</1/0>,</3/0>,</3303/0>");
        let answer = self.ask(message);
        assert_eq!(answer.code, Code::CREATED, "{answer:?}");
        let segments = answer.options.all(number::LOCATION_PATH);
        segments
            .map(|segment| format!("/{}", String::from_utf8_lossy(segment)))
            .collect()
    }

    /// What the client was sent since it was last asked.
    pub(crate) fn sent(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.sent)
    }

    /// The only thing that it was sent: a request.
    pub(crate) fn asked(&mut self) -> Message {
        let mut sent = self.sent();
        assert_eq!(sent.len(), 1, "{sent:?}");
        let asked = sent.remove(0);
        assert!(
            asked.kind == Kind::Confirmable && asked.code.is_request(),
            "{asked:?}"
        );
        asked
    }

    /// The client answers a request in its acknowledgement.
    pub(crate) fn answer(&mut self, to: &Message, answer: Message) {
        self.receive(&Message {
            kind: Kind::Acknowledgement,
            id: to.id,
            token: to.token,
            ..answer
        });
    }

    /// An application has a command for a client.
    pub(crate) fn command(&mut self, endpoint: &str, kind: &str, path: &str) {
        let command = format!(r#"{{"reqID":1,"msgType":"{kind}","data":{{"path":"{path}"}}}}"#);
        let topic = Topic::try_from(format!("lwm2m/{endpoint}/dn/x").as_str()).unwrap();
        let message = headgate_model::Message {
            qos: Qos::AtLeastOnce,
            ..headgate_model::Message::new(topic, command.into_bytes())
        };
        let command = BusCommand::Publish {
            message: Admitted::of_gateway(message),
            ack: None,
            dedup: None,
        };
        self.bus.handle(BACKEND, command, self.now, &mut self.bus_out);
        self.run();
    }

    /// Lets time go by, and does what is due when it is due.
    pub(crate) fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        loop {
            let due = [self.server.deadline(), self.bus.deadline()];
            let due = due.into_iter().flatten().min().filter(|due| *due <= end);
            let Some(due) = due else { break };
            self.now = self.now.max(due);
            if self.server.deadline().is_some_and(|at| at <= self.now) {
                self.server.handle_timeout(self.now, &mut self.out);
            }
            if self.bus.deadline().is_some_and(|at| at <= self.now) {
                self.bus.handle_timeout(self.now, &mut self.bus_out);
            }
            self.run();
        }
        self.now = end;
    }

    /// Until nothing follows any more.
    fn run(&mut self) {
        loop {
            for (key, command) in std::mem::take(&mut self.out.bus) {
                self.bus
                    .handle(endpoint(key), command, self.now, &mut self.bus_out);
            }
            for asked in std::mem::take(&mut self.out.questions) {
                let Question::Authenticate(credentials) = asked.question else {
                    panic!("nobody asks so");
                };
                let identity = Identity {
                    username: credentials.username,
                    policy: Arc::new(Unrestricted),
                };
                let answer = match self.refusal {
                    Some(refusal) => Answer::Refused(refusal),
                    None => Answer::Allowed { identity, data: None },
                };
                self.server
                    .handle_answer(asked.key, answer, self.now, &mut self.out);
            }
            for (to, bytes) in self.out.take_datagrams() {
                assert_eq!(to, Destination::To(at()));
                self.sent.push(decode(&bytes).unwrap());
            }
            self.bus_out.notices.clear();
            self.events.extend(self.bus_out.events.drain(..));
            if let Some((to, event)) = self.events.pop_front() {
                if to != BACKEND {
                    let key = SessionKey {
                        index: to.0 as u32,
                        generation: (to.0 >> 32) as u32 & 0x7FFF_FFFF,
                    };
                    self.server.handle_bus(key, event, self.now, &mut self.out);
                }
                continue;
            }
            if !self.out.bus.is_empty() || !self.out.questions.is_empty() || self.out.datagrams() > 0 {
                continue;
            }
            let fetches = self.bus.take_fetches();
            let batch = self.bus.commit_due().and_then(|_| self.bus.take_batch());
            if fetches.is_empty() && batch.is_none() {
                return;
            }
            if let Some((number, ops)) = batch {
                self.store.commit(&ops).unwrap();
                self.bus.committed(number, self.now, &mut self.bus_out);
            }
            for request in fetches {
                let found = self
                    .store
                    .fetch(request.session, request.lane, request.from, request.limit);
                self.bus
                    .fetched(request, found.unwrap(), self.now, &mut self.bus_out);
            }
        }
    }
}

fn endpoint(key: SessionKey) -> EndpointId {
    EndpointId(1 << 63 | u64::from(key.generation) << 32 | u64::from(key.index))
}
