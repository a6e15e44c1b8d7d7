//! Each numbered statement of MQTT 3.1.1 and 5 has a test that claims it, or a written reason why not.

use headgate_tests::clauses::Matrix;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

#[test]
fn every_statement_has_a_test_or_a_reason() {
    let matrix = Matrix::read().expect("the repository can be read");
    assert!(matrix.clauses.len() > 350, "the list of statements is there");
    let missing: Vec<String> = matrix
        .missing()
        .map(|clause| format!("{} {}: {}", clause.version, clause.id, clause.summary))
        .collect();
    assert!(missing.is_empty(), "without a test:\n{}", missing.join("\n"));
}

#[test]
fn no_test_claims_a_statement_that_does_not_exist() {
    let matrix = Matrix::read().expect("the repository can be read");
    let unknown: Vec<String> = matrix
        .unknown
        .iter()
        .map(|(id, place)| format!("{id}: {}:{} {}", place.file, place.line, place.test))
        .collect();
    assert!(unknown.is_empty(), "no such statement:\n{}", unknown.join("\n"));
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
