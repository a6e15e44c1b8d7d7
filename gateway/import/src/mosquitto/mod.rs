//! mosquitto.conf, as mosquitto 2 reads it, or 1.
//!
//! What mosquitto says by leaving something out is said here: without a listener it serves this machine alone, with one nobody without a name; without an
//! `acl_file` everything is allowed.

mod access;
mod bridges;
mod directives;
mod global;
mod listener_tls;
mod listeners;
mod paths;
mod read;
#[cfg(test)]
mod tests;
mod values;

use crate::draft::{Draft, Of, WEB};
use crate::value::{Table, Value};
use crate::{Files, Import, ImportError, Target};
use directives::Known;
use read::Lines;
use std::path::{Path, PathBuf};

/// Which mosquitto the file was written for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// 1.x: without a listener every interface is served, and clients without a name are let in unless there is a file of passwords, a plugin or a PSK file.
    One,
    /// 2.x: without a listener this machine alone is served; otherwise clients without a name are let in only by `allow_anonymous true`.
    #[default]
    Two,
}

/// What is not in the file.
#[derive(Clone, Debug)]
pub struct Options {
    /// The folder in which mosquitto is started: paths are relative to it.
    pub start_dir: PathBuf,
    /// Whose defaults hold.
    pub version: Version,
}

/// Names of directives that are known, for the documents.
pub fn directives() -> impl Iterator<Item = &'static str> {
    directives::DIRECTIVES.iter().map(|(name, ..)| *name)
}

/// Reads mosquitto.conf and what it includes.
pub fn import(
    files: &dyn Files,
    path: &Path,
    options: &Options,
    target: &Target,
) -> Result<Import, ImportError> {
    let mut draft = Draft::default();
    draft
        .config
        .set("data_dir", target.data_dir.display().to_string());
    let lines = Lines::read(&mut draft, files, path, &options.start_dir)?;
    let mut source = Source {
        draft,
        files,
        options,
        target,
        per_listener: false,
    };
    source.whole(&lines);
    let head = format!(
        "# Made by `headgate import mosquitto {}`. docs/configuration.md explains each setting.\n",
        path.display()
    );
    source.draft.finish(&head)
}

/// What the parts of the import share.
struct Source<'a> {
    draft: Draft,
    files: &'a dyn Files,
    options: &'a Options,
    target: &'a Target,
    per_listener: bool,
}

impl Source<'_> {
    fn whole(&mut self, lines: &Lines) {
        self.plain(lines);
        if let Some(of) = lines.global.last(&mut self.draft, "per_listener_settings")
            && let Some(on) = values::flag(&mut self.draft, of)
        {
            self.per_listener = on;
            self.draft.is_so(of);
            let how = if on {
                "what is said of access belongs to the listener before it: auth.listeners"
            } else {
                "what is said of access holds for all listeners"
            };
            self.draft.but(of, how);
        }
        self.bridge_names(lines);
        for list in self.target.datagram_lists {
            self.draft.config.set(list, Value::List(Vec::new()));
        }
        self.global(&lines.global);
        let listeners = self.listeners(lines);
        self.access(lines, &listeners);
        self.web_listener();
        self.bridges(lines);
        self.differences();
    }

    /// What needs no look at the value.
    fn plain(&mut self, lines: &Lines) {
        let listeners = lines.listeners.iter();
        let listeners = listeners.flat_map(|listener| listener.own.every().chain(listener.security.every()));
        let bridges = lines.bridges.iter().flat_map(|bridge| bridge.own.every());
        let all: Vec<Of> = lines.global.every().chain(listeners).chain(bridges).collect();
        for of in all {
            let today = directives::today(self.draft.name(of)).to_owned();
            match directives::known(&today) {
                Some(Known::Nothing(because)) => self.draft.meaningless(of, because),
                Some(Known::Missing(because, todo)) => self.draft.not_taken(of, because, todo),
                Some(Known::Read) | None => {}
            }
        }
        for of in &lines.stray {
            let todo = "mosquitto does not start with it.";
            self.draft
                .not_taken(*of, "it is of a bridge, and there is none before it", todo);
        }
    }

    fn web_listener(&mut self) {
        let is_there = self.draft.add_web_listener();
        if is_there && self.per_listener {
            self.shut_to_clients(WEB);
        }
    }

    fn differences(&mut self) {
        for what in [
            "mqtt.max_packet_size is 1 MiB where the source says nothing (mosquitto 2.0: no limit)",
            "sessions without a user name end 30 days after the client left: bus.max_anonymous_session_expiry",
        ] {
            self.draft.remark(what);
        }
    }

    /// A flag that is said by a setting.
    fn flag(&mut self, of: Option<Of>, setting: &str) {
        if let Some(of) = of
            && let Some(on) = values::flag(&mut self.draft, of)
        {
            self.draft.set(of, setting, on);
        }
    }

    /// A number that is said by a setting, in these bounds.
    fn number(&mut self, of: Option<Of>, setting: &str, least: i64, most: i64) {
        if let Some(of) = of
            && let Some(number) = values::number(&mut self.draft, of, least, most)
        {
            self.draft.set(of, setting, number);
        }
    }

    fn path(&mut self, of: Of) -> paths::Named {
        paths::file(&self.draft, self.files, of, &self.options.start_dir)
    }

    /// A path in a table that is put into the configuration later.
    fn set_path(&mut self, of: Of, table: &mut Table, place: &str, setting: &str) {
        let named = self.path(of);
        self.draft.set_in(of, table, place, setting, named.text());
        if let Some(but) = named.but {
            self.draft.but(of, but);
        }
    }
}
