//! Each statement of MQTT 3.1.1 and 5, of CoAP and of LwM2M has a test that claims it, or a written reason why not.

use headgate_tests::clauses::{Matrix, PUT_OFF, Protocol};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The matrix of each protocol, with how many statements it has at least.
fn matrices() -> impl Iterator<Item = (Protocol, Matrix, usize)> {
    Protocol::ALL.into_iter().map(|protocol| {
        let matrix = Matrix::read(protocol).expect("the repository can be read");
        let least = match protocol {
            Protocol::Mqtt => 350,
            Protocol::Coap => 200,
            Protocol::Lwm2m => 80,
        };
        (protocol, matrix, least)
    })
}

#[test]
fn every_statement_has_a_test_or_a_reason() {
    for (protocol, matrix, least) in matrices() {
        let name = protocol.name();
        assert!(
            matrix.clauses.len() > least,
            "the list of {name}'s statements is there"
        );
        let missing: Vec<String> = matrix
            .missing()
            .map(|clause| format!("{} {}: {}", clause.version, clause.id, clause.summary))
            .collect();
        assert!(missing.is_empty(), "without a test:\n{}", missing.join("\n"));
    }
}

#[test]
fn no_test_claims_a_statement_that_does_not_exist() {
    for (_, matrix, _) in matrices() {
        let unknown: Vec<String> = matrix
            .unknown
            .iter()
            .map(|(id, place)| format!("{id}: {}:{} {}", place.file, place.line, place.test))
            .collect();
        assert!(unknown.is_empty(), "no such statement:\n{}", unknown.join("\n"));
    }
}

/// What we do not do as it is written, no test can show.
#[test]
fn no_test_claims_what_is_not_fulfilled() {
    for (_, matrix, _) in matrices() {
        let odd = matrix.clauses.iter().filter(|clause| clause.contradicts_itself());
        let odd: Vec<String> = odd
            .map(|clause| {
                format!(
                    "{}: {}, and {} claims it",
                    clause.id, clause.note, clause.tests[0].test
                )
            })
            .collect();
        assert!(odd.is_empty(), "{}", odd.join("\n"));
    }
}

/// An id names one statement, which is said, of a version.
#[test]
fn every_statement_is_there_once() {
    for (_, matrix, _) in matrices() {
        let mut known = BTreeSet::new();
        for clause in &matrix.clauses {
            assert!(
                known.insert((&clause.version, &clause.id)),
                "{} is there twice",
                clause.id
            );
            assert!(
                !clause.version.is_empty() && !clause.summary.is_empty(),
                "{}",
                clause.id
            );
        }
    }
}

/// The list of what is put off has no more in it than that.
#[test]
fn what_is_put_off_has_no_test() {
    let mut put_off = BTreeSet::new();
    for (_, matrix, _) in matrices() {
        let clauses = matrix.clauses.into_iter();
        put_off.extend(
            clauses
                .filter(|clause| clause.is_missing())
                .map(|clause| clause.id),
        );
    }
    for (id, why) in PUT_OFF {
        assert!(put_off.contains(id), "{id} has a test, or is no statement");
        assert!(!why.is_empty(), "{id}");
    }
}

/// A test that follows our own reading of a clause names its entry.
#[test]
fn every_reading_that_a_test_names_is_written_down() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readings =
        fs::read_to_string(root.join("../docs/interpretations.md")).expect("the readings are there");
    let headings: BTreeSet<&str> = readings
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .collect();
    for entry in fs::read_dir(root.join("tests")).expect("the tests are there") {
        let path = entry.expect("a directory can be read").path();
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("a source can be read");
        for rest in text.split(concat!("interpretations.md", "#")).skip(1) {
            let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '-'));
            let anchor = &rest[..end.unwrap_or(rest.len())];
            assert!(headings.contains(anchor), "{}: {anchor}", path.display());
        }
    }
}
