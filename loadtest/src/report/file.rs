//! Reports in files.

use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::Serialize;

use crate::error::HarnessError;
use crate::report::{RunReport, SCHEMA, html};

/// Makes sure that a report can be written here, before the run that it is to be about.
///
/// # Errors
/// It cannot: there is no such folder, it may not be written, or a folder has this name.
pub fn check_writable(path: &Path) -> Result<(), HarnessError> {
    let part = part_of(path);
    let tried = if path.is_dir() {
        Err(io::ErrorKind::IsADirectory.into())
    } else {
        fs::write(&part, b"").and_then(|()| fs::remove_file(&part))
    };
    tried.map_err(|source| HarnessError::File {
        path: path.to_owned(),
        source,
    })
}

/// Writes a result, whole or not at all.
///
/// # Errors
/// The file cannot be written.
pub fn write_json(path: &Path, result: &impl Serialize) -> Result<(), HarnessError> {
    let json = serde_json::to_vec_pretty(result).map_err(|error| HarnessError::File {
        path: path.to_owned(),
        source: error.into(),
    })?;
    write_whole(path, &json)
}

/// Writes a run as a page for a browser, whole or not at all.
///
/// # Errors
/// The file cannot be written.
pub fn write_html(path: &Path, report: &RunReport) -> Result<(), HarnessError> {
    write_whole(path, html::page(report).as_bytes())
}

/// Reads the report of a run.
///
/// # Errors
/// The file cannot be read, or is not a report of this form.
pub fn read_json(path: &Path) -> Result<RunReport, HarnessError> {
    let odd = |what: String| HarnessError::Report {
        path: path.to_owned(),
        what,
    };
    let json = fs::read(path).map_err(|source| HarnessError::File {
        path: path.to_owned(),
        source,
    })?;
    let value: serde_json::Value =
        serde_json::from_slice(&json).map_err(|error| odd(format!("not JSON: {error}")))?;
    match value.get("schema").and_then(serde_json::Value::as_u64) {
        Some(schema) if schema == u64::from(SCHEMA) => {}
        Some(schema) => {
            return Err(odd(format!(
                "schema {schema}, and this harness reads {SCHEMA}"
            )));
        }
        None => return Err(odd("no `schema`, so not the report of a run".to_owned())),
    }
    serde_json::from_value(value).map_err(|error| odd(format!("not the report of a run: {error}")))
}

fn write_whole(path: &Path, content: &[u8]) -> Result<(), HarnessError> {
    let part = part_of(path);
    let written = fs::write(&part, content).and_then(|()| fs::rename(&part, path));
    if written.is_err() {
        // Nothing half-written stays behind.
        let _ = fs::remove_file(&part);
    }
    written.map_err(|source| HarnessError::File {
        path: path.to_owned(),
        source,
    })
}

/// Where a file is while it is written.
fn part_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}
