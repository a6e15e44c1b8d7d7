//! Traces of one client, topic or address into files: `traces/{name}.jsonl` in the data folder, one JSON object a line.
//!
//! A trace has a thread of its own and ends by itself: when its time is over, or its file is full. What comes faster than it is written is counted, and
//! told in the file.

use crate::log::date;
use crate::sys::unix_time;
use headgate_access::{Network, ParseRuleError};
use headgate_auth::data_dir::{DataDir, DataPath};
use headgate_bus::DeliveryInfo;
use headgate_bus::handle::Hub;
use headgate_model::{TopicError, TopicFilter};
use headgate_shell::Tracer;
use headgate_shell::trace::{Record, Subject};
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant, SystemTime};

/// Traces at a time.
const MOST: usize = 8;
/// Traces that are kept, with those that run.
const MOST_KEPT: usize = 32;
/// Records that wait for one.
const MOST_WAITING: usize = 4_096;
/// What waits for a client is told up to so many.
const MOST_QUEUED: usize = 100;
/// Bytes of a payload that are told at most.
const MOST_PAYLOAD: usize = 1_024;
/// The longest and the largest a trace may be.
const LONGEST: Duration = Duration::from_secs(7 * 86_400);
const LARGEST: u64 = 1 << 30;
/// How long the store may take to say what waits for a client.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it is looked whether a trace is over, and what it has is written.
const LOOK: Duration = Duration::from_millis(500);
/// How the text of the first record begins; what is traced comes behind it.
const BEGINS: &str = "begins: ";
/// Bytes of that record that are read.
const LONGEST_BEGIN: u64 = 512 << 10;

/// Why there is no such trace.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TraceError {
    /// The name would not be a file's.
    #[error("`{0}` is no name for a trace: allowed are letters, digits, `-` and `_`, up to 64")]
    Name(String),
    /// One, and one only.
    #[error("a trace is about a client, a topic or an address: say one of them")]
    Subject,
    /// Not a filter.
    #[error("topic: {0}")]
    Topic(#[from] TopicError),
    /// Not an address.
    #[error("address: {0}")]
    Address(#[from] ParseRuleError),
    /// Out of range.
    #[error("{0}")]
    Range(&'static str),
    /// It runs.
    #[error("the trace `{0}` runs: stop it first")]
    Runs(String),
    /// Too many.
    #[error("{MOST_KEPT} traces are kept, which is the most there may be: delete one first")]
    TooManyKept,
    /// So many run.
    #[error("{MOST} traces run, which is the most there may be: stop one first")]
    TooMany,
    /// None of this name.
    #[error("there is no trace `{0}`")]
    Unknown(String),
    /// The file cannot be.
    #[error("{path}: {cause}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
}

/// What is to be traced.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    /// Its name, and that of its file.
    pub name: String,
    /// This client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// Messages of such topics, as on the bus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Clients from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// How long.
    pub seconds: u64,
    /// Bytes of the file.
    pub max_bytes: u64,
    /// Bytes of each payload.
    #[serde(default)]
    pub payload: usize,
}

/// A trace as operators see it.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct TraceView {
    /// Its name.
    pub name: String,
    /// Its file.
    pub file: PathBuf,
    /// Whether it goes on.
    pub running: bool,
    /// Bytes of the file.
    pub bytes: u64,
    /// Seconds since 1970 when it will be over.
    pub until: Option<u64>,
    /// Records that there was no time for.
    pub lost: u64,
    /// What it is about; of one that is over, as its file says.
    pub about: Option<Wanted>,
}

/// All traces. Clones share them.
#[derive(Clone)]
pub(crate) struct Traces(Arc<Inner>);

struct Inner {
    tracer: Tracer,
    hub: Hub,
    folder: DataPath,
    running: Mutex<BTreeMap<String, Running>>,
}

