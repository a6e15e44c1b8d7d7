//! API keys: for programs. The secret is told once; what is kept is its hash, which is enough, for it was drawn.

use crate::Role;
use crate::secret::{Secret, digest, same};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) role: Role,
    sha256: String,
    created: u64,
    expires: Option<u64>,
}

/// An API key as others see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct KeyView {
    /// The user name of HTTP's Basic authentication; the secret is the password.
    pub id: String,
    /// What it is for.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// From when on it is nobody's; `null`: never.
    pub expires: Option<u64>,
    /// When it was used last since the gateway was started.
    pub last_used: Option<u64>,
}

/// A key that was just made.
#[derive(Clone, Serialize, JsonSchema)]
pub struct NewKey {
    /// What it is.
    #[serde(flatten)]
    pub key: KeyView,
    /// Told this once.
    pub secret: String,
}

impl Key {
    pub(crate) fn new(name: &str, role: Role, secret: &Secret, created: u64, expires: Option<u64>) -> Self {
        Self {
            name: name.to_owned(),
            role,
            sha256: STANDARD.encode(secret.digest()),
            created,
            expires,
        }
    }

    pub(crate) fn is(&self, secret: &str, unix: u64) -> bool {
        same(STANDARD.encode(digest(secret)).as_bytes(), self.sha256.as_bytes()) && self.is_valid(unix)
    }

    pub(crate) fn is_valid(&self, unix: u64) -> bool {
        self.expires.is_none_or(|expires| unix < expires)
    }

    pub(crate) fn view(&self, id: &str, last_used: Option<u64>) -> KeyView {
        KeyView {
            id: id.to_owned(),
            name: self.name.clone(),
            role: self.role,
            created: self.created,
            expires: self.expires,
            last_used,
        }
    }
}
