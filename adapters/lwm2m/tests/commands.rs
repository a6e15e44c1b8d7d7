//! Commands from the bus: LwM2M Core 1.1 §6.3, §6.4, and queue mode, §6.5. Each has one answer.

mod bench;

use bench::{Bench, LINKS, SECOND, at, block, path, post, request, text};
use headgate_coap_codec::{Block, Code, Kind, Message, number};
use headgate_model::bus::Outcome;
use headgate_model::{AccessDecision, Action, Qos};
use serde_json::{Value as Json, json};

fn registered(query: &str) -> Bench {
    let mut bench = Bench::new();
    bench.register(at(1), query);
    bench.told("");
    bench
}

/// A client of 1.1 in queue mode.
fn sleeper() -> Bench {
    let mut bench = registered("ep=dev&lt=3600&lwm2m=1.1&Q");
    bench.advance(94 * SECOND);
    bench
}

/// §6.3, §6.4: method, path and answer of each operation.
#[test]
fn each_operation_is_a_request_and_has_its_answer() {
    let mut bench = Bench::new();
    let links = format!("</>;ct=\"110 112 11542\",{LINKS}");
    assert_eq!(
        bench.code(at(1), post("rd?ep=dev&lt=600&lwm2m=1.1", &links)),
        Code::CREATED
    );
    bench.told("");
    let senml = r#"[{"n":"/3/0/0","vs":"Headgate"},{"n":"/3/0/9","v":80}]"#;
    for (kind, data, asked, code, payload, told) in [
        (
            "read",
            json!({"path": "/3/0/0"}),
            "GET /3/0/0",
            Code::CONTENT,
            "Headgate",
            json!([{"path": "/3/0/0", "value": "Headgate"}]),
        ),
        (
            "read",
            json!({"path": "/3/0"}),
            "GET /3/0",
            Code::CONTENT,
            senml,
            json!([{"path": "/3/0/0", "value": "Headgate"}, {"path": "/3/0/9", "value": 80}]),
        ),
        (
            "read-composite",
            json!({"paths": ["/3/0/0", "/3/0/9"]}),
            "FETCH ",
            Code::CONTENT,
            senml,
            json!([{"path": "/3/0/0", "value": "Headgate"}, {"path": "/3/0/9", "value": 80}]),
        ),
        (
            "discover",
            json!({"path": "/3/0"}),
            "GET /3/0",
            Code::CONTENT,
            "</3/0>,</3/0/0>",
            json!(["</3/0>", "</3/0/0>"]),
        ),
        (
            "write",
            json!({"path": "/3/0/14", "type": "String", "value": "+02"}),
            "PUT /3/0/14",
            Code::CHANGED,
            "",
            Json::Null,
        ),
        (
            "write",
            json!({"basePath": "/3/0", "content": [{"path": "14", "value": "+02"}]}),
            "POST /3/0",
            Code::CHANGED,
            "",
            Json::Null,
        ),
        (
            "write-composite",
            json!({"content": [{"path": "/3/0/14", "value": "+02"}]}),
            "iPATCH ",
            Code::CHANGED,
            "",
            Json::Null,
        ),
        (
            "write-attr",
            json!({"path": "/3/0/9", "pmin": 10}),
            "PUT /3/0/9?pmin=10",
            Code::CHANGED,
            "",
            Json::Null,
        ),
        (
            "execute",
            json!({"path": "/3/0/4", "args": "0='1'"}),
            "POST /3/0/4",
            Code::CHANGED,
            "",
            Json::Null,
        ),
        (
            "create",
            json!({"basePath": "/3303", "content": [{"path": "1/5700", "value": 1.5}]}),
            "POST /3303",
            Code::CREATED,
            "",
            Json::Null,
        ),
        (
            "delete",
            json!({"path": "/3303/1"}),
            "DELETE /3303/1",
            Code::DELETED,
            "",
            Json::Null,
        ),
        (
            "read",
            json!({"path": "/9/9/9"}),
            "GET /9/9/9",
            Code::NOT_FOUND,
            "no such thing",
            Json::Null,
        ),
        (
            "execute",
            json!({"path": "/3/0/0"}),
            "POST /3/0/0",
            Code::METHOD_NOT_ALLOWED,
            "",
            Json::Null,
        ),
    ] {
        let number = bench.command("dev", kind, data.clone());
        let request = bench.asked(at(1));
        let method = request.code.name().unwrap_or_default().to_owned();
        let mut line = format!("{method} {}", path(&request));
        for word in request.options.all(number::URI_QUERY) {
            line += &format!("?{}", String::from_utf8_lossy(word));
        }
        assert_eq!(line.to_lowercase(), asked.to_lowercase(), "{kind}");
        bench.answer_with(at(1), &request, code, payload, |message| {
            if payload.starts_with('[') {
                message.options.push_uint(number::CONTENT_FORMAT, 110);
            } else if payload.starts_with('<') {
                message.options.push_uint(number::CONTENT_FORMAT, 40);
            }
            if code == Code::CREATED {
                message.options.push(number::LOCATION_PATH, "3303");
                message.options.push(number::LOCATION_PATH, "1");
            }
        });
        let answer = bench.answered(number);
        assert_eq!(answer["msgType"], kind);
        let data = &answer["data"];
        assert_eq!(data["code"], code.to_string(), "{kind}");
        assert_eq!(data["content"], told, "{kind}");
        if code == Code::CREATED {
            assert_eq!(data["location"], "/3303/1");
        }
        if payload == "no such thing" {
            assert_eq!(data["reason"], payload);
        }
    }
    bench.server.check();
}

