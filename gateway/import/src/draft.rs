//! The new configuration while it is made, and what became of each directive so far.

use crate::report::{Fate, Line, Report};
use crate::value::{Table, Value};
use crate::{Import, ImportError, SecretFile, Target};
use headgate_auth::{ForeignUser, UserFault};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A line of the source that says something.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Directive {
    pub(crate) file: Arc<Path>,
    /// From 1.
    pub(crate) line: usize,
    /// As written.
    pub(crate) name: String,
    /// What is behind it, without blanks around.
    pub(crate) value: String,
    /// What stands between the two in a report.
    pub(crate) between: &'static str,
    /// Nobody may read it in a report.
    pub(crate) is_secret: bool,
}

impl Directive {
    fn place(&self) -> String {
        format!("{}:{}", self.file.display(), self.line)
    }

    fn shown(&self) -> String {
        let value = if self.is_secret {
            "(not shown)"
        } else {
            &self.value
        };
        format!("{}{}{value}", self.name, self.between)
            .trim_end()
            .to_owned()
    }
}

/// The listener of the web UI and of the HTTP API, and its port, as a gateway without a configuration has them.
pub(crate) const WEB: &str = "http";
const WEB_PORT: &str = "18083";

/// A directive by its place in the draft.
pub(crate) type Of = usize;

#[derive(Default)]
pub(crate) struct Draft {
    pub(crate) config: Table,
    directives: Vec<Directive>,
    fates: Vec<Option<Fate>>,
    remarks: Vec<String>,
    users: BTreeMap<String, ForeignUser>,
    secrets: Vec<SecretFile>,
    has_secrets: bool,
}

impl Draft {
    pub(crate) fn add(&mut self, directive: Directive) -> Of {
        self.directives.push(directive);
        self.fates.push(None);
        self.directives.len() - 1
    }

    pub(crate) fn name(&self, of: Of) -> &str {
        &self.directives[of].name
    }

    pub(crate) fn text(&self, of: Of) -> String {
        self.directives[of].value.clone()
    }

    pub(crate) fn place(&self, of: Of) -> String {
        self.directives[of].place()
    }

    /// The folder of the file in which it stands.
    pub(crate) fn folder(&self, of: Of) -> PathBuf {
        self.directives[of]
            .file
            .parent()
            .unwrap_or(Path::new(""))
            .to_owned()
    }

    /// A setting of the new configuration stands for the directive.
    pub(crate) fn set(&mut self, of: Of, path: &str, value: impl Into<Value>) {
        let value = value.into();
        self.taken(of, format!("{path} = {value}"));
        self.config.set(path, value);
    }

    /// The same in a table that is put into the configuration later, below `place`.
    pub(crate) fn set_in(
        &mut self,
        of: Of,
        table: &mut Table,
        place: &str,
        path: &str,
        value: impl Into<Value>,
    ) {
        let value = value.into();
        self.taken(of, format!("{place}.{path} = {value}"));
        table.set(path, value);
    }

    pub(crate) fn taken(&mut self, of: Of, setting: String) {
        match &mut self.fates[of] {
            Some(Fate::Taken { settings, .. }) => settings.push(setting),
            Some(Fate::NotTaken { .. }) => {}
            fate => {
                *fate = Some(Fate::Taken {
                    settings: vec![setting],
                    remark: None,
                });
            }
        }
    }

    /// It is so without a setting.
    pub(crate) fn is_so(&mut self, of: Of) {
        self.fates[of].get_or_insert(Fate::Taken {
            settings: Vec::new(),
            remark: None,
        });
    }

    /// What is not quite the same about a directive that is taken.
    pub(crate) fn but(&mut self, of: Of, what: impl Into<String>) {
        self.is_so(of);
        if let Some(Fate::Taken { remark, .. }) = &mut self.fates[of] {
            let what = what.into();
            *remark = Some(match remark.take() {
                Some(before) => format!("{before}; {what}"),
                None => what,
            });
        }
    }

    pub(crate) fn meaningless(&mut self, of: Of, because: impl Into<String>) {
        let because = because.into();
        self.fates[of].get_or_insert(Fate::Meaningless { because });
    }

    pub(crate) fn not_taken(&mut self, of: Of, because: impl Into<String>, todo: impl Into<String>) {
        let (because, todo) = (because.into(), todo.into());
        self.fates[of] = Some(Fate::NotTaken { because, todo });
    }

    pub(crate) fn has_fate(&self, of: Of) -> bool {
        self.fates[of].is_some()
    }

    pub(crate) fn remark(&mut self, what: impl Into<String>) {
        self.remarks.push(what.into());
    }

