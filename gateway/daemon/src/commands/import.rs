//! `headgate import`: the configuration of another broker, said in Headgate's words, with its users.

use super::error::CommandError;
use crate::config::{Config, Told};
use crate::protocols;
use clap::{Args, Subcommand, ValueEnum};
use headgate_auth::{Imported, Users};
use headgate_cli::{Incomplete, Outcome, say, say_json, visible};
use headgate_import::{Files, Import, Target, emq, mosquitto};
use serde_json::json;
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf, absolute};

/// Say the configuration of another broker in Headgate's words, with its users and rules, and tell what became of each of its directives.
///
/// Ends with code 0 if all was taken or has no meaning here, with 3 if something was not taken or the new configuration has faults, with 1 if nothing was
/// written.
#[derive(Args)]
pub struct ImportCommand {
    #[command(subcommand)]
    from: From,
    #[command(flatten)]
    to: To,
}

#[derive(Subcommand)]
enum From {
    /// mosquitto.conf, with its include_dir, password_file and acl_file.
    Mosquitto {
        /// The configuration.
        file: PathBuf,
        /// The folder in which mosquitto is started: paths in the file are relative to it. Default: the current folder.
        #[arg(long, value_name = "FOLDER")]
        start_dir: Option<PathBuf>,
        /// Whose defaults hold: 1.x lets everybody in where the file says nothing, 2.x nobody.
        #[arg(long, value_enum, default_value = "2.x")]
        assume: Assumed,
    },
    /// emq.conf of EMQ 2, with acl.conf and the files of the plugins that are loaded.
    Emq {
        /// emq.conf, or the folder that it is in, or that which has it in `etc`.
        path: PathBuf,
        /// The list of plugins that are loaded. Default: as emq.conf says, or `data/loaded_plugins`.
        #[arg(long, value_name = "FILE")]
        loaded_plugins: Option<PathBuf>,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Assumed {
    #[value(name = "1.x")]
    One,
    #[value(name = "2.x")]
    Two,
}

#[derive(Args)]
struct To {
    /// The configuration that is written.
    #[arg(long, value_name = "FILE", default_value = "headgate.toml", global = true)]
    output: PathBuf,
    /// Where the gateway shall keep its data, users and passwords of bridges. Default: `headgate-data` beside the configuration.
    #[arg(long, value_name = "FOLDER", global = true)]
    data_dir: Option<PathBuf>,
    /// The gateway's name, which one with bridges needs. Default: that of the host.
    #[arg(long, value_name = "NAME", global = true)]
    node: Option<String>,
    /// Write over a configuration that is there, and give users that are there already the password of the source.
    #[arg(long, global = true)]
    force: bool,
    /// Write nothing.
    #[arg(long, global = true)]
    dry_run: bool,
    /// Answer in JSON.
    #[arg(long, global = true)]
    json: bool,
}

/// The files of this machine.
struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn exists(&self, path: &Path) -> bool {
        path.is_file()
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_file() {
                files.push(path);
            }
        }
        Ok(files)
    }
}

impl ImportCommand {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        crate::private::make_files_private();
        let output = absolute(&self.to.output)?;
        if output.exists() && !self.to.force && !self.to.dry_run {
            return Err(CommandError::IsThere(output).into());
        }
        let target = self.to.target(&output)?;
        let import = match &self.from {
            From::Mosquitto {
                file,
                start_dir,
                assume,
            } => {
                let options = mosquitto::Options {
                    start_dir: absolute(start_dir.as_deref().unwrap_or(Path::new(".")))?,
                    version: match assume {
                        Assumed::One => mosquitto::Version::One,
                        Assumed::Two => mosquitto::Version::Two,
                    },
                };
                mosquitto::import(&Disk, &absolute(file)?, &options, &target)?
            }
            From::Emq { path, loaded_plugins } => {
                let loaded = loaded_plugins.as_deref().map(absolute).transpose()?;
                emq::import(&Disk, &absolute(path)?, loaded.as_deref(), &target)?
            }
        };
        let users = match self.to.dry_run {
            true => would_take(&import, &target, self.to.force)?,
            false => write(&import, &output, &target, self.to.force)?,
        };
        let (faults, warnings) = match self.to.dry_run {
            true => (Vec::new(), Vec::new()),
            false => checked(&output),
        };
        self.to.tell(&import, &output, users, &faults, &warnings)
    }
}

impl To {
    fn target(&self, output: &Path) -> io::Result<Target> {
        let data_dir = match &self.data_dir {
            Some(folder) => absolute(folder)?,
            None => output.with_file_name("headgate-data"),
        };
        let host = || rustix::system::uname().nodename().to_string_lossy().into_owned();
        Ok(Target {
            secrets_dir: data_dir.join("secrets"),
            data_dir,
            node: self.node.clone().unwrap_or_else(host),
            datagram_lists: protocols::DATAGRAM_LISTS,
        })
    }

