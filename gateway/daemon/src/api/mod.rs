//! What a running gateway can be asked, in HTTP and JSON: over the control socket, a Unix-domain socket in the data folder, for the command line on this
//! machine; and over listeners that speak HTTP, for who has logged in or has an API key.
//!
//! There is one table of questions ([`routes`]) for both. Who may open the socket may do everything: it is for the gateway's own user alone.

mod administrators;
mod alarms;
mod backups;
mod bans;
mod bridges;
mod certificates;
mod client;
mod clients;
mod clock;
mod compat;
mod configuration;
mod diagnostics;
mod explain;
mod firmware;
mod guard;
mod lines;
mod listeners;
mod log;
mod login;
mod lwm2m;
mod lwm2m_command;
mod metrics;
mod openapi;
mod provisioning;
mod publish;
mod retained;
mod routes;
mod server;
mod snapshot;
mod streams;
mod system;
mod tail;
mod topics;
mod traces;
mod users;
mod wans;

pub(crate) use client::{ControlClient, ControlError, TO_ANSWER};
pub(crate) use guard::Pace;
pub(crate) use login::Logins;
pub(crate) use server::Control;
pub(crate) use snapshot::{SnapshotError, snapshot};
pub(crate) use streams::Streams;
pub(crate) use tail::is_ours as is_tail;

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// Where the socket is.
pub(crate) fn socket(data_dir: &Path) -> PathBuf {
    data_dir.join("control.sock")
}

/// The data folder under a name that is short while it is held: the system takes at most 107 bytes for the name of a socket.
struct ShortName {
    name: PathBuf,
    _folder: File,
}

impl ShortName {
    fn of(data_dir: &Path) -> std::io::Result<Self> {
        let folder = File::open(data_dir)?;
        let name = if cfg!(target_os = "linux") {
            format!("/proc/self/fd/{}", folder.as_raw_fd()).into()
        } else {
            data_dir.to_owned()
        };
        Ok(Self {
            name,
            _folder: folder,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::Method;
    use std::os::unix::fs::PermissionsExt;

    /// sockaddr_un has 108 bytes. A socket that a killed gateway left is in nobody's way.
    #[tokio::test]
    async fn a_data_folder_may_have_a_long_name() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().join("x".repeat(200));
        drop(Control::bind(&data_dir).unwrap());
        let listener = Control::bind(&data_dir).unwrap();
        let mode = std::fs::metadata(socket(&data_dir)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let accepted = tokio::spawn(async move { listener.accept().await.map(drop) });
        let client = ControlClient::new(&data_dir);
        let error = client.ask(Method::GET, "/", None).await.unwrap_err().to_string();
        assert!(error.contains("cannot be understood"), "{error}");
        accepted.await.unwrap().unwrap();
        let nowhere = ControlClient::new(&folder.path().join("y"));
        let error = nowhere.ask(Method::GET, "/", None).await.unwrap_err().to_string();
        assert!(error.contains("no gateway answers at"), "{error}");
    }

    /// Who accepts and is silent, or begins and does not go on, may be anybody. No clause says how long: RFC 9112 §9.5 leaves it to the client.
    #[tokio::test(start_paused = true)]
    async fn a_gateway_that_does_not_answer_is_not_waited_for_without_end() {
        use tokio::io::AsyncWriteExt as _;
        for (said, method, within) in [
            ("", Method::GET, "1m"),
            ("", Method::POST, "1h"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n[", Method::GET, "1m"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let listener = Control::bind(folder.path()).unwrap();
            let accepted = tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.write_all(said.as_bytes()).await.unwrap();
                std::future::pending::<()>().await;
            });
            let client = ControlClient::new(folder.path());
            let error = client.ask(method, "/", None).await.unwrap_err().to_string();
            assert!(
                error.contains(&format!("has not answered within {within}:")),
                "{error}"
            );
            accepted.abort();
        }
    }
}
