//! Debian's mosquitto as a broker with a folder of its own.

use super::eventually;
use super::tools::clients;
use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

/// A broker that can be stopped and started again; its sessions outlive that.
pub struct Mosquitto {
    folder: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
}

impl Mosquitto {
    /// A broker that lets everybody in, with further lines of its configuration; it is not started yet.
    ///
    /// # Panics
    /// If it cannot be installed or its configuration cannot be written.
    pub fn new(lines: &str) -> Self {
        clients();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let port = free_port();
        let config = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nuser root\nlog_type all\nlog_dest stderr\n\
             persistence true\npersistence_location {}/\nmax_queued_messages 0\nsys_interval 1\n{lines}\n",
            folder.path().display()
        );
        std::fs::write(folder.path().join("mosquitto.conf"), config).expect("it is written");
        Self {
            folder,
            port,
            child: None,
        }
    }

    /// The same, started.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(lines: &str) -> Self {
        let mut broker = Self::new(lines);
        broker.run();
        broker
    }

    /// Starts it, on the port that it had.
    ///
    /// # Panics
    /// If it does not start.
    pub fn run(&mut self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join("log"));
        let child = Command::new("/usr/sbin/mosquitto")
            .args(["-c", "mosquitto.conf"])
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.expect("a log"))
            .spawn();
        let child = self.child.insert(child.expect("mosquitto is there"));
        eventually("mosquitto to listen", || {
            let ended = child.try_wait().expect("it can be asked");
            assert!(ended.is_none(), "mosquitto ended: {}", log_of(self.folder.path()));
            TcpStream::connect(("127.0.0.1", self.port)).ok()
        });
    }

    /// Ends it as an operator would: its sessions are written.
    ///
    /// # Panics
    /// If it did not run.
    pub fn stop(&mut self) {
        let mut child = self.child.take().expect("it runs");
        let told = Command::new("kill").arg(child.id().to_string()).status();
        assert!(told.expect("there is `kill`").success());
        child.wait().expect("it ends");
    }

    /// Ends it as the system would in a hurry, by SIGKILL: what it had not saved is gone.
    ///
    /// # Panics
    /// If it did not run.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("it is killed");
        child.wait().expect("it ends");
    }

    /// Lets it read its password file again.
    ///
    /// # Panics
    /// If it does not run.
    pub fn reload(&self) {
        let id = self.child.as_ref().expect("it runs").id();
        let told = Command::new("kill").args(["-HUP", &id.to_string()]).status();
        assert!(told.expect("there is `kill`").success());
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// All that it logged.
    pub fn log(&self) -> String {
        log_of(self.folder.path())
    }

    /// How often a client of this name came.
    pub fn connects(&self, client: &str) -> usize {
        let came = format!(" as {client} (");
        self.log().matches(&came).count()
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn log_of(folder: &Path) -> String {
    let bytes = std::fs::read(folder.join("log")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A port that nobody has, below those that the system hands out by itself.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let process = u16::try_from(std::process::id() % 10_000).expect("below 10,000");
    std::iter::repeat_with(|| NEXT.fetch_add(1, Ordering::Relaxed))
        .map(|n| 20_000 + process.wrapping_add(n) % 10_000)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("one of 10,000 is free")
}
