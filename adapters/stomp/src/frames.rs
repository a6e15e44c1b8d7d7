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

/// A value of a client's, in an error: in quotes, and not longer than one wants to read.
pub(crate) fn shown(value: &str) -> String {
    match value.char_indices().nth(100) {
        None => format!("`{value}`"),
        Some((end, _)) => format!("`{}…`", &value[..end]),
    }
}

/// A header that says yes or no; no if it is not there.
pub(crate) fn flag(frame: &Frame, name: &str) -> Result<bool, BadFrame> {
    match frame.get(name) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(other) => Err(format!("{name} is {}, allowed are true and false", shown(other)).into()),
    }
}

/// The header `qos`.
pub(crate) fn qos_of(frame: &Frame, default: Qos) -> Result<Qos, BadFrame> {
    match frame.get("qos") {
        None => Ok(default),
        Some("0") => Ok(Qos::AtMostOnce),
        Some("1") => Ok(Qos::AtLeastOnce),
        Some("2") => Ok(Qos::ExactlyOnce),
        Some(other) => Err(format!("qos is {}, allowed are 0, 1 and 2", shown(other)).into()),
    }
}

/// The header `message-expiry`, in seconds.
pub(crate) fn expiry_of(frame: &Frame) -> Result<Option<Duration>, BadFrame> {
    let Some(text) = frame.get("message-expiry") else {
        return Ok(None);
    };
    let wrong = |_| {
        format!(
            "message-expiry is {}, allowed is a number of seconds",
            shown(text)
        )
    };
    let seconds = text.parse::<u32>().map_err(wrong)?;
    Ok(Some(Duration::from_secs(seconds.into())))
}
