//! The Headgate gateway: one binary that runs the gateway and speaks to it.

mod lwm2m;
mod manual;

use clap::{CommandFactory, Parser, Subcommand};
use headgate_bench::BenchCommand;
use headgate_cli::{Outcome, complain, exit_code};
use headgate_daemon::GatewayCommand;
use headgate_tools::ClientCommand;
use lwm2m::Lwm2mCommand;
use manual::{CompletionCommand, ManCommand};
use std::process::ExitCode;

/// A multi-protocol IoT gateway that loses nothing it acknowledged.
#[derive(Parser)]
#[command(name = "headgate", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[command(flatten)]
    Gateway(GatewayCommand),
    #[command(flatten)]
    Client(ClientCommand),
    /// Show which clients of LwM2M are registered, and command them.
    Lwm2m(Lwm2mCommand),
    /// Put load on an MQTT broker and measure what it costs.
    Bench(Box<BenchCommand>),
    /// Print what a shell needs to complete the command line of headgate.
    Completion(CompletionCommand),
    /// Write the manual pages.
    Man(ManCommand),
}

impl Cli {
    fn run(self) -> Outcome {
        match self.command {
            Command::Gateway(command) => command.run(),
            Command::Client(command) => command.run(),
            Command::Lwm2m(lwm2m) => lwm2m.run(),
            Command::Bench(bench) => bench.run(),
            Command::Completion(completion) => completion.run(Self::command()),
            Command::Man(man) => man.run(Self::command()),
        }
    }
}

/// `headgate … | head`: who reads has enough, and that is no fault. The standard library panics then.
fn end_with_the_reader() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.payload().downcast_ref::<String>();
        if text
            .is_some_and(|text| text.starts_with("failed printing to stdout") && text.contains("os error 32"))
        {
            std::process::exit(0);
        }
        usual(panic);
    }));
}

fn main() -> ExitCode {
    end_with_the_reader();
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&*error);
            ExitCode::from(exit_code(&*error))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_arguments_have_one_name() {
        Cli::command().debug_assert();
    }

    /// `bench` has cases, or a subcommand for sensors, and not both.
    #[test]
    fn command_lines_of_bench_are_checked() {
        for (line, is_good) in [
            ("bench sn --clients 1000000 --buffer", true),
            ("bench sn pairs", false),
            ("bench pairs fan-in -q 1", true),
            ("bench", false),
            ("bench sn --clients 0", false),
            ("bench sn -q 2", false),
        ] {
            let words = ["headgate"].into_iter().chain(line.split(' '));
            assert_eq!(Cli::try_parse_from(words).is_ok(), is_good, "{line}");
        }
    }
}
