//! What an operator may set about when a bridge connects.

use crate::settings::out_of_range;
use headgate_model::{Fault, WallTime};
use humantime_serde::re::humantime::format_duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

pub(crate) const MINUTE_MS: u64 = 60_000;
const MINUTES_A_DAY: u64 = 24 * 60;

/// When to connect, and in which order addresses are tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UplinkSettings {
    /// What makes the bridge connect.
    pub start: Start,
    /// For `lazy`.
    pub lazy: LazySettings,
    /// For `window`: times of the day in UTC, `22:00-06:00`.
    pub windows: Vec<Window>,
    /// The pause before it connects again.
    pub restart_timeout: RestartSettings,
    /// All addresses are alike: after one fails the next is used until it fails. Otherwise the first is preferred.
    pub round_robin: bool,
    /// How often the first address is tried while another is used. It is returned to when it answers.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub return_after: Duration,
}

impl Default for UplinkSettings {
    fn default() -> Self {
        Self {
            start: Start::default(),
            lazy: LazySettings::default(),
            windows: Vec::new(),
            restart_timeout: RestartSettings::default(),
            round_robin: false,
            return_after: Duration::from_secs(30),
        }
    }
}

/// What makes a bridge connect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// It is connected whenever it can be.
    #[default]
    Automatic,
    /// It connects when enough messages wait, and leaves when none did for some time.
    Lazy,
    /// It connects when the gateway starts, and not again.
    Once,
    /// It is connected at some times of the day.
    Window,
}

/// When a lazy bridge comes and goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LazySettings {
    /// So many messages wait.
    pub threshold: u64,
    /// No message waited for so long.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub idle_timeout: Duration,
}

impl Default for LazySettings {
    fn default() -> Self {
        Self {
            threshold: 10,
            idle_timeout: Duration::from_secs(60),
        }
    }
}

/// The pause before a bridge connects again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RestartSettings {
    /// The shortest pause.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub base: Duration,
    /// The longest pause. A connection that held as long makes the next pause a short one.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub cap: Duration,
}

impl Default for RestartSettings {
    fn default() -> Self {
        Self {
            base: Duration::from_secs(5),
            cap: Duration::from_secs(30),
        }
    }
}

/// A time of each day, in UTC: `HH:MM-HH:MM`. One that ends before it begins goes on after midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Window {
    /// Minutes after midnight.
    from: u64,
    until: u64,
}

impl Window {
    pub(crate) fn contains(self, wall: WallTime) -> bool {
        let minute = wall.0 / MINUTE_MS % MINUTES_A_DAY;
        if self.from < self.until {
            (self.from..self.until).contains(&minute)
        } else {
            minute >= self.from || minute < self.until
        }
    }
}

impl FromStr for Window {
    type Err = UplinkSettingsError;

    fn from_str(text: &str) -> Result<Self, UplinkSettingsError> {
        let times = text
            .split_once('-')
            .map(|(from, until)| (minutes(from), minutes(until)));
        match times {
            Some((Some(from), Some(until))) if from != until => Ok(Self { from, until }),
            _ => Err(UplinkSettingsError::Window(text.into())),
        }
    }
}

/// Minutes after midnight of `HH:MM`.
fn minutes(text: &str) -> Option<u64> {
    let (hours, minutes) = text.trim().split_once(':')?;
    let two_digits = |text: &str| {
        let digits = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse::<u64>().ok()).flatten()
    };
    let (hours, minutes) = (two_digits(hours)?, two_digits(minutes)?);
    (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)
}

impl TryFrom<String> for Window {
    type Error = UplinkSettingsError;

    fn try_from(text: String) -> Result<Self, UplinkSettingsError> {
        text.parse()
    }
}

impl From<Window> for String {
    fn from(window: Window) -> Self {
        window.to_string()
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, until } = self;
        write!(
            f,
            "{:02}:{:02}-{:02}:{:02}",
            from / 60,
            from % 60,
            until / 60,
            until % 60
        )
    }
}

/// A setting of when to connect that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UplinkSettingsError {
    /// Not a time of the day.
    Window(String),
    /// A number or time is out of range.
    Range {
        /// The setting's name.
        key: &'static str,
        /// As written.
        value: u64,
        /// What is allowed.
        allowed: &'static str,
    },
    /// A time is out of range.
    Time {
        /// The setting's name.
        key: &'static str,
        /// As written.
        value: Duration,
        /// What is allowed.
        allowed: &'static str,
    },
}

impl UplinkSettingsError {
    /// The same as operators are told: the key, and what is wrong with it.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Window(text) => {
                let message = format!("`{text}` is no time of the day such as 22:00-06:00");
                Fault::new("windows", message)
            }
            Self::Range { key, value, allowed } => out_of_range(key, value, allowed),
            Self::Time { key, value, allowed } => out_of_range(key, format_duration(*value), allowed),
        }
    }
}

impl fmt::Display for UplinkSettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fault().fmt(f)
    }
}

impl UplinkSettings {
    /// Finds what is wrong. The error names the key.
    pub fn check(&self) -> Result<(), UplinkSettingsError> {
        let range = |key, value: u64, least: u64, most: u64, allowed| {
            let fault = UplinkSettingsError::Range { key, value, allowed };
            if (least..=most).contains(&value) {
                Ok(())
            } else {
                Err(fault)
            }
        };
        const SECOND: Duration = Duration::from_secs(1);
        const DAY: Duration = Duration::from_secs(86_400);
        let time = |key, value: Duration, least: Duration, allowed| {
            let fault = UplinkSettingsError::Time { key, value, allowed };
            if (least..=DAY).contains(&value) {
                Ok(())
            } else {
                Err(fault)
            }
        };
        let (base, cap) = (self.restart_timeout.base, self.restart_timeout.cap);
        time("restart_timeout.base", base, SECOND, "1s to 1day")?;
        time("restart_timeout.cap", cap, base, "base to 1day")?;
        time("return_after", self.return_after, SECOND, "1s to 1day")?;
        range("lazy.threshold", self.lazy.threshold, 1, u64::MAX, "1 or more")?;
        time("lazy.idle_timeout", self.lazy.idle_timeout, SECOND, "1s to 1day")?;
        if self.start == Start::Window {
            range("windows", self.windows.len() as u64, 1, 100, "1 to 100 windows")?;
        }
        Ok(())
    }
}
