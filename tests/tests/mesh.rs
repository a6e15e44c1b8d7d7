//! Gateways and mosquittos joined by links that carry everything (`# both`), in every mixture of MQTT 3 and 5: each message arrives exactly once at
//! every gateway's subscriber, and traffic dies out. A link of MQTT 3 loses user properties, and the path with them.

use headgate_bus::{BusSettings, DropReason, Notice};
use headgate_model::{
    AckToken, Admitted, BusCommand, BusEvent, CloseReason, Delivery, Link, Message, Qos, Settlement,
    SubscriptionOptions, path,
};
use headgate_tests::bus_bench::{BusBench, brief, link, message, opening, subscription};
use std::collections::VecDeque;
use std::time::Duration;

/// A broker without a memory: what comes by one link goes out by all others, user properties and all.
#[derive(Default)]
struct Mosquitto {
    heard: Vec<String>,
    outboxes: Vec<(usize, VecDeque<Message>)>,
}

impl Mosquitto {
    fn publish(&mut self, message: &Message, from: Option<usize>) {
        self.heard.push(brief(message));
        for (wire, outbox) in &mut self.outboxes {
            if from != Some(*wire) {
                outbox.push_back(message.clone());
            }
        }
    }
}

enum Node {
    Gateway(Box<BusBench>, Vec<String>),
    Mosquitto(Mosquitto),
}

/// A link between two nodes, and what is on its way in each direction.
struct Wire {
    ends: [usize; 2],
    v5: bool,
    under_way: [VecDeque<Delivery>; 2],
}

#[derive(Clone, Copy, PartialEq)]
enum Order {
    /// Anything may overtake anything on another link.
    Random,
    /// All links are equally fast.
    Lockstep,
}

struct Mesh {
    nodes: Vec<Node>,
    wires: Vec<Wire>,
    order: Order,
    rng: fastrand::Rng,
    steps: usize,
}

/// The session of a link at one of its ends: the gateway's own, or that of the broker which connected to it.
fn session(wire: usize, end: usize) -> String {
    let prefix = if end == 0 { "$bridge/" } else { "broker-" };
    format!("{prefix}{wire}")
}

impl Mesh {
    /// `kinds`: `g` for a gateway, `m` for a mosquitto. Bit n of `v5` says what wire n speaks.
    fn new(kinds: &str, ends: &[(usize, usize)], v5: usize, transit: bool, order: Order, seed: u64) -> Self {
        let mut settings = BusSettings::default();
        settings.links.transit = transit;
        let gateway = |n| {
            let mut bench = BusBench::new(&format!("node-{n}"), settings.clone());
            bench.connect("device");
            bench.connect("local");
            bench.subscribe("local", "#");
            Node::Gateway(Box::new(bench), Vec::new())
        };
        let nodes = kinds.chars().enumerate().map(|(n, kind)| match kind {
            'g' => gateway(n),
            _ => Node::Mosquitto(Mosquitto::default()),
        });
        let mut mesh = Self {
            nodes: nodes.collect(),
            wires: Vec::new(),
            order,
            rng: fastrand::Rng::with_seed(seed),
            steps: 0,
        };
        for (n, (a, b)) in ends.iter().enumerate() {
            mesh.wires.push(Wire {
                ends: [*a, *b],
                v5: v5 >> n & 1 == 1,
                under_way: Default::default(),
            });
            mesh.join(n);
        }
        mesh
    }

    /// Both ends of a wire open their sessions and subscribe to everything.
    fn join(&mut self, wire: usize) {
        for end in 0..2 {
            let name = session(wire, end);
            match &mut self.nodes[self.wires[wire].ends[end]] {
                Node::Gateway(bench, _) => {
                    let kind = if end == 0 {
                        link(|_| {})
                    } else {
                        Some(Link::default())
                    };
                    bench.open(opening(&name, kind));
                    let options = SubscriptionOptions {
                        retain_as_published: true,
                        ..SubscriptionOptions::default()
                    };
                    bench.send(&name, subscription("#", options));
                }
                Node::Mosquitto(broker) => broker.outboxes.push((wire, VecDeque::new())),
            }
        }
    }

