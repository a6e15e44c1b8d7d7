//! A small STOMP client: one connection, frames in, frames out.

mod client;
mod error;

pub(crate) use client::{Login, StompClient};
pub(crate) use error::StompError;
