//! Values of arguments, parsed as clap wants it.

use std::fmt::Display;
use std::str::FromStr;

/// Why the value of an argument cannot be. Clap names the argument and the value before it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// It is not one of those, or not in this range.
    #[error("allowed are {allowed}")]
    NotAllowed {
        /// What was given.
        value: String,
        /// What may be given.
        allowed: String,
    },
}

impl ValueError {
    /// `value` was given where only `allowed` may be.
    pub fn not_allowed(value: &str, allowed: impl Into<String>) -> Self {
        Self::NotAllowed {
            value: value.to_owned(),
            allowed: allowed.into(),
        }
    }
}

/// Parses a number in these bounds, which are allowed too.
pub fn within<T>(from: T, to: T) -> impl Fn(&str) -> Result<T, ValueError> + Clone
where
    T: FromStr + PartialOrd + Display + Clone,
{
    move |text| {
        let number = text.parse().ok().filter(|number| (&from..=&to).contains(&number));
        number.ok_or_else(|| ValueError::not_allowed(text, format!("{from} to {to}")))
    }
}

/// Parses one of a few words; two at least.
pub fn one_of<T: Copy, const N: usize>(
    values: [(&'static str, T); N],
) -> impl Fn(&str) -> Result<T, ValueError> + Clone {
    move |text| {
        let found = values.iter().find(|(word, _)| *word == text);
        found.map(|(_, value)| *value).ok_or_else(|| {
            let words = values.map(|(word, _)| word);
            let (last, others) = words.split_last().unwrap_or((&"", &[]));
            ValueError::not_allowed(text, format!("{} and {last}", others.join(", ")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_within_its_bounds() {
        let percent = within(1_u8, 100);
        assert_eq!((percent("1"), percent("100")), (Ok(1), Ok(100)));
        for bad in ["0", "101", "256", "-1", "x", ""] {
            let error = percent(bad).unwrap_err();
            assert_eq!(error, ValueError::not_allowed(bad, "1 to 100"));
            assert_eq!(error.to_string(), "allowed are 1 to 100");
        }
        assert!(within(0.0, 1e9)("NaN").is_err());
    }

    #[test]
    fn a_word_is_one_of_those_that_are_told() {
        let parse = one_of([("-1", -1), ("0", 0), ("1", 1)]);
        assert_eq!((parse("-1"), parse("1")), (Ok(-1), Ok(1)));
        assert_eq!(parse("2").unwrap_err().to_string(), "allowed are -1, 0 and 1");
        let two = one_of([("0", ()), ("1", ())]);
        assert_eq!(two("").unwrap_err().to_string(), "allowed are 0 and 1");
    }
}
