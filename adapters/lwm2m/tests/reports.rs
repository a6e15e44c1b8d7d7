//! What clients say by themselves: notifications, LwM2M Core 1.1 §6.4 and RFC 7641, and Send, §6.4.6.

mod bench;

use bench::{Bench, SECOND, at, block, post, request, send};
use headgate_coap_codec::{Block, Code, Kind, Message, Token, number};
use headgate_model::{AccessDecision, Action};
use serde_json::{Value as Json, json};

fn observed() -> (Bench, Token) {
    let mut bench = Bench::new();
    bench.register(at(1), "ep=dev&lt=6000");
    bench.command("dev", "observe", json!({"path": "/3303/0/5700"}));
    let token = bench.observed(at(1), 10, "20.5");
    bench.told("");
    (bench, token)
}

/// The values that were notified.
fn values(bench: &mut Bench) -> Vec<Json> {
    let told = bench.told("up/notify");
    let values = told
        .iter()
        .map(|told| told["data"]["content"][0]["value"].clone());
    values.collect()
}

/// Words of the command are said again with each notification, and the value is retained.
#[test]
fn a_notification_is_told() {
    let (mut bench, token) = observed();
    assert_eq!(bench.notify(at(1), token, 11, "21.5"), Kind::Acknowledgement);
    let told = bench.told("up/notify");
    assert_eq!(told.len(), 1);
    let told = &told[0];
    assert_eq!(
        (&told["msgType"], &told["reqID"], &told["seqNum"]),
        (&json!("notify"), &json!(1), &json!(11))
    );
    assert_eq!(told["data"]["reqPath"], "/3303/0/5700");
    let last = bench.retained("lwm2m/dev/3303/0/5700").unwrap();
    assert_eq!(last["value"], 21.5);
}

/// RFC 7641 §3.4: what is older than the last one is dropped; after 128 s everything is newer.
#[test]
fn an_old_notification_is_dropped() {
    let (mut bench, token) = observed();
    for (sequence, value) in [
        (12, "1"),
        (11, "2"),
        (12, "3"),
        (13, "4"),
        (0x70_0000, "5"),
        (0xE0_0000, "9"),
        (5, "6"),
    ] {
        assert_eq!(bench.notify(at(1), token, sequence, value), Kind::Acknowledgement);
    }
    assert_eq!(
        values(&mut bench),
        [1.0, 4.0, 5.0, 9.0, 6.0].map(|value| json!(value))
    );
    assert_eq!(bench.counts["lwm2m/notifications/old"], 2);
    bench.advance(129 * SECOND);
    bench.notify(at(1), token, 1, "7");
    assert_eq!(values(&mut bench), [json!(7.0)]);
}

/// RFC 7641 §3.2: an error is the last notification.
#[test]
fn an_error_ends_an_observation() {
    let (mut bench, token) = observed();
    let message = Message::new(Kind::Confirmable, Code::NOT_FOUND, 0, token);
    assert_eq!(bench.say(at(1), message), Kind::Acknowledgement);
    let told = bench.told("up/notify");
    assert_eq!(told[0]["data"]["code"], "4.04");
    assert_eq!(
        (bench.gauge("observations"), bench.notes()[0].observed.len()),
        (0, 0)
    );
    assert_eq!(bench.notify(at(1), token, 12, "1"), Kind::Reset);
}

/// RFC 7641 §3.6: what nobody observes is rejected.
#[test]
fn an_unknown_notification_is_rejected() {
    let (mut bench, _) = observed();
    let stranger = Token::new(b"stranger").unwrap();
    assert_eq!(bench.notify(at(1), stranger, 1, "1"), Kind::Reset);
    assert_eq!(bench.notify(at(9), stranger, 1, "1"), Kind::Reset);
    assert_eq!(values(&mut bench), [] as [Json; 0]);
}

