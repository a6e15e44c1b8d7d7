//! Prints the matrix of numbered statements and their tests: `cargo run -q -p headgate-tests --bin clauses [--json]`.

use headgate_tests::clauses::{Clause, Matrix, Place};
use std::io::{self, Write};
use std::process::ExitCode;

fn main() -> io::Result<ExitCode> {
    let matrix = Matrix::read()?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    if std::env::args().any(|argument| argument == "--json") {
        let rows: Vec<_> = matrix.clauses.iter().map(row).collect();
        serde_json::to_writer_pretty(&mut out, &rows)?;
        writeln!(out)?;
    } else {
        print(&matrix, &mut out)?;
    }
    out.flush()?;
    let complete = matrix.missing().next().is_none() && matrix.unknown.is_empty();
    Ok(if complete {
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
    for version in ["3.1.1", "5.0"] {
        let of_version = || matrix.clauses.iter().filter(|clause| clause.version == version);
        writeln!(
            out,
            "MQTT {version}: {} statements, {} tested, {} with a reason why not, {} missing",
            of_version().count(),
            of_version().filter(|clause| !clause.tests.is_empty()).count(),
            of_version()
                .filter(|clause| clause.tests.is_empty() && !clause.note.is_empty())
                .count(),
            of_version().filter(|clause| clause.is_missing()).count(),
        )?;
    }
    Ok(())
}

fn state(clause: &Clause) -> String {
    match clause.tests.len() {
        0 if clause.note.is_empty() => format!("MISSING: {}", clause.summary),
        0 => clause.note.clone(),
        1 => "1 test".to_owned(),
        n => format!("{n} tests"),
    }
}

fn shown(place: &Place) -> String {
    format!("{}:{} {}", place.file, place.line, place.test)
}

fn row(clause: &Clause) -> serde_json::Value {
    serde_json::json!({
        "version": clause.version,
        "id": clause.id,
        "summary": clause.summary,
        "note": clause.note,
        "tests": clause.tests.iter().map(shown).collect::<Vec<_>>(),
        "missing": clause.is_missing(),
    })
}