struct Running {
    wanted: Wanted,
    number: u64,
    until: u64,
    lost: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Traces {
    /// None yet; files go to `traces` in the data folder.
    pub(crate) fn new(tracer: Tracer, hub: Hub, data_dir: &DataDir) -> Self {
        Self(Arc::new(Inner {
            tracer,
            hub,
            folder: data_dir.join("traces"),
            running: Mutex::default(),
        }))
    }

    /// Records lost by all traces that run.
    pub(crate) fn lost(&self) -> u64 {
        let running = self.0.running.lock();
        running
            .values()
            .map(|trace| trace.lost.load(Ordering::Relaxed))
            .sum()
    }

    /// Begins a trace. A file of the same name is replaced.
    pub(crate) async fn start(&self, wanted: Wanted) -> Result<TraceView, TraceError> {
        let stored = self.stored(&wanted).await;
        tokio::task::block_in_place(|| self.start_with(wanted, &stored))
    }

    /// What waits for a client in the store alone, as of one that sleeps.
    async fn stored(&self, wanted: &Wanted) -> Vec<DeliveryInfo> {
        let Some(client) = &wanted.client else {
            return Vec::new();
        };
        let asked = self.0.hub.stored_queue(client, None, MOST_QUEUED);
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(page)) => page.rows,
            // It is told how many there are all the same.
            Ok(Err(_)) | Err(_) => Vec::new(),
        }
    }

    fn start_with(&self, wanted: Wanted, stored: &[DeliveryInfo]) -> Result<TraceView, TraceError> {
        let subject = checked(&wanted)?;
        let mut running = self.0.running.lock();
        running.retain(|_, trace| !trace.over.load(Ordering::Relaxed));
        if running.contains_key(&wanted.name) {
            return Err(TraceError::Runs(wanted.name));
        }
        if running.len() >= MOST {
            return Err(TraceError::TooMany);
        }
        let folder = self.0.folder.now();
        let kept = fs::read_dir(&folder).into_iter().flatten().count();
        let path = self.0.file(&wanted.name).now().to_owned();
        if kept >= MOST_KEPT && !path.exists() {
            return Err(TraceError::TooManyKept);
        }
        let of_file = |cause| TraceError::File {
            path: path.clone(),
            cause,
        };
        fs::create_dir_all(&folder).map_err(of_file)?;
        let mut file = TraceFile {
            file: Following::create(self.0.file(&wanted.name)).map_err(of_file)?,
            left: wanted.max_bytes,
        };
        drop(folder);
        file.begin(&wanted, &self.0.hub, stored).map_err(of_file)?;
        let (records, taken) = sync_channel(MOST_WAITING);
        let (lost, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let payload = wanted.payload.min(MOST_PAYLOAD);
        let number = self.0.tracer.start(subject, payload, records, Arc::clone(&lost));
        let ends = Instant::now() + Duration::from_secs(wanted.seconds);
        let (tracer, name) = (self.0.tracer.clone(), wanted.name.clone());
        let (of_thread, is_over) = (Arc::clone(&lost), Arc::clone(&over));
        let thread = std::thread::Builder::new().name("trace".into()).spawn(move || {
            let why = run(file, &taken, &of_thread, ends);
            tracer.stop(number);
            is_over.store(true, Ordering::Relaxed);
            tracing::info!(
                trace = name,
                why,
                lost = of_thread.load(Ordering::Relaxed),
                "a trace is over"
            );
        });
        let thread = thread.map_err(|cause| {
            self.0.tracer.stop(number);
            of_file(cause)
        })?;
        tracing::info!(trace = wanted.name, seconds = wanted.seconds, "a trace begins");
        let trace = Running {
            until: unix_time() + wanted.seconds,
            wanted,
            number,
            lost,
            over,
            thread: Some(thread),
        };
        let view = trace.view(&self.0);
        running.insert(trace.wanted.name.clone(), trace);
        Ok(view)
    }

    /// All traces that run, and files of those that did.
    pub(crate) fn list(&self) -> Vec<TraceView> {
        let running = self.0.running.lock();
        let mut views: BTreeMap<String, TraceView> = BTreeMap::new();
        for entry in fs::read_dir(self.0.folder.now()).into_iter().flatten().flatten() {
            let file = entry.path();
            let is_trace = file.extension().is_some_and(|extension| extension == "jsonl");
            if let Some(name) = file
                .file_stem()
                .and_then(|name| name.to_str())
                .filter(|_| is_trace)
            {
                let view = TraceView {
                    name: name.to_owned(),
                    bytes: entry.metadata().map_or(0, |metadata| metadata.len()),
                    file: file.clone(),
                    running: false,
                    until: None,
                    lost: 0,
                    about: about_of(&file),
                };
                views.insert(name.to_owned(), view);
            }
        }
        for trace in running.values() {
            views.insert(trace.wanted.name.clone(), trace.view(&self.0));
        }
        views.into_values().collect()
    }

    /// Ends a trace; its file stays. Returns when all is written.
    pub(crate) fn stop(&self, name: &str) -> Result<(), TraceError> {
        let trace = self.0.running.lock().remove(name);
        let Some(mut trace) = trace else {
            return Err(TraceError::Unknown(name.to_owned()));
        };
        self.0.tracer.stop(trace.number);
        if let Some(thread) = trace.thread.take() {
            let _ = thread.join();
        }
        Ok(())
    }

    /// Ends all traces.
    pub(crate) fn stop_all(&self) {
        let names: Vec<String> = self.0.running.lock().keys().cloned().collect();
        for name in names {
            let _ = self.stop(&name);
        }
    }

    /// The file of a trace, to be read.
    pub(crate) fn open(&self, name: &str) -> Result<File, TraceError> {
        check_name(name)?;
        let path = self.0.file(name);
        File::open(path.now()).map_err(|cause| missing(name, &path, cause))
    }

    /// Ends a trace and removes its file.
    pub(crate) fn delete(&self, name: &str) -> Result<(), TraceError> {
        check_name(name)?;
        match self.stop(name) {
            Ok(()) | Err(TraceError::Unknown(_)) => {}
            Err(error) => return Err(error),
        }
        let path = self.0.file(name);
        fs::remove_file(path.now()).map_err(|cause| missing(name, &path, cause))
    }
}

