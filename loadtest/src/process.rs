//! CPU and memory of a process, from `/proc`. On other systems than Linux every figure is absent, and the report says so.

use std::collections::HashMap;

use serde::Serialize;

use crate::error::HarnessError;

#[cfg(not(target_os = "linux"))]
use elsewhere::Source;
#[cfg(target_os = "linux")]
use linux::Source;

/// A process whose figures can be read. A later process with the same number is not taken for it.
#[derive(Clone, Debug)]
pub struct Process(Source);

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
        let process = Source::open(pid).map(Self);
        let process = process.filter(|process| process.cpu().is_some());
        process.ok_or(HarnessError::Process { pid })
    }

    /// This process; `None` where there is no `/proc`.
    #[must_use]
    pub fn this() -> Option<Self> {
        Self::open(std::process::id()).ok()
    }

    /// Whether it listens on this port; `None` when that cannot be known, as for another user's process.
    #[must_use]
    pub fn listens_on(&self, port: u16) -> Option<bool> {
        self.0.listens_on(port)
    }

    /// CPU time so far; `None` when the process is gone.
    #[must_use]
    pub fn cpu(&self) -> Option<CpuMark> {
        self.0.cpu()
    }

    /// CPU time so far of the running threads whose names start like this.
    #[must_use]
    pub fn threads_cpu(&self, name_start: &str) -> Option<CpuMark> {
        self.0.threads_cpu(name_start)
    }

    /// Memory now.
    #[must_use]
    pub fn memory(&self) -> Option<Memory> {
        self.0.memory()
    }

    /// Memory now, cheap enough to read every second: the exact figure walks all pages while the process waits.
    #[must_use]
    pub fn memory_at_a_glance(&self) -> Option<Memory> {
        self.0.memory_at_a_glance()
    }
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

#[cfg(target_os = "linux")]
mod linux {
    use std::sync::Arc;

    use procfs::net::TcpState;
    use procfs::process::{FDTarget, Stat};

    use super::{CpuMark, Memory};

    #[derive(Clone, Debug)]
    pub(super) struct Source(Arc<procfs::process::Process>);

    impl Source {
        pub(super) fn open(pid: u32) -> Option<Self> {
            let process = procfs::process::Process::new(i32::try_from(pid).ok()?);
            Some(Self(Arc::new(process.ok()?)))
        }

        pub(super) fn listens_on(&self, port: u16) -> Option<bool> {
            let tables = [self.0.tcp(), self.0.tcp6()];
            let listening: Vec<u64> = tables
                .into_iter()
                .flatten()
                .flatten()
                .filter(|it| it.state == TcpState::Listen && it.local_address.port() == port)
                .map(|it| it.inode)
                .collect();
            let mut descriptors = self.0.fd().ok()?.flatten();
            Some(descriptors.any(|descriptor| {
                matches!(descriptor.target, FDTarget::Socket(inode) if listening.contains(&inode))
            }))
        }

        pub(super) fn cpu(&self) -> Option<CpuMark> {
            let mut mark = CpuMark::default();
            mark.add_ticks(&self.0.stat().ok()?);
            for thread in self.0.tasks().ok()?.flatten() {
                mark.add_schedule(&thread);
            }
            Some(mark)
        }

        pub(super) fn threads_cpu(&self, name_start: &str) -> Option<CpuMark> {
            let mut mark = CpuMark::default();
            for thread in self.0.tasks().ok()?.flatten() {
                // A thread may end while we look.
                if let Ok(stat) = thread.stat()
                    && stat.comm.starts_with(name_start)
                {
                    mark.add_ticks(&stat);
                    mark.add_schedule(&thread);
                }
            }
            Some(mark)
        }

        pub(super) fn memory(&self) -> Option<Memory> {
            let glance = self.memory_at_a_glance()?;
            // The roll-up counts pages; `status` is kept per CPU and may be some pages off.
            let rolled_up = self.0.smaps_rollup().ok().and_then(|it| {
                let map = it.memory_map_rollup.0.into_iter().next()?;
                map.extension.map.get("Anonymous").copied()
            });
            Some(Memory {
                anonymous_bytes: rolled_up.unwrap_or(glance.anonymous_bytes),
                ..glance
            })
        }

        pub(super) fn memory_at_a_glance(&self) -> Option<Memory> {
            let status = self.0.status().ok()?;
            Some(Memory {
                resident_bytes: status.vmrss? * 1024,
                anonymous_bytes: status.rssanon.unwrap_or_default() * 1024,
            })
        }
    }

    impl CpuMark {
        fn add_ticks(&mut self, stat: &Stat) {
            self.user_ticks += stat.utime;
            self.system_ticks += stat.stime;
        }

        fn add_schedule(&mut self, thread: &procfs::process::Task) {
            if let (Ok(tid), Ok(schedule)) = (u32::try_from(thread.tid), thread.schedstat()) {
                self.threads_ns.insert(tid, schedule.sum_exec_runtime);
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod elsewhere {
    use super::{CpuMark, Memory};

    #[derive(Clone, Debug)]
    pub(super) enum Source {}

    impl Source {
        pub(super) fn open(_: u32) -> Option<Self> {
            None
        }

        pub(super) fn listens_on(&self, _: u16) -> Option<bool> {
            match *self {}
        }

        pub(super) fn cpu(&self) -> Option<CpuMark> {
            match *self {}
        }

        pub(super) fn threads_cpu(&self, _: &str) -> Option<CpuMark> {
            match *self {}
        }

        pub(super) fn memory(&self) -> Option<Memory> {
            match *self {}
        }

        pub(super) fn memory_at_a_glance(&self) -> Option<Memory> {
            match *self {}
        }
    }
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
            Process::open(4_000_000_000),
            Err(HarnessError::Process { .. })
        ));
    }
}
