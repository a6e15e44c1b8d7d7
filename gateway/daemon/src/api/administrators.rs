//! Administrators, API keys, and the audit log.

use super::guard;
use super::login::off_the_threads;
use super::routes::{Changed, Routes};
use super::server::{Answer, Control, Done, Failure};
use axum::extract::{Path, Query, State};
use axum::response::Json;
use headgate_admin::Role::Administrator;
use headgate_admin::{AdministratorView, AuditPage, KeyView, NewKey, Role};
use headgate_bus::MAX_PAGE;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;

pub(super) fn routes() -> Routes {
    Routes::default()
        .get(
            Administrator,
            "/administrators",
            "Lists who runs the gateway.",
            list,
        )
        .post(Administrator, "/administrators", "Adds an administrator.", add)
        .put(
            Administrator,
            "/administrators/{name}",
            "Gives an administrator another password or role; its sessions end.",
            alter,
        )
        .delete(
            Administrator,
            "/administrators/{name}",
            "Removes an administrator; its sessions end.",
            remove,
        )
        .get(Administrator, "/keys", "Lists API keys.", keys)
        .post(
            Administrator,
            "/keys",
            "Makes an API key; its secret is told this once.",
            add_key,
        )
        .delete(Administrator, "/keys/{id}", "Removes an API key.", remove_key)
        .get(
            Administrator,
            "/audit",
            "Lists who changed what, the latest first.",
            audit,
        )
}

/// All administrators.
#[derive(Serialize, JsonSchema)]
struct AdministratorRows {
    rows: Vec<AdministratorView>,
}

async fn list(State(control): State<Control>) -> Json<AdministratorRows> {
    let rows = control.admin.administrators();
    Json(AdministratorRows { rows })
}

/// A new administrator.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewAdministrator {
    name: String,
    /// 12 characters or more.
    password: String,
    role: Role,
}

async fn add(
    State(control): State<Control>,
    Json(new): Json<NewAdministrator>,
) -> Result<Changed<Json<Done>>, Failure> {
    let admin = control.admin.clone();
    let after = json!({ "name": new.name, "role": new.role });
    off_the_threads(&control, None, move || {
        admin.add(&new.name, &new.password, new.role, guard::moment())
    })
    .await?;
    Ok(Changed::new(Json(Done {}), None::<()>, Some(after)))
}

/// What is to be another.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Altered {
    password: Option<String>,
    role: Option<Role>,
}

async fn alter(
    State(control): State<Control>,
    Path(name): Path<String>,
    Json(altered): Json<Altered>,
) -> Result<Changed<Json<Done>>, Failure> {
    let before = shown(&control, &name);
    let (admin, of) = (control.admin.clone(), name.clone());
    let other_password = altered.password.is_some();
    off_the_threads(&control, None, move || {
        admin.alter(&of, altered.password.as_deref(), altered.role)
    })
    .await?;
    let after = shown(&control, &name).map(|mut shown| {
        shown["password"] = if other_password { "another" } else { "the same" }.into();
        shown
    });
    Ok(Changed::new(Json(Done {}), before, after))
}

fn shown(control: &Control, name: &str) -> Option<Value> {
    let all = control.admin.administrators();
    let known = all.iter().find(|known| known.name == name)?;
    Some(json!({ "name": known.name, "role": known.role }))
}

async fn remove(
    State(control): State<Control>,
    Path(name): Path<String>,
) -> Result<Changed<Json<Done>>, Failure> {
    let before = shown(&control, &name);
    tokio::task::block_in_place(|| control.admin.remove(&name))?;
    Ok(Changed::new(Json(Done {}), before, None::<()>))
}

/// All API keys.
#[derive(Serialize, JsonSchema)]
struct KeyRows {
    rows: Vec<KeyView>,
}

async fn keys(State(control): State<Control>) -> Json<KeyRows> {
    let rows = control.admin.keys();
    Json(KeyRows { rows })
}

/// A new API key.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WantedKey {
    /// What it is for.
    name: String,
    role: Role,
    /// Left out: it lasts until it is removed.
    expires_in_seconds: Option<u64>,
}

async fn add_key(
    State(control): State<Control>,
    Json(wanted): Json<WantedKey>,
) -> Result<Changed<Json<NewKey>>, Failure> {
    let lasts = wanted.expires_in_seconds.map(Duration::from_secs);
    let made = tokio::task::block_in_place(|| {
        control
            .admin
            .add_key(&wanted.name, wanted.role, lasts, guard::moment())
    })?;
    let after = Some(made.key.clone());
    Ok(Changed::new(Json(made), None::<()>, after))
}

async fn remove_key(
    State(control): State<Control>,
    Path(id): Path<String>,
) -> Result<Changed<Json<Done>>, Failure> {
    let before = control.admin.keys().into_iter().find(|key| key.id == id);
    tokio::task::block_in_place(|| control.admin.remove_key(&id))?;
    Ok(Changed::new(Json(Done {}), before, None::<()>))
}

/// Which entries.
#[derive(Deserialize, JsonSchema)]
struct AuditPart {
    /// Those before this number.
    after: Option<u64>,
    limit: Option<usize>,
}

async fn audit(State(control): State<Control>, Query(part): Query<AuditPart>) -> Answer<AuditPage> {
    let limit = part.limit.unwrap_or(100).clamp(1, MAX_PAGE);
    let page = tokio::task::block_in_place(|| control.audit.page(part.after, limit));
    Ok(Json(page))
}
