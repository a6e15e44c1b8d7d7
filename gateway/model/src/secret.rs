//! A setting that nobody shall see who sees the settings.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::cell::Cell;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;

/// What is shown in place of one.
const HIDDEN: &str = "(hidden)";

thread_local! {
    /// Whether those that differ are written out differently.
    static TOLD_APART: Cell<bool> = const { Cell::new(false) };
}

/// Read like any text; written out and printed only as to whether it is there.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// What it is.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What `write` makes of settings in which secrets that differ are written out differently: as `(hidden)` and a number, which says nothing about the secret and
    /// is another in the next run.
    pub fn told_apart<T>(write: impl FnOnce() -> T) -> T {
        let before = TOLD_APART.replace(true);
        let written = write();
        TOLD_APART.set(before);
        written
    }

    /// Whether this text was written out for a secret.
    pub fn is_shown_as(text: &str) -> bool {
        text.starts_with(HIDDEN)
    }

    fn shown(&self) -> &'static str {
        if self.is_empty() { "" } else { HIDDEN }
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

/// What is no text is refused without showing it: a number may be the password.
impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer);
        text.map(Self)
            .map_err(|_| D::Error::custom("a secret is a text, in quotes"))
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        static KEYS: OnceLock<RandomState> = OnceLock::new();
        if self.is_empty() || !TOLD_APART.get() {
            return serializer.serialize_str(self.shown());
        }
        let number = KEYS.get_or_init(RandomState::new).hash_one(&self.0);
        serializer.serialize_str(&format!("{HIDDEN} {number}"))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.shown(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_differ_are_told_apart_without_being_shown() {
        let written = |text: &str| serde_json::to_string(&Secret::from(text)).unwrap();
        assert_eq!(
            (written("a"), written("")),
            ("\"(hidden)\"".into(), "\"\"".into())
        );
        let [one, same, other] = Secret::told_apart(|| ["dumb", "dumb", "silly"].map(written));
        assert!(one == same && one != other, "{one} {other}");
        assert!(Secret::is_shown_as(one.trim_matches('"')) && !one.contains("dumb"));
        assert_eq!(written("dumb"), written("silly"));
    }
}
