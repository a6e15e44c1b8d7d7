//! The formats of payloads: their numbers and names, and what they have in common. Core 1.2 §7.4

use crate::{Path, PathError, Record, Types, ValueError, json, link, lwm2m_cbor, senml, single, tlv};
use std::fmt;
use std::str::FromStr;

/// A payload has no more records than this.
pub const MAX_RECORDS: usize = 65_536;

/// A format of payloads. Core 1.2 §7.4
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub enum Format {
    /// Plain text: one value.
    Text,
    /// Links. RFC 6690
    LinkFormat,
    /// The bytes of one value.
    Opaque,
    /// CBOR: one value. RFC 8949
    Cbor,
    /// SenML in JSON. RFC 8428
    SenmlJson,
    /// SenML in CBOR. RFC 8428
    SenmlCbor,
    /// Type, length, value: the binary format of LwM2M 1.0.
    Tlv,
    /// The JSON of LwM2M 1.0.
    Json,
    /// The CBOR of LwM2M 1.2.
    Lwm2mCbor,
}

/// A text that names no format.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no format of payloads has this name")]
pub struct UnknownFormat;

impl Format {
    /// All of them, by their numbers.
    pub const ALL: [Self; 9] = [
        Self::Text,
        Self::LinkFormat,
        Self::Opaque,
        Self::Cbor,
        Self::SenmlJson,
        Self::SenmlCbor,
        Self::Tlv,
        Self::Json,
        Self::Lwm2mCbor,
    ];

    /// The format with a number of CoAP's registry; also with one of those that clients used before there was a registration: 1541 text, 1542 TLV, 1543 JSON,
    /// 1544 opaque.
    pub fn of_number(number: u32) -> Option<Self> {
        match number {
            1541 => Some(Self::Text),
            1542 => Some(Self::Tlv),
            1543 => Some(Self::Json),
            1544 => Some(Self::Opaque),
            _ => Self::ALL
                .into_iter()
                .find(|format| u32::from(format.number()) == number),
        }
    }

    /// Its number in CoAP's registry of content formats.
    pub fn number(self) -> u16 {
        match self {
            Self::Text => 0,
            Self::LinkFormat => 40,
            Self::Opaque => 42,
            Self::Cbor => 60,
            Self::SenmlJson => 110,
            Self::SenmlCbor => 112,
            Self::Tlv => 11542,
            Self::Json => 11543,
            Self::Lwm2mCbor => 11544,
        }
    }

    /// A short name: `text`, `link`, `opaque`, `cbor`, `senml-json`, `senml-cbor`, `tlv`, `json` or `lwm2m-cbor`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::LinkFormat => "link",
            Self::Opaque => "opaque",
            Self::Cbor => "cbor",
            Self::SenmlJson => "senml-json",
            Self::SenmlCbor => "senml-cbor",
            Self::Tlv => "tlv",
            Self::Json => "json",
            Self::Lwm2mCbor => "lwm2m-cbor",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        Self::ALL
            .into_iter()
            .find(|format| format.name() == text)
            .ok_or(UnknownFormat)
    }
}

