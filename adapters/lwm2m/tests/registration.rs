//! Registrations: LwM2M Core 1.1 §6.2.

mod bench;

use bench::{Bench, LINKS, SECOND, at, location, post, request, send, text};
use headgate_coap_codec::{Block, Code, Message, number};
use headgate_model::access::{AuthRefusal, Wanted};
use headgate_model::{AccessDecision, Action, Qos};
use serde_json::json;

/// §6.2.1: the answer has the location, and it is told what was said.
#[test]
fn a_client_registers() {
    let mut bench = Bench::new();
    let location = bench.register(at(1), "ep=dev&lt=60&lwm2m=1.1&b=U");
    assert_eq!(location.len(), "rd/".len() + 16);
    let told = bench.told("lwm2m/dev/up/resp");
    let data = json!({"ep": "dev", "lt": 60, "lwm2m": "1.1", "b": "U", "alternatePath": "/",
        "objectList": ["/1/0", "/3/0", "/5/0", "/3303/0"]});
    assert_eq!(told, [json!({"msgType": "register", "data": data})]);
    let notes = bench.notes();
    assert_eq!(
        (notes.len(), notes[0].registration().endpoint.as_str()),
        (1, "dev")
    );
    assert_eq!(bench.gauge("clients"), 1);
}

/// §6.2.1.1: a registration is in as many blocks as it needs. RFC 7959 §2.5
#[test]
fn a_registration_comes_in_blocks() {
    let mut bench = Bench::new();
    let links = format!(
        "{LINKS},{}",
        (0..20)
            .map(|n| format!("</10/{n}>"))
            .collect::<Vec<_>>()
            .join(",")
    );
    let parts: Vec<_> = links.as_bytes().chunks(64).collect();
    for (n, part) in parts.iter().enumerate() {
        let mut message = post("rd?ep=dev&lwm2m=1.1", std::str::from_utf8(part).unwrap());
        let (number, more) = (n as u32, n + 1 < parts.len());
        Block { number, more, szx: 2 }.put(&mut message.options, number::BLOCK1);
        let answer = bench.exchange(at(1), message);
        let expected = if more { Code::CONTINUE } else { Code::CREATED };
        assert_eq!(answer.code, expected);
    }
    let told = bench.told("up/resp");
    assert_eq!(told[0]["data"]["objectList"].as_array().unwrap().len(), 24);
}

/// §6.2.1.3, and RFC 7252 §5.4.1. Each is answered, and nothing is left.
#[test]
fn what_is_no_registration_is_refused() {
    let mut bench = Bench::with(|settings| settings.max_links_bytes = 100);
    let long = "</3/0>,".repeat(20);
    for (uri, links, code) in [
        ("rd?lt=60", LINKS, Code::BAD_REQUEST),
        ("rd?ep=&lt=60", LINKS, Code::BAD_REQUEST),
        ("rd?ep=a/b", LINKS, Code::BAD_REQUEST),
        ("rd?ep=a%2B+", LINKS, Code::BAD_REQUEST),
        ("rd?ep=#", LINKS, Code::BAD_REQUEST),
        ("rd?ep=$lwm2m", LINKS, Code::BAD_REQUEST),
        ("rd?ep=dev&lt=soon", LINKS, Code::BAD_REQUEST),
        ("rd?ep=dev&lt=4294967295", LINKS, Code::BAD_REQUEST),
        ("rd?ep=dev&b=SMS1", LINKS, Code::BAD_REQUEST),
        ("rd?ep=dev&lwm2m=2.0", LINKS, Code::PRECONDITION_FAILED),
        ("rd?ep=dev", "no links", Code::BAD_REQUEST),
        ("rd?ep=dev", &long, Code::REQUEST_ENTITY_TOO_LARGE),
        ("rd/0123456789abcdef?lt=60", "", Code::NOT_FOUND),
        ("rd/a/b", "", Code::NOT_FOUND),
        ("elsewhere", "", Code::NOT_FOUND),
    ] {
        assert_eq!(bench.code(at(1), post(uri, links)), code, "{uri}");
    }
    for (code, uri) in [
        (Code::GET, "rd"),
        (Code::PUT, "dp"),
        (Code::GET, "rd/x"),
        (Code::POST, "bspack"),
    ] {
        assert_eq!(
            bench.code(at(1), request(code, uri, "")),
            Code::METHOD_NOT_ALLOWED,
            "{uri}"
        );
    }
    let mut cbor = post("rd?ep=dev", LINKS);
    cbor.options.push_uint(number::CONTENT_FORMAT, 60);
    assert_eq!(bench.code(at(1), cbor), Code::UNSUPPORTED_CONTENT_FORMAT);
    let mut critical = post("rd?ep=dev", LINKS);
    critical.options.push(number::IF_MATCH, "x");
    assert_eq!(bench.code(at(1), critical), Code::BAD_OPTION);
    bench.is_empty();
    assert!(!bench.has_session("dev"));
}

