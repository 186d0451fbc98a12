//! A panic anywhere ends the process with one line. The process that ends is this test binary, run again.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use danmaku_server::crash;

/// Runs `test` of this binary, which must not return, and reads its one line.
fn line_of(test: &str) -> String {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", test])
        .env_remove("RUST_BACKTRACE")
        .env(CHILD, "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let stderr = String::from_utf8(child.stderr).unwrap();
    assert_eq!(child.status.signal(), Some(SIGABRT), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    stderr
}

#[test]
fn a_panic_ends_the_process_with_one_line() {
    for (test, thread) in [
        ("a_task_panics", "danmaku-front"),
        ("a_thread_panics", "danmaku-shard-0"),
    ] {
        let line = line_of(test);
        let begin = format!("danmaku-server: panic in thread {thread} at ");
        assert!(line.starts_with(&begin), "{line}");
        assert!(line.contains("tests/crash.rs:"), "{line}");
        assert!(line.ends_with(": a part\\nfails\n"), "{line}");
    }
}

/// No test: a process that the test above starts.
#[test]
#[ignore = "run by `a_panic_ends_the_process_with_one_line`"]
fn a_task_panics() {
    if !is_child() {
        return;
    }
    crash::end_on_panic();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("danmaku-front")
        .build()
        .unwrap();
    let task = runtime.spawn(async { panic!("a part\nfails") });
    // Without the hook, the task's panic would be an error here and nothing else.
    let _ = runtime.block_on(task);
    std::thread::sleep(Duration::from_secs(60));
}

/// No test: a process that the test above starts.
#[test]
#[ignore = "run by `a_panic_ends_the_process_with_one_line`"]
fn a_thread_panics() {
    if !is_child() {
        return;
    }
    crash::end_on_panic();
    let thread = std::thread::Builder::new().name("danmaku-shard-0".to_owned());
    let thread = thread.spawn(|| panic!("a {}\nfails", "part")).unwrap();
    let _ = thread.join();
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn the_server_ends_on_a_panic() {
    // First, before anything that could panic.
    let main = include_str!("../src/main.rs");
    let (_, body) = main.split_once("fn main() -> ExitCode {\n").unwrap();
    assert!(body.trim_start().starts_with("crash::end_on_panic();"));
    let manifest: toml::Table = include_str!("../../../Cargo.toml").parse().unwrap();
    let release = &manifest["profile"]["release"];
    assert_eq!(release["panic"].as_str(), Some("abort"));
}

/// Whether this process was started to panic, and does not just run every test of the binary.
fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// Set for a process that is to panic.
const CHILD: &str = "DANMAKU_TEST_PANICS";

const SIGABRT: i32 = 6;
