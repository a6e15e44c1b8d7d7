//! The URLs that have to do with no session, and what all answers have in common.

use crate::client::{Answer, Server, echo, session, settings};
use headgate_sockjs::{Refusal, SockJsSettings};

const NOT_CACHED: &str = "no-store, no-cache, no-transform, must-revalidate, max-age=0";

fn assert_not_cached(answer: &Answer) {
    assert_eq!(answer.field("cache-control"), Some(NOT_CACHED));
    assert_eq!(answer.field("expires"), None);
    assert_eq!(answer.field("last-modified"), None);
}

fn assert_cached(answer: &Answer) {
    assert_eq!(answer.field("cache-control"), Some("public, max-age=31536000"));
    assert!(answer.field("expires").is_some());
    assert_eq!(answer.field("last-modified"), None);
}

fn assert_shared(answer: &Answer, origin: Option<&str>) {
    assert_eq!(
        answer.field("access-control-allow-origin"),
        Some(origin.unwrap_or("*"))
    );
    assert_eq!(
        answer.field("access-control-allow-credentials"),
        origin.map(|_| "true")
    );
}

/// `BaseUrlGreeting`
#[tokio::test]
async fn the_base_says_welcome_and_unknown_urls_are_not_found() {
    let server = Server::echo().await;
    for path in ["", "/"] {
        let answer = server.get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.field("content-type"), Some("text/plain; charset=UTF-8"));
        assert_eq!(answer.field("set-cookie"), None);
        assert_eq!(answer.body, "Welcome to SockJS!\n");
    }
    let unknown = [
        "/a",
        "/a.html",
        "//",
        "///",
        "/a/a",
        "/a/a/",
        "/a/",
        "/a/a/unknown",
        "/a/a/xhr/",
    ];
    for path in unknown {
        assert_eq!(server.get(path).await.status, 404, "{path}");
    }
    assert_eq!(server.sockjs.refused(Refusal::NotFound), unknown.len() as u64);
}

/// `IframePage`
#[tokio::test]
async fn the_iframe_page_loads_the_client_and_is_cached() {
    let server = Server::echo().await;
    for path in [
        "/iframe.html",
        "/iframe-.html",
        "/iframe-0.1.2abc-dirty.2144.html",
        "/iframe-a.html?t=1234",
    ] {
        let answer = server.get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.field("content-type"), Some("text/html; charset=UTF-8"));
        assert_cached(&answer);
        assert!(answer.body.starts_with("<!DOCTYPE html>\n<html>\n<head>\n"));
        assert!(
            answer
                .body
                .contains("\n  <script src=\"/static/sockjs.js\"></script>\n")
        );
        assert!(answer.body.ends_with("</html>"));
        let etag = answer.field("etag").expect("a tag");
        for tags in [etag.to_owned(), format!("\"other\", W/{etag}")] {
            let again = server.ask("GET", path, &[("If-None-Match", &tags)], "").await;
            assert_eq!((again.status, again.body.as_str()), (304, ""));
            assert_eq!(again.field("content-type"), None);
        }
    }
    for path in [
        "/iframe.htm",
        "/iframe",
        "/IFRAME.HTML",
        "/iframe.HTML",
        "/iframe.xml",
        "/iframe-/.html",
    ] {
        assert_eq!(server.get(path).await.status, 404, "{path}");
    }
}

/// The client that the page loads may come from the service itself.
#[tokio::test]
async fn the_client_is_served_if_there_is_one() {
    let server = Server::echo().await;
    assert_eq!(server.get("/sockjs.min.js").await.status, 404);
    let with_client = SockJsSettings {
        client_url: SockJsSettings::OWN_CLIENT.into(),
        client: Some("SockJS={}".into()),
        ..settings()
    };
    let server = Server::new(with_client, echo).await;
    let page = server.get("/iframe.html").await;
    assert!(page.body.contains("<script src=\"sockjs.min.js\"></script>"));
    let client = server.get("/sockjs.min.js").await;
    assert_eq!((client.status, client.body.as_str()), (200, "SockJS={}"));
    assert_eq!(
        client.field("content-type"),
        Some("application/javascript; charset=UTF-8")
    );
    let etag = client.field("etag").expect("a tag");
    let again = server
        .ask("GET", "/sockjs.min.js", &[("If-None-Match", etag)], "")
        .await;
    assert_eq!((again.status, again.body.as_str()), (304, ""));
}

