//! A session while it lives: its state behind a lock, and who waits for what.
//!
//! Always true: the lock is held for a step of [`SessionState`], never while anything waits; whoever waits has left a waker before looking.

use crate::frame::Frame;
use crate::memory::{Hold, Meter};
use crate::refusal::{Refusal, Refusals};
use crate::session::{Bounds, Ended, Next, NotTaken, ReceiverId, SessionState};
use axum::http::HeaderValue;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use std::future::poll_fn;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// A session, for all who have to do with it.
#[derive(Debug)]
pub(crate) struct Live {
    timed: Mutex<Timed>,
    began: Instant,
    counts: Arc<Refusals>,
    /// What the session holds, wherever it is.
    pub(crate) meter: Arc<Meter>,
    /// The first origin that a request named.
    origin: OnceLock<HeaderValue>,
    /// Woken: the receiver, for frames.
    receiver: AtomicWaker,
    /// Woken: the application, for messages of the client.
    reader: AtomicWaker,
    /// Woken: the application, for room.
    writer: AtomicWaker,
    /// Woken: senders, for room.
    room: Notify,
    /// Woken: the keeper of time, when a deadline comes nearer.
    timer: Notify,
    /// Woken: who writes to a socket that takes nothing.
    cut_off: Notify,
    /// One request at a time brings messages.
    pub(crate) sending: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Timed {
    state: SessionState,
    /// When the keeper of time looks next.
    armed: Duration,
    /// What is in its queues.
    held: Hold,
}

impl Live {
    /// `began` is when the service did.
    pub(crate) fn new(bounds: Bounds, began: Instant, counts: Arc<Refusals>) -> Arc<Self> {
        let state = SessionState::new(bounds, began.elapsed());
        let meter = Arc::<Meter>::default();
        Arc::new(Self {
            timed: Mutex::new(Timed {
                state,
                armed: Duration::ZERO,
                held: Hold::new(&meter),
            }),
            meter,
            began,
            counts,
            origin: OnceLock::new(),
            receiver: AtomicWaker::new(),
            reader: AtomicWaker::new(),
            writer: AtomicWaker::new(),
            room: Notify::new(),
            timer: Notify::new(),
            cut_off: Notify::new(),
            sending: tokio::sync::Mutex::default(),
        })
    }

    /// One step, and what it has to do with time.
    fn step<T>(&self, step: impl FnOnce(&mut SessionState, Duration) -> T) -> T {
        let mut timed = self.timed.lock();
        let done = step(&mut timed.state, self.began.elapsed());
        if timed
            .state
            .deadline()
            .is_none_or(|deadline| deadline < timed.armed)
        {
            self.timer.notify_one();
        }
        let held = timed.state.held();
        timed.held.set(held);
        let undelivered = timed.state.take_undelivered();
        drop(timed);
        if undelivered > 0 {
            self.counts.add(Refusal::Undelivered, undelivered);
        }
        done
    }

    /// One step that may end the session.
    fn turn<T>(&self, step: impl FnOnce(&mut SessionState, Duration) -> T) -> T {
        let done = self.step(step);
        self.receiver.wake();
        self.reader.wake();
        self.writer.wake();
        self.room.notify_waiters();
        done
    }

    /// Lets the deadlines come; returns when the session is to be forgotten.
    pub(crate) async fn keep_time(&self) {
        loop {
            let deadline = {
                let mut timed = self.timed.lock();
                let Some(deadline) = timed.state.deadline() else {
                    return;
                };
                timed.armed = deadline;
                deadline
            };
            tokio::select! {
                () = self.timer.notified() => {}
                () = sleep_until(self.began + deadline) => self.timeout(),
            }
        }
    }

    fn timeout(&self) {
        self.shed();
        let was_open = self.ended().is_none();
        self.turn(SessionState::timeout);
        if was_open && self.ended() == Some(Ended::STALLED) {
            self.counts.add(Refusal::Stalled, 1);
            self.cut_off.notify_one();
        }
    }

    /// Returns when the session has ended because its receiver took nothing.
    pub(crate) async fn cut_off(&self) {
        self.cut_off.notified().await;
    }

    /// Whether a request from this origin belongs to the session. Without an origin no other site is known to have caused it.
    pub(crate) fn belongs_to(&self, origin: Option<&HeaderValue>) -> bool {
        origin.is_none_or(|origin| self.origin.get_or_init(|| origin.clone()) == origin)
    }

