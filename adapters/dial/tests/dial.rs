//! Connections that go out: through proxies, from chosen addresses, with what is reached on the way told.

use headgate_dial::{Bind, ClientTls, Dial, DialError, Step};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

fn dial(address: SocketAddr) -> Dial {
    Dial {
        target: format!("mqtt://{address}").parse().unwrap(),
        tls: ClientTls::default(),
        proxy: None,
        bind: None,
        way_out: None,
    }
}

/// A server that says to everybody from where they come.
async fn mirror() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, peer)) = listener.accept().await {
            stream.write_all(peer.ip().to_string().as_bytes()).await.unwrap();
        }
    });
    address
}

async fn heard(dial: &Dial, steps: &mut Vec<Step>) -> Result<String, DialError> {
    let dialed = dial.connect(&mut |step| steps.push(step)).await?;
    let mut words = String::new();
    dialed.into_stream().read_to_string(&mut words).await.unwrap();
    Ok(words)
}

#[tokio::test]
async fn the_way_is_told_and_our_address_can_be_chosen() {
    let server = mirror().await;
    let mut steps = Vec::new();
    let from = Dial {
        bind: Some(Bind::from("127.0.0.77")),
        ..dial(server)
    };
    assert_eq!(heard(&from, &mut steps).await.unwrap(), "127.0.0.77");
    assert_eq!(steps, [Step::Resolved(vec![server]), Step::Connected(server)]);
    let from = Dial {
        bind: Some(Bind::from("no-such-wire")),
        ..dial(server)
    };
    let error = heard(&from, &mut steps).await.unwrap_err();
    assert!(
        matches!(error, DialError::Connect { .. }) && error.passes(),
        "{error}"
    );
}

/// RFC 9110 §9.3.6: an answer of 2xx opens the way, every other one says why not.
#[tokio::test]
async fn an_http_proxy_passes_us_on_or_says_why_not() {
    let server = mirror().await;
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://ann:secret@{}", proxy.local_addr().unwrap());
    tokio::spawn(async move {
        for login in ["Basic YW5uOnNlY3JldA==", "none"] {
            let (mut client, _) = proxy.accept().await.unwrap();
            let mut head = vec![0; 1_000];
            let n = client.read(&mut head).await.unwrap();
            let head = String::from_utf8(head[..n].to_vec()).unwrap();
            assert!(
                head.starts_with(&format!("CONNECT {server} HTTP/1.1\r\n")),
                "{head}"
            );
            if head.contains(&format!("Proxy-Authorization: {login}\r\n")) {
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                let mut onward = TcpStream::connect(server).await.unwrap();
                tokio::io::copy_bidirectional(&mut client, &mut onward)
                    .await
                    .unwrap();
            } else {
                let no = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n";
                client.write_all(no).await.unwrap();
            }
        }
    });
    let through = Dial {
        proxy: Some(url.parse().unwrap()),
        ..dial(server)
    };
    let mut steps = Vec::new();
    assert_eq!(heard(&through, &mut steps).await.unwrap(), "127.0.0.1");
    assert_eq!(steps.last(), Some(&Step::Proxied));
    let error = heard(&through, &mut steps).await.unwrap_err().to_string();
    assert!(error.contains("407 Proxy Authentication Required"), "{error}");
    assert!(!error.contains("secret"), "{error}");
}

/// RFC 1928: method selection, CONNECT with the name, and the way is open.
#[tokio::test]
async fn a_socks_proxy_is_given_the_name_of_the_host() {
    let server = mirror().await;
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("socks5://{}", proxy.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut client, _) = proxy.accept().await.unwrap();
        let mut hello = [0; 3];
        client.read_exact(&mut hello).await.unwrap();
        assert_eq!(hello, [5, 1, 0]);
        client.write_all(&[5, 0]).await.unwrap();
        let mut request = [0; 5 + 9 + 2];
        client.read_exact(&mut request).await.unwrap();
        assert_eq!(
            (&request[..5], &request[5..14]),
            (&[5, 1, 0, 3, 9][..], &b"localhost"[..])
        );
        assert_eq!(u16::from_be_bytes([request[14], request[15]]), server.port());
        client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.unwrap();
        let mut onward = TcpStream::connect(server).await.unwrap();
        tokio::io::copy_bidirectional(&mut client, &mut onward)
            .await
            .unwrap();
    });
    let through = Dial {
        target: format!("mqtt://localhost:{}", server.port()).parse().unwrap(),
        proxy: Some(url.parse().unwrap()),
        ..dial(server)
    };
    assert_eq!(heard(&through, &mut Vec::new()).await.unwrap(), "127.0.0.1");
}
