//! Tokens: a session of an administrator, which ends when it is idle for too long (`http.session_idle`).

use super::{Answer, Told, Untold, body, text};
use crate::api::compat::basic;
use crate::api::compat::table::Call;
use crate::api::compat::told::VERSION;
use crate::api::guard::By;
use crate::api::server::Failure;
use axum::http::StatusCode;
use serde_json::json;

pub(super) async fn log_in(call: Call) -> Answer {
    let given = body(&call)?;
    let (name, password) = (text(&given, "username")?, text(&given, "password")?);
    let login = basic::log_in(&call.control, name, password, call.info.as_deref());
    let login = login.await.map_err(|Failure(status, why)| match status {
        StatusCode::UNAUTHORIZED => Untold(status, "BAD_USERNAME_OR_PWD", "Auth failed".into()),
        _ => Failure(status, why).into(),
    })?;
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
    basic::log_out(&call.control, &asking.who.name, token);
    Ok(Told::Done)
}
