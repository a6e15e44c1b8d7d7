//! A device whose MQTT-SN messages go through a DTLS client that is not ours: OpenSSL's, tinydtls', or one around Mbed TLS.

use super::sn::{Habits, SnWire};
use super::tools::clients;
use super::{HANG, SnPeer, eventually};
use std::cell::RefCell;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

/// Whose DTLS it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DtlsStack {
    /// `openssl s_client`.
    OpenSsl,
    /// tinydtls, by its Python package.
    TinyDtls,
    /// Mbed TLS, by a program in C.
    MbedTls,
}

/// What a client shows of itself.
#[derive(Clone, Debug)]
pub enum DtlsLogin {
    /// A shared key: its identity, and the key in hexadecimal.
    Psk(&'static str, &'static str),
    /// A certificate, and its key; and the CA that it trusts.
    Certificate {
        /// The CA.
        ca: PathBuf,
        /// The certificate; `None` for none.
        own: Option<(PathBuf, PathBuf)>,
    },
}

/// A DTLS client as a process; killed when it is dropped.
pub struct DtlsClient {
    child: Child,
    stdin: RefCell<ChildStdin>,
    messages: Receiver<Vec<u8>>,
    said: Arc<Mutex<String>>,
}

impl DtlsClient {
    /// Starts one, by the name that the suite has there. `cid`: it offers Connection IDs.
    ///
    /// # Panics
    /// If it cannot be had.
    pub fn start(stack: DtlsStack, gateway: SocketAddr, suite: &str, login: &DtlsLogin, cid: bool) -> Self {
        Self::run(match stack {
            DtlsStack::OpenSsl => openssl(gateway, suite, login),
            DtlsStack::TinyDtls => tinydtls(gateway, login),
            DtlsStack::MbedTls => mbedtls(gateway, suite, login, cid),
        })
    }

    /// OpenSSL's, which writes its session to a file, and resumes the one that is in it.
    ///
    /// # Panics
    /// If it cannot be had.
    pub fn resuming(gateway: SocketAddr, suite: &str, login: &DtlsLogin, session: &Path) -> Self {
        let mut command = openssl(gateway, suite, login);
        if session.exists() {
            command.arg("-sess_in").arg(session);
        }
        command.arg("-sess_out").arg(session);
        Self::run(command)
    }

    fn run(mut command: Command) -> Self {
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.expect("it starts");
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().expect("it is piped"));
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            let mut stdout = BufReader::new(stdout);
            while let Some(message) = read_message(&mut stdout) {
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let said = Arc::new(Mutex::new(String::new()));
        let (heard, stderr) = (Arc::clone(&said), child.stderr.take().expect("it is piped"));
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut said = heard.lock().expect("nobody panics with it");
                said.push_str(&line);
                said.push('\n');
            }
        });
        Self {
            child,
            stdin: RefCell::new(stdin.expect("it is piped")),
            messages,
            said,
        }
    }

    /// What it said of itself.
    pub fn said(&self) -> String {
        self.said.lock().expect("nobody panics with it").clone()
    }

    /// Waits until it says this.
    pub fn wait_for(&self, what: &str) {
        eventually(what, || self.said().contains(what).then_some(()));
    }

    /// Waits until it has ended.
    pub fn wait_for_its_end(&mut self) {
        eventually("the client to give up", || {
            self.child.try_wait().expect("it can be asked")
        });
    }

    /// Lets a client around Mbed TLS go on from another port.
    pub fn mover(&self) -> impl Fn() + use<> {
        let (pid, said) = (self.child.id(), Arc::clone(&self.said));
        move || {
            let count = || {
                let said = said.lock().expect("nobody panics with it");
                said.matches("moved").count()
            };
            let before = count();
            let told = Command::new("kill")
                .args(["-s", "USR1", &pid.to_string()])
                .status();
            assert!(told.expect("there is `kill`").success());
            eventually("the client to move", || (count() > before).then_some(()));
        }
    }

    /// Sends a message.
    pub fn say(&self, message: &[u8]) {
        let mut stdin = self.stdin.borrow_mut();
        // Should it be gone, no answer comes either.
        let _ = stdin.write_all(message).and_then(|()| stdin.flush());
    }

    /// The next message.
    ///
    /// # Panics
    /// If none comes.
    pub fn hear(&self) -> Vec<u8> {
        let heard = self.messages.recv_timeout(HANG);
        heard.unwrap_or_else(|_| panic!("no message: {}", self.said()))
    }

    /// A device that speaks through it.
    pub fn device(self, id: &str) -> SnPeer {
        let habits = Habits {
            t_retry: HANG,
            n_retry: 0,
            lossy: false,
        };
        SnPeer::over(Box::new(self), habits, id)
    }
}

