//! A relay between the gateway and its remote that writes down, packet by packet and before it passes them on, who promised what.

use bytes::BytesMut;
use headgate_mqtt_codec::{AckKind, Decoder, MAX_PACKET_SIZE, Packet, Qos, Version};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

/// Who sent a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    Gateway,
    Remote,
}

impl Side {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Gateway => Self::Remote,
            Self::Remote => Self::Gateway,
        }
    }
}

/// A step of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Publish,
    Ack(AckKind),
}

/// Where the link falls silent, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Halt {
    pub sender: Side,
    pub step: Step,
    /// The packet still passes.
    pub after: bool,
}

/// One packet of interest.
#[derive(Clone, Debug)]
struct Entry {
    connection: usize,
    /// How often the remote had been killed when the connection was made.
    life: usize,
    sender: Side,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    ConnAck {
        session_present: bool,
    },
    Publish {
        id: u16,
        qos: Qos,
        #[allow(dead_code, reason = "it is told by `Recorder::story`")]
        dup: bool,
        numbers: Vec<usize>,
    },
    /// PUBACK, PUBREC, PUBREL or PUBCOMP that is no refusal.
    Ack {
        kind: AckKind,
        id: u16,
    },
    Refusal {
        id: u16,
    },
}

/// See the module.
pub(crate) struct Recorder {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    upstream: u16,
    version: Version,
    /// Connections are let through.
    open: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    entries: Vec<Entry>,
    connections: usize,
    life: usize,
    halt: Option<Halt>,
    /// The connection that fell silent.
    halted: Option<usize>,
    malformed: Vec<String>,
}

/// What one side sent and the other promised.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// Numbers that were sent.
    pub sent: BTreeSet<usize>,
    /// In which lives of the remote each was acknowledged: PUBACK or PUBREC.
    pub acknowledged: BTreeMap<usize, BTreeSet<usize>>,
    /// Packet identifiers that went to another message while the receiver held them. \[MQTT-2.2.1-3\] \[MQTT-4.3.3-1\]
    pub clashes: Vec<(u16, Vec<usize>, Vec<usize>)>,
}

