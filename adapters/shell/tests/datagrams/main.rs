//! The loop around a server of datagrams, over real sockets.

#![cfg(unix)]

mod bench;
mod serial;
mod udp;
