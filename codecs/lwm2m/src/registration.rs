//! What a client registers: its objects and instances, and where its paths begin. Core 1.2 §6.2.1

use crate::link::{parse, write_link};
use crate::object::is_version;
use crate::{LinkError, Path};
use std::collections::{BTreeMap, BTreeSet};

/// The resource type of the link that tells where the paths of LwM2M begin.
const RESOURCE_TYPE: &str = "oma.lwm2m";

/// What a client has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Registered {
    /// Where its paths begin, without a slash at the end: `/lwm2m`; `/` if it does not say.
    pub root: String,
    /// Numbers of the formats it prefers or has, as in CoAP's registry.
    pub formats: Vec<u16>,
    /// Its objects.
    pub objects: BTreeMap<u16, RegisteredObject>,
}

/// An object of a client.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RegisteredObject {
    /// Two numbers with a point between them; `None` if the client does not say: it is that of the object's first definition, or the one that the version of LwM2M has.
    pub version: Option<String>,
    /// Its instances, which may be none.
    pub instances: BTreeSet<u16>,
}

/// Reads the links of a registration or of its update. Links to something else than objects and instances are other resources of the client, and are read over.
pub fn parse_registration(payload: &[u8]) -> Result<Registered, LinkError> {
    let links = parse(payload)?;
    let mut registered = Registered {
        root: "/".to_owned(),
        formats: Vec::new(),
        objects: BTreeMap::new(),
    };
    let is_root = |types: &str| types.split_ascii_whitespace().any(|name| name == RESOURCE_TYPE);
    let root = (1..)
        .zip(&links)
        .find(|(_, link)| link.get("rt").is_some_and(is_root));
    if let Some((number, link)) = root {
        // One slash in front, none at the end, however many there are.
        registered.root = format!("/{}", link.target.trim_matches('/'));
        for format in link.get("ct").unwrap_or_default().split_ascii_whitespace() {
            let format = format.parse();
            registered
                .formats
                .push(format.map_err(|_| LinkError::ContentFormat { number })?);
        }
    }
    for (number, link) in (1..).zip(&links) {
        let Some(path) = below(&registered.root, link.target) else {
            continue;
        };
        let (id, instance) = match *path.ids() {
            [id] => (id, None),
            [id, instance] => (id, Some(instance)),
            _ => continue,
        };
        let object = registered.objects.entry(id).or_default();
        object.instances.extend(instance);
        if let Some(version) = link.get("ver") {
            if !is_version(version) {
                return Err(LinkError::Version { number });
            }
            // What the object itself says, wherever it stands, is more than what an instance says.
            if instance.is_none() || object.version.is_none() {
                object.version = Some(version.to_owned());
            }
        }
    }
    Ok(registered)
}

fn below(root: &str, target: &str) -> Option<Path> {
    let target = target.strip_prefix('/').unwrap_or(target);
    let root = root.strip_prefix('/').unwrap_or(root);
    let path = match root {
        "" => target,
        root => target.strip_prefix(root)?.strip_prefix('/')?,
    };
    path.parse().ok()
}