fn missing(name: &str, path: &DataPath, cause: io::Error) -> TraceError {
    let path = path.now().to_owned();
    match cause.kind() {
        io::ErrorKind::NotFound => TraceError::Unknown(name.to_owned()),
        _ => TraceError::File { path, cause },
    }
}

impl Inner {
    fn file(&self, name: &str) -> DataPath {
        self.folder.join(format!("{name}.jsonl"))
    }
}

impl Running {
    fn view(&self, traces: &Inner) -> TraceView {
        let file = traces.file(&self.wanted.name).now().to_owned();
        TraceView {
            name: self.wanted.name.clone(),
            running: !self.over.load(Ordering::Relaxed),
            bytes: fs::metadata(&file).map_or(0, |metadata| metadata.len()),
            file,
            until: Some(self.until),
            lost: self.lost.load(Ordering::Relaxed),
            about: Some(self.wanted.clone()),
        }
    }
}

fn check_name(name: &str) -> Result<(), TraceError> {
    let is_good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    match (1..=64).contains(&name.len()) && name.chars().all(is_good) {
        true => Ok(()),
        false => Err(TraceError::Name(name.to_owned())),
    }
}

fn checked(wanted: &Wanted) -> Result<Subject, TraceError> {
    check_name(&wanted.name)?;
    if !(1..=LONGEST.as_secs()).contains(&wanted.seconds) {
        return Err(TraceError::Range(
            "a trace lasts one second at least and seven days at most",
        ));
    }
    if !(4_096..=LARGEST).contains(&wanted.max_bytes) {
        return Err(TraceError::Range(
            "the file of a trace has 4,096 bytes at least and 1 GiB at most",
        ));
    }
    if wanted.payload > MOST_PAYLOAD {
        return Err(TraceError::Range("of a payload 1,024 bytes are told at most"));
    }
    match (&wanted.client, &wanted.topic, &wanted.address) {
        (Some(client), None, None) => Ok(Subject::Client(client.clone())),
        (None, Some(topic), None) => Ok(Subject::Topic(TopicFilter::try_from(topic.as_str())?)),
        (None, None, Some(address)) => Ok(Subject::Address(address.parse::<Network>()?)),
        _ => Err(TraceError::Subject),
    }
}

