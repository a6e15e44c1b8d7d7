//! `/api/v4` of EMQX 4.

use crate::bench::{Bench, NODE, setup, take_text};
use headgate_tests::blackbox::{HttpClient, Message, eventually};
use serde_json::{Value, json};

fn done() -> (u16, Value) {
    (200, json!({ "code": 0 }))
}

fn code(code: u16, message: &str) -> (u16, Value) {
    (200, json!({ "code": code, "message": message }))
}

fn data(http: &HttpClient, path: &str) -> Value {
    let (status, mut answer) = http.get(&format!("/api/v4/{path}")).told_json();
    assert_eq!((status, &answer["code"]), (200, &json!(0)), "{path}: {answer}");
    answer["data"].take()
}

#[test]
fn what_stands_before_an_answer_is_text() {
    let setup = setup();
    let bench = Bench::start(&setup);
    for path in ["/api/v4/clients", "/api/v4/nothing"] {
        let answer = bench.http.get(path);
        assert_eq!(answer.told(), (401, "UNAUTHORIZED".to_owned()));
        assert_eq!(
            answer.header("www-authenticate"),
            Some("Basic Realm=\"minirest-server\"")
        );
    }
    let not_found = (404, "Not found.".to_owned());
    assert_eq!(bench.vera.get("/api/v4/nothing").told(), not_found);
    assert_eq!(bench.vera.get("/api/v4/mqtt/publish").told(), not_found);
    assert_eq!(bench.vera.get("/api/v4/nodes/other@node").told(), not_found);
    let wrong = bench
        .olga
        .ask("POST", "/api/v4/mqtt/publish", "application/json", b"{topic");
    assert_eq!(wrong.told(), (400, "Bad Request".to_owned()));
    let viewer = bench.vera.post("/api/v4/mqtt/publish", &json!({ "topic": "t" }));
    let message = "`vera` is viewer, this is for operators";
    assert_eq!(
        viewer.told_json(),
        (403, json!({ "code": 102, "message": message }))
    );
    assert_eq!(
        bench.key("viewer").get("/api/v4/clients").status,
        200,
        "keys are applications"
    );
}

#[test]
fn messages_are_published_one_by_one_and_in_batches() {
    let setup = setup();
    let bench = Bench::start(&setup);
    let mut peer = bench.subscriber("hall", "a/#");
    let publish = |body: Value| bench.olga.post("/api/v4/mqtt/publish", &body).told_json();
    let message = json!({ "topics": "a/1,a/2", "payload": "x", "qos": 1, "clientid": "plc" });
    assert_eq!(publish(message), done());
    assert_eq!(peer.hear(), Message::new("a/1", 1, "x"));
    assert_eq!(peer.hear(), Message::new("a/2", 1, "x"));
    let message = json!({ "topic": "a/3", "payload": "aGk=", "encoding": "base64" });
    assert_eq!(publish(message), done());
    assert_eq!(peer.hear(), Message::new("a/3", 0, "hi"));
    let message = json!({ "topic": "a/4", "payload": { "v": 1 }, "user_properties": { "n": 1 } });
    assert_eq!(publish(message), done());
    assert_eq!(peer.hear(), Message::new("a/4", 0, "{\"v\":1}"));

    assert_eq!(publish(json!({ "topic": "a/#" })), code(115, "bad_topic"));
    assert_eq!(publish(json!({})), code(115, "bad_topic"));
    assert_eq!(publish(json!({ "topic": "a/5", "qos": 3 })), code(116, "bad_qos"));
    assert_eq!(
        publish(json!({ "topic": "a/5", "clientid": 7 })),
        code(108, "bad clientid: must be string")
    );
    let odd = json!({ "topic": "a/5", "properties": { "odd": 1 } });
    assert_eq!(publish(odd), code(108, "bad_params"));
    let denied = "`secret/1` may not be published: auth.acl[0]";
    assert_eq!(publish(json!({ "topic": "secret/1" })), code(102, denied));

    let batch = json!([
        { "topic": "a/6", "payload": "1" },
        { "topic": "a/+" },
        { "topic": "a/7", "payload": "2", "qos": "high" },
        { "topic": "secret/1" },
        { "topics": "a/8,a/9", "payload": "3" },
    ]);
    let (status, answer) = bench.olga.post("/api/v4/mqtt/publish_batch", &batch).told_json();
    let expected = json!({ "code": 0, "data": [
        { "topic": "a/6", "code": 0 },
        { "topic": "a/+", "code": 115 },
        { "code": 108, "message": "bad_params" },
        { "topic": "secret/1", "code": 102 },
        { "topic": "a/8,a/9", "code": 0 },
    ] });
    assert_eq!((status, answer), (200, expected));
    let heard: Vec<String> = (0..3).map(|_| peer.hear().topic).collect();
    assert_eq!(
        heard,
        ["a/6", "a/8", "a/9"],
        "what is wrong with one keeps no other back"
    );
}

