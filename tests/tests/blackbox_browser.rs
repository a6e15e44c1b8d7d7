//! The demo page in Chromium, by each transport that the gateway has for browsers.

use headgate_mqtt_codec::Qos;
use headgate_tests::blackbox::{Message, Peer, Setup, Transport, eventually, free_port, node_client};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};

/// `ws` is WebSocket without SockJS. `htmlfile` without an iframe is for pages of the listener itself, and iframes with WebSocket are not in SockJS' client.
const TRANSPORTS: [&str; 9] = [
    "ws",
    "websocket",
    "xhr-streaming",
    "eventsource",
    "iframe-eventsource",
    "iframe-htmlfile",
    "xhr-polling",
    "iframe-xhr-polling",
    "jsonp-polling",
];

/// A listener for the page, and one for what it speaks.
fn listeners(http: u16, sockjs: u16) -> String {
    format!(
        "[[listeners]]\nname = \"http\"\nprotocol = \"http\"\nbind = \"127.0.0.1:{http}\"\n\
         [[listeners]]\nname = \"sockjs\"\nprotocol = \"stomp\"\nkind = \"sockjs\"\nbind = \"127.0.0.1:{sockjs}\"\nsockjs = {{ path = \"/stomp\" }}\n"
    )
}

/// The status of an answer, and its body.
fn get(port: u16, path: &str) -> (String, String) {
    ask(port, "", path)
}

/// The same with something before the request.
fn ask(port: u16, before: &str, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(
        stream,
        "{before}GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].to_owned(), body.to_owned())
}

/// A script that drives the browser; ended when it is dropped.
struct Browser {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Browser {
    fn start(mut command: Command) -> Self {
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = spawned.expect("Node is there");
        let stdout = child.stdout.take().expect("it is piped");
        Self {
            child,
            lines: BufReader::new(stdout).lines(),
        }
    }

    #[track_caller]
    fn says(&mut self, expected: &str) {
        let line = self.lines.next().map(Result::unwrap);
        assert_eq!(
            line.as_deref(),
            Some(expected),
            "what is wrong is on standard error"
        );
    }

    fn go_on(&mut self) {
        let mut stdin = self.child.stdin.take().expect("it is piped");
        writeln!(stdin).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What each transport says, as an MQTT client hears it.
fn all_say(what: &str) -> BTreeSet<(String, String)> {
    let said = |transport: &&str| (format!("demo/{transport}"), format!("{what} {transport}"));
    TRANSPORTS.iter().map(said).collect()
}

fn heard(mqtt: &mut Peer) -> BTreeSet<(String, String)> {
    let mut hear = |_: &&str| {
        let Message { topic, payload, .. } = mqtt.hear();
        (topic, payload)
    };
    TRANSPORTS.iter().map(&mut hear).collect()
}

/// docs/stomp.md, the demo page. A gateway that was built on a machine without Node has no page to try.
#[test]
#[expect(
    clippy::print_stdout,
    reason = "who reads the report sees that nothing was tried"
)]
fn the_demo_page_by_each_transport_and_after_a_restart() {
    let setup = Setup::with(&listeners(free_port(), free_port()));
    let daemon = setup.start();
    let http = daemon.port_of("http");
    if get(http, "/demo/").0 == "404" {
        println!("skipped: the gateway was built without its pages (`make web`)");
        return;
    }
    let (mut mqtt, _) = Peer::connect(daemon.port(Transport::Tcp), "mqtt", true, 0).unwrap();
    mqtt.subscribe("demo/#", Qos::AtMostOnce).unwrap();

    let mut command = node_client("browser_client.cjs");
    command.arg(format!("http://127.0.0.1:{http}/demo/"));
    command.arg(setup.folder().join("page.png")).args(TRANSPORTS);
    let mut browser = Browser::start(command);
    browser.says("connected");
    assert_eq!(heard(&mut mqtt), all_say("from"));
    let (mut other, _) = Peer::connect(daemon.port(Transport::Tcp), "other", true, 0).unwrap();
    for transport in TRANSPORTS {
        other.say(&[Message::new(
            &format!("demo/{transport}"),
            1,
            &format!("to {transport}"),
        )]);
    }
    browser.says("heard");
    // Each page has acknowledged what it said itself, and what it was told.
    eventually("all acknowledgements", || {
        let acknowledged = format!("\nheadgate_stomp_ack_total {}\n", 2 * TRANSPORTS.len());
        get(http, "/metrics").1.contains(&acknowledged).then_some(())
    });

    let daemon = daemon.restart();
    let (mut mqtt, _) = Peer::connect(daemon.port(Transport::Tcp), "mqtt", true, 0).unwrap();
    mqtt.subscribe("demo/#", Qos::AtMostOnce).unwrap();
    browser.go_on();
    browser.says("done");
    assert_eq!(heard(&mut mqtt), all_say("again"));
    if let Some(folder) = std::env::var_os("HEADGATE_SCREENSHOT") {
        std::fs::copy(setup.folder().join("page.png"), folder).unwrap();
    }
    daemon.stop();
}

/// docs/stomp.md: who gets the page, and what it is told. SockJS needs no other server for its client.
#[test]
fn the_page_is_for_this_machine_or_for_all_or_off() {
    let (http, sockjs) = (free_port(), free_port());
    let proxied = "[[listeners]]\nname = \"proxied\"\nprotocol = \"http\"\nbind = \"127.0.0.1:0\"\n\
        proxy_protocol = true\ntrusted_proxies = [\"127.0.0.1\"]\n";
    let setup = Setup::with(&(listeners(http, sockjs) + proxied));
    let daemon = setup.start();
    let (status, told) = get(http, "/demo/listeners.json");
    let expected = format!(
        "[{{\"kind\":\"ws\",\"port\":{sockjs},\"path\":\"/stomp/websocket\",\"tls\":false}},{{\"kind\":\"sockjs\",\"port\":{sockjs},\"path\":\"/stomp\",\"tls\":false}}]"
    );
    assert_eq!((&*status, told), ("200", expected));
    assert!(
        get(sockjs, "/stomp/iframe.html")
            .1
            .contains("src=\"sockjs.min.js\"")
    );
    let pages = [get(http, "/demo/").0, get(sockjs, "/stomp/sockjs.min.js").0];
    assert!(
        pages == ["200", "200"] || pages == ["404", "404"],
        "both or none: {pages:?}"
    );

    let proxied = daemon.port_of("proxied");
    let far = |path| ask(proxied, "PROXY TCP4 10.2.3.4 10.0.0.1 5000 80\r\n", path).0;
    assert_eq!(far("/demo/listeners.json"), "403");
    let file = setup.folder().join("headgate.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let reload = |audience: &str| {
        std::fs::write(&file, format!("{text}[http]\ndemo = \"{audience}\"\n")).unwrap();
        daemon.ask(&["reload"]);
    };
    reload("all");
    assert_eq!(far("/demo/listeners.json"), "200");
    reload("off");
    for path in ["/demo/", "/demo/listeners.json", "/demo/chat.js"] {
        assert_eq!(get(http, path).0, "403", "{path}");
    }
    assert_eq!(get(http, "/health/live").0, "200");
    daemon.stop();
}
