//! Azure's Device Provisioning Service and the topics of its hubs: what is asked, what is made of the answers.

use bytes::Bytes;
use headgate_bridge::{
    Assignment, BridgePlan, BridgeSettings, Provisioned, ProvisioningError, ProvisioningInput, Registration,
};
use headgate_model::{Instant, Topic};
use headgate_mqtt_codec::{AckKind, Packet, PacketId, Publish, Qos, ReasonCode, SubAck, Utf8};
use proptest::prelude::*;
use std::time::Duration;

const PRESET: &str = "cloud = \"azure-iot-dps\", id_scope = \"0ne1\", registration_id = \"gw-7\"";

fn settings(more: &str) -> BridgeSettings {
    toml::from_str(&format!("name = \"cloud\"\npreset = {{ {PRESET}, {more} }}")).unwrap()
}

/// The service is played by the test.
struct Bench {
    registration: Registration,
    out: Vec<Packet>,
    now: Instant,
    done: Option<Provisioned>,
}

impl Bench {
    /// Subscribed, and the first question asked.
    fn asked() -> Self {
        let mut bench = Self::new();
        assert!(
            matches!(&bench.out[..], [Packet::Subscribe(s)] if s.filters[0].filter.as_str() == "$dps/registrations/res/#")
        );
        bench.out.clear();
        bench.grants(ReasonCode::GrantedQos1);
        assert_eq!(
            bench.asks(),
            "$dps/registrations/PUT/iotdps-register/?$rid=1 {\"registrationId\":\"gw-7\"}"
        );
        bench
    }

    fn new() -> Self {
        let (now, mut out) = (Instant(5_000), Vec::new());
        let provisioning = settings("key = \"a2V5\"").provisioning().unwrap();
        Self {
            registration: Registration::new(&provisioning, now, &mut out),
            out,
            now,
            done: None,
        }
    }

    fn takes(&mut self, input: ProvisioningInput) {
        assert_eq!(self.done, None, "it is at its end");
        self.done = self.registration.handle(input, self.now, &mut self.out);
    }

    fn grants(&mut self, code: ReasonCode) {
        self.takes(ProvisioningInput::Packet(Packet::SubAck(Box::new(SubAck {
            packet_id: PacketId::MAX,
            codes: vec![code],
            reason_string: None,
            user_properties: Vec::new(),
        }))));
    }

    /// The service answers; that is acknowledged.
    fn answers(&mut self, heading: &str, payload: &str) {
        self.takes(ProvisioningInput::Packet(Packet::Publish(Publish {
            qos: Qos::AtLeastOnce,
            packet_id: PacketId::new(9),
            topic: Utf8::try_from(format!("$dps/registrations/res/{heading}")).unwrap(),
            payload: Bytes::from(payload.to_owned()),
            ..Publish::default()
        })));
        let Packet::Ack(ack) = self.out.remove(0) else {
            panic!()
        };
        assert_eq!((ack.kind, ack.packet_id.get()), (AckKind::PubAck, 9));
    }

    /// The only thing that it says: topic and payload.
    fn asks(&mut self) -> String {
        match &self.out.drain(..).collect::<Vec<_>>()[..] {
            [Packet::Publish(publish)] => {
                assert_eq!((publish.qos, publish.retain), (Qos::AtLeastOnce, false));
                let payload = String::from_utf8_lossy(&publish.payload);
                format!("{} {payload}", publish.topic).trim_end().to_owned()
            }
            other => panic!("{other:?}"),
        }
    }

    fn advance(&mut self, ms: u64) {
        let until = self.now + Duration::from_millis(ms);
        while self.done.is_none() && self.registration.deadline() <= until {
            self.now = self.registration.deadline();
            self.takes(ProvisioningInput::Timeout);
        }
        self.now = until;
    }

    fn failed(self) -> ProvisioningError {
        self.done.expect("it is at its end").unwrap_err()
    }
}

const ASSIGNING: &str = "{\"operationId\":\"5.0a-b\",\"status\":\"assigning\"}";

