//! Programs publish by way of the hub, and may wait until a message is as safe as a PUBACK promises.

use super::hub::{Core, Hub};
use super::promise::Promise;
use headgate_model::bus::{Outcome, Refusal};
use headgate_model::{AckToken, Admitted, BusEvent, Message};
use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Waker;

/// Messages whose publishers wait for an answer, at most. One more is refused.
const MAX_OPEN: usize = 4_096;

/// Messages of one publisher that wait at a time.
const MAX_OF_ONE: usize = 256;

pub(super) type Answer = Result<Outcome, Refusal>;

/// Who waits for which answer.
#[derive(Default)]
pub(super) struct Publishing {
    open: BTreeMap<u32, Arc<Promise<Answer>>>,
    last: u32,
    /// The hub has stopped: nothing is promised any more.
    closed: bool,
}

impl Hub {
    /// Publishes a message that came through the gate. Comes back when it is as safe as a PUBACK promises, for a message of any QoS, or refused. While the store is behind, it waits
    /// before it publishes, as clients do. Who gives up before has published it or not; who gives up later has.
    ///
    /// [`Refusal::QuotaExceeded`]: as many messages wait for their answer as may (4,096). [`Refusal::StoreFailed`]: it is not safe, or the hub has stopped.
    pub async fn publish(&self, message: Admitted<Message>) -> Result<Outcome, Refusal> {
        poll_fn(|cx| self.poll_caught_up(cx)).await;
        let promise = self.publish_at_once(message.into_inner())?;
        promise.wait().await
    }

    /// Publishes several, in their order; one commit may serve many. The answers come in the same order.
    pub async fn publish_each(
        &self,
        messages: impl IntoIterator<Item = Admitted<Message>>,
    ) -> Vec<Result<Outcome, Refusal>> {
        let mut answers = Vec::new();
        let mut waiting = VecDeque::new();
        for message in messages {
            if waiting.len() >= MAX_OF_ONE {
                answers.push(first_of(&mut waiting).await);
            }
            poll_fn(|cx| self.poll_caught_up(cx)).await;
            waiting.push_back(self.publish_at_once(message.into_inner()));
        }
        while !waiting.is_empty() {
            answers.push(first_of(&mut waiting).await);
        }
        answers
    }

    /// The same, whether the store is behind or not.
    pub(super) fn publish_at_once(&self, message: Message) -> Result<Arc<Promise<Answer>>, Refusal> {
        self.turn_of_core(|core, now| {
            let (token, promise) = core.publishing.open()?;
            core.bus.publish_acknowledged(message, token, now, &mut core.out);
            Ok(promise)
        })
    }

    /// Publishes a message of the gateway itself, and waits for nothing. It is not refused, unless `$delayed/` has no room.
    pub fn publish_now(&self, message: Message) {
        self.turn(|bus, now, out| bus.publish(message, now, out));
    }
}

/// The answer to the first message that waits.
async fn first_of(waiting: &mut VecDeque<Result<Arc<Promise<Answer>>, Refusal>>) -> Answer {
    let first = waiting.pop_front().unwrap_or(Err(Refusal::StoreFailed));
    first?.wait().await
}

impl Publishing {
    fn open(&mut self) -> Result<(AckToken, Arc<Promise<Answer>>), Refusal> {
        if self.closed {
            return Err(Refusal::StoreFailed);
        }
        if self.open.len() >= MAX_OPEN {
            return Err(Refusal::QuotaExceeded);
        }
        // So few are open that the next number is free when the last one comes round.
        self.last = self.last.wrapping_add(1);
        let promise = Arc::<Promise<Answer>>::default();
        self.open.insert(self.last, Arc::clone(&promise));
        Ok((AckToken(self.last), promise))
    }

    /// The bus answers.
    pub(super) fn answer(&mut self, event: &BusEvent, woken: &mut Vec<Waker>) {
        let (token, answer) = match event {
            BusEvent::Accepted(token, outcome) => (token, Ok(*outcome)),
            BusEvent::Refused(token, refusal) => (token, Err(*refusal)),
            _ => return,
        };
        if let Some(promise) = self.open.remove(&token.0) {
            woken.extend(promise.keep(answer));
        }
    }
}

impl Core {
    /// The hub has stopped: whatever has no answer yet gets none from the store.
    pub(super) fn close_publishing(&mut self) {
        self.publishing.closed = true;
        for (_, promise) in std::mem::take(&mut self.publishing.open) {
            let waker = promise.keep(Err(Refusal::StoreFailed));
            waker.into_iter().for_each(Waker::wake);
        }
    }
}
