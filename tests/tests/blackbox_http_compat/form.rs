//! `POST /mqtt/publish` of EMQ up to 2.2.

use crate::bench::{Bench, PASSWORD, setup};
use headgate_tests::blackbox::{HttpAnswer, HttpClient, Message};
use serde_json::json;

fn post(http: &HttpClient, form: &[u8]) -> HttpAnswer {
    http.ask("POST", "/mqtt/publish", "application/x-www-form-urlencoded", form)
}

#[test]
fn a_form_is_published_to_each_topic() {
    let setup = setup();
    let bench = Bench::start(&setup);
    let mut peer = bench.subscriber("hall", "a/#");
    let device = bench.http.basic("device", PASSWORD);
    let form = b"client=meter-7&qos=1&retain=1&topic=a%2Fb&topics=a%2Fc%2Ca%2Fd&message=x+y%26z";
    let answer = post(&device, form);
    assert_eq!(answer.told(), (200, "OK".to_owned()));
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    for topic in ["a/b", "a/c", "a/d"] {
        let message = peer.hear();
        assert_eq!(
            (message.topic.as_str(), message.qos, message.payload.as_str()),
            (topic, 1, "x y&z")
        );
    }
    let retained = bench.socket.get("/api/v1/retained?filter=a/%23").json();
    assert_eq!(retained["rows"].as_array().unwrap().len(), 3);
    // Defaults: QoS 0, not retained; the payload may be of any bytes.
    assert_eq!(
        post(&device, b"topic=a/e&message=%FF").told(),
        (200, "OK".to_owned())
    );
    assert_eq!(peer.hear(), Message::new("a/e", 0, "\u{fffd}"));
}

/// All topics are looked at before anything is published.
#[test]
fn what_is_wrong_with_a_form_is_told_in_emqs_words() {
    let setup = setup();
    let bench = Bench::start(&setup);
    let mut peer = bench.subscriber("hall", "#");
    let device = bench.http.basic("device", PASSWORD);
    let told = |form: &[u8]| post(&device, form).told();
    let bad_qos = (400, "Bad QoS".to_owned());
    let bad_topics = (400, "Bad Topics".to_owned());
    assert_eq!(told(b"topic=a&qos=3&message=x"), bad_qos);
    assert_eq!(told(b"topic=a&qos=two&message=x"), bad_qos);
    assert_eq!(told(b"topic=a&topics=b,c/%2B&message=x"), bad_topics);
    assert_eq!(told(b"topic=%23&message=x"), bad_topics);
    assert_eq!(told(b"message=x"), bad_topics);
    let denied = "`secret/1` may not be published: auth.acl[0]".to_owned();
    assert_eq!(told(b"topics=a,secret/1&message=x"), (403, denied));
    // A client on a connection may say there whether it is up. A form names any client: it would fill what the gateway has for itself.
    for topic in [
        "$SYS/broker/connection/any/state",
        "$delayed/1/$SYS/broker/connection/any/state",
    ] {
        let form = format!("client=any&retain=1&topic={topic}&message=1");
        let denied = format!("`{topic}` may not be published: topics under $SYS are the gateway's");
        assert_eq!(told(form.as_bytes()), (403, denied));
    }

    let unauthorized = (401, "Unauthorized".to_owned());
    let nobody = post(&bench.http, b"topic=a&message=x");
    assert_eq!(nobody.told(), unauthorized);
    assert!(nobody.header("www-authenticate").unwrap().starts_with("Basic "));
    let wrong = bench.http.basic("device", "wrong password");
    assert_eq!(post(&wrong, b"topic=a&message=x").told(), unauthorized);
    // Administrators are not users of devices.
    assert_eq!(post(&bench.root, b"topic=a&message=x").told(), unauthorized);
    let elsewhere = device.with("Origin", "https://evil.example");
    assert_eq!(post(&elsewhere, b"topic=a&message=x").status, 403);
    assert_eq!(bench.http.get("/mqtt/publish").status, 404);

    let ban = json!({ "client": "meter-7" });
    assert_eq!(bench.socket.post("/api/v1/bans", &ban).status, 200);
    assert_eq!(told(b"client=meter-7&topic=a&message=x"), unauthorized);
    assert_eq!(told(b"topic=end&message=end"), (200, "OK".to_owned()));
    assert!(peer.until("end").is_empty(), "nothing else was published");
}

/// Nobody is asked anything before there is an administrator.
#[test]
fn a_new_gateway_takes_no_form() {
    let setup = setup();
    let bench = Bench::of(setup.start());
    let device = bench.http.basic("device", PASSWORD);
    let answer = post(&device, b"topic=a&message=x");
    assert_eq!((answer.status, &answer.json()["setup"]), (403, &json!(true)));
    let answer = bench.root.get("/api/v2/users");
    assert_eq!((answer.status, &answer.json()["setup"]), (403, &json!(true)));
}
