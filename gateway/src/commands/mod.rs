//! The subcommands that are not the gateway itself.

pub(crate) mod bench;
pub(crate) mod bridges;
pub(crate) mod check;
mod connection;
mod format;
pub(crate) mod publish;
mod reference;
mod sn_bench;
mod sn_connection;
pub(crate) mod sn_publish;
pub(crate) mod sn_scan;
pub(crate) mod sn_subscribe;
pub(crate) mod store;
pub(crate) mod subscribe;
pub(crate) mod users;

#[cfg(test)]
mod sn_tests;

use std::error::Error;

/// Whatever went wrong, in words for whoever typed the command.
pub(crate) type Outcome = Result<(), Box<dyn Error>>;

/// Says on standard error what went wrong, with every cause.
#[allow(clippy::print_stderr, reason = "this is where a command speaks to people")]
pub(crate) fn complain(error: &dyn Error) {
    eprintln!("headgate: {error}");
    for cause in causes(error) {
        eprintln!("  because: {cause}");
    }
}

/// The causes that the errors above them have not told in their own words.
fn causes(error: &dyn Error) -> Vec<String> {
    let (mut told, mut left) = (error.to_string(), Vec::new());
    let mut next = error.source();
    while let Some(error) = next {
        let cause = error.to_string();
        if !told.contains(&cause) {
            told.push_str(&cause);
            left.push(cause);
        }
        next = error.source();
    }
    left
}

/// Writes a line of a command's answer to standard output.
#[allow(clippy::print_stdout, reason = "this is where a command answers")]
pub(crate) fn say(line: impl std::fmt::Display) {
    println!("{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Fault {
        #[error("no such file")]
        Inner,
        #[error("a.toml: {0}")]
        Told(#[source] Box<Fault>),
        #[error("it cannot be read")]
        Untold(#[source] Box<Fault>),
    }

    #[test]
    fn a_cause_is_told_once() {
        let told = Fault::Told(Box::new(Fault::Inner));
        assert_eq!(causes(&told), [""; 0]);
        let untold = Fault::Untold(Box::new(Fault::Told(Box::new(Fault::Inner))));
        assert_eq!(causes(&untold), ["a.toml: no such file"]);
    }
}
