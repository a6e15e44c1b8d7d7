//! Updating the firmware of a client by object 5: the package is sent to it or fetched by it, checked by it, installed by it, and each step is told. OMA-TS-LWM2M_Core 1.1 appendix E.6
//!
//! The command waits unsettled until the end, so after a restart the update goes on: a mark in the note of the client says whether the package is there and whether it was told to install it.

use crate::command::{Operation, Package};
use crate::core::{Core, Out};
use crate::device::{Job, Pending, Running};
use crate::request::{self, Abilities};
use headgate_coap_codec::{Code, Message, number};
use headgate_lwm2m_codec::{Format, Path, Value};
use headgate_model::Instant;
use headgate_model::datagram::Address;
use serde_json::{Value as Json, json};
use std::time::Duration;

/// How often the state is asked for while the client is busy.
const PAUSE: Duration = Duration::from_secs(5);
/// How seldom, when it cannot be asked.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// The states of object 5, resource 3.
const STATES: [&str; 4] = ["idle", "downloading", "downloaded", "updating"];

/// The results of object 5, resource 5.
const RESULTS: [&str; 14] = [
    "initial",
    "updated",
    "not enough flash memory",
    "out of memory",
    "connection lost while downloading",
    "the package does not pass the integrity check",
    "the package type is not supported",
    "the URI is not valid",
    "the update failed",
    "the protocol is not supported",
    "the update was cancelled",
    "the update was put off",
    "the transfer failed",
    "conflicting state",
];

/// Why a package does not come to a client.
#[derive(Debug, thiserror::Error)]
enum NoWay {
    #[error("it has ended")]
    Ended,
    #[error("the client does not fetch packages")]
    NoFetching,
    #[error("the client takes no packages, it fetches them")]
    NoTaking,
    #[error("the client fetches packages, and cannot here (firmware_uri)")]
    NoUri,
}

/// A firmware update that is under way.
#[derive(Debug)]
pub(crate) struct Firmware {
    pub pending: Pending,
    package: Package,
    step: Step,
    /// Which state was told last.
    told: Option<i64>,
    /// When the next request goes.
    next: Instant,
    /// How long is waited if the client cannot be asked: longer each time.
    pause: Duration,
}

/// What is asked, or said, next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Which state is it in, before anything is done?
    LookFirst,
    /// What is left from before is thrown away: an empty package. E.6.1
    Clear,
    /// Does it fetch packages, or is it sent them? Resource 9
    Method,
    /// The package goes to it.
    Push,
    /// It is told where the package is.
    Pull,
    /// Has it the package now?
    Download,
    /// It is to install it. Resource 2
    Install,
    /// Is it done?
    Updating,
    /// How did it end? Resource 5
    Result,
}

impl Firmware {
    /// When it wants to go on, if it can, or its command is over.
    pub(crate) fn due(&self, can_go_on: bool) -> Instant {
        let expires = self.pending.expires;
        if can_go_on {
            self.next.min(expires)
        } else {
            expires
        }
    }

    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.next <= now
    }
}

/// A resource of object 5.
fn resource(id: u16) -> Path {
    Path::of(&[5, 0, id]).expect("three ids")
}

