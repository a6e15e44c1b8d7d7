//! DTLS settings.

use super::TlsSettings;
use headgate_access::{SharedKey, unhex};
use headgate_dtls::ServerSettings;
use headgate_dtls_codec::CipherSuite;
use headgate_model::{Fault, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// The longest identity of a shared key. RFC 4279 §5.3 wants 128 and more
pub(crate) const MAX_IDENTITY: usize = 256;
/// The least that a datagram must have room for.
const MIN_DATAGRAM: usize = 200;
const MAX_DATAGRAM: usize = 16_384;

/// DTLS 1.2 of one socket: shared keys, certificates, or both. All files are read again when they change; sessions stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DtlsSettings {
    /// A file of shared keys, one in a line: `identity:hexkey`, as mosquitto's `psk_file`. The key is behind the last colon. Default: none.
    pub psk_file: Option<PathBuf>,
    /// Further shared keys, before those of the file.
    pub psk: Vec<SharedKeyLogin>,
    /// Whether the providers of `auth.chain` are asked for keys that are not here: those of `auth.client_ids` with `psk`. Default: false.
    pub psk_from_auth: bool,
    /// The certificate chain, PEM, our own certificate first; its key is an ECDSA key. Default: none: shared keys, and raw public keys with `key` alone.
    pub certificate: Option<PathBuf>,
    /// Its private key, PEM (PKCS#8 or SEC1). Without `certificate` it is shown as a raw public key, to clients that take one. RFC 7250
    pub key: Option<PathBuf>,
    /// Who signs client certificates, PEM. Without it, and without `raw_keys`, no client certificate is asked for.
    pub client_ca: Option<PathBuf>,
    /// A client that speaks a suite with certificates and shows none, nor a raw public key, is refused. Default: false.
    pub require_client_certificate: bool,
    /// Revoked client certificates, PEM or DER. Default: none.
    pub crl: Vec<PathBuf>,
    /// With `crl`: accept a client certificate whose issuer has no list here. Default: false.
    pub crl_allow_unknown: bool,
    /// With `crl`: a list past its date refuses everyone. Default: false, it still counts.
    pub crl_enforce_expiry: bool,
    /// Raw public keys of clients that have no certificate. RFC 7250
    pub raw_keys: Vec<RawKeyLogin>,
    /// Cipher suites by their IANA names, best first. Default: all that are built in.
    pub ciphers: Vec<String>,
    /// Whether clients that offer it get a Connection ID, by which they are known when their address changes. RFC 9146
    pub connection_id: bool,
    /// Whether a client with a certificate that comes back may resume its session, which spares both the signatures. It is remembered for a day, until files
    /// or settings change. RFC 5246 §7.3
    pub resumption: bool,
    /// By when a handshake must be complete.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub handshake_timeout: Duration,
    /// A session that is silent for so long ends. Clients that sleep longer make a new handshake when they wake.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub idle_timeout: Duration,
    /// Sessions at a time; when there is one more, the one that was silent for the longest time gives way.
    pub max_sessions: usize,
    /// Half-open handshakes at a time; when there is one more, the oldest gives way. Each has 16 KiB at most.
    pub max_handshakes: usize,
    /// Handshakes that may begin in a second. A hello beyond that is not answered; its client sends it again.
    pub max_handshakes_per_second: u32,
    /// Bytes of the longest datagram that a handshake sends; longer messages go in fragments. 200 to 16384.
    pub max_handshake_datagram_bytes: usize,
}

/// A shared key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SharedKeyLogin {
    /// By which the client names it. It is the client's user name: see `auth.psk`.
    pub identity: String,
    /// The key, hexadecimal: 1 to 64 bytes.
    #[schemars(with = "String")]
    pub key: Secret,
}

/// A client's raw public key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawKeyLogin {
    /// Whose it is. It is the client's user name: see `auth.psk`.
    pub identity: String,
    /// The key's SubjectPublicKeyInfo in DER, hexadecimal.
    pub key: String,
}

