//! `/api/v2` of EMQ 2.3.

use crate::bench::{Bench, NODE, PASSWORD, is_empty_404, setup, take_text};
use headgate_tests::blackbox::{HttpClient, Message, Peer, eventually};
use serde_json::{Value, json};

fn done() -> (u16, Value) {
    (200, json!({ "code": 0, "result": [] }))
}

fn code(code: u16, message: &str) -> (u16, Value) {
    (200, json!({ "code": code, "message": message }))
}

fn result(http: &HttpClient, path: &str) -> Value {
    let (status, mut answer) = http.get(&format!("/api/v2/{path}")).told_json();
    assert_eq!((status, &answer["code"]), (200, &json!(0)), "{path}: {answer}");
    answer["result"].take()
}

/// `2026-11-22 21:17:37`
fn is_time(text: &str) -> bool {
    text.len() == 19 && text.chars().all(|c| c.is_ascii_digit() || "- :".contains(c))
}

/// Who is nobody hears 401 before anything else; then what is not there is 404, also by another method or for another node.
#[test]
fn strangers_hear_401_before_404() {
    let setup = setup();
    let bench = Bench::start(&setup);
    for path in ["/api/v2/users", "/api/v2/nothing", "/api/v2", "/api/v2/"] {
        let answer = bench.http.get(path);
        assert_eq!((answer.status, answer.text().as_str()), (401, ""), "{path}");
        assert_eq!(
            answer.header("www-authenticate"),
            Some("Basic Realm=\"emqx control center\"")
        );
        let wrong = bench.http.basic("root", "wrong password").get(path);
        assert_eq!(wrong.status, 401);
    }
    let root = &bench.root;
    assert!(is_empty_404(&root.get("/api/v2/nothing")));
    assert!(is_empty_404(&root.get("/api/v2/nodes/other@node/clients")));
    assert!(is_empty_404(&root.get("/api/v2/mqtt/publish")));
    assert!(is_empty_404(&root.delete("/api/v2/routes")));
    assert!(is_empty_404(
        &root.get(&format!("/api/v2/nodes/{NODE}/clients?curr_page=one"))
    ));
    assert_eq!(
        root.get("/api/v2/users/").status,
        200,
        "with a slash at the end, too"
    );
    let elsewhere = root.with("Origin", "https://evil.example");
    assert_eq!(elsewhere.post("/api/v2/mqtt/publish", &json!({})).status, 403);
    let status = bench.http.get("/status");
    assert_eq!(
        status.told(),
        (200, format!("Node {NODE} is started\nemqttd is running"))
    );
}

/// A password that was right is remembered, and not beyond a change of it; who was wrong too often waits, whatever he shows then.
#[test]
fn passwords_are_remembered_and_lock_out_holds() {
    let setup = setup();
    let bench = Bench::start(&setup);
    let change = |old: &str, new: &str| json!({ "old_pwd": old, "new_pwd": new });
    assert_eq!(bench.vera.get("/api/v2/routes").status, 200);
    assert_eq!(bench.vera.get("/api/v2/routes").status, 200);
    let other = "another long password";
    let path = "/api/v2/change_pwd/vera";
    assert_eq!(
        bench.vera.send("PUT", path, &change(PASSWORD, other)).told_json(),
        done()
    );
    assert_eq!(bench.vera.get("/api/v2/routes").status, 401);
    let vera = bench.http.basic("vera", other);
    assert_eq!(vera.get("/api/v2/routes").status, 200);
    for _ in 0..5 {
        bench.vera.get("/api/v2/routes");
    }
    let locked = vera.get("/api/v2/routes");
    assert_eq!(locked.status, 429, "{}", locked.text());
    assert_eq!(
        bench.olga.get("/api/v2/routes").status,
        200,
        "others are not kept out"
    );
}