impl<A: Address> Core<A> {
    /// A command to update begins, or goes on where it was before the start.
    pub(crate) fn begin_firmware(&mut self, index: u32, job: Job, now: Instant, out: &mut Out<A>) {
        let Job::Command(pending) = job else { return };
        let Operation::UpdateFirmware(package) = &pending.command.operation else {
            return;
        };
        let package = package.clone();
        let fail = |why: &str| [("reason", Json::from(why))];
        if self.device(index).firmware.is_some() {
            let more = fail("another update is under way");
            return self.finish(index, &pending, Code::CONFLICT, &more, out);
        }
        if let Package::Named { name, pull } = &package {
            if !self.settings.supplies.packages.contains_key(name) {
                let more = fail("there is no package of this name (firmware)");
                return self.finish(index, &pending, Code::NOT_FOUND, &more, out);
            }
            if *pull == Some(true) && self.settings.firmware_uri.is_none() {
                let more = fail("clients cannot fetch packages here (firmware_uri)");
                return self.finish(index, &pending, Code::BAD_REQUEST, &more, out);
            }
        }
        let mark = self.device(index).firmware_mark.clone();
        let known = mark.and_then(|mark| {
            Some((
                mark.split_once(' ')?.0.to_owned(),
                mark.split_once(' ')?.1 == package.name(),
            ))
        });
        let step = match known {
            Some((step, true)) if step == "sent" => Step::Download,
            Some((step, true)) if step == "installing" => Step::Updating,
            _ => Step::LookFirst,
        };
        self.device_mut(index).firmware = Some(Firmware {
            pending,
            package,
            step,
            told: None,
            next: now,
            pause: PAUSE,
        });
        self.rearm(index, now);
    }

    /// The request for the next step; `None` if there is none now.
    pub(crate) fn firmware_request(
        &mut self,
        index: u32,
        abilities: &Abilities,
        now: Instant,
    ) -> Option<Message> {
        let device = self.device(index);
        let firmware = device.firmware.as_ref()?;
        let root = abilities.root.as_str();
        let text = |mut message: Message, text: String| {
            let format = Format::Text.number();
            message.options.push_uint(number::CONTENT_FORMAT, format.into());
            message.payload = text.into();
            message
        };
        let mut sent = request::to(Code::PUT, root, &resource(0));
        let opaque = Format::Opaque.number();
        sent.options.push_uint(number::CONTENT_FORMAT, opaque.into());
        let message = match firmware.step {
            Step::LookFirst | Step::Download | Step::Updating => request::to(Code::GET, root, &resource(3)),
            Step::Method => request::to(Code::GET, root, &resource(9)),
            Step::Result => request::to(Code::GET, root, &resource(5)),
            Step::Install => request::to(Code::POST, root, &resource(2)),
            Step::Clear => Message {
                payload: bytes::Bytes::from_static(&[0]),
                ..sent
            },
            Step::Push => {
                let name = firmware.package.name();
                sent.payload = self.settings.supplies.packages.get(name)?.body.clone();
                sent
            }
            Step::Pull => {
                let uri = match &firmware.package {
                    Package::Uri(uri) => uri.clone(),
                    Package::Named { name, .. } => {
                        let server = self.settings.firmware_uri.as_deref().unwrap_or_default();
                        format!("{}/fw/{}/{name}", server.trim_end_matches('/'), device.location)
                    }
                };
                text(request::to(Code::PUT, root, &resource(1)), uri)
            }
        };
        if let Some(firmware) = &mut self.device_mut(index).firmware {
            firmware.next = now + PAUSE;
        }
        Some(message)
    }

    /// The tag of the package that the next step sends, if it does.
    pub(crate) fn package_tag(&self, index: u32) -> Option<bytes::Bytes> {
        let firmware = self.device(index).firmware.as_ref()?;
        let package = self.settings.supplies.packages.get(firmware.package.name())?;
        (firmware.step == Step::Push).then(|| package.etag.clone())
    }

