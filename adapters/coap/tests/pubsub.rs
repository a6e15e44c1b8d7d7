//! Publish and subscribe over CoAP: the paths of EMQ 2 and of EMQX 5. docs/coap.md

mod bench;

use bench::{Bench, at, get, non, observe, post, put, request, text, token};
use headgate_coap_codec::{Block, Code, Kind, Message, number};
use headgate_model::access::{AuthRefusal, Wanted};
use headgate_model::{AccessDecision, Action, Qos};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const NOTHING: [&str; 0] = [];

/// EMQ 2: `PUT /mqtt/{topic}?c=&u=&p=`. A confirmable one is answered when it is safe, as PUBACK is. \[RFC7252-5.8.3-1\]
#[test]
fn put_publishes() {
    let mut bench = Bench::new();
    assert_eq!(
        bench.exchange(at(1), observe("mqtt/a%2Fb?c=reader", 9, 0)),
        (Code::CONTENT, String::new())
    );
    for (uri, payload) in [
        ("mqtt/a%2Fb?c=w&u=me&p=x", "1"),
        ("mqtt/a/b?c=w&u=me&p=x", "2"),
        ("ps/a/b?clientid=w2", "3"),
    ] {
        assert_eq!(bench.exchange(at(2), put(uri, payload)).0, Code::CHANGED, "{uri}");
        assert_eq!(bench.notified(at(1), 9), [payload]);
    }
    assert_eq!(
        bench.exchange(at(2), non(put("mqtt/a/b?c=w&u=me&p=x", "4"))).0,
        Code::CHANGED
    );
    assert_eq!(bench.notified(at(1), 9), ["4"]);
    let login = &bench.credentials[1];
    assert_eq!(
        (login.client_id.as_str(), login.username.as_deref()),
        ("w", Some("me"))
    );
    assert_eq!(bench.credentials.len(), 3, "who is known is not asked again");
}

/// 2.04 is a promise: it comes when the message is safe for every durable session that it matched. \[RFC7252-5.2.2-1\]
#[test]
fn a_publish_is_answered_when_it_is_safe() {
    let mut bench = Bench::new();
    bench.exchange(at(1), observe("mqtt/a?c=reader", 9, 0));
    bench.exchange(at(2), get("mqtt/x?c=w"));
    bench.withheld = true;
    let id = bench.ask(at(2), put("mqtt/a?c=w", "1"));
    assert_eq!(bench.sent(at(2)), []);
    bench.advance(SECOND);
    assert_eq!(
        bench.sent(at(2)),
        [Message::empty(Kind::Acknowledgement, id)],
        "RFC 7252 §5.2.2"
    );
    bench.withheld = false;
    bench.run();
    let separate = bench.sent(at(2)).remove(0);
    assert_eq!((separate.kind, separate.code), (Kind::Confirmable, Code::CHANGED));
    bench.restart();
    assert!(bench.has_session("$coap/reader/a"));
    assert_eq!(bench.notified(at(1), 9), ["1"], "it waited for its observer");
}

