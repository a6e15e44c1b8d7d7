//! What `stomp-pub` and `stomp-sub` have in common: where to connect, and as whom.

use super::connection::TlsArgs;
use super::login::LoginArgs;
use crate::error::ArgumentError;
use crate::stomp::{Login, StompError};
use clap::{ArgAction, Args};
use headgate_client::ClientError;
use headgate_dial::{AddressError, Dial, RemoteAddress, Schemes, Target};
use headgate_stomp_codec::Text;
use std::path::Path;
use std::time::Duration;

/// Of STOMP. Its WebSocket servers have no path in common; this is ours.
const STOMP: Schemes = Schemes {
    plain: &[("stomp", false, 61613), ("stomps", true, 61614)],
    path: "/stomp",
    subprotocols: "v12.stomp, v11.stomp, v10.stomp",
    is_text: true,
};

/// Where to connect, and as whom.
#[derive(Args)]
pub(super) struct StompConnectionArgs {
    /// Server, by name or address.
    #[arg(
        short = 'h',
        long,
        value_name = "HOST",
        default_value = "localhost",
        help_heading = "Connection"
    )]
    host: String,
    /// Port; without it 61613, with TLS 61614.
    #[arg(short, long, help_heading = "Connection")]
    port: Option<u16>,
    /// Server as `stomp[s]://[USER[:PASSWORD]@]HOST[:PORT]`, `ws[s]://HOST[:PORT][/PATH]` or `unix:PATH`.
    #[arg(long, value_name = "URL", conflicts_with_all = ["host", "port"], value_parser = target, help_heading = "Connection")]
    url: Option<Target>,
    /// Virtual host to ask for; without it the server's name.
    #[arg(long, value_name = "NAME", help_heading = "Connection")]
    virtual_host: Option<String>,
    /// Client identifier, under which durable subscriptions are kept.
    #[arg(short, long, value_name = "ID", help_heading = "Connection")]
    id: Option<String>,
    #[command(flatten)]
    login: LoginArgs,
    /// Seconds between two heart-beats, each way; 0 for none.
    #[arg(
        short = 'k',
        long,
        value_name = "SECONDS",
        default_value_t = 30,
        help_heading = "Connection"
    )]
    heart_beat: u32,
    #[command(flatten)]
    tls: TlsArgs,
    /// Print help.
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
}

impl StompConnectionArgs {
    /// What the arguments mean.
    pub(super) fn resolve(self) -> Result<(Dial, Login), StompError> {
        let passcode = self.passcode()?;
        let (tls, secure) = self.tls.resolve();
        let mut target = self.url.unwrap_or_else(|| {
            let port = self.port.unwrap_or(if secure { 61614 } else { 61613 });
            Target::host(&self.host, Some(port), secure)
        });
        target.tls |= secure;
        let host = self.virtual_host.unwrap_or_else(|| match &target.place {
            RemoteAddress::Host(host, _) => host.clone(),
            RemoteAddress::Unix(_) => "localhost".to_owned(),
        });
        let login = Login {
            host,
            login: self.login.username.or_else(|| target.username.clone()),
            passcode: passcode.or_else(|| target.password.clone()),
            client_id: self.id,
            heart_beat: Duration::from_secs(self.heart_beat.into()),
        };
        let dial = Dial {
            target,
            tls,
            proxy: None,
            bind: None,
            way_out: None,
        };
        Ok((dial, login))
    }

    fn passcode(&self) -> Result<Option<String>, StompError> {
        let passcode = self.login.password()?.map(String::from_utf8).transpose();
        Ok(passcode.map_err(|_| ClientError::File {
            path: self.login.file().unwrap_or(Path::new("-")).to_owned(),
            cause: "STOMP wants UTF-8".into(),
        })?)
    }
}

fn target(url: &str) -> Result<Target, AddressError> {
    Target::parse(url, &STOMP)
}

/// A header as `name=value`.
pub(super) fn header(pair: &str) -> Result<(Text, Text), ArgumentError> {
    let halves = pair.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) = halves.ok_or_else(|| ArgumentError::NoPair {
        text: pair.to_owned(),
    })?;
    Ok((name.to_owned().into(), value.to_owned().into()))
}
