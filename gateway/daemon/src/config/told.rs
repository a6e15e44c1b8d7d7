//! What an operator is told about a configuration: where, which key, what is wrong, what is allowed.

use super::ConfigError;
use super::document::one_line;
use serde::{Serialize, Serializer};
use std::fmt;
use std::path::{Path, PathBuf};

/// Where a setting stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    /// In the file, or in the defaults if there is none.
    File {
        /// `None` without a file.
        path: Option<PathBuf>,
        /// From 1; `None` for what the file does not say.
        line: Option<usize>,
        /// From 1.
        column: Option<usize>,
    },
    /// In a variable of the environment.
    Variable(String),
}

/// One fault, or one warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// Where the setting stands.
    pub place: Location,
    /// As in the reference: `listeners.tls.key`. Empty for the whole.
    pub key: String,
    /// What is wrong, and what is allowed.
    pub message: String,
}

impl Told {
    /// Of a file as a whole.
    pub(super) fn of_file(path: PathBuf, message: String) -> Self {
        let place = Location::File {
            path: Some(path),
            line: None,
            column: None,
        };
        Self {
            place,
            key: String::new(),
            message,
        }
    }

    /// The same place, and why the setting there cannot be.
    pub(crate) fn because(mut self, why: &impl fmt::Display) -> ConfigError {
        self.message = one_line(&why.to_string());
        vec![self].into()
    }

    /// Whether it says of the same place what is said already.
    pub(super) fn repeats(&self, told: &Self) -> bool {
        self.place == told.place && self.message == told.message
    }

    /// Whether the setting `key` may not be what it was meant to be: it is what is told of, or in it, or may be what an unknown key was meant for.
    pub(super) fn concerns(&self, key: &str) -> bool {
        let (told, unknown) = (self.key.as_str(), self.message.starts_with("unknown key"));
        let (above, last) = told.rsplit_once('.').unwrap_or(("", told));
        let within = |inner: &str, outer: &str| {
            let rest = inner.strip_prefix(outer);
            outer.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        if !unknown {
            return within(key, told) || within(told, key);
        }
        let below = key
            .strip_prefix(above)
            .unwrap_or_default()
            .trim_start_matches('.');
        let there = below.split('.').next().filter(|_| within(key, above));
        there.is_some_and(|there| super::words::nearest(last, [there]).is_some())
    }
}

impl Location {
    /// The line of the file.
    pub(crate) fn line(&self) -> Option<usize> {
        match self {
            Self::File { line, .. } => *line,
            Self::Variable(_) => None,
        }
    }

    pub(super) fn forget_line(&mut self, name: &Path) {
        if let Self::File { path, line, column } = self {
            (*path, *line, *column) = (Some(name.to_owned()), None, None);
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::File { path, line, column } => {
                match path {
                    Some(path) => write!(f, "{}", path.display())?,
                    None => f.write_str("(defaults)")?,
                }
                for number in [line, column].into_iter().flatten() {
                    write!(f, ":{number}")?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, key, message } = self;
        let told = match key.as_str() {
            "" => format!("{place}: {message}"),
            key => format!("{place}: {key}: {message}"),
        };
        // Keys and values are whatever somebody wrote: one fault is one line.
        f.write_str(&headgate_cli::visible(&told))
    }
}

/// `file`, `line` and `column`, or `variable`; then `key` and `message`.
impl schemars::JsonSchema for Told {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Told".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "One fault, or one warning: where the setting stands, and what is wrong.",
            "type": "object",
            "properties": {
                "variable": { "type": "string" },
                "file": { "type": ["string", "null"] },
                "line": { "type": ["integer", "null"] },
                "column": { "type": ["integer", "null"] },
                "key": { "type": "string" },
                "message": { "type": "string" },
            },
            "required": ["key", "message"],
        })
    }
}

impl Serialize for Told {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut told = serde_json::Map::new();
        match &self.place {
            Location::Variable(name) => {
                told.insert("variable".into(), name.as_str().into());
            }
            Location::File { path, line, column } => {
                let path = path.as_ref().map(|path| path.display().to_string());
                told.insert("file".into(), path.into());
                told.insert("line".into(), (*line).into());
                told.insert("column".into(), (*column).into());
            }
        }
        told.insert("key".into(), self.key.as_str().into());
        told.insert("message".into(), self.message.as_str().into());
        told.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_concerns_a_setting_that_it_may_change() {
        for (key, message, concerns) in [
            ("", "no TOML", true),
            ("data_dir", "empty", true),
            ("auth", "not a section", true),
            ("auth.users_file", "no text", true),
            ("auth.acl.effect", "missing", false),
            ("listeners.bind", "no address", false),
            ("data_dri", "unknown key `data_dri`", true),
            ("auht", "unknown key `auht`", true),
            ("auth.user_file", "unknown key `user_file`", true),
            ("auth.anonym", "unknown key `anonym`", false),
            ("listners", "unknown key `listners`", false),
            ("mqtt.users_file", "unknown key `users_file`", false),
        ] {
            let told = Told {
                place: Location::Variable("X".into()),
                key: key.into(),
                message: message.into(),
            };
            let needed = ["data_dir", "auth.users_file"];
            assert_eq!(
                needed.iter().any(|needed| told.concerns(needed)),
                concerns,
                "{key}"
            );
        }
    }
}
