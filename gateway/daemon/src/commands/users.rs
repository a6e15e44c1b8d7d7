//! `headgate users`: who may connect with a name and a password. A running gateway has taken a change over when the command ends.

use super::error::CommandError;
use super::{config_to_change, there_is_one};
use crate::api::{ControlClient, TO_ANSWER};
use crate::config::Config;
use crate::owner::named;
use crate::whereabouts;
use clap::{Args, Subcommand, ValueEnum};
use headgate_auth::file::folder_of;
use headgate_auth::{Access, HashMethod, Users, UsersError, UsersFormat, missing_folder};
use headgate_cli::{Outcome, note, runtime, say, say_json};
use hyper::Method;
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
    #[command(visible_alias = "remove")]
    Del {
        /// User name.
        name: String,
    },
    /// List all users.
    List,
    /// Take over users of another broker with the hashes of their passwords, which the next right log-in of each renews. All or none.
    Import {
        /// mosquitto's `password_file`, or CSV with a header and the columns `username`, `password` and, if there is one, `salt`.
        file: PathBuf,
        /// Whose file it is.
        #[arg(long)]
        format: Format,
        /// How the passwords in a CSV file are hashed, as EMQ's `password_hash` says it: plain, md5, sha, sha256, `salt,sha256`, `sha256,salt`, bcrypt,
        /// `pbkdf2,sha256,1000,20`.
        #[arg(long, value_name = "METHOD", required_if_eq("format", "csv"))]
        hash: Option<HashMethod>,
        /// Give users that are there already the password of the file. Without this they stay as they are.
        #[arg(long)]
        replace: bool,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// `NAME:HASH` in each line, as `mosquitto_passwd` writes it.
    Mosquitto,
    /// A table of EMQ's.
    Csv,
}

impl UsersCommand {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        crate::private::make_files_private();
        let needed = ["data_dir", "auth.users_file"];
        let (config, acting) = config_to_change(&needed, self.config.as_deref(), |config| {
            folder_of(&Access::users_file(&config.auth, &config.data_dir)).to_owned()
        })?;
        let mut path = Access::users_file(&config.auth, &config.data_dir);
        let changes = !matches!(self.action, Action::List);
        let (done, line) = match self.action {
            Action::Add { name, password_file } => {
                let password = named(|| read_password(&name, password_file))?;
                let made =
                    missing_folder(&path).map(|folder| format!("made the folder {}", folder.display()));
                let new = change(&config, &mut path, |users| users.set(&name, &password))?;
                if let Some(made) = made {
                    note(made);
                }
                let done = if new { "added" } else { "changed" };
                let line = format!("{done} {name} in {}", path.display());
                (serde_json::json!({ done: name }), line)
            }
            Action::Del { name } => {
                change(&config, &mut path, |users| users.remove(&name))?;
                let line = format!(
                    "removed {name}; connections that are open stay: `headgate clients kick ID` ends one"
                );
                (serde_json::json!({ "removed": name }), line)
            }
            Action::List => {
                there_is_one(self.config.as_deref(), &config.data_dir)?;
                let users = Users::load(&path)?;
                let names: Vec<&str> = users.names().collect();
                (serde_json::json!({ "users": names }), names.join("\n"))
            }
            Action::Import {
                file,
                format,
                hash,
                replace,
            } => {
                let format = match (format, hash) {
                    (Format::Csv, Some(method)) => UsersFormat::Csv(method),
                    _ => UsersFormat::Mosquitto,
                };
                let imported = change(&config, &mut path, |users| {
                    named(|| users.import(&file, format, replace))
                })?;
                let line = format!(
                    "{} added, {} replaced, {} kept as they were",
                    imported.added, imported.replaced, imported.kept
                );
                (serde_json::to_value(imported)?, line)
            }
        };
        drop(acting);
        // A gateway that runs knows it when this ends; one that does not reads it when it starts.
        if changes {
            let gateway = ControlClient::new(&config.data_dir);
            let told = gateway.ask(Method::POST, "/api/v1/users/look", None);
            let _ = runtime()?.block_on(async { tokio::time::timeout(TO_ANSWER, told).await });
        }
        if self.json {
            say_json(done);
        } else if !line.is_empty() {
            say(line);
        }
        Ok(())
    }
}

/// Changes the file of users, wherever a gateway that runs has it by then.
fn change<T>(
    config: &Config,
    path: &mut PathBuf,
    change: impl Fn(&mut Users) -> Result<T, UsersError>,
) -> Result<T, CommandError> {
    loop {
        let folder = folder_of(path).to_owned();
        let goes_along = config.auth.users_file.is_none();
        let changed = Users::change(path, |users| {
            // The lock may have been waited for.
            match goes_along && whereabouts::elsewhere(&folder).is_ok_and(|folder| folder.is_some()) {
                true => Err(UsersError::Moved),
                false => change(users),
            }
        });
        match changed {
            Err(UsersError::Moved) => {
                let folder = whereabouts::elsewhere(&folder).ok().flatten();
                let folder = folder.ok_or(UsersError::Moved)?;
                *path = Access::users_file(&config.auth, &folder);
            }
            changed => return Ok(changed?.0),
        }
    }
}

#[allow(clippy::print_stderr, reason = "a question to whoever sits at the terminal")]
pub(super) fn read_password(name: &str, file: Option<PathBuf>) -> Result<String, CommandError> {
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
