//! What goes on after a restart, before clients say anything.

mod bench;

use bench::{Bench, LINKS, SECOND, at, post, request, send};
use headgate_coap_codec::{Code, Kind};
use headgate_model::Question;
use headgate_model::access::AuthRefusal;
use serde_json::{Value as Json, json};

fn values(bench: &mut Bench) -> Vec<Json> {
    let told = bench.told("up/notify");
    told.iter()
        .map(|told| told["data"]["content"][0]["value"].clone())
        .collect()
}

/// Registrations, observations and commands that wait are there again.
#[test]
fn everything_goes_on() {
    let mut bench = Bench::new();
    let location = bench.register(at(1), "ep=dev&lt=600&lwm2m=1.1");
    bench.command("dev", "observe", json!({"path": "/3303/0/5700"}));
    let token = bench.observed(at(1), 10, "20.5");
    let number = bench.read("dev", "/3/0/0");
    bench.told("");
    bench.restart();
    let asked = bench.asked(at(1));
    bench.answer(at(1), &asked, Code::CONTENT, "Headgate");
    assert_eq!(bench.results(), [(number, "2.05".into())]);
    assert_eq!(bench.notify(at(1), token, 11, "21.5"), Kind::Acknowledgement);
    assert_eq!(values(&mut bench), [json!(21.5)]);
    assert_eq!(bench.code(at(1), send("/3303/0/5700", 1.0)), Code::CHANGED);
    assert_eq!(bench.code(at(1), post(&location, "")), Code::CHANGED);
    assert_eq!(
        bench.told("up/resp"),
        [] as [Json; 0],
        "nothing is registered anew"
    );
    bench.advance(640 * SECOND);
    bench.is_empty();
}

/// What a client says before it was let in again waits for that.
#[test]
fn what_comes_too_early_waits() {
    let mut bench = Bench::new();
    let location = bench.register(at(1), "ep=dev&lt=600&lwm2m=1.1");
    bench.command("dev", "observe", json!({"path": "/3303/0/5700"}));
    let token = bench.observed(at(1), 10, "20.5");
    bench.told("");
    bench.restart_with(|bench| bench.access.silent = true);
    for n in 0..20 {
        assert_eq!(bench.notify(at(1), token, 11 + n, "21.5"), Kind::Acknowledgement);
    }
    assert_eq!(
        bench.code(at(1), send("/3303/0/5700", 1.0)),
        Code::SERVICE_UNAVAILABLE
    );
    bench.ask(at(1), post(&location, ""));
    assert_eq!(bench.sent(at(1)), []);
    bench.speak();
    let sent = bench.sent(at(1));
    assert!(
        sent.iter().any(|message| message.code == Code::CHANGED),
        "{sent:?}"
    );
    assert_eq!(values(&mut bench).len(), 8, "so many wait");
    assert_eq!(bench.notify(at(1), token, 99, "22.5"), Kind::Acknowledgement);
    assert_eq!(values(&mut bench), [json!(22.5)]);
}

/// An update is an update, though its client has yet to be let in again; from elsewhere, too. What it says is taken.
#[test]
fn an_update_lets_a_client_in() {
    for from in [at(1), at(2)] {
        let mut bench = Bench::new();
        bench.access.users = [(at(1), "ann"), (at(2), "ann")].into();
        let location = bench.register(at(1), "ep=dev&lt=600");
        let number = bench.read("dev", "/3/0/0");
        bench.told("");
        bench.restart();
        assert_eq!(bench.questions, [], "who had a name must show it again");
        let answer = bench.exchange(from, post(&format!("{location}?lt=60"), ""));
        assert_eq!((answer.code, answer.options.is_empty()), (Code::CHANGED, true));
        assert_eq!(bench.told("up/update")[0]["data"]["lt"], 60);
        let asked = bench.asked(from);
        bench.answer(from, &asked, Code::CONTENT, "x");
        assert_eq!(bench.results(), [(number, "2.05".into())]);
        assert_eq!(bench.notes()[0].port, from.port());
        bench.advance(100 * SECOND);
        bench.is_empty();
        // Nobody is where it was.
        assert_eq!(bench.code(at(1), send("/3/0/0", 1.0)), Code::NOT_FOUND);
    }
}

/// Who is not let in, or is another one, does not end a registration.
#[test]
fn a_registration_survives_who_is_not_let_in() {
    let mut bench = Bench::new();
    bench.access.users = [(at(1), "ann"), (at(2), "bob")].into();
    let location = bench.register(at(1), "ep=dev&lt=600");
    bench.restart();
    bench.access.refusal = Some(AuthRefusal::Busy);
    assert_eq!(bench.code(at(1), post(&location, "")), Code::SERVICE_UNAVAILABLE);
    bench.access.refusal = None;
    assert_eq!(bench.code(at(2), post(&location, "")), Code::FORBIDDEN);
    assert_eq!(
        bench.code(at(2), request(Code::DELETE, &location, "")),
        Code::FORBIDDEN
    );
    assert_eq!(bench.code(at(1), post(&location, "")), Code::CHANGED);
    assert_eq!(bench.notes()[0].port, 1);
}

/// Who leaves before it was let in again leaves nothing, and what waited for it is answered.
#[test]
fn a_client_may_leave_at_once() {
    for users in [&[(at(1), "ann")][..], &[]] {
        let mut bench = Bench::new();
        bench.access.users = users.iter().copied().collect();
        let location = bench.register(at(1), "ep=dev&lt=600&b=UQ");
        bench.advance(100 * SECOND);
        let number = bench.read("dev", "/3/0/0");
        bench.restart();
        bench.told("up/update");
        assert_eq!(
            bench.code(at(1), request(Code::DELETE, &location, "")),
            Code::DELETED
        );
        assert_eq!(bench.results(), [(number, "4.04".into())]);
        bench.is_empty();
        assert!(!bench.has_session("dev"));
    }
}

