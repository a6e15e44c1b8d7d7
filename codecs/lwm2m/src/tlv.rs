//! TLV: the binary format of LwM2M 1.0. Core 1.0 §6.4.3, Core 1.1 §7.4.3
//!
//! An entry is one byte that tells what it is and how long its identifier and length are, then these two, then its value. Instances have resources in them, and
//! resources with instances have these.

use crate::format::Records;
use crate::tree::{Kind, Node, Tree, nodes};
use crate::{FormatError, Path, Record, Type, Value, ValueError, cbor};
use bytes::Bytes;
use nom::IResult;
use nom::bytes::complete::take;
use nom::number::complete::{be_u8, be_u16, be_u24};

/// Bits 7 and 6 of an entry's first byte.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Is {
    Instance = 0b00,
    ResourceInstance = 0b01,
    MultipleResource = 0b10,
    Resource = 0b11,
}

impl Is {
    /// The depth of what it stands in.
    fn container_depth(self) -> usize {
        match self {
            Self::Instance => 1,
            Self::Resource | Self::MultipleResource => 2,
            Self::ResourceInstance => 3,
        }
    }
}

struct Entry<'a> {
    is: Is,
    id: u16,
    value: &'a [u8],
}

fn entry(input: &[u8]) -> IResult<&[u8], Entry<'_>> {
    let (input, head) = be_u8(input)?;
    let is = match head >> 6 {
        0b00 => Is::Instance,
        0b01 => Is::ResourceInstance,
        0b10 => Is::MultipleResource,
        _ => Is::Resource,
    };
    let (input, id) = match head & 0b10_0000 {
        0 => be_u8(input).map(|(input, id)| (input, u16::from(id)))?,
        _ => be_u16(input)?,
    };
    let (input, length) = match (head >> 3) & 0b11 {
        0 => (input, u32::from(head & 0b111)),
        1 => be_u8(input).map(|(input, length)| (input, u32::from(length)))?,
        2 => be_u16(input).map(|(input, length)| (input, u32::from(length)))?,
        _ => be_u24(input)?,
    };
    let (input, value) = take(length)(input)?;
    Ok((input, Entry { is, id, value }))
}

pub(crate) fn decode(payload: &[u8], records: &mut Records<'_>) -> Result<(), FormatError> {
    let base = records.base;
    if base.depth() == 0 {
        return Err(FormatError::Level(base));
    }
    let mut reader = Reader { payload, records };
    let mut container = None;
    reader.entries(payload, |reader, at, entry| {
        let is_in = container_of(base, entry.is).ok_or(FormatError::Tlv(at))?;
        // All stand in the same thing: instances and resources are not mixed.
        if *container.get_or_insert(is_in) != is_in {
            return Err(FormatError::Tlv(at));
        }
        reader.entry(is_in, at, &entry)
    })?;
    Tree::of(records.list()).map(|_| ())
}

/// What an entry at the top stands in. A payload may begin at the level of the request's path, or above it.
fn container_of(base: Path, is: Is) -> Option<Path> {
    let depth = is.container_depth();
    if base.depth() >= depth {
        return Path::of(&base.ids()[..depth]);
    }
    // Resources of an object: it has one instance.
    if depth == base.depth() + 1 && depth == 2 {
        return base.child(0);
    }
    None
}

struct Reader<'p, 'r, 't> {
    payload: &'p [u8],
    records: &'r mut Records<'t>,
}