/// The last value of a resource is retained at a topic of its own.
#[test]
fn the_last_value_of_a_resource_is_retained() {
    let mut bench = registered("ep=dev&lt=600");
    bench.read("dev", "/3303/0/5700");
    let asked = bench.asked(at(1));
    bench.answer(at(1), &asked, Code::CONTENT, "21.5");
    let last = bench.retained("lwm2m/dev/3303/0/5700").expect("it is retained");
    assert_eq!((&last["value"], &last["type"]), (&json!(21.5), &json!("Float")));
}

/// What is no command is answered at once, with what it says again.
#[test]
fn what_is_no_command_is_answered() {
    let mut bench = registered("ep=dev&lt=600");
    for payload in [
        "no JSON",
        "[]",
        r#"{"reqID": 1}"#,
        r#"{"reqID": 1, "msgType": "fly", "data": {}}"#,
        r#"{"reqID": 1, "msgType": "read", "data": {"path": "/x"}}"#,
        r#"{"reqID": 1, "msgType": "read", "data": {"path": "/3/0/0", "format": "xml"}}"#,
        r#"{"reqID": 1, "msgType": "write", "data": {"path": "/3/0/14", "type": "Integer", "value": "x"}}"#,
    ] {
        bench.publish("lwm2m/dev/dn/any", payload, Qos::AtLeastOnce);
        let answers = bench.answers();
        assert_eq!(answers.len(), 1, "{payload}");
        assert_eq!(answers[0].1, "4.00", "{payload}");
        assert_eq!(answers[0].0, u32::from(payload.contains("reqID")));
    }
    assert_eq!(bench.sent(at(1)), []);
    assert_eq!(bench.counts["lwm2m/commands/bad"], 7);
}

/// RFC 7252 §5.2.2: an empty acknowledgement is told, and the response comes later; it is acknowledged.
#[test]
fn a_response_may_come_later() {
    let mut bench = registered("ep=dev&lt=600");
    let number = bench.read("dev", "/3/0/0");
    let asked = bench.asked(at(1));
    bench.receive(at(1), &Message::empty(Kind::Acknowledgement, asked.id));
    let told = bench.told("up/resp");
    assert_eq!(told, [json!({"reqID": number, "msgType": "ack"})]);
    bench.advance(30 * SECOND);
    let mut late = Message::new(Kind::Confirmable, Code::CONTENT, 0, asked.token);
    late.payload = "Headgate".into();
    assert_eq!(bench.say(at(1), late.clone()), Kind::Acknowledgement);
    assert_eq!(bench.results(), [(number, "2.05".into())]);
    assert_eq!(bench.say(at(1), late), Kind::Reset, "it is nobody's any more");
    // §5.2.2: the acknowledgement may come after the response, or never.
    let number = bench.read("dev", "/3/0/1");
    let asked = bench.asked(at(1));
    let mut early = Message::new(Kind::NonConfirmable, Code::CONTENT, 0, asked.token);
    early.payload = "7".into();
    bench.ask(at(1), early);
    bench.receive(at(1), &Message::empty(Kind::Acknowledgement, asked.id));
    assert_eq!(bench.results(), [(number, "2.05".into())]);
    assert_eq!(bench.told("up/resp"), [] as [Json; 0]);
}