#[test]
fn the_gateway_says_what_it_is() {
    let setup = setup();
    let bench = Bench::start(&setup);
    let broker = |mut row: Value| {
        assert!(take_text(&mut row, "uptime").ends_with(" seconds"));
        assert!(is_time(&take_text(&mut row, "datetime")));
        row
    };
    let mut expected = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "sysdescr": "Headgate IoT gateway",
        "uptime": null,
        "datetime": null,
        "otp_release": null,
        "node_status": "Running",
    });
    let one = result(&bench.vera, &format!("management/nodes/{NODE}"));
    assert_eq!(broker(one), expected);
    expected["name"] = NODE.into();
    let all = result(&bench.vera, "management/nodes");
    assert_eq!(broker(all[0].clone()), expected);

    let node = |mut row: Value| {
        for text in ["memory_total", "memory_used", "load1", "load5", "load15"] {
            assert!(!take_text(&mut row, text).is_empty());
        }
        assert!(row["max_fds"].take().is_u64());
        row
    };
    let expected = json!({
        "name": NODE,
        "otp_release": null,
        "memory_total": null,
        "memory_used": null,
        "process_available": null,
        "process_used": null,
        "max_fds": null,
        "clients": 0,
        "node_status": "Running",
        "load1": null,
        "load5": null,
        "load15": null,
    });
    let one = result(&bench.vera, &format!("monitoring/nodes/{NODE}"));
    assert_eq!(node(one), expected);
    assert_eq!(node(result(&bench.vera, "monitoring/nodes")[0].clone()), expected);

    let listeners = result(&bench.vera, &format!("monitoring/listeners/{NODE}"));
    assert_eq!(
        result(&bench.vera, "monitoring/listeners")[0][NODE]
            .as_array()
            .unwrap()
            .len(),
        5
    );
    let listeners = listeners.as_array().unwrap();
    let tls = listeners
        .iter()
        .find(|row| row["protocol"] == "mqtt:ssl")
        .unwrap();
    let port = bench.daemon.port(headgate_tests::blackbox::Transport::Tls);
    let mut tls = tls.clone();
    assert!(tls["shutdown_count"].take().is_object());
    let expected = json!({
        "protocol": "mqtt:ssl",
        "listen": format!("127.0.0.1:{port}"),
        "acceptors": null,
        "max_clients": null,
        "current_clients": 0,
        "shutdown_count": null,
    });
    assert_eq!(tls, expected);

    let message = json!({ "topic": "t", "payload": "x", "qos": 1 });
    assert_eq!(bench.olga.post("/api/v2/mqtt/publish", &message).status, 200);
    let metrics = result(&bench.vera, &format!("monitoring/metrics/{NODE}"));
    assert_eq!(metrics["messages/qos1/received"], 1);
    assert_eq!(metrics["packets/connect"], 0);
    assert_eq!(
        result(&bench.vera, "monitoring/metrics")[0][NODE]["messages/received"],
        1
    );
    let stats = result(&bench.vera, &format!("monitoring/stats/{NODE}"));
    for name in [
        "clients",
        "sessions",
        "topics",
        "routes",
        "subscribers",
        "subscriptions",
    ] {
        assert_eq!(stats[format!("{name}/count")], 0, "{name}");
        assert_eq!(stats[format!("{name}/max")], 0, "{name}");
    }
    assert!(stats["retained/count"].is_u64(), "what is retained under $SYS");
    let all = result(&bench.vera, "monitoring/stats");
    assert_eq!(all[0][NODE].as_object().unwrap().len(), 14);
    assert_eq!(result(&bench.vera, &format!("nodes/{NODE}/alarms")), json!([]));
}

fn connect(bench: &Bench<'_>, id: &str, filter: &str) -> Peer {
    bench.subscriber(id, filter)
}

