//! Settings as they are written into the new configuration: in the order in which they were set.

use serde::ser::{Serialize, SerializeMap, Serializer};
use std::fmt;

/// A value of TOML.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Text(String),
    Number(i64),
    Bool(bool),
    List(Vec<Value>),
    Table(Table),
}

/// Keys and values.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Table(Vec<(String, Value)>);

impl Table {
    /// Sets `bus.max_inflight`, for instance; tables on the way are made.
    pub(crate) fn set(&mut self, path: &str, value: impl Into<Value>) {
        match path.split_once('.') {
            Some((first, rest)) => self.table(first).set(rest, value),
            None => *self.entry(path, || Value::Bool(false)) = value.into(),
        }
    }

    /// Puts an entry at the end of a list, which is made if there is none.
    pub(crate) fn push(&mut self, path: &str, value: impl Into<Value>) {
        if let Some((first, rest)) = path.split_once('.') {
            return self.table(first).push(rest, value);
        }
        if let Value::List(list) = self.entry(path, || Value::List(Vec::new())) {
            list.push(value.into());
        }
    }

    /// All that another table has.
    pub(crate) fn extend(&mut self, other: Table) {
        for (key, value) in other.0 {
            *self.entry(&key, || Value::Bool(false)) = value;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.0
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value)
    }

    fn table(&mut self, key: &str) -> &mut Table {
        let entry = self.entry(key, || Value::Table(Table::default()));
        if !matches!(entry, Value::Table(_)) {
            *entry = Value::Table(Table::default());
        }
        match entry {
            Value::Table(table) => table,
            _ => unreachable!("it was made one"),
        }
    }

    fn entry(&mut self, key: &str, absent: impl FnOnce() -> Value) -> &mut Value {
        let at = self.0.iter().position(|(name, _)| name == key);
        let at = at.unwrap_or_else(|| {
            self.0.push((key.to_owned(), absent()));
            self.0.len() - 1
        });
        &mut self.0[at].1
    }
}

impl Serialize for Table {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Number(number) => serializer.serialize_i64(*number),
            Self::Bool(bool) => serializer.serialize_bool(*bool),
            Self::List(list) => list.serialize(serializer),
            Self::Table(table) => table.serialize(serializer),
        }
    }
}

/// As in TOML, in one line.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{}", toml::Value::from(text.as_str())),
            Self::Number(number) => write!(f, "{number}"),
            Self::Bool(bool) => write!(f, "{bool}"),
            Self::List(list) => {
                let list: Vec<String> = list.iter().map(ToString::to_string).collect();
                write!(f, "[{}]", list.join(", "))
            }
            Self::Table(table) => {
                let pairs: Vec<String> = table.0.iter().map(|(k, v)| format!("{k} = {v}")).collect();
                write!(f, "{{ {} }}", pairs.join(", "))
            }
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<bool> for Value {
    fn from(bool: bool) -> Self {
        Self::Bool(bool)
    }
}

impl From<Table> for Value {
    fn from(table: Table) -> Self {
        Self::Table(table)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(list: Vec<T>) -> Self {
        Self::List(list.into_iter().map(Into::into).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What stands behind a section in TOML would belong to it: plain values come first, whatever the order in which they were set.
    #[test]
    fn sections_come_behind_plain_values_and_keep_their_order() {
        let mut table = Table::default();
        table.set("bus.max_inflight", 20);
        table.set("node", "a\"b");
        table.set("mqttsn", Value::List(Vec::new()));
        let mut listener = Table::default();
        listener.set("tls.key", "k");
        listener.set("name", "b");
        table.push("listeners", listener);
        table.set("bus.overlap", "one_copy");
        let text = toml::to_string(&table).unwrap();
        let read: toml::Table = text.parse().unwrap();
        assert_eq!(read["node"].as_str(), Some("a\"b"));
        assert_eq!(read["listeners"][0]["tls"]["key"].as_str(), Some("k"));
        assert_eq!(read["listeners"][0]["name"].as_str(), Some("b"));
        assert!(text.find("max_inflight") < text.find("overlap"), "{text}");
        assert!(text.contains("mqttsn = []"), "{text}");
        assert_eq!(Value::from(vec!["a", "b"]).to_string(), "[\"a\", \"b\"]");
    }
}
