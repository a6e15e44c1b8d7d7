//! Messages for clients that are away, and what these find when they come back. No socket, no clock.
//!
//! Always true: only what was acknowledged is promised; what was sent and not acknowledged may come, and is not
//! missed.

use super::Plan;
use super::flow::{Tally, topic};
use super::frame::{Frame, Template, receive, settle};
use super::histogram::Histogram;
use super::network::Traffic;
use super::sequence::{Arrival, Sequence};
use super::window::Window;
use headgate_mqtt_codec::Version;
use std::collections::BTreeSet;

/// A publisher for each session. The clients are the publishers' first, then those of the sessions.
pub(super) struct Mailboxes {
    boxes: Vec<Mailbox>,
    dirty: Vec<usize>,
    /// The sessions are back.
    draining: bool,
    stored: u64,
    /// Sessions that the broker did not let in again, or did not keep.
    pub absent: u64,
    /// What came in.
    pub tally: Tally,
    /// From publishing until the acknowledgement.
    pub latency: Histogram,
}

struct Mailbox {
    template: Template,
    quota: u64,
    sent: u64,
    window: Window,
    dirty: bool,
    /// Numbers of messages that were sent, not promised, and did not come.
    unpromised: BTreeSet<u64>,
    came: Sequence,
}

impl Mailboxes {
    /// Nothing sent yet; `run` goes into the topics, `window` is what the broker allows.
    pub(super) fn new(plan: &Plan, run: &str, messages: u64, window: usize) -> Self {
        let count = plan.clients as u64;
        let mailbox = |number: usize| Mailbox {
            template: Template::new(
                number as u32,
                topic(run, number),
                plan.qos,
                plan.payload,
                plan.server.version,
            ),
            quota: messages / count + u64::from((number as u64) < messages % count),
            sent: 0,
            window: Window::new(window),
            dirty: true,
            unpromised: BTreeSet::new(),
            came: Sequence::default(),
        };
        Self {
            boxes: (0..plan.clients).map(mailbox).collect(),
            dirty: (0..plan.clients).collect(),
            draining: false,
            stored: 0,
            absent: 0,
            tally: Tally::default(),
            latency: Histogram::new(),
        }
    }

    /// Messages that were acknowledged.
    pub(super) fn stored(&self) -> u64 {
        self.stored
    }

    /// Nothing more is published; now the sessions come back.
    pub(super) fn drain(&mut self) {
        self.draining = true;
        self.dirty.clear();
        for mailbox in &mut self.boxes {
            mailbox.unpromised.extend(mailbox.window.numbers());
        }
    }

    /// Messages that were acknowledged and did not come.
    pub(super) fn lost(&self) -> u64 {
        let lost = |mailbox: &Mailbox| {
            let came = mailbox.came.next() - mailbox.came.missing();
            mailbox.sent - came - mailbox.unpromised.len() as u64
        };
        self.boxes.iter().map(lost).sum()
    }

    fn acknowledged(&mut self, number: usize, frame: Frame, now: u64, out: &mut Vec<u8>) {
        let Some((id, good)) = settle(frame, out) else {
            return;
        };
        let mailbox = &mut self.boxes[number];
        let Some((message, since)) = mailbox.window.close(id) else {
            return;
        };
        if good {
            self.stored += 1;
            self.latency.record(now.saturating_sub(since));
        } else {
            self.tally.refused += 1;
            mailbox.unpromised.insert(message);
        }
        if !mailbox.dirty && mailbox.sent < mailbox.quota {
            mailbox.dirty = true;
            self.dirty.push(number);
        }
    }

    fn received(&mut self, number: usize, frame: Frame, out: &mut Vec<u8>) {
        if let Frame::ConnAck(good, kept) = frame {
            self.absent += u64::from(!good || !kept);
        }
        let Some(stamp) = receive(frame, out) else { return };
        let mailbox = &mut self.boxes[number];
        let Some(stamp) =
            stamp.filter(|stamp| stamp.publisher as usize == number && stamp.sequence < mailbox.sent)
        else {
            self.tally.foreign += 1;
            return;
        };
        match mailbox.came.arrive(stamp.sequence) {
            Arrival::New => {}
            Arrival::Late => self.tally.reordered += 1,
            Arrival::Duplicate => {
                self.tally.duplicates += 1;
                return;
            }
        }
        mailbox.unpromised.remove(&stamp.sequence);
        self.tally.delivered += 1;
    }
}

impl Traffic for Mailboxes {
    type Wire = Version;

    #[inline]
    fn frame(&mut self, client: usize, frame: Frame, now: u64, out: &mut Vec<u8>) {
        match client.checked_sub(self.boxes.len()) {
            Some(session) => self.received(session, frame, out),
            None if self.draining => {}
            None => self.acknowledged(client, frame, now, out),
        }
    }

    fn next_dirty(&mut self) -> Option<usize> {
        let number = self.dirty.pop()?;
        self.boxes[number].dirty = false;
        Some(number)
    }

    fn fill(&mut self, client: usize, now: u64, out: &mut Vec<u8>) {
        let mailbox = &mut self.boxes[client];
        while mailbox.sent < mailbox.quota
            && let Some(id) = mailbox.window.open(mailbox.sent, now)
        {
            mailbox.template.append(id, mailbox.sent, now, out);
            mailbox.sent += 1;
        }
    }

