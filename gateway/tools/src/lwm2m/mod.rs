//! Clients of LwM2M, commanded over MQTT as any client of the gateway would do it: a command is published, its answer is awaited. docs/lwm2m.md

mod commander;
mod definitions;
mod error;
mod shown;
mod words;

pub(crate) use commander::{Commander, Patience, Place};
pub(crate) use definitions::registry_of;
pub(crate) use error::Lwm2mError;
pub(crate) use shown::{progress_of, shown};
pub(crate) use words::{Written, attributes, data_of_paths, kind, path, path_of_depth, written};
