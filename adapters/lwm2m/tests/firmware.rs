//! Firmware updates by object 5: LwM2M Core 1.1 appendix E.6.

mod bench;

use bench::{Bench, SECOND, at, block, path, request, text};
use headgate_coap_codec::{Block, Code, Message, number};
use headgate_model::Files;
use serde_json::{Value as Json, json};
use std::sync::Arc;

/// A gateway with one package, of so many bytes.
fn gateway(bytes: usize, uri: Option<&str>) -> Bench {
    let mut bench = Bench::with(|settings| {
        settings.firmware_uri = uri.map(str::to_owned);
        settings.max_block_bytes = 64;
        let files = Files::from([("v2.bin".to_owned(), vec![7; bytes].into())]);
        settings.supplies.store(&Arc::new(files));
    });
    bench.register(at(1), "ep=dev&lt=86400&lwm2m=1.0");
    bench.told("");
    bench
}

fn update(bench: &mut Bench) -> u32 {
    bench.command("dev", "update-firmware", json!({"package": "v2.bin"}))
}

/// The next request, answered.
fn step(bench: &mut Bench, expected: (Code, &str), code: Code, payload: &str) -> Message {
    let mut sent = bench.sent(at(1));
    if sent.is_empty() {
        bench.advance(5 * SECOND);
        sent = bench.sent(at(1));
    }
    assert_eq!(sent.len(), 1, "{expected:?}: {sent:?}");
    let asked = sent.remove(0);
    assert_eq!((asked.code, path(&asked).as_str()), expected);
    bench.answer(at(1), &asked, code, payload);
    asked
}

/// The package goes to the client, block by block.
fn push(bench: &mut Bench) -> usize {
    let mut bytes = 0;
    loop {
        let asked = bench.asked(at(1));
        assert_eq!((asked.code, path(&asked).as_str()), (Code::PUT, "/5/0/0"));
        let part = block(&asked, number::BLOCK1).expect("a block");
        assert_eq!(part.offset(), bytes);
        bytes += asked.payload.len();
        let code = if part.more { Code::CONTINUE } else { Code::CHANGED };
        bench.answer_with(at(1), &asked, code, "", |message| {
            part.put(&mut message.options, number::BLOCK1);
        });
        if !part.more {
            return bytes;
        }
    }
}

/// The states that were told.
fn states(bench: &mut Bench) -> Vec<String> {
    let told = bench.told("up/notify");
    let told = told.iter().filter(|told| told["data"].get("sent").is_none());
    told.map(|told| told["data"]["state"].as_str().unwrap().to_owned())
        .collect()
}

fn result(bench: &mut Bench, number: u32) -> (String, Json) {
    let answer = bench.answered(number);
    (
        answer["data"]["code"].as_str().unwrap().to_owned(),
        answer["data"]["reason"].clone(),
    )
}

const STATE: (Code, &str) = (Code::GET, "/5/0/3");
const RESULT: (Code, &str) = (Code::GET, "/5/0/5");
const METHOD: (Code, &str) = (Code::GET, "/5/0/9");
const INSTALL: (Code, &str) = (Code::POST, "/5/0/2");

/// E.6.1: pushed, checked, installed; each step is told, and there is one answer.
#[test]
fn a_package_is_pushed() {
    let mut bench = gateway(1_000, None);
    let number = update(&mut bench);
    step(&mut bench, STATE, Code::CONTENT, "0");
    step(&mut bench, METHOD, Code::CONTENT, "2");
    assert_eq!(push(&mut bench), 1_000);
    let progress = bench.told("up/notify");
    let progress = progress
        .iter()
        .filter(|told| told["data"].get("sent").is_some())
        .count();
    assert!((9..=10).contains(&progress), "{progress}");
    step(&mut bench, STATE, Code::CONTENT, "1");
    step(&mut bench, STATE, Code::CONTENT, "2");
    step(&mut bench, INSTALL, Code::CHANGED, "");
    step(&mut bench, STATE, Code::CONTENT, "3");
    step(&mut bench, STATE, Code::CONTENT, "0");
    step(&mut bench, RESULT, Code::CONTENT, "1");
    assert_eq!(result(&mut bench, number), ("2.04".into(), json!("updated")));
    assert_eq!(
        states(&mut bench),
        ["downloading", "downloaded", "updating", "idle"]
    );
    assert_eq!(bench.notes()[0].firmware, None);
    bench.advance(1_000 * SECOND);
    assert_eq!(bench.sent(at(1)), []);
}

