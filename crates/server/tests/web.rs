//! The tests of `web/`, one per file in `web/test`: they run on Node and, for
//! pages, in Chromium. `cargo xtask test` installs what they need and runs them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// One test for each named file.
macro_rules! files {
    ($($name:ident),+ $(,)?) => {
        $(
            #[test]
            #[ignore = "needs what `cargo xtask test` installs"]
            fn $name() {
                run(stringify!($name));
            }
        )+

        #[test]
        fn every_file_has_its_test() {
            let listed: BTreeSet<String> = [$(stringify!($name).to_owned()),+].into();
            assert_eq!(listed, found());
        }
    };
}

files!(
    adapters,
    examples,
    lanes,
    overlay,
    page,
    page_load,
    page_size,
    recording,
    renderer,
    renderer_load,
    replay,
    sdk_browser,
    sdk_package,
    sdk_playout,
    sdk_protocol,
    sdk_pull,
    sdk_server,
    server,
);

/// The files, by what comes before `.test.js`.
fn found() -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .filter_map(|name| name.strip_suffix(".test.js").map(str::to_owned))
        .collect()
}

fn run(name: &str) {
    // One browser at a time: two would only slow each other down.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let node = std::env::var("DANMAKU_TEST_NODE").unwrap_or_else(|_| {
        panic!("DANMAKU_TEST_NODE is not set: run this with `cargo xtask web`")
    });
    let status = Command::new(node)
        // A failed hook leaves a browser or a server behind that would keep Node alive.
        .args(["--test", "--test-force-exit"])
        .args(["--test-timeout", "1200000"])
        .arg(folder().join(format!("{name}.test.js")))
        .env("DANMAKU_TEST_SERVER", env!("CARGO_BIN_EXE_danmaku-server"))
        // A test that runs inside another one prints no report of its own.
        .env_remove("NODE_TEST_CONTEXT")
        .status()
        .unwrap();
    assert!(status.success(), "{name}.test.js failed, see above");
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web/test")
}
