//! A small CoAP client for the command line, over UDP: requests that are sent again until they are answered, bodies in blocks, observations.
//!
//! Section numbers are those of RFC 7252, unless another one is named.

mod client;
mod error;
mod target;

pub(crate) use client::{Ask, CoapClient};
pub(crate) use error::CoapError;
pub(crate) use target::Target;
