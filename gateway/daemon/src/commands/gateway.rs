//! The gateway that runs, as the commands about it find and ask it.

use super::data_dir_to_ask;
use super::error::CommandError;
use crate::api::ControlClient;
use crate::config::{is_unnamed, unread_here};
use clap::Args;
use headgate_cli::{runtime, say, say_json, say_text};
use hyper::Method;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// What every command of a running gateway needs.
#[derive(Args)]
pub(crate) struct Gateway {
    /// The configuration, which says where the gateway has its data.
    #[arg(long, value_name = "FILE", env = "HEADGATE_CONFIG", global = true)]
    config: Option<PathBuf>,
    /// Answer in JSON.
    #[arg(long, global = true)]
    json: bool,
}

impl Gateway {
    /// The one of this configuration.
    pub(super) fn of(config: Option<&Path>) -> Self {
        Self {
            config: config.map(Path::to_owned),
            json: false,
        }
    }

    /// The file, if one is named.
    pub(super) fn config(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    /// Asks the gateway.
    pub(super) fn client(&self) -> Result<ControlClient, CommandError> {
        let config = self.config.as_deref();
        let data_dir = data_dir_to_ask(config)?;
        let client = match is_unnamed(config, &data_dir) {
            true => ControlClient::new(&data_dir).of_no_stranger(),
            false => ControlClient::new(&data_dir),
        };
        Ok(match config {
            Some(_) => client,
            None => client.with_hint(unread_here()),
        })
    }

    /// One question, one answer.
    pub(super) fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value, CommandError> {
        let client = self.client()?;
        Ok(runtime()?.block_on(client.ask(method, path, body))?)
    }

    /// Asks, and takes each line of the answer as it comes.
    pub(super) fn lines(&self, path: &str, each: &mut dyn FnMut(Value)) -> Result<(), CommandError> {
        let client = self.client()?;
        Ok(runtime()?.block_on(client.lines(Method::GET, path, None, each))?)
    }

    /// The same of an answer that goes on until somebody interrupts it.
    pub(super) fn follow(&self, path: &str, each: &mut dyn FnMut(Value)) -> Result<(), CommandError> {
        let client = self.client()?;
        Ok(runtime()?.block_on(client.follow(Method::GET, path, None, each))?)
    }

    /// Whether answers are for machines.
    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    /// JSON for machines, words for people.
    pub(super) fn answer(&self, answer: &Value, words: impl FnOnce(&Value) -> String) {
        if self.json {
            say_json(answer);
        } else {
            say(words(answer).trim_end());
        }
    }

    /// JSON for machines, a text of the answer for files and for people.
    pub(super) fn answer_text(&self, answer: &Value, text: impl FnOnce(&Value) -> String) {
        if self.json {
            say_json(answer);
        } else {
            say_text(text(answer).trim_end());
        }
    }
}