/// §6.4.1: requests go below the alternate path.
#[test]
fn an_alternate_path_goes_in_front() {
    let mut bench = Bench::new();
    let links = "</lwm2m>;rt=\"oma.lwm2m\",</lwm2m/3/0>";
    assert_eq!(
        bench.code(at(1), post("rd?ep=dev&lwm2m=1.1", links)),
        Code::CREATED
    );
    assert_eq!(bench.told("up/resp")[0]["data"]["alternatePath"], "/lwm2m");
    bench.read("dev", "/3/0/0");
    assert_eq!(bench::path(&bench.asked(at(1))), "/lwm2m/3/0/0");
}

/// §6.2.2: 2.04, and it is told what is registered now. The lifetime begins anew.
#[test]
fn an_update_renews_a_registration() {
    let mut bench = Bench::new();
    let location = bench.register(at(1), "ep=dev&lt=60");
    for _ in 0..3 {
        bench.advance(80 * SECOND);
        assert_eq!(bench.code(at(1), post(&location, "")), Code::CHANGED);
    }
    assert_eq!(
        bench.code(at(1), post(&format!("{location}?lt=x"), "")),
        Code::BAD_REQUEST
    );
    assert_eq!(
        bench.code(at(1), post(&format!("{location}?lt=600"), "</9/1>")),
        Code::CHANGED
    );
    let told = bench.told("up/update");
    assert_eq!(told.len(), 4);
    assert_eq!(told[3]["data"]["objectList"], json!(["/9/1"]));
    bench.advance(620 * SECOND);
    assert_eq!(bench.gauge("clients"), 1);
    bench.advance(20 * SECOND);
    bench.is_empty();
}

/// §6.2.3: 2.02, and the session has ended. Who does so again is not known.
#[test]
fn a_client_leaves() {
    let mut bench = Bench::new();
    let location = bench.register(at(1), "ep=dev&lt=60");
    bench.told("up/resp");
    assert_eq!(
        bench.code(at(1), request(Code::DELETE, &location, "")),
        Code::DELETED
    );
    let told = bench.told("up/resp");
    assert_eq!(
        told,
        [json!({"msgType": "deregister", "data": {"ep": "dev", "reason": "client"}})]
    );
    assert_eq!(
        bench.code(at(1), request(Code::DELETE, &location, "")),
        Code::NOT_FOUND
    );
    bench.is_empty();
    assert!(!bench.has_session("dev"));
}

/// §6.2.1: a registration without updates ends. Each command that waits has one answer, then the session ends.
#[test]
fn what_waits_at_the_end_of_a_lifetime_is_answered() {
    let mut bench = Bench::with(|settings| {
        settings.max_commands = 4;
        settings.awake_window = SECOND;
    });
    bench.register(at(1), "ep=dev&lt=60&lwm2m=1.1&Q");
    bench.advance(2 * SECOND);
    let numbers: Vec<u32> = (0..20).map(|_| bench.read("dev", "/3/0/0")).collect();
    bench.advance(87 * SECOND);
    assert_eq!(bench.answers(), []);
    bench.advance(2 * SECOND);
    let answers = bench.answers();
    let expected = numbers.into_iter().map(|number| {
        let why = "the client is not registered any more";
        (number, "4.04".to_owned(), why.to_owned())
    });
    assert_eq!(answers, expected.collect::<Vec<_>>());
    bench.is_empty();
    assert!(!bench.has_session("dev"));
    assert_eq!(bench.counts["lwm2m/registrations/expired"], 1);
}