fn assigned(hub: &str, device: &str) -> String {
    format!(
        "{{\"operationId\":\"5.0a-b\",\"status\":\"assigned\",\"registrationState\":{{\"registrationId\":\"gw-7\",\
         \"assignedHub\":\"{hub}\",\"deviceId\":\"{device}\",\"status\":\"assigned\",\"payload\":{{\"x\":[1]}}}}}}"
    )
}

#[test]
fn a_hub_is_asked_for_until_it_is_assigned() {
    let mut bench = Bench::asked();
    bench.answers("202/?$rid=1&retry-after=2", ASSIGNING);
    bench.advance(1_999);
    assert!(bench.out.is_empty());
    bench.advance(1);
    let status = "$dps/registrations/GET/iotdps-get-operationstatus/?$rid=2&operationId=5.0a-b";
    assert_eq!(bench.asks(), status);
    bench.answers("202/?$rid=2", ASSIGNING);
    bench.advance(3_000);
    assert_eq!(
        bench.asks(),
        status.replace("rid=2", "rid=3"),
        "three seconds if nothing is said"
    );
    bench.answers("200/?$rid=3", &assigned("h.azure-devices.net", "gw-7"));
    let assignment = Assignment {
        hub: "h.azure-devices.net".into(),
        device: "gw-7".into(),
    };
    assert_eq!(bench.done, Some(Ok(assignment)));
}

#[test]
fn a_service_that_is_busy_is_asked_the_same_again() {
    let mut bench = Bench::asked();
    bench.answers("429/?$rid=1&retry-after=7", "");
    bench.advance(7_000);
    assert!(
        bench
            .asks()
            .starts_with("$dps/registrations/PUT/iotdps-register/?$rid=2 ")
    );
    bench.answers("202/?$rid=2&retry-after=0", ASSIGNING);
    bench.advance(1_000);
    assert!(bench.asks().ends_with("$rid=3&operationId=5.0a-b"));
    bench.answers("503/?$rid=3&retry-after=100000", "");
    bench.advance(60_000);
    assert!(
        bench.asks().ends_with("$rid=4&operationId=5.0a-b"),
        "a minute at most"
    );
}

#[test]
fn what_the_service_refuses_is_said_in_its_words() {
    let mut bench = Bench::asked();
    let error = "{\"errorCode\":401002,\"trackingId\":\"t\",\"message\":\"Invalid\\ncertificate.\"}";
    bench.answers("401/?$rid=1", error);
    assert_eq!(bench.failed().to_string(), "refused: 401 Invalidcertificate.");
    for status in ["failed", "disabled"] {
        let mut bench = Bench::asked();
        let answer = format!(
            "{{\"status\":\"{status}\",\"registrationState\":{{\"errorCode\":400207,\"errorMessage\":\"no hub\"}}}}"
        );
        bench.answers("200/?$rid=1", &answer);
        assert_eq!(
            bench.failed().to_string(),
            format!("the registration is `{status}`: no hub")
        );
    }
    let mut bench = Bench::new();
    bench.grants(ReasonCode::UnspecifiedError);
    assert!(matches!(bench.failed(), ProvisioningError::Subscription(_)));
}

#[test]
fn a_service_that_does_not_answer_is_left() {
    let mut bench = Bench::new();
    bench.advance(29_999);
    assert_eq!(bench.done, None);
    bench.advance(1);
    assert_eq!(bench.failed(), ProvisioningError::NoAnswer);
    let mut bench = Bench::asked();
    bench.advance(30_000);
    assert_eq!(bench.failed(), ProvisioningError::NoAnswer);
}

#[test]
fn a_registration_that_does_not_end_is_given_up() {
    let mut bench = Bench::asked();
    bench.answers("202/?$rid=1&retry-after=60", ASSIGNING);
    bench.advance(60_000);
    for number in 2..=3 {
        assert!(bench.asks().contains(&format!("$rid={number}&")));
        bench.answers(&format!("202/?$rid={number}&retry-after=60"), ASSIGNING);
        bench.advance(60_000);
    }
    assert_eq!(bench.failed(), ProvisioningError::TooLong);
}

