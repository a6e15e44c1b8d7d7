//! Registrations whose endpoint name the security of their connection says. LwM2M Core 1.1 §6.2.1

use bytes::BytesMut;
use headgate_coap_codec::{Code, Kind, Message, Token, decode, encode, number};
use headgate_lwm2m::{Lwm2mServer, Lwm2mSettings};
use headgate_model::access::{Denial, Unrestricted};
use headgate_model::bus::PeerName;
use headgate_model::datagram::{Address, Asked};
use headgate_model::{
    Answer, BusCommand, DatagramOutputs, DatagramServer, Identity, Instant, Naming, Question,
};
use std::sync::Arc;

/// A session of DTLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Session(u16);

impl Address for Session {
    const FORGEABLE: bool = false;

    fn presence(&self) -> (PeerName, u16) {
        ("192.0.2.1".into(), self.0)
    }

    fn of_presence(_: &str, _: u16) -> Option<Self> {
        None
    }
}

struct Bench {
    server: Lwm2mServer<Session>,
    out: DatagramOutputs<Session>,
    next_id: u16,
}

const NOW: Instant = Instant(1_000);

impl Bench {
    fn new(change: impl FnOnce(&mut Lwm2mSettings)) -> Self {
        let mut settings = Lwm2mSettings::default();
        change(&mut settings);
        Self {
            server: Lwm2mServer::repeating(settings, Arc::new(Naming::default()), 1),
            out: DatagramOutputs::default(),
            next_id: 0,
        }
    }

    fn register(&mut self, from: Session, query: &[&'static str]) {
        self.next_id += 1;
        let mut message = Message::new(Kind::Confirmable, Code::POST, self.next_id, Token::default());
        message.options.push(number::URI_PATH, "rd");
        for word in query {
            message.options.push(number::URI_QUERY, *word);
        }
        message.payload = "</1/0>,</3/0>".into();
        let mut bytes = BytesMut::new();
        encode(&message, &mut bytes).unwrap();
        self.server
            .handle_datagram(from, bytes.freeze(), NOW, &mut self.out);
    }

    fn asked(&mut self) -> Asked<Session> {
        let mut asked = std::mem::take(&mut self.out.questions);
        assert_eq!(asked.len(), 1, "{asked:?}");
        asked.remove(0)
    }

    /// The keys of the one that is asked about say this.
    fn identified(&mut self, name: Option<&str>) {
        let asked = self.asked();
        assert_eq!(asked.question, Question::Identify);
        let answer = Answer::Identified(name.map(Into::into));
        self.server.handle_answer(asked.key, answer, NOW, &mut self.out);
        self.server.check();
    }

    fn code(&mut self) -> Code {
        let sent = self.out.take_datagrams();
        assert_eq!(sent.len(), 1);
        decode(&sent[0].1).unwrap().code
    }

    fn denied(&mut self) -> Denial {
        self.out.denials.drain().next().expect("it is told")
    }
}

/// It is let in, or not, as one that says this name itself. \[LWM2M-6.2.1-ENDPOINT-OF-SECURITY\]
#[test]
fn who_registers_without_a_name_has_that_of_its_key() {
    let mut bench = Bench::new(|_| {});
    bench.register(Session(1), &["lt=60", "lwm2m=1.1"]);
    bench.identified(Some("pump-7"));
    let asked = bench.asked();
    let Question::Authenticate(who) = &asked.question else {
        panic!("{asked:?}")
    };
    assert_eq!((who.client_id.as_str(), asked.at), ("pump-7", Some(Session(1))));
    let answer = Answer::Allowed {
        identity: Identity {
            username: Some("pump-7".into()),
            policy: Arc::new(Unrestricted),
        },
        data: None,
    };
    bench.server.handle_answer(asked.key, answer, NOW, &mut bench.out);
    let Some((_, BusCommand::Open(open))) = bench.out.bus.pop() else {
        panic!("{:?}", bench.out.bus)
    };
    assert_eq!(open.client.client_id().as_str(), "$lwm2m/pump-7");
}

/// \[LWM2M-6.2.1-ENDPOINT\]
#[test]
fn without_a_name_of_its_key_or_with_one_that_can_be_none_it_is_refused() {
    for (name, why) in [
        (None, "the endpoint name is missing: ep="),
        (
            Some("a/b"),
            "of its key: an endpoint name has no / + # in it here, and no $ in front",
        ),
    ] {
        let mut bench = Bench::new(|_| {});
        bench.register(Session(1), &["lt=60"]);
        bench.identified(name);
        assert_eq!(bench.code(), Code::BAD_REQUEST);
        assert_eq!(bench.denied().why, why);
        let left = bench.server.tables();
        assert!(left.iter().all(|(_, n)| *n == 0), "{left:?}");
    }
}

/// Who says its name is not asked for it.
#[test]
fn who_says_its_name_has_that() {
    let mut bench = Bench::new(|_| {});
    bench.register(Session(1), &["ep=other"]);
    assert!(
        matches!(bench.asked().question, Question::Authenticate(who) if who.client_id.as_str() == "other")
    );
}

/// As many as are let in at once are asked about.
#[test]
fn there_are_so_many_at_once() {
    let mut bench = Bench::new(|settings| settings.max_logins = 1);
    bench.register(Session(1), &["lt=60"]);
    bench.register(Session(2), &["lt=60"]);
    assert_eq!(bench.code(), Code::SERVICE_UNAVAILABLE);
    bench.identified(None);
    assert_eq!(bench.code(), Code::BAD_REQUEST);
    bench.register(Session(2), &["lt=60"]);
    bench.identified(Some("pump-7"));
}
