//! The seam to whoever knows users and rules.

use crate::connection::ConnectionInfo;
use headgate_model::{Answer, Question};
use std::fmt;
use std::future::Future;
use std::pin::Pin;

/// Knows who may connect and what they may do.
pub trait AccessService: Send + Sync + fmt::Debug {
    /// One connection's conversation with the service.
    fn session(&self, info: &ConnectionInfo) -> Box<dyn AccessSession>;
}

/// The answer to a question, and the conversation handed back.
pub type Answering = Pin<Box<dyn Future<Output = (Box<dyn AccessSession>, Answer)> + Send>>;

/// The conversation of one connection: it remembers, for instance, how far enhanced authentication has come.
pub trait AccessSession: Send {
    /// Answers one question; the next one is asked after that.
    fn answer(self: Box<Self>, question: Question) -> Answering;
}
