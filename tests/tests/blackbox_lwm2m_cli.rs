//! `headgate lwm2m` with a device that is not ours. docs/lwm2m.md

use headgate_tests::blackbox::{Daemon, Lwm2mDevice, Setup, Transport, eventually, headgate};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Output, Stdio};

/// A gateway that speaks LwM2M, with more about it.
fn setup(gateway: &str) -> Setup {
    Setup::with(&format!(
        "[[lwm2m]]\nname = \"lwm2m\"\nbind = \"127.0.0.1:0\"\n[lwm2m.gateway]\n{gateway}\n"
    ))
}

/// A device that is registered.
fn device(daemon: &Daemon<'_>, endpoint: &str, arguments: &[&str]) -> Lwm2mDevice {
    let server = format!("coap://127.0.0.1:{}", daemon.port_of("lwm2m"));
    let mut device = Lwm2mDevice::start(endpoint, &[&["--server", &server], arguments].concat());
    device.register();
    device
}

/// `headgate lwm2m`, on its way.
fn start(daemon: &Daemon<'_>, words: &[&str]) -> Child {
    Command::new(headgate())
        .arg("lwm2m")
        .args(words)
        .args(["--port", &daemon.port(Transport::Tcp).to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs")
}

/// What it prints, or what it complains about.
fn outcome(output: &Output) -> Result<String, String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(text(&output.stderr)),
    }
}

fn ask(daemon: &Daemon<'_>, words: &[&str]) -> Result<String, String> {
    outcome(&start(daemon, words).wait_with_output().expect("it ends"))
}

#[test]
fn who_is_registered_is_listed_and_shown() {
    let setup = setup("");
    let daemon = setup.start();
    assert_eq!(daemon.ask(&["lwm2m", "list"]), json!([]));
    assert_eq!(setup.said(&["lwm2m", "list"]).trim(), "no clients");
    let mut meter = device(&daemon, "meter%1", &["--queue", "--lifetime", "600"]);
    let _pump = device(&daemon, "pump", &["--version", "1.0"]);

    let list = daemon.ask(&["lwm2m", "list"]);
    let told = |row: &Value| {
        let keys = [
            "endpoint",
            "connected",
            "queue_mode",
            "version",
            "lifetime_seconds",
            "address",
        ];
        keys.map(|key| row[key].clone())
    };
    let expected = [
        json!(["meter%1", true, true, "1.1", 600, "127.0.0.1"]),
        json!(["pump", true, false, "1.0", 300, "127.0.0.1"]),
    ];
    let rows: Vec<Value> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|row| json!(told(row)))
        .collect();
    assert_eq!(rows, expected);
    assert_eq!(setup.said(&["lwm2m", "list"]).lines().count(), 3);

    let shown = daemon.ask(&["lwm2m", "show", "meter%1"]);
    let objects = shown["objects"].as_array().unwrap();
    assert!(
        objects.contains(&json!("/3/0")) && objects.contains(&json!("/3303/1")),
        "{shown}"
    );
    assert_eq!(shown["names"]["3303"], "Temperature");
    assert_eq!(
        (&shown["commands_waiting"], &shown["observations"]),
        (&json!(0), &json!([]))
    );
    let lines = setup.said(&["lwm2m", "show", "pump"]);
    assert!(
        lines
            .lines()
            .any(|line| line.split_whitespace().eq(["object", "/3/0", "Device"])),
        "{lines}"
    );
    // A name that another one begins with is not that one.
    for nobody in ["pum", "pumps"] {
        let (_, error) = setup.command(&["lwm2m", "show", nobody]).unwrap_err();
        let name = format!("`{nobody}`");
        assert!(
            error.contains(&name) && error.contains("headgate lwm2m list"),
            "{error}"
        );
    }

    meter.tell("deregister", json!({}));
    meter.wait("deregistered");
    eventually("the meter to be gone", || {
        let list = daemon.ask(&["lwm2m", "list"]);
        (list.as_array()?.len() == 1).then_some(())
    });
}

