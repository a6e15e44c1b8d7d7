//! The pages for browsers, as files in the program. `make web` builds them from `src/` and from packages; a program that was built without them says so.

use axum::Router;
use axum::extract::Path;
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    HeaderValue, IF_NONE_MATCH, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use bytes::Bytes;
use flate2::read::GzDecoder;
use rust_embed::{Embed, EmbeddedFile};
use std::borrow::Cow;
use std::io::Read;

#[derive(Embed)]
#[folder = "dist/"]
#[allow_missing = true]
struct Files;

/// SockJS loads scripts and frames from where the page is told to connect to, which is another port at least, and sends forms there.
const POLICY: &str = "default-src 'self'; img-src 'self' data:; connect-src *; script-src *; frame-src *; form-action *; frame-ancestors 'none'; object-src 'none'; base-uri 'none'";
/// Nothing but its own parts; MQTT over WebSocket goes to other ports of whatever host the page came from.
const UI_POLICY: &str = "default-src 'self'; img-src 'self' data:; connect-src 'self' ws: wss:; frame-ancestors 'none'; object-src 'none'; base-uri 'none'; form-action 'self'";
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

/// The web UI at `/`, whose parts are below `/assets/`.
pub fn ui<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route(
            "/",
            get(|headers: HeaderMap| async move { page("ui/index.html", UI_POLICY, &headers) }),
        )
        .route(
            "/assets/{name}",
            get(|Path(name): Path<String>, headers: HeaderMap| async move {
                let mut response = page(&format!("ui/assets/{name}"), UI_POLICY, &headers);
                if response.status().is_success() {
                    // Its name has a hash of what it is.
                    let forever = HeaderValue::from_static("public, max-age=31536000, immutable");
                    response.headers_mut().insert(CACHE_CONTROL, forever);
                }
                response
            }),
        )
}

fn file(path: &str, asked: &HeaderMap) -> Response {
    page(path, POLICY, asked)
}

/// What the name of a file ends with that is kept compressed with gzip, and only so.
const PACKED: &str = ".gz";

/// The file as the browser takes it, and how it is compressed then. All browsers take gzip; for anything else it is unpacked.
fn coded(path: &str, asked: &HeaderMap) -> Option<(EmbeddedFile, Option<&'static str>)> {
    if let Some(file) = Files::get(path) {
        return Some((file, None));
    }
    let mut file = Files::get(&format!("{path}{PACKED}"))?;
    if takes_gzip(asked) {
        return Some((file, Some("gzip")));
    }
    let mut plain = Vec::new();
    GzDecoder::new(&*file.data).read_to_end(&mut plain).ok()?;
    file.data = Cow::Owned(plain);
    Some((file, None))
}

fn takes_gzip(asked: &HeaderMap) -> bool {
    let accepted = asked.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
    let codings = accepted.unwrap_or_default().split(',');
    codings.map(|coding| coding.split(';')).any(|mut parts| {
        let is_gzip = parts
            .next()
            .is_some_and(|name| name.trim().eq_ignore_ascii_case("gzip"));
        // RFC 9110 §12.4.2: a weight of 0 means that it is not acceptable.
        is_gzip && !parts.any(|weight| matches!(weight.trim(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

fn page(path: &str, policy: &'static str, asked: &HeaderMap) -> Response {
    let Some((EmbeddedFile { data, metadata }, coding)) = coded(path, asked) else {
        let told = if is_built() {
            "there is no such page\n"
        } else {
            NOT_BUILT
        };
        return (StatusCode::NOT_FOUND, told).into_response();
    };
    let hash = metadata.sha256_hash();
    let tag = u64::from_be_bytes(hash[..8].try_into().expect("it has 32 bytes"));
    let tag = match coding {
        Some(coding) => format!("\"{tag:016x}-{coding}\""),
        None => format!("\"{tag:016x}\""),
    };
    let headers = [
        (CONTENT_TYPE, content_type(path)),
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_SECURITY_POLICY, policy),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (VARY, "accept-encoding"),
        (ETAG, &*tag),
    ];
    if asked.get(IF_NONE_MATCH).is_some_and(|known| *known == *tag) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    let coding = coding.map(|coding| [(CONTENT_ENCODING, coding)]);
    match coding {
        Some(coding) => (headers, coding, data).into_response(),
        None => (headers, data).into_response(),
    }
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("json" | "webmanifest") => "application/json",
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

    /// What is kept compressed is the same for who takes it so and for who does not.
    #[test]
    fn a_packed_file_is_unpacked_for_who_does_not_take_gzip() {
        let Some(packed) = Files::iter().find(|name| name.ends_with(PACKED)) else {
            assert!(!is_built(), "the UI has no file that is kept compressed");
            return;
        };
        let path = packed.trim_end_matches(PACKED);
        let asked = |coding| HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(coding))]);
        let (small, coding) = coded(path, &asked("br, gzip;q=0.5")).unwrap();
        assert_eq!(coding, Some("gzip"));
        let (plain, coding) = coded(path, &asked("gzip;q=0, br")).unwrap();
        assert_eq!(coding, None);
        let mut unpacked = Vec::new();
        GzDecoder::new(&*small.data).read_to_end(&mut unpacked).unwrap();
        assert!(unpacked == *plain.data);
        assert!(plain.data.len() > small.data.len());
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
