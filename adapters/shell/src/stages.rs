//! The life of a connection in stages, each in a memory of its own.
//!
//! A task keeps room for the largest thing that it ever waits for, as long as it lives. A connection shakes hands for a moment, is open for days,
//! and says goodbye for a moment: so each stage is boxed, gives way to the next one and is gone, and the task holds nothing but a pointer.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// What happens until the next stage begins; `None` ends it all.
pub struct Stages(Pin<Box<dyn Future<Output = Option<Stages>> + Send>>);

impl Stages {
    /// Begins with this stage.
    pub fn new(first: impl Future<Output = Option<Self>> + Send + 'static) -> Self {
        Self(Box::pin(first))
    }

    /// A single stage.
    pub fn one(stage: impl Future<Output = ()> + Send + 'static) -> Self {
        Self::new(async move {
            stage.await;
            None
        })
    }
}

impl Future for Stages {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(next) = ready!(self.0.as_mut().poll(cx)) {
            *self = next;
        }
        Poll::Ready(())
    }
}
