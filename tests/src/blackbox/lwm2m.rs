//! A LwM2M device that is not ours: tests/tools/lwm2m_device.py, written from the specification, which is told what to do and tells what happens.

use super::{HANG, python_client, tools};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};

/// One device.
pub struct Lwm2mDevice {
    child: Child,
    commands: ChildStdin,
    events: Receiver<Value>,
}

impl Lwm2mDevice {
    /// A device of this name, with more arguments as `--help` tells them. It says nothing by itself.
    pub fn start(endpoint: &str, arguments: &[&str]) -> Self {
        tools::clients();
        let mut child = python_client("lwm2m_device.py")
            .args(["--endpoint", endpoint])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python is there");
        let commands = child.stdin.take().expect("it is piped");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let (tell, events) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let event = serde_json::from_str(&line).unwrap_or_else(|_| panic!("no event: {line}"));
                if tell.send(event).is_err() {
                    return;
                }
            }
        });
        let device = Self {
            child,
            commands,
            events,
        };
        device.wait("ready");
        device
    }

    /// Tells it to do something: `{"do": what}`, with more.
    pub fn tell(&mut self, what: &str, mut more: Value) {
        more["do"] = what.into();
        writeln!(self.commands, "{more}").expect("it listens");
    }

    /// The next event of this kind; others before it are read over.
    pub fn wait(&self, kind: &str) -> Value {
        loop {
            let event = self.events.recv_timeout(HANG);
            let event = event.unwrap_or_else(|_| panic!("the device tells nothing of `{kind}`"));
            assert_ne!(event["event"], "refused", "{event}");
            if event["event"] == kind {
                return event;
            }
        }
    }

    /// It registers, and is registered.
    pub fn register(&mut self) {
        self.tell("register", json!({}));
        self.wait("registered");
    }
}

impl Drop for Lwm2mDevice {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
