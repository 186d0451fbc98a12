//! CPU and memory of a process, from `/proc`. On other systems than Linux every figure is absent, and the report says so.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::HarnessError;

/// A process whose figures can be read.
#[derive(Clone, Debug)]
pub struct Process {
    pid: u32,
    root: PathBuf,
}

/// Processes measured as one: the harness and those it started, or only the server. When there is none, or one of
/// them is gone, every figure is absent.
#[derive(Clone, Debug, Default)]
pub struct ProcessGroup(Vec<Process>);

/// CPU time of each process of a group at one moment.
#[derive(Clone, Debug)]
pub struct GroupMark(Vec<CpuMark>);

/// CPU time at one moment.
#[derive(Clone, Debug, Default)]
pub struct CpuMark {
    user_ticks: u64,
    system_ticks: u64,
    /// Nanoseconds on a CPU by thread, from the scheduler: finer than ticks, but a thread takes its count with it.
    threads_ns: HashMap<u32, u64>,
}

/// CPU time between two moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, schemars::JsonSchema)]
pub struct CpuTime {
    /// In user space, in milliseconds.
    pub user_ms: f64,
    /// In the kernel, in milliseconds.
    pub system_ms: f64,
}

/// Memory at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Memory {
    /// Resident.
    pub resident_bytes: u64,
    /// Of that, anonymous: what the program allocated.
    pub anonymous_bytes: u64,
}

/// How far the scheduler's sum may lag behind the ticks before we assume that threads have ended in between.
const TICKS_AHEAD_MS_MAX: f64 = 50.0;

impl Process {
    /// The process with this number.
    ///
    /// # Errors
    /// There is none, or its figures may not be read.
    pub fn open(pid: u32) -> Result<Self, HarnessError> {
        let process = Self {
            pid,
            root: PathBuf::from(format!("/proc/{pid}")),
        };
        process.cpu()?;
        Ok(process)
    }

    /// Whether it listens on this port; `None` when that cannot be known, as for another user's process.
    #[must_use]
    pub fn listens_on(&self, port: u16) -> Option<bool> {
        let listening: Vec<u64> = ["net/tcp", "net/tcp6"]
            .iter()
            .filter_map(|table| fs::read_to_string(self.root.join(table)).ok())
            .flat_map(|table| {
                let inodes = table.lines().filter_map(|line| listener(line, port));
                inodes.collect::<Vec<_>>()
            })
            .collect();
        let descriptors = fs::read_dir(self.root.join("fd")).ok()?;
        let mut sockets = descriptors
            .flatten()
            .filter_map(|descriptor| fs::read_link(descriptor.path()).ok())
            .filter_map(|link| {
                let link = link.to_str()?.strip_prefix("socket:[")?;
                link.strip_suffix(']')?.parse::<u64>().ok()
            });
        Some(sockets.any(|socket| listening.contains(&socket)))
    }

    /// This process; `None` where there is no `/proc`.
    #[must_use]
    pub fn this() -> Option<Self> {
        Self::open(std::process::id()).ok()
    }

    /// CPU time so far.
    ///
    /// # Errors
    /// The process is gone.
    pub fn cpu(&self) -> Result<CpuMark, HarnessError> {
        let stat = self.read("stat")?;
        let (user_ticks, system_ticks) = parse_stat(&stat).ok_or(self.gone())?;
        let mut threads_ns = HashMap::new();
        for thread in self.threads()? {
            threads_ns.extend(on_cpu_ns(&thread));
        }
        Ok(CpuMark {
            user_ticks,
            system_ticks,
            threads_ns,
        })
    }

    /// CPU time so far of the running threads whose names start like this.
    ///
    /// # Errors
    /// The process is gone.
    pub fn threads_cpu(&self, name_start: &str) -> Result<CpuMark, HarnessError> {
        let mut mark = CpuMark::default();
        for thread in self.threads()? {
            // A thread may end while we look.
            let Ok(stat) = fs::read_to_string(thread.join("stat")) else {
                continue;
            };
            if !parse_name(&stat).is_some_and(|name| name.starts_with(name_start)) {
                continue;
            }
            if let Some((user_ticks, system_ticks)) = parse_stat(&stat) {
                mark.user_ticks += user_ticks;
                mark.system_ticks += system_ticks;
            }
            mark.threads_ns.extend(on_cpu_ns(&thread));
        }
        Ok(mark)
    }

    /// The folders of its threads.
    fn threads(&self) -> Result<Vec<PathBuf>, HarnessError> {
        let threads = fs::read_dir(self.root.join("task")).map_err(|_| self.gone())?;
        Ok(threads.flatten().map(|thread| thread.path()).collect())
    }

    /// Memory now.
    ///
    /// # Errors
    /// The process is gone.
    pub fn memory(&self) -> Result<Memory, HarnessError> {
        let status = self.read("status")?;
        let resident_bytes = kib(&status, "VmRSS:").ok_or(self.gone())?;
        let rss_anonymous = kib(&status, "RssAnon:");
        // The roll-up counts pages; `status` is kept per CPU and may be some pages off.
        let rolled_up = self
            .read("smaps_rollup")
            .ok()
            .and_then(|rollup| kib(&rollup, "Anonymous:"));
        let anonymous_bytes = rolled_up.or(rss_anonymous).unwrap_or_default();
        Ok(Memory {
            resident_bytes,
            anonymous_bytes,
        })
    }