/// EMQ 2: 4.00 without a client id, 4.01 for a wrong login, 4.05 for POST and DELETE. 4.04 for what is not there.
/// \[RFC7252-5.8-1\] \[RFC7252-5.8.3-2\]
#[test]
fn errors_of_requests() {
    let mut bench = Bench::new();
    for (message, code) in [
        (put("mqtt/a", "x"), Code::BAD_REQUEST),
        (put("mqtt/a?c=", "x"), Code::BAD_REQUEST),
        (get("mqtt/a"), Code::BAD_REQUEST),
        (put("mqtt/a%2F%23?c=w", "x"), Code::BAD_REQUEST),
        (put("mqtt/a?c=w&qos=9", "x"), Code::BAD_REQUEST),
        (post("mqtt/a?c=w", "x"), Code::METHOD_NOT_ALLOWED),
        (request(Code::DELETE, "mqtt/a?c=w"), Code::METHOD_NOT_ALLOWED),
        (request(Code::FETCH, "ps/a"), Code::METHOD_NOT_ALLOWED),
        (request(Code::new(0, 30), "ps/a"), Code::METHOD_NOT_ALLOWED),
        (get("elsewhere"), Code::NOT_FOUND),
        (get(""), Code::NOT_FOUND),
        (get("ps/a"), Code::NOT_FOUND),
        (get("ps/a/+"), Code::BAD_REQUEST),
    ] {
        assert_eq!(bench.exchange(at(1), message.clone()).0, code, "{message:?}");
    }
    bench.password = Some("right");
    assert_eq!(
        bench.exchange(at(2), put("mqtt/a?c=v&u=me&p=wrong", "x")).0,
        Code::UNAUTHORIZED
    );
    assert_eq!(
        bench.exchange(at(2), put("mqtt/a?c=v&u=me&p=right", "x")).0,
        Code::CHANGED
    );
    assert_eq!(
        bench.exchange(at(2), put("mqtt/a?c=v&u=me&p=wrong", "x")).0,
        Code::UNAUTHORIZED,
        "each time"
    );
    bench.refusal = Some(AuthRefusal::Unavailable);
    assert_eq!(
        bench.exchange(at(3), put("mqtt/a?c=z&u=me&p=right", "x")).0,
        Code::SERVICE_UNAVAILABLE
    );
}

/// Options that must be understood and are not; proxies; Hop-Limit. RFC 7252 §5.4.1, §5.7.2; RFC 8768 §3
/// \[RFC7252-4.3-1\] \[RFC7252-5.4.1-1\] \[RFC7252-5.4.1-2\] \[RFC7252-5.4.1-5\] \[RFC7252-5.7.2-1\] \[RFC7252-5.10.2-1\] \[RFC7252-5.10.2-3\] \[RFC8768-3-1\]
/// \[RFC7967-2.1-1\]
#[test]
fn options_that_cannot_be() {
    let mut bench = Bench::new();
    let with = |option: u16, value: &'static [u8]| {
        let mut message = get("ps/a");
        message.options.push(option, value);
        message
    };
    assert_eq!(bench.exchange(at(1), with(9, b"x")).0, Code::BAD_OPTION, "OSCORE");
    assert_eq!(
        bench.exchange(at(1), with(number::IF_MATCH, b"x")).0,
        Code::BAD_OPTION
    );
    assert_eq!(
        bench.exchange(at(1), with(number::PROXY_URI, b"coap://x/")).0,
        Code::PROXYING_NOT_SUPPORTED
    );
    assert_eq!(
        bench.exchange(at(1), with(number::HOP_LIMIT, b"\0")).0,
        Code::BAD_REQUEST
    );
    assert_eq!(
        bench.exchange(at(1), with(number::HOP_LIMIT, b"\x05")).0,
        Code::NOT_FOUND
    );
    assert_eq!(bench.exchange(at(1), with(2_000, b"elective")).0, Code::NOT_FOUND);
    bench.ask(at(1), non(with(9, b"x")));
    assert_eq!(
        bench.sent(at(1)),
        [],
        "what wants no confirmation is rejected silently"
    );
    let mut quiet = non(get("ps/a"));
    quiet.options.push_uint(number::NO_RESPONSE, 8);
    bench.ask(at(1), quiet);
    assert_eq!(bench.sent(at(1)), [], "RFC 7967: no 4.xx is wanted");
}

