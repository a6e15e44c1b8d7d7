//! TLS for the server: certificates by host name, client certificates, and files that may change.
//!
//! Changed files count for new handshakes; connections already open keep what they agreed on. What cannot be
//! used leaves the old in place, and is logged once for each change. A new configuration also forgets the
//! sessions that clients could resume, or a revoked certificate would live on in them.

pub(crate) mod files;
pub(crate) mod identity;
pub(crate) mod words;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};
use std::{fmt, io};

use headgate_model::Fault;
use rustls::ServerConfig;
use rustls::server::VerifierBuilderError;
use rustls_pki_types::pem;

use crate::settings::TlsSettings;
use files::FileState;

/// How often the files are looked at, at most. Only new handshakes cause a look, so an idle gateway rests.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The server's TLS configuration, kept in step with its files. Clones share it.
#[derive(Clone)]
pub struct ServerTls(Arc<Inner>);

struct Inner {
    name: Arc<str>,
    settings: TlsSettings,
    config: RwLock<Arc<ServerConfig>>,
    state: Mutex<TlsState>,
    /// The files as they were before they were last read.
    seen: Mutex<Vec<FileState>>,
    started: Instant,
    looked_at_ms: AtomicU64,
}

/// What is served, and what keeps the files from being served as they are now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsState {
    /// The certificates in use.
    pub certificates: Vec<ServedCertificate>,
    /// Why files that have changed are not in use.
    pub fault: Option<String>,
}

/// A certificate chain in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedCertificate {
    /// Its file.
    pub path: PathBuf,
    /// Whose it is. RFC 4514
    pub subject: String,
    /// Seconds since 1970 from which on all of the chain are valid.
    pub not_before: i64,
    /// Seconds since 1970 up to which all of the chain are valid.
    pub not_after: i64,
    /// Where the chain breaks: a certificate that the next one did not issue.
    pub chain_fault: Option<String>,
}

/// What a certificate says, for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateView {
    /// Whose it is. RFC 4514
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// Host names, addresses and whatever else it is for. RFC 5280 §4.2.1.6
    pub names: Vec<String>,
    /// Seconds since 1970 from which on all of the chain are valid.
    pub not_before: i64,
    /// Seconds since 1970 up to which all of the chain are valid.
    pub not_after: i64,
    /// Subjects of the chain, our own first.
    pub chain: Vec<String>,
    /// Where the chain breaks.
    pub chain_fault: Option<String>,
}

/// What the certificate in a file says; `None` when there is none, or it cannot be read.
pub fn view_certificate(path: &Path) -> Option<CertificateView> {
    files::view(path)
}

/// Whether a certificate and a key can be served: both are there, whole, and belong together.
pub fn check_certificate(certificate: &Path, key: &Path) -> Result<(), TlsError> {
    files::check(certificate, key)
}

/// What is wrong with TLS settings or their files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file is not PEM, or not what is expected in it.
    #[error("{}: {source}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: pem::Error,
    },
    /// A file without a single certificate, key or list.
    #[error("{}: there is no {wanted} in it{}", path.display(), swapped(*.found))]
    Empty {
        /// The file.
        path: PathBuf,
        /// What should be in it.
        wanted: &'static str,
        /// What is in it.
        found: Option<&'static str>,
    },
    /// The certificate is that of another key.
    #[error("{}: the certificate is not for the key in {}: it was made for another one", certificate.display(), key.display())]
    Mismatch {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
    },
    /// A certificate, key or CA cannot be used.
    #[error("{}: {source}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
    /// CA or revocation lists cannot be used.
    #[error("client certificates cannot be verified: {0}")]
    Verifier(#[from] VerifierBuilderError),
    /// No such cipher suite or key exchange group.
    #[error("`{name}` is unknown; known are {known}")]
    Unknown {
        /// As in the settings.
        name: String,
        /// What could be written.
        known: String,
    },
    /// Not a host name.
    #[error("`{0}` is no host name")]
    HostName(String),
    /// `key_log` in a release build.
    #[error("the key log exists in debug builds only")]
    KeyLog,
    /// The settings as a whole make no sense to TLS.
    #[error(transparent)]
    Config(#[from] rustls::Error),
}

fn swapped(found: Option<&'static str>) -> String {
    found.map_or_else(String::new, |found| {
        format!(", but a {found}: are `certificate` and `key` swapped?")
    })
}

/// What is probably not as it was meant.
pub(crate) fn warnings(settings: &TlsSettings) -> Vec<Fault> {
    files::warnings(settings)
}

/// All that is wrong with settings and their files.
pub(crate) fn faults(settings: &TlsSettings) -> Vec<Fault> {
    files::faults(settings)
}

impl ServerTls {
    /// Reads all files. `name` is for the log.
    pub fn load(name: &str, settings: TlsSettings) -> Result<Self, TlsError> {
        let seen = files::look(&settings);
        let config = files::read(&settings)?;
        let state = TlsState {
            certificates: files::served(&settings),
            fault: None,
        };
        Ok(Self(Arc::new(Inner {
            name: name.into(),
            settings,
            config: RwLock::new(Arc::new(config)),
            state: Mutex::new(state),
            seen: Mutex::new(seen),
            started: Instant::now(),
            looked_at_ms: AtomicU64::new(0),
        })))
    }

    /// What the next handshake should use. Looks at the files if the last look was a second ago.
    pub async fn config(&self) -> Arc<ServerConfig> {
        if self.is_due() {
            let this = self.clone();
            // Files can be slow. Should the look panic, the old configuration stays.
            let _ = tokio::task::spawn_blocking(move || this.reload()).await;
        }
        self.0
            .config
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Looks at the files now. `Ok(true)`: they had changed and count from now on. An error leaves all as it
    /// was; it is logged, once for each change.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let inner = &*self.0;
        let mut seen = inner.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // Looked at before they are read: a file that changes meanwhile is read once more.
        let now = files::look(&inner.settings);
        if now == *seen {
            return Ok(false);
        }
        *seen = now;
        let read = files::read(&inner.settings);
        let mut state = inner.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.fault = read.as_ref().err().map(ToString::to_string);
        match read {
            Ok(config) => {
                state.certificates = files::served(&inner.settings);
                *inner.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
                tracing::info!(listener = %inner.name, "TLS files reloaded");
                Ok(true)
            }
            Err(error) => {
                tracing::error!(listener = %inner.name, %error, "TLS files unusable, the old stay in use");
                Err(error)
            }
        }
    }

    /// What is served now, as of the last look at the files.
    pub fn state(&self) -> TlsState {
        let state = self.0.state.lock();
        state.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn is_due(&self) -> bool {
        let now = u64::try_from(self.0.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let last = self.0.looked_at_ms.load(Ordering::Relaxed);
        let wait = u64::try_from(LOOK_EVERY.as_millis()).expect("a second");
        // Of several handshakes at a time one looks.
        now - last.min(now) >= wait
            && self
                .0
                .looked_at_ms
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls")
            .field("name", &self.0.name)
            .finish_non_exhaustive()
    }
}
