//! Who may come in: providers that are asked one after the other, until one knows.

use headgate_access::{ClientCert, SharedKey};
use headgate_model::ClientId;
use headgate_model::access::AuthRefusal;
use std::borrow::Cow;
use std::fmt::Debug;
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::time::timeout;

/// A client that wants to come in, and what is known of it.
#[derive(Clone)]
pub struct Attempt {
    /// As it calls itself; empty while the gateway has yet to give it a name.
    pub client_id: ClientId,
    /// The user name, if it sent one.
    pub username: Option<Arc<str>>,
    /// The password, if it sent one.
    pub password: Option<bytes::Bytes>,
    /// Where it comes from; of what has no address, this machine's.
    pub address: IpAddr,
    /// Its certificate, verified.
    pub certificate: Option<Arc<ClientCert>>,
    /// The name of the key that it has proved to have.
    pub identity: Option<Arc<str>>,
    /// Whether it may come in here without a name.
    pub may_be_anonymous: bool,
}

/// A client that somebody asks about, and that does not want to come in now.
#[derive(Clone, Copy, Debug)]
pub struct Prospect<'a> {
    /// Its client id.
    pub client_id: &'a str,
    /// The user name that it would send.
    pub username: Option<&'a str>,
    /// Where it would come from.
    pub address: IpAddr,
    /// The listener verifies certificates.
    pub certificates: bool,
    /// The listener knows keys: shared ones of DTLS, or raw public keys.
    pub keys: bool,
}

/// What a provider says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may come in, and goes by this user name; `None` for none.
    Allow(Option<Arc<str>>),
    /// It may not.
    Deny {
        /// For the log.
        why: Cow<'static, str>,
        /// For the client.
        answer: AuthRefusal,
    },
    /// Not known here: the next one is asked.
    Ignore,
}

impl Verdict {
    /// It may not come in.
    pub fn deny(why: impl Into<Cow<'static, str>>, answer: AuthRefusal) -> Self {
        let why = why.into();
        Self::Deny { why, answer }
    }
}

/// A verdict on its way.
pub type Checking<'a> = Pin<Box<dyn Future<Output = Verdict> + Send + 'a>>;

/// Knows some clients: a list, a file, a directory somewhere in the network.
pub trait Provider: Send + Sync + Debug {
    /// As in `auth.chain`.
    fn name(&self) -> &'static str;

    /// What it says of this one.
    fn check<'a>(&'a self, attempt: &'a Attempt) -> Checking<'a>;

    /// What it would say of one that shows what it should: the right password, or a key or certificate of the name, where the listener takes those. For whoever asks why, and
    /// of clients that were let in before a restart: a provider that cannot tell denies.
    fn foresee(&self, asked: &Prospect<'_>) -> Verdict;

    /// The key that clients of this identity share with the gateway. RFC 4279. Default: it knows none.
    fn shared_key<'a>(&'a self, _identity: &'a str) -> Searching<'a> {
        Box::pin(std::future::ready(None))
    }
}

/// A key that is being looked for.
pub type Searching<'a> = Pin<Box<dyn Future<Output = Option<SharedKey>> + Send + 'a>>;

/// Providers in the order in which they are asked.
#[derive(Clone, Debug)]
pub struct Chain {
    providers: Vec<Arc<dyn Provider>>,
    answer_in: Duration,
}

impl Chain {
    /// Each has so long to answer: one that is silent refuses the one client that it was asked about.
    pub fn new(providers: Vec<Arc<dyn Provider>>, answer_in: Duration) -> Self {
        Self { providers, answer_in }
    }

    /// What the first says that knows the client; `Ignore` if none does.
    pub async fn check(&self, attempt: &Attempt) -> Verdict {
        for provider in &self.providers {
            let mut checking = provider.check(attempt);
            // Most know at once, and need no timer.
            let at_once = poll_fn(|cx| Poll::Ready(checking.as_mut().poll(cx))).await;
            let answer = match at_once {
                Poll::Ready(verdict) => Some(verdict),
                Poll::Pending => timeout(self.answer_in, checking).await.ok(),
            };
            match answer {
                Some(Verdict::Ignore) => {}
                Some(verdict) => return verdict,
                None => {
                    let why = format!("no answer from `{}` in {:?}", provider.name(), self.answer_in);
                    return Verdict::deny(why, AuthRefusal::Unavailable);
                }
            }
        }
        Verdict::Ignore
    }

