//! One client of LwM2M, commanded by MQTT.
//!
//! Always true: whoever asks is subscribed to the answers before the command goes.

use super::Lwm2mError;
use crate::connection::{Connection, ServerArgs, text};
use crate::publish::check_topic;
use headgate_cli::note;
use headgate_client::{Client, ClientError, Incoming, Reason};
use headgate_mqtt_codec::{
    Ack, AckKind, Packet, PacketId, Publish, PublishProperties, Qos, ReasonCode, Subscribe, SubscribeFilter,
    SubscribeOptions, Utf8, Version,
};
use serde_json::{Map, Value as Json, json};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Who is silent for so long is asleep, perhaps.
const SILENCE: Duration = Duration::from_secs(3);

/// The answer that a command is too late comes a little later.
const GRACE: Duration = Duration::from_secs(10);

const SUBSCRIBE: PacketId = PacketId::MIN;
const PUBLISH: PacketId = PacketId::MAX;

/// Whose commands, and under which topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The endpoint name.
    pub endpoint: String,
    /// Where commands go.
    pub command: Utf8,
    /// Where answers come.
    pub response: Utf8,
    /// Where notifications come.
    pub notify: Utf8,
}

impl Place {
    /// Below the prefix of `lwm2m.topics`, with `{ep}` for the endpoint name.
    pub(crate) fn new(endpoint: &str, prefix: &str) -> Result<Self, Lwm2mError> {
        let usage = |text: String| Err(Lwm2mError::Usage(text));
        if endpoint.is_empty() || endpoint.starts_with('$') || endpoint.contains(['/', '+', '#', '\0']) {
            return usage(format!(
                "`{endpoint}` is no endpoint name: it has one character or more, no / + # in it, and no $ in front"
            ));
        }
        if !prefix.contains("{ep}") {
            return usage(format!(
                "--prefix `{prefix}` tells clients not apart: {{ep}} stands for the endpoint name, as in lwm2m/{{ep}}"
            ));
        }
        let topic = |part: &str| -> Result<Utf8, Lwm2mError> {
            let topic = text(format!("{}/{part}", prefix.replace("{ep}", endpoint)))?;
            check_topic(&topic).map_err(|error| Lwm2mError::Usage(error.to_string()))?;
            Ok(topic)
        };
        Ok(Self {
            endpoint: endpoint.to_owned(),
            command: topic("dn/cli")?,
            response: topic("up/resp")?,
            notify: topic("up/notify")?,
        })
    }
}

/// How long a command may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Patience {
    /// How long we wait.
    pub timeout: Duration,
    /// How long the command waits for its client.
    pub expiry: Duration,
}

impl Patience {
    /// As it was said. Who says only how long a command waits, waits as long.
    pub(crate) fn new(timeout: Option<Duration>, expiry: Option<Duration>, usual: Duration) -> Self {
        let timeout = timeout.unwrap_or_else(|| expiry.map_or(usual, |expiry| expiry.max(usual)));
        let expiry = expiry.unwrap_or(timeout);
        Self { timeout, expiry }
    }

    /// In whole seconds, at least one.
    fn expiry_seconds(&self) -> u32 {
        let seconds = self.expiry.as_secs() + u64::from(self.expiry.subsec_nanos() > 0);
        u32::try_from(seconds.max(1)).unwrap_or(u32::MAX)
    }
}

/// See the module.
pub(crate) struct Commander {
    place: Place,
    client: Client,
    version: Version,
    incoming: Incoming,
}

enum Event {
    /// A message at one of our topics.
    Told(bool, Json),
    /// What became of our command at the gateway.
    Acknowledged(Ack),
}

