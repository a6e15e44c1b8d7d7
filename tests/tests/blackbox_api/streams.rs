//! Streams of server-sent events.

use crate::*;

/// A stream of server-sent events: each event's name and data.
struct Stream(BufReader<TcpStream>);

impl Stream {
    fn open(daemon: &Daemon<'_>, path: &str, headers: &str) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", daemon.port_of("http"))).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: gateway\r\n{headers}\r\n").unwrap();
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert!(line.contains(" 200 "), "{line}");
        while line.trim() != "" {
            line.clear();
            reader.read_line(&mut line).unwrap();
        }
        Self(reader)
    }

    /// `None` at the end.
    fn next(&mut self) -> Option<(String, Value)> {
        let mut event = String::new();
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            if let Some(name) = line.strip_prefix("event: ") {
                name.trim().clone_into(&mut event);
            } else if let Some(data) = line.strip_prefix("data: ") {
                return Some((event, serde_json::from_str(data).unwrap()));
            }
        }
    }

    fn until(&mut self, wanted: &str) -> Value {
        loop {
            let (event, data) = self.next().expect("the stream goes on");
            if event == wanted {
                return data;
            }
        }
    }
}

#[test]
fn events_tell_what_happens_and_end_with_the_key() {
    let setup = setup();
    let daemon = setup.start();
    set_up(&daemon);
    let (_, header) = key_and_header(&daemon, "viewer");
    let mut events = Stream::open(&daemon, "/api/v1/events?kinds=presence,log", &header);
    let port = daemon.port(Transport::Tcp);
    let (peer, _) = Peer::connect(port, "pump-7", true, 0).unwrap();
    let told = events.until("presence");
    assert_eq!(
        (&told["client"], &told["connected"]),
        (&json!("pump-7"), &json!(true))
    );
    peer.vanish();
    let told = events.until("presence");
    assert_eq!(
        (&told["connected"], &told["reason"]),
        (&json!(false), &json!("closed"))
    );
    let control = HttpClient::control(&daemon);
    let keys = control.get("/api/v1/keys").json();
    control.delete(&format!(
        "/api/v1/keys/{}",
        keys["rows"][0]["id"].as_str().unwrap()
    ));
    while events.next().is_some() {}
}

/// The rules of who looks on hold; what is more than wanted is said by its number; nobody who is connected is told of it.
#[test]
fn a_tail_shows_what_its_rules_let_it() {
    let setup = Setup::with(
        "[[listeners]]\nname = \"http\"\nprotocol = \"http\"\nbind = \"127.0.0.1:0\"\n\
         [auth]\nacl = [{ effect = \"deny\", action = \"subscribe\", user = \"key viewer\", topics = [\"secret/#\"] }, { effect = \"allow\" }]\n",
    );
    let daemon = setup.start();
    set_up(&daemon);
    let (viewer, header) = key_and_header(&daemon, "viewer");
    let denied = viewer.get("/api/v1/tail?filter=secret/%23");
    assert_eq!(denied.status, 403, "{}", denied.text());
    assert_eq!(viewer.get("/api/v1/tail?filter=a/%23/b").status, 422);
    assert_eq!(viewer.get("/api/v1/tail?filter=$share/g/a").status, 422);
    let mut tail = Stream::open(&daemon, "/api/v1/tail?filter=%23&max_per_second=3", &header);
    tail.until("open");
    let port = daemon.port(Transport::Tcp);
    let (mut peer, _) = Peer::connect(port, "pump-7", true, 0).unwrap();
    publish(&mut peer, "secret/1", "hidden", false);
    for n in 0..20 {
        publish(&mut peer, "a/b", &n.to_string(), false);
    }
    let (mut seen, mut left_out, mut last) = (0, 0, String::new());
    while seen + left_out < 20 {
        let (event, data) = tail.next().expect("the stream goes on");
        match &*event {
            "message" => {
                assert_eq!(data["topic"], "a/b", "{data}");
                seen += 1;
                data["payload"].as_str().unwrap_or_default().clone_into(&mut last);
            }
            "left_out" => left_out += data["count"].as_u64().unwrap(),
            _ => {}
        }
    }
    assert_eq!(seen + left_out, 20);
    assert!(left_out > 0);
    assert_eq!(last, "19", "the last message of a topic is told, if late");
}