/// The lifetime ends of somebody who does not come back: what waits is answered, whoever it was.
#[test]
fn a_lifetime_ends_after_a_restart() {
    for users in [&[(at(1), "ann")][..], &[]] {
        let mut bench = Bench::new();
        bench.access.users = users.iter().copied().collect();
        bench.register(at(1), "ep=dev&lt=600&b=UQ");
        bench.advance(100 * SECOND);
        let numbers: Vec<u32> = (0..30).map(|_| bench.read("dev", "/3/0/0")).collect();
        bench.restart();
        bench.advance(629 * SECOND);
        assert_eq!(bench.answers(), []);
        bench.advance(2 * SECOND);
        let answered: Vec<u32> = bench.answers().into_iter().map(|(number, ..)| number).collect();
        assert_eq!(answered, numbers);
        bench.is_empty();
    }
}

/// Over any number of restarts, a registration ends before its session does: what waits is answered.
#[test]
fn many_restarts_do_not_make_a_lifetime_longer() {
    let mut bench = Bench::new();
    bench.access.users = [(at(1), "ann")].into();
    let location = bench.register(at(1), "ep=dev&lt=60&b=UQ");
    bench.advance(80 * SECOND);
    // A longer lifetime than its session knows.
    bench.exchange(at(1), post(&format!("{location}?lt=6000"), ""));
    bench.advance(100 * SECOND);
    let number = bench.read("dev", "/3/0/0");
    for _ in 0..5 {
        bench.restart();
        bench.advance(40 * SECOND);
    }
    assert_eq!(bench.results(), [(number, "4.04".into())]);
    bench.is_empty();
}

/// Nobody lets it in: it is let go, and its session ends by itself.
#[test]
fn who_is_not_let_in_any_more_is_let_go() {
    let mut bench = Bench::new();
    bench.register(at(1), "ep=dev&lt=600");
    bench.restart_with(|bench| bench.access.refusal = Some(AuthRefusal::Banned));
    assert_eq!(bench.gauge("clients"), 1);
    bench.advance(631 * SECOND);
    bench.is_forgotten();
    bench.advance(200 * SECOND);
    bench.is_empty();
}

/// Many lifetimes end at once: no more are asked about at once than may log in.
#[test]
fn many_lifetimes_may_end_at_once() {
    let mut bench = Bench::with(|settings| settings.max_logins = 2);
    for n in 0..10 {
        bench.access.users.insert(at(n), "ann");
        bench.register(at(n), &format!("ep=dev{n}&lt=600"));
    }
    bench.restart_with(|bench| bench.access.silent = true);
    bench.advance(640 * SECOND);
    assert_eq!(bench.gauge("logging_in"), 2);
    assert!(matches!(bench.questions[0], Question::Readmit(_)));
    bench.speak();
    bench.advance(10 * SECOND);
    bench.is_empty();
}

/// Who registers anew before its turn is not disturbed by what it was before.
#[test]
fn a_client_that_registers_anew_is_not_disturbed() {
    let mut bench = Bench::with(|settings| settings.max_logins = 2);
    bench.register(at(9), "ep=first&lt=600");
    bench.register(at(1), "ep=second&lt=600");
    bench.command("second", "observe", json!({"path": "/3303/0/5700"}));
    let before = bench.observed(at(1), 10, "20.5");
    bench.restart_with(|bench| bench.access.silent = true);
    assert_eq!(bench.gauge("logging_in"), 1, "half as many as may log in");
    bench.access.silent = false;
    let location = bench.register(at(1), "ep=second&lt=600");
    bench.observed(at(1), 1, "20.5");
    assert_eq!(bench.notify(at(1), before, 11, "1"), Kind::Reset);
    bench.speak();
    bench.advance(SECOND);
    assert_eq!(bench.code(at(1), post(&location, "")), Code::CHANGED);
    assert_eq!((bench.gauge("clients"), bench.gauge("observations")), (2, 1));
}

/// A few at a time, and over many restarts.
#[test]
fn clients_are_let_in_again_a_few_at_a_time() {
    let mut bench = Bench::with(|settings| settings.max_logins = 4);
    for n in 0..30 {
        bench.register(at(n), &format!("ep=dev{n}&lt=600"));
    }
    for _ in 0..3 {
        bench.restart_with(|bench| bench.access.silent = true);
        assert_eq!((bench.gauge("clients"), bench.gauge("logging_in")), (30, 2));
        assert_eq!(bench.code(at(99), post("rd?lt=60", LINKS)), Code::BAD_REQUEST);
        bench.restart_with(|bench| bench.access.silent = false);
        assert_eq!((bench.gauge("clients"), bench.gauge("logging_in")), (30, 0));
        assert_eq!(bench.questions.len(), 30);
    }
}

/// RFC 7252 §11.3: after a restart an address must show anew that it receives.
#[test]
fn an_address_must_show_anew_that_it_receives() {
    let mut bench = Bench::with(|settings| settings.transmission.amplification_limit = 3);
    bench.ask(at(1), post("rd?ep=dev&lt=600", LINKS));
    bench.sent(at(1));
    bench.restart();
    bench.read("dev", "/3/0/0");
    let ping = bench.sent(at(1)).remove(0);
    assert_eq!(ping.code, Code::EMPTY);
    bench.receive(at(1), &headgate_coap_codec::Message::empty(Kind::Reset, ping.id));
    assert_eq!(bench.asked(at(1)).code, Code::GET);
}