#[test]
fn a_client_is_read_written_and_told_to_act() {
    let setup = setup("");
    let daemon = setup.start();
    let device = device(&daemon, "dev", &[]);
    let ask = |words: &[&str]| ask(&daemon, words);

    assert_eq!(
        ask(&["read", "dev", "/4/0/2"]).unwrap(),
        "/4/0/2  -71 dBm  Radio Signal Strength"
    );
    let read: Value = serde_json::from_str(&ask(&["read", "dev", "/3/0/0", "--json"]).unwrap()).unwrap();
    assert_eq!(
        read["data"]["content"],
        json!([{"path": "/3/0/0", "value": "Headgate"}])
    );
    let both = ask(&["read", "dev", "/3/0/0", "/3/0/1"]).unwrap();
    assert_eq!(both.lines().count(), 2, "{both}");

    assert_eq!(
        ask(&["write", "dev", "/3/0/14", "+05:30"]).unwrap(),
        "2.04 changed"
    );
    assert_eq!(
        ask(&["write", "dev", "/1/0", "1=77", "6=true"]).unwrap(),
        "2.04 changed"
    );
    assert!(ask(&["read", "dev", "/3/0/14"]).unwrap().contains("+05:30"));
    assert!(ask(&["read", "dev", "/1/0/1"]).unwrap().starts_with("/1/0/1  77"));

    assert_eq!(
        ask(&["exec", "dev", "/3/0/12", "0='now'"]).unwrap(),
        "2.04 changed"
    );
    let executed = device.wait("executed");
    assert_eq!(
        (&executed["path"], &executed["arguments"]),
        (&json!("/3/0/12"), &json!("0='now'"))
    );

    assert_eq!(
        ask(&["create", "dev", "/3303/7", "5700=3.5"]).unwrap(),
        "2.01 created /3303/7"
    );
    assert_eq!(
        ask(&["attributes", "dev", "/3303/7/5700", "pmin=5", "gt=30"]).unwrap(),
        "2.04 changed"
    );
    let links = ask(&["discover", "dev", "/3303/7"]).unwrap();
    assert!(
        links.lines().any(|link| link == "</3303/7/5700>;pmin=5;gt=30"),
        "{links}"
    );
    assert_eq!(ask(&["delete", "dev", "/3303/7"]).unwrap(), "2.02 deleted");

    let error = ask(&["read", "dev", "/3303/7"]).unwrap_err();
    assert!(error.starts_with("headgate: 4.04 not_found"), "{error}");
    let error = ask(&["write", "dev", "/3303/0/5700", "warm"]).unwrap_err();
    assert!(
        error.starts_with("headgate: 4.00 bad_request: /3303/0/5700"),
        "{error}"
    );
    let error = ask(&["read", "nobody", "/3"]).unwrap_err();
    assert!(
        error.contains("`nobody`") && error.contains("headgate lwm2m list"),
        "{error}"
    );
}

/// Definitions from the gateway's folder: `show` and what is printed of values have their names and units, `write` their types. Without the gateway's configuration
/// the program has its own alone.
#[test]
fn objects_are_called_as_the_gateway_has_them() {
    let setup = setup("objects = \"objects\"");
    let folder = setup.folder().join("objects");
    std::fs::create_dir(&folder).unwrap();
    let boiler = r#"<LWM2M><Object ObjectType="MODefinition"><Name>Boiler</Name><ObjectID>3303</ObjectID>
        <ObjectURN>urn:oma:lwm2m:x:3303:9.0</ObjectURN><ObjectVersion>9.0</ObjectVersion><MultipleInstances>Multiple</MultipleInstances>
        <Mandatory>Optional</Mandatory><Resources><Item ID="5700"><Name>Heat</Name><Operations>R</Operations>
        <MultipleInstances>Single</MultipleInstances><Mandatory>Mandatory</Mandatory><Type>Float</Type><Units>K</Units></Item></Resources>
        </Object></LWM2M>"#;
    std::fs::write(folder.join("boiler.xml"), boiler).unwrap();
    let daemon = setup.start();
    let _device = device(&daemon, "dev", &[]);
    let shown = daemon.ask(&["lwm2m", "show", "dev"]);
    assert_eq!(
        (&shown["names"]["3303"], &shown["names"]["3"]),
        (&json!("Boiler"), &json!("Device"))
    );

    let port = daemon.port(Transport::Tcp).to_string();
    let read = |path: &str, more: &[&str]| {
        let output = Command::new(headgate())
            .args(["lwm2m", "read", "dev", path, "--port", &port])
            .args(more)
            .current_dir(setup.folder())
            .env_remove("HEADGATE_CONFIG")
            .output();
        outcome(&output.expect("it runs")).unwrap()
    };
    let with = ["--config", "headgate.toml"];
    let told = read("/3303/0/5700", &with);
    assert!(told.ends_with(" K  Heat"), "{told}");
    let told = read("/4/0/2", &with);
    assert!(told.ends_with(" dBm  Radio Signal Strength"), "{told}");
    let told = read("/3303/0/5700", &[]);
    assert!(told.ends_with("  Sensor Value"), "{told}");
}

/// Nothing is commanded whose answer nobody would hear.
#[test]
fn who_may_not_hear_answers_is_told_so() {
    let setup = setup(
        "[auth]\n[[auth.acl]]\neffect = \"deny\"\naction = \"subscribe\"\ntopics = [\"lwm2m/dev/up/#\"]\n[[auth.acl]]\neffect = \"allow\"\ntopics = [\"#\"]\n",
    );
    let daemon = setup.start();
    let _device = device(&daemon, "dev", &[]);
    let error = ask(&daemon, &["exec", "dev", "/3/0/12"]).unwrap_err();
    assert!(
        error.contains("may not subscribe to lwm2m/dev/up/resp"),
        "{error}"
    );
}