/// Writes the links of a registration: `</>;rt="oma.lwm2m";ct=110,</1>;ver=1.1,</1/0>,</3/0>`.
pub fn write_registration(registered: &Registered) -> String {
    let mut links = Vec::new();
    let root = registered.root.trim_end_matches('/');
    let attribute = |name: &str, value: String| (name.to_owned(), Some(value));
    if !root.is_empty() || !registered.formats.is_empty() {
        let mut attributes = vec![attribute("rt", RESOURCE_TYPE.to_owned())];
        if !registered.formats.is_empty() {
            let formats: Vec<_> = registered.formats.iter().map(u16::to_string).collect();
            attributes.push(attribute("ct", formats.join(" ")));
        }
        let target = if root.is_empty() { "/" } else { root };
        links.push((target.to_owned(), attributes));
    }
    for (id, object) in &registered.objects {
        if object.version.is_some() || object.instances.is_empty() {
            let version = object
                .version
                .iter()
                .map(|version| attribute("ver", version.clone()));
            links.push((format!("{root}/{id}"), version.collect()));
        }
        let instances = object.instances.iter();
        links.extend(instances.map(|instance| (format!("{root}/{id}/{instance}"), Vec::new())));
    }
    let mut text = String::new();
    for (target, attributes) in &links {
        if !text.is_empty() {
            text.push(',');
        }
        write_link(&mut text, target, attributes).expect("a string takes everything");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(version: Option<&str>, instances: &[u16]) -> RegisteredObject {
        RegisteredObject {
            version: version.map(str::to_owned),
            instances: instances.iter().copied().collect(),
        }
    }

    /// \[LWM2M-6.2.1-OBJECTS\] \[LWM2M-6.2.1-FORMATS\] \[LWM2M-6.2.1-OBJECT-VERSION\]
    #[test]
    fn a_registration_has_objects_versions_and_instances() {
        let text =
            "</>;rt=\"oma.lwm2m\";ct=\"60 110 112\",</1>;ver=1.1,</1/0>,</3/0>,</5>,</3303/0>,</3303/1>";
        let registered = parse_registration(text.as_bytes()).unwrap();
        assert_eq!(registered.root, "/");
        assert_eq!(registered.formats, [60, 110, 112]);
        let objects = [
            (1, object(Some("1.1"), &[0])),
            (3, object(None, &[0])),
            (5, object(None, &[])),
            (3303, object(None, &[0, 1])),
        ];
        assert_eq!(registered.objects, BTreeMap::from(objects));
        assert_eq!(write_registration(&registered), text);
    }

    /// Transport 1.2, "Alternate Path": the paths of LwM2M may begin elsewhere. \[LWM2M-6.2.1-ALTERNATE-PATH\]
    #[test]
    fn an_alternate_path_stands_before_all_others() {
        let text = "</lwm2m/1/0>,</lwm2m>;rt=\"oma.lwm2m\";ct=11543,</lwm2m/3/0>,</3/1>,</lwm2mx/4/0>";
        let registered = parse_registration(text.as_bytes()).unwrap();
        assert_eq!(registered.root, "/lwm2m");
        assert_eq!(registered.formats, [11543]);
        let objects = [(1, object(None, &[0])), (3, object(None, &[0]))];
        assert_eq!(registered.objects, BTreeMap::from(objects));
        let written = "</lwm2m>;rt=\"oma.lwm2m\";ct=11543,</lwm2m/1/0>,</lwm2m/3/0>";
        assert_eq!(write_registration(&registered), written);
    }

    /// \[LWM2M-6.2.1-ALTERNATE-PATH\]
    #[test]
    fn an_alternate_path_has_one_slash_in_front() {
        for target in ["lwm2m", "/lwm2m/", "//lwm2m"] {
            let text = format!("<{target}>;rt=\"oma.lwm2m\",</lwm2m/3/0>");
            let registered = parse_registration(text.as_bytes()).unwrap();
            assert_eq!(registered.root, "/lwm2m");
            assert_eq!(registered.objects[&3], object(None, &[0]));
            let written = write_registration(&registered);
            assert_eq!(parse_registration(written.as_bytes()), Ok(registered));
        }
    }

    /// \[LWM2M-6.2.1-OBJECT-VERSION\]
    #[test]
    fn the_objects_version_is_more_than_its_instances() {
        let text = "</3/0>;ver=\"1.0\",</3>;ver=1.2,</3/1>;ver=1.1,</4/0>;ver=1.3";
        let registered = parse_registration(text.as_bytes()).unwrap();
        assert_eq!(registered.objects[&3], object(Some("1.2"), &[0, 1]));
        assert_eq!(registered.objects[&4], object(Some("1.3"), &[0]));
    }

    #[test]
    fn other_resources_are_read_over() {
        let text = "</sensors/temp>;rt=\"x oma.lwm2m.not\",</>,</3/0/1>,</3/65535>,</03>,<coap://[::1]/3>";
        assert!(parse_registration(text.as_bytes()).unwrap().objects.is_empty());
    }

    /// \[LWM2M-6.2.1-MALFORMED\]
    #[test]
    fn versions_and_formats_that_are_none_are_refused() {
        let parse = |text: &str| parse_registration(text.as_bytes());
        assert_eq!(parse("</1>,</3>;ver=one"), Err(LinkError::Version { number: 2 }));
        let text = "</>;rt=\"oma.lwm2m\";ct=\"110 x\"";
        assert_eq!(parse(text), Err(LinkError::ContentFormat { number: 1 }));
        assert_eq!(parse("</1"), Err(LinkError::Syntax(3)));
    }
}