/// What the rules deny is 4.03, never a silent 2.04. \[RFC7252-5.8.3-2\]
#[test]
fn rules_are_asked() {
    let mut bench = Bench::new();
    bench.rule(
        Action::Publish,
        "secret",
        AccessDecision::Deny(Default::default()),
    );
    bench.rule(
        Action::Subscribe,
        "secret",
        AccessDecision::Deny(Default::default()),
    );
    bench.rule(Action::Publish, "asked", AccessDecision::Ask);
    bench.rule(Action::Subscribe, "asked", AccessDecision::Ask);
    for message in [
        put("mqtt/secret?c=w", "x"),
        non(put("mqtt/secret?c=w", "x")),
        observe("mqtt/secret?c=w", 2, 0),
        get("ps/secret?c=w"),
    ] {
        assert_eq!(bench.exchange(at(1), message).0, Code::FORBIDDEN);
    }
    assert_eq!(
        bench.exchange(at(1), put("mqtt/$SYS/x?c=w", "x")).0,
        Code::FORBIDDEN
    );
    assert_eq!(
        bench.exchange(at(1), observe("mqtt/asked?c=w", 3, 0)).0,
        Code::CONTENT
    );
    assert_eq!(bench.exchange(at(2), put("mqtt/asked?c=v", "x")).0, Code::CHANGED);
}

/// The action `disconnect`: whoever wants what is denied is gone, with all that it observes; what it still asked is answered.
#[test]
fn who_wants_what_is_denied_may_be_thrown_out() {
    let mut bench = Bench::new();
    bench.rule(
        Action::Publish,
        "secret",
        AccessDecision::Deny(Default::default()),
    );
    bench.rule(Action::Publish, "asked", AccessDecision::Ask);
    bench.disconnect_the_denied();
    for topic in ["secret", "asked"] {
        bench.exchange(at(1), observe("mqtt/a?c=w", 7, 0));
        assert_eq!(
            bench.exchange(at(1), put(&format!("mqtt/{topic}?c=w"), "x")).0,
            Code::FORBIDDEN
        );
        assert!(
            !bench.has_session("w") && !bench.has_session("$coap/w/a"),
            "{topic}"
        );
    }
    bench.silent = true;
    let ids: Vec<u16> = (0..3)
        .map(|_| bench.ask(at(1), put("mqtt/secret?c=w", "x")))
        .collect();
    bench.silent = false;
    bench.advance(121 * SECOND);
    assert!(bench.sent(at(1)).len() >= ids.len());
    assert_eq!(
        bench.exchange(at(1), put("mqtt/b?c=w", "x")).0,
        Code::CHANGED,
        "it may come again"
    );
}

/// EMQX 5: retained messages, read by GET, with an ETag and for how long they hold.
/// \[RFC7252-5.1-1\] \[RFC7252-5.5-1\] \[RFC7252-5.8.1-1\] \[RFC7252-5.8.2-3\] \[RFC7252-5.10.4-1\]
#[test]
fn what_is_retained_is_read() {
    let mut bench = Bench::new();
    let mut kept = post("ps/a?retain=true&expiry=60", "21.5");
    kept.options.push_uint(number::CONTENT_FORMAT, 0);
    assert_eq!(bench.exchange(at(1), kept).0, Code::CHANGED);
    bench.advance(10 * SECOND);
    let id = bench.ask(at(2), get("ps/a"));
    let answer = bench.sent(at(2)).remove(0);
    assert_eq!(
        (answer.id, answer.code, text(&answer)),
        (id, Code::CONTENT, "21.5".into())
    );
    assert_eq!(answer.options.uint(number::MAX_AGE), Some(50));
    assert_eq!(answer.options.uint(number::CONTENT_FORMAT), Some(0));
    let mut again = get("ps/a");
    again
        .options
        .push(number::ETAG, answer.options.get(number::ETAG).unwrap().clone());
    assert_eq!(bench.exchange(at(2), again), (Code::VALID, String::new()));
    let mut json = get("ps/a");
    json.options.push_uint(number::ACCEPT, 50);
    assert_eq!(bench.exchange(at(2), json).0, Code::NOT_ACCEPTABLE);
    bench.advance(60 * SECOND);
    assert_eq!(
        bench.exchange(at(2), get("ps/a")).0,
        Code::NOT_FOUND,
        "it has expired"
    );
}

