//! `/api/v5` of EMQX 5.

use crate::bench::{Bench, NODE, PASSWORD, setup, take_text};
use headgate_mqtt_codec::{Packet, Qos};
use headgate_tests::blackbox::{HttpAnswer, HttpClient, Message, Peer, Transport, eventually};
use serde_json::{Value, json};

fn error(code: &str, message: &str) -> Value {
    json!({ "code": code, "message": message })
}

fn get(http: &HttpClient, path: &str) -> Value {
    let (status, answer) = http.get(&format!("/api/v5/{path}")).told_json();
    assert_eq!(status, 200, "{path}: {answer}");
    answer
}

fn is_done(answer: &HttpAnswer) -> bool {
    answer.status == 204 && answer.body.is_empty()
}

/// `2026-11-22T21:17:37.000+00:00`
fn is_time(text: &str) -> bool {
    text.len() >= 25 && text.ends_with("+00:00") && text.as_bytes()[10] == b'T'
}

/// Paths and methods come before who asks.
#[test]
fn each_refusal_has_emqxs_word() {
    let setup = setup();
    let bench = Bench::start(&setup);
    let nothing = bench.http.get("/api/v5/nothing");
    assert_eq!(
        nothing.told_json(),
        (404, error("NOT_FOUND", "Request Path Not Found"))
    );
    let method = bench.http.delete("/api/v5/nodes");
    assert_eq!(
        (method.told(), method.header("allow")),
        ((405, String::new()), Some("GET"))
    );
    let nobody = bench.http.get("/api/v5/clients");
    let word = error(
        "AUTHORIZATION_HEADER_ERROR",
        "Support authorization: basic/bearer ",
    );
    assert_eq!(nobody.told_json(), (401, word));
    assert_eq!(
        nobody.header("www-authenticate"),
        Some("Basic Realm=\"emqx-dashboard\"")
    );
    let word = error("BAD_API_KEY_OR_SECRET", "Check api_key/api_secret");
    assert_eq!(
        bench.root.get("/api/v5/clients").told_json(),
        (401, word),
        "passwords are for the log-in"
    );
    let bearer = bench
        .http
        .with("Authorization", "Bearer x")
        .get("/api/v5/clients");
    assert_eq!(
        bearer.told_json(),
        (401, error("BAD_TOKEN", "Get a token by POST /login"))
    );
    let role = bench.key("viewer").post("/api/v5/publish", &json!({}));
    let word = error(
        "UNAUTHORIZED_ROLE",
        "You don't have permission to access this resource",
    );
    assert_eq!(role.told_json(), (403, word));
    let key = bench.key("operator");
    let broken = key.ask("POST", "/api/v5/publish", "application/json", b"{topic");
    assert_eq!(
        broken.told_json(),
        (400, error("BAD_REQUEST", "Invalid json message received"))
    );
    let limit = key.get("/api/v5/clients?limit=10001");
    assert_eq!(
        limit.told_json(),
        (
            400,
            error("BAD_REQUEST", "limit: a number from 1 to 10000 is expected")
        )
    );
    let status = bench.http.get("/api/v5/status");
    assert_eq!(
        status.told(),
        (200, format!("Node {NODE} is started\nemqx is running"))
    );
    let status = json!({
        "node_name": NODE,
        "rel_vsn": env!("CARGO_PKG_VERSION"),
        "broker_status": "started",
        "app_status": "running",
    });
    assert_eq!(get(&bench.http, "status?format=json"), status);
}

