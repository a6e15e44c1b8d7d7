//! The real gateway with MQTT-SN devices over DTLS 1.2, whose DTLS is not ours; and MQTT clients at the other end of the bus. RFC 6347, RFC 4279, RFC 9146

use headgate_dtls_codec::extension::Extensions;
use headgate_dtls_codec::{ClientHello, ContentType, DTLS_1_2, HandshakeType, RecordHeader, write_message};
use headgate_tests::V5;
use headgate_tests::blackbox::{
    CoapClient, Daemon, DtlsClient, DtlsLogin, DtlsStack, Job, Message, Setup, Tool, Transport, eventually,
    own_address,
};
use std::net::SocketAddr;
use std::process::Command;

const KEY: &str = "00112233445566778899aabbccddeeff";
const PUMP: DtlsLogin = DtlsLogin::Psk("pump-7", KEY);

/// A gateway whose devices speak DTLS and come in by what they show alone; and where it is.
fn setup(dtls: &str, auth: &str) -> (Setup, SocketAddr) {
    let address = own_address();
    let text = format!(
        "[sys]\ninterval = \"1s\"\n[auth]\n{auth}[[auth.listeners]]\nname = \"field\"\nanonymous = \"nowhere\"\n\
         [[mqttsn]]\nname = \"field\"\nkind = \"dtls\"\nbind = \"{address}\"\ndtls = {{ {dtls} }}\n[mqttsn.gateway]\nretry_interval = \"1s\"\n"
    );
    let setup = Setup::with(&text);
    let psk = format!("# devices\npump-7:{KEY}\nurn:dev:8:{KEY}\n");
    std::fs::write(setup.folder().join("psk"), psk).expect("it is written");
    (setup, address)
}

/// With the certificates that every setup has.
const CERTIFICATES: &str = "certificate = \"server.pem\", key = \"server.key\", client_ca = \"ca.pem\"";

fn certificate(setup: &Setup) -> DtlsLogin {
    let files = setup.certificates();
    DtlsLogin::Certificate {
        ca: files.ca.clone(),
        own: Some((files.client.clone(), files.client_key.clone())),
    }
}

fn mqtt_job() -> Job {
    Job::new(Transport::Tcp, V5)
}

fn three(topic: &str) -> Vec<Message> {
    (0..=2)
        .map(|qos| Message::new(&format!("{topic}/{qos}"), qos, &format!("Grüße at QoS {qos}")))
        .collect()
}

/// What the listener has counted under this name.
fn count(daemon: &Daemon<'_>, name: &str) -> u64 {
    let answer = daemon.ask(&["metrics", "headgate_datagram_events_total"]);
    let samples = answer[0]["samples"].as_array().expect("there are some");
    let of_name = samples.iter().filter(|sample| sample["labels"]["event"] == name);
    of_name
        .map(|sample| sample["value"].as_f64().expect("a number") as u64)
        .sum()
}