/// RFC 7641 §3.1, §3.2, §3.4: the first answer says what is there; notifications have its token, and rising numbers.
/// \[RFC7641-2-1\] \[RFC7641-3.2-1\] \[RFC7641-4.1-1\] \[RFC7641-4.2-1\] \[RFC7641-4.2-2\] \[RFC7641-4.4-1\]
#[test]
fn an_observer_is_notified() {
    let mut bench = Bench::new();
    bench.exchange(at(1), post("ps/a?retain=1", "before"));
    bench.ask(at(2), observe("ps/a?c=o", 7, 0));
    let first = bench.sent(at(2)).remove(0);
    assert_eq!(
        (first.kind, text(&first)),
        (Kind::Acknowledgement, "before".into())
    );
    let mut last = first.options.uint(number::OBSERVE).expect("it observes");
    for n in 0..5 {
        bench.publish("a", &n.to_string(), Qos::AtLeastOnce);
        let sent = bench.sent(at(2));
        let notification = &sent[0];
        assert_eq!(
            (sent.len(), notification.kind, notification.token),
            (1, Kind::Confirmable, token(7))
        );
        assert_eq!(text(notification), n.to_string());
        let sequence = notification.options.uint(number::OBSERVE).unwrap();
        assert!(sequence > last);
        last = sequence;
        bench.answer(at(2), Kind::Acknowledgement, notification.id);
    }
    bench.publish("a", "none", Qos::AtMostOnce);
    assert_eq!(
        bench.sent(at(2))[0].kind,
        Kind::NonConfirmable,
        "QoS 0 wants no confirmation"
    );
}

/// A filter with wildcards: what is retained comes as notifications, and each says its topic.
#[test]
fn a_filter_is_observed_and_topics_are_told() {
    let mut bench = Bench::new();
    bench.exchange(at(1), post("ps/a/x?retain=1", "kept"));
    assert_eq!(
        bench.exchange(at(2), observe("mqtt/a%2F%2B?c=o", 7, 0)),
        (Code::CONTENT, String::new())
    );
    let notification = bench.sent(at(2)).remove(0);
    let topic: Vec<&[u8]> = notification
        .options
        .all(number::LOCATION_PATH)
        .map(|part| &part[..])
        .collect();
    assert_eq!(
        (text(&notification), topic),
        ("kept".into(), vec![&b"a"[..], b"x"])
    );
}

/// RFC 7641 §3.6: a GET with Observe 1, or a rejected notification, ends it; 2.05 for EMQ 2, 2.07 for EMQX 5.
/// \[RFC7641-2-1\] \[RFC7641-4.1-4\] \[RFC7641-4.5-2\]
#[test]
fn an_observation_is_cancelled() {
    for (path, code) in [("mqtt/a?c=o", Code::CONTENT), ("ps/a?c=o", Code::NO_CONTENT)] {
        let mut bench = Bench::new();
        bench.exchange(at(1), observe(path, 7, 0));
        assert_eq!(bench.exchange(at(1), observe(path, 7, 1)).0, code);
        assert!(!bench.has_session("$coap/o/a"));
        bench.publish("a", "x", Qos::AtLeastOnce);
        assert_eq!(bench.sent(at(1)), []);
    }
    let mut bench = Bench::new();
    bench.exchange(at(1), observe("ps/a?c=o", 7, 0));
    for (qos, n) in [(Qos::AtLeastOnce, 1), (Qos::AtLeastOnce, 2)] {
        bench.publish("a", &n.to_string(), qos);
    }
    let notification = bench.sent(at(1)).remove(0);
    bench.answer(at(1), Kind::Reset, notification.id);
    assert_eq!(bench.sent(at(1)), [], "nothing that waited is sent");
    assert!(!bench.has_session("$coap/o/a"));
}

