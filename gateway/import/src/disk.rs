//! For tests: files in memory, and a look at what an import made.

use crate::{Fate, Files, Import};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Files in memory.
#[derive(Default)]
pub(crate) struct Disk(pub(crate) BTreeMap<PathBuf, Vec<u8>>);

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.0
            .get(path)
            .cloned()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn exists(&self, path: &Path) -> bool {
        self.0.contains_key(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let inside = |path: &&PathBuf| path.parent() == Some(folder);
        let found: Vec<PathBuf> = self.0.keys().filter(inside).cloned().collect();
        match found.is_empty() {
            true => Err(io::ErrorKind::NotFound.into()),
            // A file system has an order of its own.
            false => Ok(found.into_iter().rev().collect()),
        }
    }
}

/// What an import made.
pub(crate) struct Imported {
    pub(crate) import: Import,
    config: toml::Table,
    main: &'static str,
}

impl Imported {
    pub(crate) fn new(import: Import, main: &'static str) -> Self {
        let config = import.config.parse();
        let config = config.unwrap_or_else(|error| panic!("{error}: {}", import.config));
        Self { import, config, main }
    }

    /// A value by its path, `listeners.0.bind`; empty if there is none.
    pub(crate) fn at(&self, path: &str) -> String {
        let mut value = toml::Value::Table(self.config.clone());
        for step in path.split('.') {
            let next = match step.parse::<usize>() {
                Ok(n) => value.get(n).cloned(),
                Err(_) => value.get(step).cloned(),
            };
            let Some(next) = next else { return String::new() };
            value = next;
        }
        value.as_str().map_or_else(|| value.to_string(), str::to_owned)
    }

    /// How many listeners there are for what the source served, beside that of the web UI.
    pub(crate) fn listeners(&self) -> usize {
        let list = self.config.get("listeners").and_then(toml::Value::as_array);
        let of_source =
            |listener: &&toml::Value| listener.get("protocol").and_then(toml::Value::as_str) != Some("http");
        list.map_or(0, |list| list.iter().filter(of_source).count())
    }

    pub(crate) fn count(&self, path: &str) -> usize {
        let list = self.config.get(path).and_then(toml::Value::as_array);
        list.map_or(0, Vec::len)
    }

    /// What became of the directive in this line of the first file.
    pub(crate) fn line(&self, line: usize) -> String {
        let mut lines = self.import.report.lines.iter();
        let found = lines.find(|found| found.line == line && found.file == Path::new(self.main));
        found.expect("it is reported").fate.to_string()
    }

    /// What became of a directive, by how it begins.
    pub(crate) fn fate(&self, directive: &str) -> String {
        let mut lines = self.import.report.lines.iter();
        let found = lines.find(|found| found.directive.starts_with(directive));
        found
            .unwrap_or_else(|| panic!("{directive} is reported"))
            .fate
            .to_string()
    }

    pub(crate) fn users(&self) -> Vec<&str> {
        self.import
            .users
            .iter()
            .map(headgate_auth::ForeignUser::name)
            .collect()
    }

    /// Lines of directives that are not taken.
    pub(crate) fn not_taken(&self) -> Vec<usize> {
        let lines = self.import.report.lines.iter();
        let missing = lines.filter(|line| matches!(line.fate, Fate::NotTaken { .. }));
        missing.map(|line| line.line).collect()
    }
}
