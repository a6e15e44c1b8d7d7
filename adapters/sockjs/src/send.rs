//! `xhr_send` and `jsonp_send`: messages of the client.

use crate::frame::{MessagesError, messages};
use crate::http::{Server, TEXT, not_cached, with_type};
use crate::live::Live;
use crate::refusal::Refusal;
use crate::route::form_value;
use axum::body::{Body, HttpBody};
use axum::http::header::{CONTENT_TYPE, ORIGIN};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use std::sync::Arc;
use tokio::time::timeout;

/// A JSON body, whatever its type is said to be.
pub(crate) async fn xhr_send(server: &Server, session: &str, parts: &Parts, body: Body) -> Response {
    let accepted = async {
        let live = find(server, session, parts)?;
        let body = read(server, body).await?;
        deliver(server, &live, &body).await
    };
    let mut response = match accepted.await {
        Ok(()) => {
            // 204 with a type, or some browsers take it for XML.
            let mut response = with_type(TEXT, Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            response
        }
        Err(refused) => refused,
    };
    not_cached(&mut response);
    response
}

/// A form with the JSON in `d`, or a JSON body.
pub(crate) async fn jsonp_send(server: &Server, session: &str, parts: &Parts, body: Body) -> Response {
    let accepted = async {
        let live = find(server, session, parts)?;
        let body = read(server, body).await?;
        if !is_form(&parts.headers) {
            return deliver(server, &live, &body).await;
        }
        let form = std::str::from_utf8(&body).map_err(|_| payload(server, MessagesError::Broken))?;
        match form_value(form, "d") {
            None => Err(payload(server, MessagesError::Empty)),
            Some(Err(_)) => Err(payload(server, MessagesError::Broken)),
            Some(Ok(json)) => deliver(server, &live, json.as_bytes()).await,
        }
    };
    // Some browsers do weird things on 204.
    let mut response = match accepted.await {
        Ok(()) => with_type(TEXT, Body::from("ok")),
        Err(refused) => refused,
    };
    not_cached(&mut response);
    response
}

fn is_form(headers: &HeaderMap) -> bool {
    const FORM: &[u8] = b"application/x-www-form-urlencoded";
    let content_type = headers
        .get(CONTENT_TYPE)
        .map_or(&b""[..], |value| value.as_bytes());
    content_type
        .get(..FORM.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(FORM))
}

fn find(server: &Server, session: &str, parts: &Parts) -> Result<Arc<Live>, Response> {
    match server.table.get(&server.key(session, parts)) {
        None => Err(unknown(server)),
        Some(live) if !live.belongs_to(parts.headers.get(ORIGIN)) => Err(server.foreign()),
        Some(live) => Ok(live),
    }
}

fn unknown(server: &Server) -> Response {
    server.refuse(Refusal::UnknownSession, StatusCode::NOT_FOUND, "Not found.")
}

async fn read(server: &Server, body: Body) -> Result<Bytes, Response> {
    let limit = server.settings.max_body_bytes;
    let too_large = || {
        server.refuse(
            Refusal::TooLarge,
            StatusCode::PAYLOAD_TOO_LARGE,
            "Body too large.",
        )
    };
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    match timeout(server.settings.body_time, Limited::new(body, limit).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) | Err(_) => {
            Err(server.refuse(Refusal::SlowBody, StatusCode::REQUEST_TIMEOUT, "No body in time."))
        }
    }
}

async fn deliver(server: &Server, live: &Live, body: &[u8]) -> Result<(), Response> {
    let messages = messages(body, server.settings.max_messages).map_err(|error| payload(server, error))?;
    match timeout(server.settings.body_time, live.deliver(messages)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(unknown(server)),
        Err(_) => Err(server.refuse(
            Refusal::InboxFull,
            StatusCode::SERVICE_UNAVAILABLE,
            "No room for messages.",
        )),
    }
}

fn payload(server: &Server, error: MessagesError) -> Response {
    let failed = StatusCode::INTERNAL_SERVER_ERROR;
    match error {
        MessagesError::Empty => server.refuse(Refusal::Payload, failed, "Payload expected."),
        MessagesError::Broken => server.refuse(Refusal::Payload, failed, "Broken JSON encoding."),
        MessagesError::TooMany => server.refuse(
            Refusal::TooManyMessages,
            StatusCode::PAYLOAD_TOO_LARGE,
            "Too many messages.",
        ),
    }
}