#[test]
fn a_token_is_given_and_taken_back() {
    let setup = setup();
    let bench = Bench::start(&setup);
    let log_in = |name: &str, password: &str| {
        let given = json!({ "username": name, "password": password });
        bench.http.post("/api/v5/login", &given).told_json()
    };
    let (status, mut login) = log_in("olga", PASSWORD);
    let token = take_text(&mut login, "token");
    let expected = json!({
        "token": null,
        "role": "operator",
        "version": env!("CARGO_PKG_VERSION"),
        "license": { "edition": "opensource" },
    });
    assert_eq!((status, login), (200, expected));
    let olga = bench.http.with("Authorization", &format!("Bearer {token}"));
    assert_eq!(get(&olga, "clients")["data"], json!([]));
    let sent = olga.post("/api/v5/publish", &json!({ "topic": "t", "payload": "x" }));
    assert_eq!(
        sent.status, 202,
        "a header is no cookie: nothing else need be shown"
    );
    let failed = error("BAD_USERNAME_OR_PWD", "Auth failed");
    assert_eq!(log_in("olga", "wrong password"), (401, failed.clone()));
    assert_eq!(log_in("nobody", PASSWORD), (401, failed));
    let missing = bench.http.post("/api/v5/login", &json!({ "username": "olga" }));
    assert_eq!(
        missing.told_json(),
        (400, error("BAD_REQUEST", "password: a text is required"))
    );

    let out = |http: &HttpClient, name: &str| http.post("/api/v5/logout", &json!({ "username": name }));
    let word = error("WRONG_TOKEN_OR_USERNAME", "Ensure your token & username");
    assert_eq!(out(&olga, "root").told_json(), (401, word));
    let message = "Please use bearer Token instead, using API key/secret in /logout path is not permitted";
    assert_eq!(
        out(&bench.key("operator"), "olga").told_json(),
        (401, error("API_KEY_NOT_ALLOW", message))
    );
    assert!(is_done(&out(&olga, "olga")));
    assert_eq!(olga.get("/api/v5/clients").status, 401);
}

#[test]
fn a_message_is_answered_by_who_has_it() {
    let setup = setup();
    let bench = Bench::start(&setup);
    let mut peer = bench.subscriber("hall", "a/#");
    let key = bench.key("operator");
    let publish = |body: Value| key.post("/api/v5/publish", &body).told_json();
    let (status, answer) = publish(json!({
        "topic": "a/1",
        "payload": "aGk=",
        "payload_encoding": "base64",
        "qos": 1,
        "properties": {
            "payload_format_indicator": 1,
            "message_expiry_interval": 60,
            "response_topic": "a/answer",
            "correlation_data": "7",
            "content_type": "text/plain",
            "user_properties": { "line": "7" },
        },
    }));
    assert_eq!(status, 200);
    assert_eq!(answer["id"].as_str().unwrap().len(), 32);
    let Packet::Publish(publish_packet) = peer.recv().unwrap() else {
        panic!("it is a PUBLISH")
    };
    let properties = publish_packet.properties.unwrap();
    assert_eq!(publish_packet.payload[..], *b"hi");
    assert_eq!(properties.payload_format, Some(true));
    assert_eq!(properties.user_properties[0].1.as_str(), "7");
    assert!(properties.message_expiry.is_some());

    let nobody = json!({ "reason_code": 16, "message": "no_matching_subscribers" });
    let kept = json!({ "topic": "b/1", "payload": "kept", "retain": true });
    assert_eq!(publish(kept), (202, nobody.clone()), "it is kept, though");
    assert_eq!(get(&key, "mqtt/retainer/message/b%2F1")["payload"], "a2VwdA==");
    let delayed = json!({ "topic": "$delayed/3600/c", "payload": "x" });
    assert_eq!(publish(delayed).0, 200);

    let bad = |code: u8, message: &str| (400, json!({ "reason_code": code, "message": message }));
    let topic = |topic: &str| json!({ "topic": topic, "payload": "x" });
    assert_eq!(publish(topic("a/#")), bad(144, "topic_name_invalid"));
    assert_eq!(publish(topic("")), bad(144, "topic_name_invalid"));
    let base64 = json!({ "topic": "a", "payload": "!", "payload_encoding": "base64" });
    assert_eq!(
        publish(base64),
        bad(131, "{decode_base64_payload_failed,<<\"!\">>}")
    );
    let denied = "`secret/1` may not be published: auth.acl[0]";
    let denied = json!({ "reason_code": 135, "message": denied });
    assert_eq!(publish(topic("secret/1")), (403, denied));
    assert_eq!(
        publish(json!({ "topic": "a" })),
        (400, error("BAD_REQUEST", "payload: a text is required"))
    );
    assert_eq!(
        publish(json!({ "topic": "a", "payload": "x", "qos": 3 })),
        (400, error("BAD_REQUEST", "qos: a number from 0 to 2 is expected"))
    );

    let bulk = |body: Value| key.post("/api/v5/publish/bulk", &body).told_json();
    let (status, answers) = bulk(json!([topic("a/2"), topic("nobody")]));
    assert_eq!((status, &answers[1]), (202, &nobody));
    assert!(answers[0]["id"].is_string());
    assert_eq!(bulk(json!([topic("a/3"), topic("a/4")])).0, 200);
    assert_eq!(
        bulk(json!([topic("a/5"), topic("a/+")])),
        bad(144, "topic_name_invalid")
    );
    assert_eq!(bulk(json!([])), (400, error("BAD_REQUEST", "empty_batch")));
    assert_eq!(publish(topic("a/end")).0, 200);
    peer.ack(
        headgate_mqtt_codec::AckKind::PubAck,
        publish_packet.packet_id.unwrap().get(),
    )
    .unwrap();
    let heard: Vec<String> = (0..4).map(|_| peer.hear().topic).collect();
    assert_eq!(
        heard,
        ["a/2", "a/3", "a/4", "a/end"],
        "one bad message keeps all others back"
    );
}