    /// Memory now, cheap enough to read every second: the roll-up would walk all pages while the process waits.
    ///
    /// # Errors
    /// The process is gone.
    pub fn memory_at_a_glance(&self) -> Result<Memory, HarnessError> {
        let status = self.read("status")?;
        Ok(Memory {
            resident_bytes: kib(&status, "VmRSS:").ok_or(self.gone())?,
            anonymous_bytes: kib(&status, "RssAnon:").unwrap_or_default(),
        })
    }

    fn read(&self, file: &str) -> Result<String, HarnessError> {
        fs::read_to_string(self.root.join(file)).map_err(|_| self.gone())
    }

    fn gone(&self) -> HarnessError {
        HarnessError::Process { pid: self.pid }
    }
}

impl FromIterator<Process> for ProcessGroup {
    fn from_iter<I: IntoIterator<Item = Process>>(processes: I) -> Self {
        Self(processes.into_iter().collect())
    }
}

impl ProcessGroup {
    /// CPU time so far.
    #[must_use]
    pub fn cpu(&self) -> Option<GroupMark> {
        self.each(Process::cpu).map(GroupMark)
    }

    /// CPU time so far of the threads whose names start like this.
    #[must_use]
    pub fn threads_cpu(&self, name_start: &str) -> Option<GroupMark> {
        self.each(|process| process.threads_cpu(name_start))
            .map(GroupMark)
    }

    /// Memory now, over all of them.
    #[must_use]
    pub fn memory(&self) -> Option<Memory> {
        self.each(Process::memory).map(sum)
    }

    /// Memory now, as [`Process::memory_at_a_glance`].
    #[must_use]
    pub fn memory_at_a_glance(&self) -> Option<Memory> {
        self.each(Process::memory_at_a_glance).map(sum)
    }

    fn each<T>(&self, of: impl Fn(&Process) -> Result<T, HarnessError>) -> Option<Vec<T>> {
        let all: Option<Vec<T>> = self.0.iter().map(|process| of(process).ok()).collect();
        all.filter(|all| !all.is_empty())
    }
}

impl GroupMark {
    /// CPU time since an earlier mark of the same group.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> CpuTime {
        let spent = self
            .0
            .iter()
            .zip(&earlier.0)
            .map(|(mark, earlier)| mark.since(earlier));
        spent.fold(CpuTime::default(), |sum, spent| sum.plus(&spent))
    }
}

fn sum(memories: Vec<Memory>) -> Memory {
    memories
        .into_iter()
        .fold(Memory::default(), |sum, memory| Memory {
            resident_bytes: sum.resident_bytes + memory.resident_bytes,
            anonymous_bytes: sum.anonymous_bytes + memory.anonymous_bytes,
        })
}

impl CpuMark {
    /// CPU time since an earlier mark.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> CpuTime {
        let tick_ms = 1000.0 / to_f64(rustix::param::clock_ticks_per_second());
        let user_ms = to_f64(self.user_ticks.saturating_sub(earlier.user_ticks)) * tick_ms;
        let system_ms = to_f64(self.system_ticks.saturating_sub(earlier.system_ticks)) * tick_ms;
        let ticks_ms = user_ms + system_ms;
        let spent = |(number, spent): (&u32, &u64)| {
            spent.saturating_sub(earlier.threads_ns.get(number).copied().unwrap_or_default())
        };
        let exact_ms = to_f64(self.threads_ns.iter().map(spent).sum()) / 1e6;
        if exact_ms <= 0.0 || exact_ms + TICKS_AHEAD_MS_MAX < ticks_ms {
            return CpuTime { user_ms, system_ms };
        }
        // The scheduler has the exact sum, the ticks have the shares.
        let user_share = if ticks_ms > 0.0 {
            user_ms / ticks_ms
        } else {
            0.5
        };
        CpuTime {
            user_ms: exact_ms * user_share,
            system_ms: exact_ms * (1.0 - user_share),
        }
    }
}

impl CpuTime {
    /// User and kernel together, in milliseconds.
    #[must_use]
    pub fn total_ms(&self) -> f64 {
        self.user_ms + self.system_ms
    }

    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            user_ms: self.user_ms + other.user_ms,
            system_ms: self.system_ms + other.system_ms,
        }
    }

    /// Microseconds for each of `count` things; zero when there were none.
    #[must_use]
    pub fn micros_per(&self, count: u64) -> f64 {
        if count == 0 {
            0.0
        } else {
            self.total_ms() * 1000.0 / to_f64(count)
        }
    }
}

/// The number of a thread, from its folder, and its nanoseconds on a CPU.
fn on_cpu_ns(thread: &Path) -> Option<(u32, u64)> {
    let number = thread.file_name()?.to_str()?.parse().ok()?;
    let schedule = fs::read_to_string(thread.join("schedstat")).ok()?;
    let spent = schedule.split_ascii_whitespace().next()?.parse().ok()?;
    Some((number, spent))
}

