//! Users of devices: who may connect with a name and a password.

use super::clients::{Part, Rows};
use super::routes::{Changed, Routes};
use super::server::{Control, Done, Failure};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Json;
use headgate_admin::Role::{Administrator, Operator};
use headgate_auth::data_dir::DataPath;
use headgate_auth::{Access, HashMethod, Imported, Users, UsersError, UsersFormat, read_users};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(super) fn routes() -> Routes {
    Routes::default()
        .get(Operator, "/users", "Lists users of devices, by name.", list)
        .post(Administrator, "/users", "Adds a user.", add)
        .put(
            Administrator,
            "/users/{name}",
            "Gives a user another password.",
            alter,
        )
        .delete(
            Administrator,
            "/users/{name}",
            "Removes a user; connections that are open stay open.",
            remove,
        )
        .post(
            Administrator,
            "/users/import",
            "Takes over users of another broker, all or none.",
            import,
        )
        .ask(
            Operator,
            "/users/look",
            "Lets the gateway look whether the file of users was changed.",
            look,
        )
}

impl From<UsersError> for Failure {
    fn from(error: UsersError) -> Self {
        let status = match &error {
            UsersError::Name | UsersError::Password | UsersError::Import(_) => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            UsersError::Unknown(_) => StatusCode::NOT_FOUND,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self(status, error.to_string())
    }
}

impl Control {
    async fn users_file(&self) -> DataPath {
        let config = self.live.config().await;
        Access::users_path(&config.auth, self.counters.data_dir())
    }

    /// Changes the file of users, which commands change too; the gateway knows it when this is done.
    async fn change_users<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Users) -> Result<T, UsersError> + Send + 'static,
    ) -> Result<T, Failure> {
        let path = self.users_file().await;
        let access = std::sync::Arc::clone(&self.access);
        // It goes on although whoever asked has gone.
        let done = tokio::task::spawn_blocking(move || {
            let (done, _) = Users::change(&path.now(), change)?;
            access.look_at_users();
            Ok::<_, UsersError>(done)
        });
        match done.await {
            Ok(done) => Ok(done?),
            Err(error) => Err(Failure(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
        }
    }
}

/// A user.
#[derive(Clone, Serialize, JsonSchema)]
struct UserRow {
    name: String,
}

async fn list(
    State(control): State<Control>,
    Query(part): Query<Part>,
) -> Result<Json<Rows<UserRow>>, Failure> {
    let path = control.users_file().await;
    let users = tokio::task::block_in_place(|| Users::load(&path.now()))?;
    let limit = part.limit();
    let behind = |name: &&str| part.after.as_deref().is_none_or(|after| *name > after);
    let mut names = users.names().filter(behind);
    let rows: Vec<UserRow> = names
        .by_ref()
        .take(limit)
        .map(|name| UserRow {
            name: name.to_owned(),
        })
        .collect();
    let next = names.next().and(rows.last()).map(|last| last.name.clone());
    Ok(Json(Rows { rows, next }))
}

/// A new user.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewUser {
    name: String,
    password: String,
}

async fn add(
    State(control): State<Control>,
    Json(NewUser { name, password }): Json<NewUser>,
) -> Result<Changed<Json<UserRow>>, Failure> {
    let row = UserRow { name: name.clone() };
    let is_new = control.change_users(move |users| {
        if users.has(&name) {
            return Ok(false);
        }
        users.set(&name, &password)
    });
    if !is_new.await? {
        let what = format!("there is a user `{}` already", row.name);
        return Err(Failure(StatusCode::CONFLICT, what));
    }
    let after = Some(row.clone());
    Ok(Changed::new(Json(row), None::<()>, after))
}

/// Another password.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OtherPassword {
    password: String,
}

async fn alter(
    State(control): State<Control>,
    Path(name): Path<String>,
    Json(OtherPassword { password }): Json<OtherPassword>,
) -> Result<Json<Done>, Failure> {
    let changed = control.change_users(move |users| match users.has(&name) {
        true => users.set(&name, &password),
        false => Err(UsersError::Unknown(name)),
    });
    changed.await?;
    Ok(Json(Done {}))
}

async fn remove(State(control): State<Control>, Path(name): Path<String>) -> Result<Json<Done>, Failure> {
    control.change_users(move |users| users.remove(&name)).await?;
    Ok(Json(Done {}))
}

/// A table of users.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Table {
    /// CSV with a header and the columns `username`, `password` and, if there is one, `salt`; or, without `hash`, mosquitto's `password_file`.
    text: String,
    /// How the passwords in a CSV table are hashed: `plain`, `sha256`, `salt,sha256`, `bcrypt`, `pbkdf2,sha256,1000,20` …
    hash: Option<String>,
    /// Give users that are there already the password of the table.
    #[serde(default)]
    replace: bool,
}

async fn import(
    State(control): State<Control>,
    Json(table): Json<Table>,
) -> Result<Changed<Json<Imported>>, Failure> {
    let wrong = |what: String| Failure(StatusCode::UNPROCESSABLE_ENTITY, what);
    let format = match &table.hash {
        Some(method) => {
            let method: Result<HashMethod, _> = method.parse();
            UsersFormat::Csv(method.map_err(|error| wrong(error.to_string()))?)
        }
        None => UsersFormat::Mosquitto,
    };
    let (mut users, mut faults) = (Vec::new(), Vec::new());
    for (line, row) in tokio::task::block_in_place(|| read_users(table.text.as_bytes(), format)) {
        match row {
            Ok(user) => users.push(user),
            Err(fault) => faults.push(format!("line {line}: {fault}")),
        }
    }
    if !faults.is_empty() {
        faults.truncate(20);
        return Err(wrong(faults.join("; ")));
    }
    let imported = control.change_users(move |known| known.take(users, table.replace));
    let imported = imported.await?;
    Ok(Changed::new(Json(imported), None::<()>, Some(imported)))
}

async fn look(State(control): State<Control>) -> Json<Done> {
    tokio::task::block_in_place(|| control.access.look_at_users());
    Json(Done {})
}
