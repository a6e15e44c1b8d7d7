//! Answers that carry frames: `xhr` and `jsonp` one, the others as many as fit in an answer.

use crate::encode::{Encoder, Form};
use crate::frame::Frame;
use crate::http::{HTML, SCRIPT, Server, not_cached, with_type};
use crate::live::{Live, Receiving};
use crate::memory::Hold;
use crate::refusal::Refused;
use crate::route::{CallbackError, Transport, callback};
use crate::session::Ended;
use axum::body::Body;
use axum::http::request::Parts;
use axum::response::Response;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use std::convert::Infallible;
use std::fmt::Write;
use std::future::ready;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

const EVENT_STREAM: &str = "text/event-stream";
/// Browsers show nothing of an answer before they have so much of it.
const PRELUDE: usize = 2048;
const HTML_PRELUDE: usize = 1024;
/// Bytes of messages that are encoded at a time: some 0.1 ms of work, and 7 times as many bytes at most.
pub(crate) const PIECE: usize = 16 << 10;

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

    fn frame(&self, frame: Frame) -> Encoder {
        match self {
            Self::Xhr => Encoder::new(frame, Form::Json).between("", "\n"),
            Self::EventSource => Encoder::new(frame, Form::Json).between("data: ", "\r\n\r\n"),
            Self::HtmlFile { .. } => {
                Encoder::new(frame, Form::Script).between("<script>\np(", ");\n</script>\r\n")
            }
            // The comment keeps the callback's name from being the first bytes of a file of another kind.
            Self::Jsonp { callback } => {
                Encoder::new(frame, Form::Script).between(&format!("/**/{callback}("), ");\r\n")
            }
        }
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
        Transport::Xhr | Transport::Jsonp => one_frame(&encoding, attached).await,
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

/// One frame: in one piece with a length, if it is small.
async fn one_frame(encoding: &Encoding, attached: Result<Receiving, Frame>) -> Body {
    let mut pieces = match attached {
        Ok(receiving) => {
            let frame = receiving.next().await;
            let frame = frame.unwrap_or(Frame::Close(Ended::GO_AWAY));
            let pieces = Pieces::new(encoding.frame(frame), Some(receiving.live()));
            receiving.finish();
            pieces
        }
        Err(frame) => Pieces::new(encoding.frame(frame), None),
    };
    match pieces.next_piece() {
        Some(piece) if pieces.encoder.is_none() => Body::from(piece),
        Some(piece) => Body::from_stream(stream::once(ready(Ok(piece))).chain(pieces)),
        None => Body::empty(),
    }
}

/// A frame on its way out.
struct Pieces {
    /// `None`: all of it is out.
    encoder: Option<Encoder>,
    /// What is not encoded yet, and what is encoded and not taken; and whose it is.
    session: Option<(Arc<Live>, Hold)>,
    /// Others go first, after each piece.
    gave_way: bool,
}

impl Pieces {
    fn new(encoder: Encoder, live: Option<&Arc<Live>>) -> Self {
        Self {
            encoder: Some(encoder),
            session: live.map(|live| (Arc::clone(live), Hold::new(&live.meter))),
            gave_way: true,
        }
    }

    /// `None`: that was all, or the session has to go.
    fn next_piece(&mut self) -> Option<Bytes> {
        let encoder = self.encoder.as_mut()?;
        let mut piece = Vec::new();
        let is_last = encoder.encode(&mut piece, PIECE);
        if let Some((live, held)) = &mut self.session {
            held.set(encoder.held() + piece.capacity());
            if live.shed() {
                self.encoder = None;
                return None;
            }
        }
        if is_last {
            self.encoder = None;
        }
        Some(piece.into())
    }
}

impl Stream for Pieces {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // A piece costs something. What it was made for may be ready for the next one at once, and would go on for as long as the frame lasts.
        if self.encoder.is_some() && !std::mem::replace(&mut self.gave_way, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.gave_way = false;
        if self.encoder.is_none() {
            self.session = None;
        }
        Poll::Ready(self.next_piece().map(Ok))
    }
}

/// A streaming answer. It ends after the close frame, or when enough was sent.
struct Answer {
    encoding: Encoding,
    prelude: Option<Bytes>,
    /// The frame on its way out.
    pieces: Option<Pieces>,
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
            pieces: None,
            source: Some(source),
            left: limit,
        }
    }

    /// The next frame, to be brought out; false: there is none.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let (frame, live) = match self.source.take() {
            Some(Source::Session(receiving)) => {
                let polled = receiving.poll_next(cx);
                let live = Arc::clone(receiving.live());
                self.source = Some(Source::Session(receiving));
                (std::task::ready!(polled), Some(live))
            }
            Some(Source::Last(frame)) => (Some(frame), None),
            None => (None, None),
        };
        if matches!(frame, None | Some(Frame::Close(_))) {
            self.finish();
        }
        let pieces = frame.map(|frame| Pieces::new(self.encoding.frame(frame), live.as_ref()));
        self.pieces = pieces;
        Poll::Ready(self.pieces.is_some())
    }

    fn finish(&mut self) {
        if let Some(Source::Session(receiving)) = self.source.take() {
            receiving.finish();
        }
    }
}

impl Stream for Answer {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(prelude) = self.prelude.take() {
            return Poll::Ready(Some(Ok(prelude)));
        }
        loop {
            let Some(pieces) = &mut self.pieces else {
                match std::task::ready!(self.poll_frame(cx)) {
                    true => continue,
                    false => return Poll::Ready(None),
                }
            };
            let polled = Pin::new(&mut *pieces).poll_next(cx);
            let is_over = pieces.encoder.is_none();
            match std::task::ready!(polled) {
                Some(Ok(piece)) => {
                    self.left = self.left.saturating_sub(piece.len());
                    if is_over && self.left == 0 {
                        self.finish();
                    }
                    return Poll::Ready(Some(Ok(piece)));
                }
                None => self.pieces = None,
            }
        }
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
