//! The gateway as a process with a folder of its own.

use super::{Certificates, HANG, eventually};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How clients come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "they are the names of the configuration")]
pub enum Transport {
    Tcp,
    Tls,
    Ws,
    Wss,
}

impl Transport {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Tcp, Self::Tls, Self::Ws, Self::Wss];

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }

    /// Whether there are certificates to believe.
    pub fn is_secure(self) -> bool {
        matches!(self, Self::Tls | Self::Wss)
    }
}

/// The gateway's program: that of `HEADGATE_BINARY`, or else built once with the profile of the tests.
///
/// `make test` names the one it has just built with the whole workspace. Built alone it has fewer features of tokio and others, which then are all
/// compiled a second time.
///
/// # Panics
/// If it cannot be built.
pub fn headgate() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(binary) = std::env::var_os("HEADGATE_BINARY") {
            return binary.into();
        }
        let profile_folder = profile_folder();
        let profile = match profile_folder.file_name().and_then(|name| name.to_str()) {
            Some("debug") | None => "dev",
            Some(name) => name,
        };
        let built = Command::new(env!("CARGO"))
            .args([
                "build",
                "--quiet",
                "--package",
                "headgate",
                "--profile",
                profile,
                "--target-dir",
            ])
            .arg(profile_folder.parent().expect("it is below the target folder"))
            .status();
        assert!(built.expect("cargo runs").success(), "the gateway does not build");
        profile_folder.join("headgate")
    })
}

/// Where the programs of this build are, such as `target/debug`.
pub(super) fn profile_folder() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a program");
    let deps = test.parent().expect("it is in a folder");
    deps.parent().expect("and that in another").to_owned()
}

/// What a gateway is made of; it outlives the process.
pub struct Setup {
    folder: tempfile::TempDir,
    certificates: Certificates,
    /// Further lines of the configuration, before its listeners.
    more: String,
    environment: BTreeMap<String, PathBuf>,
}

impl Setup {
    /// A gateway with a listener for each transport and nothing else told.
    ///
    /// # Panics
    /// If there is no temporary folder.
    pub fn new() -> Self {
        Self::with("")
    }

    /// With sections of the configuration.
    ///
    /// # Panics
    /// If there is no temporary folder.
    pub fn with(sections: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let certificates = Certificates::create(folder.path());
        Self {
            folder,
            certificates,
            more: sections.to_owned(),
            environment: BTreeMap::new(),
        }
    }

    /// With a variable in its environment.
    pub fn variable(&mut self, name: &str, value: &str) {
        self.environment.insert(name.to_owned(), value.into());
    }

    /// With a system's clock of its own: [`Self::shift_clock`] sets it, also while the gateway runs.
    ///
    /// # Panics
    /// If Debian's libfaketime cannot be installed.
    #[must_use]
    pub fn with_clock(mut self) -> Self {
        let off = self.folder.path().join("clock-off");
        self.environment = [
            ("LD_PRELOAD", super::tools::libfaketime()),
            ("FAKETIME_TIMESTAMP_FILE", off),
            ("FAKETIME_NO_CACHE", "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
            ("DONT_FAKE_MONOTONIC", "1".into()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        self.shift_clock(0);
        self
    }

    /// From now on the gateway's system's clock is so many seconds off.
    ///
    /// # Panics
    /// If that cannot be written down.
    pub fn shift_clock(&self, seconds: i64) {
        let (new, file) = (
            self.folder.path().join("clock-new"),
            self.folder.path().join("clock-off"),
        );
        std::fs::write(&new, format!("{seconds:+}")).expect("it is written");
        std::fs::rename(new, file).expect("it is written");
    }

    /// Its certificates.
    pub fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// The authority that signed the gateway's certificate.
    pub fn ca(&self) -> &Path {
        &self.certificates.ca
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts another gateway's program with the same configuration and data, and these variables in its environment.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start_program(&self, program: &Path, variables: &[(&str, &str)]) -> Daemon<'_> {
        self.write_config(&Transport::ALL.map(|transport| (transport, 0)).into());
        self.run_program(program, variables)
    }

    /// Starts the gateway and waits until it listens.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(&self) -> Daemon<'_> {
        // The system chooses the ports.
        self.start_at(Transport::ALL.map(|transport| (transport, 0)).into())
    }

    fn start_at(&self, wanted: BTreeMap<Transport, u16>) -> Daemon<'_> {
        self.write_config(&wanted);
        self.run()
    }

    fn write_config(&self, wanted: &BTreeMap<Transport, u16>) {
        let config = self.folder.path().join("headgate.toml");
        std::fs::write(&config, self.config(wanted)).expect("it is written");
    }

    /// Starts the gateway with the configuration as it stands there.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start_as_it_is(&self) -> Daemon<'_> {
        self.run()
    }

    /// Starts it with the configuration as it stands there.
    fn run(&self) -> Daemon<'_> {
        self.run_program(headgate(), &[])
    }

