//! Users of EMQ's dashboard are administrators here. Their tags are roles: `administrator` (or `admin`), `operator`, `viewer`.

use super::{Answer, Code, Kind, Params, Told, Untold, done};
use crate::api::compat::basic;
use crate::api::compat::table::{Call, Turned};
use crate::api::guard;
use crate::api::login::off_the_threads;
use crate::api::routes::Changed;
use crate::api::server::{Control, Failure};
use axum::http::StatusCode;
use headgate_access::PeerAddr;
use headgate_admin::{AdminError, AdministratorView, Role};
use serde_json::{Value, json};

/// An answer with what it has changed.
type Change = Result<Changed<Told>, Untold>;

/// What it was and is, for the audit log.
fn changed(before: Option<Value>, after: Option<Value>) -> Change {
    done().map(|told| Changed::new(told, before, after))
}

fn row(user: &AdministratorView) -> Value {
    json!({ "username": user.name, "tags": user.role.name() })
}

fn known(control: &Control, name: &str) -> Option<Value> {
    let all = control.admin.administrators();
    all.iter().find(|user| user.name == name).map(row)
}

fn no_user() -> Untold {
    Untold::code(Code::NoUser, "User not found")
}

fn role(tags: &str) -> Result<Role, Untold> {
    match tags {
        "administrator" | "admin" => Ok(Role::Administrator),
        "operator" => Ok(Role::Operator),
        "viewer" => Ok(Role::Viewer),
        _ => Err(Untold::code(
            Code::Unknown,
            "tags: a role: administrator, operator or viewer",
        )),
    }
}

pub(super) async fn list(call: Call) -> Answer {
    let all = call.control.admin.administrators();
    Ok(Told(all.iter().map(row).collect()))
}

/// None is no error.
pub(super) async fn one(call: Call) -> Answer {
    Ok(Told(
        known(&call.control, &call.path[0]).unwrap_or_else(|| json!([])),
    ))
}

pub(super) async fn add(call: Call) -> Change {
    let wanted = [
        ("username", Kind::Text),
        ("password", Kind::Text),
        ("tags", Kind::Text),
    ];
    let params = Params::of(&call, &wanted)?;
    let (name, password) = (
        params.text("username").to_owned(),
        params.text("password").to_owned(),
    );
    if name.is_empty() || password.is_empty() {
        return Err(Untold::code(Code::EmptyPassword, "Empty username or password"));
    }
    let role = role(params.text("tags"))?;
    if known(&call.control, &name).is_some() {
        return Err(Untold::code(Code::UserExists, "User already exist"));
    }
    let after = json!({ "name": name, "role": role });
    let admin = call.control.admin.clone();
    let adding = off_the_threads(&call.control, None, move || {
        admin.add(&name, &password, role, guard::moment())
    });
    adding.await.map_err(|Failure(status, what)| match status {
        StatusCode::CONFLICT => Untold::code(Code::UserExists, what),
        _ => Failure(status, what).into(),
    })?;
    changed(None, Some(after))
}

pub(super) async fn alter(call: Call) -> Change {
    let params = Params::of(&call, &[("tags", Kind::Text)])?;
    let (name, role) = (&call.path[0], role(params.text("tags"))?);
    let before = known(&call.control, name).ok_or_else(no_user)?;
    let altered = tokio::task::block_in_place(|| call.control.admin.alter(name, None, Some(role)));
    altered.map_err(|error| refused(&error))?;
    changed(Some(before), known(&call.control, name))
}

/// Somebody must be able to run the gateway, whatever his name is.
pub(super) async fn remove(call: Call) -> Change {
    let name = &call.path[0];
    let before = known(&call.control, name).ok_or_else(no_user)?;
    let removed = tokio::task::block_in_place(|| call.control.admin.remove(name));
    removed.map_err(|error| refused(&error))?;
    changed(Some(before), None)
}

fn refused(error: &AdminError) -> Untold {
    match error {
        AdminError::Last(_) => Untold::code(Code::LastUser, "admin cannot be deleted"),
        AdminError::Unknown(_) => no_user(),
        other => Untold::code(Code::Unknown, other.to_string()),
    }
}

/// Whether name and password are right.
pub(super) async fn auth(call: Call) -> Answer {
    let params = Params::of(&call, &[("username", Kind::Text), ("password", Kind::Text)])?;
    let (name, password) = (params.text("username"), params.text("password"));
    let checked = basic::administrator(&call.control, name, password, call.info.as_deref());
    match checked.await {
        Ok(_) => done(),
        Err(Turned::Later(status, what)) => Err(Untold::Status(status, what)),
        Err(_) => Err(Untold::code(Code::WrongPassword, "Username or password error")),
    }
}

/// Everybody may change his own password; an administrator that of others, too, if he knows it.
pub(super) async fn change_password(call: Call) -> Change {
    let (name, asking) = (call.path[0].clone(), call.asking());
    if asking.who.name != name && asking.who.role < Role::Administrator {
        let what = format!("`{}` may change the own password alone", asking.who.name);
        return Err(Untold::Status(StatusCode::FORBIDDEN, what));
    }
    let params = Params::of(&call, &[("old_pwd", Kind::Text), ("new_pwd", Kind::Text)])?;
    let (old, new) = (
        params.text("old_pwd").to_owned(),
        params.text("new_pwd").to_owned(),
    );
    known(&call.control, &name).ok_or_else(no_user)?;
    let peer = call.info.as_ref().map_or(PeerAddr::Memory, |info| info.peer);
    let (admin, address) = (call.control.admin.clone(), guard::address(peer));
    let changing = off_the_threads(&call.control, None, move || {
        admin.check_password(&name, &old, address, guard::moment())?;
        admin.alter(&name, Some(&new), None)
    });
    changing.await.map_err(|Failure(status, what)| match status {
        StatusCode::UNAUTHORIZED => Untold::code(Code::OldPassword, "OldPassword error"),
        _ => Failure(status, what).into(),
    })?;
    changed(None, Some(json!({ "password": "another" })))
}
