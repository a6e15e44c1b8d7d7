//! Listeners and transports over real sockets on the loopback interface.

mod bench;
mod limits;
mod pki;
mod proxy;
mod reload;
mod sockjs;
mod tcp;
mod tls;
mod transport;
#[cfg(unix)]
mod unix;
mod websocket;
mod websocket_handshake;
