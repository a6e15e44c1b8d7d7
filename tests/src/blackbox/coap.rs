//! Clients of CoAP that are not ours: libcoap's `coap-client`, aiocoap and Node's coap.

use super::{HANG, node_client, python_client, tools};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "they are their names")]
pub enum CoapClient {
    Libcoap,
    Aiocoap,
    CoapJs,
}

/// One request.
#[derive(Clone, Copy, Debug)]
pub struct CoapRequest<'a> {
    /// `GET`, `PUT`, `POST` or `DELETE`.
    pub method: &'a str,
    /// With everything: `coap://127.0.0.1:5683/ps/a`.
    pub uri: &'a str,
    /// Its payload; long ones go in blocks.
    pub payload: &'a str,
    /// Whether it wants to be acknowledged.
    pub confirmable: bool,
}

impl CoapClient {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Libcoap, Self::Aiocoap, Self::CoapJs];

    /// Installs it, if it is not there.
    pub fn install(self) {
        tools::clients();
    }

    fn command(self, request: CoapRequest<'_>, notifications: usize) -> Command {
        let CoapRequest {
            method,
            uri,
            payload,
            confirmable,
        } = request;
        match self {
            Self::Libcoap => {
                tools::clients();
                // What it says is to come line by line.
                let mut command = Command::new("stdbuf");
                command.args([
                    "-oL",
                    "coap-client-notls",
                    "-m",
                    &method.to_lowercase(),
                    "-B",
                    "30",
                    "-b",
                    "1024",
                ]);
                if !payload.is_empty() {
                    command.args(["-e", payload]);
                }
                if !confirmable {
                    command.arg("-N");
                }
                if notifications > 0 {
                    command.args(["-s", "60", "-v", "6"]);
                }
                command.arg(uri);
                command
            }
            Self::Aiocoap => {
                let mut command = python_client("coap_client.py");
                command.args([
                    method,
                    uri,
                    "--payload",
                    payload,
                    "--observe",
                    &notifications.to_string(),
                ]);
                if !confirmable {
                    command.arg("--non");
                }
                command
            }
            Self::CoapJs => {
                let mut command = node_client("coapjs_client.cjs");
                command.args([
                    method,
                    uri,
                    payload,
                    &confirmable.to_string(),
                    &notifications.to_string(),
                ]);
                command
            }
        }
    }

    /// Code and payload of the response. libcoap tells the code of an error only: success is `2.xx`.
    ///
    /// # Panics
    /// If there is none.
    pub fn ask(self, request: CoapRequest<'_>) -> (String, String) {
        let output = self
            .command(request, 0)
            .stdin(Stdio::null())
            .output()
            .expect("it runs");
        let (said, complained) = (
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        );
        if self == Self::Libcoap {
            let text = complained.trim();
            return match text.split_once(' ').unwrap_or((text, "")) {
                ("", _) => ("2.xx".into(), said.trim_end_matches('\n').to_owned()),
                (code, words) => (code.to_owned(), words.to_owned()),
            };
        }
        let line = said
            .lines()
            .next()
            .unwrap_or_else(|| panic!("no response: {complained}"));
        code_and_payload(line)
    }

    /// Begins to observe. Its first answer has come when this is back.
    ///
    /// # Panics
    /// If it is refused.
    pub fn observe(self, uri: &str) -> Observing {
        let request = CoapRequest {
            method: "GET",
            uri,
            payload: "",
            confirmable: true,
        };
        let mut command = self.command(request, 1_000);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn();
        let mut child = child.expect("it runs");
        let (tell, told) = channel();
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let payload = match self {
                    Self::Libcoap => payload_of_libcoap(&line),
                    _ => Some(code_and_payload(&line).1),
                };
                if let Some(payload) = payload
                    && tell.send(payload).is_err()
                {
                    break;
                }
            }
        });
        let observing = Observing { child, told };
        observing.next();
        observing
    }
}

/// Lines of libcoap at level 6: `v:1 t:CON c:2.05 i:1234 {01} [ Observe:2 ] :: 'payload'`, behind the payload of the one before, which has no end of line.
fn payload_of_libcoap(line: &str) -> Option<String> {
    let response = line.contains("v:1 t:") && line.contains(" c:2.05 ");
    let (_, payload) = line.split_once(" :: '").unwrap_or_default();
    response.then(|| payload.trim_end_matches('\'').to_owned())
}

fn code_and_payload(line: &str) -> (String, String) {
    let told: Value = serde_json::from_str(line).expect("a line of JSON");
    let text = |key: &str| told[key].as_str().expect("text").to_owned();
    (text("code"), text("payload"))
}

/// A client that observes, until this is dropped.
#[derive(Debug)]
pub struct Observing {
    child: Child,
    told: Receiver<String>,
}

impl Observing {
    /// The payload of the next notification.
    ///
    /// # Panics
    /// If none comes.
    pub fn next(&self) -> String {
        self.told.recv_timeout(HANG).expect("a notification")
    }
}

impl Drop for Observing {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
