//! Observations that go on after a restart, before their clients say anything. docs/coap.md

mod bench;

use bench::{Bench, at, get, observe, put, text, token};
use headgate_coap_codec::{Block, Code, Kind, Message, number};
use headgate_model::access::{AuthRefusal, Wanted};
use headgate_model::{AccessDecision, Action, Qos};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const NOTHING: [&str; 0] = [];

fn sequence(message: &Message) -> u32 {
    message.options.uint(number::OBSERVE).expect("a notification")
}

/// The one notification that was sent, acknowledged.
fn notification(bench: &mut Bench) -> Message {
    let mut sent = bench.sent(at(1));
    assert_eq!(sent.len(), 1, "{sent:?}");
    let found = sent.remove(0);
    assert_eq!((found.kind, found.token), (Kind::Confirmable, token(7)));
    bench.answer(at(1), Kind::Acknowledgement, found.id);
    found
}

/// RFC 7641 §3.4: the token is that of the request, the numbers go on growing, over any number of restarts. \[RFC7641-3.2-1\] \[RFC7641-4.4-1\]
#[test]
fn an_observer_is_notified_after_a_restart() {
    let mut bench = Bench::new();
    bench.exchange(at(1), observe("ps/a/%2B?c=o", 7, 0));
    let mut last = 0;
    for round in 0..3 {
        for n in 0..700 {
            bench.publish("a/b", &n.to_string(), Qos::AtLeastOnce);
            let found = notification(&mut bench);
            assert!(sequence(&found) > last, "round {round}, message {n}");
            assert_eq!(text(&found), n.to_string());
            let topic: Vec<_> = found.options.all(number::LOCATION_PATH).collect();
            assert_eq!(topic, ["a", "b"]);
            last = sequence(&found);
        }
        bench.restart();
        assert_eq!(
            bench.sent(at(1)),
            [],
            "nothing is said before there is something to say"
        );
        assert_eq!(bench.left_of("$coap/o/a/+"), 0);
    }
    assert_eq!(bench.counts["coap/observations/restored"], 1);
}

/// What was not acknowledged before the restart comes first.
#[test]
fn what_waited_comes_after_a_restart() {
    let mut bench = Bench::new();
    bench.exchange(at(1), observe("ps/a?c=o", 7, 0));
    for n in 0..3 {
        bench.publish("a", &n.to_string(), Qos::AtLeastOnce);
    }
    bench.restart();
    assert_eq!(bench.notified(at(1), 7), ["0", "1", "2"]);
}

/// RFC 7252 §11.3: an address that has said nothing since the start is asked by a ping whether it is there. Who does not answer is lost, and its messages wait.
/// \[RFC7252-11.3-1\]
#[test]
fn an_address_must_show_first_that_it_receives() {
    let with_limit = || {
        let mut bench = Bench::with(|settings| settings.transmission.amplification_limit = 3);
        bench.exchange(at(1), observe("ps/a?c=o", 7, 0));
        assert_eq!(bench.notified(at(1), 7), NOTHING, "it was asked for a proof");
        bench.restart();
        for payload in ["x", "y"] {
            bench.publish("a", payload, Qos::AtLeastOnce);
        }
        bench
    };
    let mut there = with_limit();
    let ping = there.sent(at(1)).remove(0);
    assert_eq!((ping.kind, ping.code), (Kind::Confirmable, Code::EMPTY));
    there.answer(at(1), Kind::Reset, ping.id);
    assert_eq!(there.notified(at(1), 7), ["x", "y"]);

    let mut gone = with_limit();
    gone.advance(100 * SECOND);
    let sent = gone.sent(at(1));
    assert!(
        sent.len() == 5 && sent.iter().all(|message| message.code == Code::EMPTY),
        "{sent:?}"
    );
    assert_eq!(gone.left_of("$coap/o/a"), 2);
    gone.exchange(at(2), observe("ps/a?c=o", 8, 0));
    assert_eq!(gone.notified(at(2), 8), ["x", "y"]);
}