/// 0x97 in MQTT: larger than `mqtt.max_packet_size`.
#[test]
fn a_message_may_be_too_large() {
    let setup = crate::bench::setup_with("[mqtt]\nmax_packet_size = 1000\n");
    let bench = Bench::start(&setup);
    let message = json!({ "topic": "t", "payload": "x".repeat(1_000) });
    let answer = bench.key("operator").post("/api/v5/publish", &message);
    let told = json!({ "reason_code": 151, "message": "packet_too_large" });
    assert_eq!(answer.told_json(), (400, told));
}

fn client(bench: &Bench<'_>, key: &HttpClient, path: &str) -> Value {
    let mut row = get(key, path);
    assert!(is_time(&take_text(&mut row, "connected_at")));
    for number in ["port", "inflight_max"] {
        assert!(row[number].take().is_u64());
    }
    assert!(bench.daemon.pid() > 0);
    row
}

#[test]
fn clients_are_listed_and_disconnected() {
    let setup = setup();
    let bench = Bench::start(&setup);
    let mut peers: Vec<Peer> = (1..=3)
        .map(|n| bench.subscriber(&format!("m/{n}"), "t/#"))
        .collect();
    let key = bench.key("operator");
    let expected = json!({
        "node": NODE,
        "clientid": "m/1",
        "username": "device",
        "proto_name": "MQTT",
        "proto_ver": 5,
        "ip_address": "127.0.0.1",
        "port": null,
        "listener": "tcp",
        "connected": true,
        "connected_at": null,
        "keepalive": 0,
        "clean_start": true,
        "expiry_interval": 0,
        "is_bridge": false,
        "is_expired": false,
        "durable": false,
        "subscriptions_cnt": 1,
        "inflight_cnt": 0,
        "inflight_max": null,
        "mqueue_len": 0,
        "awaiting_rel_cnt": 0,
    });
    assert_eq!(client(&bench, &key, "clients/m%2F1"), expected);
    let list = |query: &str| get(&key, &format!("clients?fields=clientid&{query}"));
    assert_eq!(
        list("page=2&limit=2"),
        json!({
            "data": [{ "clientid": "m/3" }],
            "meta": { "page": 2, "limit": 2, "count": 3, "hasnext": false },
        })
    );
    assert_eq!(
        list("limit=2")["meta"],
        json!({ "page": 1, "limit": 2, "count": 3, "hasnext": true })
    );
    assert_eq!(
        list("clientid=m/1&clientid=m/3")["data"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert_eq!(list("like_clientid=%2F2")["data"], json!([{ "clientid": "m/2" }]));
    assert_eq!(
        list("username=device&proto_ver=5&conn_state=connected")["meta"]["count"],
        3
    );
    assert_eq!(list("conn_state=disconnected")["data"], json!([]));
    assert_eq!(
        list("gte_connected_at=2020-01-01T00:00:00%2B00:00")["meta"]["count"],
        3
    );
    let node = key.get("/api/v5/clients?node=x");
    let message = "bad rpc call <<\"x\">>, Reason <<\"invalid node\">>";
    assert_eq!(node.told_json(), (500, error("NODE_DOWN", message)));
    let gone = (404, error("CLIENTID_NOT_FOUND", "Client ID not found"));
    assert_eq!(key.get("/api/v5/clients/nobody").told_json(), gone);

    assert_eq!(get(&key, "clients/m%2F1/authorization/cache"), json!([]));
    assert!(is_done(&key.delete("/api/v5/clients/m%2F1/authorization/cache")));
    assert_eq!(
        key.delete("/api/v5/clients/nobody/authorization/cache")
            .told_json(),
        gone
    );

    assert!(is_done(&key.delete("/api/v5/clients/m%2F1")));
    assert_eq!(
        bench.last_change()["action"],
        "Disconnects a client, and ends its session."
    );
    while peers[0].recv().is_ok() {}
    let ids = json!(["m/2", "nobody"]);
    assert!(is_done(&key.post("/api/v5/clients/kickout/bulk", &ids)));
    while peers[1].recv().is_ok() {}
    eventually("them to be gone", || {
        (list("")["meta"]["count"] == 1).then_some(())
    });
    assert_eq!(key.delete("/api/v5/clients/m%2F1").told_json(), gone);
}

#[test]
fn subscriptions_and_topics_are_listed_and_changed() {
    let setup = setup();
    let bench = Bench::start(&setup);
    let mut peer = bench.subscriber("hall", "own");
    let key = bench.key("operator");
    let post = |path: &str, body: Value| key.post(&format!("/api/v5/clients/{path}"), &body);
    let wanted = json!({ "topic": "a/#", "qos": 1, "rap": 1 });
    let granted = json!({
        "node": NODE, "clientid": "hall", "topic": "a/#", "qos": 1, "nl": 0, "rap": 1, "rh": 0,
    });
    assert_eq!(post("hall/subscribe", wanted).told_json(), (200, granted));
    let row = |topic: &str, qos: u8, rap: u8| {
        json!({
            "node": NODE,
            "clientid": "hall",
            "topic": topic,
            "qos": qos,
            "nl": 0,
            "rap": rap,
            "rh": 0,
            "durable": false,
        })
    };
    let both = json!([row("a/#", 1, 1), row("own", 2, 0)]);
    assert_eq!(get(&key, "clients/hall/subscriptions"), both);
    assert_eq!(
        get(&key, "subscriptions"),
        json!({ "data": both, "meta": { "page": 1, "limit": 100, "count": 2, "hasnext": false } })
    );
    for query in ["topic=a/%23", "match_topic=a/1/%2B&qos=1", "clientid=hall&qos=1"] {
        let found = get(&key, &format!("subscriptions?{query}"));
        let expected = if query.starts_with("match") {
            json!([])
        } else {
            json!([row("a/#", 1, 1)])
        };
        assert_eq!(found["data"], expected, "{query}");
    }
    let wrong = key.get("/api/v5/subscriptions?match_topic=a/%23/b").told_json();
    assert_eq!(wrong, (400, error("INVALID_PARAMETER", "match_topic_invalid")));

    let shared = json!({ "topic": "$share/g/t", "nl": 1 });
    let message = "Invalid Subscribe options: `no_local` not allowed for shared-sub. See [MQTT-3.8.3-4]";
    let refused = (400, error("INVALID_PARAMETER", message));
    assert_eq!(post("hall/subscribe", shared.clone()).told_json(), refused);
    let (status, answer) =
        post("hall/subscribe/bulk", json!([{ "topic": "b" }, { "topic": "c" }])).told_json();
    assert_eq!((status, &answer[1]["topic"]), (200, &json!("c")));
    let (status, answer) = post("hall/subscribe/bulk", json!([{ "topic": "b" }, shared])).told_json();
    assert_eq!((status, &answer["succeed"][0]["topic"]), (200, &json!("b")));
    assert_eq!(answer["failed"][0], json!({ "data": shared, "reason": message }));

    let topics = |names: &[&str]| -> Vec<Value> {
        names
            .iter()
            .map(|name| json!({ "topic": name, "node": NODE }))
            .collect()
    };
    assert_eq!(
        get(&key, "topics?limit=3"),
        json!({
            "data": topics(&["a/#", "b", "c"]),
            "meta": { "page": 1, "limit": 3, "count": 4, "hasnext": true },
        })
    );
    assert_eq!(
        get(&key, "topics?limit=3&page=2")["data"],
        json!(topics(&["own"]))
    );
    assert_eq!(get(&key, "topics?topic=b")["data"], json!(topics(&["b"])));
    assert_eq!(get(&key, "topics/a%2F%23"), json!(topics(&["a/#"])));
    let none = key.get("/api/v5/topics/nothing");
    assert_eq!(
        none.told_json(),
        (404, error("TOPIC_NOT_FOUND", "Topic not found"))
    );

    assert!(is_done(&post("hall/unsubscribe", json!({ "topic": "a/#" }))));
    assert!(is_done(&post(
        "hall/unsubscribe/bulk",
        json!([{ "topic": "b" }, { "topic": "c" }])
    )));
    assert_eq!(get(&key, "clients/hall/subscriptions"), json!([row("own", 2, 0)]));
    let gone = (404, error("CLIENTID_NOT_FOUND", "Client ID not found"));
    for path in ["subscribe", "unsubscribe"] {
        assert_eq!(
            post(&format!("nobody/{path}"), json!({ "topic": "t" })).told_json(),
            gone
        );
        let bulk = format!("nobody/{path}/bulk");
        assert_eq!(post(&bulk, json!([{ "topic": "t" }])).told_json(), gone);
    }
    assert_eq!(key.get("/api/v5/clients/nobody/subscriptions").told_json(), gone);
    key.post("/api/v5/publish", &json!({ "topic": "own", "payload": "end" }));
    assert_eq!(peer.hear(), Message::new("own", 0, "end"));
}

#[test]
fn what_waits_and_what_is_under_way_is_shown() {
    let setup = setup();
    let bench = Bench::start(&setup);
    let port = bench.daemon.port(Transport::Tcp);
    let (mut peer, _) = Peer::connect_durably(port, "hall", "device", PASSWORD).unwrap();
    peer.subscribe("t", Qos::AtLeastOnce).unwrap();
    let key = bench.key("operator");
    let publish = |payload: &str| {
        let message = json!({ "topic": "t", "payload": payload, "qos": 1 });
        assert_eq!(key.post("/api/v5/publish", &message).status, 200);
    };
    publish("under way");
    let row = |payload: &str| json!({ "topic": "t", "qos": 1, "retain": false, "payload": payload });
    let inflight = get(&key, "clients/hall/inflight_messages");
    assert_eq!(
        inflight,
        json!({ "data": [row("dW5kZXIgd2F5")], "meta": { "start": "0", "position": "none" } })
    );
    assert!(matches!(peer.recv(), Ok(Packet::Publish(_))));
    peer.vanish();
    eventually("it to be away", || {
        (get(&key, "clients/hall")["connected"] == false).then_some(())
    });
    let rows = |query: &str| {
        get(
            &key,
            &format!("clients/hall/mqueue_messages?payload=plain&{query}"),
        )
    };
    let gone = (404, error("CLIENTID_NOT_FOUND", "Client ID not found"));
    assert_eq!(
        key.get("/api/v5/clients/nobody/mqueue_messages").told_json(),
        gone
    );
    assert_eq!(
        key.get("/api/v5/clients/nobody/inflight_messages").told_json(),
        gone
    );
    let wrong = key.get("/api/v5/clients/hall/mqueue_messages?limit=0");
    assert_eq!(
        wrong.told_json(),
        (400, error("INVALID_PARAMETER", "position_limit_invalid"))
    );
    for payload in ["1", "2", "3"] {
        publish(payload);
    }
    let waiting = |payload: &str| {
        let mut waiting = row(payload);
        waiting["mqueue_priority"] = 0.into();
        waiting
    };
    // What was under way waits again, and all of it in the store alone.
    let first = rows("limit=2");
    assert_eq!(
        first["data"],
        json!([waiting("under way"), waiting("1")]),
        "{first}"
    );
    let position = first["meta"]["position"].as_str().unwrap();
    let rest = rows(&format!("position={position}"));
    assert_eq!(rest["data"], json!([waiting("2"), waiting("3")]), "{rest}");
    assert_eq!(rest["meta"]["position"], "none");
    let small = get(
        &key,
        "clients/hall/mqueue_messages?payload=base64&max_payload_bytes=4",
    );
    assert_eq!(
        small["data"][0]["payload"], "dW5kZXIgd2F5",
        "the first is shown however large it is"
    );
    assert_eq!(small["data"].as_array().unwrap().len(), 1);
}

#[test]
fn clients_are_banned_and_let_in_again() {
    let setup = setup();
    let bench = Bench::start(&setup);
    let key = bench.key("operator");
    let ban = |body: Value| key.post("/api/v5/banned", &body).told_json();
    let wanted = json!({
        "as": "clientid", "who": "bad", "reason": "noise", "until": "2096-10-02T09:06:40+02:00",
    });
    let (status, mut made) = ban(wanted.clone());
    assert!(is_time(&take_text(&mut made, "at")));
    let row = json!({
        "as": "clientid",
        "who": "bad",
        "by": "mgmt_api",
        "reason": "noise",
        "at": null,
        "until": "2096-10-02T07:06:40+00:00",
    });
    assert_eq!((status, &made), (200, &row));
    let (status, again) = ban(wanted);
    assert_eq!((status, &again["code"]), (400, &json!("ALREADY_EXISTS")));
    assert!(again["message"].as_str().unwrap().contains("\"who\":\"bad\""));
    let (status, expired) = ban(json!({ "as": "username", "who": "x", "until": 1 }));
    assert_eq!((status, &expired["code"]), (400, &json!("BAD_REQUEST")));
    assert_eq!(ban(json!({ "as": "clientid_re", "who": "x" })).0, 400);
    assert_eq!(
        ban(json!({ "as": "peerhost", "who": "192.0.2.7" })).1["until"],
        "infinity"
    );
    assert_eq!(
        ban(json!({ "as": "peerhost_net", "who": "198.51.100.0/24" })).0,
        200
    );

    let list = |query: &str| get(&key, &format!("banned?{query}"));
    assert_eq!(
        list("limit=2")["meta"],
        json!({ "page": 1, "limit": 2, "count": 3, "hasnext": true })
    );
    let mut found = list("clientid=bad");
    found["data"][0]["at"].take();
    assert_eq!(found["data"], json!([row]));
    assert_eq!(list("like_peerhost_net=198")["data"][0]["who"], "198.51.100.0/24");
    let several = key.get("/api/v5/banned?clientid=a&username=b");
    assert_eq!(
        several.told_json(),
        (400, error("BAD_REQUEST", "too_many_filters"))
    );
    assert!(is_done(&key.delete("/api/v5/banned/clientid/bad")));
    let none = key.delete("/api/v5/banned/clientid/bad");
    assert_eq!(
        none.told_json(),
        (404, error("NOT_FOUND", "clientid: bad not found"))
    );
    assert!(is_done(&key.delete("/api/v5/banned")));
    assert_eq!(list("")["meta"]["count"], 0);
}

#[test]
fn retained_messages_are_listed_shown_and_removed() {
    let setup = setup();
    let bench = Bench::start(&setup);
    let key = bench.key("operator");
    for n in 1..=3 {
        let message = json!({ "topic": format!("r/{n}"), "payload": "x", "qos": 1, "retain": true });
        assert_eq!(key.post("/api/v5/publish", &message).status, 202);
    }
    let row = |n: u8| json!({ "topic": format!("r/{n}"), "qos": 1 });
    assert_eq!(
        get(&key, "mqtt/retainer/messages?topic=r/%23&limit=2"),
        json!({ "data": [row(1), row(2)], "meta": { "page": 1, "limit": 2, "hasnext": true } })
    );
    assert_eq!(
        get(&key, "mqtt/retainer/messages")["data"],
        json!([row(1), row(2), row(3)])
    );
    let mut one = row(1);
    one["payload"] = "eA==".into();
    assert_eq!(get(&key, "mqtt/retainer/message/r%2F1"), one);
    let gone = (404, error("NOT_FOUND", "Viewed message doesn't exist"));
    assert_eq!(key.get("/api/v5/mqtt/retainer/message/none").told_json(), gone);
    assert!(is_done(&key.delete("/api/v5/mqtt/retainer/message/r%2F1")));
    assert_eq!(
        key.delete("/api/v5/mqtt/retainer/message/r%2F1").told_json(),
        gone
    );
    assert_eq!(
        bench.last_change()["status"],
        204,
        "what came to nothing is no entry"
    );
    assert!(is_done(&key.delete("/api/v5/mqtt/retainer/messages")));
    assert_eq!(get(&key, "mqtt/retainer/messages")["data"], json!([]));
}

#[test]
fn the_gateway_is_seen() {
    let setup = setup();
    let bench = Bench::start(&setup);
    let key = bench.key("viewer");
    let mut node = get(&key, &format!("nodes/{NODE}"));
    for text in ["memory_total", "memory_used"] {
        assert!(!take_text(&mut node, text).is_empty());
    }
    for number in ["uptime", "max_fds", "load1", "load5", "load15"] {
        assert!(node[number].take().is_number(), "{number}");
    }
    let expected = json!({
        "node": NODE,
        "node_status": "running",
        "version": env!("CARGO_PKG_VERSION"),
        "uptime": null,
        "connections": 0,
        "live_connections": 0,
        "cluster_sessions": 0,
        "memory_total": null,
        "memory_used": null,
        "max_fds": null,
        "load1": null,
        "load5": null,
        "load15": null,
        "edition": "Opensource",
        "role": "core",
    });
    assert_eq!(node, expected);
    assert_eq!(get(&key, "nodes")[0]["node"], NODE);
    let none = key.get("/api/v5/nodes/x");
    assert_eq!(none.told_json(), (404, error("NOT_FOUND", "Node not found: x")));

    let metrics = get(&key, "metrics");
    assert_eq!(
        (&metrics[0]["node"], &metrics[0]["packets.connect.received"]),
        (&json!(NODE), &json!(0))
    );
    assert_eq!(get(&key, "metrics?aggregate=true")["messages.received"], 0);
    assert_eq!(get(&key, "metrics?node=x"), json!([]));
    assert_eq!(get(&key, &format!("nodes/{NODE}/metrics"))["bytes.received"], 0);
    let stats = get(&key, "stats");
    assert_eq!(
        (&stats[0]["node"], &stats[0]["connections.count"]),
        (&json!(NODE), &json!(0))
    );
    assert_eq!(get(&key, "stats?aggregate=true")["subscriptions.max"], 0);
    assert_eq!(get(&key, &format!("nodes/{NODE}/stats"))["topics.count"], 0);

    let mut current = get(&key, "monitor_current");
    assert!(current["retained_msg_count"].take().is_u64());
    let expected = json!({
        "received_msg_rate": 0,
        "sent_msg_rate": 0,
        "dropped_msg_rate": 0,
        "subscriptions": 0,
        "topics": 0,
        "connections": 0,
        "live_connections": 0,
        "retained_msg_count": null,
    });
    assert_eq!(current, expected);
    let current = get(&key, &format!("monitor_current/nodes/{NODE}"));
    assert!(current["node_uptime"].is_u64());
    let nothing = json!({ "data": [], "meta": { "page": 1, "limit": 100, "count": 0, "hasnext": false } });
    assert_eq!(get(&key, "alarms"), nothing);
    assert_eq!(get(&key, "alarms?activated=false"), nothing);
}
