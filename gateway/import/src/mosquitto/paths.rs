//! Paths of mosquitto.conf. They are relative to the folder in which mosquitto is started.

use crate::Files;
use crate::draft::{Draft, Of};
use std::io;
use std::path::{Path, PathBuf};

/// The file that a directive names.
pub(super) struct Named {
    pub(super) path: PathBuf,
    pub(super) is_there: bool,
    /// What should be said about it.
    pub(super) but: Option<String>,
}

impl Named {
    pub(super) fn text(&self) -> String {
        self.path.display().to_string()
    }
}

/// mosquitto takes all that is behind the name; with a comment there it would find nothing.
fn spellings(text: &str) -> Vec<String> {
    let cut = text.find(" #").or_else(|| text.find("\t#"));
    let cut = cut.map(|at| text[..at].trim_end().to_owned());
    [Some(text.to_owned()), cut].into_iter().flatten().collect()
}

/// Where it may be: in the start folder; if it is not there, perhaps beside the configuration.
fn places(draft: &Draft, of: Of, start_dir: &Path) -> Vec<(PathBuf, bool)> {
    let mut places = Vec::new();
    for (folder, is_guess) in [(start_dir.to_owned(), false), (draft.folder(of), true)] {
        for spelling in spellings(&draft.text(of)) {
            places.push((folder.join(spelling), is_guess));
        }
    }
    places
}

pub(super) fn file(draft: &Draft, files: &dyn Files, of: Of, start_dir: &Path) -> Named {
    let places = places(draft, of, start_dir);
    if let Some((path, is_guess)) = places.iter().find(|(path, _)| files.exists(path)) {
        let but = || "relative to the configuration, for it is not in the folder of the start (--start-dir)";
        return Named {
            path: path.clone(),
            is_there: true,
            but: is_guess.then(|| but().to_owned()),
        };
    }
    // The shortest spelling.
    let spelling = spellings(&draft.text(of)).pop().unwrap_or_default();
    let but = "there is no such file, and `headgate check` refuses until there is one";
    Named {
        path: start_dir.join(spelling),
        is_there: false,
        but: Some(but.to_owned()),
    }
}

/// A folder, and the files in it.
pub(super) fn folder(
    draft: &Draft,
    files: &dyn Files,
    of: Of,
    start_dir: &Path,
) -> io::Result<(PathBuf, Vec<PathBuf>)> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for (path, _) in places(draft, of, start_dir) {
        match files.list(&path) {
            Ok(names) => return Ok((path, names)),
            Err(error) => last = error,
        }
    }
    Err(last)
}