/// The name of a process or thread: what stands in brackets, and may hold anything.
fn parse_name(stat: &str) -> Option<&str> {
    let (head, _) = stat.rsplit_once(") ")?;
    head.split_once('(').map(|(_, name)| name)
}

/// `utime` and `stime` (proc(5)): the 14th and 15th field, counted after the name, which may hold anything.
fn parse_stat(stat: &str) -> Option<(u64, u64)> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// The inode of a socket that listens on a port, from a line of `/proc/net/tcp` (proc(5)): number, local address and port in
/// hexadecimal, remote, state (`0A` is LISTEN), queues, timer, retransmits, user, timeout, inode.
fn listener(line: &str, port: u16) -> Option<u64> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let local = words.next()?;
    let state = words.nth(1)?;
    let (_, local_port) = local.rsplit_once(':')?;
    if state != "0A" || u16::from_str_radix(local_port, 16).ok()? != port {
        return None;
    }
    words.nth(5)?.parse().ok()
}

fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim()
        .strip_suffix("kB")?
        .trim()
        .parse::<u64>()
        .ok()
        .map(|kib| kib * 1024)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "times and counts of a run are far below 2^53"
)]
fn to_f64(value: u64) -> f64 {
    value as f64
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn work_is_measured_as_cpu_time() {
        let process = Process::this().unwrap();
        let before = process.cpu().unwrap();
        let began = std::time::Instant::now();
        let mut spent = CpuTime::default();
        // However little CPU this process gets.
        while spent.total_ms() <= 20.0 && began.elapsed().as_secs() < 60 {
            spent = process.cpu().unwrap().since(&before);
        }
        assert!(spent.total_ms() > 20.0, "{spent:?}");
    }

    #[test]
    fn only_threads_of_the_name_are_counted() {
        let spin = |name: &str| {
            let (ended, end) = std::sync::mpsc::sync_channel::<()>(0);
            let spin = move || {
                while end.try_recv() != Err(std::sync::mpsc::TryRecvError::Disconnected) {
                    std::hint::spin_loop();
                }
            };
            let thread = std::thread::Builder::new().name(name.to_owned());
            (ended, thread.spawn(spin).unwrap())
        };
        let process = Process::this().unwrap();
        let (ended, thread) = spin("spinner (1) x");
        let before = process.threads_cpu("spinner (").unwrap();
        let of_others = process.threads_cpu("idler").unwrap();
        let began = std::time::Instant::now();
        let mut spent = CpuTime::default();
        while spent.total_ms() <= 10.0 && began.elapsed().as_secs() < 60 {
            std::thread::sleep(std::time::Duration::from_millis(10));
            spent = process.threads_cpu("spinner (").unwrap().since(&before);
        }
        let idle = process.threads_cpu("idler").unwrap().since(&of_others);
        drop(ended);
        thread.join().unwrap();
        assert!(spent.total_ms() > 10.0, "{spent:?}");
        assert_eq!(idle, CpuTime::default());
    }

    #[test]
    fn touched_memory_counts_as_anonymous() {
        let process = Process::this().unwrap();
        let grows = || {
            let before = process.memory().unwrap();
            let held = std::hint::black_box(vec![1_u8; 32 << 20]);
            let after = process.memory().unwrap();
            drop(held);
            after.anonymous_bytes >= before.anonymous_bytes + (30 << 20)
        };
        // Other tests of this process may free memory at the same time.
        assert!((0..100).any(|_| grows()), "{:?}", process.memory());
    }

    #[test]
    fn a_group_is_the_sum_of_its_processes() {
        let this = || Process::this().unwrap();
        let one: ProcessGroup = [this()].into_iter().collect();
        let twice: ProcessGroup = [this(), this()].into_iter().collect();
        let (alone, both) = (one.memory().unwrap(), twice.memory().unwrap());
        assert!(
            both.resident_bytes > alone.resident_bytes * 3 / 2,
            "{alone:?} {both:?}"
        );
        let before = twice.cpu().unwrap();
        assert!(twice.cpu().unwrap().since(&before).total_ms() < 60_000.0);
        assert!(ProcessGroup::default().cpu().is_none());
        let nobody = Process {
            pid: u32::MAX,
            root: PathBuf::from("/proc/0"),
        };
        let with_nobody: ProcessGroup = [this(), nobody].into_iter().collect();
        assert!(with_nobody.memory_at_a_glance().is_none());
    }

    #[test]
    fn a_name_with_spaces_and_brackets_is_parsed() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14";
        assert_eq!(parse_stat(stat), Some((11, 12)));
        assert_eq!(parse_name(stat), Some("a) b (c"));
    }

    #[test]
    fn a_listening_process_is_told_from_others() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let process = Process::this().unwrap();
        assert_eq!(process.listens_on(port), Some(true));
        drop(listener);
        assert_eq!(process.listens_on(port), Some(false));
    }

    #[test]
    fn an_unknown_process_is_an_error() {
        assert!(matches!(
            Process::open(u32::MAX),
            Err(HarnessError::Process { .. })
        ));
    }
}
