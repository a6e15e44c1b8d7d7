//! What can be wrong with arguments that are more than a number or one of a few words ([`ValueError`](headgate_cli::ValueError)).

use headgate_model::TopicError;
use headgate_mqtt_codec::{Utf8, Utf8Error};

/// Why an argument cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ArgumentError {
    /// `-F` has no such field.
    #[error("`%{field}` is none of %t %p %x %l %q %r %j %%")]
    NoField {
        /// What stands after the `%`.
        field: char,
    },
    /// `-F` has no such escape.
    #[error("`\\{escape}` is none of \\n \\t \\\\")]
    NoEscape {
        /// What stands after the `\`.
        escape: char,
    },
    /// The pattern of `-F` ends too early.
    #[error("something must follow the last `{last}`")]
    Unfinished {
        /// `%` or `\`.
        last: char,
    },
    /// A serial line without its device.
    #[error("a device is wanted first, such as /dev/ttyUSB0")]
    NoDevice,
    /// A serial line at no speed.
    #[error("baud: `{baud}` is no number of bits a second")]
    Baud {
        /// What was given.
        baud: String,
    },
    /// A serial line has nothing of that kind.
    #[error("`{part}` is none of baud=N, data=5|6|7|8, parity=none|even|odd, stop=1|2")]
    NoLinePart {
        /// What was given.
        part: String,
    },
    /// A user property without `=`.
    #[error("a name, `=` and a value are wanted")]
    NoPair {
        /// What was given.
        text: String,
    },
    /// MQTT cannot carry it.
    #[error(transparent)]
    Text(#[from] Utf8Error),
    /// Nothing can be published there.
    #[error("topic `{topic}`: {cause}")]
    Topic {
        /// What was given.
        topic: Utf8,
        /// Why not.
        #[source]
        cause: TopicError,
    },
    /// Nothing can be subscribed to with it.
    #[error("filter `{filter}`: {cause}")]
    Filter {
        /// What was given.
        filter: Utf8,
        /// Why not.
        #[source]
        cause: TopicError,
    },
}
