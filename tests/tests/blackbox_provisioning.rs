//! A signed provisioning file: docs/appliance.md. One file makes a gateway of a plant out of a new one, before it runs and while it does.

use headgate_tests::blackbox::{HttpClient, Mosquitto, Setup};
use serde_json::{Value, json};
use std::fs;

/// Two pairs as `openssl genpkey -algorithm ed25519` and `openssl pkey -pubout` make them.
const OURS: [&str; 2] = [
    "MC4CAQAwBQYDK2VwBCIEIADQzNrF9bO8rH4qMC9Xf09QlWTgkmM1yTP0pvcwoC7o",
    "MCowBQYDK2VwAyEARsQAHmK4CYteAUR1u/NX1GU3C2Iw892f+FzV8Gppa1Q=",
];
const THEIRS: &str = "MC4CAQAwBQYDK2VwBCIEIAKrcEJcvuvGMd15llXbW9GOxjyvLQLEMDhksfFm85Oq";

/// A gateway that was given no name, users or uplinks yet, and takes what the plant's key has signed.
fn new_gateway() -> Setup {
    let http = "[[listeners]]\nname = \"http\"\nprotocol = \"http\"\nbind = \"127.0.0.1:0\"\n";
    let setup = Setup::with(&format!(
        "node = \"new\"\n{http}[firmware]\nprovisioning_key = \"plant.pem\"\n"
    ));
    let pem =
        |kind: &str, key: &str| format!("-----BEGIN {kind} KEY-----\n{key}\n-----END {kind} KEY-----\n");
    for (file, text) in [
        ("plant.key", pem("PRIVATE", OURS[0])),
        ("plant.pem", pem("PUBLIC", OURS[1])),
        ("foreign.key", pem("PRIVATE", THEIRS)),
    ] {
        fs::write(setup.folder().join(file), text).unwrap();
    }
    setup
}

/// Writes a file and has it signed.
fn signed(setup: &Setup, name: &str, text: &str, key: &str) {
    fs::write(setup.folder().join(name), text).unwrap();
    setup.said(&["provision", "sign", name, "--key", key]);
}

fn plant(number: u64, node: &str, password: &str, remote: &Mosquitto) -> String {
    let port = remote.port();
    format!(
        "number = {number}\n[configuration]\nnode = \"{node}\"\n\
         [[configuration.bridges]]\nname = \"cloud\"\naddresses = [\"mqtt://127.0.0.1:{port}\"]\ntopics = [\"up/# out 1\"]\n\
         [[users]]\nname = \"pump\"\npassword = \"{password}\"\n\
         [[administrators]]\nname = \"anna\"\npassword = \"correct horse {password}\"\n\
         [[files]]\nname = \"ca.pem\"\ntext = \"certificate {number}\"\n\
         [[network]]\ninterface = \"eth0\"\naddresses = [\"192.0.2.7/24\"]\n"
    )
}

/// A gateway that has its configuration and does not run, and `plant.toml` for it.
fn with_a_file(remote: &Mosquitto, password: &str) -> Setup {
    let setup = new_gateway();
    setup.start().stop();
    let plant = plant(1, "plant-7", password, remote);
    signed(&setup, "plant.toml", &plant, "plant.key");
    setup
}

fn log_in(client: &HttpClient, password: &str) -> u16 {
    let who = json!({ "name": "anna", "password": format!("correct horse {password}") });
    client.post("/api/v1/session", &who).status
}

