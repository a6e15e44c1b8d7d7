//! Bytes over WebSocket frames, with a client that is not ours.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use headgate_shell::settings::WebSocketSettings;
use headgate_shell::{ListenerKind, ListenerSettings, Transport};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use crate::bench::{Bench, local, receives, sends, what_is_held_back_gets_through, within};
use crate::pki::{Authority, Files, client, connect_tls};

async fn upgrade<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> WebSocketStream<S> {
    let mut request = "ws://gate.example/mqtt".into_client_request().unwrap();
    request
        .headers_mut()
        .insert("Sec-WebSocket-Protocol", "mqtt".parse().unwrap());
    within(tokio_tungstenite::client_async(request, stream))
        .await
        .unwrap()
        .0
}

async fn open_with(websocket: WebSocketSettings) -> (Transport, WebSocketStream<TcpStream>) {
    let mut bench = Bench::start(ListenerSettings {
        kind: ListenerKind::Ws,
        websocket: Some(websocket),
        ..local()
    });
    let client = upgrade(bench.connect().await).await;
    (bench.next().await.transport, client)
}

async fn open() -> (Transport, WebSocketStream<TcpStream>) {
    open_with(WebSocketSettings::default()).await
}

fn frame(payload: &'static [u8], kind: Data, is_final: bool) -> Message {
    Message::Frame(Frame::message(payload, OpCode::Data(kind), is_final))
}

async fn next_message(client: &mut WebSocketStream<impl AsyncRead + AsyncWrite + Unpin>) -> Message {
    within(client.next()).await.unwrap().unwrap()
}

async fn close_code(client: &mut WebSocketStream<impl AsyncRead + AsyncWrite + Unpin>) -> CloseCode {
    let Message::Close(Some(close)) = next_message(client).await else {
        panic!("a Close frame is due")
    };
    close.code
}

/// A masked client frame, as bytes.
fn raw_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x11, 0x22, 0x33, 0x44];
    let masked = payload
        .iter()
        .zip(mask.iter().cycle())
        .map(|(byte, key)| byte ^ key);
    let length = 0x80 | u8::try_from(payload.len()).unwrap();
    [first, length].into_iter().chain(mask).chain(masked).collect()
}

/// Answers go out in binary frames. [MQTT-6.0.0-1] [3.1.1 MQTT-6.0.0-1]
#[tokio::test]
async fn bytes_go_both_ways_in_binary_frames() {
    let (mut transport, mut client) = open().await;
    client.send(Message::binary(&b"hello"[..])).await.unwrap();
    receives(&mut transport, b"hello").await;
    sends(&mut transport, b"world").await;
    assert_eq!(next_message(&mut client).await, Message::binary(&b"world"[..]));
}

/// The receiver must not assume that packets begin and end with frames. [MQTT-6.0.0-2] [3.1.1 MQTT-6.0.0-2]
#[tokio::test]
async fn a_packet_may_span_frames_and_a_frame_hold_several() {
    let (mut transport, mut client) = open().await;
    let parts = [
        frame(b"one", Data::Binary, true),       // a message of its own
        frame(b"", Data::Binary, true),          // nothing
        frame(b"two-", Data::Binary, false),     // a message in fragments
        Message::Ping(Bytes::from_static(b"?")), // with a ping in between
        frame(b"three", Data::Continue, false),
        frame(b"four", Data::Continue, true),
    ];
    for part in parts {
        client.send(part).await.unwrap();
    }
    receives(&mut transport, b"onetwo-threefour").await;
    assert_eq!(
        next_message(&mut client).await,
        Message::Pong(Bytes::from_static(b"?"))
    );
}

