//! SockJS 0.3.3 over loopback, byte by byte. Each test names that of the official sockjs-protocol test file which it follows.

mod bounds;
mod client;
mod owner;
mod pages;
mod polling;
mod streaming;
mod websocket;
