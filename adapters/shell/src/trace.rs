//! Traces: what one client, address or topic does, for whoever looks for a fault.
//!
//! While nobody traces, nor wants spans ([`crate::spans`]), each step of a loop costs one relaxed load. A trace has a queue with a bound; what has no room is counted.

use crate::spans::{PendingSpans, Span, SpanSettings, SpanSink};
use bytes::Bytes;
use headgate_access::Network;
use headgate_model::access::{Denial, Wanted};
use headgate_model::bus::PeerName;
use headgate_model::trace::{BusTrace, PacketTrace, Party};
use headgate_model::{TopicFilter, topic};
use parking_lot::RwLock;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::SystemTime;
use tokio::sync::mpsc;

/// What is on.
const TRACES: u8 = 1;
const SPANS: u8 = 2;
/// Bytes of a record's text.
const LONGEST: usize = 1_024;

/// Whom or what a trace is about.
#[derive(Clone, Debug, PartialEq)]
pub enum Subject {
    /// The client with this id.
    Client(String),
    /// Messages with such topics, as on the bus, and subscriptions to this very filter.
    Topic(TopicFilter),
    /// All clients that come from there.
    Address(Network),
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub struct Record {
    /// When.
    pub at: SystemTime,
    /// `in`, `out`, `bus`, `log-in` or `refused`.
    pub what: &'static str,
    /// By which listener.
    pub listener: String,
    /// Whose; `None` where it is not known yet.
    pub client: Option<String>,
    /// Where the client is.
    pub peer: Option<String>,
    /// What.
    pub text: String,
    /// The beginning of the payload, if that is wanted.
    pub payload: Option<Vec<u8>>,
}

/// One trace under way.
struct Active {
    number: u64,
    subject: Subject,
    payload: usize,
    records: SyncSender<Record>,
    lost: Arc<AtomicU64>,
}

/// All traces under way. Clones share them.
#[derive(Clone, Default)]
pub struct Tracer(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// [`TRACES`] and [`SPANS`].
    on: AtomicU8,
    active: RwLock<Vec<Active>>,
    spans: RwLock<Option<Arc<SpanSink>>>,
    spans_dropped: Arc<AtomicU64>,
    last: AtomicU64,
}

/// What something that happened is about.
#[derive(Clone, Copy)]
struct About<'a> {
    listener: &'a str,
    client: Option<&'a str>,
    peer: Option<&'a PeerName>,
    topics: &'a [&'a [u8]],
}

impl Tracer {
    /// Whether there is any trace.
    pub fn is_on(&self) -> bool {
        self.0.on.load(Ordering::Relaxed) & TRACES != 0
    }

    /// Whether somebody wants spans.
    pub(crate) fn has_spans(&self) -> bool {
        self.0.on.load(Ordering::Relaxed) & SPANS != 0
    }

    /// Whether anybody wants to know what happens.
    pub(crate) fn watches(&self) -> bool {
        self.0.on.load(Ordering::Relaxed) != 0
    }

    fn set(&self, what: u8, on: bool) {
        match on {
            true => self.0.on.fetch_or(what, Ordering::Relaxed),
            false => self.0.on.fetch_and(!what, Ordering::Relaxed),
        };
    }

    /// From now on spans of such messages go to `out`; of `None`, there are none any more.
    pub fn set_spans(&self, wanted: Option<(SpanSettings, mpsc::Sender<Span>)>) {
        let mut spans = self.0.spans.write();
        *spans = wanted.map(|(settings, out)| {
            let dropped = Arc::clone(&self.0.spans_dropped);
            Arc::new(SpanSink::new(settings, out, dropped))
        });
        self.set(SPANS, spans.is_some());
    }

    /// Spans for which the queue had no room.
    pub fn spans_dropped(&self) -> u64 {
        self.0.spans_dropped.load(Ordering::Relaxed)
    }

