//! From settings and files to what handshakes are made with.

use super::keys::{KeyFileError, SharedKeys};
use crate::settings::DtlsSettings;
use crate::tls::TlsError;
use crate::tls::files::{FileState, bare_key, certified_key, client_verifier, look_at};
use headgate_access::unhex;
use headgate_dtls::{ClientVerifier, Credentials, ServerKey, Shown};
use headgate_dtls_codec::Description;
use headgate_model::Fault;
use rustls::crypto::{WebPkiSupportedAlgorithms, ring};
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, SignatureAlgorithm, SignatureScheme};
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use std::sync::Arc;
use webpki::{EndEntityCert, RawPublicKeyEntity};

/// Signatures of clients that are verified; our own key makes one of them.
const SCHEMES: [SignatureScheme; 2] = [
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
];

/// What is wrong with DTLS files.
#[derive(Debug, thiserror::Error)]
pub enum DtlsError {
    /// A certificate, key or list.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The shared keys.
    #[error(transparent)]
    Keys(#[from] KeyFileError),
    /// A key of another kind.
    #[error("{0}: DTLS needs an ECDSA key, over P-256 or P-384")]
    NotEcdsa(String),
}

/// What was read.
pub(crate) struct Loaded {
    pub(crate) credentials: Credentials,
    pub(crate) keys: Arc<SharedKeys>,
    /// Whose raw public keys are known.
    pub(crate) raw_keys: Arc<Vec<(String, Vec<u8>)>>,
    /// The files as they were before they were read.
    pub(crate) seen: Vec<FileState>,
}

pub(crate) fn look(settings: &DtlsSettings) -> Vec<FileState> {
    let files = [
        &settings.psk_file,
        &settings.certificate,
        &settings.key,
        &settings.client_ca,
    ];
    let files = files.into_iter().flatten().chain(&settings.crl);
    files.map(|path| look_at(path)).collect()
}

pub(crate) fn load(settings: &DtlsSettings) -> Result<Loaded, DtlsError> {
    let seen = look(settings);
    let keys = Arc::new(SharedKeys::load(settings)?);
    let raw_keys: Vec<_> = settings
        .raw_keys
        .iter()
        .filter_map(|raw| Some((raw.identity.clone(), unhex(&raw.key)?)))
        .collect();
    let raw_keys = Arc::new(raw_keys);
    let mut credentials = Credentials {
        psk: settings.has_psk(),
        ..Credentials::default()
    };
    if let Some(path) = &settings.key {
        let provider = Arc::new(ring::default_provider());
        let tls = settings.as_tls();
        let key = match &tls {
            Some(tls) => certified_key(&tls.certificate, &tls.key, None, &provider)?,
            None => bare_key(path, &provider)?,
        };
        if key.key.algorithm() != SignatureAlgorithm::ECDSA {
            return Err(DtlsError::NotEcdsa(path.display().to_string()));
        }
        credentials.key = Some(Arc::new(EcdsaKey::new(key)));
        let tls = tls.filter(|_| settings.client_ca.is_some());
        if tls.is_some() || !raw_keys.is_empty() {
            let chains = tls.map(|tls| client_verifier(&tls, &provider)).transpose()?;
            credentials.clients = Some(Arc::new(Clients {
                required: settings.require_client_certificate,
                chains,
                raw_keys: Arc::clone(&raw_keys),
                algorithms: provider.signature_verification_algorithms,
                schemes: SCHEMES.map(u16::from),
            }));
        }
    }
    Ok(Loaded {
        credentials,
        keys,
        raw_keys,
        seen,
    })
}

/// All that is wrong with the files.
pub(crate) fn faults(settings: &DtlsSettings) -> Vec<Fault> {
    let mut faults = Vec::new();
    if let Err(error) = SharedKeys::load(settings) {
        faults.push(Fault::new("psk_file", error.to_string()));
    }
    if let Some(tls) = settings.as_tls() {
        faults.extend(crate::tls::faults(&tls));
    }
    if faults.is_empty()
        && let Err(error) = load(settings)
    {
        let key = match &error {
            DtlsError::NotEcdsa(_) => "key",
            DtlsError::Tls(_) if settings.certificate.is_none() => "key",
            _ => "",
        };
        faults.push(Fault::new(key, error.to_string()));
    }
    faults
}

/// The server's key.
struct EcdsaKey {
    key: Arc<CertifiedKey>,
    chain: Vec<Vec<u8>>,
    public: Vec<u8>,
}

impl EcdsaKey {
    fn new(key: Arc<CertifiedKey>) -> Self {
        let public = key.key.public_key();
        Self {
            chain: key.cert.iter().map(|der| der.to_vec()).collect(),
            public: public.map(|der| der.to_vec()).unwrap_or_default(),
            key,
        }
    }
}

impl ServerKey for EcdsaKey {
    fn chain(&self) -> &[Vec<u8>] {
        &self.chain
    }