/// response_timeout: the request was acknowledged, and nothing follows.
#[test]
fn a_response_that_never_comes_is_told() {
    let mut bench = registered("ep=dev&lt=600");
    let number = bench.read("dev", "/3/0/0");
    let asked = bench.asked(at(1));
    bench.receive(at(1), &Message::empty(Kind::Acknowledgement, asked.id));
    bench.advance(59 * SECOND);
    assert_eq!(bench.answers(), []);
    bench.advance(2 * SECOND);
    let answer = bench.answered(number);
    assert_eq!(
        (&answer["msgType"], &answer["data"]["code"]),
        (&json!("coap_timeout"), &json!("5.04"))
    );
}

/// RFC 7252 §4.2: sent five times; then it is told, and the next command has its turn.
#[test]
fn a_client_that_does_not_answer_is_told() {
    let mut bench = registered("ep=dev&lt=600");
    let [first, second] = [bench.read("dev", "/3/0/0"), bench.read("dev", "/3/0/1")];
    bench.advance(62 * SECOND);
    let sent = bench.sent(at(1));
    assert_eq!(
        sent.iter()
            .filter(|message| message.token == sent[0].token)
            .count(),
        5
    );
    let answer = bench.answered(first);
    assert_eq!(
        (&answer["msgType"], &answer["data"]["code"]),
        (&json!("coap_timeout"), &json!("5.04"))
    );
    assert_eq!(path(sent.last().unwrap()), "/3/0/1");
    // RFC 7252 §4.2: a reset
    bench.receive(at(1), &Message::empty(Kind::Reset, sent.last().unwrap().id));
    let answer = bench.answered(second);
    assert_eq!(
        (&answer["msgType"], &answer["data"]["code"]),
        (&json!("coap_reset"), &json!("5.04"))
    );
}

/// RFC 7959 §2.4: an answer in blocks.
#[test]
fn an_answer_comes_in_blocks() {
    let mut bench = registered("ep=dev&lt=600");
    let number = bench.read("dev", "/3/0/0");
    let long = "0123456789".repeat(20);
    for (n, part) in long.as_bytes().chunks(64).enumerate() {
        let asked = bench.asked(at(1));
        let wanted = block(&asked, number::BLOCK2);
        assert_eq!(wanted.map(|block| block.number), (n > 0).then_some(n as u32));
        let part = std::str::from_utf8(part).unwrap();
        let more = (n + 1) * 64 < long.len();
        bench.answer_with(at(1), &asked, Code::CONTENT, part, |message| {
            let number = n as u32;
            Block { number, more, szx: 2 }.put(&mut message.options, number::BLOCK2);
        });
    }
    assert_eq!(bench.answered(number)["data"]["content"][0]["value"], json!(long));
}

/// RFC 7959 §2.5: a write in blocks. A client that wants smaller ones is given those.
#[test]
fn a_write_goes_in_blocks() {
    let mut bench = registered("ep=dev&lt=600");
    let long = "0123456789".repeat(250);
    let data = json!({"path": "/3/0/14", "type": "String", "value": long, "format": "text"});
    let number = bench.command("dev", "write", data);
    let mut body = String::new();
    loop {
        let asked = bench.asked(at(1));
        let part = block(&asked, number::BLOCK1).expect("a block");
        assert_eq!(part.offset(), body.len());
        body += &text(&asked);
        let code = if part.more { Code::CONTINUE } else { Code::CHANGED };
        bench.answer_with(at(1), &asked, code, "", |message| {
            Block { szx: 5, ..part }.put(&mut message.options, number::BLOCK1);
        });
        if !part.more {
            break;
        }
    }
    assert!(body == long);
    assert_eq!(bench.results(), [(number, "2.04".into())]);
}

