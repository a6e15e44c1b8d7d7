//! Two ways to drive the bus, measured against each other: `cargo run --release -p headgate-bus --features handle --example drivers`
//!
//! *In place*: tasks call the bus under one short lock, a batch of commands for each turn (the way of `handle`). *Thread*: one thread owns the
//! bus behind a bounded channel. Both hand events over through the same kind of mailbox. Loaded: pairs of tasks, batches of 20 messages,
//! 20 batches under way. Idle: one pair, one message under way. CPU is that of the whole process, from the system.

#![expect(clippy::disallowed_methods, reason = "measures time")]

use bytes::Bytes;
use headgate_bus::handle::{Clock, Hub};
use headgate_bus::{Bus, BusOutputs, BusSettings};
use headgate_model::bus::Presence;
use headgate_model::store::{FetchLimit, Fetched};
use headgate_model::{
    AckToken, Admitted, BusCommand, BusEvent, EndpointId, Entrant, Message, MountPoint, Open, SessionId,
    Store, StoreError, StoreImage, StoreOp, Subscription, SubscriptionOptions, Topic,
};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// A client's way to the bus, however it is driven.
trait Port: Send + Sync + 'static {
    fn submit(&self, commands: &mut Vec<BusCommand>);
    fn poll(&self, cx: &std::task::Context<'_>, into: &mut VecDeque<BusEvent>) -> Poll<()>;
}

impl Port for headgate_bus::handle::Port {
    fn submit(&self, commands: &mut Vec<BusCommand>) {
        Self::submit(self, commands);
    }

    fn poll(&self, cx: &std::task::Context<'_>, into: &mut VecDeque<BusEvent>) -> Poll<()> {
        self.poll_call(cx).map(|_| self.take_events(into))
    }
}

/// Nothing here is durable: the drivers are compared, not the disk.
struct Nowhere;

impl Store for Nowhere {
    fn load(&mut self) -> Result<StoreImage, StoreError> {
        Ok(StoreImage::default())
    }

    fn commit(&mut self, _: &[StoreOp]) -> Result<(), StoreError> {
        Ok(())
    }

    fn fetch(&mut self, _: SessionId, _: u8, from: u64, _: FetchLimit) -> Result<Fetched, StoreError> {
        Ok(Fetched {
            next: from,
            at_end: true,
            ..Fetched::default()
        })
    }
}

#[derive(Default)]
struct Mailbox(Mutex<(VecDeque<BusEvent>, Option<Waker>)>);

struct ThreadPort {
    id: usize,
    bus: SyncSender<(usize, Vec<BusCommand>)>,
    mailbox: Arc<Mailbox>,
}

impl Port for ThreadPort {
    fn submit(&self, commands: &mut Vec<BusCommand>) {
        self.bus
            .send((self.id, std::mem::take(commands)))
            .expect("the bus thread lives");
    }

    fn poll(&self, cx: &std::task::Context<'_>, into: &mut VecDeque<BusEvent>) -> Poll<()> {
        let mut inner = self.mailbox.0.lock();
        if inner.0.is_empty() {
            inner.1 = Some(cx.waker().clone());
            return Poll::Pending;
        }
        std::mem::swap(&mut inner.0, into);
        Poll::Ready(())
    }
}

/// One thread that owns the bus: takes all that waits in the channel, then wakes whom it has something for.
fn bus_thread(ports: usize, clock: Clock) -> Vec<ThreadPort> {
    let (sender, receiver) = sync_channel::<(usize, Vec<BusCommand>)>(1_024);
    let mailboxes: Vec<Arc<Mailbox>> = (0..ports).map(|_| Arc::default()).collect();
    let boxes = mailboxes.clone();
    std::thread::spawn(move || {
        let mut bus = Bus::new(BusSettings::default(), clock.epoch(), 1).expect("defaults are good");
        let mut out = BusOutputs::default();
        let mut woken: Vec<Waker> = Vec::new();
        while let Ok(first) = receiver.recv() {
            for (id, commands) in std::iter::once(first).chain(receiver.try_iter().take(64)) {
                for command in commands {
                    bus.handle(EndpointId(id as u64), command, clock.now(), &mut out);
                }
            }
            for (to, event) in out.events.drain(..) {
                let mut inner = boxes[to.0 as usize].0.lock();
                inner.0.push_back(event);
                woken.extend(inner.1.take());
            }
            out.notices.clear();
            woken.drain(..).for_each(Waker::wake);
        }
    });
    let port = |(id, mailbox)| ThreadPort {
        id,
        bus: sender.clone(),
        mailbox,
    };
    mailboxes.into_iter().enumerate().map(port).collect()
}

