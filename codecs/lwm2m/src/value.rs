//! Values and their types. Core 1.2, appendix C
//!
//! Always true: a value that is converted to a type is the same value, or it is refused. Only an integer that becomes a float may lose its last digits.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use serde_json::Number;
use std::fmt;
use std::str::FromStr;

/// The type of a resource's values. A resource without a type is there to be executed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Type {
    /// Text in UTF-8.
    String,
    /// A signed integer of 64 bits.
    Integer,
    /// An unsigned integer of 64 bits.
    Unsigned,
    /// A number of 64 bits, IEEE 754.
    Float,
    /// Yes or no.
    Boolean,
    /// Bytes.
    Opaque,
    /// Seconds since 1970, UTC.
    Time,
    /// An instance of an object.
    ObjectLink,
    /// Links in link format. RFC 6690
    CoreLink,
}

/// A text that names no type.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no type of LwM2M has this name")]
pub struct UnknownType;

impl Type {
    const ALL: [Self; 9] = [
        Self::String,
        Self::Integer,
        Self::Unsigned,
        Self::Float,
        Self::Boolean,
        Self::Opaque,
        Self::Time,
        Self::ObjectLink,
        Self::CoreLink,
    ];

    /// Its name in object definitions: `Unsigned Integer`, `Objlnk`, `Corelnk`, others as they are called here.
    pub fn name(self) -> &'static str {
        match self {
            Self::String => "String",
            Self::Integer => "Integer",
            Self::Unsigned => "Unsigned Integer",
            Self::Float => "Float",
            Self::Boolean => "Boolean",
            Self::Opaque => "Opaque",
            Self::Time => "Time",
            Self::ObjectLink => "Objlnk",
            Self::CoreLink => "Corelnk",
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Type {
    type Err = UnknownType;

    /// Takes the names of [`Type::name`], in capital or small letters.
    fn from_str(text: &str) -> Result<Self, UnknownType> {
        Self::ALL
            .into_iter()
            .find(|known| known.name().eq_ignore_ascii_case(text))
            .ok_or(UnknownType)
    }
}

/// A value of a resource or of a resource instance.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// Text.
    String(String),
    /// A signed integer.
    Integer(i64),
    /// An unsigned integer.
    Unsigned(u64),
    /// A number, which may be infinite or none.
    Float(f64),
    /// Yes or no.
    Boolean(bool),
    /// Bytes.
    Opaque(Bytes),
    /// Seconds since 1970, UTC.
    Time(i64),
    /// An object and its instance; 65535 twice for none.
    ObjectLink(u16, u16),
    /// Links in link format, not looked at.
    CoreLink(String),
}

/// Why something is no value of a type.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ValueError {
    /// It is a value of another type, and does not stand for one of this.
    #[error("{given} was given where {wanted} is wanted")]
    Type {
        /// What the resource has.
        wanted: Type,
        /// What came.
        given: Type,
    },
    /// A JSON null, array or object, or a CBOR item that is none of the values.
    #[error("a null, a list or a table is no value")]
    Structure,
    /// Its bytes or characters are not those of the type.
    #[error("this is not written as {0} is")]
    Syntax(Type),
    /// It has a fraction, or is too large or too small.
    #[error("a number that {0} cannot hold")]
    Range(Type),
    /// So many bytes cannot be one.
    #[error("{size} bytes are no {wanted}")]
    Size {
        /// What the resource has.
        wanted: Type,
        /// How many there are.
        size: usize,
    },
}

impl Value {
    /// Its type.
    pub fn type_of(&self) -> Type {
        match self {
            Self::String(_) => Type::String,
            Self::Integer(_) => Type::Integer,
            Self::Unsigned(_) => Type::Unsigned,
            Self::Float(_) => Type::Float,
            Self::Boolean(_) => Type::Boolean,
            Self::Opaque(_) => Type::Opaque,
            Self::Time(_) => Type::Time,
            Self::ObjectLink(..) => Type::ObjectLink,
            Self::CoreLink(_) => Type::CoreLink,
        }
    }

