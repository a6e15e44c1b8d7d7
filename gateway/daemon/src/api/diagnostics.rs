//! A bundle for whoever helps: what the other questions answer, the log, and the configuration, without secrets.

use super::backups::take_time;
use super::guard::{Asking, By};
use super::routes::{PREFIX, Routes};
use super::server::{Control, Failure, table};
use crate::diagnostics::{Secrets, files_below, packed};
use crate::sys::unix_time;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Extension, Request, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use headgate_admin::{Identity, Role};
use headgate_shell::Patience;
use serde_json::{Value, json};
use std::fs;
use std::time::{Duration, UNIX_EPOCH};
use tower_service::Service;

/// What is asked for it, by the names of its files. Nothing that lists clients.
const VIEWS: [(&str, &str); 11] = [
    ("status.json", "/status"),
    ("system.json", "/system"),
    ("overview.json", "/overview"),
    ("metrics.json", "/metrics"),
    ("history.json", "/history?span=24h"),
    ("alarms.json", "/alarms"),
    ("listeners.json", "/listeners"),
    ("lines.json", "/lines"),
    ("bridges.json", "/bridges"),
    ("certificates.json", "/certificates"),
    ("log-level.json", "/log/level"),
];
/// Lines of the log.
const LINES: usize = 2_000;
/// Bytes of one answer.
const LONGEST: usize = 16 << 20;

pub(super) fn routes() -> Routes {
    Routes::default().fetch(
        Role::Administrator,
        "/diagnostics",
        "Gives a bundle for whoever helps, without secrets.",
        give,
    )
}

async fn give(
    State(control): State<Control>,
    patience: Option<Extension<Patience>>,
) -> Result<Response, Failure> {
    take_time(patience);
    let failed =
        |error: &dyn std::fmt::Display| Failure(StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
    let mut views = Vec::new();
    let mut router = table().into_parts().0.with_state(control.clone());
    for (name, path) in VIEWS {
        views.push((name.to_owned(), ask(&mut router, &control, path).await));
    }
    let config = control.live.config().await;
    let (_, text) = control.live.file().await;
    let (earlier, _) = control.live.history().await;
    // What changed may tell more than is wanted.
    let earlier: Vec<Value> = earlier
        .iter()
        .map(|entry| json!({ "number": entry.number, "at": entry.at, "by": entry.by, "changes": entry.changes.len() }))
        .collect();
    views.push(("configurations.json".into(), json!(earlier)));
    let (lines, _) = control.log.ring().last(LINES);
    let data_dir = control.counters.data_dir().clone();
    let code = control.admin.setup_code();
    let made = unix_time();
    let day = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(made)).to_string();
    let name = format!("headgate-diagnostics-{}", &day[..10]);
    let folder = name.clone();
    let bundle = tokio::task::spawn_blocking(move || {
        let mut secrets = Secrets::default();
        if let Some(code) = &code {
            secrets.remember(code);
        }
        let mut files = vec![(
            "configuration/headgate.toml".to_owned(),
            secrets.take_out_of_toml(&text),
        )];
        let mut valid = serde_json::to_value(&*config).unwrap_or_default();
        secrets.take_out(&mut valid);
        files.push(("configuration/valid.json".into(), pretty(&valid)));
        let here = data_dir.now();
        for entry in fs::read_dir(here.join("bridges")).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            if path.extension().is_some_and(|end| end == "toml") {
                let text = fs::read_to_string(&path).unwrap_or_default();
                let name = format!("configuration/bridges/{}", name.to_string_lossy());
                files.push((name, secrets.take_out_of_toml(&text)));
            }
        }
        for (name, mut view) in views {
            leave_clients_out(&mut view);
            files.push((name, pretty(&view)));
        }
        let lines = lines.iter().map(|line| format!("{line}\n")).collect();
        files.push(("log.jsonl".into(), lines));
        files.push(("files.txt".into(), files_below(&here)));
        drop(here);
        for (_, text) in &mut files {
            *text = secrets.hidden_in(text);
        }
        packed(&folder, &files, made)
    });
    let bundle = bundle.await.map_err(|error| failed(&error))?;
    let bundle = bundle.map_err(|error| failed(&error))?;
    let headers = [
        (CONTENT_TYPE, "application/zstd".to_owned()),
        (
            CONTENT_DISPOSITION,
            format!("attachment; filename=\"{name}.tar.zst\""),
        ),
    ];
    Ok((headers, Body::from(bundle)).into_response())
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// One of the other questions, by the same handlers, as a viewer.
async fn ask(router: &mut Router, control: &Control, path: &str) -> Value {
    let asking = Asking {
        who: Identity {
            name: "diagnostics".into(),
            role: Role::Viewer,
        },
        from: "the gateway itself".into(),
        by: By::Socket,
    };
    let mut request = Request::new(Body::empty());
    let Ok(uri) = format!("{PREFIX}{path}").parse() else {
        return Value::Null;
    };
    *request.uri_mut() = uri;
    request.extensions_mut().insert(asking);
    request.extensions_mut().insert(control.clone());
    let answer = match router.call(request).await {
        Ok(answer) => answer,
        Err(never) => match never {},
    };
    match to_bytes(answer.into_body(), LONGEST).await {
        Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
        Err(error) => json!({ "error": error.to_string() }),
    }
}

/// Samples of one client each have its id.
fn leave_clients_out(view: &mut Value) {
    match view {
        Value::Array(values) => {
            values.retain(|value| value["labels"].get("client").is_none());
            values.iter_mut().for_each(leave_clients_out);
        }
        Value::Object(fields) => fields.values_mut().for_each(leave_clients_out),
        _ => {}
    }
}
