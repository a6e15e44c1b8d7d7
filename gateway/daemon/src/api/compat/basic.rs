//! Who asks: by HTTP's Basic authentication, with name and password of an administrator or with an API key, or by the token of a session.

use super::table::{Stranger, Turned};
use crate::api::guard::{self, Asking, By};
use crate::api::login::off_the_threads;
use crate::api::server::{Control, Failure};
use axum::http::header::HeaderMap;
use headgate_access::{ConnectionInfo, PeerAddr};
use headgate_admin::Login;

/// Who asks. A password that was right is remembered for some minutes; otherwise it is hashed, which takes its time, few at a time.
pub(super) async fn identify(
    control: &Control,
    headers: &HeaderMap,
    info: Option<&ConnectionInfo>,
) -> Result<Asking, Turned> {
    let (name, secret) = guard::basic(headers).ok_or(Turned::Unknown(Stranger::Nothing))?;
    if let Some(asking) = key(control, &name, &secret, info) {
        return Ok(asking);
    }
    administrator(control, &name, &secret, info).await
}

/// Who has an API key.
pub(super) fn key(
    control: &Control,
    id: &str,
    secret: &str,
    info: Option<&ConnectionInfo>,
) -> Option<Asking> {
    let who = control.admin.key(id, secret, guard::moment())?;
    Some(Asking {
        who,
        from: peer(info).to_string(),
        by: By::Key { id: id.to_owned() },
    })
}

/// An administrator by name and password.
pub(super) async fn administrator(
    control: &Control,
    name: &str,
    password: &str,
    info: Option<&ConnectionInfo>,
) -> Result<Asking, Turned> {
    let peer = peer(info);
    let (address, from) = (guard::address(peer), peer.to_string());
    let remembered = control.admin.remembered(name, password, address, guard::moment());
    let who = match remembered.map_err(Failure::from)? {
        Some(who) => who,
        None => {
            let admin = control.admin.clone();
            let (asked, password) = (name.to_owned(), password.to_owned());
            let checked = off_the_threads(control, Some(address), move || {
                admin.check_and_remember(&asked, &password, address, guard::moment())
            });
            checked.await.inspect_err(|Failure(_, why)| {
                tracing::warn!(name, from, why, "an administrator was not let in");
            })?
        }
    };
    Ok(Asking {
        who,
        from,
        by: By::Password,
    })
}

/// Begins a session of an administrator: its token is shown with each request.
pub(super) async fn log_in(
    control: &Control,
    name: &str,
    password: &str,
    info: Option<&ConnectionInfo>,
) -> Result<Login, Failure> {
    let peer = peer(info);
    let (admin, address) = (control.admin.clone(), guard::address(peer));
    let (asked, password) = (name.to_owned(), password.to_owned());
    let login = off_the_threads(control, Some(address), move || {
        admin.log_in(&asked, &password, address, guard::moment())
    });
    let login = login.await.inspect_err(|Failure(_, why)| {
        tracing::warn!(name, from = %peer, why, "an administrator was not let in");
    })?;
    let role = login.identity.role.name();
    tracing::info!(name, from = %peer, role, "an administrator logged in");
    Ok(login)
}

/// Ends it.
pub(super) fn log_out(control: &Control, name: &str, token: &str) {
    control.admin.log_out(token);
    tracing::info!(name, "an administrator logged out");
}

fn peer(info: Option<&ConnectionInfo>) -> PeerAddr {
    info.map_or(PeerAddr::Memory, |info| info.peer)
}
