//! Sends spans to a collector: OTLP over HTTP in JSON ([OpenTelemetry Protocol](https://opentelemetry.io/docs/specs/otlp/), "JSON Protobuf Encoding"), beside everything else that the gateway does.
//!
//! Always true: what waits has a bound, in the queue (`telemetry.max_queued`) and here ([`BATCH`]); what has no room is dropped and counted, and a collector that is slow or
//! away holds nobody up.

use crate::config::{Config, OtlpEndpoint};
use bytes::Bytes;
use headgate_model::traceparent::hex;
use headgate_shell::{Span, SpanKind, SpanOutcome, Tracer};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

/// Spans that are sent at once.
const BATCH: usize = 512;
/// How long the first of a batch waits for others.
const GATHER: Duration = Duration::from_secs(1);
/// How long a collector may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often the same spans are sent while the collector does not take them, and the pause before the second time; each further one is twice as long.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);
/// Bytes of an answer that are read.
const LONGEST_ANSWER: usize = 64 << 10;

/// What became of spans.
#[derive(Debug, Default)]
pub(crate) struct SpanCounts {
    sent: AtomicU64,
    failed: AtomicU64,
}

impl SpanCounts {
    /// Those that a collector took.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Those that no collector took.
    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}

/// Sends spans as long as the gateway runs.
pub(crate) struct Telemetry {
    /// Where they come from.
    pub tracer: Tracer,
    /// As of now.
    pub config: watch::Receiver<Arc<Config>>,
    /// What becomes of them.
    pub counts: Arc<SpanCounts>,
}

/// Why a collector did not take spans.
#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error("no connection: {0}")]
    Connect(#[from] std::io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("it took longer than {PATIENCE:?}")]
    Timeout,
    #[error("it answered {0}")]
    Status(StatusCode),
}

impl SendError {
    /// Whether it may be better later. OTLP, "Retryable Response Codes"
    fn passes(&self) -> bool {
        match self {
            Self::Status(status) => matches!(status.as_u16(), 429 | 502 | 503 | 504),
            Self::Connect(_) | Self::Http(_) | Self::Timeout => true,
        }
    }
}

impl Telemetry {
    /// For ever. Other settings, and another name of the gateway, hold from the next span on.
    pub(crate) async fn run(mut self) {
        loop {
            let config = Arc::clone(&self.config.borrow_and_update());
            let settings = &config.telemetry;
            let changed = async |receiver: &mut watch::Receiver<Arc<Config>>| {
                let same = |new: &Arc<Config>| new.telemetry == *settings && new.node == config.node;
                receiver.wait_for(|new| !same(new)).await.map(drop)
            };
            let Some(endpoint) = settings.endpoint() else {
                self.tracer.set_spans(None);
                if changed(&mut self.config).await.is_err() {
                    return;
                }
                continue;
            };
            let (out, mut spans) = mpsc::channel(settings.max_queued);
            self.tracer.set_spans(Some((settings.spans(), out)));
            let mut exporter = Exporter {
                endpoint,
                node: &config.node,
                counts: &self.counts,
                batch: Vec::new(),
                fails: false,
            };
            let gone = tokio::select! {
                () = exporter.export(&mut spans) => false,
                gone = changed(&mut self.config) => gone.is_err(),
            };
            exporter.give_up(exporter.batch.len() + spans.len());
            if gone {
                return;
            }
        }
    }
}

/// Sends to one collector.
struct Exporter<'a> {
    endpoint: OtlpEndpoint,
    node: &'a str,
    counts: &'a SpanCounts,
    /// What is sent next, or under way.
    batch: Vec<Span>,
    /// It did not take the last ones.
    fails: bool,
}

impl Exporter<'_> {
    /// Until there are no more.
    async fn export(&mut self, spans: &mut mpsc::Receiver<Span>) {
        while let Some(first) = spans.recv().await {
            let batch = &mut self.batch;
            batch.push(first);
            let gathering = async {
                while batch.len() < BATCH {
                    let room = BATCH - batch.len();
                    if spans.recv_many(batch, room).await == 0 {
                        break;
                    }
                }
            };
            let _ = timeout(GATHER, gathering).await;
            let body = Bytes::from(request(self.node, &self.batch).to_string());
            match self.send(body).await {
                true => drop(
                    self.counts
                        .sent
                        .fetch_add(self.batch.len() as u64, Ordering::Relaxed),
                ),
                false => self.give_up(self.batch.len()),
            }
            self.batch.clear();
        }
    }

    /// So many will not be sent.
    fn give_up(&self, spans: usize) {
        self.counts.failed.fetch_add(spans as u64, Ordering::Relaxed);
    }

    /// Whether the collector took it.
    async fn send(&mut self, body: Bytes) -> bool {
        let mut pause = PAUSE;
        for last in (0..TRIES).map(|n| n + 1 == TRIES) {
            let sent = timeout(PATIENCE, post(&self.endpoint, body.clone())).await;
            let error = match sent.unwrap_or(Err(SendError::Timeout)) {
                Ok(()) => {
                    if std::mem::take(&mut self.fails) {
                        tracing::info!(collector = self.endpoint.authority, "spans are taken again");
                    }
                    return true;
                }
                Err(error) => error,
            };
            if !std::mem::replace(&mut self.fails, true) {
                tracing::warn!(collector = self.endpoint.authority, %error, "spans are not taken; what has no room is dropped");
            }
            if last || !error.passes() {
                return false;
            }
            sleep(pause).await;
            pause *= 2;
        }
        false
    }
}

