//! The signed file that makes the gateway one of a certain plant.

use super::routes::Routes;
use super::server::{Answer, Control, Failure};
use crate::alarms::{Severity, Trouble};
use crate::provisioning::{self, Keys, ProvisioningError, Taken};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Json;
use headgate_admin::Role::{Administrator, Viewer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(super) fn routes() -> Routes {
    Routes::default()
        .get(
            Viewer,
            "/provisioning",
            "Says which provisioning file was taken last, and whether one waits for the next start.",
            view,
        )
        .post(
            Administrator,
            "/provisioning",
            "Accepts a signed provisioning file; the next start of the gateway does what it says.",
            accept,
        )
}

impl From<ProvisioningError> for Failure {
    fn from(error: ProvisioningError) -> Self {
        let status = match &error {
            ProvisioningError::File { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            ProvisioningError::NotNewer { .. } | ProvisioningError::Waits(_) => StatusCode::CONFLICT,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Self(status, error.to_string())
    }
}

/// Provisioning as it is.
#[derive(Serialize, JsonSchema)]
struct Provisioning {
    /// The last file that was taken.
    taken: Option<Taken>,
    /// One waits for the next start of the gateway.
    waits: bool,
    /// Names of this machine, by which a file can be for it alone: addresses of its interfaces, and its serial number.
    devices: Vec<String>,
}

async fn view(State(control): State<Control>) -> Json<Provisioning> {
    Json(tokio::task::block_in_place(|| {
        let data_dir = control.counters.data_dir().now();
        Provisioning {
            taken: provisioning::taken(&data_dir),
            waits: provisioning::waits(&data_dir),
            devices: provisioning::machine(),
        }
    }))
}

/// A file.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct File {
    /// What stands in it, with the signature.
    text: String,
}

/// A file that was accepted.
#[derive(Serialize, JsonSchema)]
struct AcceptedFile {
    number: u64,
}

async fn accept(State(control): State<Control>, Json(file): Json<File>) -> Answer<AcceptedFile> {
    let config = control.live.config().await;
    let number = tokio::task::block_in_place(|| {
        let keys = Keys::load(&config.firmware.provisioning_key)?;
        let data_dir = control.counters.data_dir().now();
        provisioning::accept(file.text, &keys, &data_dir, control.live.config_file())
    })?;
    let summary = format!("provisioning file {number} waits for the next start of the gateway");
    let trouble = Trouble::new(Severity::Warning, summary);
    control.alarms.set(provisioning::WAITS_ALARM, Some(trouble));
    tracing::info!(
        number,
        "a provisioning file waits for the next start of the gateway"
    );
    Ok(Json(AcceptedFile { number }))
}