impl Commander {
    /// Connects, and subscribes to answers and notifications.
    pub(crate) async fn open(server: ServerArgs, place: Place) -> Result<Self, Lwm2mError> {
        let Connection { dial, connect } = server.resolve()?;
        let (mut client, _) = Client::open(&dial, &connect).await?;
        let options = SubscribeOptions {
            qos: Qos::AtLeastOnce,
            ..SubscribeOptions::default()
        };
        let topics = [&place.response, &place.notify];
        let filters = topics.map(|topic| SubscribeFilter {
            filter: topic.clone(),
            options,
        });
        client.send(&Packet::Subscribe(Box::new(Subscribe {
            packet_id: SUBSCRIBE,
            identifier: None,
            user_properties: Vec::new(),
            filters: filters.into(),
        })));
        loop {
            let Packet::SubAck(suback) = client.recv().await? else {
                continue;
            };
            let refused = suback.codes.iter().zip(topics).find(|(code, _)| code.is_error());
            if let Some((code, topic)) = refused {
                let words = suback.reason_string.as_ref().map(Utf8::to_string);
                return Err(Lwm2mError::MayNotHear {
                    topic: topic.to_string(),
                    reason: Reason {
                        code: *code,
                        text: words,
                    },
                });
            }
            break;
        }
        Ok(Self {
            place,
            client,
            version: connect.version,
            incoming: Incoming::default(),
        })
    }

    /// Sends a command and waits for its answer, good or bad. What comes meanwhile and is no answer goes to `watch`.
    pub(crate) async fn ask(
        &mut self,
        kind: &str,
        mut data: Map<String, Json>,
        patience: Patience,
        mut watch: impl FnMut(&Json),
    ) -> Result<Json, Lwm2mError> {
        let id = request_id()?;
        data.insert("expiry".into(), patience.expiry_seconds().into());
        let command = json!({"reqID": id, "msgType": kind, "data": data});
        self.publish(&command, patience);
        let begun = Instant::now();
        // The gateway tells that the time is over, where that is ours.
        let left = patience.expiry.saturating_sub(patience.timeout);
        let wait = patience.timeout + if left.is_zero() { GRACE } else { Duration::ZERO };
        let mut doubt = Some(begun + SILENCE);
        loop {
            let next = doubt.map_or(begun + wait, |doubt| doubt.min(begun + wait));
            let event = tokio::select! {
                event = self.event() => event?,
                () = sleep_until(next) => {
                    if doubt.take_if(|doubt| *doubt <= Instant::now()).is_some() && begun.elapsed() < wait {
                        note(format!(
                            "no answer yet: `{}` is asleep, perhaps. The command waits for it, {} s at most",
                            self.place.endpoint, patience.expiry_seconds()
                        ));
                        continue;
                    }
                    return Err(self.no_answer(id, patience, left));
                }
            };
            match event {
                Event::Acknowledged(ack) => self.check(&ack)?,
                Event::Told(_, told) if told["reqID"] == id && told["msgType"] == "ack" => doubt = None,
                Event::Told(false, told) if told["reqID"] == id => return Ok(told),
                Event::Told(_, told) => {
                    if told["msgType"] == "firmware" {
                        doubt = None;
                    }
                    watch(&told);
                }
            }
        }
    }

    fn no_answer(&self, id: u32, patience: Patience, left: Duration) -> Lwm2mError {
        let (endpoint, within) = (self.place.endpoint.clone(), patience.timeout);
        if left.is_zero() {
            return Lwm2mError::NoAnswer { endpoint, within };
        }
        Lwm2mError::Waits {
            endpoint,
            within,
            left,
            id,
            topic: self.place.response.to_string(),
        }
    }

    fn publish(&mut self, command: &Json, patience: Patience) {
        // The data says how long it waits for its client; this also holds where it has to wait for others before it, and while the gateway is away.
        let properties = PublishProperties {
            message_expiry: Some(patience.expiry_seconds()),
            ..PublishProperties::default()
        };
        self.client.send(&Packet::Publish(Publish {
            qos: Qos::AtLeastOnce,
            topic: self.place.command.clone(),
            packet_id: Some(PUBLISH),
            payload: command.to_string().into(),
            properties: (self.version == Version::V5).then(|| Box::new(properties)),
            ..Publish::default()
        }));
    }

