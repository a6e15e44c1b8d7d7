//! Definitions of objects that a gateway told, in JSON.

use headgate_lwm2m_codec::Type;
use headgate_lwm2m_codec::object::{Object, Registry, Resource};
use serde_json::Value as Json;

/// The definitions that the program has, and those that were told; what cannot be one is left out.
pub(crate) fn registry_of(told: Option<&Json>) -> Registry {
    let mut registry = Registry::builtin();
    let told = told.and_then(Json::as_array).into_iter().flatten();
    for object in told.filter_map(object) {
        registry.add(object);
    }
    registry
}

fn object(told: &Json) -> Option<Object> {
    let resources = told["resources"].as_array()?.iter();
    let resources = resources.filter_map(resource);
    Some(Object {
        id: number(&told["id"])?,
        name: text(&told["name"]),
        version: text(&told["version"]),
        multiple: told["multiple"] == true,
        mandatory: told["mandatory"] == true,
        resources: resources.map(|resource| (resource.id, resource)).collect(),
    })
}

fn resource(told: &Json) -> Option<Resource> {
    let kind = told["type"].as_str();
    Some(Resource {
        id: number(&told["id"])?,
        name: text(&told["name"]),
        kind: kind.and_then(|kind| kind.parse::<Type>().ok()),
        read: told["read"] == true,
        write: told["write"] == true,
        execute: told["execute"] == true,
        multiple: told["multiple"] == true,
        mandatory: told["mandatory"] == true,
        units: text(&told["units"]),
        range: text(&told["range"]),
    })
}

fn number(told: &Json) -> Option<u16> {
    told.as_u64()?.try_into().ok()
}

fn text(told: &Json) -> String {
    told.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// What is told goes before what the program has; nonsense does no harm.
    #[test]
    fn what_is_told_is_known() {
        let told = json!([
            {"id": 32_770, "name": "Lamp", "version": "1.0", "resources": [
                {"id": 1, "name": "Hue", "type": "Unsigned Integer", "units": "deg", "read": true},
                {"id": 70_000}, {"id": 2, "type": "Colour"}, 7,
            ]},
            {"id": 3, "name": "Our device", "version": "9.0", "resources": []},
            {"id": 5, "name": "no version", "version": "x", "resources": []},
            {"name": "no number"}, null,
        ]);
        let registry = registry_of(Some(&told));
        let hue = registry.resource(&"/32770/0/1".parse().unwrap()).unwrap();
        assert_eq!(
            (&*hue.name, hue.kind, &*hue.units),
            ("Hue", Some(Type::Unsigned), "deg")
        );
        assert!(hue.read && !hue.write && !hue.multiple);
        assert_eq!(registry.object(32_770).unwrap().resources.len(), 2);
        assert_eq!(registry.object(3).unwrap().name, "Our device");
        assert_eq!(registry.object(5), Registry::builtin().object(5));
        for nothing in [None, Some(&json!(null)), Some(&json!({}))] {
            assert_eq!(registry_of(nothing), Registry::builtin());
        }
    }
}
