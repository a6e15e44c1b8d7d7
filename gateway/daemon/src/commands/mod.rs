//! The subcommands that run a gateway, or know its configuration, store or control socket.

mod administrators;
mod alarms;
mod api;
mod archive;
mod audit;
mod backups;
mod bans;
mod bridges;
mod check;
mod clients;
mod config;
mod diagnostics;
mod error;
mod explain;
mod gateway;
mod import;
mod keys;
mod log;
mod lwm2m;
mod metrics;
mod provision;
mod reference;
mod restart;
mod starts;
mod store;
mod table;
mod traces;
mod update;
mod users;
mod wans;

use crate::config::{Config, ConfigError, environment_variables, given_or_own, unread_here};
use crate::moving;
use crate::owner::Acting;
use administrators::AdministratorsCommand;
use alarms::AlarmsCommand;
use api::ApiCommand;
use archive::{ExportCommand, RestoreCommand};
use audit::AuditCommand;
use backups::BackupsCommand;
use bans::BansCommand;
use bridges::{BridgeCommand, BridgesCommand};
use check::Check;
use clap::Subcommand;
use clients::{
    ClientsCommand, ListenersCommand, RetainedCommand, SessionsCommand, SubscriptionsCommand, TopicsCommand,
};
use config::{ConfigCommand, ReloadCommand};
use diagnostics::DiagnosticsCommand;
use error::CommandError;
use explain::{AclCommand, ExplainCommand};
use headgate_cli::{Outcome, note};
use import::ImportCommand;
use keys::KeysCommand;
use log::LogCommand;
pub use lwm2m::{Lwm2mClients, lwm2m_definitions};
use metrics::{MetricsCommand, SlowCommand, StatusCommand};
use provision::ProvisionCommand;
use restart::RestartCommand;
use starts::StartsCommand;
use std::path::{Path, PathBuf};
use store::StoreCommand;
use traces::TraceCommand;
use update::UpdateCommand;
use users::UsersCommand;
use wans::WansCommand;

/// The configuration for a command that needs the settings `needed` of it. What else is wrong with it is a warning.
fn config_for(needed: &[&str], path: Option<&Path>) -> Result<Config, ConfigError> {
    let path = given_or_own(path)?;
    if path.is_none()
        && let Some(unread) = unread_here()
    {
        note(format!("warning: {unread}"));
    }
    let (config, warnings) = Config::load_for(needed, path.as_deref(), environment_variables())?;
    for warning in warnings {
        note(format!("warning: {warning}"));
    }
    Ok(config)
}

/// The same for a command that changes what is at a `place` of which the configuration tells. As long as the second is there, root has the rights alone of the user
/// whose configuration that is, or else whose place.
fn config_to_change(
    needed: &[&str],
    path: Option<&Path>,
    place: impl FnOnce(&Config) -> PathBuf,
) -> Result<(Config, Acting), CommandError> {
    let mut acting = Acting::default();
    if let Some(file) = given_or_own(path)? {
        acting.as_author_of(&file)?;
    }
    let config = config_for(needed, path)?;
    acting.as_owner_of(&place(&config))?;
    moving::finish_interrupted(&config.data_dir)?;
    Ok((config, acting))
}

fn data_dir(config: &Config) -> PathBuf {
    config.data_dir.clone()
}

/// The data folder of the gateway that a command asks. A file with a fault does not hide the gateway that would repair it.
fn data_dir_to_ask(path: Option<&Path>) -> Result<PathBuf, ConfigError> {
    let path = given_or_own(path)?;
    let (data_dir, warnings) = Config::data_dir_to_ask(path.as_deref(), environment_variables())?;
    for warning in warnings {
        note(format!("warning: {warning}"));
    }
    Ok(data_dir)
}

/// A command that was given no configuration means the gateway of a data folder: that must be there.
fn there_is_one(config: Option<&Path>, data_dir: &Path) -> Result<(), CommandError> {
    match config.is_none() && !data_dir.exists() {
        true => Err(CommandError::NoGateway(data_dir.to_owned())),
        false => Ok(()),
    }
}

