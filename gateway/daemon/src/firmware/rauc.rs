//! RAUC, which writes updates into the slot that does not run: its command line, and what that says. rauc(1), `rauc status --output-format=json`

use crate::programs::{run_and_keep, until_ended};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(60);
/// How long an installation may take, of a bundle that comes over a slow link too.
const INSTALL: Duration = Duration::from_secs(2 * 3_600);
/// Bytes of an answer.
const MOST: u64 = 1 << 20;
/// Lines of an installation that are kept for its error.
const KEPT: usize = 20;
/// Bytes of a line.
const LONGEST_LINE: u64 = 4 << 10;

/// Why RAUC did not do it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RaucError {
    /// It is not there.
    #[error("`{program}` cannot be run: {cause}")]
    Program {
        /// What is run.
        program: String,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// It said no.
    #[error("{0}")]
    Refused(String),
    /// It said nothing.
    #[error("no answer from RAUC in time")]
    Late,
    /// It said something else.
    #[error("RAUC says what cannot be read: {0}")]
    Malformed(String),
}

/// A place for a system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Slot {
    /// RAUC's name: `rootfs.0`.
    pub name: String,
    /// The boot loader's: `A`.
    pub boot_name: String,
    /// It runs.
    pub booted: bool,
    /// The boot loader tries it first.
    pub first: bool,
    /// The boot loader may try it.
    pub good: bool,
    /// The version of the bundle that was written there; none: it is as it came from the factory.
    pub version: Option<String>,
    /// When that was, as RAUC says it.
    pub installed: Option<String>,
    /// What tells one installation from all others.
    #[serde(skip)]
    pub mark: String,
}

/// What there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) compatible: String,
    pub(crate) slots: Vec<Slot>,
}

impl Status {
    /// The slot that runs.
    pub(crate) fn booted(&self) -> Option<&Slot> {
        self.slots.iter().find(|slot| slot.booted)
    }

    /// The one that does not.
    pub(crate) fn other(&self) -> Option<&Slot> {
        self.slots.iter().find(|slot| !slot.booted)
    }
}

/// What a bundle says of itself; RAUC has verified its signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct BundleInfo {
    /// The boards that it is for.
    pub compatible: String,
    /// Its version.
    pub version: Option<String>,
    /// What is new in it.
    pub description: Option<String>,
}

/// The program.
#[derive(Clone, Debug)]
pub(crate) struct Rauc(pub(crate) String);

impl Rauc {
    pub(crate) async fn status(&self) -> Result<Status, RaucError> {
        let told = self
            .ask(&["status", "--detailed", "--output-format=json"])
            .await?;
        status_of(&told)
    }

    /// Looks into a bundle: a path, or an address.
    pub(crate) async fn info(&self, bundle: &str) -> Result<BundleInfo, RaucError> {
        let told = self.ask(&["info", "--output-format=json", bundle]).await?;
        serde_json::from_str(&told).map_err(|error| RaucError::Malformed(error.to_string()))
    }

    /// `good`, `bad` or `active`; `booted` or `other`.
    pub(crate) async fn mark(&self, state: &str, slot: &str) -> Result<(), RaucError> {
        self.ask(&["status", &format!("mark-{state}"), slot])
            .await
            .map(drop)
    }

    /// Installs a bundle, and tells how far it is: percent and words.
    pub(crate) async fn install(
        &self,
        bundle: &str,
        progress: impl FnMut(u8, &str),
    ) -> Result<(), RaucError> {
        let installing = self.install_now(bundle, progress);
        timeout(INSTALL, installing).await.map_err(|_| RaucError::Late)?
    }

