//! The Headgate gateway: one binary that runs the gateway and speaks to it.

mod bench;
mod bridges;
mod client;
mod commands;
mod config;
mod control;
mod daemon;
mod log;
mod memory;
mod mosquitto;
mod mqttsn;
mod private;
mod sn;
mod sys;
mod timeline;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
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
    /// Run the gateway.
    Run {
        /// The configuration; without it the gateway serves this machine only, with embedded defaults.
        #[arg(long, value_name = "FILE", env = "HEADGATE_CONFIG")]
        config: Option<PathBuf>,
    },
    /// Check a configuration, or show what one may hold.
    Check(commands::check::Check),
    /// Add, remove and list the users who may connect.
    Users(commands::users::UsersCommand),
    /// Check, dump, count or shrink the store of a gateway that does not run.
    Store(commands::store::StoreCommand),
    /// Show all bridges of a running gateway.
    Bridges(commands::bridges::BridgesCommand),
    /// Show, pause, resume, flush, test, add and remove a bridge of a running gateway.
    Bridge(commands::bridges::BridgeCommand),
    /// Let a running gateway read its configuration again; tells what needs a restart.
    Reload(commands::bridges::ReloadCommand),
    /// Publish messages.
    Pub(Box<commands::publish::PublishCommand>),
    /// Subscribe, and print what comes.
    Sub(Box<commands::subscribe::SubscribeCommand>),
    /// Publish messages by MQTT-SN.
    SnPub(Box<commands::sn_publish::SnPublishCommand>),
    /// Subscribe by MQTT-SN, and print what comes.
    SnSub(Box<commands::sn_subscribe::SnSubscribeCommand>),
    /// Look for MQTT-SN gateways.
    SnScan(commands::sn_scan::SnScanCommand),
    /// Put load on an MQTT broker and measure what it costs.
    Bench(Box<commands::bench::BenchCommand>),
}

impl Cli {
    fn run(self) -> commands::Outcome {
        match self.command {
            Command::Run { config } => daemon::run(config.as_deref()),
            Command::Check(check) => check.run(),
            Command::Users(users) => users.run(),
            Command::Store(store) => store.run(),
            Command::Bridges(bridges) => bridges.run(),
            Command::Bridge(bridge) => bridge.run(),
            Command::Reload(reload) => reload.run(),
            Command::Pub(publish) => publish.run(),
            Command::Sub(subscribe) => subscribe.run(),
            Command::SnPub(publish) => publish.run(),
            Command::SnSub(subscribe) => subscribe.run(),
            Command::SnScan(scan) => scan.run(),
            Command::Bench(bench) => bench.run(),
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
            commands::complain(&*error);
            ExitCode::FAILURE
        }
    }
}
