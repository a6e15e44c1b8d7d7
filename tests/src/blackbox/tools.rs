//! Clients that are not ours, each as a command; and ours, for the same tests.

use super::daemon::profile_folder;
use super::{Daemon, HANG, Transport, headgate};
use headgate_mqtt_codec::Version;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, channel};

/// A client that can be had as a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// `mosquitto_pub` and `mosquitto_sub`.
    Mosquitto,
    /// Eclipse paho for Python.
    Paho,
    /// MQTT.js.
    MqttJs,
    /// `headgate pub` and `headgate sub`.
    Headgate,
}

/// What a tool shall do.
#[derive(Clone, Debug)]
pub struct Job {
    /// How it connects.
    pub transport: Transport,
    /// With which version.
    pub version: Version,
    /// Under which name.
    pub id: String,
    /// Whether the session ends with the connection.
    pub clean: bool,
    /// What it asks to be published when it is lost.
    pub will: Option<Will>,
}

impl Job {
    /// A client with a name that nobody else has.
    pub fn new(transport: Transport, version: Version) -> Self {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(1);
        let n = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Self {
            transport,
            version,
            id: format!("client{n}"),
            clean: true,
            will: None,
        }
    }

    /// A client whose session stays.
    #[must_use]
    pub fn durable(mut self, id: &str) -> Self {
        self.id = id.to_owned();
        self.clean = false;
        self
    }
}

/// A message, sent or received.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Message {
    /// Its topic.
    pub topic: String,
    /// Its QoS.
    pub qos: u8,
    /// Its retain flag.
    pub retain: bool,
    /// Its payload.
    pub payload: String,
}

impl Message {
    /// A message that is not retained.
    pub fn new(topic: &str, qos: u8, payload: &str) -> Self {
        Self {
            topic: topic.to_owned(),
            qos,
            retain: false,
            payload: payload.to_owned(),
        }
    }

    fn json(&self) -> Value {
        json!({ "topic": self.topic, "qos": self.qos, "retain": self.retain, "payload": self.payload })
    }
}

/// A will is a message, too.
pub type Will = Message;

/// Payloads of messages, sorted.
pub fn lossless(messages: &[Message]) -> Vec<&str> {
    let mut payloads: Vec<&str> = messages.iter().map(|m| m.payload.as_str()).collect();
    payloads.sort_unstable();
    payloads
}

/// A retained message below this tells a listener that it is subscribed.
const READY: &str = "black/box/ready/";

impl Tool {
    /// Whether it can come in that way.
    pub fn can(self, transport: Transport) -> bool {
        // Debian's mosquitto clients have no WebSocket.
        self != Self::Mosquitto || matches!(transport, Transport::Tcp | Transport::Tls)
    }

    /// Publishes, and waits until the tool says that all was taken.
    ///
    /// # Panics
    /// If the tool fails.
    pub fn publish(self, daemon: &Daemon<'_>, job: &Job, messages: &[Message]) {
        match self {
            Self::Mosquitto | Self::Headgate => {
                for (n, message) in messages.iter().enumerate() {
                    // Another client each: one of the same name that comes at once takes over from one that is not done.
                    let id = format!("{}-{n}", job.id);
                    succeed(self.single(daemon, &Job { id, ..job.clone() }, message));
                }
            }
            Self::Paho | Self::MqttJs => succeed(self.script(daemon, job, &[], messages)),
        }
    }

    /// Subscribes at QoS 2, and waits until that has happened.
    ///
    /// # Panics
    /// If the tool fails.
    pub fn listen(self, daemon: &Daemon<'_>, job: &Job, filters: &[&str]) -> Listening {
        let topic = mark_ready(daemon, &job.id);
        // Last: by then the others are subscribed.
        let filters = [filters, &[&topic]].concat();
        let mut listening = Listening::start(match self {
            Self::Mosquitto => mosquitto_sub(daemon, job, &filters),
            Self::Headgate => headgate_sub(daemon, job, &filters),
            Self::Paho | Self::MqttJs => self.script(daemon, job, &filters, &[]),
        });
        listening.wait_until_ready();
        listening
    }

    /// One message by a command that sends one.
    fn single(self, daemon: &Daemon<'_>, job: &Job, message: &Message) -> Command {
        let mut command = match self {
            Self::Mosquitto => mosquitto("mosquitto_pub", daemon, job),
            _ => headgate_command("pub", daemon, job),
        };
        command.args([
            "-t",
            &message.topic,
            "-m",
            &message.payload,
            "-q",
            &message.qos.to_string(),
        ]);
        if message.retain {
            command.arg("-r");
        }
        command
    }

