//! Options, in the order of their numbers. RFC 7252 §5.4

use bytes::Bytes;

/// Option numbers. RFC 7252 §5.10, and where said.
#[allow(missing_docs, reason = "they are the names of the registry")]
pub mod number {
    pub const IF_MATCH: u16 = 1;
    pub const URI_HOST: u16 = 3;
    pub const ETAG: u16 = 4;
    pub const IF_NONE_MATCH: u16 = 5;
    /// RFC 7641 §2
    pub const OBSERVE: u16 = 6;
    pub const URI_PORT: u16 = 7;
    pub const LOCATION_PATH: u16 = 8;
    /// RFC 8613 §2
    pub const OSCORE: u16 = 9;
    pub const URI_PATH: u16 = 11;
    pub const CONTENT_FORMAT: u16 = 12;
    pub const MAX_AGE: u16 = 14;
    pub const URI_QUERY: u16 = 15;
    /// RFC 8768 §3
    pub const HOP_LIMIT: u16 = 16;
    pub const ACCEPT: u16 = 17;
    pub const LOCATION_QUERY: u16 = 20;
    /// RFC 7959 §2.1
    pub const BLOCK2: u16 = 23;
    /// RFC 7959 §2.1
    pub const BLOCK1: u16 = 27;
    /// RFC 7959 §4
    pub const SIZE2: u16 = 28;
    pub const PROXY_URI: u16 = 35;
    pub const PROXY_SCHEME: u16 = 39;
    pub const SIZE1: u16 = 60;
    /// RFC 9175 §2.2
    pub const ECHO: u16 = 252;
    /// RFC 7967 §2
    pub const NO_RESPONSE: u16 = 258;
    /// RFC 9175 §3.2
    pub const REQUEST_TAG: u16 = 292;

    /// Of CSM. RFC 8323 §5.3.1
    pub const MAX_MESSAGE_SIZE: u16 = 2;
    /// Of CSM. RFC 8323 §5.3.2
    pub const BLOCK_WISE_TRANSFER: u16 = 4;
    /// Of Ping and Pong. RFC 8323 §5.4.1
    pub const CUSTODY: u16 = 2;
    /// Of Abort. RFC 8323 §5.6
    pub const BAD_CSM_OPTION: u16 = 2;
}

/// Content-format identifiers that the gateway knows. RFC 7252 §12.3, and the OMA's.
#[allow(missing_docs, reason = "they are the names of the registry")]
pub mod format {
    pub const TEXT_PLAIN: u16 = 0;
    pub const LINK_FORMAT: u16 = 40;
    pub const XML: u16 = 41;
    pub const OCTET_STREAM: u16 = 42;
    pub const JSON: u16 = 50;
    pub const CBOR: u16 = 60;
    pub const SENML_JSON: u16 = 110;
    pub const SENML_CBOR: u16 = 112;

    /// The media type of an identifier; `None` for one that is not known here.
    pub fn media_type(format: u16) -> Option<&'static str> {
        KNOWN.iter().find(|known| known.0 == format).map(|known| known.1)
    }

    /// The identifier of a media type, whatever its parameters; `None` for one that has none here.
    pub fn of_media_type(media_type: &str) -> Option<u16> {
        let essence = media_type.split(';').next().unwrap_or_default().trim();
        let same = |known: &&(u16, &str)| {
            let known = known.1.split(';').next().unwrap_or_default();
            known.eq_ignore_ascii_case(essence)
        };
        KNOWN.iter().find(same).map(|known| known.0)
    }

    const KNOWN: [(u16, &str); 15] = [
        (TEXT_PLAIN, "text/plain; charset=utf-8"),
        (LINK_FORMAT, "application/link-format"),
        (XML, "application/xml"),
        (OCTET_STREAM, "application/octet-stream"),
        (47, "application/exi"),
        (JSON, "application/json"),
        (CBOR, "application/cbor"),
        (61, "application/cwt"),
        (63, "application/cbor-seq"),
        (SENML_JSON, "application/senml+json"),
        (SENML_CBOR, "application/senml+cbor"),
        (114, "application/senml-exi"),
        (310, "application/senml+xml"),
        (320, "application/senml-etch+json"),
        (322, "application/senml-etch+cbor"),
    ];
}

/// The options of one message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options(Vec<(u16, Bytes)>);

impl Options {
    /// The first of this number.
    pub fn get(&self, number: u16) -> Option<&Bytes> {
        self.all(number).next()
    }

    /// All of this number, in order.
    pub fn all(&self, number: u16) -> impl Iterator<Item = &Bytes> {
        let from = self.0.partition_point(|option| option.0 < number);
        let same = self.0[from..].iter().take_while(move |option| option.0 == number);
        same.map(|option| &option.1)
    }

