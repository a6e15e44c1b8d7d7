//! Hashes of passwords that other brokers made: checked as they are, until the next log-in renews them.

use crate::scram::base64_text;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::Md5;
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::{Sha224, Sha256, Sha384, Sha512};
use std::str::FromStr;
use subtle::ConstantTimeEq;

/// Rounds of PBKDF2, times the blocks of its output, that one check may take.
const MOST_ROUNDS: u64 = 1_000_000;
/// The highest cost of bcrypt that is taken.
const MOST_COST: u32 = 14;

/// A hash that cannot be taken over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// Not made by `mosquitto_passwd`.
    #[error(
        "it is no hash of mosquitto's, allowed is $7$ITERATIONS$SALT$HASH and $6$SALT$HASH (`mosquitto_passwd -U` hashes a file of plain passwords)"
    )]
    Mosquitto,
    /// Not the digits of such a hash.
    #[error("it is not {0} hexadecimal digits")]
    Digits(usize),
    /// Not what bcrypt writes.
    #[error("it is no hash of bcrypt, such as $2b$10$…")]
    Bcrypt,
    /// A check would take too long.
    #[error(
        "a check would take too long, allowed is at most {MOST_ROUNDS} rounds of PBKDF2, and a cost of {MOST_COST} for bcrypt"
    )]
    TooCostly,
    /// No way to hash.
    #[error(
        "`{0}` is no way to hash, allowed is plain, md5, sha, sha256 and sha512, each also `salt,…` or `…,salt`, bcrypt, and pbkdf2,DIGEST,ITERATIONS,LENGTH with md5, sha, sha224, sha256, sha384 or sha512"
    )]
    Method(String),
}

/// A function that makes a digest; `sha` is SHA-1, as in Erlang.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Digest {
    Md5,
    Sha,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

/// What another broker kept of a password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum ForeignHash {
    /// The digest of salt, password and salt, one of which is empty.
    Digest {
        digest: Digest,
        #[serde(with = "base64_text")]
        before: Vec<u8>,
        #[serde(with = "base64_text")]
        after: Vec<u8>,
        #[serde(with = "base64_text")]
        hash: Vec<u8>,
    },
    /// RFC 8018 §5.2
    Pbkdf2 {
        digest: Digest,
        iterations: u32,
        #[serde(with = "base64_text")]
        salt: Vec<u8>,
        #[serde(with = "base64_text")]
        hash: Vec<u8>,
    },
    /// As it is written: `$2b$10$…`.
    Bcrypt(String),
}

impl ForeignHash {
    /// `$7$iterations$salt$hash`, PBKDF2 with SHA-512, or `$6$salt$hash`, SHA-512 of password and salt. mosquitto_passwd(1)
    pub(crate) fn of_mosquitto(text: &str) -> Result<Self, HashError> {
        let decoded = |text: &str, length: usize| {
            let bytes = BASE64.decode(text).map_err(|_| HashError::Mosquitto)?;
            (bytes.len() == length || length == 0)
                .then_some(bytes)
                .ok_or(HashError::Mosquitto)
        };
        let parts: Vec<&str> = text.split('$').collect();
        match parts[..] {
            ["", "6", salt, hash] => Ok(Self::Digest {
                digest: Digest::Sha512,
                before: Vec::new(),
                after: decoded(salt, 0)?,
                hash: decoded(hash, 64)?,
            }),
            ["", "7", iterations, salt, hash] => Self::Pbkdf2 {
                digest: Digest::Sha512,
                iterations: iterations.parse().map_err(|_| HashError::Mosquitto)?,
                salt: decoded(salt, 0)?,
                hash: decoded(hash, 64)?,
            }
            .affordable(),
            _ => Err(HashError::Mosquitto),
        }
    }

    /// Itself, if a check takes no longer than is allowed.
    pub(crate) fn affordable(self) -> Result<Self, HashError> {
        let is_affordable = match &self {
            Self::Digest { .. } => true,
            Self::Pbkdf2 {
                digest,
                iterations,
                hash,
                ..
            } => {
                let blocks = hash.len().div_ceil(digest.length()) as u64;
                *iterations > 0 && blocks > 0 && u64::from(*iterations) * blocks <= MOST_ROUNDS
            }
            Self::Bcrypt(hash) => {
                let parts = bcrypt::HashParts::from_str(hash).map_err(|_| HashError::Bcrypt)?;
                parts.get_cost() <= MOST_COST
            }
        };
        if is_affordable {
            Ok(self)
        } else {
            Err(HashError::TooCostly)
        }
    }

    /// Whether this is the password.
    pub(crate) fn verify(&self, password: &[u8]) -> bool {
        match self {
            Self::Digest {
                digest,
                before,
                after,
                hash,
            } => digest.of(&[before, password, after]).ct_eq(hash).into(),
            Self::Pbkdf2 {
                digest,
                iterations,
                salt,
                hash,
            } => {
                let mut found = vec![0; hash.len()];
                digest.stretch(password, salt, *iterations, &mut found);
                found.ct_eq(hash).into()
            }
            Self::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
        }
    }
}