/// RFC 7641 §4.5: who does not acknowledge is an observer no more. What was not acknowledged waits, and comes when it observes again from somewhere else.
/// \[RFC7641-4.5-3\]
#[test]
fn what_an_observer_did_not_get_waits_for_it() {
    let mut bench = Bench::new();
    bench.exchange(at(1), observe("mqtt/a?c=o", 7, 0));
    for n in 0..4 {
        bench.publish("a", &n.to_string(), Qos::AtLeastOnce);
    }
    let first = bench.sent(at(1)).remove(0);
    assert_eq!(text(&first), "0");
    bench.answer(at(1), Kind::Acknowledgement, first.id);
    bench.advance(100 * SECOND);
    bench.sent(at(1));
    bench.publish("a", "4", Qos::AtLeastOnce);
    assert_eq!(bench.sent(at(1)), [], "it is lost");
    bench.exchange(at(2), observe("mqtt/a?c=o", 8, 0));
    assert_eq!(bench.notified(at(2), 8), ["1", "2", "3", "4"]);
}

/// A client that only listens is asked whether it is there; who does not answer is gone, and so is who says nothing and observes nothing.
#[test]
fn who_is_silent_is_asked_or_gone() {
    let mut bench = Bench::new();
    bench.exchange(at(1), observe("mqtt/a?c=o", 7, 0));
    bench.exchange(at(2), put("mqtt/b?c=w", "x"));
    for _ in 0..3 {
        bench.advance(121 * SECOND);
        let ping = bench.sent(at(1)).remove(0);
        assert_eq!((ping.kind, ping.code), (Kind::Confirmable, Code::EMPTY));
        bench.answer(at(1), Kind::Reset, ping.id);
    }
    assert!(bench.has_session("o") && !bench.has_session("w"));
    bench.advance(400 * SECOND);
    assert!(!bench.has_session("o"));
    assert!(bench.has_session("$coap/o/a"), "what is for it waits");
    bench.advance(3 * 60 * 60 * SECOND);
    assert!(
        !bench.has_session("$coap/o/a"),
        "but not for ever (observation_expiry)"
    );
}

/// The same client elsewhere takes its place; another user does not.
#[test]
fn a_client_moves_and_nobody_takes_its_place() {
    let mut bench = Bench::new();
    bench.exchange(at(1), observe("mqtt/a?c=o&u=me&p=x", 7, 0));
    bench.exchange(at(2), observe("mqtt/a?c=o&u=me&p=x", 8, 0));
    bench.publish("a", "1", Qos::AtLeastOnce);
    assert_eq!(
        (bench.sent(at(1)), bench.notified(at(2), 8)),
        (vec![], vec!["1".into()])
    );
    assert_eq!(
        bench.exchange(at(3), observe("mqtt/a?c=o&u=thief&p=x", 9, 0)).0,
        Code::FORBIDDEN
    );
    bench.publish("a", "2", Qos::AtLeastOnce);
    assert_eq!(bench.notified(at(2), 8), ["2"]);
    assert_eq!(
        bench.exchange(at(3), put("ps/a?c=$coap%2Fo%2Fa", "x")).0,
        Code::FORBIDDEN,
        "observations are nobody's"
    );
}

#[test]
fn who_is_kicked_observes_no_more() {
    let mut bench = Bench::new();
    bench.exchange(at(1), observe("mqtt/a?c=o", 7, 0));
    bench.kick("o");
    bench.publish("a", "1", Qos::AtLeastOnce);
    assert_eq!(bench.sent(at(1)), []);
    assert!(!bench.has_session("$coap/o/a"));
}

/// EMQX 5, connection mode: a token for who has logged in, from wherever it comes then. \[RFC7252-5.8.2-1\] \[RFC7252-5.8.4-1\]
#[test]
fn a_connection_has_a_token() {
    let mut bench = Bench::with(|settings| settings.connection_required = true);
    assert_eq!(bench.exchange(at(1), post("ps/a?c=w", "x")).0, Code::UNAUTHORIZED);
    let (code, token) = bench.exchange(
        at(1),
        post("mqtt/connection?clientid=w&username=me&password=x", ""),
    );
    assert_eq!((code, token.len()), (Code::CREATED, 32));
    let with = |uri: &str| format!("{uri}?clientid=w&token={token}");
    assert_eq!(
        bench.exchange(at(2), post(&with("ps/a"), "x")).0,
        Code::CHANGED,
        "behind a NAT it moves"
    );
    assert_eq!(
        bench.exchange(at(2), put(&with("mqtt/connection"), "")).0,
        Code::CHANGED
    );
    let stolen = format!("ps/a?clientid=v&token={token}");
    assert_eq!(bench.exchange(at(2), post(&stolen, "x")).0, Code::UNAUTHORIZED);
    assert_eq!(
        bench
            .exchange(at(2), request(Code::DELETE, &with("mqtt/connection")))
            .0,
        Code::DELETED
    );
    assert_eq!(
        bench.exchange(at(2), post(&with("ps/a"), "x")).0,
        Code::UNAUTHORIZED
    );
    assert!(!bench.has_session("w"));
}

