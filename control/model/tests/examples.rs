//! The configurations in `examples/` compile to the tables that their golden files hold, with every condition good.
//! `UPDATE_GOLDEN=1` writes the files anew; look at the difference before you commit it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use model::{HealthView, NodeAnswer, Resources, Truth, compile, conditions, read_documents};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn example(name: &str) -> Resources {
    let folder = fs::read_dir(root().join("examples").join(name)).expect("the example is there");
    let mut files: Vec<PathBuf> = folder.map(|entry| entry.expect("the entry can be read").path()).collect();
    files.sort();
    let read = |file: &PathBuf| {
        let text = fs::read_to_string(file).expect("the file can be read");
        read_documents(&file.display().to_string(), &text).unwrap_or_else(|errors| panic!("{}", errors[0]))
    };
    files.iter().flat_map(read).collect()
}

#[test]
fn the_demo_compiles_to_its_golden_table() {
    let table = compile(&example("demo"), "node-1", &HealthView::default());
    let text = serde_saphyr::to_string(&table).unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/demo.node-1.yaml");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&golden, &text).unwrap();
    }
    let wanted = fs::read_to_string(&golden).unwrap();
    assert!(text == wanted, "differs from {}:\n{text}", golden.display());
    let back: model::table::Table = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(back, table);
}

#[test]
fn every_condition_of_the_demo_is_good_once_its_node_has_acknowledged() {
    let answers = BTreeMap::from([("node-1".to_owned(), NodeAnswer::Acknowledged)]);
    for (key, status) in conditions(&example("demo"), &answers) {
        let listeners = status.listeners.iter().flat_map(|listener| &listener.conditions);
        let parents = status.parents.iter().flat_map(|parent| &parent.conditions);
        for condition in status.conditions.iter().chain(listeners).chain(parents) {
            let wanted = if condition.kind == "Conflicted" { Truth::False } else { Truth::True };
            assert_eq!(condition.status, wanted, "{key}: {condition:?}");
        }
        for listener in &status.listeners {
            assert_eq!(listener.attached_routes, 1, "{key}: {}", listener.name);
        }
    }
}

#[test]
fn a_node_that_runs_nothing_has_an_empty_table() {
    let table = compile(&example("demo"), "node-2", &HealthView::default());
    assert_eq!(table, model::table::Table::default());
}
