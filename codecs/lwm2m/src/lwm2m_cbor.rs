//! The CBOR of LwM2M 1.2: maps in maps, from identifiers to what is below. Core 1.2 §7.4
//!
//! A key is an identifier or an array of some, for maps that would have one entry. It is written with identifiers alone, maps of known length. Paths begin at the root,
//! whatever the request's path.

use crate::format::Records;
use crate::tree::{Kind, Tree, nodes};
use crate::{FormatError, Path, Record, Value, cbor};
use minicbor::data::Type;
use minicbor::{Decoder, Encoder};

pub(crate) fn decode(payload: &[u8], records: &mut Records<'_>) -> Result<(), FormatError> {
    let mut decoder = Decoder::new(payload);
    map(&mut decoder, Path::ROOT, records)?;
    cbor::end(&decoder)?;
    Tree::of(records.list()).map(|_| ())
}

/// Every key goes deeper, and paths have four levels: so have maps.
fn map(decoder: &mut Decoder<'_>, above: Path, records: &mut Records<'_>) -> Result<(), FormatError> {
    let fault = cbor::fault(decoder);
    let mut left = decoder.map().map_err(fault)?;
    let mut is_empty = true;
    while cbor::more(decoder, &mut left)? {
        is_empty = false;
        let path = key(decoder, above)?;
        let fault = cbor::fault(decoder);
        match decoder.datatype().map_err(fault)? {
            Type::Map | Type::MapIndef => map(decoder, path, records)?,
            _ => {
                let value = cbor::value(decoder)?;
                let time = None;
                records.push_untyped(Record { path, value, time })?;
            }
        }
    }
    if is_empty && above != Path::ROOT {
        records.push(Record::of_path(above))?;
    }
    Ok(())
}

fn key(decoder: &mut Decoder<'_>, above: Path) -> Result<Path, FormatError> {
    let (fault, position) = (cbor::fault(decoder), decoder.position());
    let child = |path: Path, id| path.child(id).ok_or(FormatError::Cbor(position));
    if !matches!(
        decoder.datatype().map_err(&fault)?,
        Type::Array | Type::ArrayIndef
    ) {
        return child(above, decoder.u16().map_err(fault)?);
    }
    let mut left = decoder.array().map_err(&fault)?;
    let mut path = above;
    while cbor::more(decoder, &mut left)? {
        path = child(path, decoder.u16().map_err(&fault)?)?;
    }
    if path == above {
        Err(FormatError::Cbor(position))
    } else {
        Ok(path)
    }
}

pub(crate) fn encode(records: &[Record]) -> Result<Vec<u8>, FormatError> {
    let tree = Tree::of(records)?;
    if let Some((path @ Path::ROOT, _)) = tree.all().first() {
        return Err(FormatError::NoValue(*path));
    }
    let mut encoder = Encoder::new(Vec::new());
    write(tree.all(), 0, &mut encoder);
    Ok(encoder.into_writer())
}

fn write(records: &[(Path, Option<&Value>)], depth: usize, encoder: &mut Encoder<Vec<u8>>) {
    let nodes = nodes(records, depth);
    cbor::done(encoder.map(nodes.clone().count() as u64));
    for node in nodes {
        cbor::done(encoder.u16(node.id));
        match node.kind {
            Kind::Leaf(Some(value)) => cbor::write(encoder, value),
            Kind::Leaf(None) => cbor::done(encoder.null()),
            Kind::Branch(below) => write(below, depth + 1, encoder),
        }
    }
}
