//! What the documents say of the sources, and the sources of the documents: links lead somewhere, and numbers are those of the code.

use headgate_tests::workspace;
use regex::Regex;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

/// The anchors that a document's headings make, as GitHub does: small letters, hyphens for blanks, without punctuation.
fn anchors(text: &str) -> BTreeSet<String> {
    let heading = Regex::new(r"(?m)^#+ +(.*)$").expect("a constant");
    let slug = |title: &str| {
        title
            .trim()
            .to_lowercase()
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | ' '))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect()
    };
    let prose = without_code(text);
    heading
        .captures_iter(&prose)
        .map(|found| slug(&found[1]))
        .collect()
}

/// A document without its blocks of code.
fn without_code(text: &str) -> String {
    text.split("\n```").step_by(2).collect::<Vec<_>>().join("\n")
}

fn documents() -> BTreeMap<PathBuf, String> {
    let documents = workspace::files(".", "md").into_iter();
    documents
        .map(|path| (path.clone(), workspace::read(path)))
        .collect()
}

/// `a/../b` is `b`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    plain
}

/// Why a link leads nowhere.
fn fault(documents: &BTreeMap<PathBuf, String>, path: &Path, anchor: Option<&str>) -> Option<&'static str> {
    if !workspace::root().join(path).exists() {
        return Some("no such file");
    }
    let anchor = anchor?;
    let known = documents
        .get(path)
        .is_some_and(|text| anchors(text).contains(anchor));
    (!known).then_some("no such heading")
}

/// Who comes from another broker finds each directive there is, and what became of it.
#[test]
fn every_directive_of_other_brokers_is_in_its_document() {
    let mosquitto = headgate_import::mosquitto::directives().map(|name| ("docs/from-mosquitto.md", name));
    let emq = headgate_import::emq::keys().map(|name| ("docs/from-emq.md", name));
    for (document, name) in mosquitto.chain(emq) {
        let row = format!("\n| `{name}` | ");
        assert!(workspace::read(document).contains(&row), "{document}: `{name}`");
    }
}

#[test]
fn headings_are_anchors() {
    let text = "# `[[auth.acl]]`, a\n```\n# none\n```\n## Bounds\n";
    let found = anchors(text);
    assert_eq!(found, BTreeSet::from(["authacl-a".into(), "bounds".into()]));
}

