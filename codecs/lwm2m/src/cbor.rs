//! Items of CBOR, which three formats share. RFC 8949; Core 1.2, appendix C
//!
//! Times are tagged (tag 1) where they are written, and may be plain numbers where they are read. Object links are text: `3:0`.

use crate::{FormatError, Value};
use bytes::Bytes;
use minicbor::data::{Tag, Type};
use minicbor::encode::Write;
use minicbor::{Decoder, Encoder};
use std::convert::Infallible;

const EPOCH_TIME: u64 = 1;
const DECIMAL_FRACTION: u64 = 4;
/// No float has a larger exponent, and no mantissa of 64 bits brings a smaller one back into its range.
const MAX_EXPONENT: u64 = 400;

/// What a read beyond the end, or of something else than what is there, ends with.
pub(crate) fn fault(decoder: &Decoder<'_>) -> impl Fn(minicbor::decode::Error) -> FormatError + use<> {
    let position = decoder.position();
    move |error| FormatError::Cbor(error.position().unwrap_or(position))
}

/// That nothing follows.
pub(crate) fn end(decoder: &Decoder<'_>) -> Result<(), FormatError> {
    match decoder.input().len() - decoder.position() {
        0 => Ok(()),
        bytes => Err(FormatError::Trailing(bytes)),
    }
}

/// Whether there is a further item in an array or map of so many, or of as many as there are.
pub(crate) fn more(decoder: &mut Decoder<'_>, left: &mut Option<u64>) -> Result<bool, FormatError> {
    let fault = fault(decoder);
    match left {
        Some(0) => Ok(false),
        Some(left) => {
            *left -= 1;
            Ok(true)
        }
        None if decoder.datatype().map_err(fault)? == Type::Break => {
            decoder.set_position(decoder.position() + 1);
            Ok(false)
        }
        None => Ok(true),
    }
}

/// The next item, if it is a value; `None` if it is null.
pub(crate) fn value(decoder: &mut Decoder<'_>) -> Result<Option<Value>, FormatError> {
    let (fault, position) = (fault(decoder), decoder.position());
    let kind = decoder.datatype().map_err(&fault)?;
    Ok(Some(match kind {
        Type::Null => return decoder.null().map(|()| None).map_err(fault),
        Type::Undefined => return decoder.undefined().map(|()| None).map_err(fault),
        Type::Bool => Value::Boolean(decoder.bool().map_err(fault)?),
        Type::String | Type::StringIndef => Value::String(text(decoder)?),
        Type::Bytes | Type::BytesIndef => Value::Opaque(bytes(decoder)?),
        Type::Tag => match decoder.tag().map_err(fault)?.as_u64() {
            EPOCH_TIME => number(decoder)?
                .into_type(crate::Type::Time)
                .map_err(|_| FormatError::Cbor(position))?,
            DECIMAL_FRACTION => decimal_fraction(decoder)?,
            _ => return Err(FormatError::Cbor(position)),
        },
        _ => number(decoder)?,
    }))
}

/// An integer or a float, without a tag.
pub(crate) fn number(decoder: &mut Decoder<'_>) -> Result<Value, FormatError> {
    let (fault, position) = (fault(decoder), decoder.position());
    match decoder.datatype().map_err(&fault)? {
        Type::U8 | Type::U16 | Type::U32 | Type::U64 => {
            let number = decoder.u64().map_err(fault)?;
            Ok(i64::try_from(number).map_or(Value::Unsigned(number), Value::Integer))
        }
        Type::I8 | Type::I16 | Type::I32 | Type::I64 => Ok(Value::Integer(decoder.i64().map_err(fault)?)),
        Type::F16 => {
            let bytes = decoder.input().get(position + 1..position + 3);
            let bytes = bytes.ok_or(FormatError::Cbor(position))?;
            decoder.set_position(position + 3);
            Ok(Value::Float(half(u16::from_be_bytes([bytes[0], bytes[1]]))))
        }
        Type::F32 => Ok(Value::Float(f64::from(decoder.f32().map_err(fault)?))),
        Type::F64 => Ok(Value::Float(decoder.f64().map_err(fault)?)),
        _ => Err(FormatError::Cbor(position)),
    }
}

