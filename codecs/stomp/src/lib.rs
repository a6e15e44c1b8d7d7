//! STOMP 1.0, 1.1 and 1.2: bytes to frames and back.
//!
//! [`Decoder`] cuts whole frames off a read buffer, [`encode`] appends them to one. Headers are checked UTF-8; a header that needs no unescaping, and every
//! body, is a slice of the buffer.
//!
//! Always true: no bytes make the decoder panic; nothing is allocated by a number that a peer sent; each byte is looked at a fixed number of times, however the
//! stream is cut.

mod decoder;
mod encode;
mod error;
mod escape;
mod frame;

pub use decoder::{Decoder, Limits};
pub use encode::{FrameWriter, encode};
pub use error::DecodeError;
pub use escape::is_padded;
pub use frame::{Command, Frame, Headers, Text, Version};