#[test]
fn clients_sessions_subscriptions_and_routes_are_listed() {
    let setup = setup();
    let bench = Bench::start(&setup);
    let _peers: Vec<Peer> = (1..=3)
        .map(|n| connect(&bench, &format!("m/{n}"), "t/#"))
        .collect();
    let page = |path: &str| result(&bench.vera, &format!("nodes/{NODE}/{path}"));

    let clients = page("clients?curr_page=2&page_size=2");
    let mut client = clients["objects"][0].clone();
    assert!(is_time(&take_text(&mut client, "connected_at")));
    assert!(client["port"].take().as_u64().unwrap() > 0);
    let expected = json!({
        "client_id": "m/3",
        "username": "device",
        "ipaddress": "127.0.0.1",
        "port": null,
        "clean_sess": true,
        "proto_ver": 5,
        "keepalive": 0,
        "connected_at": null,
    });
    assert_eq!(client, expected);
    for (field, value) in [
        ("current_page", 2),
        ("page_size", 2),
        ("total_num", 3),
        ("total_page", 2),
    ] {
        assert_eq!(clients[field], value, "{field}");
    }
    let defaults = page("clients");
    assert_eq!(
        (&defaults["page_size"], &defaults["current_page"]),
        (&json!(20), &json!(1))
    );
    assert_eq!(page("clients?curr_page=9")["objects"], json!([]));
    for path in [format!("nodes/{NODE}/clients/m%2F3"), "clients/m%2F3".to_owned()] {
        let found = result(&bench.vera, &path);
        assert_eq!(found["objects"][0]["client_id"], "m/3");
    }
    assert_eq!(result(&bench.vera, "clients/nobody"), json!({ "objects": [] }));

    let session = json!({
        "client_id": "m/1",
        "clean_sess": true,
        "subscriptions": 1,
        "max_inflight": 65535,
        "inflight_len": 0,
        "mqueue_len": 0,
        "mqueue_dropped": null,
        "awaiting_rel_len": 0,
        "deliver_msg": null,
        "enqueue_msg": null,
        "created_at": null,
    });
    let mut found = result(&bench.vera, "sessions/m%2F1")["objects"][0].clone();
    let inflight = found["max_inflight"].take();
    found["max_inflight"] = json!(65535);
    assert!(inflight.is_u64());
    assert_eq!(found, session);
    let sessions = page("sessions?page_size=1");
    assert_eq!(
        (&sessions["total_num"], &sessions["total_page"]),
        (&json!(3), &json!(3))
    );
    assert_eq!(sessions["objects"][0]["client_id"], "m/1");
    assert_eq!(page("sessions/m%2F1")["objects"][0]["client_id"], "m/1");
    assert_eq!(result(&bench.vera, "sessions/nobody"), json!({ "objects": [] }));

    let subscription = |n: u8| json!({ "client_id": format!("m/{n}"), "topic": "t/#", "qos": 2 });
    let subscriptions = page("subscriptions");
    assert_eq!(
        subscriptions,
        json!({
            "current_page": 1,
            "page_size": 20,
            "total_num": 3,
            "total_page": 1,
            "objects": [subscription(1), subscription(2), subscription(3)],
        })
    );
    let one = json!({ "objects": [subscription(2)] });
    assert_eq!(page("subscriptions/m%2F2"), one);
    assert_eq!(result(&bench.vera, "subscriptions/m%2F2"), one);
    assert_eq!(
        result(&bench.vera, "subscriptions/nobody"),
        json!({ "objects": [] })
    );

    let route = json!({ "topic": "t/#", "node": NODE });
    assert_eq!(
        result(&bench.vera, "routes"),
        json!({ "current_page": 1, "page_size": 20, "total_num": 1, "total_page": 1, "objects": [route] })
    );
    assert_eq!(result(&bench.vera, "routes/t/%23"), json!({ "objects": [route] }));
    assert_eq!(result(&bench.vera, "routes/t"), json!({ "objects": [] }));
}