/// RFC 7641 §3.6: an observation is ended by a request under its token.
#[test]
fn an_observation_is_cancelled() {
    let (mut bench, token) = observed();
    let number = bench.command("dev", "cancel-observe", json!({"path": "/3303/0/5700"}));
    let asked = bench.asked(at(1));
    assert_eq!(
        (asked.options.uint(number::OBSERVE), asked.token),
        (Some(1), token)
    );
    // A notification that was under way is none of the answer.
    assert_eq!(bench.notify(at(1), token, 11, "1"), Kind::Acknowledgement);
    assert_eq!(values(&mut bench), [json!(1.0)]);
    bench.answer(at(1), &asked, Code::CONTENT, "2");
    assert_eq!(bench.results(), [(number, "2.05".into())]);
    assert_eq!(bench.notify(at(1), token, 12, "3"), Kind::Reset);
    assert_eq!(
        (bench.gauge("observations"), bench.notes()[0].observed.len()),
        (0, 0)
    );
}

/// A client that does not want to be observed answers without the option. RFC 7641 §3.1
#[test]
fn an_answer_without_the_option_is_no_observation() {
    let mut bench = Bench::new();
    bench.register(at(1), "ep=dev&lt=600");
    let number = bench.command("dev", "observe", json!({"path": "/3303/0/5700"}));
    let asked = bench.asked(at(1));
    bench.answer(at(1), &asked, Code::CONTENT, "20.5");
    assert_eq!(bench.results(), [(number, "5.01".into())]);
    assert_eq!(bench.gauge("observations"), 0);
}

/// The same is observed once, under its token.
#[test]
fn the_same_is_observed_once() {
    let (mut bench, token) = observed();
    bench.command("dev", "observe", json!({"path": "/3303/0/5700"}));
    assert_eq!(bench.observed(at(1), 11, "21.5"), token);
    assert_eq!(bench.gauge("observations"), 1);
}

/// LwM2M Core 1.1 §6.4.8: several paths at once.
#[test]
fn several_paths_are_observed_at_once() {
    let mut bench = Bench::new();
    bench.register(at(1), "ep=dev&lt=600&lwm2m=1.1");
    let paths = json!({"paths": ["/3/0/9", "/3303/0/5700"]});
    bench.command("dev", "observe-composite", paths.clone());
    let asked = bench.asked(at(1));
    assert_eq!(
        (asked.code, asked.options.uint(number::OBSERVE)),
        (Code::FETCH, Some(0))
    );
    let values = r#"[{"n":"/3/0/9","v":80},{"n":"/3303/0/5700","v":20.5}]"#;
    let senml = |message: &mut Message| {
        message.options.push_uint(number::OBSERVE, 2);
        message.options.push_uint(number::CONTENT_FORMAT, 110);
    };
    bench.answer_with(at(1), &asked, Code::CONTENT, values, senml);
    let mut message = Message::new(Kind::Confirmable, Code::CONTENT, 0, asked.token);
    message.options.push_uint(number::OBSERVE, 3);
    message.options.push_uint(number::CONTENT_FORMAT, 110);
    message.payload = values.into();
    bench.say(at(1), message);
    let told = bench.told("up/notify");
    assert_eq!(told[0]["data"]["paths"], paths["paths"]);
    assert_eq!(told[0]["data"]["content"].as_array().unwrap().len(), 2);
    bench.restart();
    assert_eq!(bench.gauge("observations"), 1);
    bench.command("dev", "cancel-observe-composite", paths);
    let cancel = bench.asked(at(1));
    assert_eq!((cancel.code, cancel.token), (Code::FETCH, asked.token));
}

/// RFC 7959 §2.6: the first block is notified, the others are fetched.
#[test]
fn a_long_notification_is_fetched() {
    let mut bench = Bench::new();
    bench.register(at(1), "ep=dev&lt=600");
    bench.command("dev", "observe", json!({"path": "/3/0/0"}));
    let token = bench.observed(at(1), 1, "short");
    bench.told("");
    let long = "0123456789".repeat(15);
    let parts: Vec<&str> = long
        .as_bytes()
        .chunks(64)
        .map(|part| std::str::from_utf8(part).unwrap())
        .collect();
    let put = |message: &mut Message, number: u32| {
        let more = (number as usize) + 1 < parts.len();
        Block { number, more, szx: 2 }.put(&mut message.options, number::BLOCK2);
    };
    let mut first = Message::new(Kind::Confirmable, Code::CONTENT, 0, token);
    first.options.push_uint(number::OBSERVE, 2);
    put(&mut first, 0);
    first.payload = parts[0].to_owned().into();
    assert_eq!(bench.say(at(1), first), Kind::Acknowledgement);
    for (n, part) in parts.iter().enumerate().skip(1) {
        let asked = bench.asked(at(1));
        assert_ne!(asked.token, token);
        assert!(!asked.options.has(number::OBSERVE));
        assert_eq!(block(&asked, number::BLOCK2).unwrap().number, n as u32);
        bench.answer_with(at(1), &asked, Code::CONTENT, part, |message| {
            put(message, n as u32);
        });
    }
    let told = bench.told("up/notify");
    assert_eq!((told.len(), &told[0]["seqNum"]), (1, &json!(2)));
    assert_eq!(told[0]["data"]["content"][0]["value"], json!(long));
    bench.server.check();
}