/// Rules that want to be asked: that a registration has ended is told all the same.
#[test]
fn the_end_may_have_to_be_asked_for() {
    let mut bench = Bench::new();
    let location = bench.register(at(1), "ep=dev&lt=60");
    bench.rule(Action::Publish, "lwm2m/dev/up/resp", AccessDecision::Ask);
    bench.told("");
    bench.access.silent = true;
    assert_eq!(
        bench.code(at(1), request(Code::DELETE, &location, "")),
        Code::DELETED
    );
    bench.speak();
    assert_eq!(bench.told("up/resp")[0]["msgType"], "deregister");
    bench.is_empty();
}

/// A command that comes while the session ends is answered, or reaches nobody.
#[test]
fn no_command_goes_with_the_session() {
    let mut bench = Bench::new();
    let location = bench.register(at(1), "ep=dev&lt=60");
    bench.told("");
    bench.withheld = true;
    bench.ask(at(1), request(Code::DELETE, &location, ""));
    let number = bench.read("dev", "/3/0/0");
    bench.withheld = false;
    bench.run();
    let is_matched = bench.accepted[&number] == headgate_model::bus::Outcome::Matched;
    // The backend hears itself.
    assert!(is_matched);
    assert!(bench.answers().len() <= 1);
    bench.is_empty();
}

/// §6.2.1: a registration of the same name takes the place of the one before; commands that waited are done.
#[test]
fn who_registers_again_takes_its_own_place() {
    let mut bench = Bench::with(|settings| settings.awake_window = SECOND);
    let before = bench.register(at(1), "ep=dev&lt=60&b=UQ");
    bench.advance(2 * SECOND);
    let number = bench.read("dev", "/3/0/0");
    let now = bench.register(at(2), "ep=dev&lt=60&b=UQ");
    assert_ne!(before, now);
    let asked = bench.asked(at(2));
    bench.answer(at(2), &asked, Code::CONTENT, "Headgate");
    assert_eq!(bench.results(), [(number, "2.05".into())]);
    assert_eq!(bench.code(at(1), post(&before, "")), Code::NOT_FOUND);
    assert_eq!(bench.gauge("clients"), 1);
}

/// §6.2.1: what was observed ends with the old registration, and is begun again with the new one.
#[test]
fn observations_are_begun_again_with_a_new_registration() {
    let mut bench = Bench::new();
    bench.register(at(1), "ep=dev&lt=60");
    bench.command("dev", "observe", json!({"path": "/3303/0/5700"}));
    let before = bench.observed(at(1), 1, "20.5");
    bench.register(at(1), "ep=dev&lt=60");
    let now = bench.observed(at(1), 1, "21.5");
    assert_ne!(before, now);
    assert_eq!(bench.gauge("observations"), 1);
    assert_eq!(
        bench.notify(at(1), before, 9, "1.0"),
        headgate_coap_codec::Kind::Reset
    );
    assert_eq!(
        bench.notify(at(1), now, 2, "22.5"),
        headgate_coap_codec::Kind::Acknowledgement
    );
    let told = bench.told("up/notify");
    let values: Vec<_> = told
        .iter()
        .map(|told| told["data"]["content"][0]["value"].clone())
        .collect();
    assert_eq!(values, [json!(21.5), json!(22.5)]);
}

/// An observation that could not be begun again is begun when the client is heard of.
#[test]
fn an_observation_waits_for_a_client_that_is_silent() {
    let mut bench = Bench::new();
    bench.register(at(1), "ep=dev&lt=600");
    bench.command("dev", "observe", json!({"path": "/3303/0/5700"}));
    bench.observed(at(1), 1, "20.5");
    let location = bench.register(at(1), "ep=dev&lt=600");
    bench.advance(100 * SECOND);
    assert_eq!(bench.sent(at(1)).len(), 5, "it was sent five times");
    bench.advance(100 * SECOND);
    assert_eq!(bench.sent(at(1)), []);
    assert_eq!(bench.notes()[0].observed.len(), 1);
    bench.exchange(at(1), post(&location, ""));
    bench.observed(at(1), 1, "20.5");
    assert_eq!(bench.gauge("observations"), 1);
}