async fn next(port: &impl Port, events: &mut VecDeque<BusEvent>) -> BusEvent {
    loop {
        if let Some(event) = events.pop_front() {
            return event;
        }
        poll_fn(|cx| port.poll(cx, events)).await;
    }
}

fn open(client: &str) -> BusCommand {
    BusCommand::Open(Box::new(Open {
        client: Entrant::of_gateway(client.into(), Presence::default()),
        clean_start: true,
        expiry: Duration::ZERO,
        will: None.into(),
        receive_maximum: 100,
        credit: 10_000,
        forgeable: false,
        wants_expired: false,
        link: None,
    }))
}

fn subscribe(filter: String) -> BusCommand {
    let raw = Bytes::from(filter);
    let subscription = Subscription::parse(&raw, SubscriptionOptions::default(), &MountPoint::default());
    BusCommand::Subscribe {
        token: AckToken(1),
        subscriptions: vec![Admitted::of_gateway(subscription.expect("a good filter"))],
    }
}

/// Sends `batches` of `size` messages from one port to another, no more than `window` batches ahead.
async fn pair(
    n: usize,
    publisher: impl Port,
    subscriber: impl Port,
    batches: usize,
    size: usize,
    window: usize,
) {
    let mut events = VecDeque::new();
    subscriber.submit(&mut vec![open(&format!("s{n}")), subscribe(format!("t/{n}"))]);
    while !matches!(next(&subscriber, &mut events).await, BusEvent::Subscribed { .. }) {}
    let done = Arc::new(tokio::sync::Semaphore::new(window));
    let grant = Arc::clone(&done);
    let receiving = tokio::spawn(async move {
        let mut seen = 0;
        while seen < batches * size {
            if let BusEvent::Delivery(_) = next(&subscriber, &mut events).await {
                seen += 1;
                if seen % size == 0 {
                    subscriber.submit(&mut vec![BusCommand::credit(u32::try_from(size).expect("small"))]);
                    grant.add_permits(1);
                }
            }
        }
    });
    publisher.submit(&mut vec![open(&format!("p{n}"))]);
    let topic = Topic::try_from(format!("t/{n}").as_str()).expect("a good name");
    let payload = Bytes::from(vec![0; 64]);
    for _ in 0..batches {
        done.acquire().await.expect("never closed").forget();
        let message = || Message::new(topic.clone(), payload.clone());
        let publish = |_| BusCommand::Publish {
            message: Admitted::of_gateway(message()),
            ack: None,
            dedup: None,
        };
        publisher.submit(&mut (0..size).map(publish).collect());
    }
    receiving.await.expect("the receiver does not panic");
}

fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks: u64 = [11, 12]
        .iter()
        .filter_map(|n| fields.get(*n)?.parse::<u64>().ok())
        .sum();
    ticks as f64 / 100.0
}

#[allow(clippy::print_stdout, reason = "an example prints its result")]
async fn measure<P: Port>(what: &str, mut ports: Vec<P>, batches: usize, size: usize, window: usize) {
    let (start, cpu) = (Instant::now(), cpu_seconds());
    let mut tasks = Vec::new();
    let messages = batches * size * (ports.len() / 2);
    for n in 0..ports.len() / 2 {
        let (publisher, subscriber) = (ports.pop().expect("even"), ports.pop().expect("even"));
        tasks.push(tokio::spawn(pair(
            n, publisher, subscriber, batches, size, window,
        )));
    }
    for task in tasks {
        task.await.expect("no task panics");
    }
    let million = messages as f64 / 1e6;
    let (wall, cpu) = (start.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    println!(
        "{what:28} {:8.0} msg/s {:7.3} CPU s per million",
        million * 1e6 / wall,
        cpu / million
    );
}

#[tokio::main]
async fn main() {
    for round in 0..3 {
        let _ = round;
        for (case, pairs, batches, size, window) in [
            ("loaded", 50, 2_000, 20, 20),
            ("idle, one outstanding", 1, 200_000, 1, 1),
        ] {
            let clock = Clock::start();
            let bus = Bus::new(BusSettings::default(), clock.epoch(), 1).expect("defaults are good");
            let hub = Hub::start(bus, clock, Box::new(Nowhere)).expect("threads start");
            let ports: Vec<_> = (0..2 * pairs).map(|_| hub.attach()).collect();
            measure(&format!("in place, {case}"), ports, batches, size, window).await;
            hub.stop();
            measure(
                &format!("thread, {case}"),
                bus_thread(2 * pairs, clock),
                batches,
                size,
                window,
            )
            .await;
        }
    }
}
