//! Payloads of every format: the specification's examples, and what is refused, one clause each.

mod common;

use bytes::Bytes;
use common::{LINKED, device, hex, path};
use headgate_lwm2m_codec::object::Registry;
use headgate_lwm2m_codec::{
    Format, FormatError, MAX_RECORDS, Path, PathError, Record, Type, Value, ValueError, decode, encode,
};

/// A payload is read as these records, and these records are written as this payload.
fn both_ways(format: Format, base: &str, payload: &[u8], records: &[Record]) {
    let types = types();
    assert_eq!(
        decode(format, path(base), payload, &types).as_deref(),
        Ok(records)
    );
    let written = encode(format, path(base), records).expect("it came in such a payload");
    assert_eq!(
        String::from_utf8_lossy(&written),
        String::from_utf8_lossy(payload)
    );
    assert_eq!(written, payload);
}

fn types() -> Registry {
    let mut types = Registry::builtin();
    for xml in LINKED {
        types.add_xml(xml).expect("a definition");
    }
    types
}

fn read(format: Format, base: &str, payload: &[u8]) -> Result<Vec<Record>, FormatError> {
    decode(format, path(base), payload, &types())
}

fn untyped(format: Format, base: &str, payload: &[u8]) -> Vec<Record> {
    decode(format, path(base), payload, &()).expect("a payload")
}

fn of(at: &str, value: Value) -> Record {
    Record::new(path(at), value)
}

fn at_time(at: &str, value: Value, time: f64) -> Record {
    Record {
        time: Some(time),
        ..of(at, value)
    }
}

fn text(text: &str) -> Value {
    Value::String(text.into())
}

const DEVICE_TLV: &str = "C80014 4F70656E204D6F62696C6520416C6C69616E6365 C80116 4C69676874776569676874204D324D20436C69656E74
    C80209 333435303030313233 C303 312E30 8606 410001 410105 880708 42000ED8 42011388 8708 41007D 42010384 C10964 C10A0F
    830B 410000 C40D 5182428F C60E 2B30323A3030 C110 55";

/// Core 1.0 §6.4.3.1 \[LWM2M-7.4-TLV\]
#[test]
fn tlv_of_an_instance_has_its_resources() {
    both_ways(Format::Tlv, "/3/0", &hex(DEVICE_TLV), &device());
}

/// Core 1.0 §6.4.3.2 A \[LWM2M-7.4-TLV\]
#[test]
fn tlv_of_an_object_has_its_instances() {
    both_ways(
        Format::Tlv,
        "/3",
        &hex(&format!("080079 {DEVICE_TLV}")),
        &device(),
    );
}

/// Core 1.0 §6.4.3.2 B
#[test]
fn tlv_of_an_access_control_object() {
    let payload =
        hex("08000E C10001 C10100 8302 417F07 C1037F 080212 C10003 C10100 8702 417F07 61013601 C1037F");
    let records = [
        ("/2/0/0", 1),
        ("/2/0/1", 0),
        ("/2/0/2/127", 7),
        ("/2/0/3", 127),
        ("/2/2/0", 3),
        ("/2/2/1", 0),
        ("/2/2/2/127", 7),
        ("/2/2/2/310", 1),
        ("/2/2/3", 127),
    ]
    .map(|(at, number)| of(at, Value::Integer(number)));
    both_ways(Format::Tlv, "/2", &payload, &records);
}

/// Core 1.0 §6.4.3.2 C
#[test]
fn tlv_of_a_server_object() {
    let payload = hex("08000F C10001 C401 00015180 C10601 C10755");
    let records = [
        of("/1/0/0", Value::Integer(1)),
        of("/1/0/1", Value::Integer(86_400)),
        of("/1/0/6", Value::Boolean(true)),
        of("/1/0/7", text("U")),
    ];
    both_ways(Format::Tlv, "/1", &payload, &records);
}

/// Core 1.0 §6.4.3.3
#[test]
fn tlv_of_object_links() {
    let payload = hex("88000C 440000420000 440100420001 C8010D 38363133383030373535353030 C402 12345678");
    let records = [
        of("/65/0/0/0", Value::ObjectLink(66, 0)),
        of("/65/0/0/1", Value::ObjectLink(66, 1)),
        of("/65/0/1", text("8613800755500")),
        of("/65/0/2", Value::Integer(0x1234_5678)),
    ];
    both_ways(Format::Tlv, "/65/0", &payload, &records);

    let payload = hex(
        "080026 C8000B 6D79536572766963652031 C8010F 496E7465726E65742E31352E323334 C402 00430000
         080126 C8000B 6D79536572766963652032 C8010F 496E7465726E65742E31352E323335 C402 FFFFFFFF",
    );
    let records = [
        of("/66/0/0", text("myService 1")),
        of("/66/0/1", text("Internet.15.234")),
        of("/66/0/2", Value::ObjectLink(67, 0)),
        of("/66/1/0", text("myService 2")),
        of("/66/1/1", text("Internet.15.235")),
        of("/66/1/2", Value::ObjectLink(65535, 65535)),
    ];
    both_ways(Format::Tlv, "/66", &payload, &records);
}

