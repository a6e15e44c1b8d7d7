//! SockJS 0.3.3, the server's side: sessions of text messages over whatever HTTP a browser gets through.
//!
//! The protocol is that of the [sockjs-protocol](https://github.com/sockjs/sockjs-protocol) test file. [`SockJs`] gives an `axum` router for any base path;
//! each new session is handed to a [`Service`] as a [`Session`], which takes and gives messages, or is read and written as [bytes](SessionBytes).
//!
//! | file | what it is |
//! |---|---|
//! | `session.rs` | what a session decides: pure |
//! | `frame.rs`, `route.rs` | frames, messages, URLs: pure |
//! | `live.rs`, `table.rs` | sessions while they live, and how many there may be |
//! | `memory.rs`, `bodies.rs` | what sessions hold, and how many bodies may come in at a time |
//! | `http.rs`, `receive.rs`, `send.rs`, `websocket.rs` | the URLs |
//! | `application.rs`, `bytes.rs` | the side of the application |
//!
//! What is refused has a reason and is [counted](SockJs::refused). Nothing is compressed.

#![expect(
    clippy::disallowed_methods,
    reason = "sessions are told the time by the service around them"
)]

mod application;
mod bodies;
mod bytes;
mod encode;
mod frame;
mod http;
mod live;
mod memory;
mod metered;
mod receive;
mod refusal;
mod route;
mod send;
mod session;
mod settings;
mod table;
mod websocket;

pub use application::{Service, Session};
pub use bytes::SessionBytes;
pub use http::SockJs;
pub use memory::Memory;
pub use refusal::{Refusal, Refusals};
pub use route::Transport;
pub use session::Ended;
pub use settings::{SettingsFault, SockJsSettings};
