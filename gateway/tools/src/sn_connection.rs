//! What `sn-pub` and `sn-sub` have in common: where the gateway is, and who we are there.

use super::connection;
use super::publish::time;
use crate::sn::{ClientSettings, SerialTarget, SnError, SnTarget, Will};
use bytes::Bytes;
use clap::{ArgAction, Args};
use headgate_cli::{ValueError, one_of};
use headgate_mqtt_codec::Utf8;
use headgate_mqttsn_codec::{Qos, TopicName, is_reserved};
use std::time::Duration;

/// The usual port of MQTT-SN gateways over UDP.
pub const PORT: u16 = 1884;

/// Where the gateway is, and who we are there.
#[derive(Args)]
pub(super) struct SnConnectionArgs {
    /// Gateway, by name or address.
    #[arg(
        short = 'h',
        long,
        value_name = "HOST",
        default_value = "127.0.0.1",
        help_heading = "Connection"
    )]
    host: String,
    /// UDP port.
    #[arg(short, long, default_value_t = PORT, help_heading = "Connection")]
    port: u16,
    /// Gateway at the other end of a serial line: PATH, and after it what differs from `baud=9600,data=8,parity=none,stop=1`.
    #[arg(long, value_name = "LINE", conflicts_with_all = ["host", "port"], help_heading = "Connection")]
    serial: Option<SerialTarget>,
    /// Frames with flags and check sums on the serial line, instead of messages one after the other.
    #[arg(long, requires = "serial", help_heading = "Connection")]
    hdlc: bool,
    /// Client identifier, 1 to 23 characters for gateways that keep to the specification; without it a random one.
    #[arg(short, long, value_name = "ID", help_heading = "Connection")]
    id: Option<String>,
    /// Client identifier with a random end.
    #[arg(
        long,
        value_name = "PREFIX",
        conflicts_with = "id",
        help_heading = "Connection"
    )]
    id_prefix: Option<String>,
    /// Seconds of silence in which a ping is sent; 0 for none.
    #[arg(
        short,
        long,
        value_name = "SECONDS",
        default_value_t = 60,
        help_heading = "Connection"
    )]
    keep_alive: u16,
    /// Go on with the session of before, and leave one behind.
    #[arg(short = 'c', long, requires = "id", help_heading = "Connection")]
    no_clean: bool,
    /// How long to wait for an answer: seconds, or a time such as `500ms`.
    #[arg(long, value_name = "TIME", default_value_t = 5.0, value_parser = time(0.01, 86_400.0), help_heading = "Connection")]
    retry_interval: f64,
    /// How often to ask again before giving up.
    #[arg(long, value_name = "N", default_value_t = 3, help_heading = "Connection")]
    retries: u8,
    /// Topic of the will.
    #[arg(long, value_name = "TOPIC", help_heading = "Will", value_parser = connection::utf8)]
    will_topic: Option<Utf8>,
    /// Payload of the will.
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        requires = "will_topic",
        help_heading = "Will"
    )]
    will_payload: String,
    /// QoS of the will.
    #[arg(long, value_name = "QOS", default_value = "0", value_parser = qos, requires = "will_topic", help_heading = "Will")]
    will_qos: Qos,
    /// The will is retained.
    #[arg(long, requires = "will_topic", help_heading = "Will")]
    will_retain: bool,
    /// Print help.
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
}

impl SnConnectionArgs {
    /// What the arguments mean.
    pub(super) fn resolve(self) -> Result<(SnTarget, ClientSettings), SnError> {
        let client_id = match &self.id {
            Some(id) if id.is_empty() => return Err(SnError::Usage("the client identifier is empty".into())),
            Some(id) => id.clone(),
            None => random_id(self.id_prefix.as_deref())?,
        };
        let target = match self.serial {
            Some(line) => SnTarget::Serial(line, self.hdlc),
            None => SnTarget::Udp(self.host, self.port),
        };
        let will = self.will_topic.map(|topic| Will {
            topic: topic.into_bytes(),
            payload: self.will_payload.into(),
            qos: self.will_qos,
            retain: self.will_retain,
        });
        let settings = ClientSettings {
            client_id: client_id.into(),
            keep_alive: self.keep_alive,
            clean: !self.no_clean,
            will,
            retry_interval: Duration::from_secs_f64(self.retry_interval),
            retries: self.retries,
        };
        Ok((target, settings))
    }
}

/// §5.3.1: no more than 23 characters, if the prefix is short.
fn random_id(prefix: Option<&str>) -> Result<String, SnError> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| SnError::Usage(error.to_string()))?;
    Ok(format!(
        "{}{:016x}",
        prefix.unwrap_or("hg-"),
        u64::from_ne_bytes(random)
    ))
}

/// A topic as MQTT-SN names it: two characters that are no wildcard need no registration. §6.7
pub(super) fn topic(name: &Utf8) -> TopicName {
    match *name.as_bytes() {
        [a, b] if ![a, b].iter().any(|byte| b"#+".contains(byte)) => TopicName::Short([a, b]),
        _ => TopicName::Name(Bytes::copy_from_slice(name.as_bytes())),
    }
}

/// A predefined topic id. §5.3.11
pub(super) fn predefined(text: &str) -> Result<u16, ValueError> {
    let id = text.parse().ok().filter(|id| !is_reserved(*id));
    id.ok_or_else(|| ValueError::not_allowed(text, "1 to 65534"))
}

/// A QoS with a connection, by its number.
pub(super) fn qos(text: &str) -> Result<Qos, ValueError> {
    one_of(CONNECTED)(text)
}

/// A QoS, by its number.
pub(super) fn any_qos(text: &str) -> Result<Qos, ValueError> {
    let [zero, one, two] = CONNECTED;
    one_of([("-1", Qos::NoConnection), zero, one, two])(text)
}

const CONNECTED: [(&str, Qos); 3] = [
    ("0", Qos::AtMostOnce),
    ("1", Qos::AtLeastOnce),
    ("2", Qos::ExactlyOnce),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// §6.7: two bytes, and no wildcard in them.
    #[test]
    fn names_of_two_bytes_are_short() {
        let of = |text: &'static str| topic(&text.into());
        assert_eq!(of("t1"), TopicName::Short(*b"t1"));
        assert_eq!(of("é"), TopicName::Short([0xC3, 0xA9]));
        for long in ["t", "t12", "/#", "+/", "#"] {
            assert_eq!(of(long), TopicName::Name(long.into()));
        }
    }

    #[test]
    fn reserved_ids_are_refused() {
        assert_eq!(predefined("65534"), Ok(65_534));
        for bad in ["0", "65535", "65536", "-1", "x"] {
            assert!(predefined(bad).is_err(), "{bad}");
        }
    }
}