/// A file in the data folder that goes on in its copy when the data go to another one.
struct Following {
    path: DataPath,
    file: BufWriter<File>,
    /// Where that is.
    at: PathBuf,
}

impl Following {
    fn create(path: DataPath) -> io::Result<Self> {
        let here = path.now();
        let (file, at) = (BufWriter::new(File::create(&here)?), here.to_owned());
        drop(here);
        Ok(Self { path, file, at })
    }

    /// `write`, where the file is now, and stays meanwhile.
    fn here<T>(&mut self, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<T>) -> io::Result<T> {
        let here = self.path.now();
        if self.at != *here {
            let copy = File::options().append(true).open(&here)?;
            let before = std::mem::replace(&mut self.file, BufWriter::new(copy));
            // What was written is in the copy.
            let (_, waiting) = before.into_parts();
            self.file.write_all(&waiting.unwrap_or_default())?;
            here.clone_into(&mut self.at);
        }
        write(&mut self.file)
    }
}

impl Write for Following {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.here(|file| file.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.here(BufWriter::flush)
    }
}

/// A file with a bound.
struct TraceFile {
    file: Following,
    left: u64,
}

impl TraceFile {
    /// What is traced, and what is known of it now: a client's session, and what waits for it.
    fn begin(&mut self, wanted: &Wanted, hub: &Hub, stored: &[DeliveryInfo]) -> io::Result<()> {
        self.line(&told("trace", &format!("{BEGINS}{}", json!(wanted))))?;
        let Some(client) = &wanted.client else {
            return self.file.flush();
        };
        let Some(session) = hub.session(client) else {
            self.line(&told("session", "none of this client id"))?;
            return self.file.flush();
        };
        let info = &session.client;
        let about = format!(
            "{:?}, speaks {} from {}, {} subscriptions, {} wait ({} bytes), {} under way",
            info.state,
            info.presence.protocol.name,
            info.presence.address(),
            info.subscriptions,
            info.queued,
            session.queued_bytes,
            info.inflight
        );
        self.line(&told("session", &about))?;
        let queue = hub.queue(client, 0, MOST_QUEUED);
        let (rows, more) = queue.map_or((Vec::new(), 0), |queue| (queue.page.rows, queue.stored));
        for row in rows.iter().chain(stored) {
            let state = if row.inflight { "under way" } else { "waits" };
            let text = format!(
                "{state}: topic={} qos={} payload={} sent={}",
                row.message.topic,
                row.qos as u8,
                row.message.payload.len(),
                row.sent
            );
            self.line(&told("queue", &text))?;
        }
        if more > stored.len() {
            let text = format!("{} more wait in the store alone", more - stored.len());
            self.line(&told("queue", &text))?;
        }
        self.file.flush()
    }

    fn record(&mut self, record: &Record) -> io::Result<bool> {
        let mut value = json!({
            "time": date(record.at),
            "what": record.what,
            "listener": record.listener,
            "client": record.client,
            "peer": record.peer,
            "text": record.text,
        });
        if let Some(payload) = &record.payload {
            value["payload"] = String::from_utf8_lossy(payload).into();
        }
        self.line(&value)
    }

    /// False when there is no room for it.
    fn line(&mut self, value: &Value) -> io::Result<bool> {
        let mut line = value.to_string();
        line.push('\n');
        let bytes = line.len() as u64;
        if bytes > self.left {
            self.left = 0;
            return Ok(false);
        }
        self.left -= bytes;
        self.file.write_all(line.as_bytes())?;
        Ok(true)
    }
}

/// What a file was begun for, as its first line says.
fn about_of(file: &Path) -> Option<Wanted> {
    let mut line = String::new();
    let mut file = BufReader::new(File::open(file).ok()?.take(LONGEST_BEGIN));
    file.read_line(&mut line).ok()?;
    let first: Value = serde_json::from_str(&line).ok()?;
    serde_json::from_str(first["text"].as_str()?.strip_prefix(BEGINS)?).ok()
}

fn told(what: &str, text: &str) -> Value {
    json!({ "time": date(SystemTime::now()), "what": what, "text": text })
}

