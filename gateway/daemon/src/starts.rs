//! Why the machine, or the gateway alone, was started anew: `starts.json` in the data folder. A technician who comes days later reads it there.
//!
//! A start knows why the run before it ended: that run has written down what was asked of it, or that it stopped in order. Where it has written down nothing, the
//! machine may know (its watchdog), or nobody does: then the power was cut, or the system or the gateway was killed.

use crate::keeps::Keeps;
use crate::private;
use crate::sys::unix_time;
use headgate_auth::data_dir::{DataDir, DataPath};
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use std::sync::Arc;

const FILE: &str = "starts.json";
/// Bytes of the file that are read at all.
const LONGEST: u64 = 1 << 20;
/// Starts that are kept.
const MOST: usize = 100;

/// Why something was started anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Why {
    /// It is the first start with these data.
    First,
    /// An operator had the machine started anew.
    Reboot,
    /// A new system was installed.
    Update,
    /// An operator wanted the system of the other slot.
    OtherSlot,
    /// The system was not good, and the machine fell back.
    FallBack,
    /// No uplink was connected for long.
    Recovery,
    /// An operator had the gateway begin anew.
    Restart,
    /// The gateway was stopped in order, by its service manager or the system.
    Stopped,
    /// The hardware watchdog has reset the machine: its system hung.
    Watchdog,
    /// The machine was reset because it was too hot.
    Overheated,
    /// The machine was reset because its power was too low.
    Undervoltage,
    /// Nobody has said anything: the power was cut, or the system crashed, or the gateway was killed.
    Lost,
}

impl Why {
    /// The word for operators.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Reboot => "reboot",
            Self::Update => "update",
            Self::OtherSlot => "other_slot",
            Self::FallBack => "fall_back",
            Self::Recovery => "recovery",
            Self::Restart => "restart",
            Self::Stopped => "stopped",
            Self::Watchdog => "watchdog",
            Self::Overheated => "overheated",
            Self::Undervoltage => "undervoltage",
            Self::Lost => "lost",
        }
    }
}

/// What was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum What {
    /// The machine, and the gateway with it.
    Machine,
    /// The gateway alone.
    Gateway,
}

/// One start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Start {
    /// When, in seconds since 1970, by the clock as it was then.
    pub(crate) at: u64,
    pub(crate) what: What,
    pub(crate) why: Why,
    /// Of the gateway.
    pub(crate) version: String,
}

/// The machine, as a start finds it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Machine {
    /// Another one after each start of the machine. random(4)
    boot: String,
    /// What its watchdog says of its last reset.
    reset: Option<Why>,
}

impl Machine {
    pub(crate) fn look() -> Self {
        let text = |path: &Path| Some(fs::read_to_string(path).ok()?.trim().to_owned());
        let watchdogs = fs::read_dir("/sys/class/watchdog")
            .into_iter()
            .flatten()
            .flatten();
        let status = watchdogs.filter_map(|dog| text(&dog.path().join("bootstatus"))?.parse::<u32>().ok());
        Self {
            boot: text(Path::new("/proc/sys/kernel/random/boot_id")).unwrap_or_default(),
            reset: reset_of(status.fold(0, |all, one| all | one)),
        }
    }
}

/// By the bits of `bootstatus`: WDIOF_OVERHEAT, WDIOF_POWERUNDER, WDIOF_CARDRESET. The Linux watchdog driver API
fn reset_of(status: u32) -> Option<Why> {
    [
        (0x01, Why::Overheated),
        (0x10, Why::Undervoltage),
        (0x20, Why::Watchdog),
    ]
    .into_iter()
    .find_map(|(bit, why)| (status & bit != 0).then_some(why))
}

/// The starts that are known. Clones share them.
#[derive(Clone)]
pub(crate) struct Starts(Arc<Inner>);

struct Inner {
    path: DataPath,
    keeps: Keeps,
    kept: Mutex<Kept>,
    /// One writes at a time: what is written last is the newest.
    writing: Mutex<()>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Kept {
    running: Option<Running>,
    /// The newest is the last.
    starts: VecDeque<Start>,
}

/// The run that goes on.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Running {
    boot: String,
    /// Why it will end, as far as that is known.
    ends: Option<Why>,
}

impl Starts {
    /// Notes this start in the data folder, where that is kept.
    pub(crate) fn begin(data_dir: &DataDir, keeps: Keeps, machine: Machine) -> Self {
        let path = data_dir.join(FILE);
        let known = Some(path.now()).filter(|_| keeps.now());
        let mut kept = known.map(|path| Kept::load(&path)).unwrap_or_default();
        let start = kept.begin(machine, unix_time());
        if start.why != Why::First {
            tracing::info!(what = ?start.what, why = start.why.name(), "this start came of");
        }
        let starts = Self(Arc::new(Inner {
            path,
            keeps,
            kept: Mutex::new(kept),
            writing: Mutex::default(),
        }));
        starts.save();
        starts
    }

