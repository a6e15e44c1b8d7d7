//! A gateway with three administrators, two API keys and a user of devices.

use headgate_auth::Users;
use headgate_mqtt_codec::Qos;
use headgate_tests::blackbox::{Daemon, HttpAnswer, HttpClient, Peer, Setup, Transport};
use serde_json::{Value, json};

pub(crate) const PASSWORD: &str = "correct horse battery";
pub(crate) const NODE: &str = "gw@site-7";

/// What nobody but an administrator may publish.
const RULES: &str = "[auth]\nanonymous = \"nowhere\"\n\
    [[auth.acl]]\neffect = \"deny\"\naction = \"publish\"\ntopics = [\"secret/#\"]\n\
    [[auth.acl]]\neffect = \"allow\"\naction = \"all\"\n\
    [[listeners]]\nname = \"http\"\nprotocol = \"http\"\nbind = \"127.0.0.1:0\"\n";

/// Its configuration, with further sections before all others.
pub(crate) fn setup_with(sections: &str) -> Setup {
    let setup = Setup::with(&format!("node = \"{NODE}\"\n{sections}{RULES}"));
    let mut users = Users::default();
    users.set("device", PASSWORD).unwrap();
    std::fs::create_dir_all(setup.folder().join("data")).unwrap();
    users.save(&setup.folder().join("data/users.json")).unwrap();
    setup
}

pub(crate) fn setup() -> Setup {
    setup_with("")
}

pub(crate) struct Bench<'a> {
    pub(crate) daemon: Daemon<'a>,
    /// Nobody.
    pub(crate) http: HttpClient,
    /// An administrator, by name and password.
    pub(crate) root: HttpClient,
    /// An operator, by name and password.
    pub(crate) olga: HttpClient,
    /// A viewer, by name and password.
    pub(crate) vera: HttpClient,
    /// Whoever may open the control socket.
    pub(crate) socket: HttpClient,
}

impl<'a> Bench<'a> {
    pub(crate) fn start(setup: &'a Setup) -> Self {
        let bench = Self::of(setup.start());
        for (name, role) in [
            ("root", "administrator"),
            ("olga", "operator"),
            ("vera", "viewer"),
        ] {
            let new = json!({ "name": name, "password": PASSWORD, "role": role });
            assert_eq!(bench.socket.post("/api/v1/administrators", &new).status, 200);
        }
        bench
    }

    /// Of a gateway that has its administrators.
    pub(crate) fn of(daemon: Daemon<'a>) -> Self {
        let http = HttpClient::at(daemon.port_of("http"));
        Self {
            root: http.basic("root", PASSWORD),
            olga: http.basic("olga", PASSWORD),
            vera: http.basic("vera", PASSWORD),
            socket: HttpClient::control(&daemon),
            http,
            daemon,
        }
    }

    /// An API key of this role: its id and its secret.
    pub(crate) fn key(&self, role: &str) -> HttpClient {
        let new = json!({ "name": format!("for {role}s"), "role": role });
        let made = self.socket.post("/api/v1/keys", &new).json();
        let text = |field: &str| made[field].as_str().unwrap().to_owned();
        self.http.basic(&text("id"), &text("secret"))
    }

    /// A client of the user of devices, which has subscribed.
    pub(crate) fn subscriber(&self, id: &str, filter: &str) -> Peer {
        let mut peer = Peer::connect_as(self.daemon.port(Transport::Tcp), id, "device", PASSWORD).unwrap();
        peer.subscribe(filter, Qos::ExactlyOnce).unwrap();
        peer
    }

    /// The latest entry of the audit log.
    pub(crate) fn last_change(&self) -> Value {
        self.socket.get("/api/v1/audit?limit=1").json()["rows"][0].clone()
    }
}

/// A time that was written in this test: it is checked and taken out, for what is compared must not depend on it.
pub(crate) fn take_text(value: &mut Value, field: &str) -> String {
    let taken = value[field].take();
    taken
        .as_str()
        .unwrap_or_else(|| panic!("{field}: {taken}"))
        .to_owned()
}

/// What EMQ says where nothing is there.
pub(crate) fn is_empty_404(answer: &HttpAnswer) -> bool {
    answer.status == 404 && answer.body.is_empty()
}