impl Default for DtlsSettings {
    fn default() -> Self {
        let server = ServerSettings::default();
        Self {
            psk_file: None,
            psk: Vec::new(),
            psk_from_auth: false,
            certificate: None,
            key: None,
            client_ca: None,
            require_client_certificate: false,
            crl: Vec::new(),
            crl_allow_unknown: false,
            crl_enforce_expiry: false,
            raw_keys: Vec::new(),
            ciphers: Vec::new(),
            connection_id: server.connection_id,
            resumption: server.resumption,
            handshake_timeout: server.handshake_timeout,
            idle_timeout: server.idle_timeout,
            max_sessions: server.max_sessions,
            max_handshakes: server.max_handshakes,
            max_handshakes_per_second: server.max_handshakes_per_second,
            max_handshake_datagram_bytes: server.max_datagram_bytes,
        }
    }
}

impl DtlsSettings {
    /// All that is wrong, as far as it can be seen without reading a file.
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = self.credential_faults();
        let mut note = |key: &str, what: String| faults.push(Fault::new(key, what));
        for (n, name) in self.ciphers.iter().enumerate() {
            if CipherSuite::from_name(name).is_none() {
                let known: Vec<_> = CipherSuite::ALL.iter().map(|suite| suite.name()).collect();
                note(
                    &format!("ciphers[{n}]"),
                    format!("`{name}` is unknown; known are {}", known.join(", ")),
                );
            }
        }
        for (key, time) in [
            ("handshake_timeout", self.handshake_timeout),
            ("idle_timeout", self.idle_timeout),
        ] {
            if time < Duration::from_secs(1) {
                note(key, format!("{time:?} is out of range, allowed is 1s and more"));
            }
        }
        let numbers = [
            ("max_sessions", self.max_sessions, 1..=usize::MAX, "1 and more"),
            (
                "max_handshakes",
                self.max_handshakes,
                1..=usize::MAX,
                "1 and more",
            ),
            (
                "max_handshakes_per_second",
                self.max_handshakes_per_second as usize,
                1..=usize::MAX,
                "1 and more",
            ),
            (
                "max_handshake_datagram_bytes",
                self.max_handshake_datagram_bytes,
                MIN_DATAGRAM..=MAX_DATAGRAM,
                "200 to 16384",
            ),
        ];
        for (key, number, range, allowed) in numbers {
            if !range.contains(&number) {
                note(key, format!("{number} is out of range, allowed is {allowed}"));
            }
        }
        faults
    }

    fn credential_faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut note = |key: String, what: String| faults.push(Fault::new(key, what));
        if !self.has_psk() && self.certificate.is_none() && self.key.is_none() {
            let what = "there is neither a shared key nor a certificate: it needs `psk_file`, `psk`, `psk_from_auth`, or `certificate` and `key`";
            note(String::new(), what.into());
        }
        match (&self.certificate, &self.key) {
            (Some(_), None) => note("key".into(), "key is missing: that of the certificate".into()),
            (None, Some(_)) if self.client_ca.is_some() => note(
                "certificate".into(),
                "certificate is missing: clients that have one take no raw public key".into(),
            ),
            (None, None) if self.client_ca.is_some() || !self.raw_keys.is_empty() => note(
                "certificate".into(),
                "certificate is missing: without one, or a key, clients show nothing either".into(),
            ),
            _ => {}
        }
        if self.require_client_certificate && self.client_ca.is_none() && self.raw_keys.is_empty() {
            let what = "it needs `client_ca` or `raw_keys`";
            note("require_client_certificate".into(), what.into());
        }
        if !self.crl.is_empty() && self.client_ca.is_none() {
            note("crl".into(), "it needs `client_ca`".into());
        }
        for (n, shared) in self.psk.iter().enumerate() {
            if let Some(what) = identity_fault(&shared.identity) {
                note(format!("psk[{n}].identity"), what);
            }
            if self.psk[..n]
                .iter()
                .any(|other| other.identity == shared.identity)
            {
                note(
                    format!("psk[{n}].identity"),
                    format!("`{}` stands twice", shared.identity),
                );
            }
            if let Err(fault) = SharedKey::parse(shared.key.reveal()) {
                note(format!("psk[{n}].key"), fault.to_string());
            }
        }
        for (n, raw) in self.raw_keys.iter().enumerate() {
            if let Some(what) = identity_fault(&raw.identity) {
                note(format!("raw_keys[{n}].identity"), what);
            }
            if unhex(&raw.key).is_none_or(|key| key.is_empty()) {
                note(format!("raw_keys[{n}].key"), "it is not hexadecimal".into());
            }
        }
        faults
    }

    /// Whether there may be shared keys.
    pub(crate) fn has_psk(&self) -> bool {
        self.psk_file.is_some() || !self.psk.is_empty() || self.psk_from_auth
    }

    /// What is read as for TLS; `None` without a certificate.
    pub(crate) fn as_tls(&self) -> Option<TlsSettings> {
        Some(TlsSettings {
            certificate: self.certificate.clone()?,
            key: self.key.clone()?,
            client_ca: self.client_ca.clone(),
            require_client_certificate: self.require_client_certificate,
            crl: self.crl.clone(),
            crl_allow_unknown: self.crl_allow_unknown,
            crl_enforce_expiry: self.crl_enforce_expiry,
            ..TlsSettings::default()
        })
    }

    /// What the server itself is told.
    pub(crate) fn server(&self) -> ServerSettings {
        let mut suites: Vec<_> = self
            .ciphers
            .iter()
            .filter_map(|name| CipherSuite::from_name(name))
            .collect();
        if suites.is_empty() {
            suites = CipherSuite::ALL.to_vec();
        }
        ServerSettings {
            suites,
            connection_id: self.connection_id,
            resumption: self.resumption,
            max_sessions: self.max_sessions,
            max_handshakes: self.max_handshakes,
            max_handshakes_per_second: self.max_handshakes_per_second,
            handshake_timeout: self.handshake_timeout,
            idle_timeout: self.idle_timeout,
            max_datagram_bytes: self.max_handshake_datagram_bytes,
            ..ServerSettings::default()
        }
    }
}

