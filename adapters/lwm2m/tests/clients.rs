//! What a client of LwM2M hears: registration, commands, observations, sleep and bootstrap, message by message. LwM2M Core 1.1 §6

mod bench;

use bench::{LINKS, SECOND, at, path, post, send};
use bytes::Bytes;
use headgate_coap_codec::{Code, Kind, Message, Token, number};
use headgate_lwm2m::{BootstrapClient, BootstrapServer, Lwm2mSettings};
use headgate_model::Secret;
use headgate_model::access::AuthRefusal;
use serde_json::json;
use std::time::Duration;

/// One client alone, message by message.
struct Client(bench::Bench);

impl Client {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Lwm2mSettings)) -> Self {
        Self(bench::Bench::with(change))
    }

    /// It says something as it is.
    fn receive(&mut self, message: &Message) {
        self.0.receive(at(1), message);
    }

    /// The same under a message ID of its own.
    fn say(&mut self, message: Message) -> u16 {
        self.0.ask(at(1), message)
    }

    /// It asks, and has its answer at once.
    fn ask(&mut self, message: Message) -> Message {
        self.0.exchange(at(1), message)
    }

    /// It registers: where its registration is.
    fn register(&mut self, query: &str) -> String {
        format!("/{}", self.0.register(at(1), query))
    }

    /// What it was sent since it was last asked.
    fn sent(&mut self) -> Vec<Message> {
        self.0.sent(at(1))
    }

    /// The only thing that it was sent: a request.
    fn asked(&mut self) -> Message {
        let asked = self.0.asked(at(1));
        assert_eq!(asked.kind, Kind::Confirmable);
        asked
    }

    /// It answers a request in its acknowledgement.
    fn answer(&mut self, to: &Message, answer: Message) {
        self.receive(&Message {
            kind: Kind::Acknowledgement,
            id: to.id,
            token: to.token,
            ..answer
        });
    }

    /// An application has a command for it.
    fn command(&mut self, kind: &str, path: &str) {
        self.0.command("dev", kind, json!({"path": path}));
    }

    fn advance(&mut self, by: Duration) {
        self.0.advance(by);
    }
}

fn request(code: Code, uri: &str) -> Message {
    bench::request(code, uri, "")
}

/// A value in plain text.
fn content(text: &str) -> Message {
    let mut message = Message::new(Kind::Confirmable, Code::CONTENT, 0, Token::default());
    message.options.push_uint(number::CONTENT_FORMAT, 0);
    message.payload = Bytes::copy_from_slice(text.as_bytes());
    message
}

fn of(code: Code) -> Message {
    Message::of_stream(code, Token::default())
}

fn acknowledgement(id: u16) -> Message {
    Message::empty(Kind::Acknowledgement, id)
}

/// A value that a client tells under the token of an observation.
fn notification(token: Token, sequence: u32, text: &str) -> Message {
    let mut message = content(text);
    message.token = token;
    message.options.push_uint(number::OBSERVE, sequence);
    message
}

/// §6.2: 2.01 says where the registration is; there it is updated and ended. What is not there, any more or at all, is 4.04.
/// \[LWM2M-6.2.1-REGISTER\] \[LWM2M-6.2.2-UPDATE\] \[LWM2M-6.2.2-NOT-FOUND\] \[LWM2M-6.2.3-DEREGISTER\] \[LWM2M-6.2.3-NOT-FOUND\]
#[test]
fn a_registration_begins_goes_on_and_ends() {
    let mut bench = Client::new();
    let location = bench.register("ep=dev&lt=300&lwm2m=1.1&b=U");
    assert!(location.starts_with("/rd/"), "{location}");
    assert_eq!(bench.ask(request(Code::POST, &location)).code, Code::CHANGED);
    let update = format!("{location}?lt=600");
    assert_eq!(bench.ask(request(Code::POST, &update)).code, Code::CHANGED);
    let end = request(Code::DELETE, &location);
    assert_eq!(bench.ask(end.clone()).code, Code::DELETED);
    assert_eq!(bench.ask(request(Code::POST, &location)).code, Code::NOT_FOUND);
    assert_eq!(bench.ask(end).code, Code::NOT_FOUND);
    assert_eq!(bench.ask(request(Code::POST, "rd/none")).code, Code::NOT_FOUND);
}

/// §6.2.1: a registration is over when its lifetime is, with a grace, unless an update renews it. \[LWM2M-6.2.1-EXPIRES\] \[LWM2M-6.2.2-UPDATE\]
#[test]
fn a_registration_ends_with_its_lifetime() {
    let mut bench = Client::with(|settings| settings.lifetime_grace = 30 * SECOND);
    let location = bench.register("ep=dev&lt=60");
    for _ in 0..3 {
        bench.advance(89 * SECOND);
        assert_eq!(bench.ask(request(Code::POST, &location)).code, Code::CHANGED);
    }
    bench.advance(91 * SECOND);
    assert_eq!(bench.ask(request(Code::POST, &location)).code, Code::NOT_FOUND);
}

