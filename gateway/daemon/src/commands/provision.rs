//! `headgate provision`: a signed file that makes a gateway one of a certain plant.

use super::error::CommandError;
use super::gateway::Gateway;
use super::restart::{WAIT, begin_anew};
use super::table::date;
use super::{config_for, config_to_change, data_dir, there_is_one};
use crate::archive::{ArchiveError, Hold};
use crate::config::{given_or_own, own_file};
use crate::live::{self, ConfigFile};
use crate::private;
use crate::provisioning::{self, Document, Keys, ProvisioningError, Taken, check_own_new_key, sign};
use clap::{Args, Subcommand};
use headgate_auth::Access;
use headgate_cli::Outcome;
use hyper::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

const PATH: &str = "/api/v1/provisioning";
/// What the command needs of the configuration.
const NEEDED: [&str; 3] = ["data_dir", "auth.users_file", "firmware.provisioning_key"];
/// Files of this beginning are the command's own.
const NETWORK: &str = "10-headgate-";

/// Give a gateway its name, settings, users, certificates and uplinks by one signed file; sign such a file.
#[derive(Args)]
pub struct ProvisionCommand {
    #[command(flatten)]
    gateway: Gateway,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Show which file was taken last, and by which names a file can be for this machine alone.
    Status,
    /// Sign a file, so that gateways take it that know the key.
    Sign {
        /// The file, in TOML; docs/appliance.md says what it may hold.
        file: PathBuf,
        /// The private key: Ed25519 in PEM, as `openssl genpkey -algorithm ed25519` makes it.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// Where the signed file is written; left out, over the file itself.
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Verify a file's signature and show what it is for. Changes nothing.
    Check {
        /// The signed file.
        file: PathBuf,
        /// The public keys, instead of those that the configuration names.
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
    },
    /// Take a file: a gateway that runs begins anew with it, one that does not is changed in its data folder.
    Take {
        /// The signed file.
        file: PathBuf,
        /// The public keys, instead of those that the configuration names; of a gateway that runs its own count.
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
    },
    /// Do what a file says that waits for the next start of the gateway. For systems, before they write the network: where a gateway runs, it is refused.
    Finish {
        /// The public keys, instead of those that the configuration names.
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
    },
    /// Write a file's network for systemd-networkd, wpa_supplicant and pppd.
    Network {
        /// The signed file.
        file: PathBuf,
        /// The public keys, instead of those that the configuration names.
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
        /// The folder, such as /run/systemd/network. What an earlier file has left there goes.
        #[arg(long, value_name = "FOLDER")]
        to: PathBuf,
        /// The folder for what Wi-Fi and modems want, with their passwords. It is the command's own, and for nobody else.
        #[arg(long, value_name = "FOLDER", default_value = "/run/headgate-links")]
        links: PathBuf,
        /// A file that has the highest number of before: an older file is refused. Whoever runs the gateway should not be able to write it.
        #[arg(long, value_name = "FILE")]
        newest: Option<PathBuf>,
    },
}

impl ProvisionCommand {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        private::make_files_private();
        let gateway = &self.gateway;
        match self.action {
            Action::Status => {
                let config = config_for(&NEEDED, gateway.config())?;
                there_is_one(gateway.config(), &config.data_dir)?;
                let taken = provisioning::taken(&config.data_dir);
                let waits = provisioning::waits(&config.data_dir);
                let taken = json!({ "taken": taken, "waits": waits, "devices": provisioning::machine() });
                gateway.answer(&taken, status);
            }
            Action::Sign { file, key, output } => {
                let text = read(&file)?;
                let content = text.trim_start_matches('\u{feff}');
                let document = parsed(&file, content)?;
                let doubts = doubts(&file, content, &document)?;
                let number = document.number;
                let signed = sign(&text, &key).map_err(ProvisioningError::from)?;
                check_own_new_key(&document, &signed)?;
                let output = output.unwrap_or(file);
                // It has passwords.
                private::replace(&output, signed.as_bytes()).map_err(|cause| CommandError::File {
                    path: output.clone(),
                    cause,
                })?;
                let done = json!({ "number": number, "file": output, "doubts": doubts });
                gateway.answer(&done, |_| {
                    format!("signed number {number} in {}", output.display())
                });
            }
            Action::Check { file, key } => {
                let text = read(&file)?;
                let content = verified(&file, &text, &key_of(gateway, key)?)?;
                let document = parsed(&file, content)?;
                check_own_new_key(&document, &text)?;
                let doubts = doubts(&file, content, &document)?;
                gateway.answer(&contents(&document, &doubts), words);
            }
            Action::Take { file, key } => take(gateway, &file, key)?,
            Action::Finish { key } => finish(gateway, key)?,
            Action::Network {
                file,
                key,
                to,
                links,
                newest,
            } => {
                let text = read(&file)?;
                let key = key_of(gateway, key)?;
                believed_by_root(&key)?;
                let content = verified(&file, &text, &key)?;
                let document = parsed(&file, content)?;
                let machine = provisioning::machine();
                if !document.is_for(&machine) {
                    return Err(CommandError::from(ProvisioningError::Others(machine)).into());
                }
                if let Some(newest) = newest {
                    note_newest(&newest, document.number, &text)?;
                }
                let at = |path: PathBuf| move |cause| CommandError::File { path, cause };
                let (files, secrets) = (document.network_files(), document.link_files());
                write_network(&to, &files).map_err(at(to))?;
                write_links(&links, &secrets).map_err(at(links))?;
                let names: Vec<&String> = files.iter().chain(&secrets).map(|(name, _)| name).collect();
                gateway.answer(&json!({ "files": names }), |_| {
                    format!("{} interfaces", document.network.len())
                });
            }
        }
        Ok(())
    }
}

