//! `headgate stomp-pub`: publishes messages by STOMP and waits until the server has taken them.

use super::connection;
use super::publish::{PayloadArgs, seconds};
use super::stomp_connection::{StompConnectionArgs, header};
use crate::stomp::{StompClient, StompError};
use clap::Args;
use headgate_cli::{Outcome, runtime};
use headgate_mqtt_codec::Qos;
use headgate_stomp_codec::{Command, Frame, Text};

/// Messages that may be under way without a receipt.
const WINDOW: u64 = 256;
/// Bytes that may wait for the network.
const MOST_UNSENT: usize = 1 << 20;

/// Publish messages by STOMP.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub struct StompPublishCommand {
    /// Destination to send to: an MQTT topic at a Headgate gateway.
    #[arg(short = 't', long, visible_alias = "topic")]
    destination: String,
    #[command(flatten)]
    payload: PayloadArgs,
    /// QoS at which the gateway publishes; without it as its listener says.
    #[arg(short, long, value_parser = connection::qos)]
    qos: Option<Qos>,
    /// The gateway keeps the message for later subscribers.
    #[arg(short, long)]
    retain: bool,
    /// What the payload is, as a MIME type.
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// A header more; may be given several times.
    #[arg(short = 'H', long, value_name = "NAME=VALUE", value_parser = header)]
    header: Vec<(Text, Text)>,
    /// Publish so many times.
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "lines")]
    repeat: u64,
    /// Seconds between two of them.
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0, value_parser = seconds, requires = "repeat")]
    repeat_delay: f64,
    /// Do not ask for receipts: it is not known then whether each message was taken.
    #[arg(long)]
    no_receipt: bool,
    #[command(flatten)]
    connection: StompConnectionArgs,
}

impl StompPublishCommand {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        let runtime = runtime()?;
        // A thread may still wait for the next line of standard input.
        let result = runtime.block_on(self.publish());
        runtime.shutdown_background();
        Ok(result?)
    }

    async fn publish(self) -> Result<(), StompError> {
        let template = self.template();
        let mut payloads = self.payload.start(self.repeat, self.repeat_delay)?;
        let (dial, login) = self.connection.resolve()?;
        let mut client = StompClient::open(&dial, &login).await?;
        let (mut sent, mut taken, mut more) = (0, 0, true);
        while more || taken < sent {
            let has_room = sent - taken < WINDOW && client.unsent() < MOST_UNSENT;
            tokio::select! {
                payload = payloads.recv(), if more && has_room => match payload {
                    None => more = false,
                    Some(payload) => {
                        let mut frame = template.clone().with_body(payload?);
                        sent += 1;
                        match self.no_receipt {
                            true => taken = sent,
                            false => frame = frame.with("receipt", sent.to_string()),
                        }
                        client.send(&frame);
                    }
                },
                frame = client.recv() => {
                    if frame?.command == Command::Receipt {
                        taken += 1;
                    }
                }
            }
        }
        // Its receipt says that all before it has come too.
        client.close().await
    }

    /// Every message but for its payload.
    fn template(&self) -> Frame {
        let mut frame = Frame::new(Command::Send).with("destination", self.destination.clone());
        if let Some(qos) = self.qos {
            frame = frame.with("qos", (qos as u8).to_string());
        }
        if self.retain {
            frame = frame.with("retain", "true");
        }
        if let Some(kind) = &self.content_type {
            frame = frame.with("content-type", kind.clone());
        }
        for (name, value) in &self.header {
            frame = frame.with(name.clone(), value.clone());
        }
        frame
    }
}
