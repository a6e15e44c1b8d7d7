//! Definitions of objects: which resources they have, of which types, and what may be done with them. Core 1.2, appendix D.1
//!
//! [`Registry::builtin`] has those of LwM2M itself and the common sensors and actuators of IPSO; others come as XML in OMA's schema.

mod builtin;
mod xml;

pub use xml::{XmlError, XmlFault};

use crate::{Path, Type, Types};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A definition of an object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Object {
    /// Its identifier.
    pub id: u16,
    /// Its name.
    pub name: String,
    /// Its version: two numbers with a point between them.
    pub version: String,
    /// Whether it may have many instances, and not one alone.
    pub multiple: bool,
    /// Whether every client has it.
    pub mandatory: bool,
    /// Its resources.
    pub resources: BTreeMap<u16, Resource>,
}

/// A definition of a resource.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Resource {
    /// Its identifier.
    pub id: u16,
    /// Its name.
    pub name: String,
    /// The type of its values; `None` if it has none, as one that is there to be executed.
    pub kind: Option<Type>,
    /// Whether a server may read and observe it.
    pub read: bool,
    /// Whether a server may write it.
    pub write: bool,
    /// Whether a server may execute it.
    pub execute: bool,
    /// Whether it has instances.
    pub multiple: bool,
    /// Whether every instance of the object has it.
    pub mandatory: bool,
    /// The unit of its values, as in the definition: `Cel`, `%`. Empty if there is none.
    pub units: String,
    /// Which values it may have, as in the definition: `0..255`. Empty if nothing is said.
    pub range: String,
}

/// What [`Registry::add_xml`] has added.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Added {
    /// The object's identifier.
    pub id: u16,
    /// The object's version.
    pub version: String,
    /// The object's name.
    pub name: String,
}

/// Definitions of objects, each of one version or of many. A clone shares them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Registry(BTreeMap<(u16, Version), Arc<Object>>);

/// Compares as versions do: 1.10 is newer than 1.9.
type Version = (u16, u16);

impl Registry {
    /// Without definitions.
    pub fn empty() -> Self {
        Self::default()
    }

    /// The objects of LwM2M (0 to 7, 9, 16, 19, 21, 23) and those of IPSO from 3200 to 3350, each in its newest version.
    pub fn builtin() -> Self {
        builtin::registry()
    }

    /// Adds the object of an XML file, or takes it in the place of that with the same identifier and version. A byte order mark in front is read over.
    pub fn add_xml(&mut self, xml: &str) -> Result<Added, XmlError> {
        let object = xml::parse(xml)?;
        let added = Added {
            id: object.id,
            version: object.version.clone(),
            name: object.name.clone(),
        };
        let is_added = self.add(object);
        debug_assert!(is_added, "its version was looked at where it was read");
        Ok(added)
    }

    /// Adds an object, or takes it in the place of that with the same identifier and version. False if its version is none; then nothing is added.
    pub fn add(&mut self, object: Object) -> bool {
        let version = version_of(&object.version);
        version.is_some_and(|version| {
            self.0.insert((object.id, version), Arc::new(object));
            true
        })
    }

    /// Adds all definitions of another one; those with the same identifier and version are taken from there.
    pub fn merge(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// The newest definition of an object.
    pub fn object(&self, id: u16) -> Option<&Object> {
        let mut versions = self.0.range((id, (0, 0))..=(id, (u16::MAX, u16::MAX)));
        versions.next_back().map(|(_, object)| &**object)
    }

    /// The definition of an object of one version, such as `1.1`.
    pub fn object_of(&self, id: u16, version: &str) -> Option<&Object> {
        self.0.get(&(id, version_of(version)?)).map(|object| &**object)
    }

    /// The definition of a resource, or of the resource this is an instance of, in the newest version of its object.
    pub fn resource(&self, path: &Path) -> Option<&Resource> {
        let id = path.ids().get(2)?;
        self.object(path.object()?)?.resources.get(id)
    }

    /// All definitions, by identifier and version.
    pub fn objects(&self) -> impl Iterator<Item = &Object> {
        self.0.values().map(|object| &**object)
    }
}

impl Types for Registry {
    fn of(&self, path: &Path) -> Option<Type> {
        self.resource(path)?.kind
    }

    fn is_multiple(&self, path: &Path) -> Option<bool> {
        self.resource(path).map(|resource| resource.multiple)
    }
}

fn version_of(text: &str) -> Option<Version> {
    let (major, minor) = text.split_once('.')?;
    Some((crate::path::decimal(major)?, crate::path::decimal(minor)?))
}

/// Two numbers with a point between them.
pub(crate) fn is_version(text: &str) -> bool {
    version_of(text).is_some()
}

/// What the operations of a definition allow: reading, writing, executing.
fn operations(text: &str) -> Option<(bool, bool, bool)> {
    match text {
        "" => Some((false, false, false)),
        "R" => Some((true, false, false)),
        "W" => Some((false, true, false)),
        "RW" => Some((true, true, false)),
        "E" => Some((false, false, true)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(id: u16, version: &str, name: &str) -> Object {
        Object {
            id,
            name: name.into(),
            version: version.into(),
            multiple: false,
            mandatory: false,
            resources: BTreeMap::new(),
        }
    }

    #[test]
    fn the_newest_version_is_found_unless_another_is_asked_for() {
        let mut registry = Registry::empty();
        for version in ["1.9", "1.10", "1.0"] {
            registry.add(object(7, version, version));
        }
        registry.add(object(8, "2.0", "other"));
        assert_eq!(registry.object(7).unwrap().version, "1.10");
        assert_eq!(registry.object_of(7, "1.0").unwrap().version, "1.0");
        assert_eq!(registry.object_of(7, "1.1"), None);
        assert_eq!(registry.object_of(7, "one"), None);
        assert_eq!(registry.object(6), None);
        assert!(!registry.add(object(9, "one", "no version")));
        assert_eq!(registry.objects().count(), 4);
    }

    #[test]
    fn what_is_merged_wins() {
        let mut registry = Registry::empty();
        registry.add(object(7, "1.0", "old"));
        let mut other = Registry::empty();
        other.add(object(7, "1.0", "new"));
        registry.merge(other);
        assert_eq!(registry.object(7).unwrap().name, "new");
    }

    #[test]
    fn the_types_of_resources_are_those_of_their_instances() {
        let registry = Registry::builtin();
        let path = |text: &str| text.parse().unwrap();
        assert_eq!(registry.of(&path("/3/0/6/1")), Some(Type::Integer));
        assert_eq!(registry.is_multiple(&path("/3/0/6")), Some(true));
        assert_eq!(registry.is_multiple(&path("/3/0/9")), Some(false));
        assert_eq!(registry.of(&path("/3/0/4")), None, "to be executed");
        assert_eq!(registry.of(&path("/3/0")), None);
        assert_eq!(registry.is_multiple(&path("/9999/0/1")), None);
    }
}
