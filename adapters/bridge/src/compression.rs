//! Payloads that are packed for the way: gzip (RFC 1952) or zstd (RFC 8878).
//!
//! Always true: a payload is packed only if that makes it smaller; what is unpacked is never larger than a limit, whatever its bytes say.

use bytes::Bytes;
use flate2::read::{GzDecoder, GzEncoder};
use headgate_mqtt_codec::{PublishProperties, Utf8};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::io::Read;

/// User property of MQTT 5 that names how a payload is packed.
pub(crate) const ENCODING: &str = "content-encoding";

/// Shorter payloads do not become smaller.
const LEAST: usize = 64;

/// How payloads are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Compression {
    /// The word of the user property.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// The packed payload, if it is smaller. The same bytes give the same, so that a message that is sent again is the same message.
    pub fn pack(self, payload: &[u8]) -> Option<Bytes> {
        if payload.len() < LEAST {
            return None;
        }
        let mut packed = Vec::new();
        match self {
            Self::Gzip => GzEncoder::new(payload, flate2::Compression::default())
                .read_to_end(&mut packed)
                .map(drop),
            Self::Zstd => zstd::stream::copy_encode(payload, &mut packed, 0),
        }
        .ok()?;
        (packed.len() < payload.len()).then(|| packed.into())
    }

    /// Says in the properties of a PUBLISH how its payload is packed. Packed text is no text any more.
    pub(crate) fn tell(self, properties: &mut PublishProperties) {
        properties.payload_format = None;
        let encoding = (Utf8::from(ENCODING), Utf8::from(self.as_str()));
        properties.user_properties.push(encoding);
    }

    /// How this payload is packed, by its first bytes.
    pub fn of(payload: &[u8]) -> Option<Self> {
        match payload {
            [0x1f, 0x8b, 8, ..] => Some(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Self::Zstd),
            _ => None,
        }
    }

    /// The payload again. `None` when it is damaged, or larger than `limit` bytes.
    pub fn unpack(self, packed: &[u8], limit: usize) -> Option<Bytes> {
        let most = limit as u64 + 1;
        let mut payload = Vec::new();
        match self {
            Self::Gzip => GzDecoder::new(packed).take(most).read_to_end(&mut payload),
            Self::Zstd => zstd::stream::Decoder::new(packed)
                .ok()?
                .take(most)
                .read_to_end(&mut payload),
        }
        .ok()?;
        (payload.len() <= limit).then(|| payload.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    const BOTH: [Compression; 2] = [Compression::Gzip, Compression::Zstd];

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked(word in vec(any::<u8>(), 1..20), times in 1..200_usize) {
            let payload = word.repeat(times);
            for how in BOTH {
                if let Some(packed) = how.pack(&payload) {
                    prop_assert!(packed.len() < payload.len());
                    prop_assert_eq!(Compression::of(&packed), Some(how));
                    prop_assert_eq!(how.unpack(&packed, payload.len()), Some(Bytes::from(payload.clone())));
                    prop_assert_eq!(how.unpack(&packed, payload.len() - 1), None);
                }
            }
        }

        #[test]
        fn any_bytes_are_unpacked_within_the_limit(mut bytes in vec(any::<u8>(), 0..300)) {
            for how in BOTH {
                let begin: &[u8] = match how {
                    Compression::Gzip => &[0x1f, 0x8b, 8],
                    Compression::Zstd => &[0x28, 0xb5, 0x2f, 0xfd],
                };
                bytes.splice(..0, begin.iter().copied());
                prop_assert!(how.unpack(&bytes, 1_000).is_none_or(|payload| payload.len() <= 1_000));
            }
        }
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        let zeros = vec![0; 10 << 20];
        for how in BOTH {
            let packed = how.pack(&zeros).unwrap();
            assert!(packed.len() < 100_000, "{}", packed.len());
            assert_eq!(how.unpack(&packed, 1 << 20), None);
        }
    }
}