/// No password is in the store. The access service is asked without it; the client that shows it again goes on where it is, with one observation.
#[test]
fn no_password_is_kept_and_who_shows_it_goes_on() {
    let mut bench = Bench::new();
    bench.password = Some("secret");
    let uri = "ps/a?c=o&u=joe&p=secret";
    bench.exchange(at(1), observe(uri, 7, 0));
    let notes = bench.notes();
    assert_eq!(notes.len(), 1);
    assert!(!notes[0].windows(6).any(|part| part == b"secret"));
    bench.restart();
    let known = &bench.readmitted[0];
    assert_eq!(known.client_id.as_str(), "o");
    assert_eq!(
        (known.username.as_deref(), known.owner.as_deref()),
        (Some("joe"), Some("joe"))
    );
    bench.publish("a", "x", Qos::AtLeastOnce);
    assert_eq!(bench.notified(at(1), 7), ["x"]);
    assert!(!bench.has_session("o"), "it has asked for nothing");

    assert_eq!(
        bench.exchange(at(1), put("ps/b?c=o&u=joe&p=wrong", "1")).0,
        Code::UNAUTHORIZED
    );
    bench.publish("a", "y", Qos::AtLeastOnce);
    assert_eq!(bench.notified(at(1), 7), ["y"], "somebody else did not know it");
    assert_eq!(
        bench.exchange(at(1), put("ps/b?c=o&u=joe&p=secret", "1")).0,
        Code::CHANGED
    );
    assert_eq!((bench.gauge("clients"), bench.gauge("observations")), (1, 1));
    bench.publish("a", "z", Qos::AtLeastOnce);
    assert_eq!(bench.notified(at(1), 7), ["z"]);
    bench.exchange(at(1), observe(uri, 7, 1));
    assert!(!bench.has_session("$coap/o/a"));
    assert_eq!(bench.notes().len(), 0);
}

/// A long notification is fetched by a request with the password, which nobody knew when it was cut.
#[test]
fn a_long_notification_is_fetched_after_a_restart() {
    for query in ["c=o", "c=o&u=joe&p=secret"] {
        let mut bench = Bench::new();
        bench.exchange(at(1), observe(&format!("ps/a?{query}"), 7, 0));
        bench.restart();
        let long = "0123456789".repeat(250);
        bench.publish("a", &long, Qos::AtLeastOnce);
        let mut all = text(&notification(&mut bench));
        for number in 1..3 {
            let mut next = get(&format!("ps/a?{query}"));
            let (more, szx) = (false, 6);
            Block { number, more, szx }.put(&mut next.options, number::BLOCK2);
            let (code, part) = bench.exchange(at(1), next);
            assert_eq!(code, Code::CONTENT, "{query}");
            all += &part;
        }
        assert!(all == long);
        assert_eq!(bench.left_of("$coap/o/a"), 0, "{query}");
    }
}

/// Who would not be let in again, or may not read there any more, is not notified; what waits is there when it is let in again.
#[test]
fn who_may_not_come_in_is_not_notified() {
    let mut bench = Bench::new();
    bench.exchange(at(1), observe("ps/a?c=o", 7, 0));
    bench.restart_with(|bench| bench.refusal = Some(AuthRefusal::Banned));
    bench.publish("a", "x", Qos::AtLeastOnce);
    assert_eq!((bench.sent(at(1)), bench.gauge("clients")), (vec![], 0));
    bench.restart();
    assert_eq!(bench.notified(at(1), 7), ["x"]);

    bench.rule(Action::Subscribe, "a", AccessDecision::Deny(Default::default()));
    bench.restart();
    bench.publish("a", "y", Qos::AtLeastOnce);
    assert_eq!((bench.sent(at(1)), bench.gauge("clients")), (vec![], 0));
    assert_eq!(bench.denied[0].wanted, Wanted::Subscribe("a".into()));
}

