//! What a serial line is told.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A serial line. Without it, or when it is unplugged, it is tried again until it is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SerialSettings {
    /// The device, `/dev/ttyUSB0`; better a name that stays the same, `/dev/serial/by-id/…`.
    pub port: String,
    /// Bits a second. Default: 115200.
    #[serde(default = "default_baud")]
    pub baud: u32,
    /// Bits of a character, 5 to 8. Default: 8, what messages of bytes need.
    #[serde(default = "default_data_bits")]
    pub data_bits: u8,
    /// A bit by which a damaged character is found. Default: `none`.
    #[serde(default)]
    pub parity: Parity,
    /// 1 or 2. Default: 1.
    #[serde(default = "default_stop_bits")]
    pub stop_bits: u8,
    /// Default: `none`. There is none by XON and XOFF: those are bytes that messages hold.
    #[serde(default)]
    pub flow_control: FlowControl,
    /// The driver switches an RS-485 transceiver. Default: none; many adapters switch by themselves.
    #[serde(default)]
    pub rs485: Option<Rs485Settings>,
    /// A frame that does not go on for so long is given up; 1 ms or more. Default: 200ms.
    #[serde(default = "default_frame_timeout", with = "humantime_serde")]
    #[schemars(with = "String")]
    pub frame_timeout: Duration,
    /// How often a line that is not there is tried, at most. Default: 5s.
    #[serde(default = "default_reopen", with = "humantime_serde")]
    #[schemars(with = "String")]
    pub reopen_interval: Duration,
}

/// The parity bit of a character.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Parity {
    /// There is none.
    #[default]
    None,
    /// The number of ones is odd.
    Odd,
    /// The number of ones is even.
    Even,
}

/// How the receiver stops the sender.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FlowControl {
    /// It does not.
    #[default]
    None,
    /// By RTS and CTS.
    Hardware,
}

/// How an RS-485 transceiver is switched between sending and receiving.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rs485Settings {
    /// Whether the driver switches it. Default: true.
    pub enabled: bool,
    /// Level of RTS while we send; the other one while we listen. Default: true.
    pub rts_on_send: bool,
    /// How long it is so before the first bit. Default: 0s.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub delay_before_send: Duration,
    /// How long it stays so after the last bit. Default: 0s.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub delay_after_send: Duration,
}

impl Default for Rs485Settings {
    fn default() -> Self {
        Self {
            enabled: true,
            rts_on_send: true,
            delay_before_send: Duration::ZERO,
            delay_after_send: Duration::ZERO,
        }
    }
}

impl Default for SerialSettings {
    fn default() -> Self {
        Self {
            port: "/dev/ttyUSB0".into(),
            baud: default_baud(),
            data_bits: default_data_bits(),
            parity: Parity::default(),
            stop_bits: default_stop_bits(),
            flow_control: FlowControl::default(),
            rs485: None,
            frame_timeout: default_frame_timeout(),
            reopen_interval: default_reopen(),
        }
    }
}

fn default_baud() -> u32 {
    115_200
}

fn default_data_bits() -> u8 {
    8
}

fn default_stop_bits() -> u8 {
    1
}

fn default_frame_timeout() -> Duration {
    Duration::from_millis(200)
}

fn default_reopen() -> Duration {
    Duration::from_secs(5)
}
