//! A device as the specifications have it: it registers, updates that, sends again what is not acknowledged, knows a copy, answers at once or later, notifies, sleeps, and starts anew at times.

use bytes::{Bytes, BytesMut};
use core::net::{Ipv4Addr, SocketAddr};
use fastrand::Rng;
use headgate_coap_codec::{Code, Kind, Message, Token, encode, number};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Milliseconds since the world began.
pub(crate) type Ms = u64;

/// RFC 7252 §4.8
const ACK_TIMEOUT: Ms = 2_000;
const MAX_RETRANSMIT: u32 = 4;
/// How long the response to an acknowledged request is waited for.
const PATIENCE: Ms = 60_000;
/// Longer than the server thinks that it is awake.
const AWAKE: Ms = 15_000;

/// What a message of the device is about.
#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Register,
    Update,
    Leave,
    Send(u32),
    Notify(String),
    Response,
}

#[derive(Debug)]
struct Pending {
    what: What,
    message: Message,
    sent: u32,
    timeout: Ms,
    due: Ms,
    acknowledged: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Observed {
    pub token: Token,
    pub sequence: u32,
    pub next: Ms,
}

#[derive(Debug)]
pub(crate) struct Device {
    pub n: usize,
    pub address: SocketAddr,
    rng: Rng,
    sleeps: bool,
    lifetime: u64,
    location: Option<String>,
    /// When it registers, or updates that.
    pub next: Ms,
    /// Nothing comes of it until then.
    pub away_until: Ms,
    awake_until: Ms,
    pending: Vec<Pending>,
    /// Requests that came, and what was answered.
    seen: VecDeque<(u16, Token, Option<Bytes>)>,
    pub observations: BTreeMap<String, Observed>,
    next_id: u16,
    next_token: u64,
    /// Numbers that were sent, and are safe.
    pub safe: BTreeSet<u32>,
    to_send: VecDeque<u32>,
    /// Requests that it did, by what they were.
    pub done: usize,
    pub said: Vec<Bytes>,
}

impl Device {
    pub(crate) fn new(n: usize, rng: &mut Rng, lifetime: u64) -> Self {
        let mut rng = Rng::with_seed(rng.u64(..));
        Self {
            n,
            address: place(n, 0),
            sleeps: n % 2 == 1,
            lifetime,
            location: None,
            next: rng.u64(..5_000),
            away_until: 0,
            awake_until: 0,
            pending: Vec::new(),
            seen: VecDeque::new(),
            observations: BTreeMap::new(),
            next_id: rng.u16(..),
            next_token: 0,
            safe: BTreeSet::new(),
            to_send: VecDeque::new(),
            done: 0,
            said: Vec::new(),
            rng,
        }
    }

    pub(crate) fn name(&self) -> String {
        format!("dev{}", self.n)
    }

    pub(crate) fn is_registered(&self) -> bool {
        self.location.is_some()
    }

    fn hears(&self, now: Ms) -> bool {
        now >= self.away_until && (!self.sleeps || now < self.awake_until || !self.pending.is_empty())
    }

    /// It loses all that it knew, and registers anew.
    pub(crate) fn start_anew(&mut self, now: Ms) {
        self.pending.clear();
        self.seen.clear();
        self.observations.clear();
        self.location = None;
        self.next = now + self.rng.u64(..3_000);
        self.next_id = self.rng.u16(..);
    }

    /// It ends its registration, and comes back later.
    pub(crate) fn leave(&mut self, now: Ms) {
        let Some(location) = self.location.take() else {
            return;
        };
        self.pending.clear();
        self.observations.clear();
        self.next = now + 100_000;
        self.say(What::Leave, request(Code::DELETE, &location, "", ""), now);
    }

    pub(crate) fn send(&mut self, number: u32) {
        self.to_send.push_back(number);
    }

    /// When it wants to be woken.
    pub(crate) fn due(&self) -> Ms {
        let pending = self.pending.iter().map(|pending| pending.due);
        let observed = self.observations.values().map(|observed| observed.next);
        let first = pending.chain(observed).chain([self.next]).min();
        first.unwrap_or(self.next).max(self.away_until)
    }

