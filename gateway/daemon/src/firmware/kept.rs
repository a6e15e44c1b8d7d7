//! What is kept of updates from system to system: `firmware.json` in the data folder, which all systems have in common.
//!
//! Always true: the file is there whole, as it was or as it is. A file that cannot be read is as none: then the system is on trial, with nothing to reach.

use crate::private;
use headgate_auth::data_dir::DataDir;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io;

const FILE: &str = "firmware.json";
/// Bytes of the file.
const MOST: u64 = 1 << 20;

/// The content of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Kept {
    /// Installations that were found good, by the names of their slots.
    pub(super) good: std::collections::BTreeMap<String, String>,
    /// Bridges that the last good system had connected.
    pub(super) uplinks: BTreeSet<String>,
    /// The last system that was not good.
    pub(super) fell_back: Option<FellBack>,
}

/// A system that was not good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct FellBack {
    /// Its slot, by the boot loader's name.
    pub slot: String,
    /// Its version.
    pub version: Option<String>,
    /// What was missing.
    pub missing: Vec<String>,
    /// When that was found, in seconds since 1970.
    pub at: u64,
}

impl Kept {
    pub(super) fn load(data_dir: &DataDir) -> Self {
        private::read_json(&data_dir.join(FILE).now(), MOST).unwrap_or_default()
    }

    pub(super) fn save(&self, data_dir: &DataDir) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(self)?;
        private::replace(&data_dir.join(FILE).now(), &text)
    }
}
