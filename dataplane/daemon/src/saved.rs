//! The table that a node saved, so that a restart without a control plane serves what was served before.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use model::table::Table;
use serde::{Deserialize, Serialize};

/// Grows when a table written before can no longer be read as one.
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Saved {
    format: u32,
    table: Table,
}

/// Why there is no saved table to start from.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("{path}: cannot be read: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path}: not a saved table: {source}")]
    Parse { path: PathBuf, source: serde_json::Error },
    #[error("{path}: written in format {found}, this ringwayd reads format {FORMAT}")]
    Format { path: PathBuf, found: u32 },
}

fn path(state: &Path) -> PathBuf {
    state.join("table.json")
}

/// Replaces the saved table; a crash leaves the old or the new one, never a part.
pub fn save(state: &Path, table: &Table) -> io::Result<()> {
    let fresh = state.join("table.json.new");
    let mut file = std::fs::File::create(&fresh)?;
    file.write_all(&encode(table)?)?;
    file.sync_all()?;
    std::fs::rename(fresh, path(state))
}

/// `None`: nothing was ever saved.
pub fn load(state: &Path) -> Result<Option<Table>, LoadError> {
    let path = path(state);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(LoadError::Read { path, source }),
    };
    decode(&bytes, &path).map(Some)
}

pub(crate) fn encode(table: &Table) -> io::Result<Vec<u8>> {
    Ok(serde_json::to_vec(&Saved { format: FORMAT, table: table.clone() })?)
}

/// `path` is named in what is refused.
pub(crate) fn decode(bytes: &[u8], path: &Path) -> Result<Table, LoadError> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let parse = |source| LoadError::Parse { path: path.to_owned(), source };
    let Format { format } = serde_json::from_slice(bytes).map_err(parse)?;
    if format != FORMAT {
        return Err(LoadError::Format { path: path.to_owned(), found: format });
    }
    let saved: Saved = serde_json::from_slice(bytes).map_err(parse)?;
    Ok(saved.table)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let state = std::env::temp_dir().join(format!("ringway-saved-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&state).unwrap();
        state
    }

    #[test]
    fn a_saved_table_comes_back_as_it_was() {
        let state = scratch("round");
        assert!(load(&state).unwrap().is_none());
        let table = Table { version: 7, ..Table::default() };
        save(&state, &table).unwrap();
        assert_eq!(load(&state).unwrap(), Some(table));
        std::fs::remove_dir_all(state).unwrap();
    }

    #[test]
    fn another_format_and_a_broken_file_are_refused_by_name() {
        let state = scratch("format");
        std::fs::write(path(&state), r#"{"format":9,"table":{}}"#).unwrap();
        assert!(load(&state).unwrap_err().to_string().contains("format 9"));
        std::fs::write(path(&state), "{").unwrap();
        assert!(load(&state).unwrap_err().to_string().contains("not a saved table"));
        std::fs::remove_dir_all(state).unwrap();
    }
}
