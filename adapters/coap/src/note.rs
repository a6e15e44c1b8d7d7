//! What is kept of an observation, so that it goes on after a restart before its client says anything.
//!
//! A version byte, then fields behind their lengths. Always true: there is no password and no token of a connection in it, only that the request had one.

use crate::uri;
use bytes::{Bytes, BytesMut};
use headgate_coap_codec::{Kind, Message, Options, decode, encode, number};
use headgate_model::Qos;
use headgate_model::bus::NOTE_BYTES;

const VERSION: u8 = 1;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    /// Where the client is, as its socket keeps places.
    pub place: Bytes,
    /// The client id, as the client said it.
    pub client_id: String,
    /// The user name, as the client said it.
    pub username: Option<String>,
    /// The filter, as the client wrote it.
    pub filter: Bytes,
    pub qos: Qos,
    /// Later sequence numbers than this were not used. RFC 7641 §3.4
    pub sequence: u32,
    /// The request that began it, with its token, without what is secret in it.
    pub request: Message,
}

impl Note {
    /// As bytes; `None` if it is longer than a note may be.
    pub(crate) fn write(&self) -> Option<Bytes> {
        let mut request = BytesMut::new();
        encode(&self.request, &mut request).ok()?;
        let mut bytes = vec![VERSION, self.qos as u8];
        bytes.extend_from_slice(&self.sequence.to_be_bytes());
        let username = self.username.as_deref();
        bytes.push(u8::from(username.is_some()));
        for field in [
            &self.place[..],
            self.client_id.as_bytes(),
            username.unwrap_or_default().as_bytes(),
            &self.filter,
            &request,
        ] {
            bytes.extend_from_slice(&u16::try_from(field.len()).ok()?.to_be_bytes());
            bytes.extend_from_slice(field);
        }
        (bytes.len() <= NOTE_BYTES).then(|| bytes.into())
    }

    /// What [`Self::write`] wrote; `None` for anything else, or what another version wrote.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let (&[VERSION, qos, a, b, c, d, named], mut rest) = bytes.split_first_chunk()? else {
            return None;
        };
        let mut field = || {
            let (len, behind) = rest.split_first_chunk()?;
            let (field, behind) = behind.split_at_checked(u16::from_be_bytes(*len).into())?;
            rest = behind;
            Some(field)
        };
        let (place, client_id, username) = (field()?, field()?, field()?);
        let (filter, request) = (field()?, field()?);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        let note = Self {
            place: Bytes::copy_from_slice(place),
            client_id: text(client_id)?,
            username: match named {
                0 => None,
                _ => Some(text(username)?),
            },
            filter: Bytes::copy_from_slice(filter),
            qos: Qos::from_u8(qos)?,
            sequence: u32::from_be_bytes([a, b, c, d]),
            request: decode(request).ok()?,
        };
        rest.is_empty().then_some(note)
    }

    /// Whether its request had a password: the client shows it again before more is known of it.
    pub(crate) fn had_password(&self) -> bool {
        let mut words = self.request.options.all(number::URI_QUERY);
        words.any(|word| uri::secret(word).is_some())
    }
}

/// A request without what is secret in its query: of such words, the names are left.
pub(crate) fn without_secrets(request: &Message) -> Message {
    with_words(request, |word| {
        let name = uri::secret(word)?;
        Some(word.slice_ref(&word[..name.len() + 1]))
    })
}

/// A request whose secret words are those that the client says in `said`.
pub(crate) fn with_secrets_of(request: &Message, said: &Message) -> Message {
    with_words(request, |word| {
        let name = uri::secret(word)?;
        let mut words = said.options.all(number::URI_QUERY);
        words.find(|word| uri::secret(word) == Some(name)).cloned()
    })
}

fn with_words(request: &Message, other: impl Fn(&Bytes) -> Option<Bytes>) -> Message {
    let mut options = Options::default();
    for (option, value) in request.options.iter() {
        let changed = (option == number::URI_QUERY).then(|| other(value)).flatten();
        options.push(option, changed.unwrap_or_else(|| value.clone()));
    }
    Message {
        kind: Kind::Confirmable,
        id: 0,
        options,
        ..request.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headgate_coap_codec::{Code, Token};

    fn request(words: &[&str]) -> Message {
        let mut request = Message::new(Kind::Confirmable, Code::GET, 0, Token::new(b"\x07\x08").unwrap());
        request.options.push(number::URI_PATH, "ps");
        for word in words {
            request.options.push(number::URI_QUERY, (*word).to_owned());
        }
        request.options.push_uint(number::ACCEPT, 50);
        request
    }

    fn note(request: Message) -> Note {
        Note {
            place: Bytes::from_static(b"there"),
            client_id: "c/1".into(),
            username: Some("joe".into()),
            filter: Bytes::from_static(b"a/+"),
            qos: Qos::ExactlyOnce,
            sequence: 70_000,
            request,
        }
    }

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let anonymous = Note {
            username: None,
            ..note(request(&["c=c"]))
        };
        for note in [note(request(&["c=c", "u=joe", "p="])), anonymous] {
            let written = note.write().unwrap();
            assert_eq!(Note::read(&written), Some(note));
            for end in 0..written.len() {
                assert_eq!(Note::read(&written[..end]), None);
            }
            assert_eq!(Note::read(&[&written[..], b"x"].concat()), None);
            assert_eq!(
                Note::read(&[&[2], &written[1..]].concat()),
                None,
                "another version"
            );
        }
        let long = "x".repeat(NOTE_BYTES);
        assert_eq!(note(request(&[&long])).write(), None);
    }

    /// What the client says again completes the request, at its places.
    #[test]
    fn no_secret_is_kept() {
        let full = request(&["p=s%20", "c=c", "password=other", "t=5", "path=p"]);
        let kept = without_secrets(&full);
        assert_eq!(kept, request(&["p=", "c=c", "password=", "t=", "path=p"]));
        assert!(note(kept.clone()).had_password() && !note(request(&["c=p"])).had_password());
        assert_eq!(with_secrets_of(&kept, &full), full);
        assert_eq!(
            with_secrets_of(&kept, &request(&["c=c", "p=x"])),
            request(&["p=x", "c=c", "password=", "t=", "path=p"])
        );
    }
}
