//! Bootstrapping: a client that knows this server alone is told which servers it belongs to. LwM2M Core 1.1 §6.1
//!
//! Client-initiated: it asks (`/bs`), and is then cleared and written, object by object, and told that this was all. Server-initiated: whoever may execute `/1/x/9` of a
//! registered client makes it ask. A client of 1.2 may fetch all at once (`/bspack`).

use crate::core::{Core, Effect, Occupant, Out, Tag};
use crate::counters::Lwm2mMetric;
use crate::exchange::{Exchange, Next};
use crate::registration::check_endpoint;
use crate::request;
use headgate_coap::{Outcome, Requester};
use headgate_coap_codec::{Code, Kind, Message, Token, number};
use headgate_lwm2m_codec::object::Registry;
use headgate_lwm2m_codec::{Format, Path, PathError, Record, Types, Value, ValueError, encode};
use headgate_model::access::Credentials;
use headgate_model::datagram::Address;
use headgate_model::{Answer, Asked, ClientId, Fault, Instant, Question, Secret, SessionKey};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

/// Clients that are bootstrapped at once.
const AT_ONCE: usize = 1_000;
/// So long one may take.
const PATIENCE: Duration = Duration::from_secs(300);
/// What one takes, with its places in the tables.
const EACH: usize = 2_048;

/// What clients are told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BootstrapSettings {
    /// Who is told what. The first entry that fits is taken; who fits none is answered 4.00.
    pub clients: Vec<BootstrapClient>,
}

/// What some clients are told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BootstrapClient {
    /// Endpoint names; a `*` at the end stands for anything.
    pub endpoint: String,
    /// What is deleted first. Default: `/`, all but the account of the bootstrap server.
    #[serde(default = "all")]
    pub delete: Vec<String>,
    /// Servers that it registers with.
    #[serde(default)]
    pub servers: Vec<BootstrapServer>,
    /// Other resources that are written.
    #[serde(default)]
    pub resources: Vec<BootstrapResource>,
    /// In which form: `tlv`, `senml-json` or `senml-cbor`. Default: what the client prefers, and TLV if it says nothing.
    #[serde(default)]
    pub format: Option<String>,
}

fn all() -> Vec<String> {
    vec!["/".into()]
}

/// A server that a client registers with: an instance of object 0 and one of object 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BootstrapServer {
    /// Where it is: `coap://` or `coaps://`, host and port.
    pub uri: String,
    /// Short server id, 1 to 65534.
    pub short_id: u16,
    /// Lifetime of the registration.
    #[serde(with = "humantime_serde", default = "hour")]
    #[schemars(with = "String")]
    pub lifetime: Duration,
    /// Binding. Default: `U`.
    #[serde(default = "udp")]
    pub binding: String,
    /// Identity of the shared key. Without it there is no security.
    #[serde(default)]
    pub psk_identity: Option<String>,
    /// The shared key, in hexadecimal digits.
    #[serde(default)]
    #[schemars(with = "String")]
    pub psk_key: Secret,
    /// The number of its instances. Default: 1 for the first server, 2 for the second; 0 is usually the bootstrap server's.
    #[serde(default)]
    pub instance: Option<u16>,
}

fn hour() -> Duration {
    Duration::from_secs(60 * 60)
}

fn udp() -> String {
    "U".into()
}

/// A resource that is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BootstrapResource {
    /// `/object/instance/resource`, or deeper.
    pub path: String,
    /// The value, as text.
    pub value: String,
}

impl BootstrapSettings {
    pub(crate) fn faults(&self) -> Vec<Fault> {
        let entries = self.clients.iter().enumerate();
        entries
            .flat_map(|(n, client)| {
                client
                    .faults()
                    .into_iter()
                    .map(move |fault| fault.below(&format!("clients[{n}]")))
            })
            .collect()
    }

    fn of(&self, endpoint: &str) -> Option<&BootstrapClient> {
        self.clients
            .iter()
            .find(|client| match client.endpoint.strip_suffix('*') {
                Some(beginning) => endpoint.starts_with(beginning),
                None => client.endpoint == endpoint,
            })
    }
}