#[test]
fn one_file_makes_a_gateway_of_the_plant_before_its_first_start_and_later() {
    let remote = Mosquitto::start("");
    let setup = with_a_file(&remote, "first password");
    let shown = setup.said(&["provision", "check", "plant.toml"]);
    assert!(
        shown.contains("number 1; its signature is good") && shown.contains("bridges[cloud]"),
        "{shown}"
    );
    assert!(!shown.contains("first password"), "{shown}");
    let said = setup.said(&["provision", "take", "plant.toml"]);
    assert!(said.starts_with("number 1 is taken"), "{said}");

    let daemon = setup.start_as_it_is();
    daemon.until_bridge_is("cloud", "connected");
    let control = HttpClient::control(&daemon);
    assert_eq!(control.get("/api/v1/system").json()["node"], "plant-7");
    let users = setup.said(&["users", "list"]);
    assert!(users.contains("pump"), "{users}");
    let page = HttpClient::at(daemon.port_of("http"));
    assert_eq!(log_in(&page, "first password"), 200, "no code is wanted");
    let audit = control.get("/api/v1/audit?limit=5").text();
    assert!(
        audit.contains("A provisioning file has changed this gateway."),
        "{audit}"
    );

    // While it runs: it begins anew, and the file of before is taken no more.
    signed(
        &setup,
        "next.toml",
        &plant(2, "plant-8", "second password", &remote),
        "plant.key",
    );
    let said = setup.said(&["provision", "take", "next.toml"]);
    assert!(said.contains("the gateway serves again"), "{said}");
    assert_eq!(control.get("/api/v1/system").json()["node"], "plant-8");
    let file = fs::read_to_string(setup.folder().join("data/provisioned/ca.pem")).unwrap();
    assert_eq!(file, "certificate 2");
    let audit = control.get("/api/v1/audit?limit=5").text();
    assert!(!audit.contains("second password"), "{audit}");
    let (_, told) = setup.command(&["provision", "take", "plant.toml"]).unwrap_err();
    assert!(told.contains("number 2 was taken already"), "{told}");
    let status = setup.said(&["provision", "status"]);
    assert!(status.starts_with("number 2 was taken at"), "{status}");
    daemon.stop();
}

#[test]
fn what_others_signed_or_changed_is_refused_and_changes_nothing() {
    let remote = Mosquitto::start("");
    let setup = new_gateway();
    let daemon = setup.start();
    let text = plant(9, "theirs", "their password", &remote);
    signed(&setup, "foreign.toml", &text, "foreign.key");
    signed(&setup, "changed.toml", &text, "plant.key");
    let changed = fs::read_to_string(setup.folder().join("changed.toml")).unwrap();
    fs::write(
        setup.folder().join("changed.toml"),
        changed.replace("their password", "other password"),
    )
    .unwrap();
    fs::write(
        setup.folder().join("unsigned.toml"),
        format!("# headgate provisioning 1\n{text}"),
    )
    .unwrap();
    signed(
        &setup,
        "wrong.toml",
        "number = 9\n[[configuration.bridges]]\nname = \"cloud\"\n",
        "plant.key",
    );
    signed(
        &setup,
        "others.toml",
        "number = 9\ndevices = [\"02:00:00:00:00:01\"]\n",
        "plant.key",
    );
    for (file, why) in [
        ("foreign.toml", "its signature is not of this key"),
        ("changed.toml", "or it was changed since it was signed"),
        ("unsigned.toml", "it is not signed"),
        ("wrong.toml", "bridges.addresses: `cloud`: at least one is wanted"),
        ("others.toml", "it is for other machines"),
    ] {
        let (_, told) = setup.command(&["provision", "take", file]).unwrap_err();
        assert!(told.contains(why), "{file}: {told}");
    }
    let control = HttpClient::control(&daemon);
    let provisioning = control.get("/api/v1/provisioning").json();
    assert_eq!(
        (&provisioning["taken"], &provisioning["waits"]),
        (&json!(null), &json!(false))
    );
    assert_eq!(control.get("/api/v1/system").json()["node"], "new");
    daemon.stop();
}

/// Two administrators at once: the newer file stays, whichever comes first, and nobody is told that the disk fails.
#[test]
fn of_several_files_at_once_one_waits_and_none_is_lost() {
    let setup = new_gateway();
    let file = |number: u64| {
        let name = format!("{number}.toml");
        signed(
            &setup,
            &name,
            &format!("number = {number}\n[configuration]\nnode = \"n-{number}\"\n"),
            "plant.key",
        );
        json!({ "text": fs::read_to_string(setup.folder().join(name)).unwrap() })
    };
    let waiting = || {
        let text = fs::read_to_string(setup.folder().join("data/provisioning.toml")).unwrap();
        let number = text.lines().find_map(|line| line.strip_prefix("number = "));
        number.unwrap().parse::<u64>().unwrap()
    };
    for round in 1..=5 {
        let daemon = setup.start();
        let files: Vec<_> = (0..4).map(|n| file(round * 10 + n)).collect();
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let post = |file| {
                HttpClient::control(&daemon)
                    .post("/api/v1/provisioning", file)
                    .status
            };
            let posts: Vec<_> = files.iter().map(|file| scope.spawn(move || post(file))).collect();
            posts.into_iter().map(|post| post.join().unwrap()).collect()
        });
        let accepted = statuses.iter().position(|status| *status == 200).unwrap();
        let refused = statuses.iter().filter(|status| **status == 409).count();
        assert_eq!(refused, 3, "{statuses:?}");
        assert_eq!(waiting(), round * 10 + accepted as u64);
        let alarms = HttpClient::control(&daemon)
            .get("/api/v1/alarms")
            .json()
            .to_string();
        assert!(alarms.contains("provisioning_waits"), "{alarms}");
        daemon.stop();
    }
    let daemon = setup.start();
    let alarms = HttpClient::control(&daemon).get("/api/v1/alarms").json();
    assert_eq!(alarms["active"], json!([]), "{alarms}");
    daemon.stop();
}

