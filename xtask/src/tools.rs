//! Owns what the tests need beside Rust: third-party clients and players, a
//! browser, a cache and a video player. Packages go into the build folder, programs come from
//! Debian if they are missing.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Failure, run};

/// Paths of what the tests need.
#[derive(Debug)]
pub(crate) struct Tools {
    node: PathBuf,
    node_modules: PathBuf,
    python: PathBuf,
    python_packages: PathBuf,
}

impl Tools {
    /// Installs what is missing.
    pub(crate) fn install(root: &Path) -> Result<Self, Failure> {
        let folder = target(root).join("test-tools");
        std::fs::create_dir_all(&folder)
            .map_err(|error| Failure(format!("cannot make {}: {error}", folder.display())))?;
        debian(&missing_programs())?;
        let node = node(&folder)?;
        let node_modules = node_modules(root, &folder)?;
        let python_packages = folder.join("python");
        if !python_packages.join("websockets/__init__.py").is_file() {
            pip(&python_packages, WEBSOCKETS)?;
        }
        Ok(Self {
            node,
            node_modules,
            python: "python3".into(),
            python_packages,
        })
    }

    pub(crate) fn node(&self) -> &Path {
        &self.node
    }

    /// The environment variables with these paths.
    pub(crate) fn environment(&self) -> [(&'static str, OsString); 7] {
        [
            ("DANMAKU_TEST_NODE", self.node.clone().into()),
            (
                "DANMAKU_TEST_NODE_MODULES",
                self.node_modules.clone().into(),
            ),
            ("DANMAKU_TEST_PYTHON", self.python.clone().into()),
            (
                "DANMAKU_TEST_PYTHON_PACKAGES",
                self.python_packages.clone().into(),
            ),
            ("DANMAKU_TEST_CHROMIUM", CHROMIUM.into()),
            ("DANMAKU_TEST_NGINX", NGINX.into()),
            ("DANMAKU_TEST_FFMPEG", FFMPEG.into()),
        ]
    }
}

/// Where cargo builds.
pub(crate) fn target(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}

/// Debian packages for the missing programs.
fn missing_programs() -> Vec<&'static str> {
    let mut packages = Vec::new();
    for (arguments, package) in [
        (&["node", "--version"][..], "nodejs"),
        (&["npm", "--version"], "npm"),
        (&["python3", "--version"], "python3"),
        (&["python3", "-m", "pip", "--version"], "python3-pip"),
        (&[CHROMIUM, "--version"], "chromium"),
        (&[NGINX, "-v"], "nginx-light"),
        (&[FFMPEG, "-version"], "ffmpeg"),
    ] {
        if !succeeds(Command::new(arguments[0]).args(&arguments[1..])) {
            packages.push(package);
        }
    }
    packages
}

fn debian(packages: &[&str]) -> Result<(), Failure> {
    if packages.is_empty() {
        return Ok(());
    }
    let install = || {
        run(Command::new("apt-get").args(["update", "--quiet"]))?;
        run(Command::new("apt-get")
            .args(["install", "--yes", "--no-install-recommends"])
            .args(packages)
            .env("DEBIAN_FRONTEND", "noninteractive"))
    };
    install().map_err(|failure| {
        Failure(format!(
            "the tests need {}, and this machine does not let me install them ({failure})",
            packages.join(", ")
        ))
    })
}

/// A Node whose `DecompressionStream` knows `deflate-raw` (20.12 and later):
/// the machine's, or else one from the npm registry.
fn node(folder: &Path) -> Result<PathBuf, Failure> {
    let folder = folder.join("node");
    let ours = folder.join("node_modules/node/bin/node");
    for candidate in [PathBuf::from("node"), ours.clone()] {
        if knows_raw_deflate(&candidate) {
            return Ok(candidate);
        }
    }
    npm(&folder, &[NODE])?;
    if knows_raw_deflate(&ours) {
        Ok(ours)
    } else {
        Err(Failure(format!(
            "the tests need Node 20.12 or later, and {NODE} does not run here"
        )))
    }
}

/// The packages of `web/package.json`, installed again when that file changes.
fn node_modules(root: &Path, folder: &Path) -> Result<PathBuf, Failure> {
    let wanted = root.join("web/package.json");
    let installed = folder.join("package.json");
    let packages = folder.join("node_modules");
    let read = |path: &Path| std::fs::read(path).ok();
    if !packages.is_dir() || read(&wanted) != read(&installed) {
        // Copied last: an installation that fails halfway is repeated.
        let fresh = folder.join("fresh");
        std::fs::create_dir_all(&fresh)
            .and_then(|()| std::fs::copy(&wanted, fresh.join("package.json")))
            .map_err(|error| Failure(format!("cannot copy {}: {error}", wanted.display())))?;
        npm(&fresh, &[])?;
        let _ = std::fs::remove_dir_all(&packages);
        std::fs::rename(fresh.join("node_modules"), &packages)
            .and_then(|()| std::fs::copy(&wanted, &installed))
            .map_err(|error| Failure(format!("cannot fill {}: {error}", folder.display())))?;
    }
    Ok(packages)
}

fn knows_raw_deflate(node: &Path) -> bool {
    succeeds(Command::new(node).args(["-e", "new DecompressionStream('deflate-raw')"]))
}

/// Installs `packages`, or those of the folder's `package.json` if none are named.
fn npm(folder: &Path, packages: &[&str]) -> Result<(), Failure> {
    run(Command::new("npm")
        .args([
            "install",
            "--no-audit",
            "--no-fund",
            "--no-package-lock",
            "--prefix",
        ])
        .arg(folder)
        .args(packages))
}

fn pip(folder: &Path, package: &str) -> Result<(), Failure> {
    run(Command::new("python3")
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--target",
        ])
        .arg(folder)
        .arg(package))
}

fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

const CHROMIUM: &str = "/usr/bin/chromium";
const FFMPEG: &str = "/usr/bin/ffmpeg";
const NGINX: &str = "/usr/sbin/nginx";
const NODE: &str = "node@20.19.5";
const WEBSOCKETS: &str = "websockets==15.0.1";