impl Drop for DtlsClient {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl SnWire for DtlsClient {
    fn send(&self, bytes: &[u8]) {
        self.say(bytes);
        // `s_client` makes one record of what it reads at once.
        std::thread::sleep(Duration::from_millis(30));
    }

    fn receive(&self, within: Duration) -> Option<Vec<u8>> {
        self.messages.recv_timeout(within).ok()
    }
}

/// A message says how long it is. §5.2.1
fn read_message(from: &mut impl Read) -> Option<Vec<u8>> {
    let mut message = vec![0];
    from.read_exact(&mut message).ok()?;
    let mut len = usize::from(message[0]);
    if len == 1 {
        message.extend([0; 2]);
        from.read_exact(&mut message[1..]).ok()?;
        len = usize::from(u16::from_be_bytes([message[1], message[2]]));
    }
    let begun = message.len();
    message.resize(len.max(begun), 0);
    from.read_exact(&mut message[begun..]).ok()?;
    Some(message)
}

fn openssl(gateway: SocketAddr, suite: &str, login: &DtlsLogin) -> Command {
    installed();
    let mut command = Command::new("openssl");
    // Its usual level of security has no tags of 8 bytes.
    let cipher = format!("{suite}:@SECLEVEL=0");
    command.args(["s_client", "-dtls1_2", "-quiet", "-cipher", &cipher]);
    command.args(["-connect", &gateway.to_string()]);
    match login {
        DtlsLogin::Psk(identity, key) => {
            command.args(["-psk_identity", identity, "-psk", key]);
        }
        DtlsLogin::Certificate { ca, own } => {
            command.arg("-verify_return_error").arg("-CAfile").arg(ca);
            if let Some((certificate, key)) = own {
                command.arg("-cert").arg(certificate).arg("-key").arg(key);
            }
        }
    }
    command
}

fn tinydtls(gateway: SocketAddr, login: &DtlsLogin) -> Command {
    installed();
    let DtlsLogin::Psk(identity, key) = login else {
        panic!("its package has shared keys only");
    };
    let mut command = super::python_client("tinydtls_client.py");
    command.args([
        &gateway.ip().to_string(),
        &gateway.port().to_string(),
        *identity,
        *key,
    ]);
    command
}

fn mbedtls(gateway: SocketAddr, suite: &str, login: &DtlsLogin, cid: bool) -> Command {
    let mut command = Command::new(installed());
    command.env("DTLS_HOST", gateway.ip().to_string());
    command.args([
        gateway.port().to_string().as_str(),
        suite,
        if cid { "yes" } else { "no" },
    ]);
    match login {
        DtlsLogin::Psk(identity, key) => {
            command.args(["psk", identity, key]);
        }
        DtlsLogin::Certificate { ca, own } => {
            let (certificate, key) = own.as_ref().expect("it shows one");
            command.arg("cert").arg(ca).arg(certificate).arg(key);
        }
    }
    command
}

/// Installs all of them at need. Where the program around Mbed TLS is.
fn installed() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/install_dtls.sh");
        let folder = clients();
        let done = Command::new("sh")
            .arg(script)
            .arg(folder)
            .arg(env!("CARGO"))
            .status();
        assert!(
            done.expect("there is `sh`").success(),
            "the DTLS clients cannot be installed"
        );
        folder.join("mbedtls-0.3.1/dtls_client")
    })
}
