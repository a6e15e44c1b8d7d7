//! `headgate pub`: publishes messages and waits until the server has taken them.

use super::connection::{self, Connection, ConnectionArgs};
use super::error::ArgumentError;
use bytes::Bytes;
use clap::Args;
use headgate_cli::{Outcome, ValueError, runtime};
use headgate_client::{Client, ClientError, Outgoing};
use headgate_model::Topic;
use headgate_mqtt_codec::{Publish, PublishProperties, Qos, Utf8, Version};
use std::io::{BufRead, Read};
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::mpsc;

/// Lines read ahead of the network.
const AHEAD: usize = 64;

/// Publish messages.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub struct PublishCommand {
    /// Topic to publish to.
    #[arg(short, long, value_parser = connection::utf8)]
    topic: Utf8,
    #[command(flatten)]
    payload: PayloadArgs,
    /// QoS: 0 at most once, 1 at least once, 2 exactly once.
    #[arg(short, long, default_value = "0", value_parser = connection::qos)]
    qos: Qos,
    /// The server keeps the message for later subscribers.
    #[arg(short, long)]
    retain: bool,
    /// Publish so many times.
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "lines")]
    repeat: u64,
    /// Seconds between two of them.
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0, value_parser = seconds, requires = "repeat")]
    repeat_delay: f64,
    #[command(flatten)]
    properties: PropertyArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Where the payload comes from.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub(crate) struct PayloadArgs {
    /// The payload.
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true)]
    message: Option<String>,
    /// A file is the payload.
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Every line of standard input is a message.
    #[arg(short = 'l', long = "stdin-line")]
    lines: bool,
    /// The whole of standard input is the payload.
    #[arg(short = 's', long)]
    stdin: bool,
    /// No payload; with --retain it removes the retained message.
    #[arg(short, long)]
    null: bool,
}

/// Properties of MQTT 5.
#[derive(Args)]
#[command(next_help_heading = "Properties (MQTT 5)")]
struct PropertyArgs {
    /// What the payload is, as a MIME type.
    #[arg(long, value_name = "TYPE", value_parser = connection::utf8)]
    content_type: Option<Utf8>,
    /// Where an answer is expected.
    #[arg(long, value_name = "TOPIC", value_parser = connection::utf8)]
    response_topic: Option<Utf8>,
    /// What an answer must carry back.
    #[arg(long, value_name = "TEXT")]
    correlation_data: Option<String>,
    /// A name and a value; may be given several times.
    #[arg(long, value_name = "NAME=VALUE", value_parser = connection::user_property)]
    user_property: Vec<(Utf8, Utf8)>,
    /// Seconds after which nobody wants the message any more.
    #[arg(long, value_name = "SECONDS")]
    expiry: Option<u32>,
    /// The payload is text, and said to be.
    #[arg(long)]
    payload_is_text: bool,
    /// Stands for the topic from the second message on.
    #[arg(long, value_name = "NUMBER")]
    topic_alias: Option<NonZeroU16>,
}

impl PublishCommand {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        check_topic(&self.topic)?;
        let runtime = runtime()?;
        // A thread may still wait for the next line of standard input.
        let result = runtime.block_on(self.publish());
        runtime.shutdown_background();
        Ok(result?)
    }

    async fn publish(self) -> Result<(), ClientError> {
        let mut first = self.template();
        let first_alias = first.properties.as_ref().and_then(|p| p.topic_alias);
        let Connection { dial, connect } = self.connection.resolve()?;
        let has_properties = first.properties.is_some();
        if connect.version < Version::V5 && has_properties {
            return Err(ClientError::Usage("properties of messages need MQTT 5".into()));
        }
        let mut payloads = self.payload.start(self.repeat, self.repeat_delay)?;
        let (mut client, connack) = Client::open(&dial, &connect).await?;
        let mut outgoing = Outgoing::new(connect.version, &connack);
        let mut more = true;
        while more || !outgoing.is_done() {
            tokio::select! {
                payload = payloads.recv(), if more && outgoing.has_room(&client) => match payload {
                    Some(payload) => {
                        outgoing.publish(Publish { payload: payload?, ..first.clone() }, &mut client)?;
                        if first_alias.is_some() {
                            // The server knows it by now. §3.3.2.3.4
                            first.topic = Utf8::default();
                        }
                    }
                    None => more = false,
                },
                packet = client.recv() => outgoing.on_packet(&packet?, &mut client),
            }
        }
        client.close().await?;
        outgoing.finish()
    }

    /// Every message but for its payload.
    fn template(&self) -> Publish {
        let given = &self.properties;
        let properties = PublishProperties {
            payload_format: given.payload_is_text.then_some(true),
            message_expiry: given.expiry,
            topic_alias: given.topic_alias,
            response_topic: given.response_topic.clone(),
            correlation_data: given.correlation_data.clone().map(Bytes::from),
            user_properties: given.user_property.clone(),
            content_type: given.content_type.clone(),
            ..PublishProperties::default()
        };
        Publish {
            qos: self.qos,
            retain: self.retain,
            topic: self.topic.clone(),
            properties: (properties != PublishProperties::default()).then(|| Box::new(properties)),
            ..Publish::default()
        }
    }
}