    pub(crate) fn on_time(&mut self, now: Ms) {
        if now < self.away_until {
            return;
        }
        let due: Vec<Pending> = self
            .pending
            .extract_if(.., |pending| pending.due <= now)
            .collect();
        for mut pending in due {
            if pending.acknowledged || pending.sent > MAX_RETRANSMIT {
                self.on_lost(&pending.what, now);
                continue;
            }
            pending.sent += 1;
            pending.timeout *= 2;
            pending.due = now + pending.timeout;
            self.write(&pending.message);
            self.pending.push(pending);
        }
        if self.next <= now {
            self.next = now + self.lifetime * 500;
            match self.location.clone() {
                None => {
                    self.observations.clear();
                    let query = format!(
                        "ep={}&lt={}&lwm2m=1.1{}",
                        self.name(),
                        self.lifetime,
                        if self.sleeps { "&Q" } else { "" }
                    );
                    let message = request(Code::POST, "rd", &query, "</1/0>,</3/0>,</3303/0>");
                    self.say(What::Register, message, now);
                }
                Some(location) => self.say(What::Update, request(Code::POST, &location, "", ""), now),
            }
        }
        let due: Vec<String> = self
            .observations
            .iter()
            .filter(|(_, observed)| observed.next <= now)
            .map(|(path, _)| path.clone())
            .collect();
        for path in due {
            let next = now + self.rng.u64(20_000..60_000);
            let observed = self.observations.get_mut(&path).expect("just found");
            (observed.sequence, observed.next) = (observed.sequence + 1, next);
            let (token, sequence) = (observed.token, observed.sequence);
            let mut message = Message::new(Kind::Confirmable, Code::CONTENT, 0, token);
            message.options.push_uint(number::OBSERVE, sequence);
            message.payload = format!("{sequence}").into();
            // What is newer takes the place of what was not acknowledged. RFC 7641 §4.5.2
            self.pending
                .retain(|pending| pending.what != What::Notify(path.clone()));
            self.say(What::Notify(path), message, now);
        }
        if self.location.is_some()
            && let Some(number) = self.to_send.pop_front()
        {
            let mut message = request(
                Code::POST,
                "dp",
                "",
                &json!([{"n": "/3303/0/5700", "v": number}]).to_string(),
            );
            message.options.push_uint(number::CONTENT_FORMAT, 110);
            self.say(What::Send(number), message, now);
        }
    }

    fn on_lost(&mut self, what: &What, now: Ms) {
        match what {
            What::Register | What::Update => {
                self.location = None;
                self.next = now + self.rng.u64(1_000..10_000);
            }
            What::Send(_) | What::Notify(_) | What::Response | What::Leave => {}
        }
    }

    pub(crate) fn on_message(&mut self, message: Message, now: Ms) {
        if !self.hears(now) {
            return;
        }
        match (message.kind, message.code) {
            (Kind::Confirmable, Code::EMPTY) => self.write(&Message::empty(Kind::Reset, message.id)),
            (Kind::Acknowledgement, Code::EMPTY) => {
                let found = self
                    .pending
                    .iter_mut()
                    .find(|pending| pending.message.id == message.id);
                if let Some(pending) = found {
                    pending.acknowledged = true;
                    pending.due = now + PATIENCE;
                }
                self.pending.retain(|pending| {
                    !(pending.message.id == message.id
                        && matches!(pending.what, What::Notify(_) | What::Response))
                });
            }
            (Kind::Reset, _) => {
                let rejected = self
                    .pending
                    .extract_if(.., |pending| pending.message.id == message.id);
                for pending in rejected.collect::<Vec<_>>() {
                    if let What::Notify(path) = pending.what {
                        let token = pending.message.token;
                        self.observations
                            .retain(|of, observed| (of, observed.token) != (&path, token));
                    }
                }
            }
            (_, code) if code.is_response() => self.on_response(&message, now),
            (_, code) if code.is_request() => self.on_request(&message, now),
            _ => {}
        }
    }

    fn on_response(&mut self, message: &Message, now: Ms) {
        if message.kind == Kind::Confirmable {
            self.write(&Message::empty(Kind::Acknowledgement, message.id));
        }
        let found = self
            .pending
            .iter()
            .position(|pending| pending.message.token == message.token && pending.message.code.is_request());
        let Some(found) = found else { return };
        let pending = self.pending.remove(found);
        self.awake_until = now + AWAKE;
        let is_success = message.code.is_success();
        match pending.what {
            What::Register if is_success => {
                let location = message.options.all(number::LOCATION_PATH);
                let location: Vec<_> = location
                    .map(|part| String::from_utf8_lossy(part).into_owned())
                    .collect();
                assert_eq!((message.code, location.len()), (Code::CREATED, 2));
                self.location = Some(location.join("/"));
            }
            What::Update if is_success => assert_eq!(message.code, Code::CHANGED),
            What::Update if message.code == Code::SERVICE_UNAVAILABLE => self.next = now + 5_000,
            What::Register | What::Update => {
                self.location = None;
                self.next = now + self.rng.u64(1_000..10_000);
            }
            What::Send(number) if is_success => {
                self.safe.insert(number);
            }
            _ => {}
        }
    }