impl<'p> Reader<'p, '_, '_> {
    fn entries(
        &mut self,
        mut input: &'p [u8],
        mut each: impl FnMut(&mut Self, usize, Entry<'p>) -> Result<(), FormatError>,
    ) -> Result<(), FormatError> {
        while !input.is_empty() {
            let at = input.as_ptr().addr() - self.payload.as_ptr().addr();
            let (rest, next) = entry(input).map_err(|_| FormatError::Tlv(at))?;
            each(self, at, next)?;
            input = rest;
        }
        Ok(())
    }

    fn entry(&mut self, container: Path, at: usize, entry: &Entry<'p>) -> Result<(), FormatError> {
        let path = container.child(entry.id).ok_or(FormatError::Tlv(at))?;
        match entry.is {
            Is::Resource | Is::ResourceInstance => {
                let value = value_of(entry.value, self.records.types.of(&path));
                let value = value.map_err(|error| FormatError::Value { path, error })?;
                self.records.push(Record::new(path, value))
            }
            Is::Instance | Is::MultipleResource if entry.value.is_empty() => {
                self.records.push(Record::of_path(path))
            }
            Is::Instance | Is::MultipleResource => self.entries(entry.value, |reader, at, inner| {
                if inner.is.container_depth() != path.depth() {
                    return Err(FormatError::Tlv(at));
                }
                reader.entry(path, at, &inner)
            }),
        }
    }
}

/// A value of its bytes. Core 1.2, appendix C
fn value_of(bytes: &[u8], wanted: Option<Type>) -> Result<Value, ValueError> {
    let Some(wanted) = wanted else {
        return Ok(Value::Opaque(Bytes::copy_from_slice(bytes)));
    };
    let size = ValueError::Size {
        wanted,
        size: bytes.len(),
    };
    let text = || match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(ValueError::Syntax(wanted)),
    };
    match wanted {
        Type::String => text().map(Value::String),
        Type::CoreLink => text().map(Value::CoreLink),
        Type::Opaque => Ok(Value::Opaque(Bytes::copy_from_slice(bytes))),
        Type::Integer => signed(bytes).map(Value::Integer).ok_or(size),
        Type::Time => signed(bytes).map(Value::Time).ok_or(size),
        Type::Unsigned => unsigned(bytes).map(Value::Unsigned).ok_or(size),
        Type::Float => match bytes.len() {
            4 => bytes
                .try_into()
                .ok()
                .map(|bytes| f64::from(f32::from_be_bytes(bytes))),
            _ => bytes.try_into().ok().map(f64::from_be_bytes),
        }
        .map(Value::Float)
        .ok_or(size),
        Type::Boolean => match bytes {
            [0] => Ok(Value::Boolean(false)),
            [1] => Ok(Value::Boolean(true)),
            [_] => Err(ValueError::Syntax(wanted)),
            _ => Err(size),
        },
        Type::ObjectLink => match *bytes {
            [a, b, c, d] => Ok(Value::ObjectLink(
                u16::from_be_bytes([a, b]),
                u16::from_be_bytes([c, d]),
            )),
            _ => Err(size),
        },
    }
}

fn unsigned(bytes: &[u8]) -> Option<u64> {
    matches!(bytes.len(), 1 | 2 | 4 | 8).then(|| {
        bytes
            .iter()
            .fold(0, |number, byte| number << 8 | u64::from(*byte))
    })
}

fn signed(bytes: &[u8]) -> Option<i64> {
    let number = unsigned(bytes)?;
    // The highest bit that came is the sign.
    let unused = 64 - 8 * bytes.len() as u32;
    Some((number << unused) as i64 >> unused)
}

pub(crate) fn encode(base: Path, records: &[Record]) -> Result<Vec<u8>, FormatError> {
    if base.depth() == 0 {
        return Err(FormatError::Level(base));
    }
    let tree = Tree::of(records)?;
    let mut payload = Vec::new();
    let Some((first, _)) = tree.all().first() else {
        return Ok(payload);
    };
    let depth = match (base.depth(), first.depth()) {
        (_, 1) => return Err(FormatError::NoValue(*first)),
        // An instance alone, without anything in it, or instances.
        (_, 2) | (1, _) => 1,
        (2 | 3, _) => 2,
        _ => 3,
    };
    for node in nodes(tree.all(), depth) {
        write(&node, &mut payload)?;
    }
    Ok(payload)
}

