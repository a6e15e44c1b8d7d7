//! RECEIPT: what waits for one, and in which order they leave. STOMP 1.2, RECEIPT.
//!
//! Each client frame that waits for the bus, or wants a RECEIPT, is a [`Step`]. Always true: a RECEIPT leaves when its frame and all before it are done. So it is
//! cumulative for all frames, as STOMP 1.2 allows and does not ask.

use headgate_model::AckToken;
use headgate_stomp_codec::Text;
use std::collections::VecDeque;

/// Steps that may wait before further frames are left unread,
const MOST: usize = 1_024;
/// and bytes of their receipt ids.
const MOST_BYTES: usize = 64 << 10;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    waiting: VecDeque<Step>,
    /// Number of the first of them. Numbers wrap around: there are far fewer than 2^32.
    first: u32,
    /// Of all receipt ids.
    bytes: usize,
}

#[derive(Debug)]
struct Step {
    /// Answers that are missing.
    missing: u32,
    receipt: Option<Text>,
}

impl Steps {
    /// A frame that waits for one answer more than [`Steps::add`] says. Its number is the token of what it asks of the bus.
    pub(crate) fn open(&mut self, receipt: Option<Text>) -> AckToken {
        self.bytes += receipt.as_ref().map_or(0, |receipt| receipt.len());
        self.waiting.push_back(Step { missing: 1, receipt });
        let last = u32::try_from(self.waiting.len() - 1).expect("bounded");
        AckToken(self.first.wrapping_add(last))
    }

    /// The step waits for one more answer.
    pub(crate) fn add(&mut self, token: AckToken) {
        if let Some(step) = self.get_mut(token) {
            step.missing += 1;
        }
    }

    /// One of the answers came.
    pub(crate) fn answered(&mut self, token: AckToken) {
        if let Some(step) = self.get_mut(token) {
            step.missing = step.missing.saturating_sub(1);
        }
    }

    /// What the frame wants to be called in its RECEIPT or ERROR.
    pub(crate) fn receipt(&self, token: AckToken) -> Option<Text> {
        let at = usize::try_from(token.0.wrapping_sub(self.first)).ok()?;
        self.waiting.get(at)?.receipt.clone()
    }

    /// The frame is answered otherwise: there will be no RECEIPT. What it was to be called.
    pub(crate) fn withdraw(&mut self, token: AckToken) -> Option<Text> {
        let step = self.get_mut(token)?;
        step.missing = 0;
        let receipt = step.receipt.take()?;
        self.bytes -= receipt.len();
        Some(receipt)
    }

    /// Takes the first step if it is done, with the RECEIPT that it wants.
    pub(crate) fn pop(&mut self) -> Option<Option<Text>> {
        let step = self.waiting.pop_front_if(|step| step.missing == 0)?;
        self.first = self.first.wrapping_add(1);
        self.bytes -= step.receipt.as_ref().map_or(0, |receipt| receipt.len());
        Some(step.receipt)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether no further frame is taken for now.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting.len() >= MOST || self.bytes >= MOST_BYTES
    }

    pub(crate) fn held(&self) -> usize {
        self.waiting.capacity() * size_of::<Step>() + self.bytes
    }

    fn get_mut(&mut self, token: AckToken) -> Option<&mut Step> {
        let at = usize::try_from(token.0.wrapping_sub(self.first)).ok()?;
        self.waiting.get_mut(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RECEIPTs leave in the order of their frames, whatever is answered first.
    #[test]
    fn an_earlier_frame_holds_later_receipts_back() {
        let mut steps = Steps {
            first: u32::MAX,
            ..Steps::default()
        };
        let first = steps.open(Some("1".into()));
        let second = steps.open(Some("2".into()));
        steps.add(first);
        steps.answered(second);
        steps.answered(first);
        assert_eq!(steps.pop(), None);
        steps.answered(first);
        assert_eq!(steps.pop(), Some(Some("1".into())));
        assert_eq!(steps.pop(), Some(Some("2".into())));
        assert!(steps.is_empty());
    }
}
