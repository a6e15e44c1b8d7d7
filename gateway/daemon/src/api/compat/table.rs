//! The table of what one API can be asked. Each entry has a method, a path, the least role and, if it changes something, what that is in words.

use super::told;
use crate::api::guard::{self, Asking, Difference};
use crate::api::server::{Control, Failure};
use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::header::{CACHE_CONTROL, HeaderMap, HeaderValue};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any};
use headgate_access::ConnectionInfo;
use headgate_admin::{Identity, Role};
use headgate_shell::Caller;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// How one API says what stands before its answers.
pub(super) trait Dialect: Send + Sync + 'static {
    /// Whether an unknown path or method is told before who asks is asked for.
    const PATHS_FIRST: bool;

    /// Who asks.
    fn identify(
        control: &Control,
        headers: &HeaderMap,
        info: Option<&ConnectionInfo>,
    ) -> impl Future<Output = Result<Asking, Turned>> + Send;

    /// Why somebody is turned away.
    fn turned(why: &Turned) -> Response;
}

/// Why somebody is turned away before his question is looked at.
#[derive(Debug)]
pub(super) enum Turned {
    /// He shows nothing, or what is wrong.
    Unknown(Stranger),
    /// He has to wait, or the gateway cannot look.
    Later(StatusCode, String),
    /// A browser asks for a page of another server.
    ForeignPage,
    /// There is nothing of this path.
    NoPath,
    /// There is, but by these methods.
    NoMethod(String),
    /// It is for others.
    Role(Identity, Role),
    /// The body is too large, or did not come.
    Body(StatusCode),
}

/// What a stranger shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stranger {
    /// Nothing that is understood.
    Nothing,
    /// A name and a password, or an API key, that are wrong.
    Basic,
    /// A token that nobody has.
    Bearer,
}

impl From<Failure> for Turned {
    fn from(Failure(status, why): Failure) -> Self {
        match status {
            StatusCode::UNAUTHORIZED => Self::Unknown(Stranger::Basic),
            _ => Self::Later(status, why),
        }
    }
}

/// A question.
pub(super) struct Call {
    pub control: Control,
    /// `None` where everybody may ask.
    pub asking: Option<Asking>,
    pub info: Option<Arc<ConnectionInfo>>,
    /// What stands in the path for the names in braces.
    pub path: Vec<String>,
    pub query: Pairs,
    pub body: Bytes,
}

/// Names and values of a query or a form; what is no text is not among them.
#[derive(Default)]
pub(super) struct Pairs(Vec<(String, String)>);

impl Pairs {
    pub(super) fn of(text: &[u8]) -> Self {
        let pairs = told::pairs(text).into_iter();
        let text = |(name, value)| Some((String::from_utf8(name).ok()?, String::from_utf8(value).ok()?));
        Self(pairs.filter_map(text).collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let mut named = self.0.iter().filter(|(known, _)| known == name);
        named.next().map(|(_, value)| value.as_str())
    }

    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let named = self.0.iter().filter(move |(known, _)| known == name);
        named.map(|(_, value)| value.as_str())
    }

    pub(super) fn has_any(&self, names: &[&str]) -> bool {
        self.0.iter().any(|(known, _)| names.contains(&known.as_str()))
    }
}

impl Call {
    /// Who asks; for entries that are not open.
    pub(super) fn asking(&self) -> &Asking {
        self.asking
            .as_ref()
            .expect("what is not open has been asked by somebody")
    }
}

/// In an answer whose status does not say so: what was asked was not done.
#[derive(Clone, Copy)]
pub(super) struct Undone;

type Answering = Pin<Box<dyn Future<Output = Response> + Send>>;

struct Entry {
    method: Method,
    path: &'static str,
    /// `None`: everybody may ask.
    role: Option<Role>,
    action: Option<&'static str>,
    answer: Box<dyn Fn(Call) -> Answering + Send + Sync>,
}

impl Entry {
    /// Which clients and topics are meant stands in the body alone; no password does.
    fn tells_all_in_its_body(&self) -> bool {
        self.path.contains("subscribe") || self.path.contains("kickout")
    }
}