/// RFC 4279, RFC 5489, RFC 6655, RFC 7251: whoever's DTLS it is, messages go through at every QoS both ways.
/// \[RFC7252-9.1.3.1-1\] \[RFC7252-9.1.3.2-1\] \[RFC7252-9.1.3.3-1\]
#[test]
fn devices_speak_through_every_stack_and_suite() {
    use DtlsStack::{MbedTls, OpenSsl, TinyDtls};
    let (setup, address) = setup(
        &format!("psk_file = \"psk\", {CERTIFICATES}"),
        "certificate = { user_name = \"common_name\" }\n",
    );
    let daemon = setup.start();
    let shown = certificate(&setup);
    let cases = [
        (OpenSsl, "PSK-AES128-CCM8", &PUMP),
        (OpenSsl, "PSK-AES128-CCM", &PUMP),
        (OpenSsl, "PSK-AES128-GCM-SHA256", &PUMP),
        (OpenSsl, "PSK-AES128-CBC-SHA256", &PUMP),
        (OpenSsl, "ECDHE-PSK-AES128-CBC-SHA256", &PUMP),
        (OpenSsl, "ECDHE-ECDSA-AES128-CCM8", &shown),
        (OpenSsl, "ECDHE-ECDSA-AES128-CCM", &shown),
        (OpenSsl, "ECDHE-ECDSA-AES128-GCM-SHA256", &shown),
        (OpenSsl, "ECDHE-ECDSA-AES128-SHA256", &shown),
        (TinyDtls, "TLS_PSK_WITH_AES_128_CCM_8", &PUMP),
        (MbedTls, "TLS-PSK-WITH-AES-128-CCM-8", &PUMP),
        (MbedTls, "TLS-PSK-WITH-AES-128-CBC-SHA256", &PUMP),
        (MbedTls, "TLS-ECDHE-PSK-WITH-AES-128-CBC-SHA256", &PUMP),
        (MbedTls, "TLS-ECDHE-ECDSA-WITH-AES-128-CCM-8", &shown),
    ];
    for (n, (stack, suite, login)) in cases.into_iter().enumerate() {
        let topic = format!("dtls/{n}");
        let mut listening = Tool::Headgate.listen(&daemon, &mqtt_job(), &[&format!("{topic}/up/#")]);
        let mut device = DtlsClient::start(stack, address, suite, login, false).device(&format!("device{n}"));
        device.connect(true, 60, None);
        let messages = three(&format!("{topic}/up"));
        messages.iter().for_each(|message| device.publish(message));
        let mut received = listening.take(3);
        received.sort();
        assert_eq!(received, messages, "{stack:?} {suite}");
        device.subscribe(&format!("{topic}/down"), 1);
        let down = Message::new(&format!("{topic}/down"), 1, "down");
        Tool::Headgate.publish(&daemon, &mqtt_job(), std::slice::from_ref(&down));
        assert_eq!(device.recv(), down, "{stack:?} {suite}");
        let clients = daemon.ask(&["clients"]).to_string();
        assert!(clients.contains("pump-7"), "{clients}");
        device.leave();
    }
    daemon.stop();
    let log = setup.log();
    assert!(!log.contains("panicked") && !log.contains(KEY), "{log}");
}

/// RFC 9146: a device is known at another port, also when it moved while it slept.
#[test]
fn a_device_with_a_connection_id_goes_on_from_another_port() {
    let (setup, address) = setup("psk_file = \"psk\"", "");
    let daemon = setup.start();
    for (n, suite) in ["TLS-PSK-WITH-AES-128-CCM-8", "TLS-PSK-WITH-AES-128-CBC-SHA256"]
        .into_iter()
        .enumerate()
    {
        let client = DtlsClient::start(DtlsStack::MbedTls, address, suite, &PUMP, true);
        client.wait_for("cid=yes");
        let go_elsewhere = client.mover();
        let mut device = client.device(&format!("roamer{n}"));
        device.connect(true, 60, None);
        let topic = format!("roam/{n}");
        device.subscribe(&topic, 1);
        let say = |text: &str| {
            let message = Message::new(&topic, 1, text);
            Tool::Headgate.publish(&daemon, &mqtt_job(), std::slice::from_ref(&message));
            message
        };
        let mut listening = Tool::Headgate.listen(&daemon, &mqtt_job(), &["up"]);
        go_elsewhere();
        let up = Message::new("up", 1, "from elsewhere");
        device.publish(&up);
        assert_eq!(listening.recv(), up);
        let down = say("to elsewhere");
        assert_eq!(device.recv(), down);
        device.sleep(60);
        let waits = say("while it sleeps");
        go_elsewhere();
        assert_eq!(device.wake(), [waits]);
    }
    let begun = count(&daemon, "dtls/handshakes/begun");
    assert_eq!((begun, count(&daemon, "dtls/sessions/moved")), (2, 4));
}

