//! Reports in files.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::{fs, io};

use rustix::fs::{Access, access};
use serde::Serialize;

use crate::error::HarnessError;
use crate::report::{RunReport, SCHEMA, html};

/// Checks before the run that its report can be written here.
///
/// # Errors
/// It cannot: there is no such directory, it is not writable, or the name is a directory.
pub fn check_writable(path: &Path) -> Result<(), HarnessError> {
    let tried = match Place::of(path) {
        Place::Folder => Err(io::ErrorKind::IsADirectory.into()),
        // Opening a pipe could wait for its reader, and closing it would end what that reads.
        Place::Pipe => access(path, Access::WRITE_OK).map_err(io::Error::from),
        Place::File(file) => {
            let part = part_of(&file);
            fs::write(&part, b"").and_then(|()| fs::remove_file(&part))
        }
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
    let written = match Place::of(path) {
        Place::Folder => Err(io::ErrorKind::IsADirectory.into()),
        Place::Pipe => fs::OpenOptions::new()
            .append(true)
            .open(path)
            .and_then(|mut pipe| pipe.write_all(content)),
        Place::File(file) => {
            let part = part_of(&file);
            let written = fs::write(&part, content).and_then(|()| fs::rename(&part, &file));
            if written.is_err() {
                // Leave no partial file behind.
                let _ = fs::remove_file(&part);
            }
            written
        }
    };
    written.map_err(|source| HarnessError::File {
        path: path.to_owned(),
        source,
    })
}

/// What exists where a report is to be written.
enum Place {
    /// A file, or nothing yet: it is replaced as a whole. Links have been followed, so they stay.
    File(PathBuf),
    /// A device, a pipe or the like, such as `/dev/stdout`: it is written to, and must not be replaced.
    Pipe,
    Folder,
}

impl Place {
    fn of(path: &Path) -> Self {
        match fs::metadata(path) {
            Ok(there) if there.is_dir() => Self::Folder,
            Ok(there) if there.is_file() => {
                Self::File(fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()))
            }
            Ok(_) => Self::Pipe,
            Err(_) => Self::File(path.to_owned()),
        }
    }
}

/// Where a file is written before it is moved to its place.
fn part_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_file_is_replaced_where_its_link_points_and_a_device_never() {
        let folder =
            std::env::temp_dir().join(format!("danmaku-report-file-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (file, link, device) = (
            folder.join("file"),
            folder.join("link"),
            folder.join("null"),
        );
        fs::write(&file, "old and longer").unwrap();
        symlink(&file, &link).unwrap();
        symlink("/dev/null", &device).unwrap();
        for path in [&file, &link, &device] {
            check_writable(path).unwrap();
            write_json(path, &1).unwrap();
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), "1");
        assert!(link.is_symlink() && device.is_symlink());
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
        assert!(check_writable(&folder).is_err() && write_json(&folder, &1).is_err());
        assert!(check_writable(&folder.join("none/file")).is_err());
        fs::remove_dir_all(&folder).unwrap();
    }
}
