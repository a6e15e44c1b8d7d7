//! Definitions in OMA's XML schema: one object a file. Core 1.2, appendix D.1
//!
//! Always true: nothing is fetched and no entity expands to more than one character; a document with a DTD is refused.

use super::{Object, Resource, is_version, operations};
use crate::RESERVED_ID;
use crate::path::decimal;
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use std::collections::BTreeMap;

/// The schema has five levels.
const MAX_DEPTH: usize = 32;

/// Why XML is no definition, and where.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line} (byte {byte}): {fault}")]
pub struct XmlError {
    /// What is wrong.
    pub fault: XmlFault,
    /// From 0 on.
    pub byte: usize,
    /// From 1 on.
    pub line: usize,
}

/// What is wrong with a definition.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum XmlFault {
    /// Elements that do not end, or end and did not begin; attributes without quotes; and the like.
    #[error("this is no XML")]
    Syntax,
    /// Definitions have none.
    #[error("a document type")]
    DocumentType,
    /// Only the five that XML has, and characters by their number.
    #[error("the entity {0:?}")]
    Entity(String),
    /// More elements in each other than any definition has.
    #[error("elements nested too deep")]
    TooDeep,
    /// There is no object.
    #[error("no object is defined (LWM2M/Object)")]
    NoObject,
    /// There is more than one.
    #[error("a second object: a file defines one")]
    SecondObject,
    /// Something that has to be there is not.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// Something is there, and is not what it may be.
    #[error("{element} cannot be {text:?}")]
    Value {
        /// Its name in the schema.
        element: &'static str,
        /// As it is, shortened if it is long.
        text: String,
    },
    /// Two resources have the same identifier.
    #[error("the resource {0} is defined twice")]
    Twice(u16),
}