/// MQTT-SN 1.2 has no user names: the key says who it is, and may say which client ids it is good for.
#[test]
fn a_key_is_good_for_the_client_id_that_is_its_identity() {
    let (setup, address) = setup("psk_file = \"psk\"", "psk = { client_id = \"identity\" }\n");
    let daemon = setup.start();
    let connect = |client: &DtlsClient, id: &str| {
        let message = [&[6 + id.len() as u8, 4, 4, 1, 0, 60], id.as_bytes()].concat();
        client.say(&message);
        client.hear()
    };
    let suite = "TLS-PSK-WITH-AES-128-CCM-8";
    for (login, id) in [(PUMP, "pump-7"), (DtlsLogin::Psk("urn:dev:8", KEY), "urn:dev:8")] {
        let client = DtlsClient::start(DtlsStack::MbedTls, address, suite, &login, false);
        assert_eq!(connect(&client, "somebody"), [3, 5, 3], "rejected: not supported");
        assert_eq!(connect(&client, id), [3, 5, 0], "accepted");
    }
    setup.log_with(&["its key allows the client id `pump-7` only (auth.psk.client_id)"]);
    daemon.stop();
}

/// RFC 4279 §5.3; and a key that comes into the file is good at once, while sessions stay.
#[test]
fn unknown_identities_and_wrong_keys_are_refused_until_the_file_knows_them() {
    let (setup, address) = setup("psk_file = \"psk\"", "");
    let daemon = setup.start();
    let mut first =
        DtlsClient::start(DtlsStack::OpenSsl, address, "PSK-AES128-CCM8", &PUMP, false).device("first");
    first.connect(true, 60, None);
    let wrong = [
        DtlsLogin::Psk("pump-7", "ffffffffffffffffffffffffffffffff"),
        DtlsLogin::Psk("pump-9", KEY),
    ];
    for login in &wrong {
        for (stack, suite) in [
            (DtlsStack::OpenSsl, "PSK-AES128-CCM8"),
            (DtlsStack::MbedTls, "TLS-PSK-WITH-AES-128-CCM-8"),
        ] {
            DtlsClient::start(stack, address, suite, login, false).wait_for_its_end();
        }
    }
    let log = setup.log_with(&["identity=\"pump-9\""]);
    assert!(!log.contains(KEY), "{log}");
    eventually("the failures to be counted", || {
        (count(&daemon, "dtls/handshakes/failed/wrong_key") == 4).then_some(())
    });
    std::fs::write(setup.folder().join("psk"), format!("pump-9:{KEY}\n")).expect("it is written");
    let mut device =
        DtlsClient::start(DtlsStack::OpenSsl, address, "PSK-AES128-CCM8", &wrong[1], false).device("second");
    device.connect(true, 60, None);
    first.publish(&Message::new("still", 1, "here"));
    // The old key opens nothing any more.
    DtlsClient::start(DtlsStack::OpenSsl, address, "PSK-AES128-CCM8", &PUMP, false).wait_for_its_end();
    // A file with a fault changes nothing.
    std::fs::write(setup.folder().join("psk"), "pump-9\n").expect("it is written");
    let mut device =
        DtlsClient::start(DtlsStack::OpenSsl, address, "PSK-AES128-CCM8", &wrong[1], false).device("third");
    device.connect(true, 60, None);
    setup.log_with(&["psk:1: there is no colon"]);
}

/// The access chain knows keys, too: those of client ids.
#[test]
fn a_client_id_may_have_its_key_in_the_access_chain() {
    let ids = format!("client_ids = [{{ id = \"sensor-9\", psk = \"{KEY}\" }}]\n");
    let (setup, address) = setup("psk_file = \"psk\", psk_from_auth = true", &ids);
    let daemon = setup.start();
    let suite = "PSK-AES128-CCM8";
    for (login, id) in [(DtlsLogin::Psk("sensor-9", KEY), "sensor-9"), (PUMP, "pump-7")] {
        let mut device = DtlsClient::start(DtlsStack::OpenSsl, address, suite, &login, false).device(id);
        device.connect(true, 60, None);
        device.leave();
    }
    for identity in ["sensor-8", "sensor-9"] {
        let login = DtlsLogin::Psk(identity, "ffffffffffffffffffffffffffffffff");
        DtlsClient::start(DtlsStack::OpenSsl, address, suite, &login, false).wait_for_its_end();
    }
    daemon.stop();
}

