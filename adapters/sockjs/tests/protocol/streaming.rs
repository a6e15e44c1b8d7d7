//! `xhr_streaming`, `eventsource` and `htmlfile`: many frames in one answer. And how receivers end.

use crate::client::{Server, echo, session, settings, until};
use headgate_sockjs::{Refusal, SockJsSettings};
use std::time::Duration;

const REFUSED: &str = "c[2010,\"Another connection still open\"]\n";

/// `XhrStreaming.test_transport`, `Http11.test_streaming`: each frame is a chunk of its own.
#[tokio::test]
async fn xhr_streaming_begins_with_a_prelude() {
    let server = Server::echo().await;
    let path = session();
    let mut stream = server
        .begin("POST", &format!("{path}/xhr_streaming"), &[], "")
        .await;
    let head = stream.head().await;
    assert_eq!(
        head.field("content-type"),
        Some("application/javascript; charset=UTF-8")
    );
    assert_eq!(head.field("transfer-encoding"), Some("chunked"));
    assert_eq!(head.field("content-length"), None);
    assert_eq!(stream.chunk().await, "h".repeat(2048) + "\n");
    assert_eq!(stream.chunk().await, "o\n");
    for message in ["x", "y"] {
        let answer = server
            .post(&format!("{path}/xhr_send"), &format!("[\"{message}\"]"))
            .await;
        assert_eq!(answer.status, 204);
        assert_eq!(stream.chunk().await, format!("a[\"{message}\"]\n"));
    }
}