impl Digest {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "md5" => Self::Md5,
            "sha" => Self::Sha,
            "sha224" => Self::Sha224,
            "sha256" => Self::Sha256,
            "sha384" => Self::Sha384,
            "sha512" => Self::Sha512,
            _ => return None,
        })
    }

    /// Bytes of the digest.
    fn length(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha => 20,
            Self::Sha224 => 28,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    fn of(self, parts: &[&[u8]]) -> Vec<u8> {
        fn made<D: sha2::Digest>(parts: &[&[u8]]) -> Vec<u8> {
            let digest = parts
                .iter()
                .fold(D::new(), |digest, part| digest.chain_update(part));
            digest.finalize().to_vec()
        }
        match self {
            Self::Md5 => made::<Md5>(parts),
            Self::Sha => made::<Sha1>(parts),
            Self::Sha224 => made::<Sha224>(parts),
            Self::Sha256 => made::<Sha256>(parts),
            Self::Sha384 => made::<Sha384>(parts),
            Self::Sha512 => made::<Sha512>(parts),
        }
    }

    fn stretch(self, password: &[u8], salt: &[u8], iterations: u32, out: &mut [u8]) {
        match self {
            Self::Md5 => pbkdf2::pbkdf2_hmac::<Md5>(password, salt, iterations, out),
            Self::Sha => pbkdf2::pbkdf2_hmac::<Sha1>(password, salt, iterations, out),
            Self::Sha224 => pbkdf2::pbkdf2_hmac::<Sha224>(password, salt, iterations, out),
            Self::Sha256 => pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, iterations, out),
            Self::Sha384 => pbkdf2::pbkdf2_hmac::<Sha384>(password, salt, iterations, out),
            Self::Sha512 => pbkdf2::pbkdf2_hmac::<Sha512>(password, salt, iterations, out),
        }
    }
}

/// How the passwords of a table were hashed, in the words of EMQ's `password_hash`: `plain`, `md5`, `salt,sha256`, `sha256,salt`, `bcrypt`,
/// `salt,bcrypt` or `pbkdf2,sha256,1000,20`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashMethod(Method);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Plain,
    Digest(Digest, Salt),
    Bcrypt,
    /// Iterations, and bytes of the hash.
    Pbkdf2(Digest, u32, usize),
}

/// Where the salt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Salt {
    Nowhere,
    Before,
    After,
}

/// What is known of a user's password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Known {
    Password(String),
    Hash(ForeignHash),
}

impl FromStr for HashMethod {
    type Err = HashError;

    fn from_str(text: &str) -> Result<Self, HashError> {
        let words: Vec<&str> = text.split(',').map(str::trim).collect();
        // PBKDF2 and the other digests came with it: EMQ has plain digests of these only.
        let digest =
            |name: &str| Digest::named(name).filter(|d| !matches!(d, Digest::Sha224 | Digest::Sha384));
        let method = match words[..] {
            ["plain"] => Some(Method::Plain),
            ["bcrypt"] | ["salt", "bcrypt"] => Some(Method::Bcrypt),
            ["salt", name] => digest(name).map(|digest| Method::Digest(digest, Salt::Before)),
            [name, "salt"] => digest(name).map(|digest| Method::Digest(digest, Salt::After)),
            [name] => digest(name).map(|digest| Method::Digest(digest, Salt::Nowhere)),
            ["pbkdf2", name, iterations, length] => {
                let parsed = (Digest::named(name), iterations.parse(), length.parse());
                match parsed {
                    (Some(digest), Ok(iterations), Ok(length)) => {
                        Some(Method::Pbkdf2(digest, iterations, length))
                    }
                    _ => None,
                }
            }
            _ => None,
        };
        method.map(Self).ok_or_else(|| HashError::Method(text.to_owned()))
    }
}

impl HashMethod {
    /// What a row of the table says. The salt is text, as it is there.
    pub(crate) fn read(self, password: &str, salt: &str) -> Result<Known, HashError> {
        let salt = salt.as_bytes().to_vec();
        let hash = match self.0 {
            Method::Plain => return Ok(Known::Password(password.to_owned())),
            Method::Bcrypt => ForeignHash::Bcrypt(password.to_owned()),
            Method::Digest(digest, place) => {
                let (before, after) = match place {
                    Salt::Nowhere => Default::default(),
                    Salt::Before => (salt, Vec::new()),
                    Salt::After => (Vec::new(), salt),
                };
                let hash = digits(password, digest.length())?;
                ForeignHash::Digest {
                    digest,
                    before,
                    after,
                    hash,
                }
            }
            Method::Pbkdf2(digest, iterations, length) => ForeignHash::Pbkdf2 {
                digest,
                iterations,
                salt,
                hash: digits(password, length)?,
            },
        };
        hash.affordable().map(Known::Hash)
    }
}

