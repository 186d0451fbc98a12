//! Enforces `docs/ARCHITECTURE.md`: what each crate must not know, no import
//! cycles between modules, and dependency versions in one table.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cycles;
mod modules;
mod source;

use std::path::{Path, PathBuf};

use toml::{Table, Value};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap()
        .to_owned()
}

fn manifest(folder: &str) -> Table {
    let path = root().join(folder).join("Cargo.toml");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.parse().unwrap_or_else(|e| panic!("{folder}: {e}"))
}

/// The folders of the workspace's crates.
fn members() -> Vec<String> {
    let manifest = manifest("");
    let members = manifest["workspace"]["members"].as_array().unwrap();
    let folder = |member: &Value| member.as_str().unwrap().to_owned();
    members.iter().map(folder).collect()
}

/// The files in a folder and all folders below.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let found = if path.is_dir() {
                &mut folders
            } else {
                &mut files
            };
            found.push(path);
        }
    }
    files
}

fn dependencies(folder: &str, table: &str) -> Vec<(String, Value)> {
    manifest(folder)
        .get(table)
        .and_then(Value::as_table)
        .map(|table| table.iter().map(|(k, v)| (k.clone(), v.clone())).collect())
        .unwrap_or_default()
}

/// What a crate must not depend on. Development dependencies may be anything: a
/// test may bring two crates together that must not know each other.
const MUST_NOT_KNOW: &[(&str, &[&str])] = &[
    (
        "crates/wire",
        &[
            "tokio",
            "crossbeam-channel",
            "socket2",
            "mio",
            "hyper",
            "hyper-util",
            "rustix",
            "tracing",
            "clap",
            "prometheus",
            "danmaku-engine",
            "danmaku-fanout",
            "danmaku-log",
            "danmaku-client",
            "danmaku-server",
        ],
    ),
    (
        "crates/engine",
        &[
            "tokio",
            "crossbeam-channel",
            "socket2",
            "mio",
            "hyper",
            "hyper-util",
            "rustix",
            "tracing",
            "clap",
            "fastwebsockets",
            "flate2",
            "simd-json",
            "serde_json",
            "prometheus",
            "danmaku-fanout",
            "danmaku-log",
            "danmaku-client",
            "danmaku-server",
        ],
    ),
    (
        "crates/auth",
        &[
            "tokio",
            "crossbeam-channel",
            "socket2",
            "mio",
            "hyper",
            "hyper-util",
            "rustix",
            "tracing",
            "clap",
            "prometheus",
            "danmaku-wire",
            "danmaku-engine",
            "danmaku-fanout",
            "danmaku-store",
            "danmaku-log",
            "danmaku-client",
            "danmaku-server",
        ],
    ),
    (
        "crates/moderation",
        &[
            "tokio",
            "crossbeam-channel",
            "socket2",
            "mio",
            "hyper",
            "hyper-util",
            "rustix",
            "tracing",
            "clap",
            "prometheus",
            "danmaku-auth",
            "danmaku-wire",
            "danmaku-engine",
            "danmaku-fanout",
            "danmaku-store",
            "danmaku-log",
            "danmaku-client",
            "danmaku-server",
        ],
    ),
    (
        "crates/fanout",
        &[
            "hyper",
            "hyper-util",
            "serde",
            "serde_json",
            "simd-json",
            "flate2",
            "clap",
            "fastwebsockets",
            "prometheus",
            "danmaku-engine",
            "danmaku-log",
            "danmaku-client",
            "danmaku-server",
        ],
    ),
    (
        "crates/store",
        &[
            "tokio",
            "hyper",
            "hyper-util",
            "crossbeam-channel",
            "socket2",
            "clap",
            "prometheus",
            "tracing",
            "danmaku-wire",
            "danmaku-engine",
            "danmaku-fanout",
            "danmaku-log",
            "danmaku-client",
            "danmaku-server",
        ],
    ),
    (
        "crates/log",
        &[
            "rusqlite",
            "hyper",
            "hyper-util",
            "crossbeam-channel",
            "socket2",
            "flate2",
            "simd-json",
            "fastwebsockets",
            "clap",
            "prometheus",
            "danmaku-engine",
            "danmaku-fanout",
            "danmaku-client",
            "danmaku-server",
        ],
    ),
    (
        "crates/client",
        &[
            "danmaku-engine",
            "danmaku-fanout",
            "danmaku-log",
            "danmaku-server",
            "clap",
        ],
    ),
    (
        "crates/chat",
        &[
            "tokio",
            "hyper",
            "clap",
            "danmaku-engine",
            "danmaku-fanout",
            "danmaku-log",
            "danmaku-server",
        ],
    ),
    (
        "crates/server",
        &[
            "flate2",
            "simd-json",
            "crossbeam-channel",
            "mio",
            "slab",
            "rusqlite",
            "danmaku-store",
        ],
    ),
    (
        "loadtest",
        &[
            "danmaku-engine",
            "danmaku-fanout",
            "danmaku-log",
            "danmaku-server",
        ],
    ),
];

#[test]
fn crates_have_no_forbidden_dependencies() {
    for (folder, forbidden) in MUST_NOT_KNOW {
        let known = dependencies(folder, "dependencies");
        assert!(
            !known.is_empty(),
            "{folder} has no dependencies: was it moved?"
        );
        for (name, _) in known {
            assert!(
                !forbidden.contains(&name.as_str()),
                "{folder} must not know {name}"
            );
        }
    }
}

#[test]
fn versions_are_only_in_the_workspace_table() {
    for folder in members() {
        for table in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for (name, value) in dependencies(&folder, table) {
                let from_workspace = value.get("workspace").and_then(Value::as_bool);
                assert_eq!(from_workspace, Some(true), "{folder}: {table}.{name}");
            }
        }
    }
}

#[test]
fn every_crate_is_under_the_workspace_lints() {
    for folder in members() {
        let manifest = manifest(&folder);
        let lints = manifest
            .get("lints")
            .and_then(|lints| lints.get("workspace"));
        assert_eq!(lints.and_then(Value::as_bool), Some(true), "{folder}");
    }
}

/// All of the server's threads and tasks are started in one file, except the shards' and those of unit tests.
#[test]
fn only_one_file_of_the_server_spawns() {
    for path in files(&root().join("crates/server/src")) {
        let text = std::fs::read_to_string(&path).unwrap();
        let spawns = ["tokio::spawn(", "thread::spawn(", "spawn_blocking("]
            .iter()
            .any(|call| text.contains(call));
        assert!(
            !spawns || path.ends_with("tasks.rs") || path.ends_with("tests.rs"),
            "{} spawns: only tasks.rs may",
            path.display()
        );
    }
}
