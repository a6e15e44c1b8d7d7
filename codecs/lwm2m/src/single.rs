//! Formats of one value: plain text, opaque, CBOR. Core 1.2 §7.4
//!
//! Always true: the request's path is that of a resource that has no instances, or of a resource instance.

use crate::format::Records;
use crate::{FormatError, Path, Record, Type, Value, ValueError, cbor};
use bytes::Bytes;
use minicbor::{Decoder, Encoder};

pub(crate) fn decode_text(payload: &[u8], records: &mut Records<'_>) -> Result<(), FormatError> {
    let path = path_of_one(records)?;
    let text = std::str::from_utf8(payload).map_err(|_| FormatError::NotUtf8)?;
    let wanted = records.types.of(&path).unwrap_or(Type::String);
    let value = Value::of_text(text, wanted).map_err(|error| FormatError::Value { path, error })?;
    records.push(Record::new(path, value))
}

/// For opaque resources alone, as far as it is known which these are. Core 1.0 §6.4.2
pub(crate) fn decode_opaque(payload: &[u8], records: &mut Records<'_>) -> Result<(), FormatError> {
    let path = path_of_one(records)?;
    match records.types.of(&path) {
        None | Some(Type::Opaque) => {}
        Some(wanted) => {
            let given = Type::Opaque;
            let error = ValueError::Type { wanted, given };
            return Err(FormatError::Value { path, error });
        }
    }
    records.push(Record::new(path, Value::Opaque(Bytes::copy_from_slice(payload))))
}

pub(crate) fn decode_cbor(payload: &[u8], records: &mut Records<'_>) -> Result<(), FormatError> {
    let path = path_of_one(records)?;
    let mut decoder = Decoder::new(payload);
    let value = cbor::value(&mut decoder)?.ok_or(FormatError::Value {
        path,
        error: ValueError::Structure,
    })?;
    cbor::end(&decoder)?;
    records.push_untyped(Record::new(path, value))
}

fn path_of_one(records: &Records<'_>) -> Result<Path, FormatError> {
    let path = records.base;
    let is_one = match path.depth() {
        3 => records.types.is_multiple(&path) != Some(true),
        depth => depth == 4,
    };
    if is_one {
        Ok(path)
    } else {
        Err(FormatError::NotOneValue(path))
    }
}

pub(crate) fn encode_text(base: Path, records: &[Record]) -> Result<Vec<u8>, FormatError> {
    value_of_one(base, records).map(|value| value.to_text().into_bytes())
}

pub(crate) fn encode_opaque(base: Path, records: &[Record]) -> Result<Vec<u8>, FormatError> {
    match value_of_one(base, records)? {
        Value::Opaque(bytes) => Ok(bytes.to_vec()),
        other => Err(FormatError::Value {
            path: base,
            error: ValueError::Type {
                wanted: Type::Opaque,
                given: other.type_of(),
            },
        }),
    }
}

pub(crate) fn encode_cbor(base: Path, records: &[Record]) -> Result<Vec<u8>, FormatError> {
    let value = value_of_one(base, records)?;
    let mut encoder = Encoder::new(Vec::new());
    cbor::write(&mut encoder, value);
    Ok(encoder.into_writer())
}

fn value_of_one(base: Path, records: &[Record]) -> Result<&Value, FormatError> {
    match records {
        [
            Record {
                path, time: Some(_), ..
            },
        ] => Err(FormatError::Time(*path)),
        [
            Record {
                path,
                value: Some(value),
                ..
            },
        ] if *path == base => Ok(value),
        _ => Err(FormatError::NotOneValue(base)),
    }
}
