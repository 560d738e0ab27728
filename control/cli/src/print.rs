//! To the standard output.

use std::io::{ErrorKind, Write};

use model::defaults::settings;
use serde_json::Value;

use crate::columns::align;
use crate::problem::Problem;

/// Prints `text` and a line's end. A reader that has gone away (`| head`) is no error.
pub fn out(text: &str) -> Result<(), Problem> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{}", text.trim_end_matches('\n')).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Problem::Refused(format!("cannot write to the standard output: {error}")))
        }
        _ => Ok(()),
    }
}

pub fn yaml(value: &Value) -> Result<String, Problem> {
    serde_saphyr::to_string(value).map_err(|error| Problem::Refused(format!("cannot print as YAML: {error}")))
}

pub fn defaults() -> String {
    let mut rows = vec![["DEFAULT", "VALUE", "REASON"].map(str::to_owned).to_vec()];
    rows.extend(settings().into_iter().map(|setting| {
        let value = format!("{} {}", setting.value, setting.unit);
        vec![setting.name.to_owned(), value.trim_end().to_owned(), setting.reason.to_owned()]
    }));
    align(&rows)
}
