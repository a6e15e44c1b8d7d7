//! Many subscriptions, exact and by wildcards, and who must get what. No socket, no clock.
//!
//! Five filters make a unit, of two topics: the first topic is matched by two of them, the second by three, each
//! topic by no others. So a publish has 2.5 receivers on average, and which ones they are is arithmetic; a test
//! compares it with the definition of matching. Filters go to the sessions in turns, so that no session has two
//! of one unit.
//!
//! Always true: every publish is checked: it reaches exactly its sessions, each once, each publisher's in order.

use super::Plan;
use super::flow::Tally;
use super::frame::{Frame, Template, receive};
use super::histogram::Histogram;
use super::network::Traffic;
use headgate_mqtt_codec::{Qos, Utf8, Version};
use std::collections::VecDeque;

/// Filters of a unit.
const UNIT: u64 = 5;

/// Fewer sessions would have two filters for one topic.
pub(crate) const MIN_SESSIONS: usize = UNIT as usize;

/// One unit.
pub(crate) const MIN_SUBSCRIPTIONS: u64 = UNIT;

/// A publisher goes through its topics in steps of this odd prime, so that a cache does not help.
const STEP: u64 = 7_919;

/// How many publishers there are for so many sessions.
pub(super) fn publishers(sessions: usize) -> usize {
    (sessions / 10).clamp(1, 10)
}

/// The clients are the publishers' first, then those of the sessions.
pub(super) struct Forest {
    sessions: usize,
    topics_each: u64,
    backlog: u64,
    publishers: Vec<Publisher>,
    templates: Vec<Template>,
    /// One more than the last number that each session had of each publisher.
    next: Vec<u64>,
    dirty: Vec<usize>,
    limit: u64,
    sent: u64,
    /// Copies that are not waited for any more.
    given_up: u64,
    /// Publishes that reached all their sessions.
    pub complete: u64,
    /// What came in.
    pub tally: Tally,
    /// From publishing until it came in.
    pub latency: Histogram,
}

#[derive(Default)]
struct Publisher {
    sent: u64,
    /// Publishes that lack a copy.
    open: u64,
    /// For each publish since the first that lacks a copy, a bit for each session that does.
    lacking: VecDeque<u8>,
    dirty: bool,
}

impl Forest {
    /// Nothing sent yet; `run` goes into the topics.
    pub(super) fn new(plan: &Plan, run: &str) -> Self {
        let units = plan.subscriptions / UNIT;
        // Each publisher has topics of its own, in whole units.
        let count = (publishers(plan.clients) as u64).min(units);
        let topics_each = units / count * 2;
        let template = |number: u64| {
            Template::new(
                (number / topics_each) as u32,
                topic(run, number),
                Qos::AtMostOnce,
                plan.payload,
                plan.server.version,
            )
        };
        Self {
            sessions: plan.clients,
            topics_each,
            backlog: plan.backlog,
            publishers: (0..count).map(|_| Publisher::default()).collect(),
            templates: (0..count * topics_each).map(template).collect(),
            next: vec![0; plan.clients * count as usize],
            dirty: Vec::new(),
            limit: 0,
            sent: 0,
            given_up: 0,
            complete: 0,
            tally: Tally::default(),
            latency: Histogram::new(),
        }
    }

    /// How many clients publish.
    pub(super) fn publishers(&self) -> usize {
        self.publishers.len()
    }

    /// Publishing begins, until `limit` were published.
    pub(super) fn start(&mut self, limit: u64) {
        self.limit = limit;
        (0..self.publishers.len()).for_each(|publisher| self.mark(publisher));
    }

    /// Nothing more is published.
    pub(super) fn stop(&mut self) {
        self.limit = self.sent;
    }

    /// Whether all was published that is to be.
    pub(super) fn all_sent(&self) -> bool {
        self.sent >= self.limit
    }

    /// Copies that did not come.
    pub(super) fn lost(&self) -> u64 {
        self.given_up + self.outstanding()
    }

