//! What these APIs tell of the gateway: the same under other names. And how a query and a path are read.

use crate::api::server::{Control, Failure};
use crate::metrics::{Machine, Process, Snapshot};
use crate::sys::{unix_time, uptime_words};
use axum::http::StatusCode;
use headgate_bus::{ClientInfo, ClientState, DropReason, SubscriptionCursor, SubscriptionInfo};
use headgate_model::{
    Admitted, Instant, MountPoint, Subscription, SubscriptionOptions, TopicError, TopicFilter,
};
use percent_encoding::percent_decode;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use tokio::sync::Semaphore;

use super::pages::{Found, Span, walk};

/// What the gateway is, where a broker says what it is.
pub(super) const DESCRIPTION: &str = "Headgate IoT gateway";
/// Of the gateway.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Filters that are listed at all: a page behind them is empty.
pub(super) const MAX_FILTERS: usize = 100_000;
/// Lists of filters that are made at a time: each holds what it has found.
static LISTS_OF_FILTERS: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(2));

/// Names and values of a form, or of a query. WHATWG URL §5.1
pub(super) fn pairs(text: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let decoded = |part: &[u8]| {
        let spaced: Vec<u8> = part
            .iter()
            .map(|byte| if *byte == b'+' { b' ' } else { *byte })
            .collect();
        percent_decode(&spaced).collect::<Vec<u8>>()
    };
    let parts = text.split(|byte| *byte == b'&').filter(|part| !part.is_empty());
    let pair = |part: &[u8]| {
        let mut sides = part.splitn(2, |byte| *byte == b'=');
        let name = decoded(sides.next().unwrap_or_default());
        (name, decoded(sides.next().unwrap_or_default()))
    };
    parts.map(pair).collect()
}

/// A part of a path; `None` if it is no text.
pub(super) fn decoded(part: &str) -> Option<String> {
    percent_decode(part.as_bytes())
        .decode_utf8()
        .ok()
        .map(|text| text.into_owned())
}

/// A subscription on behalf of a client, as it is on the bus.
pub(super) fn subscription(
    filter: &str,
    options: SubscriptionOptions,
) -> Result<Admitted<Subscription>, TopicError> {
    let filter = filter.to_owned().into();
    let subscription = Subscription::parse(&filter, options, &MountPoint::default())?;
    Ok(Admitted::of_gateway(subscription))
}

/// Whether a connection has the client's session.
pub(super) fn is_connected(info: &ClientInfo) -> bool {
    !matches!(info.state, ClientState::Away | ClientState::Asleep)
}

/// Seconds since 1970 at which a client connected.
pub(super) fn connected_at(control: &Control, info: &ClientInfo) -> Option<u64> {
    Some(unix_seconds(control, info.connected?))
}

/// Seconds since 1970 at which a client left that is not connected.
pub(super) fn disconnected_at(control: &Control, info: &ClientInfo) -> Option<u64> {
    Some(unix_seconds(control, info.left?))
}

fn unix_seconds(control: &Control, at: Instant) -> u64 {
    let ago = control.hub.clock().now().since(at);
    unix_time().saturating_sub(ago.as_secs())
}

/// How MQTT calls what a client speaks.
pub(super) fn protocol_name(info: &ClientInfo) -> &'static str {
    match (info.presence.protocol.name, info.presence.version) {
        ("mqtt", 3) => "MQIsdp",
        ("mqtt", _) => "MQTT",
        (other, _) => other,
    }
}

/// For how long the gateway runs, in seconds.
pub(super) fn uptime(control: &Control) -> u64 {
    control.hub.clock().now().0 / 1_000
}

/// The same in EMQ's words.
pub(super) fn uptime_text(control: &Control) -> String {
    uptime_words(uptime(control))
}

/// `123.45M`, as EMQ writes bytes.
pub(super) fn size_text(bytes: u64) -> String {
    let unit = |shift: u32, letter: &str| format!("{:.2}{letter}", bytes as f64 / f64::from(1u32 << shift));
    match bytes {
        0..=1_024 => bytes.to_string(),
        1_025..=1_048_576 => unit(10, "K"),
        1_048_577..=1_073_741_824 => unit(20, "M"),
        _ => unit(30, "G"),
    }
}

/// What the machine and the process are asked for.
pub(super) struct Host {
    /// Tasks that ran or wanted to, over 1, 5 and 15 minutes.
    pub loads: [f64; 3],
    /// Bytes of the machine, or of the control group.
    pub memory: Option<u64>,
    pub process: Process,
}

impl Host {
    pub(super) fn now() -> Self {
        let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let mut words = text.split(' ').map(|word| word.parse().unwrap_or_default());
        let machine = Machine::now();
        let mut load = || words.next().unwrap_or_default();
        Self {
            loads: [machine.load.unwrap_or_else(&mut load), load(), load()],
            memory: crate::memory::of_the_machine().map(|bytes| bytes as u64),
            process: Process::now(),
        }
    }
}