#[test]
fn every_link_in_a_document_leads_somewhere() {
    let link = Regex::new(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)").expect("a constant");
    let documents = documents();
    assert!(documents.len() > 8, "the documents were found");
    let mut faults = Vec::new();
    for (path, text) in &documents {
        for found in link.captures_iter(&without_code(text)) {
            if found[1].contains("://") {
                continue;
            }
            let target = match &found[1] {
                "" => path.clone(),
                to => plain(&path.parent().expect("a file is in a folder").join(to)),
            };
            let anchor = found.get(2).map(|anchor| anchor.as_str());
            let fault = fault(&documents, &target, anchor);
            faults.extend(fault.map(|why| format!("{}: {}: {why}", path.display(), &found[0])));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// In comments and documents: documents with and without a heading, and paths of this repository in backticks.
#[test]
fn every_mention_of_a_file_names_one() {
    let mention =
        Regex::new(r"(?:docs/)?([a-zA-Z-]+\.md)#([\w-]+)|docs/([a-zA-Z-]+\.(?:md|svg))").expect("a constant");
    let path_of_ours =
        Regex::new(r"`((?:adapters|codecs|docs|firmware-image|gateway|store|tests)/[\w./-]+)`")
            .expect("a constant");
    let documents = documents();
    let mut files = workspace::files(".", "rs");
    files.extend(documents.keys().cloned());
    let mut faults = Vec::new();
    for file in files {
        let text = workspace::read(&file);
        for found in mention.captures_iter(&text) {
            let name = found.get(1).or(found.get(3)).expect("one of them");
            let target = Path::new("docs").join(name.as_str());
            let fault = fault(&documents, &target, found.get(2).map(|anchor| anchor.as_str()));
            faults.extend(fault.map(|why| format!("{}: {}: {why}", file.display(), &found[0])));
        }
        for found in path_of_ours.captures_iter(&text) {
            if !workspace::root().join(&found[1]).exists() {
                faults.push(format!("{}: {}: no such file", file.display(), &found[1]));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// A sentence of a document, with `{}` where a number of the code stands: its file, the constant's name, and how it is written.
type Said = (&'static str, &'static str, Write);

#[derive(Clone, Copy)]
enum Write {
    /// `4,096`
    Number,
    /// `64 KiB`
    Bytes,
    /// `10`
    Seconds,
}
use Write::{Bytes, Number, Seconds};

/// Where a constant is, its name, and what is said of it.
const NUMBERS: &[(&str, &str, &[Said])] = &[
    (
        "gateway/bus/src/handle/publishing.rs",
        "MAX_OPEN",
        &[(
            "docs/ARCHITECTURE.md",
            "as a PUBACK promises ({} may wait)",
            Number,
        )],
    ),
    (
        "gateway/bus/src/queries.rs",
        "MAX_PAGE",
        &[("docs/ARCHITECTURE.md", "answer by the page: {} rows and", Number)],
    ),
    (
        "gateway/bus/src/queries.rs",
        "MAX_LOOKS",
        &[("docs/ARCHITECTURE.md", "rows and {} looks at most", Number)],
    ),
    (
        "adapters/shell/src/drive.rs",
        "HIGH_WATER",
        &[
            ("docs/ARCHITECTURE.md", "unsent bytes of a link ({}, then", Bytes),
            ("docs/security.md", "`mqtt.max_packet_size`, {} unsent", Bytes),
        ],
    ),
    (
        "adapters/mqtt/src/connect.rs",
        "CREDIT",
        &[("docs/ARCHITECTURE.md", "deliveries handed over ({} and", Number)],
    ),
    (
        "gateway/bus/src/delivery.rs",
        "MAX_UNREAD",
        &[
            ("docs/ARCHITECTURE.md", "and {}, then credit)", Bytes),
            ("docs/security.md", "; {} handed over and not written out", Bytes),
        ],
    ),
    (
        "gateway/bus/src/handle/hub.rs",
        "MAX_WAITING_OPS",
        &[(
            "docs/ARCHITECTURE.md",
            "operations that wait for the store ({} or",
            Number,
        )],
    ),
    (
        "gateway/bus/src/handle/hub.rs",
        "MAX_WAITING_BYTES",
        &[
            (
                "docs/ARCHITECTURE.md",
                "or {}, then publishers are left unread)",
                Bytes,
            ),
            (
                "docs/security.md",
                "; {} wait for the disk, then publishers are left unread",
                Bytes,
            ),
        ],
    ),
    (
        "gateway/bus/src/handle/commits.rs",
        "MAX_UNWRITTEN_OPS",
        &[
            (
                "docs/ARCHITECTURE.md",
                "the commit thread keeps it ({} operations at most)",
                Number,
            ),
            (
                "docs/durability.md",
                "| memory for what the disk refuses | {} operations |",
                Number,
            ),
        ],
    ),
    (
        "gateway/bus/src/retention.rs",
        "SCAN_BUDGET",
        &[(
            "docs/ARCHITECTURE.md",
            "retained messages look at {} topics a turn",
            Number,
        )],
    ),
    (
        "gateway/bus/src/retention.rs",
        "MAX_STATES",
        &[
            ("docs/durability.md", "/state` | {}, topics of", Number),
            (
                "docs/interpretations.md",
                "Of these states {} are retained",
                Number,
            ),
        ],
    ),
    (
        "gateway/bus/src/retention.rs",
        "MAX_STATE_TOPIC_BYTES",
        &[("docs/durability.md", ", topics of {} bytes |", Number)],
    ),
    (
        "gateway/bus/src/bus.rs",
        "SCANS_PER_TURN",
        &[("docs/ARCHITECTURE.md", "topics a turn, {} of them;", Number)],
    ),
    (
        "gateway/bus/src/bus.rs",
        "TIMERS_PER_TURN",
        &[("docs/ARCHITECTURE.md", "of them; timers {};", Number)],
    ),
    (
        "gateway/bus/src/flush.rs",
        "SLICE",
        &[(
            "docs/ARCHITECTURE.md",
            "a queue that an operator empties loses {} entries a commit",
            Number,
        )],
    ),
    (
        "gateway/bus/src/sweep.rs",
        "AT_ONCE",
        &[(
            "docs/ARCHITECTURE.md",
            "through for expired messages {} a turn",
            Number,
        )],
    ),
    (
        "gateway/bus/src/turns.rs",
        "SLICE",
        &[("docs/security.md", "a SUBSCRIBE is cut in slices of {},", Number)],
    ),
    (
        "adapters/shell/src/spans.rs",
        "MOST_PENDING",
        &[(
            "docs/operations.md",
            "| {} messages of a connection, or of a socket for datagrams",
            Number,
        )],
    ),
    (
        "gateway/daemon/src/telemetry.rs",
        "BATCH",
        &[("docs/operations.md", "| {} spans in a request", Number)],
    ),
    (
        "store/src/disk/checkpoints.rs",
        "MANY",
        &[("docs/durability.md", "or queue entries ({}, or", Number)],
    ),
    (
        "store/src/disk/checkpoints.rs",
        "MOST_MEMORY",
        &[
            ("docs/durability.md", "or {}) take much memory", Bytes),
            ("docs/durability.md", "of rows or {} of pages", Bytes),
        ],
    ),
    (
        "store/src/disk/settings.rs",
        "LEAST_SEGMENT",
        &[(
            "docs/durability.md",
            "a segment has at most a sixteenth of it ({} at least)",
            Bytes,
        )],
    ),
    (
        "store/src/lanes.rs",
        "PAGE",
        &[(
            "docs/durability.md",
            "a description of each page of {} entries",
            Number,
        )],
    ),
    (
        "store/src/tables.rs",
        "SHRINK",
        &[(
            "docs/durability.md",
            "a start gives it back when the file has {} (",
            Bytes,
        )],
    ),
    (
        "codecs/mqtt/src/decode_properties.rs",
        "MAX_USER_PROPERTIES",
        &[("docs/security.md", "topic filters in a packet | {};", Number)],
    ),
    (
        "codecs/mqtt/src/decode.rs",
        "MAX_FILTERS",
        &[(
            "docs/security.md",
            "; {} | fixed; more is refused with 0x97",
            Number,
        )],
    ),
    (
        "gateway/auth/src/users.rs",
        "LONGEST",
        &[("docs/security.md", "a SCRAM message | {} bytes each;", Number)],
    ),
    (
        "gateway/auth/src/scram.rs",
        "LONGEST",
        &[("docs/security.md", "bytes each; {} bytes | fixed", Number)],
    ),
    (
        "adapters/shell/src/proxy.rs",
        "V1_MAX",
        &[("docs/security.md", "version 1: {} bytes,", Number)],
    ),
    (
        "adapters/shell/src/proxy.rs",
        "V2_MAX",
        &[("docs/security.md", "version 2: {}, from trusted proxies", Number)],
    ),
    (
        "gateway/bus/src/duplicates.rs",
        "MAX_MESSAGES",
        &[(
            "docs/security.md",
            "Bounds: {} messages in `bus.links.duplicate_window`",
            Number,
        )],
    ),
    (
        "gateway/bus/src/duplicates.rs",
        "MAX_REPEATS",
        &[(
            "docs/security.md",
            "`bus.links.duplicate_window`, {} equal ones",
            Number,
        )],
    ),
    (
        "gateway/bus/src/links.rs",
        "MAX_NEWER",
        &[("docs/security.md", "equal ones, {} topics for each link", Number)],
    ),
    (
        "gateway/model/src/memory.rs",
        "SMALL",
        &[("docs/security.md", "messages of more than {} are refused", Bytes)],
    ),
    (
        "adapters/shell/src/http/mod.rs",
        "MAX_CONNECTIONS",
        &[(
            "docs/operations.md",
            "There are {} HTTP connections at a time at most",
            Number,
        )],
    ),
    (
        "adapters/shell/src/http/mod.rs",
        "MAX_HEAD",
        &[(
            "docs/operations.md",
            "A request's head has {} and ten seconds",
            Bytes,
        )],
    ),
    (
        "gateway/daemon/src/log/destination.rs",
        "MOST_WAITING",
        &[(
            "docs/operations.md",
            "Each destination has a thread and room for {} lines",
            Number,
        )],
    ),
    (
        "gateway/daemon/src/alarms.rs",
        "MOST_HISTORY",
        &[("docs/operations.md", "also the last {} that are over", Number)],
    ),
    (
        "gateway/daemon/src/log/line.rs",
        "LONGEST",
        &[(
            "docs/security.md",
            "and cut at {} bytes; lines of one kind",
            Number,
        )],
    ),
    (
        "gateway/daemon/src/log/limit.rs",
        "WINDOW",
        &[(
            "docs/security.md",
            "`log.max_repeats` (50) in {} seconds",
            Seconds,
        )],
    ),
    (
        "adapters/bridge/src/plan.rs",
        "MAX_WINDOW",
        &[("docs/bridges.md", "it has up to {} messages under way", Number)],
    ),
    (
        "gateway/daemon/src/provisioning/network.rs",
        "GATEWAY_METRIC",
        &[
            (
                "docs/appliance.md",
                "it is {} for a `gateway` of the file",
                Seconds,
            ),
            ("CHANGELOG.md", "without a `metric` has {}, where", Seconds),
        ],
    ),
    (
        "gateway/daemon/src/provisioning/network.rs",
        "CELLULAR_METRIC",
        &[
            ("docs/appliance.md", "by DHCP and {} by a modem", Seconds),
            ("docs/appliance.md", "by itself {}, so that", Seconds),
        ],
    ),
    (
        "gateway/daemon/src/provisioning/network.rs",
        "LEAST_METRIC",
        &[(
            "docs/appliance.md",
            "`metric` in the file is {} or more there",
            Seconds,
        )],
    ),
];

#[test]
fn numbers_in_documents_are_those_of_the_code() {
    let mut faults = Vec::new();
    for (source, constant, said) in NUMBERS {
        let number = value(source, constant);
        for (document, sentence, write) in *said {
            let sentence = sentence.replace("{}", &written(number, *write));
            // Lines end anywhere.
            let text: Vec<_> = workspace::read(document)
                .split_whitespace()
                .map(String::from)
                .collect();
            if !text.join(" ").contains(&sentence) {
                faults.push(format!(
                    "{document} does not say “{sentence}” ({constant} in {source})"
                ));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// What a constant is, as it stands in its source: a product or a shift of numbers, or seconds.
fn value(source: &str, constant: &str) -> u64 {
    let line = Regex::new(&format!(
        r"(?m)^(?:pub(?:\([a-z]+\))? )?const {constant}: \w+ = (.+);$"
    ));
    let text = workspace::read(source);
    let found = line.expect("a name").captures(&text);
    let found = found.unwrap_or_else(|| panic!("{source} has no {constant} any more"));
    let number = |text: &str| {
        let number = text.trim().replace('_', "").parse::<u64>();
        number.unwrap_or_else(|_| panic!("{constant} in {source} is no plain number: {text}"))
    };
    let text = found[1]
        .trim_start_matches("Duration::from_secs(")
        .trim_end_matches(')');
    match text.split_once("<<") {
        Some((number_of, shift)) => number(number_of) << number(shift),
        None => text.split('*').map(number).product(),
    }
}

fn written(number: u64, write: Write) -> String {
    match write {
        Seconds => number.to_string(),
        Bytes => [(30, "GiB"), (20, "MiB"), (10, "KiB")]
            .into_iter()
            .find(|(shift, _)| number > 0 && number.trailing_zeros() >= *shift)
            .map_or_else(
                || format!("{number} bytes"),
                |(shift, unit)| format!("{} {unit}", number >> shift),
            ),
        Number => {
            let digits = number.to_string();
            let mut written = String::new();
            for (n, digit) in digits.chars().enumerate() {
                if n > 0 && (digits.len() - n).is_multiple_of(3) {
                    written.push(',');
                }
                written.push(digit);
            }
            written
        }
    }
}

#[test]
fn numbers_are_written_as_documents_write_them() {
    assert_eq!(written(200, Number), "200");
    assert_eq!(written(4_096, Number), "4,096");
    assert_eq!(written(1_234_567, Number), "1,234,567");
    assert_eq!(written(64 << 10, Bytes), "64 KiB");
    assert_eq!(written(32 << 20, Bytes), "32 MiB");
    assert_eq!(written(1_000, Bytes), "1000 bytes");
}