    fn script(self, daemon: &Daemon<'_>, job: &Job, filters: &[&str], messages: &[Message]) -> Command {
        let clients = clients();
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools");
        let mut command = if self == Self::Paho {
            let mut command = Command::new(clients.join("venv/bin/python"));
            command.arg(tools.join("paho_client.py"));
            command
        } else {
            let mut command = Command::new("node");
            command
                .env("MQTTJS_HOME", clients.join("node"))
                .arg(tools.join("mqttjs_client.cjs"));
            command
        };
        let job = json!({
            "transport": job.transport.name(),
            "port": daemon.port(job.transport),
            "ca": job.transport.is_secure().then(|| daemon.setup().ca()),
            "version": job.version.to_string(),
            "id": job.id,
            "clean": job.clean,
            "will": job.will.as_ref().map(Message::json),
            "filters": filters,
            "messages": messages.iter().map(Message::json).collect::<Vec<_>>(),
        });
        command.arg(job.to_string());
        command
    }
}

/// Runs mqtt-sn-12, an MQTT-SN client that is not ours: it publishes the messages and leaves, or listens for ever at QoS 1.
///
/// # Panics
/// If it fails to publish.
pub fn mqttsn12(
    daemon: &Daemon<'_>,
    gateway: SocketAddr,
    id: &str,
    will: Option<&Will>,
    filters: &[&str],
    messages: &[Message],
) -> Option<Listening> {
    // Last: by then the others are subscribed.
    let ready = (!filters.is_empty()).then(|| mark_ready(daemon, id));
    let filters: Vec<&str> = filters.iter().copied().chain(ready.as_deref()).collect();
    let mut command = python_client("mqttsn_client.py");
    let job = json!({
        "host": gateway.ip(),
        "port": gateway.port(),
        "id": id,
        "clean": true,
        // Shorter than any of its waits, so that it is lost soon after it is killed.
        "keep_alive": 1,
        "sleep": 0,
        "will": will.map(Message::json),
        "filters": filters,
        "messages": messages.iter().map(Message::json).collect::<Vec<_>>(),
    });
    command.arg(job.to_string());
    if filters.is_empty() {
        succeed(command);
        return None;
    }
    let mut listening = Listening::start(command);
    listening.wait_until_ready();
    Some(listening)
}

/// Whoever subscribes to this as well hears a first message, by which we know that it has subscribed.
fn mark_ready(daemon: &Daemon<'_>, id: &str) -> String {
    let topic = format!("{READY}{id}");
    let ready = Message {
        retain: true,
        ..Message::new(&topic, 1, "ready")
    };
    Tool::Headgate.publish(daemon, &Job::new(Transport::Tcp, Version::V5), &[ready]);
    topic
}

fn mosquitto(program: &str, daemon: &Daemon<'_>, job: &Job) -> Command {
    clients();
    let mut command = Command::new(program);
    let version = match job.version {
        Version::V31 => "mqttv31",
        Version::V311 => "mqttv311",
        Version::V5 => "mqttv5",
    };
    command.args(["-h", "localhost", "-V", version, "-i", &job.id]);
    command.args(["-p", &daemon.port(job.transport).to_string()]);
    if job.transport.is_secure() {
        command.arg("--cafile").arg(daemon.setup().ca());
    }
    if !job.clean {
        command.arg("-c");
        if job.version == Version::V5 {
            command.args(["-x", "3600"]);
        }
    }
    will(&mut command, job);
    command
}

fn headgate_command(name: &str, daemon: &Daemon<'_>, job: &Job) -> Command {
    let mut command = Command::new(headgate());
    let (scheme, path) = match job.transport {
        Transport::Tcp => ("mqtt", ""),
        Transport::Tls => ("mqtts", ""),
        Transport::Ws => ("ws", "/mqtt"),
        Transport::Wss => ("wss", "/mqtt"),
    };
    let port = daemon.port(job.transport);
    command.args([name, "--url", &format!("{scheme}://localhost:{port}{path}")]);
    command.args(["-V", &job.version.to_string(), "-i", &job.id]);
    if job.transport.is_secure() {
        command.arg("--cafile").arg(daemon.setup().ca());
    }
    if !job.clean {
        command.arg("-c");
    }
    will(&mut command, job);
    command
}

/// Our options are called as mosquitto's are.
fn will(command: &mut Command, job: &Job) {
    if let Some(will) = &job.will {
        command.args(["--will-topic", &will.topic, "--will-payload", &will.payload]);
        command.args(["--will-qos", &will.qos.to_string()]);
        if will.retain {
            command.arg("--will-retain");
        }
    }
}

fn mosquitto_sub(daemon: &Daemon<'_>, job: &Job, filters: &[&str]) -> Command {
    let mut command = mosquitto("mosquitto_sub", daemon, job);
    command.args(["-q", "2", "-F", "%j"]);
    for filter in filters {
        command.args(["-t", filter]);
    }
    command
}

