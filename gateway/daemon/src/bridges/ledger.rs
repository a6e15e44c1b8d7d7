//! What became of a bridge's messages over time: one line in a file for every few minutes, summed up on request.
//!
//! Always true of a report: `queued_before + recovered + routed = acknowledged + rejected + dropped + queued_after`. `recovered` is what a restart found in the
//! store beyond what the last line said, for the lines since then died with the gateway; it is negative when more was acknowledged than came.
//! How much came and went in that time nobody knows: the report names it, and does not claim to add up.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

/// Bytes that a file may have; beyond that the older half of its lines goes. At a line in five minutes they last for two months.
const MAX_BYTES: u64 = 4 << 20;

/// What was counted since the line before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Line {
    /// End of the time it is about, in seconds since 1970.
    pub at: u64,
    /// Messages of QoS 1 and 2 that were queued for the remote end.
    pub routed: u64,
    /// Messages sent to it, of every QoS, each time.
    pub sent: u64,
    /// Of those, sent again with DUP.
    pub sent_again: u64,
    /// Of the routed: acknowledged by it.
    pub acknowledged: u64,
    /// Of those: refused for good; they are dead letters.
    pub rejected: u64,
    /// Of those: dropped, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// Of those: still queued or under way at the end.
    pub queued: u64,
    /// Messages of QoS 0 that were handed to the link, or dropped because it was down.
    pub qos0: u64,
    /// Messages from the remote end.
    pub received: u64,
    /// Bytes of MQTT, both ways.
    pub bytes: u64,
    /// Set in the first line of a run: what the store held when the gateway started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub carried: Option<u64>,
    /// A run begins: the line counts nothing.
    #[serde(skip_serializing_if = "is_false")]
    pub start: bool,
    /// The gateway was told to stop: it is the last line of a run that was not killed.
    #[serde(skip_serializing_if = "is_false")]
    pub end: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// A time of which nobody knows what was counted in it, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Gap {
    /// The last thing that is known before.
    pub since: u64,
    /// The first that is known again.
    pub until: u64,
}

impl Line {
    /// Of what was counted since the start, what came after the last line. The first line of a run tells what the store held.
    pub(crate) fn since(&self, last: Option<&Self>) -> Self {
        let Some(last) = last else {
            return self.clone();
        };
        let mut line = Self {
            routed: self.routed - last.routed,
            sent: self.sent - last.sent,
            sent_again: self.sent_again - last.sent_again,
            acknowledged: self.acknowledged - last.acknowledged,
            rejected: self.rejected - last.rejected,
            qos0: self.qos0 - last.qos0,
            received: self.received - last.received,
            bytes: self.bytes - last.bytes,
            carried: None,
            ..self.clone()
        };
        for (reason, count) in &mut line.dropped {
            *count -= last.dropped.get(reason).copied().unwrap_or(0);
        }
        line.dropped.retain(|_, count| *count > 0);
        line
    }

    /// Whether nothing happened.
    pub(crate) fn is_idle(&self) -> bool {
        let dropped: u64 = self.dropped.values().sum();
        self.routed
            + self.sent
            + self.acknowledged
            + self.rejected
            + self.qos0
            + self.received
            + self.bytes
            + dropped
            == 0
    }
}

/// What became of the messages between two moments.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Report {
    /// First moment, in seconds since 1970.
    pub from: u64,
    /// Last moment.
    pub to: u64,
    /// Queued at its beginning.
    pub queued_before: u64,
    /// Found by restarts beyond what had been noted; see the module.
    pub recovered: i64,
    /// Queued for the remote end.
    pub routed: u64,
    /// Sent to it, of every QoS, each time.
    pub sent: u64,
    /// Of those, sent again with DUP.
    pub sent_again: u64,
    /// Acknowledged by it.
    pub acknowledged: u64,
    /// Refused for good.
    pub rejected: u64,
    /// Dropped, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// Queued at its end.
    pub queued_after: u64,
    /// QoS 0.
    pub qos0: u64,
    /// From the remote end.
    pub received: u64,
    /// Bytes of MQTT, both ways.
    pub bytes: u64,
    /// What is not in the figures, for a run was killed.
    pub unknown: Vec<Gap>,
}

impl Report {
    /// Whether every message is accounted for, and nothing is unknown.
    pub(crate) fn adds_up(&self) -> bool {
        self.unknown.is_empty() && self.balances()
    }