    /// Of several directives the last one; those before it are overruled.
    pub(crate) fn last(&mut self, all: &[Of]) -> Option<Of> {
        let (last, others) = all.split_last()?;
        for other in others {
            let by = self.place(*last);
            self.meaningless(*other, format!("{by} overrules it"));
        }
        Some(*last)
    }

    /// Takes users over. Their names, and what is wrong with others.
    pub(crate) fn take_users(
        &mut self,
        rows: Vec<(u64, Result<ForeignUser, UserFault>)>,
    ) -> (Vec<String>, Vec<String>) {
        let (mut names, mut faults) = (Vec::new(), Vec::new());
        for (line, row) in rows {
            match row {
                Ok(user) if self.users.get(user.name()).is_some_and(|other| *other != user) => {
                    faults.push(format!(
                        "line {line}: `{}` has another password elsewhere",
                        user.name()
                    ));
                }
                Ok(user) => {
                    names.push(user.name().to_owned());
                    self.users.insert(user.name().to_owned(), user);
                }
                Err(fault) => faults.push(format!("line {line}: {fault}")),
            }
        }
        (names, faults)
    }

    /// A file that holds a secret, for a setting that names it.
    pub(crate) fn secret_file(&mut self, target: &Target, name: &str, secret: &str) -> String {
        let safe = |c: char| {
            if c.is_ascii_alphanumeric() || "-_.".contains(c) {
                c
            } else {
                '-'
            }
        };
        let mut name: String = name.chars().map(safe).collect();
        while self.secrets.iter().any(|file| file.path.ends_with(&name)) {
            name.push('2');
        }
        let path = target.secrets_dir.join(name);
        let shown = path.display().to_string();
        let content = format!("{secret}\n");
        self.secrets.push(SecretFile { path, content });
        shown
    }

    /// A secret goes into the configuration itself: the report names its setting alone.
    pub(crate) fn hide_in(&mut self, of: Of, table: &mut Table, place: &str, path: &str, secret: &str) {
        self.has_secrets = true;
        self.taken(of, format!("{place}.{path} (not shown)"));
        table.set(path, secret);
    }

    /// Puts the web UI and the HTTP API on loopback: the listeners of the source take the place of all that are there without a configuration. Whether it
    /// did: the source may have the port.
    pub(crate) fn add_web_listener(&mut self) -> bool {
        if let Some(other) = self.listener_at(WEB_PORT) {
            self.remark(format!(
                "there is no web UI and no HTTP API: listeners.{other} has their usual port {WEB_PORT}; write a listener with protocol = \"http\" and another port"
            ));
            return false;
        }
        let bind = format!("127.0.0.1:{WEB_PORT}");
        self.remark(format!(
            "listeners.{WEB}.bind = \"{bind}\": the web UI and the HTTP API are there, for this machine alone, as without a configuration"
        ));
        let mut table = Table::default();
        table.set("name", WEB);
        table.set("protocol", "http");
        table.set("bind", bind);
        self.config.push("listeners", table);
        true
    }

    /// The name of a listener on this port.
    fn listener_at(&self, port: &str) -> Option<String> {
        let Some(Value::List(listeners)) = self.config.get("listeners") else {
            return None;
        };
        let text = |table: &Table, key: &str| match table.get(key) {
            Some(Value::Text(text)) => text.clone(),
            _ => String::new(),
        };
        listeners.iter().find_map(|listener| match listener {
            Value::Table(table) if text(table, "bind").rsplit(':').next() == Some(port) => {
                Some(text(table, "name"))
            }
            _ => None,
        })
    }

    pub(crate) fn finish(mut self, head: &str) -> Result<Import, ImportError> {
        let text = toml::to_string(&self.config)?;
        let unknown = || Fate::NotTaken {
            because: "no directive of this name is known".to_owned(),
            todo: "Look for what it was meant for in docs/configuration.md.".to_owned(),
        };
        let lines = self.directives.iter().zip(self.fates.drain(..));
        let lines = lines.map(|(directive, fate)| Line {
            file: directive.file.to_path_buf(),
            line: directive.line,
            directive: directive.shown(),
            fate: fate.unwrap_or_else(unknown),
        });
        Ok(Import {
            config: format!("{head}\n{text}"),
            has_secrets: self.has_secrets,
            users: self.users.into_values().collect(),
            secrets: self.secrets,
            report: Report {
                lines: lines.collect(),
                remarks: self.remarks,
            },
        })
    }
}

/// `1 user`, `2 users`.
pub(crate) fn users(count: usize) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} user{s}")
}