/// Who can write the data folder alone gives the gateway no settings.
#[test]
fn what_waits_unsigned_is_put_aside_at_the_start() {
    let setup = new_gateway();
    setup.start().stop();
    let text = "# headgate provisioning 1\nnumber = 1\n[configuration]\nnode = \"theirs\"\n";
    fs::write(setup.folder().join("data/provisioning.toml"), text).unwrap();
    let daemon = setup.start_as_it_is();
    let control = HttpClient::control(&daemon);
    assert_eq!(control.get("/api/v1/system").json()["node"], "new");
    let alarms = control.get("/api/v1/alarms").text();
    assert!(alarms.contains("it is not signed"), "{alarms}");
    let rows = control.get("/api/v1/audit?limit=5").json()["rows"].clone();
    let is_told = |row: &Value| {
        row["action"] == "A provisioning file that waited is not taken." && row["status"] == 422
    };
    assert!(rows.as_array().unwrap().iter().any(is_told), "{rows}");
    daemon.stop();
}

/// The system does what waits before it writes the network: else the network would be that of the file before, until the start after the next.
#[test]
fn what_waits_is_done_before_the_network_is_written_and_not_beside_a_gateway() {
    let setup = new_gateway();
    signed(
        &setup,
        "1.toml",
        "number = 1\n[[network]]\ninterface = \"eth7\"\n",
        "plant.key",
    );
    let file = json!({ "text": fs::read_to_string(setup.folder().join("1.toml")).unwrap() });
    let finish = || setup.command(&["provision", "finish"]);
    let daemon = setup.start();
    let posted = HttpClient::control(&daemon).post("/api/v1/provisioning", &file);
    assert_eq!(posted.status, 200);
    let (_, why) = finish().unwrap_err();
    assert!(why.contains("a gateway runs with this data folder"), "{why}");
    daemon.stop();

    assert_eq!(finish().unwrap()[0]["number"], 1);
    assert_eq!(finish().unwrap()[0]["number"], Value::Null);
    let taken = fs::read_to_string(setup.folder().join("data/provisioning.taken")).unwrap();
    assert!(taken.contains("eth7"), "{taken}");
}

/// What a full disk leaves waiting is said to wait; what a kill has left, passwords in it, is gone with the next start.
/// docs/appliance.md#provisioning
#[test]
fn trouble_of_the_disk_is_told_with_what_waits_and_a_start_cleans_up_behind_a_kill() {
    let setup = new_gateway();
    setup.start().stop();
    let text = "number = 1\n[configuration]\nnode = \"plant-7\"\n\
        [[administrators]]\nname = \"anna\"\npassword = \"correct horse battery\"\n\
        [[files]]\nname = \"ca.pem\"\ntext = \"certificate\"\n";
    signed(&setup, "plant.toml", text, "plant.key");
    let data = |name: &str| setup.folder().join("data").join(name);
    // The disk refuses one of the last steps.
    fs::create_dir(data("provisioning.taken")).unwrap();
    for words in [
        ["provision", "take", "plant.toml"].as_slice(),
        &["provision", "finish"],
    ] {
        let (_, why) = setup.command(words).unwrap_err();
        assert!(
            why.contains("Is a directory") && why.contains("the file is accepted and waits"),
            "{why}"
        );
    }
    fs::remove_dir(data("provisioning.taken")).unwrap();
    for left in ["provisioning.toml.new", "setup-code"] {
        fs::write(data(left), "password").unwrap();
    }
    let daemon = setup.start_as_it_is();
    assert!(
        setup
            .said(&["provision", "status"])
            .starts_with("number 1 was taken")
    );
    for gone in ["provisioning.toml", "provisioning.toml.new", "setup-code"] {
        assert!(!data(gone).exists(), "{gone}");
    }
    daemon.stop();
}