    /// Both ends lose the connection; what was on its way is lost.
    fn cut(&mut self, wire: usize) {
        for end in 0..2 {
            let node = self.wires[wire].ends[end];
            self.gateway(node).close(&session(wire, end), CloseReason::Lost);
        }
        self.wires[wire].under_way = Default::default();
    }

    fn gateway(&mut self, node: usize) -> &mut BusBench {
        match &mut self.nodes[node] {
            Node::Gateway(bench, _) => bench,
            Node::Mosquitto(_) => panic!("node {node} is no gateway"),
        }
    }

    fn say(&mut self, node: usize, message: &Message) {
        match &mut self.nodes[node] {
            Node::Gateway(bench, _) => assert_eq!(bench.publish("device", message.clone()), None),
            Node::Mosquitto(broker) => broker.publish(message, None),
        }
    }

    /// What each node has to send gets under way.
    fn collect(&mut self) {
        for (n, wire) in self.wires.iter_mut().enumerate() {
            for end in 0..2 {
                match &mut self.nodes[wire.ends[end]] {
                    Node::Gateway(bench, _) => {
                        wire.under_way[end].extend(bench.deliveries(&session(n, end)));
                    }
                    Node::Mosquitto(broker) => {
                        let outbox = broker.outboxes.iter_mut().find(|(wire, _)| *wire == n);
                        let messages = outbox.into_iter().flat_map(|(_, outbox)| outbox.drain(..));
                        wire.under_way[end].extend(messages.map(delivery_of));
                    }
                }
            }
        }
        for node in &mut self.nodes {
            if let Node::Gateway(bench, heard) = node {
                heard.extend(bench.heard("local"));
            }
        }
    }

    /// One message crosses a wire and is acknowledged.
    fn carry(&mut self, wire: usize, end: usize) {
        self.steps += 1;
        assert!(self.steps < 20_000, "traffic does not die out");
        let Wire { ends, v5, .. } = self.wires[wire];
        let delivery = self.wires[wire].under_way[end].pop_front().expect("one is there");
        let mut message = (*delivery.message).clone();
        (message.qos, message.retain) = (delivery.qos, delivery.retain);
        if let Node::Gateway(..) = &self.nodes[ends[end]] {
            message = path::stamped(&message, &format!("node-{}", ends[end]));
        }
        if !v5 {
            message.properties = None;
        }
        let arrives = session(wire, 1 - end);
        match &mut self.nodes[ends[1 - end]] {
            Node::Gateway(bench, _) => hand_over(bench, &arrives, message),
            Node::Mosquitto(broker) => broker.publish(&message, Some(wire)),
        }
        if let Node::Gateway(bench, _) = &mut self.nodes[ends[end]] {
            let leaves = session(wire, end);
            if let Some(id) = delivery.id {
                bench.send(&leaves, BusCommand::Settle(id, Settlement::Done));
            }
            bench.send(&leaves, BusCommand::credit(1));
        }
    }

    fn waiting(&self) -> Vec<(usize, usize)> {
        let wires = self.wires.iter().enumerate();
        let both = wires.flat_map(|(n, wire)| [0, 1].map(|end| (n, end, wire.under_way[end].len())));
        let both: Vec<_> = both.collect();
        let each = both
            .iter()
            .flat_map(|(n, end, count)| std::iter::repeat_n((*n, *end), *count));
        each.collect()
    }

    /// Goes on for so many steps, or until nothing is under way.
    fn run(&mut self, steps: usize) {
        let upto = self.steps.saturating_add(steps);
        while self.steps < upto {
            self.collect();
            let waiting = self.waiting();
            match self.order {
                _ if waiting.is_empty() => return,
                Order::Random => {
                    let (wire, end) = waiting[self.rng.usize(..waiting.len())];
                    self.carry(wire, end);
                }
                Order::Lockstep => waiting.into_iter().for_each(|(wire, end)| self.carry(wire, end)),
            }
        }
    }