impl Recorder {
    /// Listens for the gateway, which speaks this version.
    pub(crate) fn to(upstream: u16, version: Version) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            upstream,
            version,
            open: AtomicBool::new(true),
            state: Mutex::default(),
        });
        let served = Arc::clone(&shared);
        // It ends with the test's process.
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if served.open.load(Ordering::SeqCst) {
                    // Whoever is not reached hangs up, and so do we.
                    let _ = served.connect(client);
                }
            }
        });
        Self { port, shared }
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Whether new connections are let through.
    pub(crate) fn set_open(&self, open: bool) {
        self.shared.open.store(open, Ordering::SeqCst);
    }

    /// The remote was killed.
    pub(crate) fn remote_killed(&self) {
        self.shared.state().life += 1;
    }

    /// The link falls silent at the next such packet.
    pub(crate) fn halt_at(&self, halt: Halt) {
        let mut state = self.shared.state();
        (state.halt, state.halted) = (Some(halt), None);
    }

    /// How often that was.
    pub(crate) fn kills(&self) -> usize {
        self.shared.state().life
    }

    /// Whether it has.
    pub(crate) fn has_halted(&self) -> bool {
        self.shared.state().halted.is_some()
    }

    /// All that was written down about the identifiers under which a number went, one packet to a line.
    pub(crate) fn story(&self, sender: Side, number: usize) -> String {
        let state = self.shared.state();
        let mut ids = BTreeSet::new();
        for entry in state.entries.iter().filter(|entry| entry.sender == sender) {
            if let What::Publish { id, numbers, .. } = &entry.what {
                ids.extend(numbers.contains(&number).then_some(*id));
            }
        }
        let told = state.entries.iter().filter(|entry| match &entry.what {
            What::ConnAck { .. } => true,
            What::Publish { id, .. } => entry.sender == sender && ids.contains(id),
            What::Ack {
                kind: AckKind::PubRel,
                id,
            } => entry.sender == sender && ids.contains(id),
            What::Ack { id, .. } | What::Refusal { id } => entry.sender != sender && ids.contains(id),
        });
        told.fold(String::new(), |text, entry| text + &format!("{entry:?}\n"))
    }

    /// What `sender` published and the other side acknowledged.
    pub(crate) fn account(&self, sender: Side) -> Account {
        let state = self.shared.state();
        assert_eq!(state.malformed, Vec::<String>::new());
        let mut account = Account::default();
        let mut numbers_of: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
        let mut of_connection: BTreeMap<(usize, u16), Vec<usize>> = BTreeMap::new();
        let mut held: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
        for entry in &state.entries {
            match &entry.what {
                What::ConnAck {
                    session_present: false,
                } => held.clear(),
                What::Publish { id, qos, numbers, .. } if entry.sender == sender => {
                    account.sent.extend(numbers);
                    numbers_of.insert(*id, numbers.clone());
                    of_connection.insert((entry.connection, *id), numbers.clone());
                    if *qos == Qos::ExactlyOnce {
                        let before = held.insert(*id, numbers.clone());
                        if let Some(before) = before.filter(|before| before != numbers) {
                            account.clashes.push((*id, before, numbers.clone()));
                        }
                    }
                }
                What::Ack { kind, id } if entry.sender == sender.other() => {
                    let numbers = of_connection.get(&(entry.connection, *id));
                    let numbers = numbers.or_else(|| numbers_of.get(id));
                    if matches!(kind, AckKind::PubAck | AckKind::PubRec) {
                        for number in numbers.into_iter().flatten() {
                            let lives = account.acknowledged.entry(*number).or_default();
                            lives.insert(entry.life);
                        }
                    }
                    if *kind == AckKind::PubComp {
                        held.remove(id);
                    }
                }
                What::Refusal { id } if entry.sender == sender.other() => drop(held.remove(id)),
                _ => {}
            }
        }
        account
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn connect(self: &Arc<Self>, client: TcpStream) -> io::Result<()> {
        let server = TcpStream::connect(("127.0.0.1", self.upstream))?;
        let (connection, life) = {
            let mut state = self.state();
            state.connections += 1;
            (state.connections, state.life)
        };
        for stream in [&client, &server] {
            stream.set_nodelay(true)?;
        }
        let ends = [
            (client.try_clone()?, server.try_clone()?, Side::Gateway),
            (server, client, Side::Remote),
        ];
        for (from, to, sender) in ends {
            let shared = Arc::clone(self);
            thread::spawn(move || {
                // An error is the end of the connection.
                let _ = shared.carry(&from, &to, sender, (connection, life));
                let _ = from.shutdown(Shutdown::Both);
                let _ = to.shutdown(Shutdown::Both);
            });
        }
        Ok(())
    }

    /// Carries packets one way until the connection ends.
    fn carry(
        &self,
        mut from: &TcpStream,
        mut to: &TcpStream,
        sender: Side,
        connection: (usize, usize),
    ) -> io::Result<()> {
        let mut decoder = match sender {
            Side::Gateway => Decoder::server(MAX_PACKET_SIZE),
            Side::Remote => Decoder::client(self.version, MAX_PACKET_SIZE),
        };
        let (mut input, mut chunk) = (BytesMut::new(), [0; 4_096]);
        loop {
            let n = match from.read(&mut chunk)? {
                0 => return Ok(()),
                n => n,
            };
            input.extend_from_slice(&chunk[..n]);
            loop {
                let raw = input.clone();
                let packet = match decoder.decode(&mut input) {
                    Ok(Some(packet)) => packet,
                    Ok(None) => break,
                    Err(error) => {
                        self.state().malformed.push(error.to_string());
                        return Ok(());
                    }
                };
                if self.record(&packet, sender, connection) {
                    to.write_all(&raw[..raw.len() - input.len()])?;
                }
            }
        }
    }

    /// Writes a packet down, if it is of interest, and says whether it passes.
    fn record(&self, packet: &Packet, sender: Side, (connection, life): (usize, usize)) -> bool {
        let mut state = self.state();
        if state.halted == Some(connection) {
            return false;
        }
        let step = match packet {
            Packet::Publish(publish) if publish.packet_id.is_some() => Some(Step::Publish),
            Packet::Ack(ack) => Some(Step::Ack(ack.kind)),
            _ => None,
        };
        let halt = state
            .halt
            .filter(|halt| halt.sender == sender && Some(halt.step) == step);
        if let Some(halt) = halt {
            (state.halt, state.halted) = (None, Some(connection));
            if !halt.after {
                return false;
            }
        }
        let entry = |what| Entry {
            connection,
            life,
            sender,
            what,
        };
        state.entries.extend(what_of(packet).map(entry));
        true
    }
}

fn what_of(packet: &Packet) -> Option<What> {
    match packet {
        Packet::ConnAck(connack) => Some(What::ConnAck {
            session_present: connack.session_present,
        }),
        Packet::Publish(publish) => Some(What::Publish {
            id: publish.packet_id?.get(),
            qos: publish.qos,
            dup: publish.dup,
            numbers: numbers(&publish.payload),
        }),
        Packet::Ack(ack) => {
            let (kind, id) = (ack.kind, ack.packet_id.get());
            Some(match ack.reason.is_error() {
                true => What::Refusal { id },
                false => What::Ack { kind, id },
            })
        }
        _ => None,
    }
}

/// The numbers in a payload: of one message, or of a batch.
pub(crate) fn numbers(payload: &[u8]) -> Vec<usize> {
    let number = |value: &serde_json::Value| value.as_u64().map(|n| usize::try_from(n).unwrap());
    match serde_json::from_slice(payload) {
        Ok(serde_json::Value::Array(members)) => members
            .iter()
            .filter_map(|member| number(&member["payload"]))
            .collect(),
        Ok(value) => number(&value).into_iter().collect(),
        Err(_) => Vec::new(),
    }
}
