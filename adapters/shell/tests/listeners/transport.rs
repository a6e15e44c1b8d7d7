//! What holds for every transport.

use std::future::Future;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::BytesMut;
use headgate_shell::{Progress, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::bench::{Bench, is_closed, local, receives, within};

#[tokio::test]
async fn an_idle_connection_holds_no_read_buffer() {
    let mut bench = Bench::start(local());
    let mut client = bench.connect().await;
    let mut transport = bench.next().await.transport;

    let mut buf = BytesMut::new();
    {
        let mut read = std::pin::pin!(transport.read(&mut buf));
        assert!(
            read.as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
                .is_pending()
        );
    }
    assert_eq!(buf.capacity(), 0);
    assert_eq!(transport.try_read(&mut buf).unwrap(), None);
    assert_eq!(buf.capacity(), 0);

    client.write_all(b"hello").await.unwrap();
    assert_eq!(within(transport.read(&mut buf)).await.unwrap(), 5);
}

/// Both sides write much more than the system holds before either reads: only who reads while it writes gets
/// through.
#[tokio::test]
async fn reading_goes_on_while_the_peer_does_not_read() {
    const MUCH: usize = 8 * 1024 * 1024;
    let mut bench = Bench::start(local());
    let mut client = bench.connect().await;
    let mut transport = bench.next().await.transport;

    let peer = tokio::spawn(async move {
        client.write_all(&vec![1; MUCH]).await.unwrap(); // only then
        let mut answer = vec![0; MUCH];
        client.read_exact(&mut answer).await.unwrap();
        assert!(answer.iter().all(|byte| *byte == 2));
    });
    let mut out = BytesMut::from(&vec![2; MUCH][..]);
    let (mut buf, mut read, mut written) = (BytesMut::new(), 0, 0);
    while read < MUCH || written < MUCH {
        let write = (!out.is_empty()).then_some(&mut out);
        let progress = within(transport.ready(write, Some(&mut buf))).await.unwrap();
        assert_ne!(progress, Progress::default());
        read += progress.read.unwrap_or(0);
        written += progress.written;
        buf.clear();
    }
    within(peer).await.unwrap();
}

#[tokio::test]
async fn what_a_dropped_write_took_is_neither_lost_nor_sent_twice() {
    let (mut transport, mut peer) = Transport::memory(64);
    let message: Vec<u8> = (0..=255).collect();
    let mut out = BytesMut::from(&message[..]);
    {
        let mut write = std::pin::pin!(transport.write(&mut out));
        assert!(
            write
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
                .is_pending()
        );
    }
    assert_eq!(out.len(), message.len() - 64);

    let reader = tokio::spawn(async move {
        let mut all = vec![0; 256];
        peer.read_exact(&mut all).await.unwrap();
        all
    });
    within(transport.write(&mut out)).await.unwrap();
    assert_eq!(within(reader).await.unwrap(), message);
}

#[tokio::test]
async fn the_peers_last_words_come_before_a_write_error() {
    let (mut transport, mut peer) = Transport::memory(64);
    peer.write_all(b"bye").await.unwrap();
    drop(peer);

    let (mut out, mut buf) = (BytesMut::from(&b"x"[..]), BytesMut::new());
    let progress = within(transport.ready(Some(&mut out), Some(&mut buf)))
        .await
        .unwrap();
    assert_eq!((progress.read, &buf[..]), (Some(3), &b"bye"[..]));
    let end = within(transport.ready(Some(&mut out), Some(&mut buf))).await;
    assert!(
        matches!(end, Ok(Progress { read: Some(0), .. }) | Err(_)),
        "{end:?}"
    );
}

/// Bytes that still come when we close must not reset the connection before our last words are read.
#[tokio::test]
async fn close_lets_the_peer_read_our_last_words() {
    let mut bench = Bench::start(local());
    let mut client = bench.connect().await;
    let mut transport = bench.next().await.transport;
    client.write_all(&[0; 1000]).await.unwrap();
    within(transport.write(&mut (&b"last words"[..]).into()))
        .await
        .unwrap();
    let closing = tokio::spawn(transport.close(Duration::from_secs(60)));

    let mut heard = Vec::new();
    within(client.read_to_end(&mut heard)).await.unwrap();
    assert_eq!(heard, b"last words");
    assert!(!closing.is_finished()); // it waits for us
    drop(client);
    within(closing).await.unwrap();
}

#[tokio::test]
async fn close_waits_no_longer_than_it_is_told() {
    let mut bench = Bench::start(local());
    let mut client = bench.connect().await;
    let transport = bench.next().await.transport;
    within(transport.close(Duration::from_millis(10))).await; // the client stays
    is_closed(&mut client).await;
}

#[tokio::test]
async fn a_memory_transport_is_a_transport() {
    let (mut connection, mut peer) = headgate_shell::Connection::memory("test", 1024);
    peer.write_all(b"hello").await.unwrap();
    receives(&mut connection.transport, b"hello").await;
    drop(peer);
    assert_eq!(connection.transport.read(&mut BytesMut::new()).await.unwrap(), 0);
}
