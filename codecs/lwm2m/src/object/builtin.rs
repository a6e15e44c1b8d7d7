//! The definitions that are in the program: `objects.txt`, which tells its own format.

use super::{Object, Registry, Resource, operations};
use std::collections::BTreeMap;
use std::sync::LazyLock;

static REGISTRY: LazyLock<Registry> =
    LazyLock::new(|| parse(include_str!("objects.txt")).expect("a test reads the same text"));

pub(super) fn registry() -> Registry {
    REGISTRY.clone()
}

fn parse(text: &str) -> Option<Registry> {
    let mut registry = Registry::empty();
    let mut current: Option<Object> = None;
    let lines = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    for line in lines {
        match line.strip_prefix('=') {
            Some(line) => {
                if let Some(done) = current.replace(object(line)?) {
                    registry.add(done);
                }
            }
            None => {
                let resource = resource(line)?;
                current.as_mut()?.resources.insert(resource.id, resource);
            }
        }
    }
    registry.add(current?);
    Some(registry)
}

fn object(line: &str) -> Option<Object> {
    let fields: Vec<_> = line.split('|').collect();
    let [id, version, flags, name] = fields[..] else {
        return None;
    };
    let (multiple, mandatory) = self::flags(flags)?;
    Some(Object {
        id: id.parse().ok()?,
        name: name.to_owned(),
        version: super::is_version(version).then(|| version.to_owned())?,
        multiple,
        mandatory,
        resources: BTreeMap::new(),
    })
}

fn resource(line: &str) -> Option<Resource> {
    let fields: Vec<_> = line.split('|').collect();
    let [id, name, kind, allowed, flags, ref more @ ..] = fields[..] else {
        return None;
    };
    let (read, write, execute) = operations(allowed)?;
    let (multiple, mandatory) = self::flags(flags)?;
    let kind = match kind {
        "" => None,
        kind => Some(kind.parse().ok()?),
    };
    let text = |at: usize| more.get(at).copied().unwrap_or_default().to_owned();
    Some(Resource {
        id: id.parse().ok()?,
        name: name.to_owned(),
        kind,
        read,
        write,
        execute,
        multiple,
        mandatory,
        units: text(0),
        range: text(1),
    })
}

fn flags(flags: &str) -> Option<(bool, bool)> {
    match flags {
        "SO" => Some((false, false)),
        "SM" => Some((false, true)),
        "MO" => Some((true, false)),
        "MM" => Some((true, true)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Type;

    #[test]
    fn the_objects_of_lwm2m_and_ipso_are_there() {
        let registry = parse(include_str!("objects.txt")).expect("every line is a definition");
        let lwm2m = [0, 1, 2, 3, 4, 5, 6, 7, 9, 16, 19, 21, 23];
        assert!(lwm2m.into_iter().all(|id| registry.object(id).is_some()));
        let device = registry.object(3).unwrap();
        assert!(device.mandatory && !device.multiple);
        let battery = &device.resources[&9];
        assert_eq!(
            (battery.kind, battery.read, battery.write),
            (Some(Type::Integer), true, false)
        );
        assert_eq!(
            (battery.units.as_str(), battery.range.as_str()),
            ("/100", "0..100")
        );
        assert!(device.resources[&4].execute);
        let temperature = registry.object(3303).unwrap();
        assert!(temperature.multiple);
        assert_eq!(temperature.resources[&5700].kind, Some(Type::Float));
    }

    /// What can be done with a resource and the type of its values fit each other.
    #[test]
    fn only_what_is_executed_has_no_type() {
        for object in Registry::builtin().objects() {
            assert!(!object.resources.is_empty(), "{}", object.name);
            for (id, resource) in &object.resources {
                assert_eq!(resource.id, *id);
                let is_executed = resource.execute && !resource.read && !resource.write;
                assert_eq!(resource.kind.is_none(), is_executed, "{} {}", object.id, id);
            }
        }
    }

    #[test]
    fn a_line_that_is_no_definition_is_found() {
        for text in [
            "",
            "0|a|String|R|SO",
            "=3|1.0|SO",
            "=3|1|SO|a",
            "=3|1.0|XO|a",
            "=3|1.0|SO|a\n0|b|Text|R|SO",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
