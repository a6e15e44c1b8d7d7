//! What is wrong with a setting.

use std::fmt;

/// A setting that cannot be, and why. Settings are checked where they are declared; whoever read them knows in which line the key stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where the setting stands, seen from the section that was checked: `passwords.at_once`, `predefined[2].id`. Empty for the section itself.
    pub key: String,
    /// What is wrong, and what is allowed.
    pub message: String,
}

impl Fault {
    /// One fault.
    pub fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            message: message.into(),
        }
    }

    /// An error of settings: its words begin with the key, then comes `: `.
    pub fn of(error: &impl fmt::Display) -> Self {
        let text = error.to_string();
        match text.split_once(": ") {
            Some((key, message)) if !key.contains(['`', ' ']) => Self::new(key, message),
            _ => Self::new("", text),
        }
    }

    /// The same of the whole, in which the section is called `section`.
    #[must_use]
    pub fn below(mut self, section: &str) -> Self {
        self.key = match (section, self.key.as_str()) {
            (section, "") => section.to_owned(),
            ("", key) => key.to_owned(),
            (section, key) => format!("{section}.{key}"),
        };
        self
    }

    /// The same of one entry of the list that the key begins with: `rewrite.source` becomes `rewrite[2].source`.
    #[must_use]
    pub fn of_entry(mut self, n: usize) -> Self {
        let end = self.key.find('.').unwrap_or(self.key.len());
        self.key.insert_str(end, &format!("[{n}]"));
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key.as_str() {
            "" => f.write_str(&self.message),
            key => write!(f, "{key}: {}", self.message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_begins_with_its_key_is_taken_apart() {
        let fault = Fault::of(&"rewrite.source: `a/#/b` is not a topic filter: x");
        assert_eq!(
            (fault.key.as_str(), fault.message.as_str()),
            ("rewrite.source", "`a/#/b` is not a topic filter: x")
        );
        assert_eq!(fault.of_entry(2).below("bus").key, "bus.rewrite[2].source");
        assert_eq!(Fault::new("topics", "x").of_entry(0).key, "topics[0]");
        assert_eq!(Fault::of(&"no key: here").key, "");
        assert_eq!(Fault::new("", "x").below("mqtt").to_string(), "mqtt: x");
    }
}