#[test]
fn clients_are_subscribed_and_disconnected() {
    let setup = setup();
    let bench = Bench::start(&setup);
    let mut peer = connect(&bench, "hall", "own");
    let post = |path: &str, body: &Value| bench.olga.post(&format!("/api/v2/{path}"), body).told_json();
    let wanted = json!({ "client_id": "hall", "topic": "plant/7", "qos": 1 });
    assert_eq!(post("mqtt/subscribe", &wanted), done());
    let change = bench.last_change();
    assert_eq!(
        (&change["who"], &change["action"], &change["status"]),
        (
            &json!("olga"),
            &json!("Subscribes on behalf of a client."),
            &json!(200)
        )
    );
    let message = json!({ "topic": "plant/7", "payload": "open", "qos": 2, "client_id": "plc" });
    assert_eq!(post("mqtt/publish", &message), done());
    assert_eq!(peer.hear(), Message::new("plant/7", 1, "open"));
    assert_eq!(post("mqtt/unsubscribe", &wanted), done());
    assert_eq!(post("mqtt/publish", &message), done());
    let own = json!({ "topic": "own", "payload": "end" });
    assert_eq!(post("mqtt/publish", &own), done());
    assert!(peer.until("end").is_empty());

    let nobody = json!({ "client_id": "nobody", "topic": "t" });
    let told = code(102, "Clientid: nobody not found");
    assert_eq!(post("mqtt/subscribe", &nobody), told);
    assert_eq!(
        bench.last_change()["action"],
        "Ends a subscription on behalf of a client.",
        "what was refused to an operator is no entry of the audit log"
    );
    assert_eq!(post("mqtt/unsubscribe", &nobody), told);
    let wild = json!({ "client_id": "hall", "topic": "t/#" });
    assert_eq!(
        post("mqtt/subscribe", &wild),
        code(102, "validate topic: t/# fail")
    );
    assert_eq!(
        post("mqtt/unsubscribe", &wild),
        code(102, "validate topic: t/# fail")
    );
    let topic = json!({ "client_id": "hall" });
    assert_eq!(post("mqtt/subscribe", &topic), code(107, "params error"));

    let clean = |id: &str, body: &Value| {
        let path = format!("/api/v2/clients/{id}/clean_acl_cache");
        bench.olga.send("PUT", &path, body).told_json()
    };
    assert_eq!(clean("hall", &json!({ "topic": "t" })), done());
    assert_eq!(clean("hall", &json!({})), code(107, "params error"));
    let offline = (200, json!({ "code": 112 }));
    assert_eq!(clean("nobody", &json!({ "topic": "t" })), offline);
    assert_eq!(
        bench.vera.delete("/api/v2/clients/hall").status,
        403,
        "a viewer looks"
    );
    assert_eq!(bench.olga.delete("/api/v2/clients/hall").told_json(), done());
    while peer.recv().is_ok() {}
    eventually("it to be gone", || {
        let objects = result(&bench.vera, "clients/hall")["objects"].take();
        (objects == json!([])).then_some(())
    });
    assert_eq!(bench.olga.delete("/api/v2/clients/hall").told_json(), offline);
}

/// 107 comes before 108, and 109 before both.
#[test]
fn what_is_wrong_with_a_message_is_told_by_code() {
    let setup = setup();
    let bench = Bench::start(&setup);
    let raw = |body: &str| {
        let path = "/api/v2/mqtt/publish";
        bench
            .olga
            .ask("POST", path, "application/json", body.as_bytes())
            .told_json()
    };
    let publish = |body: Value| raw(&body.to_string());
    assert_eq!(raw("{topic"), code(109, "Body not json"));
    assert_eq!(raw(""), code(107, "params error"));
    assert_eq!(publish(json!({ "topic": 1 })), code(107, "params error"));
    assert_eq!(
        publish(json!({ "topic": 1, "payload": "x" })),
        code(108, "params type error")
    );
    assert_eq!(
        publish(json!({ "topic": "t", "payload": {} })),
        code(108, "params type error")
    );
    assert_eq!(
        publish(json!({ "topic": "t", "payload": "", "qos": "1" })),
        code(108, "params type error")
    );
    assert_eq!(
        publish(json!({ "topic": "a/#", "payload": "" })),
        code(102, "validate topic: a/# fail")
    );
    assert_eq!(
        publish(json!({ "topic": "t", "payload": "", "qos": 3 })),
        code(102, "QoS 3 is out of range, allowed is 0 to 2")
    );
    assert_eq!(
        publish(json!({ "topic": "secret/1", "payload": "" })),
        code(102, "`secret/1` may not be published: auth.acl[0]")
    );
    let viewer = bench
        .vera
        .post("/api/v2/mqtt/publish", &json!({ "topic": "t", "payload": "" }));
    let told = "`vera` is viewer, this is for operators";
    assert_eq!(viewer.told_json(), (403, json!({ "code": 102, "message": told })));
    let secret = json!({ "topic": "secret/1", "payload": "" });
    assert_eq!(
        bench.root.post("/api/v2/mqtt/publish", &secret).told_json(),
        done()
    );
    let key = bench.key("operator");
    let message = json!({ "topic": "t", "payload": "" });
    assert_eq!(key.post("/api/v2/mqtt/publish", &message).told_json(), done());
}