    fn balances(&self) -> bool {
        let dropped: u64 = self.dropped.values().sum();
        let come = i128::from(self.queued_before) + i128::from(self.recovered) + i128::from(self.routed);
        let gone = [self.acknowledged, self.rejected, dropped, self.queued_after];
        come == gone.into_iter().map(i128::from).sum()
    }

    /// Sums lines up, oldest first; those up to `from` only say how it began.
    pub(crate) fn of(lines: impl IntoIterator<Item = Line>, from: u64, to: u64) -> Self {
        let mut report = Self {
            from,
            to,
            ..Self::default()
        };
        let mut queued = 0;
        let mut begun = false;
        let mut runs = Runs::default();
        for line in lines {
            if line.at <= to {
                let gap = runs.gap(&line, queued).filter(|gap| gap.until > from);
                report.unknown.extend(gap);
            }
            if line.start {
                continue;
            }
            if line.at <= from {
                queued = line.queued;
                continue;
            }
            if line.at > to {
                break;
            }
            if !std::mem::replace(&mut begun, true) {
                report.queued_before = queued;
            }
            if let Some(carried) = line.carried {
                report.recovered += carried.cast_signed() - queued.cast_signed();
            }
            report.routed += line.routed;
            report.sent += line.sent;
            report.sent_again += line.sent_again;
            report.acknowledged += line.acknowledged;
            report.rejected += line.rejected;
            report.qos0 += line.qos0;
            report.received += line.received;
            report.bytes += line.bytes;
            for (reason, count) in line.dropped {
                *report.dropped.entry(reason).or_default() += count;
            }
            queued = line.queued;
        }
        if !begun {
            report.queued_before = queued;
        }
        report.queued_after = queued;
        report
    }
}

/// Finds what is missing between one run and the next.
#[derive(Default)]
struct Runs {
    last: Option<(u64, bool)>,
    /// The line before began a run, and what was unknown before that was told.
    started: bool,
    told: bool,
}

impl Runs {
    /// What is unknown before a line; `queued` is what the one before said.
    fn gap(&mut self, line: &Line, queued: u64) -> Option<Gap> {
        let (since, ended) = self.last.unwrap_or((line.at, true));
        let lost = if line.start {
            !ended
        } else {
            // Lines of an earlier version say nothing of starts.
            !self.told
                && line
                    .carried
                    .is_some_and(|carried| carried != queued || !ended && !self.started)
        };
        self.told = lost && line.start;
        self.started = line.start;
        let known = if line.start && !lost { since } else { line.at };
        self.last = Some((known, line.end));
        let until = line.at;
        lost.then_some(Gap { since, until })
    }
}

/// The file of one bridge.
#[derive(Debug)]
pub(super) struct LedgerFile {
    path: PathBuf,
}

impl LedgerFile {
    /// There need not be one yet.
    pub(super) fn at(path: &Path) -> Self {
        Self { path: path.into() }
    }

