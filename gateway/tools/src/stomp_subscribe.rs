//! `headgate stomp-sub`: subscribes by STOMP and prints what comes.

use super::connection;
use super::format::Format;
use super::listening::{self, LAST_EXCHANGE, ListenError, Listener, Tries};
use super::publish::seconds;
use super::stomp_connection::{StompConnectionArgs, header};
use super::subscribe::{Filters, OutputArgs, filter};
use crate::stomp::{Login, StompClient, StompError};
use clap::{Args, ValueEnum};
use headgate_cli::{Outcome, runtime};
use headgate_client::ClientError;
use headgate_dial::Dial;
use headgate_model::TopicFilter;
use headgate_mqtt_codec::{Publish, PublishProperties, Qos, Utf8};
use headgate_stomp_codec::{Command, Frame, Text, Version};
use std::time::Duration;

/// Subscribe by STOMP, and print what comes.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub struct StompSubscribeCommand {
    /// Destination to subscribe to: an MQTT topic filter at a Headgate gateway; may be given several times.
    #[arg(short = 't', long, visible_alias = "topic", required = true)]
    destination: Vec<String>,
    /// Topic filter of messages not to print; may be given several times.
    #[arg(short = 'T', long, value_name = "FILTER", value_parser = filter)]
    filter_out: Vec<TopicFilter>,
    /// When a message counts as received: when it is sent, or when it was printed.
    #[arg(long, value_enum, default_value_t = Ack::ClientIndividual)]
    ack: Ack,
    /// The gateway keeps messages while we are away, under this name and --id.
    #[arg(long, value_name = "NAME", requires = "id")]
    durable: Option<String>,
    /// End the durable subscription instead.
    #[arg(long, requires = "durable")]
    forget: bool,
    /// Highest QoS to receive messages at; without it as the gateway's listener says.
    #[arg(short, long, value_parser = connection::qos)]
    qos: Option<Qos>,
    /// A header of SUBSCRIBE more; may be given several times.
    #[arg(short = 'H', long, value_name = "NAME=VALUE", value_parser = header)]
    header: Vec<(Text, Text)>,
    /// End after so many messages.
    #[arg(short = 'C', long, value_name = "N")]
    count: Option<u64>,
    /// End after so many seconds; an error if --count is not reached.
    #[arg(short = 'W', long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<f64>,
    /// Do not print retained messages from before the subscription.
    #[arg(short = 'R', long)]
    no_retained: bool,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    connection: StompConnectionArgs,
}

/// STOMP 1.2, SUBSCRIBE ack Header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Ack {
    Auto,
    Client,
    ClientIndividual,
}

impl Ack {
    fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Client => "client",
            Self::ClientIndividual => "client-individual",
        }
    }
}

impl StompSubscribeCommand {
    /// Runs the command.
    pub fn run(mut self) -> Outcome {
        let limit = self.timeout.take().map(Duration::from_secs_f64);
        let wanted = self.count;
        let runtime = runtime()?;
        runtime.block_on(async {
            let mut session = Session::new(self)?;
            listening::run(&mut session, wanted, limit).await
        })?;
        Ok(())
    }

    /// One frame for each destination.
    fn frames(&self) -> Vec<Frame> {
        let frame = |(n, destination): (usize, &String)| {
            // A name tells a durable subscription apart; where there are several, each has one.
            let id = match (&self.durable, n) {
                (Some(name), 0) => name.clone(),
                (Some(name), n) => format!("{name}-{n}"),
                (None, n) => n.to_string(),
            };
            let command = match self.forget {
                true => Command::Unsubscribe,
                false => Command::Subscribe,
            };
            let mut frame = Frame::new(command)
                .with("id", id)
                .with("destination", destination.clone())
                .with("receipt", n.to_string());
            if !self.forget {
                frame = frame.with("ack", self.ack.word());
            }
            if self.durable.is_some() {
                frame = frame.with("durable", "true");
            }
            if let Some(qos) = self.qos {
                frame = frame.with("qos", (qos as u8).to_string());
            }
            for (name, value) in &self.header {
                frame = frame.with(name.clone(), value.clone());
            }
            frame
        };
        self.destination.iter().enumerate().map(frame).collect()
    }
}

/// What outlives a connection.
struct Session {
    frames: Vec<Frame>,
    forget: bool,
    ack: Ack,
    args: Filters,
    format: Format,
    dial: Dial,
    login: Login,
    client: Option<StompClient>,
    printed: u64,
}

impl Session {
    fn new(command: StompSubscribeCommand) -> Result<Self, StompError> {
        let frames = command.frames();
        let format = command.output.format();
        let (dial, login) = command.connection.resolve()?;
        Ok(Self {
            frames,
            forget: command.forget,
            ack: command.ack,
            args: Filters {
                filter_out: command.filter_out,
                no_retained: command.no_retained,
                retain_only: false,
                count: command.count,
                newline: command.output.newline(),
            },
            format,
            dial,
            login,
            client: None,
            printed: 0,
        })
    }
}

