//! `headgate users`: who may connect with a name and a password. A running gateway takes changes over within a second.

use super::config_for;
use super::error::CommandError;
use clap::{Args, Subcommand};
use headgate_auth::{Access, Users, missing_folder};
use headgate_cli::{Outcome, note, say};
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::path::PathBuf;

/// Add, remove and list the users who may connect.
#[derive(Args)]
pub struct UsersCommand {
    /// The configuration, which says where the users are kept.
    #[arg(long, value_name = "FILE", env = "HEADGATE_CONFIG", global = true)]
    config: Option<PathBuf>,
    /// Answer in JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Add a user, or give one a new password. The password is asked for, or read from the first line of standard input.
    Add {
        /// User name.
        name: String,
        /// Read the password from the first line of this file.
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
    /// Remove a user. Connections that are open stay open.
    Del {
        /// User name.
        name: String,
    },
    /// List all users.
    List,
}

impl UsersCommand {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        crate::private::make_files_private();
        let config = config_for(&["data_dir", "auth.users_file"], self.config.as_deref())?;
        let path = Access::users_file(&config.auth, &config.data_dir);
        let mut users = Users::load(&path)?;
        let (done, line) = match self.action {
            Action::Add { name, password_file } => {
                let password = read_password(&name, password_file)?;
                let new = users.set(&name, &password)?;
                let made =
                    missing_folder(&path).map(|folder| format!("made the folder {}", folder.display()));
                users.save(&path)?;
                if let Some(made) = made {
                    note(made);
                }
                let done = if new { "added" } else { "changed" };
                (serde_json::json!({ done: name }), format!("{done} {name}"))
            }
            Action::Del { name } => {
                users.remove(&name)?;
                users.save(&path)?;
                (serde_json::json!({ "removed": name }), format!("removed {name}"))
            }
            Action::List => {
                let names: Vec<&str> = users.names().collect();
                (serde_json::json!({ "users": names }), names.join("\n"))
            }
        };
        if self.json {
            say(done);
        } else if !line.is_empty() {
            say(line);
        }
        Ok(())
    }
}

#[allow(clippy::print_stderr, reason = "a question to whoever sits at the terminal")]
fn read_password(name: &str, file: Option<PathBuf>) -> Result<String, CommandError> {
    let mut line = String::new();
    match file {
        Some(path) => {
            let read = std::fs::File::open(&path).and_then(|file| BufReader::new(file).read_line(&mut line));
            read.map_err(|cause| CommandError::File { path, cause })?;
        }
        None if std::io::stdin().is_terminal() => {
            eprint!("Password for {name}: ");
            std::io::stderr().flush()?;
            line = rpassword::read_password()?;
        }
        None => {
            std::io::stdin().lock().read_line(&mut line)?;
        }
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
