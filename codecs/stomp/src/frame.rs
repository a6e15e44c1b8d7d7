//! Frames, and what they are made of.

use bytes::Bytes;
use std::fmt;

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// 1.0
    V10,
    /// 1.1
    V11,
    /// 1.2
    V12,
}

impl Version {
    /// All of them, in their order.
    pub const ALL: [Self; 3] = [Self::V10, Self::V11, Self::V12];

    /// As in `accept-version` and `version`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V10 => "1.0",
            Self::V11 => "1.1",
            Self::V12 => "1.2",
        }
    }

    /// The highest version that stands in a list of them, separated by commas. STOMP 1.2, Protocol Negotiation.
    pub fn highest_of(list: &str) -> Option<Self> {
        let known = |word: &str| {
            Self::ALL
                .into_iter()
                .find(|version| version.as_str() == word.trim())
        };
        list.split(',').filter_map(known).max()
    }
}

macro_rules! commands {
    ($($variant:ident $name:literal,)*) => {
        /// What a frame is for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Command { $(#[doc = concat!("`", $name, "`")] $variant,)* }

        impl Command {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// As on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            pub(crate) fn parse(line: &[u8]) -> Option<Self> {
                Self::ALL.iter().copied().find(|command| command.as_str().as_bytes() == line)
            }
        }
    };
}

commands! {
    Connect "CONNECT",
    Stomp "STOMP",
    Connected "CONNECTED",
    Send "SEND",
    Subscribe "SUBSCRIBE",
    Unsubscribe "UNSUBSCRIBE",
    Ack "ACK",
    Nack "NACK",
    Begin "BEGIN",
    Commit "COMMIT",
    Abort "ABORT",
    Disconnect "DISCONNECT",
    Message "MESSAGE",
    Receipt "RECEIPT",
    Error "ERROR",
}

impl Command {
    /// Bytes of the longest one.
    pub(crate) const LONGEST: usize = Self::Unsubscribe.as_str().len();

    /// Whether it may have a body. STOMP 1.2, Body.
    pub const fn has_body(self) -> bool {
        matches!(self, Self::Send | Self::Message | Self::Error)
    }

    /// Whether its headers are never escaped: what is sent before both sides know the version. STOMP 1.2, Value Encoding, and STOMP 1.2, CONNECT or STOMP Frame.
    pub(crate) const fn is_handshake(self) -> bool {
        matches!(self, Self::Connect | Self::Stomp | Self::Connected)
    }
}

/// Checked UTF-8 that shares its bytes.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text(Bytes);

impl Text {
    /// `None` if it is not UTF-8.
    pub fn new(bytes: Bytes) -> Option<Self> {
        std::str::from_utf8(&bytes).is_ok().then_some(Self(bytes))
    }

    /// What is known to be UTF-8.
    pub(crate) fn checked(bytes: Bytes) -> Self {
        debug_assert!(std::str::from_utf8(&bytes).is_ok());
        Self(bytes)
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("checked by new")
    }

    /// The shared bytes.
    pub const fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// The shared bytes.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// A copy that owns exactly its own bytes: what is kept for long must not keep a read buffer alive.
    #[must_use]
    pub fn compact(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }
}

impl From<&'static str> for Text {
    fn from(text: &'static str) -> Self {
        Self(Bytes::from_static(text.as_bytes()))
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl std::ops::Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// Names and values, in the order on the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<(Text, Text)>);

impl Headers {
    /// None yet, with room for so many.
    pub(crate) fn with_capacity(headers: usize) -> Self {
        Self(Vec::with_capacity(headers))
    }

    /// The value of the first header of this name. STOMP 1.2, Repeated Header Entries.
    pub fn get(&self, name: &str) -> Option<&Text> {
        let mut all = self.0.iter();
        all.find(|(known, _)| known.bytes() == name.as_bytes())
            .map(|(_, value)| value)
    }

    /// Adds one at the end.
    pub fn push(&mut self, name: impl Into<Text>, value: impl Into<Text>) {
        self.0.push((name.into(), value.into()));
    }

    /// All, repeated ones too.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &(Text, Text)> {
        self.0.iter()
    }

    /// Takes white space off names and values, as STOMP 1.0's examples have it.
    pub(crate) fn trim(&mut self) {
        let trimmed = |text: &Text| Text(text.0.slice_ref(text.trim_matches(' ').as_bytes()));
        for (name, value) in &mut self.0 {
            (*name, *value) = (trimmed(name), trimmed(value));
        }
    }
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is for.
    pub command: Command,
    /// Its headers, unescaped.
    pub headers: Headers,
    /// Its body; empty for all but SEND, MESSAGE and ERROR.
    pub body: Bytes,
}

impl Frame {
    /// Without headers and body.
    pub fn new(command: Command) -> Self {
        Self {
            command,
            headers: Headers::default(),
            body: Bytes::new(),
        }
    }

    /// With one more header.
    #[must_use]
    pub fn with(mut self, name: impl Into<Text>, value: impl Into<Text>) -> Self {
        self.headers.push(name, value);
        self
    }

    /// With this body.
    #[must_use]
    pub fn with_body(self, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        Self { body, ..self }
    }

    /// The value of the first header of this name, as text.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(Text::as_str)
    }
}
