//! What the configuration says of users, held against the users there are. Users may be added later, so nothing of it is a reason not to start.

use super::Config;
use super::checks::of_entry;
use crate::protocols::{self, Entry};
use headgate_auth::{Access, Users, missing_folder, unknown_placeholders};
use headgate_model::{ConfiguredLogin, Fault};
use std::collections::HashMap;

/// Passwords that are checked: each takes about a millisecond.
const MOST_PASSWORDS: usize = 100;

/// All that probably does not do what it was meant for.
pub(super) fn warnings(config: &Config) -> Vec<Fault> {
    let placeholders = unknown_placeholders(&config.auth.acl).into_iter();
    let mut warnings: Vec<Fault> = placeholders.map(|fault| fault.below("auth")).collect();
    warnings.extend(folder(config));
    let path = Access::users_file(&config.auth, &config.data_dir);
    // One that cannot be read is told as a fault.
    let Ok(users) = Users::load(&path) else {
        return warnings;
    };
    if users.names().next().is_some() {
        warnings.extend(strangers(config, &users));
    }
    warnings.extend(logins(config, &users));
    warnings
}

/// The data folder is made at the start. Another one may be a slip of the pen.
fn folder(config: &Config) -> Option<Fault> {
    let folder = missing_folder(config.auth.users_file.as_deref()?)?;
    let is_there = folder == config.data_dir;
    let what = || {
        let folder = folder.display();
        format!("there is no folder {folder}, so nobody can log in; `headgate users add` makes it")
    };
    (!is_there).then(|| Fault::new("auth.users_file", what()))
}

/// Rules, links and listeners for users that nobody is.
fn strangers(config: &Config, users: &Users) -> Vec<Fault> {
    let rules = config.auth.acl.iter().enumerate();
    let rules = rules.filter_map(|(n, rule)| Some((format!("auth.acl[{n}].user"), rule.user.as_deref()?)));
    let links = config.auth.links.iter().enumerate();
    let links = links.map(|(n, user)| (format!("auth.links[{n}]"), user.as_str()));
    let listeners = config.auth.listeners.iter().enumerate();
    let known = listeners.flat_map(|(n, listener)| {
        let names = listener.users.iter().flatten().enumerate();
        names.map(move |(at, user)| (format!("auth.listeners[{n}].users[{at}]"), user.as_str()))
    });
    rules
        .chain(links)
        .chain(known)
        .filter(|(_, user)| *user != "*" && !users.has(user))
        .map(|(key, user)| Fault::new(key, unknown(user)))
        .collect()
}

fn unknown(user: &str) -> String {
    format!("there is no user `{user}`; `headgate users add` adds one")
}

/// Log-ins of the configuration that are refused.
fn logins(config: &Config, users: &Users) -> Vec<Fault> {
    let mut checked: HashMap<(String, String), bool> = HashMap::new();
    let mut warnings = Vec::new();
    for Entry { list, n, listener } in protocols::datagram_listeners(config) {
        let found = listener.logins().into_iter().filter_map(|login| {
            let what = refused(&login, users, &mut checked)?;
            Some(Fault::new(login.key, what))
        });
        warnings.extend(of_entry(list, n, listener.name(), found.collect()));
    }
    warnings
}

fn refused(
    login: &ConfiguredLogin,
    users: &Users,
    checked: &mut HashMap<(String, String), bool>,
) -> Option<String> {
    let ConfiguredLogin {
        username, password, ..
    } = login;
    if !users.has(username) {
        return Some(unknown(username));
    }
    let pair = (username.clone(), password.reveal().to_owned());
    let fits = match checked.get(&pair) {
        Some(fits) => *fits,
        None if checked.len() >= MOST_PASSWORDS => return None,
        None => {
            let fits = users.has_password(username, password.reveal());
            *checked.entry(pair).or_insert(fits != Some(false))
        }
    };
    (!fits).then(|| {
        format!("the password with it is not that of the user `{username}`: its clients are refused")
    })
}