#[test]
fn clients_are_subscribed_by_one_and_in_batches() {
    let setup = setup();
    let bench = Bench::start(&setup);
    let mut peer = bench.subscriber("hall", "own");
    let post = |path: &str, body: &Value| bench.olga.post(&format!("/api/v4/mqtt/{path}"), body).told_json();
    let wanted = json!({ "clientid": "hall", "topics": "a/#,b", "qos": 1 });
    assert_eq!(post("subscribe", &wanted), done());
    assert_eq!(
        post("publish", &json!({ "topic": "a/1", "qos": 2, "payload": "x" })),
        done()
    );
    assert_eq!(peer.hear(), Message::new("a/1", 1, "x"));
    assert_eq!(bench.last_change()["action"], "Subscribes on behalf of a client.");
    assert_eq!(
        post("unsubscribe", &json!({ "clientid": "hall", "topic": "a/#" })),
        done()
    );

    let nobody = json!({ "clientid": "nobody", "topic": "t" });
    assert_eq!(post("subscribe", &nobody), code(112, "channel_not_found"));
    assert_eq!(post("unsubscribe", &nobody), code(112, "channel_not_found"));
    let no_string = code(108, "bad clientid: must be string");
    assert_eq!(post("subscribe", &json!({ "topic": "t" })), no_string);
    assert_eq!(
        post("subscribe", &json!({ "clientid": "hall", "topic": "a/#/b" })),
        code(115, "bad_topic")
    );
    let qos = json!({ "clientid": "hall", "topic": "t", "qos": 3 });
    assert_eq!(post("subscribe", &qos), code(116, "bad_qos"));

    let batch = json!([{ "clientid": "hall", "topic": "c" }, { "clientid": "nobody", "topic": "c" }]);
    let rows = json!([
        { "clientid": "hall", "topic": "c", "code": 0 },
        { "clientid": "nobody", "topic": "c", "code": 112 },
    ]);
    let expected = (200, json!({ "code": 0, "data": rows }));
    assert_eq!(post("subscribe_batch", &batch), expected);
    let subscriptions = data(&bench.vera, "subscriptions/hall");
    let topics: Vec<&Value> = subscriptions
        .as_array()
        .unwrap()
        .iter()
        .map(|row| &row["topic"])
        .collect();
    assert_eq!(topics, ["b", "c", "own"]);
    assert_eq!(post("unsubscribe_batch", &batch), expected);
}

