//! What the server shows of itself, and who looks at what clients show. Reading files and validating chains is the shell's affair.

use headgate_dtls_codec::Description;
use std::sync::Arc;

/// What handshakes that begin now are made with.
#[derive(Clone, Default)]
pub struct Credentials {
    /// Whether there are shared keys: then suites with them are offered, and [`Event::Psk`](crate::Event::Psk) asks for one.
    pub psk: bool,
    /// The server's key; `None`: no suites with certificates.
    pub key: Option<Arc<dyn ServerKey>>,
    /// Who looks at clients' certificates and raw public keys; `None`: none is asked for.
    pub clients: Option<Arc<dyn ClientVerifier>>,
}

/// The server's ECDSA key, and what says whose it is.
pub trait ServerKey: Send + Sync {
    /// Certificates in DER, its own first.
    fn chain(&self) -> &[Vec<u8>];

    /// The key as a SubjectPublicKeyInfo in DER. RFC 7250 §3
    fn public_key(&self) -> &[u8];

    /// With which of the schemes that a client takes it can sign.
    fn scheme(&self, offered: &[u16]) -> Option<u16>;

    /// Signs. `None` only if the key cannot do what it said.
    fn sign(&self, scheme: u16, message: &[u8]) -> Option<Vec<u8>>;
}

/// What a client shows of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Certificates in DER, its own first; at least one.
    Certificates(Vec<Vec<u8>>),
    /// A SubjectPublicKeyInfo in DER. RFC 7250 §3
    RawKey(Vec<u8>),
}

impl Shown {
    /// Bytes of memory that it takes beside itself.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Certificates(chain) => chain
                .iter()
                .map(|der| size_of::<Vec<u8>>() + der.capacity())
                .sum(),
            Self::RawKey(key) => key.capacity(),
        }
    }
}

/// Who knows which clients' certificates are good.
pub trait ClientVerifier: Send + Sync {
    /// Whether a client must show something.
    fn is_required(&self) -> bool;

    /// Whether certificates are taken.
    fn takes_certificates(&self) -> bool {
        true
    }

    /// Whether raw public keys are taken.
    fn takes_raw_keys(&self) -> bool {
        false
    }

    /// Signatures that can be verified.
    fn schemes(&self) -> &[u16];

    /// Whether what is shown is good now: a chain leads to a CA that is trusted, a key is known. The alert says why not.
    fn verify(&self, shown: &Shown) -> Result<(), Description>;

    /// Whether this is the signature of what was shown.
    fn verify_signature(&self, shown: &Shown, scheme: u16, message: &[u8], signature: &[u8]) -> bool;
}
