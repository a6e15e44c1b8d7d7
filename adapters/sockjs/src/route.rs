//! What a request's target asks for: the path below the base, and the callback in its query. Pure.

use crate::settings::SockJsSettings;
use axum::http::Method;
use percent_encoding::percent_decode_str;
use std::borrow::Cow;
use std::fmt;

/// A session id longer than this has no URL.
const MAX_SESSION_ID: usize = 256;
/// A callback longer than this is invalid.
const MAX_CALLBACK: usize = 256;

/// What carries a session. The names are those of the URLs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// WebSocket with SockJS frames.
    WebSocket,
    /// WebSocket without SockJS frames.
    RawWebSocket,
    /// `xhr`: an answer carries one frame.
    Xhr,
    /// `xhr_streaming`
    XhrStreaming,
    /// `eventsource`
    EventSource,
    /// `htmlfile`
    HtmlFile,
    /// `jsonp`: an answer carries one frame.
    Jsonp,
}

impl Transport {
    /// As in the URL; `raw_websocket` for the raw one.
    pub fn name(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::RawWebSocket => "raw_websocket",
            Self::Xhr => "xhr",
            Self::XhrStreaming => "xhr_streaming",
            Self::EventSource => "eventsource",
            Self::HtmlFile => "htmlfile",
            Self::Jsonp => "jsonp",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A URL below the base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route<'a> {
    Greeting,
    Info,
    Iframe,
    /// The SockJS client, for the iframe page.
    Client,
    RawWebSocket,
    WebSocket,
    /// The frames of this session are asked for.
    Receive(&'a str, Transport),
    /// `xhr_send`: messages for this session.
    XhrSend(&'a str),
    /// `jsonp_send`: messages for this session.
    JsonpSend(&'a str),
}

impl<'a> Route<'a> {
    /// `None`: there is no such URL. `path` is as it was sent, without the base.
    pub(crate) fn parse(path: &'a str) -> Option<Self> {
        let path = match path.strip_prefix('/') {
            Some(path) => path,
            None if path.is_empty() => path,
            None => return None,
        };
        match path {
            "" => return Some(Self::Greeting),
            SockJsSettings::OWN_CLIENT => return Some(Self::Client),
            "info" => return Some(Self::Info),
            "websocket" => return Some(Self::RawWebSocket),
            _ if is_iframe(path) => return Some(Self::Iframe),
            _ => {}
        }
        let mut parts = path.split('/');
        let (server, session, name) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || !is_identifier(server) || !is_identifier(session) {
            return None;
        }
        Some(match name {
            "websocket" => Self::WebSocket,
            "xhr" => Self::Receive(session, Transport::Xhr),
            "xhr_streaming" => Self::Receive(session, Transport::XhrStreaming),
            "eventsource" => Self::Receive(session, Transport::EventSource),
            "htmlfile" => Self::Receive(session, Transport::HtmlFile),
            "jsonp" => Self::Receive(session, Transport::Jsonp),
            "xhr_send" => Self::XhrSend(session),
            "jsonp_send" => Self::JsonpSend(session),
            _ => return None,
        })
    }

    /// The methods of the URL, as `Allow` tells them.
    pub(crate) fn allow(self) -> &'static str {
        match self {
            Self::Greeting | Self::Iframe | Self::Client => "GET, HEAD",
            Self::Info => "OPTIONS, GET, HEAD",
            Self::WebSocket | Self::RawWebSocket => "GET",
            Self::Receive(_, Transport::Xhr | Transport::XhrStreaming) | Self::XhrSend(_) => "OPTIONS, POST",
            Self::Receive(..) => "GET",
            Self::JsonpSend(_) => "POST",
        }
    }

    pub(crate) fn allows(self, method: &Method) -> bool {
        self.allow().split(", ").any(|allowed| allowed == method.as_str())
    }

    /// Whether scripts of other sites may read the answer (CORS).
    pub(crate) fn is_shared(self) -> bool {
        matches!(
            self,
            Self::Info
                | Self::XhrSend(_)
                | Self::Receive(
                    _,
                    Transport::Xhr | Transport::XhrStreaming | Transport::EventSource
                )
        )
    }

    /// Whether load balancers get their cookie with the answer.
    pub(crate) fn has_cookie(self) -> bool {
        matches!(self, Self::Receive(..) | Self::XhrSend(_) | Self::JsonpSend(_))
    }
}

/// `iframe.html` or `iframe-anything.html`
fn is_iframe(name: &str) -> bool {
    let version = name
        .strip_prefix("iframe")
        .and_then(|rest| rest.strip_suffix(".html"));
    version.is_some_and(|version| version.is_empty() || version.starts_with('-') && !version.contains('/'))
}

/// Any text, but not an empty one and none with a dot.
fn is_identifier(part: &str) -> bool {
    !part.is_empty() && part.len() <= MAX_SESSION_ID && !part.contains('.')
}

/// Why there is no callback to call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallbackError {
    Missing,
    Invalid,
}

/// The parameter `c`, or `callback`. It is put into a script, so only letters, digits, `-`, `_` and `.` are let in.
pub(crate) fn callback(query: Option<&str>) -> Result<String, CallbackError> {
    let query = query.unwrap_or_default();
    let value = parameter(query, "c").or_else(|| parameter(query, "callback"));
    let value = value
        .filter(|value| !value.is_empty())
        .ok_or(CallbackError::Missing)?;
    let name = percent_decode_str(value)
        .decode_utf8()
        .map_err(|_| CallbackError::Invalid)?;
    let is_valid = name.len() <= MAX_CALLBACK
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if is_valid {
        Ok(name.into_owned())
    } else {
        Err(CallbackError::Invalid)
    }
}

/// The first value of `name` in `application/x-www-form-urlencoded`, still encoded.
fn parameter<'a>(form: &'a str, name: &str) -> Option<&'a str> {
    form.split('&')
        .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

/// The first value of `name` in a form; `None` if there is none. `Err`: it is not UTF-8.
pub(crate) fn form_value(form: &str, name: &str) -> Option<Result<String, std::str::Utf8Error>> {
    let value = parameter(form, name)?;
    let spaced = if value.contains('+') {
        Cow::Owned(value.replace('+', " "))
    } else {
        Cow::Borrowed(value)
    };
    Some(percent_decode_str(&spaced).decode_utf8().map(Cow::into_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// sockjs-protocol, `SessionURLs`.
    #[test]
    fn server_and_session_are_any_text_without_a_dot() {
        let xhr = |session| Some(Route::Receive(session, Transport::Xhr));
        assert_eq!(Route::parse("/000/abc/xhr"), xhr("abc"));
        assert_eq!(
            Route::parse("/abcdefgh_i-j%20/abcdefg_i-j%20/xhr"),
            xhr("abcdefg_i-j%20")
        );
        for path in ["//", "/a./a", "/a/a.", "/./.", "/", "///"] {
            assert_eq!(Route::parse(&format!("{path}/xhr")), None, "{path}");
        }
        let long = "x".repeat(MAX_SESSION_ID + 1);
        assert_eq!(Route::parse(&format!("/000/{long}/xhr")), None);
    }

    /// sockjs-protocol, `BaseUrlGreeting` and `IframePage`.
    #[test]
    fn other_spellings_are_other_urls() {
        assert_eq!(Route::parse(""), Some(Route::Greeting));
        assert_eq!(Route::parse("/"), Some(Route::Greeting));
        for path in ["/a", "/a.html", "//", "///", "/a/a", "/a/a/", "/a/", "x"] {
            assert_eq!(Route::parse(path), None, "{path}");
        }
        for path in [
            "/iframe.html",
            "/iframe-a.html",
            "/iframe-.html",
            "/iframe-0.1.2abc-dirty.2144.html",
        ] {
            assert_eq!(Route::parse(path), Some(Route::Iframe), "{path}");
        }
        for path in [
            "/iframe.htm",
            "/iframe",
            "/IFRAME.HTML",
            "/iframe.HTML",
            "/iframe.xml",
            "/iframe-/.html",
            "/iframex.html",
        ] {
            assert_eq!(Route::parse(path), None, "{path}");
        }
    }

    /// sockjs-protocol, `test_no_callback` and `test_invalid_callback`.
    #[test]
    fn a_callback_has_letters_digits_and_three_signs() {
        assert_eq!(callback(Some("c=%63allback")), Ok("callback".into()));
        assert_eq!(callback(Some("t=1&c=a.b-c_9")), Ok("a.b-c_9".into()));
        for query in [None, Some(""), Some("c="), Some("cc=x")] {
            assert_eq!(callback(query), Err(CallbackError::Missing), "{query:?}");
        }
        for value in ["%20", "*", "abc(", "abc%28", "%ff", "%0d%0a"] {
            assert_eq!(
                callback(Some(&format!("c={value}"))),
                Err(CallbackError::Invalid),
                "{value}"
            );
        }
    }

    #[test]
    fn a_form_is_decoded_strictly() {
        assert_eq!(
            form_value("p=1&d=%5B%22a+b%22%5D", "d"),
            Some(Ok("[\"a b\"]".into()))
        );
        assert_eq!(form_value("p=p", "d"), None);
        assert!(form_value("d=%ff", "d").unwrap().is_err());
    }
}
