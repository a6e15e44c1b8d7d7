//! The lines of mosquitto.conf, and what each belongs to: all, a listener, a bridge. mosquitto.conf(5), and conf.c where it says nothing.

use super::directives::{self, Scope};
use crate::draft::{Directive, Draft, Of};
use crate::{Files, ImportError};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Directives by their names of today, in the order in which they were read.
#[derive(Default)]
pub(super) struct Section(BTreeMap<String, Vec<Of>>);

impl Section {
    pub(super) fn all(&self, name: &str) -> Vec<Of> {
        self.0.get(name).cloned().unwrap_or_default()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The one that holds.
    pub(super) fn last(&self, draft: &mut Draft, name: &str) -> Option<Of> {
        draft.last(&self.all(name))
    }

    pub(super) fn every(&self) -> impl Iterator<Item = Of> {
        self.0.values().flatten().copied()
    }

    fn add(&mut self, name: &str, of: Of) {
        self.0.entry(name.to_owned()).or_default().push(of);
    }
}

/// A listener: what belongs to it, and what of it is about access.
#[derive(Default)]
pub(super) struct ListenerLines {
    /// Where it begins; none for the default listener.
    pub(super) begins: Option<Of>,
    pub(super) own: Section,
    pub(super) security: Section,
}

pub(super) struct BridgeLines {
    pub(super) begins: Of,
    pub(super) own: Section,
}

/// All lines, sorted.
#[derive(Default)]
pub(super) struct Lines {
    pub(super) global: Section,
    /// The default listener is the first.
    pub(super) listeners: Vec<ListenerLines>,
    pub(super) bridges: Vec<BridgeLines>,
    /// What `plugin_opt_…` and the like say.
    pub(super) plugin_options: Vec<Of>,
    /// Outside of any bridge.
    pub(super) stray: Vec<Of>,
}

impl Lines {
    /// What is said of access at all listeners, as one.
    pub(super) fn all_security(&self) -> Section {
        let mut all = Section::default();
        for listener in &self.listeners {
            for (name, of) in &listener.security.0 {
                all.0.entry(name.clone()).or_default().extend(of);
            }
        }
        all.0.values_mut().for_each(|of| of.sort_unstable());
        all
    }

    pub(super) fn read(
        draft: &mut Draft,
        files: &dyn Files,
        path: &Path,
        start_dir: &Path,
    ) -> Result<Self, ImportError> {
        let mut lines = Self {
            listeners: vec![ListenerLines::default()],
            ..Self::default()
        };
        lines.file(draft, files, path, Some(start_dir))?;
        Ok(lines)
    }

    /// Reads one file. Others are included by the first alone, from folders relative to `start_dir`.
    fn file(
        &mut self,
        draft: &mut Draft,
        files: &dyn Files,
        path: &Path,
        start_dir: Option<&Path>,
    ) -> Result<(), ImportError> {
        let read = |cause| ImportError::Read {
            path: path.to_owned(),
            cause,
        };
        let bytes = files.read(path).map_err(read)?;
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        let file: Arc<Path> = path.into();
        // Every file begins at the default listener, and outside of a bridge.
        let (mut listener, mut bridge) = (0, None);
        for (line, text) in (1..).zip(String::from_utf8_lossy(bytes).split('\n')) {
            let text = text.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let (name, value) = text.split_once([' ', '\t']).unwrap_or((text, ""));
            let today = directives::today(name);
            let of = draft.add(Directive {
                file: Arc::clone(&file),
                line,
                name: name.to_owned(),
                value: value.trim().to_owned(),
                between: " ",
                is_secret: directives::is_secret(name),
            });
            match directives::scope(today) {
                Scope::Listener if today == "listener" => {
                    self.listeners.push(ListenerLines {
                        begins: Some(of),
                        ..ListenerLines::default()
                    });
                    listener = self.listeners.len() - 1;
                }
                // They are of the default listener, wherever they stand; what follows is not.
                Scope::Listener if matches!(today, "port" | "bind_address") => {
                    self.listeners[0].own.add(today, of);
                }
                Scope::Listener => self.listeners[listener].own.add(today, of),
                Scope::Security => self.listeners[listener].security.add(today, of),
                Scope::Bridge if today == "connection" => {
                    self.bridges.push(BridgeLines {
                        begins: of,
                        own: Section::default(),
                    });
                    bridge = Some(self.bridges.len() - 1);
                }
                Scope::Bridge => match bridge {
                    Some(n) => self.bridges[n].own.add(today, of),
                    None => self.stray.push(of),
                },
                Scope::PluginOption => self.plugin_options.push(of),
                Scope::Global if today == "include_dir" => {
                    self.include(draft, files, of, start_dir)?;
                }
                Scope::Global => self.global.add(today, of),
            }
        }
        Ok(())
    }

    fn include(
        &mut self,
        draft: &mut Draft,
        files: &dyn Files,
        of: Of,
        start_dir: Option<&Path>,
    ) -> Result<(), ImportError> {
        let Some(start_dir) = start_dir else {
            draft.meaningless(of, "mosquitto includes folders from the first file alone");
            return Ok(());
        };
        let found = super::paths::folder(draft, files, of, start_dir);
        let Ok((folder, mut names)) = found else {
            let because = "the folder cannot be read";
            draft.not_taken(of, because, "Import again when it is there, or with --start-dir.");
            return Ok(());
        };
        names.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
        names.sort_by_key(|path| order(path));
        let shown: Vec<String> = names.iter().map(|path| file_name(path)).collect();
        for path in names {
            self.file(draft, files, &path, None)?;
        }
        draft.is_so(of);
        let read = if shown.is_empty() {
            "no file that ends in .conf".to_owned()
        } else {
            shown.join(", ")
        };
        draft.but(of, format!("read from {}: {read}", folder.display()));
        Ok(())
    }
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// Alphabetically, and of the same letter the upper case first.
fn order(path: &Path) -> (String, PathBuf) {
    (file_name(path).to_lowercase(), path.to_owned())
}
