//! The volume that a bridge may move in a month.

use super::ledger::Line;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What is left of a month's bytes. Counted by the ledger over restarts; what was moved since its last line is forgotten by a crash.
#[derive(Debug)]
pub(super) struct Budget {
    limit: u64,
    /// When the month began, in seconds since 1970.
    month: u64,
    spent: u64,
    /// Bytes of this run that are in `spent`.
    counted: u64,
}

impl Budget {
    /// `lines` are the ledger's, `counted` the bytes of this run that are in them.
    pub(super) fn new(limit: u64, lines: &[Line], counted: u64, now: u64) -> Self {
        let month = month_of(now);
        let lines = lines.iter().filter(|line| line.at >= month);
        Self {
            limit,
            month,
            spent: lines.map(|line| line.bytes).sum(),
            counted,
        }
    }

    /// Takes the bytes of this run, and says whether all are spent.
    pub(super) fn is_spent(&mut self, bytes: u64, now: u64) -> bool {
        let month = month_of(now);
        if month != self.month {
            (self.month, self.spent) = (month, 0);
        }
        self.spent += bytes.saturating_sub(self.counted);
        self.counted = bytes;
        self.spent >= self.limit
    }
}

/// When the month began in which this second lies; both in seconds since 1970, UTC.
fn month_of(second: u64) -> u64 {
    let time = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(second)).to_string();
    let month = time.get(..7).unwrap_or("1970-01");
    let begin = humantime::parse_rfc3339(&format!("{month}-01T00:00:00Z"));
    let begin = begin.unwrap_or(SystemTime::UNIX_EPOCH);
    begin
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOVEMBER: u64 = 1_793_491_200; // 2026-11-01
    const DECEMBER: u64 = 1_796_083_200;

    #[test]
    fn a_month_begins_with_its_first_second() {
        assert_eq!(month_of(NOVEMBER), NOVEMBER);
        assert_eq!(month_of(DECEMBER - 1), NOVEMBER);
        assert_eq!(month_of(DECEMBER), DECEMBER);
    }

    #[test]
    fn what_earlier_runs_moved_counts_until_the_month_ends() {
        let line = |at, bytes| Line {
            at,
            bytes,
            ..Line::default()
        };
        let lines = [
            line(NOVEMBER - 1, 900),
            line(NOVEMBER + 5, 600),
            line(NOVEMBER + 9, 100),
        ];
        let mut budget = Budget::new(1_000, &lines, 100, NOVEMBER + 10);
        assert!(!budget.is_spent(399, NOVEMBER + 20));
        assert!(budget.is_spent(400, NOVEMBER + 30));
        assert!(budget.is_spent(400, DECEMBER - 1));
        assert!(!budget.is_spent(400, DECEMBER), "a new month");
        assert!(budget.is_spent(1_400, DECEMBER + 1));
    }
}