/// \[LWM2M-7.4-TLV\]
#[test]
fn tlv_of_resources_and_their_instances() {
    both_ways(
        Format::Tlv,
        "/3/0/9",
        &hex("C10964"),
        &[of("/3/0/9", Value::Integer(100))],
    );
    let powers = [
        of("/3/0/6/0", Value::Integer(1)),
        of("/3/0/6/1", Value::Integer(5)),
    ];
    both_ways(Format::Tlv, "/3/0/6", &hex("8606 410001 410105"), &powers);
    both_ways(Format::Tlv, "/3/0/6/1", &hex("410105"), &powers[1..]);
}

/// Clients answer with the levels above what was asked for, or with instances alone. Our reading: docs/interpretations.md#lwm2m-tlv-level.
/// \[LWM2M-7.4-TLV\]
#[test]
fn tlv_may_begin_at_another_level() {
    let battery = [of("/3/0/9", Value::Integer(100))];
    assert_eq!(read(Format::Tlv, "/3/0", &hex("0300 C10964")).unwrap(), battery);
    assert_eq!(read(Format::Tlv, "/3/0/9", &hex("0300 C10964")).unwrap(), battery);
    assert_eq!(read(Format::Tlv, "/3", &hex("C10964")).unwrap(), battery);
    let power = [of("/3/0/6/1", Value::Integer(5))];
    assert_eq!(read(Format::Tlv, "/3/0/6", &hex("410105")).unwrap(), power);
    assert_eq!(read(Format::Tlv, "/3/0/6/1", &hex("8306 410105")).unwrap(), power);
}

#[test]
fn tlv_of_what_is_empty_says_its_path() {
    for (base, payload, at) in [
        ("/3", "0000", "/3/0"),
        ("/3/0", "0000", "/3/0"),
        ("/3/0", "8006", "/3/0/6"),
    ] {
        both_ways(Format::Tlv, base, &hex(payload), &[Record::of_path(path(at))]);
    }
    both_ways(Format::Tlv, "/3/0", b"", &[]);
}

#[test]
fn tlv_of_unknown_resources_is_bytes() {
    let record = of("/3/0/9", Value::Opaque(Bytes::from_static(b"\x64")));
    assert_eq!(untyped(Format::Tlv, "/3/0", &hex("C10964")), [record]);
}

#[test]
fn tlv_of_numbers_of_every_size() {
    let read = |at: &str, payload: &str| {
        let record = read(Format::Tlv, at, &hex(payload)).map(|mut records| records.remove(0));
        record.map(|record| record.value.expect("a value"))
    };
    assert_eq!(read("/3303/0/5700", "E41644 41B00000"), Ok(Value::Float(22.0)));
    assert_eq!(
        read("/3303/0/5700", "E8164408 4036800000000000"),
        Ok(Value::Float(22.5))
    );
    assert_eq!(read("/3/0/9", "C1099C"), Ok(Value::Integer(-100)));
    assert_eq!(
        read("/3/0/9", "C80908 FFFFFFFFFFFFFF9C"),
        Ok(Value::Integer(-100))
    );
    let size = |at: &str, wanted, size| {
        let (path, error) = (path(at), ValueError::Size { wanted, size });
        Err(FormatError::Value { path, error })
    };
    assert_eq!(
        read("/3303/0/5700", "E21644 0000"),
        size("/3303/0/5700", Type::Float, 2)
    );
    assert_eq!(read("/3/0/9", "C309 000000"), size("/3/0/9", Type::Integer, 3));
    assert_eq!(read("/3/0/9", "C009"), size("/3/0/9", Type::Integer, 0));
    assert_eq!(read("/1/0/6", "C206 0001"), size("/1/0/6", Type::Boolean, 2));
    let (path, error) = (path("/1/0/6"), ValueError::Syntax(Type::Boolean));
    assert_eq!(read("/1/0/6", "C106 02"), Err(FormatError::Value { path, error }));
}

