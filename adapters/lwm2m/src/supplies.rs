//! What a server needs and does not read itself: object definitions and firmware packages.

use bytes::Bytes;
use headgate_coap::blockwise::etag;
use headgate_lwm2m_codec::object::Registry;
use headgate_model::Files;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, LazyLock};

/// The definitions that the gateway has.
static BUILTIN: LazyLock<Registry> = LazyLock::new(Registry::builtin);
/// The longest definition, in bytes.
const MOST_DEFINITION: usize = 4 << 20;

/// See the module. Two are the same when they were made of the same files.
#[derive(Clone)]
pub struct Supplies {
    /// Object definitions.
    pub registry: Arc<Registry>,
    /// Firmware packages by their name.
    pub packages: Arc<BTreeMap<String, Package>>,
    /// What they were made of, if not of nothing.
    objects: Option<Arc<Files>>,
    firmware: Option<Arc<Files>>,
}

/// A firmware package.
#[derive(Clone, Debug)]
pub struct Package {
    /// All of it.
    pub body: Bytes,
    /// Another one for every other body. RFC 7252 §5.10.6
    pub etag: Bytes,
}

impl Supplies {
    /// Has these definitions beside those of the gateway: files `*.xml` as in the registry of OMA. What is none is told, and left out.
    pub fn define(&mut self, files: &Arc<Files>) -> Vec<String> {
        let mut told = Vec::new();
        if is_same(self.objects.as_ref(), Some(files)) {
            return told;
        }
        let mut registry = BUILTIN.clone();
        for (name, xml) in files.iter().filter(|(name, _)| name.ends_with(".xml")) {
            let added = match std::str::from_utf8(xml) {
                Ok(_) if xml.len() > MOST_DEFINITION => Err(format!("longer than {MOST_DEFINITION} bytes")),
                Ok(xml) => registry.add_xml(xml).map(drop).map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            told.extend(added.err().map(|what| format!("{name}: {what}")));
        }
        self.registry = Arc::new(registry);
        self.objects = Some(Arc::clone(files));
        told
    }

    /// Has these packages, and no others.
    pub fn store(&mut self, files: &Arc<Files>) {
        if is_same(self.firmware.as_ref(), Some(files)) {
            return;
        }
        let package = |(name, body): (&String, &Bytes)| {
            let (body, etag) = (body.clone(), etag(body));
            (name.clone(), Package { body, etag })
        };
        self.packages = Arc::new(files.iter().map(package).collect());
        self.firmware = Some(Arc::clone(files));
    }
}

fn is_same(one: Option<&Arc<Files>>, other: Option<&Arc<Files>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (one, other) => one.is_none() && other.is_none(),
    }
}

impl Default for Supplies {
    fn default() -> Self {
        Self {
            registry: Arc::new(BUILTIN.clone()),
            packages: Arc::default(),
            objects: None,
            firmware: None,
        }
    }
}

impl PartialEq for Supplies {
    fn eq(&self, other: &Self) -> bool {
        let objects = is_same(self.objects.as_ref(), other.objects.as_ref());
        objects && is_same(self.firmware.as_ref(), other.firmware.as_ref())
    }
}

impl fmt::Debug for Supplies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supplies")
            .field("packages", &self.packages.keys())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAMP: &str = r#"<LWM2M><Object ObjectType="MODefinition"><Name>Lamp</Name><ObjectID>32770</ObjectID>
        <ObjectURN>urn:oma:lwm2m:x:32770</ObjectURN><MultipleInstances>Multiple</MultipleInstances><Mandatory>Optional</Mandatory>
        <Resources><Item ID="0"><Name>Colour</Name><Operations>RW</Operations><MultipleInstances>Single</MultipleInstances>
        <Mandatory>Mandatory</Mandatory><Type>String</Type></Item></Resources></Object></LWM2M>"#;

    #[test]
    fn a_definition_that_is_none_leaves_the_others_as_they_are() {
        let file = |name: &str, text: &'static str| (name.to_owned(), Bytes::from_static(text.as_bytes()));
        let files = Arc::new(Files::from([
            file("lamp.xml", LAMP),
            file("bad.xml", "<LWM2M><Object>"),
            file("README", "x"),
        ]));
        let mut supplies = Supplies::default();
        let told = supplies.define(&files);
        assert_eq!(supplies.registry.object(32_770).unwrap().name, "Lamp");
        assert!(supplies.registry.object(3).is_some());
        assert!(told.len() == 1 && told[0].starts_with("bad.xml: "), "{told:?}");
        assert_ne!(supplies, Supplies::default());
        let mut again = Supplies::default();
        again.define(&files);
        assert_eq!(supplies, again, "the same files make the same");
    }
}
