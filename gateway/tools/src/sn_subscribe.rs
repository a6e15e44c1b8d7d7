//! `headgate sn-sub`: subscribes by MQTT-SN and prints what comes, awake all the time or asleep most of it.

use super::connection;
use super::listening::{FIRST_WAIT, LAST_EXCHANGE, LONGEST_WAIT};
use super::publish::seconds;
use super::sn_connection::{self, SnConnectionArgs};
use super::subscribe::{Filters, OutputArgs, check_filters, filter};
use crate::format::Format;
use crate::sn::{ClientSettings, Event, Received, Request, SnError, SnSession, SnTarget};
use clap::Args;
use headgate_cli::{Outcome, ValueError, complain, runtime};
use headgate_model::TopicFilter;
use headgate_mqtt_codec::{self as mqtt, Utf8};
use headgate_mqttsn_codec::{Qos, TopicName};
use std::time::Duration;

/// Subscribe by MQTT-SN, and print what comes.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub struct SnSubscribeCommand {
    /// Topic filter to subscribe to; may be given several times.
    #[arg(short, long, value_name = "FILTER", required_unless_present_any = ["predefined", "unsubscribe"], value_parser = connection::utf8)]
    topic: Vec<Utf8>,
    /// Topic id to subscribe to that the gateway knows from its settings; may be given several times.
    #[arg(long, value_name = "ID", value_parser = sn_connection::predefined)]
    predefined: Vec<u16>,
    /// Topic filter to unsubscribe from; may be given several times.
    #[arg(short = 'U', long, value_name = "FILTER", value_parser = connection::utf8)]
    unsubscribe: Vec<Utf8>,
    /// Topic filter of messages not to print; may be given several times.
    #[arg(short = 'T', long, value_name = "FILTER", value_parser = filter)]
    filter_out: Vec<TopicFilter>,
    /// Highest QoS to receive messages at.
    #[arg(short, long, default_value = "0", value_parser = sn_connection::qos)]
    qos: Qos,
    /// End after so many messages.
    #[arg(short = 'C', long, value_name = "N")]
    count: Option<u64>,
    /// End after so many seconds; an error if --count is not reached.
    #[arg(short = 'W', long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<f64>,
    /// Sleep for so long at a time, such as 30s or 5m, and ask in between for what came meanwhile. At QoS 0 nothing may be kept.
    #[arg(long, value_name = "DURATION", value_parser = sleep)]
    sleep: Option<u16>,
    /// Do not print retained messages from before the subscription.
    #[arg(short = 'R', long, conflicts_with = "retain_only")]
    no_retained: bool,
    /// Print retained messages from before the subscription only.
    #[arg(long)]
    retain_only: bool,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    connection: SnConnectionArgs,
}

impl SnSubscribeCommand {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        check_filters(self.topic.iter().chain(&self.unsubscribe))?;
        let limit = self.timeout.map(Duration::from_secs_f64);
        let wanted = self.count;
        let mut listener = Listener::new(self)?;
        runtime()?.block_on(async {
            let listening = listener.run();
            let Some(limit) = limit else {
                return listening.await;
            };
            match tokio::time::timeout(limit, listening).await {
                Ok(result) => result,
                Err(_) => {
                    // Whether the farewell succeeds does not matter any more.
                    let _ = listener.leave().await;
                    match wanted {
                        Some(wanted) if listener.printed < wanted => Err(SnError::TooFew {
                            messages: listener.printed,
                            wanted,
                            within: limit,
                        }),
                        _ => Ok(()),
                    }
                }
            }
        })?;
        Ok(())
    }
}

/// Seconds, or a duration with its unit; as long as MQTT-SN can say.
fn sleep(text: &str) -> Result<u16, ValueError> {
    let seconds = match text.parse() {
        Ok(seconds) => Some(seconds),
        Err(_) => humantime::parse_duration(text).ok().map(|sleep| sleep.as_secs()),
    };
    let seconds = seconds.and_then(|seconds: u64| u16::try_from(seconds).ok());
    seconds
        .filter(|seconds| *seconds > 0)
        .ok_or_else(|| ValueError::not_allowed(text, "1 to 65535 seconds, such as 30s or 5m"))
}

/// What outlives a connection.
struct Listener {
    target: SnTarget,
    settings: ClientSettings,
    subscribe: Vec<TopicName>,
    unsubscribe: Vec<TopicName>,
    qos: Qos,
    sleep: Option<u16>,
    filters: Filters,
    format: Format,
    session: Option<SnSession>,
    /// There is a connection to say goodbye to.
    connected: bool,
    printed: u64,
}

/// Why listening ended.
enum End {
    /// It is enough.
    Enough,
    /// Nobody reads what we print.
    Unread,
}

impl Listener {
    fn new(command: SnSubscribeCommand) -> Result<Self, SnError> {
        let (target, settings) = command.connection.resolve()?;
        let subscribe = command.topic.iter().map(sn_connection::topic);
        let predefined = command.predefined.iter().map(|id| TopicName::Predefined(*id));
        Ok(Self {
            target,
            settings,
            subscribe: subscribe.chain(predefined).collect(),
            unsubscribe: command.unsubscribe.iter().map(sn_connection::topic).collect(),
            qos: command.qos,
            sleep: command.sleep,
            format: command.output.format(),
            filters: Filters {
                filter_out: command.filter_out,
                no_retained: command.no_retained,
                retain_only: command.retain_only,
                count: command.count,
                newline: command.output.newline(),
            },
            session: None,
            connected: false,
            printed: 0,
        })
    }

