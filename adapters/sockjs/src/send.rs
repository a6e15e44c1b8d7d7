//! `xhr_send` and `jsonp_send`: messages of the client.

use crate::frame::{MessagesError, messages};
use crate::http::{Server, TEXT, not_cached, with_type};
use crate::live::Live;
use crate::refusal::Refused;
use crate::route::form_value;
use axum::body::{Body, HttpBody};
use axum::http::header::{CONTENT_TYPE, ORIGIN};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use bytes::BytesMut;
use http_body_util::BodyExt;
use std::sync::Arc;
use tokio::sync::{MutexGuard, SemaphorePermit};
use tokio::time::timeout;

/// A JSON body, whatever its type is said to be.
pub(crate) async fn xhr_send(server: &Server, session: &str, parts: &Parts, body: Body) -> Response {
    let accepted = async {
        let live = find(server, session, parts)?;
        let _turn = turn(server, &live).await?;
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
        Err(refused) => server.refuse(refused),
    };
    not_cached(&mut response);
    response
}

/// A form with the JSON in `d`, or a JSON body.
pub(crate) async fn jsonp_send(server: &Server, session: &str, parts: &Parts, body: Body) -> Response {
    let accepted = async {
        let live = find(server, session, parts)?;
        let _turn = turn(server, &live).await?;
        let body = read(server, body).await?;
        if !is_form(&parts.headers) {
            return deliver(server, &live, &body).await;
        }
        let form = std::str::from_utf8(&body).map_err(|_| Refused::BROKEN_JSON)?;
        match form_value(form, "d") {
            None => Err(Refused::NO_PAYLOAD),
            Some(Err(_)) => Err(Refused::BROKEN_JSON),
            Some(Ok(json)) => deliver(server, &live, json.as_bytes()).await,
        }
    };
    // Some browsers do weird things on 204.
    let mut response = match accepted.await {
        Ok(()) => with_type(TEXT, Body::from("ok")),
        Err(refused) => server.refuse(refused),
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

fn find(server: &Server, session: &str, parts: &Parts) -> Result<Arc<Live>, Refused> {
    match server.table.get(&server.key(session, parts)) {
        None => Err(Refused::UNKNOWN_SESSION),
        Some(live) if !live.belongs_to(parts.headers.get(ORIGIN)) => Err(Refused::FOREIGN_SESSION),
        Some(live) => Ok(live),
    }
}

/// Whoever sends waits until what came before has been read and taken: a body that is not read costs no memory.
async fn turn<'s>(
    server: &'s Server,
    live: &'s Live,
) -> Result<(MutexGuard<'s, ()>, SemaphorePermit<'s>), Refused> {
    let turn = async { (live.sending.lock().await, server.bodies.acquire().await) };
    match timeout(server.settings.body_time, turn).await {
        Ok((one, Ok(body))) => Ok((one, body)),
        Ok((_, Err(_))) | Err(_) => Err(Refused::INBOX_FULL),
    }
}

async fn read(server: &Server, body: Body) -> Result<BytesMut, Refused> {
    match timeout(
        server.settings.body_time,
        collect(body, server.settings.max_body_bytes),
    )
    .await
    {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(BodyError::TooLarge)) => Err(Refused::TOO_LARGE),
        Ok(Err(BodyError::BrokenOff)) | Err(_) => Err(Refused::SLOW_BODY),
    }
}

enum BodyError {
    TooLarge,
    BrokenOff,
}

/// The whole body in one piece: many small chunks cost no more than a large one.
async fn collect(mut body: Body, limit: usize) -> Result<BytesMut, BodyError> {
    if body.size_hint().lower() > limit as u64 {
        return Err(BodyError::TooLarge);
    }
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| BodyError::BrokenOff)?;
        let chunk = frame.data_ref().map_or(&[][..], |data| data);
        if bytes.len() + chunk.len() > limit {
            return Err(BodyError::TooLarge);
        }
        bytes.extend_from_slice(chunk);
    }
    Ok(bytes)
}

async fn deliver(server: &Server, live: &Live, body: &[u8]) -> Result<(), Refused> {
    let messages = messages(body, server.settings.max_messages).map_err(payload)?;
    match timeout(server.settings.body_time, live.deliver(messages)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Refused::UNKNOWN_SESSION),
        Err(_) => Err(Refused::INBOX_FULL),
    }
}

fn payload(error: MessagesError) -> Refused {
    match error {
        MessagesError::Empty => Refused::NO_PAYLOAD,
        MessagesError::Broken => Refused::BROKEN_JSON,
        MessagesError::TooMany => Refused::TOO_MANY_MESSAGES,
    }
}
