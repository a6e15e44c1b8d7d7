//! Stamps: each message of a client says when it came and how good the clock was, where that is wanted.

use bytes::Bytes;
use headgate_bus::{Bus, BusOutputs, BusSettings, ClockQuality, HUB, StampClock};
use headgate_model::bus::Presence;
use headgate_model::message::Properties;
use headgate_model::{
    AckToken, Admitted, BusCommand, BusEvent, CloseReason, EndpointId, Entrant, Instant, Link, Message,
    MountPoint, Open, OpenWill, Qos, Subscription, SubscriptionOptions, Topic, WallTime, Will,
};
use std::time::Duration;

/// 2026-11-30T08:00:00Z
const EIGHT: WallTime = WallTime(1_796_025_600_000);
const READER: EndpointId = EndpointId(1);
const WRITER: EndpointId = EndpointId(2);
const BROKER: EndpointId = EndpointId(3);

struct World {
    bus: Bus,
    out: BusOutputs,
    now: Instant,
}

impl World {
    /// A reader of everything, a client, and another broker.
    fn new(stamp: bool) -> Self {
        let settings = BusSettings {
            stamp,
            ..BusSettings::default()
        };
        let mut world = Self {
            bus: Bus::new(settings, WallTime(0), 1).expect("good settings"),
            out: BusOutputs::default(),
            now: Instant(1_234),
        };
        world.clock(ClockQuality::Synchronized);
        world.open(READER, "reader", None, None);
        let options = SubscriptionOptions::default();
        let all = Subscription::parse(&"#".into(), options, &MountPoint::default()).expect("a good filter");
        world.send(
            READER,
            BusCommand::Subscribe {
                token: AckToken(1),
                subscriptions: vec![Admitted::of_gateway(all)],
            },
        );
        let will = Will {
            message: message("will", &[("unit", "K")]),
            delay: Duration::ZERO,
            message_expiry: None,
        };
        world.open(WRITER, "writer", Some(will), None);
        world.open(BROKER, "broker", None, Some(Link::default()));
        world.out.events.clear();
        world
    }

    fn clock(&mut self, quality: ClockQuality) {
        let clock = StampClock {
            epoch: EIGHT,
            quality,
        };
        self.bus.set_stamp_clock(Some(clock));
    }

    fn open(&mut self, endpoint: EndpointId, client: &str, will: Option<Will>, link: Option<Link>) {
        let open = Open {
            client: Entrant::of_gateway(client.into(), Presence::default()),
            clean_start: true,
            expiry: Duration::ZERO,
            will: OpenWill::Set(will.map(|will| Box::new(Admitted::of_gateway(will)))),
            receive_maximum: 10,
            credit: 100,
            forgeable: false,
            wants_expired: false,
            link: link.map(Box::new),
        };
        self.send(endpoint, BusCommand::Open(Box::new(open)));
    }

    fn send(&mut self, endpoint: EndpointId, command: BusCommand) {
        self.bus.handle(endpoint, command, self.now, &mut self.out);
        while let Some((batch, _)) = self.bus.take_batch() {
            self.bus.committed(batch, self.now, &mut self.out);
        }
    }

    fn publish(&mut self, from: EndpointId, message: Message) {
        let command = BusCommand::Publish {
            message: Admitted::of_gateway(message),
            ack: None,
            dedup: None,
        };
        self.send(from, command);
    }

    /// What the reader got since it was asked last: topics, and user properties as `name=value`.
    fn heard(&mut self) -> Vec<String> {
        let events = self.out.events.drain(..);
        let told = events.filter_map(|(to, event)| match event {
            BusEvent::Delivery(delivery) if to == READER => Some(said(&delivery.message)),
            _ => None,
        });
        told.collect()
    }
}

fn message(topic: &str, pairs: &[(&str, &str)]) -> Message {
    let own = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    let properties = Properties {
        user_properties: pairs
            .iter()
            .map(|(name, value)| (own(name), own(value)))
            .collect(),
        ..Properties::default()
    };
    Message {
        qos: Qos::AtMostOnce,
        properties: (!pairs.is_empty()).then(|| Box::new(properties)),
        ..Message::new(Topic::try_from(topic).expect("a good name"), "x")
    }
}

fn said(message: &Message) -> String {
    let mut said = message.topic.as_str().to_owned();
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    for (name, value) in message.properties.iter().flat_map(|known| &known.user_properties) {
        said += &format!(" {}={}", text(name), text(value));
    }
    said
}

#[test]
fn a_message_says_when_it_came_and_by_which_clock() {
    let mut world = World::new(true);
    world.publish(WRITER, message("t", &[]));
    world.publish(
        WRITER,
        message("t", &[("headgate-clock", "forged"), ("unit", "K")]),
    );
    world.now = Instant(2_000);
    world.clock(ClockQuality::Floor);
    world.publish(WRITER, message("t", &[]));
    let at = "headgate-received=2026-11-30T08:00:01.234Z headgate-clock=synchronized";
    assert_eq!(
        world.heard(),
        [
            format!("t {at}"),
            format!("t unit=K {at}"),
            "t headgate-received=2026-11-30T08:00:02.000Z headgate-clock=floor".to_owned(),
        ]
    );
}

/// What a program of the gateway publishes for somebody counts as a client's; what the gateway says itself does not.
#[test]
fn wills_and_programs_are_stamped_and_the_gateway_is_not() {
    let mut world = World::new(true);
    let close = BusCommand::Close {
        reason: CloseReason::Lost,
        expiry: None,
    };
    world.send(WRITER, close);
    let at = "headgate-received=2026-11-30T08:00:01.234Z headgate-clock=synchronized";
    assert_eq!(world.heard(), [format!("will unit=K {at}")]);
    let (bus, now, out) = (&mut world.bus, world.now, &mut world.out);
    bus.publish_acknowledged(message("program", &[]), AckToken(1), now, out);
    bus.publish(message("gateway", &[]), now, out);
    assert!(world.out.events.iter().any(|(to, _)| *to == HUB));
    assert_eq!(world.heard(), [format!("program {at}"), "gateway".to_owned()]);
}

/// It came first where it was stamped.
#[test]
fn what_comes_by_a_link_keeps_its_stamp() {
    let mut world = World::new(true);
    let stamp = [("headgate-received", "before"), ("headgate-clock", "set")];
    world.publish(BROKER, message("t", &stamp));
    world.publish(BROKER, message("t", &[]));
    assert_eq!(
        world.heard(),
        [
            "t headgate-received=before headgate-clock=set",
            "t headgate-received=2026-11-30T08:00:01.234Z headgate-clock=synchronized",
        ]
    );
}

/// A message that was delayed came when it was published.
#[test]
fn a_delayed_message_is_stamped_once() {
    let mut world = World::new(true);
    world.publish(WRITER, message("$delayed/5/t", &[]));
    assert!(world.heard().is_empty());
    world.now = Instant(6_500);
    let (now, out) = (world.now, &mut world.out);
    world.bus.handle_timeout(now, out);
    assert_eq!(
        world.heard(),
        ["t headgate-received=2026-11-30T08:00:01.234Z headgate-clock=synchronized"]
    );
}

#[test]
fn without_the_setting_or_a_clock_nothing_is_said() {
    let mut world = World::new(false);
    world.publish(WRITER, message("t", &[]));
    world.publish(WRITER, message("t", &[("headgate-clock", "mine")]));
    assert_eq!(world.heard(), ["t", "t headgate-clock=mine"]);
    let mut world = World::new(true);
    world.bus.set_stamp_clock(None);
    world.publish(WRITER, message("t", &[]));
    assert_eq!(world.heard(), ["t"]);
}