/// Who registers anew while it is asked to be observed again is asked again.
#[test]
fn an_observation_that_is_being_begun_is_not_forgotten() {
    let mut bench = Bench::new();
    bench.register(at(1), "ep=dev&lt=600");
    bench.command("dev", "observe", json!({"path": "/3303/0/5700"}));
    bench.observed(at(1), 1, "20.5");
    for _ in 0..3 {
        bench.register(at(1), "ep=dev&lt=600");
    }
    // Each registration begins it anew, and nothing goes on to be asked for the one before.
    assert_eq!(bench.sent(at(1)).len(), 3);
    bench.restart();
    bench.observed(at(1), 1, "20.5");
    assert_eq!(bench.gauge("observations"), 1, "over a restart, too");
}

/// What the access service says of a registration.
#[test]
fn who_is_not_let_in_is_not_registered() {
    for (refusal, code) in [
        (AuthRefusal::BadUserNameOrPassword, Code::FORBIDDEN),
        (AuthRefusal::Banned, Code::FORBIDDEN),
        (AuthRefusal::NotAuthorized, Code::FORBIDDEN),
        (AuthRefusal::Busy, Code::SERVICE_UNAVAILABLE),
        (AuthRefusal::Unavailable, Code::SERVICE_UNAVAILABLE),
    ] {
        let mut bench = Bench::new();
        bench.access.refusal = Some(refusal);
        assert_eq!(bench.code(at(1), post("rd?ep=dev", LINKS)), code, "{refusal:?}");
        bench.is_empty();
    }
}

/// Who is refused is told of in the log: under its name, if it says one that can be, and with the reason that it hears itself. LwM2M Core 1.1 §6.2.1, table 6.2.1.-2
#[test]
fn the_log_tells_who_is_refused_and_why() {
    let mut bench = Bench::new();
    bench.register(at(9), "ep=known");
    for (uri, links, endpoint, why) in [
        ("rd?lt=60", LINKS, "", "the endpoint name is missing: ep="),
        (
            "rd?ep=a/b",
            LINKS,
            "",
            "an endpoint name has no / + # in it here, and no $ in front",
        ),
        ("rd?ep=dev&lt=x", LINKS, "dev", "lt is a number of seconds"),
        (
            "rd?ep=dev&lt=99999999999",
            LINKS,
            "dev",
            "a lifetime is 1 to 31622400 s here",
        ),
        (
            "rd?ep=dev&b=X",
            LINKS,
            "dev",
            "a binding has the letters U T S N Q M H",
        ),
        (
            "rd?ep=dev&lwm2m=3.0",
            LINKS,
            "dev",
            "this version of LwM2M is not spoken here: 1.0, 1.1 and 1.2 are",
        ),
        ("bs?ep=dev", "", "dev", "nothing is known of this endpoint"),
        ("bs", "", "", "the endpoint name is missing: ep="),
    ] {
        assert_eq!(bench.code(at(1), post(uri, links)).class(), 4, "{uri}");
        let [told] = &std::mem::take(&mut bench.denied)[..] else {
            panic!("{uri}: {:?}", bench.denied)
        };
        assert_eq!((told.client.as_str(), &*told.why), (endpoint, why), "{uri}");
        assert_eq!(
            (told.wanted.clone(), told.who.peer_port),
            (Wanted::Connect, 1),
            "{uri}"
        );
    }
    assert_eq!(bench.code(at(1), post("rd?ep=dev", "</3/0")), Code::BAD_REQUEST);
    let told = bench.denied.pop().expect("it is told");
    assert!(told.why.starts_with("objects: "), "{}", told.why);
    assert_eq!(bench.gauge("clients"), 1);
}

