//! Texts of which a file may have a few kinds only: what is written from them into files of other programs cannot say anything else.

/// Another kind of text.
#[derive(Debug, thiserror::Error)]
#[error("`{}` is not {wanted}", .text.escape_debug())]
pub(crate) struct WrongText {
    pub(super) text: String,
    pub(super) wanted: &'static str,
}

/// A text of one of a few kinds.
macro_rules! text {
    ($name:ident, $what:literal, $is:expr) => {
        #[doc = $what]
        #[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
        #[serde(try_from = "String")]
        pub(crate) struct $name(pub(crate) String);

        impl TryFrom<String> for $name {
            type Error = $crate::provisioning::text::WrongText;
            fn try_from(text: String) -> Result<Self, Self::Error> {
                let is: fn(&str) -> bool = $is;
                match is(&text) {
                    true => Ok(Self(text)),
                    false => Err(Self::Error {
                        text,
                        wanted: $what,
                    }),
                }
            }
        }
    };
}

/// The same of what is secret: errors and `Debug` do not show it.
macro_rules! secret {
    ($name:ident, $what:literal, $is:expr) => {
        #[doc = $what]
        #[derive(Clone)]
        pub(crate) struct $name(String);

        // By hand: serde's own error shows a number that stands in the place of a text.
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let is: fn(&str) -> bool = $is;
                match serde_json::Value::deserialize(deserializer) {
                    Ok(serde_json::Value::String(text)) if is(&text) => Ok(Self(text)),
                    _ => Err(serde::de::Error::custom(concat!("this is not ", $what))),
                }
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(stringify!($name))
            }
        }
    };
}

pub(super) use {secret, text};

/// Whether it begins with a letter or digit, and has but letters, digits, dots, dashes and underscores.
pub(super) fn is_name(text: &str) -> bool {
    let is_of_name = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.bytes().all(is_of_name)
}

/// A host name. RFC 952, RFC 1123 section 2.1: the last label of a name is no number, as that of an address is.
pub(super) fn is_host_name(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_number = |label: &str| label.bytes().all(|b| b.is_ascii_digit());
    text.len() <= 253 && text.split('.').all(is_label) && !text.rsplit('.').next().is_some_and(is_number)
}