/// RFC 6690 §4 \[RFC7252-7.2-1\] \[RFC7641-6-1\]
#[test]
fn resources_are_discovered() {
    let mut bench = Bench::new();
    let all = "</mqtt>;rt=\"mqtt\";obs,</ps>;rt=\"core.ps\";obs";
    assert_eq!(
        bench.exchange(at(1), get(".well-known/core")),
        (Code::CONTENT, all.into())
    );
    assert_eq!(
        bench.exchange(at(1), get(".well-known/core?rt=core.p*")).1,
        "</ps>;rt=\"core.ps\";obs"
    );
    assert_eq!(bench.exchange(at(1), get(".well-known/core?rt=no")).1, "");
    assert_eq!(
        bench.exchange(at(1), put(".well-known/core", "")).0,
        Code::METHOD_NOT_ALLOWED
    );
}

/// RFC 7959: 60 KiB in blocks, both ways, and as a notification whose rest is fetched. §2.6 \[RFC7252-4.6-1\] \[RFC7959-2.1-1\] \[RFC7959-2.4-4\]
#[test]
fn long_payloads_go_in_blocks() {
    let mut bench = Bench::new();
    let body: String = (0..60 << 10)
        .map(|n| char::from(b'a' + (n / 1_000 % 26) as u8))
        .collect();
    bench.exchange(at(3), observe("ps/big?c=o", 7, 0));
    let blocks = body.len().div_ceil(1_024);
    for (n, part) in body.as_bytes().chunks(1_024).enumerate() {
        let mut message = put("ps/big?retain=1", std::str::from_utf8(part).unwrap());
        let more = n + 1 < blocks;
        Block {
            number: n as u32,
            more,
            szx: 6,
        }
        .put(&mut message.options, number::BLOCK1);
        let code = if more { Code::CONTINUE } else { Code::CHANGED };
        assert_eq!(bench.exchange(at(1), message).0, code);
    }
    let fetch = |bench: &mut Bench, who, first: Message| {
        let (mut all, mut next) = (text(&first), 1);
        let mut block = Block::of(&first.options, number::BLOCK2).unwrap().unwrap();
        while block.more {
            let mut message = get(if who == at(3) { "ps/big?c=o" } else { "ps/big" });
            Block {
                number: next,
                more: false,
                szx: 6,
            }
            .put(&mut message.options, number::BLOCK2);
            bench.ask(who, message);
            let part = bench.sent(who).remove(0);
            assert!(!part.options.has(number::OBSERVE));
            block = Block::of(&part.options, number::BLOCK2).unwrap().unwrap();
            assert_eq!(block.number, next);
            (all, next) = (all + &text(&part), next + 1);
        }
        all
    };
    bench.ask(at(2), get("ps/big"));
    let first = bench.sent(at(2)).remove(0);
    assert_eq!(first.options.uint(number::SIZE2), Some(60 << 10));
    assert!(fetch(&mut bench, at(2), first) == body);
    let notification = bench.sent(at(3)).remove(0);
    bench.answer(at(3), Kind::Acknowledgement, notification.id);
    assert!(notification.options.has(number::OBSERVE));
    assert!(fetch(&mut bench, at(3), notification) == body);
}

