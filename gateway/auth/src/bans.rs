//! Who is kept out for a time, or for good: by an operator, or because of what it did.
//!
//! What an operator bans is in a file and outlives the gateway. What was banned by itself is in memory, for minutes. All of it has a bound.

use crate::data_dir::DataPath;
use crate::file;
use crate::settings::BanSettings;
use headgate_access::Network;
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Bans of operators.
const MAX_BANS: usize = 10_000;
/// Bans of networks, which are looked through one by one.
const MAX_NETWORKS: usize = 1_000;
/// Bytes of the client id or user name, and of the reason, of a ban.
const MAX_NAME: usize = 1_024;
const MAX_REASON: usize = 1_024;
/// Addresses and client ids that are counted, and those that are banned by themselves. What is more is not counted.
const MAX_COUNTED: usize = 10_000;

/// Who is meant by a ban.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Banned {
    /// Who has this client id.
    Client(String),
    /// Who goes by this user name.
    User(String),
    /// Who comes from this address or network.
    Address(Network),
}

/// Why somebody is banned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BannedBy {
    /// Somebody decided so.
    Operator,
    /// Too many log-ins failed from there.
    Failures,
    /// It connected too often.
    Flapping,
}

/// A ban.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ban {
    /// Who.
    #[serde(flatten)]
    pub who: Banned,
    /// Why.
    pub by: BannedBy,
    /// In words, for operators.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Seconds since 1970.
    pub since: u64,
    /// Seconds since 1970; `None` for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
}

impl Ban {
    /// A ban by an operator, from now on, for a time or for ever.
    pub fn by_operator(who: Banned, reason: String, lasts: Option<Duration>) -> Self {
        let since = unix_time();
        Self {
            who,
            by: BannedBy::Operator,
            reason,
            since,
            until: lasts.map(|lasts| since.saturating_add(lasts.as_secs())),
        }
    }

    fn is_over(&self, now: u64) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

/// Why bans could not be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum BanError {
    /// There are as many as there may be.
    #[error("there are as many bans as there may be ({MAX_BANS}, of networks {MAX_NETWORKS})")]
    Full,
    /// The name or the reason is too long.
    #[error("who is banned has {MAX_NAME} bytes at most, the reason {MAX_REASON}")]
    TooLong,
    /// The file cannot be read or written.
    #[error("{path}: {cause}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The file is not one of ours.
    #[error("{path}: {cause}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: serde_json::Error,
    },
}

/// All bans.
#[derive(Debug)]
pub(crate) struct Bans {
    path: DataPath,
    state: Mutex<State>,
    /// Held while the file is written: log-ins wait for the state, never for the disk.
    writing: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    settings: BanSettings,
    clients: HashMap<String, Ban>,
    users: HashMap<String, Ban>,
    networks: Vec<Ban>,
    /// Banned by themselves.
    addresses: HashMap<IpAddr, Ban>,
    flapping: HashMap<String, Ban>,
    failures: Count<IpAddr>,
    connects: Count<String>,
}

/// How often something happened of late. Two spans of time: the one that goes on, and the one before.
#[derive(Debug)]
struct Count<K> {
    now: HashMap<K, u32>,
    before: HashMap<K, u32>,
    begun: u64,
}

impl<K> Default for Count<K> {
    fn default() -> Self {
        Self {
            now: HashMap::new(),
            before: HashMap::new(),
            begun: 0,
        }
    }
}

impl<K: std::hash::Hash + Eq> Count<K> {
    /// Counts one more; how many there were in the last `within` seconds, or a little more.
    fn add(&mut self, key: K, within: u64, now: u64) -> u32 {
        let passed = now.saturating_sub(self.begun);
        if passed >= within || now < self.begun {
            self.before = std::mem::take(&mut self.now);
            if passed >= 2 * within {
                self.before = HashMap::new();
            }
            self.begun = now;
        }
        let before = self.before.get(&key).copied().unwrap_or(0);
        if self.now.len() >= MAX_COUNTED && !self.now.contains_key(&key) {
            return before;
        }
        let count = self.now.entry(key).or_default();
        *count = count.saturating_add(1);
        before.saturating_add(*count)
    }