/// At QoS 1 an answer may come twice, and may be one to another question.
#[test]
fn an_answer_to_another_question_is_not_looked_at() {
    let mut bench = Bench::asked();
    bench.answers("200/?$rid=2", &assigned("wrong.example", "gw-7"));
    assert_eq!(bench.done, None);
    bench.answers("202/?$rid=1&retry-after=1", ASSIGNING);
    bench.answers("200/?$rid=1", &assigned("wrong.example", "gw-7"));
    assert_eq!(bench.done, None, "nothing is asked now");
    bench.takes(ProvisioningInput::Packet(Packet::ConnAck(Box::default())));
    assert!(matches!(bench.failed(), ProvisioningError::OutOfTurn(_)));
}

/// What it says becomes a host name and parts of topics.
#[test]
fn an_answer_that_cannot_be_used_is_refused() {
    let long = format!("{{\"status\":\"assigning\",\"x\":\"{}\"}}", "x".repeat(64 << 10));
    for answer in [
        "",
        "[]",
        "{}",
        "{\"status\":\"assigning\",\"operationId\":\"a&b/#\"}",
        &long,
        &assigned("", "gw-7"),
        &assigned("h.example/x", "gw-7"),
        &assigned("h.example", "a/b"),
        &assigned("h.example", "a#"),
        &assigned("h.example", &"x".repeat(129)),
    ] {
        let mut bench = Bench::asked();
        bench.answers("200/?$rid=1", answer);
        assert!(
            matches!(bench.failed(), ProvisioningError::Malformed(_)),
            "{answer:.60}"
        );
    }
    let mut bench = Bench::asked();
    bench.answers("?", "");
    assert!(matches!(bench.failed(), ProvisioningError::Malformed(_)));
}

proptest! {
    /// Nothing that a service says is a reason to panic, and it never goes on for ever.
    #[test]
    fn whatever_is_answered_it_comes_to_an_end(answers in prop::collection::vec(("[0-9]{1,4}", ".{0,30}", ".{0,60}"), 0..20)) {
        let mut bench = Bench::asked();
        let begun = bench.now;
        for (status, rest, payload) in answers {
            let Ok(topic) = Utf8::try_from(format!("$dps/registrations/res/{status}/?$rid=1{rest}")) else { continue };
            let publish = Publish { topic, payload: payload.into(), ..Publish::default() };
            if bench.done.is_none() {
                bench.takes(ProvisioningInput::Packet(Packet::Publish(publish)));
            }
            bench.advance(1_000);
        }
        bench.advance(200_000);
        prop_assert!(bench.done.is_some());
        prop_assert!(bench.now.since(begun) <= Duration::from_secs(220));
    }
}

/// Azure: "Communicate with DPS using the MQTT protocol".
#[test]
fn the_service_is_asked_as_it_wants() {
    let asked = settings("group_key = \"a2V5\", payload = '{\"plant\": 7}'")
        .provisioning()
        .unwrap();
    assert_eq!(asked.address, "mqtts://global.azure-devices-provisioning.net");
    assert_eq!(asked.registration_id, "gw-7");
    assert_eq!(
        asked.login.username.as_deref(),
        Some("0ne1/registrations/gw-7/api-version=2019-03-31")
    );
    let sas = asked.login.sas.unwrap();
    assert_eq!(sas.resource, "0ne1/registrations/gw-7");
    assert_eq!(
        (sas.policy.as_deref(), sas.derive_for.as_deref()),
        (Some("registration"), Some("gw-7"))
    );
    let request: serde_json::Value = serde_json::from_str(&asked.request).unwrap();
    assert_eq!(request["payload"]["plant"], 7);
    let private = settings("endpoint = \"dps.internal:9883\"")
        .provisioning()
        .unwrap();
    assert_eq!(
        (private.address.as_str(), private.login.sas),
        ("mqtts://dps.internal:9883", None)
    );
}

