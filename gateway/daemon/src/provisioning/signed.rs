//! A text that somebody has signed: readable with any editor, and whole.
//!
//! The first line says what it is, the last one has the signature of all bytes before it: Ed25519 (RFC 8032) in base64. Whoever changes a byte of it has to sign
//! it anew.

use crate::private;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};
use std::io;
use std::path::{Path, PathBuf};

/// The first line.
const HEAD: &str = "# headgate provisioning 1\n";
/// What the last line begins with.
const TAIL: &str = "# signature ";
/// Bytes of a file that are read at all.
pub(super) const LONGEST: usize = 1 << 20;
/// An Ed25519 key as a SubjectPublicKeyInfo: this, and 32 bytes. RFC 8410, section 4
const SPKI: [u8; 12] = [48, 42, 48, 5, 6, 3, 43, 101, 112, 3, 33, 0];

/// Why a text is nobody's word.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignedError {
    /// Another kind of file.
    #[error("it is no provisioning file that was signed (`headgate provision sign`), or its line ends were changed since: its first line is not `{}`", HEAD.trim_end())]
    Head,
    /// Nobody has signed it.
    #[error("it is not signed: its last line is not `{TAIL}…`; `headgate provision sign` signs it")]
    NotSigned,
    /// Somebody else has, or it was changed since.
    #[error("its signature is not of this key, or it was changed since it was signed")]
    Foreign,
    /// It is longer than such a file is.
    #[error("it has more than {LONGEST} bytes")]
    TooLong,
    /// It is no text.
    #[error("it is no text in UTF-8")]
    NoText,
    /// The key's file cannot be read.
    #[error("{}: {cause}", .path.display())]
    Unread {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// The key is none.
    #[error("{}: {why}", .path.display())]
    Key {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

const NO_KEY: &str = "there is no such file: wanted is the public key of who signs, there or where `firmware.provisioning_key` says";

fn key_error(path: &Path, why: impl ToString) -> SignedError {
    SignedError::Key {
        path: path.to_owned(),
        why: why.to_string(),
    }
}

/// Who may sign: public keys of one PEM file (`openssl pkey -pubout`). One is enough, several make an exchange of keys possible.
#[derive(Debug)]
pub(crate) struct Keys(Vec<[u8; 32]>);

impl Keys {
    /// Reads the file. One key at least must be there.
    pub(crate) fn load(path: &Path) -> Result<Self, SignedError> {
        use io::Read as _;
        let mut pem = Vec::new();
        let read = private::open(path).and_then(|file| file.take(LONGEST as u64).read_to_end(&mut pem));
        read.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => key_error(path, NO_KEY),
            _ => SignedError::Unread {
                path: path.to_owned(),
                cause: error,
            },
        })?;
        Self::of_pem(path, &pem)
    }

    /// The same of what stands in the file.
    pub(crate) fn of_pem(path: &Path, pem: &[u8]) -> Result<Self, SignedError> {
        let keys = SubjectPublicKeyInfoDer::pem_slice_iter(pem).map(|key| {
            let key = key.map_err(|error| key_error(path, error))?;
            let raw = key.strip_prefix(&SPKI).and_then(|raw| raw.try_into().ok());
            raw.ok_or_else(|| key_error(path, "it is no Ed25519 key"))
        });
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        match keys.is_empty() {
            true if PrivatePkcs8KeyDer::from_pem_slice(pem).is_ok() => Err(key_error(
                path,
                "it is the private key, which signs; wanted is the public one: `openssl pkey -pubout`",
            )),
            true => Err(key_error(path, "there is no public key in it")),
            false => Ok(Self(keys)),
        }
    }

    /// What was signed, without the signature.
    pub(crate) fn verify<'a>(&self, text: &'a str) -> Result<&'a str, SignedError> {
        if !text.starts_with(HEAD) {
            return Err(SignedError::Head);
        }
        let lines = text.trim_end();
        let at = lines.rfind('\n').map_or(0, |at| at + 1);
        let signature = lines[at..].strip_prefix(TAIL).ok_or(SignedError::NotSigned)?;
        let signature = BASE64.decode(signature).map_err(|_| SignedError::Foreign)?;
        let signed = &text[..at];
        let is_of = |key: &[u8; 32]| {
            UnparsedPublicKey::new(&ED25519, key)
                .verify(signed.as_bytes(), &signature)
                .is_ok()
        };
        match self.0.iter().any(is_of) {
            true => Ok(signed),
            false => Err(SignedError::Foreign),
        }
    }
}