    fn forget(&mut self, key: &K) {
        self.now.remove(key);
        self.before.remove(key);
    }
}

impl Bans {
    /// Reads those of operators.
    pub(crate) fn load(path: DataPath, settings: &BanSettings) -> Result<Self, BanError> {
        let mut state = State {
            settings: *settings,
            ..State::default()
        };
        let file = path.now();
        match file::read(&file, file::LONGEST) {
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {}
            Err(cause) => {
                let path = file.to_owned();
                return Err(BanError::Io { path, cause });
            }
            Ok(bytes) => {
                let bans: Vec<Ban> = serde_json::from_slice(&bytes).map_err(|cause| BanError::Malformed {
                    path: file.to_owned(),
                    cause,
                })?;
                let now = unix_time();
                for ban in bans.into_iter().filter(|ban| !ban.is_over(now)) {
                    state.insert(ban)?;
                }
            }
        }
        drop(file);
        let state = Mutex::new(state);
        let writing = Mutex::default();
        Ok(Self { path, state, writing })
    }

    /// Other settings from now on.
    pub(crate) fn set(&self, settings: &BanSettings) {
        self.state.lock().settings = *settings;
    }

    /// Adds a ban, or puts it in the place of one of the same; it is on the disk when this returns.
    pub(crate) fn add(&self, ban: Ban) -> Result<(), BanError> {
        let who = ban.who.clone();
        self.state.lock().insert(ban)?;
        self.save().inspect_err(|_| {
            // What is not on the disk is not in force either.
            let _ = self.state.lock().take_out(&who);
        })
    }

    /// Ends a ban. Whether there was one.
    pub(crate) fn remove(&self, who: &Banned) -> Result<bool, BanError> {
        let (listed, own) = {
            let mut state = self.state.lock();
            (state.take_out(who), state.forget(who))
        };
        let found = own || !listed.is_empty();
        if let Err(error) = self.save() {
            let mut state = self.state.lock();
            for ban in listed {
                // There was room for it.
                let _ = state.insert(ban);
            }
            return Err(error);
        }
        Ok(found)
    }

    /// Writes those of operators, as they are when it is this one's turn.
    fn save(&self) -> Result<(), BanError> {
        let _turn = self.writing.lock();
        let bans: Vec<Ban> = {
            let state = self.state.lock();
            let named = state.clients.values().chain(state.users.values());
            named.chain(&state.networks).cloned().collect()
        };
        let file = self.path.now();
        file::replace_with_json(&file, &bans).map_err(|cause| BanError::Io {
            path: file.to_owned(),
            cause,
        })
    }

    /// All that are valid.
    pub(crate) fn all(&self) -> Vec<Ban> {
        let (state, now) = (self.state.lock(), unix_time());
        let named = state.clients.values().chain(state.users.values());
        let placed = state.networks.iter().chain(state.addresses.values());
        let all = named.chain(placed).chain(state.flapping.values());
        let mut all: Vec<Ban> = all.filter(|ban| !ban.is_over(now)).cloned().collect();
        all.sort_by_key(|ban| ban.since);
        all
    }

    /// The ban that keeps this client out.
    pub(crate) fn of(&self, client: &str, user: Option<&str>, address: IpAddr) -> Option<Ban> {
        let (mut state, now) = (self.state.lock(), unix_time());
        let state = &mut *state;
        let networks = &mut state.networks;
        networks.retain(|ban| !ban.is_over(now));
        let of_network = networks
            .iter()
            .find(|ban| matches!(ban.who, Banned::Address(network) if network.contains(address)));
        let found = of_network
            .cloned()
            .or_else(|| valid(&mut state.addresses, &origin(address), now))
            .or_else(|| valid(&mut state.clients, client, now))
            .or_else(|| valid(&mut state.flapping, client, now));
        found.or_else(|| valid(&mut state.users, user?, now))
    }