    /// A request that wants frames; `Err` is all that it gets.
    pub(crate) fn attach(self: &Arc<Self>) -> Result<Receiving, Frame> {
        let id = self.step(|state, now| state.attach(now))?;
        Ok(Receiving {
            live: Arc::clone(self),
            id,
            finished: false,
        })
    }

    /// Messages of the client, all or none. Waits for room.
    pub(crate) async fn deliver(&self, mut messages: Vec<String>) -> Result<(), Ended> {
        loop {
            let room = self.room.notified();
            match self.step(|state, _| state.deliver(messages)) {
                Ok(()) => break,
                Err(NotTaken::Full(back)) => messages = back,
                Err(NotTaken::Ended) => return Err(self.ended().unwrap_or(Ended::GO_AWAY)),
            }
            room.await;
        }
        self.reader.wake();
        self.shed();
        Ok(())
    }

    /// The client's next message; `None`: there will be none.
    pub(crate) fn poll_read(&self, cx: &mut Context<'_>) -> Poll<Option<String>> {
        self.reader.register(cx.waker());
        let (message, is_over) = self.step(|state, _| (state.read(), state.ended().is_some()));
        match message {
            Some(message) => {
                self.room.notify_waiters();
                Poll::Ready(Some(message))
            }
            None if is_over => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    /// Ready when the application may send.
    pub(crate) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        self.writer.register(cx.waker());
        self.step(|state, _| match state.ended() {
            Some(ended) => Poll::Ready(Err(ended.clone())),
            None if state.may_send() => Poll::Ready(Ok(())),
            None => Poll::Pending,
        })
    }

    /// Ready when the client has got everything and knows of the end, or is gone.
    pub(crate) fn poll_settled(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.writer.register(cx.waker());
        match self.step(|state, _| state.is_settled()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    /// A message for the client.
    pub(crate) fn send(&self, message: String) -> Result<(), Ended> {
        self.step(|state, _| state.send(message))?;
        self.receiver.wake();
        self.shed();
        Ok(())
    }

    /// Ends it, once; what waits for the client still goes.
    pub(crate) fn close(&self, ended: Ended) {
        self.turn(|state, now| state.close(ended, now));
    }

    /// Ends it, once, for a client that will not ask again.
    pub(crate) fn forget(&self, ended: Ended) {
        self.turn(|state, now| state.forget(ended, now));
    }

    /// Ends it if it holds much and memory is scarce; true: it has to go.
    pub(crate) fn shed(&self) -> bool {
        let sheds = self.meter.is_too_much();
        if sheds && self.ended().is_none() {
            self.counts.add(Refusal::Memory, 1);
            tracing::info!("no memory left: a SockJS session that holds much is closed");
            self.forget(Ended::NO_MEMORY);
            self.cut_off.notify_one();
        }
        sheds
    }

    /// The application lets the client in.
    pub(crate) fn let_in(&self) {
        self.step(|state, _| state.let_in());
        self.room.notify_waiters();
    }

    /// Bytes of a body or a WebSocket message at most.
    pub(crate) fn max_body_bytes(&self) -> usize {
        self.timed.lock().state.max_body_bytes()
    }

    pub(crate) fn ended(&self) -> Option<Ended> {
        self.timed.lock().state.ended().cloned()
    }
}

/// The one request that gets a session's frames. If it is dropped before it [finished](Self::finish), the session ends.
#[derive(Debug)]
pub(crate) struct Receiving {
    live: Arc<Live>,
    id: ReceiverId,
    finished: bool,
}

impl Receiving {
    /// The next frame; `None`: this receives no longer.
    pub(crate) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Frame>> {
        self.live.receiver.register(cx.waker());
        match self.live.step(|state, now| state.next(self.id, now)) {
            Next::Wait => Poll::Pending,
            Next::Over => Poll::Ready(None),
            Next::Frame(frame) => {
                if matches!(frame, Frame::Messages(_) | Frame::Close(_)) {
                    self.live.writer.wake();
                }
                Poll::Ready(Some(frame))
            }
        }
    }

    pub(crate) fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// The form of [`Self::poll_next`] to wait for.
    pub(crate) async fn next(&self) -> Option<Frame> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The answer is complete, and the client asks again.
    pub(crate) fn finish(mut self) {
        self.finished = true;
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        let (id, finished) = (self.id, self.finished);
        if finished {
            self.live.step(|state, now| state.detach(id, true, now));
        } else {
            self.live.turn(|state, now| state.detach(id, false, now));
        }
    }
}