/// The beginning of a body, for the audit log.
fn excerpt(body: &[u8]) -> serde_json::Value {
    const MOST: usize = 2_048;
    String::from_utf8_lossy(&body[..body.len().min(MOST)]).into()
}

/// All that one API can be asked.
pub(super) struct Table<D> {
    prefix: &'static str,
    entries: Vec<Entry>,
    dialect: std::marker::PhantomData<D>,
}

impl<D: Dialect> Table<D> {
    /// Nothing yet.
    pub(super) fn below(prefix: &'static str) -> Self {
        Self {
            prefix,
            entries: Vec::new(),
            dialect: std::marker::PhantomData,
        }
    }

    /// What a viewer may ask.
    pub(super) fn get<F>(self, path: &'static str, answer: fn(Call) -> F) -> Self
    where
        F: Future<Output: IntoResponse> + Send + 'static,
    {
        self.entry(Method::GET, Some(Role::Viewer), None, path, answer)
    }

    /// What changes nothing that lasts.
    pub(super) fn ask<F>(self, method: Method, role: Role, path: &'static str, answer: fn(Call) -> F) -> Self
    where
        F: Future<Output: IntoResponse> + Send + 'static,
    {
        self.entry(method, Some(role), None, path, answer)
    }

    /// What changes something.
    pub(super) fn change<F>(
        self,
        method: Method,
        role: Role,
        path: &'static str,
        action: &'static str,
        answer: fn(Call) -> F,
    ) -> Self
    where
        F: Future<Output: IntoResponse> + Send + 'static,
    {
        self.entry(method, Some(role), Some(action), path, answer)
    }

    /// What everybody may ask.
    pub(super) fn open<F>(self, method: Method, path: &'static str, answer: fn(Call) -> F) -> Self
    where
        F: Future<Output: IntoResponse> + Send + 'static,
    {
        self.entry(method, None, None, path, answer)
    }

    fn entry<F>(
        mut self,
        method: Method,
        role: Option<Role>,
        action: Option<&'static str>,
        path: &'static str,
        answer: fn(Call) -> F,
    ) -> Self
    where
        F: Future<Output: IntoResponse> + Send + 'static,
    {
        let answer = move |call| -> Answering {
            let answer = answer(call);
            Box::pin(async move { answer.await.into_response() })
        };
        self.entries.push(Entry {
            method,
            path,
            role,
            action,
            answer: Box::new(answer),
        });
        self
    }

    /// The service below the prefix.
    pub(super) fn route(self, control: &Control) -> MethodRouter {
        let (table, control) = (Arc::new(self), control.clone());
        any(move |request: Request| {
            let (table, control) = (Arc::clone(&table), control.clone());
            async move {
                let answered = table.answer(control, request).await;
                let mut response = answered.unwrap_or_else(|turned| D::turned(&turned));
                let no_store = HeaderValue::from_static("no-store");
                response.headers_mut().entry(CACHE_CONTROL).or_insert(no_store);
                response
            }
        })
    }

    async fn answer(&self, control: Control, request: Request) -> Result<Response, Turned> {
        let info = request.extensions().get::<Arc<ConnectionInfo>>().cloned();
        let found = self.find(request.method(), request.uri());
        let found = if D::PATHS_FIRST { Ok(found?) } else { found };
        let is_open = matches!(&found, Ok((entry, _)) if entry.role.is_none());
        let headers = request.headers().clone();
        let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
        if changes && guard::is_foreign_page(&headers) {
            return Err(Turned::ForeignPage);
        }
        let asking = match is_open {
            true => None,
            false => Some(D::identify(&control, &headers, info.as_deref()).await?),
        };
        if asking.is_some()
            && let Some(caller) = request.extensions().get::<Caller>()
        {
            caller.is_known();
        }
        let (entry, path) = found?;
        let asked = format!("{} {}", entry.method, guard::shown(request.uri()));
        let call = Call {
            query: Pairs::of(request.uri().query().unwrap_or_default().as_bytes()),
            control: control.clone(),
            asking: asking.clone(),
            info,
            path,
            body: Bytes::new(),
        };
        if let Some((asking, role)) = asking.as_ref().zip(entry.role)
            && asking.who.role < role
        {
            guard::tell_refused(asking, request.uri());
            return Err(Turned::Role(asking.who.clone(), role));
        }
        let body = Bytes::from_request(request, &()).await;
        let body = body.map_err(|error| Turned::Body(error.status()))?;
        let told = entry.tells_all_in_its_body().then(|| excerpt(&body));
        let answer = (entry.answer)(Call { body, ..call });
        let Some((action, asking)) = entry.action.zip(asking) else {
            return Ok(answer.await);
        };
        control
            .pace
            .check(&asking)
            .map_err(|Failure(status, what)| Turned::Later(status, what))?;
        // It goes on, and is written down, although whoever asked has gone.
        let done = tokio::spawn(async move {
            let change = guard::Change::begin(&control, &asking, asked, action);
            let response = answer.await;
            let status = match response.extensions().get::<Undone>() {
                Some(Undone) => StatusCode::BAD_REQUEST,
                None => response.status(),
            };
            let difference = response.extensions().get::<Difference>().cloned();
            let difference = difference.or(told.map(|told| Difference {
                before: None,
                after: Some(told),
            }));
            change.end(status, difference);
            response
        });
        let failed = |error: tokio::task::JoinError| {
            Turned::Later(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
        };
        done.await.map_err(failed)
    }

    /// The first entry of this path, with what stands there for its names.
    fn find(&self, method: &Method, uri: &Uri) -> Result<(&Entry, Vec<String>), Turned> {
        let path = uri.path().strip_prefix(self.prefix).ok_or(Turned::NoPath)?;
        // HTTP: who answers GET answers HEAD. RFC 9110 §9.3.2
        let method = if *method == Method::HEAD {
            &Method::GET
        } else {
            method
        };
        let mut fitting = self
            .entries
            .iter()
            .filter_map(|entry| Some((entry, fitting(entry.path, path)?)))
            .peekable();
        fitting.peek().ok_or(Turned::NoPath)?;
        let mut others = Vec::new();
        for (entry, names) in fitting {
            if entry.method == *method {
                return Ok((entry, names));
            }
            others.push(entry.method.as_str());
        }
        others.sort_unstable();
        others.dedup();
        Err(Turned::NoMethod(others.join(", ")))
    }
}

/// What stands in a path for the names of a pattern: `clients/{client}` has one, `routes/{topic...}` takes all that follows. `None` if it does not fit.
fn fitting(pattern: &str, path: &str) -> Option<Vec<String>> {
    let path = path.trim_matches('/');
    let mut parts = path.split('/');
    let mut names = Vec::new();
    for wanted in pattern.split('/') {
        if wanted.ends_with("...}") {
            let rest: Vec<&str> = parts.by_ref().collect();
            let rest = told::decoded(&rest.join("/"))?;
            names.push(rest);
            return names.last().is_some_and(|rest| !rest.is_empty()).then_some(names);
        }
        let part = parts.next()?;
        if wanted.starts_with('{') {
            names.push(told::decoded(part).filter(|name| !name.is_empty())?);
        } else if part != wanted {
            return None;
        }
    }
    parts.next().is_none().then_some(names)
}

#[cfg(test)]
mod tests {
    use super::fitting;

    #[test]
    fn names_in_braces_stand_for_one_level_and_are_decoded() {
        let fits = |pattern, path| fitting(pattern, path);
        assert_eq!(
            fits("clients/{client}", "/clients/a%2Fb"),
            Some(vec!["a/b".into()])
        );
        assert_eq!(fits("clients/{client}", "/clients/a/"), Some(vec!["a".into()]));
        assert_eq!(fits("clients/{client}", "/clients/a/b"), None);
        assert_eq!(fits("clients/{client}", "/clients/"), None);
        assert_eq!(fits("clients/{client}", "/clients/%FF"), None);
        assert_eq!(
            fits("routes/{topic...}", "/routes/a/%2B/c"),
            Some(vec!["a/+/c".into()])
        );
        assert_eq!(fits("users", "/users"), Some(Vec::new()));
    }
}
