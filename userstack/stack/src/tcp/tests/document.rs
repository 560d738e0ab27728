//! Holds `docs/tcp.md` to the tree: its lines name scripts and tests that exist, and every script is named.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Where the test functions lie that the document names.
const SOURCES: [&str; 4] = ["userstack", "dataplane", "tests", "benches"];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Clause, what we do, and the names in the last column.
fn lines(document: &str) -> impl Iterator<Item = (&str, &str, Vec<&str>)> {
    let rows = document.lines().filter(|line| line.starts_with('|') && !line.starts_with("|---"));
    let cells = rows.map(|line| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>());
    cells.filter(|cells| !["clause", "part"].contains(&cells[0])).map(|cells| {
        let [clause, what, shown] = cells[..] else { panic!("three columns: {cells:?}") };
        (clause, what, shown.split('`').skip(1).step_by(2).collect())
    })
}

fn scripts() -> BTreeSet<String> {
    let entries = std::fs::read_dir(repository().join("tests/scripts")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let scripts = paths.filter(|path| path.extension().is_some_and(|extension| extension == "pkt"));
    scripts.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect()
}

/// Names of functions behind a `#[test]`, or within `proptest!`, which has its `#[test]` too.
fn tests_in(folder: &Path, found: &mut BTreeSet<String>) {
    for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            tests_in(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = std::fs::read_to_string(&path).unwrap();
            let behind = source.split("#[test]").skip(1);
            let names = behind.filter_map(|text| text.split_once("fn ")?.1.split_once('('));
            found.extend(names.map(|(name, _)| name.to_string()));
        }
    }
}

#[test]
fn each_line_of_the_document_names_what_shows_it_and_each_script_has_a_line() {
    let document = std::fs::read_to_string(repository().join("docs/tcp.md")).unwrap();
    let scripts = scripts();
    let mut tests = BTreeSet::new();
    SOURCES.iter().for_each(|folder| tests_in(&repository().join(folder), &mut tests));
    let (mut wrong, mut named) = (Vec::new(), BTreeSet::new());
    for (clause, what, names) in lines(&document) {
        if names.is_empty() != what.starts_with("Not done") {
            wrong.push(format!("`{clause}` names nothing that shows it, or is not done and is shown"));
        }
        for name in names {
            if !scripts.contains(name) && !tests.contains(name) {
                wrong.push(format!("`{clause}` names {name}, which is neither a script nor a test"));
            }
            named.insert(name.to_string());
        }
    }
    wrong.extend(scripts.difference(&named).map(|script| format!("no line names {script}.pkt")));
    assert!(wrong.is_empty(), "docs/tcp.md:\n{}", wrong.join("\n"));
}

#[test]
fn each_script_begins_with_its_clause() {
    for name in scripts() {
        let path = repository().join(format!("tests/scripts/{name}.pkt"));
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.starts_with("# ") && text.lines().next().unwrap().contains(':'), "{name}.pkt");
    }
}
