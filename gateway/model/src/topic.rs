//! Topic names and topic filters, parsed once at the edge and trusted ever after. MQTT 5 §4.7.

use bytes::{BufMut, Bytes, BytesMut};
use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// What is wrong with a topic name or a topic filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// Not well-formed UTF-8. \[MQTT-1.5.4-1\]
    #[error("not UTF-8")]
    NotUtf8,
    /// Names and filters have at least one character. \[MQTT-4.7.3-1\]
    #[error("empty")]
    Empty,
    /// Longer than 65,535 bytes. \[MQTT-4.7.3-3\]
    #[error("{0} bytes long, limit 65535")]
    TooLong(usize),
    /// A topic name must not hold a wildcard. \[MQTT-3.3.2-2\]
    #[error("wildcard at byte {0} of a topic name")]
    Wildcard(usize),
    /// U+0000 is not allowed. \[MQTT-4.7.3-2\]
    #[error("NUL at byte {0}")]
    Nul(usize),
    /// `#` must be the last character and stand alone in its level. \[MQTT-4.7.1-1\]
    #[error("misplaced `#` at byte {0}")]
    MultiLevel(usize),
    /// `+` must stand alone in its level. \[MQTT-4.7.1-2\]
    #[error("misplaced `+` at byte {0}")]
    SingleLevel(usize),
    /// `$share/{group}/{filter}` with an empty or forbidden group, or without a filter. \[MQTT-4.8.2-1\] \[MQTT-4.8.2-2\]
    #[error("bad share group")]
    ShareGroup,
    /// A prefix such as `$local/` or `$queue/` stands twice, or two of them exclude each other.
    #[error("prefixes that cannot be combined")]
    Prefix,
}

fn check(raw: &[u8]) -> Result<&str, TopicError> {
    let text = std::str::from_utf8(raw).map_err(|_| TopicError::NotUtf8)?;
    if text.is_empty() {
        return Err(TopicError::Empty);
    }
    if raw.len() > usize::from(u16::MAX) {
        return Err(TopicError::TooLong(raw.len()));
    }
    if let Some(at) = text.find('\0') {
        return Err(TopicError::Nul(at));
    }
    Ok(text)
}

/// The name a message is published to. Holds no wildcard.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(Bytes);

impl Topic {
    /// No name at all: in the place of a message that is gone.
    pub(crate) fn blank() -> Self {
        Self(Bytes::new())
    }

    /// A topic *name*: UTF-8, 1 to 65,535 bytes, no NUL, no wildcard. \[MQTT-3.3.2-2\] \[MQTT-4.7.3-1\]
    pub fn parse(raw: Bytes) -> Result<Self, TopicError> {
        let text = check(&raw)?;
        if let Some(at) = text.find(['+', '#']) {
            return Err(TopicError::Wildcard(at));
        }
        Ok(Self(raw))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("checked by parse")
    }

    /// The name's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The name's shared bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// Whether the name starts with `$`: such names are not matched by a leading wildcard. \[MQTT-4.7.2-1\]
    pub fn is_system(&self) -> bool {
        self.0.first() == Some(&b'$')
    }

    /// A copy that owns exactly its own bytes, so that keeping it does not keep a whole read buffer.
    #[must_use]
    pub fn compact(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }
}

impl TryFrom<&str> for Topic {
    type Error = TopicError;

