//! Real rules, and who is let in by them.

use headgate_access::{AccessService, ConnectionInfo, PeerAddr};
use headgate_auth::{Access, AclAction, AclEffect, AclRule, Anonymous, AuthSettings};
use headgate_model::access::Credentials;
use headgate_model::bus::Presence;
use headgate_model::{Answer, Identity, Question};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

/// Where all clients come from, on both benches.
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

pub(crate) fn allow(topics: &[&str]) -> AclRule {
    AclRule {
        effect: AclEffect::Allow,
        action: AclAction::All,
        user: None,
        client: None,
        address: None,
        topics: Some(topics.iter().map(|topic| (*topic).to_owned()).collect()),
        qos: None,
        retain: None,
        refuse_with: Default::default(),
    }
}

pub(crate) fn deny(topics: &[&str]) -> AclRule {
    let effect = AclEffect::Deny;
    AclRule {
        effect,
        ..allow(topics)
    }
}

/// Only about one action.
pub(crate) fn only(action: AclAction, rule: AclRule) -> AclRule {
    AclRule { action, ..rule }
}

/// The rules of the table.
pub(crate) fn of_the_table() -> Vec<AclRule> {
    vec![
        deny(&["deny/#", "+/secret/#", "eq open/eq", "m/deny/#", "no"]),
        only(AclAction::Subscribe, deny(&["unread/#"])),
        only(AclAction::Publish, deny(&["unwritten/#"])),
        allow(&["#"]),
    ]
}

/// Who lets clients in, by these rules. `plant` and `watcher` may do all.
#[derive(Clone)]
pub(crate) struct Door {
    access: Arc<Access>,
    settings: Arc<Mutex<AuthSettings>>,
}

impl Door {
    pub(crate) fn with(acl: Vec<AclRule>) -> Self {
        Self::of(settings(acl))
    }

    /// With all that the settings say.
    pub(crate) fn of(settings: AuthSettings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let access = Access::load(&settings, folder.path()).unwrap();
        Self {
            access: Arc::new(access),
            settings: Arc::new(Mutex::new(settings)),
        }
    }

    /// Other rules. The bus is told by the bench.
    pub(crate) fn set(&self, acl: Vec<AclRule>) {
        let settings = settings(acl);
        self.access.set(&settings).unwrap();
        *self.settings.lock().unwrap() = settings;
    }

    /// Whoever gives a user name is that user: passwords are not what is tested here.
    pub(crate) fn answer(&self, question: &Question) -> Answer {
        let (Question::Authenticate(shown) | Question::Reauthenticate(shown)) = question else {
            unreachable!("rules decide at once")
        };
        let anonymous = Credentials {
            username: None,
            password: None,
            method: None,
            data: None,
            ..(**shown).clone()
        };
        let info = ConnectionInfo::new("matrix".into(), PeerAddr::Ip(SocketAddr::new(PEER, 50_000)));
        let session = self.access.session(&info);
        let mut answer = session.answer(Question::Authenticate(Box::new(anonymous)));
        let Poll::Ready((_, Answer::Allowed { mut identity, data })) =
            answer.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        else {
            panic!("everybody is let in at once")
        };
        if shown.username.is_some() {
            // The same rules, asked for anew, for this user.
            self.access.set(&self.settings.lock().unwrap()).unwrap();
            let who = Presence {
                username: shown.username.clone(),
                peer: PEER.into(),
                ..Presence::default()
            };
            let of_user = identity.policy.renewed(&shown.client_id, &who);
            identity = Identity {
                username: who.username,
                policy: of_user.expect("they are others"),
            };
        }
        Answer::Allowed { identity, data }
    }
}

/// With these rules for all but `plant` and `watcher`.
pub(crate) fn settings(acl: Vec<AclRule>) -> AuthSettings {
    let free = ["plant", "watcher"].map(|client| AclRule {
        client: Some(client.into()),
        topics: None,
        ..allow(&[])
    });
    AuthSettings {
        anonymous: Anonymous::Everywhere,
        acl: free.into_iter().chain(acl).collect(),
        ..AuthSettings::default()
    }
}