#[test]
fn plugins_and_settings_are_shown_and_not_changed() {
    let setup = setup();
    let bench = Bench::start(&setup);
    let path = format!("nodes/{NODE}/plugins");
    let plugins = result(&bench.vera, &path);
    let plugins = plugins.as_array().unwrap();
    let retainer = plugins.iter().find(|row| row["name"] == "emq_retainer").unwrap();
    let expected = json!({
        "name": "emq_retainer",
        "version": env!("CARGO_PKG_VERSION"),
        "description": "Retained messages (bus.retained)",
        "active": true,
    });
    assert_eq!(*retainer, expected);
    let load = |name: &str, body: Value| {
        let path = format!("/api/v2/{path}/{name}");
        bench.root.send("PUT", &path, &body).told_json()
    };
    let (on, off) = (json!({ "active": true }), json!({ "active": false }));
    assert_eq!(load("emq_retainer", on.clone()), code(110, "already_started"));
    assert_eq!(load("emq_sn", off.clone()), code(111, "not_started"));
    assert_eq!(load("emq_lua_hook", on), code(102, "unknown"));
    let told = "emq_retainer is switched by the configuration: Retained messages (bus.retained)";
    assert_eq!(load("emq_retainer", off), code(102, told));
    assert_eq!(load("emq_retainer", json!({})), code(107, "params error"));
    assert_eq!(
        load("emq_retainer", json!({ "active": 1 })),
        code(108, "params type error")
    );

    let configs = result(&bench.vera, &format!("nodes/{NODE}/configs"));
    assert_eq!(result(&bench.vera, "configs"), json!([{ NODE: configs }]));
    let inflight = configs.as_array().unwrap().iter();
    let inflight = inflight
        .clone()
        .find(|row| row["key"] == "mqtt.session.upgrade_qos")
        .unwrap();
    let expected =
        json!({ "key": "mqtt.session.upgrade_qos", "value": "false", "datatpye": "flag", "app": "emqttd" });
    assert_eq!(*inflight, expected);
    let key = |name: &str| json!({ "key": name, "value": "true" });
    let set = |path: &str, body: Value| {
        bench
            .root
            .send("PUT", &format!("/api/v2/{path}"), &body)
            .told_json()
    };
    let told = "mqtt.session.upgrade_qos stands in the configuration of this gateway: bus.upgrade_qos";
    assert_eq!(
        set("configs/emqttd", key("mqtt.session.upgrade_qos")),
        code(102, told)
    );
    let path = format!("nodes/{NODE}/configs/emqttd");
    assert_eq!(set(&path, key("mqtt.session.upgrade_qos")), code(102, told));
    assert_eq!(
        set("configs/emqttd", key("mqtt.cache_acl")),
        code(102, "mqtt.cache_acl has no meaning here")
    );
    assert_eq!(
        set("configs/emqttd", json!({ "key": "x" })),
        code(107, "params error")
    );
    let path = format!("nodes/{NODE}/plugin_configs/emq_retainer");
    assert_eq!(result(&bench.vera, &path), json!([]));
    let told = "emq_retainer has its place in the configuration: Retained messages (bus.retained)";
    assert_eq!(
        set(&path, json!({ "retainer.max_message_num": "1" })),
        code(102, told)
    );
    assert!(is_empty_404(
        &bench
            .vera
            .get(&format!("/api/v2/nodes/{NODE}/plugin_configs/none"))
    ));
}

