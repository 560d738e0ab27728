//! Files, directories and the standard input, as resources that remember where they are from.

use std::io::Read;
use std::path::{Path, PathBuf};

use model::read::read_each;
use model::{ReadError, Resource};

use crate::problem::Problem;

/// Files of one directory tree; a larger one is likely a mistake.
const MAX_FILES: usize = 10_000;

#[derive(Debug)]
pub struct Document {
    /// File name, or `-`.
    pub source: String,
    pub resource: Resource,
}

/// All resources of all `paths`, what is referred to first; or everything that is wrong with them.
pub fn read(paths: &[PathBuf]) -> Result<Vec<Document>, Problem> {
    let mut documents = Vec::new();
    let mut errors: Vec<ReadError> = Vec::new();
    for path in paths {
        for (source, text) in texts(path)? {
            for read in read_each(&source, &text) {
                match read {
                    Ok(resource) => documents.push(Document { source: source.clone(), resource }),
                    Err(more) => errors.extend(more),
                }
            }
        }
    }
    if !errors.is_empty() {
        let lines: Vec<String> = errors.iter().map(ReadError::to_string).collect();
        return Err(Problem::Refused(format!("nothing was done\n{}", lines.join("\n"))));
    }
    if documents.is_empty() {
        return Err(Problem::Usage("there is no resource in what was given".to_owned()));
    }
    documents.sort_by_key(|document| document.resource.kind());
    Ok(documents)
}

fn texts(path: &Path) -> Result<Vec<(String, String)>, Problem> {
    let wrong = |path: &Path, error: std::io::Error| Problem::Usage(format!("{}: {error}", path.display()));
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(|error| wrong(path, error))?;
        return Ok(vec![("-".to_owned(), text)]);
    }
    let files = if path.is_dir() { directory(path)? } else { vec![path.to_owned()] };
    let mut texts = Vec::with_capacity(files.len());
    for file in files {
        let text = std::fs::read_to_string(&file).map_err(|error| wrong(&file, error))?;
        texts.push((file.display().to_string(), text));
    }
    Ok(texts)
}

/// Every `.yaml`, `.yml` and `.json` below, in the order of their names.
fn directory(path: &Path) -> Result<Vec<PathBuf>, Problem> {
    let mut files = Vec::new();
    let mut directories = vec![path.to_owned()];
    while let Some(directory) = directories.pop() {
        let wrong = |error: std::io::Error| Problem::Usage(format!("{}: {error}", directory.display()));
        for entry in std::fs::read_dir(&directory).map_err(wrong)? {
            let entry = entry.map_err(wrong)?;
            let kind = entry.file_type().map_err(wrong)?;
            if kind.is_dir() {
                directories.push(entry.path());
            } else if is_resource_file(&entry.path()) {
                files.push(entry.path());
            }
        }
        if files.len() > MAX_FILES {
            return Err(Problem::Usage(format!("{}: more than {MAX_FILES} files", path.display())));
        }
    }
    if files.is_empty() {
        let problem = format!("{}: no .yaml, .yml or .json file in it", path.display());
        return Err(Problem::Usage(problem));
    }
    files.sort();
    Ok(files)
}

fn is_resource_file(path: &Path) -> bool {
    path.extension().is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension == *known))
}
