//! Who may connect, and what they may publish and subscribe to: the first part of the access chain.
//!
//! Users with argon2id passwords and SCRAM-SHA-256 keys in a file, anonymous clients only where the configuration says so, and a list of
//! rules. Passwords are checked off the async threads, a few at a time, fair by address; nothing secret is ever logged.

#![expect(
    clippy::disallowed_methods,
    reason = "password hashes have threads of their own, and files are looked at now and then"
)]

mod acl;
mod fair;
mod foreign;
mod hashing;
mod remembered;
mod renewals;
mod rules;
mod scram;
mod service;
mod settings;
mod users;

pub use acl::AclError;
pub use foreign::hash::{HashError, HashMethod};
pub use foreign::passwords::{ImportError, UserFault, UsersFormat};
pub use foreign::{AclFileError, AclFileFault, FileError, Misplaced};
pub use service::{Access, AccessError, LoginStats};
pub use settings::{
    AclAction, AclEffect, AclFile, AclFormat, AclRule, Anonymous, AuthSettings, PasswordSettings, RefuseWith,
};
pub use users::{Imported, User, Users, UsersError};
