//! Where the files of EMQ are.

use crate::{Files, ImportError};
use std::io;
use std::path::{Path, PathBuf};

/// The folders that paths in emq.conf begin with.
pub(super) struct Places {
    /// That of emq.conf.
    etc: PathBuf,
    /// That above it, in which EMQ is started.
    root: PathBuf,
}

/// emq.conf itself.
pub(super) fn main_file(files: &dyn Files, path: &Path) -> Result<PathBuf, ImportError> {
    let places = ["", "emq.conf", "etc/emq.conf", "emqttd.conf"];
    let found = places.iter().map(|place| match place.is_empty() {
        true => path.to_owned(),
        false => path.join(place),
    });
    let mut found = found.filter(|path| files.exists(path));
    found.next().ok_or_else(|| ImportError::Read {
        path: path.to_owned(),
        cause: io::Error::new(
            io::ErrorKind::NotFound,
            "it is no emq.conf, and there is none in it",
        ),
    })
}

impl Places {
    pub(super) fn new(main: &Path) -> Self {
        let etc = main.parent().unwrap_or(Path::new("")).to_owned();
        let root = etc.parent().unwrap_or(Path::new("")).to_owned();
        Self { etc, root }
    }

    /// A path as emq.conf writes it: relative to the folder above `etc`, or with a place that the package would have filled in.
    pub(super) fn path(&self, text: &str) -> PathBuf {
        for (name, folder) in [
            ("platform_etc_dir", self.etc.clone()),
            ("platform_data_dir", self.root.join("data")),
            ("platform_log_dir", self.root.join("log")),
            ("platform_lib_dir", self.root.join("lib")),
        ] {
            let rest = text.strip_prefix("{{").map(str::trim_start);
            let rest = rest.and_then(|rest| rest.strip_prefix(name)).map(str::trim_start);
            if let Some(rest) = rest.and_then(|rest| rest.strip_prefix("}}")) {
                return folder.join(rest.trim_start_matches('/'));
            }
        }
        self.root.join(text)
    }

    pub(super) fn plugins(&self) -> PathBuf {
        self.etc.join("plugins")
    }

    pub(super) fn loaded_plugins(&self) -> PathBuf {
        self.root.join("data/loaded_plugins")
    }
}

/// Whether a package was to fill something in.
pub(super) fn is_template(text: &str) -> bool {
    text.contains("{{")
}