/// E.6.1: what is left from an update before is thrown away first.
#[test]
fn what_is_left_is_thrown_away() {
    let mut bench = gateway(100, None);
    update(&mut bench);
    step(&mut bench, STATE, Code::CONTENT, "2");
    let cleared = step(&mut bench, (Code::PUT, "/5/0/0"), Code::CHANGED, "");
    assert_eq!(cleared.payload, [0].as_slice());
    step(&mut bench, METHOD, Code::CONTENT, "1");
    assert_eq!(push(&mut bench), 100);
}

/// E.6: the client fetches the package from where it is told, in blocks. RFC 7959 §2.4
#[test]
fn a_package_is_fetched() {
    let mut bench = gateway(150, Some("coap://gateway.example:5783/"));
    let number = update(&mut bench);
    step(&mut bench, STATE, Code::CONTENT, "0");
    step(&mut bench, METHOD, Code::CONTENT, "0");
    let asked = step(&mut bench, (Code::PUT, "/5/0/1"), Code::CHANGED, "");
    let uri = text(&asked);
    let place = uri
        .strip_prefix("coap://gateway.example:5783/")
        .expect("the gateway")
        .to_owned();
    let mut body = Vec::new();
    for number in 0..3 {
        let mut get = request(Code::GET, &place, "");
        let (more, szx) = (false, 2);
        Block { number, more, szx }.put(&mut get.options, number::BLOCK2);
        let part = bench.exchange(at(1), get);
        assert_eq!(
            (part.code, block(&part, number::BLOCK2).unwrap().more),
            (Code::CONTENT, number < 2)
        );
        body.extend_from_slice(&part.payload);
    }
    assert_eq!(body, [7; 150]);
    let mut beyond = request(Code::GET, &place, "");
    let (number_, more, szx) = (3, false, 2);
    Block {
        number: number_,
        more,
        szx,
    }
    .put(&mut beyond.options, number::BLOCK2);
    assert_eq!(bench.code(at(1), beyond), Code::BAD_OPTION);
    let elsewhere = place.replace("v2", "v3");
    assert_eq!(
        bench.code(at(1), request(Code::GET, &elsewhere, "")),
        Code::NOT_FOUND
    );
    step(&mut bench, STATE, Code::CONTENT, "2");
    step(&mut bench, INSTALL, Code::CHANGED, "");
    step(&mut bench, STATE, Code::CONTENT, "0");
    step(&mut bench, RESULT, Code::CONTENT, "1");
    assert_eq!(result(&mut bench, number).0, "2.04");
}

/// E.6.2: how it ended is told in words.
#[test]
fn an_update_that_fails_is_told() {
    let mut bench = gateway(100, None);
    let number = update(&mut bench);
    step(&mut bench, STATE, Code::CONTENT, "0");
    step(&mut bench, METHOD, Code::CONTENT, "1");
    push(&mut bench);
    step(&mut bench, STATE, Code::CONTENT, "0");
    step(&mut bench, RESULT, Code::CONTENT, "5");
    let why = json!("the package does not pass the integrity check");
    assert_eq!(result(&mut bench, number), ("5.00".into(), why));

    let number = update(&mut bench);
    step(&mut bench, STATE, Code::NOT_FOUND, "");
    assert_eq!(result(&mut bench, number).0, "5.02");

    let number = update(&mut bench);
    step(&mut bench, STATE, Code::CONTENT, "0");
    step(&mut bench, METHOD, Code::CONTENT, "0");
    let why = json!("the client fetches packages, and cannot here (firmware_uri)");
    assert_eq!(result(&mut bench, number), ("5.02".into(), why));

    let number = bench.command("dev", "update-firmware", json!({"package": "v3.bin"}));
    assert_eq!(result(&mut bench, number).0, "4.04");
    let data = json!({"package": "v2.bin", "pull": true});
    let number = bench.command("dev", "update-firmware", data);
    assert_eq!(result(&mut bench, number).0, "4.00");
}

/// One at a time; other commands are done meanwhile.
#[test]
fn another_update_waits_for_nobody() {
    let mut bench = gateway(100, None);
    let first = update(&mut bench);
    step(&mut bench, STATE, Code::CONTENT, "0");
    step(&mut bench, METHOD, Code::CONTENT, "1");
    push(&mut bench);
    step(&mut bench, STATE, Code::CONTENT, "1");
    let second = update(&mut bench);
    let read = bench.read("dev", "/3/0/0");
    step(&mut bench, (Code::GET, "/3/0/0"), Code::NOT_FOUND, "");
    assert_eq!(bench.results(), [(second, "4.09".into()), (read, "4.04".into())]);
    step(&mut bench, STATE, Code::CONTENT, "0");
    step(&mut bench, RESULT, Code::CONTENT, "8");
    assert_eq!(result(&mut bench, first).0, "5.00");
}

