//! `headgate sn-pub`: publishes messages by MQTT-SN and waits until the gateway has taken them.

use super::connection;
use super::publish::{PayloadArgs, Payloads, check_topic, seconds};
use super::sn_connection::{self, SnConnectionArgs};
use crate::sn::{Event, Outgoing, Request, SnError, SnSession};
use bytes::Bytes;
use clap::Args;
use headgate_cli::{Outcome, runtime};
use headgate_mqtt_codec::Utf8;
use headgate_mqttsn_codec::{Qos, TopicName};

/// Publish messages by MQTT-SN.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub struct SnPublishCommand {
    /// Topic to publish to. One of two characters needs no registration.
    #[arg(short, long, value_parser = connection::utf8, required_unless_present = "predefined", conflicts_with = "predefined")]
    topic: Option<Utf8>,
    /// Topic id to publish to that the gateway knows from its settings.
    #[arg(long, value_name = "ID", value_parser = sn_connection::predefined)]
    predefined: Option<u16>,
    #[command(flatten)]
    payload: PayloadArgs,
    /// QoS: 0 at most once, 1 at least once, 2 exactly once; -1 without a connection, to a predefined id or a topic of two characters.
    #[arg(short, long, default_value = "0", value_parser = sn_connection::any_qos, allow_hyphen_values = true)]
    qos: Qos,
    /// The gateway keeps the message for later subscribers.
    #[arg(short, long)]
    retain: bool,
    /// Publish so many times.
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "lines")]
    repeat: u64,
    /// Seconds between two of them.
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0, value_parser = seconds, requires = "repeat")]
    repeat_delay: f64,
    #[command(flatten)]
    connection: SnConnectionArgs,
}

impl SnPublishCommand {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        let runtime = runtime()?;
        // A thread may still wait for the next line of standard input.
        let result = runtime.block_on(self.publish());
        runtime.shutdown_background();
        Ok(result?)
    }

    async fn publish(self) -> Result<(), SnError> {
        let topic = match (&self.topic, self.predefined) {
            (Some(name), _) => {
                check_topic(name)?;
                sn_connection::topic(name)
            }
            (None, id) => TopicName::Predefined(id.unwrap_or_default()),
        };
        let connects = self.qos != Qos::NoConnection;
        let mut payloads = self.payload.start(self.repeat, self.repeat_delay)?;
        let (target, settings) = self.connection.resolve()?;
        let mut session = SnSession::open(&target, settings).await?;
        if connects {
            session.request(Request::Connect);
            until(&mut session, &Event::Connected).await?;
        }
        let outgoing = Outgoing {
            topic,
            qos: self.qos,
            retain: self.retain,
            payload: Bytes::new(),
        };
        let published = publish_all(&mut session, &outgoing, &mut payloads).await;
        match &published {
            Ok(()) if connects => session.leave().await?,
            Err(error) if connects => session.leave_after(error).await,
            _ => {}
        }
        published
    }
}

async fn publish_all(
    session: &mut SnSession,
    outgoing: &Outgoing,
    payloads: &mut Payloads,
) -> Result<(), SnError> {
    let connects = outgoing.qos != Qos::NoConnection;
    loop {
        // Between messages the connection is kept alive.
        let payload = tokio::select! {
            payload = payloads.recv() => payload,
            event = session.answer(), if connects => { event?; continue }
        };
        let Some(payload) = payload else { return Ok(()) };
        session.request(Request::Publish(Outgoing {
            payload: Bytes::clone(&payload?),
            ..outgoing.clone()
        }));
        until(session, &Event::Published).await?;
    }
}

async fn until(session: &mut SnSession, wanted: &Event) -> Result<(), SnError> {
    while session.answer().await? != *wanted {}
    session.flush().await
}