    fn public_key(&self) -> &[u8] {
        &self.public
    }

    fn scheme(&self, offered: &[u16]) -> Option<u16> {
        let ours = SCHEMES
            .into_iter()
            .filter(|scheme| offered.contains(&u16::from(*scheme)));
        let ours: Vec<_> = ours.collect();
        let signer = self.key.key.choose_scheme(&ours)?;
        Some(signer.scheme().into())
    }

    fn sign(&self, scheme: u16, message: &[u8]) -> Option<Vec<u8>> {
        let signer = self.key.key.choose_scheme(&[SignatureScheme::from(scheme)])?;
        signer.sign(message).ok()
    }
}

/// Looks at what clients show.
struct Clients {
    required: bool,
    /// As for TLS; `None` without a CA.
    chains: Option<Arc<dyn ClientCertVerifier>>,
    raw_keys: Arc<Vec<(String, Vec<u8>)>>,
    algorithms: WebPkiSupportedAlgorithms,
    schemes: [u16; 2],
}

impl ClientVerifier for Clients {
    fn is_required(&self) -> bool {
        self.required
    }

    fn takes_certificates(&self) -> bool {
        self.chains.is_some()
    }

    fn takes_raw_keys(&self) -> bool {
        !self.raw_keys.is_empty()
    }

    fn schemes(&self) -> &[u16] {
        &self.schemes
    }

    fn verify(&self, shown: &Shown) -> Result<(), Description> {
        match shown {
            Shown::Certificates(chain) => {
                let verifier = self.chains.as_ref().ok_or(Description::UNKNOWN_CA)?;
                let chain: Vec<_> = chain.iter().map(|der| CertificateDer::from(&der[..])).collect();
                let (own, others) = chain.split_first().ok_or(Description::BAD_CERTIFICATE)?;
                let verified = verifier.verify_client_cert(own, others, headgate_certificate_time::now());
                verified.map(drop).map_err(|error| alert_of(&error))
            }
            Shown::RawKey(key) => {
                let known = self.raw_keys.iter().any(|(_, known)| known == key);
                known.then_some(()).ok_or(Description::CERTIFICATE_UNKNOWN)
            }
        }
    }

