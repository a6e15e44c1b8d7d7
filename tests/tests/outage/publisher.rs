//! A client with a session that it keeps: what is not acknowledged when the gateway stops, it sends again. \[MQTT-4.4.0-1\]

use crate::remote::number;
use headgate_model::bus::NEVER;
use headgate_model::bus::Presence;
use headgate_model::{
    AckToken, Admitted, BusCommand, BusEvent, EndpointId, Entrant, Message, Open, Qos, Topic,
};
use std::collections::{BTreeSet, VecDeque};

/// See the module's documentation.
pub(crate) struct Publisher {
    pub endpoint: EndpointId,
    name: String,
    outgoing: VecDeque<Sending>,
    next_id: u16,
}

struct Sending {
    id: u16,
    message: Message,
    topic: usize,
    /// PUBREC came.
    released: bool,
}

impl Publisher {
    pub(crate) fn new(number: u64) -> Self {
        Self {
            endpoint: EndpointId(number + 1),
            name: format!("publisher-{number}"),
            outgoing: VecDeque::new(),
            next_id: 1,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.outgoing.is_empty()
    }

    /// PUBLISH of a message of one of the topics.
    pub(crate) fn publish(&mut self, topic: usize, n: u32, qos: Qos) -> BusCommand {
        let name = Topic::try_from(format!("plant/{topic}").as_str()).expect("a topic");
        let message = Message {
            qos,
            ..Message::new(name, n.to_string())
        };
        let id = self.next_id;
        self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        self.outgoing.push_back(Sending {
            id,
            message,
            topic,
            released: false,
        });
        self.outgoing.back().expect("just added").command()
    }

    /// What follows from an event.
    pub(crate) fn on_event(&mut self, event: BusEvent) -> Option<BusCommand> {
        match event {
            BusEvent::Accepted(AckToken(token), _) => {
                let at = self.place(u16::try_from(token).expect("an identifier"));
                if self.outgoing[at].message.qos == Qos::AtLeastOnce {
                    self.outgoing.remove(at);
                    return None;
                }
                self.outgoing[at].released = true;
                Some(self.outgoing[at].command())
            }
            BusEvent::Released { packet, .. } => {
                let at = self.place(packet);
                self.outgoing.remove(at);
                None
            }
            BusEvent::Opened { .. } => None,
            other => panic!("{} got {other:?}", self.name),
        }
    }

    fn place(&self, id: u16) -> usize {
        let place = self.outgoing.iter().position(|sending| sending.id == id);
        place.expect("what is answered was sent")
    }

    pub(crate) fn open(&self) -> BusCommand {
        BusCommand::Open(Box::new(Open {
            client: Entrant::of_gateway(self.name.as_str().into(), Presence::default()),
            clean_start: false,
            expiry: NEVER,
            will: None.into(),
            receive_maximum: 10,
            credit: 10,
            forgeable: false,
            wants_expired: false,
            link: None,
        }))
    }

    /// Everything unacknowledged once more, in its order; notes the QoS 1 messages among it. \[MQTT-4.6.0-1\]
    pub(crate) fn resend(&self, resent: &mut BTreeSet<(usize, u32)>) -> Vec<BusCommand> {
        let qos1 = self.outgoing.iter().filter(|s| s.message.qos == Qos::AtLeastOnce);
        resent.extend(qos1.map(|s| (s.topic, number(&s.message.payload))));
        self.outgoing.iter().map(Sending::command).collect()
    }
}

impl Sending {
    fn command(&self) -> BusCommand {
        if self.released {
            return BusCommand::Release(self.id);
        }
        BusCommand::Publish {
            message: Admitted::of_gateway(self.message.clone()),
            ack: Some(AckToken(self.id.into())),
            dedup: (self.message.qos == Qos::ExactlyOnce).then_some(self.id),
        }
    }
}