#[test]
fn what_is_assigned_makes_a_bridge_to_that_hub() {
    let assignment = Assignment {
        hub: "h.azure-devices.net".into(),
        device: "pump".into(),
    };
    let assigned = settings("key = \"a2V5\"").with_assignment(&assignment);
    assert_eq!(assigned.addresses, ["mqtts://h.azure-devices.net"]);
    assert_eq!(
        assigned.login.username.as_deref(),
        Some("h.azure-devices.net/pump/?api-version=2021-04-12")
    );
    let sas = assigned.login.sas.as_ref().unwrap();
    assert_eq!(
        (sas.resource.as_str(), sas.policy.as_ref()),
        ("h.azure-devices.net/devices/pump", None)
    );
    let plan = BridgePlan::new(assigned, "here").unwrap();
    assert_eq!(plan.remote_client_id(), "pump");
    // The queue is the same one, and holds the same, before anything is assigned.
    let before = BridgePlan::new(settings("key = \"a2V5\"").with_preset(), "here").unwrap();
    assert_eq!(before.subscriptions(), plan.subscriptions());
    assert_eq!(before.local_client_id(), plan.local_client_id());
    let mut private = settings("key = \"a2V5\"");
    private.addresses = vec!["mqtts://10.1.2.3:9883".into()];
    assert_eq!(
        private.with_assignment(&assignment).addresses,
        ["mqtts://10.1.2.3:9883"]
    );
}

/// Azure: "Communicate with an IoT hub using the MQTT protocol".
#[test]
fn twin_and_methods_have_names_without_signs() {
    let hub = "name = \"cloud\"\npreset = { cloud = \"azure-iot-hub\", hub = \"h.example\", device = \"d\", key = \"a2V5\" }";
    let hub: BridgeSettings = toml::from_str(hub).unwrap();
    let dps = settings("key = \"a2V5\"").with_assignment(&Assignment {
        hub: "h.example".into(),
        device: "d".into(),
    });
    for settings in [hub.with_preset(), dps] {
        let plan = BridgePlan::new(settings, "here").unwrap();
        let topic = |text: &str| Topic::try_from(text).unwrap();
        for (local, remote) in [
            ("telemetry/a/b", "devices/d/messages/events/"),
            ("azure/twin/get/7", "$iothub/twin/GET/?$rid=7"),
            (
                "azure/twin/reported/8",
                "$iothub/twin/PATCH/properties/reported/?$rid=8",
            ),
            ("azure/methods/res/200/4f", "$iothub/methods/res/200/?$rid=4f"),
        ] {
            let mapped = plan.topics().outgoing(&topic(local)).unwrap();
            assert_eq!(mapped.topic.as_str(), remote);
        }
        for (remote, local) in [
            (
                "devices/d/messages/devicebound/%24.to=x",
                "azure/devicebound/%24.to=x",
            ),
            ("$iothub/twin/res/200/?$rid=7", "azure/twin/res/200/7"),
            ("$iothub/twin/res/204/?$rid=8&$version=4", "azure/twin/res/204/8"),
            (
                "$iothub/twin/PATCH/properties/desired/?$version=5",
                "azure/twin/desired",
            ),
            (
                "$iothub/methods/POST/reboot/?$rid=4f",
                "azure/methods/call/reboot/4f",
            ),
        ] {
            let mapped = plan.topics().incoming(&topic(remote)).unwrap();
            assert_eq!(mapped.topic.as_str(), local);
        }
    }
}

#[test]
fn a_preset_that_cannot_be_is_refused_in_words() {
    for (preset, words) in [
        (
            format!("{PRESET}, key = \"a\", group_key = \"b\""),
            "one is wanted",
        ),
        (
            format!("{PRESET}, payload = '{{'"),
            "preset.payload: `{` is not JSON",
        ),
        (
            PRESET.replace("gw-7", "gw/7"),
            "preset.registration_id: `gw/7` is none",
        ),
        (PRESET.replace("0ne1", ""), "preset.id_scope: `` is none"),
        (
            "cloud = \"azure-iot-hub\", hub = \"h\", device = \"d\", key = \"a\", key_file = \"f\"".into(),
            "one is wanted",
        ),
    ] {
        let settings: BridgeSettings =
            toml::from_str(&format!("name = \"cloud\"\npreset = {{ {preset} }}")).unwrap();
        let error = BridgePlan::new(settings.with_preset(), "here")
            .unwrap_err()
            .to_string();
        assert!(error.contains(words), "{error}");
    }
}
