//! Mutated payloads, links and definitions: nothing panics, and what is read is written and read as the same. See [`headgate_fuzz`] for how long, and how to replay a
//! failure.

mod common;

use common::{LINKED, device, path};
use fastrand::Rng;
use headgate_fuzz::{fuzz, mutate};
use headgate_lwm2m_codec::object::Registry;
use headgate_lwm2m_codec::{
    Attributes, Format, FormatError, Links, Path, Record, Types, Value, check_arguments, decode, encode,
    parse_links, parse_registration, write_registration,
};

const BASES: [&str; 5] = ["/", "/3", "/3/0", "/3/0/6", "/3/0/6/1"];

fn mutated(seeds: &[Vec<u8>], special: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = seeds[rng.usize(..seeds.len())].clone();
    for _ in 0..rng.usize(..6) {
        mutate(&mut bytes, special, rng);
    }
    bytes
}

/// The device, as each of the requests for it is answered, and more values than it has.
fn seeds(format: Format) -> Vec<Vec<u8>> {
    let more = [
        ("/3/0/6", Value::Float(1.5)),
        ("/3/0/7", Value::Boolean(true)),
        ("/3/0/8", Value::Opaque(vec![7; 9].into())),
        ("/3/0/9", Value::ObjectLink(3, 0)),
        ("/3/0/10", Value::Unsigned(u64::MAX)),
    ];
    let more = more.map(|(at, value)| Record::new(path(at), value));
    let mut seeds = Vec::new();
    for base in BASES.map(path) {
        for records in [&device()[..], &more] {
            let inside = |record: &&Record| base.contains(&record.path);
            let records: Vec<_> = records.iter().filter(inside).cloned().collect();
            seeds.extend(encode(format, base, &records));
        }
    }
    seeds
}

fn payloads_never_panic_and_never_disagree(format: Format, special: &[u8], more: &[&[u8]]) {
    let mut seeds = seeds(format);
    seeds.extend(more.iter().map(|seed| seed.to_vec()));
    assert!(seeds.len() > 3);
    let registry = Registry::builtin();
    let input = |rng: &mut Rng| (rng.usize(..BASES.len()), mutated(&seeds, special, rng));
    fuzz(input, |(base, payload)| {
        let base = path(BASES[*base]);
        for types in [&() as &dyn Types, &registry] {
            let Ok(records) = decode(format, base, payload, types) else {
                continue;
            };
            assert!(records.iter().all(|record| base.contains(&record.path)));
            let again = match encode(format, base, &records) {
                Ok(payload) => decode(format, base, &payload, types).expect("we wrote it"),
                // Sums of numbers that JSON can hold may be some that it cannot.
                Err(FormatError::NotFinite(_)) if matches!(format, Format::Json | Format::SenmlJson) => {
                    continue;
                }
                Err(error) => panic!("{error}: {records:?}"),
            };
            // By their text, in which no number equals itself.
            assert_eq!(sorted(again), sorted(records));
        }
    });
}

fn sorted(mut records: Vec<Record>) -> String {
    records.sort_by_key(|record| record.path);
    format!("{records:?}")
}

#[test]
fn tlv() {
    payloads_never_panic_and_never_disagree(
        Format::Tlv,
        &[
            0x00, 0x08, 0x20, 0x40, 0x48, 0x80, 0x86, 0x88, 0xC0, 0xC8, 0xD8, 0xFF,
        ],
        &[b"\x00\x00", b"\x03\x00\xc1\x09\x64", b"\x80\x06"],
    );
}

#[test]
fn senml_json() {
    payloads_never_panic_and_never_disagree(
        Format::SenmlJson,
        b"{}[]\",:0/9-.eE_n",
        &[
            br#"[{"bn":"/3/0/","bt":1.7e9,"bv":5,"n":"9","v":1,"t":-1},{"n":"10","vlo":"3:0"},{"n":"11","vd":"AQI"}]"#,
            br#"[{"n":"/3/0/9"},{"n":"/3","v":null}]"#,
        ],
    );
}

#[test]
fn senml_cbor() {
    payloads_never_panic_and_never_disagree(
        Format::SenmlCbor,
        &[
            0x00, 0x02, 0x1B, 0x3B, 0x5F, 0x7F, 0x80, 0x9F, 0xA0, 0xBF, 0xC1, 0xC4, 0xF6, 0xF9, 0xFB, 0xFF,
        ],
        &[b"\x9f\xbf\x21\x65/3/0/\x22\x1a\x65\x53\xf1\x00\x24\x05\x00\x619\x02\xc4\x82\x20\x18\x2d\xff\xff"],
    );
}