    /// Listens until it is enough, or somebody presses Ctrl-C.
    async fn run(&mut self) -> Result<(), SnError> {
        let end = tokio::select! {
            end = self.listen_and_come_back() => end?,
            _ = tokio::signal::ctrl_c() => End::Enough,
        };
        match end {
            End::Enough => self.leave().await,
            End::Unread => Ok(()),
        }
    }

    /// Only the first connection must succeed at once.
    async fn listen_and_come_back(&mut self) -> Result<End, SnError> {
        let mut wait = FIRST_WAIT;
        let mut was_connected = false;
        loop {
            let result = self.listen().await;
            if std::mem::take(&mut self.connected) {
                (was_connected, wait) = (true, FIRST_WAIT);
            }
            match result {
                Err(error) if was_connected && error.passes() => {
                    complain(&error);
                    tokio::time::sleep(wait).await;
                    wait = LONGEST_WAIT.min(wait * 2);
                }
                Ok(end) => {
                    self.connected = true;
                    return Ok(end);
                }
                Err(error) => {
                    if let Some(session) = &mut self.session {
                        session.leave_after(&error).await;
                    }
                    return Err(error);
                }
            }
        }
    }

    async fn listen(&mut self) -> Result<End, SnError> {
        let session = SnSession::open(&self.target, self.settings.clone()).await?;
        let session = self.session.insert(session);
        session.request(Request::Connect);
        let mut left = self.subscribe.len() + self.unsubscribe.len();
        let (mut granted, mut refused) = (false, Vec::new());
        let mut wakes_at = None;
        loop {
            let wake = async {
                match wakes_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let event = tokio::select! {
                event = session.event() => event?,
                () = wake => {
                    wakes_at = None;
                    session.request(Request::Wake);
                    continue;
                }
            };
            match event {
                Event::Connected => {
                    self.connected = true;
                    for topic in &self.subscribe {
                        session.request(Request::Subscribe(topic.clone(), self.qos));
                    }
                    for topic in &self.unsubscribe {
                        session.request(Request::Unsubscribe(topic.clone()));
                    }
                }
                Event::Refused(message, code) if left > 0 && self.connected => {
                    left -= 1;
                    refused.push(SnError::Refused(message, code));
                }
                Event::Refused(message, code) => return Err(SnError::Refused(message, code)),
                Event::Subscribed(_) => {
                    left -= 1;
                    granted = true;
                }
                Event::Unsubscribed => left -= 1,
                Event::Received(received) => {
                    let publish = as_mqtt(received);
                    if self.filters.wants(&publish) {
                        if self.filters.print(&self.format, &publish).is_err() {
                            return Ok(End::Unread);
                        }
                        self.printed += 1;
                    }
                    if self.filters.count.is_some_and(|count| self.printed >= count) {
                        return Ok(End::Enough);
                    }
                    continue;
                }
                Event::Asleep | Event::Drained => {
                    let sleep = self.sleep.unwrap_or_default();
                    wakes_at = Some(tokio::time::Instant::now() + Duration::from_secs(sleep.into()));
                    continue;
                }
                _ => continue,
            }
            if left > 0 {
                continue;
            }
            if let Some(error) = refused.pop_if(|_| !granted) {
                return Err(error);
            }
            // Nothing else was asked for.
            if self.subscribe.is_empty() {
                return Ok(End::Enough);
            }
            refused.drain(..).for_each(|error| complain(&error));
            if let Some(sleep) = self.sleep {
                session.request(Request::Sleep(sleep));
            }
        }
    }

    /// Ends the exchange of what was printed, so that it does not come again, and says goodbye.
    async fn leave(&mut self) -> Result<(), SnError> {
        let Some(mut session) = self.session.take().filter(|_| self.connected) else {
            return Ok(());
        };
        session.stop_receiving();
        let exchange = async {
            session.flush().await?;
            while session.holds() {
                session.event().await?;
            }
            session.leave().await
        };
        match tokio::time::timeout(LAST_EXCHANGE, exchange).await {
            Ok(Err(SnError::Disconnected)) | Err(_) => Ok(()),
            Ok(result) => result,
        }
    }
}

/// For what prints messages of MQTT.
fn as_mqtt(received: Received) -> mqtt::Publish {
    mqtt::Publish {
        dup: received.dup,
        qos: match received.qos {
            Qos::AtMostOnce | Qos::NoConnection => mqtt::Qos::AtMostOnce,
            Qos::AtLeastOnce => mqtt::Qos::AtLeastOnce,
            Qos::ExactlyOnce => mqtt::Qos::ExactlyOnce,
        },
        retain: received.retain,
        topic: Utf8::try_from(received.topic).unwrap_or_default(),
        payload: received.payload,
        ..mqtt::Publish::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleep_is_as_long_as_mqtt_sn_can_say() {
        assert_eq!(sleep("30"), Ok(30));
        assert_eq!(sleep("5m"), Ok(300));
        assert_eq!(sleep("1h 30m"), Ok(5_400));
        for bad in ["0", "100ms", "19h", "65536", "soon", "-1"] {
            assert!(sleep(bad).is_err(), "{bad}");
        }
    }
}