    /// The first of this number as an unsigned integer; `None` if there is none, or if it has more than four bytes. RFC 7252 §3.2
    pub fn uint(&self, number: u16) -> Option<u32> {
        uint_of(self.get(number)?)
    }

    /// Whether there is one of this number.
    pub fn has(&self, number: u16) -> bool {
        self.get(number).is_some()
    }

    /// Adds one behind those of its number.
    pub fn push(&mut self, number: u16, value: impl Into<Bytes>) {
        let at = self.0.partition_point(|option| option.0 <= number);
        self.0.insert(at, (number, value.into()));
    }

    /// Adds an unsigned integer, without leading zeros. RFC 7252 §3.2
    pub fn push_uint(&mut self, number: u16, value: u32) {
        let zeros = (value.leading_zeros() / 8) as usize;
        self.push(number, Bytes::copy_from_slice(&value.to_be_bytes()[zeros..]));
    }

    /// Removes all of this number.
    pub fn remove(&mut self, number: u16) {
        self.0.retain(|option| option.0 != number);
    }

    /// All, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u16, &Bytes)> {
        self.0.iter().map(|(number, value)| (*number, value))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first one that must be understood and is not in `known`, or that is repeated although it may not be. RFC 7252 §5.4.1, §5.4.5
    pub fn first_bad(&self, known: impl Fn(u16) -> bool) -> Option<u16> {
        let is_critical = |number: u16| number & 1 == 1;
        let unknown = self
            .0
            .iter()
            .find(|(number, _)| is_critical(*number) && !known(*number));
        let repeats = || {
            self.0
                .windows(2)
                .find(|pair| pair[0].0 == pair[1].0 && is_critical(pair[0].0) && !is_repeatable(pair[0].0))
        };
        unknown
            .or_else(|| repeats().map(|pair| &pair[0]))
            .map(|option| option.0)
    }
}

/// RFC 7252 §5.10, table 4: column R
fn is_repeatable(number: u16) -> bool {
    use number::{IF_MATCH, URI_PATH, URI_QUERY};
    matches!(number, IF_MATCH | URI_PATH | URI_QUERY)
}

pub(crate) fn uint_of(value: &[u8]) -> Option<u32> {
    (value.len() <= 4).then(|| value.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// \[RFC7252-3.1-1\]
    #[test]
    fn options_stay_in_the_order_of_their_numbers() {
        let mut options = Options::default();
        options.push(number::URI_QUERY, "c=1");
        options.push(number::URI_PATH, "a");
        options.push(number::URI_PATH, "b");
        options.push_uint(number::OBSERVE, 0);
        let all: Vec<_> = options
            .iter()
            .map(|(number, value)| (number, &value[..]))
            .collect();
        assert_eq!(all, [(6, &b""[..]), (11, b"a"), (11, b"b"), (15, b"c=1")]);
        options.remove(number::URI_PATH);
        assert!(!options.has(number::URI_PATH) && options.has(number::OBSERVE));
    }

    /// RFC 7252 §3.2 \[RFC7252-3.2-1\] \[RFC7252-3.2-2\]
    #[test]
    fn integers_have_no_leading_zeros() {
        for (value, bytes) in [(0, &[][..]), (1, &[1]), (256, &[1, 0]), (u32::MAX, &[255; 4])] {
            let mut options = Options::default();
            options.push_uint(14, value);
            assert_eq!(&options.get(14).unwrap()[..], bytes);
            assert_eq!(options.uint(14), Some(value));
        }
        let mut options = Options::default();
        options.push(14, &[0, 0, 7][..]);
        assert_eq!(options.uint(14), Some(7), "a sender may be careless");
        options.push(60, &[0; 5][..]);
        assert_eq!(options.uint(60), None);
    }

    /// RFC 7252 §5.4.1 and §5.4.5: a critical option that is not understood, or that is given too often, is a bad option; an elective one is ignored.
    /// \[RFC7252-5.4.1-1\] \[RFC7252-5.4.5-2\]
    #[test]
    fn critical_options_must_be_known() {
        let known = |number: u16| number == 11 || number == 17;
        let with = |numbers: &[u16]| {
            let mut options = Options::default();
            numbers.iter().for_each(|number| options.push(*number, ""));
            options.first_bad(known)
        };
        assert_eq!(with(&[11, 11, 17, 2_000, 2_000]), None);
        assert_eq!(with(&[11, 9]), Some(9));
        assert_eq!(with(&[17, 17]), Some(17));
    }

    #[test]
    fn media_types_and_identifiers() {
        assert_eq!(format::media_type(50), Some("application/json"));
        assert_eq!(format::of_media_type("Text/Plain"), Some(0));
        assert_eq!(format::of_media_type("application/json;charset=utf-8"), Some(50));
        assert_eq!(format::of_media_type("image/x-other"), None);
    }
}
