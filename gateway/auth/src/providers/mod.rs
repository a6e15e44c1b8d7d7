//! The providers that the gateway has itself.

mod addresses;
mod certificate;
mod client_ids;
mod psk;
mod users;

pub(crate) use addresses::Addresses;
pub(crate) use certificate::Certificates;
pub(crate) use client_ids::ClientIds;
pub(crate) use psk::Identities;
pub(crate) use users::{FileUsers, UserStore};
