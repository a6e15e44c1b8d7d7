//! The matrices: each statement of MQTT 3.1.1 and 5, of CoAP and of LwM2M, and the tests that check it or the written reason why there is none.
//!
//! Lists in `tests/conformance` have the statements: `clauses.tsv` those of MQTT, `coap.tsv` those of the RFCs about CoAP, `lwm2m.tsv` those of
//! LwM2M. A test claims one by its id, in brackets. `[MQTT-x.y.z-n]` is MQTT 5, `[3.1.1 MQTT-x.y.z-n]` is MQTT 3.1.1. Of CoAP an id is the RFC, the
//! section and a number of our own: `RFC7252-x.y.z-n`; of LwM2M the section and a word of our own: `LWM2M-x.y.z-READ`, where a letter in place of a
//! section is an appendix, and T the part about transports. What counts: anything in a function of a file below a `tests` directory, or behind
//! `#[cfg(test)]` in a source file, or in the documentation right above it; and each line of a corpus. Other source files cite clauses too, but are
//! not tests.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// How a reason begins that is none: the test is still to be written.
const NO_TEST_YET: &str = "no test yet";
/// How the reason of a statement begins that we do not do as it says: no test may claim it.
const NOT_FULFILLED: &str = "not fulfilled";

/// Statements whose tests are still to be written, and why they are not there yet. It is to become shorter.
pub const PUT_OFF: [(&str, &str); 2] = [
    (
        "LWM2M-6.3.6-LOCATION",
        "the bench of LwM2M hears what a client is sent, not what is answered on the bus",
    ),
    (
        "LWM2M-T.5-DTLS",
        "the devices of the black-box tests of LwM2M speak no DTLS; CoAP over it is tested",
    ),
];

/// What the statements of one list are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// MQTT 3.1.1 and 5.
    Mqtt,
    /// RFC 7252 and those that belong to it.
    Coap,
    /// LwM2M 1.0, 1.1 and 1.2.
    Lwm2m,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Mqtt, Self::Coap, Self::Lwm2m];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mqtt => "MQTT",
            Self::Coap => "CoAP",
            Self::Lwm2m => "LwM2M",
        }
    }

    /// The list of its statements, from the root of the repository.
    pub fn list(self) -> &'static str {
        match self {
            Self::Mqtt => "tests/conformance/clauses.tsv",
            Self::Coap => "tests/conformance/coap.tsv",
            Self::Lwm2m => "tests/conformance/lwm2m.tsv",
        }
    }

    /// What a claim names, if what stands in brackets is one: the version, where the same id may be of several, and the id.
    fn claim(self, inside: &str) -> Option<Name> {
        let (version, id) = match (self, inside.strip_prefix("3.1.1 ")) {
            (Self::Mqtt, Some(id)) => ("3.1.1", id),
            (Self::Mqtt, None) => ("5.0", inside),
            (Self::Coap | Self::Lwm2m, _) => ("", inside),
        };
        let is_number = |c: char| c.is_ascii_digit() || matches!(c, '.' | '-');
        let begins_with_digit = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
        let is_id = match self {
            Self::Mqtt => id
                .strip_prefix("MQTT-")
                .is_some_and(|rest| begins_with_digit(rest) && rest.chars().all(is_number)),
            Self::Coap => id.strip_prefix("RFC").is_some_and(|rest| {
                begins_with_digit(rest) && rest.contains('-') && rest.chars().all(is_number)
            }),
            Self::Lwm2m => id.strip_prefix("LWM2M-").is_some_and(|rest| {
                let is_of_id = |c: char| is_number(c) || c.is_ascii_uppercase();
                rest.contains('-') && rest.chars().all(is_of_id)
            }),
        };
        is_id.then(|| (version.to_owned(), id.to_owned()))
    }

    /// What a claim of this row of the list names.
    fn name_of(self, version: &str, id: &str) -> Name {
        let version = if self == Self::Mqtt { version } else { "" };
        (version.to_owned(), id.to_owned())
    }
}

/// Version, where the same id may be of several, and id.
type Name = (String, String);

/// One statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clause {
    /// `3.1.1` or `5.0`; the RFC; the first version of LwM2M that has it.
    pub version: String,
    /// `MQTT-x.y.z-n`.
    pub id: String,
    /// What it asks for.
    pub summary: String,
    /// Why it needs no test; empty when it needs one.
    pub note: String,
    /// The tests that claim it.
    pub tests: Vec<Place>,
}