/// Requests of one client are done in order, and while it is being let in so many wait. \[RFC7252-4.7-3\]
#[test]
fn requests_that_wait_have_a_bound() {
    let mut bench = Bench::with(|settings| settings.max_waiting_requests = 3);
    bench.silent = true;
    let ids: Vec<u16> = (0..5)
        .map(|n| bench.ask(at(1), put("mqtt/a?c=w", &n.to_string())))
        .collect();
    let refused = bench.sent(at(1));
    assert_eq!(
        refused.iter().map(|answer| answer.id).collect::<Vec<_>>(),
        ids[3..]
    );
    assert!(
        refused
            .iter()
            .all(|answer| answer.code == Code::SERVICE_UNAVAILABLE)
    );
    bench.advance(121 * SECOND);
    let open = bench
        .sent(at(1))
        .into_iter()
        .filter(|answer| answer.code == Code::SERVICE_UNAVAILABLE);
    assert_eq!(
        open.count(),
        1,
        "then nobody waits any more; those behind it wait for its acknowledgement (NSTART)"
    );
    let mut bench = Bench::with(|settings| settings.max_client_requests_per_second = 2);
    let codes: Vec<Code> = (0..4)
        .map(|_| bench.exchange(at(1), put("mqtt/a?c=w", "x")).0)
        .collect();
    assert_eq!(
        codes[2..],
        [Code::CHANGED, Code::TOO_MANY_REQUESTS],
        "the request that logs in is free"
    );
    let told = bench.denied.pop().expect("it is told");
    assert_eq!((told.client.as_str(), told.wanted), ("w", Wanted::Send));
    assert_eq!(told.why, "max_client_requests_per_second");
}

/// Who is refused with 4.00 or 4.01 is told of in the log: who it says that it is, and the reason that it hears itself. RFC 7252 §5.9.2.1, §5.9.2.2
#[test]
fn the_log_tells_who_is_refused_and_why() {
    let long = format!("mqtt/a?c={}", "x".repeat(129));
    let token = "there is no connection of this client id with this token";
    for (request, client, why) in [
        (put("mqtt/a", "x"), "", "the client id is missing: c="),
        (put(&long, "x"), "", "the client id is too long"),
        (put("mqtt/a?c=w&qos=3", "x"), "", "qos is 0, 1 or 2"),
        (put("ps/a?clientid=w&token=x", "x"), "w", token),
    ] {
        let mut bench = Bench::new();
        assert_eq!(bench.exchange(at(1), request).0.class(), 4);
        let [told] = &bench.denied[..] else {
            panic!("{:?}", bench.denied)
        };
        assert_eq!((told.client.as_str(), &*told.why), (client, why));
        assert_eq!((told.wanted.clone(), told.who.peer_port), (Wanted::Connect, 1));
    }
    let mut bench = Bench::new();
    assert_eq!(
        bench.exchange(at(1), put("ps/a/+?clientid=w", "x")).0,
        Code::BAD_REQUEST
    );
    assert_eq!(
        bench.exchange(at(1), get("ps/a/+?clientid=w")).0,
        Code::BAD_REQUEST
    );
    let wanted: Vec<_> = bench
        .denied
        .iter()
        .map(|told| (told.client.as_str(), &told.wanted))
        .collect();
    let (publish, read) = (Wanted::Publish("a/+".into()), Wanted::Subscribe("a/+".into()));
    assert_eq!(wanted, [("w", &publish), ("w", &read)]);
}