    fn check(&self, ack: &Ack) -> Result<(), Lwm2mError> {
        let topic = self.place.command.to_string();
        if ack.reason == ReasonCode::NoMatchingSubscribers {
            let endpoint = self.place.endpoint.clone();
            return Err(Lwm2mError::Unknown { endpoint, topic });
        }
        if !ack.reason.is_error() {
            return Ok(());
        }
        let words = ack
            .properties
            .as_ref()
            .and_then(|properties| properties.reason_string.as_ref());
        let reason = Reason {
            code: ack.reason,
            text: words.map(Utf8::to_string),
        };
        Err(Lwm2mError::NotTaken { topic, reason })
    }

    /// The next notification. May be dropped at any time.
    pub(crate) async fn notification(&mut self) -> Result<Json, Lwm2mError> {
        loop {
            if let Event::Told(true, told) = self.event().await?
                && told["msgType"] == "notify"
            {
                return Ok(told);
            }
        }
    }

    async fn event(&mut self) -> Result<Event, Lwm2mError> {
        loop {
            let packet = self.client.recv().await?;
            if let Packet::Ack(ack) = &packet
                && ack.kind == AckKind::PubAck
            {
                return Ok(Event::Acknowledged(ack.clone()));
            }
            let Some(publish) = self.incoming.on_packet(packet, self.version, &mut self.client) else {
                continue;
            };
            self.incoming.acknowledge(&publish, &mut self.client);
            let told = serde_json::from_slice(&publish.payload);
            let told = told.map_err(|error| Lwm2mError::Answer {
                topic: publish.topic.to_string(),
                cause: error.to_string(),
            })?;
            return Ok(Event::Told(publish.topic == self.place.notify, told));
        }
    }

    /// Says goodbye.
    pub(crate) async fn close(self) {
        // What was asked for is there: how the gateway takes its leave does not matter.
        let _ = self.client.close().await;
    }
}

/// One that nobody else has, most likely.
fn request_id() -> Result<u32, Lwm2mError> {
    let mut random = [0; 4];
    getrandom::fill(&mut random).map_err(|error| ClientError::Usage(error.to_string()))?;
    Ok(u32::from_ne_bytes(random))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_below_the_prefix() {
        let place = Place::new("dev-1", "t/{ep}/x").unwrap();
        let topics = [place.command, place.response, place.notify];
        let topics = topics.map(|topic| topic.to_string());
        assert_eq!(
            topics,
            ["t/dev-1/x/dn/cli", "t/dev-1/x/up/resp", "t/dev-1/x/up/notify"]
        );
        for (endpoint, prefix, why) in [
            ("", "lwm2m/{ep}", "is no endpoint name"),
            ("a/b", "lwm2m/{ep}", "is no endpoint name"),
            ("$x", "lwm2m/{ep}", "is no endpoint name"),
            ("a", "lwm2m/dev", "stands for the endpoint name"),
            ("a", "#/{ep}", "topic"),
        ] {
            let error = Place::new(endpoint, prefix).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn who_says_how_long_a_command_waits_waits_as_long() {
        let seconds = Duration::from_secs;
        let of = |timeout: Option<u64>, expiry: Option<u64>| {
            let patience = Patience::new(timeout.map(seconds), expiry.map(seconds), seconds(120));
            (patience.timeout.as_secs(), patience.expiry.as_secs())
        };
        assert_eq!(of(None, None), (120, 120));
        assert_eq!(of(Some(5), None), (5, 5));
        assert_eq!(of(None, Some(3_600)), (3_600, 3_600));
        assert_eq!(of(None, Some(10)), (120, 10));
        assert_eq!(of(Some(5), Some(3_600)), (5, 3_600));
        let short = Patience::new(Some(Duration::from_millis(1_200)), None, seconds(120));
        assert_eq!(short.expiry_seconds(), 2);
        assert_eq!(
            Patience::new(Some(Duration::ZERO), None, seconds(120)).expiry_seconds(),
            1
        );
    }
}
