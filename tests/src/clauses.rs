//! The matrix: each numbered statement of MQTT 3.1.1 and 5, and the tests that check it or the written reason why there is none.
//!
//! `tests/conformance/clauses.tsv` lists the statements. A test claims one by its id: `[MQTT-x.y.z-n]` is MQTT 5, `[3.1.1 MQTT-x.y.z-n]`
//! is MQTT 3.1.1. What counts: anything in a function of a file below a `tests` directory, or behind `#[cfg(test)]` in a source file, or
//! in the documentation right above it; and each line of a corpus. Other source files cite clauses too, but are not tests.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// One numbered statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clause {
    /// `3.1.1` or `5.0`.
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
        self.note.is_empty() && self.tests.is_empty()
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

/// The whole matrix.
#[derive(Clone, Debug, Default)]
pub struct Matrix {
    /// In the order of the specification.
    pub clauses: Vec<Clause>,
    /// Ids that tests claim but no specification has.
    pub unknown: Vec<(String, Place)>,
}

impl Matrix {
    /// Reads the list and every test of this repository.
    pub fn read() -> io::Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let list = fs::read_to_string(root.join("tests/conformance/clauses.tsv"))?;
        let mut files = Vec::new();
        collect_files(&root, &root, &mut files)?;
        files.sort();
        let mut found: BTreeMap<(String, String), Vec<Place>> = BTreeMap::new();
        for file in files {
            let text = fs::read_to_string(root.join(&file))?;
            let file = file.to_string_lossy().replace('\\', "/");
            for (id, place) in scan(&file, &text) {
                found.entry(id).or_default().push(place);
            }
        }
        let clauses = list.lines().skip(1).map(|row| clause(row, &mut found)).collect();
        let unknown = found
            .into_iter()
            .flat_map(|((version, id), places)| {
                places.into_iter().map(move |p| (format!("{version} {id}"), p))
            })
            .collect();
        Ok(Self { clauses, unknown })
    }

    /// The statements that need a test and have none.
    pub fn missing(&self) -> impl Iterator<Item = &Clause> {
        self.clauses.iter().filter(|clause| clause.is_missing())
    }
}

fn clause(row: &str, found: &mut BTreeMap<(String, String), Vec<Place>>) -> Clause {
    let mut columns = row.split('\t');
    let mut next = || columns.next().unwrap_or_default().trim().to_owned();
    let (version, id, _side, summary, note) = (next(), next(), next(), next(), next());
    let tests = found.remove(&(version.clone(), id.clone())).unwrap_or_default();
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

/// Every id that the tests of a file claim: version, id, place.
pub fn scan(file: &str, text: &str) -> Vec<((String, String), Place)> {
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
        for id in ids(line) {
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
fn ids(line: &str) -> impl Iterator<Item = (String, String)> {
    line.split('[').skip(1).filter_map(|rest| {
        let inside = rest.split(']').next()?.trim_end_matches('\\');
        let (version, id) = match inside.strip_prefix("3.1.1 ") {
            Some(id) => ("3.1.1", id),
            None => ("5.0", inside),
        };
        let number = id.strip_prefix("MQTT-")?;
        let is_number = number.starts_with(|c: char| c.is_ascii_digit())
            && number
                .chars()
                .all(|c| c.is_ascii_digit() || matches!(c, '.' | '-'));
        is_number.then(|| (version.to_owned(), id.to_owned()))
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
        let found: Vec<_> = scan("gateway/bus/src/x.rs", &text)
            .into_iter()
            .map(|((version, id), place)| (version, id.replace("MQTT-9.9.9-", ""), place.test))
            .collect();
        let expected = [("5.0", "2", "a"), ("3.1.1", "3", "a")];
        assert_eq!(found, expected.map(|(v, i, t)| (v.into(), i.into(), t.into())));
        assert_eq!(scan("tests/src/bench.rs", &source("// [ID-1]")), []);
        assert_eq!(scan("tests/tests/a.rs", &source("// [ID-1]")).len(), 1);
        assert_eq!(
            scan("codecs/mqtt/tests/corpus/a.txt", &source("allow | [ID-1]")).len(),
            1
        );
        assert_eq!(scan("codecs/mqtt/tests/corpus/a.txt", &source("# [ID-1]")), []);
    }
}
