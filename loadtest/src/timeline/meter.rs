//! What processes and the kernel use between two readings.

use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use crate::process::{CpuMark, CpuTime, Memory, Process};
use crate::server_side::{Look, Observer, ServerSide};
use crate::timeline::Usage;

/// The processes of the harness.
pub(super) struct GeneratorMeter {
    process: Option<Process>,
    last: Option<(Instant, CpuMark)>,
}

/// The server.
pub(super) struct ServerMeter {
    observer: Observer,
    /// Where the observer's connection lives; there is none in tests without a server.
    runtime: Option<Handle>,
    last: Option<(Instant, Look)>,
}

/// A server that takes longer to answer has no figures for this second.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);

impl GeneratorMeter {
    pub(super) fn new(process: Option<Process>) -> Self {
        let last = process
            .as_ref()
            .and_then(Process::cpu)
            .map(|mark| (Instant::now(), mark));
        Self { process, last }
    }

    /// `None` when there is no process to look at, or no longer.
    pub(super) fn usage(&mut self) -> Option<Usage> {
        let process = self.process.as_ref()?;
        let mark = process.cpu()?;
        let now = Instant::now();
        let memory = process.memory_at_a_glance()?;
        let (then, before) = self.last.replace((now, mark.clone()))?;
        Some(usage(mark.since(&before), now - then, memory))
    }
}

impl ServerMeter {
    pub(super) fn new(server: &ServerSide) -> Self {
        Self {
            observer: server.observer(),
            runtime: Handle::try_current().ok(),
            last: None,
        }
    }

    /// What it used, and what its kernel holds for TCP sockets if reported. `None` the first time, and when there is no
    /// server to look at.
    pub(super) fn usage(&mut self) -> Option<(Usage, Option<u64>)> {
        let runtime = self.runtime.as_ref()?;
        let glance = async { tokio::time::timeout(ANSWER_WITHIN, self.observer.glance()).await };
        let look = runtime.block_on(glance).ok().flatten()?;
        let now = Instant::now();
        let (memory, kernel_tcp_bytes) = (look.memory, look.kernel_tcp_bytes);
        let (then, before) = self.last.replace((now, look.clone()))?;
        let usage = usage(look.cpu_since(&before), now - then, memory);
        Some((usage, kernel_tcp_bytes))
    }
}

fn usage(spent: CpuTime, interval: Duration, memory: Memory) -> Usage {
    let interval_ms = interval.as_secs_f64() * 1000.0;
    let percent = |ms: f64| {
        if interval_ms > 0.0 {
            ms / interval_ms * 100.0
        } else {
            0.0
        }
    };
    Usage {
        user_percent: percent(spent.user_ms),
        system_percent: percent(spent.system_ms),
        resident_bytes: memory.resident_bytes,
        anonymous_bytes: memory.anonymous_bytes,
    }
}

/// Memory of all TCP sockets in this network namespace: pages by `/proc/net/sockstat`.
pub(super) fn kernel_tcp_bytes() -> Option<u64> {
    let pages = tcp_pages(&std::fs::read_to_string("/proc/net/sockstat").ok()?)?;
    Some(pages * rustix::param::page_size() as u64)
}

fn tcp_pages(sockstat: &str) -> Option<u64> {
    let line = sockstat
        .lines()
        .find_map(|line| line.strip_prefix("TCP:"))?;
    let mut words = line.split_ascii_whitespace();
    words.find(|word| *word == "mem")?;
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_memory_is_the_number_after_mem_in_the_tcp_line() {
        let sockstat =
            "sockets: used 9\nTCP: inuse 5 orphan 0 tw 0 alloc 6 mem 321\nUDP: inuse 2 mem 7\n";
        assert_eq!(tcp_pages(sockstat), Some(321));
        assert_eq!(tcp_pages("UDP: inuse 2 mem 7\n"), None);
    }
}
