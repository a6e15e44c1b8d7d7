//! How the message layer sends again, and what it remembers. RFC 7252 §4.8

use headgate_model::Fault;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// MAX_LATENCY. RFC 7252 §4.8.2
const MAX_LATENCY: Duration = Duration::from_secs(100);

/// How messages are sent again, and what is remembered of those that came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Transmission {
    /// How long an acknowledgement is waited for at first, 1 ms to 1 min; each time twice as long. ACK_TIMEOUT in RFC 7252 §4.8
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub ack_timeout: Duration,
    /// So many per cent of that at most, by chance, that not all send again at once: 100 to 1000. ACK_RANDOM_FACTOR in RFC 7252 §4.8
    pub ack_random_percent: u16,
    /// How often a message is sent again, 0 to 16. MAX_RETRANSMIT in RFC 7252 §4.8
    pub max_retransmit: u8,
    /// Messages to one peer that wait for their acknowledgement at once, 1 to 64. NSTART in RFC 7252 §4.8
    pub nstart: u8,
    /// Messages that wait for one peer, 1 or more; who has more is lost.
    pub max_waiting: usize,
    /// Bytes that wait for all peers together, 64 KiB or more. Peers that have not proved that they receive may have half of it.
    pub max_waiting_bytes: usize,
    /// Peers that something is remembered of, 1 or more: message IDs, what waits, and that they receive. Who was silent longest is forgotten first.
    pub max_peers: usize,
    /// Bytes for what came in the last minutes and its answers, by which what comes twice is told from what is new. The oldest is forgotten first. RFC 7252 §4.5
    pub max_exchange_bytes: usize,
    /// Bytes that an address is sent at most for each byte that came from it, until it has proved that it receives: `0` is no limit. RFC 7252 §11.3
    pub amplification_limit: u8,
    /// Within so long, at a time by chance, what came by multicast is answered: 0 s to 10 min. DEFAULT_LEISURE in RFC 7252 §4.8, §8.2
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub leisure: Duration,
}

impl Default for Transmission {
    fn default() -> Self {
        Self {
            ack_timeout: Duration::from_secs(2),
            ack_random_percent: 150,
            max_retransmit: 4,
            nstart: 1,
            max_waiting: 64,
            max_waiting_bytes: 64 << 20,
            max_peers: 250_000,
            max_exchange_bytes: 16 << 20,
            amplification_limit: 3,
            leisure: Duration::from_secs(5),
        }
    }
}

impl Transmission {
    /// All that is wrong.
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut check = |good: bool, key: &str, value: String, allowed: &str| {
            if !good {
                faults.push(Fault::new(
                    key,
                    format!("{value} is out of range, allowed is {allowed}"),
                ));
            }
        };
        let timeout = self.ack_timeout;
        let written = humantime_serde::re::humantime::format_duration(timeout).to_string();
        let in_range = (Duration::from_millis(1)..=Duration::from_secs(60)).contains(&timeout);
        check(in_range, "ack_timeout", written, "1ms to 1m");
        let percent = self.ack_random_percent;
        check(
            (100..=1_000).contains(&percent),
            "ack_random_percent",
            percent.to_string(),
            "100 to 1000",
        );
        check(
            self.max_retransmit <= 16,
            "max_retransmit",
            self.max_retransmit.to_string(),
            "0 to 16",
        );
        check(
            (1..=64).contains(&self.nstart),
            "nstart",
            self.nstart.to_string(),
            "1 to 64",
        );
        check(
            self.max_waiting > 0,
            "max_waiting",
            self.max_waiting.to_string(),
            "1 and more",
        );
        let bytes = self.max_waiting_bytes;
        check(
            bytes >= 64 << 10,
            "max_waiting_bytes",
            bytes.to_string(),
            "65536 and more",
        );
        check(
            self.max_peers > 0,
            "max_peers",
            self.max_peers.to_string(),
            "1 and more",
        );
        let written = humantime_serde::re::humantime::format_duration(self.leisure).to_string();
        check(
            self.leisure <= Duration::from_secs(600),
            "leisure",
            written,
            "0s to 10m",
        );
        faults
    }

    /// MAX_TRANSMIT_SPAN: from the first time that a message is sent to the last. RFC 7252 §4.8.2
    pub fn max_transmit_span(&self) -> Duration {
        let times = (1_u32 << self.max_retransmit.min(16)) - 1;
        self.ack_timeout * times * u32::from(self.ack_random_percent) / 100
    }

    /// MAX_TRANSMIT_WAIT: from the first time that a message is sent until nobody waits for its acknowledgement any more. RFC 7252 §4.8.2
    pub fn max_transmit_wait(&self) -> Duration {
        let times = (2_u32 << self.max_retransmit.min(16)) - 1;
        self.ack_timeout * times * u32::from(self.ack_random_percent) / 100
    }

    /// EXCHANGE_LIFETIME: so long a message ID means the same message. RFC 7252 §4.8.2
    pub fn exchange_lifetime(&self) -> Duration {
        self.max_transmit_span() + 2 * MAX_LATENCY + self.ack_timeout
    }

    /// So long a request waits for its answer before it is acknowledged without one. RFC 7252 §5.2.2
    pub fn ack_delay(&self) -> Duration {
        self.ack_timeout / 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7252 §4.8.2, table 3 \[RFC7252-4.8.1-3\]
    #[test]
    fn times_of_the_specification() {
        let transmission = Transmission::default();
        assert_eq!(transmission.max_transmit_span(), Duration::from_secs(45));
        assert_eq!(transmission.max_transmit_wait(), Duration::from_secs(93));
        assert_eq!(transmission.exchange_lifetime(), Duration::from_secs(247));
    }

    /// \[RFC7252-4.8.1-2\]
    #[test]
    fn what_is_out_of_range_is_told() {
        let transmission = Transmission {
            ack_timeout: Duration::ZERO,
            ack_random_percent: 99,
            nstart: 0,
            max_peers: 0,
            leisure: Duration::from_secs(601),
            ..Transmission::default()
        };
        let faults = transmission.faults();
        let keys: Vec<_> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(
            keys,
            [
                "ack_timeout: 0s is out of range, allowed is 1ms to 1m",
                "ack_random_percent: 99 is out of range, allowed is 100 to 1000",
                "nstart: 0 is out of range, allowed is 1 to 64",
                "max_peers: 0 is out of range, allowed is 1 and more",
                "leisure: 10m 1s is out of range, allowed is 0s to 10m",
            ]
        );
    }
}