/// RFC 9175 §2.3: what changes something must show that it is fresh, where that is wanted. \[RFC9175-2.2.1-2\] \[RFC9175-2.3-1\] \[RFC9175-2.3-4\]
#[test]
fn echo_shows_that_a_request_is_fresh() {
    let mut bench = Bench::with(|settings| settings.require_echo = true);
    let publish = post("ps/a", "x");
    bench.ask(at(1), publish.clone());
    let challenge = bench.sent(at(1)).remove(0);
    assert_eq!(challenge.code, Code::UNAUTHORIZED);
    let mut fresh = publish;
    fresh
        .options
        .push(number::ECHO, challenge.options.get(number::ECHO).unwrap().clone());
    assert_eq!(bench.exchange(at(1), fresh.clone()).0, Code::CHANGED);
    assert_eq!(
        bench.exchange(at(2), fresh.clone()).0,
        Code::UNAUTHORIZED,
        "it was given to another address"
    );
    bench.advance(61 * SECOND);
    assert_eq!(bench.exchange(at(1), fresh).0, Code::UNAUTHORIZED, "it is old");
    assert_eq!(
        bench.exchange(at(1), get("ps/none")).0,
        Code::NOT_FOUND,
        "reading needs none"
    );
}

/// An address that proves nothing gets no more than three times what came from it, whatever is observed under it. \[RFC7252-11.3-1\]
#[test]
fn nothing_is_won_by_a_forged_address() {
    let mut bench = Bench::with(|settings| settings.transmission.amplification_limit = 3);
    bench.exchange(at(9), post("ps/a?retain=1", &"x".repeat(900)));
    for n in 1..20 {
        bench.ask(at(n), observe(&format!("ps/a?c=v{n}"), 7, 0));
        bench.ask(at(n), get("ps/a"));
        bench.ask(at(n), get(".well-known/core"));
    }
    for n in 0..20 {
        bench.publish("a", &"y".repeat(n * 50), Qos::AtLeastOnce);
        bench.publish("a", &"z".repeat(n * 50), Qos::AtMostOnce);
        bench.advance(30 * SECOND);
    }
    for n in 1..20 {
        let (came, went) = bench.traffic[&at(n)];
        assert!(went <= 3 * came, "{went} for {came} at {n}");
    }
    // Who answers the ping gets everything.
    bench.ask(at(50), observe("ps/a?c=real", 7, 0));
    bench.notified_or_first(at(50));
    bench.publish("a", &"w".repeat(950), Qos::AtLeastOnce);
    let all = bench.notified_or_first(at(50));
    assert_eq!((all.len(), all[0].payload.len()), (1, 950));
}

impl Bench {
    /// All that comes for somebody who answers every ping and acknowledges everything.
    fn notified_or_first(&mut self, who: std::net::SocketAddr) -> Vec<Message> {
        let mut all = Vec::new();
        loop {
            let sent = self.sent(who);
            if sent.is_empty() {
                return all;
            }
            for message in sent {
                if message.kind == Kind::Confirmable {
                    let empty = message.code == Code::EMPTY;
                    let kind = if empty { Kind::Reset } else { Kind::Acknowledgement };
                    self.answer(who, kind, message.id);
                }
                all.push(message);
            }
        }
    }
}

/// A client that only listens is not forgotten, whoever else comes and goes: it is asked whether it is there, and notified.
#[test]
fn a_listener_among_many_others_is_not_forgotten() {
    for (qos, keep_alive) in [(0, 300), (1, 300), (0, 40_000), (1, 40_000)] {
        let mut bench = Bench::with(|settings| {
            settings.transmission.amplification_limit = 3;
            settings.keep_alive = keep_alive * SECOND;
            settings.confirm_interval = 24 * 3_600 * SECOND;
        });
        bench.publish_message(headgate_model::Message {
            retain: true,
            ..headgate_model::Message::new("big".try_into().unwrap(), "x".repeat(3_000))
        });
        bench.exchange(at(1), observe(&format!("ps/a?c=o&qos={qos}"), 7, 0));
        assert_eq!(bench.notified(at(1), 7), NOTHING);
        for hour in 0..30 {
            for n in 2..100 {
                bench.ask(at(n + 100 * hour), get("ps/big"));
                bench.advance(36 * SECOND);
                assert_eq!(bench.notified(at(1), 7), NOTHING);
            }
            bench.publish("a", &hour.to_string(), Qos::AtLeastOnce);
            assert_eq!(
                bench.notified(at(1), 7),
                [hour.to_string()],
                "QoS {qos}, asked every {keep_alive} s"
            );
        }
    }
}
