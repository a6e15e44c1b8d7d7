//! `headgate completion` and `headgate man`: what shells and `man` know of the command line, made from the command line itself.

use clap::{Args, Command};
use clap_complete::Shell;
use headgate_cli::{Outcome, say_text};
use std::path::PathBuf;

/// Print what a shell needs to complete the command line of headgate.
#[derive(Args)]
pub(crate) struct CompletionCommand {
    /// Which one.
    shell: Shell,
}

impl CompletionCommand {
    /// Runs the command.
    pub(crate) fn run(self, mut cli: Command) -> Outcome {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut cli, "headgate", &mut script);
        say_text(String::from_utf8(script)?.trim_end());
        Ok(())
    }
}

/// Write the manual pages of headgate and all its subcommands, `headgate-users-add.1` and so on.
#[derive(Args)]
pub(crate) struct ManCommand {
    /// The folder for them; it is made if it is missing.
    folder: PathBuf,
}

impl ManCommand {
    /// Runs the command.
    pub(crate) fn run(self, cli: Command) -> Outcome {
        std::fs::create_dir_all(&self.folder)?;
        clap_mangen::generate_to(cli, &self.folder)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cli;
    use clap::CommandFactory;
    use std::fs;

    /// Every command below this one, with all words that lead to it.
    fn each(command: &Command, words: &str, see: &mut impl FnMut(&str, &Command)) {
        see(words, command);
        for below in command
            .get_subcommands()
            .filter(|below| below.get_name() != "help")
        {
            each(below, &format!("{words}-{}", below.get_name()), see);
        }
    }

    #[test]
    fn every_command_and_argument_says_what_it_is() {
        let mut cli = Cli::command();
        cli.build();
        each(&cli, "headgate", &mut |words, command| {
            assert!(command.get_about().is_some(), "{words}");
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{words}: {}", argument.get_id());
            }
        });
    }

    #[test]
    fn every_command_has_a_page() {
        let folder = tempfile::tempdir().unwrap();
        let man = ManCommand {
            folder: folder.path().join("man1"),
        };
        man.run(Cli::command()).unwrap();
        let mut pages = 0;
        each(&Cli::command(), "headgate", &mut |words, command| {
            let page = fs::read_to_string(folder.path().join(format!("man1/{words}.1"))).unwrap();
            assert!(
                page.contains(".SH SYNOPSIS") && page.contains(".SH DESCRIPTION"),
                "{words}"
            );
            for argument in command.get_arguments().filter_map(|argument| argument.get_long()) {
                assert!(
                    page.contains(&argument.replace('-', "\\-")),
                    "{words} --{argument}"
                );
            }
            pages += 1;
        });
        assert_eq!(fs::read_dir(folder.path().join("man1")).unwrap().count(), pages);
    }

    #[test]
    fn every_command_is_completed() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "headgate", &mut script);
            let script = String::from_utf8(script).unwrap();
            each(&Cli::command(), "headgate", &mut |words, command| {
                assert!(script.contains(command.get_name()), "{shell}: {words}");
            });
        }
    }
}
