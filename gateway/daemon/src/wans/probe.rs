//! Whether something can be reached by a WAN.

use super::settings::{WanSettings, place};
use headgate_dial::reach;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::lookup_host;
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Addresses of a name that are tried.
const MOST_ADDRESSES: usize = 4;

/// What names stood for when they were looked up last: servers for names may be behind what does not work. One is looked up once at a time, whoever wants it.
#[derive(Clone, Debug, Default)]
pub(super) struct Names(Arc<Mutex<BTreeMap<String, Name>>>);

#[derive(Debug, Default)]
struct Name {
    known: Vec<SocketAddr>,
    /// It is being looked up.
    looking: bool,
    /// It was looked up.
    looked: Arc<Notify>,
    /// What the system said the last time, if that was an error.
    error: Option<String>,
}

impl Names {
    /// Forgets what nobody asks for.
    pub(super) fn keep(&self, wans: &[WanSettings]) {
        let is_wanted = |name: &String| wans.iter().any(|wan| wan.probe.contains(name));
        self.0.lock().retain(|name, _| is_wanted(name));
    }

    async fn look_up(&self, target: &str, within: Duration) -> Result<Vec<SocketAddr>, ProbeError> {
        let (host, port) = place(target).ok_or(ProbeError::NoAddress)?;
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![(address, port).into()]);
        }
        let looked = self.begin(target, host.to_owned(), port);
        let is_looked_up = timeout(within, looked).await.is_ok();
        let names = self.0.lock();
        let name = names.get(target).ok_or(ProbeError::NoAddress)?;
        match (name.known.is_empty(), &name.error) {
            (false, _) => Ok(name.known.clone()),
            (true, _) if !is_looked_up => Err(ProbeError::NameTimeout),
            (true, Some(error)) => Err(ProbeError::Name(error.clone())),
            (true, None) => Err(ProbeError::NoAddress),
        }
    }

    /// The system is asked by a thread that cannot be stopped: others wait for the same one.
    fn begin(&self, target: &str, host: String, port: u16) -> OwnedNotified {
        let mut names = self.0.lock();
        let name = names.entry(target.to_owned()).or_default();
        if !std::mem::replace(&mut name.looking, true) {
            let (names, target) = (self.clone(), target.to_owned());
            tokio::spawn(async move {
                let found = lookup_host((host, port)).await;
                let found = found.map(|found| found.take(MOST_ADDRESSES).collect::<Vec<_>>());
                names.end(&target, found);
            });
        }
        // Before anybody can end it.
        Arc::clone(&name.looked).notified_owned()
    }

    fn end(&self, target: &str, found: io::Result<Vec<SocketAddr>>) {
        let mut names = self.0.lock();
        let Some(name) = names.get_mut(target) else { return };
        name.looking = false;
        match found {
            Ok(found) => (name.known, name.error) = (found, None),
            Err(error) => name.error = Some(error.to_string()),
        }
        name.looked.notify_waiters();
    }
}

/// Why nothing was reached.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProbeError {
    #[error("the name cannot be resolved: {0}")]
    Name(String),
    #[error("the name was not resolved in time")]
    NameTimeout,
    #[error("it has no address")]
    NoAddress,
    #[error("{0}")]
    Connect(#[from] io::Error),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

/// How long the first of what is to be reached took to accept a connection; else, what the last one said.
pub(super) async fn probe(wan: WanSettings, names: Names) -> Result<Duration, (String, ProbeError)> {
    let mut tries = JoinSet::new();
    for target in wan.probe.clone() {
        let (wan, names) = (wan.clone(), names.clone());
        tries.spawn(async move {
            let reached = reach_target(&wan, &target, &names).await;
            reached.map_err(|error| (target, error))
        });
    }
    let mut failure = (String::new(), ProbeError::NoAddress);
    while let Some(tried) = tries.join_next().await {
        match tried {
            Ok(Ok(took)) => return Ok(took),
            Ok(Err(failed)) => failure = failed,
            // It was cut off, or has panicked.
            Err(_) => {}
        }
    }
    Err(failure)
}

async fn reach_target(wan: &WanSettings, target: &str, names: &Names) -> Result<Duration, ProbeError> {
    let addresses = names.look_up(target, wan.timeout).await?;
    let bind = wan.bind();
    let began = Instant::now();
    // One of them may lead nowhere: all are tried at once.
    let mut tries = JoinSet::new();
    for address in addresses {
        let bind = bind.clone();
        tries.spawn(async move { reach(address, Some(&bind)).await });
    }
    let connecting = async {
        let mut last = ProbeError::NoAddress;
        while let Some(tried) = tries.join_next().await {
            match tried {
                Ok(Ok(_)) => return Ok(began.elapsed()),
                Ok(Err(error)) => last = error.into(),
                Err(_) => {}
            }
        }
        Err(last)
    };
    let reached = timeout(wan.timeout, connecting).await;
    reached.unwrap_or(Err(ProbeError::Timeout(wan.timeout)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    fn wan(probe: Vec<String>) -> WanSettings {
        WanSettings {
            name: "a".into(),
            interface: "127.0.7.1".into(),
            probe,
            timeout: Duration::from_secs(20),
            ..WanSettings::default()
        }
    }

    #[tokio::test]
    async fn one_that_accepts_is_enough_and_is_asked_from_the_wan() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let there = server.local_addr().unwrap().to_string();
        let gone = {
            let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
            closed.local_addr().unwrap().to_string()
        };
        let asked = probe(wan(vec![gone.clone(), there]), Names::default());
        let (answered, accepted) = tokio::join!(asked, server.accept());
        answered.unwrap();
        assert_eq!(accepted.unwrap().1.ip().to_string(), "127.0.7.1");
        let (target, error) = probe(wan(vec![gone.clone()]), Names::default())
            .await
            .unwrap_err();
        assert_eq!(target, gone);
        assert!(matches!(error, ProbeError::Connect(_)), "{error}");
    }

    /// The server for names may be behind what does not work.
    #[tokio::test]
    async fn a_name_that_was_known_is_known_while_nobody_can_be_asked() {
        let names = Names::default();
        let known = vec!["192.0.2.1:8883".parse().unwrap()];
        let target = "cloud.invalid:8883";
        let unknown = names.look_up(target, Duration::from_secs(20)).await;
        assert!(matches!(
            unknown,
            Err(ProbeError::Name(_) | ProbeError::NameTimeout | ProbeError::NoAddress)
        ));
        names
            .0
            .lock()
            .entry(target.into())
            .or_default()
            .known
            .clone_from(&known);
        let found = names.look_up(target, Duration::from_secs(20)).await.unwrap();
        assert_eq!(found, known);
        names.keep(&[]);
        assert!(names.0.lock().is_empty());
    }
}