/// auto_observe: what is observed of each client that has it, at once.
#[test]
fn some_things_are_observed_at_once() {
    let mut bench = Bench::with(|settings| settings.auto_observe = vec!["/3303".into(), "/3304".into()]);
    bench.register(at(1), "ep=dev&lt=600");
    assert_eq!(bench.notes()[0].observed.len(), 1);
    let asked = bench.asked(at(1));
    assert_eq!(bench::path(&asked), "/3303");
    bench.restart();
    assert_eq!(bench::path(&bench.asked(at(1))), "/3303", "over a restart, too");
}

/// A client behind a NAT notifies from elsewhere: it is known by its token.
#[test]
fn a_notification_may_come_from_elsewhere() {
    let (mut bench, token) = observed();
    assert_eq!(bench.notify(at(5), token, 11, "21.5"), Kind::Acknowledgement);
    assert_eq!(values(&mut bench), [json!(21.5)]);
    bench.read("dev", "/3/0/0");
    bench.asked(at(5));
    assert_eq!(bench.notes()[0].port, 5);
}

/// LwM2M Core 1.1 §6.4.6.1: 2.04 when what was sent is safe, and not before.
#[test]
fn what_is_sent_is_acknowledged_when_it_is_safe() {
    let mut bench = Bench::new();
    bench.register(at(1), "ep=dev&lt=600&lwm2m=1.1");
    bench.told("");
    bench.withheld = true;
    let id = bench.ask(at(1), send("/3303/0/5700", 21.5));
    assert_eq!(bench.answer_to(at(1), id), None);
    bench.withheld = false;
    bench.run();
    assert_eq!(bench.answer_to(at(1), id).unwrap().code, Code::CHANGED);
    let told = bench.told("up/notify");
    let data = json!({"reqPath": "/dp", "content": [{"path": "/3303/0/5700", "value": 21.5}]});
    assert_eq!(told, [json!({"msgType": "send", "data": data})]);
    assert_eq!(bench.retained("lwm2m/dev/3303/0/5700").unwrap()["value"], 21.5);
}

/// Who may not say it is told: 4.03. What cannot be read is 4.00, what comes from nobody 4.04.
#[test]
fn what_is_sent_may_be_refused() {
    for asks in [false, true] {
        let mut bench = Bench::new();
        bench.register(at(1), "ep=dev&lt=600&lwm2m=1.1");
        let decision = if asks {
            AccessDecision::Ask
        } else {
            AccessDecision::Deny(Default::default())
        };
        bench.rule(Action::Publish, "lwm2m/dev/up/notify", decision);
        bench.access.denies = true;
        assert_eq!(bench.code(at(1), send("/3303/0/5700", 21.5)), Code::FORBIDDEN);
        assert_eq!(bench.told("up/notify"), [] as [Json; 0]);
        assert_eq!(bench.code(at(2), send("/3303/0/5700", 21.5)), Code::NOT_FOUND);
        let mut bad = post("dp", "no JSON");
        bad.options.push_uint(number::CONTENT_FORMAT, 110);
        assert_eq!(bench.code(at(1), bad), Code::BAD_REQUEST);
    }
}

