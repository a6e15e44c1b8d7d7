//! How fast a bridge's queue grows and shrinks, from samples of its ledger.

use headgate_bus::LinkReport;
use headgate_model::Instant;
use std::collections::VecDeque;

/// Samples that are kept: with one in ten seconds, those of ten minutes.
const SAMPLES: usize = 60;

/// The last samples, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Rates(VecDeque<Sample>);

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    routed: u64,
    left: u64,
    bytes: u64,
    queued: u64,
}

impl Rates {
    /// Takes a sample.
    pub(crate) fn sample(&mut self, at: Instant, report: &LinkReport) {
        if self.0.len() == SAMPLES {
            self.0.pop_front();
        }
        self.0.push_back(Sample {
            at,
            routed: report.routed,
            left: report.done + report.rejected + report.dropped.iter().sum::<u64>(),
            bytes: report.queued_bytes as u64,
            queued: report.queued,
        });
    }

    /// Messages that come and messages that leave in a second, over the last minutes; `None` before the second sample.
    pub(crate) fn per_second(&self) -> Option<(f64, f64)> {
        let (first, last) = (self.0.front()?, self.0.back()?);
        let seconds = last.at.since(first.at).as_secs_f64();
        let rate = |from: u64, to: u64| to.saturating_sub(from) as f64 / seconds;
        (seconds > 0.0).then(|| (rate(first.routed, last.routed), rate(first.left, last.left)))
    }

    /// Hours until a queue of so many messages and bytes, `0` for no limit, is full, if messages go on to come as they do and none leaves. `None` when none
    /// comes or nothing limits it.
    pub(crate) fn capacity_hours(
        &self,
        report: &LinkReport,
        max_messages: usize,
        max_bytes: usize,
    ) -> Option<f64> {
        let (come, _) = self.per_second().filter(|(come, _)| *come > 0.0)?;
        let unless_none = |limit: usize, taken: u64| match limit {
            0 => f64::INFINITY,
            limit => (limit as u64).saturating_sub(taken) as f64,
        };
        let room = unless_none(max_messages, report.queued);
        // How large they are is known only while some wait.
        let known = self.0.iter().rev().find(|sample| sample.queued > 0);
        let size = known.map(|sample| sample.bytes as f64 / sample.queued as f64);
        let room_bytes = unless_none(max_bytes, report.queued_bytes as u64);
        let room = size.map_or(room, |size| room.min(room_bytes / size.max(1.0)));
        room.is_finite().then_some(room / come / 3_600.0)
    }

    /// Seconds until the queue is empty, as it shrinks now. `None` when it does not.
    pub(crate) fn drain_seconds(&self, report: &LinkReport) -> Option<f64> {
        let (come, leave) = self.per_second()?;
        (report.queued > 0 && leave > come).then(|| report.queued as f64 / (leave - come))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(routed: u64, done: u64, queued: u64) -> LinkReport {
        LinkReport {
            routed,
            done,
            queued,
            queued_bytes: queued as usize * 200,
            ..LinkReport::default()
        }
    }

    #[test]
    fn capacity_and_drain_follow_the_present_rate() {
        let mut rates = Rates::default();
        let empty = report(0, 0, 0);
        assert_eq!(
            (rates.per_second(), rates.capacity_hours(&empty, 10, 10)),
            (None, None)
        );
        rates.sample(Instant(0), &empty);
        assert_eq!(rates.per_second(), None);
        // 100 a second come, none leaves.
        let down = report(1_000, 0, 1_000);
        rates.sample(Instant(10_000), &down);
        assert_eq!(rates.per_second(), Some((100.0, 0.0)));
        assert_eq!(rates.drain_seconds(&down), None);
        let hours = rates.capacity_hours(&down, 361_000, usize::MAX).unwrap();
        assert!((hours - 1.0).abs() < 1e-9, "{hours}");
        let by_bytes = rates.capacity_hours(&down, usize::MAX, 200 * 181_000).unwrap();
        assert!((by_bytes - 0.5).abs() < 1e-9, "{by_bytes}");
        assert_eq!(rates.capacity_hours(&down, 361_000, 0), Some(hours));
        assert_eq!(rates.capacity_hours(&down, 0, 0), None);

        let mut rates = Rates::default();
        rates.sample(Instant(0), &down);
        let draining = report(1_100, 600, 500);
        rates.sample(Instant(1_000), &draining);
        assert_eq!(rates.drain_seconds(&draining), Some(1.0));
    }
}
