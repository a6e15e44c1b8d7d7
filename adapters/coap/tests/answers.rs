//! What requests are like, and their answers: RFC 7252 §5.

mod bench;

use bench::{Bench, at, get, non, post, put, text, token};
use headgate_coap_codec::{Code, Kind, Message, number};
use headgate_model::access::AuthRefusal;

fn with(mut message: Message, option: u16, value: &'static [u8]) -> Message {
    message.options.push(option, value);
    message
}

/// §4.2, §5.3.2: what was never asked is rejected, if it wants to be acknowledged. \[RFC7252-4.2-4\] \[RFC7252-5.3.2-4\]
#[test]
fn a_response_to_nothing_is_rejected() {
    let mut bench = Bench::new();
    let response = |kind, id| Message::new(kind, Code::CONTENT, id, token(1));
    bench.receive(at(1), &response(Kind::Confirmable, 77));
    assert_eq!(bench.sent(at(1)), [Message::empty(Kind::Reset, 77)]);
    bench.receive(at(1), &response(Kind::NonConfirmable, 78));
    bench.receive(at(1), &response(Kind::Acknowledgement, 79));
    assert_eq!(bench.sent(at(1)), []);
}

/// §5.5.2: an error says what is wrong in words, if there is more to say than its code does.
/// \[RFC7252-5.4.1-3\] \[RFC7252-5.5.2-1\] \[RFC7252-5.5.2-2\] \[RFC7252-5.9.2-1\] \[RFC7252-5.9.3-1\]
#[test]
fn errors_say_why_where_there_is_more_to_say() {
    let mut bench = Bench::new();
    let said = |bench: &mut Bench, message: Message| {
        bench.ask(at(1), message);
        let answer = bench.sent(at(1)).remove(0);
        let words = std::str::from_utf8(&answer.payload).expect("UTF-8");
        (answer.code, !words.is_empty())
    };
    let critical = with(get("ps/a"), 9, b"x");
    for (message, expected) in [
        (critical, (Code::BAD_OPTION, true)),
        (put("mqtt/a", "x"), (Code::BAD_REQUEST, true)),
        (get("elsewhere"), (Code::NOT_FOUND, false)),
    ] {
        assert_eq!(said(&mut bench, message), expected);
    }
    bench.refusal = Some(AuthRefusal::Unavailable);
    let unavailable = put("mqtt/a?c=w", "x");
    assert_eq!(said(&mut bench, unavailable), (Code::SERVICE_UNAVAILABLE, true));
}

/// §5.5: a GET has no payload; what is there is not looked at. \[RFC7252-5.5-1\]
#[test]
fn a_payload_without_a_meaning_is_ignored() {
    let mut bench = Bench::new();
    bench.exchange(at(1), post("ps/a?retain=1", "kept"));
    let odd = Message {
        payload: "other".into(),
        ..get("ps/a")
    };
    for message in [odd, get("ps/a")] {
        assert_eq!(bench.exchange(at(1), message), (Code::CONTENT, "kept".into()));
    }
}

/// §5.9.1.3: 2.03 says which of the tags is valid, and no more. \[RFC7252-5.9.1.3-1\]
#[test]
fn what_the_client_has_already_is_not_sent() {
    let mut bench = Bench::new();
    bench.exchange(at(1), post("ps/a?retain=1", "kept"));
    bench.ask(at(1), get("ps/a"));
    let tag = bench
        .sent(at(1))
        .remove(0)
        .options
        .get(number::ETAG)
        .unwrap()
        .clone();
    let mut again = with(get("ps/a"), number::ETAG, b"older");
    again.options.push(number::ETAG, tag.clone());
    bench.ask(at(1), again);
    let valid = bench.sent(at(1)).remove(0);
    assert_eq!((valid.code, text(&valid)), (Code::VALID, String::new()));
    assert_eq!(valid.options.get(number::ETAG), Some(&tag));
}

/// §5.7.2, §5.10.2: whatever else the request says. \[RFC7252-5.7.2-1\] \[RFC7252-5.10.2-1\] \[RFC7252-5.10.2-3\]
#[test]
fn no_proxy_is_here() {
    let mut bench = Bench::new();
    for (option, value) in [
        (number::PROXY_URI, &b"coap://x/"[..]),
        (number::PROXY_SCHEME, b"http"),
    ] {
        let asked = with(get("ps/a"), option, value);
        assert_eq!(
            bench.exchange(at(1), asked.clone()).0,
            Code::PROXYING_NOT_SUPPORTED
        );
        assert_eq!(bench.exchange(at(1), non(asked)).0, Code::PROXYING_NOT_SUPPORTED);
    }
}

/// §5.4.5: the second one is as good as one that is not known. \[RFC7252-5.4.5-2\] \[RFC7959-2.1-2\]
#[test]
fn what_stands_too_often_is_not_understood() {
    let mut bench = Bench::new();
    for (option, value) in [
        (number::ACCEPT, &b"\x32"[..]),
        (number::BLOCK1, b"\x06"),
        (number::BLOCK2, b"\x06"),
    ] {
        let once = with(put("mqtt/a?c=w", "x"), option, value);
        assert_eq!(bench.exchange(at(1), once.clone()).0, Code::CHANGED, "{option}");
        let twice = with(once, option, value);
        assert_eq!(bench.exchange(at(1), twice).0, Code::BAD_OPTION, "{option}");
    }
}

/// RFC 7967 §2.1: of a request whose answer nobody wants it is said that it came. \[RFC7967-2.1-1\] \[RFC7967-2.1-2\]
#[test]
fn who_wants_no_answer_hears_that_its_request_came() {
    let mut bench = Bench::new();
    let quiet = |message| with(message, number::NO_RESPONSE, b"\x1A");
    let id = bench.ask(at(1), quiet(put("mqtt/a?c=w", "x")));
    assert_eq!(bench.sent(at(1)), [Message::empty(Kind::Acknowledgement, id)]);
    bench.ask(at(1), quiet(non(put("mqtt/a?c=w", "x"))));
    assert_eq!(bench.sent(at(1)), []);
}

/// §5.4.1; RFC 9175 §3.4: a Request-Tag says nothing where there are no blocks. \[RFC7252-5.4.1-1\] \[RFC9175-3.4-2\]
#[test]
fn elective_options_without_a_meaning_are_ignored() {
    let mut bench = Bench::new();
    for option in [number::OBSERVE, number::REQUEST_TAG, number::SIZE2, 2_000] {
        let odd = with(put("mqtt/a?c=w", "x"), option, b"");
        assert_eq!(bench.exchange(at(1), odd).0, Code::CHANGED, "{option}");
    }
}