/// The text with a signature of this private key (PEM, PKCS #8, `openssl genpkey -algorithm ed25519`). One that it has already goes.
pub(crate) fn sign(text: &str, key: &Path) -> Result<String, SignedError> {
    let pem = std::fs::read(key).map_err(|error| key_error(key, error))?;
    let der = PrivatePkcs8KeyDer::from_pem_slice(&pem).map_err(|_| {
        key_error(
            key,
            "there is no private key in it, which signs; the public one verifies",
        )
    })?;
    let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der()).map_err(|_| {
        key_error(
            key,
            "it is no Ed25519 key: `openssl genpkey -algorithm ed25519` makes one",
        )
    })?;
    // As editors of Windows write it.
    let text = text.trim_start_matches('\u{feff}').replace("\r\n", "\n");
    let head = if text.starts_with(HEAD) { "" } else { HEAD };
    let mut signed = format!("{head}{}\n", unsigned(&text));
    let signature = BASE64.encode(pair.sign(signed.as_bytes()));
    signed += &format!("{TAIL}{signature}\n");
    match signed.len() > LONGEST {
        true => Err(SignedError::TooLong),
        false => Ok(signed),
    }
}

/// The text without its last line, if that is a signature.
fn unsigned(text: &str) -> &str {
    let text = text.trim_end();
    match text.rsplit_once('\n') {
        Some((before, last)) if last.starts_with(TAIL) => before.trim_end(),
        _ => text,
    }
}

/// What stands in the file. It may be on a stick: it is read no further than such a file is long.
pub(crate) fn read(path: &Path) -> io::Result<Result<String, SignedError>> {
    use io::Read as _;
    let mut bytes = Vec::new();
    private::open(path)?
        .take(LONGEST as u64 + 1)
        .read_to_end(&mut bytes)?;
    Ok(match bytes.len() > LONGEST {
        true => Err(SignedError::TooLong),
        false => String::from_utf8(bytes).map_err(|_| SignedError::NoText),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Two key pairs, as `openssl genpkey -algorithm ed25519` and `openssl pkey -pubout` write them.
    pub(crate) const KEYS: [(&str, &str); 2] = [
        (
            "MC4CAQAwBQYDK2VwBCIEIADQzNrF9bO8rH4qMC9Xf09QlWTgkmM1yTP0pvcwoC7o",
            "MCowBQYDK2VwAyEARsQAHmK4CYteAUR1u/NX1GU3C2Iw892f+FzV8Gppa1Q=",
        ),
        (
            "MC4CAQAwBQYDK2VwBCIEIAKrcEJcvuvGMd15llXbW9GOxjyvLQLEMDhksfFm85Oq",
            "MCowBQYDK2VwAyEAG54Vu1DIGU/EfNwCn/pXC149H55gsHKbjUPcoZjyGFo=",
        ),
    ];

    /// The files of a pair, and of which of the public keys.
    pub(crate) fn files(folder: &Path, private: usize, public: &[usize]) -> (PathBuf, PathBuf) {
        let (private_file, public_file) = (folder.join("signer.key"), folder.join("signer.pem"));
        let pem = |kind: &str, base64: &str| {
            format!("-----BEGIN {kind} KEY-----\n{base64}\n-----END {kind} KEY-----\n")
        };
        std::fs::write(&private_file, pem("PRIVATE", KEYS[private].0)).unwrap();
        let public: String = public.iter().map(|n| pem("PUBLIC", KEYS[*n].1)).collect();
        std::fs::write(&public_file, public).unwrap();
        (private_file, public_file)
    }

    #[test]
    fn what_one_key_has_signed_is_taken_by_whoever_knows_it_and_by_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let (private, public) = files(folder.path(), 0, &[1, 0]);
        let signed = sign("number = 1\n", &private).unwrap();
        let keys = Keys::load(&public).unwrap();
        assert_eq!(
            keys.verify(&signed).unwrap(),
            "# headgate provisioning 1\nnumber = 1\n"
        );
        assert_eq!(
            sign(&signed, &private).unwrap(),
            signed,
            "signed twice, it has one signature"
        );

        assert_eq!(
            sign("\u{feff}number = 1\r\n", &private).unwrap(),
            signed,
            "as Windows writes it"
        );

        let (_, others) = files(folder.path(), 0, &[1]);
        let others = Keys::load(&others).unwrap();
        assert!(matches!(others.verify(&signed), Err(SignedError::Foreign)));
    }

    #[test]
    fn no_byte_of_it_can_be_another() {
        let folder = tempfile::tempdir().unwrap();
        let (private, public) = files(folder.path(), 1, &[1]);
        let signed = sign("number = 1\n[configuration]\nnode = \"a\"\n", &private).unwrap();
        let keys = Keys::load(&public).unwrap();
        let end = signed.trim_end().len();
        for at in 0..end {
            let mut changed = signed.clone().into_bytes();
            changed[at] ^= 1;
            let Ok(changed) = String::from_utf8(changed) else {
                continue;
            };
            assert!(keys.verify(&changed).is_err(), "byte {at}");
        }
        for end in 0..end {
            assert!(keys.verify(&signed[..end]).is_err(), "cut at {end}");
        }
        // What stands behind the signature was signed by nobody.
        assert!(keys.verify(&format!("{signed}number = 2\n")).is_err());
    }
}