impl Clause {
    /// It needs a test and has none.
    pub fn is_missing(&self) -> bool {
        let has_reason = !self.note.is_empty() && !self.is_put_off();
        !has_reason && self.tests.is_empty()
    }

    /// Its reason is only that nobody has written its test yet.
    pub fn is_put_off(&self) -> bool {
        self.note.starts_with(NO_TEST_YET)
    }

    /// A test claims it, though it is written down that we do not do so, or that no test is there.
    pub fn contradicts_itself(&self) -> bool {
        !self.tests.is_empty() && (self.is_put_off() || self.note.starts_with(NOT_FULFILLED))
    }
}

/// Where an id was found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file, from the root of the repository.
    pub file: String,
    /// The line.
    pub line: usize,
    /// The test's name; empty in a corpus.
    pub test: String,
}

/// The whole matrix of a protocol.
#[derive(Clone, Debug, Default)]
pub struct Matrix {
    /// In the order of the specification.
    pub clauses: Vec<Clause>,
    /// Ids that tests claim but no specification has.
    pub unknown: Vec<(String, Place)>,
}

impl Matrix {
    /// Reads the list and every test of this repository.
    pub fn read(protocol: Protocol) -> io::Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let list = fs::read_to_string(root.join(protocol.list()))?;
        let mut files = Vec::new();
        collect_files(&root, &root, &mut files)?;
        files.sort();
        let mut found: BTreeMap<Name, Vec<Place>> = BTreeMap::new();
        for file in files {
            let text = fs::read_to_string(root.join(&file))?;
            let file = file.to_string_lossy().replace('\\', "/");
            for (id, place) in scan(protocol, &file, &text) {
                found.entry(id).or_default().push(place);
            }
        }
        let rows = list.lines().skip(1);
        let clauses = rows.map(|row| clause(protocol, row, &mut found)).collect();
        let unknown = found
            .into_iter()
            .flat_map(|((version, id), places)| {
                let name = format!("{version} {id}").trim_start().to_owned();
                places.into_iter().map(move |place| (name.clone(), place))
            })
            .collect();
        Ok(Self { clauses, unknown })
    }

    /// The statements that need a test and have none, but for those of [`PUT_OFF`].
    pub fn missing(&self) -> impl Iterator<Item = &Clause> {
        let is_put_off = |clause: &Clause| PUT_OFF.iter().any(|(id, _)| *id == clause.id);
        self.clauses
            .iter()
            .filter(move |clause| clause.is_missing() && !is_put_off(clause))
    }
}

fn clause(protocol: Protocol, row: &str, found: &mut BTreeMap<Name, Vec<Place>>) -> Clause {
    let mut columns = row.split('\t');
    let mut next = || columns.next().unwrap_or_default().trim().to_owned();
    let (version, id, _side, summary, note) = (next(), next(), next(), next(), next());
    let tests = found.remove(&protocol.name_of(&version, &id)).unwrap_or_default();
    Clause {
        version,
        id,
        summary,
        note,
        tests,
    }
}

/// Files that may hold tests: `.rs` anywhere, and `.txt` of a corpus.
fn collect_files(root: &Path, folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            if !name.starts_with('.') && name != "target" {
                collect_files(root, &path, files)?;
            }
            continue;
        }
        let relative = path.strip_prefix(root).expect("below the root");
        let in_corpus = relative.components().any(|part| part.as_os_str() == "corpus");
        if name.ends_with(".rs") || (name.ends_with(".txt") && in_corpus) {
            files.push(relative.to_path_buf());
        }
    }
    Ok(())
}

/// Every id of a protocol that the tests of a file claim: version, id, place.
pub fn scan(protocol: Protocol, file: &str, text: &str) -> Vec<((String, String), Place)> {
    let is_corpus = file.ends_with(".txt");
    // The package `tests` has sources too.
    let mut in_tests = is_corpus || (file.contains("tests/") && !file.contains("/src/"));
    let mut found = Vec::new();
    let mut above = Vec::new();
    let mut test = String::new();
    for (number, line) in (1..).zip(text.lines()) {
        let code = line.trim_start();
        in_tests |= code.starts_with("#[cfg(test)]");
        if !in_tests || code.starts_with("//!") || (is_corpus && code.starts_with('#')) {
            continue;
        }
        let name = function_name(code);
        if let Some(name) = name {
            name.clone_into(&mut test);
            for (id, line) in above.drain(..) {
                found.push((id, place(file, line, &test)));
            }
        }
        for id in ids(protocol, line) {
            if code.starts_with("///") {
                above.push((id, number));
            } else {
                found.push((id, place(file, number, &test)));
            }
        }
    }
    found
}