    fn mark(&mut self, publisher: usize) {
        let p = &mut self.publishers[publisher];
        if !p.dirty {
            p.dirty = true;
            self.dirty.push(publisher);
        }
    }

    /// Whether another publish can be kept in mind. If many have been since one that lacks a copy, and who lacks it has
    /// had later ones, it does not come any more, and the run goes on without it.
    fn has_room(&mut self, publisher: usize) -> bool {
        let p = &self.publishers[publisher];
        if (p.lacking.len() as u64) < 4 * self.backlog + 64 {
            return true;
        }
        let first = p.sent - p.lacking.len() as u64;
        let lacking = p.lacking.front().copied().unwrap_or(0);
        let count = self.publishers.len();
        let overtaken = receivers(self.topic_of(publisher, first), self.sessions)
            .enumerate()
            .filter(|(at, _)| lacking & 1 << at != 0)
            .all(|(_, session)| self.next[session * count + publisher] > first);
        if overtaken {
            let p = &mut self.publishers[publisher];
            p.open -= 1;
            self.given_up += u64::from(lacking.count_ones());
            p.lacking.pop_front();
            while p.lacking.front() == Some(&0) {
                p.lacking.pop_front();
            }
        }
        overtaken
    }

    /// The topic of a publisher's message.
    fn topic_of(&self, publisher: usize, number: u64) -> u64 {
        publisher as u64 * self.topics_each + number.wrapping_mul(STEP) % self.topics_each
    }

    fn received(&mut self, session: usize, frame: Frame, now: u64, out: &mut Vec<u8>) {
        let Some(stamp) = receive(frame, out) else { return };
        let known = stamp.and_then(|stamp| {
            let publisher = stamp.publisher as usize;
            let sent = self.publishers.get(publisher)?.sent;
            (stamp.sequence < sent).then_some((publisher, stamp))
        });
        let Some((publisher, stamp)) = known else {
            self.tally.foreign += 1;
            return;
        };
        let mut receivers = receivers(self.topic_of(publisher, stamp.sequence), self.sessions);
        let Some(receiver) = receivers.position(|receiver| receiver == session) else {
            self.tally.foreign += 1;
            return;
        };
        let p = &mut self.publishers[publisher];
        let first = p.sent - p.lacking.len() as u64;
        let lacking = stamp
            .sequence
            .checked_sub(first)
            .and_then(|at| p.lacking.get_mut(at as usize))
            .filter(|lacking| **lacking & 1 << receiver != 0);
        let Some(lacking) = lacking else {
            self.tally.duplicates += 1;
            return;
        };
        *lacking &= !(1 << receiver);
        if *lacking == 0 {
            p.open -= 1;
            self.complete += 1;
            while p.lacking.front() == Some(&0) {
                p.lacking.pop_front();
            }
        }
        let next = &mut self.next[session * self.publishers.len() + publisher];
        if stamp.sequence < *next {
            self.tally.reordered += 1;
        } else {
            *next = stamp.sequence + 1;
        }
        self.tally.delivered += 1;
        self.latency.record(now.saturating_sub(stamp.nanos));
        // Its next ones leave together: one at a time would cost more than all the rest.
        if self.publishers[publisher].open <= self.backlog - self.backlog / 4 {
            self.mark(publisher);
        }
    }
}

impl Traffic for Forest {
    type Wire = Version;

    #[inline]
    fn frame(&mut self, client: usize, frame: Frame, now: u64, out: &mut Vec<u8>) {
        if let Some(session) = client.checked_sub(self.publishers.len()) {
            self.received(session, frame, now, out);
        }
    }

    fn next_dirty(&mut self) -> Option<usize> {
        let publisher = self.dirty.pop()?;
        self.publishers[publisher].dirty = false;
        Some(publisher)
    }