/// Why a payload is refused, or cannot be written.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum FormatError {
    /// Text in another encoding.
    #[error("the text is not UTF-8")]
    NotUtf8,
    /// It is no JSON, or nested too deep.
    #[error("no JSON at line {line}, column {column}")]
    Json {
        /// From 1 on.
        line: usize,
        /// From 1 on; 0 at the end of a line.
        column: usize,
    },
    /// It is no CBOR, ends too early, or has an item that is not allowed at this place.
    #[error("no CBOR of this format at byte {0}")]
    Cbor(usize),
    /// It ends in the middle of a record, or has a record that is not allowed at this place. Core 1.1 §7.4.3
    #[error("no TLV of this level at byte {0}")]
    Tlv(usize),
    /// Bytes follow where the payload should end.
    #[error("{0} bytes behind the end")]
    Trailing(usize),
    /// JSON or CBOR of another shape than the format has.
    #[error("`{0}` is not there or is not of the kind that the format has")]
    Shape(&'static str),
    /// A record says two values.
    #[error("a record with two values")]
    TwoValues,
    /// RFC 8428 §4.4: a label that ends in an underscore must be understood.
    #[error("the label {0:?} must be understood")]
    MustUnderstand(String),
    /// RFC 8428 §4.4
    #[error("version {0} of SenML")]
    Version(i64),
    /// A name that is no path.
    #[error("the name {name:?}: {error}")]
    Name {
        /// As it is, shortened if it is long.
        name: String,
        /// What is wrong with it.
        error: PathError,
    },
    /// A record that the request did not ask for.
    #[error("{path} is not in {base}")]
    Outside {
        /// Of the record.
        path: Path,
        /// Of the request.
        base: Path,
    },
    /// Only resources and their instances have values.
    #[error("{0} has a value and is no resource")]
    NotAResource(Path),
    /// The value is none of the resource's type.
    #[error("{path}: {error}")]
    Value {
        /// Of the record.
        path: Path,
        /// What is wrong with it.
        error: ValueError,
    },
    /// It has a value twice, or one beside those of its instances.
    #[error("{0} is there twice, or itself and what is below it")]
    Twice(Path),
    /// The format has no way to say a path without a value at this level.
    #[error("{0} has no value, which this format cannot say")]
    NoValue(Path),
    /// JSON has no infinite numbers.
    #[error("{0} has a number that JSON cannot hold")]
    NotFinite(Path),
    /// Only SenML and JSON have times.
    #[error("{0} has a time, which this format cannot say")]
    Time(Path),
    /// Plain text, opaque and CBOR are one value of a resource without instances, or of one instance.
    #[error("{0} is not one value, which is all that this format holds")]
    NotOneValue(Path),
    /// TLV has no objects in it.
    #[error("{0} is above the objects that this format holds")]
    Level(Path),
    /// More than [`MAX_RECORDS`].
    #[error("more than {MAX_RECORDS} records")]
    TooMany,
    /// A value longer than TLV's lengths: 16,777,215 bytes.
    #[error("{0} is too long for TLV")]
    TooLong(Path),
    /// Links that are none.
    #[error(transparent)]
    Links(#[from] crate::LinkError),
}

/// Reads a payload.
///
/// `base` is the path of the request: what is outside is refused. `types` tells how values are to be read; a resource it does not know has
/// the type that the format shows: bytes in TLV, strings in plain text, in JSON an integer if the number has neither fraction nor exponent, else a float.
///
/// TLV at an object's level that begins with resources is of instance 0. A payload of links gives its paths.
pub fn decode(
    format: Format,
    base: Path,
    payload: &[u8],
    types: &dyn Types,
) -> Result<Vec<Record>, FormatError> {
    let mut records = Records::new(base, types);
    match format {
        Format::Text => single::decode_text(payload, &mut records)?,
        Format::Opaque => single::decode_opaque(payload, &mut records)?,
        Format::Cbor => single::decode_cbor(payload, &mut records)?,
        Format::LinkFormat => {
            for link in link::parse_links(payload)? {
                records.push(Record::of_path(link.path))?;
            }
        }
        Format::SenmlJson => senml::decode_json(payload, &mut records)?,
        Format::SenmlCbor => senml::decode_cbor(payload, &mut records)?,
        Format::Tlv => tlv::decode(payload, &mut records)?,
        Format::Json => json::decode(payload, &mut records)?,
        Format::Lwm2mCbor => lwm2m_cbor::decode(payload, &mut records)?,
    }
    Ok(records.list)
}

/// Writes a payload, values as they are: who wants them in the resource's type converts them before ([`Value::into_type`](crate::Value::into_type)).
///
/// `base` is the path of the request; all records are in it. TLV and LwM2M CBOR are written in the order of paths, whatever the order of the records.
/// To create an instance whose number the client chooses, take the path of any instance as `base`: TLV then has its resources alone.
pub fn encode(format: Format, base: Path, records: &[Record]) -> Result<Vec<u8>, FormatError> {
    if records.len() > MAX_RECORDS {
        return Err(FormatError::TooMany);
    }
    for record in records {
        check(record, base)?;
    }
    match format {
        Format::Text => single::encode_text(base, records),
        Format::Opaque => single::encode_opaque(base, records),
        Format::Cbor => single::encode_cbor(base, records),
        Format::LinkFormat => {
            if let Some(record) = records.iter().find(|record| record.value.is_some()) {
                return Err(FormatError::NotOneValue(record.path));
            }
            let links = records.iter().map(|record| crate::Link::of(record.path));
            Ok(crate::Links(links.collect()).to_string().into_bytes())
        }
        Format::SenmlJson => senml::encode_json(base, records),
        Format::SenmlCbor => Ok(senml::encode_cbor(base, records)),
        Format::Tlv => tlv::encode(base, records),
        Format::Json => json::encode(base, records),
        Format::Lwm2mCbor => lwm2m_cbor::encode(records),
    }
}

fn check(record: &Record, base: Path) -> Result<(), FormatError> {
    let path = record.path;
    if !base.contains(&path) {
        return Err(FormatError::Outside { path, base });
    }
    if record.value.is_some() && path.depth() < 3 {
        return Err(FormatError::NotAResource(path));
    }
    Ok(())
}

/// The records of a payload that is being read.
pub(crate) struct Records<'a> {
    pub(crate) base: Path,
    pub(crate) types: &'a dyn Types,
    list: Vec<Record>,
}

impl<'a> Records<'a> {
    fn new(base: Path, types: &'a dyn Types) -> Self {
        Self {
            base,
            types,
            list: Vec::new(),
        }
    }

    /// Adds a record whose value has its type already.
    pub(crate) fn push(&mut self, record: Record) -> Result<(), FormatError> {
        check(&record, self.base)?;
        if self.list.len() == MAX_RECORDS {
            return Err(FormatError::TooMany);
        }
        self.list.push(record);
        Ok(())
    }

    /// Adds a record whose value has the type that the format shows.
    pub(crate) fn push_untyped(&mut self, mut record: Record) -> Result<(), FormatError> {
        let path = record.path;
        record.value = match (record.value, self.types.of(&path)) {
            (Some(value), Some(wanted)) => {
                let value = value.into_type(wanted);
                Some(value.map_err(|error| FormatError::Value { path, error })?)
            }
            (value, _) => value,
        };
        self.push(record)
    }

    pub(crate) fn list(&self) -> &[Record] {
        &self.list
    }
}

/// The path of a name.
pub(crate) fn path_of(name: &str) -> Result<Path, FormatError> {
    name.parse().map_err(|error| FormatError::Name {
        name: name.chars().take(64).collect(),
        error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// \[LWM2M-7.4-NUMBERS\]
    #[test]
    fn formats_are_found_by_number_and_name() {
        for format in Format::ALL {
            assert_eq!(Format::of_number(u32::from(format.number())), Some(format));
            assert_eq!(format.name().parse(), Ok(format));
        }
        assert_eq!(Format::of_number(1542), Some(Format::Tlv));
        assert_eq!(Format::of_number(1543), Some(Format::Json));
        assert_eq!(Format::of_number(50), None);
        assert_eq!("xml".parse::<Format>(), Err(UnknownFormat));
    }
}