/// RFC 5246 §7.4.6: a certificate may be demanded; of a CA that is not ours it opens nothing. \[RFC7252-9.1.3.3-2\]
#[test]
fn a_client_without_a_good_certificate_is_refused() {
    let (setup, address) = setup(
        &format!("{CERTIFICATES}, require_client_certificate = true"),
        "certificate = { user_name = \"common_name\", client_id = \"user_name\" }\n",
    );
    let daemon = setup.start();
    let suite = "ECDHE-ECDSA-AES128-CCM8";
    let good = certificate(&setup);
    let mut device = DtlsClient::start(DtlsStack::OpenSsl, address, suite, &good, false).device("pump-7");
    device.connect(true, 60, None);
    device.leave();
    let files = setup.certificates();
    let other = tempfile::tempdir().expect("a folder");
    let foreign = headgate_tests::blackbox::Certificates::create(other.path());
    for own in [None, Some((foreign.client, foreign.client_key))] {
        let ca = files.ca.clone();
        let login = DtlsLogin::Certificate { ca, own };
        DtlsClient::start(DtlsStack::OpenSsl, address, suite, &login, false).wait_for_its_end();
    }
    setup.log_with(&["alert=\"bad_certificate\"", "alert=\"handshake_failure\""]);
    assert_eq!(count(&daemon, "dtls/handshakes/failed/certificate"), 2);
}