/// Who sends more than can be made safe is told so: 5.03.
#[test]
fn there_is_an_end_to_what_waits() {
    let mut bench = Bench::new();
    bench.register(at(1), "ep=dev&lt=600&lwm2m=1.1");
    bench.rule(Action::Publish, "lwm2m/dev/#", AccessDecision::Ask);
    bench.access.silent = true;
    let ids: Vec<u16> = (0..1_000)
        .map(|n| bench.ask(at(1), send("/3303/0/5700", n.into())))
        .collect();
    let refused = ids
        .iter()
        .filter(|id| bench.answer_to(at(1), **id).is_some())
        .count();
    assert_eq!(refused, 1_000 - 32);
    for _ in 0..4 {
        bench.speak();
    }
    let answered = ids
        .iter()
        .filter(|id| bench.answer_to(at(1), **id).is_some())
        .count();
    assert_eq!(answered, 32);
    assert_eq!(bench.told("up/notify").len(), 32);
}

/// Notifications that wait for the access service are bounded, and count as memory.
#[test]
fn there_is_an_end_to_notifications_that_wait() {
    let (mut bench, token) = observed();
    bench.rule(Action::Publish, "lwm2m/dev/#", AccessDecision::Ask);
    bench.access.silent = true;
    for n in 0..1_000 {
        bench.notify(at(1), token, 11 + n, "21.5");
    }
    bench.speak();
    bench.speak();
    let told = bench.told("up/notify").len();
    assert!((100..=260).contains(&told), "{told}");
    assert!(bench.counts["lwm2m/reports/refused"] > 1_000);
    let weight = |bench: &Bench| {
        bench
            .server
            .tables()
            .iter()
            .find(|(name, _)| *name == "weight")
            .unwrap()
            .1
    };
    assert!(weight(&bench) < 1_000);
}

/// A client that is gone leaves nothing, whatever was under way.
#[test]
fn nothing_is_left_of_who_is_gone() {
    let mut bench = Bench::new();
    let location = bench.register(at(1), "ep=dev&lt=600&lwm2m=1.1");
    bench.command("dev", "observe", json!({"path": "/3303/0/5700"}));
    bench.observed(at(1), 10, "20.5");
    bench.told("");
    let running = bench.read("dev", "/3/0/0");
    let waiting = bench.read("dev", "/3/0/1");
    bench.ask(at(1), request(Code::DELETE, &location, ""));
    let why = "the client is not registered any more".to_owned();
    let gone = |number| (number, "4.04".to_owned(), why.clone());
    assert_eq!(bench.answers(), [gone(running), gone(waiting)]);
    bench.is_empty();
}

/// An acknowledgement is never answered, whatever it carries; and it carries the response of the message that it acknowledges, and of no other. \[RFC7252-4.2-6\] \[RFC7252-5.3.2-2\]
#[test]
fn an_acknowledgement_fits_its_message() {
    let (mut bench, _) = observed();
    let mut stray = Message::new(
        Kind::Acknowledgement,
        Code::CONTENT,
        7,
        Token::new(b"stray").unwrap(),
    );
    stray.options.push_uint(number::OBSERVE, 3);
    bench.receive(at(1), &stray);
    assert_eq!(bench.sent(at(1)), []);
    let number = bench.read("dev", "/3/0/0");
    let asked = bench.asked(at(1));
    let other = Message::new(
        Kind::Acknowledgement,
        Code::CONTENT,
        asked.id.wrapping_add(9),
        asked.token,
    );
    bench.receive(at(1), &other);
    assert_eq!(bench.results(), []);
    bench.answer(at(1), &asked, Code::CONTENT, "x");
    assert_eq!(bench.results(), [(number, "2.05".into())]);
}

/// A response with a critical option that is not known is rejected, RFC 7252 §5.4.1; and this is no proxy. \[RFC7252-5.10.2-2\]
#[test]
fn what_is_not_understood_is_rejected() {
    let (mut bench, token) = observed();
    let mut strange = Message::new(Kind::Confirmable, Code::CONTENT, 0, token);
    strange.options.push_uint(number::OBSERVE, 11);
    strange.options.push(9, "x");
    assert_eq!(bench.say(at(1), strange), Kind::Reset);
    assert_eq!(values(&mut bench), [] as [Json; 0]);
    let mut proxied = post("rd?ep=other", "");
    proxied.options.push(number::PROXY_URI, "coap://other/");
    assert_eq!(bench.code(at(2), proxied), Code::PROXYING_NOT_SUPPORTED);
}