    async fn install_now(&self, bundle: &str, mut progress: impl FnMut(u8, &str)) -> Result<(), RaucError> {
        let mut child = self
            .command(&["install", bundle])
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|cause| self.not_run(cause))?;
        let (out, error) = (child.stdout.take(), child.stderr.take());
        let (mut told, mut complaint) = (LastLines::default(), LastLines::default());
        let ended = {
            let hears = |line: String| match progress_of(&line) {
                Some((percent, words)) => progress(percent, words),
                None => told.push(line),
            };
            let reading = async {
                tokio::join!(
                    each_line(out, hears),
                    each_line(error, |line| complaint.push(line))
                )
            };
            let ended = until_ended(&mut child, reading).await;
            ended.map_err(|cause| self.not_run(cause))?
        };
        match ended.success() {
            true => Ok(()),
            false => Err(RaucError::Refused(why(&format!(
                "{}\n{}",
                told.text(),
                complaint.text()
            )))),
        }
    }

    async fn ask(&self, words: &[&str]) -> Result<String, RaucError> {
        let mut command = self.command(words);
        let answered = timeout(ANSWER, run_and_keep(MOST, &mut command)).await;
        let ended = answered.map_err(|_| RaucError::Late)?;
        let ended = ended.map_err(|cause| self.not_run(cause))?;
        let told = String::from_utf8_lossy(&ended.stdout);
        match ended.status.success() {
            true => Ok(told.into_owned()),
            false => {
                let complaint = String::from_utf8_lossy(&ended.stderr);
                Err(RaucError::Refused(why(&format!("{told}\n{complaint}"))))
            }
        }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.0);
        command
            .args(words)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    fn not_run(&self, cause: io::Error) -> RaucError {
        RaucError::Program {
            program: self.0.clone(),
            cause,
        }
    }
}

/// The last lines of what a program says, without empty ones.
#[derive(Default)]
struct LastLines(VecDeque<String>);

impl LastLines {
    fn push(&mut self, line: String) {
        if line.trim().is_empty() {
            return;
        }
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(line);
    }

    fn text(self) -> String {
        Vec::from(self.0).concat()
    }
}

async fn each_line(from: Option<impl tokio::io::AsyncRead + Unpin>, mut hears: impl FnMut(String)) {
    let Some(from) = from else { return };
    let mut from = BufReader::new(from);
    while let Some(line) = next_line(&mut from).await {
        hears(line);
    }
}

async fn next_line(from: &mut (impl AsyncBufReadExt + Unpin)) -> Option<String> {
    let mut line = Vec::new();
    let read = (&mut *from).take(LONGEST_LINE).read_until(b'\n', &mut line).await;
    read.is_ok_and(|read| read > 0)
        .then(|| String::from_utf8_lossy(&line).into_owned())
}

/// ` 40% Determining slot states`
fn progress_of(line: &str) -> Option<(u8, &str)> {
    let (percent, words) = line.trim().split_once("% ")?;
    let percent = percent.parse().ok().filter(|percent| *percent <= 100)?;
    Some((percent, words))
}

/// The line that says why, of all that was said.
fn why(told: &str) -> String {
    let lines = || told.lines().map(str::trim).filter(|line| !line.is_empty());
    let says =
        |line: &&str| line.starts_with("LastError:") || line.contains("error") || line.contains("failed");
    let line = lines().find(says).or_else(|| lines().next_back());
    let line = line.unwrap_or("RAUC says no, and not why");
    line.trim_start_matches("LastError: ").chars().take(500).collect()
}

/// The JSON of `rauc status`.
#[derive(Deserialize)]
struct StatusJson {
    compatible: Option<String>,
    booted: Option<String>,
    boot_primary: Option<String>,
    slots: Vec<BTreeMap<String, SlotJson>>,
}

#[derive(Deserialize)]
struct SlotJson {
    bootname: Option<String>,
    state: Option<String>,
    boot_status: Option<String>,
    slot_status: Option<SlotStatusJson>,
}

#[derive(Deserialize)]
struct SlotStatusJson {
    bundle: Option<BundleJson>,
    checksum: Option<ChecksumJson>,
    installed: Option<InstalledJson>,
}

#[derive(Deserialize)]
struct BundleJson {
    version: Option<String>,
}

#[derive(Deserialize)]
struct ChecksumJson {
    sha256: String,
}

#[derive(Deserialize)]
struct InstalledJson {
    timestamp: String,
    count: u64,
}

