//! `xhr`, `jsonp`, and how messages are sent beside them.

use crate::client::{Server, session};
use headgate_sockjs::Refusal;

const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

/// `Protocol.test_simpleSession`, `XhrPolling.test_transport`
#[tokio::test]
async fn xhr_opens_and_gets_a_frame_for_each_request() {
    let server = Server::echo().await;
    let path = session();
    let xhr = format!("{path}/xhr");
    let answer = server.ask("POST", &xhr, &[("Origin", "http://test")], "").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "o\n"));
    assert_eq!(
        answer.field("content-type"),
        Some("application/javascript; charset=UTF-8")
    );
    assert_eq!(answer.field("access-control-allow-origin"), Some("http://test"));
    assert_eq!(answer.field("access-control-allow-credentials"), Some("true"));
    assert_eq!(
        answer.field("cache-control"),
        Some("no-store, no-cache, no-transform, must-revalidate, max-age=0")
    );

    let answer = server.post(&format!("{path}/xhr_send"), r#"["x"]"#).await;
    assert_eq!((answer.status, answer.body.as_str()), (204, ""));
    assert_eq!(answer.field("content-type"), Some("text/plain; charset=UTF-8"));
    assert_eq!(server.post(&xhr, "").await.body, "a[\"x\"]\n");
}