    /// Something is about to end this run, for this reason. The first word counts: what follows is how the system does it.
    pub(crate) fn expect(&self, why: Why) {
        let mut kept = self.0.kept.lock();
        let Some(running) = kept.running.as_mut() else {
            return;
        };
        if running.ends.is_none() {
            running.ends = Some(why);
            drop(kept);
            self.save();
        }
    }

    /// What was to end this run has not come.
    pub(crate) fn expect_nothing(&self) {
        if let Some(running) = self.0.kept.lock().running.as_mut() {
            running.ends = None;
        }
        self.save();
    }

    /// The newest first.
    pub(crate) fn all(&self) -> Vec<Start> {
        self.0.kept.lock().starts.iter().rev().cloned().collect()
    }

    /// Writes them down, where they are kept.
    pub(crate) fn save(&self) {
        if !self.0.keeps.now() {
            return;
        }
        let saved = tokio::task::block_in_place(|| {
            let _writing = self.0.writing.lock();
            let text = serde_json::to_vec(&*self.0.kept.lock());
            private::replace(&self.0.path.now(), &text?)
        });
        if let Err(error) = saved {
            let path = self.0.path.now();
            tracing::warn!(%error, path = %path.display(), "why it was started cannot be written down");
        }
    }
}

impl Kept {
    fn load(path: &Path) -> Self {
        private::read_json(path, LONGEST).unwrap_or_default()
    }

    fn begin(&mut self, machine: Machine, at: u64) -> Start {
        let (what, why) = match self.running.take() {
            None => (What::Machine, Why::First),
            // Also of a container, whose restart is none of the system below.
            Some(before) if before.boot == machine.boot => (What::Gateway, before.ends.unwrap_or(Why::Lost)),
            // A machine that was asked and hung on its way down was asked all the same. That the gateway was stopped says less than the watchdog does.
            Some(before) => {
                let stopped = before.ends == Some(Why::Stopped);
                let asked = before.ends.filter(|_| !stopped || machine.reset.is_none());
                (What::Machine, asked.or(machine.reset).unwrap_or(Why::Lost))
            }
        };
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let start = Start {
            at,
            what,
            why,
            version,
        };
        self.starts.push_back(start.clone());
        while self.starts.len() > MOST {
            self.starts.pop_front();
        }
        self.running = Some(Running {
            boot: machine.boot,
            ends: None,
        });
        start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(boot: &str, status: u32) -> Machine {
        Machine {
            boot: boot.into(),
            reset: reset_of(status),
        }
    }

    /// One gateway's data, and how each run ends: what is asked of it, and what the next start finds.
    #[test]
    fn each_start_says_why_the_run_before_it_ended() {
        let folder = tempfile::tempdir().unwrap();
        let begin = |machine| Starts::begin(&folder.path().into(), Keeps::always(), machine);
        let newest = |starts: &Starts| (starts.all()[0].what, starts.all()[0].why);
        let first = begin(machine("1", 0x20));
        assert_eq!(newest(&first), (What::Machine, Why::First));

        for (asked, next, found) in [
            (
                &[Why::Restart, Why::Stopped][..],
                machine("1", 0),
                (What::Gateway, Why::Restart),
            ),
            (&[], machine("1", 0x20), (What::Gateway, Why::Lost)),
            (&[Why::Stopped], machine("1", 0), (What::Gateway, Why::Stopped)),
            (&[Why::Stopped], machine("2", 0), (What::Machine, Why::Stopped)),
            (&[], machine("3", 0), (What::Machine, Why::Lost)),
            (&[], machine("4", 0x20), (What::Machine, Why::Watchdog)),
            (&[], machine("5", 0x11), (What::Machine, Why::Overheated)),
            (
                &[Why::Update, Why::Stopped],
                machine("6", 0),
                (What::Machine, Why::Update),
            ),
            (
                &[Why::Recovery],
                machine("7", 0x20),
                (What::Machine, Why::Recovery),
            ),
            (
                &[Why::Stopped],
                machine("8", 0x20),
                (What::Machine, Why::Watchdog),
            ),
        ] {
            // The run goes on where the last line has left it.
            let run = Starts(Arc::new(Inner {
                path: folder.path().join(FILE).into(),
                keeps: Keeps::always(),
                kept: Mutex::new(Kept::load(&folder.path().join(FILE))),
                writing: Mutex::default(),
            }));
            asked.iter().for_each(|why| run.expect(*why));
            assert_eq!(newest(&begin(next)), found);
        }
    }

    #[test]
    fn what_was_asked_and_did_not_come_is_forgotten_and_the_file_stays_small() {
        let folder = tempfile::tempdir().unwrap();
        let begin = || Starts::begin(&folder.path().into(), Keeps::always(), machine("1", 0));
        let run = begin();
        run.expect(Why::Reboot);
        run.expect_nothing();
        assert_eq!(begin().all()[0].why, Why::Lost);
        for _ in 0..2 * MOST {
            begin();
        }
        assert_eq!(begin().all().len(), MOST);

        fs::write(folder.path().join(FILE), "no JSON").unwrap();
        assert_eq!(begin().all()[0].why, Why::First);
        assert!(
            Starts::begin(&folder.path().into(), Keeps::never(), machine("1", 0))
                .all()
                .len()
                == 1
        );
    }
}
