//! `headgate lwm2m`: one command for people, of two kinds. Who is registered the gateway on this machine says; what a client is told to do goes over MQTT, from anywhere; how its
//! objects are called a gateway on this machine is asked, too.

use clap::{Args, Subcommand};
use headgate_cli::Outcome;
use headgate_daemon::{Lwm2mClients, lwm2m_definitions};
use headgate_tools::Lwm2mRequest;

/// See the module.
#[derive(Args)]
pub(crate) struct Lwm2mCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    #[command(flatten)]
    Clients(Lwm2mClients),
    #[command(flatten)]
    Request(Lwm2mRequest),
}

impl Lwm2mCommand {
    /// Runs the command.
    pub(crate) fn run(self) -> Outcome {
        match self.action {
            Action::Clients(clients) => clients.run(),
            Action::Request(request) => request.run(lwm2m_definitions),
        }
    }
}