/// Core 1.0 §6.4.3: which entries stand in which. \[LWM2M-7.4-TLV-MALFORMED\]
#[test]
fn tlv_that_is_cut_off_or_at_a_wrong_level_is_refused() {
    for (base, payload, at) in [
        ("/3/0", "C1", 0),
        ("/3/0", "C109", 0),
        ("/3/0", "C10964 C80014 4F", 3),
        ("/3/0", "C8", 0),
        ("/3/0", "D809FFFFFF00", 0),
        ("/3/0", "410105", 0),
        ("/3", "410105", 0),
        ("/3", "0300 C10964 C10964", 5),
        ("/3", "0500 0300 C10964", 2),
        ("/3/0", "8606 C10001 C10105", 2),
        ("/3/0", "8206 8000", 2),
        ("/3", "0300 410105", 2),
        ("/3/0", "E1FFFF64", 0),
    ] {
        let error = Err(FormatError::Tlv(at));
        assert_eq!(read(Format::Tlv, base, &hex(payload)), error, "{payload}");
    }
    let root = Err(FormatError::Level(Path::ROOT));
    assert_eq!(read(Format::Tlv, "/", &hex("C10964")), root);
    let outside = |at: &str, base: &str| {
        let (path, base) = (path(at), path(base));
        Err(FormatError::Outside { path, base })
    };
    assert_eq!(
        read(Format::Tlv, "/3/0/9", &hex("C10A64")),
        outside("/3/0/10", "/3/0/9")
    );
    assert_eq!(
        read(Format::Tlv, "/3/0", &hex("0301 C10964")),
        outside("/3/1/9", "/3/0")
    );
    let twice = |at: &str| Err(FormatError::Twice(path(at)));
    assert_eq!(read(Format::Tlv, "/3/0", &hex("C10964 C10964")), twice("/3/0/9"));
    assert_eq!(
        read(Format::Tlv, "/3/0", &hex("C10664 8306 410105")),
        twice("/3/0/6")
    );
}

const DEVICE_SENML: &str = r#"[{"bn":"/3/0/","n":"0","vs":"Open Mobile Alliance"},{"n":"1","vs":"Lightweight M2M Client"},{"n":"2","vs":"345000123"},{"n":"3","vs":"1.0"},{"n":"6/0","v":1},{"n":"6/1","v":5},{"n":"7/0","v":3800},{"n":"7/1","v":5000},{"n":"8/0","v":125},{"n":"8/1","v":900},{"n":"9","v":100},{"n":"10","v":15},{"n":"11/0","v":0},{"n":"13","v":1367491215},{"n":"14","vs":"+02:00"},{"n":"16","vs":"U"}]"#;

/// Core 1.1 §7.4, SenML JSON \[LWM2M-7.4-SENML-JSON\]
#[test]
fn senml_json_of_an_instance() {
    both_ways(Format::SenmlJson, "/3/0", DEVICE_SENML.as_bytes(), &device());
}

/// Core 1.1 §7.4, SenML JSON: links, and what Read-Composite asks for. \[LWM2M-7.4-SENML-JSON\]
#[test]
fn senml_json_of_links_and_of_paths() {
    let payload = r#"[{"n":"/65/0/0/0","vlo":"66:0"},{"n":"/65/0/1","vs":"8613800755500"}]"#;
    let records = [
        of("/65/0/0/0", Value::ObjectLink(66, 0)),
        of("/65/0/1", text("8613800755500")),
    ];
    both_ways(Format::SenmlJson, "/", payload.as_bytes(), &records);
    let payload = r#"[{"n":"/3/0/0"},{"n":"/3/0/9"},{"n":"/1"}]"#;
    let paths = ["/3/0/0", "/3/0/9", "/1"].map(|at| Record::of_path(path(at)));
    both_ways(Format::SenmlJson, "/", payload.as_bytes(), &paths);
    let mixed = br#"[{"bn":"/3/0/9","v":null},{"bn":"/3/0","n":"/10","vs":null},{"bn":"/3/"}]"#;
    let paths = ["/3/0/9", "/3/0/10", "/3"].map(|at| Record::of_path(path(at)));
    assert_eq!(read(Format::SenmlJson, "/", mixed).unwrap(), paths);
}

/// RFC 8428 §4.1, §4.6: base fields hold until there are others. \[LWM2M-7.4-SENML-JSON\]
#[test]
fn senml_base_fields_are_resolved() {
    let payload =
        br#"[{"bn":"/3303/0/","bt":1.7e9,"bv":20,"n":"5700","v":2.5,"u":"Cel"},{"n":"5700","v":3,"t":-10},
        {"bn":"/3303/1/","n":"5700","v":0.5,"bt":0,"bv":1},{"n":"5750","vs":"door","s":4,"ut":60}]"#;
    let records = [
        at_time("/3303/0/5700", Value::Float(22.5), 1.7e9),
        at_time("/3303/0/5700", Value::Float(23.0), 1_699_999_990.0),
        at_time("/3303/1/5700", Value::Float(1.5), 0.0),
        at_time("/3303/1/5750", text("door"), 0.0),
    ];
    assert_eq!(read(Format::SenmlJson, "/3303", payload).unwrap(), records);
    let payload = br#"[{"bn":"/3303/0/5700","t":-5.5,"v":-9007199254740993,"bv":-1}]"#;
    let record = at_time("/3303/0/5700", Value::Integer(-9_007_199_254_740_994), -5.5);
    assert_eq!(untyped(Format::SenmlJson, "/", payload), [record]);
}