/// §6.2.1: who registers again has one registration, the new one. \[LWM2M-6.2.1-AGAIN\]
#[test]
fn who_registers_again_has_one_registration() {
    let mut bench = Client::new();
    let first = bench.register("ep=dev&lt=300");
    let second = bench.register("ep=dev&lt=300");
    assert_ne!(first, second);
    assert_eq!(bench.ask(request(Code::POST, &first)).code, Code::NOT_FOUND);
    assert_eq!(bench.ask(request(Code::POST, &second)).code, Code::CHANGED);
}

/// What cannot be done, and what nobody is registered for.
/// \[RFC7252-5.4.1-2\] \[RFC7252-7.2-1\] \[LWM2M-6.2.1-ENDPOINT\] \[LWM2M-6.2.1-VERSION\] \[LWM2M-6.4.6-NOT-REGISTERED\]
#[test]
fn what_is_refused_has_its_code() {
    let mut bench = Client::new();
    let mut critical = request(Code::POST, "rd?ep=dev");
    critical.options.push(9, &b"x"[..]);
    for (message, code) in [
        (request(Code::POST, "rd"), Code::BAD_REQUEST),
        (
            request(Code::POST, "rd?ep=dev&lwm2m=2.0"),
            Code::PRECONDITION_FAILED,
        ),
        (critical, Code::BAD_OPTION),
        (send("/3/0/9", 77.0), Code::NOT_FOUND),
        (request(Code::GET, "rd"), Code::METHOD_NOT_ALLOWED),
        (request(Code::DELETE, "dp"), Code::METHOD_NOT_ALLOWED),
        (request(Code::GET, "3/0/0"), Code::NOT_FOUND),
    ] {
        assert_eq!(bench.ask(message.clone()).code, code, "{message:?}");
    }
    let found = bench.ask(request(Code::GET, ".well-known/core"));
    assert_eq!(
        (found.code, found.options.uint(number::CONTENT_FORMAT)),
        (Code::CONTENT, Some(40))
    );
}

/// §6.2.1: who may not come in is 4.03. \[LWM2M-6.2.1-FORBIDDEN\]
#[test]
fn who_may_not_register_is_told_so() {
    let mut bench = Client::new();
    bench.0.access.refusal = Some(AuthRefusal::NotAuthorized);
    assert_eq!(bench.ask(post("rd?ep=dev", LINKS)).code, Code::FORBIDDEN);
    bench.0.access.refusal = None;
    bench.register("ep=dev");
}

/// RFC 7252 §5.2.2: an acknowledgement without a response is none. The response comes later, and is acknowledged; until then nothing else is asked.
/// \[RFC7252-5.2.1-1\] \[RFC7252-5.2.2-3\] \[RFC7252-5.3.2-3\] \[LWM2M-6.3.1-READ\] \[LWM2M-6.5-ORDER\] \[LWM2M-6.5-ACKNOWLEDGED\]
#[test]
fn a_response_may_come_late() {
    let mut bench = Client::new();
    bench.register("ep=dev&lt=300");
    bench.sent();
    bench.command("read", "/3/0/0");
    let first = bench.asked();
    assert_eq!((first.code, path(&first).as_str()), (Code::GET, "/3/0/0"));
    bench.receive(&acknowledgement(first.id));
    bench.command("read", "/3/0/1");
    bench.advance(10 * SECOND);
    assert_eq!(bench.sent(), [], "one thing after the other");
    let id = bench.say(Message {
        token: first.token,
        ..content("Headgate")
    });
    let sent = bench.sent();
    assert_eq!(sent[0], acknowledgement(id));
    assert_eq!((sent.len(), path(&sent[1]).as_str()), (2, "/3/0/1"));
}

/// RFC 7641 §3.1, §3.5: a confirmable notification is acknowledged; one that nobody observes is rejected, also where an answer had no Observe.
/// \[RFC7641-3.1-1\] \[RFC7641-3.1-2\] \[RFC7641-3.5-1\] \[RFC7641-3.5-2\] \[LWM2M-6.4.1-OBSERVE\] \[LWM2M-6.4.2-NOTIFY\] \[LWM2M-6.4.2-UNKNOWN\] \[LWM2M-6.4.3-CANCEL-RESET\]
#[test]
fn notifications_are_acknowledged_or_rejected() {
    let mut bench = Client::new();
    bench.register("ep=dev&lt=300");
    bench.sent();
    bench.command("observe", "/3303/0/5700");
    let asked = bench.asked();
    assert_eq!(asked.options.uint(number::OBSERVE), Some(0));
    bench.answer(&asked, notification(asked.token, 1, "21.5"));
    let id = bench.say(notification(asked.token, 2, "22.5"));
    assert_eq!(bench.sent(), [acknowledgement(id)]);
    bench.command("observe", "/3303/0/5700");
    let again = bench.asked();
    assert_eq!(again.token, asked.token, "it is observed once");
    bench.answer(&again, notification(asked.token, 3, "22.5"));
    let other = Token::new(b"other").unwrap();
    let id = bench.say(notification(other, 2, "22.5"));
    assert_eq!(bench.sent(), [Message::empty(Kind::Reset, id)]);

    bench.command("observe", "/3/0/9");
    let asked = bench.asked();
    bench.answer(&asked, content("77"));
    let id = bench.say(notification(asked.token, 2, "78"));
    assert_eq!(
        bench.sent(),
        [Message::empty(Kind::Reset, id)],
        "it is not observed"
    );
}