/// One request on a connection of its own: there is one a second at most while little is going on.
async fn post(endpoint: &OtlpEndpoint, body: Bytes) -> Result<(), SendError> {
    let stream = TcpStream::connect(&endpoint.authority).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::post(&endpoint.path)
        .header("host", &endpoint.authority)
        .header("content-type", "application/json")
        .header("connection", "close")
        .body(Full::new(body))
        .expect("the endpoint was looked at with the configuration");
    // With it the connection loses who could ask more, and ends.
    let exchange = async move {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        // What it says more is not looked at.
        let _ = Limited::new(answer.into_body(), LONGEST_ANSWER).collect().await;
        match status.is_success() {
            true => Ok(()),
            false => Err(SendError::Status(status)),
        }
    };
    // The connection may be done before the answer is looked at; when it breaks, the exchange says so.
    let (answered, _) = tokio::join!(exchange, connection);
    answered
}

/// An `ExportTraceServiceRequest`.
fn request(node: &str, spans: &[Span]) -> Value {
    let resource = [
        ("service.name", json!({ "stringValue": "headgate" })),
        ("service.instance.id", json!({ "stringValue": node })),
        (
            "service.version",
            json!({ "stringValue": env!("CARGO_PKG_VERSION") }),
        ),
    ];
    let spans: Vec<Value> = spans.iter().map(span).collect();
    json!({ "resourceSpans": [{
        "resource": { "attributes": attributes(resource) },
        "scopeSpans": [{ "scope": { "name": "headgate" }, "spans": spans }],
    }] })
}

/// Ids are hexadecimal here, numbers of 64 bits are text, and enumerations are numbers.
fn span(span: &Span) -> Value {
    let (name, kind, operation) = match span.kind {
        // SPAN_KIND_CONSUMER and SPAN_KIND_PRODUCER, and the operations of the semantic conventions for messaging.
        SpanKind::Receive => ("receive", 5, "receive"),
        SpanKind::Deliver => ("deliver", 4, "send"),
    };
    let (outcome, refusal) = match &span.outcome {
        SpanOutcome::Handed => ("handed", None),
        SpanOutcome::Acknowledged => ("acknowledged", None),
        SpanOutcome::Refused(why) => ("refused", Some(why.as_str())),
        SpanOutcome::Unanswered => ("unanswered", None),
    };
    let text = |text: &str| json!({ "stringValue": text });
    let number = |n: usize| json!({ "intValue": n.to_string() });
    let mut told = json!({
        "traceId": hex(&span.context.trace),
        "spanId": hex(&span.context.span),
        "traceState": span.state,
        "name": name,
        "kind": kind,
        "startTimeUnixNano": nanoseconds(span.start),
        "endTimeUnixNano": nanoseconds(span.end.max(span.start)),
        "attributes": attributes([
            ("messaging.system", text("headgate")),
            ("messaging.operation.type", text(operation)),
            ("messaging.destination.name", text(&span.topic)),
            ("messaging.client.id", text(&span.client)),
            ("messaging.message.body.size", number(span.bytes)),
            ("headgate.listener", text(&span.listener)),
            ("headgate.qos", number(span.qos as usize)),
            ("headgate.outcome", text(outcome)),
        ]),
    });
    if let Some(parent) = &span.parent {
        told["parentSpanId"] = hex(parent).into();
    }
    if let Some(why) = refusal {
        // STATUS_CODE_ERROR
        told["status"] = json!({ "code": 2, "message": why });
    }
    told
}

fn attributes<const N: usize>(pairs: [(&str, Value); N]) -> Vec<Value> {
    let pairs = pairs.into_iter();
    pairs
        .map(|(key, value)| json!({ "key": key, "value": value }))
        .collect()
}

fn nanoseconds(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_nanos().to_string()
}
