//! Whatever a client or a server may say comes back as it was said, in every format that can say it.

mod common;

use bytes::Bytes;
use common::path;
use headgate_lwm2m_codec::{Format, Path, Record, Type, Types, Value, decode, encode};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use std::collections::BTreeMap;

const TYPES: [Type; 9] = [
    Type::String,
    Type::Integer,
    Type::Unsigned,
    Type::Float,
    Type::Boolean,
    Type::Opaque,
    Type::Time,
    Type::ObjectLink,
    Type::CoreLink,
];

/// A resource's identifier tells its type.
struct ByNumber;

impl Types for ByNumber {
    fn of(&self, path: &Path) -> Option<Type> {
        let id = path.ids().get(2)?;
        Some(TYPES[usize::from(*id) % TYPES.len()])
    }

    fn is_multiple(&self, _: &Path) -> Option<bool> {
        None
    }
}

fn value(of: Type, finite: bool) -> BoxedStrategy<Value> {
    match of {
        Type::String => any::<String>().prop_map(Value::String).boxed(),
        Type::Integer => prop_oneof![any::<i64>(), any::<i32>().prop_map(i64::from), -300..300_i64]
            .prop_map(Value::Integer)
            .boxed(),
        Type::Unsigned => prop_oneof![any::<u64>(), 0..70_000_u64]
            .prop_map(Value::Unsigned)
            .boxed(),
        Type::Float => prop_oneof![
            any::<f64>(),
            any::<f32>().prop_map(f64::from),
            (-300..300).prop_map(f64::from)
        ]
        .prop_filter("no number equals itself", move |number| {
            if finite {
                number.is_finite()
            } else {
                !number.is_nan()
            }
        })
        .prop_map(Value::Float)
        .boxed(),
        Type::Boolean => any::<bool>().prop_map(Value::Boolean).boxed(),
        Type::Opaque => prop_oneof![vec(any::<u8>(), 0..20), vec(any::<u8>(), 250..260)]
            .prop_map(|bytes| Value::Opaque(Bytes::from(bytes)))
            .boxed(),
        Type::Time => any::<i64>().prop_map(Value::Time).boxed(),
        Type::ObjectLink => any::<(u16, u16)>()
            .prop_map(|(a, b)| Value::ObjectLink(a, b))
            .boxed(),
        Type::CoreLink => "[<>/a-z0-9;,]{0,40}".prop_map(Value::CoreLink).boxed(),
    }
}

/// Resources with values and with instances, below the instances of one object.
fn records(finite: bool) -> impl Strategy<Value = Vec<Record>> {
    let resource =
        (prop_oneof![0..20_u16, 0..65_535_u16], any::<bool>()).prop_flat_map(move |(id, multiple)| {
            let of = TYPES[usize::from(id) % TYPES.len()];
            let instances = if multiple {
                btree_map(prop_oneof![0..4_u16, 0..65_535_u16], value(of, finite), 1..4)
                    .prop_map(|instances| {
                        instances
                            .into_iter()
                            .map(|(at, value)| (Some(at), value))
                            .collect()
                    })
                    .boxed()
            } else {
                value(of, finite).prop_map(|value| vec![(None, value)]).boxed()
            };
            (Just(id), instances)
        });
    let object = btree_map(0..65_535_u16, vec(resource, 1..6), 0..4);
    object.prop_map(|instances| {
        let mut records = BTreeMap::new();
        for (instance, resources) in instances {
            let resources: BTreeMap<_, Vec<_>> = resources.into_iter().collect();
            for (resource, values) in resources {
                for (at, value) in values {
                    let path = Path::of(&[3300, instance, resource]).unwrap();
                    let path = at.map_or(path, |at| path.child(at).unwrap());
                    records.insert(path, Record::new(path, value));
                }
            }
        }
        records.into_values().collect()
    })
}

fn times() -> impl Strategy<Value = Vec<Option<f64>>> {
    let time = prop_oneof![
        (-1e5..0.0_f64),
        (1.6e9..1.8e9_f64),
        (-100..2_000_000_000_i64).prop_map(|seconds| seconds as f64),
    ];
    vec(option::of(time), 100)
}

fn comes_back(format: Format, base: Path, records: &[Record]) -> Result<(), TestCaseError> {
    let payload = encode(format, base, records).expect("the format can say it");
    let again = decode(format, base, &payload, &ByNumber);
    prop_assert_eq!(again.as_deref(), Ok(records), "{} {:02x?}", format, payload);
    Ok(())
}

/// The records of one instance, and of its first resource.
fn parts(records: &[Record]) -> Vec<(Path, Vec<Record>)> {
    let Some(first) = records.first() else {
        return Vec::new();
    };
    [2, 3]
        .map(|depth| {
            let base = Path::of(&first.path.ids()[..depth]).unwrap();
            let inside = |record: &&Record| base.contains(&record.path);
            (base, records.iter().filter(inside).cloned().collect())
        })
        .to_vec()
}

proptest! {
    /// \[LWM2M-7.4-TLV\] \[LWM2M-7.4-SENML-CBOR\] \[LWM2M-7.4-LWM2M-CBOR\]
    #[test]
    fn trees_come_back(records in records(false)) {
        for format in [Format::Tlv, Format::Lwm2mCbor, Format::SenmlCbor] {
            comes_back(format, path("/3300"), &records)?;
            for (base, part) in parts(&records) {
                comes_back(format, base, &part)?;
            }
        }
        comes_back(Format::Lwm2mCbor, Path::ROOT, &records)?;
    }

    /// \[LWM2M-7.4-SENML-JSON\] \[LWM2M-7.4-JSON\]
    #[test]
    fn lists_with_times_come_back(mut records in records(true), times in times()) {
        for (record, time) in records.iter_mut().zip(times) {
            record.time = time;
        }
        for format in [Format::SenmlJson, Format::SenmlCbor, Format::Json] {
            comes_back(format, Path::ROOT, &records)?;
            comes_back(format, path("/3300"), &records)?;
            for (base, part) in parts(&records) {
                comes_back(format, base, &part)?;
            }
        }
    }

    /// \[LWM2M-7.4-TEXT\] \[LWM2M-7.4-OPAQUE\] \[LWM2M-7.4-CBOR\]
    #[test]
    fn single_values_come_back(records in records(false)) {
        for record in &records {
            for format in [Format::Text, Format::Cbor] {
                comes_back(format, record.path, std::slice::from_ref(record))?;
            }
            if matches!(record.value, Some(Value::Opaque(_))) {
                comes_back(Format::Opaque, record.path, std::slice::from_ref(record))?;
            }
        }
    }

    /// \[LWM2M-C-DATA-TYPES\]
    #[test]
    fn values_come_back_from_json_and_text(records in records(false)) {
        for value in records.into_iter().filter_map(|record| record.value) {
            let of = value.type_of();
            prop_assert_eq!(Value::of_json(&value.to_json(), of), Ok(value.clone()));
            let json = serde_json::to_string(&value.to_json()).unwrap();
            let json = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(Value::of_json(&json, of), Ok(value.clone()));
            prop_assert_eq!(Value::of_text(&value.to_text(), of), Ok(value.clone()));
        }
    }

    #[test]
    fn paths_come_back(ids in vec(0..65_535_u16, 0..=4)) {
        let path = Path::of(&ids).unwrap();
        prop_assert_eq!(path.ids(), &ids[..]);
        prop_assert_eq!(path.to_string().parse(), Ok(path));
    }
}