/// RFC 6347 §4.2.1: hellos without a cookie, and noise, from everywhere.
#[test]
fn a_flood_of_hellos_costs_nothing_and_disturbs_nobody() {
    let (setup, address) = setup("psk_file = \"psk\"", "");
    let daemon = setup.start();
    let mut device =
        DtlsClient::start(DtlsStack::OpenSsl, address, "PSK-AES128-CCM8", &PUMP, false).device("device");
    device.connect(true, 60, None);
    let sockets: Vec<_> = (0..50)
        .map(|_| std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket"))
        .collect();
    let (mut sent, mut hellos) = (0, 0);
    for n in 0..10_000u32 {
        let datagram = match n % 4 {
            0 => n.to_be_bytes().repeat(20),
            _ => hello(n),
        };
        hellos += usize::from(n % 4 != 0);
        sent += datagram.len();
        let socket = &sockets[n as usize % sockets.len()];
        socket.send_to(&datagram, address).expect("it is sent");
        if n % 500 == 0 {
            device.publish(&Message::new("during/flood", 1, &n.to_string()));
        }
    }
    // What came before this was answered before it was.
    device.publish(&Message::new("after/flood", 1, "here"));
    let (mut answered, mut answers, mut buffer) = (0, 0, [0; 2048]);
    for socket in &sockets {
        socket.set_nonblocking(true).expect("a socket");
        while let Ok(len) = socket.recv(&mut buffer) {
            answered += len;
            answers += 1;
        }
    }
    let told = format!("{answers} answers, {answered} bytes for {sent}");
    assert!(answers > 0 && answers <= hellos && answered <= sent, "{told}");
    assert_eq!(count(&daemon, "dtls/handshakes/begun"), 1);
    daemon.stop();
}

/// A ClientHello without a cookie.
fn hello(n: u32) -> Vec<u8> {
    let mut random = [0; 32];
    random[..4].copy_from_slice(&n.to_be_bytes());
    let hello = ClientHello {
        version: DTLS_1_2,
        random,
        session_id: &[],
        cookie: &[],
        suites: &[0xC0, 0xA8],
        compression: &[0],
        extensions: Extensions::default(),
    };
    let (mut body, mut message, mut datagram) = (Vec::new(), Vec::new(), Vec::new());
    hello.encode(&mut body);
    write_message(HandshakeType::ClientHello, 0, &body, &mut message);
    let header = RecordHeader {
        content: ContentType::Handshake,
        version: DTLS_1_2,
        epoch: 0,
        sequence: 0,
        cid: &[],
    };
    header.write(message.len(), &mut datagram);
    [datagram, message].concat()
}

/// RFC 5246 §7.3
#[test]
fn a_client_with_a_certificate_resumes_its_session() {
    let (setup, address) = setup(
        CERTIFICATES,
        "certificate = { user_name = \"common_name\", client_id = \"user_name\" }\n",
    );
    let daemon = setup.start();
    let (suite, login) = ("ECDHE-ECDSA-AES128-CCM8", certificate(&setup));
    let session = setup.folder().join("session.pem");
    for resumed in 0..3 {
        let mut device = DtlsClient::resuming(address, suite, &login, &session).device("pump-7");
        device.connect(true, 60, None);
        device.publish(&Message::new("up", 1, "hello"));
        device.leave();
        assert_eq!(count(&daemon, "dtls/handshakes/resumed"), resumed);
    }
}

/// Other settings, and sessions stay.
#[test]
fn settings_change_while_sessions_stay() {
    let (setup, address) = setup("psk_file = \"psk\"", "");
    let daemon = setup.start();
    let suite = "PSK-AES128-CCM8";
    let mut device = DtlsClient::start(DtlsStack::OpenSsl, address, suite, &PUMP, false).device("device");
    device.connect(true, 60, None);
    let file = setup.folder().join("headgate.toml");
    let config = std::fs::read_to_string(&file).expect("it is there");
    let own = format!("psk = [{{ identity = \"own\", key = \"{KEY}\" }}]");
    let changed = config.replace("psk_file = \"psk\"", &own);
    std::fs::write(&file, &changed).expect("it is written");
    daemon.ask(&["reload"]);
    device.publish(&Message::new("still", 1, "here"));
    DtlsClient::start(DtlsStack::OpenSsl, address, suite, &PUMP, false).wait_for_its_end();
    let login = DtlsLogin::Psk("own", KEY);
    let mut other = DtlsClient::start(DtlsStack::OpenSsl, address, suite, &login, false).device("other");
    other.connect(true, 60, None);
    // A fault is told with its place, and nothing changes.
    let faulty = changed.replace("key = \"0011", "key = \"xx11");
    std::fs::write(&file, faulty).expect("it is written");
    let (_, error) = setup.command(&["reload"]).expect_err("it is refused");
    assert!(
        error.contains("mqttsn.dtls.psk.key") || error.contains("mqttsn.dtls.psk"),
        "{error}"
    );
    assert!(!error.contains("xx11"), "{error}");
    device.publish(&Message::new("still", 1, "here"));
    daemon.stop();
}

/// RFC 7250, RFC 7252 §9.1.3.2: a client of GnuTLS, by libcoap, that shows a raw public key is let in as the identity of that key, whether the gateway shows a certificate or its own raw
/// key. Who has another key, or none, is refused. \[RFC7252-9.1.3.2-1\]
#[test]
fn a_foreign_client_is_known_by_its_raw_public_key() {
    CoapClient::Libcoap.install();
    let folder = tempfile::tempdir().expect("it is made");
    let file = |name: &str| folder.path().join(name).display().to_string();
    let openssl = |words: &[&str]| {
        let output = Command::new("openssl").args(words).output().expect("it runs");
        assert!(output.status.success(), "{output:?}");
        output.stdout
    };
    for name in ["gateway", "pump-7", "another"] {
        openssl(&[
            "ecparam",
            "-name",
            "prime256v1",
            "-genkey",
            "-noout",
            "-out",
            &file(name),
        ]);
    }
    let known = openssl(&["ec", "-in", &file("pump-7"), "-pubout", "-outform", "DER"]);
    let known: String = known.iter().map(|byte| format!("{byte:02x}")).collect();
    let bare = format!("key = \"{}\"", file("gateway"));
    for shown in [&bare, "certificate = \"server.pem\", key = \"server.key\""] {
        let setup = Setup::with(&format!(
            "[auth]\nanonymous = \"nowhere\"\n[[auth.acl]]\neffect = \"allow\"\nuser = \"pump-7\"\ntopics = [\"plant/%u/#\"]\n\
             [[coap]]\nname = \"coap\"\nkind = \"dtls\"\nbind = \"127.0.0.1:0\"\n\
             dtls = {{ {shown}, raw_keys = [{{ identity = \"pump-7\", key = \"{known}\" }}], require_client_certificate = true }}\n",
        ));
        let daemon = setup.start();
        let port = daemon.port_of("coap");
        let ca = setup.certificates().ca.display().to_string();
        let ask = |key: Option<&str>, words: &[&str], topic: &str| {
            let key = key.map(file);
            let output = Command::new("coap-client-gnutls")
                .args(["-B", "5", "-R", &ca])
                .args(key.iter().flat_map(|key| ["-M", key]))
                .args(words)
                .arg(format!("coaps://127.0.0.1:{port}/ps/{topic}"))
                .output()
                .expect("it runs");
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
        };
        let (topic, text) = ("plant/pump-7/a", "x".repeat(500));
        let put = ["-m", "put", "-e", &text, "-O", "15,retain=true"];
        assert_eq!(ask(Some("pump-7"), &put, topic), "", "{shown}");
        let read = ask(Some("pump-7"), &["-m", "get"], topic);
        assert_eq!(read.trim_end(), text, "{shown}: {}", setup.log());
        assert!(ask(Some("pump-7"), &put, "plant/other/a").contains("4.03"));
        for stranger in [Some("another"), None] {
            let said = ask(stranger, &["-m", "get"], topic);
            assert!(!said.contains("xxx") && !said.is_empty(), "{stranger:?}: {said}");
        }
        let failed = count(&daemon, "dtls/handshakes/failed/certificate");
        assert!(failed >= 1, "{failed}");
        daemon.stop();
    }
}

/// LwM2M Core 1.1 §6.2.1: a device that registers over DTLS without an endpoint name has the identity of its key; over UDP alone it is refused. The rule that binds names to keys holds.
/// \[LWM2M-6.2.1-ENDPOINT-OF-SECURITY\]
#[test]
fn a_device_without_an_endpoint_name_has_that_of_its_key() {
    CoapClient::Libcoap.install();
    let setup = Setup::with(
        "[[auth.listeners]]\nname = \"field\"\nanonymous = \"nowhere\"\npsk = { client_id = \"identity\" }\n\
         [[lwm2m]]\nname = \"field\"\nkind = \"dtls\"\nbind = \"127.0.0.1:0\"\n\
         dtls = { psk = [{ identity = \"pump-7\", key = \"7365637265742d6f662d70756d702d37\" }] }\n\
         [[lwm2m]]\nname = \"plain\"\nbind = \"127.0.0.1:0\"\n",
    );
    let daemon = setup.start();
    let register = |client: &str, login: &[&str], uri: &str| {
        let output = Command::new(client)
            .args(login)
            .args(["-B", "5", "-m", "post", "-t", "40", "-e", "</1/0>,</3/0>", uri])
            .output()
            .expect("it runs");
        String::from_utf8_lossy(&output.stderr).trim().to_owned()
    };
    let uri = |scheme: &str, listener: &str, query: &str| {
        let port = daemon.port_of(listener);
        format!("{scheme}://127.0.0.1:{port}/rd?lt=300&lwm2m=1.1{query}")
    };
    let login = ["-u", "pump-7", "-k", "secret-of-pump-7"];
    let refused = register("coap-client-notls", &[], &uri("coap", "plain", ""));
    assert!(refused.contains("4.00 the endpoint name is missing"), "{refused}");
    let refused = register("coap-client-openssl", &login, &uri("coaps", "field", "&ep=other"));
    assert!(refused.starts_with("4.03"), "{refused}");
    let taken = register("coap-client-openssl", &login, &uri("coaps", "field", ""));
    assert_eq!(taken, "", "{}", setup.log());
    let clients = daemon.ask(&["lwm2m", "list"]).to_string();
    assert!(
        clients.contains("\"pump-7\"") && !clients.contains("other"),
        "{clients}"
    );
    assert!(
        setup.log().contains("the endpoint name is missing: ep="),
        "{}",
        setup.log()
    );
}
