//! Prints the matrices of statements and their tests: `cargo run -q -p headgate-tests --bin clauses [--json]`.

use headgate_tests::clauses::{Clause, Matrix, Place, Protocol};
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::process::ExitCode;

fn main() -> io::Result<ExitCode> {
    let mut matrices = Vec::new();
    for protocol in Protocol::ALL {
        matrices.push((protocol, Matrix::read(protocol)?));
    }
    let mut out = io::BufWriter::new(io::stdout().lock());
    if std::env::args().any(|argument| argument == "--json") {
        let clauses = |(protocol, matrix): &(Protocol, Matrix)| {
            let rows = matrix.clauses.iter().map(|clause| row(*protocol, clause));
            rows.collect::<Vec<_>>()
        };
        let rows: Vec<_> = matrices.iter().flat_map(clauses).collect();
        serde_json::to_writer_pretty(&mut out, &rows)?;
        writeln!(out)?;
    } else {
        for (_, matrix) in &matrices {
            print(matrix, &mut out)?;
        }
        for (protocol, matrix) in &matrices {
            sum(*protocol, matrix, &mut out)?;
        }
    }
    out.flush()?;
    let is_complete =
        |(_, matrix): &(Protocol, Matrix)| matrix.missing().next().is_none() && matrix.unknown.is_empty();
    Ok(if matrices.iter().all(is_complete) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn print(matrix: &Matrix, out: &mut impl Write) -> io::Result<()> {
    for clause in &matrix.clauses {
        writeln!(out, "{} {}: {}", clause.version, clause.id, state(clause))?;
        for place in &clause.tests {
            writeln!(out, "    {}", shown(place))?;
        }
    }
    for (id, place) in &matrix.unknown {
        writeln!(out, "{id}: NO SUCH STATEMENT, claimed by {}", shown(place))?;
    }
    Ok(())
}

fn sum(protocol: Protocol, matrix: &Matrix, out: &mut impl Write) -> io::Result<()> {
    let versions: BTreeSet<&str> = matrix
        .clauses
        .iter()
        .map(|clause| clause.version.as_str())
        .collect();
    for version in versions {
        let of_version = || matrix.clauses.iter().filter(|clause| clause.version == version);
        writeln!(
            out,
            "{} {version}: {} statements, {} tested, {} with a reason why not, {} missing",
            protocol.name(),
            of_version().count(),
            of_version().filter(|clause| !clause.tests.is_empty()).count(),
            of_version()
                .filter(|clause| clause.tests.is_empty() && !clause.is_missing())
                .count(),
            of_version().filter(|clause| clause.is_missing()).count(),
        )?;
    }
    Ok(())
}

fn state(clause: &Clause) -> String {
    match clause.tests.len() {
        0 if clause.is_missing() => format!("MISSING: {}", clause.summary),
        0 => clause.note.clone(),
        1 => "1 test".to_owned(),
        n => format!("{n} tests"),
    }
}

fn shown(place: &Place) -> String {
    format!("{}:{} {}", place.file, place.line, place.test)
}

fn row(protocol: Protocol, clause: &Clause) -> serde_json::Value {
    serde_json::json!({
        "protocol": protocol.name(),
        "version": clause.version,
        "id": clause.id,
        "summary": clause.summary,
        "note": clause.note,
        "tests": clause.tests.iter().map(shown).collect::<Vec<_>>(),
        "missing": clause.is_missing(),
    })
}
