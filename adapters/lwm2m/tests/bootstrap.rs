//! Bootstrapping: LwM2M Core 1.1 §6.1.7.

mod bench;

use bench::{Bench, SECOND, at, path, post, request};
use headgate_coap_codec::{Code, Kind, Message, number};
use headgate_lwm2m::{BootstrapClient, BootstrapServer};
use headgate_model::access::AuthRefusal;

fn gateway() -> Bench {
    Bench::with(|settings| {
        settings.bootstrap.clients = vec![BootstrapClient {
            endpoint: "meter*".into(),
            delete: vec!["/".into()],
            servers: vec![BootstrapServer {
                uri: "coap://gateway.example".into(),
                short_id: 7,
                lifetime: 60 * SECOND,
                binding: "U".into(),
                psk_identity: None,
                psk_key: Default::default(),
                instance: None,
            }],
            resources: Vec::new(),
            format: None,
        }];
    })
}

/// §6.1.7.1: it is answered, cleared, written, and told that this was all.
#[test]
fn a_client_is_told_which_server_is_its_own() {
    let mut bench = gateway();
    assert_eq!(bench.code(at(1), post("bs?ep=meter-1", "")), Code::CHANGED);
    assert_eq!(bench.gauge("bootstraps"), 1);
    for (code, at_path, answer) in [
        (Code::DELETE, "", Code::DELETED),
        (Code::PUT, "/0/1", Code::CHANGED),
        (Code::PUT, "/1/1", Code::CHANGED),
        (Code::POST, "/bs", Code::CHANGED),
    ] {
        let asked = bench.asked(at(1));
        assert_eq!((asked.code, path(&asked).as_str()), (code, at_path));
        let format = asked.options.uint(number::CONTENT_FORMAT);
        assert_eq!(format, (code == Code::PUT).then_some(11_542));
        bench.answer(at(1), &asked, answer, "");
    }
    assert_eq!(bench.counts["lwm2m/bootstraps/finished"], 1);
    bench.is_empty();
}

/// §6.1.7.1: pct says what it prefers. An answer may come later, RFC 7252 §5.2.2.
#[test]
fn a_client_is_told_in_the_form_that_it_prefers() {
    let mut bench = gateway();
    bench.exchange(at(1), post("bs?ep=meter-1&pct=110", ""));
    let asked = bench.asked(at(1));
    bench.receive(at(1), &Message::empty(Kind::Acknowledgement, asked.id));
    bench.advance(200 * SECOND);
    let late = Message::new(Kind::Confirmable, Code::NOT_FOUND, 0, asked.token);
    assert_eq!(bench.say(at(1), late), Kind::Acknowledgement);
    let asked = bench.asked(at(1));
    assert_eq!(asked.options.uint(number::CONTENT_FORMAT), Some(110));
}

/// LwM2M Core 1.2 §6.1.7.7: all at once.
#[test]
fn a_client_fetches_all_at_once() {
    let mut bench = gateway();
    let answer = bench.exchange(at(1), request(Code::GET, "bspack?ep=meter-1", ""));
    assert_eq!(
        (answer.code, answer.options.uint(number::CONTENT_FORMAT)),
        (Code::CONTENT, Some(112))
    );
    bench.is_empty();
}

/// §6.1.7.1: 4.00
#[test]
fn who_is_not_bootstrapped_is_refused() {
    let mut bench = gateway();
    for uri in ["bs", "bs?ep=lamp", "bs?ep=meter/1", "bs?ep=+"] {
        assert_eq!(bench.code(at(1), post(uri, "")), Code::BAD_REQUEST, "{uri}");
    }
    bench.access.refusal = Some(AuthRefusal::Banned);
    assert_eq!(bench.code(at(1), post("bs?ep=meter-1", "")), Code::BAD_REQUEST);
    bench.is_empty();
}

/// A client that refuses a step, rejects it or says nothing is told nothing more, and may begin anew.
#[test]
fn a_bootstrap_may_fail() {
    let mut bench = gateway();
    bench.exchange(at(1), post("bs?ep=meter-1", ""));
    let asked = bench.asked(at(1));
    bench.answer(at(1), &asked, Code::BAD_REQUEST, "");
    bench.is_empty();
    bench.exchange(at(1), post("bs?ep=meter-1", ""));
    let asked = bench.asked(at(1));
    bench.receive(at(1), &Message::empty(Kind::Reset, asked.id));
    bench.is_empty();
    bench.exchange(at(1), post("bs?ep=meter-1", ""));
    bench.advance(100 * SECOND);
    bench.sent(at(1));
    bench.is_empty();
    bench.exchange(at(1), post("bs?ep=meter-1", ""));
    let asked = bench.asked(at(1));
    bench.receive(at(1), &Message::empty(Kind::Acknowledgement, asked.id));
    bench.advance(301 * SECOND);
    bench.is_empty();
    assert_eq!(bench.counts["lwm2m/bootstraps/failed"], 4);
    // It begins anew in the middle.
    for _ in 0..3 {
        bench.exchange(at(1), post("bs?ep=meter-1", ""));
    }
    assert_eq!(bench.gauge("bootstraps"), 1);
    // Nobody is asked for ever.
    bench.advance(1_000 * SECOND);
    bench.is_empty();
}

/// The access service says nothing.
#[test]
fn nobody_is_waited_for_for_ever() {
    let mut bench = gateway();
    bench.access.silent = true;
    for n in 0..10 {
        bench.ask(at(n), post("bs?ep=meter-1", ""));
    }
    assert_eq!(bench.gauge("bootstraps"), 10);
    bench.advance(301 * SECOND);
    bench.is_empty();
    bench.speak();
    bench.is_empty();
}
