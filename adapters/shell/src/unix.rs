//! Unix-domain sockets: the socket's file, its permissions, and who is at the other end.
//!
//! Always true: nobody can connect before mode and owner are set; a file that someone listens at is left alone;
//! at the end only our own file is removed.

use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::{fs, os};

use headgate_model::Fault;
use rustix::fs::{Access, AtFlags};
use socket2::{Domain, SockAddr, Type};
use tokio::net::{UnixListener, UnixStream};

use crate::settings::{ListenerSettings, UnixSettings};
use headgate_access::PeerAddr;

const DEFAULT_MODE: u32 = 0o660;

/// The file of a socket; removed when dropped.
pub(crate) struct SocketFile {
    path: PathBuf,
    device_and_inode: (u64, u64),
}

pub(crate) fn bind(settings: &ListenerSettings) -> io::Result<(UnixListener, SocketFile)> {
    let path = Path::new(&settings.bind);
    let unix = settings.unix.clone().unwrap_or_default();
    let mode = unix.mode.as_deref().map_or(Ok(DEFAULT_MODE), parse_mode)?;
    let (owner, group) = (owner(&unix)?, group(&unix)?);

    remove_stale(path)?;
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let metadata = fs::symlink_metadata(path)?;
    let file = SocketFile {
        path: path.into(),
        device_and_inode: (metadata.dev(), metadata.ino()),
    };
    give(path, mode, owner, group)?;
    // Only now: before `listen` every connect is refused.
    socket.listen(i32::try_from(settings.backlog).unwrap_or(i32::MAX))?;
    Ok((UnixListener::from_std(socket.into())?, file))
}

/// Gives the file of a socket that is bound other permissions and another owner. One that the settings leave out stays as it is.
pub(crate) fn permit(settings: &ListenerSettings) -> io::Result<()> {
    let unix = settings.unix.clone().unwrap_or_default();
    let mode = unix.mode.as_deref().map_or(Ok(DEFAULT_MODE), parse_mode)?;
    give(Path::new(&settings.bind), mode, owner(&unix)?, group(&unix)?)
}

fn give(path: &Path, mode: u32, owner: Option<u32>, group: Option<u32>) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    if owner.is_some() || group.is_some() {
        os::unix::fs::chown(path, owner, group)?;
    }
    Ok(())
}

/// What is wrong with the settings themselves.
pub(crate) fn faults(settings: &ListenerSettings) -> Vec<Fault> {
    let mode = settings.unix.as_ref().and_then(|unix| unix.mode.as_deref());
    let mode = mode.and_then(|mode| parse_mode(mode).err());
    let name = match settings.bind.as_str() {
        "" => Some(io::Error::new(
            ErrorKind::InvalidInput,
            "the path of the socket is empty",
        )),
        path => SockAddr::unix(path).err(),
    };
    let faults = [(mode, "unix.mode"), (name, "bind")];
    let faults = faults
        .into_iter()
        .filter_map(|(error, key)| Some(Fault::new(key, error?.to_string())));
    faults.collect()
}

/// What the system has against them.
pub(crate) fn obstacles(settings: &ListenerSettings) -> Vec<Fault> {
    let path = Path::new(&settings.bind);
    let unix = settings.unix.clone().unwrap_or_default();
    let mut faults = Vec::new();
    let may = "needs the right to give files away (CAP_CHOWN)";
    let owner = owner(&unix).and_then(|id| refused(id.is_some_and(|id| !may_give_to(id)), may));
    let group = group(&unix).and_then(|id| refused(id.is_some_and(|id| !may_give_to_group(id)), may));
    for (key, id) in [("unix.owner", owner), ("unix.group", group)] {
        faults.extend(id.err().map(|error| Fault::new(key, error.to_string())));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let there = match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => Some("there is a file that is no socket".into()),
        Ok(_) => None,
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => Some(error.to_string()),
    };
    let writable = rustix::fs::accessat(
        rustix::fs::CWD,
        folder,
        Access::WRITE_OK | Access::EXEC_OK,
        AtFlags::EACCESS,
    );
    match (there, writable) {
        (Some(what), _) => faults.push(Fault::new("bind", format!("{}: {what}", path.display()))),
        (None, Err(error)) => {
            let error = io::Error::from(error);
            let what = format!("{}: no socket can be made in it: {error}", folder.display());
            faults.push(Fault::new("bind", what));
        }
        (None, Ok(())) => {}
    }
    faults
}