/// The commands, as they are typed.
#[derive(Subcommand)]
pub enum GatewayCommand {
    /// Run the gateway.
    Run {
        /// The configuration. Without it the gateway has that of its data folder, which the web UI writes; without that one it serves this machine only, with
        /// embedded defaults.
        #[arg(long, value_name = "FILE", env = "HEADGATE_CONFIG")]
        config: Option<PathBuf>,
    },
    /// Check a configuration, or show what one may hold.
    Check(Check),
    /// Add, remove and list the users who may connect.
    Users(UsersCommand),
    /// Add, remove and list administrators, who use the web UI and the HTTP API.
    Administrators(AdministratorsCommand),
    /// Make, remove and list API keys of a running gateway.
    Keys(KeysCommand),
    /// Show who changed what at a running gateway.
    Audit(AuditCommand),
    /// Ask a running gateway anything that its HTTP API answers.
    Api(ApiCommand),
    /// Check, dump, count or shrink the store of a gateway that does not run.
    Store(StoreCommand),
    /// Write all data of a gateway to one file.
    Export(ExportCommand),
    /// Take over all data of such a file.
    Restore(RestoreCommand),
    /// Show backups on a running gateway, make one, take one back.
    Backups(BackupsCommand),
    /// Say the configuration of another broker in Headgate's words, with its users, and tell what was not taken.
    Import(ImportCommand),
    /// Show clients of a running gateway, disconnect one, subscribe on its behalf.
    Clients(ClientsCommand),
    /// Show sessions and what waits in them, empty a queue, remove a session.
    Sessions(SessionsCommand),
    /// Show what clients are subscribed to.
    Subscriptions(SubscriptionsCommand),
    /// Show the topics and filters that somebody is subscribed to, and how many are.
    #[command(alias = "routes")]
    Topics(TopicsCommand),
    /// Show retained messages, and remove one.
    Retained(RetainedCommand),
    /// Show where clients of a running gateway connect.
    Listeners(ListenersCommand),
    /// Show the rules of publishing and subscribing, in the order in which they are asked.
    Acl(AclCommand),
    /// Say which rule lets a client publish or subscribe, or keeps it from it, and whom it would concern.
    Explain(ExplainCommand),
    /// Show, add and remove bans of a running gateway.
    Bans(BansCommand),
    /// Show how a running gateway is.
    Status(StatusCommand),
    /// Show what a running gateway counts.
    Metrics(MetricsCommand),
    /// Show which clients take long to acknowledge what a running gateway delivers.
    Slow(SlowCommand),
    /// Show the last lines of a running gateway's log, and set its level.
    Log(LogCommand),
    /// Write down what one client, topic or address does at a running gateway.
    Trace(TraceCommand),
    /// Write a bundle of a running gateway for whoever helps, with secrets taken out.
    Diagnostics(DiagnosticsCommand),
    /// Show what needs an operator of a running gateway: alarms that stand, and those that are over.
    Alarms(AlarmsCommand),
    /// Show all bridges of a running gateway.
    Bridges(BridgesCommand),
    /// Show, pause, resume, flush, test, add and remove a bridge of a running gateway.
    Bridge(BridgeCommand),
    /// Show ways out for bridges of a running gateway (Ethernet, Wi-Fi, cellular), and which of them work.
    Wans(WansCommand),
    /// Let a running gateway read its configuration again; tells what needs a restart.
    Reload(ReloadCommand),
    /// Show, apply, confirm and roll back the configuration of a running gateway.
    Config(ConfigCommand),
    /// Let a running gateway stop and begin anew.
    Restart(RestartCommand),
    /// Show why the machine, or the gateway alone, was started.
    Starts(StartsCommand),
    /// Show, check and install updates of the system that a running gateway runs on, and go back to the one before.
    Update(UpdateCommand),
    /// Give a gateway its name, settings, users, certificates and uplinks by one signed file.
    Provision(ProvisionCommand),
}

impl GatewayCommand {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        match self {
            Self::Run { config } => crate::daemon::run(config.as_deref()),
            Self::Check(check) => check.run(),
            Self::Users(users) => users.run(),
            Self::Administrators(administrators) => administrators.run(),
            Self::Keys(keys) => keys.run(),
            Self::Audit(audit) => audit.run(),
            Self::Api(api) => api.run(),
            Self::Store(store) => store.run(),
            Self::Export(export) => export.run(),
            Self::Restore(restore) => restore.run(),
            Self::Backups(backups) => backups.run(),
            Self::Import(import) => import.run(),
            Self::Clients(clients) => clients.run(),
            Self::Sessions(sessions) => sessions.run(),
            Self::Subscriptions(subscriptions) => subscriptions.run(),
            Self::Topics(topics) => topics.run(),
            Self::Retained(retained) => retained.run(),
            Self::Listeners(listeners) => listeners.run(),
            Self::Acl(acl) => acl.run(),
            Self::Explain(explain) => explain.run(),
            Self::Bans(bans) => bans.run(),
            Self::Status(status) => status.run(),
            Self::Metrics(metrics) => metrics.run(),
            Self::Slow(slow) => slow.run(),
            Self::Log(log) => log.run(),
            Self::Trace(trace) => trace.run(),
            Self::Diagnostics(diagnostics) => diagnostics.run(),
            Self::Alarms(alarms) => alarms.run(),
            Self::Bridges(bridges) => bridges.run(),
            Self::Bridge(bridge) => bridge.run(),
            Self::Wans(wans) => wans.run(),
            Self::Reload(reload) => reload.run(),
            Self::Config(config) => config.run(),
            Self::Restart(restart) => restart.run(),
            Self::Starts(starts) => starts.run(),
            Self::Update(update) => update.run(),
            Self::Provision(provision) => provision.run(),
        }
    }
}
