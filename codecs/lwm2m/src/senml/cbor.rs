//! The CBOR of SenML: labels are numbers. RFC 8428 §6; object links are the label `vlo`, Core 1.2 §7.4

use super::{Base, Fields, Names, whole_seconds};
use crate::cbor;
use crate::format::Records;
use crate::value::object_link;
use crate::{FormatError, Path, Record, Value};
use minicbor::data::Type;
use minicbor::{Decoder, Encoder};

const BASE_VERSION: i64 = -1;
const BASE_NAME: i64 = -2;
const BASE_TIME: i64 = -3;
const BASE_VALUE: i64 = -5;
const NAME: i64 = 0;
const VALUE: i64 = 2;
const STRING: i64 = 3;
const BOOLEAN: i64 = 4;
const TIME: i64 = 6;
const DATA: i64 = 8;
const OBJECT_LINK: &str = "vlo";

pub(crate) fn decode(payload: &[u8], records: &mut Records<'_>) -> Result<(), FormatError> {
    let mut decoder = Decoder::new(payload);
    let fault = cbor::fault(&decoder);
    let mut left = decoder.array().map_err(fault)?;
    let mut base = Base::default();
    while cbor::more(&mut decoder, &mut left)? {
        base.resolve(fields(&mut decoder)?, records)?;
    }
    cbor::end(&decoder)
}

fn fields(decoder: &mut Decoder<'_>) -> Result<Fields, FormatError> {
    let mut fields = Fields::default();
    let fault = cbor::fault(decoder);
    let mut left = decoder.map().map_err(fault)?;
    while cbor::more(decoder, &mut left)? {
        let fault = cbor::fault(decoder);
        if matches!(
            decoder.datatype().map_err(&fault)?,
            Type::String | Type::StringIndef
        ) {
            let label = cbor::text(decoder)?;
            match label.as_str() {
                OBJECT_LINK => fields.set_value(link(decoder)?)?,
                _ if label.ends_with('_') => return Err(FormatError::MustUnderstand(label)),
                _ => decoder.skip().map_err(fault)?,
            }
            continue;
        }
        match decoder.i64().map_err(&fault)? {
            BASE_VERSION => fields.base_version = Some(decoder.i64().map_err(fault)?),
            BASE_NAME => fields.base_name = Some(cbor::text(decoder)?),
            BASE_TIME => fields.base_time = Some(cbor::float(decoder)?),
            BASE_VALUE => fields.base_value = number(decoder, "bv")?,
            NAME => fields.name = Some(cbor::text(decoder)?),
            TIME => fields.time = Some(cbor::float(decoder)?),
            VALUE => fields.set_value(number(decoder, "v")?)?,
            STRING => fields.set_value(of_kind(decoder, "vs", |v| matches!(v, Value::String(_)))?)?,
            BOOLEAN => fields.set_value(of_kind(decoder, "vb", |v| matches!(v, Value::Boolean(_)))?)?,
            DATA => fields.set_value(of_kind(decoder, "vd", |v| matches!(v, Value::Opaque(_)))?)?,
            _ => decoder.skip().map_err(fault)?,
        }
    }
    Ok(fields)
}

/// A number; SenML knows no times among them, so that a tag says nothing.
fn number(decoder: &mut Decoder<'_>, label: &'static str) -> Result<Option<Value>, FormatError> {
    let value = of_kind(decoder, label, is_number)?;
    Ok(value.map(|value| match value {
        Value::Time(seconds) => Value::Integer(seconds),
        other => other,
    }))
}

fn is_number(value: &Value) -> bool {
    matches!(
        value,
        Value::Integer(_) | Value::Unsigned(_) | Value::Float(_) | Value::Time(_)
    )
}

fn of_kind(
    decoder: &mut Decoder<'_>,
    label: &'static str,
    is: impl Fn(&Value) -> bool,
) -> Result<Option<Value>, FormatError> {
    let value = cbor::value(decoder)?;
    if value.as_ref().is_some_and(|value| !is(value)) {
        return Err(FormatError::Shape(label));
    }
    Ok(value)
}

fn link(decoder: &mut Decoder<'_>) -> Result<Option<Value>, FormatError> {
    match cbor::value(decoder)? {
        None => Ok(None),
        Some(Value::String(text)) => object_link(&text)
            .map(Some)
            .ok_or(FormatError::Shape(OBJECT_LINK)),
        Some(_) => Err(FormatError::Shape(OBJECT_LINK)),
    }
}

pub(crate) fn encode(base: Path, records: &[Record]) -> Vec<u8> {
    let names = Names::of(base, records);
    let mut base_name = names.base_name();
    let mut encoder = Encoder::new(Vec::new());
    cbor::done(encoder.array(records.len() as u64));
    for record in records {
        let base_name = base_name.take();
        let optional = [base_name.is_some(), record.time.is_some(), record.value.is_some()];
        let fields = 1 + optional.into_iter().filter(|is_there| *is_there).count();
        cbor::done(encoder.map(fields as u64));
        if let Some(name) = base_name {
            cbor::done(encoder.i64(BASE_NAME).and_then(|encoder| encoder.str(&name)));
        }
        let name = names.name(&record.path);
        cbor::done(encoder.i64(NAME).and_then(|encoder| encoder.str(&name)));
        if let Some(time) = record.time {
            cbor::done(encoder.i64(TIME));
            match whole_seconds(time) {
                Some(seconds) => cbor::done(encoder.i64(seconds)),
                None => cbor::write_float(&mut encoder, time),
            }
        }
        if let Some(value) = &record.value {
            write_value(value, &mut encoder);
        }
    }
    encoder.into_writer()
}

fn write_value(value: &Value, encoder: &mut Encoder<Vec<u8>>) {
    let label = match value {
        Value::Integer(_) | Value::Unsigned(_) | Value::Float(_) => VALUE,
        // The label says that it is a number: no tag.
        Value::Time(seconds) => {
            cbor::done(encoder.i64(VALUE).and_then(|encoder| encoder.i64(*seconds)));
            return;
        }
        Value::String(_) | Value::CoreLink(_) => STRING,
        Value::Boolean(_) => BOOLEAN,
        Value::Opaque(_) => DATA,
        Value::ObjectLink(..) => {
            cbor::done(encoder.str(OBJECT_LINK));
            cbor::write(encoder, value);
            return;
        }
    };
    cbor::done(encoder.i64(label));
    cbor::write(encoder, value);
}
