//! LwM2M 1.0, 1.1 and 1.2 (OMA): payloads to records and back, links, attributes, and the definitions of objects.
//!
//! [`decode`] and [`encode`] are for payloads: whatever the [`Format`], a payload is a list of [`Record`]s, each a path and its value. [`parse_registration`] reads what a
//! client registers, [`parse_links`] what Discover answers. [`object`] has the definitions, which tell the types of resources.
//!
//! ```
//! use headgate_lwm2m_codec::object::Registry;
//! use headgate_lwm2m_codec::{Format, Path, Record, Value, decode};
//!
//! let battery = Path::of(&[3, 0, 9]).expect("three identifiers");
//! let records = decode(Format::Tlv, battery, b"\xc1\x09\x64", &Registry::builtin())?;
//! assert_eq!(records, [Record::new(battery, Value::Integer(100))]);
//! # Ok::<(), headgate_lwm2m_codec::FormatError>(())
//! ```
//!
//! Always true: no bytes make a decoder panic; nothing is allocated by a number that a peer sent; nothing costs more than n log n; what is decoded encodes to the
//! same records.
//!
//! `Core` in comments is OMA-TS-LightweightM2M_Core of the version that stands behind it.

mod arguments;
mod attributes;
mod cbor;
mod format;
mod json;
mod link;
mod lwm2m_cbor;
pub mod object;
mod path;
mod record;
mod registration;
mod senml;
mod single;
mod tlv;
mod tree;
mod value;

pub use arguments::{ArgumentsError, check_arguments};
pub use attributes::{Attribute, AttributeError, Attributes};
pub use format::{Format, FormatError, MAX_RECORDS, UnknownFormat, decode, encode};
pub use link::{Link, LinkError, Links, MAX_LINKS, parse_links};
pub use path::{Path, PathError, RESERVED_ID};
pub use record::{Record, Types};
pub use registration::{Registered, RegisteredObject, parse_registration, write_registration};
pub use value::{Type, UnknownType, Value, ValueError};