    fn try_from(text: &str) -> Result<Self, TopicError> {
        Self::parse(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A pattern that is subscribed to: levels separated by `/`, `+` for one level, `#` for the rest. MQTT 5 §4.7.1.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicFilter(Bytes);

impl TopicFilter {
    /// A copy that owns exactly its own bytes, so that keeping it does not keep a whole read buffer.
    #[must_use]
    pub fn compact(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }

    /// A topic filter: UTF-8, 1 to 65,535 bytes, no NUL, wildcards only where they may stand.
    /// \[MQTT-4.7.1-1\] \[MQTT-4.7.1-2\] \[MQTT-4.7.3-1\]
    pub fn parse(raw: Bytes) -> Result<Self, TopicError> {
        let text = check(&raw)?;
        let mut at = 0;
        for level in text.split('/') {
            let end = at + level.len();
            if let Some(hash) = level.find('#')
                && (level.len() > 1 || end != text.len())
            {
                return Err(TopicError::MultiLevel(at + hash));
            }
            if let Some(plus) = level.find('+')
                && level.len() > 1
            {
                return Err(TopicError::SingleLevel(at + plus));
            }
            at = end + 1;
        }
        Ok(Self(raw))
    }

    /// The filter as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("checked by parse")
    }

    /// The filter's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The filter's shared bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// Whether the filter holds `+` or `#`.
    pub fn has_wildcard(&self) -> bool {
        self.0.iter().any(|b| matches!(b, b'+' | b'#'))
    }

    /// Whether `name` matches this filter. MQTT 5 §4.7.
    pub fn matches(&self, name: &[u8]) -> bool {
        matches(&self.0, name)
    }
}

/// Whether topic name `name` matches filter `filter`, both well-formed. MQTT 5 §4.7; `$` rule \[MQTT-4.7.2-1\].
pub fn matches(filter: &[u8], name: &[u8]) -> bool {
    if name.first() == Some(&b'$') && matches!(filter.first(), Some(b'+' | b'#')) {
        return false;
    }
    let mut levels = name.split(|b| *b == b'/');
    for pattern in filter.split(|b| *b == b'/') {
        if pattern == b"#" {
            return true; // also the parent level itself: "sport/#" matches "sport"
        }
        match levels.next() {
            Some(level) if pattern == b"+" || pattern == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

impl TryFrom<&str> for TopicFilter {
    type Error = TopicError;

    fn try_from(text: &str) -> Result<Self, TopicError> {
        Self::parse(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl fmt::Debug for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text identity of a client. MQTT 5 §3.1.3.1.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(Arc<str>);

impl ClientId {
    /// The identity as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for ClientId {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl Borrow<str> for ClientId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A prefix that a listener puts before every topic of its clients, and takes off what it delivers to them.
///
/// `plant7/` turns a client's `valve` into `plant7/valve` on the bus. The empty mount point changes nothing.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct MountPoint(Option<Arc<Box<[u8]>>>);

impl MountPoint {
    /// A mount point; its text must be fit to start a topic name.
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        if !text.is_empty() {
            Topic::try_from(text)?;
        }
        let prefix = (!text.is_empty()).then(|| Arc::new(text.as_bytes().into()));
        Ok(Self(prefix))
    }

    /// Turns a client's topic name into the one on the bus; inside `$delayed/{seconds}/`. When the whole grows too long, the name stays as it is.
    pub fn mount(&self, topic: &mut Topic) -> Result<(), TopicError> {
        let Some(mount) = &self.0 else { return Ok(()) };
        let prefix = delayed_prefix(topic.as_bytes());
        let mut whole = BytesMut::with_capacity(mount.len() + topic.0.len());
        whole.put_slice(&topic.0[..prefix]);
        whole.put_slice(mount);
        whole.put_slice(&topic.0[prefix..]);
        *topic = Topic::parse(whole.freeze())?;
        Ok(())
    }

    /// A client's name for a topic on the bus; of topics outside the mount point the whole.
    pub fn unmount(&self, topic: &Topic) -> Topic {
        Topic(topic.0.slice(self.hidden(topic)..))
    }

    /// The filter on the bus of a client's filter (without `$share/{group}/` and the like).
    pub fn mount_filter(&self, filter: TopicFilter) -> Result<TopicFilter, TopicError> {
        let Some(mount) = &self.0 else {
            return Ok(filter);
        };
        let mut whole = BytesMut::with_capacity(mount.len() + filter.0.len());
        whole.put_slice(mount);
        whole.put_slice(&filter.0);
        TopicFilter::parse(whole.freeze())
    }

    /// How many bytes at the start of a name on the bus the client does not see; of names outside the mount point it sees all.
    pub fn hidden(&self, topic: &Topic) -> usize {
        match &self.0 {
            Some(mount) if topic.0.len() > mount.len() && topic.0.starts_with(mount) => mount.len(),
            _ => 0,
        }
    }
}

/// Where a message to this name is published in the end: what stands behind `$delayed/{seconds}/`. Rules are about that.
pub fn undelayed(name: &[u8]) -> &[u8] {
    &name[delayed_prefix(name)..]
}

/// Length of a leading `$delayed/{seconds}/`, zero when there is none.
pub(crate) fn delayed_prefix(name: &[u8]) -> usize {
    let Some(rest) = name.strip_prefix(b"$delayed/") else {
        return 0;
    };
    rest.iter()
        .position(|b| *b == b'/')
        .map_or(0, |slash| name.len() - rest.len() + slash + 1)
}

impl fmt::Debug for MountPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mount = self.0.as_ref().map_or(&[][..], |mount| mount);
        fmt::Debug::fmt(&String::from_utf8_lossy(mount), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str) -> Result<TopicFilter, TopicError> {
        TopicFilter::try_from(text)
    }

    /// [MQTT-4.7.1-1] [3.1.1 MQTT-4.7.1-2] `#` is the last character, alone or after a separator.
    #[test]
    fn multi_level_wildcard_stands_last_and_alone() {
        for good in ["#", "sport/#", "/#", "+/#", "sport/tennis/player1/#"] {
            assert!(filter(good).is_ok(), "{good}");
        }
        assert_eq!(filter("sport/tennis#"), Err(TopicError::MultiLevel(12)));
        assert_eq!(filter("sport/#/ranking"), Err(TopicError::MultiLevel(6)));
        assert_eq!(filter("##"), Err(TopicError::MultiLevel(0)));
    }

    /// [MQTT-4.7.1-2] [3.1.1 MQTT-4.7.1-3] `+` occupies a whole level.
    #[test]
    fn single_level_wildcard_stands_alone() {
        for good in ["+", "+/tennis/#", "sport/+/player1", "/+", "+/+"] {
            assert!(filter(good).is_ok(), "{good}");
        }
        assert_eq!(filter("sport+"), Err(TopicError::SingleLevel(5)));
        assert_eq!(filter("+a/b"), Err(TopicError::SingleLevel(0)));
    }

    /// [MQTT-4.7.0-1] [MQTT-3.3.2-2] [3.1.1 MQTT-4.7.1-1] [3.1.1 MQTT-3.3.2-2] Wildcards belong in filters only.
    #[test]
    fn a_topic_name_holds_no_wildcard() {
        assert_eq!(Topic::try_from("a/+/b"), Err(TopicError::Wildcard(2)));
        assert_eq!(Topic::try_from("a/#"), Err(TopicError::Wildcard(2)));
    }

    /// [MQTT-4.7.3-1] [MQTT-4.7.3-2] [MQTT-4.7.3-3] and the same in 3.1.1
    /// [3.1.1 MQTT-4.7.3-1] [3.1.1 MQTT-4.7.3-2] [3.1.1 MQTT-4.7.3-3]
    #[test]
    fn names_and_filters_are_1_to_65535_bytes_without_nul() {
        assert_eq!(Topic::try_from(""), Err(TopicError::Empty));
        assert_eq!(filter(""), Err(TopicError::Empty));
        assert_eq!(Topic::try_from("a\0b"), Err(TopicError::Nul(1)));
        assert_eq!(filter("a\0b"), Err(TopicError::Nul(1)));
        assert!(Topic::try_from("x".repeat(65_535).as_str()).is_ok());
        assert_eq!(
            Topic::try_from("x".repeat(65_536).as_str()),
            Err(TopicError::TooLong(65_536))
        );
    }

    /// [MQTT-4.7.3-4] [3.1.1 MQTT-4.7.3-4] No normalisation: case, spaces and separators count.
    #[test]
    fn names_are_compared_byte_by_byte() {
        assert!(!matches(b"ACCOUNTS", b"Accounts"));
        assert!(matches(b"Accounts payable", b"Accounts payable"));
        assert!(!matches(b"/finance", b"finance"));
        assert!(
            !matches("A\u{030a}".as_bytes(), "\u{00c5}".as_bytes()),
            "composed and decomposed forms differ"
        );
    }

    /// §4.7.1 of both versions, the specification's own examples.
    #[test]
    fn filters_match_as_the_specification_shows() {
        for (pattern, name, expected) in [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/ranking", true),
            ("sport/#", "sport", true),
            ("sport/tennis/+", "sport/tennis/player1", true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), name.as_bytes()),
                expected,
                "{pattern} {name}"
            );
        }
    }

    /// [MQTT-4.7.2-1] [3.1.1 MQTT-4.7.2-1]
    #[test]
    fn leading_wildcards_do_not_match_dollar_topics() {
        for (pattern, expected) in [
            ("#", false),
            ("+/monitor/Clients", false),
            ("$SYS/#", true),
            ("$SYS/monitor/+", true),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), b"$SYS/monitor/Clients"),
                expected,
                "{pattern}"
            );
        }
    }

    #[test]
    fn a_mount_point_is_put_on_and_taken_off() {
        let mount = MountPoint::parse("plant7/").unwrap();
        let mounted = |name: &str| {
            let mut topic = Topic::try_from(name).unwrap();
            mount.mount(&mut topic).unwrap();
            topic
        };
        let inside = mounted("valve");
        assert_eq!(inside.as_str(), "plant7/valve");
        assert_eq!(mount.hidden(&inside), "plant7/".len());
        assert_eq!(
            mount.mount_filter(filter("+/#").unwrap()).unwrap().as_str(),
            "plant7/+/#"
        );
        assert_eq!(MountPoint::default().hidden(&inside), 0);
        let outside = Topic::try_from("plant8/valve").unwrap();
        assert_eq!(mount.hidden(&outside), 0, "it is shown whole");
        assert!(MountPoint::parse("a/#").is_err());
        assert_eq!(mount.unmount(&inside).as_str(), "valve");
        assert_eq!(mounted("$delayed/5/valve").as_str(), "$delayed/5/plant7/valve");
    }
}
