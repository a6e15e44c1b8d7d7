//! Updates of the system that the gateway runs on, and starting the machine anew.

use super::backups::{status_of_incoming, take_time};
use super::routes::Routes;
use super::server::{Answer, Control, Done, Failure};
use crate::firmware::{BundleInfo, FirmwareError, FirmwareView, Installation, RaucError, Uploaded};
use crate::starts::Why;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_LENGTH, HeaderMap};
use axum::response::Json;
use headgate_admin::Role::{Administrator, Viewer};
use headgate_shell::Patience;
use schemars::JsonSchema;
use serde::Deserialize;

pub(super) fn routes() -> Routes {
    Routes::default()
        .get(
            Viewer,
            "/firmware",
            "Says which systems there are, which one runs, and whether it is good.",
            view,
        )
        .put(
            Administrator,
            "/firmware/bundle",
            "Takes a bundle, to be installed.",
            upload,
        )
        .ask(
            Administrator,
            "/firmware/check",
            "Verifies a bundle's signature and says what it is.",
            check,
        )
        .post(
            Administrator,
            "/firmware/install",
            "Installs a bundle into the slot that does not run.",
            install,
        )
        .post(
            Administrator,
            "/firmware/mark",
            "Says of the system that runs that it is good, or is not.",
            mark,
        )
        .post(
            Administrator,
            "/firmware/boot-other",
            "Starts the machine anew with the system of the other slot.",
            boot_other,
        )
        .post(Administrator, "/reboot", "Starts the machine anew.", reboot)
        .post(
            Administrator,
            "/factory-reset",
            "Wipes all data, and starts the machine anew as from the factory.",
            factory_reset,
        )
}

impl FirmwareError {
    /// What HTTP has for it.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::NotHere(_) | Self::Busy | Self::OnTheWay(_) | Self::NoOther | Self::NoReset => {
                StatusCode::CONFLICT
            }
            Self::Bundle(_) | Self::Rauc(RaucError::Refused(_)) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Nothing => StatusCode::NOT_FOUND,
            Self::Incoming(error) => status_of_incoming(error),
            Self::Rauc(RaucError::Late) => StatusCode::GATEWAY_TIMEOUT,
            Self::Rauc(_) | Self::Program { .. } => StatusCode::BAD_GATEWAY,
            Self::File { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl From<FirmwareError> for Failure {
    fn from(error: FirmwareError) -> Self {
        Self(error.status(), error.to_string())
    }
}

async fn view(State(control): State<Control>) -> Json<FirmwareView> {
    Json(control.firmware.view().await)
}

async fn upload(
    State(control): State<Control>,
    patience: Option<Extension<Patience>>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Uploaded> {
    take_time(patience);
    let told = headers
        .get(CONTENT_LENGTH)
        .and_then(|told| told.to_str().ok()?.parse().ok());
    Ok(Json(
        control.firmware.receive(told, body.into_data_stream()).await?,
    ))
}

/// Which bundle.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// A path on this machine, or an address; left out, the one that was uploaded.
    bundle: Option<String>,
}

async fn check(
    State(control): State<Control>,
    patience: Option<Extension<Patience>>,
    Json(wanted): Json<Wanted>,
) -> Answer<BundleInfo> {
    take_time(patience);
    Ok(Json(control.firmware.check(wanted.bundle.as_deref()).await?))
}

/// Which bundle, and what then.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WantedInstallation {
    /// A path on this machine, or an address; left out, the one that was uploaded.
    bundle: Option<String>,
    /// Starts the machine anew when it is installed.
    #[serde(default)]
    reboot: bool,
}

async fn install(
    State(control): State<Control>,
    Json(wanted): Json<WantedInstallation>,
) -> Answer<Installation> {
    Ok(Json(
        control
            .firmware
            .install(wanted.bundle.as_deref(), wanted.reboot)?,
    ))
}

/// What is said of it.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Mark {
    good: bool,
}

async fn mark(State(control): State<Control>, Json(mark): Json<Mark>) -> Answer<Done> {
    control.firmware.mark(mark.good).await?;
    Ok(Json(Done {}))
}

async fn boot_other(State(control): State<Control>) -> Answer<Done> {
    control.firmware.boot_other().await?;
    Ok(Json(Done {}))
}

/// That it is meant.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Wipe {
    /// The name of the gateway.
    confirm: String,
}

async fn factory_reset(State(control): State<Control>, Json(wipe): Json<Wipe>) -> Answer<Done> {
    if wipe.confirm != control.live.config().await.node {
        let what = "`confirm` is not the name of this gateway: nothing was wiped";
        return Err(Failure(StatusCode::UNPROCESSABLE_ENTITY, what.into()));
    }
    control.firmware.factory_reset().await?;
    Ok(Json(Done {}))
}

async fn reboot(State(control): State<Control>) -> Answer<Done> {
    control.firmware.reboot(Why::Reboot).await?;
    Ok(Json(Done {}))
}
