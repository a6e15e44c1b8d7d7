//! What a running gateway can be asked about its configuration.

use super::routes::{Changed, Routes};
use super::server::{Answer, Control, Failure};
use crate::config::{Config, Edit, EditError, Told, edited};
use crate::history::Entry;
use crate::live::{Applied, ApplyError, Live, Preview};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use headgate_admin::Role::{Administrator, Viewer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

/// A week: a change that waits longer is forgotten.
const MOST_TO_CONFIRM: u64 = 7 * 86_400;

pub(super) fn routes() -> Routes {
    Routes::default()
        .get(
            Viewer,
            "/configuration/schema",
            "Gives the JSON schema of the configuration.",
            schema,
        )
        .ask(
            Administrator,
            "/configuration/edit",
            "Changes settings in a text, and gives the text back; nothing becomes valid.",
            edit,
        )
        .post(
            Administrator,
            "/reload",
            "Reads the configuration's file again.",
            reload,
        )
        .get(
            Administrator,
            "/configuration",
            "Shows the configuration as it was taken last.",
            show,
        )
        .ask(
            Administrator,
            "/configuration/preview",
            "Says what would come of a configuration.",
            preview,
        )
        .post(
            Administrator,
            "/configuration/apply",
            "Makes a text the configuration, whole or not at all.",
            apply,
        )
        .post(
            Administrator,
            "/configuration/confirm",
            "Lets the last change stay.",
            confirm,
        )
        .post(
            Administrator,
            "/configuration/rollback",
            "Goes back to an earlier configuration.",
            roll_back,
        )
        .get(
            Viewer,
            "/configuration/history",
            "Lists the configurations that were valid.",
            history,
        )
        .get(
            Administrator,
            "/configuration/history/{number}",
            "Shows an earlier configuration.",
            show_earlier,
        )
}

impl From<ApplyError> for Failure {
    fn from(error: ApplyError) -> Self {
        let status = match &error {
            ApplyError::Config(_)
            | ApplyError::Bridge(_)
            | ApplyError::Access(_)
            | ApplyError::Listeners(_)
            | ApplyError::Log(_)
            | ApplyError::TooLong(_) => StatusCode::UNPROCESSABLE_ENTITY,
            ApplyError::Runs
            | ApplyError::InTheWay(_)
            | ApplyError::Unconfirmed
            | ApplyError::NothingToConfirm => StatusCode::CONFLICT,
            ApplyError::History(_) => StatusCode::NOT_FOUND,
            ApplyError::File { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self(status, error.to_string())
    }
}

/// Why a configuration is not taken, with each fault by itself.
pub(super) struct Refused {
    failure: Failure,
    faults: Vec<Told>,
}

impl From<ApplyError> for Refused {
    fn from(error: ApplyError) -> Self {
        let words = error.to_string();
        match error {
            ApplyError::Config(error) => Self {
                failure: Failure(StatusCode::UNPROCESSABLE_ENTITY, words),
                faults: error.told().0,
            },
            error => Failure::from(error).into(),
        }
    }
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self {
            failure,
            faults: Vec::new(),
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Failure(status, error) = self.failure;
        (status, Json(json!({ "error": error, "faults": self.faults }))).into_response()
    }
}

/// Goes on although whoever asked has gone: a change is never left half done.
pub(super) async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, ApplyError>> + Send + 'static,
) -> Result<T, Refused> {
    match tokio::spawn(work).await {
        Ok(done) => Ok(done?),
        Err(error) => Err(Failure(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into()),
    }
}

async fn reload(State(Control { live, .. }): State<Control>) -> Result<Changed<Json<Applied>>, Refused> {
    let applied = to_the_end(async move { live.reload().await }).await?;
    Ok(with_changes(applied))
}

/// The audit log has what changed.
pub(super) fn with_changes(applied: Applied) -> Changed<Json<Applied>> {
    let changes = applied.changes.clone();
    Changed::new(Json(applied), None::<()>, Some(changes))
}

/// A configuration in TOML.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Given {
    toml: String,
    /// Where it comes from, for what is told of it.
    name: Option<PathBuf>,
    /// It goes back by itself after so many seconds unless it is confirmed.
    confirm_seconds: Option<u64>,
    /// The text that it was made of: if another one is valid by now, nothing is applied (409).
    instead_of: Option<String>,
}

async fn preview(
    State(Control { live, .. }): State<Control>,
    Json(given): Json<Given>,
) -> Result<Json<Preview>, Refused> {
    Ok(Json(live.preview(given.name.as_deref(), given.toml).await?))
}

async fn apply(
    State(Control { live, .. }): State<Control>,
    Json(given): Json<Given>,
) -> Result<Changed<Json<Applied>>, Refused> {
    if given
        .confirm_seconds
        .is_some_and(|seconds| seconds > MOST_TO_CONFIRM)
    {
        let what = format!("`confirm_seconds` is out of range, allowed is up to {MOST_TO_CONFIRM}");
        return Err(Failure(StatusCode::UNPROCESSABLE_ENTITY, what).into());
    }
    if let Some(known) = &given.instead_of
        && *known != live.text().await
    {
        let what = "the configuration was changed meanwhile: look at it again";
        return Err(Failure(StatusCode::CONFLICT, what.into()).into());
    }
    let wait = given.confirm_seconds.map(Duration::from_secs);
    let work = async move { live.apply(given.name.as_deref(), given.toml, wait).await };
    to_the_end(work).await.map(with_changes)
}

/// That it stays.
#[derive(Serialize, JsonSchema)]
struct Confirmed {
    confirmed: bool,
}

async fn confirm(State(Control { live, .. }): State<Control>) -> Result<Json<Confirmed>, Refused> {
    to_the_end(async move { live.confirm().await }).await?;
    Ok(Json(Confirmed { confirmed: true }))
}

/// Which one; without a number the one before.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Earlier {
    number: Option<u64>,
}

async fn roll_back(
    State(Control { live, .. }): State<Control>,
    Json(Earlier { number }): Json<Earlier>,
) -> Result<Changed<Json<Applied>>, Refused> {
    let applied = to_the_end(async move { live.roll_back(number).await }).await?;
    Ok(with_changes(applied))
}

/// A configuration.
#[derive(Serialize, JsonSchema)]
struct Text {
    /// Its number in the history, of an earlier one.
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<u64>,
    toml: String,
    /// Its file, of the one that is valid.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
}

async fn show(State(Control { live, .. }): State<Control>) -> Answer<Text> {
    let (file, toml) = live.file().await;
    Ok(Json(Text {
        number: None,
        toml,
        file: Some(file.display().to_string()),
    }))
}

async fn show_earlier(State(Control { live, .. }): State<Control>, Path(number): Path<u64>) -> Answer<Text> {
    Ok(Json(Text {
        number: Some(number),
        toml: live.text_of(number).await?,
        file: None,
    }))
}

/// What was valid.
#[derive(Serialize, JsonSchema)]
struct Earliers {
    /// The oldest first.
    configurations: Vec<Entry>,
    /// When the last of them goes back by itself, in seconds since 1970.
    confirm_until: Option<u64>,
}

async fn history(State(Control { live, .. }): State<Control>) -> Answer<Earliers> {
    let (configurations, confirm_until) = Live::history(&live).await;
    Ok(Json(Earliers {
        configurations,
        confirm_until,
    }))
}

async fn schema() -> Json<Value> {
    Json(Config::schema())
}

/// Settings that are to be others.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Edits {
    /// The text; left out, that of the configuration that is valid.
    toml: Option<String>,
    changes: Vec<Edit>,
}

impl From<EditError> for Failure {
    fn from(error: EditError) -> Self {
        Self(StatusCode::UNPROCESSABLE_ENTITY, error.to_string())
    }
}

async fn edit(State(Control { live, .. }): State<Control>, Json(edits): Json<Edits>) -> Answer<Text> {
    let toml = match edits.toml {
        Some(toml) => toml,
        None => live.text().await,
    };
    // It may take long, and nobody else shall wait for it.
    let toml = tokio::task::spawn_blocking(move || edited(&toml, &edits.changes)).await;
    let toml = toml.map_err(|error| Failure(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    Ok(Json(Text {
        number: None,
        toml: toml?,
        file: None,
    }))
}