/// All that is counted since the start, by EMQ 2's names.
pub(super) fn metrics(snapshot: &Snapshot) -> BTreeMap<String, u64> {
    let counted = snapshot
        .totals
        .iter()
        .map(|(name, total)| ((*name).to_owned(), *total));
    let mut all: BTreeMap<String, u64> = counted.collect();
    let (received, sent) = snapshot.messages();
    let dropped = &snapshot.bus.dropped;
    let more = [
        ("messages/received", received),
        ("messages/sent", sent),
        ("messages/retained", snapshot.bus.retained as u64),
        ("messages/dropped", dropped.iter().sum()),
        ("messages/expired", dropped[DropReason::Expired as usize]),
    ];
    all.extend(more.into_iter().map(|(name, value)| (name.to_owned(), value)));
    all
}

/// The same by the names of EMQX 4 and 5: with dots, and with the direction of each kind of packet.
pub(super) fn dotted_metrics(snapshot: &Snapshot) -> BTreeMap<String, u64> {
    let rename = |name: &str| match name {
        "packets/connect"
        | "packets/subscribe"
        | "packets/unsubscribe"
        | "packets/pingreq"
        | "packets/disconnect" => format!("{name}/received"),
        "packets/connack" | "packets/suback" | "packets/unsuback" | "packets/pingresp" => {
            format!("{name}/sent")
        }
        other => other.to_owned(),
    };
    let all = metrics(snapshot).into_iter();
    all.map(|(name, value)| (rename(&name).replace('/', "."), value))
        .collect()
}

/// What there is now, and the most that there was, by the names of EMQX 4 and 5.
pub(super) fn dotted_stats(snapshot: &Snapshot) -> BTreeMap<String, u64> {
    let (bus, peaks) = (&snapshot.bus, &snapshot.peaks);
    let counts = [
        ("connections", bus.sessions, Some(peaks.sessions)),
        ("live_connections", bus.clients, Some(peaks.clients)),
        ("channels", bus.sessions, Some(peaks.sessions)),
        ("sessions", bus.sessions, Some(peaks.sessions)),
        ("cluster_sessions", bus.sessions, Some(peaks.sessions)),
        ("topics", bus.filters, Some(peaks.filters)),
        ("routes", bus.filters, Some(peaks.filters)),
        ("subscribers", bus.subscriptions, Some(peaks.subscriptions)),
        ("subscriptions", bus.subscriptions, Some(peaks.subscriptions)),
        ("suboptions", bus.subscriptions, Some(peaks.subscriptions)),
        ("retained", bus.retained, Some(peaks.retained)),
        ("delayed", bus.delayed, None),
    ];
    let named = counts.into_iter().flat_map(|(name, count, peak)| {
        let count = (format!("{name}.count"), count as u64);
        [Some(count), peak.map(|peak| (format!("{name}.max"), peak as u64))]
    });
    named.flatten().collect()
}

/// A page of the filters that somebody has subscribed to, in order, each once. It walks through all subscriptions and keeps no more than the page needs.
pub(super) async fn filters(control: &Control, span: Span) -> Result<Found<String>, Failure> {
    let stopped = |_| Failure(StatusCode::SERVICE_UNAVAILABLE, "the gateway stops".into());
    let _one = LISTS_OF_FILTERS.acquire().await.map_err(stopped)?;
    let wanted = span
        .skipped()
        .saturating_add(span.limit)
        .saturating_add(1)
        .min(MAX_FILTERS);
    let mut first: BTreeSet<String> = BTreeSet::new();
    let subscriptions =
        |after: Option<&SubscriptionCursor>, limit| control.hub.all_subscriptions(after, limit);
    let all = Span {
        page: 1,
        limit: usize::MAX - 1,
    };
    walk(all, subscriptions, |row: SubscriptionInfo| {
        let filter = row.subscription.filter.as_str();
        let is_behind = first.len() >= wanted && first.last().is_some_and(|last| filter >= last.as_str());
        if !is_behind && !first.contains(filter) {
            first.insert(filter.to_owned());
            if first.len() > wanted {
                first.pop_last();
            }
        }
        None::<()>
    })
    .await;
    Ok(span.of(first.into_iter().collect()))
}

/// Whether somebody has subscribed to this very filter.
pub(super) fn has_filter(control: &Control, filter: &str) -> bool {
    TopicFilter::try_from(filter).is_ok_and(|filter| control.hub.has_filter(&filter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_may_hold_any_bytes() {
        let pair = |name: &[u8], value: &[u8]| (name.to_vec(), value.to_vec());
        assert_eq!(
            pairs(b"topic=a%2Fb&message=x+y%00%FF%3D=&&empty"),
            [
                pair(b"topic", b"a/b"),
                pair(b"message", b"x y\0\xff=="),
                pair(b"empty", b"")
            ]
        );
    }

    #[test]
    fn sizes_are_written_as_emq_writes_them() {
        assert_eq!(size_text(17), "17");
        assert_eq!(size_text(1_536), "1.50K");
        assert_eq!(size_text(5 << 20), "5.00M");
        assert_eq!(size_text(3 << 30), "3.00G");
    }
}
