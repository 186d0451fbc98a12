//! Owns the end after a panic: one line, and the process is gone.

use std::io::Write;
use std::panic::PanicHookInfo;

/// From now on a panic of any thread or task ends the process with SIGABRT, after one line on stderr that says which
/// thread it was, where and why. With `RUST_BACKTRACE` set, the backtrace follows it.
///
/// Without it tokio would swallow a task's panic, and a room or a shard would be gone while everything else goes on:
/// posts acknowledged into a room that seals nothing, viewers who wait for ever. A supervisor starts the process again,
/// and viewers come back by themselves.
pub fn end_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let mut lines = line(panic);
        let backtrace = std::backtrace::Backtrace::capture();
        if backtrace.status() == std::backtrace::BacktraceStatus::Captured {
            lines.push_str(&backtrace.to_string());
        }
        // Not as a log event: the panic may have come from one. In one write, so that two threads' lines do not mix.
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