    /// The same value as one of another type: numbers of each other if nothing is lost (22.0 is an integer, 22.5 is not), text that is an object link or links.
    pub fn into_type(self, wanted: Type) -> Result<Self, ValueError> {
        let given = self.type_of();
        if given == wanted {
            return Ok(self);
        }
        match (wanted, self) {
            (Type::ObjectLink, Self::String(text)) => {
                object_link(&text).ok_or(ValueError::Syntax(Type::ObjectLink))
            }
            (Type::CoreLink, Self::String(text)) => Ok(Self::CoreLink(text)),
            (Type::String, Self::CoreLink(text)) => Ok(Self::String(text)),
            (Type::Float, number) => match number {
                Self::Integer(number) | Self::Time(number) => Ok(Self::Float(number as f64)),
                Self::Unsigned(number) => Ok(Self::Float(number as f64)),
                _ => Err(ValueError::Type { wanted, given }),
            },
            (Type::Integer | Type::Unsigned | Type::Time, number) => {
                let number = match number {
                    Self::Integer(number) | Self::Time(number) => i128::from(number),
                    Self::Unsigned(number) => i128::from(number),
                    // The cast is exact for what has no fraction, and stays outside the range of 64 bits for what is.
                    Self::Float(number) if number.trunc() == number && number.is_finite() => number as i128,
                    Self::Float(_) => return Err(ValueError::Range(wanted)),
                    _ => return Err(ValueError::Type { wanted, given }),
                };
                Self::of_integer(number, wanted)
            }
            _ => Err(ValueError::Type { wanted, given }),
        }
    }

    fn of_integer(number: i128, wanted: Type) -> Result<Self, ValueError> {
        let range = ValueError::Range(wanted);
        match wanted {
            Type::Unsigned => u64::try_from(number).map(Self::Unsigned).map_err(|_| range),
            Type::Time => i64::try_from(number).map(Self::Time).map_err(|_| range),
            _ => i64::try_from(number).map(Self::Integer).map_err(|_| range),
        }
    }

    /// For the bus: numbers and booleans as they are, opaque bytes in base64 (RFC 4648 §4), an object link as `"3:0"`, times as Unix seconds. A number that is
    /// infinite or none is a string, for JSON has none: `"inf"`, `"-inf"`, `"NaN"`.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Integer(number) | Self::Time(number) => (*number).into(),
            Self::Unsigned(number) => (*number).into(),
            Self::Float(number) if number.is_finite() => (*number).into(),
            Self::Boolean(yes) => (*yes).into(),
            Self::String(text) | Self::CoreLink(text) => text.as_str().into(),
            Self::Float(_) | Self::Opaque(_) | Self::ObjectLink(..) => self.to_text().into(),
        }
    }

    /// A value as [`to_json`](Self::to_json) writes it. Numbers may be those of another type, as [`into_type`](Self::into_type) takes them; base64 may be of either
    /// alphabet, padded or not.
    pub fn of_json(json: &serde_json::Value, wanted: Type) -> Result<Self, ValueError> {
        match json {
            serde_json::Value::Bool(yes) => Self::Boolean(*yes).into_type(wanted),
            serde_json::Value::Number(number) => Self::of_number(number)?.into_type(wanted),
            serde_json::Value::String(text) => match wanted {
                Type::Opaque => Self::of_text(text, wanted),
                Type::Float => not_finite(text).map(Self::Float).ok_or(ValueError::Type {
                    wanted,
                    given: Type::String,
                }),
                _ => Self::String(text.clone()).into_type(wanted),
            },
            _ => Err(ValueError::Structure),
        }
    }

    /// A number as it is written: an integer if it has neither fraction nor exponent and 64 bits hold it, else a float.
    pub(crate) fn of_number(number: &Number) -> Result<Self, ValueError> {
        if let Some(number) = number.as_i64() {
            return Ok(Self::Integer(number));
        }
        if let Some(number) = number.as_u64() {
            return Ok(Self::Unsigned(number));
        }
        number
            .as_f64()
            .map(Self::Float)
            .ok_or(ValueError::Range(Type::Float))
    }

    /// A value as in a payload of plain text: decimal numbers, `0` and `1` for booleans, base64 for bytes, `3:0` for object links. Core 1.2 §7.4, appendix C
    pub fn of_text(text: &str, wanted: Type) -> Result<Self, ValueError> {
        let syntax = ValueError::Syntax(wanted);
        match wanted {
            Type::String => Ok(Self::String(text.to_owned())),
            Type::CoreLink => Ok(Self::CoreLink(text.to_owned())),
            Type::Integer => integer(text, wanted).map(Self::Integer),
            Type::Time => integer(text, wanted).map(Self::Time),
            Type::Unsigned => integer(text, wanted).map(Self::Unsigned),
            Type::Float => float(text).map(Self::Float).ok_or(syntax),
            Type::Boolean => match text {
                "0" => Ok(Self::Boolean(false)),
                "1" => Ok(Self::Boolean(true)),
                _ => Err(syntax),
            },
            Type::Opaque => of_base64(text)
                .map(|bytes| Self::Opaque(bytes.into()))
                .ok_or(syntax),
            Type::ObjectLink => object_link(text).ok_or(syntax),
        }
    }

    /// The value as [`of_text`](Self::of_text) reads it. Numbers have no exponent, and as many digits as they need.
    pub fn to_text(&self) -> String {
        match self {
            Self::String(text) | Self::CoreLink(text) => text.clone(),
            Self::Integer(number) | Self::Time(number) => number.to_string(),
            Self::Unsigned(number) => number.to_string(),
            Self::Float(number) => number.to_string(),
            Self::Boolean(yes) => u8::from(*yes).to_string(),
            Self::Opaque(bytes) => base64::engine::general_purpose::STANDARD.encode(bytes),
            Self::ObjectLink(object, instance) => format!("{object}:{instance}"),
        }
    }
}

