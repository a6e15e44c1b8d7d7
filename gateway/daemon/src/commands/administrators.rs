//! `headgate administrators`: who runs the gateway. Where none runs, the file in the data folder is changed: whoever has lost all passwords gets in again.

use super::error::CommandError;
use super::gateway::Gateway;
use super::table::{columns, date, text};
use super::users::read_password;
use super::{config_to_change, data_dir};
use crate::api::ControlError;
use crate::bridges::escape;
use crate::owner::Acting;
use crate::sys::unix_time;
use clap::{Args, Subcommand, ValueEnum};
use headgate_admin::{Admin, Moment, Role};
use headgate_cli::Outcome;
use hyper::Method;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, Instant};

const PATH: &str = "/api/v1/administrators";

/// Show, add, change and remove administrators, who use the web UI and the HTTP API.
#[derive(Args)]
pub struct AdministratorsCommand {
    #[command(flatten)]
    gateway: Gateway,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand)]
enum Action {
    /// Show all administrators.
    List,
    /// Add an administrator. The password is asked for, or read from the first line of standard input.
    Add {
        /// Name.
        name: String,
        /// What it may do.
        #[arg(long, value_enum, default_value_t = RoleName::Administrator)]
        role: RoleName,
        /// Read the password from the first line of this file.
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
    /// Give an administrator another password. Its sessions end.
    Password {
        /// Name.
        name: String,
        /// Read the password from the first line of this file.
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
    /// Give an administrator another role. Its sessions end.
    Role {
        /// Name.
        name: String,
        /// What it may do.
        #[arg(value_enum)]
        role: RoleName,
    },
    /// Remove an administrator. Its sessions end.
    Remove {
        /// Name.
        name: String,
    },
}

/// A role, as it is typed.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum RoleName {
    /// Looks.
    Viewer,
    /// Runs what is there: clients, queues, bridges, messages.
    Operator,
    /// Changes what is there: configuration, users, certificates, administrators.
    Administrator,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Viewer => Self::Viewer,
            RoleName::Operator => Self::Operator,
            RoleName::Administrator => Self::Administrator,
        }
    }
}

/// What is to be done, by whoever does it.
enum Change {
    Add(String, String, Role),
    Alter(String, Option<String>, Option<Role>),
    Remove(String),
}

impl AdministratorsCommand {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        crate::private::make_files_private();
        let (change, done) = match self.action.unwrap_or(Action::List) {
            Action::List => return list(&self.gateway),
            Action::Add {
                name,
                role,
                password_file,
            } => {
                let password = read_password(&name, password_file)?;
                let done = format!("added {name}");
                (Change::Add(name, password, role.into()), done)
            }
            Action::Password { name, password_file } => {
                let password = read_password(&name, password_file)?;
                let done = format!("{name} has another password");
                (Change::Alter(name, Some(password), None), done)
            }
            Action::Role { name, role } => {
                let role = Role::from(role);
                let done = format!("{name} is {} now", role.name());
                (Change::Alter(name, None, Some(role)), done)
            }
            Action::Remove { name } => {
                let done = format!("removed {name}");
                (Change::Remove(name), done)
            }
        };
        let file = change.make(&self.gateway)?;
        let file = file.map(|file| file.display().to_string());
        self.gateway
            .answer(&json!({ "done": done, "file": file }), |_| match &file {
                Some(file) => format!("{done}, in {file}: no gateway runs there"),
                None => done.clone(),
            });
        Ok(())
    }
}

impl Change {
    /// By the gateway, if it runs; else in its file, which is told.
    fn make(self, gateway: &Gateway) -> Result<Option<PathBuf>, CommandError> {
        let asked = match &self {
            Self::Add(name, password, role) => {
                let body = json!({ "name": name, "password": password, "role": role });
                gateway.ask(Method::POST, PATH, Some(body))
            }
            Self::Alter(name, password, role) => {
                let body = json!({ "password": password, "role": role });
                gateway.ask(Method::PUT, &format!("{PATH}/{}", escape(name)), Some(body))
            }
            Self::Remove(name) => gateway.ask(Method::DELETE, &format!("{PATH}/{}", escape(name)), None),
        };
        match asked {
            Err(CommandError::Control(ControlError::NotRunning { .. })) => self.make_in_file(gateway),
            asked => Ok(asked.map(|_| None)?),
        }
    }

    fn make_in_file(self, gateway: &Gateway) -> Result<Option<PathBuf>, CommandError> {
        let (admin, _acting) = admin(gateway)?;
        let now = Moment {
            steady: Instant::now(),
            unix: unix_time(),
        };
        match self {
            Self::Add(name, password, role) => admin.add(&name, &password, role, now)?,
            Self::Alter(name, password, role) => admin.alter(&name, password.as_deref(), role)?,
            Self::Remove(name) => admin.remove(&name)?,
        }
        Ok(Some(admin.file()))
    }
}

/// Those of a gateway that does not run.
fn admin(gateway: &Gateway) -> Result<(Admin, Acting), CommandError> {
    let (config, acting) = config_to_change(&["data_dir"], gateway.config(), data_dir)?;
    std::fs::create_dir_all(&config.data_dir)?;
    Ok((Admin::load(&config.data_dir, Duration::ZERO)?, acting))
}

fn list(gateway: &Gateway) -> Outcome {
    let rows = match gateway.ask(Method::GET, PATH, None) {
        Err(CommandError::Control(ControlError::NotRunning { .. })) => {
            json!({ "rows": admin(gateway)?.0.administrators() })
        }
        rows => rows?,
    };
    gateway.answer(&rows, table);
    Ok(())
}

fn table(rows: &Value) -> String {
    let rows = rows["rows"].as_array().cloned().unwrap_or_default();
    if rows.is_empty() {
        return "there is no administrator yet: `headgate administrators add NAME`, or the code in the file `setup-code` of the data folder and the web UI".to_owned();
    }
    let rows = rows.iter().map(|row| {
        [
            text(&row["name"]),
            text(&row["role"]),
            date(&row["created"]).unwrap_or_default(),
            date(&row["last_login"]).unwrap_or_default(),
        ]
    });
    columns(["NAME", "ROLE", "SINCE", "LAST LOG-IN"], rows)
}
