//! `xhr_send` and `jsonp_send`: messages of the client.

use crate::bodies::SMALL;
use crate::frame::{MessagesError, messages};
use crate::http::{Server, TEXT, not_cached, peer, with_type};
use crate::live::Live;
use crate::memory::Hold;
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
use tokio::sync::MutexGuard;
use tokio::time::timeout;

/// A JSON body, whatever its type is said to be.
pub(crate) async fn xhr_send(server: &Server, session: &str, parts: &Parts, body: Body) -> Response {
    let accepted = async {
        let live = find(server, session, parts)?;
        let _turn = turn(server, &live).await?;
        let (body, mut held) = read(server, &live, parts, body).await?;
        let messages = decode(server, &body, &mut held)?;
        drop(body);
        deliver(server, &live, messages).await
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
        let (body, mut held) = read(server, &live, parts, body).await?;
        let messages = match is_form(&parts.headers) {
            false => decode(server, &body, &mut held)?,
            true => {
                let form = std::str::from_utf8(&body).map_err(|_| Refused::BROKEN_JSON)?;
                let json = form_value(form, "d").ok_or(Refused::NO_PAYLOAD)?;
                let json = json.map_err(|_| Refused::BROKEN_JSON)?;
                decode(server, json.as_bytes(), &mut held)?
            }
        };
        drop(body);
        deliver(server, &live, messages).await
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
async fn turn<'s>(server: &Server, live: &'s Live) -> Result<MutexGuard<'s, ()>, Refused> {
    let turn = timeout(server.settings.body_time, live.sending.lock());
    turn.await.map_err(|_| Refused::INBOX_FULL)
}

/// The body, and what it holds. Its place is free when it is read: who waits for room in an inbox keeps no other session's body out.
async fn read(server: &Server, live: &Live, parts: &Parts, body: Body) -> Result<(BytesMut, Hold), Refused> {
    let time = server.settings.body_time;
    let limit = live.max_body_bytes();
    let size = body.size_hint();
    if size.lower() > limit as u64 {
        return Err(Refused::TOO_LARGE);
    }
    let is_small = size.upper().is_some_and(|bytes| bytes <= SMALL);
    let _place = match is_small {
        true => None,
        false => Some(server.bodies.place(peer(parts), time).await?),
    };
    match timeout(time, collect(live, body, limit)).await {
        Ok(read) => read,
        Err(_) => Err(Refused::SLOW_BODY),
    }
}

/// The whole body in one piece: many small chunks cost no more than a large one.
async fn collect(live: &Live, mut body: Body, limit: usize) -> Result<(BytesMut, Hold), Refused> {
    let mut held = Hold::new(&live.meter);
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Refused::SLOW_BODY)?;
        let chunk = frame.data_ref().map_or(&[][..], |data| data);
        if bytes.len() + chunk.len() > limit {
            return Err(Refused::TOO_LARGE);
        }
        bytes.extend_from_slice(chunk);
        held.set(bytes.capacity());
        if live.shed() {
            return Err(Refused::MEMORY);
        }
    }
    Ok((bytes, held))
}

/// What the JSON says. `held` is the body's, and then that of the messages: the body is done with.
fn decode(server: &Server, json: &[u8], held: &mut Hold) -> Result<Vec<String>, Refused> {
    let messages = messages(json, server.settings.max_messages).map_err(payload)?;
    let bytes = messages.iter().map(|message| message.len() + size_of::<String>());
    held.set(bytes.sum());
    Ok(messages)
}

/// Waits for room in the session's inbox.
async fn deliver(server: &Server, live: &Live, messages: Vec<String>) -> Result<(), Refused> {
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
