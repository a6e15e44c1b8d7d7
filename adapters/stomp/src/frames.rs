//! Reading the headers of a client's frame that mean something here.

use headgate_model::Qos;
use headgate_stomp_codec::{Frame, Text};
use std::borrow::Cow;
use std::time::Duration;

/// What is wrong with a frame, in words for the client.
#[derive(Debug)]
pub(crate) struct BadFrame(Cow<'static, str>);

impl BadFrame {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&'static str> for BadFrame {
    fn from(what: &'static str) -> Self {
        Self(what.into())
    }
}

impl From<String> for BadFrame {
    fn from(what: String) -> Self {
        Self(what.into())
    }
}

/// The value of a header without which the frame means nothing.
pub(crate) fn header(frame: &Frame, name: &str) -> Result<Text, BadFrame> {
    let missing = || BadFrame::from(format!("the header {name} is missing"));
    frame.headers.get(name).cloned().ok_or_else(missing)
}

/// What the frame's RECEIPT is to be called. STOMP 1.2, Header receipt
pub(crate) fn receipt_of(frame: &Frame) -> Option<Text> {
    frame.headers.get("receipt").map(Text::compact)
}

/// The header `qos`.
pub(crate) fn qos_of(frame: &Frame, default: Qos) -> Result<Qos, BadFrame> {
    match frame.get("qos") {
        None => Ok(default),
        Some("0") => Ok(Qos::AtMostOnce),
        Some("1") => Ok(Qos::AtLeastOnce),
        Some("2") => Ok(Qos::ExactlyOnce),
        Some(_) => Err("qos is 0, 1 or 2".into()),
    }
}

/// The header `message-expiry`, in seconds.
pub(crate) fn expiry_of(frame: &Frame) -> Result<Option<Duration>, BadFrame> {
    let seconds = frame.get("message-expiry").map(str::parse::<u32>).transpose();
    let seconds = seconds.map_err(|_| BadFrame::from("message-expiry is a number of seconds"))?;
    Ok(seconds.map(|seconds| Duration::from_secs(seconds.into())))
}
