//! The subcommands that are not the gateway itself.

pub mod bench;
pub mod bridges;
pub mod check;
mod connection;
mod format;
pub mod publish;
mod reference;
mod sn_bench;
mod sn_connection;
pub mod sn_publish;
pub mod sn_scan;
pub mod sn_subscribe;
pub mod store;
pub mod subscribe;
pub mod users;

#[cfg(test)]
mod sn_tests;

use std::error::Error;

/// Whatever went wrong, in words for whoever typed the command.
pub type Outcome = Result<(), Box<dyn Error>>;

/// Says on standard error what went wrong, with every cause.
#[allow(clippy::print_stderr, reason = "this is where a command speaks to people")]
pub fn complain(error: &dyn Error) {
    eprintln!("headgate: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("  because: {error}");
        cause = error.source();
    }
}

/// Writes a line of a command's answer to standard output.
#[allow(clippy::print_stdout, reason = "this is where a command answers")]
pub fn say(line: impl std::fmt::Display) {
    println!("{line}");
}