/// What is wrong with an identity.
pub(crate) fn identity_fault(identity: &str) -> Option<String> {
    let len = identity.len();
    match len {
        0 => Some("the identity is empty".into()),
        _ if len > MAX_IDENTITY => Some(format!("{len} bytes, allowed are {MAX_IDENTITY}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Vec<String> {
        let settings: DtlsSettings = toml::from_str(text).unwrap();
        settings.faults().into_iter().map(|fault| fault.key).collect()
    }

    #[test]
    fn faults_name_their_keys() {
        assert_eq!(keys("psk_file = \"psk\""), [""; 0]);
        assert_eq!(
            keys("certificate = \"a\"\nkey = \"b\"\nclient_ca = \"c\""),
            [""; 0]
        );
        assert_eq!(keys(""), [""]);
        assert_eq!(keys("certificate = \"a\""), ["key"]);
        assert_eq!(keys("psk_file = \"psk\"\nclient_ca = \"c\""), ["certificate"]);
        assert_eq!(
            keys("psk_file = \"p\"\nrequire_client_certificate = true\ncrl = [\"c\"]"),
            ["require_client_certificate", "crl"]
        );
        assert_eq!(
            keys(
                "psk = [{ identity = \"\", key = \"00\" }, { identity = \"a\", key = \"0\" }, { identity = \"a\", key = \"00\" }]"
            ),
            ["psk[0].identity", "psk[1].key", "psk[2].identity"]
        );
        assert_eq!(
            keys(
                "psk_file = \"p\"\nciphers = [\"TLS_PSK_WITH_AES_128_CCM_8\", \"NULL\"]\nmax_sessions = 0\nidle_timeout = \"0s\""
            ),
            ["ciphers[1]", "idle_timeout", "max_sessions"]
        );
    }
}