fn integer<N: FromStr<Err = std::num::ParseIntError>>(text: &str, wanted: Type) -> Result<N, ValueError> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    text.parse()
        .map_err(|error: std::num::ParseIntError| match error.kind() {
            NegOverflow | PosOverflow => ValueError::Range(wanted),
            _ => ValueError::Syntax(wanted),
        })
}

/// A decimal number, perhaps with an exponent. One too large for 64 bits is none.
fn float(text: &str) -> Option<f64> {
    let written = |c: u8| matches!(c, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
    if !text.bytes().all(written) {
        return not_finite(text);
    }
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

fn not_finite(text: &str) -> Option<f64> {
    match text {
        "inf" => Some(f64::INFINITY),
        "-inf" => Some(f64::NEG_INFINITY),
        "NaN" => Some(f64::NAN),
        _ => None,
    }
}

/// `object:instance`, both from 0 to 65535. Core 1.2, appendix C
pub(crate) fn object_link(text: &str) -> Option<Value> {
    let (object, instance) = text.split_once(':')?;
    let id = crate::path::decimal;
    Some(Value::ObjectLink(id(object)?, id(instance)?))
}

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Base64 of either alphabet, padded or not. RFC 4648 §4, §5
pub(crate) fn of_base64(text: &str) -> Option<Vec<u8>> {
    if text.contains(['-', '_']) {
        return LENIENT.decode(text.replace('-', "+").replace('_', "/")).ok();
    }
    LENIENT.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn values() -> Vec<Value> {
        vec![
            Value::String("22.5 °C".into()),
            Value::Integer(i64::MIN),
            Value::Integer(i64::MAX),
            Value::Unsigned(u64::MAX),
            Value::Float(0.1),
            Value::Float(1e300),
            Value::Float(f64::INFINITY),
            Value::Float(f64::NEG_INFINITY),
            Value::Boolean(true),
            Value::Boolean(false),
            Value::Opaque(Bytes::from_static(b"\xfb\xff\x00")),
            Value::Time(1_367_491_215),
            Value::ObjectLink(65535, 65535),
            Value::CoreLink("</3/0>".into()),
        ]
    }

    /// \[LWM2M-C-DATA-TYPES\]
    #[test]
    fn values_come_back_from_json_and_text() {
        for value in values() {
            let wanted = value.type_of();
            assert_eq!(Value::of_json(&value.to_json(), wanted).as_ref(), Ok(&value));
            assert_eq!(Value::of_text(&value.to_text(), wanted).as_ref(), Ok(&value));
        }
    }

    #[test]
    fn json_of_values_is_native() {
        assert_eq!(Value::Integer(-5).to_json(), json!(-5));
        assert_eq!(Value::Float(22.5).to_json(), json!(22.5));
        assert_eq!(Value::Boolean(true).to_json(), json!(true));
        assert_eq!(
            Value::Opaque(Bytes::from_static(b"\xfb\xff")).to_json(),
            json!("+/8=")
        );
        assert_eq!(Value::ObjectLink(3, 0).to_json(), json!("3:0"));
        assert_eq!(Value::Float(f64::NAN).to_json(), json!("NaN"));
    }

    #[test]
    fn numbers_of_another_type_are_taken_if_nothing_is_lost() {
        let of = |json, wanted| Value::of_json(&json, wanted);
        assert_eq!(of(json!(22.0), Type::Integer), Ok(Value::Integer(22)));
        assert_eq!(of(json!(22), Type::Float), Ok(Value::Float(22.0)));
        assert_eq!(of(json!(22), Type::Unsigned), Ok(Value::Unsigned(22)));
        assert_eq!(of(json!(1.7e9), Type::Time), Ok(Value::Time(1_700_000_000)));
        assert_eq!(
            of(json!(22.5), Type::Integer),
            Err(ValueError::Range(Type::Integer))
        );
        assert_eq!(
            of(json!(-1), Type::Unsigned),
            Err(ValueError::Range(Type::Unsigned))
        );
        assert_eq!(
            of(json!(1e19), Type::Integer),
            Err(ValueError::Range(Type::Integer))
        );
        assert_eq!(
            of(json!(1e300), Type::Unsigned),
            Err(ValueError::Range(Type::Unsigned))
        );
        let other = |wanted, given| Err(ValueError::Type { wanted, given });
        assert_eq!(of(json!("22"), Type::Integer), other(Type::Integer, Type::String));
        assert_eq!(of(json!(1), Type::Boolean), other(Type::Boolean, Type::Integer));
        assert_eq!(of(json!(null), Type::String), Err(ValueError::Structure));
    }

    #[test]
    fn base64_is_taken_in_every_way_of_writing() {
        for text in ["+/8=", "+/8", "-_8=", "-_8"] {
            assert_eq!(of_base64(text), Some(b"\xfb\xff".to_vec()));
        }
        assert_eq!(of_base64("+/9"), None, "bits that are lost");
        assert_eq!(of_base64("!"), None);
    }

    #[test]
    fn text_that_is_no_value_is_refused() {
        for (text, wanted) in [
            ("", Type::Integer),
            ("1 ", Type::Integer),
            ("", Type::Float),
            ("nan", Type::Float),
            ("infinity", Type::Float),
            ("1e999", Type::Float),
            ("true", Type::Boolean),
            ("3", Type::ObjectLink),
            ("3:65536", Type::ObjectLink),
            ("3:00", Type::ObjectLink),
        ] {
            assert_eq!(
                Value::of_text(text, wanted),
                Err(ValueError::Syntax(wanted)),
                "{text}"
            );
        }
        let above = Value::of_text("9223372036854775808", Type::Integer);
        assert_eq!(above, Err(ValueError::Range(Type::Integer)));
    }

    /// \[LWM2M-C-DATA-TYPES\]
    #[test]
    fn types_have_the_names_of_definitions() {
        for known in Type::ALL {
            assert_eq!(known.to_string().parse(), Ok(known));
        }
        assert_eq!("unsigned integer".parse(), Ok(Type::Unsigned));
        assert_eq!("".parse::<Type>(), Err(UnknownType));
    }
}
