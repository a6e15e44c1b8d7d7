//! From settings and files to a configuration.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use headgate_certificate_time::Now;
use headgate_model::Fault;
use rustls::crypto::{CryptoProvider, SupportedKxGroup, ring};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, SupportedCipherSuite, version};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, DnsName, PrivateKeyDer};

use super::{CertificateView, ServedCertificate, TlsError, identity};
use crate::settings::{TlsSettings, TlsVersion};

/// By what a change of a file is noticed. `None`: it cannot be looked at.
pub(crate) type FileState = Option<(Option<SystemTime>, u64, [i64; 3])>;

pub(super) fn look(settings: &TlsSettings) -> Vec<FileState> {
    let hosts = settings.sni.iter();
    let hosts = hosts.flat_map(|host| {
        [
            Some(&host.certificate),
            Some(&host.key),
            host.ocsp_response.as_ref(),
        ]
    });
    let own = [
        Some(&settings.certificate),
        Some(&settings.key),
        settings.ocsp_response.as_ref(),
    ];
    let paths = own
        .into_iter()
        .chain([settings.client_ca.as_ref()])
        .chain(settings.crl.iter().map(Some));
    paths.chain(hosts).flatten().map(|path| look_at(path)).collect()
}

pub(crate) fn look_at(path: &Path) -> FileState {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok(), metadata.len(), file_identity(&metadata)))
}

/// A file put in the place of another can have its time and size.
#[cfg(unix)]
fn file_identity(metadata: &fs::Metadata) -> [i64; 3] {
    use std::os::unix::fs::MetadataExt;
    [
        metadata.ino().cast_signed(),
        metadata.ctime(),
        metadata.ctime_nsec(),
    ]
}

#[cfg(not(unix))]
fn file_identity(_: &fs::Metadata) -> [i64; 3] {
    [0; 3]
}

/// What the certificates say that a configuration with these files serves: its own first, then those of further host names.
pub(super) fn served(settings: &TlsSettings) -> Vec<ServedCertificate> {
    let hosts = settings.sni.iter().map(|host| &host.certificate);
    let paths = std::iter::once(&settings.certificate).chain(hosts);
    paths
        .filter_map(|path| identity::served(path, &read_certificates(path).ok()?))
        .collect()
}

pub(super) fn read(settings: &TlsSettings) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(provider(settings)?);
    let certificates = Certificates {
        default: certified_key(
            &settings.certificate,
            &settings.key,
            settings.ocsp_response.as_deref(),
            &provider,
        )?,
        hosts: host_certificates(settings, &provider)?,
    };
    let versions: &[_] = match settings.min_version {
        TlsVersion::Tls12 => &[&version::TLS13, &version::TLS12],
        TlsVersion::Tls13 => &[&version::TLS13],
    };
    let verifier = client_verifier(settings, &provider)?;
    let mut config = ServerConfig::builder_with_details(provider, Arc::new(Now))
        .with_protocol_versions(versions)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(certificates));
    config.alpn_protocols = settings
        .alpn
        .iter()
        .map(|name| name.clone().into_bytes())
        .collect();
    // An order in the settings is the server's choice; otherwise the client knows best what is fast for it.
    config.ignore_client_order = !settings.ciphers.is_empty();
    if settings.key_log {
        if !cfg!(debug_assertions) {
            return Err(TlsError::KeyLog);
        }
        config.key_log = Arc::new(rustls::KeyLogFile::new());
    }
    Ok(config)
}

/// All that is wrong with settings and files, where [`read`] tells the first.
pub(super) fn faults(settings: &TlsSettings) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut note = |key: String, error: TlsError| faults.push(Fault::new(key, error.to_string()));
    for (n, name) in settings.ciphers.iter().enumerate() {
        if let Err(error) = cipher_suites(std::slice::from_ref(name)) {
            note(format!("ciphers[{n}]"), error);
        }
    }
    for (n, name) in settings.curves.iter().enumerate() {
        if let Err(error) = key_exchanges(std::slice::from_ref(name)) {
            note(format!("curves[{n}]"), error);
        }
    }
    let own = (&settings.certificate, &settings.key, &settings.ocsp_response);
    let hosts = settings.sni.iter().enumerate().map(|(n, host)| {
        let files = (&host.certificate, &host.key, &host.ocsp_response);
        (format!("sni[{n}]."), files)
    });
    for (place, (certificate, key, ocsp)) in std::iter::once((String::new(), own)).chain(hosts) {
        for (name, error) in certificate_faults(certificate, key, ocsp.as_deref()) {
            note(format!("{place}{name}"), error);
        }
    }
    for (n, host) in settings.sni.iter().enumerate() {
        for (at, name) in host.hostnames.iter().enumerate() {
            if let Err(error) = check_host_name(name) {
                note(format!("sni[{n}].hostnames[{at}]"), error);
            }
        }
    }
    if let Some(path) = &settings.client_ca
        && let Err(error) = read_roots(path)
    {
        note("client_ca".into(), error);
    }
    for (n, path) in settings.crl.iter().enumerate() {
        if let Err(error) = read_revocation_lists(path) {
            note(format!("crl[{n}]"), error);
        }
    }
    // What is wrong with the whole.
    if faults.is_empty()
        && let Err(error) = read(settings)
    {
        let key = match &error {
            TlsError::KeyLog => "key_log",
            TlsError::Verifier(_) => "crl",
            _ => "",
        };
        faults.push(Fault::new(key, error.to_string()));
    }
    faults
}

