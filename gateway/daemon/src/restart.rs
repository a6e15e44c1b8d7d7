//! The gateway begins anew when it is asked to: it stops as for the service manager, and then its program takes the place of itself. So what waits for a start,
//! such as a backup or a setting, needs no hand on the machine, and whatever runs the gateway need not know of it.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Asks for it. Clones ask for the same.
#[derive(Clone, Debug)]
pub(crate) struct Restart {
    wanted: CancellationToken,
    run: Arc<str>,
    /// As it was at the start: an update may have put another one there since.
    program: Option<PathBuf>,
}

impl Restart {
    /// `run`: a number that no other run of the gateway has.
    pub(crate) fn new(run: u128) -> Self {
        Self {
            wanted: CancellationToken::new(),
            run: format!("{run:032x}").into(),
            program: std::env::current_exe().ok(),
        }
    }

    /// What tells this run from the one before.
    pub(crate) fn run(&self) -> &str {
        &self.run
    }

    /// Whether there is a program to begin anew with.
    pub(crate) fn can_be(&self) -> bool {
        self.program.as_ref().is_some_and(|program| program.exists())
    }

    /// The gateway stops soon, and begins anew.
    pub(crate) fn ask(&self) {
        self.wanted.cancel();
    }

    /// Whether somebody has asked.
    pub(crate) fn is_asked(&self) -> bool {
        self.wanted.is_cancelled()
    }

    /// Ready when somebody has asked.
    pub(crate) async fn asked(&self) {
        self.wanted.cancelled().await;
    }
}

/// How this process was begun.
#[derive(Debug)]
pub(crate) struct Begun {
    program: io::Result<PathBuf>,
    arguments: Vec<OsString>,
}

impl Begun {
    /// To be asked at the start: an update may put another program in the place of this one, and that one is meant then.
    pub(crate) fn now() -> Self {
        Self {
            program: std::env::current_exe(),
            arguments: std::env::args_os().skip(1).collect(),
        }
    }

    /// Begins anew; comes back only if it cannot.
    pub(crate) fn again(self) -> io::Error {
        match self.program {
            Ok(program) => Command::new(program).args(self.arguments).exec(),
            Err(error) => error,
        }
    }
}
