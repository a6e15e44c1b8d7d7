//! The real gateway as a process, and clients that are not ours.
//!
//! Time only guards against hanging here: no test passes or fails by how fast something is.

mod coap;
mod control;
mod daemon;
mod http;
mod lwm2m;
mod mosquitto;
mod peer;
mod pki;
mod proxy;
mod sn;
mod sn_dtls;
mod sn_frames;
mod sn_line;
mod stomp;
mod tools;

pub use coap::{CoapClient, CoapRequest, Observing};
pub use daemon::{Daemon, Setup, Transport, headgate};
pub use http::{HttpAnswer, HttpClient};
pub use lwm2m::Lwm2mDevice;
pub use mosquitto::{Mosquitto, free_port};
pub use peer::Peer;
pub use pki::Certificates;
pub use proxy::{Proxy, Weather};
pub use sn::{SnPeer, own_address};
pub use sn_dtls::{DtlsClient, DtlsLogin, DtlsStack};
pub use sn_frames::SnFraming;
pub use sn_line::{Noise, SnLine};
pub use stomp::{StompPeer, WsPeer};
pub use tools::{Job, Listening, Message, Tool, Will, lossless, mqttsn12, node_client, python_client};

use std::time::{Duration, Instant};

/// After so long something hangs.
pub const HANG: Duration = Duration::from_secs(90);

/// Lets this process have as many sockets as it may: a thousand here and a thousand there are more than at first.
pub fn allow_connections() {
    let script = "prlimit --pid $0 --nofile=$(ulimit -Hn):$(ulimit -Hn)";
    let raised = std::process::Command::new("sh")
        .args(["-c", script, &std::process::id().to_string()])
        .status();
    assert!(raised.unwrap().success());
}

/// Asks again and again until there is an answer.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < HANG, "still waiting for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