/// A number as a float, for times.
pub(crate) fn float(decoder: &mut Decoder<'_>) -> Result<f64, FormatError> {
    let position = decoder.position();
    match value(decoder)?.map(|value| value.into_type(crate::Type::Float)) {
        Some(Ok(Value::Float(number))) => Ok(number),
        _ => Err(FormatError::Cbor(position)),
    }
}

/// Text, of one piece or of many.
pub(crate) fn text(decoder: &mut Decoder<'_>) -> Result<String, FormatError> {
    let fault = fault(decoder);
    let mut text = String::new();
    for piece in decoder.str_iter().map_err(&fault)? {
        text.push_str(piece.map_err(&fault)?);
    }
    Ok(text)
}

fn bytes(decoder: &mut Decoder<'_>) -> Result<Bytes, FormatError> {
    let fault = fault(decoder);
    let mut bytes = Vec::new();
    for piece in decoder.bytes_iter().map_err(&fault)? {
        bytes.extend_from_slice(piece.map_err(&fault)?);
    }
    Ok(bytes.into())
}

/// `[exponent, mantissa]`, to the base ten. RFC 8949 §3.4.4
fn decimal_fraction(decoder: &mut Decoder<'_>) -> Result<Value, FormatError> {
    let (fault, position) = (fault(decoder), decoder.position());
    let refused = FormatError::Cbor(position);
    let mut left = decoder.array().map_err(&fault)?;
    let mut parts = [0; 2];
    for part in &mut parts {
        if !more(decoder, &mut left)? {
            return Err(refused);
        }
        *part = decoder.i64().map_err(&fault)?;
    }
    if more(decoder, &mut left)? {
        return Err(refused);
    }
    let [exponent, mantissa] = parts;
    let whole = u32::try_from(exponent)
        .ok()
        .and_then(|exponent| 10_i64.checked_pow(exponent)?.checked_mul(mantissa));
    if let Some(number) = whole {
        return Ok(Value::Integer(number));
    }
    if exponent.unsigned_abs() > MAX_EXPONENT {
        return Err(refused);
    }
    // Reading it as it is written in decimal rounds once, and right.
    let number: f64 = format!("{mantissa}e{exponent}").parse().unwrap_or(f64::INFINITY);
    if number.is_finite() {
        Ok(Value::Float(number))
    } else {
        Err(refused)
    }
}

/// A float of 16 bits. RFC 8949, appendix D
fn half(bits: u16) -> f64 {
    let (exponent, mantissa) = (i32::from((bits >> 10) & 0x1F), f64::from(bits & 0x3FF));
    let size = match exponent {
        0 => mantissa * 2_f64.powi(-24),
        31 if mantissa == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (mantissa + 1024.0) * 2_f64.powi(exponent - 25),
    };
    if bits & 0x8000 == 0 { size } else { -size }
}

/// Writes to memory do not fail.
type Written<W> = Result<W, minicbor::encode::Error<Infallible>>;

pub(crate) fn done<W>(written: Written<W>) {
    assert!(written.is_ok(), "memory takes everything");
}

/// A value as one item. Floats are as short as they can be without loss.
pub(crate) fn write<W: Write<Error = Infallible>>(encoder: &mut Encoder<W>, value: &Value) {
    done(match value {
        Value::String(text) | Value::CoreLink(text) => encoder.str(text),
        Value::Integer(number) => encoder.i64(*number),
        Value::Unsigned(number) => encoder.u64(*number),
        Value::Float(number) => return write_float(encoder, *number),
        Value::Boolean(yes) => encoder.bool(*yes),
        Value::Opaque(bytes) => encoder.bytes(bytes),
        Value::Time(seconds) => encoder
            .tag(Tag::new(EPOCH_TIME))
            .and_then(|encoder| encoder.i64(*seconds)),
        Value::ObjectLink(..) => encoder.str(&value.to_text()),
    });
}