impl BootstrapClient {
    fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut fault = |key: String, what: String| faults.push(Fault::new(key, what));
        for (n, path) in self.delete.iter().enumerate() {
            if path.parse::<Path>().map_or(true, |path| path.depth() > 2) {
                fault(
                    format!("delete[{n}]"),
                    format!("`{path}` is no path such as / or /1/0"),
                );
            }
        }
        for (n, server) in self.servers.iter().enumerate() {
            if !["coap://", "coaps://"]
                .iter()
                .any(|scheme| server.uri.starts_with(scheme))
            {
                fault(
                    format!("servers[{n}].uri"),
                    "must begin with coap:// or coaps://".into(),
                );
            }
            if matches!(server.short_id, 0 | 65_535) {
                fault(
                    format!("servers[{n}].short_id"),
                    "is out of range, allowed is 1 to 65534".into(),
                );
            }
            let key = server.psk_key.reveal();
            match (&server.psk_identity, unhex(key)) {
                (_, None) => fault(
                    format!("servers[{n}].psk_key"),
                    "must be hexadecimal digits, two for each byte".into(),
                ),
                (Some(_), Some(bytes)) if bytes.is_empty() => fault(
                    format!("servers[{n}].psk_key"),
                    "is missing: hexadecimal digits".into(),
                ),
                (None, Some(bytes)) if !bytes.is_empty() => fault(
                    format!("servers[{n}].psk_identity"),
                    "is missing: psk_key has an identity".into(),
                ),
                (None, _) if server.uri.starts_with("coaps://") => fault(
                    format!("servers[{n}].uri"),
                    "coaps:// needs psk_identity and psk_key".into(),
                ),
                _ => {}
            }
            if self.servers[..n]
                .iter()
                .any(|other| other.short_id == server.short_id)
            {
                fault(
                    format!("servers[{n}].short_id"),
                    format!("{} is another server's", server.short_id),
                );
            }
        }
        for (n, resource) in self.resources.iter().enumerate() {
            let path = resource
                .path
                .parse::<Path>()
                .ok()
                .filter(|path| path.depth() >= 3);
            if path.is_none() {
                let what = format!("`{}` is no path such as /3/0/14", resource.path);
                fault(format!("resources[{n}].path"), what);
            } else if let Err(why) = resource.record(&Registry::builtin()) {
                fault(format!("resources[{n}].value"), why.to_string());
            }
        }
        let known = self.format.as_deref().map(str::parse::<Format>);
        if known
            .is_some_and(|format| !matches!(format, Ok(Format::Tlv | Format::SenmlJson | Format::SenmlCbor)))
        {
            fault(
                "format".into(),
                "allowed are tlv, senml-json and senml-cbor".into(),
            );
        }
        faults
    }

    /// All values, by the instance that they are written to.
    fn instances(&self, registry: &Registry) -> BTreeMap<Path, Vec<Record>> {
        let mut all = Vec::new();
        for (n, server) in self.servers.iter().enumerate() {
            let instance = server
                .instance
                .unwrap_or(u16::try_from(n + 1).unwrap_or(u16::MAX - 1));
            all.extend(server.records(instance));
        }
        all.extend(
            self.resources
                .iter()
                .filter_map(|resource| resource.record(registry).ok()),
        );
        let mut instances: BTreeMap<Path, Vec<Record>> = BTreeMap::new();
        for record in all {
            let instance = Path::of(&record.path.ids()[..2]).expect("two ids");
            instances.entry(instance).or_default().push(record);
        }
        instances
    }
}

