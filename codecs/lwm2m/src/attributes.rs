//! Attributes of notifications: when a client tells a value. Core 1.2 §7.3.2

use crate::{Link, Type, Value};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// An attribute that a server sets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Attribute {
    /// Seconds that have to pass between two notifications, at least.
    Pmin,
    /// Seconds after which there is a notification, whether something changed or not.
    Pmax,
    /// Seconds between two looks at the value, at least.
    Epmin,
    /// Seconds between two looks at the value, at most.
    Epmax,
    /// A value that is told when it goes across this.
    Gt,
    /// The same, of another limit.
    Lt,
    /// How much a value has to change to be told.
    St,
    /// A boolean is told when it becomes false (0) or true (1).
    Edge,
    /// Notifications are confirmable (1) or not (0).
    Con,
    /// How many notifications are kept while the server cannot be reached.
    Hqmax,
}

impl Attribute {
    /// All of them, in the order in which they are written.
    pub const ALL: [Self; 10] = [
        Self::Pmin,
        Self::Pmax,
        Self::Epmin,
        Self::Epmax,
        Self::Gt,
        Self::Lt,
        Self::St,
        Self::Edge,
        Self::Con,
        Self::Hqmax,
    ];

    /// Its name in queries and links.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pmin => "pmin",
            Self::Pmax => "pmax",
            Self::Epmin => "epmin",
            Self::Epmax => "epmax",
            Self::Gt => "gt",
            Self::Lt => "lt",
            Self::St => "st",
            Self::Edge => "edge",
            Self::Con => "con",
            Self::Hqmax => "hqmax",
        }
    }

    /// Whether it is for numbers and booleans alone, and so for resources and their instances.
    pub fn is_of_values(self) -> bool {
        matches!(self, Self::Gt | Self::Lt | Self::St | Self::Edge)
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Attribute {
    type Err = AttributeError;

    fn from_str(name: &str) -> Result<Self, AttributeError> {
        Self::ALL
            .into_iter()
            .find(|attribute| attribute.name() == name)
            .ok_or_else(|| AttributeError::Unknown(name.chars().take(64).collect()))
    }
}

/// Why attributes are refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AttributeError {
    /// No attribute that a server sets has this name.
    #[error("no attribute of notifications is called {0:?}")]
    Unknown(String),
    /// Seconds and counts are integers up to 4294967295, limits are decimal numbers, steps are positive ones, `edge` and `con` are 0 or 1.
    #[error("{0} cannot have this value")]
    Value(Attribute),
    /// Core 1.2 §7.3.2: lt + 2 · st < gt.
    #[error("lt with twice st has to be below gt")]
    Limits,
}

/// Attributes to be set and to be removed.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Attributes(BTreeMap<Attribute, Option<f64>>);

impl Attributes {
    /// Sets one; without a value, it is to be removed.
    pub fn set(&mut self, name: &str, value: Option<&str>) -> Result<(), AttributeError> {
        let attribute = name.parse()?;
        let value = value.map(|value| number(attribute, value)).transpose()?;
        self.0.insert(attribute, value);
        Ok(())
    }