fn read(file: &Path) -> Result<String, CommandError> {
    let text = provisioning::read(file).and_then(|text| text.map_err(std::io::Error::other));
    text.map_err(|cause| CommandError::File {
        path: file.to_owned(),
        cause,
    })
}

fn keys(key: &Path) -> Result<Keys, CommandError> {
    Ok(Keys::load(key).map_err(ProvisioningError::from)?)
}

fn key_of(gateway: &Gateway, key: Option<PathBuf>) -> Result<PathBuf, CommandError> {
    match key {
        Some(key) => Ok(key),
        None => Ok(config_for(&NEEDED, gateway.config())?.firmware.provisioning_key),
    }
}

fn verified<'t>(file: &Path, text: &'t str, key: &Path) -> Result<&'t str, CommandError> {
    let verified = keys(key)?.verify(text);
    verified.map_err(|cause| CommandError::NotVerified {
        path: file.to_owned(),
        key: key.to_owned(),
        cause,
    })
}

/// What root writes for the system is signed by whom root believes: others must not be able to put their own key there, such as the gateway's user.
fn believed_by_root(key: &Path) -> Result<(), CommandError> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let at = |cause| CommandError::File {
        path: key.to_owned(),
        cause,
    };
    // A link may lie in a folder of somebody else's, and be another one the next moment.
    let resolved = fs::canonicalize(key).map_err(at)?;
    if std::path::absolute(key).map_err(at)? != resolved {
        return Err(CommandError::NotRoots {
            key: key.to_owned(),
            path: resolved,
            why: "is reached by a link: name it itself",
        });
    }
    for path in resolved.ancestors() {
        let metadata = fs::metadata(path).map_err(at)?;
        // In a folder such as /tmp others' files are safe from each other.
        let mode = metadata.mode();
        let is_sticky = metadata.is_dir() && mode & 0o1000 != 0;
        if metadata.uid() != 0 || (mode & 0o022 != 0 && !is_sticky) {
            return Err(CommandError::NotRoots {
                key: key.to_owned(),
                path: path.to_owned(),
                why: "can be written by others",
            });
        }
    }
    Ok(())
}

fn parsed(file: &Path, content: &str) -> Result<Document, CommandError> {
    Document::parse(content).map_err(|cause| CommandError::ProvisioningFile {
        path: file.to_owned(),
        cause,
    })
}

/// What is probably not as it was meant. A file that no gateway could take is an error.
fn doubts(file: &Path, content: &str, document: &Document) -> Result<Vec<String>, CommandError> {
    let doubts = provisioning::judge(file, content, document)?;
    for doubt in &doubts {
        headgate_cli::note(format!("warning: {doubt}"));
    }
    Ok(doubts)
}

