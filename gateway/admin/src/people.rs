//! Administrators as they are kept: a role and an argon2id hash each.

use crate::{AdminError, Role};
use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Characters of the shortest password.
pub const MIN_PASSWORD: usize = 12;
/// Bytes of the longest.
const MAX_PASSWORD: usize = 1_024;
/// What the name of an API key begins with, for rules and the audit log.
pub(crate) const KEY: &str = "key ";
/// And of who has the control socket.
const LOCAL: &str = "local user";
/// And of the gateway itself.
const GATEWAY: &str = "the gateway";
/// Characters of the longest name.
const MAX_NAME: usize = 64;

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Administrator {
    pub(crate) role: Role,
    #[serde(rename = "argon2id")]
    pub(crate) password: Hashed,
    /// Seconds since 1970.
    created: u64,
}

/// A password's hash, as a PHC string.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Hashed(String);

/// An administrator as others see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AdministratorView {
    /// By which it logs in.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// When it logged in last since the gateway was started, in seconds since 1970.
    pub last_login: Option<u64>,
}

pub(crate) fn check_name(name: &str) -> Result<(), AdminError> {
    let length = name.chars().count();
    // What turns the direction of a text, or cannot be seen, makes one name look like another.
    let is_unseen = |c: char| matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    let is_wrong = |c: char| c.is_control() || c == ':' || is_unseen(c);
    // API keys go by such names.
    let small = name.to_lowercase();
    let is_of_key = [KEY, LOCAL, GATEWAY].iter().any(|begin| small.starts_with(begin));
    let is_trimmed = name.trim() == name;
    match (1..=MAX_NAME).contains(&length) && !name.chars().any(is_wrong) && is_trimmed && !is_of_key {
        true => Ok(()),
        false => Err(AdminError::Name),
    }
}

/// Whether somebody of this name may have this password.
pub(crate) fn check_password(name: &str, password: &str) -> Result<(), AdminError> {
    let is_short = password.chars().count() < MIN_PASSWORD;
    match is_short || password.len() > MAX_PASSWORD || password.eq_ignore_ascii_case(name) {
        true => Err(AdminError::Password),
        false => Ok(()),
    }
}

impl Administrator {
    pub(crate) fn new(name: &str, password: &str, role: Role, created: u64) -> Result<Self, AdminError> {
        check_name(name)?;
        Ok(Self {
            role,
            password: Hashed::new(name, password)?,
            created,
        })
    }

    pub(crate) fn view(&self, name: &str, last_login: Option<u64>) -> AdministratorView {
        AdministratorView {
            name: name.to_owned(),
            role: self.role,
            created: self.created,
            last_login,
        }
    }
}

impl Hashed {
    pub(crate) fn new(name: &str, password: &str) -> Result<Self, AdminError> {
        check_password(name, password)?;
        Self::of(password.as_bytes())
    }

    /// Of a password that was drawn and forgotten.
    pub(crate) fn of_nobody() -> Result<Self, AdminError> {
        let mut password = [0; 32];
        getrandom::fill(&mut password)?;
        Self::of(&password)
    }

    fn of(password: &[u8]) -> Result<Self, AdminError> {
        let wrong = |error: argon2::password_hash::Error| AdminError::Hash(error.to_string());
        let mut salt = [0; 16];
        getrandom::fill(&mut salt)?;
        let salt = SaltString::encode_b64(&salt).map_err(wrong)?;
        let hash = Argon2::default().hash_password(password, &salt).map_err(wrong)?;
        Ok(Self(hash.to_string()))
    }

    /// Takes tens of milliseconds and 19 MiB of memory.
    pub(crate) fn verify(&self, password: &str) -> bool {
        let cheap = password.len() <= MAX_PASSWORD;
        let hash = PasswordHash::new(&self.0);
        hash.is_ok_and(|hash| {
            Argon2::default()
                .verify_password(password.as_bytes(), &hash)
                .is_ok()
        }) && cheap
    }
}