    /// All lines, oldest first. What cannot be read, as the torn end of a crash, is left out.
    pub(super) fn lines(&self) -> io::Result<Vec<Line>> {
        let file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            opened => opened?,
        };
        let mut lines = Vec::new();
        for line in BufReader::new(file).split(b'\n') {
            lines.extend(serde_json::from_slice::<Line>(&line?).ok());
        }
        Ok(lines)
    }

    /// Adds a line at the end.
    pub(super) fn append(&self, line: &Line) -> io::Result<()> {
        if std::fs::metadata(&self.path).is_ok_and(|file| file.len() > MAX_BYTES) {
            let mut lines = self.lines()?;
            lines.drain(..lines.len() / 2);
            let next = self.path.with_extension("next");
            let mut file = File::create(&next)?;
            for line in &lines {
                writeln!(file, "{}", serde_json::to_string(line)?)?;
            }
            file.sync_all()?;
            std::fs::rename(&next, &self.path)?;
        }
        let mut file = OpenOptions::new().create(true).append(true).open(&self.path)?;
        // A torn line of a crash must not swallow this one.
        writeln!(file, "\n{}", serde_json::to_string(line)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(at: u64, routed: u64, acknowledged: u64, queued: u64) -> Line {
        Line {
            at,
            routed,
            acknowledged,
            queued,
            ..Line::default()
        }
    }

    #[test]
    fn a_report_adds_up_from_any_moment_to_any_other() {
        let mut dropping = line(40, 10, 3, 9);
        dropping.dropped.insert("queue_full".into(), 3);
        let lines = [line(10, 5, 5, 0), line(20, 9, 4, 5), dropping, line(50, 0, 9, 0)];
        for from in [0, 10, 15, 20, 40, 50] {
            for to in [10, 20, 45, 60] {
                let report = Report::of(lines.clone(), from, to);
                assert!(report.adds_up(), "{report:?}");
            }
        }
        let report = Report::of(lines, 10, 45);
        assert_eq!(
            (report.queued_before, report.routed, report.queued_after),
            (0, 19, 9)
        );
        assert_eq!((report.acknowledged, report.dropped["queue_full"]), (7, 3));
    }

    /// A run that was stopped has no gap; one that was killed has one from its last line on, which a report names and does not pass over, whatever the
    /// sums say.
    #[test]
    fn what_died_with_a_run_is_named() {
        let start = |at| Line {
            start: true,
            ..line(at, 0, 0, 0)
        };
        let first = |at, carried| Line {
            carried: Some(carried),
            ..line(at, 0, 0, carried)
        };
        let end = |at, queued| Line {
            end: true,
            ..line(at, 0, 0, queued)
        };
        let stopped = [
            start(1),
            first(5, 0),
            line(10, 9, 6, 3),
            end(12, 3),
            start(20),
            first(25, 3),
        ];
        assert!(Report::of(stopped, 0, 30).adds_up());
        // It was told to stop, and then more was acknowledged.
        let late = [
            start(1),
            first(5, 0),
            line(10, 9, 6, 3),
            end(12, 3),
            start(20),
            first(25, 1),
        ];
        assert_eq!(Report::of(late, 0, 30).unknown, [Gap { since: 12, until: 25 }]);
        for carried in [0, 3] {
            let killed = [
                start(1),
                first(5, 0),
                line(10, 9, 6, 3),
                start(20),
                first(25, carried),
            ];
            let report = Report::of(killed.clone(), 0, 30);
            assert!(report.balances() && !report.adds_up());
            assert_eq!(report.unknown, [Gap { since: 10, until: 20 }]);
            assert!(
                Report::of(killed.clone(), 0, 10).adds_up() && Report::of(killed, 20, 30).unknown.is_empty()
            );
        }
        let at_once = [start(1), start(20), first(25, 0)];
        assert_eq!(Report::of(at_once, 0, 30).unknown, [Gap { since: 1, until: 20 }]);
    }

    /// Between the last line and a crash, 7 came and none was acknowledged; then 2 more were acknowledged than came.
    #[test]
    fn what_died_with_a_run_is_recovered_from_the_store() {
        let begin = |carried, line| Line {
            carried: Some(carried),
            ..line
        };
        let first = [line(10, 5, 0, 5), begin(12, line(20, 1, 0, 13))];
        let report = Report::of(first.clone(), 0, 20);
        assert_eq!((report.recovered, report.queued_after), (7, 13));
        assert!(report.balances() && !report.adds_up());
        let report = Report::of(first.into_iter().chain([begin(11, line(30, 0, 11, 0))]), 20, 30);
        assert_eq!((report.recovered, report.acknowledged), (-2, 11));
        assert!(report.balances() && !report.adds_up());
    }

    #[test]
    fn a_file_that_is_too_long_loses_its_older_half() {
        let folder = tempfile::tempdir().unwrap();
        let file = LedgerFile::at(&folder.path().join("cloud.ledger"));
        let text = serde_json::to_string(&line(1, 1, 1, 0)).unwrap();
        let count = MAX_BYTES as usize / text.len() + 1;
        std::fs::write(&file.path, format!("{text}\n").repeat(count)).unwrap();
        file.append(&line(2, 2, 2, 0)).unwrap();
        let lines = file.lines().unwrap();
        assert_eq!(
            (lines.len(), lines.last().unwrap().at),
            (count - count / 2 + 1, 2)
        );
    }

    #[test]
    fn a_torn_line_spoils_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let file = LedgerFile::at(&folder.path().join("cloud.ledger"));
        assert_eq!(file.lines().unwrap(), []);
        file.append(&line(10, 1, 1, 0)).unwrap();
        let mut torn = OpenOptions::new().append(true).open(&file.path).unwrap();
        torn.write_all(b"{\"at\":20,\"rou").unwrap();
        file.append(&line(30, 2, 2, 0)).unwrap();
        assert_eq!(file.lines().unwrap(), [line(10, 1, 1, 0), line(30, 2, 2, 0)]);
    }
}
