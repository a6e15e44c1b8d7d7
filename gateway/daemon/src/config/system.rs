//! What stands in the way of a start and is not in the settings: files, folders, addresses. Nothing is changed by looking.

use super::checks::of_entry;
use super::{Config, Durability};
use crate::protocols::{self, Entry};
use headgate_auth::{Access, Users};
use headgate_model::Fault;
use rustix::fs::{Access as Mode, AtFlags, CWD, accessat};
use std::io;
use std::path::Path;

/// All that the system has against a start with these settings.
pub(super) fn obstacles(config: &Config) -> Vec<Fault> {
    let mut faults = Vec::new();
    faults.extend(data_dir(config).map(|what| Fault::new("data_dir", what)));
    let users_file = Access::users_file(&config.auth, &config.data_dir);
    // What is in a folder that is none needs no words of its own.
    let has_folder = faults.is_empty() || config.auth.users_file.is_some();
    if has_folder && let Err(error) = Users::load(&users_file) {
        faults.push(Fault::new("auth.users_file", error.to_string()));
    }
    if let Some(file) = &config.log.file
        && let Some(what) = log_file(&file.path)
    {
        faults.push(Fault::new("log.file.path", what));
    }
    let rules = config.auth.obstacles().into_iter();
    faults.extend(rules.map(|fault| fault.below("auth")));
    for (n, listener) in config.listeners.iter().enumerate() {
        faults.extend(of_entry("listeners", n, &listener.name, listener.obstacles()));
    }
    for Entry { list, n, listener } in protocols::datagram_listeners(config) {
        faults.extend(of_entry(list, n, listener.name(), listener.obstacles()));
    }
    faults.extend(crate::supplies::obstacles(config));
    faults
}

/// Why the gateway could not keep its data there.
fn data_dir(config: &Config) -> Option<String> {
    let folder = &config.data_dir;
    let mut folders = vec![folder.clone()];
    if config.store.durability != Durability::Memory {
        folders.push(folder.join("store"));
    }
    folders.iter().find_map(|folder| {
        let (path, error) = writable(folder).err()?;
        Some(match path == *folder {
            true => format!("{}: {error}", folder.display()),
            false => format!("{} cannot be made: {}: {error}", folder.display(), path.display()),
        })
    })
}

/// Why lines could not be written there.
fn log_file(path: &Path) -> Option<String> {
    if path.is_dir() {
        return Some(format!("{}: it is a folder, not a file", path.display()));
    }
    if path.exists() {
        let access = accessat(CWD, path, Mode::WRITE_OK, AtFlags::EACCESS);
        return access
            .err()
            .map(|error| format!("{}: {}", path.display(), io::Error::from(error)));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let (path, error) = writable(folder.unwrap_or(Path::new("."))).err()?;
    Some(format!("{}: {error}", path.display()))
}

/// Whether the folder can be written, or can be made. The error is of the folder that is in the way.
fn writable(folder: &Path) -> Result<(), (&Path, io::Error)> {
    let here = |error: io::Error| (folder, error);
    match std::fs::metadata(folder) {
        Ok(metadata) if !metadata.is_dir() => Err(here(io::Error::other("it is a file, not a folder"))),
        Ok(_) => {
            let mode = Mode::READ_OK | Mode::WRITE_OK | Mode::EXEC_OK;
            accessat(CWD, folder, mode, AtFlags::EACCESS).map_err(|error| here(error.into()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => match folder.parent() {
            Some(parent) if parent.as_os_str().is_empty() => writable(Path::new(".")),
            Some(parent) => writable(parent),
            None => Err(here(error)),
        },
        Err(error) => Err(here(error)),
    }
}

/// Others who may write there could put files of their own in the place of ours. A folder that is sticky, as `/tmp` is, keeps them from that.
pub(super) fn loose_data_dir(folder: &Path) -> Option<Fault> {
    use std::os::unix::fs::MetadataExt;
    let mode = std::fs::metadata(folder).ok()?.mode();
    let is_loose = mode & 0o022 != 0 && mode & 0o1000 == 0;
    is_loose.then(|| {
        let what = "others may write there, and could put a users file of their own in the place of the gateway's: chmod go-w";
        Fault::new("data_dir", format!("{}: {what}", folder.display()))
    })
}

/// Interfaces of WANs that are not there may come later, as modems do; or their names are wrong.
pub(super) fn missing_interfaces(config: &Config) -> Vec<Fault> {
    let wans = config.wans.iter().enumerate();
    let missing = wans.filter(|(_, wan)| wan.faults().is_empty() && !wan.is_here());
    let faults = missing.flat_map(|(n, wan)| {
        let what = format!("this machine has no `{}` now", wan.interface);
        of_entry("wans", n, &wan.name, vec![Fault::new("interface", what)])
    });
    faults.collect()
}

/// The program of `recovery.reset` may come later, but it is better to hear now that it is not there than in a plant without an uplink.
pub(super) fn missing_reset(config: &Config) -> Option<Fault> {
    let program = config.recovery.reset.first()?;
    let is_program =
        |path: &Path| path.is_file() && accessat(CWD, path, Mode::EXEC_OK, AtFlags::EACCESS).is_ok();
    let is_there = if program.contains('/') {
        is_program(Path::new(program))
    } else {
        let folders = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&folders).any(|folder| is_program(&folder.join(program)))
    };
    (!is_there).then(|| {
        Fault::new(
            "recovery.reset",
            format!("{program}: there is no such program here"),
        )
    })
}
