//! Tokens: a session of an administrator, which ends when it is idle for too long (`http.session_idle`).

use super::{Answer, Told, Untold, body, text};
use crate::api::compat::table::Call;
use crate::api::compat::told::VERSION;
use crate::api::guard::{self, By};
use crate::api::login::off_the_threads;
use crate::api::server::Failure;
use axum::http::StatusCode;
use headgate_access::PeerAddr;
use serde_json::json;

pub(super) async fn log_in(call: Call) -> Answer {
    let given = body(&call)?;
    let name = text(&given, "username")?.to_owned();
    let password = text(&given, "password")?.to_owned();
    let peer = call.info.as_ref().map_or(PeerAddr::Memory, |info| info.peer);
    let (admin, address) = (call.control.admin.clone(), guard::address(peer));
    let asked = name.clone();
    let login = off_the_threads(&call.control, move || {
        admin.log_in(&asked, &password, address, guard::moment())
    });
    let login = login.await.map_err(|Failure(status, why)| {
        tracing::warn!(name, from = %peer, why, "an administrator was not let in");
        match status {
            StatusCode::UNAUTHORIZED => Untold(status, "BAD_USERNAME_OR_PWD", "Auth failed".into()),
            _ => Failure(status, why).into(),
        }
    })?;
    tracing::info!(name, from = %peer, role = login.identity.role.name(), "an administrator logged in");
    Ok(Told::Json(json!({
        "token": login.token,
        "role": login.identity.role,
        "version": VERSION,
        "license": { "edition": "opensource" },
    })))
}

/// The token ends that is shown. Whoever has a key has none.
pub(super) async fn log_out(call: Call) -> Answer {
    let asking = call.asking();
    let By::Session { token, .. } = &asking.by else {
        let message =
            "Please use bearer Token instead, using API key/secret in /logout path is not permitted";
        return Err(Untold(
            StatusCode::UNAUTHORIZED,
            "API_KEY_NOT_ALLOW",
            message.into(),
        ));
    };
    if text(&body(&call)?, "username")? != asking.who.name {
        let message = "Ensure your token & username";
        return Err(Untold(
            StatusCode::UNAUTHORIZED,
            "WRONG_TOKEN_OR_USERNAME",
            message.into(),
        ));
    }
    call.control.admin.log_out(token);
    tracing::info!(name = asking.who.name, "an administrator logged out");
    Ok(Told::Done)
}