/// A name of nothing is the request's path. Our reading: docs/interpretations.md#lwm2m-names.
#[test]
fn senml_without_names_is_of_the_requests_path() {
    let record = of("/3/0/9", Value::Integer(100));
    assert_eq!(
        read(Format::SenmlJson, "/3/0/9", br#"[{"v":100}]"#).unwrap(),
        [record]
    );
}

#[test]
fn senml_json_bytes_may_be_of_either_alphabet() {
    let record = of("/5/0/0", Value::Opaque(Bytes::from_static(b"\xfb\xff")));
    both_ways(
        Format::SenmlJson,
        "/5/0",
        br#"[{"bn":"/5/0/","n":"0","vd":"-_8"}]"#,
        &[record],
    );
    let padded = br#"[{"n":"/5/0/0","vd":"+/8="}]"#;
    assert_eq!(read(Format::SenmlJson, "/5/0", padded).unwrap().len(), 1);
}

/// Our reading: docs/interpretations.md#lwm2m-types.
#[test]
fn senml_of_unknown_resources_has_the_types_that_show() {
    let payload = br#"[{"bn":"/9999/0/","n":"0","v":22},{"n":"1","v":22.5},{"n":"2","v":22.0},{"n":"3","vb":true},{"n":"4","v":18446744073709551615}]"#;
    let values: Vec<_> = untyped(Format::SenmlJson, "/", payload)
        .into_iter()
        .map(|record| record.value.unwrap())
        .collect();
    let wanted = [
        Value::Integer(22),
        Value::Float(22.5),
        Value::Float(22.0),
        Value::Boolean(true),
        Value::Unsigned(u64::MAX),
    ];
    assert_eq!(values, wanted);
}

/// \[LWM2M-7.4-SENML-JSON-MALFORMED\]
#[test]
fn senml_json_that_is_none_is_refused() {
    let read = |payload: &str| read(Format::SenmlJson, "/3", payload.as_bytes());
    for (payload, shape) in [
        ("{}", "[]"),
        ("[1]", "{}"),
        (r#"[{"n":1}]"#, "n"),
        (r#"[{"bn":null}]"#, "bn"),
        (r#"[{"n":"/3/0/9","v":"100"}]"#, "v"),
        (r#"[{"n":"/3/0/9","t":"now"}]"#, "t"),
        (r#"[{"n":"/3/0/9","vd":"!"}]"#, "vd"),
        (r#"[{"n":"/3/0/9","vlo":"3"}]"#, "vlo"),
        (r#"[{"n":"/3/0/9","vb":1}]"#, "vb"),
        (r#"[{"n":"/3/0/9","v":18446744073709551615,"bv":1}]"#, "bv"),
    ] {
        assert_eq!(read(payload), Err(FormatError::Shape(shape)), "{payload}");
    }
    let long = format!(r#"[{{"bn":"{}"}}]"#, "/".repeat(65));
    assert_eq!(read(&long), Err(FormatError::Shape("n")));
    assert_eq!(read("[{]"), Err(FormatError::Json { line: 1, column: 3 }));
    assert!(matches!(read(&"[".repeat(1_000)), Err(FormatError::Json { .. })));
    let two = r#"[{"n":"/3/0/9","v":1,"vs":"1"}]"#;
    assert_eq!(read(two), Err(FormatError::TwoValues));
    let unknown = r#"[{"n":"/3/0/9","x_":1}]"#;
    assert_eq!(read(unknown), Err(FormatError::MustUnderstand("x_".into())));
    assert_eq!(read(r#"[{"bver":11}]"#), Err(FormatError::Version(11)));
    assert_eq!(
        read(r#"[{"n":"/3/0","v":1}]"#),
        Err(FormatError::NotAResource(path("/3/0")))
    );
    let (name, error) = ("/3/09".to_owned(), PathError::Id(2));
    assert_eq!(
        read(r#"[{"bn":"/3/0","n":"9"}]"#),
        Err(FormatError::Name { name, error })
    );
    let outside = FormatError::Outside {
        path: path("/4/0/0"),
        base: path("/3"),
    };
    assert_eq!(read(r#"[{"n":"/4/0/0","v":1}]"#), Err(outside));
    let refused = |error| {
        Err(FormatError::Value {
            path: path("/3/0/9"),
            error,
        })
    };
    let payload = r#"[{"n":"/3/0/9","v":22.5}]"#;
    assert_eq!(read(payload), refused(ValueError::Range(Type::Integer)));
    let (wanted, given) = (Type::Integer, Type::String);
    let payload = r#"[{"n":"/3/0/9","vs":"22"}]"#;
    assert_eq!(read(payload), refused(ValueError::Type { wanted, given }));
    assert_eq!(
        read(r#"[{"n":"/3/0/9","v":22.0}]"#),
        Ok(vec![of("/3/0/9", Value::Integer(22))])
    );
}

/// Core 1.1 §7.4, SenML CBOR: the same device. \[LWM2M-7.4-SENML-CBOR\]
#[test]
fn senml_cbor_of_an_instance() {
    let payload = hex(
        "90 A3 21 65 2F332F302F 00 61 30 03 74 4F70656E204D6F62696C6520416C6C69616E6365
         A2 00 61 31 03 76 4C69676874776569676874204D324D20436C69656E74
         A2 00 61 32 03 69 333435303030313233 A2 00 61 33 03 63 312E30
         A2 00 63 362F30 02 01 A2 00 63 362F31 02 05 A2 00 63 372F30 02 190ED8 A2 00 63 372F31 02 191388
         A2 00 63 382F30 02 187D A2 00 63 382F31 02 190384 A2 00 61 39 02 1864 A2 00 62 3130 02 0F
         A2 00 64 31312F30 02 00 A2 00 62 3133 02 1A5182428F A2 00 62 3134 03 66 2B30323A3030 A2 00 62 3136 03 61 55",
    );
    both_ways(Format::SenmlCbor, "/3/0", &payload, &device());
}

/// \[LWM2M-7.4-SENML-CBOR\]
#[test]
fn senml_cbor_has_links_times_and_bytes() {
    let records = [
        at_time("/65/0/0/0", Value::ObjectLink(66, 0), 1.5),
        at_time(
            "/5/0/0",
            Value::Opaque(Bytes::from_static(b"\x01")),
            1_700_000_000.0,
        ),
        of("/1/0/6", Value::Boolean(true)),
    ];
    let payload = hex(
        "83 A3 00 69 2F36352F302F302F30 06 FA3FC00000 63 766C6F 64 36363A30
         A3 00 66 2F352F302F30 06 1A6553F100 08 41 01 A2 00 66 2F312F302F36 04 F5",
    );
    both_ways(Format::SenmlCbor, "/", &payload, &records);
    // Of unknown length, with a decimal fraction, and a sum and a unit that are read over.
    let payload =
        hex("9F BF 20 0A 21 6C 2F333330332F302F35373030 02 C4 82 20 18E1 05 82 01 02 01 63 43656C FF FF");
    let record = of("/3303/0/5700", Value::Float(22.5));
    assert_eq!(read(Format::SenmlCbor, "/3303", &payload).unwrap(), [record]);
}

/// RFC 8428 §6: a number is one, tagged or not.
#[test]
fn senml_cbor_has_no_times_among_its_values() {
    let record = of("/9999/0/1", Value::Integer(125));
    let payload = hex("81 A2 00 69 2F393939392F302F31 02 C1 187D");
    assert_eq!(untyped(Format::SenmlCbor, "/9999", &payload), [record]);
}

/// \[LWM2M-7.4-SENML-CBOR-MALFORMED\]
#[test]
fn senml_cbor_that_is_none_is_refused() {
    let read = |payload: &str| read(Format::SenmlCbor, "/3", &hex(payload));
    assert_eq!(read(""), Err(FormatError::Cbor(0)));
    assert_eq!(read("A0"), Err(FormatError::Cbor(0)));
    assert_eq!(read("9BFFFFFFFFFFFFFFFF"), Err(FormatError::Cbor(9)));
    assert_eq!(read("81 A1 00"), Err(FormatError::Cbor(3)));
    assert_eq!(read("80 00"), Err(FormatError::Trailing(1)));
    assert_eq!(read("81 A1 02 61 31"), Err(FormatError::Shape("v")));
    assert_eq!(
        read("81 A1 62 785F 01"),
        Err(FormatError::MustUnderstand("x_".into()))
    );
    assert_eq!(read("81 A1 20 0B"), Err(FormatError::Version(11)));
    assert_eq!(read("81 A2 02 01 04 F5"), Err(FormatError::TwoValues));
}

const DEVICE_JSON: &str = r#"{"bn":"/3/0/","e":[{"n":"0","sv":"Open Mobile Alliance"},{"n":"1","sv":"Lightweight M2M Client"},{"n":"2","sv":"345000123"},{"n":"3","sv":"1.0"},{"n":"6/0","v":1},{"n":"6/1","v":5},{"n":"7/0","v":3800},{"n":"7/1","v":5000},{"n":"8/0","v":125},{"n":"8/1","v":900},{"n":"9","v":100},{"n":"10","v":15},{"n":"11/0","v":0},{"n":"13","v":1367491215},{"n":"14","sv":"+02:00"},{"n":"16","sv":"U"}]}"#;

/// Core 1.0 §6.4.4 \[LWM2M-7.4-JSON\]
#[test]
fn json_of_an_instance() {
    both_ways(Format::Json, "/3/0", DEVICE_JSON.as_bytes(), &device());
}

/// Core 1.0 §6.4.4: a notification of several moments, and links. \[LWM2M-7.4-JSON\]
#[test]
fn json_has_times_and_links() {
    let payload = br#"{"e":[{"n":"1/2","v":"22.4","t":"-5"},{"n":"1/2","v":"22.9","t":"-30"},{"n":"1/2","v":24,"t":-50}],"bt":"25462634"}"#;
    let records = [
        at_time("/72/1/2", Value::Float(22.4), 25_462_629.0),
        at_time("/72/1/2", Value::Float(22.9), 25_462_604.0),
        at_time("/72/1/2", Value::Integer(24), 25_462_584.0),
    ];
    assert_eq!(untyped(Format::Json, "/72", payload), records);
    let payload = br#"{"bn":"/","e":[{"n":"65/0/0/0","ov":"66:0"},{"n":"65/0/1","sv":"8613800755500"}]}"#;
    let records = [
        of("/65/0/0/0", Value::ObjectLink(66, 0)),
        of("/65/0/1", text("8613800755500")),
    ];
    both_ways(Format::Json, "/", payload, &records);
}

/// \[LWM2M-7.4-JSON\]
#[test]
fn json_of_one_resource_has_its_path_in_the_base_name() {
    let battery = [of("/3/0/9", Value::Integer(100))];
    both_ways(
        Format::Json,
        "/3/0/9",
        br#"{"bn":"/3/0/9","e":[{"v":100}]}"#,
        &battery,
    );
    for payload in [
        r#"{"e":[{"v":100}]}"#,
        r#"{"e":[{"n":"","v":"100"}]}"#,
        r#"{"bn":"/3/0","e":[{"n":"9","v":100}]}"#,
        r#"{"bn":"/3/0/","e":[{"n":"/9","v":1e2}]}"#,
        r#"{"bn":"","e":[{"n":"/3/0/9","v":100}]}"#,
    ] {
        assert_eq!(
            read(Format::Json, "/3/0/9", payload.as_bytes()).unwrap(),
            battery,
            "{payload}"
        );
    }
    let bytes = of("/5/0/0", Value::Opaque(Bytes::from_static(b"\xfb\xff")));
    both_ways(
        Format::Json,
        "/5/0",
        br#"{"bn":"/5/0/","e":[{"n":"0","sv":"+/8="}]}"#,
        &[bytes],
    );
}

/// \[LWM2M-7.4-JSON-MALFORMED\]
#[test]
fn json_that_is_none_is_refused() {
    let read = |payload: &str| read(Format::Json, "/3/0", payload.as_bytes());
    for (payload, shape) in [
        ("[]", "{}"),
        ("{}", "e"),
        (r#"{"e":{}}"#, "e"),
        (r#"{"e":[1]}"#, "e"),
        (r#"{"bn":1,"e":[]}"#, "bn"),
        (r#"{"bt":"x","e":[]}"#, "bt"),
        (r#"{"e":[{"n":9}]}"#, "n"),
        (r#"{"e":[{"n":"9","v":true}]}"#, "v"),
        (r#"{"e":[{"n":"9","sv":1}]}"#, "sv"),
        (r#"{"e":[{"n":"9","bv":"1"}]}"#, "bv"),
        (r#"{"e":[{"n":"9","ov":1}]}"#, "ov"),
        (r#"{"e":[{"n":"9","v":1,"t":null}]}"#, "t"),
    ] {
        assert_eq!(read(payload), Err(FormatError::Shape(shape)), "{payload}");
    }
    assert_eq!(
        read(r#"{"e":[{"n":"9","v":1,"sv":"1"}]}"#),
        Err(FormatError::TwoValues)
    );
    let (path, error) = (path("/3/0/9"), ValueError::Syntax(Type::Float));
    let refused = FormatError::Value { path, error };
    assert_eq!(read(r#"{"e":[{"n":"9","v":"many"}]}"#), Err(refused));
}

/// Core 1.2 §7.4, LwM2M CBOR \[LWM2M-7.4-LWM2M-CBOR\]
#[test]
fn lwm2m_cbor_is_maps_in_maps() {
    let payload = hex(
        "A1 03 A1 00 AD 00 74 4F70656E204D6F62696C6520416C6C69616E6365 01 76 4C69676874776569676874204D324D20436C69656E74
         02 69 333435303030313233 03 63 312E30 06 A2 00 01 01 05 07 A2 00 190ED8 01 191388 08 A2 00 187D 01 190384
         09 1864 0A 0F 0B A1 00 00 0D C11A5182428F 0E 66 2B30323A3030 10 61 55",
    );
    both_ways(Format::Lwm2mCbor, "/3/0", &payload, &device());
    let links = [of("/65/0/0/0", Value::ObjectLink(66, 0))];
    both_ways(
        Format::Lwm2mCbor,
        "/",
        &hex("A1 1841 A1 00 A1 00 A1 00 64 36363A30"),
        &links,
    );
    let paths = ["/1", "/3/0/9"].map(|at| Record::of_path(path(at)));
    both_ways(Format::Lwm2mCbor, "/", &hex("A2 01 F6 03 A1 00 A1 09 F6"), &paths);
}

/// \[LWM2M-7.4-LWM2M-CBOR\]
#[test]
fn lwm2m_cbor_keys_may_be_parts_of_paths() {
    let resources = [
        of("/13/26/1", Value::Integer(42)),
        of("/13/26/2", Value::Integer(21)),
    ];
    for payload in [
        "A1 82 0D181A A2 01 182A 02 15",
        "A2 83 0D181A01 182A 83 0D181A02 15",
        "A2 82 0D181A A1 01 182A 83 0D181A02 15",
        "A1 81 0D A1 81 181A A2 81 01 182A 81 02 15",
        "BF 9F 0D 181A FF BF 01 182A 02 15 FF FF",
        "A1 0D A1 181A A2 01 182A 02 15",
    ] {
        assert_eq!(
            untyped(Format::Lwm2mCbor, "/13", &hex(payload)),
            resources,
            "{payload}"
        );
    }
    let record = of("/13/26/1/2", Value::Float(4.5));
    let payload = hex("A1 81 0D A1 81 181A A1 81 01 A1 81 02 C4 82 20 182D");
    assert_eq!(untyped(Format::Lwm2mCbor, "/13", &payload), [record]);
    let empty = Record::of_path(path("/13/26"));
    assert_eq!(
        untyped(Format::Lwm2mCbor, "/13", &hex("A1 82 0D181A A0")),
        [empty]
    );
    assert_eq!(untyped(Format::Lwm2mCbor, "/", &hex("A0")), []);
}

/// \[LWM2M-7.4-LWM2M-CBOR-MALFORMED\]
#[test]
fn lwm2m_cbor_that_is_none_is_refused() {
    let read = |payload: &str| read(Format::Lwm2mCbor, "/13", &hex(payload));
    for (payload, at) in [
        ("", 0),
        ("80", 0),
        ("A1", 1),
        ("A1 61 30 00", 1),
        ("A1 20 00", 1),
        ("A1 80 00", 1),
        ("A1 19FFFF 00", 1),
        ("A1 1A00010000 00", 1),
        ("A1 85 0D00000000 00", 1),
        ("A1 84 0D000000 A1 00 00", 7),
        ("A1 83 0D0000 80", 5),
        ("BBFFFFFFFFFFFFFFFF", 9),
    ] {
        assert_eq!(read(payload), Err(FormatError::Cbor(at)), "{payload}");
    }
    assert_eq!(
        read("A1 82 0D00 05"),
        Err(FormatError::NotAResource(path("/13/0")))
    );
    assert_eq!(
        read("A2 83 0D0000 05 83 0D0000 05"),
        Err(FormatError::Twice(path("/13/0/0")))
    );
    assert_eq!(
        read("A2 83 0D0000 05 84 0D000000 05"),
        Err(FormatError::Twice(path("/13/0/0")))
    );
    assert_eq!(read("A0 00"), Err(FormatError::Trailing(1)));
    let outside = FormatError::Outside {
        path: path("/3/0/9"),
        base: path("/13"),
    };
    assert_eq!(read("A1 83 030009 05"), Err(outside));
}

/// Core 1.2 §7.4: plain text, opaque, CBOR \[LWM2M-7.4-TEXT\] \[LWM2M-7.4-OPAQUE\] \[LWM2M-7.4-CBOR\]
#[test]
fn one_value_is_text_bytes_or_cbor() {
    both_ways(Format::Text, "/3/0/0", b"Open Mobile Alliance", &device()[..1]);
    both_ways(
        Format::Text,
        "/3/0/9",
        b"100",
        &[of("/3/0/9", Value::Integer(100))],
    );
    both_ways(
        Format::Text,
        "/3/0/6/1",
        b"5",
        &[of("/3/0/6/1", Value::Integer(5))],
    );
    both_ways(
        Format::Text,
        "/3303/0/5700",
        b"-22.5",
        &[of("/3303/0/5700", Value::Float(-22.5))],
    );
    let image = [of(
        "/5/0/0",
        Value::Opaque(Bytes::from_static(b"\x01\x02\x03\x04\x05")),
    )];
    both_ways(Format::Text, "/5/0/0", b"AQIDBAU=", &image);
    both_ways(Format::Opaque, "/5/0/0", b"\x01\x02\x03\x04\x05", &image);
    both_ways(Format::Cbor, "/5/0/0", b"\x45\x01\x02\x03\x04\x05", &image);
    both_ways(Format::Cbor, "/3/0/13", &hex("C11A5182428F"), &device()[13..14]);
    assert_eq!(
        read(Format::Cbor, "/3/0/13", &hex("1A5182428F")).unwrap(),
        device()[13..14]
    );
    assert_eq!(
        untyped(Format::Text, "/9999/0/1", b"5"),
        [of("/9999/0/1", text("5"))]
    );
}

/// \[LWM2M-7.4-TEXT\] \[LWM2M-7.4-OPAQUE\] \[LWM2M-7.4-CBOR\]
#[test]
fn what_is_not_one_value_is_refused() {
    for format in [Format::Text, Format::Opaque, Format::Cbor] {
        for base in ["/", "/3", "/3/0", "/3/0/6"] {
            let refused = Err(FormatError::NotOneValue(path(base)));
            assert_eq!(read(format, base, b"\x01"), refused, "{format} {base}");
        }
        let two = encode(format, path("/3/0"), &device()[..2]);
        assert_eq!(two, Err(FormatError::NotOneValue(path("/3/0"))));
    }
    let refused = |at: &str, error| {
        Err(FormatError::Value {
            path: path(at),
            error,
        })
    };
    let many = read(Format::Text, "/3/0/9", b"many");
    assert_eq!(many, refused("/3/0/9", ValueError::Syntax(Type::Integer)));
    assert_eq!(read(Format::Text, "/3/0/0", b"\xff"), Err(FormatError::NotUtf8));
    let null = read(Format::Cbor, "/3/0/9", b"\xf6");
    assert_eq!(null, refused("/3/0/9", ValueError::Structure));
    let (wanted, given) = (Type::Integer, Type::Opaque);
    let bytes = read(Format::Opaque, "/3/0/9", b"\x01");
    assert_eq!(bytes, refused("/3/0/9", ValueError::Type { wanted, given }));
}

/// \[LWM2M-7.4-LINKS\]
#[test]
fn links_are_paths() {
    let paths = ["/3/0", "/3/0/9"].map(|at| Record::of_path(path(at)));
    both_ways(Format::LinkFormat, "/3/0", b"</3/0>,</3/0/9>", &paths);
    let value = encode(Format::LinkFormat, Path::ROOT, &device());
    assert_eq!(value, Err(FormatError::NotOneValue(path("/3/0/0"))));
}

/// What a format cannot say is not written.
#[test]
fn what_cannot_be_said_is_refused() {
    let time = [at_time("/3/0/9", Value::Integer(1), 5.0)];
    for format in [Format::Tlv, Format::Lwm2mCbor, Format::Text, Format::Cbor] {
        let refused = encode(format, path("/3/0/9"), &time);
        assert_eq!(refused, Err(FormatError::Time(path("/3/0/9"))), "{format}");
    }
    let not_finite = [of("/3303/0/5700", Value::Float(f64::NAN))];
    for format in [Format::Json, Format::SenmlJson] {
        let refused = encode(format, path("/3303/0"), &not_finite);
        assert_eq!(refused, Err(FormatError::NotFinite(path("/3303/0/5700"))));
    }
    let root = [Record::of_path(Path::ROOT)];
    let refused = Err(FormatError::NoValue(Path::ROOT));
    assert_eq!(encode(Format::Lwm2mCbor, Path::ROOT, &root), refused);
    assert_eq!(
        encode(Format::Tlv, path("/3"), &[Record::of_path(path("/3"))]),
        Err(FormatError::NoValue(path("/3")))
    );
    let instance = [Record::of_path(path("/3/0/6/1"))];
    assert_eq!(
        encode(Format::Tlv, path("/3/0"), &instance),
        Err(FormatError::NoValue(path("/3/0/6/1")))
    );
    let twice = [of("/3/0/6", Value::Integer(1)), of("/3/0/6/1", Value::Integer(1))];
    for format in [Format::Tlv, Format::Lwm2mCbor] {
        let refused = encode(format, path("/3/0"), &twice);
        assert_eq!(refused, Err(FormatError::Twice(path("/3/0/6"))));
    }
    let outside = FormatError::Outside {
        path: path("/3/0/0"),
        base: path("/4"),
    };
    assert_eq!(encode(Format::Tlv, path("/4"), &device()), Err(outside));
    let object = [of("/3/0", Value::Integer(1))];
    assert_eq!(
        encode(Format::Tlv, path("/3"), &object),
        Err(FormatError::NotAResource(path("/3/0")))
    );
}

#[test]
fn records_have_a_bound() {
    let pack = |records: usize| format!("[{}{{}}]", "{},".repeat(records - 1));
    let read = |records| read(Format::SenmlJson, "/3", pack(records).as_bytes());
    assert_eq!(read(MAX_RECORDS).unwrap().len(), MAX_RECORDS);
    assert_eq!(read(MAX_RECORDS + 1), Err(FormatError::TooMany));
}
