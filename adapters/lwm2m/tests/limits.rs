//! What one client, or one application, can take from others has a bound.

mod bench;

use bench::{Bench, at, post, send};
use headgate_coap_codec::{Code, Kind, Message};
use serde_json::json;
use std::time::Duration;

/// A client has so many retained values, whatever it sends.
#[test]
fn retained_values_of_a_client_have_a_bound() {
    let mut bench = Bench::with(|settings| settings.max_retained_resources = 2);
    bench.register(at(1), "ep=dev&lt=60&lwm2m=1.1");
    for n in 0..5 {
        let path = format!("/3303/{n}/5700");
        assert_eq!(bench.code(at(1), send(&path, 1.0)), Code::CHANGED);
    }
    let retained = (0..5).filter(|n| bench.retained(&format!("lwm2m/dev/3303/{n}/5700")).is_some());
    assert_eq!(retained.count(), 2);
    assert_eq!(bench.code(at(1), send("/3303/1/5700", 7.0)), Code::CHANGED);
    assert_eq!(
        bench.retained("lwm2m/dev/3303/1/5700").unwrap()["value"],
        json!(7.0),
        "those stay up to date"
    );
}

/// An application is told once that the client has acknowledged its command, and what it may ask for has a bound.
#[test]
fn what_is_said_again_has_a_bound() {
    let mut bench = Bench::new();
    bench.register(at(1), "ep=dev&lt=60");
    let number = bench.command("dev", "read", json!({"path": "/3/0/0"}));
    let asked = bench.asked(at(1));
    bench.told("");
    bench.receive(at(1), &Message::empty(Kind::Acknowledgement, asked.id));
    let told = bench.told("up/resp");
    assert_eq!((told.len(), &told[0]["msgType"]), (1, &json!("ack")));
    let separate = Message {
        payload: "x".into(),
        ..Message::new(Kind::Confirmable, Code::CONTENT, 0, asked.token)
    };
    assert_eq!(bench.say(at(1), separate), Kind::Acknowledgement);
    assert_eq!(bench.results(), [(number, "2.05".into())]);
    let paths: Vec<String> = (0..300).map(|n| format!("/3303/{n}/5700")).collect();
    let number = bench.command("dev", "read-composite", json!({"paths": paths}));
    assert_eq!(bench.results(), [(number, "4.00".into())]);
}

/// A notification counts as what a client sends.
#[test]
fn notifications_count_for_the_rate_of_a_client() {
    let mut bench = Bench::with(|settings| settings.max_client_requests_per_second = 5);
    bench.register(at(1), "ep=dev&lt=600");
    bench.command("dev", "observe", json!({"path": "/3303/0/5700"}));
    let token = bench.observed(at(1), 1, "20");
    bench.told("");
    for n in 0..50 {
        bench.notify(at(1), token, 2 + n, "21");
    }
    let told = bench.told("up/notify").len();
    assert!((1..=5).contains(&told), "{told}");
    bench.advance(Duration::from_secs(2));
    bench.notify(at(1), token, 90, "22");
    assert_eq!(bench.told("up/notify").len(), 1);
}

/// Two endpoints at one address: what is sent there belongs to who has updated last.
#[test]
fn an_update_takes_its_address_back() {
    let mut bench = Bench::new();
    let first = bench.register(at(1), "ep=first&lt=60&lwm2m=1.1");
    bench.register(at(1), "ep=second&lt=60&lwm2m=1.1");
    assert_eq!(bench.code(at(1), post(&first, "")), Code::CHANGED);
    assert_eq!(bench.code(at(1), send("/3303/0/5700", 1.0)), Code::CHANGED);
    assert!(bench.retained("lwm2m/first/3303/0/5700").is_some());
}

/// What was asked for where a client was is asked for where it is, as soon as it says something there.
#[test]
fn what_was_asked_goes_where_the_client_is() {
    let mut bench = Bench::new();
    bench.register(at(1), "ep=dev&lt=600");
    bench.command("dev", "observe", json!({"path": "/3303/0/5700"}));
    let token = bench.observed(at(1), 1, "20");
    let number = bench.command("dev", "read", json!({"path": "/3/0/0"}));
    bench.sent(at(1));
    bench.notify(at(2), token, 2, "21");
    let asked = bench.asked(at(2));
    bench.answer(at(2), &asked, Code::CONTENT, "x");
    assert!(bench.results().contains(&(number, "2.05".into())));
}

/// Two addresses are no way around the rate of a client, and it does not have each of its places written down.
#[test]
fn who_comes_from_everywhere_has_one_rate() {
    let mut bench = Bench::with(|settings| settings.max_client_requests_per_second = 5);
    let location = bench.register(at(1), "ep=dev&lt=600");
    let refused =
        (0..50).filter(|n| bench.code(at(1 + n % 2), post(&location, "")) == Code::TOO_MANY_REQUESTS);
    assert!(refused.count() > 30);
}

/// Who registers again and again has no more retained values than before.
#[test]
fn registering_anew_retains_nothing_more() {
    let mut bench = Bench::with(|settings| settings.max_retained_resources = 2);
    for n in 0..4 {
        bench.register(at(1), "ep=dev&lt=60&lwm2m=1.1");
        assert_eq!(
            bench.code(at(1), send(&format!("/3303/{n}/5700"), 1.0)),
            Code::CHANGED
        );
    }
    let retained = (0..4).filter(|n| bench.retained(&format!("lwm2m/dev/3303/{n}/5700")).is_some());
    assert_eq!(retained.count(), 2);
}