#[test]
fn lwm2m_cbor() {
    payloads_never_panic_and_never_disagree(
        Format::Lwm2mCbor,
        &[
            0x00, 0x03, 0x1B, 0x3B, 0x5F, 0x7F, 0x80, 0x83, 0x9F, 0xA0, 0xA1, 0xBF, 0xC1, 0xC4, 0xF6, 0xF9,
            0xFB, 0xFF,
        ],
        &[
            b"\xa2\x83\x03\x00\x06\xa1\x01\x05\x83\x03\x00\x09\xf6",
            b"\xbf\x9f\x03\x00\xff\xbf\x09\x05\xff\xff",
        ],
    );
}

#[test]
fn json() {
    payloads_never_panic_and_never_disagree(
        Format::Json,
        b"{}[]\",:0/9-.eEn",
        &[
            br#"{"e":[{"n":"6/1","v":"22.4","t":"-5"},{"n":"6/1","ov":"3:0"}],"bt":"25462634"}"#,
            br#"{"bn":"/3/0/9","e":[{"bv":true}]}"#,
        ],
    );
}

/// Texts, single values, queries and arguments are short: they take turns.
#[test]
fn single_values() {
    let registry = Registry::builtin();
    let seeds = [
        &b"22.5"[..],
        b"AQIDBAU=",
        b"3:0",
        b"0='on',1",
        b"pmin=10",
        b"\xc4\x82\x20\x18\x2d",
        b"\x5f\x41\x01\xff",
    ]
    .map(<[u8]>::to_vec);
    let bases = [
        "/3303/0/5700",
        "/5/0/0",
        "/3/0/9",
        "/3/0/13",
        "/1/0/6",
        "/3/0/6/1",
    ]
    .map(path);
    let input = |rng: &mut Rng| {
        (
            rng.usize(..bases.len()),
            mutated(&seeds, b"=',.-:eE\xc1\xc4\xf9\xfb\x82", rng),
        )
    };
    fuzz(input, |(base, payload)| {
        let base = bases[*base];
        for format in [Format::Text, Format::Cbor, Format::Opaque] {
            for types in [&() as &dyn Types, &registry] {
                let Ok(records) = decode(format, base, payload, types) else {
                    continue;
                };
                let written = encode(format, base, &records).expect("it came in such a payload");
                let again = decode(format, base, &written, types).expect("we wrote it");
                assert_eq!(sorted(again), sorted(records));
            }
        }
        let text = String::from_utf8_lossy(payload);
        let _ = check_arguments(&text);
        if let Ok(attributes) = Attributes::of_query([&*text]) {
            let query = attributes.query();
            let again = Attributes::of_query(query.iter().map(String::as_str));
            assert_eq!(again, Ok(attributes));
        }
    });
}

#[test]
fn link_format() {
    let seeds = [
        &b"</>;rt=\"oma.lwm2m\";ct=\"60 110\",</1>;ver=1.1,</1/0>,</3/0>,</3303/0>,</3303/1>"[..],
        b"</lwm2m>;rt=\"oma.lwm2m\";ct=11543,</lwm2m/1/0>,</lwm2m/3/0>;ver=\"1.0\"",
        b"</3/0>;pmin=10;pmax=60,</3/0/6>;dim=8,</3/0/7>;gt=50;lt=42.2;title=\"a\\\"b\"",
    ]
    .map(<[u8]>::to_vec);
    let input = |rng: &mut Rng| mutated(&seeds, b"</>;,=\"\\ 01.", rng);
    fuzz(input, |payload| {
        if let Ok(links) = parse_links(payload) {
            let written = Links(links.clone()).to_string();
            assert_eq!(parse_links(written.as_bytes()).as_ref(), Ok(&links));
            let _: Vec<_> = links.iter().map(Attributes::of_link).collect();
            let paths = decode(Format::LinkFormat, Path::ROOT, payload, &());
            assert_eq!(paths.map(|paths| paths.len()), Ok(links.len()));
        }
        if let Ok(registered) = parse_registration(payload) {
            let written = write_registration(&registered);
            assert_eq!(
                parse_registration(written.as_bytes()),
                Ok(registered),
                "{written}"
            );
        }
    });
}

#[test]
fn definitions() {
    let seeds = LINKED.map(|xml| xml.as_bytes().to_vec());
    let input = |rng: &mut Rng| mutated(&seeds, b"<>/&;\"'=![]?-", rng);
    fuzz(input, |xml| {
        let xml = String::from_utf8_lossy(xml);
        let mut registry = Registry::empty();
        match registry.add_xml(&xml) {
            Ok(added) => {
                let object = registry
                    .object_of(added.id, &added.version)
                    .expect("it was added");
                assert_eq!(object.name, added.name);
            }
            Err(error) => assert!(error.byte <= xml.len() && error.line >= 1),
        }
    });
}
