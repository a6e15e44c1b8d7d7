//! Who may connect, and what they may publish and subscribe to: the first part of the access chain.
//!
//! Users with argon2id passwords and SCRAM-SHA-256 keys in a file, anonymous clients only where the configuration says so, and a list of
//! rules. Passwords are checked off the async threads, a few at a time; nothing secret is ever logged.

mod acl;
mod scram;
mod service;
mod settings;
mod users;

pub use acl::AclError;
pub use service::{Access, AccessError};
pub use settings::{AclAction, AclEffect, AclRule, Anonymous, AuthSettings, RefuseWith};
pub use users::{User, Users, UsersError};
