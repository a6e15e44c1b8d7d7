//! What keeps messages from going round a ring of brokers: their path, where MQTT 5 is spoken, and the count of their copies.

use crate::acks::Needs;
use crate::bus::{Bus, BusOutputs, Notice};
use crate::duplicates::{Copied, Verdict, Way};
use crate::links::Behind;
use crate::queue::Queued;
use crate::routing::Ingested;
use crate::sessions::Slot;
use crate::stats::DropReason;
use headgate_model::bus::Outcome;
use headgate_model::{Instant, Message, path};
use std::time::Duration;

/// How often operators are told of a loop, at most.
const TELL: Duration = Duration::from_secs(60);
/// Bytes of a path that they are told.
const MAX_TOLD: usize = 512;

impl Bus {
    /// Ends the way of a message whose path says that it was here before, or that it came too far.
    pub(crate) fn stop_loop(
        &mut self,
        slot: Slot,
        message: &Message,
        now: Instant,
        out: &mut BusOutputs,
    ) -> Option<Ingested> {
        let path = path::of(message)?;
        let is_loop = path::contains(path, &self.links.node);
        if !is_loop && path::hops(path) < usize::from(self.settings.links.max_hops) {
            return None;
        }
        if self.links.loop_told.is_none_or(|told| told + TELL <= now) {
            self.links.loop_told = Some(now);
            let from = path.ceil_char_boundary(path.len().saturating_sub(MAX_TOLD));
            out.notices.push(Notice::Loop {
                client: self.sessions[slot].client.clone(),
                topic: message.topic.compact(),
                path: path[from..].to_owned(),
            });
        }
        Some(self.ignore(Some(slot), message, DropReason::Loop, Outcome::Matched))
    }

    /// A message of a link is taken as if it had been routed. What it is a copy of was, with this outcome; that this is durable is what the answer
    /// promises.
    fn ignore(
        &mut self,
        from: Option<Slot>,
        message: &Message,
        reason: DropReason,
        outcome: Outcome,
    ) -> Ingested {
        self.counters.drop(reason);
        if let Some(link) = from.and_then(|slot| self.sessions[slot].link.as_deref_mut()) {
            link.ledger.ignore(reason, message.topic.as_bytes());
        }
        Ingested {
            outcome,
            needs: Needs::Disk,
        }
    }

    /// What a link's other side retains is not newer than what still has to go there: it would be overwritten by that in any case. Where it is not known
    /// whether that is of the topic, the link asks for it again when nothing waits any more; a message whose topic has nothing here until then is
    /// routed, and not retained.
    pub(crate) fn stop_superseded(&mut self, message: &mut Message, from: Option<Slot>) -> Option<Ingested> {
        let slot = from?;
        let session = &self.sessions[slot];
        let topic = message.topic.as_bytes();
        match session.is_behind(topic) {
            Behind::No => return None,
            Behind::Yes => {}
            Behind::Perhaps => {
                let retained = self.retention.messages.get(topic);
                let by = retained.map(|retained| retained.message.publisher);
                let is_bridge = session.is_bridge();
                // What came from there before is not newer.
                if by == Some(Some(session.id)) || by.is_none() && !is_bridge {
                    return None;
                }
                if is_bridge {
                    self.sessions[slot].doubt();
                }
                if by.is_none() {
                    message.retain = false;
                    return None;
                }
            }
        }
        Some(self.ignore(from, message, DropReason::Superseded, Outcome::Matched))
    }

    /// A message that is routed, when it may come again by another way: it came by a link and another one wants it too (`circulates`), or it was
    /// published here and goes out by a link.
    pub(crate) fn copy_of(&self, message: &Message, from: Option<Slot>, circulates: bool) -> Option<Copied> {
        if !self.links.count_copies() {
            return None;
        }
        let to_link = || {
            self.router
                .targets
                .iter()
                .any(|target| self.sessions[target.slot].is_link())
        };
        if !circulates && !to_link() {
            return None;
        }
        let from = from.map(|slot| &self.sessions[slot]);
        let link = from.filter(|session| session.link.is_some());
        let way = link.map_or(Way::Local, |session| Way::In(session.id));
        Some(
            self.links
                .duplicates
                .copied(message, way, !self.router.targets.is_empty()),
        )
    }

    /// Ends the way of a copy that came in by a link and brings nothing new. Where there is a path, that says whether a message goes round.
    pub(crate) fn stop_copy(
        &mut self,
        copied: Copied,
        from: Option<Slot>,
        message: &Message,
        now: Instant,
    ) -> Option<Ingested> {
        if !matches!(copied.way, Way::In(_)) {
            return None;
        }
        match self.links.duplicates.judge(copied, now) {
            Verdict::Known { matched } => {
                self.links.duplicates.count(copied, now);
                let outcome = if matched {
                    Outcome::Matched
                } else {
                    Outcome::NoSubscribers
                };
                Some(self.ignore(from, message, DropReason::Duplicate, outcome))
            }
            Verdict::TooMany if path::of(message).is_none() => {
                Some(self.ignore(from, message, DropReason::Loop, Outcome::Matched))
            }
            Verdict::TooMany | Verdict::New => None,
        }
    }

    /// What a link gets that was not routed a moment ago comes round as something new, unless it is counted as it goes out.
    pub(crate) fn count_late(&mut self, slot: Slot, queued: &Queued, now: Instant) {
        let since = Instant(u64::from(queued.since) * 1_000);
        if !queued.sent && since + self.links.duplicates.window() <= now {
            self.count_out(slot, &queued.message, now);
        }
    }

    /// A message goes out by a link that was not routed now.
    pub(crate) fn count_out(&mut self, slot: Slot, message: &Message, now: Instant) {
        if self.links.count_copies() && self.sessions[slot].is_link() {
            let way = Way::Out(self.sessions[slot].id);
            let copied = self.links.duplicates.copied(message, way, true);
            self.links.duplicates.count(copied, now);
        }
    }
}
