//! Certificates: those that listeners serve, and those in the data folder.

use super::routes::{Changed, Routes};
use super::server::{Answer, Control, Done, Failure};
use crate::certificates::{CertificateError, Certificates, Pair, Wanted};
use crate::sys::unix_time;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Json;
use headgate_admin::Role::{Administrator, Viewer};
use headgate_shell::tls::{CertificateView, view_certificate};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(super) fn routes() -> Routes {
    Routes::default()
        .post(
            Administrator,
            "/certificates/ca",
            "Makes a local CA, whose key stays on the device.",
            make_ca,
        )
        .post(
            Administrator,
            "/certificates/issue",
            "Has the local CA sign a certificate for the gateway or for a device.",
            issue,
        )
        .get(
            Viewer,
            "/certificates",
            "Lists certificates that listeners serve, and those kept here.",
            list,
        )
        .post(
            Administrator,
            "/certificates/csr",
            "Makes a key on the device, and a request for its certificate.",
            request,
        )
        .get(
            Viewer,
            "/certificates/{name}",
            "Gives a certificate that is kept here with its chain, and the request for one.",
            texts,
        )
        .put(
            Administrator,
            "/certificates/{name}",
            "Puts a certificate in its place.",
            put,
        )
        .delete(
            Administrator,
            "/certificates/{name}",
            "Removes a certificate and its key.",
            remove,
        )
}

/// In PEM; never a key.
#[derive(Serialize, JsonSchema)]
struct Texts {
    certificate: Option<String>,
    request: Option<String>,
}

async fn texts(State(control): State<Control>, Path(name): Path<String>) -> Answer<Texts> {
    let kept = Certificates::of(control.counters.data_dir());
    let (certificate, request) = tokio::task::block_in_place(|| kept.texts(&name))?;
    Ok(Json(Texts { certificate, request }))
}

impl From<CertificateError> for Failure {
    fn from(error: CertificateError) -> Self {
        let status = match &error {
            CertificateError::Name
            | CertificateError::Request(_)
            | CertificateError::Wrong(_)
            | CertificateError::Days => StatusCode::UNPROCESSABLE_ENTITY,
            CertificateError::Unknown(_) => StatusCode::NOT_FOUND,
            CertificateError::HasKey(_) | CertificateError::TooMany | CertificateError::NoCa => {
                StatusCode::CONFLICT
            }
            CertificateError::File { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self(status, error.to_string())
    }
}

/// A certificate, or a key that waits for one.
#[derive(Clone, Serialize, JsonSchema)]
struct CertificateRow {
    /// By which it is kept in the data folder; `null` for one that is kept elsewhere.
    name: Option<String>,
    /// Listeners that serve it.
    listeners: Vec<String>,
    /// Where it is, as it goes into the settings of a listener.
    file: String,
    key_file: Option<String>,
    /// RFC 4514
    subject: Option<String>,
    issuer: Option<String>,
    /// Host names and addresses that it is for.
    names: Vec<String>,
    /// Seconds since 1970 from which on all of the chain are valid.
    not_before: Option<i64>,
    /// And up to which.
    not_after: Option<i64>,
    /// Negative for one that has ended.
    days_left: Option<i64>,
    /// Subjects, our own first.
    chain: Vec<String>,
    /// Where the chain breaks.
    chain_fault: Option<String>,
    /// Whether the key belongs to it.
    key_matches: Option<bool>,
    /// Why it is not served, or cannot be.
    fault: Option<String>,
}

/// All certificates.
#[derive(Serialize, JsonSchema)]
struct CertificateRows {
    rows: Vec<CertificateRow>,
}

fn row(view: Option<&CertificateView>, file: String) -> CertificateRow {
    let days = |ends: i64| (ends - unix_time().cast_signed()).div_euclid(86_400);
    CertificateRow {
        name: None,
        listeners: Vec::new(),
        file,
        key_file: None,
        subject: view.map(|view| view.subject.clone()),
        issuer: view.map(|view| view.issuer.clone()),
        names: view.map(|view| view.names.clone()).unwrap_or_default(),
        not_before: view.map(|view| view.not_before),
        not_after: view.map(|view| view.not_after),
        days_left: view.map(|view| days(view.not_after)),
        chain: view.map(|view| view.chain.clone()).unwrap_or_default(),
        chain_fault: view.and_then(|view| view.chain_fault.clone()),
        key_matches: None,
        fault: None,
    }
}

fn row_of(pair: Pair) -> CertificateRow {
    let has_both = pair.view.is_some() && pair.key.exists();
    CertificateRow {
        name: Some(pair.name),
        key_file: Some(pair.key.display().to_string()),
        key_matches: has_both.then_some(pair.fault.is_none()),
        fault: pair.fault,
        ..row(pair.view.as_ref(), pair.certificate.display().to_string())
    }
}

async fn list(State(control): State<Control>) -> Json<CertificateRows> {
    let data_dir = control.counters.data_dir();
    let kept = tokio::task::block_in_place(|| Certificates::of(data_dir).list());
    let mut rows: Vec<CertificateRow> = kept.into_iter().map(row_of).collect();
    for (listener, state) in control.certificates.states() {
        for served in &state.certificates {
            let file = served.path.display().to_string();
            let known = rows.iter().position(|row| row.file == file);
            let at = known.unwrap_or_else(|| {
                let view = view_certificate(&served.path);
                rows.push(CertificateRow {
                    key_matches: Some(true),
                    ..row(view.as_ref(), file)
                });
                rows.len() - 1
            });
            rows[at].listeners.push(listener.clone());
            if state.fault.is_some() {
                rows[at].fault.clone_from(&state.fault);
            }
        }
    }
    Json(CertificateRows { rows })
}

/// What a certificate is to be for.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WantedCertificate {
    /// By which it is kept.
    name: String,
    common_name: String,
    /// Host names and addresses.
    #[serde(default)]
    names: Vec<String>,
}

/// A request for a certificate.
#[derive(Serialize, JsonSchema)]
struct RequestView {
    /// PEM, for a CA.
    csr: String,
    /// Where the key is; it stays on the device.
    key_file: String,
}

async fn request(
    State(control): State<Control>,
    Json(wanted): Json<WantedCertificate>,
) -> Result<Changed<Json<RequestView>>, Failure> {
    let certificates = Certificates::of(control.counters.data_dir());
    let asked = Wanted {
        common_name: &wanted.common_name,
        names: wanted.names.clone(),
    };
    let csr = tokio::task::block_in_place(|| certificates.request(&wanted.name, asked))?;
    let key_file = certificates.show(&wanted.name)?.key.display().to_string();
    let after =
        serde_json::json!({ "name": wanted.name, "common_name": wanted.common_name, "names": wanted.names });
    Ok(Changed::new(
        Json(RequestView { csr, key_file }),
        None::<()>,
        Some(after),
    ))
}

/// A certificate with its chain, and its key if that was not made here.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewCertificate {
    /// PEM, our own first.
    certificate: String,
    /// PEM.
    key: Option<String>,
}

