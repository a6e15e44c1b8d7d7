//! Turns under the lock are short: what one endpoint wants is cut in slices, and between two slices everybody else has a turn.
//!
//! [`Bus::begin`] takes a command and does a first slice of it; while it says that there is more, [`Bus::go_on`] does the next one. Always true: an
//! endpoint has one command under way at most, and it ends with the endpoint.

use crate::acks::Needs;
use crate::bus::{Bus, BusOutputs};
use headgate_model::bus::Refusal;
use headgate_model::{AckToken, Admitted, BusCommand, BusEvent, EndpointId, Instant, Qos, Subscription};
use std::vec::IntoIter;

/// Subscriptions that one slice adds or removes.
const SLICE: usize = 256;
/// Steps of work after which a turn should end: a step is some 10 ns, so that this is a little more than a millisecond.
const STEPS: usize = 1 << 17;
/// What one costs of these, in steps.
pub(crate) const COMMAND: usize = 8;
pub(crate) const SUBSCRIPTION: usize = 128;
pub(crate) const TIMER: usize = 64;
pub(crate) const NODE: usize = 12;
pub(crate) const DELIVERY: usize = 4;
pub(crate) const QUEUED: usize = 16;

/// A command of which a part is done.
#[derive(Debug)]
pub(crate) enum UnderWay {
    Subscribe {
        token: AckToken,
        left: IntoIter<Admitted<Subscription>>,
        results: Vec<Result<Qos, Refusal>>,
        needs: Needs,
    },
    Unsubscribe {
        token: AckToken,
        left: IntoIter<Admitted<Subscription>>,
        existed: Vec<bool>,
        needs: Needs,
    },
}

impl UnderWay {
    pub(crate) fn subscribe(token: AckToken, subscriptions: Vec<Admitted<Subscription>>) -> Self {
        Self::Subscribe {
            token,
            results: Vec::with_capacity(subscriptions.len()),
            left: subscriptions.into_iter(),
            needs: Needs::Nothing,
        }
    }

    pub(crate) fn unsubscribe(token: AckToken, subscriptions: Vec<Admitted<Subscription>>) -> Self {
        Self::Unsubscribe {
            token,
            existed: Vec::with_capacity(subscriptions.len()),
            left: subscriptions.into_iter(),
            needs: Needs::Nothing,
        }
    }
}

impl Bus {
    /// Takes one command of an endpoint and does all of it. Commands of an endpoint that has no session (any more) are ignored.
    pub fn handle(&mut self, from: EndpointId, command: BusCommand, now: Instant, out: &mut BusOutputs) {
        let mut more = self.begin(from, command, now, out);
        while more {
            more = self.go_on(from, now, out);
        }
    }

    /// Does the first slice of it. Whether there is more.
    pub(crate) fn start(
        &mut self,
        from: EndpointId,
        command: UnderWay,
        now: Instant,
        out: &mut BusOutputs,
    ) -> bool {
        self.under_way.insert(from, command);
        self.go_on(from, now, out)
    }

    /// Does the next slice of a command that [`Bus::begin`] did not come to the end of. Whether there is more.
    pub fn go_on(&mut self, from: EndpointId, now: Instant, out: &mut BusOutputs) -> bool {
        let (Some(under_way), Some(slot)) = (self.under_way.remove(&from), self.sessions.of_endpoint(from))
        else {
            return false;
        };
        let written = self.pending.len();
        let under_way = match under_way {
            UnderWay::Subscribe {
                token,
                mut left,
                mut results,
                needs,
            } => {
                let slice = left.by_ref().take(SLICE);
                results
                    .extend(slice.map(|subscription| self.add_subscription(slot, subscription.into_inner())));
                let needs = self.needs_of(needs, written);
                if left.len() == 0 {
                    if self.answer(from, BusEvent::Subscribed { token, results }, needs, out) {
                        self.pump(slot, now, out);
                    }
                    return false;
                }
                UnderWay::Subscribe {
                    token,
                    left,
                    results,
                    needs,
                }
            }
            UnderWay::Unsubscribe {
                token,
                mut left,
                mut existed,
                needs,
            } => {
                for subscription in left.by_ref().take(SLICE) {
                    existed.push(self.remove_subscription(slot, subscription.into_inner(), now, out));
                }
                let needs = self.needs_of(needs, written);
                if left.len() == 0 {
                    self.answer(from, BusEvent::Unsubscribed { token, existed }, needs, out);
                    if self.sessions[slot].tells_drained() {
                        self.pump(slot, now, out); // What it was for may be gone with the subscription.
                    }
                    return false;
                }
                UnderWay::Unsubscribe {
                    token,
                    left,
                    existed,
                    needs,
                }
            }
        };
        self.under_way.insert(from, under_way);
        true
    }

    /// Steps of work done so far. Who drives the bus ends a turn when so many more are done as [`Bus::steps_of_a_turn`] says.
    pub fn work(&self) -> usize {
        self.work
    }

    /// See [`Bus::work`].
    pub const fn steps_of_a_turn() -> usize {
        STEPS
    }

    /// What the answer to a command needs that needed `before` until now, and had written so much when its slice began.
    fn needs_of(&self, before: Needs, written: usize) -> Needs {
        match before {
            Needs::Nothing => self.disk_if_more_than(written),
            Needs::Disk | Needs::Entries(_) => before,
        }
    }
}