#[test]
fn clients_and_subscriptions_are_listed() {
    let setup = setup();
    let bench = Bench::start(&setup);
    let _peers: Vec<_> = (1..=3)
        .map(|n| bench.subscriber(&format!("m/{n}"), "t/#"))
        .collect();
    let list = |path: &str| {
        let (status, answer) = bench.vera.get(&format!("/api/v4/{path}")).told_json();
        assert_eq!((status, &answer["code"]), (200, &json!(0)), "{path}: {answer}");
        (answer["data"].clone(), answer["meta"].clone())
    };
    let (rows, meta) = list("clients?_page=2&_limit=2");
    let mut client = rows[0].clone();
    assert_eq!(take_text(&mut client, "connected_at").len(), 19);
    for number in ["port", "max_inflight"] {
        assert!(client[number].take().is_u64());
    }
    let expected = json!({
        "node": NODE,
        "clientid": "m/3",
        "username": "device",
        "proto_name": "MQTT",
        "proto_ver": 5,
        "ip_address": "127.0.0.1",
        "port": null,
        "connected": true,
        "connected_at": null,
        "keepalive": 0,
        "clean_start": true,
        "expiry_interval": 0,
        "is_bridge": false,
        "subscriptions_cnt": 1,
        "inflight": 0,
        "max_inflight": null,
        "mqueue_len": 0,
        "awaiting_rel": 0,
    });
    assert_eq!((rows.as_array().unwrap().len(), client), (1, expected));
    assert_eq!(
        meta,
        json!({ "page": 2, "limit": 2, "count": 3, "hasnext": false })
    );
    let (_, meta) = list("clients");
    assert_eq!(
        meta,
        json!({ "page": 1, "limit": 10000, "count": 3, "hasnext": false })
    );
    let (rows, meta) = list(&format!(
        "nodes/{NODE}/clients?_like_clientid=m&proto_ver=5&_limit=2"
    ));
    assert_eq!(rows.as_array().unwrap().len(), 2);
    assert_eq!(
        meta,
        json!({ "page": 1, "limit": 2, "count": -1, "hasnext": true })
    );
    assert_eq!(list("clients?conn_state=disconnected").0, json!([]));
    assert_eq!(list("clients?_gte_connected_at=1").0.as_array().unwrap().len(), 3);
    assert_eq!(data(&bench.vera, "clients/m%2F1")[0]["clientid"], "m/1");
    assert_eq!(data(&bench.vera, "clients/nobody"), json!([]));
    assert_eq!(
        data(&bench.vera, &format!("nodes/{NODE}/clients/m%2F1"))[0]["clientid"],
        "m/1"
    );
    assert_eq!(
        data(&bench.vera, "clients/username/device")
            .as_array()
            .unwrap()
            .len(),
        3
    );

    let row = |n: u8| json!({ "node": NODE, "clientid": format!("m/{n}"), "topic": "t/#", "qos": 2 });
    let (rows, meta) = list("subscriptions?_limit=2");
    assert_eq!(rows, json!([row(1), row(2)]));
    assert_eq!(
        meta,
        json!({ "page": 1, "limit": 2, "count": 3, "hasnext": true })
    );
    let (rows, meta) = list(&format!("nodes/{NODE}/subscriptions?clientid=m/2"));
    assert_eq!((rows, &meta["count"]), (json!([row(2)]), &json!(-1)));
    let (rows, _) = list("subscriptions?_match_topic=t/%23&qos=2");
    assert_eq!(rows.as_array().unwrap().len(), 3);
    assert_eq!(
        data(&bench.vera, "subscriptions?topic=t/%23")
            .as_array()
            .unwrap()
            .len(),
        3
    );
    assert_eq!(data(&bench.vera, "subscriptions/m%2F2"), json!([row(2)]));
    assert_eq!(
        data(&bench.vera, &format!("nodes/{NODE}/subscriptions/m%2F2")),
        json!([row(2)])
    );
    assert_eq!(data(&bench.vera, "subscriptions/nobody"), json!([]));

    assert_eq!(data(&bench.vera, "clients/m%2F1/acl_cache"), json!([]));
    assert_eq!(
        bench.olga.delete("/api/v4/clients/m%2F1/acl_cache").told_json(),
        done()
    );
    let offline = code(112, "not_found");
    assert_eq!(
        bench.olga.delete("/api/v4/clients/nobody/acl_cache").told_json(),
        offline
    );
    assert_eq!(bench.olga.delete("/api/v4/clients/m%2F1").told_json(), done());
    eventually("its session to end", || {
        (data(&bench.vera, "clients/m%2F1") == json!([])).then_some(())
    });
    assert_eq!(bench.olga.delete("/api/v4/clients/m%2F1").told_json(), offline);
}