    /// What the first would say that knows the client; `Ignore` if none does.
    pub fn foresee(&self, asked: &Prospect<'_>) -> Verdict {
        let mut verdicts = self.providers.iter().map(|provider| provider.foresee(asked));
        let known = verdicts.find(|verdict| *verdict != Verdict::Ignore);
        known.unwrap_or(Verdict::Ignore)
    }

    /// The key of an identity, from the first that knows one. Who is silent is passed over: without a key nobody comes in.
    pub async fn shared_key(&self, identity: &str) -> Option<SharedKey> {
        for provider in &self.providers {
            let found = timeout(self.answer_in, provider.shared_key(identity)).await;
            if let Ok(Some(key)) = found {
                return Some(key);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use tokio::time::Instant;

    /// Knows one user name, and answers after a while.
    #[derive(Debug)]
    struct Fake {
        knows: &'static str,
        after: Duration,
        says: Verdict,
    }

    impl Provider for Fake {
        fn name(&self) -> &'static str {
            "fake"
        }

        fn check<'a>(&'a self, attempt: &'a Attempt) -> Checking<'a> {
            Box::pin(async move {
                tokio::time::sleep(self.after).await;
                match attempt.username.as_deref() == Some(self.knows) {
                    true => self.says.clone(),
                    false => Verdict::Ignore,
                }
            })
        }

        fn foresee(&self, asked: &Prospect<'_>) -> Verdict {
            match asked.username == Some(self.knows) {
                true => self.says.clone(),
                false => Verdict::Ignore,
            }
        }
    }

    fn fake(knows: &'static str, after: u64, says: Verdict) -> Arc<dyn Provider> {
        let after = Duration::from_secs(after);
        Arc::new(Fake { knows, after, says })
    }

    fn attempt(name: &str) -> Attempt {
        Attempt {
            client_id: "c".into(),
            username: Some(name.into()),
            password: None,
            address: Ipv4Addr::LOCALHOST.into(),
            certificate: None,
            identity: None,
            may_be_anonymous: false,
        }
    }

    fn no() -> Verdict {
        Verdict::deny("no", AuthRefusal::NotAuthorized)
    }

    /// The first that knows a client decides, whatever those behind it would say.
    #[tokio::test(start_paused = true)]
    async fn the_first_that_knows_decides() {
        let as_joe = || Verdict::Allow(Some("joe".into()));
        let chain = Chain::new(
            vec![
                fake("ann", 0, no()),
                fake("joe", 0, as_joe()),
                fake("joe", 0, no()),
            ],
            Duration::from_secs(5),
        );
        assert_eq!(chain.check(&attempt("joe")).await, as_joe());
        assert_eq!(chain.check(&attempt("ann")).await, no());
        assert_eq!(chain.check(&attempt("tim")).await, Verdict::Ignore);
    }

    /// A dead provider refuses who had to be asked about there, after its time; who is known before it does not wait.
    #[tokio::test(start_paused = true)]
    async fn a_dead_provider_delays_nobody_else() {
        let chain = Arc::new(Chain::new(
            vec![
                fake("joe", 0, Verdict::Allow(None)),
                fake("ann", 1_000_000, Verdict::Allow(None)),
            ],
            Duration::from_secs(5),
        ));
        let begun = Instant::now();
        let waiting: Vec<_> = (0..1_000)
            .map(|_| {
                let chain = Arc::clone(&chain);
                tokio::spawn(async move { chain.check(&attempt("ann")).await })
            })
            .collect();
        assert_eq!(chain.check(&attempt("joe")).await, Verdict::Allow(None));
        assert_eq!(begun.elapsed(), Duration::ZERO);
        for waiting in waiting {
            let refused = waiting.await.unwrap();
            let unavailable = |verdict: &Verdict| {
                matches!(
                    verdict,
                    Verdict::Deny {
                        answer: AuthRefusal::Unavailable,
                        ..
                    }
                )
            };
            assert!(unavailable(&refused), "{refused:?}");
        }
        assert_eq!(begun.elapsed(), Duration::from_secs(5));
    }
}
