//! `headgate sub`: subscribes and prints what comes.

use super::connection::{self, Connection, ConnectionArgs};
use super::error::ArgumentError;
use super::format::Format;
use super::listening::{self, LAST_EXCHANGE, ListenError, Listener, Tries};
use super::publish::seconds;
use clap::Args;
use headgate_cli::{Outcome, complain, runtime};
use headgate_client::{Client, ClientError, Incoming};
use headgate_model::{TopicError, TopicFilter};
use headgate_mqtt_codec::{
    Packet, PacketId, Publish, Qos, ReasonCode, RetainHandling, SubAck, Subscribe, SubscribeFilter,
    SubscribeOptions, Unsubscribe, Utf8,
};
use std::io::{IsTerminal, Write};
use std::time::Duration;

/// Subscribe, and print what comes.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub struct SubscribeCommand {
    /// Topic filter to subscribe to; may be given several times.
    #[arg(short, long, value_name = "FILTER", required_unless_present = "unsubscribe", value_parser = connection::utf8)]
    topic: Vec<Utf8>,
    /// Topic filter to unsubscribe from; may be given several times.
    #[arg(short = 'U', long, value_name = "FILTER", value_parser = connection::utf8)]
    unsubscribe: Vec<Utf8>,
    /// Topic filter of messages not to print; may be given several times.
    #[arg(short = 'T', long, value_name = "FILTER", value_parser = filter)]
    filter_out: Vec<TopicFilter>,
    /// Highest QoS to receive messages at.
    #[arg(short, long, default_value = "0", value_parser = connection::qos)]
    qos: Qos,
    /// End after so many messages.
    #[arg(short = 'C', long, value_name = "N")]
    count: Option<u64>,
    /// End after so many seconds; an error if --count is not reached.
    #[arg(short = 'W', long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<f64>,
    /// Do not print retained messages from before the subscription.
    #[arg(short = 'R', long, conflicts_with = "retain_only")]
    no_retained: bool,
    /// Print retained messages from before the subscription only.
    #[arg(long)]
    retain_only: bool,
    /// The server is to leave the retain flag as it was published (MQTT 5).
    #[arg(long)]
    retain_as_published: bool,
    /// Do not receive what this very client publishes (MQTT 5).
    #[arg(long)]
    no_local: bool,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// How a message looks.
#[derive(Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputArgs {
    /// Print the topic before the payload.
    #[arg(short, long)]
    verbose: bool,
    /// Print no end of line after a message.
    #[arg(short = 'N', long)]
    no_newline: bool,
    /// Print by a pattern: %t topic, %p payload, %x payload in hexadecimal, %l its length, %q QoS, %r retain,
    /// %j all as JSON, %% a percent sign; \n, \t and \\ too.
    #[arg(short = 'F', long, value_name = "PATTERN", conflicts_with = "verbose")]
    format: Option<Format>,
    /// Print one JSON object a message.
    #[arg(long, conflicts_with_all = ["verbose", "format"])]
    json: bool,
}

impl OutputArgs {
    /// Whether a message ends with the end of a line.
    pub(crate) fn newline(&self) -> bool {
        !self.no_newline
    }

    /// The pattern that was chosen.
    pub(crate) fn format(&self) -> Format {
        let pattern = match (&self.format, self.json, self.verbose) {
            (Some(format), ..) => return format.clone(),
            (None, true, _) => "%j",
            (None, false, true) => "%t %p",
            (None, false, false) => "%p",
        };
        pattern.parse().expect("these patterns are good")
    }
}

impl SubscribeCommand {
    /// Runs the command.
    pub fn run(mut self) -> Outcome {
        check_filters(self.topic.iter().chain(&self.unsubscribe))?;
        let limit = self.timeout.take().map(Duration::from_secs_f64);
        let format = self.output.format();
        let wanted = self.count;
        let runtime = runtime()?;
        runtime.block_on(async {
            let mut session = Session::new(self, format)?;
            listening::run(&mut session, wanted, limit).await
        })?;
        Ok(())
    }
}

/// A topic filter.
pub(crate) fn filter(text: &str) -> Result<TopicFilter, TopicError> {
    TopicFilter::try_from(text)
}

/// Whether all of them are topic filters.
pub(crate) fn check_filters<'a>(filters: impl Iterator<Item = &'a Utf8>) -> Result<(), ArgumentError> {
    for text in filters {
        filter(text.as_str()).map_err(|cause| ArgumentError::Filter {
            filter: text.clone(),
            cause,
        })?;
    }
    Ok(())
}

/// What outlives a connection.
struct Session {
    subscribe: Option<Packet>,
    unsubscribe: Option<Packet>,
    args: Filters,
    connection: Connection,
    format: Format,
    incoming: Incoming,
    client: Option<Client>,
    printed: u64,
}

/// What is printed.
#[allow(missing_docs, reason = "as the arguments say")]
pub(crate) struct Filters {
    pub filter_out: Vec<TopicFilter>,
    pub no_retained: bool,
    pub retain_only: bool,
    pub count: Option<u64>,
    pub newline: bool,
}

