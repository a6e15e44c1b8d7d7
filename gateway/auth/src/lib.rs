//! Who may connect, and what they may publish and subscribe to.
//!
//! A chain of providers says who a client is: lists of addresses and client ids, certificates, users with argon2id passwords and SCRAM-SHA-256 keys in a file.
//! Anonymous clients come in only where the configuration says so. A list of rules says what they may do. Passwords are checked off the async threads, a few at a time, fair by address; nothing secret is ever logged.

#![expect(
    clippy::disallowed_methods,
    reason = "password hashes have threads of their own, and files are looked at now and then"
)]

mod acl;
mod bans;
mod chain;
pub mod data_dir;
mod fair;
pub mod file;
mod foreign;
mod hashing;
mod providers;
mod remembered;
mod renewals;
mod rules;
mod scram;
mod service;
mod settings;
mod users;

pub use acl::{AclError, unknown_placeholders};
pub use bans::{Ban, BanError, Banned, BannedBy};
pub use chain::{Attempt, Chain, Checking, Prospect, Provider, Searching, Verdict};
pub use foreign::hash::{HashError, HashMethod};
pub use foreign::passwords::{ForeignUser, ImportError, UserFault, UsersFormat, read_users};
pub use foreign::{AclFileError, AclFileFault, FileError, Misplaced};
pub use rules::RuleView;
pub use service::{Access, AccessError, Foreseen, LoginStats, PreparedAccess};
pub use settings::{
    AclAction, AclEffect, AclFile, AclFormat, AclRule, AddressLogin, Anonymous, AuthSettings, BanSettings,
    CertificateClientId, CertificateName, CertificateSettings, ClientIdLogin, ListenerAuth, OnDeny,
    PasswordSettings, ProviderName, PskClientId, PskSettings, RefuseWith, UnknownUsers,
};
pub use users::{Imported, User, Users, UsersError, missing_folder};