/// What a registered client says that cannot be taken is told of, too.
#[test]
fn the_log_tells_of_updates_and_values_that_are_refused() {
    let mut bench = Bench::new();
    let location = bench.register(at(1), "ep=dev");
    assert_eq!(
        bench.code(at(1), post(&format!("{location}?lt=x"), "")),
        Code::BAD_REQUEST
    );
    let told = bench.denied.pop().expect("it is told");
    assert_eq!(
        (told.client.as_str(), &*told.why),
        ("dev", "update: lt is a number of seconds")
    );
    let mut nonsense = send("/3303/0/5700", 1.0);
    nonsense.payload = "[".into();
    assert_eq!(bench.code(at(1), nonsense), Code::BAD_REQUEST);
    let told = bench.denied.pop().expect("it is told");
    assert_eq!(told.wanted, Wanted::Publish(Default::default()));
    assert!(bench.denied.is_empty());
}

/// A session belongs to the user that opened it.
#[test]
fn another_users_endpoint_is_refused() {
    let mut bench = Bench::new();
    bench.access.users = [(at(1), "ann"), (at(2), "bob")].into();
    let location = bench.register(at(1), "ep=dev&lt=60");
    assert_eq!(bench.code(at(2), post("rd?ep=dev&lt=60", LINKS)), Code::FORBIDDEN);
    assert_eq!((bench.gauge("clients"), bench.denied.len()), (1, 1));
    assert_eq!(bench.code(at(1), post(&location, "")), Code::CHANGED);
}

/// Who may not get commands is not registered, and a restart finds nothing of it.
#[test]
fn who_may_not_get_commands_is_not_registered() {
    for asks in [false, true] {
        let mut bench = Bench::new();
        let decision = if asks {
            AccessDecision::Ask
        } else {
            AccessDecision::Deny(Default::default())
        };
        bench.rule(Action::Subscribe, "lwm2m/dev/dn/#", decision);
        bench.access.denies = asks;
        assert_eq!(bench.code(at(1), post("rd?ep=dev", LINKS)), Code::FORBIDDEN);
        bench.is_empty();
        bench.restart();
        assert_eq!((bench.gauge("clients"), bench.questions.len()), (0, 0));
    }
}

/// §6.2.2: a client that is behind a NAT comes from elsewhere. It must be let in there, as the one that it was.
#[test]
fn an_update_may_come_from_elsewhere() {
    let mut bench = Bench::new();
    bench.access.users = [(at(1), "ann"), (at(2), "bob"), (at(3), "ann")].into();
    let location = bench.register(at(1), "ep=dev&lt=60");
    assert_eq!(bench.code(at(2), post(&location, "")), Code::UNAUTHORIZED);
    assert_eq!(
        bench.code(at(2), request(Code::DELETE, &location, "")),
        Code::UNAUTHORIZED
    );
    bench.access.refusal = Some(AuthRefusal::Busy);
    assert_eq!(bench.code(at(3), post(&location, "")), Code::SERVICE_UNAVAILABLE);
    bench.access.refusal = None;
    assert_eq!(bench.notes()[0].port, 1);
    assert_eq!(bench.code(at(3), post(&location, "")), Code::CHANGED);
    assert_eq!(bench.notes()[0].port, 3);
    bench.read("dev", "/3/0/0");
    bench.asked(at(3));
    assert_eq!(
        bench.code(at(1), request(Code::DELETE, &location, "")),
        Code::DELETED
    );
    bench.is_empty();
}

