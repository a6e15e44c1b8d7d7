//! What the gateway was like in the last day and the last thirty, without a database: a value a minute, and one each half hour.
//!
//! Always true: it takes [`FILE_BYTES`] on the disk at most and twice as many in memory, whatever happens. It is written down once an hour and at the end: a
//! power cut forgets an hour at most, and flash memory bears it for decades.

use crate::keeps::Keeps;
use crate::metrics::{Counters, Snapshot};
use crate::private;
use crate::sys::unix_time;
use headgate_auth::data_dir::{DataDir, DataPath};
use headgate_model::Metric;
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// What is kept, in the order of the file.
pub(crate) const SERIES: [&str; 14] = [
    "clients",
    "sessions",
    "messages_received",
    "messages_sent",
    "bytes_received",
    "bytes_sent",
    "messages_dropped",
    "queued",
    "bridge_queued",
    "store_bytes",
    "store_written",
    "memory_bytes",
    "disk_free_bytes",
    "temperature",
];
/// Which of these are rates a second, of counters that only grow.
const RATES: [&str; 6] = [
    "messages_received",
    "messages_sent",
    "bytes_received",
    "bytes_sent",
    "messages_dropped",
    "store_written",
];
/// Points of each span.
const POINTS: usize = 1_440;
/// How often the file is written.
const WRITE_EVERY: u64 = 3_600;
/// What the file begins with.
const MARK: &[u8; 8] = b"hgtrend1";
/// Bytes of the file at most.
pub(crate) const FILE_BYTES: usize = MARK.len() + 2 * (16 + POINTS * SERIES.len() * 4);

/// How much of the past is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) enum Span {
    /// A day, a point a minute.
    #[default]
    #[serde(rename = "24h")]
    Day,
    /// Thirty days, a point each half hour.
    #[serde(rename = "30d")]
    Month,
}

impl Span {
    /// Seconds from point to point.
    fn step(self) -> u64 {
        match self {
            Self::Day => 60,
            Self::Month => 1_800,
        }
    }
}

/// Values at one moment, in the order of [`SERIES`]; NaN where nothing is known.
type Point = [f32; SERIES.len()];

/// Points of one span, the oldest first, one for each step.
#[derive(Clone, Debug, Default, PartialEq)]
struct Ring {
    points: VecDeque<Point>,
    /// When the last of them is over: seconds since 1970, a multiple of the step.
    until: u64,
}

impl Ring {
    /// Puts a point in its place. Steps of which nothing is known are empty; a clock that went back begins anew.
    fn push(&mut self, point: Point, now: u64, step: u64) {
        let at = now / step * step;
        if at < self.until || self.points.is_empty() {
            self.points.clear();
        } else {
            let missed = (at - self.until) / step;
            let missed = usize::try_from(missed)
                .unwrap_or(POINTS)
                .saturating_sub(1)
                .min(POINTS);
            self.points
                .extend(std::iter::repeat_n([f32::NAN; SERIES.len()], missed));
        }
        self.until = at;
        self.points.push_back(point);
        let surplus = self.points.len().saturating_sub(POINTS);
        self.points.drain(..surplus);
    }

    fn write(&self, into: &mut Vec<u8>) {
        into.extend(self.until.to_le_bytes());
        into.extend((self.points.len() as u64).to_le_bytes());
        for value in self.points.iter().flatten() {
            into.extend(value.to_le_bytes());
        }
    }

    /// The ring, and what follows it.
    fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (until, rest) = bytes.split_first_chunk::<8>()?;
        let (count, rest) = rest.split_first_chunk::<8>()?;
        let count = usize::try_from(u64::from_le_bytes(*count))
            .ok()
            .filter(|count| *count <= POINTS)?;
        let (values, rest) = rest.split_at_checked(count * SERIES.len() * 4)?;
        let points = values.chunks_exact(SERIES.len() * 4).map(|point| {
            let mut values = point
                .chunks_exact(4)
                .map(|value| f32::from_le_bytes(value.try_into().expect("four")));
            std::array::from_fn(|_| values.next().unwrap_or(f32::NAN))
        });
        let ring = Self {
            points: points.collect(),
            until: u64::from_le_bytes(*until),
        };
        Some((ring, rest))
    }
}

/// What is kept. Clones share it.
#[derive(Clone)]
pub(crate) struct Trends(Arc<Inner>);