/// Writes records until the trace is over. Why it is.
fn run(mut file: TraceFile, records: &Receiver<Record>, lost: &AtomicU64, ends: Instant) -> &'static str {
    let mut known = 0;
    loop {
        let left = ends.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let _ = file.file.flush();
            return "its time is over";
        }
        let taken = records.recv_timeout(left.min(LOOK));
        let now = lost.load(Ordering::Relaxed);
        let written = if now > known {
            let text = format!("{} records were lost here: they came too fast", now - known);
            known = now;
            file.line(&told("lost", &text))
        } else {
            Ok(true)
        };
        let written = match taken {
            Ok(record) => written.and_then(|_| file.record(&record)),
            Err(RecvTimeoutError::Timeout) => file.file.flush().and(written),
            Err(RecvTimeoutError::Disconnected) => {
                let _ = file.file.flush();
                return "it was stopped";
            }
        };
        match written {
            Ok(true) => {}
            Ok(false) => {
                let _ = file.file.flush();
                return "its file is full";
            }
            Err(_) => return "its file cannot be written",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(name: &str) -> Wanted {
        Wanted {
            name: name.to_owned(),
            client: Some("pump".into()),
            topic: None,
            address: None,
            seconds: 60,
            max_bytes: 4_096,
            payload: 0,
        }
    }

    #[test]
    fn what_cannot_be_traced_is_refused() {
        assert!(checked(&wanted("pump-7")).is_ok());
        for name in ["", "../x", "a/b", "a.b", &"x".repeat(65)] {
            assert!(
                matches!(checked(&wanted(name)), Err(TraceError::Name(_))),
                "{name}"
            );
        }
        let both = Wanted {
            topic: Some("a".into()),
            ..wanted("a")
        };
        assert!(matches!(checked(&both), Err(TraceError::Subject)));
        for (seconds, max_bytes, payload) in [(0, 4_096, 0), (60, 1, 0), (60, 4_096, 2_000)] {
            let bad = Wanted {
                seconds,
                max_bytes,
                payload,
                ..wanted("a")
            };
            assert!(matches!(checked(&bad), Err(TraceError::Range(_))));
        }
    }

    #[test]
    fn a_trace_ends_when_its_file_is_full() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        let file = TraceFile {
            file: Following::create(path.clone().into()).unwrap(),
            left: 1_000,
        };
        let (records, taken) = sync_channel(100);
        for n in 0..50 {
            let record = Record {
                at: SystemTime::UNIX_EPOCH,
                what: "in",
                listener: "tcp".into(),
                client: Some("pump".into()),
                peer: None,
                text: format!("PINGREQ {n}"),
                payload: None,
            };
            records.send(record).unwrap();
        }
        let lost = AtomicU64::new(3);
        let why = run(file, &taken, &lost, Instant::now() + Duration::from_secs(600));
        assert_eq!(why, "its file is full");
        let text = fs::read_to_string(path).unwrap();
        assert!(text.len() <= 1_000);
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines[0]["what"], "lost");
        assert_eq!(lines[1]["text"], "PINGREQ 0");
    }

    /// The data go to another folder, where all is that was written by then.
    #[test]
    fn a_trace_goes_on_in_the_copy_of_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join("old"), folder.path().join("new"));
        fs::create_dir(&old).unwrap();
        fs::create_dir(&new).unwrap();
        let dir = DataDir::new(&old);
        let mut file = Following::create(dir.join("a.jsonl")).unwrap();
        file.write_all(b"one\n").unwrap();
        file.flush().unwrap();
        file.write_all(b"two\n").unwrap();
        let moves = dir.begin_to_move().unwrap();
        let copied = moves.arrive(&new, || {
            fs::copy(old.join("a.jsonl"), new.join("a.jsonl")).map(drop)
        });
        copied.unwrap();
        file.write_all(b"three\n").unwrap();
        file.flush().unwrap();
        assert_eq!(
            fs::read_to_string(new.join("a.jsonl")).unwrap(),
            "one\ntwo\nthree\n"
        );
        assert_eq!(fs::read_to_string(old.join("a.jsonl")).unwrap(), "one\n");
    }
}