impl Listener for Session {
    type Error = StompError;

    async fn listen(&mut self, tries: &mut Tries) -> Result<(), StompError> {
        self.client = None;
        let client = StompClient::open(&self.dial, &self.login).await?;
        tries.succeeded();
        let client = self.client.insert(client);
        self.frames.iter().for_each(|frame| client.send(frame));
        let mut receipts = 0;
        loop {
            let frame = client.recv().await?;
            if frame.command == Command::Receipt {
                receipts += 1;
                // Nothing else was asked for.
                if self.forget && receipts == self.frames.len() {
                    return Ok(());
                }
            }
            if frame.command != Command::Message {
                continue;
            }
            let publish = publish_of(&frame)?;
            if self.args.wants(&publish) {
                // Nobody reads any more.
                if self.args.print(&self.format, &publish).is_err() {
                    return Ok(());
                }
                self.printed += 1;
            }
            if self.ack != Ack::Auto {
                client.send(&ack(&frame, client.version()));
            }
            if self.args.count.is_some_and(|count| self.printed >= count) {
                return Ok(());
            }
        }
    }

    /// Says goodbye: the receipt comes when all acknowledgements have.
    async fn leave(&mut self) -> Result<(), StompError> {
        let Some(client) = self.client.take() else {
            return Ok(());
        };
        let farewell = tokio::time::timeout(LAST_EXCHANGE, client.close());
        farewell.await.unwrap_or(Ok(()))
    }

    fn printed(&self) -> u64 {
        self.printed
    }
}

impl ListenError for StompError {
    fn passes(&self) -> bool {
        Self::passes(self)
    }

    fn too_few(messages: u64, wanted: u64, within: Duration) -> Self {
        Self::TooFew {
            messages,
            wanted,
            within,
        }
    }
}

/// STOMP 1.2, ACK: the `ack` header of the message; 1.1: `message-id` and `subscription`; 1.0: `message-id`.
fn ack(message: &Frame, version: Version) -> Frame {
    let header = |name: &str| message.headers.get(name).cloned().unwrap_or_default();
    let frame = Frame::new(Command::Ack);
    match version {
        Version::V12 => frame.with("id", header("ack")),
        Version::V11 => frame
            .with("message-id", header("message-id"))
            .with("subscription", header("subscription")),
        Version::V10 => frame.with("message-id", header("message-id")),
    }
}

/// A message as `headgate sub` prints it. Headers that STOMP gives no meaning are user properties.
fn publish_of(message: &Frame) -> Result<Publish, ClientError> {
    let text = |text: &Text| connection::text(text.as_str().to_owned());
    let mut properties = PublishProperties::default();
    let (mut topic, mut qos, mut retain) = (Utf8::default(), Qos::AtMostOnce, false);
    for (name, value) in message.headers.iter() {
        match name.as_str() {
            "destination" => topic = text(value)?,
            "qos" => qos = connection::qos(value).unwrap_or_default(),
            "retain" => retain = value.as_str() == "true",
            "content-type" => properties.content_type = Some(text(value)?),
            "reply-to" => properties.response_topic = Some(text(value)?),
            "message-expiry" if value.parse::<u32>().is_ok() => {
                properties.message_expiry = value.parse().ok();
            }
            "correlation-id" => properties.correlation_data = Some(value.bytes().clone()),
            "message-id" | "subscription" | "ack" | "content-length" | "redelivered" => {}
            _ => properties.user_properties.push((text(name)?, text(value)?)),
        }
    }
    Ok(Publish {
        topic,
        qos,
        retain,
        payload: message.body.clone(),
        properties: (properties != PublishProperties::default()).then(|| Box::new(properties)),
        ..Publish::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_acknowledged_as_its_version_wants() {
        let message = Frame::new(Command::Message)
            .with("subscription", "s")
            .with("message-id", "m")
            .with("ack", "a");
        let headers = |version| {
            let frame = ack(&message, version);
            let all = frame.headers.iter();
            all.map(|(name, value)| format!("{name:?}={value:?}"))
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(headers(Version::V12), r#""id"="a""#);
        assert_eq!(headers(Version::V11), r#""message-id"="m" "subscription"="s""#);
        assert_eq!(headers(Version::V10), r#""message-id"="m""#);
    }

    #[test]
    fn a_message_is_printed_as_one_of_mqtt() {
        let message = Frame::new(Command::Message)
            .with("destination", "a/b")
            .with("message-id", "7")
            .with("retain", "true")
            .with("content-type", "text/plain")
            .with("message-expiry", "60")
            .with("unit", "°C")
            .with_body("21");
        let publish = publish_of(&message).unwrap();
        assert_eq!((publish.topic.as_str(), publish.retain), ("a/b", true));
        let properties = publish.properties.unwrap();
        assert_eq!(properties.content_type.unwrap().as_str(), "text/plain");
        assert_eq!(properties.message_expiry, Some(60));
        assert_eq!(properties.user_properties.len(), 1);
    }
}
