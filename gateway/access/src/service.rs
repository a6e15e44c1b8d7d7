//! The seam to whoever knows users and rules.

use crate::peer::ConnectionInfo;
use crate::shared_key::SharedKey;
use headgate_model::access::{AuthRefusal, DenyCode};
use headgate_model::{AccessDecision, Answer, Question};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;
use tokio::time::timeout;

/// Knows who may connect and what they may do.
pub trait AccessService: Send + Sync + fmt::Debug {
    /// One connection's conversation with the service.
    fn session(&self, info: &ConnectionInfo) -> Box<dyn AccessSession>;

    /// The key that clients of this identity share with the gateway at a listener. RFC 4279. Default: there is none.
    fn shared_key(&self, _listener: &str, _identity: &str) -> Finding {
        Box::pin(std::future::ready(None))
    }
}

/// A key that is being looked for.
pub type Finding = Pin<Box<dyn Future<Output = Option<SharedKey>> + Send>>;

/// The answer to a question, and the conversation handed back.
pub type Answering = Pin<Box<dyn Future<Output = (Box<dyn AccessSession>, Answer)> + Send>>;

/// The conversation of one connection: it remembers, for instance, how far enhanced authentication has come.
pub trait AccessSession: Send {
    /// Answers one question; the next one is asked after that.
    fn answer(self: Box<Self>, question: Question) -> Answering;
}

/// How long an answer may take. Who asks waits so long at the most, and is refused then.
pub const ANSWER_IN: Duration = Duration::from_secs(15);

/// Asks a question, and sees to it that there is an answer in [`ANSWER_IN`]. A conversation whose answer did not come in time is over: whatever it is asked
/// then is refused.
pub fn ask(session: Box<dyn AccessSession>, question: Question) -> Answering {
    let refusal = refusal_of(&question);
    let answering = session.answer(question);
    Box::pin(async move {
        if let Ok(answered) = timeout(ANSWER_IN, answering).await {
            return answered;
        }
        tracing::warn!(after = ?ANSWER_IN, "no answer from the access service in time: refused");
        (Box::new(Over) as Box<dyn AccessSession>, refusal)
    })
}

/// How a question is answered when nobody does.
fn refusal_of(question: &Question) -> Answer {
    match question {
        Question::Authenticate(_)
        | Question::Continue(_)
        | Question::Reauthenticate(_)
        | Question::Readmit(_) => Answer::Refused(AuthRefusal::Unavailable),
        Question::Identify => Answer::Identified(None),
        Question::Authorize(requests) => {
            Answer::Authorized(vec![AccessDecision::Deny(DenyCode::default()); requests.len()])
        }
    }
}

/// A conversation that is over.
struct Over;

impl AccessSession for Over {
    fn answer(self: Box<Self>, question: Question) -> Answering {
        let answer = refusal_of(&question);
        Box::pin(std::future::ready((self as Box<dyn AccessSession>, answer)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headgate_model::access::AccessQuery;
    use headgate_model::{AccessRequest, Qos};

    struct Hangs;

    impl AccessSession for Hangs {
        fn answer(self: Box<Self>, _: Question) -> Answering {
            Box::pin(std::future::pending())
        }
    }

    /// A provider that hangs refuses: nobody's connection waits for it for ever.
    #[tokio::test(start_paused = true)]
    async fn a_question_that_nobody_answers_is_refused() {
        let (session, answer) = ask(Box::new(Hangs), Question::Continue(None)).await;
        assert!(matches!(answer, Answer::Refused(AuthRefusal::Unavailable)));

        let queries = [
            AccessQuery::subscribe(b"a", Qos::AtMostOnce),
            AccessQuery::subscribe(b"b", Qos::AtMostOnce),
        ];
        let requests: Vec<_> = queries.map(AccessRequest::from).into();
        let (_, answer) = ask(session, Question::Authorize(requests)).await;
        let denied = AccessDecision::Deny(DenyCode::NotAuthorized);
        assert!(matches!(answer, Answer::Authorized(all) if all == [denied; 2]));
    }
}
