//! The command line's side of the control socket: HTTP over a Unix-domain socket.

use crate::owner::is_root_or_us;
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout_at};

/// Bytes of a line of an answer.
const LONGEST_LINE: usize = 64 << 20;
/// How long the answer to a question may take, or each of its lines: whoever accepts there may be no gateway, or one that stands still.
pub(crate) const TO_ANSWER: Duration = Duration::from_secs(60);
/// The same where there is something to do: a backup or an update takes its time.
const TO_DO: Duration = Duration::from_secs(3_600);

/// Why a running gateway did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    /// Nobody listens there.
    #[error("no gateway answers at {socket}: {cause}; {}", .hint.unwrap_or("does it run, with this configuration?"))]
    NotRunning {
        /// The socket.
        socket: PathBuf,
        /// What the system said.
        cause: std::io::Error,
        /// What may be meant instead.
        hint: Option<&'static str>,
    },
    /// It is for the gateway's user and root.
    #[error("{}: this user may not ask the gateway: root and the user that runs it may", .0.display())]
    NotAllowed(PathBuf),
    /// Who listens there is a stranger, and was not named.
    #[error("{}: user {user} answers here, and was not named: HEADGATE__DATA_DIR with the whole path of the data folder does", .socket.display())]
    Stranger {
        /// The socket.
        socket: PathBuf,
        /// Whose program answers.
        user: u32,
    },
    /// It said no.
    #[error("{0}")]
    Refused(String),
    /// It said nothing.
    #[error(
        "{}: somebody listens there, and has not answered within {}: the gateway stands still, or it is none",
        .socket.display(), humantime::format_duration(*.within)
    )]
    Late {
        /// The socket.
        socket: PathBuf,
        /// How long it had.
        within: Duration,
    },
    /// It said something strange.
    #[error("the gateway's answer cannot be understood: {0}")]
    Answer(String),
}

/// A running gateway.
pub(crate) struct ControlClient {
    data_dir: PathBuf,
    hint: Option<&'static str>,
    from_anybody: bool,
}

impl ControlClient {
    /// The one whose data is in this folder.
    pub(crate) fn new(data_dir: &Path) -> Self {
        Self {
            data_dir: data_dir.to_owned(),
            hint: None,
            from_anybody: true,
        }
    }

    /// It may only be root's or one's own: nobody named it.
    pub(crate) fn of_no_stranger(self) -> Self {
        Self {
            from_anybody: false,
            ..self
        }
    }

    /// What is told beside it where nobody answers.
    pub(crate) fn with_hint(self, hint: Option<&'static str>) -> Self {
        Self { hint, ..self }
    }

    /// Asks, and takes each line of the answer as JSON.
    pub(crate) async fn lines(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
        each: &mut dyn FnMut(Value),
    ) -> Result<(), ControlError> {
        let within = time_for(&method);
        self.take_lines(method, path, body, Some(within), each).await
    }

    /// The same where nobody knows when the next line comes.
    pub(crate) async fn follow(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
        each: &mut dyn FnMut(Value),
    ) -> Result<(), ControlError> {
        self.take_lines(method, path, body, None, each).await
    }

    /// `within`: how long a line may take after the one before it was taken.
    async fn take_lines(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
        within: Option<Duration>,
        each: &mut dyn FnMut(Value),
    ) -> Result<(), ControlError> {
        let time = time_for(&method);
        let answer = self
            .in_time(Some(Until::now(time)), self.send(method, path, body))
            .await??;
        let status = answer.status();
        let mut body = answer.into_body();
        let mut text = BytesMut::new();
        let mut until = within.map(Until::now);
        while let Some(frame) = self.in_time(until, body.frame()).await? {
            let frame = frame.map_err(strange)?;
            let mut looked_at = text.len();
            text.extend_from_slice(frame.data_ref().map_or(&[][..], |data| &data[..]));
            while let Some(end) = text[looked_at..].iter().position(|byte| *byte == b'\n') {
                take(&text.split_to(looked_at + end + 1), status, each)?;
                looked_at = 0;
                until = within.map(Until::now);
            }
            if text.len() > LONGEST_LINE {
                return Err(strange("a line of the answer does not end"));
            }
        }
        take(&text, status, each)?;
        said_yes(status)
    }

