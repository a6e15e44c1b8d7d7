//! `POST /mqtt/publish`: how EMQ up to 2.2 takes messages over HTTP, as a form. Whoever publishes is a user of devices, by Basic authentication, as one who
//! connects by this listener; rules and limits hold for it as for any client.

use super::table::Pairs;
use super::told;
use crate::api::guard::{self, basic};
use crate::api::publish::{self, Author, Letter, Unpublished};
use crate::api::server::Control;
use axum::body::Bytes;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::http::header::{HeaderMap, WWW_AUTHENTICATE};
use axum::response::{IntoResponse, Response};
use axum::routing::MethodFilter;
use axum::routing::{MethodRouter, on};
use headgate_access::{AccessService as _, ConnectionInfo, ask};
use headgate_model::access::{AuthRefusal, Credentials};
use headgate_model::{Answer, ClientId, Question};
use std::sync::Arc;

/// The route, for whoever reaches the listener.
pub(super) fn route(control: Control) -> MethodRouter {
    let nothing = || async { StatusCode::NOT_FOUND };
    on(MethodFilter::POST, publish)
        .fallback(nothing)
        .with_state(control)
}

/// Why it is not published, as it is told.
#[derive(Debug)]
enum Told {
    Unauthorized,
    BadQos,
    BadTopics,
    Other(StatusCode, String),
}

impl IntoResponse for Told {
    fn into_response(self) -> Response {
        match self {
            Self::Unauthorized => {
                let realm = [(WWW_AUTHENTICATE, "Basic realm=\"headgate\"")];
                (StatusCode::UNAUTHORIZED, realm, "Unauthorized").into_response()
            }
            Self::BadQos => (StatusCode::BAD_REQUEST, "Bad QoS").into_response(),
            Self::BadTopics => (StatusCode::BAD_REQUEST, "Bad Topics").into_response(),
            Self::Other(status, what) => (status, what).into_response(),
        }
    }
}

impl From<Unpublished> for Told {
    fn from(error: Unpublished) -> Self {
        match error {
            Unpublished::Qos(..) => Self::BadQos,
            Unpublished::Topic(..) | Unpublished::Name(..) => Self::BadTopics,
            other => Self::Other(other.status(), other.to_string()),
        }
    }
}

impl From<AuthRefusal> for Told {
    fn from(refusal: AuthRefusal) -> Self {
        match refusal {
            AuthRefusal::Unavailable | AuthRefusal::Busy => {
                let what = "nobody can be asked at the moment: try again";
                Self::Other(StatusCode::SERVICE_UNAVAILABLE, what.into())
            }
            AuthRefusal::BadUserNameOrPassword
            | AuthRefusal::NotAuthorized
            | AuthRefusal::BadMethod
            | AuthRefusal::Banned => Self::Unauthorized,
        }
    }
}

async fn publish(
    State(control): State<Control>,
    Extension(info): Extension<Arc<ConnectionInfo>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<&'static str, Told> {
    if guard::is_foreign_page(&headers) {
        let what = "a page of another server may not ask for this";
        return Err(Told::Other(StatusCode::FORBIDDEN, what.into()));
    }
    let form = Pairs::of(&body);
    let client = publish::client_id(form.get("client"))?;
    let author = author(&control, &headers, &info, client).await?;
    // Bytes of any kind, unlike all others.
    let payload = told::pairs(&body)
        .into_iter()
        .find(|(name, _)| name == b"message")
        .map_or_else(Bytes::new, |(_, payload)| payload.into());
    let qos: u64 = form.get("qos").unwrap_or("0").parse().map_err(|_| Told::BadQos)?;
    let retain = match form.get("retain").unwrap_or("0") {
        "0" | "false" => false,
        "1" | "true" => true,
        _ => return Err(Told::Other(StatusCode::BAD_REQUEST, "Bad Retain".into())),
    };
    let several = form
        .get("topics")
        .into_iter()
        .flat_map(|topics| topics.split(','));
    let topics = form
        .get("topic")
        .into_iter()
        .chain(several.filter(|topic| !topic.is_empty()));
    let mut messages = Vec::new();
    for topic in topics {
        let letter = Letter {
            topic: topic.to_owned(),
            payload: payload.clone(),
            qos,
            retain,
            ..Letter::default()
        };
        // All are looked at before any is published.
        messages.push(author.admit(&control, letter).await?);
    }
    if messages.is_empty() {
        return Err(Told::BadTopics);
    }
    for published in control.hub.publish_each(messages).await {
        published.map_err(Unpublished::Refused)?;
    }
    Ok("OK")
}

/// Who publishes: let in as a client of this listener would be.
async fn author(
    control: &Control,
    headers: &HeaderMap,
    info: &ConnectionInfo,
    client_id: ClientId,
) -> Result<Author, Told> {
    let (username, password) = basic(headers).ok_or(Told::Unauthorized)?;
    let credentials = Credentials {
        client_id: client_id.clone(),
        username: Some(username.into()),
        password: Some(password.into()),
        method: None,
        data: None,
        link: false,
    };
    let session = control.access.session(info);
    let (_, answer) = ask(session, Question::Authenticate(Box::new(credentials))).await;
    match answer {
        Answer::Allowed { identity, .. } => {
            publish::not_of_others(control, &client_id, identity.username.as_deref())?;
            Ok(Author::of_user(
                client_id,
                identity.username,
                identity.policy,
                info,
            ))
        }
        Answer::Refused(refusal) => Err(refusal.into()),
        Answer::Challenge(_) | Answer::Authorized(_) | Answer::Identified(_) => Err(Told::Unauthorized),
    }
}
