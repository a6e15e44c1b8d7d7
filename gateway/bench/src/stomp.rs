//! STOMP clients under load: the handshakes, then the loop of all cases that pass messages on.

use super::flow::{Flow, parties};
use super::load::{measure, run_name};
use super::network::Network;
use super::server::Guest;
use super::stomp_wire::{Stomp, VERSION};
use super::{BenchError, Case, Plan, Report};
use bytes::BytesMut;
use headgate_mqtt_codec::Utf8;
use headgate_stomp_codec::{Command, Decoder, Frame, Limits, encode};

/// What a server may answer to CONNECT and SUBSCRIBE.
const LIMITS: Limits = Limits {
    headers: 100,
    line_bytes: 8 << 10,
    head_bytes: 64 << 10,
    body_bytes: 64 << 10,
};

/// What STOMP clients say beside what [`Plan`] has.
#[derive(Clone, Debug)]
pub(super) struct StompPlan {
    /// The load. QoS 0 stands for SEND without a receipt, QoS 1 for SEND with one.
    pub(super) plan: Plan,
    pub(super) wire: Stomp,
    /// The header `host`.
    pub(super) virtual_host: String,
    /// What destinations begin with.
    pub(super) prefix: String,
    /// Levels of destinations are separated by dots, and the wildcard is `*`.
    pub(super) dotted: bool,
}

impl StompPlan {
    /// Carries it out.
    pub(super) fn run(&self, progress: &mut dyn FnMut(String)) -> Result<Report, BenchError> {
        let (plan, run) = (&self.plan, run_name());
        let (publishers, receivers) = parties(plan);
        let mut network = Network::of(self.wire, plan)?;
        for number in 0..publishers + receivers {
            let mut guest = self.enter()?;
            if let Some(receiver) = number.checked_sub(publishers) {
                self.subscribe(&mut guest, &run, receiver)?;
            }
            network.add(guest.into_client()?)?;
        }
        let topics = |number: usize| self.destination(&run, &number.to_string());
        let flow = Flow::new(self.wire, plan, topics, plan.window);
        let report = measure(plan, (network, flow), progress)?;
        Ok(Report {
            version: format!("STOMP {}, ack:{}", VERSION.as_str(), self.wire.ack.as_str()),
            ..report
        })
    }

    fn destination(&self, run: &str, publisher: &str) -> Utf8 {
        let dot = if self.dotted { '.' } else { '/' };
        Utf8::try_from(format!("{}bench{dot}{run}{dot}{publisher}", self.prefix)).unwrap_or_default()
    }

    fn enter(&self) -> Result<Guest, BenchError> {
        let server = &self.plan.server;
        let mut guest = server.open(0)?;
        let mut connect = Frame::new(Command::Connect)
            .with("accept-version", VERSION.as_str())
            .with("host", self.virtual_host.clone());
        if let Some(login) = &server.username {
            connect.headers.push("login", login.to_string());
        }
        if let Some(passcode) = &server.password {
            connect
                .headers
                .push("passcode", String::from_utf8_lossy(passcode).into_owned());
        }
        exchange(&mut guest, &connect, Command::Connected)?;
        Ok(guest)
    }

    fn subscribe(&self, guest: &mut Guest, run: &str, receiver: usize) -> Result<(), BenchError> {
        let all = if self.dotted { "*" } else { "+" };
        let destination = match self.plan.case {
            Case::Pairs => self.destination(run, &receiver.to_string()),
            Case::FanIn => self.destination(run, all),
            _ => self.destination(run, "0"),
        };
        let subscribe = Frame::new(Command::Subscribe)
            .with("id", "0")
            .with("destination", destination.to_string())
            .with("ack", self.wire.ack.as_str())
            .with("receipt", "subscribed");
        exchange(guest, &subscribe, Command::Receipt)
    }
}

/// Sends a frame, and waits for the answer.
fn exchange(guest: &mut Guest, frame: &Frame, answer: Command) -> Result<(), BenchError> {
    let mut bytes = BytesMut::new();
    encode(frame, VERSION, &mut bytes);
    guest.send(&bytes)?;
    let mut decoder = Decoder::new(LIMITS);
    loop {
        match decoder.decode(&mut guest.input)? {
            Some(frame) if frame.command == answer => return Ok(()),
            Some(frame) if frame.command == Command::Error => {
                let what = frame.get("message").unwrap_or_default();
                return Err(BenchError::Complaint(what.to_owned()));
            }
            Some(frame) => return Err(BenchError::Unexpected(frame.command.as_str().to_owned())),
            None => guest.read()?,
        }
    }
}
