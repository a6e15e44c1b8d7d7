//! Answers that carry frames: `xhr` and `jsonp` one, the others as many as fit in an answer.

use crate::frame::{Frame, script_string};
use crate::http::{HTML, SCRIPT, Server, not_cached, with_type};
use crate::live::Receiving;
use crate::refusal::Refused;
use crate::route::{CallbackError, Transport, callback};
use crate::session::Ended;
use axum::body::Body;
use axum::http::request::Parts;
use axum::response::Response;
use bytes::Bytes;
use futures_util::Stream;
use std::convert::Infallible;
use std::fmt::Write;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

const EVENT_STREAM: &str = "text/event-stream";
/// Browsers show nothing of an answer before they have so much of it.
const PRELUDE: usize = 2048;
const HTML_PRELUDE: usize = 1024;

/// Frames as a transport carries them.
enum Encoding {
    Xhr,
    EventSource,
    HtmlFile { callback: String },
    Jsonp { callback: String },
}

impl Encoding {
    fn of(transport: Transport, query: Option<&str>) -> Result<Self, CallbackError> {
        Ok(match transport {
            Transport::EventSource => Self::EventSource,
            Transport::HtmlFile => Self::HtmlFile {
                callback: callback(query)?,
            },
            Transport::Jsonp => Self::Jsonp {
                callback: callback(query)?,
            },
            _ => Self::Xhr,
        })
    }

    fn content_type(&self) -> &'static str {
        match self {
            Self::Xhr | Self::Jsonp { .. } => SCRIPT,
            Self::EventSource => EVENT_STREAM,
            Self::HtmlFile { .. } => HTML,
        }
    }

    /// What a streaming answer begins with.
    fn prelude(&self) -> String {
        match self {
            Self::Xhr => "h".repeat(PRELUDE) + "\n",
            Self::EventSource => "\r\n".to_owned(),
            Self::HtmlFile { callback } => html_prelude(callback),
            Self::Jsonp { .. } => String::new(),
        }
    }

    fn frame(&self, frame: &Frame) -> Bytes {
        let mut text = frame.text();
        match self {
            Self::Xhr => text.push('\n'),
            Self::EventSource => text = format!("data: {text}\r\n\r\n"),
            Self::HtmlFile { .. } => text = format!("<script>\np({});\n</script>\r\n", script_string(&text)),
            // The comment keeps the callback's name from being the first bytes of a file of another kind.
            Self::Jsonp { callback } => text = format!("/**/{callback}({});\r\n", script_string(&text)),
        }
        text.into()
    }
}

/// sockjs-protocol, `HtmlFile`.
fn html_prelude(callback: &str) -> String {
    let mut page = format!(
        r#"<!doctype html>
<html><head>
  <meta http-equiv="X-UA-Compatible" content="IE=edge" />
  <meta http-equiv="Content-Type" content="text/html; charset=UTF-8" />
</head><body><h2>Don't panic!</h2>
  <script>
    document.domain = document.domain;
    var c = parent.{callback};
    c.start();
    function p(d) {{c.message(d);}};
    window.onload = function() {{c.stop();}};
  </script>"#
    );
    let padding = HTML_PRELUDE.saturating_sub(page.len());
    write!(page, "{:padding$}\r\n\r\n", "").expect("memory takes every write");
    page
}

/// A request for the frames of a session, which it opens if there is none.
pub(crate) async fn receive(
    server: &Arc<Server>,
    session: &str,
    transport: Transport,
    parts: Parts,
) -> Response {
    let encoding = match Encoding::of(transport, parts.uri.query()) {
        Ok(encoding) => encoding,
        Err(CallbackError::Missing) => return server.refuse(Refused::NO_CALLBACK),
        Err(CallbackError::Invalid) => return server.refuse(Refused::CALLBACK),
    };
    let attached = match server.attach(session, transport, parts) {
        Ok(attached) => attached,
        Err(refused) => return server.refuse(refused),
    };
    let content_type = encoding.content_type();
    let body = match transport {
        Transport::Xhr | Transport::Jsonp => Body::from(encoding.frame(&one_frame(attached).await)),
        _ => Body::from_stream(Answer::new(
            encoding,
            attached,
            server.settings.response_limit_bytes,
        )),
    };
    let mut response = with_type(content_type, body);
    not_cached(&mut response);
    response
}

async fn one_frame(attached: Result<Receiving, Frame>) -> Frame {
    let receiving = match attached {
        Ok(receiving) => receiving,
        Err(frame) => return frame,
    };
    let frame = receiving.next().await;
    receiving.finish();
    frame.unwrap_or(Frame::Close(Ended::GO_AWAY))
}

/// A streaming answer. It ends after the close frame, or when enough was sent.
struct Answer {
    encoding: Encoding,
    prelude: Option<Bytes>,
    /// `None`: nothing more comes.
    source: Option<Source>,
    /// Until it ends, in bytes.
    left: usize,
}

enum Source {
    Session(Receiving),
    /// One frame only.
    Last(Frame),
}

impl Answer {
    fn new(encoding: Encoding, attached: Result<Receiving, Frame>, limit: usize) -> Self {
        let source = match attached {
            Ok(receiving) => Source::Session(receiving),
            Err(frame) => Source::Last(frame),
        };
        Self {
            prelude: Some(encoding.prelude().into()),
            encoding,
            source: Some(source),
            left: limit,
        }
    }
}

impl Stream for Answer {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(prelude) = self.prelude.take() {
            return Poll::Ready(Some(Ok(prelude)));
        }
        let frame = match &self.source {
            Some(Source::Session(receiving)) => ready!(receiving.poll_next(cx)),
            Some(Source::Last(frame)) => Some(frame.clone()),
            None => None,
        };
        let bytes = frame.as_ref().map(|frame| self.encoding.frame(frame));
        self.left = self.left.saturating_sub(bytes.as_ref().map_or(0, Bytes::len));
        let is_last = matches!(frame, None | Some(Frame::Close(_))) || self.left == 0;
        if is_last && let Some(Source::Session(receiving)) = self.source.take() {
            receiving.finish();
        }
        Poll::Ready(bytes.map(Ok))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prelude_of_htmlfile_is_long_enough() {
        assert!(html_prelude("c").len() > HTML_PRELUDE);
    }
}
