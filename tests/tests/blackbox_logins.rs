//! Who comes in, at which listener and as whom, with the real binary: certificates, client ids, addresses, users and nobody in particular.

use headgate_mqtt_codec::Packet;
use headgate_tests::blackbox::{Peer, Setup, Transport, eventually, free_port, headgate};
use std::process::Command;

/// A gateway that lets nobody in without a name, but for what a test adds.
const STRICT: &str = "[auth]\nanonymous = \"nowhere\"\n";

/// Publishes once at QoS 1; how it ended, if not well.
fn publish(setup: &Setup, port: u16, topic: &str, more: &[&str]) -> Result<(), String> {
    let port = port.to_string();
    let done = Command::new(headgate())
        .current_dir(setup.folder())
        .args([
            "pub",
            "-h",
            "localhost",
            "-p",
            &port,
            "-q",
            "1",
            "-t",
            topic,
            "-m",
            "x",
        ])
        .args(more)
        .output()
        .expect("it runs");
    let told = String::from_utf8_lossy(&done.stderr).into_owned();
    done.status.success().then_some(()).ok_or(told)
}

#[track_caller]
fn assert_refused(done: Result<(), String>, why: &str) {
    let told = done.expect_err("it must be refused");
    assert!(told.contains(why), "{told}");
}

fn user(setup: &Setup, name: &str) {
    let file = setup.folder().join("password");
    std::fs::write(&file, "secret").unwrap();
    let added = Command::new(headgate())
        .current_dir(setup.folder())
        .args([
            "users",
            "add",
            name,
            "--config",
            "headgate.toml",
            "--password-file",
            "password",
        ])
        .output()
        .expect("it runs");
    assert!(
        added.status.success(),
        "{}",
        String::from_utf8_lossy(&added.stderr)
    );
}

/// mosquitto.conf(5), `use_identity_as_username`: the certificate's common name is the user name, and no password is asked for. Here the client id may be bound to it.
#[test]
fn a_certificate_names_its_client() {
    let port = free_port();
    let setup = Setup::with(&format!(
        "{STRICT}[[auth.listeners]]\nname = \"pumps\"\ncertificate = {{ user_name = \"common_name\", client_id = \"user_name\" }}\n\
         [[auth.acl]]\neffect = \"allow\"\nuser = \"*\"\ntopics = [\"pumps/%u/#\"]\n\
         [[listeners]]\nname = \"pumps\"\nkind = \"tls\"\nbind = \"127.0.0.1:{port}\"\n\
         tls = {{ certificate = \"server.pem\", key = \"server.key\", client_ca = \"ca.pem\", require_client_certificate = true }}\n"
    ));
    let _daemon = setup.start();
    let with_certificate = [
        "--cafile",
        "ca.pem",
        "--cert",
        "client.pem",
        "--key",
        "client.key",
    ];
    let as_client =
        |id: &'static str, more: &[&'static str]| [&with_certificate[..], &["-i", id], more].concat();
    publish(&setup, port, "pumps/pump-7/rpm", &as_client("pump-7", &[])).unwrap();
    publish(
        &setup,
        port,
        "pumps/pump-7/rpm",
        &as_client("pump-7", &["-u", "pump-7"]),
    )
    .unwrap();
    assert_refused(
        publish(&setup, port, "pumps/pump-8/rpm", &as_client("pump-7", &[])),
        "Not authorized",
    );
    assert_refused(
        publish(&setup, port, "pumps/pump-7/rpm", &as_client("pump-8", &[])),
        "Not authorized",
    );
    assert_refused(
        publish(
            &setup,
            port,
            "pumps/pump-7/rpm",
            &as_client("pump-7", &["-u", "root", "-P", "x"]),
        ),
        "Bad User Name or Password",
    );
    setup.log_with(&[
        "its certificate allows the client id `pump-7` only",
        "its certificate is of `pump-7`",
    ]);
}

/// The first that knows a client decides; who is known to nobody is anonymous where that is allowed, and has no user name for the rules.
#[test]
fn who_is_unknown_is_nobody() {
    let rules = "[[auth.acl]]\neffect = \"allow\"\nuser = \"*\"\n\
                 [[auth.acl]]\neffect = \"allow\"\ntopics = [\"open/#\"]\n";
    let (port, named_port) = (free_port(), free_port());
    let listener = |name: &str, port| {
        format!("[[listeners]]\nname = \"{name}\"\nkind = \"tcp\"\nbind = \"127.0.0.1:{port}\"\n")
    };
    let listeners = listener("strict", port) + &listener("named", named_port);
    let setup = Setup::with(&format!(
        "[[auth.listeners]]\nname = \"strict\"\nanonymous = \"nowhere\"\n\
         [[auth.listeners]]\nname = \"named\"\nunknown_users = \"refuse\"\n{rules}{listeners}"
    ));
    let daemon = setup.start();
    user(&setup, "joe");
    let open = daemon.port(Transport::Tcp);
    let joe = ["-u", "joe", "-P", "secret"];
    let ann = ["-u", "ann", "-P", "secret"];
    // The file of users is looked at once a second.
    eventually("joe to be known", || publish(&setup, open, "closed/x", &joe).ok());
    assert_refused(
        publish(&setup, open, "closed/x", &["-u", "joe", "-P", "wrong"]),
        "Bad User Name or Password",
    );
    publish(&setup, open, "open/x", &ann).unwrap();
    assert_refused(publish(&setup, open, "closed/x", &ann), "Not authorized");
    // At the other listener nobody is anonymous.
    publish(&setup, port, "closed/x", &joe).unwrap();
    assert_refused(publish(&setup, port, "open/x", &ann), "Bad User Name or Password");
    assert_refused(publish(&setup, port, "open/x", &[]), "Not authorized");
    // As with mosquitto and a file of passwords: without a name it may be anonymous, with a wrong one not.
    publish(&setup, named_port, "closed/x", &joe).unwrap();
    publish(&setup, named_port, "open/x", &[]).unwrap();
    assert_refused(
        publish(&setup, named_port, "open/x", &ann),
        "Bad User Name or Password",
    );
    setup.log_with(&["nobody knows this user name"]);
}