    fn tell(
        &self,
        import: &Import,
        output: &Path,
        users: Imported,
        faults: &[Told],
        warnings: &[Told],
    ) -> Outcome {
        let report = &import.report;
        let missing = report.not_taken();
        let is_complete = missing == 0 && faults.is_empty();
        if self.json {
            let secrets: Vec<&Path> = import.secrets.iter().map(|file| file.path.as_path()).collect();
            say_json(json!({
                "complete": is_complete,
                "output": (!self.dry_run).then_some(output),
                "lines": report.lines,
                "remarks": report.remarks,
                "not_taken": missing,
                "users": users,
                "secrets": secrets,
                "faults": faults,
                "warnings": warnings,
            }));
        } else {
            report
                .lines
                .iter()
                .for_each(|line| say(visible(&line.to_string())));
            report
                .remarks
                .iter()
                .for_each(|remark| say(format!("note: {}", visible(remark))));
            let (is_written, stand, would_be) = match self.dry_run {
                true => ("would be written", "would stand", "would be "),
                false => ("is written", "stand", ""),
            };
            for file in &import.secrets {
                say(format!(
                    "secret: {} {is_written}, for its owner alone",
                    file.path.display()
                ));
            }
            if import.has_secrets {
                say(format!(
                    "secret: passwords {stand} in {}, for its owner alone",
                    output.display()
                ));
            }
            warnings
                .iter()
                .for_each(|warning| say(format!("warning: {warning}")));
            faults.iter().for_each(|fault| say(format!("fault: {fault}")));
            let Imported {
                added,
                replaced,
                kept,
            } = users;
            say(format!(
                "directives: {}, of them {missing} not taken; users: {added} {would_be}added, {replaced} {would_be}replaced, {kept} {would_be}kept as they were",
                report.lines.len()
            ));
            match self.dry_run {
                true => say("Nothing is written."),
                false => say(format!("{} is written.", output.display())),
            }
        }
        if is_complete {
            return Ok(());
        }
        let of = |count: usize, what: &str| {
            let s = if count == 1 { "" } else { "s" };
            format!("{count} {what}{s}")
        };
        let (missing, faults) = (of(missing, "directive"), of(faults.len(), "fault"));
        let what = format!("not taken: {missing}; the new configuration has {faults}");
        Err(Incomplete(what).into())
    }
}

/// Writes secrets and users first, then the configuration that names them, each as a whole.
/// What would become of the users.
fn would_take(import: &Import, target: &Target, force: bool) -> Result<Imported, CommandError> {
    let known = Users::load(&target.data_dir.join("users.json"))?;
    let mut imported = Imported::default();
    for user in &import.users {
        match (known.has(user.name()), force) {
            (false, _) => imported.added += 1,
            (true, true) => imported.replaced += 1,
            (true, false) => imported.kept += 1,
        }
    }
    Ok(imported)
}

fn write(import: &Import, output: &Path, target: &Target, force: bool) -> Result<Imported, CommandError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |cause| CommandError::File { path, cause }
    };
    for file in &import.secrets {
        let written = write_file(&file.path, &file.content, 0o600, force);
        written.map_err(failed(&file.path))?;
    }
    let mut users = Imported::default();
    if !import.users.is_empty() {
        let path = target.data_dir.join("users.json");
        (users, _) = Users::change(&path, |users| users.take(import.users.clone(), force))?;
    }
    let mode = if import.has_secrets { 0o600 } else { 0o644 };
    write_file(output, &import.config, mode, force).map_err(failed(output))?;
    Ok(users)
}

/// Beside it first, then in its place.
fn write_file(path: &Path, text: &str, mode: u32, force: bool) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let name = path.file_name().unwrap_or(OsStr::new("file"));
    let mut beside = tempfile::Builder::new().prefix(name).tempfile_in(folder)?;
    beside.write_all(text.as_bytes())?;
    beside.as_file().set_permissions(Permissions::from_mode(mode))?;
    beside.as_file().sync_all()?;
    let placed = if force {
        beside.persist(path)
    } else {
        beside.persist_noclobber(path)
    };
    placed.map_err(|error| error.error)?;
    fs::File::open(folder)?.sync_all()
}

/// What `headgate check` says of it: faults and warnings.
fn checked(output: &Path) -> (Vec<Told>, Vec<Told>) {
    match Config::load_to_start(Some(output), []) {
        Ok(startable) => (Vec::new(), startable.warnings),
        Err(error) => error.told(),
    }
}
