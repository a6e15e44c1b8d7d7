//! The lines of emq.conf and of the plugins' files: `key = value`, where `#` begins a comment wherever it stands.

use super::keys;
use super::places::Places;
use crate::draft::{Directive, Draft, Of};
use crate::{Files, ImportError};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Directives by their keys of today.
#[derive(Default)]
pub(super) struct Conf {
    by_key: BTreeMap<String, Vec<Of>>,
    /// Keys in the order in which they came first.
    order: Vec<String>,
}

impl Conf {
    pub(super) fn read(draft: &mut Draft, files: &dyn Files, path: &Path) -> Result<Self, ImportError> {
        let bytes = files.read(path).map_err(|cause| ImportError::Read {
            path: path.to_owned(),
            cause,
        })?;
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        let (file, mut conf): (Arc<Path>, _) = (path.into(), Self::default());
        for (line, text) in (1..).zip(String::from_utf8_lossy(bytes).split('\n')) {
            let text = text.split('#').next().unwrap_or_default().trim();
            if text.is_empty() {
                continue;
            }
            let (key, value, between) = match text.split_once('=') {
                Some((key, value)) => (key.trim(), value.trim(), " = "),
                None => (text, "", ""),
            };
            let of = draft.add(Directive {
                file: Arc::clone(&file),
                line,
                name: key.to_owned(),
                value: value.to_owned(),
                between,
                is_secret: keys::is_secret(key) || value.contains('@') && value.contains("://"),
            });
            conf.add(keys::today(key), of);
        }
        Ok(conf)
    }

    fn add(&mut self, key: String, of: Of) {
        if !self.by_key.contains_key(&key) {
            self.order.push(key.clone());
        }
        self.by_key.entry(key).or_default().push(of);
    }

    pub(super) fn all(&self, key: &str) -> Vec<Of> {
        self.by_key.get(key).cloned().unwrap_or_default()
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.by_key.contains_key(key)
    }

    pub(super) fn every(&self) -> Vec<(String, Of)> {
        let pairs = self.by_key.iter();
        let pairs = pairs.flat_map(|(key, all)| all.iter().map(|of| (key.clone(), *of)));
        pairs.collect()
    }

    /// Keys that begin so, without that, in their order.
    pub(super) fn below(&self, prefix: &str) -> Vec<String> {
        let rest = self.order.iter().filter_map(|key| key.strip_prefix(prefix));
        rest.map(str::to_owned).collect()
    }
}

/// The plugins: which are loaded, and what their files say.
pub(super) struct Plugins {
    /// Where each stands in the list; `None` if there is no list.
    pub(super) loaded: Option<BTreeMap<String, Of>>,
    /// The list.
    pub(super) list: PathBuf,
    pub(super) files: BTreeMap<String, Conf>,
}

impl Plugins {
    pub(super) fn read(
        draft: &mut Draft,
        files: &dyn Files,
        conf: &Conf,
        places: &Places,
        loaded: Option<&Path>,
    ) -> Result<Self, ImportError> {
        let mut named = |key: &str| {
            let of = draft.last(&conf.all(key))?;
            draft.meaningless(of, "the import looks there");
            Some(places.path(&draft.text(of)))
        };
        let folder = named("mqtt.plugins.etc_dir").filter(|folder| files.list(folder).is_ok());
        let folder = folder.unwrap_or_else(|| places.plugins());
        let told = named("mqtt.plugins.loaded_file").filter(|path| files.exists(path));
        let list = match loaded {
            Some(path) => path.to_owned(),
            None => told.unwrap_or_else(|| places.loaded_plugins()),
        };
        let is_there = loaded.is_some() || files.exists(&list);
        let loaded = is_there.then(|| read_list(draft, files, &list)).transpose()?;
        let mut plugins = BTreeMap::new();
        let mut found = files.list(&folder).unwrap_or_default();
        found.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
        for path in found.into_iter().collect::<BTreeSet<PathBuf>>() {
            let name = path
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            plugins.insert(name, Conf::read(draft, files, &path)?);
        }
        Ok(Self {
            loaded,
            list,
            files: plugins,
        })
    }

    /// Where it stands in the list.
    pub(super) fn is_loaded(&self, name: &str) -> Option<Of> {
        self.loaded.as_ref()?.get(name).copied()
    }
}

/// `emq_modules.` in each line, as Erlang writes it.
fn read_list(draft: &mut Draft, files: &dyn Files, path: &Path) -> Result<BTreeMap<String, Of>, ImportError> {
    let bytes = files.read(path).map_err(|cause| ImportError::Read {
        path: path.to_owned(),
        cause,
    })?;
    let (file, mut loaded): (Arc<Path>, _) = (path.into(), BTreeMap::new());
    for (line, text) in (1..).zip(String::from_utf8_lossy(&bytes).split('\n')) {
        let text = text.split('%').next().unwrap_or_default();
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        for name in text.split(|c| !is_part(c)).filter(|name| !name.is_empty()) {
            let of = draft.add(Directive {
                file: Arc::clone(&file),
                line,
                name: name.to_owned(),
                value: String::new(),
                between: "",
                is_secret: false,
            });
            if let Some(before) = loaded.insert(name.to_owned(), of) {
                draft.meaningless(before, "it stands there twice");
            }
        }
    }
    Ok(loaded)
}