impl Session {
    fn new(command: SubscribeCommand, format: Format) -> Result<Self, ClientError> {
        let options = SubscribeOptions {
            qos: command.qos,
            no_local: command.no_local,
            retain_as_published: command.retain_as_published,
            // Only MQTT 5 servers can be told; what others send is left out when it comes.
            retain_handling: if command.no_retained {
                RetainHandling::DoNotSend
            } else {
                RetainHandling::SendAtSubscribe
            },
        };
        let filters = command
            .topic
            .into_iter()
            .map(|filter| SubscribeFilter { filter, options });
        let filters: Vec<SubscribeFilter> = filters.collect();
        let subscribe = (!filters.is_empty()).then(|| {
            Packet::Subscribe(Box::new(Subscribe {
                packet_id: SUBSCRIBE,
                identifier: None,
                user_properties: Vec::new(),
                filters,
            }))
        });
        let unsubscribe = (!command.unsubscribe.is_empty()).then(|| {
            Packet::Unsubscribe(Box::new(Unsubscribe {
                packet_id: UNSUBSCRIBE,
                user_properties: Vec::new(),
                filters: command.unsubscribe,
            }))
        });
        Ok(Self {
            subscribe,
            unsubscribe,
            args: Filters {
                filter_out: command.filter_out,
                no_retained: command.no_retained,
                retain_only: command.retain_only,
                count: command.count,
                newline: command.output.newline(),
            },
            connection: command.connection.resolve()?,
            format,
            incoming: Incoming::default(),
            client: None,
            printed: 0,
        })
    }
}

impl Listener for Session {
    type Error = ClientError;

    async fn listen(&mut self, tries: &mut Tries) -> Result<(), ClientError> {
        self.client = None;
        let Connection { dial, connect } = &self.connection;
        let (client, connack) = Client::open(dial, connect).await?;
        let version = connect.version;
        tries.succeeded();
        if !connack.session_present {
            self.incoming.forget();
        }
        let client = self.client.insert(client);
        self.subscribe.iter().for_each(|packet| client.send(packet));
        self.unsubscribe.iter().for_each(|packet| client.send(packet));
        loop {
            let packet = client.recv().await?;
            match &packet {
                Packet::SubAck(suback) => check(suback)?,
                // Nothing else was asked for.
                Packet::UnsubAck(_) if self.subscribe.is_none() => return Ok(()),
                _ => {}
            }
            let Some(publish) = self.incoming.on_packet(packet, version, client) else {
                continue;
            };
            let printed = self
                .args
                .wants(&publish)
                .then(|| self.args.print(&self.format, &publish));
            match printed {
                // Nobody reads any more.
                Some(Err(_)) => return Ok(()),
                Some(Ok(())) => self.printed += 1,
                None => {}
            }
            self.incoming.acknowledge(&publish, client);
            if self.args.count.is_some_and(|count| self.printed >= count) {
                return Ok(());
            }
        }
    }

    /// Ends the exchange of what was printed, so that it does not come again, and says goodbye.
    async fn leave(&mut self) -> Result<(), ClientError> {
        let Some(mut client) = self.client.take() else {
            return Ok(());
        };
        let version = self.connection.connect.version;
        let exchange = async {
            while !self.incoming.is_done() {
                let packet = client.recv().await?;
                // A message that comes now is not acknowledged: a session that stays keeps it.
                self.incoming.on_packet(packet, version, &mut client);
            }
            Ok::<(), ClientError>(())
        };
        let _ = tokio::time::timeout(LAST_EXCHANGE, exchange).await;
        client.close().await
    }

    fn printed(&self) -> u64 {
        self.printed
    }
}

impl ListenError for ClientError {
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

const SUBSCRIBE: PacketId = PacketId::MIN;
const UNSUBSCRIBE: PacketId = PacketId::MAX;

/// Some refusals are said; if nothing is left it is an error.
fn check(suback: &SubAck) -> Result<(), ClientError> {
    let refused = |code: &&ReasonCode| code.is_error();
    let Some(code) = suback.codes.iter().find(refused) else {
        return Ok(());
    };
    let reason = headgate_client::Reason {
        code: *code,
        text: suback.reason_string.as_ref().map(Utf8::to_string),
    };
    let error = ClientError::SubscriptionRefused(reason);
    if suback.codes.iter().all(|code| code.is_error()) {
        return Err(error);
    }
    let places = (1..).zip(&suback.codes).filter(|(_, code)| code.is_error());
    for (n, code) in places {
        complain(&ClientError::Usage(format!(
            "the server refused subscription {n}: {code}"
        )));
    }
    Ok(())
}

impl Filters {
    /// Whether it is to be printed.
    pub(crate) fn wants(&self, publish: &Publish) -> bool {
        let retained = publish.retain;
        let filtered = self
            .filter_out
            .iter()
            .any(|filter| filter.matches(publish.topic.as_bytes()));
        let unwanted = if retained {
            self.no_retained
        } else {
            self.retain_only
        };
        !filtered && !unwanted
    }

    /// Prints it.
    pub(crate) fn print(&self, format: &Format, publish: &Publish) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        let is_terminal = out.is_terminal();
        format.write(publish, is_terminal, &mut out)?;
        if self.newline {
            out.write_all(b"\n")?;
        }
        out.flush()
    }
}