impl BootstrapServer {
    /// Objects 0 and 1. LwM2M Core 1.1 appendices E.1, E.2
    fn records(&self, instance: u16) -> Vec<Record> {
        const PSK: i64 = 0;
        const NO_SECURITY: i64 = 3;
        let at = |object: u16, resource: u16| Path::of(&[object, instance, resource]).expect("three ids");
        let key = self.psk_identity.as_ref().map(|identity| {
            let key = unhex(self.psk_key.reveal()).unwrap_or_default();
            (identity.clone().into_bytes(), key)
        });
        let mode = if key.is_some() { PSK } else { NO_SECURITY };
        let mut records = vec![
            Record::new(at(0, 0), Value::String(self.uri.clone())),
            Record::new(at(0, 1), Value::Boolean(false)),
            Record::new(at(0, 2), Value::Integer(mode)),
            Record::new(at(0, 10), Value::Integer(self.short_id.into())),
            Record::new(at(1, 0), Value::Integer(self.short_id.into())),
            Record::new(
                at(1, 1),
                Value::Integer(i64::try_from(self.lifetime.as_secs()).unwrap_or(i64::MAX)),
            ),
            Record::new(at(1, 6), Value::Boolean(true)),
            Record::new(at(1, 7), Value::String(self.binding.clone())),
        ];
        let (identity, key) = key.unwrap_or_default();
        records.push(Record::new(at(0, 3), Value::Opaque(identity.into())));
        records.push(Record::new(at(0, 4), Value::Opaque(Vec::new().into())));
        records.push(Record::new(at(0, 5), Value::Opaque(key.into())));
        records
    }
}