/// §6.5: a client that sleeps is sent nothing 93 s after its last message, and what waits when it says anything.
/// \[LWM2M-6.2.1-QUEUE\] \[LWM2M-6.4.6-SEND\] \[LWM2M-6.5-AWAY\] \[LWM2M-6.5-ANY-MESSAGE\] \[LWM2M-6.5-AWAKE\]
#[test]
fn who_sleeps_is_left_alone_until_it_says_something() {
    let mut bench = Client::new();
    bench.register("ep=dev&lt=3600&lwm2m=1.1&b=U&Q");
    bench.sent();
    bench.advance(92 * SECOND);
    bench.command("read", "/3/0/0");
    let asked = bench.asked();
    bench.answer(&asked, content("Headgate"));
    bench.advance(94 * SECOND);
    bench.command("read", "/3/0/1");
    bench.advance(600 * SECOND);
    assert_eq!(bench.sent(), []);
    assert_eq!(bench.ask(send("/3/0/9", 77.0)).code, Code::CHANGED);
    assert_eq!(path(&bench.asked()), "/3/0/1");
}

fn with_bootstrap() -> Client {
    Client::with(|settings| {
        let server = BootstrapServer {
            uri: "coap://192.0.2.9".into(),
            short_id: 7,
            lifetime: 90 * SECOND,
            binding: "U".into(),
            psk_identity: None,
            psk_key: Secret::default(),
            instance: None,
        };
        settings.bootstrap.clients = vec![BootstrapClient {
            endpoint: "new*".into(),
            delete: vec!["/".into()],
            servers: vec![server],
            resources: Vec::new(),
            format: None,
        }];
    })
}

/// §6.1.7: what is there is deleted, the accounts are written in the form that the client prefers, and it is told that this was all. What is not there need not be deleted.
/// \[LWM2M-6.1.7-REQUEST\] \[LWM2M-6.1.7-PCT\] \[LWM2M-6.1.7-FINISH\] \[LWM2M-6.1.7-WRITE\] \[LWM2M-6.1.7-DELETE\]
#[test]
fn a_client_is_bootstrapped_step_by_step() {
    for (query, format) in [("ep=new-1", 11_542), ("ep=new-1&pct=112", 112)] {
        let mut bench = with_bootstrap();
        let begun = bench.ask(request(Code::POST, &format!("bs?{query}")));
        assert_eq!(begun.code, Code::CHANGED);
        let delete = bench.asked();
        assert_eq!((delete.code, path(&delete).as_str()), (Code::DELETE, ""));
        bench.answer(&delete, of(Code::NOT_FOUND));
        for object in ["/0/1", "/1/1"] {
            let write = bench.asked();
            assert_eq!((write.code, path(&write).as_str()), (Code::PUT, object));
            assert_eq!(write.options.uint(number::CONTENT_FORMAT), Some(format));
            bench.answer(&write, of(Code::CHANGED));
        }
        let finish = bench.asked();
        assert_eq!((finish.code, path(&finish).as_str()), (Code::POST, "/bs"));
        bench.answer(&finish, of(Code::CHANGED));
        bench.advance(400 * SECOND);
        assert_eq!(bench.sent(), []);
    }
}

/// §6.1.7.1, Core 1.2 §6.1.7.7: who is not known is 4.00; a client of 1.2 may fetch all at once.
/// \[LWM2M-6.1.7-UNKNOWN\] \[LWM2M-6.1.7.7-PACK\] \[LWM2M-6.1.7.7-PACK-FORMAT\]
#[test]
fn a_client_may_fetch_its_bootstrap_or_is_not_known() {
    let mut bench = with_bootstrap();
    for uri in ["bs", "bs?ep=other"] {
        assert_eq!(bench.ask(request(Code::POST, uri)).code, Code::BAD_REQUEST);
    }
    let pack = request(Code::GET, "bspack?ep=new-1");
    let found = bench.ask(pack.clone());
    assert_eq!(
        (found.code, found.options.uint(number::CONTENT_FORMAT)),
        (Code::CONTENT, Some(112))
    );
    let mut text = pack;
    text.options.push_uint(number::ACCEPT, 0);
    assert_eq!(bench.ask(text).code, Code::NOT_ACCEPTABLE);
}
