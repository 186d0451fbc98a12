//! Owns what happens on a panic: one line, then the process ends.

use std::io::Write;
use std::panic::PanicHookInfo;

/// From now on, a panic in any thread or task ends the process with SIGABRT, after one line on stderr with the thread,
/// location and message. With `RUST_BACKTRACE` set, a backtrace follows.
///
/// Otherwise tokio would swallow a task's panic, and a room or a shard would be gone while everything else goes on:
/// posts acknowledged in a room that seals nothing, viewers waiting forever. A supervisor restarts the process, and
/// viewers reconnect by themselves.
pub fn end_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let mut lines = line(panic);
        let backtrace = std::backtrace::Backtrace::capture();
        if backtrace.status() == std::backtrace::BacktraceStatus::Captured {
            lines.push_str(&backtrace.to_string());
        }
        // Not a log event, because the panic may have come from one. One write, so that two threads' lines do not mix.
        let _ = std::io::stderr().write_all(lines.as_bytes());
        std::process::abort();
    }));
}

fn line(panic: &PanicHookInfo<'_>) -> String {
    let payload = panic.payload();
    let message = (payload.downcast_ref::<&str>().copied())
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("without a name").escape_debug();
    let place = panic.location().map(ToString::to_string);
    format!(
        "danmaku-server: panic in thread {thread} at {}: {}\n",
        place.as_deref().unwrap_or("an unknown place"),
        message.escape_debug()
    )
}
