//! TLS, the client's side.

use super::DialError;
use headgate_certificate_time::Now;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client};

/// Where systems keep the authorities they trust.
const SYSTEM_AUTHORITIES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// What TLS is to use and to believe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientTls {
    /// Authorities, instead of the system's.
    pub cafile: Option<PathBuf>,
    /// Our own certificate.
    pub cert: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
    /// Believe any server.
    pub insecure: bool,
    /// Application protocols that we offer (ALPN), best first.
    pub alpn: Vec<String>,
    /// The name that the server is asked for (SNI) and must prove, instead of the host's.
    pub server_name: Option<String>,
}

/// A file that TLS needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientFile {
    /// Whom to believe.
    Authorities,
    /// Our certificate, or that with its key.
    Certificate,
    /// Its key.
    Key,
}

/// Why there is no TLS.
pub(super) enum Failure {
    /// Our own files are of no use.
    Files(DialError),
    /// The handshake failed, in words.
    Handshake(String),
}

impl ClientTls {
    /// Whether there is anything that only means something with TLS.
    pub fn any(&self) -> bool {
        self.cafile.is_some() || self.cert.is_some() || self.key.is_some() || self.insecure
    }

    /// All that is wrong with the files, where [`Self::config`] tells the first.
    pub fn faults(&self) -> Vec<(ClientFile, DialError)> {
        let mut faults = Vec::new();
        if !self.insecure
            && let Err(error) = self.authorities()
        {
            faults.push((ClientFile::Authorities, error));
        }
        if let (Some(cert), Some(key)) = (&self.cert, &self.key) {
            let before = faults.len();
            let chain = certificates(cert).map(drop);
            let private = private_key(key).map(drop);
            faults.extend(chain.err().map(|error| (ClientFile::Certificate, error)));
            faults.extend(private.err().map(|error| (ClientFile::Key, error)));
            // Whether they belong together.
            let alone = Self {
                insecure: true,
                ..self.clone()
            };
            if faults.len() == before
                && let Err(error) = alone.config()
            {
                faults.push((ClientFile::Certificate, error));
            }
        }
        faults
    }

    /// The configuration that they say.
    pub fn config(&self) -> Result<ClientConfig, DialError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_details(provider.clone(), Arc::new(Now))
            .with_safe_default_protocol_versions()
            .expect("ring has suites for the default versions");
        let builder = if self.insecure {
            let anything = Arc::new(Anything(provider));
            builder.dangerous().with_custom_certificate_verifier(anything)
        } else {
            builder.with_root_certificates(self.authorities()?)
        };
        let mut config = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => {
                let chain = certificates(cert)?;
                let private = private_key(key)?;
                builder
                    .with_client_auth_cert(chain, private)
                    .map_err(|error| match error {
                        rustls::Error::InconsistentKeys(_) => {
                            let key = key.display();
                            file(
                                cert,
                                format!(
                                    "the certificate is not for the key in {key}: it was made for another one"
                                ),
                            )
                        }
                        error => file(cert, error),
                    })?
            }
            _ => builder.with_no_client_auth(),
        };
        config.alpn_protocols = self.alpn.iter().map(|name| name.clone().into_bytes()).collect();
        Ok(config)
    }

    /// The handshake with this host.
    pub(super) async fn secure(
        &self,
        tcp: TcpStream,
        host: &str,
    ) -> Result<client::TlsStream<TcpStream>, Failure> {
        let this = self.clone();
        // Files can be slow.
        let config = tokio::task::spawn_blocking(move || this.config()).await;
        let config = config
            .map_err(|error| Failure::Handshake(error.to_string()))?
            .map_err(Failure::Files)?;
        let name = self.server_name.as_deref().unwrap_or(host).to_owned();
        let name = ServerName::try_from(name).map_err(|e| Failure::Handshake(e.to_string()))?;
        let connector = TlsConnector::from(Arc::new(config));
        let stream = connector.connect(name, tcp).await;
        stream.map_err(|error| Failure::Handshake(explain(&error)))
    }

    fn authorities(&self) -> Result<RootCertStore, DialError> {
        let mut roots = RootCertStore::empty();
        if let Some(path) = &self.cafile {
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|e| file(path, e))?;
            }
            return Ok(roots);
        }
        let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
        let mut known = named.into_iter().chain(SYSTEM_AUTHORITIES.map(PathBuf::from));
        let path = known.find(|path| path.exists()).ok_or(DialError::NoAuthorities)?;
        // Of a system's hundred authorities some may be odd.
        roots.add_parsable_certificates(certificates(&path)?);
        Ok(roots)
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, DialError> {
    let read = CertificateDer::pem_file_iter(path).map_err(|e| file(path, e))?;
    let read: Vec<_> = read.collect::<Result<_, _>>().map_err(|e| file(path, e))?;
    if read.is_empty() {
        return Err(file(path, "there is no certificate in it"));
    }
    Ok(read)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, DialError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| match error {
        rustls_pki_types::pem::Error::NoItemsFound => file(path, "there is no private key in it"),
        error => file(path, error),
    })
}

fn file(path: &Path, cause: impl ToString) -> DialError {
    DialError::File {
        path: path.to_owned(),
        cause: cause.to_string(),
    }
}

/// Version, cipher suite and application protocol.
pub(super) fn describe(stream: &client::TlsStream<TcpStream>) -> String {
    let tls = stream.get_ref().1;
    let version = match tls.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_3) => "1.3",
        _ => "1.2",
    };
    let suite = tls
        .negotiated_cipher_suite()
        .map_or_else(String::new, |suite| format!(", {:?}", suite.suite()));
    let alpn = tls.alpn_protocol().map_or_else(String::new, |name| {
        format!(", ALPN {}", String::from_utf8_lossy(name))
    });
    format!("version {version}{suite}{alpn}")
}

/// What a failed handshake means.
pub fn explain(error: &io::Error) -> String {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let words = match inner {
        Some(rustls::Error::InvalidCertificate(cause)) => match cause {
            CertificateError::UnknownIssuer => {
                "its certificate is signed by an authority that is not known here (see --cafile)"
            }
            CertificateError::BadSignature => {
                "its certificate is not signed by the authority of that name that is known here (see --cafile)"
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "its certificate has expired"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its certificate is not valid yet"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "its certificate is for another name"
            }
            CertificateError::Revoked => "its certificate was revoked",
            // webpki's own words, which rustls passes on.
            cause if format!("{cause:?}").contains("CaUsedAsEndEntity") => {
                "its certificate is a CA's (CA:TRUE), which is no server's: let that CA sign one for the server (docs/security.md)"
            }
            _ => return format!("its certificate is not acceptable: {cause:?}"),
        },
        Some(rustls::Error::InvalidMessage(_)) => "it does not speak TLS",
        Some(rustls::Error::AlertReceived(alert)) => return format!("it refused us: {alert:?}"),
        _ if error.kind() == io::ErrorKind::UnexpectedEof => "it closed the connection during the handshake",
        _ => return error.to_string(),
    };
    words.to_owned()
}

/// Believes any certificate, but not that somebody has its key.
#[derive(Debug)]
struct Anything(Arc<CryptoProvider>);

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
