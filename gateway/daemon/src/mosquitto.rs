//! mosquitto's tree under `$SYS/broker/`, for the dashboards and exporters that read it.

use crate::metrics::Snapshot;
use headgate_model::{Instant, Metric};

/// What mosquitto computes from one time to the next.
#[derive(Debug, Default)]
pub(crate) struct Mosquitto {
    loads: [Load; LOADS.len()],
    last: Option<Instant>,
}

/// A counter's moving averages per minute, over 1, 5 and 15 minutes.
#[derive(Clone, Copy, Debug, Default)]
struct Load {
    total: u64,
    averages: [f64; 3],
}

/// mosquitto's names under `load/`.
const LOADS: [&str; 9] = [
    "messages/received",
    "messages/sent",
    "publish/received",
    "publish/sent",
    "publish/dropped",
    "bytes/received",
    "bytes/sent",
    "connections",
    "sockets",
];

impl Mosquitto {
    /// Names and values now.
    pub(crate) fn tree(&mut self, snapshot: &Snapshot) -> Vec<(String, String)> {
        let (stats, now) = (&snapshot.bus, snapshot.now);
        let (received, sent) = snapshot.messages();
        let dropped: u64 = stats.dropped.iter().sum();
        let [packets_in, packets_out, bytes_in, bytes_out] = [
            Metric::PacketsReceived,
            Metric::PacketsSent,
            Metric::BytesReceived,
            Metric::BytesSent,
        ]
        .map(|metric| snapshot.total(metric));
        let connects = snapshot.named("packets/connect");
        let offline = stats.sessions.saturating_sub(stats.clients);
        let mut tree: Vec<(String, String)> = [
            ("clients/connected", stats.clients as u64),
            ("clients/disconnected", offline as u64),
            ("clients/expired", stats.expired_sessions),
            ("clients/maximum", snapshot.peaks.clients as u64),
            ("clients/total", stats.sessions as u64),
            ("bytes/received", bytes_in),
            ("bytes/sent", bytes_out),
            ("messages/received", packets_in),
            ("messages/sent", packets_out),
            ("messages/inflight", stats.inflight as u64),
            ("publish/messages/received", received),
            ("publish/messages/sent", sent),
            ("publish/messages/dropped", dropped),
            ("retained messages/count", stats.retained as u64),
            ("store/messages/count", (stats.queued + stats.retained) as u64),
            ("store/messages/bytes", stats.queued_bytes as u64),
            ("subscriptions/count", stats.subscriptions as u64),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_string()))
        .collect();
        tree.push(("uptime".into(), format!("{} seconds", now.0 / 1_000)));
        tree.push((
            "version".into(),
            format!("headgate version {}", env!("CARGO_PKG_VERSION")),
        ));
        let totals = [
            packets_in,
            packets_out,
            received,
            sent,
            dropped,
            bytes_in,
            bytes_out,
            connects,
            connects,
        ];
        let seconds = self.last.map_or(0.0, |last| now.since(last).as_secs_f64());
        self.last = Some(now);
        for ((name, load), total) in LOADS.iter().zip(&mut self.loads).zip(totals) {
            load.advance(total, seconds);
            for (average, minutes) in load.averages.iter().zip([1, 5, 15]) {
                tree.push((format!("load/{name}/{minutes}min"), format!("{average:.2}")));
            }
        }
        tree
    }
}

impl Load {
    /// mosquitto's `sys_tree.c`: an exponentially weighted moving average of the rate per minute.
    fn advance(&mut self, total: u64, seconds: f64) {
        if seconds > 0.0 {
            let per_minute = (total - self.total) as f64 * 60.0 / seconds;
            for (average, minutes) in self.averages.iter_mut().zip([1.0, 5.0, 15.0]) {
                let kept = (-seconds / (60.0 * minutes)).exp();
                *average = per_minute + kept * (*average - per_minute);
            }
        }
        self.total = total;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_rate_is_the_load_in_the_end() {
        let mut load = Load::default();
        for minute in 0..200 {
            load.advance(minute * 600, if minute == 0 { 0.0 } else { 60.0 });
        }
        for average in load.averages {
            assert!((average - 600.0).abs() < 1.0, "{average}");
        }
        // One quiet minute: the average over one minute falls to 1/e, the slower ones fall less.
        load.advance(199 * 600, 60.0);
        let [one, five, fifteen] = load.averages;
        assert!((one - 600.0 / std::f64::consts::E).abs() < 1.0, "{one}");
        assert!(one < five && five < fifteen);
    }
}
