//! Spans for OpenTelemetry: the way of a message through the gateway, from its publisher to its receivers. Whoever wants them takes [`Span`]s from a queue.
//!
//! A message that is published gets a span if its `traceparent` says that it is recorded, or by chance if it has none; it carries the span's own
//! `traceparent` from then on. Each of its deliveries, up to a number, gets a span below that one.
//!
//! Always true: while nobody wants spans, a step costs the one load that traces cost too; whatever is kept has a bound, and a span that has no room in the queue is counted.

use headgate_model::bus::Settlement;
use headgate_model::traceparent::{TRACESTATE, TraceContext};
use headgate_model::{
    AckToken, Admitted, BusCommand, BusEvent, Delivery, DeliveryId, Message, Qos, SessionKey,
};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;
use tokio::sync::mpsc;

/// Messages of one connection, or of one socket for datagrams, that wait for an acknowledgement: the spans of more end when they begin.
const MOST_PENDING: usize = 256;
/// Bytes of a name in a span, and of `tracestate` (W3C Trace Context §3.3.1.5 asks for 512).
const LONGEST: usize = 512;
/// Messages whose receivers are counted at a time.
const COUNTED: usize = 4_096;

/// Which messages get spans.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SpanSettings {
    /// How many of those that carry no `traceparent`, from 0 to 1.
    pub sample_ratio: f64,
    /// Deliveries of one message.
    pub max_receivers: u32,
}

/// What a span is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// A message came from a client: until it is acknowledged, which is when it is stored or all receivers have it.
    Receive,
    /// It is handed to one receiver: until that has acknowledged it.
    Deliver,
}

/// How a span ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpanOutcome {
    /// Handed on; nobody acknowledges at QoS 0.
    Handed,
    /// Acknowledged.
    Acknowledged,
    /// Refused, and why.
    Refused(String),
    /// The connection ended before.
    Unanswered,
}

/// A stretch of a message's way.
#[derive(Clone, Debug)]
pub struct Span {
    /// Its trace, and its own id.
    pub context: TraceContext,
    /// The span above it; `None` for the first of a trace.
    pub parent: Option<[u8; 8]>,
    /// What it is about.
    pub kind: SpanKind,
    /// When it began.
    pub start: SystemTime,
    /// When it ended.
    pub end: SystemTime,
    /// How.
    pub outcome: SpanOutcome,
    /// `tracestate`, as it came.
    pub state: String,
    /// The listener of the client.
    pub listener: String,
    /// The client.
    pub client: String,
    /// The topic on the bus.
    pub topic: String,
    /// Of the publish or of the delivery.
    pub qos: Qos,
    /// Bytes of the payload.
    pub bytes: usize,
}

/// Where spans go, and what decides which there are.
#[derive(Debug)]
pub(crate) struct SpanSink {
    settings: SpanSettings,
    out: mpsc::Sender<Span>,
    dropped: Arc<AtomicU64>,
    /// Ids are numbers that nobody guesses: mixed from a seed.
    seed: u64,
    last: AtomicU64,
    /// Spans of messages, and how many receivers each had; what falls into the same place replaces the other.
    receivers: Mutex<Box<[(u64, u32)]>>,
}

impl SpanSink {
    pub(crate) fn new(settings: SpanSettings, out: mpsc::Sender<Span>, dropped: Arc<AtomicU64>) -> Self {
        let mut seed = [0; 16];
        if let Err(error) = getrandom::fill(&mut seed) {
            tracing::warn!(%error, "no random numbers: ids of spans can be guessed");
        }
        let [first, second] =
            [0, 8].map(|at| u64::from_le_bytes(seed[at..at + 8].try_into().expect("8 bytes")));
        Self {
            settings,
            out,
            dropped,
            seed: first,
            last: AtomicU64::new(second),
            receivers: Mutex::new(vec![(0, 0); COUNTED].into_boxed_slice()),
        }
    }

