//! CoAP (RFC 7252): bytes to messages and back.
//!
//! [`decode`] and [`encode`] are for datagrams; [`decode_stream`] and [`encode_stream`] for connections (RFC 8323). The bytes themselves are read and written by `coap-lite`;
//! this crate is strict where that is lax, and gives names to what the gateway needs.
//!
//! Always true: no bytes make a decoder panic; nothing is allocated by a number that a peer sent; what is decoded encodes to the same message.

mod block;
mod code;
mod datagram;
mod link;
mod message;
mod options;
mod stream;

pub use block::{Block, BlockError};
pub use code::Code;
pub use datagram::{DecodeError, TooLong, decode, encode, encoded_len};
pub use link::{Links, escape_quoted};
pub use message::{Kind, Message, Token};
pub use options::{Options, format, number};
pub use stream::{StreamError, decode_stream, encode_stream};