    /// The client has answered a step.
    pub(crate) fn firmware_answered(
        &mut self,
        index: u32,
        response: &Message,
        now: Instant,
        out: &mut Out<A>,
    ) {
        let Some(step) = self.device(index).firmware.as_ref().map(|firmware| firmware.step) else {
            return;
        };
        // RFC 7252 §5.9.3.4, RFC 8516: later, perhaps; the command has its time.
        if matches!(response.code, Code::SERVICE_UNAVAILABLE | Code::TOO_MANY_REQUESTS) {
            return self.firmware_waits(index, now);
        }
        if let Some(firmware) = &mut self.device_mut(index).firmware {
            firmware.pause = PAUSE;
        }
        let number = self.number_of(step, response);
        let failed = |what: &str| {
            let code = response.code;
            format!("{what}: {code} {}", code.name().unwrap_or_default())
        };
        let next = match (step, response.code.is_success(), number) {
            (Step::LookFirst, true, Some(0)) => Step::Method,
            (Step::LookFirst, true, Some(1..=3)) => Step::Clear,
            (Step::LookFirst, ..) => {
                return self.firmware_failed(index, &failed("object 5 cannot be read"), now, out);
            }
            (Step::Clear, true, _) => Step::Method,
            (Step::Clear, ..) => {
                return self.firmware_failed(index, &failed("what is there cannot be thrown away"), now, out);
            }
            (Step::Method, ok, method) => match self.way(index, method.filter(|_| ok)) {
                Ok(step) => step,
                Err(why) => return self.firmware_failed(index, &why.to_string(), now, out),
            },
            (Step::Push | Step::Pull, true, _) => {
                self.mark(index, "sent", out);
                Step::Download
            }
            (Step::Push | Step::Pull, ..) => {
                return self.firmware_failed(index, &failed("the package is not taken"), now, out);
            }
            (Step::Download, true, Some(2)) => Step::Install,
            (Step::Download, true, Some(0)) => Step::Result,
            (Step::Download, ..) => Step::Download,
            (Step::Install, true, _) => {
                self.mark(index, "installing", out);
                Step::Updating
            }
            (Step::Install, ..) => {
                return self.firmware_failed(index, &failed("it is not installed"), now, out);
            }
            (Step::Updating, true, Some(0 | 2)) => Step::Result,
            (Step::Updating, ..) => Step::Updating,
            (Step::Result, true, Some(result)) => return self.firmware_done(index, result, now, out),
            (Step::Result, ..) => Step::Result,
        };
        let waits = next == step;
        self.tell_state(index, step, number, out);
        let Some(firmware) = &mut self.device_mut(index).firmware else {
            return;
        };
        firmware.step = next;
        let is_read = matches!(next, Step::Download | Step::Updating);
        firmware.next = if waits || (is_read && matches!(step, Step::Pull | Step::Install)) {
            now + PAUSE
        } else {
            now
        };
    }

    /// A resource that was read, if this step reads one.
    fn number_of(&self, step: Step, response: &Message) -> Option<i64> {
        let path = match step {
            Step::LookFirst | Step::Download | Step::Updating => resource(3),
            Step::Method => resource(9),
            Step::Result => resource(5),
            _ => return None,
        };
        let values = request::values(response, path, &self.settings.supplies.registry).ok()?;
        values.into_iter().find_map(|record| match record.value? {
            Value::Integer(number) => Some(number),
            Value::Unsigned(number) => i64::try_from(number).ok(),
            _ => None,
        })
    }

    /// Whether the package is sent or fetched. Resource 9: 0 fetched, 1 sent, 2 both
    fn way(&self, index: u32, method: Option<i64>) -> Result<Step, NoWay> {
        let Some(firmware) = &self.device(index).firmware else {
            return Err(NoWay::Ended);
        };
        let can_fetch = self.settings.firmware_uri.is_some();
        match (&firmware.package, method) {
            (Package::Uri(_), Some(1)) => Err(NoWay::NoFetching),
            (Package::Uri(_), _) => Ok(Step::Pull),
            (Package::Named { pull: Some(true), .. }, Some(1)) => Err(NoWay::NoFetching),
            (Package::Named { pull: Some(true), .. }, _) => Ok(Step::Pull),
            (
                Package::Named {
                    pull: Some(false), ..
                },
                Some(0),
            ) => Err(NoWay::NoTaking),
            (Package::Named { pull: None, .. }, Some(0)) if can_fetch => Ok(Step::Pull),
            (Package::Named { .. }, Some(0)) => Err(NoWay::NoUri),
            (Package::Named { .. }, _) => Ok(Step::Push),
        }
    }

