//! Whose session it is, and which sites may use the service.

use crate::client::{Server, echo, settings};
use headgate_sockjs::{Refusal, SockJsSettings};

/// An id is no secret that all depends on: from another browser it names another session.
#[tokio::test]
async fn another_client_finds_nothing_under_the_same_id() {
    let server = Server::echo().await;
    let mine = [("User-Agent", "mine")];
    let other = [("User-Agent", "other")];
    let ask = async |path, agent: &[(&str, &str)], body| server.ask("POST", path, agent, body).await;
    assert_eq!(ask("/0/id/xhr", &mine, "").await.body, "o\n");
    assert_eq!(ask("/0/id/xhr_send", &other, "[\"a\"]").await.status, 404);
    // It gets a session of its own, and the first one is as it was.
    assert_eq!(ask("/0/id/xhr", &other, "").await.body, "o\n");
    assert_eq!(ask("/0/id/xhr_send", &mine, "[\"b\"]").await.status, 204);
    assert_eq!(ask("/0/id/xhr", &mine, "").await.body, "a[\"b\"]\n");
    assert_eq!(server.sockjs.sessions(), 2);
}

/// A page of another site in the same browser gets neither at the messages nor into the session.
#[tokio::test]
async fn another_origin_is_kept_out_of_a_session() {
    let server = Server::echo().await;
    let mine = [("Origin", "https://mine.example")];
    let other = [("Origin", "https://other.example")];
    assert_eq!(server.ask("POST", "/0/id/xhr", &mine, "").await.body, "o\n");
    for (method, path) in [
        ("POST", "/0/id/xhr"),
        ("POST", "/0/id/xhr_send"),
        ("GET", "/0/id/eventsource"),
        ("POST", "/0/id/jsonp_send"),
    ] {
        assert_eq!(
            server.ask(method, path, &other, "[\"a\"]").await.status,
            403,
            "{path}"
        );
    }
    assert_eq!(server.sockjs.refused(Refusal::ForeignSession), 4);
    // Browsers leave it out of a GET that is not for another site.
    assert_eq!(server.post("/0/id/xhr_send", "[\"a\"]").await.status, 204);
    assert_eq!(
        server.ask("POST", "/0/id/xhr", &mine, "").await.body,
        "a[\"a\"]\n"
    );
}

/// The origin is bound by the first request that names one, which need not be the first.
#[tokio::test]
async fn a_session_opened_without_origin_gets_one_later() {
    let server = Server::echo().await;
    let path = server.opened().await;
    let send = format!("{path}/xhr_send");
    assert_eq!(
        server
            .ask("POST", &send, &[("Origin", "https://mine.example")], "[]")
            .await
            .status,
        204
    );
    assert_eq!(
        server
            .ask("POST", &send, &[("Origin", "https://other.example")], "[]")
            .await
            .status,
        403
    );
}

/// Cookies are sent by browsers whichever site asks, so who relies on them says which sites may.
#[tokio::test]
async fn only_the_origins_of_the_settings_may_use_the_service() {
    let chosen = SockJsSettings {
        origins: vec!["https://mine.example".into()],
        ..settings()
    };
    let server = Server::new(chosen, echo).await;
    let status = async |method: &str, path: &str, fields: &[(&str, &str)]| {
        let answer = server.begin(method, path, fields, "").await.head().await;
        let shared = answer.field("access-control-allow-origin").map(str::to_owned);
        (answer.status, shared)
    };
    let mine = ("Origin", "https://mine.example");
    assert_eq!(
        status("POST", "/0/1/xhr", &[mine]).await,
        (200, Some(mine.1.into()))
    );
    assert_eq!(status("POST", "/0/2/xhr", &[]).await.0, 200);
    assert_eq!(
        status("POST", "/0/3/xhr", &[("Origin", "null")]).await,
        (403, None)
    );
    for (method, path) in [
        ("GET", "/info"),
        ("OPTIONS", "/0/4/xhr"),
        ("POST", "/0/4/xhr"),
        ("GET", "/0/4/websocket"),
    ] {
        assert_eq!(
            status(method, path, &[("Origin", "https://other.example")]).await,
            (403, None),
            "{path}"
        );
    }
    // A script element sends no origin, but tells that it stands in another site's page.
    for (site, expected) in [
        ("same-origin", 200),
        ("none", 200),
        ("same-site", 403),
        ("cross-site", 403),
    ] {
        let path = format!("/0/of-{site}/jsonp?c=x");
        assert_eq!(
            status("GET", &path, &[("Sec-Fetch-Site", site)]).await.0,
            expected,
            "{site}"
        );
    }
    // Our page speaks under our own origin, so it is told in whose pages it may stand.
    let page = server.get("/iframe.html").await;
    assert_eq!(
        page.field("content-security-policy"),
        Some("frame-ancestors 'self' https://mine.example")
    );
    assert_eq!(server.sockjs.refused(Refusal::Origin), 7);
}