    fn advance(&mut self, time: Duration) {
        for node in &mut self.nodes {
            if let Node::Gateway(bench, _) = node {
                bench.advance(time);
            }
        }
    }

    /// What was heard at a node, sorted.
    fn heard(&mut self, node: usize) -> Vec<String> {
        let heard = match &mut self.nodes[node] {
            Node::Gateway(_, heard) => heard,
            Node::Mosquitto(broker) => &mut broker.heard,
        };
        let mut heard = std::mem::take(heard);
        heard.sort_unstable();
        heard
    }

    /// Every node publishes, each message for itself and some of them several times. What everybody must hear, sorted.
    fn chat(&mut self) -> Vec<String> {
        let mut said = Vec::new();
        for round in 0..3 {
            for node in 0..self.nodes.len() {
                let qos = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce][(round + node) % 3];
                for payload in ["same".to_owned(), "same".to_owned(), format!("round-{round}")] {
                    let message = message(&format!("from/{node}"), &payload, qos);
                    said.push(brief(&message));
                    self.say(node, &message);
                    if self.order == Order::Random {
                        self.run(3);
                    }
                }
            }
        }
        self.run(usize::MAX);
        said.sort_unstable();
        said
    }
}

fn delivery_of(message: Message) -> Delivery {
    let (qos, retain) = (message.qos, message.retain);
    Delivery {
        message: message.share(),
        id: None,
        qos,
        retain,
        redelivered: false,
        subscription_ids: None,
    }
}

/// A link brings a message, at QoS 2 with the whole handshake.
fn hand_over(bench: &mut BusBench, client: &str, message: Message) {
    let dedup = (message.qos == Qos::ExactlyOnce).then_some(7);
    let ack = (message.qos > Qos::AtMostOnce).then_some(AckToken(7));
    bench.send(
        client,
        BusCommand::Publish {
            message: Admitted::of_gateway(message),
            ack,
            dedup,
        },
    );
    let endpoint = bench.endpoint(client);
    if ack.is_some() {
        let accepted = |event: &BusEvent| matches!(event, BusEvent::Accepted(..));
        let at = bench
            .events
            .iter()
            .position(|(to, e)| *to == endpoint && accepted(e));
        bench.events.remove(at.expect("it is accepted"));
    }
    if let Some(packet) = dedup {
        bench.send(client, BusCommand::Release(packet));
        let known = BusEvent::Released { packet, known: true };
        let at = bench
            .events
            .iter()
            .position(|(to, e)| *to == endpoint && *e == known);
        bench.events.remove(at.expect("its identifier was taken"));
    }
}

type Ends = &'static [(usize, usize)];

const PAIR: Ends = &[(0, 1)];
const DOUBLE: Ends = &[(0, 1), (1, 0)];
const LINE: Ends = &[(0, 1), (1, 2)];
const TRIANGLE: Ends = &[(0, 1), (1, 2), (2, 0)];
const RING: Ends = &[(0, 1), (1, 2), (2, 3), (3, 0)];
const FULL: Ends = &[(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)];

/// Every message exactly once at every gateway, at least once at every mosquitto.
fn check(kinds: &str, ends: Ends, v5: usize, transit: bool, order: Order, seed: u64) {
    let mut mesh = Mesh::new(kinds, ends, v5, transit, order, seed);
    let said = mesh.chat();
    for (node, kind) in kinds.chars().enumerate() {
        let mut heard = mesh.heard(node);
        if kind == 'm' {
            heard.dedup();
            let mut each = said.clone();
            each.dedup();
            assert_eq!(
                heard, each,
                "{kinds} {ends:?} {v5:b} {transit} {seed}: node {node}"
            );
        } else {
            assert_eq!(
                heard, said,
                "{kinds} {ends:?} {v5:b} {transit} {seed}: node {node}"
            );
        }
    }
}

