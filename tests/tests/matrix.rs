//! Each numbered statement of MQTT 3.1.1 and 5 has a test that claims it, or a written reason why not.

use headgate_tests::clauses::Matrix;

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