#[test]
fn the_gateway_is_seen() {
    let setup = setup();
    let bench = Bench::start(&setup);
    let mut broker = data(&bench.vera, "brokers")[0].clone();
    assert!(take_text(&mut broker, "uptime").ends_with(" seconds"));
    assert_eq!(take_text(&mut broker, "datetime").len(), 19);
    let expected = json!({
        "node": NODE,
        "version": env!("CARGO_PKG_VERSION"),
        "sysdescr": "Headgate IoT gateway",
        "uptime": null,
        "datetime": null,
        "otp_release": null,
        "node_status": "Running",
    });
    assert_eq!(broker, expected);
    assert_eq!(data(&bench.vera, &format!("brokers/{NODE}"))["node"], NODE);
    let mut node = data(&bench.vera, &format!("nodes/{NODE}"));
    for text in [
        "uptime",
        "memory_total",
        "memory_used",
        "load1",
        "load5",
        "load15",
    ] {
        assert!(!take_text(&mut node, text).is_empty());
    }
    assert!(node["max_fds"].take().is_u64());
    let expected = json!({
        "node": NODE,
        "node_status": "Running",
        "version": env!("CARGO_PKG_VERSION"),
        "uptime": null,
        "connections": 0,
        "memory_total": null,
        "memory_used": null,
        "max_fds": null,
        "load1": null,
        "load5": null,
        "load15": null,
        "otp_release": null,
        "process_available": null,
        "process_used": null,
    });
    assert_eq!(node, expected);
    assert_eq!(data(&bench.vera, "nodes")[0]["node"], NODE);

    let stats = data(&bench.vera, &format!("nodes/{NODE}/stats"));
    for name in ["connections", "sessions", "topics", "subscriptions"] {
        assert_eq!(stats[format!("{name}.count")], 0, "{name}");
    }
    let all = data(&bench.vera, "stats");
    assert_eq!(
        (&all[0]["node"], &all[0]["stats"]["sessions.max"]),
        (&json!(NODE), &json!(0))
    );
    let metrics = data(&bench.vera, &format!("nodes/{NODE}/metrics"));
    for name in [
        "packets.connect.received",
        "packets.connack.sent",
        "messages.qos2.received",
    ] {
        assert_eq!(metrics[name], 0, "{name}");
    }
    assert_eq!(data(&bench.vera, "metrics")[0]["metrics"]["bytes.received"], 0);
    for path in ["alarms", "alarms/activated", "alarms/deactivated"] {
        assert_eq!(data(&bench.vera, path), json!([{ "node": NODE, "alarms": [] }]));
        assert_eq!(data(&bench.vera, &format!("nodes/{NODE}/{path}")), json!([]));
    }
}

#[test]
fn clients_are_banned_and_let_in_again() {
    let setup = setup();
    let bench = Bench::start(&setup);
    let mut peer = bench.subscriber("bad", "t");
    let until = 4_000_000_000_u64;
    let ban = json!({ "as": "clientid", "who": "bad", "reason": "noise", "until": until });
    let (status, answer) = bench.olga.post("/api/v4/banned", &ban).told_json();
    assert_eq!((status, answer), (200, json!({ "code": 0, "data": ban })));
    while peer.recv().is_ok() {}
    let (_, mut answer) = bench.vera.get("/api/v4/banned?_limit=5").told_json();
    assert!(answer["data"][0]["at"].take().is_u64());
    let row = json!({
        "as": "clientid",
        "who": "bad",
        "by": "mgmt_api",
        "reason": "noise",
        "at": null,
        "until": until,
    });
    assert_eq!(
        answer,
        json!({ "code": 0, "data": [row], "meta": { "page": 1, "limit": 5, "count": 1, "hasnext": false } })
    );
    let post = |body: Value| bench.olga.post("/api/v4/banned", &body).told_json();
    assert_eq!(
        post(json!({ "who": "x" })),
        code(107, "missing mandatory params: ['who', 'as']")
    );
    let kinds = "value of 'as' must be one of: ['clientid', 'username', 'peerhost']";
    assert_eq!(post(json!({ "as": "shoe", "who": "x" })), code(108, kinds));
    assert_eq!(post(json!({ "as": "peerhost", "who": "192.0.2.7" })).0, 200);
    for (kind, who) in [
        ("clientid", "bad"),
        ("peerhost", "192.0.2.7"),
        ("clientid", "bad"),
    ] {
        let path = format!("/api/v4/banned/{kind}/{who}");
        assert_eq!(
            bench.olga.delete(&path).told_json(),
            done(),
            "also what is not there"
        );
    }
    assert_eq!(data(&bench.vera, "banned"), json!([]));
    assert_eq!(bench.last_change()["action"], "Lets somebody in again.");
}
