//! The command-line clients: `headgate pub` and `sub` speak MQTT, `sn-pub`, `sn-sub` and `sn-scan` speak MQTT-SN, `stomp-pub` and `stomp-sub`
//! STOMP, `coap` CoAP, and `lwm2m` commands clients of LwM2M by MQTT. They know brokers and gateways by the
//! network only.

#![expect(clippy::disallowed_methods, reason = "runs on the network and in real time")]

mod coap;
mod coap_command;
mod connection;
mod error;
mod format;
mod listening;
mod login;
mod lwm2m;
mod lwm2m_command;
mod publish;
mod sn;
mod sn_connection;
mod sn_publish;
mod sn_scan;
mod sn_subscribe;
mod stomp;
mod stomp_connection;
mod stomp_publish;
mod stomp_subscribe;
mod subscribe;

#[cfg(test)]
mod sn_tests;

pub use connection::{qos, version};
pub use lwm2m_command::Lwm2mRequest;
pub use sn_connection::PORT as MQTTSN_PORT;

use clap::Subcommand;
use coap_command::CoapCommand;
use headgate_cli::Outcome;
use publish::PublishCommand;
use sn_publish::SnPublishCommand;
use sn_scan::SnScanCommand;
use sn_subscribe::SnSubscribeCommand;
use stomp_publish::StompPublishCommand;
use stomp_subscribe::StompSubscribeCommand;
use subscribe::SubscribeCommand;

/// The clients, as they are typed.
#[derive(Subcommand)]
pub enum ClientCommand {
    /// Publish messages.
    Pub(Box<PublishCommand>),
    /// Subscribe, and print what comes.
    Sub(Box<SubscribeCommand>),
    /// Publish messages by MQTT-SN.
    SnPub(Box<SnPublishCommand>),
    /// Subscribe by MQTT-SN, and print what comes.
    SnSub(Box<SnSubscribeCommand>),
    /// Look for MQTT-SN gateways.
    SnScan(SnScanCommand),
    /// Publish messages by STOMP.
    StompPub(Box<StompPublishCommand>),
    /// Subscribe by STOMP, and print what comes.
    StompSub(Box<StompSubscribeCommand>),
    /// Ask by CoAP, or observe.
    Coap(Box<CoapCommand>),
}

impl ClientCommand {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        match self {
            Self::Pub(publish) => publish.run(),
            Self::Sub(subscribe) => subscribe.run(),
            Self::SnPub(publish) => publish.run(),
            Self::SnSub(subscribe) => subscribe.run(),
            Self::SnScan(scan) => scan.run(),
            Self::StompPub(publish) => publish.run(),
            Self::StompSub(subscribe) => subscribe.run(),
            Self::Coap(coap) => coap.run(),
        }
    }
}