/// `EventSource.test_transport`
#[tokio::test]
async fn eventsource_sends_events() {
    let server = Server::echo().await;
    let path = session();
    let mut stream = server.begin("GET", &format!("{path}/eventsource"), &[], "").await;
    let head = stream.head().await;
    assert_eq!(head.field("content-type"), Some("text/event-stream"));
    assert!(head.field("cache-control").unwrap().starts_with("no-store"));
    assert_eq!(stream.chunk().await, "\r\n");
    assert_eq!(stream.chunk().await, "data: o\r\n\r\n");
    server
        .post(&format!("{path}/xhr_send"), r#"["  \u0000\n\r "]"#)
        .await;
    assert_eq!(stream.chunk().await, "data: a[\"  \\u0000\\n\\r \"]\r\n\r\n");
}

/// `HtmlFile.test_transport`; and no message ends the script around it.
#[tokio::test]
async fn htmlfile_sends_scripts() {
    let server = Server::echo().await;
    let path = session();
    let mut stream = server
        .begin("GET", &format!("{path}/htmlfile?c=%63allback"), &[], "")
        .await;
    let head = stream.head().await;
    assert_eq!(head.field("content-type"), Some("text/html; charset=UTF-8"));
    let page = stream.chunk().await;
    assert!(page.len() > 1024);
    assert!(page.starts_with("<!doctype html>\n<html><head>\n"));
    assert!(page.contains("\n    var c = parent.callback;\n"));
    assert!(page.trim_end().ends_with("\n  </script>"));
    assert_eq!(stream.chunk().await, "<script>\np(\"o\");\n</script>\r\n");
    server.post(&format!("{path}/xhr_send"), r#"["x"]"#).await;
    assert_eq!(
        stream.chunk().await,
        "<script>\np(\"a[\\\"x\\\"]\");\n</script>\r\n"
    );
    server.post(&format!("{path}/xhr_send"), r#"["</script>"]"#).await;
    assert_eq!(
        stream.chunk().await,
        "<script>\np(\"a[\\\"\\u003c/script\\u003e\\\"]\");\n</script>\r\n"
    );
}

/// `test_response_limit` of all three: 4096 bytes of frames, then the client asks again.
#[tokio::test]
async fn an_answer_ends_when_enough_was_sent() {
    let server = Server::echo().await;
    let path = session();
    let mut stream = server.stream("POST", &format!("{path}/xhr_streaming")).await;
    stream.chunk().await;
    assert_eq!(stream.chunk().await, "o\n");
    let message = format!("\"{}\"", "x".repeat(128));
    for _ in 0..31 {
        server
            .post(&format!("{path}/xhr_send"), &format!("[{message}]"))
            .await;
        assert_eq!(stream.chunk().await, format!("a[{message}]\n"));
    }
    assert_eq!(stream.chunk().await, "");

    for transport in ["eventsource", "htmlfile?c=x"] {
        let path = session();
        let mut stream = server.stream("GET", &format!("{path}/{transport}")).await;
        stream.chunk().await;
        stream.chunk().await;
        server
            .post(
                &format!("{path}/xhr_send"),
                &format!("[\"{}\"]", "x".repeat(4096)),
            )
            .await;
        assert!(stream.chunk().await.contains(&"x".repeat(4096)));
        assert_eq!(stream.chunk().await, "");
        // The session goes on.
        server.post(&format!("{path}/xhr_send"), r#"["y"]"#).await;
        assert_eq!(server.post(&format!("{path}/xhr"), "").await.body, "a[\"y\"]\n");
    }
}

/// "The server must send a heartbeat frame every 25 seconds. [...] This delay may be configurable."
#[tokio::test]
async fn silence_is_broken_by_heartbeats() {
    let fast = SockJsSettings {
        heartbeat: Duration::from_millis(20),
        ..settings()
    };
    let server = Server::new(fast, echo).await;
    let path = session();
    let mut stream = server.stream("POST", &format!("{path}/xhr_streaming")).await;
    stream.chunk().await;
    for frame in ["o\n", "h\n", "h\n"] {
        assert_eq!(stream.chunk().await, frame);
    }
    let path = server.opened().await;
    assert_eq!(server.post(&format!("{path}/xhr"), "").await.body, "h\n");
}

/// `HandlingClose.test_close_frame`, and `Http10.test_streaming`: without chunks, the end of the connection is that of the answer.
#[tokio::test]
async fn a_close_frame_ends_the_answer() {
    let server = Server::close().await;
    let path = session();
    for frames in [
        &["o\n", "c[3000,\"Go away!\"]\n"][..],
        &["c[3000,\"Go away!\"]\n"],
    ] {
        let mut stream = server.stream("POST", &format!("{path}/xhr_streaming")).await;
        stream.chunk().await;
        for frame in frames {
            assert_eq!(stream.chunk().await, *frame);
        }
        assert_eq!(stream.chunk().await, "");
    }

    let path = session();
    let request = format!(
        "POST /sockjs{path}/xhr_streaming HTTP/1.0\r\nConnection: Keep-Alive\r\nContent-Length: 0\r\n\r\n"
    );
    let mut stream = server.raw(&request).await;
    let head = stream.head().await;
    assert_eq!(head.field("transfer-encoding"), None);
    assert_eq!(head.field("content-length"), None);
    assert_eq!(
        stream.rest().await,
        "h".repeat(2048) + "\no\nc[3000,\"Go away!\"]\n"
    );
}

/// `HandlingClose.test_close_request`, `Protocol.test_simpleSession`
#[tokio::test]
async fn a_second_receiver_is_refused() {
    let server = Server::echo().await;
    let path = session();
    let mut first = server.stream("POST", &format!("{path}/xhr_streaming")).await;
    first.chunk().await;
    assert_eq!(first.chunk().await, "o\n");

    let mut second = server.stream("POST", &format!("{path}/xhr_streaming")).await;
    second.chunk().await;
    assert_eq!(second.chunk().await, REFUSED);
    assert_eq!(second.chunk().await, "");
    assert_eq!(server.post(&format!("{path}/xhr"), "").await.body, REFUSED);
    assert_eq!(server.sockjs.refused(Refusal::AnotherReceiver), 2);

    server.post(&format!("{path}/xhr_send"), r#"["x"]"#).await;
    assert_eq!(first.chunk().await, "a[\"x\"]\n");
}

/// `HandlingClose.test_abort_xhr_streaming`, `test_abort_xhr_polling`
#[tokio::test]
async fn an_interrupted_answer_ends_the_session() {
    let server = Server::echo().await;
    let path = session();
    let mut streaming = server.stream("POST", &format!("{path}/xhr_streaming")).await;
    streaming.chunk().await;
    assert_eq!(streaming.chunk().await, "o\n");
    drop(streaming);
    interrupted(&server, &path).await;

    let path = server.opened().await;
    // One of two waits, whichever came first; the other is told so.
    let mut one = server.begin("POST", &format!("{path}/xhr"), &[], "").await;
    let mut two = server.begin("POST", &format!("{path}/xhr"), &[], "").await;
    let (mut refused, waiting) = tokio::select! {
        _ = one.head() => (one, two),
        _ = two.head() => (two, one),
    };
    assert_eq!(refused.take(REFUSED.len()).await, REFUSED);
    drop(waiting);
    interrupted(&server, &path).await;
}

/// Waits until the server has noticed.
async fn interrupted(server: &Server, path: &str) {
    while server.post(&format!("{path}/xhr_send"), "[]").await.status == 204 {}
    let answer = server.post(&format!("{path}/xhr"), "").await;
    assert_eq!(answer.body, "c[1002,\"Connection interrupted\"]\n");
}

/// "The session must time out after 5 seconds of not having a receiving connection."
#[tokio::test]
async fn a_session_goes_with_its_last_receiver() {
    let short = SockJsSettings {
        session_timeout: Duration::from_millis(20),
        ..settings()
    };
    let server = Server::new(short, echo).await;
    let path = server.opened().await;
    until(|| server.sockjs.sessions() == 0).await;
    assert_eq!(
        server.post(&format!("{path}/xhr_send"), r#"["a"]"#).await.status,
        404
    );
    assert_eq!(server.post(&format!("{path}/xhr"), "").await.body, "o\n");
}