    /// A log-in failed. The ban that follows, if one does.
    pub(crate) fn failed(&self, address: IpAddr) -> Option<Ban> {
        let (mut state, now) = (self.state.lock(), unix_time());
        let settings = state.settings;
        if settings.failures == 0 {
            return None;
        }
        let origin = origin(address);
        let count = state.failures.add(origin, settings.within.as_secs(), now);
        if count < settings.failures || state.addresses.len() >= MAX_COUNTED {
            return None;
        }
        state.failures.forget(&origin);
        state.addresses.retain(|_, ban| !ban.is_over(now));
        let prefix = if origin.is_ipv6() { "/64" } else { "" };
        let network = format!("{origin}{prefix}").parse().ok()?;
        let ban = Ban {
            who: Banned::Address(network),
            by: BannedBy::Failures,
            reason: format!("{count} log-ins failed from there"),
            since: now,
            until: Some(now.saturating_add(settings.lasts.as_secs())),
        };
        state.addresses.insert(origin, ban.clone());
        Some(ban)
    }

    /// A client was let in. The ban that follows, if one does.
    pub(crate) fn connected(&self, client: &str) -> Option<Ban> {
        let (mut state, now) = (self.state.lock(), unix_time());
        let settings = state.settings;
        if settings.connects == 0 || client.is_empty() {
            return None;
        }
        let count = state
            .connects
            .add(client.to_owned(), settings.within.as_secs(), now);
        if count <= settings.connects || state.flapping.len() >= MAX_COUNTED {
            return None;
        }
        state.connects.forget(&client.to_owned());
        state.flapping.retain(|_, ban| !ban.is_over(now));
        let ban = Ban {
            who: Banned::Client(client.to_owned()),
            by: BannedBy::Flapping,
            reason: format!("it connected {count} times"),
            since: now,
            until: Some(now.saturating_add(settings.lasts.as_secs())),
        };
        state.flapping.insert(client.to_owned(), ban.clone());
        Some(ban)
    }
}

impl State {
    /// Ends those that an operator has made.
    fn take_out(&mut self, who: &Banned) -> Vec<Ban> {
        match who {
            Banned::Client(id) => self.clients.remove(id).into_iter().collect(),
            Banned::User(name) => self.users.remove(name).into_iter().collect(),
            Banned::Address(_) => {
                let networks = std::mem::take(&mut self.networks).into_iter();
                let (gone, stay) = networks.partition(|ban| ban.who == *who);
                self.networks = stay;
                gone
            }
        }
    }

    /// Ends those that came by themselves. Whether there was one.
    fn forget(&mut self, who: &Banned) -> bool {
        match who {
            Banned::Client(id) => self.flapping.remove(id).is_some(),
            Banned::User(_) => false,
            Banned::Address(network) => {
                let own: Vec<IpAddr> = self.addresses.keys().copied().collect();
                let own: Vec<IpAddr> = own
                    .into_iter()
                    .filter(|address| network.contains(*address))
                    .collect();
                own.iter().for_each(|address| {
                    self.addresses.remove(address);
                    self.failures.forget(address);
                });
                !own.is_empty()
            }
        }
    }

    fn insert(&mut self, ban: Ban) -> Result<(), BanError> {
        let name = match &ban.who {
            Banned::Client(name) | Banned::User(name) => name.len(),
            Banned::Address(_) => 0,
        };
        if name > MAX_NAME || ban.reason.len() > MAX_REASON {
            return Err(BanError::TooLong);
        }
        let known = self.clients.len() + self.users.len() + self.networks.len();
        let is_network = matches!(ban.who, Banned::Address(_));
        self.networks.retain(|other| other.who != ban.who);
        if known >= MAX_BANS || (is_network && self.networks.len() >= MAX_NETWORKS) {
            return Err(BanError::Full);
        }
        match &ban.who {
            Banned::Client(id) => drop(self.clients.insert(id.clone(), ban)),
            Banned::User(name) => drop(self.users.insert(name.clone(), ban)),
            Banned::Address(_) => self.networks.push(ban),
        }
        Ok(())
    }
}

/// The ban of this name, if it is not over.
fn valid<K, Q>(bans: &mut HashMap<K, Ban>, name: &Q, now: u64) -> Option<Ban>
where
    K: std::borrow::Borrow<Q> + std::hash::Hash + Eq,
    Q: std::hash::Hash + Eq + ?Sized,
{
    if bans.get(name)?.is_over(now) {
        bans.remove(name);
    }
    bans.get(name).cloned()
}