/// EMQ's users are administrators; the last one who may do everything stays.
#[test]
fn users_are_administrators_with_roles_as_tags() {
    let setup = setup();
    let bench = Bench::start(&setup);
    let root = &bench.root;
    let ask = |method: &str, path: &str, body: Value| {
        root.send(method, &format!("/api/v2/{path}"), &body).told_json()
    };
    let user = |name: &str, tags: &str| json!({ "username": name, "tags": tags });
    let all = json!([
        user("olga", "operator"),
        user("root", "administrator"),
        user("vera", "viewer")
    ]);
    assert_eq!(result(root, "users"), all);
    assert_eq!(result(root, "users/olga"), user("olga", "operator"));
    assert_eq!(result(root, "users/nobody"), json!([]));
    assert_eq!(bench.vera.get("/api/v2/users").status, 403);

    let new = |name: &str, password: &str, tags: &str| json!({ "username": name, "password": password, "tags": tags });
    assert_eq!(ask("POST", "users", new("anna", PASSWORD, "admin")), done());
    let change = bench.last_change();
    let after = json!({ "name": "anna", "role": "administrator" });
    assert_eq!((&change["who"], &change["after"]), (&json!("root"), &after));
    assert_eq!(
        ask("POST", "users", new("anna", PASSWORD, "admin")),
        code(113, "User already exist")
    );
    assert_eq!(
        ask("POST", "users", json!({ "username": "b", "password": PASSWORD })),
        code(107, "params error")
    );
    assert_eq!(
        ask("POST", "users", new("", PASSWORD, "viewer")),
        code(104, "Empty username or password")
    );
    let tags = "tags: a role: administrator, operator or viewer";
    assert_eq!(ask("POST", "users", new("b", PASSWORD, "king")), code(102, tags));
    let (status, short) = ask("POST", "users", new("b", "short", "viewer"));
    assert_eq!((status, &short["code"]), (200, &json!(102)));

    assert_eq!(ask("PUT", "users/anna", json!({ "tags": "viewer" })), done());
    assert_eq!(result(root, "users/anna"), user("anna", "viewer"));
    assert_eq!(
        ask("PUT", "users/nobody", json!({ "tags": "viewer" })),
        code(105, "User not found")
    );
    assert_eq!(
        ask("PUT", "users/root", json!({ "tags": "viewer" })),
        code(106, "admin cannot be deleted")
    );
    assert_eq!(ask("DELETE", "users/anna", json!({})), done());
    assert_eq!(
        ask("DELETE", "users/anna", json!({})),
        code(105, "User not found")
    );
    assert_eq!(
        ask("DELETE", "users/root", json!({})),
        code(106, "admin cannot be deleted")
    );

    let auth = |name: &str, password: &str| {
        let body = json!({ "username": name, "password": password });
        bench.http.post("/api/v2/auth", &body).told_json()
    };
    assert_eq!(auth("olga", PASSWORD), done());
    assert_eq!(
        auth("olga", "wrong password"),
        code(103, "Username or password error")
    );
    assert_eq!(auth("nobody", PASSWORD), code(103, "Username or password error"));
    assert_eq!(
        bench.http.post("/api/v2/auth", &json!({})).told_json(),
        code(107, "params error")
    );

    let passwords = |old: &str| json!({ "old_pwd": old, "new_pwd": "another long password" });
    assert_eq!(
        ask("PUT", "change_pwd/olga", passwords("wrong password")),
        code(114, "OldPassword error")
    );
    assert_eq!(
        ask("PUT", "change_pwd/nobody", passwords(PASSWORD)),
        code(105, "User not found")
    );
    let other = bench
        .vera
        .send("PUT", "/api/v2/change_pwd/olga", &passwords(PASSWORD));
    assert_eq!(other.status, 403);
    assert_eq!(ask("PUT", "change_pwd/olga", passwords(PASSWORD)), done());
    assert_eq!(auth("olga", "another long password"), done());
}