/// Every split of the stream gives the same bytes.
#[tokio::test]
async fn frames_may_come_byte_by_byte() {
    let (mut transport, client) = open().await;
    let mut socket = client.into_inner();
    socket.set_nodelay(true).unwrap();
    let payload: Vec<u8> = (0..100).collect();
    for byte in raw_frame(0x82, &payload) {
        socket.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    receives(&mut transport, &payload).await;
}

#[tokio::test]
async fn much_goes_both_ways_at_a_time() {
    const MUCH: usize = 4 * 1024 * 1024;
    let (mut transport, client) = open().await;
    let (mut sink, mut stream) = client.split();
    let data: Vec<u8> = (0..MUCH).map(|n| (n % 251) as u8).collect();
    let expected = data.clone();

    let sending = tokio::spawn({
        let data = data.clone();
        async move {
            for chunk in data.chunks(100_003) {
                sink.send(Message::binary(chunk.to_vec())).await.unwrap();
            }
            sink
        }
    });
    let receiving = tokio::spawn(async move {
        let mut got = Vec::new();
        while got.len() < MUCH {
            got.extend_from_slice(&stream.next().await.unwrap().unwrap().into_data());
        }
        assert!(got == expected);
        stream
    });
    let (mut out, mut buf) = (BytesMut::from(&data[..]), BytesMut::new());
    while buf.len() < MUCH || !out.is_empty() {
        within(transport.ready(Some(&mut out), Some(&mut buf)))
            .await
            .unwrap();
    }
    assert!(buf == data);
    within(transport.write(&mut out)).await.unwrap(); // what the frame layer still holds back
    let _both = within(async { (sending.await.unwrap(), receiving.await.unwrap()) }).await;
}

#[tokio::test]
async fn what_the_frame_layer_holds_back_gets_through_while_we_only_read() {
    let (transport, mut client) = open().await;
    what_is_held_back_gets_through(transport, |size| async move {
        let mut got = 0;
        while got < size {
            got += client.next().await.unwrap().unwrap().len();
        }
        client.send(Message::binary(&b"done"[..])).await.unwrap();
    })
    .await;
}

/// Anything but a binary frame closes the connection. [MQTT-6.0.0-1] [3.1.1 MQTT-6.0.0-1]
#[tokio::test]
async fn a_text_frame_closes_the_connection() {
    let (mut transport, mut client) = open().await;
    client.send(Message::binary(&b"before"[..])).await.unwrap();
    client
        .send(Message::Text(Utf8Bytes::from_static("hello")))
        .await
        .unwrap();

    receives(&mut transport, b"before").await;
    let error = within(transport.read(&mut BytesMut::new())).await.unwrap_err();
    assert!(error.to_string().contains("text"), "{error}");
    assert_eq!(close_code(&mut client).await, CloseCode::Unsupported);
    assert!(
        transport.write(&mut (&b"x"[..]).into()).await.is_err(),
        "nothing follows a Close frame"
    );
}

#[tokio::test]
async fn frames_that_rfc_6455_forbids_close_the_connection() {
    let cases: [(&str, Vec<u8>); 7] = [
        ("unmasked", vec![0x82, 0x01, b'x']),
        ("reserved bit", raw_frame(0xc2, b"x")),
        ("reserved opcode", raw_frame(0x83, b"x")),
        ("continuation of nothing", raw_frame(0x80, b"x")),
        (
            "message in a message",
            [raw_frame(0x02, b""), raw_frame(0x82, b"x")].concat(),
        ),
        ("ping in parts", raw_frame(0x09, b"x")),
        (
            "long ping",
            [&[0x89, 0xfe, 0x01, 0x00, 0, 0, 0, 0][..], &[0; 256]].concat(),
        ),
    ];
    for (what, bytes) in cases {
        let (mut transport, mut client) = open().await;
        client.get_mut().write_all(&bytes).await.unwrap();
        let read = within(transport.read(&mut BytesMut::new())).await;
        assert!(read.is_err(), "{what}: {read:?}");
        assert_eq!(close_code(&mut client).await, CloseCode::Protocol, "{what}");
    }
}

#[tokio::test]
async fn a_message_above_the_limit_closes_the_connection() {
    let limit = || WebSocketSettings {
        max_message_bytes: 8,
        ..WebSocketSettings::default()
    };
    let (mut transport, mut client) = open_with(limit()).await;
    client.send(Message::binary(&b"12345678"[..])).await.unwrap();
    receives(&mut transport, b"12345678").await;
    client.send(Message::binary(&b"123456789"[..])).await.unwrap();
    assert!(within(transport.read(&mut BytesMut::new())).await.is_err());
    assert_eq!(close_code(&mut client).await, CloseCode::Size);

    // Neither may it hide in fragments.
    let (mut transport, mut client) = open_with(limit()).await;
    client.send(frame(b"12345", Data::Binary, false)).await.unwrap();
    client.send(frame(b"6789", Data::Continue, true)).await.unwrap();
    receives(&mut transport, b"12345").await;
    assert!(within(transport.read(&mut BytesMut::new())).await.is_err());
    assert_eq!(close_code(&mut client).await, CloseCode::Size);
}

#[tokio::test]
async fn pings_are_answered_and_pongs_ignored() {
    let (mut transport, mut client) = open().await;
    client
        .send(Message::Pong(Bytes::from_static(b"unasked")))
        .await
        .unwrap();
    client
        .send(Message::Ping(Bytes::from_static(b"there?")))
        .await
        .unwrap();
    client.send(Message::binary(&b"x"[..])).await.unwrap();
    receives(&mut transport, b"x").await;
    assert_eq!(
        next_message(&mut client).await,
        Message::Pong(Bytes::from_static(b"there?"))
    );
}

#[tokio::test]
async fn the_peers_close_is_answered_and_ends_the_stream() {
    let (mut transport, mut client) = open().await;
    client.send(Message::binary(&b"last"[..])).await.unwrap();
    client.close(None).await.unwrap();
    receives(&mut transport, b"last").await;
    assert_eq!(within(transport.read(&mut BytesMut::new())).await.unwrap(), 0);
    let closing = tokio::spawn(transport.close(Duration::from_secs(60)));
    while let Some(message) = within(client.next()).await {
        assert!(message.unwrap().is_close());
    }
    drop(client);
    within(closing).await.unwrap();
}

#[tokio::test]
async fn close_sends_a_close_frame_behind_the_last_words() {
    let (mut transport, mut client) = open().await;
    sends(&mut transport, b"last words").await;
    let closing = tokio::spawn(transport.close(Duration::from_secs(60)));
    assert_eq!(
        next_message(&mut client).await,
        Message::binary(&b"last words"[..])
    );
    assert_eq!(close_code(&mut client).await, CloseCode::Normal);
    while within(client.next()).await.is_some() {}
    drop(client);
    within(closing).await.unwrap();
}

/// Bytes may follow the request at once.
#[tokio::test]
async fn frames_behind_the_request_are_not_lost() {
    let mut bench = Bench::start(ListenerSettings {
        kind: ListenerKind::Ws,
        ..local()
    });
    let mut socket = bench.connect().await;
    let request =
        b"GET /mqtt HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    socket
        .write_all(&[&request[..], &raw_frame(0x82, b"early")].concat())
        .await
        .unwrap();
    receives(&mut bench.next().await.transport, b"early").await;
}

#[tokio::test]
async fn websocket_runs_over_tls_too() {
    let ca = Authority::new("ca");
    let files = Files::with(&ca.server("gate.example"));
    let mut bench = Bench::start(ListenerSettings {
        kind: ListenerKind::Wss,
        tls: Some(files.settings()),
        ..local()
    });
    let stream = connect_tls(&bench, &client(&ca, None), "gate.example")
        .await
        .unwrap();
    let mut client = upgrade(stream).await;
    let mut connection = bench.next().await;
    assert!(connection.info.tls.is_some() && connection.info.http.is_some());

    client.send(Message::binary(&b"hello"[..])).await.unwrap();
    receives(&mut connection.transport, b"hello").await;
    sends(&mut connection.transport, b"world").await;
    assert_eq!(next_message(&mut client).await, Message::binary(&b"world"[..]));
}
