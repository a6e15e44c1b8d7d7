//! What a payload says: paths and values; and what has to be known to read it.

use crate::{Path, Type, Value};

/// A path, and what a payload says of it.
#[derive(Clone, PartialEq, Debug)]
pub struct Record {
    /// Where.
    pub path: Path,
    /// What; `None` if only the path is said: lists of what is to be read, nulls, instances and resources without anything in them.
    pub value: Option<Value>,
    /// When: Unix seconds, or, below 2^28, seconds from now (negative: ago), as written after the base time is added. `None` if the payload does not say.
    /// RFC 8428 §4.5.3
    pub time: Option<f64>,
}

impl Record {
    /// A value without a time.
    pub fn new(path: Path, value: Value) -> Self {
        Self {
            path,
            value: Some(value),
            time: None,
        }
    }

    /// A path alone.
    pub fn of_path(path: Path) -> Self {
        Self {
            path,
            value: None,
            time: None,
        }
    }
}

/// What is known of resources. `()` knows nothing, [`Registry`](crate::object::Registry) what is defined in it.
pub trait Types {
    /// The type of a resource, or of the resource this is an instance of. `None` if it is unknown or is there to be executed.
    fn of(&self, path: &Path) -> Option<Type>;

    /// Whether a resource has instances. `None` if it is unknown.
    fn is_multiple(&self, path: &Path) -> Option<bool>;
}

impl Types for () {
    fn of(&self, _: &Path) -> Option<Type> {
        None
    }

    fn is_multiple(&self, _: &Path) -> Option<bool> {
        None
    }
}
