//! The gateway as a process: configuration, wiring, bridges at run time, the control socket, `$SYS`, and the subcommands of `headgate` that know of these.

#![expect(clippy::disallowed_methods, reason = "runs the gateway in real time")]

mod alarms;
mod api;
mod archive;
mod backups;
mod bridges;
mod certificates;
mod commands;
mod config;
mod daemon;
mod deadline;
mod demo;
mod diagnostics;
mod earlier;
mod firmware;
mod history;
mod http;
mod incoming;
mod keeps;
mod listeners;
mod live;
mod log;
mod memory;
mod metrics;
mod mosquitto;
mod moving;
mod overload;
mod owner;
mod private;
mod programs;
mod protocols;
mod provisioning;
mod recovery;
mod restart;
mod service;
mod stamps;
mod starts;
mod supplies;
mod sys;
mod telemetry;
mod timekeeping;
mod timeline;
mod traces;
mod trends;
mod wans;
mod watch;
mod whereabouts;

pub use commands::{GatewayCommand, Lwm2mClients, lwm2m_definitions};