fn headgate_sub(daemon: &Daemon<'_>, job: &Job, filters: &[&str]) -> Command {
    let mut command = headgate_command("sub", daemon, job);
    command.args(["-q", "2", "--json"]);
    for filter in filters {
        command.args(["-t", filter]);
    }
    command
}

/// A script of `tests/tools` that uses Python's packages.
pub fn python_client(script: &str) -> Command {
    let mut command = Command::new(clients().join("venv/bin/python"));
    command.arg(tool(script));
    command
}

/// A script of `tests/tools` that uses Node's packages.
pub fn node_client(script: &str) -> Command {
    let mut command = Command::new("node");
    command.env("NODE_PATH", clients().join("node/node_modules"));
    command.arg(tool(script));
    command
}

/// The script that drives the web UI in a browser, beside the packages that it needs.
///
/// # Panics
/// If it cannot be put there.
pub fn ui_client() -> Command {
    let folder = clients().join("ui");
    for entry in std::fs::read_dir(tool("ui")).expect("it has a folder").flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|end| end == "mjs") {
            std::fs::copy(&path, folder.join(entry.file_name())).expect("there is room");
        }
    }
    let mut command = Command::new("node");
    command.arg(folder.join("ui.mjs")).current_dir(folder);
    command
}

fn tool(script: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tools").join(script)
}

/// Where the clients and brokers are that are not ours, installed at need.
pub(super) fn clients() -> &'static Path {
    static CLIENTS: OnceLock<PathBuf> = OnceLock::new();
    CLIENTS.get_or_init(|| {
        let folder = profile_folder()
            .parent()
            .expect("the target folder")
            .join("clients");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/install.sh");
        let installed = Command::new("sh").arg(script).arg(&folder).status();
        assert!(
            installed.expect("there is `sh`").success(),
            "the clients cannot be installed"
        );
        folder
    })
}

/// The library that gives a process a clock of its own, installed at need.
pub(super) fn libfaketime() -> PathBuf {
    clients();
    let machine = std::env::consts::ARCH;
    let folder = Path::new("/usr/lib").join(format!("{machine}-linux-gnu/faketime"));
    let library = folder.join("libfaketimeMT.so.1");
    assert!(library.exists(), "{} is not there", library.display());
    library
}

fn succeed(mut command: Command) {
    let output = command.stdin(Stdio::null()).output().expect("the tool is there");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {said}", output.status);
}

/// A tool that listens; killed when it is dropped.
pub struct Listening {
    child: Child,
    command: String,
    lines: Receiver<String>,
    /// What came before the tool was ready.
    early: Vec<Message>,
}

impl Listening {
    fn start(mut command: Command) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut child = child.expect("the tool is there");
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            command: format!("{command:?}"),
            lines,
            early: Vec::new(),
        }
    }

    fn wait_until_ready(&mut self) {
        loop {
            let message = self.next_line();
            if message.topic.starts_with(READY) {
                return;
            }
            self.early.push(message);
        }
    }

    /// The next message.
    ///
    /// # Panics
    /// If none comes.
    pub fn recv(&mut self) -> Message {
        if !self.early.is_empty() {
            return self.early.remove(0);
        }
        // A session that comes back hears again that it was ready.
        loop {
            let message = self.next_line();
            if !message.topic.starts_with(READY) {
                return message;
            }
        }
    }

    /// So many messages, in the order they came.
    ///
    /// # Panics
    /// If fewer come.
    pub fn take(&mut self, n: usize) -> Vec<Message> {
        (0..n).map(|_| self.recv()).collect()
    }

    /// What came until a message with this payload, without it.
    ///
    /// # Panics
    /// If it does not come.
    pub fn until(&mut self, payload: &str) -> Vec<Message> {
        std::iter::from_fn(|| Some(self.recv()).filter(|m| m.payload != payload)).collect()
    }

    /// Kills the tool: no DISCONNECT is sent.
    ///
    /// # Panics
    /// If it cannot be killed.
    pub fn kill(mut self) {
        self.child.kill().expect("it is killed");
        self.child.wait().expect("it ends");
    }

    fn next_line(&mut self) -> Message {
        let line = self.lines.recv_timeout(HANG).unwrap_or_else(|error| {
            let ended = self.child.try_wait();
            panic!("no message for {}: {error}; ended: {ended:?}", self.command)
        });
        let value: Value = serde_json::from_str(&line).expect("a line of JSON");
        Message {
            topic: value["topic"].as_str().expect("a topic").to_owned(),
            qos: u8::try_from(value["qos"].as_u64().expect("a QoS")).expect("a QoS"),
            retain: matches!(&value["retain"], Value::Bool(true)) || value["retain"] == json!(1),
            payload: value["payload"].as_str().expect("a payload").to_owned(),
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
