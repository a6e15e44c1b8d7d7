//! By which name the load logs in: arguments that all its commands have.

use bytes::Bytes;
use clap::Args;
use headgate_mqtt_codec::{Utf8, Utf8Error};

/// User name and password.
#[derive(Args)]
pub(crate) struct LoginArgs {
    /// User name.
    #[arg(short, long, value_name = "NAME", help_heading = "Connection")]
    username: Option<String>,
    /// Password.
    #[arg(
        short = 'P',
        long,
        env = "HEADGATE_PASSWORD",
        hide_env_values = true,
        requires = "username",
        help_heading = "Connection"
    )]
    password: Option<String>,
}

impl LoginArgs {
    /// The name, if it can be one.
    pub(crate) fn username(&self) -> Result<Option<Utf8>, Utf8Error> {
        self.username.clone().map(Utf8::try_from).transpose()
    }

    /// The password.
    pub(crate) fn password(&self) -> Option<Bytes> {
        self.password.clone().map(Into::into)
    }
}