async fn put(
    State(control): State<Control>,
    Path(name): Path<String>,
    Json(new): Json<NewCertificate>,
) -> Result<Changed<Json<CertificateRow>>, Failure> {
    let certificates = Certificates::of(control.counters.data_dir());
    let before = certificates.show(&name).ok().map(row_of);
    let pair = tokio::task::block_in_place(|| certificates.put(&name, &new.certificate, new.key.as_deref()))?;
    let after = row_of(pair);
    Ok(Changed::new(Json(after.clone()), before, Some(after)))
}

async fn remove(State(control): State<Control>, Path(name): Path<String>) -> Answer<Done> {
    let certificates = Certificates::of(control.counters.data_dir());
    let file = certificates.show(&name)?.certificate;
    let serving: Vec<String> = control
        .certificates
        .states()
        .into_iter()
        .filter(|(_, state)| state.certificates.iter().any(|served| served.path == file))
        .map(|(listener, _)| listener)
        .collect();
    if !serving.is_empty() {
        let what = format!("`{name}` is served by {}", serving.join(", "));
        return Err(Failure(StatusCode::CONFLICT, what));
    }
    tokio::task::block_in_place(|| certificates.remove(&name))?;
    Ok(Json(Done {}))
}

/// The local CA's name.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WantedCa {
    common_name: String,
}

async fn make_ca(
    State(control): State<Control>,
    Json(wanted): Json<WantedCa>,
) -> Result<Changed<Json<CertificateRow>>, Failure> {
    let certificates = Certificates::of(control.counters.data_dir());
    let pair = tokio::task::block_in_place(|| certificates.make_ca(&wanted.common_name, unix_time()))?;
    let after = row_of(pair);
    Ok(Changed::new(Json(after.clone()), None::<()>, Some(after)))
}

/// Whom a certificate is for.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Holder {
    /// The gateway: it is kept under its name.
    Gateway,
    /// A device: certificate and key are told this once, and not kept.
    Device,
}

/// A certificate that the local CA is to sign.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WantedIssue {
    holder: Holder,
    /// By which it is kept, for the gateway.
    name: Option<String>,
    common_name: String,
    #[serde(default)]
    names: Vec<String>,
    /// 1 to 3,650. Default: 365.
    days: Option<u64>,
}

/// What was signed.
#[derive(Serialize, JsonSchema)]
struct Issued {
    /// PEM, with that of the CA behind it.
    certificate: String,
    /// PEM, of a device.
    key: Option<String>,
    /// What is kept, of the gateway.
    kept: Option<CertificateRow>,
}

async fn issue(
    State(control): State<Control>,
    Json(wanted): Json<WantedIssue>,
) -> Result<Changed<Json<Issued>>, Failure> {
    let certificates = Certificates::of(control.counters.data_dir());
    let is_server = wanted.holder == Holder::Gateway;
    let name = wanted.name.as_deref().filter(|_| is_server);
    if is_server && name.is_none_or(|name| name == crate::certificates::CA) {
        let what = "a certificate for the gateway wants a `name` by which it is kept, other than `ca`";
        return Err(Failure(StatusCode::UNPROCESSABLE_ENTITY, what.into()));
    }
    let asked = Wanted {
        common_name: &wanted.common_name,
        names: wanted.names.clone(),
    };
    let (chain, key, kept) = tokio::task::block_in_place(|| {
        let days = wanted.days.unwrap_or(365);
        let (chain, key) = certificates.issue(asked, is_server, days, unix_time())?;
        let kept = name
            .map(|name| certificates.put(name, &chain, Some(&key)))
            .transpose()?;
        Ok::<_, CertificateError>((chain, key, kept))
    })?;
    let after = serde_json::json!({ "common_name": wanted.common_name, "names": wanted.names, "name": name });
    let issued = Issued {
        certificate: chain,
        key: (!is_server).then_some(key),
        kept: kept.map(row_of),
    };
    Ok(Changed::new(Json(issued), None::<()>, Some(after)))
}
