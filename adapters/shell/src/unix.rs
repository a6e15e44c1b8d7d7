//! Unix-domain sockets: the socket's file, its permissions, and who is at the other end.
//!
//! Always true: nobody can connect before mode and owner are set; a file that someone listens at is left alone;
//! at the end only our own file is removed.

use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::{fs, os};

use socket2::{Domain, SockAddr, Type};
use tokio::net::{UnixListener, UnixStream};

use crate::connection::PeerAddr;
use crate::settings::ListenerSettings;

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
    let owner = unix
        .owner
        .as_deref()
        .map(|name| find_id(name, "/etc/passwd"))
        .transpose()?;
    let group = unix
        .group
        .as_deref()
        .map(|name| find_id(name, "/etc/group"))
        .transpose()?;

    remove_stale(path)?;
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let metadata = fs::symlink_metadata(path)?;
    let file = SocketFile {
        path: path.into(),
        device_and_inode: (metadata.dev(), metadata.ino()),
    };
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    if owner.is_some() || group.is_some() {
        os::unix::fs::chown(path, owner, group)?;
    }
    // Only now: before `listen` every connect is refused.
    socket.listen(i32::try_from(settings.backlog).unwrap_or(i32::MAX))?;
    Ok((UnixListener::from_std(socket.into())?, file))
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
    let text = fs::read_to_string(table)?;
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