/// An object or a resource of which not everything is read.
#[derive(Default)]
struct Fields(BTreeMap<&'static str, String>);

/// Elements of the schema that say something which is kept.
const FIELDS: [&str; 10] = [
    "Name",
    "ObjectID",
    "ObjectVersion",
    "MultipleInstances",
    "Mandatory",
    "Operations",
    "Type",
    "RangeEnumeration",
    "Units",
    ID,
];
/// The attribute of a resource.
const ID: &str = "ID";

impl Fields {
    fn set(&mut self, name: &str, text: &str) {
        if let Some(field) = FIELDS.into_iter().find(|field| *field == name) {
            let words: Vec<_> = text.split_whitespace().collect();
            self.0.insert(field, words.join(" "));
        }
    }

    fn take(&mut self, name: &'static str) -> Result<String, XmlFault> {
        self.0.remove(name).ok_or(XmlFault::Missing(name))
    }

    fn read<T>(&mut self, name: &'static str, read: impl Fn(&str) -> Option<T>) -> Result<T, XmlFault> {
        let text = self.take(name)?;
        read(&text).ok_or_else(|| XmlFault::Value {
            element: name,
            text: text.chars().take(64).collect(),
        })
    }

    fn id(&mut self, name: &'static str) -> Result<u16, XmlFault> {
        self.read(name, |text| decimal(text).filter(|id| *id != RESERVED_ID))
    }

    /// Which of two words stands there.
    fn is(&mut self, name: &'static str, yes: &str, no: &str) -> Result<bool, XmlFault> {
        self.read(name, |text| match text {
            text if text.eq_ignore_ascii_case(yes) => Some(true),
            text if text.eq_ignore_ascii_case(no) => Some(false),
            _ => None,
        })
    }

    fn object(mut self, resources: BTreeMap<u16, Resource>) -> Result<Object, XmlFault> {
        // Definitions of LwM2M 1.0 have no version. Core 1.2 §7.2.2
        self.0.entry("ObjectVersion").or_insert_with(|| "1.0".into());
        Ok(Object {
            id: self.id("ObjectID")?,
            name: self.take("Name")?,
            version: self.read("ObjectVersion", |text| is_version(text).then(|| text.to_owned()))?,
            multiple: self.is("MultipleInstances", "Multiple", "Single")?,
            mandatory: self.is("Mandatory", "Mandatory", "Optional")?,
            resources,
        })
    }

    fn resource(mut self) -> Result<Resource, XmlFault> {
        for optional in ["Operations", "Type", "Units", "RangeEnumeration"] {
            self.0.entry(optional).or_default();
        }
        let (read, write, execute) = self.read("Operations", operations)?;
        let kind = self.read("Type", |text| match text {
            "" => Some(None),
            text => text.parse().ok().map(Some),
        })?;
        Ok(Resource {
            id: self.id(ID)?,
            name: self.take("Name")?,
            kind: kind.filter(|_| !execute),
            read,
            write,
            execute,
            multiple: self.is("MultipleInstances", "Multiple", "Single")?,
            mandatory: self.is("Mandatory", "Mandatory", "Optional")?,
            units: self.take("Units")?,
            range: self.take("RangeEnumeration")?,
        })
    }
}

pub(super) fn parse(xml: &str) -> Result<Object, XmlError> {
    const MARK: char = '\u{FEFF}';
    let text = xml.strip_prefix(MARK).unwrap_or(xml);
    let mut reader = Reader::from_str(text);
    reader.config_mut().expand_empty_elements = true;
    let mut document = Document::default();
    let fault = loop {
        match reader.read_event() {
            Err(_) => break (reader.error_position(), XmlFault::Syntax),
            Ok(event) => {
                let is_end = matches!(event, Event::Eof);
                match document.event(event) {
                    Err(fault) => break (reader.buffer_position(), fault),
                    Ok(()) if is_end => match document.object.take() {
                        Some(object) => return Ok(object),
                        None => break (reader.buffer_position(), XmlFault::NoObject),
                    },
                    Ok(()) => {}
                }
            }
        }
    };
    let (at, fault) = fault;
    let at = usize::try_from(at).unwrap_or(text.len()).min(text.len());
    let line = 1 + text.as_bytes()[..at]
        .iter()
        .filter(|byte| **byte == b'\n')
        .count();
    let byte = at + xml.len() - text.len();
    Err(XmlError { fault, byte, line })
}

/// What has been read of a document so far.
#[derive(Default)]
struct Document {
    /// Names of the elements that have begun and have not ended.
    open: Vec<String>,
    /// What stands in the innermost one.
    text: String,
    fields: Fields,
    item: Fields,
    resources: BTreeMap<u16, Resource>,
    object: Option<Object>,
}

impl Document {
    fn event(&mut self, event: Event<'_>) -> Result<(), XmlFault> {
        match event {
            Event::Start(start) => self.start(&start)?,
            Event::End(_) => self.end()?,
            Event::Text(text) => self.text.push_str(&text),
            Event::CData(text) => self.text.push_str(&text),
            Event::GeneralRef(entity) => {
                let c = match entity.resolve_char_ref() {
                    Ok(Some(c)) => Some(c),
                    Ok(None) => match &*entity {
                        "amp" => Some('&'),
                        "lt" => Some('<'),
                        "gt" => Some('>'),
                        "quot" => Some('"'),
                        "apos" => Some('\''),
                        _ => None,
                    },
                    Err(_) => None,
                };
                let unknown = || XmlFault::Entity(entity.chars().take(64).collect());
                self.text.push(c.ok_or_else(unknown)?);
            }
            Event::DocType(_) => return Err(XmlFault::DocumentType),
            Event::Eof if !self.open.is_empty() => return Err(XmlFault::Syntax),
            Event::Eof | Event::Empty(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
        }
        Ok(())
    }

    fn start(&mut self, start: &BytesStart<'_>) -> Result<(), XmlFault> {
        if self.open.len() == MAX_DEPTH {
            return Err(XmlFault::TooDeep);
        }
        self.open.push(start.local_name().as_ref().to_owned());
        self.text.clear();
        match self.place()[..] {
            ["LWM2M", "Object"] if self.object.is_some() => return Err(XmlFault::SecondObject),
            ["LWM2M", "Object"] => {
                self.fields = Fields::default();
                self.resources.clear();
            }
            ["LWM2M", "Object", "Resources", "Item"] => {
                self.item = Fields::default();
                // Without a look for two of the same name, which would compare each with each.
                let mut attributes = start.attributes();
                let mut attributes = attributes.with_checks(false).filter_map(Result::ok);
                let id = attributes.find(|attribute| attribute.key.as_ref() == ID);
                if let Some(id) = id {
                    self.item.set(ID, &id.value);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), XmlFault> {
        let text = std::mem::take(&mut self.text);
        match self.place()[..] {
            ["LWM2M", "Object"] => {
                let fields = std::mem::take(&mut self.fields);
                self.object = Some(fields.object(std::mem::take(&mut self.resources))?);
            }
            ["LWM2M", "Object", "Resources", "Item"] => {
                let resource = std::mem::take(&mut self.item).resource()?;
                let id = resource.id;
                if self.resources.insert(id, resource).is_some() {
                    return Err(XmlFault::Twice(id));
                }
            }
            ["LWM2M", "Object", field] => {
                let field = field.to_owned();
                self.fields.set(&field, &text);
            }
            ["LWM2M", "Object", "Resources", "Item", field] => {
                let field = field.to_owned();
                self.item.set(&field, &text);
            }
            _ => {}
        }
        self.open.pop();
        Ok(())
    }

    fn place(&self) -> Vec<&str> {
        self.open.iter().map(String::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Type;
    use crate::object::{Added, Registry};

    const VALVE: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<!-- a valve of ours -->
<LWM2M xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
  <Object ObjectType="MODefinition">
    <Name>Valve &amp; pipe</Name>
    <Description1><![CDATA[What is <here> is read over.]]></Description1>
    <ObjectID>26300</ObjectID>
    <ObjectURN>urn:oma:lwm2m:x:26300:1.1</ObjectURN>
    <ObjectVersion>1.1</ObjectVersion>
    <MultipleInstances>Multiple</MultipleInstances>
    <Mandatory>Optional</Mandatory>
    <Resources>
      <Item ID="0">
        <Name>
          Openness
        </Name>
        <Operations>RW</Operations>
        <MultipleInstances>Single</MultipleInstances>
        <Mandatory>Mandatory</Mandatory>
        <Type>Float</Type>
        <RangeEnumeration>0..100</RangeEnumeration>
        <Units>&#47;100</Units>
        <Description/>
      </Item>
      <Item ID="1">
        <Name>Close</Name>
        <Operations>E</Operations>
        <MultipleInstances>Single</MultipleInstances>
        <Mandatory>Optional</Mandatory>
        <Type></Type>
      </Item>
    </Resources>
    <Description2/>
  </Object>
</LWM2M>
"#;

    fn refused(xml: &str) -> XmlError {
        Registry::empty().add_xml(xml).unwrap_err()
    }

    #[test]
    fn a_definition_is_read_with_its_resources() {
        for xml in [
            VALVE.to_owned(),
            format!("\u{FEFF}{VALVE}"),
            VALVE.replace('\n', "\r\n"),
        ] {
            let mut registry = Registry::empty();
            let added = Added {
                id: 26300,
                version: "1.1".into(),
                name: "Valve & pipe".into(),
            };
            assert_eq!(registry.add_xml(&xml), Ok(added));
            let object = registry.object_of(26300, "1.1").unwrap();
            assert!(object.multiple && !object.mandatory);
            let openness = Resource {
                id: 0,
                name: "Openness".into(),
                kind: Some(Type::Float),
                read: true,
                write: true,
                execute: false,
                multiple: false,
                mandatory: true,
                units: "/100".into(),
                range: "0..100".into(),
            };
            assert_eq!(object.resources[&0], openness);
            assert!(object.resources[&1].execute);
            assert_eq!(object.resources[&1].kind, None);
            assert_eq!(object.resources.len(), 2);
        }
    }

    #[test]
    fn a_definition_without_a_version_is_of_the_first() {
        let xml = VALVE.replace("<ObjectVersion>1.1</ObjectVersion>", "");
        assert_eq!(Registry::empty().add_xml(&xml).unwrap().version, "1.0");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let value = |element, text: &str| XmlFault::Value {
            element,
            text: text.into(),
        };
        for (old, new, fault, line) in [
            (
                "<Type>Float</Type>",
                "<Type>Double</Type>",
                value("Type", "Double"),
                24,
            ),
            (
                "<Operations>RW<",
                "<Operations>RWE<",
                value("Operations", "RWE"),
                24,
            ),
            ("<Item ID=\"1\">", "<Item>", XmlFault::Missing("ID"), 31),
            ("<Item ID=\"1\">", "<Item ID=\"65535\">", value("ID", "65535"), 31),
            ("<Item ID=\"1\">", "<Item ID=\"0\">", XmlFault::Twice(0), 31),
            (
                "<ObjectID>26300</ObjectID>",
                "",
                XmlFault::Missing("ObjectID"),
                34,
            ),
            (
                "<ObjectVersion>1.1<",
                "<ObjectVersion>1<",
                value("ObjectVersion", "1"),
                34,
            ),
            ("&amp;", "&bomb;", XmlFault::Entity("bomb".into()), 5),
            ("</Name>", "</Title>", XmlFault::Syntax, 5),
            (
                "<!-- a valve of ours -->",
                "<!DOCTYPE LWM2M>",
                XmlFault::DocumentType,
                2,
            ),
        ] {
            let error = refused(&VALVE.replacen(old, new, 1));
            assert_eq!((&error.fault, error.line), (&fault, line), "{new}");
        }
        assert_eq!(refused("").fault, XmlFault::NoObject);
        assert_eq!(refused("<LWM2M/>").fault, XmlFault::NoObject);
        assert_eq!(refused("<LWM2M>").fault, XmlFault::Syntax);
        assert_eq!(refused(&"<a>".repeat(100)).fault, XmlFault::TooDeep);
        let object = &VALVE[VALVE.find("<Object ").unwrap()..VALVE.find("</LWM2M>").unwrap()];
        let twice = VALVE.replace("</LWM2M>", &format!("{object}</LWM2M>"));
        assert_eq!(refused(&twice).fault, XmlFault::SecondObject);
    }
}
