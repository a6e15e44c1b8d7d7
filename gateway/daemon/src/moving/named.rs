//! Files that configurations name: they stay where they are when the data go.

use crate::owner::names;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::ops::Bound;
use std::path::{Path, PathBuf};

/// Bytes of a path, as the system has it.
const LONGEST: usize = 4_096;
/// Links on a path, as the system has it.
const LINKS: usize = 40;

/// Files and folders, and links on the way to them, without links above.
#[derive(Clone, Debug, Default)]
pub(super) struct Named(BTreeSet<PathBuf>);

impl Named {
    /// All that are there of those that a document names.
    pub(super) fn add_of(&mut self, document: &Value) {
        match document {
            Value::String(text) if text.len() < LONGEST => self.add(Path::new(text)),
            Value::Array(all) => all.iter().for_each(|value| self.add_of(value)),
            Value::Object(all) => all.values().for_each(|value| self.add_of(value)),
            _ => {}
        }
    }

    /// The same of a configuration as it is written.
    pub(super) fn add_of_toml(&mut self, text: &str) {
        if let Ok(document) = toml::from_str::<toml::Table>(text)
            && let Ok(document) = serde_json::to_value(document)
        {
            self.add_of(&document);
        }
    }

    fn add(&mut self, path: &Path) {
        let Ok(path) = std::path::absolute(path) else {
            return;
        };
        let mut at = PathBuf::new();
        let mut rest = names(&path);
        let mut links = Vec::new();
        while let Some(name) = rest.pop() {
            if name == Path::new("..") {
                at.pop();
                continue;
            }
            let next = at.join(name);
            match fs::symlink_metadata(&next) {
                Ok(found) if found.is_symlink() && links.len() < LINKS => {
                    let Ok(to) = fs::read_link(&next) else { return };
                    rest.extend(names(&to));
                    links.push(next);
                }
                Ok(_) => at = next,
                Err(_) => return,
            }
        }
        self.0.extend(links);
        self.0.insert(at);
    }

    /// Whether this is one of them.
    pub(super) fn has(&self, path: &Path) -> bool {
        self.0.contains(path)
    }

    /// Whether one of them is in this folder.
    pub(super) fn has_below(&self, folder: &Path) -> bool {
        let behind = (Bound::Excluded(folder), Bound::Unbounded);
        let mut behind = self.0.range::<Path, _>(behind);
        behind.next().is_some_and(|path| path.starts_with(folder))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::os::unix::fs::symlink;

    #[test]
    fn files_are_found_by_whatever_path_names_them() {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().canonicalize().unwrap().join(name);
        for folder in ["it's/v1", "it's/other", "b"] {
            fs::create_dir_all(path(folder)).unwrap();
        }
        for file in ["it's/v1/x.pem", "it's/key", "it's/other/y", "b/w"] {
            fs::write(path(file), "").unwrap();
        }
        symlink(path("it's"), path("link")).unwrap();
        symlink("v1", path("it's/now")).unwrap();
        symlink("now/x.pem", path("it's/x.pem")).unwrap();
        let mut named = Named::default();
        named.add_of(&json!({ "a": [path("link/x.pem")], "gone": path("it's/gone"), "n": 1 }));
        named.add_of_toml(&format!("[tls]\nkey = \"{}\"\n", path("b/../it's/key").display()));
        named.add_of_toml("no = toml = \"x\"");
        for (name, is_named) in [
            ("it's/x.pem", true),
            ("it's/now", true),
            ("it's/v1/x.pem", true),
            ("it's/key", true),
            ("it's/other/y", false),
            ("b/w", false),
        ] {
            assert_eq!(named.has(&path(name)), is_named, "{name}");
        }
        assert!(named.has_below(&path("it's/v1")) && !named.has_below(&path("it's/other")));
        assert!(!named.has_below(&path("it's/v1/x.pem")));
    }
}
