//! What can be asked, by the OpenAPI document: roles hold, and handlers give what it says.

use crate::*;

/// All that can be asked, by method, path with something in the place of names, and role.
fn operations(document: &Value) -> Vec<(String, String, Option<String>)> {
    let mut all = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let parts = path
                .split('/')
                .map(|part| if part.starts_with('{') { "7" } else { part });
            let asked = parts.collect::<Vec<_>>().join("/");
            let role = operation["x-role"].as_str().map(str::to_owned);
            all.push((method.to_uppercase(), asked, role));
        }
    }
    all
}

/// Whoever shows nothing gets nothing, and whoever has too small a role does nothing, whatever is asked.
#[test]
fn each_question_has_its_role() {
    let setup = setup();
    let daemon = setup.start();
    set_up(&daemon);
    let anybody = anybody(&daemon);
    let (viewer, operator) = (key(&daemon, "viewer"), key(&daemon, "operator"));
    let document = viewer.get("/api/v1/openapi.json").json();
    let all = operations(&document);
    assert!(all.len() > 70, "{}", all.len());
    let ask = |who: &HttpClient, method: &str, path: &str| {
        who.ask(
            method,
            path,
            "application/json",
            if method == "GET" { b"" } else { b"{}" },
        )
        .status
    };
    let mut open = Vec::new();
    for (method, path, role) in &all {
        let Some(role) = role else {
            open.push(format!("{method} {path}"));
            continue;
        };
        assert_eq!(ask(&anybody, method, path), 401, "{method} {path}");
        assert_eq!(
            ask(&anybody.basic("hg_0", "wrong"), method, path),
            401,
            "{method} {path}"
        );
        if role != "viewer" {
            assert_eq!(ask(&viewer, method, path), 403, "{method} {path}");
        }
        if role == "administrator" {
            assert_eq!(ask(&operator, method, path), 403, "{method} {path}");
        }
    }
    open.sort();
    assert_eq!(
        open,
        ["GET /api/v1/setup", "POST /api/v1/session", "POST /api/v1/setup"],
        "nothing else is open"
    );
    // What was refused is in the log, and pushes no change out of the audit log.
    setup.log_with(&["an administrator was refused"]);
    let audit = HttpClient::control(&daemon)
        .get("/api/v1/audit?limit=1000")
        .json();
    let rows = audit["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 3, "an administrator and two keys: {rows:?}");
}

/// OpenAPI 3.1: schemas are those of JSON Schema 2020-12.
#[test]
fn what_handlers_give_is_what_the_document_says() {
    let setup = setup();
    let daemon = setup.start();
    set_up(&daemon);
    let control = HttpClient::control(&daemon);
    let document = control.get("/api/v1/openapi.json").json();
    let port = daemon.port(Transport::Tcp);
    let (mut peer, _) = Peer::connect(port, "pump/7", true, 600).unwrap();
    peer.subscribe("a/#", Qos::AtLeastOnce).unwrap();
    peer.subscribe("$share/g/b/#", Qos::AtMostOnce).unwrap();
    publish(&mut peer, "r/1", "hello", true);
    publish(&mut peer, "$delayed/600/a/b", "later", false);
    control.post("/api/v1/bans", &json!({ "client": "eve", "reason": "why not" }));
    control.post("/api/v1/keys", &json!({ "name": "k", "role": "viewer" }));
    control.post("/api/v1/users", &json!({ "name": "u", "password": "p" }));
    control.post(
        "/api/v1/certificates/csr",
        &json!({ "name": "gate", "common_name": "gate" }),
    );
    let gets = [
        "/setup",
        "/session",
        "/administrators",
        "/keys",
        "/audit",
        "/configuration",
        "/configuration/history",
        "/configuration/schema",
        "/bans",
        "/bridges",
        "/alarms",
        "/certificates",
        "/clients",
        "/clients?search=pump&limit=1",
        "/clients/pump%2F7",
        "/clients/by-id?client=pump/7",
        "/clients/pump%2F7/subscriptions",
        "/sessions/pump%2F7/queue",
        "/subscriptions",
        "/lines",
        "/listeners",
        "/acl",
        "/retained?filter=%23",
        "/retained/message?topic=r/1",
        "/metrics",
        "/status",
        "/slow",
        "/log/level",
        "/lwm2m/clients",
        "/traces",
        "/system",
        "/overview",
        "/history",
        "/history?span=30d&series=clients",
        "/shared",
        "/topics",
        "/topics?limit=1",
        "/delayed",
        "/users",
    ];
    let asked = gets.iter().map(|path| ("get", *path, None));
    let posts = [
        ("/explain", json!({ "client": "pump/7", "publish": "a/b" })),
        (
            "/configuration/preview",
            json!({ "toml": "node = \"x\"\ndata_dir = \"data\"\n" }),
        ),
        (
            "/configuration/edit",
            json!({ "toml": "", "changes": [{ "path": "node", "value": "x" }] }),
        ),
        (
            "/clients/pump%2F7/subscriptions",
            json!({ "filter": "c/#", "qos": 1 }),
        ),
        ("/users/look", json!({})),
    ];
    let asked = asked.chain(posts.iter().map(|(path, body)| ("post", *path, Some(body))));
    let mut checked = 0;
    for (method, path, body) in asked {
        let full = format!("/api/v1{path}");
        let answer = match body {
            Some(body) => control.post(&full, body),
            None => control.get(&full),
        };
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        let schema = schema_of(&document, method, path.split('?').next().unwrap());
        let mut whole = json!({ "components": document["components"], "allOf": [schema] });
        forbid_others(&mut whole);
        let validator = jsonschema::validator_for(&whole).unwrap();
        let given = answer.json();
        let faults: Vec<String> = validator
            .iter_errors(&given)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(faults.is_empty(), "{path}: {faults:#?}\n{given:#}");
        checked += 1;
    }
    assert!(checked > 40);
}

/// What a handler gives beyond what is said of it is a fault, too: no object has more than its fields, where one schema says all of them.
fn forbid_others(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            let parts = ["allOf", "anyOf", "oneOf", "$ref"];
            let combines = parts.iter().any(|key| fields.contains_key(*key));
            let names_fields = fields.get("properties").is_some_and(Value::is_object);
            let whole = fields
                .iter_mut()
                .filter(|(key, _)| !parts.contains(&key.as_str()));
            whole.for_each(|(_, value)| forbid_others(value));
            if names_fields && !combines && !fields.contains_key("additionalProperties") {
                fields.insert("additionalProperties".into(), json!(false));
            }
        }
        Value::Array(values) => values.iter_mut().for_each(forbid_others),
        _ => {}
    }
}

/// The schema of an answer, by the path with its names.
fn schema_of(document: &Value, method: &str, path: &str) -> Value {
    let asked: Vec<&str> = path.split('/').collect();
    let fits = |known: &str| {
        let known: Vec<&str> = known.trim_start_matches("/api/v1").split('/').collect();
        let same = |(known, asked): (&&str, &&str)| known == asked || known.starts_with('{');
        known.len() == asked.len() && known.iter().zip(&asked).all(same)
    };
    let exact = format!("/api/v1{path}");
    let paths = document["paths"].as_object().unwrap();
    let found = paths
        .get(&exact)
        .or_else(|| Some(paths.iter().find(|(known, _)| fits(known))?.1));
    let found = found.unwrap_or_else(|| panic!("{path} is not in the document"));
    let content = &found[method]["responses"]["200"]["content"]["application/json"]["schema"];
    assert!(!content.is_null(), "{method} {path}");
    content.clone()
}