    fn verify_signature(&self, shown: &Shown, scheme: u16, message: &[u8], signature: &[u8]) -> bool {
        let scheme = SignatureScheme::from(scheme);
        let known = self.algorithms.mapping.iter();
        let algorithms = known.filter(|(known, _)| *known == scheme);
        let mut algorithms = algorithms.flat_map(|(_, algorithms)| algorithms.iter());
        match shown {
            Shown::Certificates(chain) => {
                let Some(der) = chain.first().map(|der| CertificateDer::from(&der[..])) else {
                    return false;
                };
                let Ok(own) = EndEntityCert::try_from(&der) else {
                    return false;
                };
                algorithms.any(|algorithm| own.verify_signature(*algorithm, message, signature).is_ok())
            }
            Shown::RawKey(key) => {
                let der = SubjectPublicKeyInfoDer::from(&key[..]);
                let Ok(own) = RawPublicKeyEntity::try_from(&der) else {
                    return false;
                };
                algorithms.any(|algorithm| own.verify_signature(*algorithm, message, signature).is_ok())
            }
        }
    }
}

/// RFC 5246 §7.2.2
fn alert_of(error: &rustls::Error) -> Description {
    use CertificateError as Fault;
    let rustls::Error::InvalidCertificate(fault) = error else {
        return Description::BAD_CERTIFICATE;
    };
    match fault {
        Fault::Expired
        | Fault::ExpiredContext { .. }
        | Fault::NotValidYet
        | Fault::NotValidYetContext { .. } => Description::CERTIFICATE_EXPIRED,
        Fault::Revoked => Description::CERTIFICATE_REVOKED,
        Fault::UnknownIssuer => Description::UNKNOWN_CA,
        Fault::InvalidPurpose | Fault::InvalidPurposeContext { .. } => Description::UNSUPPORTED_CERTIFICATE,
        _ => Description::BAD_CERTIFICATE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::RawKeyLogin;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PublicKeyData};
    use std::path::Path;

    /// A CA, and a certificate of it with its key, in files; the certificate in DER, and its key as a raw public key.
    fn write(folder: &Path) -> (Vec<u8>, Vec<u8>) {
        let (ca_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_certificate = ca.self_signed(&ca_key).unwrap();
        let own = CertificateParams::new(["pump-7".to_owned()]).unwrap();
        let own = own.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
        std::fs::write(folder.join("ca.pem"), ca_certificate.pem()).unwrap();
        std::fs::write(folder.join("own.pem"), own.pem()).unwrap();
        std::fs::write(folder.join("own.key"), key.serialize_pem()).unwrap();
        (own.der().to_vec(), key.subject_public_key_info())
    }

    fn settings(folder: &Path, raw_key: &[u8]) -> DtlsSettings {
        DtlsSettings {
            certificate: Some(folder.join("own.pem")),
            key: Some(folder.join("own.key")),
            client_ca: Some(folder.join("ca.pem")),
            raw_keys: vec![RawKeyLogin {
                identity: "pump-7".into(),
                key: raw_key.iter().map(|byte| format!("{byte:02x}")).collect(),
            }],
            ..DtlsSettings::default()
        }
    }

    /// RFC 5246 §7.4.8, RFC 7250 §4: what our own key signs is verified by its certificate, and by the key itself.
    #[test]
    fn signatures_are_those_of_the_certificate_or_raw_key_that_was_shown() {
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (certificate, raw_key) = write(folder.path());
        let (foreign, foreign_key) = write(elsewhere.path());
        let credentials = load(&settings(folder.path(), &raw_key)).unwrap().credentials;
        let (key, clients) = (credentials.key.unwrap(), credentials.clients.unwrap());
        assert_eq!(key.chain()[0], certificate);
        assert_eq!(key.public_key(), raw_key);
        // Of P-256 there is one scheme; whoever offers no other gets no signature.
        assert_eq!(key.scheme(&[0x0804, 0x0503, 0x0403]), Some(0x0403));
        assert_eq!(key.scheme(&[0x0804]), None);
        let signature = key.sign(0x0403, b"message").unwrap();
        let good = [Shown::Certificates(vec![certificate]), Shown::RawKey(raw_key)];
        for shown in &good {
            assert_eq!(clients.verify(shown), Ok(()));
            assert!(clients.verify_signature(shown, 0x0403, b"message", &signature));
            assert!(!clients.verify_signature(shown, 0x0403, b"massage", &signature));
            assert!(!clients.verify_signature(shown, 0x0503, b"message", &signature));
            assert!(!clients.verify_signature(shown, 0x0403, b"message", b""));
        }
        let bad = [Shown::Certificates(vec![foreign]), Shown::RawKey(foreign_key)];
        for shown in &bad {
            assert!(clients.verify(shown).is_err());
            assert!(!clients.verify_signature(shown, 0x0403, b"message", &signature));
        }
        // Any bytes at all are no certificate and no key.
        for shown in [Shown::Certificates(vec![vec![7; 9]]), Shown::RawKey(vec![7; 9])] {
            assert!(clients.verify(&shown).is_err());
            assert!(!clients.verify_signature(&shown, 0x0403, b"message", &signature));
        }
    }

    /// RFC 7250 §4.2: a server without a certificate shows its key, and takes the keys that it knows.
    #[test]
    fn a_key_without_a_certificate_is_a_raw_public_key() {
        let folder = tempfile::tempdir().unwrap();
        let (_, raw_key) = write(folder.path());
        let bare = DtlsSettings {
            certificate: None,
            client_ca: None,
            ..settings(folder.path(), &raw_key)
        };
        assert_eq!((bare.faults(), faults(&bare)), (vec![], vec![]));
        let credentials = load(&bare).unwrap().credentials;
        let (key, clients) = (credentials.key.unwrap(), credentials.clients.unwrap());
        assert!(key.chain().is_empty());
        assert_eq!(key.public_key(), raw_key);
        assert!(clients.takes_raw_keys() && !clients.takes_certificates());
        let with_ca = DtlsSettings {
            client_ca: Some(folder.path().join("ca.pem")),
            ..bare.clone()
        };
        assert_eq!(with_ca.faults()[0].key, "certificate");
        let without_file = DtlsSettings {
            key: Some(folder.path().join("nothing.key")),
            ..bare
        };
        assert_eq!(faults(&without_file)[0].key, "key");
    }

    #[test]
    fn faults_of_files_name_their_keys() {
        let folder = tempfile::tempdir().unwrap();
        let (_, raw_key) = write(folder.path());
        let good = settings(folder.path(), &raw_key);
        assert_eq!(faults(&good), []);
        let missing = DtlsSettings {
            psk_file: Some(folder.path().join("psk")),
            client_ca: Some(folder.path().join("nothing.pem")),
            ..good
        };
        let keys: Vec<_> = faults(&missing).into_iter().map(|fault| fault.key).collect();
        assert_eq!(keys, ["psk_file", "client_ca"]);
    }
}
