//! Bridges to other brokers.

use super::routes::{Changed, Lines, Routes};
use super::server::{Answer, Control, Failure};
use crate::bridges::{BridgeView, Change, Finding, Renamed, Report};
use crate::config::entry_text;
use crate::sys::unix_time;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Json;
use futures_util::StreamExt;
use headgate_admin::Role::{Administrator, Operator, Viewer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use tokio::sync::mpsc::UnboundedReceiver;

pub(super) fn routes() -> Routes {
    Routes::default()
        .ask(
            Operator,
            "/bridges/preview",
            "Says what topics are called on the other side of a bridge.",
            preview,
        )
        .ask(
            Administrator,
            "/bridges/test",
            "Tries the connection of a bridge that need not be there.",
            test_new,
        )
        .get(
            Administrator,
            "/bridges/{name}/toml",
            "Gives a bridge's settings as they were written.",
            written,
        )
        .get(Viewer, "/bridges", "Lists all bridges.", list)
        .post(
            Administrator,
            "/bridges",
            "Adds a bridge beside those of the configuration.",
            add,
        )
        .get(Viewer, "/bridges/{name}", "Shows a bridge.", show)
        .delete(
            Administrator,
            "/bridges/{name}",
            "Removes a bridge that was added, with its queue.",
            remove,
        )
        .post(
            Operator,
            "/bridges/{name}/pause",
            "Pauses a bridge; its queue goes on.",
            pause,
        )
        .post(Operator, "/bridges/{name}/resume", "Lets a bridge go on.", resume)
        .post(
            Operator,
            "/bridges/{name}/flush",
            "Throws away what waits for a bridge.",
            flush,
        )
        .get(
            Viewer,
            "/bridges/{name}/report",
            "Says what became of a bridge's messages between two moments.",
            report,
        )
        .ask(
            Operator,
            "/bridges/{name}/test",
            "Tries a bridge's connection step by step; each finding is a line.",
            test,
        )
}

async fn list(State(control): State<Control>) -> Json<Vec<BridgeView>> {
    Json(control.bridges.views())
}

async fn show(State(control): State<Control>, Path(name): Path<String>) -> Answer<BridgeView> {
    Ok(Json(control.bridges.view(&name)?))
}

/// A new bridge in TOML, as it would stand below `[[bridges]]`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewBridge {
    toml: String,
}

/// What came of it.
#[derive(Clone, Serialize, JsonSchema)]
struct AddedBridge {
    bridge: String,
    change: Change,
}

async fn add(
    State(control): State<Control>,
    Json(added): Json<NewBridge>,
) -> Result<Changed<Json<AddedBridge>>, Failure> {
    let (bridge, change) = control.bridges.add(&added.toml).await?;
    let added = AddedBridge { bridge, change };
    let after = Some(added.clone());
    Ok(Changed::new(Json(added), None::<()>, after))
}

/// A bridge that is gone, and how many messages went with it.
#[derive(Serialize, JsonSchema)]
struct RemovedBridge {
    bridge: String,
    discarded: u64,
}

async fn remove(State(control): State<Control>, Path(name): Path<String>) -> Answer<RemovedBridge> {
    let discarded = control.bridges.remove(&name).await?;
    Ok(Json(RemovedBridge {
        bridge: name,
        discarded,
    }))
}

/// Whether a bridge is paused now.
#[derive(Serialize, JsonSchema)]
struct PausedBridge {
    bridge: String,
    paused: bool,
}

async fn pause(State(control): State<Control>, Path(bridge): Path<String>) -> Answer<PausedBridge> {
    control.bridges.pause(&bridge)?;
    Ok(Json(PausedBridge { bridge, paused: true }))
}

async fn resume(State(control): State<Control>, Path(bridge): Path<String>) -> Answer<PausedBridge> {
    control.bridges.resume(&bridge)?;
    Ok(Json(PausedBridge {
        bridge,
        paused: false,
    }))
}

/// How many messages were thrown away.
#[derive(Serialize, JsonSchema)]
struct FlushedBridge {
    bridge: String,
    flushed: usize,
}

async fn flush(State(control): State<Control>, Path(bridge): Path<String>) -> Answer<FlushedBridge> {
    let flushed = control.bridges.flush(&bridge)?;
    Ok(Json(FlushedBridge { bridge, flushed }))
}

/// From when to when, in seconds since 1970.
#[derive(Deserialize, JsonSchema)]
struct Span {
    #[serde(default)]
    from: u64,
    to: Option<u64>,
}

/// What became of the messages, and whether the sums agree.
#[derive(Serialize, JsonSchema)]
struct CheckedReport {
    #[serde(flatten)]
    report: Report,
    adds_up: bool,
}

async fn report(
    State(control): State<Control>,
    Path(name): Path<String>,
    Query(span): Query<Span>,
) -> Answer<CheckedReport> {
    let to = span.to.unwrap_or_else(unix_time);
    let report = control.bridges.report(&name, span.from, to)?;
    let adds_up = report.adds_up();
    Ok(Json(CheckedReport { report, adds_up }))
}

async fn test(State(control): State<Control>, Path(name): Path<String>) -> Result<Lines<Finding>, Failure> {
    Ok(as_lines(control.bridges.probe(&name)?))
}

fn as_lines(findings: UnboundedReceiver<Finding>) -> Lines<Finding> {
    let lines = futures_util::stream::unfold(findings, |mut findings| async {
        let finding = findings.recv().await?;
        Some((finding, findings))
    });
    let lines = lines.map(|finding| {
        let line = serde_json::to_string(&finding).unwrap_or_default();
        Ok::<_, Infallible>(line + "\n")
    });
    Lines::new(Body::from_stream(lines))
}

async fn test_new(
    State(control): State<Control>,
    Json(bridge): Json<NewBridge>,
) -> Result<Lines<Finding>, Failure> {
    Ok(as_lines(control.bridges.probe_new(&bridge.toml)?))
}

/// A bridge, and topics.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WantedPreview {
    /// As below `[[bridges]]`.
    toml: String,
    topics: Vec<String>,
}

/// Each topic twice: as one of ours, and as one of the remote's.
#[derive(Serialize, JsonSchema)]
struct RenamedRows {
    rows: Vec<Renamed>,
}

async fn preview(State(control): State<Control>, Json(wanted): Json<WantedPreview>) -> Answer<RenamedRows> {
    if wanted.topics.len() > 100 {
        let what = "100 topics at a time are enough";
        return Err(Failure(StatusCode::UNPROCESSABLE_ENTITY, what.into()));
    }
    let rows = control.bridges.preview(&wanted.toml, &wanted.topics)?;
    Ok(Json(RenamedRows { rows }))
}

/// Settings as they stand below `[[bridges]]`.
#[derive(Serialize, JsonSchema)]
struct WrittenBridge {
    toml: String,
}

async fn written(State(control): State<Control>, Path(name): Path<String>) -> Answer<WrittenBridge> {
    let toml = match control.bridges.text_of(&name)? {
        Some(text) => text,
        None => entry_text(&control.live.text().await, "bridges", &name).unwrap_or_default(),
    };
    Ok(Json(WrittenBridge { toml }))
}
