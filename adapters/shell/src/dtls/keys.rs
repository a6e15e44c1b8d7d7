//! Shared keys by identity. Nothing of them is ever written to a log.

use crate::settings::DtlsSettings;
use crate::settings::dtls::identity_fault;
use headgate_access::SharedKey;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

/// The most bytes of a file that are read: some hundred thousand keys.
const MAX_FILE: u64 = 64 << 20;

/// The keys of one listener.
#[derive(Default)]
pub(crate) struct SharedKeys(HashMap<Vec<u8>, SharedKey>);

/// What is wrong with a file of keys.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is longer than such a file may be.
    #[error("{}: longer than {MAX_FILE} bytes", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// A line is no `identity:hexkey`.
    #[error("{}:{line}: {what}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong; never the key.
        what: String,
    },
}

impl SharedKeys {
    /// Those of the settings, and of their file.
    pub(crate) fn load(settings: &DtlsSettings) -> Result<Self, KeyFileError> {
        let mut keys = Self::default();
        if let Some(path) = &settings.psk_file {
            keys.read(path)?;
        }
        for shared in &settings.psk {
            // Looked at with the settings.
            if let Ok(key) = SharedKey::parse(shared.key.reveal()) {
                keys.0.insert(shared.identity.clone().into_bytes(), key);
            }
        }
        Ok(keys)
    }

    fn read(&mut self, path: &Path) -> Result<(), KeyFileError> {
        let failed = |source| KeyFileError::Read {
            path: path.into(),
            source,
        };
        if fs::metadata(path).map_err(failed)?.len() > MAX_FILE {
            return Err(KeyFileError::TooLong { path: path.into() });
        }
        let text = zeroize::Zeroizing::new(fs::read_to_string(path).map_err(failed)?);
        for (n, line) in text.lines().enumerate() {
            let wrong = |what: &str| KeyFileError::Line {
                path: path.into(),
                line: n + 1,
                what: what.to_owned(),
            };
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            // Identities such as `urn:dev:7` have colons, keys have none.
            let (identity, key) = line
                .rsplit_once(':')
                .ok_or_else(|| wrong("there is no colon, a line is `identity:hexkey`"))?;
            if let Some(what) = identity_fault(identity) {
                return Err(wrong(&what));
            }
            let key = SharedKey::parse(key).map_err(|fault| wrong(&fault.to_string()))?;
            if self.0.insert(identity.as_bytes().to_vec(), key).is_some() {
                return Err(wrong(&format!("`{identity}` stands twice")));
            }
        }
        Ok(())
    }

    /// How many are shorter than this.
    pub(crate) fn shorter_than(&self, bytes: usize) -> usize {
        let keys = self.0.values();
        keys.filter(|key| key.reveal().len() < bytes).count()
    }

    /// The key of an identity.
    pub(crate) fn get(&self, identity: &[u8]) -> Option<&[u8]> {
        self.0.get(identity).map(SharedKey::reveal)
    }
}

impl fmt::Debug for SharedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedKeys({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::SharedKeyLogin;
    use std::io::Write;

    fn load(text: &str) -> Result<SharedKeys, String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let settings = DtlsSettings {
            psk_file: Some(file.path().into()),
            psk: vec![SharedKeyLogin {
                identity: "own".into(),
                key: toml::Value::from("ff").try_into().unwrap(),
            }],
            ..DtlsSettings::default()
        };
        let told = |error: KeyFileError| error.to_string().rsplit_once("/").unwrap().1.to_owned();
        SharedKeys::load(&settings).map_err(told)
    }

    #[test]
    fn a_file_is_read_as_mosquitto_writes_it() {
        let keys = load("# keys\npump-7:0011\n\nurn:dev:7:AAbb\r\nown:00\n").unwrap();
        assert_eq!(keys.get(b"pump-7"), Some(&[0, 0x11][..]));
        assert_eq!(keys.get(b"urn:dev:7"), Some(&[0xAA, 0xBB][..]));
        // What stands in the settings stands before what is in the file.
        assert_eq!(keys.get(b"own"), Some(&[0xFF][..]));
        assert_eq!(keys.get(b"urn"), None);
        assert_eq!(format!("{keys:?}"), "SharedKeys(3)");
        assert_eq!((keys.shorter_than(2), keys.shorter_than(16)), (1, 3));
    }

    #[test]
    fn a_fault_names_the_line_and_never_the_key() {
        for (text, line) in [
            ("a:00\nb", 2),
            (":00", 1),
            ("a:5ecre7", 1),
            ("a:5ecret", 1),
            ("a:00\na:00", 2),
            ("a:", 1),
        ] {
            let told = load(text).unwrap_err();
            assert!(told.contains(&format!(":{line}: ")), "{told}");
            assert!(!told.contains("5ecre"), "{told}");
        }
    }
}
