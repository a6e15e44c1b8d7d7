//! TLS settings.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// TLS of one listener. All files are read again when they change; connections already open stay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsSettings {
    /// The certificate chain, PEM, our own certificate first.
    pub certificate: PathBuf,
    /// Its private key, PEM (PKCS#8, PKCS#1 or SEC1).
    pub key: PathBuf,
    /// An OCSP response to staple to the certificate, DER. Default: none.
    #[serde(default)]
    pub ocsp_response: Option<PathBuf>,
    /// Further certificates, for clients that ask for another host name (SNI).
    #[serde(default)]
    pub sni: Vec<VirtualHost>,
    /// Who signs client certificates, PEM. Without it no client certificate is asked for.
    #[serde(default)]
    pub client_ca: Option<PathBuf>,
    /// A client without a certificate is refused. Needs `client_ca`. Default: false.
    #[serde(default)]
    pub require_client_certificate: bool,
    /// Revoked client certificates, PEM or DER. Default: none.
    #[serde(default)]
    pub crl: Vec<PathBuf>,
    /// With `crl`: accept a client certificate whose issuer has no list here. Default: false.
    #[serde(default)]
    pub crl_allow_unknown: bool,
    /// With `crl`: a list past its date refuses everyone. Default: false, it still counts.
    #[serde(default)]
    pub crl_enforce_expiry: bool,
    /// The oldest TLS version accepted, `"1.2"` or `"1.3"`. Default: 1.2.
    #[serde(default)]
    pub min_version: TlsVersion,
    /// Cipher suites by their IANA names, best first. Default: all that are built in, all of them good.
    #[serde(default)]
    pub ciphers: Vec<String>,
    /// Key exchange groups, best first: `X25519`, `secp256r1`, `secp384r1`. Default: all.
    #[serde(default)]
    pub curves: Vec<String>,
    /// Application protocols offered (ALPN), best first. Default: none, any client is taken.
    #[serde(default)]
    pub alpn: Vec<String>,
    /// Write session keys to the file named by `SSLKEYLOGFILE`. Refused in release builds. Default: false.
    #[serde(default)]
    pub key_log: bool,
}

/// A certificate for other host names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VirtualHost {
    /// Host names; `*.example.com` stands for any one label in front.
    pub hostnames: Vec<String>,
    /// The certificate chain, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// An OCSP response to staple, DER. Default: none.
    #[serde(default)]
    pub ocsp_response: Option<PathBuf>,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TlsVersion {
    /// TLS 1.2
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3
    #[serde(rename = "1.3")]
    Tls13,
}