/// What comes while it is asked who somebody is that came from elsewhere is done afterwards, whatever the answer.
#[test]
fn nothing_is_forgotten_while_a_client_moves() {
    for refusal in [None, Some(AuthRefusal::Busy)] {
        let mut bench = Bench::new();
        let location = bench.register(at(1), "ep=dev&lt=60");
        bench.command("dev", "observe", json!({"path": "/3303/0/5700"}));
        let token = bench.observed(at(1), 1, "20.5");
        let first = bench.read("dev", "/3/0/0");
        let asked = bench.asked(at(1));
        bench.rule(Action::Publish, "lwm2m/dev/up/notify", AccessDecision::Ask);
        bench.told("");
        bench.access.silent = true;
        bench.ask(at(2), post(&location, ""));
        // Its answer comes, and a notification about which it is to be asked.
        bench.answer(at(1), &asked, Code::CONTENT, "Headgate");
        bench.notify(at(1), token, 2, "21.5");
        let second = bench.read("dev", "/3/0/1");
        assert_eq!(bench.results(), [(first, "2.05".into())]);
        assert_eq!(bench.code(at(1), post(&location, "")), Code::SERVICE_UNAVAILABLE);
        bench.access.refusal = refusal;
        bench.speak();
        assert_eq!(bench.told("up/notify").len(), 1, "{refusal:?}");
        let to = if refusal.is_none() { at(2) } else { at(1) };
        let sent = bench.sent(to);
        let asked = sent
            .iter()
            .find(|message| message.code == Code::GET)
            .expect("the second command");
        bench.answer(to, asked, Code::CONTENT, "7");
        assert_eq!(bench.results(), [(second, "2.05".into())]);
        assert_eq!(bench.gauge("logging_in"), 0);
    }
}

/// Whatever ends while somebody is asked about, it does not count as being asked about for ever.
#[test]
fn who_leaves_while_it_is_asked_about_is_not_counted_any_more() {
    let mut bench = Bench::with(|settings| settings.max_logins = 2);
    let location = bench.register(at(1), "ep=dev&lt=60");
    bench.access.silent = true;
    bench.ask(at(2), post(&location, ""));
    assert_eq!(bench.gauge("logging_in"), 1);
    bench.kick("dev");
    assert_eq!((bench.gauge("clients"), bench.gauge("logging_in")), (0, 0));
    bench.speak();
    bench.is_forgotten();
}

/// Its lifetime does not end while it is asked about, and no timer runs for it.
#[test]
fn a_lifetime_waits_for_an_answer() {
    let mut bench = Bench::new();
    let location = bench.register(at(1), "ep=dev&lt=60");
    bench.access.silent = true;
    bench.ask(at(2), post(&location, ""));
    bench.advance(1_000 * SECOND);
    assert_eq!(bench.gauge("clients"), 1);
    bench.speak();
    assert_eq!(bench.notes()[0].port, 2);
    bench.advance(100 * SECOND);
    bench.is_empty();
}

/// max_clients and max_logins: who comes then is answered 5.03. Who is registered may register again.
#[test]
fn there_is_an_end_to_clients() {
    let mut bench = Bench::with(|settings| (settings.max_clients, settings.max_logins) = (3, 2));
    for n in 1..4 {
        bench.register(at(n), &format!("ep=dev{n}&lt=60"));
    }
    let refused = bench.exchange(at(9), post("rd?ep=other", LINKS));
    assert_eq!(
        (refused.code, text(&refused).as_str()),
        (Code::SERVICE_UNAVAILABLE, "too many clients")
    );
    bench.register(at(2), "ep=dev2&lt=60");
    bench.access.silent = true;
    for n in 1..3 {
        let id = bench.ask(at(n), post(&format!("rd?ep=dev{n}"), LINKS));
        assert_eq!(bench.answer_to(at(n), id), None);
    }
    assert_eq!(bench.gauge("logging_in"), 2);
    assert_eq!(
        bench.code(at(3), post("rd?ep=dev3", LINKS)),
        Code::SERVICE_UNAVAILABLE
    );
    bench.speak();
    bench.advance(200 * SECOND);
    bench.advance(86_500 * SECOND);
    bench.is_empty();
}

/// max_client_requests_per_second: 4.29
#[test]
fn there_is_an_end_to_requests() {
    let mut bench = Bench::with(|settings| {
        settings.max_client_requests_per_second = 1;
        settings.client_burst_requests = 3;
    });
    let location = bench.register(at(1), "ep=dev&lt=60");
    let codes: Vec<Code> = (0..5).map(|_| bench.code(at(1), post(&location, ""))).collect();
    assert_eq!(codes[..3], [Code::CHANGED; 3]);
    assert_eq!(codes[3..], [Code::TOO_MANY_REQUESTS; 2]);
    bench.advance(2 * SECOND);
    assert_eq!(bench.code(at(1), post(&location, "")), Code::CHANGED);
}

