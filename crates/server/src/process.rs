//! Owns the kernel's figures about this process: CPU time, memory and
//! descriptors, and the machine's TCP memory.
//!
//! They come from Linux's /proc (proc(5)). Elsewhere, or if a file is hidden,
//! the figure is absent.

#[cfg(target_os = "linux")]
use std::sync::LazyLock;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

#[cfg(target_os = "linux")]
use rustix::process::{Resource, getrlimit};

/// The kernel's figures about this process at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Process {
    /// CPU time, including ended threads.
    pub(crate) cpu: Option<CpuTime>,
    /// When it was started, since 1970 UTC.
    pub(crate) started: Option<Duration>,
    /// Memory in RAM.
    pub(crate) resident_bytes: Option<u64>,
    /// The part of it not backed by files: heap and stacks.
    pub(crate) anonymous_bytes: Option<u64>,
    /// Open descriptors.
    pub(crate) descriptors: Option<u64>,
    /// Limit on descriptors.
    pub(crate) descriptors_max: Option<u64>,
    /// Memory in the TCP buffers of the whole machine, of IPv4 and IPv6.
    pub(crate) tcp_bytes: Option<u64>,
}

/// CPU time in steps of a clock tick, usually 10 ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CpuTime {
    /// Our own code.
    pub(crate) user: Duration,
    /// The kernel on our behalf.
    pub(crate) system: Duration,
}

/// The latest figures, cached so that frequent requests don't read /proc each time.
#[derive(Debug, Default)]
pub(crate) struct RecentProcess(Mutex<Option<(Duration, Process)>>);

impl RecentProcess {
    /// All figures, from up to [`PROCESS_AGE_MAX`] before the monotonic time `now`.
    pub(crate) fn read(&self, now: Duration) -> Process {
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match *recent {
            Some((at, process)) if now.saturating_sub(at) < PROCESS_AGE_MAX => process,
            _ => recent.insert((now, Process::read())).1,
        }
    }
}

impl Process {
    /// Reads all figures.
    ///
    /// Files of /proc are made by the kernel while they are read, without a
    /// disk: about 0.2 ms for all of them. Before Linux 6.2 descriptors have to
    /// be counted, which adds about 1 ms per 1,000 of them.
    #[cfg(target_os = "linux")]
    pub(crate) fn read() -> Self {
        let Ok(process) = procfs::process::Process::myself() else {
            return Self::default();
        };
        let (stat, status) = (process.stat().ok(), process.status().ok());
        let memory = |kib: fn(&procfs::process::Status) -> Option<u64>| {
            status.as_ref().and_then(kib).map(|kib| kib * 1024)
        };
        let sockets = std::fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
        let started = stat.as_ref().map(|it| ticks(it.starttime));
        Self {
            cpu: stat.as_ref().map(|it| CpuTime {
                user: ticks(it.utime),
                system: ticks(it.stime),
            }),
            started: (*BOOTED).zip(started).map(|(booted, after)| booted + after),
            resident_bytes: memory(|it| it.vmrss),
            anonymous_bytes: memory(|it| it.rssanon),
            descriptors: process.fd_count().ok().map(|count| count as u64),
            descriptors_max: getrlimit(Resource::Nofile).current,
            tcp_bytes: tcp_pages(&sockets).map(|pages| pages * procfs::page_size()),
        }
    }

    /// Elsewhere there are none.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn read() -> Self {
        Self::default()
    }
}

/// When the machine was started, since 1970 UTC. Read once: it does not change,
/// and on a machine with many processors `/proc/stat` is slow.
#[cfg(target_os = "linux")]
static BOOTED: LazyLock<Option<Duration>> =
    LazyLock::new(|| procfs::boot_time_secs().ok().map(Duration::from_secs));

/// Pages in TCP's buffers. `sockstat6` has no such figure: both families
/// share one.
#[cfg(target_os = "linux")]
fn tcp_pages(sockstat: &str) -> Option<u64> {
    let line = sockstat
        .lines()
        .find_map(|line| line.strip_prefix("TCP:"))?;
    let mut words = line.split_ascii_whitespace();
    words.find(|word| *word == "mem")?;
    words.next()?.parse().ok()
}

#[cfg(target_os = "linux")]
fn ticks(ticks: u64) -> Duration {
    let per_second = procfs::ticks_per_second();
    Duration::from_secs(ticks / per_second)
        + Duration::from_secs(ticks % per_second) / u32::try_from(per_second).unwrap_or(u32::MAX)
}

/// How old figures may be.
const PROCESS_AGE_MAX: Duration = Duration::from_secs(1);

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_tcp_is_found_or_absent() {
        let sockets = "sockets: used 9\nTCP: inuse 1 orphan 0 tw 0 alloc 1 mem 154\nUDP: mem 3\n";
        assert_eq!(tcp_pages(sockets), Some(154));
        assert_eq!(tcp_pages("TCP6: inuse 1\nUDP: inuse 0 mem 3\n"), None);
    }

    #[test]
    fn linux_has_all_figures() {
        let started = |process: &Process| process.started.unwrap();
        let process = Process::read();
        assert!(process.cpu.is_some());
        assert!(process.descriptors > Some(2) && process.descriptors <= process.descriptors_max);
        assert!(process.anonymous_bytes > Some(0));
        assert!(process.anonymous_bytes <= process.resident_bytes);
        assert!(process.tcp_bytes.is_some());
        let since_start = std::time::UNIX_EPOCH + started(&process);
        let age = since_start.elapsed().unwrap();
        assert!(age < Duration::from_secs(3600), "{age:?}");
        assert_eq!(started(&process), started(&Process::read()));
    }
}
