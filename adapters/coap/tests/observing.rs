//! Observing, clause by clause: RFC 7641 §4.

mod bench;

use bench::{Bench, at, get, observe, text, token};
use headgate_coap_codec::{Block, Code, Kind, number};
use headgate_model::Qos;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// §4.5, §7: among notifications that want no confirmation there is one that does, at least so often. \[RFC7641-4.5-1\] \[RFC7641-7-2\]
#[test]
fn an_observer_is_to_confirm_now_and_then() {
    let mut bench = Bench::with(|settings| settings.confirm_interval = 60 * SECOND);
    bench.exchange(at(1), observe("ps/a?c=o&qos=0", 7, 0));
    let kind = |bench: &mut Bench, payload: &str| {
        bench.publish("a", payload, Qos::AtMostOnce);
        let sent = bench.sent(at(1)).remove(0);
        assert_eq!(text(&sent), payload);
        if sent.kind == Kind::Confirmable {
            bench.answer(at(1), Kind::Acknowledgement, sent.id);
        }
        sent.kind
    };
    assert_eq!(kind(&mut bench, "1"), Kind::NonConfirmable);
    bench.advance(61 * SECOND);
    assert_eq!(kind(&mut bench, "2"), Kind::Confirmable);
    assert_eq!(kind(&mut bench, "3"), Kind::NonConfirmable);
}

/// §4.1: the same client and token is the same entry, whatever it observes. \[RFC7641-4.1-2\]
#[test]
fn a_registration_takes_the_place_of_the_one_before() {
    let mut bench = Bench::new();
    for path in ["ps/a?c=o", "ps/a?c=o", "ps/b?c=o"] {
        bench.exchange(at(1), observe(path, 7, 0));
        assert_eq!(bench.gauge("observations"), 1, "{path}");
    }
    bench.publish("a", "x", Qos::AtLeastOnce);
    assert_eq!(bench.sent(at(1)), []);
    bench.publish("b", "y", Qos::AtLeastOnce);
    assert_eq!(bench.notified(at(1), 7), ["y"]);
}

/// §3.6, §4.5: a rejection ends an observation, though the notification wanted no confirmation. \[RFC7641-4.5-2\]
#[test]
fn a_rejection_ends_an_observation() {
    let mut bench = Bench::new();
    bench.exchange(at(1), observe("ps/a?c=o&qos=0", 7, 0));
    bench.publish("a", "1", Qos::AtMostOnce);
    let sent = bench.sent(at(1)).remove(0);
    assert_eq!(sent.kind, Kind::NonConfirmable);
    bench.answer(at(1), Kind::Reset, sent.id);
    bench.publish("a", "2", Qos::AtMostOnce);
    assert_eq!(bench.sent(at(1)), []);
    assert!(!bench.has_session("$coap/o/a"));
}

/// §4.1: an answer has Observe if more follows, and only then. \[RFC7641-4.1-3\] \[RFC7641-4.1-6\]
#[test]
fn an_answer_says_whether_more_follows() {
    let mut bench = Bench::with(|settings| settings.max_observations = 1);
    for (path, n, value, code, follows) in [
        ("ps/a?c=o", 7, 0, Code::CONTENT, true),
        ("ps/b?c=o", 8, 0, Code::SERVICE_UNAVAILABLE, false),
        ("ps/a?c=o", 7, 1, Code::NO_CONTENT, false),
        ("ps/b?c=o", 8, 0, Code::CONTENT, true),
    ] {
        bench.ask(at(1), observe(path, n, value));
        let answer = bench.sent(at(1)).remove(0);
        let has = answer.options.has(number::OBSERVE);
        assert_eq!((answer.code, answer.token, has), (code, token(n), follows));
    }
}

/// RFC 7959 §2.6: by its tag a client tells whether the rest is of the same notification. \[RFC7959-2.6-2\]
#[test]
fn blocks_of_a_notification_have_one_tag() {
    let mut bench = Bench::new();
    bench.exchange(at(1), observe("ps/a?c=o", 7, 0));
    bench.publish("a", &"x".repeat(2_000), Qos::AtLeastOnce);
    let first = bench.sent(at(1)).remove(0);
    bench.answer(at(1), Kind::Acknowledgement, first.id);
    let mut next = get("ps/a?c=o");
    let (number, more, szx) = (1, false, 6);
    Block { number, more, szx }.put(&mut next.options, number::BLOCK2);
    bench.ask(at(1), next);
    let rest = bench.sent(at(1)).remove(0);
    let tag = first.options.get(number::ETAG);
    assert!(tag.is_some());
    assert_eq!(rest.options.get(number::ETAG), tag);
}
