//! What a session decides: who receives, what is sent next, when it ends. Pure: it is told the time, as the time since the service began.
//!
//! Always true: there is one receiver at most; frames come in the order open, messages, close; what was taken from a client is there for the application
//! even if the session has ended meanwhile.

use crate::frame::Frame;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::time::Duration;

/// How a session ended. The code is one of WebSocket (RFC 6455 §7.4), or from 3000 to 4999, the application's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The code.
    pub code: u16,
    /// In words.
    pub reason: Cow<'static, str>,
}

impl Ended {
    /// The application is done with the session.
    pub const GO_AWAY: Self = Self::new(3000, "Go away!");
    /// A receiver's connection broke: nobody knows what arrived. sockjs-protocol, `HandlingClose`.
    pub const INTERRUPTED: Self = Self::new(1002, "Connection interrupted");
    /// Nobody received for [`session_timeout`](crate::SockJsSettings::session_timeout).
    pub const TIMED_OUT: Self = Self::new(1001, "Session timed out");
    /// The receiver took nothing for too long.
    pub const STALLED: Self = Self::new(1001, "Receiver stalled");
    /// The session held much when memory was scarce. IANA's registry of close codes.
    pub const NO_MEMORY: Self = Self::new(1013, "No memory left");
    /// There is a receiver already: this is told to the second one, and ends nothing.
    pub(crate) const ANOTHER_RECEIVER: Self = Self::new(2010, "Another connection still open");

    /// A code and a reason.
    pub const fn new(code: u16, reason: &'static str) -> Self {
        Self {
            code,
            reason: Cow::Borrowed(reason),
        }
    }
}

/// How long a session waits and how much it holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) session_timeout: Duration,
    pub(crate) heartbeat: Duration,
    pub(crate) stall_time: Duration,
    pub(crate) inbox_bytes: usize,
    pub(crate) outbox_bytes: usize,
    /// Of a body, or of a WebSocket message.
    pub(crate) body_bytes: usize,
    /// In the place of `inbox_bytes` and `body_bytes` until the application lets the client in.
    pub(crate) stranger_bytes: Option<usize>,
}

impl Bounds {
    /// The client is let in.
    fn let_in(&mut self) {
        self.stranger_bytes = None;
    }

    fn inbox_bytes(&self) -> usize {
        self.stranger_bytes.unwrap_or(usize::MAX).min(self.inbox_bytes)
    }

    fn body_bytes(&self) -> usize {
        self.stranger_bytes.unwrap_or(usize::MAX).min(self.body_bytes)
    }
}

/// Encoded messages in one frame, in bytes before encoding; a message alone may be longer.
const FRAME_BYTES: usize = 64 << 10;

/// One session.
#[derive(Debug)]
pub(crate) struct SessionState {
    bounds: Bounds,
    /// The open frame was taken.
    greeted: bool,
    inbox: Queue,
    outbox: Queue,
    receiver: Option<Receiver>,
    receivers: u64,
    /// Since when there is no receiver, if there is none.
    alone_since: Duration,
    end: Option<End>,
    /// A receiver has got the close frame, or need not wait for one.
    told: bool,
    is_forgotten: bool,
    undelivered: usize,
}

#[derive(Debug)]
struct Receiver {
    id: ReceiverId,
    taken_at: Duration,
    heartbeat_due: bool,
}

#[derive(Debug)]
struct End {
    ended: Ended,
    /// When it ended, or the client took messages last.
    heard_at: Duration,
}

/// Names a receiver of one session; used once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReceiverId(u64);

/// What a receiver has to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Frame(Frame),
    Wait,
    /// It receives no longer.
    Over,
}

/// Why messages were not taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NotTaken {
    /// Here they are; when the application has read, there is room.
    Full(Vec<String>),
    Ended,
}

impl SessionState {
    pub(crate) fn new(bounds: Bounds, now: Duration) -> Self {
        Self {
            bounds,
            greeted: false,
            inbox: Queue::default(),
            outbox: Queue::default(),
            receiver: None,
            receivers: 0,
            alone_since: now,
            end: None,
            told: false,
            is_forgotten: false,
            undelivered: 0,
        }
    }

    /// One more request that wants frames; `Err` is all that it gets.
    pub(crate) fn attach(&mut self, now: Duration) -> Result<ReceiverId, Frame> {
        if self.receiver.is_some() {
            let ended = self.ended().cloned();
            return Err(Frame::Close(ended.unwrap_or(Ended::ANOTHER_RECEIVER)));
        }
        self.receivers += 1;
        let id = ReceiverId(self.receivers);
        self.receiver = Some(Receiver {
            id,
            taken_at: now,
            heartbeat_due: false,
        });
        Ok(id)
    }

    /// What `id` sends next.
    pub(crate) fn next(&mut self, id: ReceiverId, now: Duration) -> Next {
        let Some(receiver) = self.receiver.as_mut().filter(|receiver| receiver.id == id) else {
            return Next::Over;
        };
        let frame = if !self.greeted {
            self.greeted = true;
            Frame::Open
        } else if !self.outbox.is_empty() {
            if let Some(end) = &mut self.end {
                end.heard_at = now;
            }
            Frame::Messages(self.outbox.take(FRAME_BYTES))
        } else if let Some(end) = &self.end {
            let frame = Frame::Close(end.ended.clone());
            self.told = true;
            self.leave(now);
            return Next::Frame(frame);
        } else if receiver.heartbeat_due {
            Frame::Heartbeat
        } else {
            return Next::Wait;
        };
        receiver.taken_at = now;
        receiver.heartbeat_due = false;
        Next::Frame(frame)
    }