/// Certificates that are a CA's, which many clients do not take for a server's.
pub(super) fn warnings(settings: &TlsSettings) -> Vec<Fault> {
    let own = std::iter::once(("certificate".to_owned(), &settings.certificate));
    let hosts = settings.sni.iter().enumerate();
    let hosts = hosts.map(|(n, host)| (format!("sni[{n}].certificate"), &host.certificate));
    let of_a_ca = own.chain(hosts).filter(|(_, path)| {
        let chain = read_certificates(path).unwrap_or_default();
        chain.first().is_some_and(|own| identity::is_of_a_ca(own))
    });
    let what = "it is a CA's certificate (CA:TRUE), which many clients do not take for a server's: docs/security.md \
                shows how to make a CA and a certificate of it";
    of_a_ca
        .map(|(key, path)| Fault::new(key, format!("{}: {what}", path.display())))
        .collect()
}

/// What the certificate in a file says.
pub(super) fn view(path: &Path) -> Option<CertificateView> {
    identity::view(path, &read_certificates(path).ok()?)
}

/// Whether a certificate and a key can be served.
pub(super) fn check(certificate: &Path, key: &Path) -> Result<(), TlsError> {
    certified_key(certificate, key, None, &ring::default_provider()).map(drop)
}

/// What is wrong with each of the files, or with both together.
fn certificate_faults(certificate: &Path, key: &Path, ocsp: Option<&Path>) -> Vec<(&'static str, TlsError)> {
    let mut faults = Vec::new();
    faults.extend(read_certificates(certificate).err().map(|e| ("certificate", e)));
    faults.extend(read_key(key).err().map(|e| ("key", e)));
    faults.extend(
        ocsp.and_then(|path| read_file(path).err())
            .map(|e| ("ocsp_response", e)),
    );
    if faults.is_empty() {
        let pair = certified_key(certificate, key, None, &ring::default_provider());
        faults.extend(pair.err().map(|e| ("certificate", e)));
    }
    faults
}

fn provider(settings: &TlsSettings) -> Result<CryptoProvider, TlsError> {
    let mut provider = ring::default_provider();
    if !settings.ciphers.is_empty() {
        provider.cipher_suites = cipher_suites(&settings.ciphers)?;
    }
    if !settings.curves.is_empty() {
        provider.kx_groups = key_exchanges(&settings.curves)?;
    }
    Ok(provider)
}

fn cipher_suites(wanted: &[String]) -> Result<Vec<SupportedCipherSuite>, TlsError> {
    // rustls names the suites of TLS 1.3 after the version, IANA does not.
    let name = |suite: &SupportedCipherSuite| format!("{:?}", suite.suite()).replace("TLS13_", "TLS_");
    let suites = ring::default_provider().cipher_suites;
    let known: Vec<_> = suites.into_iter().map(|suite| (name(&suite), suite)).collect();
    pick(wanted, &known)
}

fn key_exchanges(wanted: &[String]) -> Result<Vec<&'static dyn SupportedKxGroup>, TlsError> {
    let groups = ring::default_provider().kx_groups.into_iter();
    let known: Vec<_> = groups
        .map(|group| (format!("{:?}", group.name()), group))
        .collect();
    pick(wanted, &known)
}

fn pick<T: Copy>(wanted: &[String], known: &[(String, T)]) -> Result<Vec<T>, TlsError> {
    let find = |name: &String| {
        let found = known.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        let names = || {
            known
                .iter()
                .map(|(name, _)| name.as_str())
                .collect::<Vec<_>>()
                .join(", ")
        };
        found.map(|(_, value)| *value).ok_or_else(|| TlsError::Unknown {
            name: name.clone(),
            known: names(),
        })
    };
    wanted.iter().map(find).collect()
}