fn mixtures(ends: Ends) -> std::ops::Range<usize> {
    0..1 << ends.len()
}

#[test]
fn gateways_in_any_shape_hear_everything_once() {
    for (kinds, ends) in [
        ("gg", PAIR),
        ("gg", DOUBLE),
        ("ggg", LINE),
        ("ggg", TRIANGLE),
        ("gggg", RING),
        ("gggg", FULL),
    ] {
        for v5 in mixtures(ends) {
            for seed in 0..3 {
                check(kinds, ends, v5, true, Order::Random, seed);
            }
        }
    }
}

/// Where all are linked with all, nothing needs to go through a gateway.
#[test]
fn full_meshes_need_no_transit() {
    for (kinds, ends) in [("gg", PAIR), ("ggg", TRIANGLE), ("gggg", FULL), ("ggm", TRIANGLE)] {
        for v5 in mixtures(ends) {
            for seed in 0..3 {
                check(kinds, ends, v5, false, Order::Random, seed);
            }
        }
    }
    let mut line = Mesh::new("ggg", LINE, 0, false, Order::Random, 1);
    line.say(0, &message("t", "x", Qos::AtLeastOnce));
    line.run(usize::MAX);
    let heard = [0, 1, 2].map(|node| line.heard(node).len());
    assert_eq!(heard, [1, 1, 0], "it does not go on through the middle");
}

/// A mosquitto sends on whatever it gets. In version 5 the path tells what came round.
#[test]
fn mosquittos_of_version_5_may_stand_anywhere() {
    for (kinds, ends) in [
        ("gm", PAIR),
        ("gm", DOUBLE),
        ("gmg", LINE),
        ("ggm", LINE),
        ("ggm", TRIANGLE),
        ("gmm", TRIANGLE),
    ] {
        for seed in 0..20 {
            check(kinds, ends, usize::MAX, true, Order::Random, seed);
        }
    }
}

/// In version 3 a mosquitto in a ring is told from a publisher by counting, which needs copies that do not overtake each other.
#[test]
fn a_mosquitto_in_a_ring_of_version_3_needs_links_of_one_speed() {
    for (kinds, ends) in [
        ("gm", PAIR),
        ("gmg", LINE),
        ("ggm", LINE),
        ("gmm", LINE),
        ("ggm", TRIANGLE),
    ] {
        for v5 in mixtures(ends) {
            check(kinds, ends, v5, true, Order::Lockstep, 1);
        }
    }
}

/// Where copies overtake each other, or two mosquittos stand side by side, messages may come more than once; but nothing goes round for ever.
#[test]
fn traffic_dies_out_whatever_mosquittos_do() {
    let mut most = 0;
    for (kinds, ends) in [("gm", DOUBLE), ("ggm", TRIANGLE), ("gmm", TRIANGLE)] {
        for v5 in mixtures(ends) {
            for seed in 0..3 {
                let mut mesh = Mesh::new(kinds, ends, v5, true, Order::Random, seed);
                let message = message("t", "x", Qos::AtLeastOnce);
                for node in 0..kinds.len() {
                    mesh.say(node, &message);
                }
                mesh.run(usize::MAX);
                for node in 0..kinds.len() {
                    assert!(!mesh.heard(node).is_empty(), "{kinds} {v5:b} {seed}: node {node}");
                }
                most = most.max(mesh.steps);
            }
        }
    }
    assert!(most < 2_000, "{most} steps");
}