/// `InfoTest`
#[tokio::test]
async fn info_says_what_the_service_can_and_is_a_source_of_entropy() {
    let server = Server::echo().await;
    let answer = server.ask("GET", "/info", &[("Origin", "http://test")], "").await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.field("content-type"),
        Some("application/json; charset=UTF-8")
    );
    assert_not_cached(&answer);
    assert_shared(&answer, Some("http://test"));

    let info = |body: &str| serde_json::from_str::<serde_json::Value>(body).unwrap();
    let first = info(&answer.body);
    assert_eq!(first["websocket"], true);
    assert_eq!(first["cookie_needed"], false);
    assert_eq!(first["origins"], serde_json::json!(["*:*"]));
    assert!(u32::try_from(first["entropy"].as_u64().unwrap()).is_ok());
    let second = info(&server.get("/info").await.body);
    assert_ne!(first["entropy"], second["entropy"]);

    let without = SockJsSettings {
        websocket: false,
        ..settings()
    };
    let server = Server::new(without, echo).await;
    assert_eq!(info(&server.get("/info").await.body)["websocket"], false);
    assert_eq!(server.get("/websocket").await.status, 404);
    assert_eq!(server.get("/0/0/websocket").await.status, 404);
}

/// `verify_options`, `test_request_headers_cors`, `test_options_null_origin`
#[tokio::test]
async fn preflights_are_answered_and_cached() {
    let server = Server::echo().await;
    for (path, methods) in [
        ("/info", "OPTIONS, GET"),
        ("/abc/abc/xhr", "OPTIONS, POST"),
        ("/abc/abc/xhr_send", "OPTIONS, POST"),
        ("/abc/abc/xhr_streaming", "OPTIONS, POST"),
    ] {
        for origin in ["http://test", "null"] {
            let fields = [("Origin", origin), ("Access-Control-Request-Method", "POST")];
            let answer = server.ask("OPTIONS", path, &fields, "").await;
            assert_eq!((answer.status, answer.body.as_str()), (204, ""), "{path}");
            assert_cached(&answer);
            assert_shared(&answer, Some(origin));
            assert_eq!(answer.field("access-control-max-age"), Some("31536000"));
            assert_eq!(answer.field("access-control-allow-methods"), Some(methods));
            assert_eq!(answer.field("access-control-allow-headers"), None);
        }
    }
    for (asked, allowed) in [("a, b, c", Some("a, b, c")), ("", None)] {
        let fields = [("Origin", "test"), ("Access-Control-Request-Headers", asked)];
        let answer = server.ask("OPTIONS", "/0/0/xhr", &fields, "").await;
        assert_eq!(answer.field("access-control-allow-headers"), allowed);
    }
    assert_eq!(server.sockjs.sessions(), 0);
}