fn take(gateway: &Gateway, file: &Path, key: Option<PathBuf>) -> Result<(), CommandError> {
    let text = read(file)?;
    let (config, acting) = config_to_change(&NEEDED, gateway.config(), data_dir)?;
    acting.may_write(&Access::users_file(&config.auth, &config.data_dir))?;
    let data_dir = &config.data_dir;
    there_is_one(gateway.config(), data_dir)?;
    fs::create_dir_all(data_dir).map_err(|cause| CommandError::File {
        path: data_dir.clone(),
        cause,
    })?;
    let _hold = match Hold::take(data_dir) {
        Ok(hold) => hold,
        Err(ArchiveError::InUse(_)) => {
            drop(acting);
            let taken = gateway.ask(Method::POST, PATH, Some(json!({ "text": text })))?;
            begin_anew(gateway, WAIT)?;
            let now = provisioning::taken(data_dir).filter(|now| taken["number"] == now.number);
            if now.is_none() {
                let why = match provisioning::waits(data_dir) {
                    true => Some(
                        "it is accepted and waits for the next start; the log says what was in its way"
                            .to_owned(),
                    ),
                    false => provisioning::refused(data_dir),
                };
                let why = why.unwrap_or_else(|| "see its log".to_owned());
                return Err(CommandError::NotProvisioned(why));
            }
            gateway.answer(&taken, |taken| {
                format!(
                    "number {} is taken, and the gateway serves again",
                    taken["number"]
                )
            });
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    let config_file = config_file(gateway)?;
    let key = key.unwrap_or_else(|| config.firmware.provisioning_key.clone());
    verified(file, &text, &key)?;
    // One that a start was kept from.
    provisioning::finish_waiting(data_dir, &key, &config_file);
    provisioning::accept(text, &keys(&key)?, data_dir, &config_file)?;
    let done = provisioning::finish_waiting(data_dir, &key, &config_file);
    let Some(taken) = taken_or_waits(data_dir, done)? else {
        return Ok(());
    };
    gateway.answer(&json!({ "number": taken.number }), |_| {
        format!(
            "number {} is taken into {}: the next start of the gateway has it",
            taken.number,
            data_dir.display()
        )
    });
    Ok(())
}

/// The configuration's file, as a start would have it, which would take the settings of a provisioning file back otherwise.
fn config_file(gateway: &Gateway) -> Result<ConfigFile, CommandError> {
    let file = match given_or_own(gateway.config())? {
        Some(path) => ConfigFile::Given(path),
        None => ConfigFile::Own(own_file()?),
    };
    live::undo_unconfirmed(file.path())?;
    Ok(file)
}

fn finish(gateway: &Gateway, key: Option<PathBuf>) -> Result<(), CommandError> {
    let (config, acting) = config_to_change(&NEEDED, gateway.config(), data_dir)?;
    acting.may_write(&Access::users_file(&config.auth, &config.data_dir))?;
    let data_dir = &config.data_dir;
    if !provisioning::is_unfinished(data_dir) {
        gateway.answer(&json!({ "number": null }), |_| "no file waits".to_owned());
        return Ok(());
    }
    let _hold = Hold::take(data_dir)?;
    let key = key.unwrap_or_else(|| config.firmware.provisioning_key.clone());
    let done = provisioning::finish_waiting(data_dir, &key, &config_file(gateway)?);
    let number = taken_or_waits(data_dir, done)?.map(|taken| taken.number);
    gateway.answer(&json!({ "number": number }), |done| {
        format!("number {} is taken", done["number"])
    });
    Ok(())
}

/// Trouble of the disk may leave the file waiting, which whoever reads of it has to know.
fn taken_or_waits(
    data_dir: &Path,
    done: Option<Result<Taken, ProvisioningError>>,
) -> Result<Option<Taken>, CommandError> {
    done.transpose()
        .map_err(|cause| match provisioning::waits(data_dir) {
            true => CommandError::ProvisioningWaits(cause),
            false => cause.into(),
        })
}

/// What the file is about, without what is secret.
fn contents(document: &Document, doubts: &[String]) -> Value {
    json!({
        "number": document.number,
        "devices": document.devices,
        "network": Vec::<&str>::from_iter(document.network.iter().map(|network| &*network.interface.0)),
        "settings": document.edits().into_iter().map(|edit| edit.path).collect::<Vec<_>>(),
        "users": Vec::<&str>::from_iter(document.users.iter().map(|user| &*user.name)),
        "administrators": Vec::<&str>::from_iter(document.administrators.iter().map(|new| &*new.name)),
        "files": Vec::<&str>::from_iter(document.files.iter().map(|file| &*file.name.0)),
        "doubts": doubts,
    })
}

fn list(value: &Value) -> String {
    let values = value.as_array().into_iter().flatten();
    values.filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
}

fn words(contents: &Value) -> String {
    let mut said = format!("number {}; its signature is good", contents["number"]);
    for (key, what) in [
        ("devices", "for"),
        ("network", "network"),
        ("settings", "settings"),
        ("users", "users"),
        ("administrators", "administrators"),
        ("files", "files"),
    ] {
        let list = list(&contents[key]);
        if !list.is_empty() {
            said += &format!("\n{what}: {}", super::table::visible(&list));
        }
    }
    said
}

fn status(status: &Value) -> String {
    let taken = &status["taken"];
    let mut said = match taken["number"].as_u64() {
        Some(number) => format!(
            "number {number} was taken at {}",
            date(&taken["at"]).unwrap_or_default()
        ),
        None => "no provisioning file was taken".to_owned(),
    };
    if status["waits"] == true {
        said += "\none waits for the next start of the gateway";
    }
    let devices = list(&status["devices"]);
    if !devices.is_empty() {
        said += &format!("\nfor files, this machine is {}", super::table::visible(&devices));
    }
    said
}

/// Refuses an older file than there was, and another one of the same number, whatever the gateway's user has put in the place of the one it took; notes a
/// newer one, as its number and SHA-256. Earlier versions have noted the number alone.
fn note_newest(path: &Path, number: u64, text: &str) -> Result<(), CommandError> {
    let at = |cause| CommandError::File {
        path: path.to_owned(),
        cause,
    };
    let known = match private::read(path, 1_024) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => "0".to_owned(),
        read => String::from_utf8_lossy(&read.map_err(at)?).into_owned(),
    };
    let mut words = known.split_whitespace();
    let before: Option<u64> = words.next().and_then(|number| number.parse().ok());
    let before = before.ok_or_else(|| {
        at(std::io::Error::other(
            "there is no number in it; without the file any number is new",
        ))
    })?;
    let digest: String = Sha256::digest(text)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let is_other = number == before && words.next().is_some_and(|known| known != digest);
    if number < before || is_other {
        let taken = before;
        return Err(ProvisioningError::NotNewer { number, taken }.into());
    }
    let note = format!("{number} {digest}\n");
    match note == known {
        true => Ok(()),
        false => private::replace(path, note.as_bytes()).map_err(at),
    }
}

/// The folder is made anew. What is in it is secret, and never to be seen half.
fn write_links(folder: &Path, files: &[(String, String)]) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    let mut new = folder.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    for old in [&new, folder] {
        let is_own = |name: &OsStr| {
            let kind = Path::new(name).extension().and_then(OsStr::to_str);
            kind.is_some_and(|kind| ["wifi", "ppp", "dial", "pin", "new"].contains(&kind))
        };
        let mut entries = fs::read_dir(old).into_iter().flatten().flatten();
        let is_file = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_file());
        if entries.any(|entry| !is_file(&entry) || !is_own(&entry.file_name())) {
            let why = "the folder holds what this command has not made: it wants one of its own";
            return Err(std::io::Error::other(why));
        }
        match fs::remove_dir_all(old) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    if files.is_empty() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&new)?;
    for (name, text) in files {
        private::replace(&new.join(name), text.as_bytes())?;
    }
    fs::rename(&new, folder)
}