/// `SessionURLs`: any value without dots; "A session is identified by only session_id."
#[tokio::test]
async fn the_server_part_is_ignored() {
    let server = Server::echo().await;
    assert_eq!(
        server.post("/abcdefgh_i-j%20/abcdefg_i-j%20/xhr", "").await.body,
        "o\n"
    );
    assert_eq!(server.post("/000/one/xhr", "").await.body, "o\n");
    assert_eq!(server.post("/111/one/xhr_send", r#"["a"]"#).await.status, 204);
    assert_eq!(server.post("/999/one/xhr", "").await.body, "a[\"a\"]\n");
    for path in ["//", "/a./a", "/a/a.", "/./.", "/", "///"] {
        assert_eq!(server.get(&format!("{path}/xhr")).await.status, 404, "{path}");
        assert_eq!(
            server.post(&format!("{path}/xhr"), "").await.status,
            404,
            "{path}"
        );
    }
}

/// `XhrPolling.test_invalid_session`, `test_invalid_json`, `test_sending_empty_frame`
#[tokio::test]
async fn what_is_no_list_of_messages_is_refused_and_harms_nothing() {
    let server = Server::echo().await;
    let nobody = server.post(&format!("{}/xhr_send", session()), r#"["x"]"#).await;
    assert_eq!(nobody.status, 404);
    assert_eq!(server.sockjs.refused(Refusal::UnknownSession), 1);

    let path = server.opened().await;
    let send = format!("{path}/xhr_send");
    for (body, text) in [
        ("[\"x", "Broken JSON encoding."),
        ("", "Payload expected."),
        ("{}", "Broken JSON encoding."),
    ] {
        let answer = server.post(&send, body).await;
        assert_eq!((answer.status, answer.body.as_str()), (500, text));
        assert_eq!(answer.field("access-control-allow-origin"), Some("*"));
    }
    assert_eq!(server.sockjs.refused(Refusal::Payload), 3);
    assert_eq!(server.post(&send, "[]").await.status, 204);
    assert_eq!(server.post(&send, r#"["a"]"#).await.status, 204);
    assert_eq!(server.post(&format!("{path}/xhr"), "").await.body, "a[\"a\"]\n");
}

/// `XhrPolling.test_content_types`
#[tokio::test]
async fn any_content_type_will_do() {
    let server = Server::echo().await;
    let path = server.opened().await;
    let types = [
        "text/plain",
        "T",
        "application/json",
        "application/xml",
        "",
        "text/xml; charset=utf-8",
    ];
    for content_type in types {
        let fields = [("Content-Type", content_type)];
        let answer = server
            .ask("POST", &format!("{path}/xhr_send"), &fields, r#"["a"]"#)
            .await;
        assert_eq!(answer.status, 204, "{content_type}");
    }
    let mut got = String::new();
    while got.matches("\"a\"").count() < types.len() {
        got += &server.post(&format!("{path}/xhr"), "").await.body;
    }
}

/// `JsonPolling.test_transport`
#[tokio::test]
async fn jsonp_calls_back() {
    let server = Server::echo().await;
    let path = session();
    let answer = server.get(&format!("{path}/jsonp?c=%63allback")).await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (200, "/**/callback(\"o\");\r\n")
    );
    assert_eq!(
        answer.field("content-type"),
        Some("application/javascript; charset=UTF-8")
    );
    assert!(answer.field("cache-control").unwrap().starts_with("no-store"));

    let send = format!("{path}/jsonp_send");
    let answer = server.ask("POST", &send, &[FORM], "d=%5B%22x%22%5D").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
    assert_eq!(answer.field("content-type"), Some("text/plain; charset=UTF-8"));
    assert!(answer.field("cache-control").unwrap().starts_with("no-store"));
    let answer = server.get(&format!("{path}/jsonp?c=%63allback")).await;
    assert_eq!(answer.body, "/**/callback(\"a[\\\"x\\\"]\");\r\n");
}

/// `JsonPolling.test_invalid_json`, `test_content_types`, `test_sending_empty_frame`
#[tokio::test]
async fn jsonp_sends_a_form_or_json() {
    let server = Server::echo().await;
    let path = server.opened().await;
    let send = format!("{path}/jsonp_send");
    for (body, text) in [
        ("d=%5B%22x", "Broken JSON encoding."),
        ("d=%5B%22%ff%22%5D", "Broken JSON encoding."),
        ("", "Payload expected."),
        ("d=", "Payload expected."),
        ("p=p", "Payload expected."),
    ] {
        let answer = server.ask("POST", &send, &[FORM], body).await;
        assert_eq!((answer.status, answer.body.as_str()), (500, text), "{body}");
    }
    assert_eq!(server.ask("POST", &send, &[FORM], "d=%5B%5D").await.body, "ok");
    assert_eq!(
        server.ask("POST", &send, &[FORM], "d=%5B%22a+c%22%5D").await.body,
        "ok"
    );
    let answer = server.get(&format!("{path}/jsonp?c=x")).await;
    assert_eq!(answer.body, "/**/x(\"a[\\\"a c\\\"]\");\r\n");
    let plain = ("Content-Type", "text/plain");
    assert_eq!(
        server.ask("POST", &send, &[plain], "[\"%61bc\"]").await.body,
        "ok"
    );
    let answer = server.get(&format!("{path}/jsonp?c=x")).await;
    assert_eq!(answer.body, "/**/x(\"a[\\\"%61bc\\\"]\");\r\n");
}

/// `test_no_callback`, `test_invalid_callback` of `JsonPolling` and `HtmlFile`
#[tokio::test]
async fn a_callback_is_wanted_and_looked_at() {
    let server = Server::echo().await;
    for transport in ["jsonp", "htmlfile"] {
        let answer = server.get(&format!("/a/a/{transport}")).await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (500, "\"callback\" parameter required")
        );
        for callback in ["%20", "*", "abc(", "abc%28", "%3Cscript%3E"] {
            let answer = server.get(&format!("/a/a/{transport}?c={callback}")).await;
            assert_eq!(
                (answer.status, answer.body.as_str()),
                (500, "invalid \"callback\" parameter")
            );
        }
    }
    assert_eq!(server.sockjs.refused(Refusal::Callback), 12);
    assert_eq!(server.sockjs.sessions(), 0);
}

/// `Protocol.test_closeSession`, `JsonPolling.test_close`
#[tokio::test]
async fn a_closed_session_says_so_each_time() {
    let server = Server::close().await;
    let path = server.opened().await;
    for _ in 0..2 {
        assert_eq!(
            server.post(&format!("{path}/xhr"), "").await.body,
            "c[3000,\"Go away!\"]\n"
        );
        let answer = server.get(&format!("{path}/jsonp?c=x")).await;
        assert_eq!(answer.body, "/**/x(\"c[3000,\\\"Go away!\\\"]\");\r\n");
    }
    assert_eq!(
        server.post(&format!("{path}/xhr_send"), r#"["a"]"#).await.status,
        404
    );
}

/// `JSONEncoding`: what browsers mangle comes back escaped; what a client escaped is understood.
#[tokio::test]
async fn text_survives_browsers() {
    let server = Server::echo().await;
    let path = server.opened().await;
    let mangled: String = ('\u{200c}'..='\u{200f}')
        .chain('\u{2028}'..='\u{202f}')
        .chain('\u{2060}'..='\u{206f}')
        .chain('\u{fff0}'..='\u{ffff}')
        .collect();
    let escaped: String = mangled
        .chars()
        .map(|c| format!("\\u{:04x}", u32::from(c)))
        .collect();
    for sent in [&mangled, &escaped] {
        let answer = server
            .post(&format!("{path}/xhr_send"), &format!("[\"{sent}\"]"))
            .await;
        assert_eq!(answer.status, 204);
        let answer = server.post(&format!("{path}/xhr"), "").await;
        assert_eq!(answer.body, format!("a[\"{escaped}\"]\n"));
    }
}