    fn outstanding(&self) -> u64 {
        if self.draining {
            return self.lost();
        }
        let wanted: u64 = self.boxes.iter().map(|mailbox| mailbox.quota).sum();
        wanted - self.moved()
    }

    fn moved(&self) -> u64 {
        match self.draining {
            true => self.tally.delivered,
            false => self.stored + self.tally.refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Case;
    use crate::flow::tests::{plan, scanned};
    use headgate_mqtt_codec::{AckKind, Qos};

    /// Two mailboxes, three messages for the first and two for the second, a window of three.
    fn filled(qos: Qos) -> (Mailboxes, Vec<Vec<Frame>>) {
        let mut mailboxes = Mailboxes::new(&plan(Case::Offline, qos, 2, 20), "r", 5, 3);
        let mut frames = vec![Vec::new(); 2];
        while let Some(client) = mailboxes.next_dirty() {
            let mut out = Vec::new();
            mailboxes.fill(client, 5, &mut out);
            frames[client] = scanned(&out);
        }
        assert_eq!((frames[0].len(), frames[1].len()), (3, 2));
        (mailboxes, frames)
    }

    fn ack(mailboxes: &mut Mailboxes, client: usize, kind: AckKind, ids: &[u16], good: bool) -> Vec<Frame> {
        let mut out = Vec::new();
        for id in ids {
            mailboxes.frame(client, Frame::Ack(kind, *id, good), 9, &mut out);
        }
        scanned(&out)
    }

    fn deliver(mailboxes: &mut Mailboxes, session: usize, frames: &[Frame]) {
        for frame in frames {
            mailboxes.frame(2 + session, *frame, 20, &mut Vec::new());
        }
    }

    #[test]
    fn all_that_was_acknowledged_comes_once_and_in_order() {
        let (mut mailboxes, frames) = filled(Qos::AtLeastOnce);
        ack(&mut mailboxes, 0, AckKind::PubAck, &[1, 2, 3], true);
        assert_eq!((mailboxes.stored(), mailboxes.outstanding()), (3, 2));
        ack(&mut mailboxes, 1, AckKind::PubAck, &[1, 2], true);
        assert_eq!((mailboxes.stored(), mailboxes.outstanding()), (5, 0));
        mailboxes.drain();
        assert_eq!(mailboxes.lost(), 5);
        let mut out = Vec::new();
        mailboxes.frame(2, Frame::ConnAck(true, true), 20, &mut out);
        mailboxes.frame(2, frames[0][0], 20, &mut out);
        assert_eq!(scanned(&out), [Frame::Ack(AckKind::PubAck, 1, true)]);
        deliver(&mut mailboxes, 0, &frames[0][1..]);
        deliver(&mut mailboxes, 1, &frames[1]);
        let delivered = Tally {
            delivered: 5,
            ..Tally::default()
        };
        assert_eq!(
            (mailboxes.tally, mailboxes.lost(), mailboxes.absent),
            (delivered, 0, 0)
        );
    }

    #[test]
    fn at_qos_2_a_message_is_stored_when_it_is_complete() {
        let (mut mailboxes, _) = filled(Qos::ExactlyOnce);
        let answer = ack(&mut mailboxes, 0, AckKind::PubRec, &[1], true);
        assert_eq!(answer, [Frame::Ack(AckKind::PubRel, 1, true)]);
        assert_eq!(mailboxes.stored(), 0);
        ack(&mut mailboxes, 0, AckKind::PubComp, &[1, 1], true);
        assert_eq!(mailboxes.stored(), 1, "an acknowledgement counts once");
    }

    #[test]
    fn loss_repeats_and_disorder_are_found() {
        let (mut mailboxes, frames) = filled(Qos::AtLeastOnce);
        ack(&mut mailboxes, 0, AckKind::PubAck, &[1, 2, 3], true);
        ack(&mut mailboxes, 1, AckKind::PubAck, &[1, 2], true);
        mailboxes.drain();
        deliver(
            &mut mailboxes,
            0,
            &[frames[0][0], frames[0][2], frames[0][1], frames[0][2]],
        );
        deliver(&mut mailboxes, 1, &[frames[1][1], frames[0][0]]);
        mailboxes.frame(3, Frame::ConnAck(true, false), 20, &mut Vec::new());
        let Tally {
            delivered,
            duplicates,
            reordered,
            foreign,
            ..
        } = mailboxes.tally;
        assert_eq!((delivered, duplicates, reordered, foreign), (4, 1, 1, 1));
        assert_eq!((mailboxes.lost(), mailboxes.absent), (1, 1));
    }

    #[test]
    fn what_was_not_acknowledged_may_come_and_is_not_missed() {
        let (mut mailboxes, frames) = filled(Qos::AtLeastOnce);
        ack(&mut mailboxes, 0, AckKind::PubAck, &[1], true);
        ack(&mut mailboxes, 0, AckKind::PubAck, &[2], false);
        assert_eq!((mailboxes.stored(), mailboxes.tally.refused), (1, 1));
        mailboxes.drain();
        assert_eq!(mailboxes.lost(), 1);
        deliver(&mut mailboxes, 0, &[frames[0][0], frames[0][2]]);
        assert_eq!((mailboxes.lost(), mailboxes.tally.delivered), (0, 2));
    }
}