/// `verify405`: "In some cases 405/method not allowed is more appropriate."
#[tokio::test]
async fn other_methods_are_told_which_there_are() {
    let server = Server::echo().await;
    for (method, path, allow) in [
        ("POST", "", "GET, HEAD"),
        ("POST", "/iframe.html", "GET, HEAD"),
        ("POST", "/info", "OPTIONS, GET, HEAD"),
        ("POST", "/websocket", "GET"),
        ("POST", "/0/0/websocket", "GET"),
        ("GET", "/0/0/xhr", "OPTIONS, POST"),
        ("GET", "/0/0/xhr_send", "OPTIONS, POST"),
        ("PUT", "/0/0/xhr_streaming", "OPTIONS, POST"),
        ("POST", "/0/0/eventsource", "GET"),
        ("HEAD", "/0/0/htmlfile", "GET"),
        ("DELETE", "/0/0/jsonp", "GET"),
        ("GET", "/0/0/jsonp_send", "POST"),
    ] {
        let answer = server.ask(method, path, &[], "").await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (405, ""),
            "{method} {path}"
        );
        assert_eq!(answer.field("allow"), Some(allow), "{path}");
        assert_eq!(answer.field("content-type"), None);
    }
}

/// `JsessionidCookie`: "User of a sockjs server must be able to opt-in [...] and set this cookie for all the session urls."
#[tokio::test]
async fn the_cookie_of_load_balancers_is_set_for_sessions_only() {
    let with_cookie = SockJsSettings {
        cookie_needed: true,
        ..settings()
    };
    let server = Server::new(with_cookie, echo).await;
    assert_eq!(server.get("/info").await.field("set-cookie"), None);
    assert!(server.get("/info").await.body.contains("\"cookie_needed\":true"));

    for (method, path) in [
        ("POST", "/xhr"),
        ("POST", "/xhr_send"),
        ("POST", "/xhr_streaming"),
        ("GET", "/eventsource"),
        ("GET", "/htmlfile?c=%63allback"),
        ("GET", "/jsonp?c=%63allback"),
        ("POST", "/jsonp_send"),
    ] {
        for (sent, expected) in [
            ("", "JSESSIONID=dummy; path=/"),
            ("a=b; JSESSIONID=abcdef; c=d", "JSESSIONID=abcdef; path=/"),
            ("JSESSIONID=a\"b", "JSESSIONID=dummy; path=/"),
        ] {
            let path = session() + path;
            let answer = server
                .begin(method, &path, &[("Cookie", sent)], "")
                .await
                .head()
                .await;
            assert_eq!(answer.field("set-cookie"), Some(expected), "{path}");
        }
    }
}

/// `Http10.test_synchronous` and `Http11.test_synchronous`
#[tokio::test]
async fn connections_are_kept_as_their_version_says() {
    let server = Server::echo().await;
    for (version, wish) in [("1.0", "Connection: Keep-Alive\r\n"), ("1.1", "")] {
        let request = format!("GET /sockjs HTTP/{version}\r\nHost: test\r\n{wish}\r\n");
        let mut connection = server.raw(&request).await;
        for _ in 0..2 {
            let head = connection.head().await;
            assert_eq!(head.field("content-length"), Some("19"));
            assert_eq!(head.field("transfer-encoding"), None);
            assert_eq!(connection.take(19).await, "Welcome to SockJS!\n");
            connection.send(request.as_bytes()).await;
        }
    }
    let mut connection = server.raw("GET /sockjs HTTP/1.0\r\n\r\n").await;
    assert!(connection.rest().await.ends_with("\r\n\r\nWelcome to SockJS!\n"));
}

/// Scripts and pages that carry foreign content are taken for what they are said to be, and nothing is compressed.
#[tokio::test]
async fn types_are_not_guessed_and_nothing_is_compressed() {
    let server = Server::echo().await;
    let fields = [("Accept-Encoding", "gzip, deflate, br")];
    let paths = [
        "",
        "/none",
        "/info",
        "/iframe.html",
        "/0/0/jsonp?c=x",
        "/0/1/jsonp",
        "/0/2/eventsource",
        "/0/3/htmlfile?c=x",
    ];
    for path in paths {
        let answer = server.begin("GET", path, &fields, "").await.head().await;
        assert_eq!(answer.field("content-encoding"), None, "{path}");
        if answer.status != 404 {
            assert_eq!(answer.field("x-content-type-options"), Some("nosniff"), "{path}");
        }
    }
}