struct Inner {
    counters: Counters,
    file: DataPath,
    keeps: Keeps,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    day: Ring,
    month: Ring,
    /// Points of the half hour that is under way.
    gathered: Vec<Point>,
    /// Counters as they were, and when, by the bus's clock in milliseconds.
    before: Option<(BTreeMap<&'static str, f64>, u64)>,
    written: u64,
}

/// Values of some series.
#[derive(Serialize, JsonSchema)]
pub(crate) struct TrendView {
    /// Seconds from value to value.
    pub step_seconds: u64,
    /// When the first value was so, in seconds since 1970.
    pub from: u64,
    /// A value for each step, the oldest first; `null` where nothing is known.
    pub series: BTreeMap<&'static str, Vec<Option<f32>>>,
}

impl Trends {
    /// What `folder` keeps goes on.
    pub(crate) fn start(counters: Counters, folder: &DataDir, keeps: Keeps) -> Self {
        let file = folder.join("history");
        let known = Some(file.now())
            .filter(|_| keeps.now())
            .and_then(|file| private::read(&file, private::LONGEST).ok());
        let mut state = State {
            written: unix_time(),
            ..State::default()
        };
        if let Some((day, month)) = known.as_deref().and_then(parse) {
            (state.day, state.month) = (day, month);
        }
        Self(Arc::new(Inner {
            counters,
            file,
            keeps,
            state: Mutex::new(state),
        }))
    }

    /// Takes a point a minute, for ever.
    pub(crate) async fn keep(self) {
        let mut minute = interval(Duration::from_secs(Span::Day.step()));
        minute.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            minute.tick().await;
            let snapshot = self.0.counters.snapshot();
            let now = unix_time();
            let is_due = self.take(&snapshot, now);
            if is_due {
                let trends = self.clone();
                let saved = tokio::task::spawn_blocking(move || trends.save()).await;
                if let Ok(Err(error)) = saved {
                    tracing::warn!(%error, "what the gateway was like cannot be written down");
                }
            }
        }
    }

    /// Whether it is time to write.
    fn take(&self, snapshot: &Snapshot, now: u64) -> bool {
        let mut state = self.0.state.lock();
        let State {
            day,
            month,
            gathered,
            before,
            written,
        } = &mut *state;
        let values = values(snapshot);
        let at = snapshot.now.0;
        let point = point(&values, at, before.as_ref());
        *before = Some((values, at));
        let Some(point) = point else { return false };
        day.push(point, now, Span::Day.step());
        let step = Span::Month.step();
        // A half hour is over with the first minute of the next.
        if now / step * step > month.until && !gathered.is_empty() {
            month.push(mean(gathered), now, step);
            gathered.clear();
        }
        if month.until == 0 {
            month.until = now / step * step;
        }
        gathered.push(point);
        gathered.truncate(POINTS);
        let is_due = now.abs_diff(*written) >= WRITE_EVERY;
        if is_due {
            *written = now;
        }
        is_due
    }

    /// Writes it down, where it is kept.
    pub(crate) fn save(&self) -> std::io::Result<()> {
        if !self.0.keeps.now() {
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(FILE_BYTES);
        bytes.extend(MARK);
        let state = self.0.state.lock();
        state.day.write(&mut bytes);
        state.month.write(&mut bytes);
        drop(state);
        private::replace(&self.0.file.now(), &bytes)
    }

    /// Some series; all, if none is named.
    pub(crate) fn view(&self, span: Span, wanted: &[&str]) -> TrendView {
        let state = self.0.state.lock();
        let ring = match span {
            Span::Day => &state.day,
            Span::Month => &state.month,
        };
        let step = span.step();
        let of = |n: usize| {
            ring.points
                .iter()
                .map(move |point| Some(point[n]).filter(|value| value.is_finite()))
        };
        let series = SERIES.iter().enumerate();
        let series = series.filter(|(_, name)| wanted.is_empty() || wanted.contains(name));
        let before = (ring.points.len() as u64).saturating_sub(1) * step;
        TrendView {
            step_seconds: step,
            from: ring.until.saturating_sub(before),
            series: series.map(|(n, name)| (*name, of(n).collect())).collect(),
        }
    }

    /// The rates of the last minute, by their names.
    pub(crate) fn rates(&self) -> BTreeMap<&'static str, Option<f32>> {
        let state = self.0.state.lock();
        let last = state.day.points.back();
        let series = SERIES.iter().enumerate();
        let rates = series.filter(|(_, name)| RATES.contains(name));
        rates
            .map(|(n, name)| {
                (
                    *name,
                    last.map(|point| point[n]).filter(|value| value.is_finite()),
                )
            })
            .collect()
    }
}

fn parse(bytes: &[u8]) -> Option<(Ring, Ring)> {
    let rest = bytes.strip_prefix(MARK)?;
    let (day, rest) = Ring::read(rest)?;
    let (month, rest) = Ring::read(rest)?;
    rest.is_empty().then_some((day, month))
}

