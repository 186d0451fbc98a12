//! Owns the kernel's figures about this process: CPU time, memory and
//! descriptors, and the machine's TCP memory.
//!
//! They come from Linux's /proc (proc(5)). Elsewhere, or if a file is hidden,
//! the figure is absent.

use std::fs;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use rustix::param::{clock_ticks_per_second, page_size};
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
    pub(crate) fn read() -> Self {
        let Some(stat) = read("/proc/self/stat").and_then(|text| ProcessStat::parse(&text)) else {
            return Self::default();
        };
        let status = read("/proc/self/status").unwrap_or_default();
        let sockets = read("/proc/net/sockstat").unwrap_or_default();
        Self {
            cpu: Some(CpuTime {
                user: ticks(stat.user_ticks),
                system: ticks(stat.system_ticks),
            }),
            started: BOOTED.map(|booted| booted + ticks(stat.start_ticks)),
            resident_bytes: status_bytes(&status, "VmRSS:"),
            anonymous_bytes: status_bytes(&status, "RssAnon:"),
            descriptors: descriptors(),
            descriptors_max: getrlimit(Resource::Nofile).current,
            tcp_bytes: tcp_pages(&sockets).map(|pages| pages * page_size() as u64),
        }
    }
}

/// The fields we read from `/proc/self/stat`.
#[derive(Debug, PartialEq, Eq)]
struct ProcessStat {
    user_ticks: u64,
    system_ticks: u64,
    /// Since the machine's start.
    start_ticks: u64,
}

impl ProcessStat {
    fn parse(text: &str) -> Option<Self> {
        // The second field is the program's name, which may hold blanks and
        // brackets; the third comes after its last bracket.
        let (_, from_third) = text.rsplit_once(')')?;
        let fields: Vec<_> = from_third.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse().ok();
        Some(Self {
            user_ticks: field(14)?,
            system_ticks: field(15)?,
            start_ticks: field(22)?,
        })
    }
}

/// When the machine was started, since 1970 UTC. Read once: it does not change,
/// and on a machine with many processors `/proc/stat` is slow.
static BOOTED: LazyLock<Option<Duration>> = LazyLock::new(|| boot_time(&read("/proc/stat")?));

fn boot_time(stat: &str) -> Option<Duration> {
    let seconds = value_after(stat, "btime")?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// A size from `/proc/self/status`, which is in KiB.
fn status_bytes(status: &str, key: &str) -> Option<u64> {
    let kib: u64 = value_after(status, key)?
        .trim()
        .strip_suffix(" kB")?
        .parse()
        .ok()?;
    Some(kib * 1024)
}

/// Pages in TCP's buffers. `sockstat6` has no such figure: both families
/// share one.
fn tcp_pages(sockstat: &str) -> Option<u64> {
    let mut words = value_after(sockstat, "TCP:")?.split_ascii_whitespace();
    words.find(|word| *word == "mem")?;
    words.next()?.parse().ok()
}

fn descriptors() -> Option<u64> {
    let folder = "/proc/self/fd";
    // Since Linux 6.2 the folder's size is their number.
    match fs::metadata(folder).ok()?.len() {
        // The descriptor that reads the folder is not counted.
        0 => Some((fs::read_dir(folder).ok()?.count() as u64).saturating_sub(1)),
        number => Some(number),
    }
}

/// The rest of the line that starts with `key`.
fn value_after<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(key))
}

fn read(file: &str) -> Option<String> {
    fs::read_to_string(file).ok()
}

fn ticks(ticks: u64) -> Duration {
    let per_second = clock_ticks_per_second();
    Duration::from_secs(ticks / per_second)
        + Duration::from_secs(ticks % per_second) / u32::try_from(per_second).unwrap_or(u32::MAX)
}

/// How old figures may be.
const PROCESS_AGE_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_fields_are_counted_after_the_process_name() {
        #[track_caller]
        fn check(text: &str, expected: Option<(u64, u64, u64)>) {
            let parsed = ProcessStat::parse(text);
            let parsed = parsed.map(|it| (it.user_ticks, it.system_ticks, it.start_ticks));
            assert_eq!(parsed, expected, "{text}");
        }
        let fields = "S 4 5 6 7 8 9 10 11 12 13 140 150 16 17 18 19 20 21 2200 23 24";
        let read = Some((140, 150, 2200));
        check(&format!("1 (danmaku-server) {fields}\n"), read);
        check(&format!("1 (a ) 3 (b) {fields}"), read);
        check("1 (cut) S 4 5", None);
        check("", None);
    }

    #[test]
    fn figures_are_in_bytes_or_absent() {
        let status = "Name:\tx\nVmRSS:\t    2248 kB\nRssAnon:\t     148 kB\nVmPTE:\t 1 pages\n";
        assert_eq!(status_bytes(status, "VmRSS:"), Some(2248 * 1024));
        assert_eq!(status_bytes(status, "RssAnon:"), Some(148 * 1024));
        assert_eq!(status_bytes(status, "VmPTE:"), None);
        assert_eq!(status_bytes(status, "RssShmem:"), None);
        let sockets = "sockets: used 9\nTCP: inuse 1 orphan 0 tw 0 alloc 1 mem 154\nUDP: mem 3\n";
        assert_eq!(tcp_pages(sockets), Some(154));
        assert_eq!(tcp_pages("TCP6: inuse 1\nUDP: inuse 0 mem 3\n"), None);
        assert_eq!(
            boot_time("cpu 1 2\nbtime 1795251964\n"),
            Some(Duration::from_secs(1_795_251_964))
        );
        assert_eq!(boot_time("cpu 1 2\n"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
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
