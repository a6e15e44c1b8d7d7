//! A start with an earlier configuration, where this version cannot read the one that is valid.
//!
//! A machine with two systems may fall back to the one before, whose gateway is older than the configuration that was taken last: it knows some key not, or
//! some value. It must not stay away because of that. What it cannot read, and was valid once, a later version has taken: then the latest of the
//! [history](crate::history) that it can read is valid, and the file stays as it is for the later version.
//!
//! Always true: a file that nobody has taken yet is refused, as ever; so is one that this version can read, whatever else is in its way.

use crate::config::{Config, ConfigError, Startable, environment_variables};
use crate::history::History;
use crate::live::ConfigFile;
use crate::private;

/// What the gateway is started with.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) startable: Startable,
    /// As it was written.
    pub(crate) text: String,
    /// It is not what stands in the file.
    pub(crate) instead: Option<Instead>,
}

/// An earlier configuration is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Instead {
    /// Which, for whoever looks for it.
    pub(crate) name: String,
    /// What is wrong with the one in the file: the first of its faults.
    pub(crate) why: String,
}

/// Reads what the gateway is to be started with.
pub(crate) fn start(file: &ConfigFile) -> Result<Started, ConfigError> {
    let text = file.text()?;
    let refused = match read(file, &text) {
        Ok(startable) => {
            return Ok(Started {
                startable,
                text,
                instead: None,
            });
        }
        Err(error) => error,
    };
    match instead_of(file, &text) {
        Some((name, text, startable)) => {
            let why = refused.to_string();
            let why = why.lines().next().unwrap_or_default().chars().take(300).collect();
            Ok(Started {
                startable,
                text,
                instead: Some(Instead { name, why }),
            })
        }
        None => Err(refused),
    }
}

fn read(file: &ConfigFile, text: &str) -> Result<Startable, ConfigError> {
    Config::read_to_start(file.if_there(), text.to_owned(), environment_variables())
}

/// The latest that this version can be started with, if a later one has taken this text.
fn instead_of(file: &ConfigFile, text: &str) -> Option<(String, String, Startable)> {
    if Config::is_readable(file.if_there(), text.to_owned(), environment_variables()) {
        return None;
    }
    // Where that is told in a way that this version does not know, nothing can be found.
    let known = Config::load_for(&["data_dir"], file.if_there(), environment_variables());
    let (config, _) = known.ok()?;
    let kept = History::kept(&config.data_dir);
    let was_valid = kept
        .iter()
        .any(|path| private::read_text(path, private::LONGEST).is_ok_and(|kept| kept == text));
    if !was_valid {
        return None;
    }
    kept.into_iter().find_map(|path| {
        let text = private::read_text(&path, private::LONGEST).ok()?;
        let startable = read(file, &text).ok()?;
        // The history would be another one.
        (startable.config.data_dir == config.data_dir).then(|| {
            let name = path
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            (name, text, startable)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Cause;
    use std::fs;

    const KNOWN: &str = "node = \"gate\"\n";
    const LATER: &str = "node = \"gate\"\n[telepathy]\nlisten = true\n";

    struct Machine {
        folder: tempfile::TempDir,
        history: History,
    }

    impl Machine {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let history = History::load(&folder.path().join("data"));
            Self { folder, history }
        }

        fn text(&self, text: &str) -> String {
            format!(
                "data_dir = \"{}\"\n{text}",
                self.folder.path().join("data").display()
            )
        }

        fn was_valid(&mut self, text: &str) {
            let text = self.text(text);
            self.history.add(&text, Cause::Apply, Vec::new()).unwrap();
        }

        fn start(&self, text: &str) -> Result<Started, ConfigError> {
            let path = self.folder.path().join("headgate.toml");
            fs::write(&path, self.text(text)).unwrap();
            let started = start(&ConfigFile::Given(path.clone()));
            assert_eq!(
                fs::read_to_string(&path).unwrap(),
                self.text(text),
                "the file stays"
            );
            started
        }
    }

    #[test]
    fn what_a_later_version_has_taken_gives_way_to_what_this_one_can_read() {
        let mut machine = Machine::new();
        machine.was_valid(KNOWN);
        machine.was_valid("node = \"gate-2\"\n");
        machine.was_valid(LATER);
        let started = machine.start(LATER).unwrap();
        assert_eq!(started.startable.config.node, "gate-2");
        let instead = started.instead.unwrap();
        assert_eq!(instead.name, "2");
        assert!(instead.why.contains("telepathy"), "{instead:?}");
        // The list is of no account: a later version may have another one.
        fs::write(machine.folder.path().join("data/configurations/list.json"), "{}").unwrap();
        assert_eq!(machine.start(LATER).unwrap().startable.config.node, "gate-2");
    }

    #[test]
    fn what_nobody_has_taken_is_refused() {
        let mut machine = Machine::new();
        machine.was_valid(KNOWN);
        let error = machine.start(LATER).unwrap_err().to_string();
        assert!(error.contains("telepathy"), "{error}");
        assert_eq!(machine.start(KNOWN).unwrap().instead, None);
    }

    /// A certificate that is gone is no matter of versions: the gateway that lacks a listener does not start.
    #[test]
    fn what_this_version_can_read_is_refused_if_something_is_in_its_way() {
        let mut machine = Machine::new();
        machine.was_valid(KNOWN);
        let gone = "[auth]\nacl_file = { path = \"gone.acl\", format = \"mosquitto\" }\n";
        machine.was_valid(gone);
        let error = machine.start(gone).unwrap_err().to_string();
        assert!(error.contains("gone.acl"), "{error}");
    }

    /// So many changes by a later version that the history has none of this version's any more.
    #[test]
    fn what_this_version_had_last_is_kept_apart() {
        let mut machine = Machine::new();
        machine.was_valid(KNOWN);
        let own = machine.text(KNOWN);
        machine.history.keep_for("0.1.0", &own).unwrap();
        for n in 0..60 {
            machine.was_valid(&format!("{LATER}# {n}\n"));
        }
        let text = format!("{LATER}# 59\n");
        let started = machine.start(&text).unwrap();
        assert_eq!(started.instead.unwrap().name, "of-0.1.0");
        // Of so many versions, the ones of before.
        for version in ["1.0.0", "1.1.0", "1.2.0", "1.3.0"] {
            machine.history.keep_for(version, "x").unwrap();
        }
        assert!(machine.start(&text).is_err());
    }
}
