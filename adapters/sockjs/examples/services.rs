//! The services that the official protocol tests want: `cargo run -p headgate-sockjs --example services [ADDRESS]`, then run the test file against it.

use axum::Router;
use axum::http::request::Parts;
use headgate_sockjs::{Ended, Session, SettingsFault, SockJs, SockJsSettings};
use std::net::SocketAddr;
use tokio::net::TcpListener;

#[tokio::main]
#[allow(clippy::print_stdout, reason = "says where it listens")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8081".into());
    let listener = TcpListener::bind(&address).await?;
    println!("http://{}/echo", listener.local_addr()?);
    let services = services()?.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, services).await?;
    Ok(())
}

fn services() -> Result<Router, SettingsFault> {
    let settings = SockJsSettings {
        client_url: "/static/sockjs.js".into(),
        response_limit_bytes: 4096,
        ..SockJsSettings::default()
    };
    let without_websocket = SockJsSettings {
        websocket: false,
        ..settings.clone()
    };
    let with_cookie = SockJsSettings {
        cookie_needed: true,
        ..settings.clone()
    };
    Ok(Router::new()
        .merge(SockJs::new(settings.clone(), echo)?.router("/echo"))
        .merge(SockJs::new(without_websocket, echo)?.router("/disabled_websocket_echo"))
        .merge(SockJs::new(with_cookie, echo)?.router("/cookie_needed_echo"))
        .merge(SockJs::new(settings, close)?.router("/close")))
}

/// Sends back what it gets.
fn echo(mut session: Session, _: Parts) {
    tokio::spawn(async move {
        while let Some(message) = session.recv().await {
            if session.send(message).await.is_err() {
                return;
            }
        }
    });
}

/// Is done at once.
fn close(mut session: Session, _: Parts) {
    session.close(Ended::GO_AWAY);
}
