//! What both loops do with their place on the bus.

use crate::metrics::{Metrics, OwnMetrics};
use headgate_bus::handle::{Attach, Call, Hub, Place};
use headgate_model::{Counts, Instant, Sessions};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Later than any deadline.
const NO_ALARM: Instant = Instant(u64::MAX);

/// A place on the bus, with what is to be remembered of it from turn to turn.
pub(crate) struct Seat<S: Attach> {
    place: S::Place,
    /// When the alarm rings that was set last; [`NO_ALARM`] when it has.
    alarm: Instant,
    /// The bus has not taken all commands yet.
    pub unfinished: bool,
}

impl<S: Attach> Seat<S> {
    pub(crate) fn new(hub: &Hub) -> Self {
        Self {
            place: S::attach(hub),
            alarm: NO_ALARM,
            unfinished: false,
        }
    }

    pub(crate) fn hub(&self) -> &Hub {
        self.place.hub()
    }

    pub(crate) fn now(&self) -> Instant {
        self.hub().clock().now()
    }

    /// Hands commands to the bus. False when it has not taken all: the loop goes on after everybody else has had a turn.
    pub(crate) fn submit(&mut self, commands: &mut Vec<S::Command>) -> bool {
        self.unfinished = !self.place.submit_some(commands);
        !self.unfinished
    }

    /// Hands over what is to be done before the place is given up.
    pub(crate) fn submit_all(&mut self, commands: &mut Vec<S::Command>) {
        while !self.submit(commands) {}
    }

    /// Ready when there are events. Otherwise `cx` is woken when there are, when the alarm rings, or when the gateway stops.
    pub(crate) fn poll_events(&mut self, cx: &Context<'_>) -> Poll<()> {
        let mut called = self.place.poll_call(cx);
        if called == Poll::Ready(Call::Alarm) {
            self.alarm = NO_ALARM;
            called = self.place.poll_call(cx);
        }
        called.map(drop)
    }

    pub(crate) fn take_events(&self, into: &mut VecDeque<<S as Sessions>::Event>) {
        self.place.take_events(into);
    }

    pub(crate) fn hold_buffers(&self, bytes: usize) {
        self.place.hold_buffers(bytes);
    }

    /// Whether this deadline has come. If not, the task will be woken: a deadline mostly moves on with every packet, so the alarm stays as it is, and is set
    /// anew when it rings too early.
    pub(crate) fn is_due(&mut self, at: Instant) -> bool {
        if self.alarm <= at {
            return false;
        }
        if at <= self.now() {
            return true;
        }
        self.alarm = at;
        self.place.wake_at(at);
        false
    }
}

/// Where what a protocol counts is added up.
pub(crate) struct Tally {
    metrics: Arc<Metrics>,
    own: Arc<OwnMetrics>,
}

impl Tally {
    /// What the protocol alone counts goes under the names of `counters`.
    pub(crate) fn new(metrics: &Arc<Metrics>, counters: &'static [&'static str]) -> Self {
        Self {
            own: metrics.register(counters),
            metrics: Arc::clone(metrics),
        }
    }

    pub(crate) fn add(&self, counts: &mut Counts) {
        self.metrics.add(counts, &self.own);
    }
}

/// The task goes on when everybody else who is ready has had a turn, those included of whom the system has yet to be asked: a task that wakes itself would be
/// polled dozens of times before.
pub(crate) fn wait_for_others<T>(cx: &mut Context<'_>) -> Poll<T> {
    let _ = pin!(tokio::task::yield_now()).poll(cx);
    Poll::Pending
}
