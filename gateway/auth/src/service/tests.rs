//! Log-ins by SCRAM, and what leads to a ban.

use super::*;
use crate::scram::tests::client_final;
use crate::users::Users;
use std::net::SocketAddr;
use std::task::{Context, Poll, Waker};

const HERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7)), 1_883);

fn access(bans: BanSettings) -> (tempfile::TempDir, Access) {
    let folder = tempfile::tempdir().unwrap();
    let settings = AuthSettings {
        anonymous: Anonymous::Nowhere,
        bans,
        ..AuthSettings::default()
    };
    let access = Access::load(&settings, folder.path()).unwrap();
    (folder, access)
}

/// A log-in without a name, which is let in nowhere.
fn knock(access: &Access, forgeable: bool) {
    let info = ConnectionInfo {
        forgeable,
        ..ConnectionInfo::new("a".into(), PeerAddr::Ip(HERE))
    };
    let credentials = Credentials {
        client_id: "c".into(),
        username: None,
        password: None,
        method: None,
        data: None,
        link: false,
    };
    let session = access.session(&info);
    let mut answering = session.answer(Question::Authenticate(Box::new(credentials)));
    let answer = answering.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(answer, Poll::Ready((_, Answer::Refused(_)))));
}

/// Anybody can send datagrams under another's address: they keep nobody out.
#[test]
fn a_forged_address_is_not_banned() {
    let (_folder, access) = access(BanSettings {
        failures: 3,
        ..BanSettings::default()
    });
    (0..100).for_each(|_| knock(&access, true));
    assert_eq!(access.bans(), []);
    (0..3).for_each(|_| knock(&access, false));
    assert_eq!(access.bans().len(), 1);
}

#[test]
fn a_client_id_counts_when_its_client_has_its_session() {
    let (_folder, access) = access(BanSettings {
        connects: 2,
        ..BanSettings::default()
    });
    (0..9).for_each(|_| knock(&access, false));
    assert_eq!(access.bans(), []);
    (0..3).for_each(|_| access.note_connected(&"c".into()));
    assert_eq!(access.bans()[0].who, Banned::Client("c".into()));
}

/// A gateway with a user `joe` of the password `secret`, and these settings.
fn with_joe(settings: &AuthSettings) -> (tempfile::TempDir, Access) {
    let folder = tempfile::tempdir().unwrap();
    put_joe(folder.path(), "secret");
    let access = Access::load(settings, folder.path()).unwrap();
    (folder, access)
}

fn put_joe(folder: &Path, password: &str) {
    let mut users = Users::default();
    users.set("joe", password).unwrap();
    users.save(&folder.join("users.json")).unwrap();
}

fn session(access: &Access) -> Box<dyn AccessSession> {
    access.session(&ConnectionInfo::new("a".into(), PeerAddr::Ip(HERE)))
}

/// What a client `c` sends that would be `joe`.
fn hello() -> Credentials {
    Credentials {
        client_id: "c".into(),
        username: None,
        password: None,
        method: Some(scram::METHOD.into()),
        data: Some(Bytes::from_static(b"n,,n=joe,r=abc")),
        link: false,
    }
}

/// The user name that it has when it is let in, or why not. `meanwhile` happens between challenge and proof.
async fn log_in(
    session: Box<dyn AccessSession>,
    hello: Credentials,
    meanwhile: impl FnOnce(),
) -> Result<Option<Arc<str>>, AuthRefusal> {
    let (session, answer) = session.answer(Question::Authenticate(Box::new(hello))).await;
    let challenge = match answer {
        Answer::Challenge(challenge) => challenge,
        Answer::Refused(why) => return Err(why),
        answer => panic!("{answer:?}"),
    };
    meanwhile();
    let proof = client_final("n=joe,r=abc", &challenge, "secret");
    let (_, answer) = session.answer(Question::Continue(Some(proof.into()))).await;
    match answer {
        Answer::Allowed { identity, .. } => Ok(identity.username),
        Answer::Refused(why) => Err(why),
        answer => panic!("{answer:?}"),
    }
}

fn settings(toml: &str) -> AuthSettings {
    toml::from_str(toml).unwrap()
}

/// RFC 5802 §3; the user name of CONNECT may be left out, and may be no other (MQTT 5 §4.12 leaves it open).
#[tokio::test]
async fn a_user_logs_in_by_scram() {
    let (_folder, access) = with_joe(&AuthSettings::default());
    for (username, expected) in [
        (None, Ok(Some("joe".into()))),
        (Some("joe"), Ok(Some("joe".into()))),
        (Some("ann"), Err(AuthRefusal::NotAuthorized)),
    ] {
        let hello = Credentials {
            username: username.map(Into::into),
            ..hello()
        };
        assert_eq!(
            log_in(session(&access), hello, || {}).await,
            expected,
            "{username:?}"
        );
    }
}

