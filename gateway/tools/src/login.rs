//! By which name a client logs in: arguments that `pub`, `sub`, `stomp-pub` and `stomp-sub` have.

use crate::connection::read;
use clap::Args;
use headgate_client::ClientError;
use std::path::{Path, PathBuf};

/// User name and password.
#[derive(Args)]
pub(crate) struct LoginArgs {
    /// User name.
    #[arg(short, long, value_name = "NAME", help_heading = "Connection")]
    pub username: Option<String>,
    /// Password. Others on this machine see it: prefer the file or the environment.
    #[arg(
        short = 'P',
        long,
        env = "HEADGATE_PASSWORD",
        hide_env_values = true,
        help_heading = "Connection"
    )]
    password: Option<String>,
    /// Password in a file, its last end of line left out.
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "password",
        help_heading = "Connection"
    )]
    password_file: Option<PathBuf>,
}

impl LoginArgs {
    /// The password, which need not be text.
    pub(crate) fn password(&self) -> Result<Option<Vec<u8>>, ClientError> {
        let Some(path) = &self.password_file else {
            return Ok(self.password.clone().map(String::into_bytes));
        };
        let mut password = read(path)?;
        for end in [b'\n', b'\r'] {
            password.pop_if(|last| *last == end);
        }
        Ok(Some(password))
    }

    /// The file that the password comes from.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.password_file.as_deref()
    }
}