/// A command that is too old ends an update.
#[test]
fn an_update_expires() {
    let mut bench = gateway(100, None);
    let data = json!({"package": "v2.bin", "expiry": 60});
    let number = bench.command("dev", "update-firmware", data);
    step(&mut bench, STATE, Code::CONTENT, "0");
    step(&mut bench, METHOD, Code::CONTENT, "1");
    push(&mut bench);
    for _ in 0..11 {
        step(&mut bench, STATE, Code::CONTENT, "1");
    }
    bench.advance(10 * SECOND);
    assert_eq!(bench.results(), [(number, "5.04".into())]);
    bench.sent(at(1));
    bench.advance(100 * SECOND);
    assert_eq!(bench.notes()[0].firmware, None);
}

/// A package may be taken away before it was sent.
#[test]
fn a_package_that_is_taken_away_is_told() {
    let mut bench = gateway(100, None);
    let number = update(&mut bench);
    step(&mut bench, STATE, Code::CONTENT, "0");
    let mut settings = bench.settings.clone();
    settings.supplies.store(&Arc::new(Files::new()));
    bench.server.change(settings, Arc::default());
    step(&mut bench, METHOD, Code::CONTENT, "1");
    let why = json!("the package is not there any more (firmware)");
    assert_eq!(result(&mut bench, number), ("5.02".into(), why));
    bench.server.check();
}

/// After a restart it goes on where it was: the package is not sent again, and not installed twice.
#[test]
fn an_update_goes_on_after_a_restart() {
    let mut bench = gateway(100, None);
    let number = update(&mut bench);
    step(&mut bench, STATE, Code::CONTENT, "0");
    step(&mut bench, METHOD, Code::CONTENT, "1");
    push(&mut bench);
    bench.restart();
    step(&mut bench, STATE, Code::CONTENT, "2");
    step(&mut bench, INSTALL, Code::CHANGED, "");
    bench.restart();
    step(&mut bench, STATE, Code::CONTENT, "3");
    step(&mut bench, STATE, Code::CONTENT, "0");
    step(&mut bench, RESULT, Code::CONTENT, "1");
    assert_eq!(result(&mut bench, number).0, "2.04");
    bench.restart();
    bench.advance(100 * SECOND);
    assert_eq!((bench.sent(at(1)), bench.answers()), (vec![], vec![]));
}

/// A client that is updated starts anew, and so registers anew. The update goes on.
#[test]
fn a_client_that_starts_anew_goes_on() {
    let mut bench = gateway(100, None);
    let number = update(&mut bench);
    step(&mut bench, STATE, Code::CONTENT, "0");
    step(&mut bench, METHOD, Code::CONTENT, "1");
    push(&mut bench);
    step(&mut bench, STATE, Code::CONTENT, "2");
    step(&mut bench, INSTALL, Code::CHANGED, "");
    bench.register(at(1), "ep=dev&lt=86400");
    step(&mut bench, STATE, Code::CONTENT, "0");
    step(&mut bench, RESULT, Code::CONTENT, "1");
    assert_eq!(result(&mut bench, number).0, "2.04");
}

/// LwM2M Core 1.1 §6.5: a client in queue mode that sleeps in the middle is asked again when it is awake.
#[test]
fn a_sleeper_is_updated() {
    let mut bench = gateway(100, None);
    let location = bench.register(at(1), "ep=dev&lt=86400&b=UQ");
    bench.told("");
    let number = update(&mut bench);
    step(&mut bench, STATE, Code::CONTENT, "0");
    step(&mut bench, METHOD, Code::CONTENT, "1");
    push(&mut bench);
    bench.advance(1_000 * SECOND);
    bench.sent(at(1));
    bench.exchange(at(1), bench::post(&location, ""));
    step(&mut bench, STATE, Code::CONTENT, "1");
    bench.advance(SECOND);
    bench.exchange(at(1), bench::post(&location, ""));
    step(&mut bench, STATE, Code::CONTENT, "2");
    step(&mut bench, INSTALL, Code::CHANGED, "");
    step(&mut bench, STATE, Code::CONTENT, "0");
    step(&mut bench, RESULT, Code::CONTENT, "1");
    assert_eq!(result(&mut bench, number).0, "2.04");
}
