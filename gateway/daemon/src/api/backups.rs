//! Backups: all that the gateway keeps, as files on it.

use super::routes::{Changed, Routes};
use super::server::{Answer, Control, Done, Failure};
use crate::archive::{ArchiveError, Passphrase};
use crate::backups::{Backup, BackupError, By, Prepared};
use crate::incoming::IncomingError;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap};
use axum::response::{IntoResponse, Json, Response};
use headgate_admin::Role::{Administrator, Operator};
use headgate_shell::Patience;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_util::io::ReaderStream;

pub(super) fn routes() -> Routes {
    Routes::default()
        .get(Operator, "/backups", "Lists backups on the gateway.", list)
        .post(
            Administrator,
            "/backups",
            "Makes a backup while the gateway runs.",
            make,
        )
        .fetch(Administrator, "/backups/{name}", "Gives a backup.", give)
        .put(
            Administrator,
            "/backups/{name}",
            "Takes a backup from elsewhere.",
            take,
        )
        .delete(Administrator, "/backups/{name}", "Removes a backup.", remove)
        .post(
            Administrator,
            "/backups/{name}/restore",
            "Makes a backup ready for the next start, which takes it.",
            restore,
        )
        .delete(
            Administrator,
            "/backups/{name}/restore",
            "Lets nothing come of a backup that waits for the next start.",
            withdraw,
        )
}

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Self {
        let status = match &error {
            BackupError::Name(_)
            | BackupError::Config(_)
            | BackupError::Obstacles(_)
            | BackupError::DataDir(..) => StatusCode::UNPROCESSABLE_ENTITY,
            BackupError::Unknown(_) | BackupError::WaitsNot(..) => StatusCode::NOT_FOUND,
            BackupError::IsThere(_)
            | BackupError::Full(_)
            | BackupError::Waits(_)
            | BackupError::Underway
            | BackupError::OnTheWay(_)
            | BackupError::Busy => StatusCode::CONFLICT,
            BackupError::Incoming(error) => status_of_incoming(error),
            BackupError::Archive(error) => status_of(error),
            BackupError::Snapshot(_) => StatusCode::SERVICE_UNAVAILABLE,
            BackupError::File { .. } | BackupError::Lost(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self(status, error.to_string())
    }
}

/// Of a file that did not come.
pub(super) fn status_of_incoming(error: &IncomingError) -> StatusCode {
    match error {
        IncomingError::TooLong(_) => StatusCode::PAYLOAD_TOO_LARGE,
        IncomingError::NoRoom => StatusCode::INSUFFICIENT_STORAGE,
        IncomingError::Late => StatusCode::REQUEST_TIMEOUT,
        IncomingError::Broken(_) => StatusCode::BAD_REQUEST,
        IncomingError::Io(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn status_of(error: &ArchiveError) -> StatusCode {
    match error {
        ArchiveError::NoRoom { .. }
        | ArchiveError::NoRoomToRestore { .. }
        | ArchiveError::NoRoomForLinks(_) => StatusCode::INSUFFICIENT_STORAGE,
        ArchiveError::File { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        ArchiveError::Stopped => StatusCode::SERVICE_UNAVAILABLE,
        // It is the archive's fault, or that of its passphrase.
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    }
}

/// It has bounds of its own.
pub(super) fn take_time(patience: Option<Extension<Patience>>) {
    if let Some(Extension(patience)) = patience {
        patience.ask();
    }
}

/// All backups.
#[derive(Serialize, JsonSchema)]
struct BackupRows {
    /// The newest first.
    rows: Vec<Backup>,
}

async fn list(State(control): State<Control>) -> Answer<BackupRows> {
    let rows = tokio::task::block_in_place(|| control.backups.list())?;
    Ok(Json(BackupRows { rows }))
}

/// How a backup is made.
#[derive(Deserialize, JsonSchema)]
struct WantedBackup {
    /// By which it is encrypted; left out, whoever has the file has all secrets.
    passphrase: Option<String>,
}

async fn make(
    State(control): State<Control>,
    patience: Option<Extension<Patience>>,
    Json(wanted): Json<WantedBackup>,
) -> Result<Changed<Json<Backup>>, Failure> {
    take_time(patience);
    let passphrase = wanted.passphrase.as_deref().map(Passphrase::to_seal).transpose();
    let passphrase = passphrase.map_err(BackupError::from)?;
    let made = control.backups.make(passphrase, By::Hand).await?;
    let after = Some(made.clone());
    Ok(Changed::new(Json(made), None::<()>, after))
}

async fn give(State(control): State<Control>, Path(name): Path<String>) -> Result<Response, Failure> {
    let (file, bytes) = tokio::task::block_in_place(|| control.backups.open(&name))?;
    let stream = ReaderStream::with_capacity(tokio::fs::File::from_std(file), 64 << 10);
    // Names have no quotes.
    let headers = [
        (CONTENT_TYPE, "application/octet-stream".to_owned()),
        (CONTENT_LENGTH, bytes.to_string()),
        (CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
    ];
    Ok((headers, Body::from_stream(stream)).into_response())
}

async fn take(
    State(control): State<Control>,
    Path(name): Path<String>,
    patience: Option<Extension<Patience>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Changed<Json<Backup>>, Failure> {
    take_time(patience);
    let told = headers
        .get(CONTENT_LENGTH)
        .and_then(|told| told.to_str().ok()?.parse().ok());
    let taken = control
        .backups
        .receive(&name, told, body.into_data_stream())
        .await?;
    let after = Some(taken.clone());
    Ok(Changed::new(Json(taken), None::<()>, after))
}

async fn remove(State(control): State<Control>, Path(name): Path<String>) -> Answer<Done> {
    tokio::task::block_in_place(|| control.backups.remove(&name))?;
    Ok(Json(Done {}))
}

/// How a backup is taken back.
#[derive(Deserialize, JsonSchema)]
struct WantedRestore {
    /// By which it is encrypted.
    passphrase: Option<String>,
    /// The backup's configuration takes the place of the one that is valid.
    #[serde(default = "yes")]
    configuration: bool,
}

fn yes() -> bool {
    true
}

async fn restore(
    State(control): State<Control>,
    Path(name): Path<String>,
    patience: Option<Extension<Patience>>,
    Json(wanted): Json<WantedRestore>,
) -> Result<Changed<Json<Prepared>>, Failure> {
    take_time(patience);
    let passphrase = wanted.passphrase.as_deref().map(Passphrase::new);
    let backups = &control.backups;
    let prepared = backups.restore(&name, passphrase, wanted.configuration).await?;
    let after = Some(prepared.clone());
    Ok(Changed::new(Json(prepared), None::<()>, after))
}

/// Whether it waited.
#[derive(Serialize, JsonSchema)]
struct Withdrawn {
    waited: bool,
}

async fn withdraw(State(control): State<Control>, Path(name): Path<String>) -> Answer<Withdrawn> {
    let waited = tokio::task::block_in_place(|| control.backups.withdraw_now(&name))?;
    Ok(Json(Withdrawn { waited }))
}
