//! Results in files, whole or not at all.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde::Serialize;
use tempfile::NamedTempFile;

use crate::error::HarnessError;
use crate::report::{RunReport, csv, page};

/// Checks before a run that its result can be written here.
///
/// # Errors
/// It cannot: there is no such directory, it is not writable, or something else than a file has this name.
pub fn check_writable(path: &Path) -> Result<(), HarnessError> {
    beside(path).map(drop).map_err(at(path))
}

/// Writes a result.
///
/// # Errors
/// The file cannot be written.
pub fn write_json(path: &Path, result: &impl Serialize) -> Result<(), HarnessError> {
    let json = serde_json::to_vec_pretty(result).map_err(|error| at(path)(error.into()))?;
    write(path, &json).map_err(at(path))
}

/// Writes a run as a page for a browser.
///
/// # Errors
/// The file cannot be written.
pub fn write_html(path: &Path, report: &RunReport) -> Result<(), HarnessError> {
    write(path, page::page(report).as_bytes()).map_err(at(path))
}

/// Writes the seconds of a run as CSV.
///
/// # Errors
/// The file cannot be written.
pub fn write_csv(path: &Path, report: &RunReport) -> Result<(), HarnessError> {
    write(path, csv::rows(&report.timeline).as_bytes()).map_err(at(path))
}

fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut part = beside(path)?;
    part.write_all(content)?;
    part.persist(path).map_err(io::Error::from)?;
    Ok(())
}

/// A file in the same directory, to be moved to its place. It is removed if that does not happen.
fn beside(path: &Path) -> io::Result<NamedTempFile> {
    if path.exists() && !path.is_file() {
        // A directory cannot be replaced, and a device or pipe must not be.
        return Err(io::Error::other("not a regular file"));
    }
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    // As readable as any other new file: the umask applies.
    tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o666))
        .tempfile_in(folder.unwrap_or(Path::new(".")))
}

fn at(path: &Path) -> impl Fn(io::Error) -> HarnessError {
    move |source| HarnessError::File {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "old and longer").unwrap();
        check_writable(&file).unwrap();
        write_json(&file, &1).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "1");
        for odd in [
            folder.path(),
            Path::new("/dev/null"),
            &folder.path().join("no/file"),
        ] {
            assert!(check_writable(odd).is_err() && write_json(odd, &1).is_err());
        }
        assert!(!Path::new("/dev/null").is_file());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