/// What is so now; counters as they are.
fn values(snapshot: &Snapshot) -> BTreeMap<&'static str, f64> {
    let (received, sent) = snapshot.messages();
    let bridges = snapshot.bridges.iter();
    let hottest = snapshot
        .machine
        .temperatures
        .iter()
        .map(|(_, degrees)| *degrees)
        .reduce(f64::max);
    let values = [
        ("clients", Some(snapshot.bus.clients as f64)),
        ("sessions", Some(snapshot.bus.sessions as f64)),
        ("messages_received", Some(received as f64)),
        ("messages_sent", Some(sent as f64)),
        (
            "bytes_received",
            Some(snapshot.total(Metric::BytesReceived) as f64),
        ),
        ("bytes_sent", Some(snapshot.total(Metric::BytesSent) as f64)),
        (
            "messages_dropped",
            Some(snapshot.bus.dropped.iter().sum::<u64>() as f64),
        ),
        ("queued", Some(snapshot.bus.queued as f64)),
        (
            "bridge_queued",
            Some(bridges.map(|bridge| bridge.queue.messages).sum::<u64>() as f64),
        ),
        ("store_bytes", Some(snapshot.store.disk_bytes as f64)),
        (
            "store_written",
            Some((snapshot.store.journal_bytes + snapshot.store.checkpoint_bytes) as f64),
        ),
        (
            "memory_bytes",
            snapshot.process.resident.map(|bytes| bytes as f64),
        ),
        ("disk_free_bytes", snapshot.disk.map(|(free, _)| free as f64)),
        ("temperature", hottest),
    ];
    values
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

/// A point of what is so; the first look at counters says no rates, and is none.
fn point(
    now: &BTreeMap<&'static str, f64>,
    at: u64,
    before: Option<&(BTreeMap<&'static str, f64>, u64)>,
) -> Option<Point> {
    let (before, then) = before?;
    let seconds = at.checked_sub(*then).filter(|passed| *passed > 0)? as f64 / 1_000.0;
    let value = |name: &&'static str| {
        let now = *now.get(name)?;
        match RATES.contains(name) {
            true => Some((now - before.get(name)?).max(0.0) / seconds),
            false => Some(now),
        }
    };
    Some(
        SERIES
            .each_ref()
            .map(|name| value(name).map_or(f32::NAN, |value| value as f32)),
    )
}

fn mean(points: &[Point]) -> Point {
    std::array::from_fn(|n| {
        let known = points
            .iter()
            .map(|point| point[n])
            .filter(|value| value.is_finite());
        let (sum, count) = known.fold((0.0, 0u32), |(sum, count), value| {
            (sum + f64::from(value), count + 1)
        });
        if count == 0 {
            f32::NAN
        } else {
            (sum / f64::from(count)) as f32
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(value: f32) -> Point {
        [value; SERIES.len()]
    }

    #[test]
    fn steps_of_which_nothing_is_known_are_empty() {
        let mut ring = Ring::default();
        ring.push(at(1.0), 600, 60);
        ring.push(at(2.0), 661, 60);
        ring.push(at(3.0), 60 * 14 + 59, 60);
        let shown: Vec<f32> = ring.points.iter().map(|point| point[0]).collect();
        assert_eq!((shown[0], shown[1], shown[4]), (1.0, 2.0, 3.0));
        assert!(shown[2].is_nan() && shown[3].is_nan() && shown.len() == 5);
        assert_eq!(ring.until, 60 * 14);
        // A day without power.
        ring.push(at(4.0), 60 * 14 + 3 * 86_400, 60);
        assert_eq!(ring.points.len(), POINTS);
        assert_eq!(ring.points.back().unwrap()[0], 4.0);
        // A clock that goes back.
        ring.push(at(5.0), 60, 60);
        assert_eq!((ring.points.len(), ring.until), (1, 60));
    }

    #[test]
    fn the_file_has_a_bound_and_is_read_as_it_was_written() {
        let (mut day, mut month) = (Ring::default(), Ring::default());
        for n in 0..5_000 {
            day.push(at(n as f32), n * 60, 60);
            month.push(at(n as f32), n * 1_800, 1_800);
        }
        let mut bytes = MARK.to_vec();
        day.write(&mut bytes);
        month.write(&mut bytes);
        assert_eq!(bytes.len(), FILE_BYTES);
        assert_eq!(parse(&bytes), Some((day, month)));
        for end in [0, 7, 8, 20, bytes.len() - 1] {
            assert_eq!(parse(&bytes[..end]), None, "{end}");
        }
        let mut huge = MARK.to_vec();
        huge.extend([0xff; 16]);
        assert_eq!(parse(&huge), None);
    }

    #[test]
    fn counters_become_rates() {
        let now = BTreeMap::from([("clients", 7.0), ("messages_sent", 160.0)]);
        let before = (
            BTreeMap::from([("clients", 5.0), ("messages_sent", 100.0)]),
            1_000,
        );
        assert!(point(&now, 1_000, Some(&before)).is_none() && point(&now, 1_000, None).is_none());
        let point = point(&now, 31_000, Some(&before)).unwrap();
        assert_eq!((point[0], point[3]), (7.0, 2.0));
        assert!(point[13].is_nan());
        let mean = mean(&[at(1.0), at(f32::NAN), at(3.0)]);
        assert_eq!(mean[0], 2.0);
    }
}