fn place(file: &str, line: usize, test: &str) -> Place {
    Place {
        file: file.to_owned(),
        line,
        test: test.to_owned(),
    }
}

fn function_name(code: &str) -> Option<&str> {
    let rest = code.strip_prefix("pub ").unwrap_or(code);
    let rest = rest.strip_prefix("async ").unwrap_or(rest).strip_prefix("fn ")?;
    rest.split(|c: char| !(c.is_alphanumeric() || c == '_')).next()
}

/// The ids of a line: what stands in brackets, with the backslashes of documentation or without.
fn ids(protocol: Protocol, line: &str) -> impl Iterator<Item = Name> {
    line.split('[').skip(1).filter_map(move |rest| {
        let inside = rest.split(']').next()?.trim_end_matches('\\');
        protocol.claim(inside)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // Written in pieces, so that this file claims nothing.
    fn source(text: &str) -> String {
        text.replace("ID", "MQTT-9.9.9")
    }

    #[test]
    fn only_tests_claim_statements() {
        let text = source(
            "/// \\[ID-1\\]\nfn code() {}\n#[cfg(test)]\nmod t {\n/// [ID-2] [3.1.1 ID-3]\n#[test]\nfn a() {}\n}\n",
        );
        let found: Vec<_> = scan(Protocol::Mqtt, "gateway/bus/src/x.rs", &text)
            .into_iter()
            .map(|((version, id), place)| (version, id.replace("MQTT-9.9.9-", ""), place.test))
            .collect();
        let expected = [("5.0", "2", "a"), ("3.1.1", "3", "a")];
        assert_eq!(found, expected.map(|(v, i, t)| (v.into(), i.into(), t.into())));
        let scan = |file, text| scan(Protocol::Mqtt, file, &source(text));
        assert_eq!(scan("tests/src/bench.rs", "// [ID-1]"), []);
        assert_eq!(scan("tests/tests/a.rs", "// [ID-1]").len(), 1);
        assert_eq!(scan("codecs/mqtt/tests/corpus/a.txt", "allow | [ID-1]").len(), 1);
        assert_eq!(scan("codecs/mqtt/tests/corpus/a.txt", "# [ID-1]"), []);
    }

    #[test]
    fn each_protocol_has_ids_of_its_own() {
        let text = source("/// \\[COAP-1.2-3\\] [WORD-READ] [ID-1] [COAP] [LWM2M-READ] [x]\nfn a() {}\n");
        let text = text.replace("COAP", "RFC9999").replace("WORD", "LWM2M-9.9.9");
        let found = |protocol| {
            let found = scan(protocol, "adapters/x/tests/a.rs", &text);
            found.into_iter().map(|(name, _)| name.1).collect::<Vec<_>>()
        };
        assert_eq!(found(Protocol::Coap), ["RFC9999-1.2-3"]);
        assert_eq!(found(Protocol::Lwm2m), ["LWM2M-9.9.9-READ"]);
        assert_eq!(found(Protocol::Mqtt), [source("ID-1")]);
    }

    #[test]
    fn a_reason_may_be_none() {
        let clause = |note: &str, tests: usize| {
            let place = place("tests/tests/a.rs", 1, "a");
            Clause {
                version: String::new(),
                id: String::new(),
                summary: String::new(),
                note: note.to_owned(),
                tests: vec![place; tests],
            }
        };
        assert!(clause("", 0).is_missing() && clause("no test yet: it is long", 0).is_missing());
        assert!(!clause("proxy: we are none", 0).is_missing() && !clause("", 1).is_missing());
        assert!(clause("not fulfilled: we ask twice", 1).contradicts_itself());
        assert!(!clause("not fulfilled: we ask twice", 0).contradicts_itself());
        assert!(!clause("", 1).contradicts_itself());
    }
}