    /// A receiver is gone. One that did not finish its answer was cut off: what it had taken may be lost, so the session ends.
    pub(crate) fn detach(&mut self, id: ReceiverId, finished: bool, now: Duration) {
        if self.receiver.as_ref().is_none_or(|receiver| receiver.id != id) {
            return;
        }
        self.leave(now);
        if !finished {
            self.break_off(Ended::INTERRUPTED, now);
        }
    }

    fn leave(&mut self, now: Duration) {
        self.receiver = None;
        self.alone_since = now;
    }

    /// Messages of the client, all or none.
    pub(crate) fn deliver(&mut self, messages: Vec<String>) -> Result<(), NotTaken> {
        if self.end.is_some() {
            return Err(NotTaken::Ended);
        }
        let cost = messages.iter().map(|message| Queue::cost(message)).sum();
        if !self.inbox.has_room(cost, self.bounds.inbox_bytes()) {
            return Err(NotTaken::Full(messages));
        }
        messages.into_iter().for_each(|message| self.inbox.push(message));
        Ok(())
    }

    /// The client's next message.
    pub(crate) fn read(&mut self) -> Option<String> {
        self.inbox.pop()
    }

    /// The application lets the client in: it may send more from now on.
    pub(crate) fn let_in(&mut self) {
        self.bounds.let_in();
    }

    /// Bytes of a body or a WebSocket message at most.
    pub(crate) fn max_body_bytes(&self) -> usize {
        self.bounds.body_bytes()
    }

    /// Bytes of what waits, either way.
    pub(crate) fn held(&self) -> usize {
        self.inbox.bytes + self.outbox.bytes
    }

    /// Whether the application may send. It may overrun the bound by one message.
    pub(crate) fn may_send(&self) -> bool {
        self.outbox.bytes < self.bounds.outbox_bytes
    }

    /// A message for the client.
    pub(crate) fn send(&mut self, message: String) -> Result<(), Ended> {
        if let Some(end) = &self.end {
            return Err(end.ended.clone());
        }
        self.outbox.push(message);
        Ok(())
    }

    /// Ends it, once. The client gets what waits for it, and hears so until `session_timeout` after the last of it.
    pub(crate) fn close(&mut self, ended: Ended, now: Duration) {
        self.end.get_or_insert(End { ended, heard_at: now });
    }

    /// Ends it, once, and drops what waits for the client.
    pub(crate) fn break_off(&mut self, ended: Ended, now: Duration) {
        self.close(ended, now);
        self.told = true;
        self.undelivered += self.outbox.clear();
    }

    /// Ends it, once, for a client that will not ask again.
    pub(crate) fn forget(&mut self, ended: Ended, now: Duration) {
        self.break_off(ended, now);
        self.receiver = None;
        self.is_forgotten = true;
    }

    /// How it ended; `None`: it has not.
    pub(crate) fn ended(&self) -> Option<&Ended> {
        self.end.as_ref().map(|end| &end.ended)
    }

    /// The client has got everything and knows of the end, or is gone.
    pub(crate) fn is_settled(&self) -> bool {
        self.told
    }

    /// Messages for the client that were dropped since this was asked last.
    pub(crate) fn take_undelivered(&mut self) -> usize {
        std::mem::take(&mut self.undelivered)
    }

    /// When [`Self::timeout`] is next wanted; `None`: the session is to be forgotten.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        if self.is_forgotten {
            return None;
        }
        let bounds = &self.bounds;
        Some(match (&self.receiver, &self.end) {
            (Some(receiver), None) if !receiver.heartbeat_due => receiver.taken_at + bounds.heartbeat,
            (Some(receiver), _) => receiver.taken_at + bounds.heartbeat + bounds.stall_time,
            (None, None) => self.alone_since + bounds.session_timeout,
            // Who asks again and again does not keep an ended session alive: its messages come to an end.
            (None, Some(end)) => end.heard_at + bounds.session_timeout,
        })
    }

    /// Does what is due.
    pub(crate) fn timeout(&mut self, now: Duration) {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        match (&mut self.receiver, &self.end) {
            (Some(receiver), None) if !receiver.heartbeat_due => {
                receiver.heartbeat_due = true;
                self.timeout(now); // it may be late enough for more
            }
            (Some(_), _) => {
                self.leave(now);
                self.break_off(Ended::STALLED, now);
            }
            (None, None) => self.forget(Ended::TIMED_OUT, now),
            (None, Some(End { ended, .. })) => self.forget(ended.clone(), now),
        }
    }
}

/// Messages in their order, and what they cost.
#[derive(Debug, Default)]
struct Queue {
    messages: VecDeque<String>,
    bytes: usize,
}

impl Queue {
    /// Many empty messages are something, too.
    fn cost(message: &str) -> usize {
        message.len() + size_of::<String>()
    }

    fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// An empty queue has room for whatever was let in that far.
    fn has_room(&self, cost: usize, limit: usize) -> bool {
        self.is_empty() || self.bytes + cost <= limit
    }

    fn push(&mut self, message: String) {
        self.bytes += Self::cost(&message);
        self.messages.push_back(message);
    }

    fn pop(&mut self) -> Option<String> {
        let message = self.messages.pop_front()?;
        self.bytes -= Self::cost(&message);
        if self.messages.is_empty() {
            self.messages = VecDeque::new(); // idle sessions hold no buffer
        }
        Some(message)
    }

    /// At least one message, and as many more as fit.
    fn take(&mut self, limit: usize) -> Vec<String> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while let Some(message) = self.messages.front() {
            bytes += Self::cost(message);
            if bytes > limit && !taken.is_empty() {
                break;
            }
            taken.extend(self.pop());
        }
        taken
    }

    fn clear(&mut self) -> usize {
        std::mem::take(self).messages.len()
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