/// An answer that cannot be put together, or read.
#[test]
fn an_answer_that_is_none_is_told() {
    let mut bench = registered("ep=dev&lt=600");
    let bad = |bench: &mut Bench, change: &dyn Fn(&mut Message)| {
        let number = bench.read("dev", "/3303/0/5700");
        let asked = bench.asked(at(1));
        bench.answer_with(at(1), &asked, Code::CONTENT, "no number", |message| {
            change(message);
        });
        assert_eq!(bench.results(), [(number, "5.02".into())]);
    };
    bad(&mut bench, &|_| {});
    bad(&mut bench, &|message| {
        message.options.push_uint(number::CONTENT_FORMAT, 11_542);
    });
    bad(&mut bench, &|message| {
        message.options.push_uint(number::CONTENT_FORMAT, 9);
    });
    bad(&mut bench, &|message| {
        let (number, more, szx) = (3, false, 2);
        Block { number, more, szx }.put(&mut message.options, number::BLOCK2);
    });
    assert_eq!(bench.counts["lwm2m/bodies/unreadable"], 4);
    bench.server.check();
}

/// One command at a time, in their order.
#[test]
fn commands_keep_their_order() {
    let mut bench = registered("ep=dev&lt=600");
    let numbers: Vec<u32> = (0..40).map(|n| bench.read("dev", &format!("/3/0/{n}"))).collect();
    for n in 0..40 {
        let asked = bench.asked(at(1));
        assert_eq!(path(&asked), format!("/3/0/{n}"));
        bench.answer(at(1), &asked, Code::NOT_FOUND, "");
    }
    let done: Vec<u32> = bench.answers().into_iter().map(|(number, ..)| number).collect();
    assert_eq!(done, numbers);
}

/// §6.5: commands wait until the client listens, and go in their order then.
#[test]
fn commands_wait_for_a_sleeper() {
    let mut bench = sleeper();
    let numbers: Vec<u32> = (0..20).map(|n| bench.read("dev", &format!("/3/0/{n}"))).collect();
    bench.advance(1_000 * SECOND);
    assert_eq!(bench.sent(at(1)), []);
    let id = bench.ask(at(1), bench::send("/3303/0/5700", 1.0));
    assert_eq!(bench.answer_to(at(1), id).unwrap().code, Code::CHANGED);
    for n in 0..20 {
        let asked = bench.asked(at(1));
        assert_eq!(path(&asked), format!("/3/0/{n}"));
        bench.answer(at(1), &asked, Code::NOT_FOUND, "");
    }
    let done: Vec<u32> = bench.answers().into_iter().map(|(number, ..)| number).collect();
    assert_eq!(done, numbers);
}

/// §6.5: how long it listens is its own; whatever it says begins that anew.
#[test]
fn a_sleeper_listens_for_a_while() {
    let mut bench = Bench::with(|settings| {
        settings.awake_windows = [("dev*".to_owned(), 10 * SECOND)].into();
    });
    let location = bench.register(at(1), "ep=dev1&lt=3600&b=UQ");
    bench.advance(9 * SECOND);
    bench.exchange(at(1), post(&location, ""));
    bench.advance(9 * SECOND);
    bench.read("dev1", "/3/0/0");
    let asked = bench.asked(at(1));
    bench.answer(at(1), &asked, Code::NOT_FOUND, "");
    bench.advance(11 * SECOND);
    bench.read("dev1", "/3/0/0");
    assert_eq!(bench.sent(at(1)), []);
}

/// A command that is too old is answered so, once, and does not go.
#[test]
fn a_command_expires() {
    let mut bench = sleeper();
    let first = bench.command("dev", "read", json!({"path": "/3/0/0", "expiry": 60}));
    let second = bench.read("dev", "/3/0/1");
    bench.advance(59 * SECOND);
    assert_eq!(bench.answers(), []);
    bench.advance(2 * SECOND);
    assert_eq!(bench.answers(), [(first, "5.04".into(), "expired".into())]);
    bench.exchange(at(1), bench::send("/3303/0/5700", 1.0));
    let asked = bench.asked(at(1));
    assert_eq!(path(&asked), "/3/0/1");
    bench.answer(at(1), &asked, Code::NOT_FOUND, "");
    assert_eq!(bench.results(), [(second, "4.04".into())]);
    bench.advance(1_000 * SECOND);
    assert_eq!(bench.answers(), []);
}