    /// Asks for a file, and takes it as it comes.
    pub(crate) async fn download(&self, path: &str, each: &mut dyn FnMut(&[u8])) -> Result<(), ControlError> {
        // It is made first.
        let until = Some(Until::now(TO_DO));
        let answer = self.in_time(until, self.send(Method::GET, path, None)).await??;
        let status = answer.status();
        let mut body = answer.into_body();
        while let Some(frame) = self.in_time(until, body.frame()).await? {
            let frame = frame.map_err(strange)?;
            let bytes = frame.data_ref().map_or(&[][..], |data| &data[..]);
            match status.is_success() {
                true => each(bytes),
                false => take(bytes, status, &mut |_| ())?,
            }
        }
        said_yes(status)
    }

    async fn in_time<T>(
        &self,
        until: Option<Until>,
        what: impl Future<Output = T>,
    ) -> Result<T, ControlError> {
        let Some(Until { at, within }) = until else {
            return Ok(what.await);
        };
        timeout_at(at, what).await.map_err(|_| ControlError::Late {
            socket: super::socket(&self.data_dir),
            within,
        })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Response<Incoming>, ControlError> {
        let stream = self.connect().await;
        let stream = stream.map_err(|cause| {
            let socket = super::socket(&self.data_dir);
            match cause.kind() {
                std::io::ErrorKind::PermissionDenied => ControlError::NotAllowed(socket),
                _ => ControlError::NotRunning {
                    socket,
                    cause,
                    hint: self.hint.or_else(|| self.hint_of_new_folder()),
                },
            }
        })?;
        if !self.from_anybody {
            let user = stream.peer_cred().map_err(strange)?.uid();
            let socket = super::socket(&self.data_dir);
            if !is_root_or_us(user) {
                return Err(ControlError::Stranger { socket, user });
            }
        }
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(strange)?;
        tokio::spawn(connection);
        let bytes = body.map_or_else(Bytes::new, |body| body.to_string().into());
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "headgate")
            .header("content-type", "application/json")
            .body(Full::new(bytes))
            .map_err(strange)?;
        sender.send_request(request).await.map_err(strange)
    }

    /// Who edits `data_dir` in the file looks for the gateway where it is not yet.
    fn hint_of_new_folder(&self) -> Option<&'static str> {
        let is_used = ["configurations", "store"]
            .iter()
            .any(|name| self.data_dir.join(name).exists());
        (!is_used).then_some(
            "does it run, with this configuration? No gateway has had its data there: where `data_dir` was just changed in the file, the one that runs reads it on SIGHUP; or put the line back, and use `headgate config apply` with a file that has the new one",
        )
    }

    async fn connect(&self) -> std::io::Result<UnixStream> {
        let short = super::ShortName::of(&self.data_dir)?;
        UnixStream::connect(super::socket(&short.name)).await
    }

    /// Asks, and takes the answer.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, ControlError> {
        let mut answer = Value::Null;
        self.lines(method, path, body, &mut |line| answer = line).await?;
        Ok(answer)
    }
}

/// When somebody is late, and how long he had.
#[derive(Clone, Copy)]
struct Until {
    at: Instant,
    within: Duration,
}

impl Until {
    fn now(within: Duration) -> Self {
        Self {
            at: Instant::now() + within,
            within,
        }
    }
}

fn time_for(method: &Method) -> Duration {
    match *method {
        Method::GET => TO_ANSWER,
        _ => TO_DO,
    }
}

fn strange(error: impl std::fmt::Display) -> ControlError {
    ControlError::Answer(error.to_string())
}

/// Behind an answer that held no words of a refusal.
fn said_yes(status: StatusCode) -> Result<(), ControlError> {
    match status.is_success() {
        true => Ok(()),
        false => Err(ControlError::Refused(status.to_string())),
    }
}

fn take(line: &[u8], status: StatusCode, each: &mut dyn FnMut(Value)) -> Result<(), ControlError> {
    // Of server-sent events, what they are about.
    let line = line.strip_prefix(b"data: ").unwrap_or(line);
    let is_frame = line.starts_with(b":") || line.starts_with(b"event: ");
    if line.trim_ascii().is_empty() || is_frame {
        return Ok(());
    }
    if !status.is_success() {
        let parsed: Option<Value> = serde_json::from_slice(line).ok();
        let words = parsed.as_ref().and_then(|answer| answer["error"].as_str());
        let words = words.map_or_else(|| String::from_utf8_lossy(line).into_owned(), str::to_owned);
        return Err(ControlError::Refused(words));
    }
    each(serde_json::from_slice(line).map_err(|error| ControlError::Answer(error.to_string()))?);
    Ok(())
}
