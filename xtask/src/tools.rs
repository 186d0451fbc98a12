//! Owns the third-party clients that the tests run against:
//! Node's `ws` and Python's `websockets`, installed into the build folder.

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
        let node_modules = folder.join("node_modules");
        let node = node(&folder, &node_modules)?;
        if !node_modules.join("ws/package.json").is_file() {
            npm(&folder, WS)?;
        }
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

    /// The environment variables with these paths.
    pub(crate) fn environment(&self) -> [(&'static str, OsString); 4] {
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
        ]
    }
}

fn target(root: &Path) -> PathBuf {
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
fn node(folder: &Path, node_modules: &Path) -> Result<PathBuf, Failure> {
    let ours = node_modules.join("node/bin/node");
    for candidate in [PathBuf::from("node"), ours.clone()] {
        if knows_raw_deflate(&candidate) {
            return Ok(candidate);
        }
    }
    npm(folder, NODE)?;
    if knows_raw_deflate(&ours) {
        Ok(ours)
    } else {
        Err(Failure(format!(
            "the tests need Node 20.12 or later, and {NODE} does not run here"
        )))
    }
}

fn knows_raw_deflate(node: &Path) -> bool {
    succeeds(Command::new(node).args(["-e", "new DecompressionStream('deflate-raw')"]))
}

fn npm(folder: &Path, package: &str) -> Result<(), Failure> {
    run(Command::new("npm")
        .args([
            "install",
            "--no-audit",
            "--no-fund",
            "--no-save",
            "--prefix",
        ])
        .arg(folder)
        .arg(package))
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

const WS: &str = "ws@8.23.0";
const NODE: &str = "node@20.19.5";
const WEBSOCKETS: &str = "websockets==15.0.1";