/// It falls asleep while it is asked: it is asked again when it is awake, and there is one answer.
#[test]
fn a_sleeper_that_misses_a_request_is_asked_again() {
    let mut bench = sleeper();
    let number = bench.read("dev", "/3/0/0");
    for round in 0..3 {
        bench.exchange(at(1), bench::send("/3303/0/5700", 1.0));
        assert_eq!(path(&bench.asked(at(1))), "/3/0/0", "round {round}");
        bench.advance(300 * SECOND);
        bench.sent(at(1));
    }
    bench.exchange(at(1), bench::send("/3303/0/5700", 1.0));
    let asked = bench.asked(at(1));
    bench.answer(at(1), &asked, Code::CONTENT, "Headgate");
    assert_eq!(bench.results(), [(number, "2.05".into())]);
    bench.advance(500 * SECOND);
    assert_eq!((bench.answers(), bench.sent(at(1))), (vec![], vec![]));
}

/// Nobody is there who could get it: the backend is told by the bus.
#[test]
fn a_command_for_nobody_matches_nobody() {
    let mut bench = Bench::new();
    bench.register(at(1), "ep=dev&lt=60");
    let location = bench.register(at(2), "ep=other&lt=60");
    bench.exchange(at(2), request(Code::DELETE, &location, ""));
    let number = bench.read("other", "/3/0/0");
    // The backend is subscribed to that, too.
    assert_eq!(bench.accepted[&number], Outcome::Matched);
    assert_eq!(bench.sent(at(1)).len() + bench.sent(at(2)).len(), 0);
}

/// Rules that want to be asked about answers: commands are settled when their answers are published.
#[test]
fn answers_may_have_to_be_asked_for() {
    for denies in [false, true] {
        let mut bench = registered("ep=dev&lt=600");
        bench.rule(Action::Publish, "lwm2m/dev/#", AccessDecision::Ask);
        bench.access.denies = denies;
        bench.access.silent = true;
        let numbers: Vec<u32> = (0..30).map(|n| bench.read("dev", &format!("/3/0/{n}"))).collect();
        for _ in 0..numbers.len() {
            let sent = bench.sent(at(1));
            let Some(asked) = sent.first() else { break };
            bench.answer(at(1), asked, Code::NOT_FOUND, "");
        }
        assert_eq!(bench.answers(), []);
        for _ in 0..numbers.len() {
            bench.speak();
            let sent = bench.sent(at(1));
            let Some(asked) = sent.first() else { break };
            bench.answer(at(1), asked, Code::NOT_FOUND, "");
        }
        let expected = if denies { 0 } else { numbers.len() };
        assert_eq!(bench.answers().len(), expected);
        bench.restart();
        assert_eq!(bench.sent(at(1)), [], "all are settled");
    }
}

/// max_observations: one more is refused before the client is asked.
#[test]
fn there_is_an_end_to_observations() {
    let mut bench = Bench::with(|settings| settings.max_observations = 2);
    bench.register(at(1), "ep=dev&lt=600");
    for n in 0..2 {
        bench.command("dev", "observe", json!({"path": format!("/3/0/{n}")}));
        bench.observed(at(1), 1, "x");
    }
    bench.told("");
    let number = bench.command("dev", "observe", json!({"path": "/3/0/9"}));
    let why = "too many observations (max_observations)";
    assert_eq!(bench.answers(), [(number, "4.00".into(), why.into())]);
    assert_eq!(bench.sent(at(1)), []);
    bench.command("dev", "observe", json!({"path": "/3/0/0"}));
    bench.observed(at(1), 2, "x");
    bench.command("dev", "cancel-observe", json!({"path": "/3/0/0"}));
    let asked = bench.asked(at(1));
    bench.answer(at(1), &asked, Code::CONTENT, "x");
    bench.command("dev", "observe", json!({"path": "/3/0/9"}));
    bench.observed(at(1), 1, "x");
    assert_eq!(bench.gauge("observations"), 2);
}