    /// A number that is not zero. SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
    fn number(&self) -> u64 {
        const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;
        let mut n = self.last.fetch_add(GAMMA, Ordering::Relaxed) ^ self.seed;
        n = (n ^ (n >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        n = (n ^ (n >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (n ^ (n >> 31)).max(1)
    }

    fn is_sampled(&self) -> bool {
        let ratio = self.settings.sample_ratio;
        // 53 bits are what an f64 tells apart.
        ratio > 0.0 && (self.number() >> 11) as f64 / ((1_u64 << 53) as f64) < ratio
    }

    /// The span of a message that was published, which says so from now on; `None` if it gets none.
    fn received(&self, message: &mut Admitted<Message>) -> Option<Span> {
        let above = TraceContext::of(message);
        let sampled = above.map_or_else(|| self.is_sampled(), |above| above.sampled);
        if !sampled {
            return None;
        }
        let trace = above.map_or_else(|| self.trace(), |above| above.trace);
        let span = self.number().to_be_bytes();
        let context = TraceContext { trace, span, sampled };
        message.set_trace(context);
        let parent = above.map(|above| above.span);
        Some(span_of(message, context, parent, SpanKind::Receive, message.qos))
    }

    fn trace(&self) -> [u8; 16] {
        (u128::from(self.number()) << 64 | u128::from(self.number())).to_be_bytes()
    }

    /// The span of a delivery; `None` if its message has none, or has enough of them.
    fn delivered(&self, delivery: &Delivery) -> Option<Span> {
        let message = &delivery.message;
        let above = TraceContext::of(message).filter(|above| above.sampled)?;
        let has_room = self.counts(u64::from_be_bytes(above.span));
        let span = has_room.then(|| self.number().to_be_bytes())?;
        let context = TraceContext { span, ..above };
        Some(span_of(
            message,
            context,
            Some(above.span),
            SpanKind::Deliver,
            delivery.qos,
        ))
    }

    /// One receiver more of a message, if it may have one.
    fn counts(&self, message: u64) -> bool {
        let mut receivers = self.receivers.lock();
        let place = &mut receivers[(message % COUNTED as u64) as usize];
        if place.0 != message {
            *place = (message, 0);
        }
        let has_room = place.1 < self.settings.max_receivers;
        place.1 += u32::from(has_room);
        has_room
    }

    fn end(&self, mut span: Span, outcome: SpanOutcome) {
        (span.end, span.outcome) = (SystemTime::now(), outcome);
        if self.out.try_send(span).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn span_of(
    message: &Message,
    context: TraceContext,
    parent: Option<[u8; 8]>,
    kind: SpanKind,
    qos: Qos,
) -> Span {
    let properties = message.properties.iter().flat_map(|p| &p.user_properties);
    let mut state = properties.filter(|(name, text)| name == TRACESTATE && text.len() <= LONGEST);
    let state = state
        .next()
        .map(|(_, text)| String::from_utf8_lossy(text).into_owned());
    let now = SystemTime::now();
    Span {
        context,
        parent,
        kind,
        start: now,
        end: now,
        outcome: SpanOutcome::Handed,
        state: state.unwrap_or_default(),
        listener: String::new(),
        client: String::new(),
        topic: shortened(&message.topic.to_string()),
        qos,
        bytes: message.payload.len(),
    }
}

fn shortened(text: &str) -> String {
    text[..text.floor_char_boundary(LONGEST)].to_owned()
}

/// Which session of a connection or socket, where there are several.
type Key = Option<SessionKey>;

/// The spans of one connection, or of one socket for datagrams, that have begun.
#[derive(Debug)]
pub(crate) struct PendingSpans {
    sink: Arc<SpanSink>,
    received: BTreeMap<(Key, AckToken), Span>,
    delivered: BTreeMap<(Key, DeliveryId), Span>,
}

/// Whose connection it is: listener and client.
pub(crate) type Who<'a> = &'a dyn Fn() -> (String, Option<String>);

impl PendingSpans {
    pub(crate) fn new(sink: Arc<SpanSink>) -> Self {
        Self {
            sink,
            received: BTreeMap::new(),
            delivered: BTreeMap::new(),
        }
    }

    pub(crate) fn goes_to(&self, sink: &Arc<SpanSink>) -> bool {
        Arc::ptr_eq(&self.sink, sink)
    }

    /// A client's endpoint says this to the bus.
    pub(crate) fn command(&mut self, key: Key, command: &mut BusCommand, who: Who<'_>) {
        match command {
            BusCommand::Publish { message, ack, .. } => {
                let Some(span) = self.sink.received(message) else {
                    return;
                };
                let span = named(span, who);
                match ack {
                    Some(ack) if self.received.len() < MOST_PENDING => {
                        // Sent again before it was answered: one answer is for both.
                        let before = self.received.insert((key, *ack), span);
                        self.end(before, SpanOutcome::Handed);
                    }
                    _ => self.sink.end(span, SpanOutcome::Handed),
                }
            }
            BusCommand::Settle(id, settled) => {
                let outcome = match settled {
                    // PUBCOMP is to come.
                    Settlement::Received => return,
                    Settlement::Done => SpanOutcome::Acknowledged,
                    Settlement::Rejected => SpanOutcome::Refused("the receiver refused it".to_owned()),
                };
                let span = self.delivered.remove(&(key, *id));
                self.end(span, outcome);
            }
            BusCommand::Close { .. } => self.leave(key),
            _ => {}
        }
    }

    /// The bus says this to a client's endpoint.
    pub(crate) fn event(&mut self, key: Key, event: &BusEvent, who: Who<'_>) {
        match event {
            BusEvent::Delivery(delivery) => {
                let Some(span) = self.sink.delivered(delivery) else {
                    return;
                };
                let span = named(span, who);
                match delivery.id {
                    Some(id) if self.delivered.len() < MOST_PENDING => {
                        let before = self.delivered.insert((key, id), span);
                        self.end(before, SpanOutcome::Unanswered);
                    }
                    _ => self.sink.end(span, SpanOutcome::Handed),
                }
            }
            BusEvent::Accepted(ack, _) => {
                let span = self.received.remove(&(key, *ack));
                self.end(span, SpanOutcome::Acknowledged);
            }
            BusEvent::Refused(ack, why) => {
                let span = self.received.remove(&(key, *ack));
                self.end(span, SpanOutcome::Refused(why.to_string()));
            }
            _ => {}
        }
    }

    /// A session is no longer here: what waits for an answer gets none.
    fn leave(&mut self, key: Key) {
        let received = self.received.extract_if(.., |(of, _), _| *of == key);
        let delivered = self.delivered.extract_if(.., |(of, _), _| *of == key);
        for span in received
            .map(|(_, span)| span)
            .chain(delivered.map(|(_, span)| span))
        {
            self.sink.end(span, SpanOutcome::Unanswered);
        }
    }

    fn end(&self, span: Option<Span>, outcome: SpanOutcome) {
        if let Some(span) = span {
            self.sink.end(span, outcome);
        }
    }
}

impl Drop for PendingSpans {
    fn drop(&mut self) {
        let received = std::mem::take(&mut self.received).into_values();
        let delivered = std::mem::take(&mut self.delivered).into_values();
        for span in received.chain(delivered) {
            self.sink.end(span, SpanOutcome::Unanswered);
        }
    }
}

fn named(span: Span, who: Who<'_>) -> Span {
    let (listener, client) = who();
    let client = client.map(|client| shortened(&client)).unwrap_or_default();
    Span {
        listener,
        client,
        ..span
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headgate_model::access::Unrestricted;
    use headgate_model::{AccessPolicy, Naming, Topic, Verdict};

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn sink(sample_ratio: f64, room: usize) -> (Arc<SpanSink>, mpsc::Receiver<Span>, Arc<AtomicU64>) {
        let (out, spans) = mpsc::channel(room);
        let dropped = Arc::<AtomicU64>::default();
        let settings = SpanSettings {
            sample_ratio,
            max_receivers: 2,
        };
        let sink = SpanSink::new(settings, out, Arc::clone(&dropped));
        (Arc::new(sink), spans, dropped)
    }

    fn message(parent: Option<&str>) -> Admitted<Message> {
        let message = Message {
            qos: Qos::AtLeastOnce,
            ..Message::new(Topic::try_from("a/b").unwrap(), "x")
        };
        let naming = Naming::default();
        let rules: Arc<dyn AccessPolicy> = Arc::new(Unrestricted);
        let Verdict::Admitted(mut message) = naming.gate(&"c".into(), Some(&rules)).publish(message) else {
            unreachable!("no rules")
        };
        if let Some(parent) = parent {
            message.set_trace(TraceContext::parse(parent.as_bytes()).unwrap());
        }
        message
    }

    fn publish(pending: &mut PendingSpans, message: Admitted<Message>, ack: u32) -> Arc<Message> {
        let mut command = BusCommand::Publish {
            message,
            ack: Some(AckToken(ack)),
            dedup: None,
        };
        pending.command(None, &mut command, &who);
        let BusCommand::Publish { message, .. } = command else {
            unreachable!()
        };
        Arc::new(message.into_inner())
    }

    fn who() -> (String, Option<String>) {
        ("tcp".to_owned(), Some("c".to_owned()))
    }

    fn delivery(message: &Arc<Message>) -> BusEvent {
        BusEvent::Delivery(Delivery {
            message: Arc::clone(message),
            id: None,
            qos: Qos::AtMostOnce,
            retain: false,
            redelivered: false,
            subscription_ids: None,
        })
    }

    #[test]
    fn a_message_has_a_span_below_its_publishers_and_deliveries_below_that() {
        let (sink, mut spans, _) = sink(0.0, 10);
        let mut pending = PendingSpans::new(sink);
        let message = publish(&mut pending, message(Some(PARENT)), 1);
        let parent = TraceContext::parse(PARENT.as_bytes()).unwrap();
        let told = TraceContext::of(&message).unwrap();
        assert_eq!((told.trace, told.sampled), (parent.trace, true));
        assert_ne!(told.span, parent.span);
        assert!(spans.try_recv().is_err(), "it is not acknowledged yet");
        pending.event(
            None,
            &BusEvent::Accepted(AckToken(1), headgate_model::bus::Outcome::Matched),
            &who,
        );
        let received = spans.try_recv().unwrap();
        assert_eq!((received.context, received.parent), (told, Some(parent.span)));
        assert_eq!(
            (received.outcome, received.client.as_str()),
            (SpanOutcome::Acknowledged, "c")
        );
        // Two receivers may have one, a third not.
        for _ in 0..3 {
            pending.event(None, &delivery(&message), &who);
        }
        for _ in 0..2 {
            let delivered = spans.try_recv().unwrap();
            assert_eq!(delivered.kind, SpanKind::Deliver);
            assert_eq!(
                (delivered.context.trace, delivered.parent),
                (parent.trace, Some(told.span))
            );
        }
        assert!(spans.try_recv().is_err());
    }

    /// W3C Trace Context §3.2.2.5: who says that it does not record is not recorded. Without a word, chance decides.
    #[test]
    fn what_is_recorded_is_decided_once() {
        let (never, _spans, _) = sink(0.0, 10);
        let (always, _more, _) = sink(1.0, 10);
        let off = PARENT.replace("-01", "-00");
        for sink in [&never, &always] {
            let mut pending = PendingSpans::new(Arc::clone(sink));
            let message = publish(&mut pending, message(Some(&off)), 1);
            assert_eq!(TraceContext::of(&message).unwrap().to_text(), off);
        }
        let told = |sink: &Arc<SpanSink>| {
            let mut pending = PendingSpans::new(Arc::clone(sink));
            TraceContext::of(&publish(&mut pending, message(None), 1))
        };
        assert_eq!(told(&never), None);
        let (one, two) = (told(&always).unwrap(), told(&always).unwrap());
        assert_ne!(one.trace, two.trace);
        let (some, _spans, _) = sink(0.25, 10_000);
        let sampled = (0..4_000).filter(|_| told(&some).is_some()).count();
        assert!((800..1_200).contains(&sampled), "{sampled}");
    }

    /// Whatever has no room is counted: in the queue, and among what waits for an answer.
    #[test]
    fn everything_has_a_bound() {
        let (sink, mut spans, dropped) = sink(1.0, 300);
        let mut pending = PendingSpans::new(sink);
        for ack in 0..MOST_PENDING + 10 {
            publish(&mut pending, message(None), ack as u32);
        }
        assert_eq!(pending.received.len(), MOST_PENDING);
        let handed = std::iter::from_fn(|| spans.try_recv().ok()).count();
        assert_eq!(handed, 10);
        drop(pending);
        let unanswered = std::iter::from_fn(|| spans.try_recv().ok());
        assert_eq!(
            unanswered
                .filter(|span| span.outcome == SpanOutcome::Unanswered)
                .count(),
            MOST_PENDING
        );
        drop(spans);
        assert_eq!(dropped.load(Ordering::Relaxed), 0);
    }
}