/// An operator keeps somebody out, who is thrown out if it is connected, until the ban is over or lifted; a restart changes nothing. MQTT 5 §3.2.2.2: 0x8A.
#[test]
fn an_operator_bans_and_forgives() {
    let setup = Setup::with("[[auth.acl]]\neffect = \"allow\"\n");
    let daemon = setup.start();
    let port = daemon.port(Transport::Tcp);
    let mut pump = Peer::connect(port, "pump-7", true, 0).unwrap().0;
    let done = daemon.ask(&["bans", "add", "--client", "pump-7", "--reason", "stolen"]);
    assert_eq!(done["kicked"], 1, "{done}");
    assert!(matches!(pump.recv(), Ok(Packet::Disconnect(_)) | Err(_)));
    let as_pump = ["-i", "pump-7"];
    assert_refused(publish(&setup, port, "a", &as_pump), "Banned");
    publish(&setup, port, "a", &["-i", "pump-8"]).unwrap();
    setup.log_with(&["it is banned: stolen"]);

    let daemon = daemon.restart();
    let port = daemon.port(Transport::Tcp);
    assert_refused(publish(&setup, port, "a", &as_pump), "Banned");
    let bans = daemon.ask(&["bans"]);
    assert_eq!(
        (&bans[0]["client"], &bans[0]["by"]),
        (&"pump-7".into(), &"operator".into()),
        "{bans}"
    );
    daemon.ask(&["bans", "remove", "--client", "pump-7"]);
    publish(&setup, port, "a", &as_pump).unwrap();
    let (_, told) = setup
        .command(&["bans", "remove", "--client", "pump-7"])
        .expect_err("there is none");
    assert!(told.contains("client pump-7 is not banned"), "{told}");

    daemon.ask(&["bans", "add", "--address", "127.0.0.0/8", "--for", "1s"]);
    assert_refused(publish(&setup, port, "a", &[]), "Banned");
    eventually("the ban to be over", || publish(&setup, port, "a", &[]).ok());
    let (_, told) = setup
        .command(&["bans", "add", "--address", "here"])
        .expect_err("no address");
    assert!(told.contains("`here` is no address and no network"), "{told}");
}

/// Everything of the chain changes while the gateway runs.
#[test]
fn the_chain_is_changed_by_reload() {
    let rules = "[[auth.acl]]\neffect = \"allow\"\nuser = \"meter\"\n";
    let setup = Setup::with(&format!("{STRICT}{rules}"));
    let daemon = setup.start();
    let port = daemon.port(Transport::Tcp);
    let file = setup.folder().join("headgate.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let reload = |auth: &str| {
        std::fs::write(&file, text.replace(STRICT, auth)).unwrap();
        daemon.ask(&["reload"])
    };
    let meter = ["-i", "meter-1", "-P", "1234"];
    assert_refused(publish(&setup, port, "a", &meter), "Not authorized");

    let by_id =
        format!("{STRICT}client_ids = [{{ id = \"meter-1\", password = \"1234\", user = \"meter\" }}]\n");
    let told = reload(&by_id);
    assert_eq!(told["rules"], true, "{told}");
    publish(&setup, port, "a", &meter).unwrap();
    assert_refused(
        publish(&setup, port, "a", &["-i", "meter-1", "-P", "4321"]),
        "Bad User Name or Password",
    );

    reload(&format!(
        "{STRICT}addresses = [{{ network = \"127.0.0.0/8\", effect = \"allow\", user = \"meter\" }}]\n"
    ));
    publish(&setup, port, "a", &[]).unwrap();
    reload(&format!(
        "{STRICT}addresses = [{{ network = \"127.0.0.0/8\", effect = \"deny\" }}]\n"
    ));
    assert_refused(publish(&setup, port, "a", &meter), "Not authorized");

    // A superuser is asked no rule, and `$SYS` stays the gateway's.
    user(&setup, "chief");
    reload(&format!("{STRICT}superusers = [\"chief\"]\n"));
    let chief = ["-u", "chief", "-P", "secret"];
    eventually("the chief to be known", || {
        publish(&setup, port, "anything", &chief).ok()
    });
    assert_refused(publish(&setup, port, "$SYS/x", &chief), "Not authorized");

    // What cannot be changes nothing.
    std::fs::write(
        &file,
        text.replace(STRICT, "[auth]\nlisteners = [{ name = \"nowhere\" }]\n"),
    )
    .unwrap();
    let (_, told) = setup.command(&["reload"]).expect_err("a fault");
    assert!(told.contains("there is no listener `nowhere`"), "{told}");
    publish(&setup, port, "anything", &chief).unwrap();
}
