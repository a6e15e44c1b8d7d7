//! What several tests share: the device of the specification's examples.

#![allow(dead_code, reason = "each test takes what it needs")]

use headgate_lwm2m_codec::{Path, Record, Value};

pub(crate) fn path(text: &str) -> Path {
    text.parse().expect("a path")
}

pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal");
    (0..digits.len()).step_by(2).map(byte).collect()
}

/// The Device object of the examples in Core 1.0 §6.4 and Core 1.1 §7.4.
pub(crate) fn device() -> Vec<Record> {
    let text = |text: &str| Value::String(text.into());
    [
        ("/3/0/0", text("Open Mobile Alliance")),
        ("/3/0/1", text("Lightweight M2M Client")),
        ("/3/0/2", text("345000123")),
        ("/3/0/3", text("1.0")),
        ("/3/0/6/0", Value::Integer(1)),
        ("/3/0/6/1", Value::Integer(5)),
        ("/3/0/7/0", Value::Integer(3800)),
        ("/3/0/7/1", Value::Integer(5000)),
        ("/3/0/8/0", Value::Integer(125)),
        ("/3/0/8/1", Value::Integer(900)),
        ("/3/0/9", Value::Integer(100)),
        ("/3/0/10", Value::Integer(15)),
        ("/3/0/11/0", Value::Integer(0)),
        ("/3/0/13", Value::Time(1_367_491_215)),
        ("/3/0/14", text("+02:00")),
        ("/3/0/16", text("U")),
    ]
    .map(|(at, value)| Record::new(path(at), value))
    .to_vec()
}

/// Two objects that are linked: examples of Core 1.0 §6.4.3.3, in definitions of our own.
pub(crate) const LINKED: [&str; 2] = [
    r#"<LWM2M><Object><Name>Client</Name><ObjectID>65</ObjectID><MultipleInstances>Multiple</MultipleInstances><Mandatory>Optional</Mandatory><Resources>
<Item ID="0"><Name>Services</Name><Operations>R</Operations><MultipleInstances>Multiple</MultipleInstances><Mandatory>Optional</Mandatory><Type>Objlnk</Type></Item>
<Item ID="1"><Name>Number</Name><Operations>R</Operations><MultipleInstances>Single</MultipleInstances><Mandatory>Optional</Mandatory><Type>String</Type></Item>
<Item ID="2"><Name>Key</Name><Operations>R</Operations><MultipleInstances>Single</MultipleInstances><Mandatory>Optional</Mandatory><Type>Integer</Type></Item>
</Resources></Object></LWM2M>"#,
    r#"<LWM2M><Object><Name>Service</Name><ObjectID>66</ObjectID><MultipleInstances>Multiple</MultipleInstances><Mandatory>Optional</Mandatory><Resources>
<Item ID="0"><Name>Name</Name><Operations>R</Operations><MultipleInstances>Single</MultipleInstances><Mandatory>Optional</Mandatory><Type>String</Type></Item>
<Item ID="1"><Name>Access point</Name><Operations>R</Operations><MultipleInstances>Single</MultipleInstances><Mandatory>Optional</Mandatory><Type>String</Type></Item>
<Item ID="2"><Name>Next</Name><Operations>R</Operations><MultipleInstances>Single</MultipleInstances><Mandatory>Optional</Mandatory><Type>Objlnk</Type></Item>
</Resources></Object></LWM2M>"#,
];