/// So many bytes in hexadecimal digits.
fn digits(text: &str, bytes: usize) -> Result<Vec<u8>, HashError> {
    let wrong = HashError::Digits(bytes.saturating_mul(2));
    let is_right = text.len() / 2 == bytes
        && text.len().is_multiple_of(2)
        && text.bytes().all(|b| b.is_ascii_hexdigit());
    if !is_right {
        return Err(wrong);
    }
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("two digits");
    Ok((0..text.len()).step_by(2).map(byte).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(method: &str, hash: &str, salt: &str) -> Result<Known, HashError> {
        method.parse::<HashMethod>()?.read(hash, salt)
    }

    /// Made by `mosquitto_passwd` 2.0.11, with and without `-H sha512`.
    const PBKDF2: &str = "$7$101$KsZX+tJU3Y9ZKTTn$OOwrNtZZjqTd/1FcvJnOF9Fvb2AIUp8+x0ttLETh5vemAfww/5SnkIgrDBV2cP3b9+Xcl7H27+KGx0rtPgKR3g==";
    const SHA512: &str = "$6$t0i5ITi8siX8eF6z$fpD6jNDvJf3GsGJzp1SvAJf5v2D2AApjCwJPI6OrCD26jVYCAAtucgaO+Jw6DXKilTFXwj0TgWicZFothHg7MA==";

    #[test]
    fn hashes_of_mosquitto_are_checked() {
        for text in [PBKDF2, SHA512] {
            let hash = ForeignHash::of_mosquitto(text).unwrap();
            assert!(hash.verify(b"secret") && !hash.verify(b"secre") && !hash.verify(b""));
            let kept = serde_json::to_string(&hash).unwrap();
            assert!(serde_json::from_str::<ForeignHash>(&kept).unwrap() == hash);
        }
    }

    /// RFC 6070, RFC 1321 §A.5, FIPS 180-2, and what crypt_blowfish makes.
    #[test]
    fn hashes_of_emq_are_checked() {
        for (method, hash, salt, password) in [
            ("md5", "900150983cd24fb0d6963f7d28e17f72", "", "abc"),
            ("sha", "a9993e364706816aba3e25717850c26c9cd0d89d", "", "abc"),
            ("salt,sha", "a9993e364706816aba3e25717850c26c9cd0d89d", "a", "bc"),
            ("md5, salt", "900150983cd24fb0d6963f7d28e17f72", "c", "ab"),
            (
                "sha256",
                "BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD",
                "",
                "abc",
            ),
            (
                "sha256,salt",
                "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
                "bc",
                "a",
            ),
            (
                "pbkdf2,sha,2,20",
                "ea6c014dc72d6f8ffd9fed31d0c7d9e2bfe2a7e5",
                "salt",
                "wrong",
            ),
            (
                "pbkdf2,sha,2,20",
                "ea6c014dc72d6f8ccd1ed92ace1d41f0d8de8957",
                "salt",
                "password",
            ),
            (
                "salt,bcrypt",
                "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
                "$2a$05$CCCCCCCCCCCCCCCCCCCCC.",
                "U*U",
            ),
        ] {
            let Ok(Known::Hash(found)) = read(method, hash, salt) else {
                panic!("{method} {hash}")
            };
            assert_eq!(
                found.verify(password.as_bytes()),
                password != "wrong",
                "{method} {hash}"
            );
            assert!(!found.verify(b"other"), "{method}");
        }
        assert!(matches!(read("plain", "abc", ""), Ok(Known::Password(text)) if text == "abc"));
    }

    #[test]
    fn what_is_no_hash_or_costs_too_much_is_refused() {
        let long = PBKDF2.replace("$101$", "$1000001$");
        for (text, error) in [
            (long.as_str(), HashError::TooCostly),
            ("$7$0$AAAA$AAAA", HashError::Mosquitto),
            ("$7$-1$AAAA$AAAA", HashError::Mosquitto),
            ("$6$AAAA$AAAA", HashError::Mosquitto),
            ("secret", HashError::Mosquitto),
            ("", HashError::Mosquitto),
        ] {
            assert_eq!(ForeignHash::of_mosquitto(text).err(), Some(error), "{text}");
        }
        for (method, hash, error) in [
            ("md5", "90", HashError::Digits(32)),
            ("md5", "é00150983cd24fb0d6963f7d28e17f7", HashError::Digits(32)),
            ("pbkdf2,sha,600000,40", &"0".repeat(80), HashError::TooCostly),
            ("pbkdf2,sha,1,0", "", HashError::TooCostly),
            ("bcrypt", "secret", HashError::Bcrypt),
            (
                "bcrypt",
                "$2a$15$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
                HashError::TooCostly,
            ),
            ("md4", "", HashError::Method("md4".into())),
            ("pbkdf2,sha,x,20", "", HashError::Method("pbkdf2,sha,x,20".into())),
        ] {
            assert_eq!(read(method, hash, "").err(), Some(error), "{method} {hash}");
        }
    }
}