/// Half as many are asked about at once as may log in at once.
#[test]
fn clients_are_let_in_again_a_few_at_a_time() {
    let mut bench = Bench::with(|settings| settings.max_logins = 4);
    for n in 0..30 {
        bench.exchange(at(n), observe(&format!("ps/a?c=o{n}"), 7, 0));
        bench.exchange(at(n), observe(&format!("ps/b?c=o{n}"), 8, 0));
    }
    bench.restart_with(|bench| bench.silent = true);
    bench.advance(10 * SECOND);
    assert_eq!(bench.gauge("logging_in"), 2);
    bench.restart();
    assert_eq!((bench.gauge("clients"), bench.gauge("observations")), (30, 60));
    assert_eq!((bench.gauge("logging_in"), bench.readmitted.len()), (0, 30));
}

/// Who logs in by itself before its turn has its observations then, and does not have to wait.
#[test]
fn who_comes_first_has_its_observations_at_once() {
    for query in ["c=o", "c=o&u=joe&p=secret"] {
        let mut bench = Bench::with(|settings| settings.max_logins = 2);
        bench.exchange(at(9), observe("ps/a?c=first", 7, 0));
        bench.exchange(at(1), observe(&format!("ps/a?{query}"), 7, 0));
        bench.restart_with(|bench| bench.silent = true);
        assert_eq!(bench.gauge("logging_in"), 1, "somebody else is asked about");
        bench.silent = false;
        assert_eq!(
            bench.exchange(at(1), put(&format!("ps/b?{query}"), "1")).0,
            Code::CHANGED
        );
        bench.publish("a", "x", Qos::AtLeastOnce);
        assert_eq!(bench.notified(at(1), 7), ["x"], "{query}");
        assert_eq!((bench.gauge("observations"), bench.readmitted.len()), (1, 0));
    }
}

/// A client that is elsewhere by now is not disturbed by what it was before.
#[test]
fn a_client_that_moved_is_not_disturbed() {
    let mut bench = Bench::new();
    bench.exchange(at(1), observe("ps/a?c=o", 7, 0));
    bench.exchange(at(1), observe("ps/b?c=o", 8, 0));
    bench.restart_with(|bench| {
        bench.exchange(at(2), observe("ps/a?c=o", 9, 0));
    });
    bench.publish("a", "x", Qos::AtLeastOnce);
    assert_eq!(bench.notified(at(2), 9), ["x"]);
    assert_eq!(bench.exchange(at(2), put("ps/c?c=o", "1")).0, Code::CHANGED);
    assert_eq!(bench.sent(at(1)), []);
    bench.publish("b", "y", Qos::AtLeastOnce);
    assert_eq!(bench.notified(at(1), 8), ["y"]);
    // It observes that, too, where it is.
    bench.exchange(at(2), observe("ps/b?c=o", 3, 0));
    bench.publish("b", "z", Qos::AtLeastOnce);
    assert_eq!(bench.notified(at(2), 3), ["z"]);
    assert_eq!(bench.sent(at(1)), []);
}

/// QoS 0, and observations under a client id that was made for its client, end with it.
#[test]
fn what_does_not_last_has_no_note() {
    let mut bench = Bench::new();
    bench.exchange(at(1), observe("ps/a?c=o&qos=0", 7, 0));
    bench.exchange(at(2), observe("ps/a", 7, 0));
    assert_eq!(bench.notes().len(), 0);
    bench.exchange(at(1), observe("ps/a?c=o&qos=1", 7, 0));
    assert_eq!(bench.notes().len(), 1);
    bench.exchange(at(1), observe("ps/a?c=o&qos=0", 7, 0));
    assert_eq!(bench.notes().len(), 0);
}

/// A client that is back and says nothing is asked whether it is there, like any other observer.
#[test]
fn who_is_back_is_asked_whether_it_is_there() {
    let mut bench = Bench::new();
    bench.exchange(at(1), observe("ps/a?c=o", 7, 0));
    bench.restart();
    bench.advance(301 * SECOND);
    let ping = bench.sent(at(1)).remove(0);
    assert_eq!(ping.code, Code::EMPTY);
    bench.advance(100 * SECOND);
    assert_eq!((bench.gauge("clients"), bench.gauge("observations")), (0, 0));
    bench.publish("a", "x", Qos::AtLeastOnce);
    assert_eq!(bench.left_of("$coap/o/a"), 1);
}
