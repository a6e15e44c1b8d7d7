//! The way to a bridge's remote end: as whom it comes and whom it believes. What is done with it is the daemon's.

use crate::settings::BridgeSettingsError;
use headgate_model::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// As whom a bridge comes. Files, commands and keys are read again for every connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Login {
    /// User name.
    pub username: Option<String>,
    /// Password. Prefer one of the others: this file may be read by many.
    #[schemars(with = "String")]
    pub password: Secret,
    /// The password is the first line of this file. When it changes, the bridge connects anew.
    pub password_file: Option<PathBuf>,
    /// A program with its arguments that prints the password.
    pub password_command: Vec<String>,
    /// The password is a shared access signature, as Azure IoT Hub wants it.
    pub sas: Option<Sas>,
    /// The password is a JSON Web Token.
    pub jwt: Option<Jwt>,
}

/// A shared access signature that is made anew before it ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sas {
    /// What it gives access to: `{hub}.azure-devices.net/devices/{device}`.
    pub resource: String,
    /// The symmetric key, base64.
    #[serde(default)]
    #[schemars(with = "String")]
    pub key: Secret,
    /// The same, in the first line of a file.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
    /// The key is that of an enrolment group; the key that signs is made of it for this registration id.
    #[serde(default)]
    pub derive_for: Option<String>,
    /// The policy that the key belongs to. Default: the device's own key.
    #[serde(default)]
    pub policy: Option<String>,
    /// How long one is good.
    #[serde(default = "an_hour", with = "humantime_serde")]
    #[schemars(with = "String")]
    pub lifetime: Duration,
}

/// A JSON Web Token that is made anew before it ends. RFC 7519
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Jwt {
    /// Our private key, PEM.
    pub key: PathBuf,
    /// How it signs.
    #[serde(default)]
    pub algorithm: JwtAlgorithm,
    /// `aud`: whom the token is for, a project for example.
    pub audience: String,
    /// `sub`. Default: none.
    #[serde(default)]
    pub subject: Option<String>,
    /// How long one is good.
    #[serde(default = "an_hour", with = "humantime_serde")]
    #[schemars(with = "String")]
    pub lifetime: Duration,
}

/// How a token is signed. RFC 7518 §3.1
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum JwtAlgorithm {
    /// RSA with SHA-256.
    #[default]
    #[serde(rename = "RS256")]
    Rs256,
    /// ECDSA with P-256 and SHA-256.
    #[serde(rename = "ES256")]
    Es256,
}

fn an_hour() -> Duration {
    Duration::from_secs(3_600)
}

impl Login {
    /// The error names the key.
    pub fn check(&self) -> Result<(), BridgeSettingsError> {
        let sources = [
            !self.password.is_empty(),
            self.password_file.is_some(),
            !self.password_command.is_empty(),
            self.sas.is_some(),
            self.jwt.is_some(),
        ];
        if sources.into_iter().filter(|given| *given).count() > 1 {
            return Err(BridgeSettingsError::Choice {
                key: "login",
                what: "one of password, password_file, password_command, sas and jwt is wanted, not several",
            });
        }
        if let Some(sas) = &self.sas
            && sas.key.is_empty() == sas.key_file.is_none()
        {
            return Err(BridgeSettingsError::Choice {
                key: "login.sas",
                what: "one of key and key_file is wanted",
            });
        }
        let lifetimes = [
            ("login.sas.lifetime", self.sas.as_ref().map(|sas| sas.lifetime)),
            ("login.jwt.lifetime", self.jwt.as_ref().map(|jwt| jwt.lifetime)),
        ];
        for (key, lifetime) in lifetimes {
            if let Some(value) = lifetime.filter(|lifetime| *lifetime < Duration::from_secs(60)) {
                let allowed = "60s or more";
                return Err(BridgeSettingsError::Time { key, value, allowed });
            }
        }
        Ok(())
    }
}

/// TLS towards a bridge's remote end. All files are read again for every connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BridgeTls {
    /// Authorities to believe, PEM. Default: the system's.
    pub ca: Option<PathBuf>,
    /// Our certificate chain, PEM.
    pub certificate: Option<PathBuf>,
    /// Its private key, PEM.
    pub key: Option<PathBuf>,
    /// Application protocols that are offered (ALPN), best first.
    pub alpn: Vec<String>,
    /// The name to ask for (SNI) and to find in the certificate. Default: the host of the address.
    pub server_name: Option<String>,
    /// Believe any server. Anybody in between can read and change everything.
    pub insecure: bool,
}
