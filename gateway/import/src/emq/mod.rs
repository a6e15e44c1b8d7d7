//! emq.conf of EMQ 2, acl.conf, and the files of the plugins that are loaded. emq.schema of EMQ 2.3, and the names of 2.0 to 2.2.
//!
//! A plugin whose file is there says nothing while it is not loaded. One that decides who may come in and is none that is spoken here keeps all doors shut.

mod access;
mod broker;
mod conf;
mod keys;
mod listeners;
mod lwm2m;
mod places;
mod plugins;
mod protocols;
#[cfg(test)]
mod tests;
mod values;

use crate::draft::{Draft, Of};
use crate::value::Value;
use crate::{Files, Import, ImportError, Target};
use conf::{Conf, Plugins};
use places::Places;
use std::path::Path;

/// Patterns of all keys that are known, `listener.tcp.$name.backlog` for instance, for the documents.
pub fn keys() -> impl Iterator<Item = &'static str> {
    keys::KEYS.iter().map(|(name, _)| *name)
}

/// Reads emq.conf, or that in a folder or its `etc`, and what it names. `loaded` is the list of plugins that are loaded, if it is not where emq.conf says.
pub fn import(
    files: &dyn Files,
    path: &Path,
    loaded: Option<&Path>,
    target: &Target,
) -> Result<Import, ImportError> {
    let mut draft = Draft::default();
    draft
        .config
        .set("data_dir", target.data_dir.display().to_string());
    let path = places::main_file(files, path)?;
    let conf = Conf::read(&mut draft, files, &path)?;
    let places = Places::new(&path);
    let plugins = Plugins::read(&mut draft, files, &conf, &places, loaded)?;
    let mut source = Source {
        draft,
        files,
        target,
        places,
        conf,
        plugins,
        is_shut: false,
    };
    source.whole();
    let head = format!(
        "# Made by `headgate import emq {}`. docs/configuration.md explains each setting.\n",
        path.display()
    );
    source.draft.finish(&head)
}

/// What the parts of the import share.
struct Source<'a> {
    draft: Draft,
    files: &'a dyn Files,
    target: &'a Target,
    places: Places,
    conf: Conf,
    plugins: Plugins,
    /// Nobody comes in, for who may is decided by something that cannot be asked.
    is_shut: bool,
}

impl Source<'_> {
    fn whole(&mut self) {
        self.plain();
        self.draft.config.set("listeners", Value::List(Vec::new()));
        for list in self.target.datagram_lists {
            self.draft.config.set(list, Value::List(Vec::new()));
        }
        self.broker();
        self.loaded_plugins();
        self.listeners();
        self.draft.add_web_listener();
        self.access();
    }

    /// What needs no look at the value.
    fn plain(&mut self) {
        let all: Vec<(String, Of)> = self.conf.every();
        for (key, of) in all {
            match keys::known(&key) {
                Some(keys::Known::Nothing(because)) => self.draft.meaningless(of, because),
                Some(keys::Known::Missing(because, todo)) => self.draft.not_taken(of, because, todo),
                Some(keys::Known::Read) | None => {}
            }
        }
    }

    /// The directive that holds for a key of emq.conf, with its value.
    fn last(&mut self, key: &str) -> Option<(Of, String)> {
        let of = self.draft.last(&self.conf.all(key))?;
        Some((of, self.draft.text(of)))
    }
}