    fn fill(&mut self, client: usize, now: u64, out: &mut Vec<u8>) {
        while self.publishers[client].open < self.backlog && self.sent < self.limit && self.has_room(client) {
            let number = self.publishers[client].sent;
            let topic = self.topic_of(client, number);
            self.templates[topic as usize].append(0, number, now, out);
            self.sent += 1;
            let p = &mut self.publishers[client];
            p.sent += 1;
            p.open += 1;
            let count = receivers(topic, self.sessions).len();
            p.lacking.push_back((1 << count) - 1);
        }
    }

    fn outstanding(&self) -> u64 {
        let lacking = self.publishers.iter().flat_map(|p| &p.lacking);
        lacking.map(|lacking| u64::from(lacking.count_ones())).sum()
    }

    fn moved(&self) -> u64 {
        self.tally.delivered
    }
}

/// The topic with this number.
fn topic(run: &str, number: u64) -> Utf8 {
    Utf8::try_from(format!("bench/{run}/site{}/device{number}/value", number / 100)).unwrap_or_default()
}

/// The filter with this number.
pub(super) fn filter(run: &str, number: u64) -> Utf8 {
    let (even, odd) = (number / UNIT * 2, number / UNIT * 2 + 1);
    let filter = match number % UNIT {
        0 => return topic(run, even),
        1 => format!("bench/{run}/+/device{even}/value"),
        2 => return topic(run, odd),
        3 => format!("bench/{run}/site{}/device{odd}/+", odd / 100),
        _ => format!("bench/{run}/site{}/device{odd}/#", odd / 100),
    };
    Utf8::try_from(filter).unwrap_or_default()
}

/// The session that has the filter with this number.
pub(super) fn owner(number: u64, sessions: usize) -> usize {
    (number % sessions as u64) as usize
}