    fn on_request(&mut self, message: &Message, now: Ms) {
        let known = self
            .seen
            .iter()
            .find(|(id, token, _)| (*id, *token) == (message.id, message.token));
        if let Some((.., answer)) = known {
            self.said.extend(answer.clone());
            return;
        }
        self.awake_until = now + AWAKE;
        let path: Vec<_> = message.options.all(number::URI_PATH).collect();
        let path: String = path
            .iter()
            .map(|part| format!("/{}", String::from_utf8_lossy(part)))
            .collect();
        let observe = message.options.uint(number::OBSERVE);
        let dice = self.rng.u8(..30);
        if dice == 0 && observe.is_none() {
            let reset = Message::empty(Kind::Reset, message.id);
            self.remember(message, &reset);
            return self.write(&reset);
        }
        self.done += 1;
        let mut answer = Message::new(Kind::Acknowledgement, Code::CHANGED, message.id, message.token);
        match (message.code, observe) {
            (Code::GET, observe) => {
                answer.code = Code::CONTENT;
                answer.payload = "0".into();
                if observe == Some(0) {
                    let next = now + self.rng.u64(20_000..60_000);
                    let (token, sequence) = (message.token, 1);
                    let observed = Observed {
                        token,
                        sequence,
                        next,
                    };
                    self.observations.insert(path, observed);
                    answer.options.push_uint(number::OBSERVE, 1);
                } else if observe == Some(1) {
                    self.observations.remove(&path);
                }
            }
            (Code::DELETE, _) => answer.code = Code::DELETED,
            _ => {}
        }
        if dice < 6 {
            // RFC 7252 §5.2.2
            let empty = Message::empty(Kind::Acknowledgement, message.id);
            self.remember(message, &empty);
            self.write(&empty);
            answer.kind = Kind::Confirmable;
            let at = now + self.rng.u64(500..10_000);
            self.say_at(What::Response, answer, at);
            return;
        }
        self.remember(message, &answer);
        self.write(&answer);
    }

    fn remember(&mut self, message: &Message, answer: &Message) {
        if self.seen.len() == 32 {
            self.seen.pop_front();
        }
        self.seen
            .push_back((message.id, message.token, Some(bytes_of(answer))));
    }

    fn say(&mut self, what: What, mut message: Message, now: Ms) {
        if message.code.is_request() {
            self.next_token += 1;
            message.token = Token::new(&self.next_token.to_be_bytes()).expect("eight bytes");
        }
        self.awake_until = now + AWAKE;
        self.next_id = self.next_id.wrapping_add(1);
        message.id = self.next_id;
        self.write(&message);
        let timeout = ACK_TIMEOUT + self.rng.u64(..1_000);
        self.pending.push(Pending {
            what,
            message,
            sent: 1,
            timeout,
            due: now + timeout,
            acknowledged: false,
        });
    }

    /// It is said for the first time later.
    fn say_at(&mut self, what: What, mut message: Message, at: Ms) {
        self.next_id = self.next_id.wrapping_add(1);
        message.id = self.next_id;
        self.pending.push(Pending {
            what,
            message,
            sent: 0,
            timeout: ACK_TIMEOUT / 2,
            due: at,
            acknowledged: false,
        });
    }

    fn write(&mut self, message: &Message) {
        self.said.push(bytes_of(message));
    }
}

fn bytes_of(message: &Message) -> Bytes {
    let mut bytes = BytesMut::new();
    encode(message, &mut bytes).expect("devices say little");
    bytes.freeze()
}

/// Where a device is, after so many moves.
pub(crate) fn place(n: usize, moves: u16) -> SocketAddr {
    let host = u8::try_from(n).expect("few devices");
    (Ipv4Addr::new(10, 0, 0, host), 1_000 + moves).into()
}

fn request(code: Code, path: &str, query: &str, payload: &str) -> Message {
    let mut message = Message::new(Kind::Confirmable, code, 0, Token::default());
    for segment in path.split('/') {
        message.options.push(number::URI_PATH, segment.to_owned());
    }
    for word in query.split('&').filter(|word| !word.is_empty()) {
        message.options.push(number::URI_QUERY, word.to_owned());
    }
    message.payload = Bytes::copy_from_slice(payload.as_bytes());
    message
}