    fn run_program(&self, program: &Path, variables: &[(&str, &str)]) -> Daemon<'_> {
        let log = self.folder.path().join("log");
        let file = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .expect("a log");
        let earlier = file.metadata().expect("a log").len();
        // As many connections as the system allows.
        let child = Command::new("sh")
            .args([
                "-c",
                "ulimit -n $(ulimit -Hn); exec \"$0\" run --config headgate.toml",
            ])
            .arg(program)
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("NO_COLOR", "1")
            .envs(&self.environment)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn();
        let mut daemon = Daemon {
            setup: self,
            child: child.expect("it starts"),
            ports: BTreeMap::new(),
            earlier: usize::try_from(earlier).expect("a short log"),
        };
        daemon.ports = eventually("the gateway to listen", || {
            let ended = daemon.child.try_wait().expect("it can be asked");
            assert!(ended.is_none(), "the gateway ended: {}", self.log());
            let ports = ports(&daemon.log());
            (ports.len() == Transport::ALL.len()).then_some(ports)
        });
        daemon
    }

    /// All that was logged, also by earlier lives.
    ///
    /// # Panics
    /// If it cannot be read.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(self.folder.path().join("log")).expect("a log");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The log, once it tells all of these: it is written a little after what it tells of.
    ///
    /// # Panics
    /// If it never does.
    pub fn log_with(&self, told: &[&str]) -> String {
        let until = Instant::now() + HANG;
        loop {
            let log = self.log();
            let Some(missing) = told.iter().find(|told| !log.contains(**told)) else {
                return log;
            };
            assert!(Instant::now() < until, "the log never tells {missing:?}:\n{log}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn config(&self, ports: &BTreeMap<Transport, u16>) -> String {
        // Tests run at the same time: none has the default port.
        let sockets = ["mqttsn", "coap", "lwm2m"]
            .iter()
            .filter(|list| !self.more.contains(&format!("[[{list}]]")));
        let none: String = sockets.map(|list| format!("{list} = []\n")).collect();
        let mut text = format!("data_dir = \"data\"\n{none}{}\n", self.more);
        for (transport, port) in ports {
            let name = transport.name();
            text += &format!(
                "[[listeners]]\nname = \"{name}\"\nkind = \"{name}\"\nbind = \"127.0.0.1:{port}\"\n"
            );
            if transport.is_secure() {
                let (certificate, key) = (&self.certificates.certificate, &self.certificates.key);
                text += &format!("[listeners.tls]\ncertificate = {certificate:?}\nkey = {key:?}\n");
            }
        }
        text
    }
}

impl Default for Setup {
    fn default() -> Self {
        Self::new()
    }
}

/// The log tells the ports.
fn ports(log: &str) -> BTreeMap<Transport, u16> {
    let port = |transport: Transport| {
        let listener = format!(" listener={} ", transport.name());
        let line = log
            .lines()
            .find(|line| line.contains("listening") && line.contains(&listener))?;
        let port = line.rsplit(':').next()?.trim().parse().ok()?;
        Some((transport, port))
    };
    Transport::ALL.into_iter().filter_map(port).collect()
}

/// A running gateway; killed when it is dropped.
pub struct Daemon<'a> {
    setup: &'a Setup,
    child: Child,
    ports: BTreeMap<Transport, u16>,
    /// The length of the log of earlier lives, in bytes.
    earlier: usize,
}

impl<'a> Daemon<'a> {
    /// What it is made of.
    pub fn setup(&self) -> &Setup {
        self.setup
    }

    /// What it logged itself, without earlier lives.
    fn log(&self) -> String {
        self.setup.log().split_off(self.earlier)
    }

    /// Where it listens.
    pub fn port(&self, transport: Transport) -> u16 {
        self.ports[&transport]
    }

    /// Where a listener of this name listens, which has a port of the system's choice.
    pub fn port_of(&self, listener: &str) -> u16 {
        let name = format!(" listener={listener} ");
        eventually("the listener", || {
            let log = self.log();
            let mut lines = log.lines().rev();
            let line = lines.find(|line| line.contains("listening") && line.contains(&name))?;
            line.rsplit(':').next()?.trim().parse().ok()
        })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal by its name: `HUP`.
    pub fn signal(&self, name: &str) {
        let told = Command::new("kill")
            .args(["-s", name, &self.pid().to_string()])
            .status();
        assert!(told.expect("there is `kill`").success());
    }

    /// Its memory, in bytes: without the pages of its program, of which a debug build has more than three times as many as a release build.
    ///
    /// # Panics
    /// If the process is gone.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.expect("a process has memory") * 1024
    }

    /// Whether it still runs.
    ///
    /// # Panics
    /// If it cannot be asked.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().expect("it can be asked").is_none()
    }

    /// Ends it as the system would in a hurry: SIGKILL.
    ///
    /// # Panics
    /// If it had ended by itself.
    pub fn kill(mut self) {
        assert!(self.is_alive(), "it ended by itself: {}", self.setup.log());
        self.child.kill().expect("it is killed");
        self.child.wait().expect("it ends");
    }

    /// Kills it and starts another with the configuration as it is then.
    ///
    /// # Panics
    /// If that one does not start.
    #[must_use]
    pub fn restart_as_it_is(self) -> Daemon<'a> {
        let setup = self.setup;
        self.kill();
        setup.run()
    }

    /// Kills it and starts another on the same ports.
    ///
    /// # Panics
    /// If that one does not start.
    #[must_use]
    pub fn restart(self) -> Daemon<'a> {
        let (setup, ports) = (self.setup, self.ports.clone());
        self.kill();
        setup.start_at(ports)
    }

    /// Ends it as an operator would: SIGTERM.
    ///
    /// # Panics
    /// If it does not end well.
    pub fn stop(mut self) {
        let told = Command::new("kill").arg(self.pid().to_string()).status();
        assert!(told.expect("there is `kill`").success());
        let status = eventually("the gateway to stop", || {
            self.child.try_wait().expect("it can be asked")
        });
        assert!(status.success(), "it ended with {status}: {}", self.setup.log());
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
