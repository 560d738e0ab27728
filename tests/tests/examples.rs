//! Every file in `examples/` is what it says: resources that the model takes as they stand.

use std::fs;
use std::path::PathBuf;

fn yaml_files(folder: &str) -> Vec<PathBuf> {
    let folder = tests::repository().join(folder);
    let entries = fs::read_dir(folder).expect("the folder is part of the repository");
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")).collect()
}

#[test]
fn every_resource_of_the_examples_is_accepted() {
    let mut files = yaml_files("examples/demo");
    files.extend(yaml_files("examples").into_iter().filter(|path| !path.to_string_lossy().contains("node")));
    files.push(tests::repository().join("tests/resources/echo.yaml"));
    assert!(files.len() > 3);
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        let read = model::read_documents(&path.to_string_lossy(), &text);
        assert!(read.is_ok(), "{:#?}", read.unwrap_err());
    }
}