fn refused(refused: bool, what: &str) -> io::Result<()> {
    if refused {
        return Err(io::Error::new(ErrorKind::PermissionDenied, what));
    }
    Ok(())
}

/// chown(2)
fn may_give_to(user: u32) -> bool {
    user == rustix::process::geteuid().as_raw() || may_give_away()
}

fn may_give_to_group(group: u32) -> bool {
    let mut ours = rustix::process::getgroups().unwrap_or_default();
    ours.push(rustix::process::getegid());
    ours.iter().any(|ours| ours.as_raw() == group) || may_give_away()
}

#[cfg(target_os = "linux")]
fn may_give_away() -> bool {
    use rustix::thread::{CapabilitySet, capabilities};
    capabilities(None).is_ok_and(|ours| ours.effective.contains(CapabilitySet::CHOWN))
}

#[cfg(not(target_os = "linux"))]
fn may_give_away() -> bool {
    rustix::process::geteuid().is_root()
}

fn owner(unix: &UnixSettings) -> io::Result<Option<u32>> {
    let name = unix.owner.as_deref();
    name.map(|name| find_id(name, "/etc/passwd")).transpose()
}

fn group(unix: &UnixSettings) -> io::Result<Option<u32>> {
    let name = unix.group.as_deref();
    name.map(|name| find_id(name, "/etc/group")).transpose()
}

/// Who is at the other end, as far as the system tells.
pub(crate) fn peer_of(stream: &UnixStream) -> PeerAddr {
    match stream.peer_cred() {
        Ok(who) => PeerAddr::Unix {
            pid: who.pid(),
            uid: Some(who.uid()),
            gid: Some(who.gid()),
        },
        Err(_) => PeerAddr::Unix {
            pid: None,
            uid: None,
            gid: None,
        },
    }
}

/// Removes a socket file that a crash left behind.
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => {}
        Ok(_) => {
            return Err(io::Error::new(
                ErrorKind::AlreadyExists,
                "there is a file that is no socket",
            ));
        }
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    let probe = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    probe.set_nonblocking(true)?; // a full backlog must not hold us
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
        // A full backlog too means that somebody listens.
        _ => Err(io::Error::new(
            ErrorKind::AddrInUse,
            "somebody listens there already",
        )),
    }
}

fn parse_mode(text: &str) -> io::Result<u32> {
    let wrong = || {
        io::Error::new(
            ErrorKind::InvalidInput,
            format!("`{text}` is no octal mode such as 0660"),
        )
    };
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o777)
        .ok_or_else(wrong)
}

/// A number as it is, a name by way of the table (name, password, number, separated by colons).
fn find_id(name: &str, table: &str) -> io::Result<u32> {
    if let Ok(id) = name.parse() {
        return Ok(id);
    }
    let unread = |error: io::Error| io::Error::new(error.kind(), format!("{table}: {error}"));
    let text = fs::read_to_string(table).map_err(unread)?;
    let line = text
        .lines()
        .map(|line| line.split(':'))
        .find(|line| line.clone().next() == Some(name));
    let id = line.and_then(|mut columns| columns.nth(2)?.parse().ok());
    id.ok_or_else(|| io::Error::new(ErrorKind::NotFound, format!("`{name}` is not in {table}")))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours =
            fs::symlink_metadata(&self.path).is_ok_and(|m| (m.dev(), m.ino()) == self.device_and_inode);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "socket file stays behind");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_octal_and_have_no_special_bits() {
        assert_eq!(parse_mode("0660").unwrap(), 0o660);
        assert_eq!(parse_mode("600").unwrap(), 0o600);
        for wrong in ["", "rw", "0888", "4755", "-1"] {
            assert!(parse_mode(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn users_are_found_by_name_or_number() {
        assert_eq!(find_id("root", "/etc/passwd").unwrap(), 0);
        assert_eq!(find_id("1234", "/etc/passwd").unwrap(), 1234);
        assert!(find_id("nobody-has-this-name", "/etc/passwd").is_err());
    }
}