    /// Where the spans of a connection wait; made when they are first wanted, and anew when they are wanted otherwise.
    pub(crate) fn pending<'p>(
        &self,
        pending: &'p mut Option<Box<PendingSpans>>,
    ) -> Option<&'p mut PendingSpans> {
        let spans = self.0.spans.read();
        let Some(sink) = spans.as_ref() else {
            *pending = None;
            return None;
        };
        if !pending.as_ref().is_some_and(|pending| pending.goes_to(sink)) {
            *pending = Some(Box::new(PendingSpans::new(Arc::clone(sink))));
        }
        pending.as_deref_mut()
    }

    /// Begins a trace: what happens goes to `records`, with so many bytes of payloads; what it has no room for is counted in `lost`. Its number, to end it.
    pub fn start(
        &self,
        subject: Subject,
        payload: usize,
        records: SyncSender<Record>,
        lost: Arc<AtomicU64>,
    ) -> u64 {
        let number = self.0.last.fetch_add(1, Ordering::Relaxed);
        let mut active = self.0.active.write();
        active.push(Active {
            number,
            subject,
            payload,
            records,
            lost,
        });
        self.set(TRACES, true);
        number
    }

    /// Ends it.
    pub fn stop(&self, number: u64) {
        let mut active = self.0.active.write();
        active.retain(|trace| trace.number != number);
        self.set(TRACES, !active.is_empty());
    }

    /// A packet came or goes.
    pub(crate) fn packet(&self, what: &'static str, listener: &str, party: Party<'_>, packet: &PacketTrace) {
        let about = About {
            listener,
            client: packet.client.as_deref().or(party.client),
            peer: party.peer,
            topics: &[],
        };
        self.note(what, about, packet.payload.as_ref(), || packet.text.clone());
    }

    /// An endpoint says something to the bus, or the bus to it.
    pub(crate) fn bus(&self, listener: &str, party: Party<'_>, word: Option<BusTrace<'_>>) {
        let Some(word) = word else { return };
        let about = About {
            listener,
            client: party.client,
            peer: party.peer,
            topics: &word.topics,
        };
        self.note("bus", about, word.payload, || word.text.clone());
    }

    /// A question to the access service, or its answer.
    pub(crate) fn login(&self, listener: &str, party: Party<'_>, text: impl Fn() -> String) {
        let about = About {
            listener,
            client: party.client,
            peer: party.peer,
            topics: &[],
        };
        self.note("log-in", about, None, text);
    }

    /// A client was denied something.
    pub(crate) fn denial(&self, listener: &str, denial: &Denial) {
        let (wanted, topic) = match &denial.wanted {
            Wanted::Connect => ("to come in", None),
            Wanted::Stay => ("to stay", None),
            Wanted::Send => ("to send more", None),
            Wanted::Will(topic) => ("a will to", Some(topic)),
            Wanted::Publish(topic) => ("to publish to", Some(topic)),
            Wanted::Subscribe(filter) => ("to subscribe to", Some(filter)),
        };
        let topics = [topic.map_or(&[][..], |topic| topic)];
        let about = About {
            listener,
            client: Some(denial.client.as_str()),
            peer: Some(&denial.who.peer),
            topics: &topics,
        };
        let named = topic.map(|topic| String::from_utf8_lossy(topic).into_owned());
        let text = || {
            let why = &denial.why;
            match &named {
                Some(topic) => format!("wanted {wanted} {topic}: {why}"),
                None => format!("wanted {wanted}: {why}"),
            }
        };
        self.note("refused", about, None, text);
    }

    fn note(&self, what: &'static str, about: About<'_>, payload: Option<&Bytes>, text: impl Fn() -> String) {
        for trace in self.0.active.read().iter() {
            if !trace.subject.is_met_by(about) {
                continue;
            }
            let mut text = text();
            cut(&mut text);
            let payload = payload.filter(|_| trace.payload > 0);
            let record = Record {
                at: SystemTime::now(),
                what,
                listener: about.listener.to_owned(),
                client: about.client.map(str::to_owned),
                peer: about.peer.map(ToString::to_string),
                text,
                payload: payload.map(|payload| payload[..payload.len().min(trace.payload)].to_vec()),
            };
            if trace.records.try_send(record).is_err() {
                trace.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl Subject {
    fn is_met_by(&self, about: About<'_>) -> bool {
        match self {
            Self::Client(id) => about.client == Some(id),
            Self::Address(network) => {
                matches!(about.peer, Some(PeerName::Ip(address)) if network.contains(*address))
            }
            Self::Topic(filter) => {
                let filter = filter.as_bytes();
                let mut topics = about.topics.iter();
                topics.any(|topic| *topic == filter || (!topic.is_empty() && topic::matches(filter, topic)))
            }
        }
    }
}

/// A text that is no longer than it may be.
fn cut(text: &mut String) {
    if text.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::sync_channel;

    #[test]
    fn a_trace_takes_what_it_is_about_and_counts_what_it_has_no_room_for() {
        let tracer = Tracer::default();
        assert!(!tracer.is_on());
        let (records, taken) = sync_channel(2);
        let lost = Arc::new(AtomicU64::new(0));
        let subject = Subject::Client("pump".into());
        let number = tracer.start(subject, 0, records, Arc::clone(&lost));
        assert!(tracer.is_on());
        let say = |client: &str| {
            let party = Party {
                client: Some(client),
                peer: None,
            };
            tracer.packet("in", "tcp", party, &PacketTrace::new("x".repeat(5_000)));
        };
        say("another");
        for _ in 0..3 {
            say("pump");
        }
        assert_eq!(lost.load(Ordering::Relaxed), 1);
        tracer.stop(number);
        assert!(!tracer.is_on());
        say("pump");
        let records: Vec<Record> = taken.iter().collect();
        assert_eq!(records.len(), 2);
        assert!(records[0].text.len() < 1_100);
    }

    #[test]
    fn topics_match_as_on_the_bus() {
        let subject = Subject::Topic(TopicFilter::try_from("plant/+/state").unwrap());
        let about = |topic: &[&[u8]]| {
            subject.is_met_by(About {
                listener: "",
                client: None,
                peer: None,
                topics: topic,
            })
        };
        assert!(about(&[b"plant/7/state"]));
        assert!(about(&[b"a", b"plant/+/state"]), "a subscription to it");
        assert!(!about(&[b"plant/7"]) && !about(&[]) && !about(&[b""]));
    }
}