/// Faults are found where the file is written, not in the plant, and name its lines. What may stand on the gateway is missed only where nothing else stands.
#[test]
fn settings_are_judged_when_the_file_is_signed() {
    let setup = new_gateway();
    let sign = |text: &str| {
        fs::write(setup.folder().join("file.toml"), text).unwrap();
        setup.command(&["provision", "sign", "file.toml", "--key", "plant.key"])
    };
    let wrong =
        "number = 1\n\n[configuration]\nnod = \"x\"\n\n[configuration.bus]\nmax_inflight = \"many\"\n";
    let (_, told) = sign(wrong).unwrap_err();
    for fault in [
        "file.toml:4:1: nod: unknown key `nod`",
        "file.toml:7:16: bus.max_inflight:",
    ] {
        assert!(told.contains(fault), "{told}");
    }
    for (twice, told) in [
        (
            "[[users]]\nname = \"u\"\npassword = \"x\"\n",
            "users: `u` is there twice",
        ),
        (
            "[[network]]\ninterface = \"eth0\"\n",
            "network: `eth0` is there twice",
        ),
        (
            "[[configuration.bridges]]\nname = \"b\"\n",
            "configuration.bridges: `b` is there twice",
        ),
    ] {
        let (_, why) = sign(&format!("number = 1\n{twice}{twice}")).unwrap_err();
        assert!(why.contains(told), "{why}");
    }
    let doubtful = "number = 1\ndevices = [\"02-fc-00-00-00\"]\n[[configuration.bridges]]\nname = \"cloud\"\n\
        addresses = [\"mqtts://cloud.example\"]\ntls = { ca = \"provisioned/other.pem\" }\n\
        [[files]]\nname = \"ca.pem\"\ntext = \"-----BEGIN CRETIFICATE-----\\nMIIB\\n-----END CERTIFICATE-----\"\n";
    let doubts = sign(doubtful).unwrap()[0]["doubts"].to_string();
    for doubt in [
        "`02:fc:00:00:00` looks like an address",
        "`ca.pem` is damaged PEM",
        "`provisioned/other.pem` is not among the files",
    ] {
        assert!(doubts.contains(doubt), "{doubts}");
    }
    let partly = "number = 1\n[[configuration.bridges]]\nname = \"cloud\"\nmax_inflight = 3\n";
    let signed = sign(partly).unwrap();
    let doubts = signed[0]["doubts"].to_string();
    for doubt in [
        "network: there is none in it",
        "a gateway with bridges needs a name of its own",
    ] {
        assert!(doubts.contains(doubt), "{doubts}");
    }
}

#[test]
fn its_network_is_written_for_systemd() {
    let remote = Mosquitto::start("");
    let setup = with_a_file(&remote, "a password");
    fs::create_dir(setup.folder().join("network")).unwrap();
    for old in ["80-wired.network", "10-headgate-009.network"] {
        fs::write(setup.folder().join("network").join(old), "").unwrap();
    }
    // Passwords of a file before.
    fs::create_dir(setup.folder().join("links")).unwrap();
    fs::write(setup.folder().join("links/wlan0.wifi"), "").unwrap();
    let network = [
        "provision",
        "network",
        "plant.toml",
        "--to",
        "network",
        "--links",
        "links",
    ];
    setup.said(&network);
    assert!(!setup.folder().join("links").exists());
    let mut there: Vec<_> = fs::read_dir(setup.folder().join("network"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    there.sort();
    assert_eq!(there, ["10-headgate-000.network", "80-wired.network"]);
    let text = fs::read_to_string(setup.folder().join("network/10-headgate-000.network")).unwrap();
    assert!(
        text.contains("Name=eth0\n") && text.contains("Address=192.0.2.7/24\n"),
        "{text}"
    );
}
