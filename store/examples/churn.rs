//! What the store costs the flash and the processor.
//!
//! `churn` appends and deletes messages, 64 a commit, with 1,000 live in 50 queues, and prints bytes written for each byte of payload, by the
//! system's own count (`/proc/self/io`). `fill N` queues N messages of 256 bytes for one session that is away, opens the store again, and
//! drains it, and prints memory, disk and times on the way.
#![expect(clippy::disallowed_methods, reason = "measures time")]
#![allow(clippy::print_stdout, reason = "this is where it answers")]

use headgate_model::store::{FetchLimit, MessageId, QueueEntry, SessionRecord, StoredMessage};
use headgate_model::{Message, Qos, SessionId, Store, StoreOp, Topic};
use headgate_store::{DiskSettings, DiskStore};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

type Outcome = Result<(), Box<dyn std::error::Error>>;

const BATCH: u64 = 64;
const LIVE: u64 = 1_000;
const QUEUES: u64 = 50;

fn main() -> Outcome {
    let args: Vec<String> = std::env::args().collect();
    let folder = tempfile::tempdir_in(".")?;
    let path = folder.path().join("store");
    match args.get(1).map(String::as_str) {
        Some("fill") => fill(&path, args.get(2).map_or(Ok(1_000_000), |n| n.parse())?),
        _ => [256, 1024]
            .into_iter()
            .try_for_each(|payload| churn(&path, payload)),
    }
}

fn open(path: &Path) -> Result<DiskStore, Box<dyn std::error::Error>> {
    let mut store = DiskStore::open(path, DiskSettings::default())?;
    store.load()?;
    Ok(store)
}

fn session(n: u64) -> StoreOp {
    let record = SessionRecord {
        client_id: format!("client-{n}").as_str().into(),
        username: None,
        expiry: Duration::MAX,
        ends: None,
        unsent_from: None,
        will: None,
        wants_expired: false,
    };
    StoreOp::PutSession(SessionId(n), Box::new(record))
}

fn put(session: u64, seq: u64, payload: usize) -> Result<[StoreOp; 2], Box<dyn std::error::Error>> {
    let bytes: Vec<u8> = (0..payload).map(|i| (seq as usize * 31 + i * 7) as u8).collect();
    let message = Message::new(Topic::try_from("plant/line/7/sensor")?, bytes);
    let entry = QueueEntry {
        message: MessageId(seq),
        qos: Qos::AtLeastOnce,
        retain: false,
        lane: 0,
        size: payload as u32,
        shared: None,
        subscription_ids: None,
    };
    let stored = StoredMessage {
        message: Arc::new(message),
        expires: None,
    };
    Ok([
        StoreOp::PutMessage(MessageId(seq), stored),
        StoreOp::PutQueued(SessionId(session), seq, entry),
    ])
}

fn churn(path: &Path, payload: usize) -> Outcome {
    let messages = (512 << 20) / payload as u64;
    let mut store = open(path)?;
    store.commit(&(1..=QUEUES).map(session).collect::<Vec<_>>())?;
    let (io, cpu, begun) = (written()?, cpu()?, Instant::now());
    let mut seq = 0;
    while seq < messages {
        let mut ops = Vec::new();
        for _ in 0..BATCH {
            ops.extend(put(1 + seq % QUEUES, seq, payload)?);
            if let Some(old) = seq.checked_sub(LIVE) {
                ops.push(StoreOp::DeleteQueued(SessionId(1 + old % QUEUES), old));
            }
            seq += 1;
        }
        store.commit(&ops)?;
        store.maintain()?;
    }
    let took = begun.elapsed().as_secs_f64();
    let stats = store.stats();
    drop(store);
    let bytes = (seq * payload as u64) as f64;
    println!(
        "{payload} B: {seq} messages, {:.2} bytes written for each of payload, {:.2} CPU s a million, {:.0} messages/s, {} MB on disk, longest call {:?}",
        (written()? - io) as f64 / bytes,
        (self::cpu()? - cpu) * 1e6 / seq as f64,
        seq as f64 / took,
        stats.disk_bytes >> 20,
        stats.longest,
    );
    std::fs::remove_dir_all(path)?;
    Ok(())
}

fn fill(path: &Path, messages: u64) -> Outcome {
    let mut store = open(path)?;
    store.commit(&[session(1)])?;
    say("empty", &store)?;
    let begun = Instant::now();
    let mut seq = 0;
    while seq < messages {
        let mut ops = Vec::new();
        for _ in 0..BATCH.min(messages - seq) {
            ops.extend(put(1, seq, 256)?);
            seq += 1;
        }
        store.commit(&ops)?;
        store.maintain()?;
        if seq % (messages / 10).max(1) < BATCH {
            say(&format!("{seq} queued"), &store)?;
        }
    }
    println!(
        "filled in {:?}, longest call {:?}",
        begun.elapsed(),
        store.stats().longest
    );
    drop(store);
    let begun = Instant::now();
    let mut store = DiskStore::open(path, DiskSettings::default())?;
    let image = store.load()?;
    println!("opened in {:?}: {:?}", begun.elapsed(), image.sessions[0].lanes);
    say("opened", &store)?;
    let (begun, mut from, mut drained) = (Instant::now(), 0, 0);
    loop {
        let limit = FetchLimit {
            count: 512,
            bytes: 256 << 10,
        };
        let found = store.fetch(SessionId(1), 0, from, limit)?;
        drained += found.deliveries.len() as u64;
        from = found.next;
        let settled = found
            .deliveries
            .iter()
            .map(|d| StoreOp::DeleteQueued(SessionId(1), d.seq));
        store.commit(&settled.collect::<Vec<_>>())?;
        store.maintain()?;
        if found.at_end {
            break;
        }
    }
    println!(
        "drained {drained} in {:?}, longest call {:?}",
        begun.elapsed(),
        store.stats().longest
    );
    say("drained", &store)?;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(15) && store.stats().disk_bytes > 40 << 20 {
        store.maintain()?;
        std::thread::sleep(Duration::from_millis(50));
    }
    say(&format!("{:.1} s later", begun.elapsed().as_secs_f64()), &store)
}

fn say(what: &str, store: &DiskStore) -> Outcome {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    println!(
        "{what}: RSS {}, {} MB on disk, {} queued",
        rss.unwrap_or_default().trim(),
        store.stats().disk_bytes >> 20,
        store.stats().queued
    );
    Ok(())
}

/// Bytes that this process caused to be written to the device.
fn written() -> Result<u64, Box<dyn std::error::Error>> {
    let io = std::fs::read_to_string("/proc/self/io")?;
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    Ok(line.ok_or("no count of written bytes")?.parse()?)
}

/// CPU seconds of this process.
fn cpu() -> Result<f64, Box<dyn std::error::Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let ticks: u64 =
        fields.get(11).ok_or("stat")?.parse::<u64>()? + fields.get(12).ok_or("stat")?.parse::<u64>()?;
    Ok(ticks as f64 / 100.0)
}