fn write(node: &Node<'_, '_>, out: &mut Vec<u8>) -> Result<(), FormatError> {
    let path = node.path;
    let (is, value) = match (&node.kind, path.depth()) {
        (Kind::Leaf(None), 2) => (Is::Instance, Vec::new()),
        (Kind::Leaf(None), 3) => (Is::MultipleResource, Vec::new()),
        (Kind::Leaf(None), _) => return Err(FormatError::NoValue(path)),
        (Kind::Leaf(Some(value)), 4) => (Is::ResourceInstance, bytes_of(value)),
        (Kind::Leaf(Some(value)), _) => (Is::Resource, bytes_of(value)),
        (Kind::Branch(records), depth) => {
            let mut inside = Vec::new();
            for node in nodes(records, depth) {
                write(&node, &mut inside)?;
            }
            let is = if depth == 2 {
                Is::Instance
            } else {
                Is::MultipleResource
            };
            (is, inside)
        }
    };
    write_entry(is, node.id, &value, out).ok_or(FormatError::TooLong(path))
}

fn write_entry(is: Is, id: u16, value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let length = u32::try_from(value.len())
        .ok()
        .filter(|length| *length < 1 << 24)?;
    let length_bytes = match length {
        0..8 => 0,
        8..0x100 => 1,
        0x100..0x1_0000 => 2,
        _ => 3_u8,
    };
    let wide = id > 0xFF;
    let short = if length_bytes == 0 { length as u8 } else { 0 };
    out.push((is as u8) << 6 | u8::from(wide) << 5 | length_bytes << 3 | short);
    out.extend_from_slice(&id.to_be_bytes()[usize::from(!wide)..]);
    out.extend_from_slice(&length.to_be_bytes()[4 - usize::from(length_bytes)..]);
    out.extend_from_slice(value);
    Some(())
}

fn bytes_of(value: &Value) -> Vec<u8> {
    match value {
        Value::String(text) | Value::CoreLink(text) => text.as_bytes().to_vec(),
        Value::Integer(number) | Value::Time(number) => bytes_of_signed(*number),
        Value::Unsigned(number) => {
            let size = match number {
                0..0x100 => 1,
                0x100..0x1_0000 => 2,
                0x1_0000..0x1_0000_0000 => 4,
                _ => 8,
            };
            number.to_be_bytes()[8 - size..].to_vec()
        }
        Value::Float(number) => match cbor::short(*number) {
            Some(short) => short.to_be_bytes().to_vec(),
            None => number.to_be_bytes().to_vec(),
        },
        Value::Boolean(yes) => vec![u8::from(*yes)],
        Value::Opaque(bytes) => bytes.to_vec(),
        Value::ObjectLink(object, instance) => [object.to_be_bytes(), instance.to_be_bytes()].concat(),
    }
}

fn bytes_of_signed(number: i64) -> Vec<u8> {
    let size = if i8::try_from(number).is_ok() {
        1
    } else if i16::try_from(number).is_ok() {
        2
    } else if i32::try_from(number).is_ok() {
        4
    } else {
        8
    };
    number.to_be_bytes()[8 - size..].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_as_short_as_they_can_be() {
        for (number, bytes) in [
            (0, &b"\x00"[..]),
            (-1, b"\xff"),
            (127, b"\x7f"),
            (128, b"\x00\x80"),
            (-129, b"\xff\x7f"),
            (86_400, b"\x00\x01\x51\x80"),
            (1 << 31, b"\x00\x00\x00\x00\x80\x00\x00\x00"),
        ] {
            assert_eq!(bytes_of_signed(number), bytes);
            assert_eq!(signed(bytes), Some(number));
        }
        assert_eq!(signed(b""), None);
        assert_eq!(signed(b"\0\0\0"), None);
        assert_eq!(signed(b"\0\0\0\0\0\0\0\0\0"), None);
        assert_eq!(unsigned(b"\xc8"), Some(200));
    }

    #[test]
    fn lengths_of_every_size_are_written_and_read() {
        for (length, head) in [
            (0, 0xC0),
            (7, 0xC7),
            (8, 0xC8),
            (255, 0xC8),
            (256, 0xD0),
            (65_536, 0xD8),
        ] {
            let mut out = Vec::new();
            write_entry(Is::Resource, 3, &vec![0; length], &mut out).unwrap();
            assert_eq!(out[0], head);
            let (rest, entry) = entry(&out).unwrap();
            assert!(rest.is_empty());
            assert_eq!((entry.id, entry.value.len()), (3, length));
        }
        assert!(write_entry(Is::Resource, 3, &vec![0; 1 << 24], &mut Vec::new()).is_none());
    }
}
