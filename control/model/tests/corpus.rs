//! The Gateway API's own examples: each object is parsed, or refused with a message that names the kind or field.
//! Which ones are refused, and why, stands in `corpus-refused.txt`, so that a change shows.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use model::read::read_each;
use model::{HealthView, Resources, compile, conditions};

/// The corpus lies beside the project where the project is developed, and nowhere else.
fn corpus() -> Option<PathBuf> {
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    above.map(|folder| folder.join("shared/corpus/gateway-api")).find(|folder| folder.is_dir())
}

fn yaml_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the folder can be listed") {
        let path = entry.expect("the entry can be read").path();
        if path.is_dir() {
            yaml_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            found.push(path);
        }
    }
}

#[test]
fn every_object_of_the_corpus_is_parsed_or_refused_by_name() {
    let Some(corpus) = corpus() else {
        println!("skipped: shared/corpus/gateway-api is not here");
        return;
    };
    let mut files = Vec::new();
    yaml_files(&corpus, &mut files);
    files.sort();
    let mut parsed = Vec::new();
    let mut refused = Vec::new();
    for file in &files {
        let name = file.strip_prefix(&corpus).unwrap().display().to_string();
        for document in read_each(&name, &fs::read_to_string(file).unwrap()) {
            match document {
                Ok(resource) => parsed.push((name.clone(), resource)),
                Err(errors) => refused.push(errors[0].to_string()),
            }
        }
    }
    assert_eq!((files.len(), parsed.len() + refused.len()), (89, 117));
    let wanted: Vec<&str> =
        include_str!("corpus-refused.txt").lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(refused, wanted);
    for (name, resource) in &parsed {
        let json = serde_json::to_string(resource).unwrap();
        let back: model::Resource = serde_json::from_str(&json).unwrap();
        assert_eq!(back, *resource, "{name}");
    }
    compiles_file_by_file(parsed);
}

/// The examples lack most of what they refer to: each must come to conditions, never to an end.
fn compiles_file_by_file(parsed: Vec<(String, model::Resource)>) {
    let mut by_file: BTreeMap<String, Vec<model::Resource>> = BTreeMap::new();
    for (name, resource) in parsed {
        by_file.entry(name).or_default().push(resource);
    }
    for (name, resources) in by_file {
        let resources: Resources = resources.into_iter().collect();
        let statuses = conditions(&resources, &BTreeMap::new());
        for resource in resources.iter().filter(|resource| resource.kind().is_route()) {
            assert!(statuses.contains_key(&resource.key()), "{name}: {}", resource.key());
        }
        compile(&resources, "node-1", &HealthView::default());
    }
}