/// SCRAM is the users' part of the chain: who stands before them has a say first.
#[tokio::test]
async fn who_stands_before_the_users_is_asked_of_scram_too() {
    let joe = || Ok(Some("joe".into()));
    let no = || Err(AuthRefusal::NotAuthorized);
    let address = |entry| format!("addresses = [{{ network = \"10.0.0.0/8\", {entry} }}]\n");
    let client = |entry| format!("client_ids = [{{ id = \"c\"{entry} }}]\n");
    for (toml, expected) in [
        (address("effect = \"deny\""), no()),
        (address("effect = \"allow\""), joe()),
        (address("effect = \"allow\", user = \"joe\""), joe()),
        (address("effect = \"allow\", user = \"ann\""), no()),
        (
            client(", password = \"its own\""),
            Err(AuthRefusal::BadUserNameOrPassword),
        ),
        (client(""), joe()),
        (client(", user = \"ann\""), no()),
        (
            address("effect = \"deny\"") + "chain = [\"users\", \"addresses\"]",
            joe(),
        ),
        ("chain = [\"addresses\"]".to_owned(), Err(AuthRefusal::BadMethod)),
    ] {
        let (_folder, access) = with_joe(&settings(&toml));
        assert_eq!(log_in(session(&access), hello(), || {}).await, expected, "{toml}");
    }
    let (_folder, access) = with_joe(&settings(&client(", password = \"its own\"")));
    let hello = Credentials {
        password: Some(Bytes::from_static(b"its own")),
        ..hello()
    };
    assert_eq!(
        log_in(session(&access), hello, || {}).await,
        joe(),
        "with the client id's password"
    );
}

/// What holds when the proof comes decides, not what held when the connection was made or the challenge given.
#[tokio::test]
async fn a_log_in_is_by_the_settings_of_its_time() {
    let denied = settings("addresses = [{ network = \"10.0.0.0/8\", effect = \"deny\" }]");
    let of_ann = settings("listeners = [{ name = \"a\", users = [\"ann\"] }]");
    let no_users = settings("chain = [\"client_ids\"]");
    let (folder, access) = with_joe(&AuthSettings::default());
    let take = |settings: &AuthSettings| {
        access.set(settings).unwrap();
    };

    let opened_before = session(&access);
    take(&denied);
    let refused = Err(AuthRefusal::NotAuthorized);
    assert_eq!(log_in(opened_before, hello(), || {}).await, refused);

    let changes: [(&str, &dyn Fn()); 4] = [
        ("others are let in", &|| take(&of_ann)),
        ("no users", &|| take(&no_users)),
        ("another password", &|| {
            put_joe(folder.path(), "other");
            access.look_at_users();
        }),
        ("joe is gone", &|| {
            Users::default().save(&folder.path().join("users.json")).unwrap();
            access.look_at_users();
        }),
    ];
    for (what, change) in changes {
        put_joe(folder.path(), "secret");
        take(&AuthSettings::default());
        access.look_at_users();
        assert_eq!(log_in(session(&access), hello(), change).await, refused, "{what}");
    }
}

/// After a restart: who was let in would be let in again, unless it is banned, its user is gone, its address is refused, or it would be somebody else.
#[tokio::test]
async fn who_was_let_in_before_a_restart_is_let_in_again() {
    let (folder, access) = with_joe(&settings(
        r#"
            anonymous = "everywhere"
            chain = ["addresses", "client_ids", "users"]
            client_ids = [{ id = "pump", password = "p", user = "pumps" }, { id = "key", psk = "0011" }]
        "#,
    ));
    let ask = async |client: &str, username: Option<&str>, owner: Option<&str>| {
        let known = Readmission {
            client_id: client.into(),
            username: username.map(Into::into),
            owner: owner.map(Into::into),
        };
        let question = Question::Readmit(Box::new(known));
        match session(&access).answer(question).await.1 {
            Answer::Allowed { identity, .. } => Ok(identity.username),
            Answer::Refused(why) => Err(why),
            answer => panic!("{answer:?}"),
        }
    };
    let (joe, no) = (Some("joe"), Err(AuthRefusal::NotAuthorized));
    assert_eq!(ask("c", joe, joe).await, Ok(joe.map(Into::into)));
    assert_eq!(ask("c", None, None).await, Ok(None), "an anonymous one");
    assert_eq!(ask("pump", None, Some("pumps")).await, Ok(Some("pumps".into())));
    assert_eq!(ask("c", joe, None).await, no, "it would be joe now");
    assert_eq!(ask("pump", None, None).await, no);
    assert_eq!(
        ask("key", None, None).await,
        no,
        "its key is gone with its connection"
    );
    assert_eq!(
        ask("c", Some("ann"), Some("ann")).await,
        no,
        "there is no such user"
    );

    access
        .ban(Ban::by_operator(Banned::User("joe".into()), String::new(), None))
        .unwrap();
    assert_eq!(ask("c", joe, joe).await, Err(AuthRefusal::Banned));
    access.unban(&Banned::User("joe".into())).unwrap();
    Users::default().save(&folder.path().join("users.json")).unwrap();
    access.look_at_users();
    assert_eq!(ask("c", joe, joe).await, no, "its user is gone");
    let nobody = r#"
        anonymous = "everywhere"
        chain = ["addresses"]
        addresses = [{ network = "10.0.0.0/8", effect = "deny" }]
    "#;
    access.set(&settings(nobody)).unwrap();
    assert_eq!(ask("c", None, None).await, no, "its address is refused");
}