    /// Reads a query: `pmin=10`, or `pmin` to remove it.
    pub fn of_query<'a>(query: impl IntoIterator<Item = &'a str>) -> Result<Self, AttributeError> {
        let mut attributes = Self::default();
        for item in query {
            match item.split_once('=') {
                Some((name, value)) => attributes.set(name, Some(value))?,
                None => attributes.set(item, None)?,
            }
        }
        Ok(attributes)
    }

    /// Those of a link in the answer to Discover. Others than a server sets are read over (`dim`, `ver`, `ssid`, `uri`).
    pub fn of_link(link: &Link) -> Result<Self, AttributeError> {
        let mut attributes = Self::default();
        for (name, value) in &link.attributes {
            match attributes.set(name, value.as_deref()) {
                Ok(()) | Err(AttributeError::Unknown(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(attributes)
    }

    /// As they stand in a query: `pmin=10`, or `pmin` for one that is to be removed.
    pub fn query(&self) -> Vec<String> {
        let item = |(attribute, value): (&Attribute, &Option<f64>)| match value {
            Some(value) => format!("{attribute}={value}"),
            None => attribute.to_string(),
        };
        self.0.iter().map(item).collect()
    }

    /// The value of one; `None` if nothing is said of it, or that it is to be removed.
    pub fn get(&self, attribute: Attribute) -> Option<f64> {
        self.0.get(&attribute).copied().flatten()
    }

    /// Those of which something is said; without a value, they are to be removed.
    pub fn iter(&self) -> impl Iterator<Item = (Attribute, Option<f64>)> {
        self.0.iter().map(|(attribute, value)| (*attribute, *value))
    }

    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// That the limits fit each other: lt + 2 · st < gt, and lt < gt if there is no step. Core 1.2 §7.3.2
    pub fn check(&self) -> Result<(), AttributeError> {
        let (lt, gt) = (self.get(Attribute::Lt), self.get(Attribute::Gt));
        let step = self.get(Attribute::St).unwrap_or(0.0);
        match (lt, gt) {
            (Some(lt), Some(gt)) if lt + 2.0 * step >= gt => Err(AttributeError::Limits),
            _ => Ok(()),
        }
    }

    /// Whether a client takes no notice of `pmax`, because it is below `pmin`. Core 1.2 §7.3.2
    pub fn pmax_is_ignored(&self) -> bool {
        self.is_below(Attribute::Pmax, Attribute::Pmin)
    }

    /// Whether a client takes no notice of `epmax`, because it is not above `epmin`. Core 1.2 §7.3.2
    pub fn epmax_is_ignored(&self) -> bool {
        let equal =
            self.get(Attribute::Epmax).is_some() && self.get(Attribute::Epmax) == self.get(Attribute::Epmin);
        equal || self.is_below(Attribute::Epmax, Attribute::Epmin)
    }

    fn is_below(&self, a: Attribute, b: Attribute) -> bool {
        matches!((self.get(a), self.get(b)), (Some(a), Some(b)) if a < b)
    }
}

fn number(attribute: Attribute, text: &str) -> Result<f64, AttributeError> {
    let refused = AttributeError::Value(attribute);
    match attribute {
        Attribute::Gt | Attribute::Lt | Attribute::St => match Value::of_text(text, Type::Float) {
            Ok(Value::Float(step)) if attribute == Attribute::St && step <= 0.0 => Err(refused),
            Ok(Value::Float(number)) if number.is_finite() => Ok(number),
            _ => Err(refused),
        },
        Attribute::Edge | Attribute::Con => match text {
            "0" => Ok(0.0),
            "1" => Ok(1.0),
            _ => Err(refused),
        },
        _ => text.parse::<u32>().map(f64::from).map_err(|_| refused),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// \[LWM2M-7.3.2-PERIODS\] \[LWM2M-7.3.2-LIMITS\] \[LWM2M-7.3.2-REMOVE\] \[LWM2M-7.3.2-NEW\]
    #[test]
    fn queries_are_written_as_they_are_read() {
        let query = [
            "pmin=10",
            "pmax",
            "epmin=1",
            "epmax=4294967295",
            "gt=50.5",
            "lt=-10",
            "st=0.5",
            "edge=1",
            "con=0",
            "hqmax=20",
        ];
        let attributes = Attributes::of_query(query).unwrap();
        assert_eq!(attributes.query(), query);
        assert_eq!(attributes.get(Attribute::Gt), Some(50.5));
        assert_eq!(attributes.get(Attribute::Pmax), None);
        assert_eq!(attributes.iter().count(), 10);
    }

    /// \[LWM2M-7.3.2-PERIODS\] \[LWM2M-7.3.2-LIMITS\] \[LWM2M-7.3.2-NEW\]
    #[test]
    fn values_that_an_attribute_cannot_have_are_refused() {
        for item in [
            "pmin=-1",
            "pmin=1.5",
            "pmin=",
            "pmax=4294967296",
            "gt=x",
            "gt=inf",
            "lt=NaN",
            "st=0",
            "st=-1",
            "edge=2",
            "con=true",
            "hqmax=-1",
        ] {
            let name = item.split_once('=').unwrap().0.parse().unwrap();
            let refused = Attributes::of_query([item]);
            assert_eq!(refused, Err(AttributeError::Value(name)), "{item}");
        }
        let unknown = Attributes::of_query(["dim=8"]);
        assert_eq!(unknown, Err(AttributeError::Unknown("dim".into())));
    }

    /// Core 1.2 §7.3.2. Our reading: docs/interpretations.md#lwm2m-write-attributes. \[LWM2M-7.3.2-LIMITS\] \[LWM2M-7.3.2-PMAX-IGNORED\]
    #[test]
    fn limits_fit_each_other() {
        let check = |query: &[&str]| Attributes::of_query(query.iter().copied()).unwrap().check();
        assert_eq!(check(&["lt=10", "gt=20", "st=4"]), Ok(()));
        assert_eq!(check(&["lt=10", "gt=20", "st=5"]), Err(AttributeError::Limits));
        assert_eq!(check(&["lt=20", "gt=20"]), Err(AttributeError::Limits));
        assert_eq!(check(&["lt=20", "gt"]), Ok(()));
        let ignored = |query: [&str; 2]| Attributes::of_query(query).unwrap().pmax_is_ignored();
        assert!(ignored(["pmin=10", "pmax=9"]));
        assert!(!ignored(["pmin=10", "pmax=10"]));
        assert!(
            Attributes::of_query(["epmin=10", "epmax=10"])
                .unwrap()
                .epmax_is_ignored()
        );
    }

    /// \[LWM2M-7.3.1-PROPERTIES\]
    #[test]
    fn links_have_attributes_among_others() {
        let link = &crate::parse_links(b"</3/0/7>;dim=8;gt=50;pmin=5").unwrap()[0];
        assert_eq!(Attributes::of_link(link).unwrap().query(), ["pmin=5", "gt=50"]);
    }
}
