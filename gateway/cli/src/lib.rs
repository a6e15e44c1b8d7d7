//! What every subcommand of `headgate` has in common: how its arguments are parsed, how it ends, how it answers, how it complains.

mod value;
mod visible;

pub use value::{ValueError, one_of, within};
pub use visible::{is_visible, visible, visible_json, visible_lines};

use std::error::Error;
use std::fmt::Display;
use std::io::IsTerminal;

/// Whatever went wrong, in words for whoever typed the command.
pub type Outcome = Result<(), Box<dyn Error>>;

/// The command did what it was asked for, but not all of it: it ends with code 3, where what failed ends with 1 and a line that cannot be with 2.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Incomplete(pub String);

/// The code with which a command ends that fails like this.
pub fn exit_code(error: &(dyn Error + 'static)) -> u8 {
    if error.is::<Incomplete>() { 3 } else { 1 }
}

/// Says on standard error what went wrong, with every cause.
#[allow(clippy::print_stderr, reason = "this is where a command speaks to people")]
pub fn complain(error: &dyn Error) {
    eprintln!("headgate: {}", lines(error));
    for cause in causes(error) {
        eprintln!("  because: {}", lines(cause));
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

/// Says on standard error what whoever typed the command should know beside its answer.
#[allow(clippy::print_stderr, reason = "this is where a command speaks to people")]
pub fn note(line: impl Display) {
    eprintln!("{}", lines(line));
}

/// Writes words of a command's answer to standard output. They may repeat what somebody else wrote: what does not show is escaped.
pub fn say(words: impl Display) {
    print(lines(words));
}

/// Writes a command's answer in JSON to standard output; what does not show is escaped as JSON does it.
pub fn say_json(json: impl Display) {
    print(visible_json(&json.to_string()));
}

/// Writes a text to standard output that is meant for a file or a program, such as a configuration or a script: as it is, unless somebody looks at it.
pub fn say_text(text: impl Display) {
    match std::io::stdout().is_terminal() {
        true => say(text),
        false => print(text),
    }
}

#[allow(clippy::print_stdout, reason = "this is where a command answers")]
fn print(text: impl Display) {
    println!("{text}");
}

fn lines(words: impl Display) -> String {
    visible_lines(words.to_string().as_bytes())
}

/// A runtime of one thread, which is plenty for one connection.
pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
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