/// Slots that can be booted, in the order of their names. RAUC itself lists them in any order, and others that belong to them.
fn status_of(told: &str) -> Result<Status, RaucError> {
    let told: StatusJson =
        serde_json::from_str(told.trim()).map_err(|error| RaucError::Malformed(error.to_string()))?;
    let mut slots: Vec<Slot> = told
        .slots
        .into_iter()
        .flatten()
        .filter_map(|(name, slot)| {
            let boot_name = slot.bootname?;
            let status = slot.slot_status;
            let (bundle, checksum, installed) = status.map_or((None, None, None), |status| {
                (status.bundle, status.checksum, status.installed)
            });
            let at = installed.as_ref();
            let mark = format!(
                "{} {} {}",
                checksum.map_or_else(String::new, |checksum| checksum.sha256),
                at.map_or("factory", |at| &at.timestamp),
                at.map_or(0, |at| at.count),
            );
            Some(Slot {
                booted: told.booted.as_deref() == Some(&boot_name) || slot.state.as_deref() == Some("booted"),
                first: told.boot_primary.as_deref() == Some(&name),
                good: slot.boot_status.as_deref() == Some("good"),
                version: bundle.and_then(|bundle| bundle.version),
                installed: installed.map(|installed| installed.timestamp),
                mark,
                name,
                boot_name,
            })
        })
        .collect();
    slots.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Status {
        compatible: told.compatible.unwrap_or_default(),
        slots,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As RAUC 1.8 says it.
    const STATUS: &str = r#"{"compatible":"headgate-qemu","variant":"","booted":"B","boot_primary":"rootfs.1","slots":[
        {"rootfs.1":{"class":"rootfs","device":"/dev/disk/by-partlabel/rootfs-B","type":"raw","bootname":"B","state":"booted","parent":null,
        "mountpoint":"/","boot_status":"good","slot_status":{"bundle":{"compatible":"headgate-qemu","version":"1.1"},
        "checksum":{"sha256":"ab","size":5},"installed":{"timestamp":"2026-11-30T06:00:00Z","count":2},"status":"ok"}}},
        {"rootfs.0":{"class":"rootfs","device":"/dev/disk/by-partlabel/rootfs-A","type":"raw","bootname":"A","state":"inactive","parent":null,
        "mountpoint":null,"boot_status":"bad","slot_status":{"bundle":{"compatible":null}}}},
        {"appfs.0":{"class":"appfs","device":"/x","type":"raw","bootname":null,"state":"inactive","parent":"rootfs.0","mountpoint":null,"boot_status":null}}]}"#;

    #[test]
    fn slots_are_read_as_rauc_says_them() {
        let status = status_of(STATUS).unwrap();
        assert_eq!(status.compatible, "headgate-qemu");
        let (booted, other) = (status.booted().unwrap(), status.other().unwrap());
        assert_eq!((&*booted.name, &*booted.boot_name), ("rootfs.1", "B"));
        assert!(booted.good && booted.first && !other.good && !other.first);
        assert_eq!(booted.version.as_deref(), Some("1.1"));
        assert_eq!(booted.mark, "ab 2026-11-30T06:00:00Z 2");
        assert_eq!((&*other.mark, other.version.as_deref()), (" factory 0", None));
        assert_eq!(status.slots.len(), 2, "what has no boot name is part of another");
        assert!(matches!(status_of("rauc: no"), Err(RaucError::Malformed(_))));
    }

    #[test]
    fn progress_and_reasons_are_found_in_what_it_says() {
        assert_eq!(
            progress_of(" 40% Checking bundle\n"),
            Some((40, "Checking bundle"))
        );
        assert_eq!(progress_of("installing"), None);
        assert_eq!(progress_of("999% x"), None);
        let told = "installing\nLastError: signature verification failed: self-signed certificate\nInstalling failed\n";
        assert_eq!(
            why(told),
            "signature verification failed: self-signed certificate"
        );
        assert_eq!(why("\n"), "RAUC says no, and not why");
    }
}