/// Why a resource is none.
#[derive(Debug, thiserror::Error)]
enum ResourceError {
    #[error(transparent)]
    Path(#[from] PathError),
    #[error(transparent)]
    Value(#[from] ValueError),
}

impl BootstrapResource {
    fn record(&self, registry: &Registry) -> Result<Record, ResourceError> {
        let path: Path = self.path.parse()?;
        let kind = registry.of(&path).unwrap_or(headgate_lwm2m_codec::Type::String);
        let value = Value::of_text(&self.value, kind)?;
        Ok(Record::new(path, value))
    }
}

/// The bytes of hexadecimal digits; `None` if they are none.
pub(crate) fn unhex(digits: &str) -> Option<Vec<u8>> {
    let digits = digits.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.chunks(2).map(byte).collect()
}

/// All clients that are being bootstrapped.
#[derive(Debug)]
pub(crate) struct Bootstraps<A> {
    all: Vec<Option<Bootstrap<A>>>,
    free: Vec<u32>,
    by_address: HashMap<A, u32>,
    by_token: HashMap<Token, u32>,
    /// When each is over.
    timers: BTreeSet<(Instant, u32)>,
}

#[derive(Debug)]
struct Bootstrap<A> {
    at: A,
    seat: SessionKey,
    endpoint: String,
    /// The request that began it, until it is answered.
    asked: Option<(Requester<A>, Message)>,
    /// The form that the client prefers. LwM2M Core 1.1 §6.1.7.1: pct
    preferred: Option<Format>,
    /// What is still to be said.
    steps: VecDeque<Message>,
    running: Option<Exchange>,
    number: u32,
    until: Instant,
}

impl<A: Address> Bootstraps<A> {
    pub(crate) fn new() -> Self {
        Self {
            all: Vec::new(),
            free: Vec::new(),
            by_address: HashMap::new(),
            by_token: HashMap::new(),
            timers: BTreeSet::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len() - self.free.len()
    }

    /// Bytes that they take.
    pub(crate) fn held(&self) -> usize {
        self.len() * EACH
    }

    /// When the first of them is over.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.timers.first().map(|(until, _)| *until)
    }

    /// The one that was silent longest.
    fn oldest(&self) -> Option<u32> {
        self.timers.first().map(|(_, index)| *index)
    }

    /// One of them has more time.
    fn wait_until(&mut self, index: u32, until: Instant) {
        let before = std::mem::replace(&mut self.get(index).until, until);
        self.timers.remove(&(before, index));
        self.timers.insert((until, index));
    }

    fn get(&mut self, index: u32) -> &mut Bootstrap<A> {
        self.all[index as usize].as_mut().expect("its index is known")
    }
}

impl<A: Address> Core<A> {
    /// LwM2M Core 1.1 §6.1.7.1: who wants to be told is let in first.
    pub(crate) fn on_bootstrap_request(
        &mut self,
        from: Requester<A>,
        request: Message,
        now: Instant,
        out: &mut Out<A>,
    ) {
        let words = words(&request);
        let endpoint = words.get("ep").cloned().unwrap_or_default();
        if let Err((code, why)) = check_endpoint(&endpoint, &self.settings) {
            return self.refuse_stranger(&from, &request, code, &why, out);
        }
        if self.settings.bootstrap.of(&endpoint).is_none() {
            let why = "nothing is known of this endpoint";
            return self.refuse_stranger(&from, &request, Code::BAD_REQUEST, why, out);
        }
        let preferred = words
            .get("pct")
            .and_then(|number| Format::of_number(number.parse().ok()?));
        if let Some(before) = self.bootstraps.by_address.get(&from.at).copied() {
            self.end_bootstrap(before);
        }
        if self.bootstraps.len() >= AT_ONCE
            && let Some(oldest) = self.bootstraps.oldest()
        {
            // Who goes on is never the oldest for long.
            self.fail_bootstrap(oldest, out);
        }
        if !self.has_memory || self.overloaded {
            let why = "too many clients are being bootstrapped";
            return self.refuse(&from, &request, Code::SERVICE_UNAVAILABLE, why, out);
        }
        let bootstraps = &mut self.bootstraps;
        let index = bootstraps.free.pop().unwrap_or_else(|| {
            bootstraps.all.push(None);
            u32::try_from(bootstraps.all.len() - 1).expect("few")
        });
        let seat = self.seats.take(Occupant::Bootstrap(index));
        let at = from.at;
        let credentials = Credentials {
            client_id: ClientId::from(endpoint.as_str()),
            username: None,
            password: None,
            method: None,
            data: None,
            link: false,
        };
        self.bootstraps.all[index as usize] = Some(Bootstrap {
            at,
            seat,
            endpoint,
            asked: Some((from, request)),
            preferred,
            steps: VecDeque::new(),
            running: None,
            number: 0,
            until: now + PATIENCE,
        });
        self.bootstraps.by_address.insert(at, index);
        self.bootstraps.timers.insert((now + PATIENCE, index));
        let question = Question::Authenticate(Box::new(credentials));
        out.questions.push(Asked {
            key: seat,
            at: Some(at),
            question,
        });
    }

    /// Whether it is let in.
    pub(crate) fn on_bootstrap_answer(
        &mut self,
        index: u32,
        answer: &Answer,
        now: Instant,
        out: &mut Out<A>,
    ) {
        let bootstrap = self.bootstraps.get(index);
        let Some((from, request)) = bootstrap.asked.take() else {
            return;
        };
        let (endpoint, preferred) = (bootstrap.endpoint.clone(), bootstrap.preferred);
        if !matches!(answer, Answer::Allowed { .. }) {
            self.end_bootstrap(index);
            return self.refuse(&from, &request, Code::BAD_REQUEST, "you are not let in", out);
        }
        let Some(told) = self.settings.bootstrap.of(&endpoint).cloned() else {
            return self.end_bootstrap(index);
        };
        if request.code == Code::GET {
            self.end_bootstrap(index);
            return self.answer_pack(&from, &request, &told, out);
        }
        let steps = steps(&told, preferred, &self.settings.supplies.registry);
        self.bootstraps.get(index).steps = steps;
        self.respond(
            &from,
            &request,
            Message::of_stream(Code::CHANGED, request.token),
            out,
        );
        self.next_step(index, now);
    }

    /// LwM2M Core 1.2 §6.1.7.7: all at once.
    pub(crate) fn on_pack_request(
        &mut self,
        from: Requester<A>,
        request: Message,
        now: Instant,
        out: &mut Out<A>,
    ) {
        self.on_bootstrap_request(from, request, now, out);
    }

    fn answer_pack(
        &mut self,
        from: &Requester<A>,
        request: &Message,
        told: &BootstrapClient,
        out: &mut Out<A>,
    ) {
        let accepted = request.options.uint(number::ACCEPT).map(Format::of_number);
        let format = match accepted {
            None => Format::SenmlCbor,
            Some(Some(format @ (Format::SenmlCbor | Format::SenmlJson | Format::Lwm2mCbor))) => format,
            Some(_) => return self.refuse(from, request, Code::NOT_ACCEPTABLE, "", out),
        };
        let instances = told.instances(&self.settings.supplies.registry);
        let records: Vec<Record> = instances.into_values().flatten().collect();
        match encode(format, Path::ROOT, &records) {
            Ok(payload) => {
                let mut response = Message::of_stream(Code::CONTENT, request.token);
                response
                    .options
                    .push_uint(number::CONTENT_FORMAT, format.number().into());
                response.payload = payload.into();
                out.counts.add_own(Lwm2mMetric::Bootstrapped);
                self.respond(from, request, response, out);
            }
            Err(error) => self.refuse(
                from,
                request,
                Code::INTERNAL_SERVER_ERROR,
                &error.to_string(),
                out,
            ),
        }
    }

    /// Says the next thing.
    fn next_step(&mut self, index: u32, now: Instant) {
        let szx = self.szx;
        let token = self.new_token();
        let bootstrap = self.bootstraps.get(index);
        let Some(message) = bootstrap.steps.pop_front() else {
            return;
        };
        let mut exchange = Exchange::new(message, szx);
        let message = exchange.message(token);
        bootstrap.running = Some(exchange);
        self.send_step(index, message, token, now);
    }

    fn send_step(&mut self, index: u32, message: Message, token: Token, now: Instant) {
        let bootstrap = self.bootstraps.get(index);
        bootstrap.number = bootstrap.number.wrapping_add(1);
        let tag = Tag {
            key: bootstrap.seat,
            number: bootstrap.number,
        };
        let at = bootstrap.at;
        self.bootstraps.by_token.insert(token, index);
        self.bootstraps.wait_until(index, now + PATIENCE);
        self.effects.push_back(Effect::Send(at, message, tag));
    }

    /// A response to something that was said. False when it is none.
    pub(crate) fn on_bootstrap_response(
        &mut self,
        from: Requester<A>,
        response: &Message,
        now: Instant,
        out: &mut Out<A>,
    ) -> bool {
        let Some(index) = self.bootstraps.by_token.remove(&response.token) else {
            return false;
        };
        if from.kind == Kind::Confirmable {
            self.effects.push_back(Effect::Acknowledge(from));
        }
        let token = self.new_token();
        let max_body = self.settings.max_body_bytes;
        let bootstrap = self.bootstraps.get(index);
        let Some(mut exchange) = bootstrap
            .running
            .take()
            .filter(|running| running.token() == response.token)
        else {
            return true;
        };
        match exchange.on_response(response.clone(), max_body) {
            Next::Send => {
                let message = exchange.message(token);
                bootstrap.running = Some(exchange);
                self.send_step(index, message, token, now);
            }
            // What is not there need not be deleted.
            Next::Done(done) if done.code.is_success() || done.code == Code::NOT_FOUND => {
                if bootstrap.steps.is_empty() {
                    out.counts.add_own(Lwm2mMetric::Bootstrapped);
                    self.end_bootstrap(index);
                } else {
                    self.next_step(index, now);
                }
            }
            Next::Done(_) | Next::Broken(_) => self.fail_bootstrap(index, out),
        }
        true
    }

    pub(crate) fn on_bootstrap_outcome(&mut self, outcome: Outcome<Tag>, now: Instant, out: &mut Out<A>) {
        let (Outcome::Acknowledged(tag) | Outcome::Rejected(tag) | Outcome::Lost(tag)) = outcome;
        let Some(Occupant::Bootstrap(index)) = self.seats.occupant(tag.key) else {
            return;
        };
        match outcome {
            Outcome::Acknowledged(_) => self.bootstraps.wait_until(index, now + PATIENCE),
            Outcome::Rejected(_) | Outcome::Lost(_) => self.fail_bootstrap(index, out),
        }
    }

    pub(crate) fn on_bootstrap_timeout(&mut self, now: Instant, out: &mut Out<A>) {
        while let Some((until, index)) = self.bootstraps.timers.first().copied()
            && until <= now
        {
            self.fail_bootstrap(index, out);
        }
    }

    fn fail_bootstrap(&mut self, index: u32, out: &mut Out<A>) {
        out.counts.add_own(Lwm2mMetric::BootstrapsFailed);
        self.end_bootstrap(index);
    }

    fn end_bootstrap(&mut self, index: u32) {
        let Some(bootstrap) = self.bootstraps.all[index as usize].take() else {
            return;
        };
        self.bootstraps.free.push(index);
        self.bootstraps.timers.remove(&(bootstrap.until, index));
        self.bootstraps.by_address.remove(&bootstrap.at);
        if let Some(running) = &bootstrap.running {
            self.bootstraps.by_token.remove(&running.token());
        }
        self.effects
            .push_back(Effect::Forget(bootstrap.at, bootstrap.seat));
        self.seats.leave(bootstrap.seat);
    }
}

/// All that is said to a client: deletions, writes, and that this was all. LwM2M Core 1.1 §6.1.7
fn steps(told: &BootstrapClient, preferred: Option<Format>, registry: &Registry) -> VecDeque<Message> {
    let mut steps = VecDeque::new();
    for path in told.delete.iter().filter_map(|path| path.parse::<Path>().ok()) {
        steps.push_back(request::to(Code::DELETE, "/", &path));
    }
    let set = told
        .format
        .as_deref()
        .and_then(|name| name.parse::<Format>().ok());
    let good = |format: &Format| matches!(format, Format::Tlv | Format::SenmlJson | Format::SenmlCbor);
    let format = set.or(preferred).filter(good).unwrap_or(Format::Tlv);
    for (instance, records) in told.instances(registry) {
        let mut message = request::to(Code::PUT, "/", &instance);
        message
            .options
            .push_uint(number::CONTENT_FORMAT, format.number().into());
        if let Ok(payload) = encode(format, instance, &records) {
            message.payload = payload.into();
            steps.push_back(message);
        }
    }
    let mut finish = Message::new(Kind::Confirmable, Code::POST, 0, Token::default());
    finish.options.push(number::URI_PATH, "bs");
    steps.push_back(finish);
    steps
}

fn words(request: &Message) -> HashMap<String, String> {
    let all = request.options.all(number::URI_QUERY);
    all.filter_map(|word| {
        let (name, value) = std::str::from_utf8(word).ok()?.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_that_cannot_be_are_told() {
        let server = |uri: &str, short_id, identity: Option<&str>, key: &str| BootstrapServer {
            uri: uri.into(),
            short_id,
            lifetime: hour(),
            binding: udp(),
            psk_identity: identity.map(Into::into),
            psk_key: key.into(),
            instance: None,
        };
        let client = BootstrapClient {
            endpoint: "*".into(),
            delete: all(),
            servers: vec![
                server("coaps://a", 1, None, ""),
                server("coaps://a", 2, Some("me"), "zz"),
                server("coaps://a", 3, Some("me"), ""),
                server("coap://a", 3, None, "00ff"),
                server("coaps://a", 4, Some("me"), "00ff"),
            ],
            resources: Vec::new(),
            format: None,
        };
        let told: Vec<String> = client.faults().iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "servers[0].uri: coaps:// needs psk_identity and psk_key",
                "servers[1].psk_key: must be hexadecimal digits, two for each byte",
                "servers[2].psk_key: is missing: hexadecimal digits",
                "servers[3].psk_identity: is missing: psk_key has an identity",
                "servers[3].short_id: 3 is another server's",
            ]
        );
    }
}