    /// How far it is, for the next start.
    fn mark(&mut self, index: u32, how: &str, out: &mut Out<A>) {
        let device = self.device_mut(index);
        let Some(firmware) = &device.firmware else { return };
        device.firmware_mark = Some(format!("{how} {}", firmware.package.name()));
        self.keep_note(index, out);
    }

    /// A new state is told on the bus.
    fn tell_state(&mut self, index: u32, step: Step, state: Option<i64>, out: &mut Out<A>) {
        let is_state = matches!(step, Step::Download | Step::Updating | Step::LookFirst);
        let Some(state) = state.filter(|_| is_state) else {
            return;
        };
        let Some(firmware) = &mut self.device_mut(index).firmware else {
            return;
        };
        if firmware.told.replace(state) == Some(state) {
            return;
        }
        let name = usize::try_from(state)
            .ok()
            .and_then(|state| STATES.get(state))
            .copied();
        let data = json!({"package": firmware.package.name(), "state": name.unwrap_or("unknown")});
        self.tell(index, "firmware", data, out);
    }

    /// Blocks of the package have gone: each tenth is told.
    pub(crate) fn firmware_progress(&mut self, index: u32, running: &Running, out: &mut Out<A>) {
        if !matches!(running.job, Job::Firmware) {
            return;
        }
        let (sent, all) = running.exchange.progress();
        let tenth = all / 10;
        let size = 16 << self.szx;
        if tenth == 0 || sent / tenth == sent.saturating_sub(size) / tenth {
            return;
        }
        let Some(firmware) = &self.device(index).firmware else {
            return;
        };
        let name = firmware.package.name();
        let data = json!({"package": name, "state": "downloading", "sent": sent, "bytes": all});
        self.tell(index, "firmware", data, out);
    }

    fn firmware_done(&mut self, index: u32, result: i64, now: Instant, out: &mut Out<A>) {
        let known = usize::try_from(result)
            .ok()
            .and_then(|result| RESULTS.get(result))
            .copied();
        let words = known.unwrap_or("unknown");
        if result != 1 {
            return self.end_firmware(index, Code::INTERNAL_SERVER_ERROR, words, Some(result), now, out);
        }
        self.end_firmware(index, Code::CHANGED, words, Some(result), now, out);
    }

    pub(crate) fn firmware_failed(&mut self, index: u32, why: &str, now: Instant, out: &mut Out<A>) {
        self.end_firmware(index, Code::BAD_GATEWAY, why, None, now, out);
    }

    fn end_firmware(
        &mut self,
        index: u32,
        code: Code,
        why: &str,
        result: Option<i64>,
        now: Instant,
        out: &mut Out<A>,
    ) {
        let device = self.device_mut(index);
        device.firmware_mark = None;
        let Some(firmware) = device.firmware.take() else {
            return;
        };
        let mut more = vec![("reason", Json::from(why))];
        if let Some(result) = result {
            more.push(("result", result.into()));
        }
        // The mark is gone no later than the command: in the same turn of the bus.
        self.keep_note(index, out);
        self.finish(index, &firmware.pending, code, &more, out);
        self.rearm(index, now);
    }

    /// The client did not answer a step: it is asked again later.
    pub(crate) fn firmware_waits(&mut self, index: u32, now: Instant) {
        if let Some(firmware) = &mut self.device_mut(index).firmware {
            firmware.next = now + firmware.pause;
            firmware.pause = (firmware.pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Its command is over.
    pub(crate) fn firmware_due(&mut self, index: u32, now: Instant, out: &mut Out<A>) {
        let firmware = self.device(index).firmware.as_ref();
        if firmware.is_some_and(|firmware| firmware.pending.expires <= now) {
            self.end_firmware(index, Code::GATEWAY_TIMEOUT, "expired", None, now, out);
        }
    }
}

impl Package {
    /// What it is called.
    fn name(&self) -> &str {
        match self {
            Self::Named { name, .. } => name,
            Self::Uri(uri) => uri,
        }
    }
}