/// The sessions that get what is published to the topic with this number.
fn receivers(topic: u64, sessions: usize) -> impl ExactSizeIterator<Item = usize> {
    let unit = topic / 2 * UNIT;
    let range = match topic % 2 {
        0 => 0..2_u32,
        _ => 2..5_u32,
    };
    range.map(move |at| owner(unit + u64::from(at), sessions))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Case;
    use crate::flow::tests::{plan, scanned};
    use std::collections::BTreeSet;

    const SESSIONS: usize = 7;

    fn forest(sessions: usize, subscriptions: u64, backlog: u64) -> Forest {
        let plan = Plan {
            subscriptions,
            ..plan(Case::Wildcards, Qos::AtMostOnce, sessions, backlog)
        };
        Forest::new(&plan, "r")
    }

    /// MQTT 5 §4.7.1, level by level.
    fn matches(filter: &str, topic: &str) -> bool {
        match (filter.split_once('/'), topic.split_once('/')) {
            _ if filter == "#" => true,
            (Some((f, rest)), Some((t, below))) => (f == "+" || f == t) && matches(rest, below),
            (Some((f, "#")), None) => f == "+" || f == topic,
            (None, None) => filter == "+" || filter == topic,
            _ => false,
        }
    }

    #[test]
    fn who_gets_what_is_as_the_definition_of_matching_says() {
        const SUBSCRIPTIONS: u64 = 1_000;
        let filters: Vec<Utf8> = (0..SUBSCRIPTIONS).map(|number| filter("r", number)).collect();
        let mut copies = 0;
        for number in 0..SUBSCRIPTIONS / UNIT * 2 {
            let topic = topic("r", number);
            let wanted: BTreeSet<usize> = (0..SUBSCRIPTIONS)
                .filter(|at| matches(filters[*at as usize].as_str(), topic.as_str()))
                .map(|at| owner(at, SESSIONS))
                .collect();
            let receivers: Vec<usize> = receivers(number, SESSIONS).collect();
            assert_eq!(
                receivers.iter().copied().collect::<BTreeSet<_>>(),
                wanted,
                "{topic:?}"
            );
            assert_eq!(receivers.len(), wanted.len(), "no session twice");
            copies += wanted.len();
        }
        assert_eq!(
            copies * 2,
            SUBSCRIPTIONS as usize / UNIT as usize * 2 * 5,
            "2.5 each"
        );
    }

    /// Every publish that may be sent now, with its receivers.
    fn published(forest: &mut Forest) -> Vec<(Frame, Vec<usize>)> {
        let mut publishes = Vec::new();
        while let Some(client) = forest.next_dirty() {
            let mut out = Vec::new();
            forest.fill(client, 5, &mut out);
            for frame in scanned(&out) {
                let Frame::Publish(_, _, Some(stamp)) = frame else {
                    panic!("{frame:?}")
                };
                let topic = forest.topic_of(client, stamp.sequence);
                publishes.push((frame, receivers(topic, forest.sessions).collect()));
            }
        }
        publishes
    }

    fn deliver(forest: &mut Forest, session: usize, frame: Frame) {
        let client = forest.publishers() + session;
        forest.frame(client, frame, 20, &mut Vec::new());
    }

    #[test]
    fn a_publish_is_complete_when_all_its_sessions_have_it() {
        let mut forest = forest(SESSIONS, 20, 2);
        forest.start(3);
        let publishes = published(&mut forest);
        assert_eq!(
            (publishes.len(), forest.outstanding()),
            (2, 5),
            "the backlog is 2"
        );
        for (frame, receivers) in &publishes {
            receivers
                .iter()
                .for_each(|receiver| deliver(&mut forest, *receiver, *frame));
        }
        assert_eq!(
            (forest.complete, forest.tally.delivered, forest.lost()),
            (2, 5, 0)
        );
        assert_eq!(published(&mut forest).len(), 1);
        assert!(forest.all_sent());
    }

    #[test]
    fn loss_repeats_disorder_and_wrong_sessions_are_found() {
        let mut forest = forest(SESSIONS, 20, 9);
        forest.start(9);
        let publishes = published(&mut forest);
        // The first and the fifth are of the same topic: eight topics, an odd step.
        let ((early, receivers), (late, same)) = (&publishes[0], &publishes[8]);
        assert_eq!(receivers, same);
        let session = receivers[0];
        deliver(&mut forest, session, *late);
        deliver(&mut forest, session, *early);
        deliver(&mut forest, session, *early);
        let stranger = (0..SESSIONS)
            .find(|session| !receivers.contains(session))
            .unwrap();
        deliver(&mut forest, stranger, *early);
        deliver(&mut forest, session, Frame::Publish(Qos::AtMostOnce, 0, None));
        let expected = Tally {
            delivered: 2,
            duplicates: 1,
            reordered: 1,
            foreign: 2,
            ..Tally::default()
        };
        assert_eq!(forest.tally, expected);
        let copies: usize = publishes.iter().map(|(_, receivers)| receivers.len()).sum();
        assert_eq!(forest.lost(), copies as u64 - 2);
    }

    /// Delivers everything for which `comes` says so, until nothing more is published.
    fn run(forest: &mut Forest, mut comes: impl FnMut(usize) -> bool) {
        forest.start(1_000);
        loop {
            let publishes = published(forest);
            if publishes.is_empty() {
                return;
            }
            for (frame, receivers) in publishes {
                for receiver in receivers.into_iter().filter(|receiver| comes(*receiver)) {
                    deliver(forest, receiver, frame);
                }
            }
        }
    }

    #[test]
    fn a_run_goes_on_without_what_is_lost() {
        let mut forest = forest(SESSIONS, 200, 2);
        let mut first = true;
        run(&mut forest, |_| !std::mem::take(&mut first));
        assert!(forest.all_sent());
        assert_eq!(
            (forest.complete, forest.lost(), forest.outstanding()),
            (999, 1, 0)
        );
    }

    #[test]
    fn a_session_that_is_slow_is_waited_for() {
        let mut forest = forest(50, 250, 20);
        run(&mut forest, |receiver| receiver != 3);
        assert!(!forest.all_sent());
        assert_eq!(forest.given_up, 0);
        let bound = 4 * 20 + 64;
        assert!(
            forest
                .publishers
                .iter()
                .all(|p| p.open < 20 && p.lacking.len() <= bound)
        );
    }
}