/// RFC 7252 §4.5: a registration that comes again is the same one.
#[test]
fn a_copy_is_answered_as_the_first_was() {
    let mut bench = Bench::new();
    let mut message = post("rd?ep=dev&lt=60", LINKS);
    message.id = 7;
    let mut answers: Vec<Message> = Vec::new();
    for _ in 0..3 {
        bench.receive(at(1), &message);
        answers.extend(bench.answer_to(at(1), 7));
    }
    assert_eq!(answers.len(), 3);
    assert!(
        answers
            .iter()
            .all(|answer| location(answer) == location(&answers[0]))
    );
    assert_eq!(bench.counts["lwm2m/registrations/begun"], 1);
}

/// An operator throws a client out: it is not registered then, and registers anew.
#[test]
fn who_is_thrown_out_registers_anew() {
    let mut bench = Bench::new();
    let location = bench.register(at(1), "ep=dev&lt=60");
    bench.kick("dev");
    bench.is_forgotten();
    let number = bench.read("dev", "/3/0/0");
    assert_eq!(bench.code(at(1), post(&location, "")), Code::NOT_FOUND);
    bench.register(at(1), "ep=dev&lt=60");
    let asked = bench.asked(at(1));
    bench.answer(at(1), &asked, Code::CONTENT, "x");
    assert_eq!(bench.results(), [(number, "2.05".into())]);
}

/// RFC 7252 §11.3: a command goes when its client has proved that it receives.
#[test]
fn an_address_must_show_first_that_it_receives() {
    let mut bench = Bench::with(|settings| settings.transmission.amplification_limit = 3);
    bench.ask(at(1), post("rd?ep=dev&lt=60", LINKS));
    bench.read("dev", "/3/0/0");
    let sent = bench.sent(at(1));
    let ping = sent
        .iter()
        .find(|message| message.code == Code::EMPTY)
        .expect("a ping");
    assert!(!sent.iter().any(|message| message.code == Code::GET));
    bench.receive(at(1), &Message::empty(headgate_coap_codec::Kind::Reset, ping.id));
    assert_eq!(bench.asked(at(1)).code, Code::GET);
}

/// Two clients at one address, one after the other: what one leaves behind is not the other's.
#[test]
fn an_address_may_have_another_client_later() {
    let mut bench = Bench::new();
    let first = bench.register(at(1), "ep=one&lt=60");
    let second = bench.register(at(1), "ep=two&lt=60");
    assert_eq!(
        bench.code(at(1), request(Code::DELETE, &first, "")),
        Code::DELETED
    );
    assert_eq!(bench.code(at(1), send("/3303/0/5700", 1.0)), Code::CHANGED);
    assert_eq!(bench.told("lwm2m/two/up/notify").len(), 1);
    assert_eq!(
        bench.code(at(1), request(Code::DELETE, &second, "")),
        Code::DELETED
    );
    assert_eq!(bench.code(at(1), send("/3303/0/5700", 1.0)), Code::NOT_FOUND);
    bench.is_empty();
}

/// Topics that get other names are followed with the next update; who may not have its commands there is not registered any more, and hears so at the one after.
#[test]
fn other_topics_are_followed_with_an_update() {
    for denied in [false, true] {
        let mut bench = Bench::new();
        let location = bench.register(at(1), "ep=dev&lt=600");
        bench.register(at(2), "ep=other&lt=600");
        if denied {
            bench.deny(Action::Subscribe, "v2/dev/dn/#");
        }
        bench.change(|settings| settings.topics.prefix = "v2/{ep}".into());
        assert_eq!(
            bench.code(at(1), post(&format!("{location}?lt=900"), "")),
            Code::CHANGED
        );
        let command = json!({"reqID": 1, "msgType": "read", "data": {"path": "/3/0/0"}}).to_string();
        bench.publish("v2/dev/dn/x", &command, Qos::AtLeastOnce);
        match denied {
            false => drop(bench.asked(at(1))),
            true => assert_eq!(bench.code(at(1), post(&location, "")), Code::NOT_FOUND),
        }
        assert_eq!(bench.gauge("clients"), if denied { 1 } else { 2 }, "others stay");
    }
}