#[test]
fn what_is_observed_is_printed_as_it_comes() {
    let setup = setup("");
    let daemon = setup.start();
    let mut device = device(&daemon, "dev", &[]);
    let words = ["observe", "dev", "/3303/0/5700", "--count", "3", "--json"];
    let mut observing = start(&daemon, &words);
    let mut lines = BufReader::new(observing.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };

    assert_eq!(next()["data"]["content"][0]["value"], 21.5);
    for value in [22.5, 23.5] {
        device.tell("set", json!({"path": "/3303/0/5700", "value": value}));
        let told = next();
        assert_eq!(
            (&told["msgType"], &told["data"]["content"][0]["value"]),
            (&json!("notify"), &json!(value))
        );
    }
    let output = observing.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success() && said.contains("the observation stays"),
        "{said}"
    );

    let observed = || daemon.ask(&["lwm2m", "show", "dev"])["observations"].clone();
    assert_eq!(
        observed(),
        json!([{"paths": ["/3303/0/5700"], "composite": false}])
    );
    let error = ask(
        &daemon,
        &["observe", "dev", "/3303/0/5700", "-C", "2", "-W", "1s"],
    )
    .unwrap_err();
    assert!(error.contains("1 of 2 messages"), "{error}");
    ask(&daemon, &["observe", "dev", "/3303/0/5700", "--cancel"]).unwrap();
    assert_eq!(observed(), json!([]));
}

#[test]
fn a_command_waits_for_a_client_that_sleeps() {
    let setup = setup("awake_window = \"1s\"\n");
    let daemon = setup.start();
    let mut device = device(&daemon, "dev", &["--queue", "--no-update"]);
    device.tell("sleep", json!({}));
    device.wait("asleep");
    std::thread::sleep(std::time::Duration::from_millis(1_500));

    let error = ask(&daemon, &["read", "dev", "/3/0/0", "--timeout", "1s"]).unwrap_err();
    assert!(
        error.starts_with("headgate: 5.04 gateway_timeout: expired"),
        "{error}"
    );
    assert!(error.contains("--expiry"), "{error}");
    let error = ask(
        &daemon,
        &["read", "dev", "/3/0/0", "--timeout", "1s", "--expiry", "1h"],
    )
    .unwrap_err();
    assert!(error.contains("The command waits for it 3599s longer"), "{error}");

    let shown = daemon.ask(&["lwm2m", "show", "dev"]);
    assert_eq!(shown["commands_waiting"], 1, "{shown}");

    let mut reading = start(&daemon, &["read", "dev", "/3/0/1", "--expiry", "1h"]);
    let mut told = BufReader::new(reading.stderr.take().unwrap());
    let mut line = String::new();
    told.read_line(&mut line).unwrap();
    assert!(
        line.contains("`dev` is asleep, perhaps") && line.contains("3600 s"),
        "{line}"
    );
    device.tell("wake", json!({"update": true}));
    let output = reading.wait_with_output().unwrap();
    let mut rest = String::new();
    told.read_to_string(&mut rest).unwrap();
    assert_eq!(
        outcome(&output).unwrap(),
        "/3/0/1  Simulator  Model Number",
        "{rest}"
    );
}

#[test]
fn firmware_is_updated_and_tells_how_far_it_is() {
    let setup = setup("firmware = \"firmware\"\n");
    let folder = setup.folder().join("firmware");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("v2.bin"), vec![7; 20_000]).unwrap();
    let daemon = setup.start();
    let _device = device(&daemon, "dev", &[]);
    let error = ask(&daemon, &["update-firmware", "dev", "v3.bin"]).unwrap_err();
    assert!(
        error.starts_with("headgate: 4.04 not_found: there is no package of this name"),
        "{error}"
    );
    let told = ask(&daemon, &["update-firmware", "dev", "v2.bin", "--push"]).unwrap();
    assert!(
        told.contains("of 20000 bytes") && told.contains("downloaded"),
        "{told}"
    );
    assert!(told.ends_with("2.04 changed updated"), "{told}");
}

#[test]
fn topics_may_have_another_prefix() {
    let setup = setup("topics = { prefix = \"plant/{ep}/m2m\" }\n");
    let daemon = setup.start();
    let _device = device(&daemon, "dev", &[]);
    let error = ask(&daemon, &["read", "dev", "/3/0/0"]).unwrap_err();
    assert!(
        error.contains("nobody gets commands at lwm2m/dev/dn/cli"),
        "{error}"
    );
    let read = ask(&daemon, &["read", "dev", "/3/0/0", "--prefix", "plant/{ep}/m2m"]).unwrap();
    assert_eq!(read, "/3/0/0  Headgate  Manufacturer");
}