/// Others' files in the folder stay.
fn write_network(folder: &Path, files: &[(String, String)]) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    // networkd reads them as a user of its own.
    let readable = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    if !folder.exists() {
        fs::create_dir_all(folder)?;
        readable(folder, 0o755)?;
    }
    for entry in fs::read_dir(folder)?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(NETWORK) {
            fs::remove_file(entry.path())?;
        }
    }
    for (name, text) in files {
        let path = folder.join(name);
        fs::write(&path, text)?;
        readable(&path, 0o644)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn passwords_of_links_are_for_nobody_else_and_go_with_the_file_that_had_them() {
        let above = tempfile::tempdir().unwrap();
        let folder = above.path().join("links");
        let file = |name: &str| (name.to_owned(), "password".to_owned());
        write_links(&folder, &[file("wlan0.wifi"), file("wwan0.ppp")]).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&folder.join("wlan0.wifi"))), (0o700, 0o600));

        write_links(&folder, &[file("wwan0.ppp")]).unwrap();
        assert!(!folder.join("wlan0.wifi").exists() && folder.join("wwan0.ppp").exists());
        fs::write(folder.join("wpa_supplicant.conf"), "somebody's").unwrap();
        assert!(write_links(&folder, &[]).is_err());
        fs::remove_file(folder.join("wpa_supplicant.conf")).unwrap();
        write_links(&folder, &[]).unwrap();
        assert_eq!(fs::read_dir(above.path()).unwrap().count(), 0);
    }

    /// Who can write the data folder may put an older file there that was signed, too.
    #[test]
    fn a_network_of_before_is_refused() {
        let above = tempfile::tempdir().unwrap();
        let newest = above.path().join("newest");
        for (number, is_taken) in [(3, true), (3, true), (2, false), (7, true), (3, false), (7, true)] {
            let text = format!("file {number}");
            assert_eq!(note_newest(&newest, number, &text).is_ok(), is_taken, "{number}");
        }
        assert!(note_newest(&newest, 7, "another file 7").is_err());
        fs::write(&newest, "7\n").unwrap();
        note_newest(&newest, 7, "an earlier version has noted no more").unwrap();
        assert!(note_newest(&newest, 7, "file 7").is_err());
        fs::write(&newest, "xyz").unwrap();
        assert!(note_newest(&newest, 8, "file 8").is_err());
    }
}