/// Who is taken for one: an IPv4 address, or an IPv6 network of 64 bits.
fn origin(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

fn unix_time() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

    fn bans(folder: &tempfile::TempDir, failures: u32, connects: u32) -> Bans {
        let settings = BanSettings {
            failures,
            connects,
            ..BanSettings::default()
        };
        Bans::load(folder.path().join("bans.json").into(), &settings).unwrap()
    }

    #[test]
    fn what_an_operator_bans_outlives_the_gateway() {
        let folder = tempfile::tempdir().unwrap();
        let first = bans(&folder, 0, 0);
        let all = [
            Banned::Client("pump-7".into()),
            Banned::User("joe".into()),
            Banned::Address("198.51.100.0/24".parse().unwrap()),
        ];
        for who in all.clone() {
            first.add(Ban::by_operator(who, "lost".into(), None)).unwrap();
        }
        let gone = Ban::by_operator(Banned::User("ann".into()), String::new(), Some(Duration::ZERO));
        first.add(gone).unwrap();
        let second = bans(&folder, 0, 0);
        assert_eq!(second.all().len(), 3, "what is over is gone");
        assert!(second.of("pump-7", None, HERE).is_some());
        assert!(second.of("x", Some("joe"), HERE).is_some());
        assert!(second.of("x", None, "198.51.100.9".parse().unwrap()).is_some());
        assert!(second.of("x", Some("ann"), HERE).is_none());
        for who in &all {
            assert!(second.remove(who).unwrap() && !second.remove(who).unwrap());
        }
        assert_eq!(bans(&folder, 0, 0).all(), []);
    }

    /// An IPv6 network of 64 bits counts as one: whoever has it has all of its addresses.
    #[test]
    fn failed_logins_ban_their_address() {
        let folder = tempfile::tempdir().unwrap();
        let bans = bans(&folder, 3, 0);
        assert!(bans.failed(HERE).is_none() && bans.failed(HERE).is_none());
        let ban = bans.failed(HERE).expect("the third");
        assert_eq!(ban.by, BannedBy::Failures);
        assert!(bans.of("any", None, HERE).is_some());
        assert!(bans.of("any", None, "192.0.2.8".parse().unwrap()).is_none());
        let [one, two]: [IpAddr; 2] = ["2001:db8::1", "2001:db8::2"].map(|text| text.parse().unwrap());
        for address in [one, two, one] {
            let _ = bans.failed(address);
        }
        assert!(bans.of("any", None, two).is_some());
        assert!(bans.of("any", None, "2001:db8:0:1::1".parse().unwrap()).is_none());
        assert!(
            bans.remove(&Banned::Address("192.0.2.7".parse().unwrap()))
                .unwrap()
        );
        assert!(bans.of("any", None, HERE).is_none());
    }

    #[test]
    fn a_client_that_connects_too_often_is_banned() {
        let folder = tempfile::tempdir().unwrap();
        let bans = bans(&folder, 0, 3);
        for _ in 0..3 {
            assert!(bans.connected("pump").is_none());
        }
        assert_eq!(bans.connected("pump").map(|ban| ban.by), Some(BannedBy::Flapping));
        assert!(bans.of("pump", None, HERE).is_some() && bans.of("valve", None, HERE).is_none());
    }

    /// However many there are that fail once, memory has a bound.
    #[test]
    fn what_is_counted_has_a_bound() {
        let mut count = Count::default();
        for n in 0..3 * MAX_COUNTED as u32 {
            count.add(n, 60, 100);
        }
        assert_eq!(count.now.len(), MAX_COUNTED);
        assert_eq!(count.add(0, 60, 159), 2, "in the same minute");
        assert_eq!(count.add(0, 60, 165), 3, "in the next");
        assert_eq!(count.add(0, 60, 400), 1, "long after");
    }

    #[test]
    fn a_file_that_is_none_of_ours_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bans.json");
        std::fs::write(&path, "[{}]").unwrap();
        let error = Bans::load(path.into(), &BanSettings::default()).unwrap_err();
        assert!(error.to_string().contains("bans.json"), "{error}");
    }
}