/// What waited in a queue for longer than the window is unknown to all who had it meanwhile; it must not go round.
#[test]
fn what_comes_late_does_not_go_round() {
    for v5 in mixtures(TRIANGLE) {
        for seed in 0..5 {
            let mut mesh = Mesh::new("ggg", TRIANGLE, v5, true, Order::Random, seed);
            mesh.cut(1);
            for n in 0..5 {
                mesh.say(0, &message("t", &n.to_string(), Qos::AtLeastOnce));
            }
            mesh.run(usize::MAX);
            assert_eq!(
                [1, 2].map(|node| mesh.heard(node).len()),
                [5, 5],
                "by the other ways"
            );
            mesh.advance(Duration::from_secs(3_600));
            mesh.join(1);
            mesh.run(usize::MAX);
            let late = [0, 1, 2].map(|node| mesh.heard(node).len());
            assert!(late.iter().all(|count| *count <= 5), "{v5:b} {seed}: {late:?}");
            mesh.advance(Duration::from_secs(10));
            let said = mesh.chat();
            for node in 0..3 {
                assert_eq!(mesh.heard(node), said);
            }
        }
    }
}

/// Retained messages go out when a link subscribes, and come to each gateway once.
#[test]
fn retained_messages_do_not_go_round() {
    for v5 in mixtures(TRIANGLE) {
        for seed in 0..10 {
            let mut mesh = Mesh::new("ggg", TRIANGLE, v5, true, Order::Random, seed);
            for wire in 0..3 {
                for end in 0..2 {
                    let node = mesh.wires[wire].ends[end];
                    mesh.gateway(node).remove(&session(wire, end));
                }
            }
            let mut state = message("state", "on", Qos::AtLeastOnce);
            state.retain = true;
            mesh.say(0, &state);
            mesh.advance(Duration::from_secs(60));
            (0..3).for_each(|wire| mesh.join(wire));
            mesh.run(usize::MAX);
            assert_eq!([1, 2].map(|node| mesh.heard(node).len()), [1, 1], "{v5:b} {seed}");
        }
    }
}

/// A path that holds our name, or too many, ends here: acknowledged, counted, and told to operators once a minute.
#[test]
fn a_message_that_was_here_before_is_not_routed() {
    let mut mesh = Mesh::new("g", &[], 0, true, Order::Random, 1);
    let gateway = mesh.gateway(0);
    let from = |nodes: &[&str]| {
        let start = message("t", "x", Qos::ExactlyOnce);
        nodes
            .iter()
            .fold(start, |message, node| path::stamped(&message, node))
    };
    hand_over(gateway, "device", from(&["a", "node-0", "b"]));
    hand_over(gateway, "device", from(&["1", "2", "3", "4", "5", "6", "7", "8"]));
    hand_over(gateway, "device", from(&["1", "2", "3", "4", "5", "6", "7"]));
    assert_eq!(gateway.heard("local"), ["t=x"]);
    assert_eq!(gateway.bus.stats().dropped[DropReason::Loop as usize], 2);
    let told = |gateway: &BusBench| {
        let paths = gateway.notices.iter().filter_map(|notice| match notice {
            Notice::Loop { client, topic, path } => Some(format!("{client} {topic} {path}")),
            _ => None,
        });
        paths.collect::<Vec<_>>()
    };
    assert_eq!(told(gateway), ["device t a,node-0,b"]);
    gateway.advance(Duration::from_secs(60));
    hand_over(gateway, "device", from(&["node-0"]));
    assert_eq!(told(gateway).len(), 2);
}

/// What is not routed is counted by the link that brought it; a message that repeats is not a duplicate.
#[test]
fn duplicates_are_counted_by_link() {
    let mut mesh = Mesh::new("ggg", TRIANGLE, 0, true, Order::Lockstep, 1);
    mesh.say(0, &message("t", "x", Qos::AtLeastOnce));
    mesh.say(0, &message("t", "x", Qos::AtLeastOnce));
    mesh.run(usize::MAX);
    let reports = [session(0, 1), session(1, 0)].map(|name| mesh.gateway(1).report(&name));
    let duplicates = reports.map(|report| report.duplicates);
    assert_eq!(
        duplicates,
        [0, 2],
        "node 1 got both from node 0, and again from node 2"
    );
    assert_eq!(mesh.heard(1).len(), 2);
}
