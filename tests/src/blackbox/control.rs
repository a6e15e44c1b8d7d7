//! A running gateway's bridges, asked for by the command line.

use super::{Daemon, Setup, eventually, headgate};
use serde_json::Value;
use std::cell::RefCell;
use std::process::{Command, Output, Stdio};

impl Setup {
    /// Runs a command with this gateway's configuration; what it printed, line by line, or what it complained about.
    ///
    /// # Panics
    /// If it prints what is not JSON.
    pub fn command(&self, words: &[&str]) -> Result<Vec<Value>, (Vec<Value>, String)> {
        let output = self.run_command(&[words, &["--json"]].concat());
        let lines = String::from_utf8_lossy(&output.stdout);
        let lines = lines
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"));
        let lines: Vec<Value> = lines.collect();
        match output.status.success() {
            true => Ok(lines),
            false => Err((lines, String::from_utf8_lossy(&output.stderr).into_owned())),
        }
    }

    /// What a command that must succeed prints for people.
    ///
    /// # Panics
    /// If it does not.
    pub fn said(&self, words: &[&str]) -> String {
        let output = self.run_command(words);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {complaint}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn run_command(&self, words: &[&str]) -> Output {
        Command::new(headgate())
            .args(words)
            .args(["--config", "headgate.toml"])
            .current_dir(self.folder())
            .env_clear()
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .output()
            .expect("it runs")
    }
}

impl Daemon<'_> {
    /// The answer to a command that must succeed.
    ///
    /// # Panics
    /// If it does not.
    pub fn ask(&self, words: &[&str]) -> Value {
        let answer = self.setup().command(words);
        let mut lines = answer.unwrap_or_else(|(_, error)| panic!("{words:?}: {error}"));
        lines.pop().expect("there is an answer")
    }

    /// Everything about a bridge.
    pub fn bridge(&self, name: &str) -> Value {
        self.ask(&["bridge", "show", name])
    }

    /// Waits until a bridge is in this state, and says everything about it.
    pub fn until_bridge_is(&self, name: &str, state: &str) -> Value {
        self.until_bridge(name, state, |bridge| bridge["state"] == state)
    }

    /// Waits until this holds for a bridge.
    pub fn until_bridge(&self, name: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let seen = LastSeen::default();
        eventually(&format!("the bridge `{name}`: {what}"), || {
            let bridge = self.bridge(name);
            *seen.0.borrow_mut() = bridge.to_string();
            Some(bridge).filter(&holds)
        })
    }

    /// Adds or changes a bridge; what that was. The settings are those of `[[bridges]]`.
    ///
    /// # Panics
    /// If it is refused.
    pub fn add_bridge(&self, settings: &str) -> Value {
        let file = self.setup().folder().join("added.toml");
        std::fs::write(&file, settings).expect("it is written");
        self.ask(&["bridge", "add", "added.toml"])["change"].clone()
    }
}

/// What was seen last of what was waited for in vain.
#[derive(Default)]
struct LastSeen(RefCell<String>);

impl Drop for LastSeen {
    #[allow(clippy::print_stderr, reason = "for whoever reads the failure")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("last seen: {}", self.0.borrow());
        }
    }
}
