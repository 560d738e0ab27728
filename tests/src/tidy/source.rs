//! The workspace as its files say it is: members, what each depends on, and their parsed sources.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

/// One crate of the workspace.
pub struct Member {
    /// Its folder's name: `stack` for `userstack/stack`.
    pub name: String,
    /// Its folder, from the workspace's root.
    pub folder: String,
    /// Normal and build dependencies: our own crates by folder name, others by package name.
    pub dependencies: Vec<Dependency>,
    pub files: Vec<File>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dependency {
    Ours(String),
    Other(String),
}

/// One Rust source file.
pub struct File {
    /// From the member's folder: `src/tcp/mod.rs`.
    pub path: String,
    pub syntax: syn::File,
}

/// Reads every member that the root manifest lists.
pub fn members(root: &Path) -> Vec<Member> {
    let manifest = read_manifest(&root.join("Cargo.toml"));
    let workspace = manifest["workspace"].as_table().expect("the root manifest has a [workspace]");
    let ours = our_crates(workspace);
    let folders = workspace["members"].as_array().expect("the workspace lists its members");
    folders
        .iter()
        .map(|folder| {
            let folder = folder.as_str().expect("a member is a path");
            let manifest = read_manifest(&root.join(folder).join("Cargo.toml"));
            Member {
                name: base_name(folder),
                folder: folder.to_owned(),
                dependencies: dependencies(&manifest, &ours),
                files: files(&root.join(folder)),
            }
        })
        .collect()
}

/// The text of the TCP scripts (`tests/scripts/*.pkt`), which name discards too.
pub fn packet_scripts(root: &Path) -> Vec<String> {
    let mut texts = Vec::new();
    for path in walk(&root.join("tests/scripts")) {
        if path.extension().is_some_and(|extension| extension == "pkt") {
            texts.extend(fs::read_to_string(path));
        }
    }
    texts
}

/// Parses one file's text; for the checks' own tests too.
pub fn parse(path: &str, text: &str) -> File {
    let syntax = syn::parse_file(text).unwrap_or_else(|error| panic!("{path} does not parse: {error}"));
    File { path: path.to_owned(), syntax }
}

fn read_manifest(path: &Path) -> Table {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names under which manifests know our crates, and the folder name behind each.
fn our_crates(workspace: &Table) -> BTreeMap<String, String> {
    let shared = workspace.get("dependencies").and_then(Value::as_table);
    shared
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.clone(), base_name(value.get("path")?.as_str()?))))
        .collect()
}

fn dependencies(manifest: &Table, ours: &BTreeMap<String, String>) -> Vec<Dependency> {
    let targets = manifest.get("target").and_then(Value::as_table);
    let tables = targets.into_iter().flatten().filter_map(|(_, value)| value.as_table()).chain([manifest]);
    tables
        .flat_map(|table| {
            ["dependencies", "build-dependencies"].into_iter().filter_map(|kind| table.get(kind))
        })
        .filter_map(Value::as_table)
        .flatten()
        .map(|(key, value)| {
            let path = value.get("path").and_then(Value::as_str).map(base_name);
            match path.or_else(|| ours.get(key).cloned()) {
                Some(name) => Dependency::Ours(name),
                None => {
                    let package = value.get("package").and_then(Value::as_str).unwrap_or(key);
                    Dependency::Other(package.to_owned())
                }
            }
        })
        .collect()
}

fn base_name(folder: &str) -> String {
    folder.rsplit('/').next().unwrap_or(folder).to_owned()
}

fn files(folder: &Path) -> Vec<File> {
    let mut files = Vec::new();
    for path in walk(folder) {
        if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(folder).expect("a file lies in its member's folder");
            let text =
                fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            files.push(parse(&name.to_string_lossy(), &text));
        }
    }
    files
}

/// Every file below `folder`, in the order of their names.
fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else { return found };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    for path in paths {
        if !path.is_dir() {
            found.push(path);
        } else if path.file_name().is_some_and(|name| name != "target") {
            found.extend(walk(&path));
        }
    }
    found
}