pub(crate) fn write_float<W: Write<Error = Infallible>>(encoder: &mut Encoder<W>, number: f64) {
    done(match short(number) {
        Some(short) => encoder.f32(short),
        None => encoder.f64(number),
    });
}

/// The same number in 32 bits, if they hold it.
pub(crate) fn short(number: f64) -> Option<f32> {
    let short = number as f32;
    (f64::from(short).to_bits() == number.to_bits()).then_some(short)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Option<Value>, FormatError> {
        let mut decoder = Decoder::new(bytes);
        let value = value(&mut decoder)?;
        end(&decoder)?;
        Ok(value)
    }

    /// Examples of RFC 8949, appendix A.
    #[test]
    fn numbers_of_every_size_are_read() {
        for (bytes, value) in [
            (&b"\x18\x64"[..], Value::Integer(100)),
            (b"\x1b\xff\xff\xff\xff\xff\xff\xff\xff", Value::Unsigned(u64::MAX)),
            (b"\x38\x63", Value::Integer(-100)),
            (b"\xf9\x3e\x00", Value::Float(1.5)),
            (b"\xf9\x7b\xff", Value::Float(65504.0)),
            (b"\xf9\x00\x01", Value::Float(5.960464477539063e-8)),
            (b"\xf9\xc4\x00", Value::Float(-4.0)),
            (b"\xf9\xfc\x00", Value::Float(f64::NEG_INFINITY)),
            (b"\xfa\x47\xc3\x50\x00", Value::Float(100_000.0)),
            (b"\xfb\x3f\xf1\x99\x99\x99\x99\x99\x9a", Value::Float(1.1)),
            (b"\xc1\x1a\x51\x4b\x67\xb0", Value::Time(1_363_896_240)),
            (b"\xc4\x82\x21\x19\x6a\xb3", Value::Float(273.15)),
            (b"\xc4\x82\x02\x05", Value::Integer(500)),
            (b"\xc4\x9f\x20\x18\x2d\xff", Value::Float(4.5)),
            (b"\x7f\x65strea\x64ming\xff", Value::String("streaming".into())),
            (
                b"\x5f\x42\x01\x02\x41\x03\xff",
                Value::Opaque(Bytes::from_static(b"\x01\x02\x03")),
            ),
        ] {
            assert_eq!(read(bytes), Ok(Some(value)), "{bytes:02x?}");
        }
        assert_eq!(read(b"\xf6"), Ok(None));
    }

    #[test]
    fn what_is_no_value_is_refused_where_it_stands() {
        assert_eq!(read(b""), Err(FormatError::Cbor(0)));
        for bytes in [
            &b"\x80"[..],
            b"\xa0",
            b"\xc2\x41\x01",
            b"\xc4\x81\x01",
            b"\xc4\x83\x01\x01\x01",
            b"\xc4\x82\x1b\x7f\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\xc4\x82\x3b\x7f\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\xc1\x63now",
            b"\xc1\xf9\x3e\x00",
            b"\x3b\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\xff",
            b"\xf9\x00",
        ] {
            assert!(matches!(read(bytes), Err(FormatError::Cbor(_))), "{bytes:02x?}");
        }
        assert_eq!(read(b"\x01\x02"), Err(FormatError::Trailing(1)));
    }

    #[test]
    fn floats_are_short_if_nothing_is_lost() {
        let written = |number| {
            let mut encoder = Encoder::new(Vec::new());
            write(&mut encoder, &Value::Float(number));
            encoder.into_writer()
        };
        assert_eq!(written(1.5), b"\xfa\x3f\xc0\x00\x00");
        assert_eq!(written(1.1), b"\xfb\x3f\xf1\x99\x99\x99\x99\x99\x9a");
        assert_eq!(written(f64::NAN)[0], 0xfa);
    }
}
