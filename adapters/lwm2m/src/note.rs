//! What the store keeps of a client, so that it need not register again when the gateway was away: a note on its session, as JSON.

use crate::registration::Registration;
use bytes::Bytes;
use headgate_lwm2m_codec::Path;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Note {
    /// The listener that it came by.
    pub listener: String,
    /// Where it is: an IP address, or nothing.
    pub peer: String,
    /// Its port.
    pub port: u16,
    /// The same as the socket knows it, in base64: with our own address that it speaks to. `None` behind keys that are gone with the process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// The name of its registration: `/rd/{location}`.
    pub location: String,
    /// What it said of itself.
    #[serde(flatten)]
    pub registration: Said,
    /// What it is observed for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub observed: Vec<Observed>,
    /// A firmware update that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware: Option<String>,
}

/// A registration in a note.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Said {
    ep: String,
    lt: u64,
    lwm2m: String,
    b: String,
    q: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sms: Option<String>,
    links: String,
}

/// An observation in a note.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// Its token, in hexadecimal digits.
    pub token: String,
    /// Its paths.
    #[serde(with = "paths")]
    pub paths: Vec<Path>,
    /// Whether it is a composite one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub composite: bool,
    /// In which form values were wished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<u16>,
    /// What its notifications say again of the command.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub said: Map<String, Json>,
}

impl Note {
    /// Reads one; `None` if it is from a later version, or damaged.
    pub fn parse(note: &[u8]) -> Option<Self> {
        serde_json::from_slice(note).ok()
    }

    pub(crate) fn to_bytes(&self) -> Bytes {
        serde_json::to_vec(self).expect("strings and numbers").into()
    }

    /// What the client said of itself.
    pub fn registration(&self) -> Registration {
        self.registration.clone().into()
    }
}

impl From<&Registration> for Said {
    fn from(registration: &Registration) -> Self {
        Self {
            ep: registration.endpoint.clone(),
            lt: registration.lifetime,
            lwm2m: registration.version.clone(),
            b: registration.binding.clone(),
            q: registration.queue_mode,
            sms: registration.sms.clone(),
            links: String::from_utf8_lossy(&registration.links).into_owned(),
        }
    }
}

impl From<Said> for Registration {
    fn from(said: Said) -> Self {
        Self {
            endpoint: said.ep,
            lifetime: said.lt,
            version: said.lwm2m,
            binding: said.b,
            queue_mode: said.q,
            sms: said.sms,
            links: said.links.into(),
        }
    }
}

/// Paths as text.
mod paths {
    use headgate_lwm2m_codec::Path;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(paths: &[Path], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(paths.iter().map(ToString::to_string))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Path>, D::Error> {
        let written = Vec::<String>::deserialize(deserializer)?;
        let paths = written.iter().map(|path| path.parse::<Path>());
        paths.collect::<Result<_, _>>().map_err(Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_says_all_again() {
        let registration = Registration {
            endpoint: "dev".into(),
            lifetime: 60,
            version: "1.1".into(),
            binding: "U".into(),
            queue_mode: true,
            sms: None,
            links: Bytes::from_static(b"</3/0>"),
        };
        let note = Note {
            listener: "lwm2m".into(),
            peer: "192.0.2.1".into(),
            port: 5_683,
            place: None,
            location: "00ff".into(),
            registration: (&registration).into(),
            observed: vec![Observed {
                token: "0102".into(),
                paths: vec!["/3/0/9".parse().unwrap()],
                composite: false,
                format: Some(110),
                said: Map::new(),
            }],
            firmware: None,
        };
        let bytes = note.to_bytes();
        assert!(bytes.len() < 256, "{}", String::from_utf8_lossy(&bytes));
        assert_eq!(Note::parse(&bytes), Some(note.clone()));
        assert_eq!(note.registration(), registration);
        assert_eq!(Note::parse(b"{}"), None);
    }
}
