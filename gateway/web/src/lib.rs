//! The pages for browsers, as files in the program. `make web` builds them from `src/` and from packages; a program that was built without them says so.

use axum::Router;
use axum::extract::Path;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use bytes::Bytes;
use rust_embed::{Embed, EmbeddedFile};
use std::borrow::Cow;

#[derive(Embed)]
#[folder = "dist/"]
#[allow_missing = true]
struct Files;

/// SockJS loads scripts and frames from where the page is told to connect to, which is another port at least, and sends forms there.
const POLICY: &str = "default-src 'self'; img-src 'self' data:; connect-src *; script-src *; frame-src *; form-action *; frame-ancestors 'none'; object-src 'none'; base-uri 'none'";
const SOCKJS_CLIENT: &str = "demo/sockjs.min.js";
const NOT_BUILT: &str =
    "this gateway was built without its pages: they need Node (`make web`, then build again)\n";

/// Whether the pages are in the program.
pub fn is_built() -> bool {
    Files::iter().next().is_some()
}

/// The client of SockJS as browsers load it: what `iframe.html` of SockJS wants.
pub fn sockjs_client() -> Option<Bytes> {
    Files::get(SOCKJS_CLIENT).map(|file| match file.data {
        Cow::Borrowed(script) => Bytes::from_static(script),
        Cow::Owned(script) => script.into(),
    })
}

/// `/demo/` and what it consists of.
pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/demo", get(|| async { Redirect::permanent("/demo/") }))
        .route(
            "/demo/",
            get(|headers: HeaderMap| async move { file("demo/index.html", &headers) }),
        )
        .route(
            "/demo/{name}",
            get(|Path(name): Path<String>, headers: HeaderMap| async move {
                file(&format!("demo/{name}"), &headers)
            }),
        )
}

fn file(path: &str, asked: &HeaderMap) -> Response {
    let Some(EmbeddedFile { data, metadata }) = Files::get(path) else {
        let told = if is_built() {
            "there is no such page\n"
        } else {
            NOT_BUILT
        };
        return (StatusCode::NOT_FOUND, told).into_response();
    };
    let hash = metadata.sha256_hash();
    let tag = u64::from_be_bytes(hash[..8].try_into().expect("it has 32 bytes"));
    let tag = format!("\"{tag:016x}\"");
    let headers = [
        (CONTENT_TYPE, content_type(path)),
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (ETAG, &*tag),
    ];
    if asked.get(IF_NONE_MATCH).is_some_and(|known| *known == *tag) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (headers, data).into_response()
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::http::Request;
    use http_body_util::BodyExt;
    use tower_service::Service;

    async fn ask(path: &str, known: Option<&str>) -> (StatusCode, HeaderMap, String) {
        let mut request = Request::get(path);
        if let Some(known) = known {
            request = request.header(IF_NONE_MATCH, known);
        }
        let request = request.body(Body::empty()).unwrap();
        let answer = routes::<()>().with_state(()).call(request).await.unwrap();
        let (head, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (
            head.status,
            head.headers,
            String::from_utf8_lossy(&body).into_owned(),
        )
    }

    #[tokio::test]
    async fn pages_are_there_or_it_is_said_why_not() {
        let (status, headers, text) = ask("/demo/", None).await;
        if !is_built() {
            assert_eq!((status, &*text), (StatusCode::NOT_FOUND, NOT_BUILT));
            return;
        }
        assert_eq!(status, StatusCode::OK);
        assert!(text.starts_with("<!doctype html>"), "{text}");
        assert_eq!(headers[CONTENT_TYPE], "text/html; charset=utf-8");
        let tag = headers[ETAG].to_str().unwrap();
        assert_eq!(ask("/demo/", Some(tag)).await.0, StatusCode::NOT_MODIFIED);
        for name in ["chat.js", "chat.css", "sockjs.min.js"] {
            assert_eq!(
                ask(&format!("/demo/{name}"), None).await.0,
                StatusCode::OK,
                "{name}"
            );
        }
        for name in ["nothing", "..%2Findex.html", "%2Fetc%2Fpasswd"] {
            assert_eq!(
                ask(&format!("/demo/{name}"), None).await.0,
                StatusCode::NOT_FOUND,
                "{name}"
            );
        }
    }
}
