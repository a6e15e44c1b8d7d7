//! SenML, in JSON and in CBOR. RFC 8428; Core 1.2 §7.4
//!
//! Names are paths from the root; a record without a name is of the request's path. Units and sums are read over. Base fields hold for their record and all later ones.

mod cbor;
mod json;

pub(crate) use cbor::{decode as decode_cbor, encode as encode_cbor};
pub(crate) use json::{decode as decode_json, encode as encode_json};

use crate::format::{Records, path_of};
use crate::{FormatError, Path, Record, Value};

/// The newest version of SenML that is understood. RFC 8428 §4.4
const VERSION: i64 = 10;
/// A path is shorter. Names are put together for every record, so that a long one would cost its length each time.
const MAX_NAME: usize = 64;

/// What a record says that is of use.
#[derive(Default)]
struct Fields {
    base_version: Option<i64>,
    base_name: Option<String>,
    base_time: Option<f64>,
    base_value: Option<Value>,
    name: Option<String>,
    time: Option<f64>,
    value: Option<Value>,
}

impl Fields {
    fn set_value(&mut self, value: Option<Value>) -> Result<(), FormatError> {
        if value.is_some() && self.value.is_some() {
            return Err(FormatError::TwoValues);
        }
        self.value = self.value.take().or(value);
        Ok(())
    }
}

/// Base fields, as they stand.
#[derive(Default)]
struct Base {
    name: String,
    time: Option<f64>,
    value: Option<Value>,
}

impl Base {
    fn resolve(&mut self, fields: Fields, records: &mut Records<'_>) -> Result<(), FormatError> {
        if let Some(version) = fields.base_version.filter(|version| *version > VERSION) {
            return Err(FormatError::Version(version));
        }
        if let Some(name) = fields.base_name {
            self.name = name;
        }
        self.time = fields.base_time.or(self.time);
        self.value = fields.base_value.or(self.value.take());
        let name = fields.name.unwrap_or_default();
        if self.name.len() + name.len() > MAX_NAME {
            return Err(FormatError::Shape("n"));
        }
        let name = format!("{}{name}", self.name);
        let path = match name.as_str() {
            "" => records.base,
            // What stands before the names of others, and has none itself.
            "/" => Path::ROOT,
            name => path_of(name.strip_suffix('/').unwrap_or(name))?,
        };
        let value = match (fields.value, &self.value) {
            (Some(value), Some(base)) => Some(sum(value, base).ok_or(FormatError::Shape("bv"))?),
            (value, _) => value,
        };
        let time = match (fields.time, self.time) {
            (Some(time), Some(base)) => Some(base + time),
            (time, base) => time.or(base),
        };
        records.push_untyped(Record { path, value, time })
    }
}

/// Numbers and their base value; what is no number has none. RFC 8428 §4.3
fn sum(value: Value, base: &Value) -> Option<Value> {
    use crate::Type;
    let is_number = |value: &Value| matches!(value.type_of(), Type::Integer | Type::Unsigned | Type::Float);
    if !is_number(&value) {
        return Some(value);
    }
    let whole = |value: &Value| match value {
        Value::Integer(number) => Some(i128::from(*number)),
        Value::Unsigned(number) => Some(i128::from(*number)),
        _ => None,
    };
    if let (Some(a), Some(b)) = (whole(&value), whole(base)) {
        let sum = i64::try_from(a + b).map(Value::Integer);
        return sum.or_else(|_| u64::try_from(a + b).map(Value::Unsigned)).ok();
    }
    let float = |value: Value| match value.into_type(Type::Float) {
        Ok(Value::Float(number)) => Some(number),
        _ => None,
    };
    Some(Value::Float(float(value)? + float(base.clone())?))
}

/// The base name that all records of a pack share, and what is left of a record's path.
struct Names {
    base: Path,
    shared: bool,
}

impl Names {
    fn of(base: Path, records: &[Record]) -> Self {
        // The base alone would have no name to add.
        let shared = base.depth() > 0 && records.iter().all(|record| record.path != base);
        Self { base, shared }
    }

    fn base_name(&self) -> Option<String> {
        self.shared.then(|| format!("{}/", self.base))
    }

    fn name(&self, path: &Path) -> String {
        let name = path.to_string();
        if !self.shared {
            return name;
        }
        let base = self.base.to_string().len() + 1;
        name[base..].to_owned()
    }
}

/// A time that JSON and CBOR write as an integer: exactly so far as floats go in whole steps.
fn whole_seconds(time: f64) -> Option<i64> {
    const EXACT: f64 = (1_u64 << 53) as f64;
    let is_whole = time.fract() == 0.0 && time.abs() <= EXACT && (time != 0.0 || time.is_sign_positive());
    is_whole.then_some(time as i64)
}
