//! Mutated requests against the whole service: nothing that a stranger sends makes it fail.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::Request;
use axum::http::request::Parts;
use fastrand::Rng;
use futures_util::future::poll_fn;
use headgate_fuzz::{fuzz, mutate};
use headgate_sockjs::{Session, SockJs, SockJsSettings};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;
use tower_service::Service as _;

const PATHS: &[&str] = &[
    "",
    "/",
    "/info",
    "/iframe-1.html",
    "/websocket",
    "/000/abc/websocket",
    "/000/abc/xhr",
    "/000/abc/xhr_streaming",
    "/000/abc/eventsource",
    "/000/abc/htmlfile?c=%63all",
    "/000/abc/jsonp?x=1&c=call.back",
    "/000/abc/xhr_send",
    "/000/abc/jsonp_send",
];

const BODIES: &[&str] = &[
    r#"["a","\u00e9\ud83d\ude00","\\\""]"#,
    "[]",
    "\"one\"",
    "d=%5B%22a+b%22%5D&p=1",
    r#"[["a"],{"b":1},null]"#,
];

#[derive(Debug)]
struct Input {
    method: &'static str,
    target: Vec<u8>,
    content_type: &'static str,
    fields: Vec<(&'static str, Vec<u8>)>,
    body: Vec<u8>,
}

fn input(rng: &mut Rng) -> Input {
    let some = |texts: &[&str], special: &[u8], rng: &mut Rng| {
        let mut bytes = texts[rng.usize(..texts.len())].as_bytes().to_vec();
        (0..rng.u8(..4)).for_each(|_| mutate(&mut bytes, special, rng));
        bytes
    };
    Input {
        method: ["GET", "POST", "POST", "OPTIONS", "HEAD"][rng.usize(..5)],
        target: some(PATHS, b"/.?&=%c-", rng),
        content_type: ["text/plain", "application/x-www-form-urlencoded"][rng.usize(..2)],
        fields: vec![
            ("cookie", some(&["JSESSIONID=abc; a=b"], b"=;\"", rng)),
            ("origin", some(&["https://a.example", "null"], b":/", rng)),
            ("if-none-match", some(&["\"a\", W/\"b\"", "*"], b"\",", rng)),
        ],
        body: some(BODIES, b"[]\",\\u%&=d+{}", rng),
    }
}

fn echo(mut session: Session, _: Parts) {
    tokio::spawn(async move {
        while let Some(message) = session.recv().await {
            if session.send(message).await.is_err() {
                return;
            }
        }
    });
}

/// As much of the answer as comes without waiting.
async fn ask(mut router: Router, input: &Input) {
    let Ok(target) = std::str::from_utf8(&input.target) else {
        return;
    };
    let mut request = Request::builder()
        .method(input.method)
        .uri(format!("/echo{target}"));
    request = request.header("content-type", input.content_type);
    for (name, value) in &input.fields {
        request = request.header(*name, &value[..]);
    }
    // Neither the URI nor a field need be one: then no server would give it to us.
    let Ok(request) = request.body(Body::from(Bytes::from(input.body.clone()))) else {
        return;
    };
    let mut answer = pin!(router.call(request));
    let answer = poll_fn(|cx| match answer.as_mut().poll(cx) {
        Poll::Ready(answer) => Poll::Ready(Some(answer)),
        Poll::Pending => Poll::Ready(None),
    });
    if let Some(answer) = answer.await {
        let answer = answer.expect("a router always answers");
        assert!(answer.status().as_u16() != 500 || input.method != "HEAD");
        let mut body = pin!(axum::body::to_bytes(answer.into_body(), 1 << 20));
        poll_fn(|cx| Poll::Ready(body.as_mut().poll(cx).is_ready())).await;
    }
    tokio::task::yield_now().await;
}

#[test]
fn mutated_requests_are_answered() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let settings = SockJsSettings {
        session_timeout: Duration::from_millis(50),
        ..SockJsSettings::default()
    };
    let router = runtime.block_on(async { SockJs::new(settings, echo).unwrap().router("/echo") });
    fuzz(input, |input| runtime.block_on(ask(router.clone(), input)));
}