pub(crate) fn client_verifier(
    settings: &TlsSettings,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let Some(path) = &settings.client_ca else {
        return Ok(WebPkiClientVerifier::no_client_auth());
    };
    let roots = read_roots(path)?;
    let mut lists = Vec::new();
    for path in &settings.crl {
        lists.extend(read_revocation_lists(path)?);
    }
    let mut builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).with_crls(lists);
    if !settings.require_client_certificate {
        builder = builder.allow_unauthenticated();
    }
    if settings.crl_allow_unknown {
        builder = builder.allow_unknown_revocation_status();
    }
    if settings.crl_enforce_expiry {
        builder = builder.enforce_revocation_expiration();
    }
    Ok(builder.build()?)
}

/// Picks the certificate by the host name that the client asks for.
#[derive(Debug)]
struct Certificates {
    default: Arc<CertifiedKey>,
    /// By lower-case host name; `*.` in front stands for any one label.
    hosts: HashMap<String, Arc<CertifiedKey>>,
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let found = hello.server_name().and_then(|name| {
            let name = name.to_ascii_lowercase();
            let wildcard = || self.hosts.get(&format!("*.{}", name.split_once('.')?.1));
            self.hosts.get(&name).or_else(wildcard)
        });
        Some(found.unwrap_or(&self.default).clone())
    }
}

fn host_certificates(
    settings: &TlsSettings,
    provider: &CryptoProvider,
) -> Result<HashMap<String, Arc<CertifiedKey>>, TlsError> {
    let mut hosts = HashMap::new();
    for host in &settings.sni {
        let key = certified_key(
            &host.certificate,
            &host.key,
            host.ocsp_response.as_deref(),
            provider,
        )?;
        for name in &host.hostnames {
            check_host_name(name)?;
            hosts.insert(name.to_ascii_lowercase(), key.clone());
        }
    }
    Ok(hosts)
}

pub(crate) fn certified_key(
    certificate: &Path,
    key_file: &Path,
    ocsp: Option<&Path>,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = read_certificates(certificate)?;
    let key = read_key(key_file)?;
    let certified = CertifiedKey::from_der(chain, key, provider);
    let mut certified = certified.map_err(|source| match source {
        rustls::Error::InconsistentKeys(_) => TlsError::Mismatch {
            certificate: certificate.into(),
            key: key_file.into(),
        },
        source => TlsError::Unusable {
            path: certificate.into(),
            source,
        },
    })?;
    certified.ocsp = ocsp.map(read_file).transpose()?;
    Ok(Arc::new(certified))
}

/// A key without a certificate, which is shown as a raw public key. RFC 7250
pub(crate) fn bare_key(key_file: &Path, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, TlsError> {
    let key = provider.key_provider.load_private_key(read_key(key_file)?);
    let key = key.map_err(|source| TlsError::Unusable {
        path: key_file.into(),
        source,
    })?;
    Ok(Arc::new(CertifiedKey::new(Vec::new(), key)))
}

fn read_file(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Read {
        path: path.into(),
        source,
    })
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    pem_items(path, &read_file(path)?, "certificate")
}

fn read_roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(path)? {
        roots.add(certificate).map_err(|source| TlsError::Unusable {
            path: path.into(),
            source,
        })?;
    }
    Ok(roots)
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let pem = read_file(path)?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|source| match source {
        rustls_pki_types::pem::Error::NoItemsFound => empty(path, &pem, "private key"),
        source => TlsError::Pem {
            path: path.into(),
            source,
        },
    })
}

fn check_host_name(name: &str) -> Result<(), TlsError> {
    let plain = name.strip_prefix("*.").unwrap_or(name);
    let checked = DnsName::try_from(plain);
    checked.map(drop).map_err(|_| TlsError::HostName(name.to_owned()))
}

fn read_revocation_lists(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let bytes = read_file(path)?;
    // DER begins with a SEQUENCE; no text does.
    if bytes.first() == Some(&0x30) {
        Ok(vec![bytes.into()])
    } else {
        pem_items(path, &bytes, "revocation list")
    }
}

/// There is nothing in the file of what is wanted; what it may have been taken for is told.
fn empty(path: &Path, pem: &[u8], wanted: &'static str) -> TlsError {
    let found = match wanted {
        "certificate" => PrivateKeyDer::from_pem_slice(pem)
            .is_ok()
            .then_some("private key"),
        "private key" => CertificateDer::from_pem_slice(pem)
            .is_ok()
            .then_some("certificate"),
        _ => None,
    };
    TlsError::Empty {
        path: path.into(),
        wanted,
        found,
    }
}

fn pem_items<T: PemObject>(path: &Path, bytes: &[u8], wanted: &'static str) -> Result<Vec<T>, TlsError> {
    let items: Result<Vec<T>, _> = T::pem_slice_iter(bytes).collect();
    let items = items.map_err(|source| TlsError::Pem {
        path: path.into(),
        source,
    })?;
    if items.is_empty() {
        Err(empty(path, bytes, wanted))
    } else {
        Ok(items)
    }
}