/// Payloads, one after the other.
pub(crate) type Payloads = mpsc::Receiver<Result<Bytes, ClientError>>;

impl PayloadArgs {
    /// Begins to hand out payloads.
    pub(crate) fn start(self, repeat: u64, delay: f64) -> Result<Payloads, ClientError> {
        let (sender, payloads) = mpsc::channel(AHEAD);
        if self.lines {
            std::thread::spawn(move || hand_out_lines(&sender));
            return Ok(payloads);
        }
        let payload = match (self.message, self.file) {
            (Some(text), _) => text.into_bytes(),
            (None, Some(path)) => connection::read(&path)?,
            (None, None) if self.stdin => read_stdin()?,
            (None, None) => Vec::new(),
        };
        let payload = Bytes::from(payload);
        tokio::spawn(async move {
            for n in 0..repeat {
                if n > 0 && delay > 0.0 {
                    tokio::time::sleep(Duration::from_secs_f64(delay)).await;
                }
                if sender.send(Ok(payload.clone())).await.is_err() {
                    return;
                }
            }
        });
        Ok(payloads)
    }
}

/// Any bytes may stand in a line.
fn hand_out_lines(sender: &mpsc::Sender<Result<Bytes, ClientError>>) {
    for line in std::io::stdin().lock().split(b'\n') {
        let payload = line.map_err(|e| stdin_failed(&e)).map(|mut line| {
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            Bytes::from(line)
        });
        if sender.blocking_send(payload).is_err() {
            return;
        }
    }
}

fn read_stdin() -> Result<Vec<u8>, ClientError> {
    let mut payload = Vec::new();
    let read = std::io::stdin().lock().read_to_end(&mut payload);
    read.map_err(|e| stdin_failed(&e))?;
    Ok(payload)
}

fn stdin_failed(cause: &std::io::Error) -> ClientError {
    ClientError::File {
        path: "standard input".into(),
        cause: cause.to_string(),
    }
}

/// Whether messages can be published there.
pub(crate) fn check_topic(topic: &Utf8) -> Result<(), ArgumentError> {
    let parsed = Topic::parse(topic.clone().into_bytes());
    parsed.map(drop).map_err(|cause| ArgumentError::Topic {
        topic: topic.clone(),
        cause,
    })
}

/// A time that can be waited for, in seconds.
pub(crate) fn seconds(text: &str) -> Result<f64, ValueError> {
    time(0.0, 1e9)(text)
}

/// Seconds between these bounds, as a number or as a duration: `0.5`, `500ms`.
pub(crate) fn time(from: f64, to: f64) -> impl Fn(&str) -> Result<f64, ValueError> + Clone {
    move |text| {
        let duration = || {
            humantime::parse_duration(text)
                .ok()
                .map(|time| time.as_secs_f64())
        };
        let seconds = text.parse().ok().or_else(duration);
        let allowed = || format!("{from} to {to} seconds, also as 500ms, 10s or 5m");
        seconds
            .filter(|seconds| (from..=to).contains(seconds))
            .ok_or_else(|| ValueError::not_allowed(text, allowed()))
    }
}
