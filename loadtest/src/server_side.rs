//! Where the server's own CPU and memory are read: from its process when it runs on this machine, from its `GET /metrics`
//! otherwise, or if the process was not given.

use std::sync::Arc;
use std::time::Duration;

use danmaku_client::HttpClient;
use serde::Serialize;

use crate::entrance::Entrance;
use crate::error::HarnessError;
use crate::process::{CpuMark, CpuTime, Memory, Process};
use crate::target::Target;

/// What can be asked for the server's figures.
#[derive(Clone)]
pub enum ServerSide {
    /// Its process.
    Process(Process),
    /// Its metrics.
    Metrics {
        /// How to get to the server.
        entrance: Arc<Entrance>,
        /// Whose kernel its socket figures describe.
        machine: Machine,
    },
    /// Neither: it is elsewhere and has no such metrics.
    Unknown,
}

/// Where a server runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// Here: its kernel is ours.
    Same,
    /// Somewhere else.
    Other,
}

/// Where figures came from, as the report calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// `/proc` of the server's process.
    Process,
    /// The server's `GET /metrics`: CPU time in steps of its kernel's clock tick.
    Metrics,
}

/// Looks at one server again and again.
pub struct Observer(Eye);

enum Eye {
    Process(Process),
    Metrics(Box<HttpClient>, Machine),
    Closed,
}

/// The server's figures at one moment.
#[derive(Clone, Debug)]
pub struct Look {
    cpu: Cpu,
    /// Its memory.
    pub memory: Memory,
    /// What its machine's kernel holds for TCP sockets, when that is another machine.
    pub kernel_tcp_bytes: Option<u64>,
}

#[derive(Clone, Debug)]
enum Cpu {
    Marked(CpuMark),
    Total(CpuTime),
}

/// A server that takes longer to answer has no figures.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Names of the server's metrics.
const USER_SECONDS: &str = "danmaku_process_cpu_seconds_total{mode=\"user\"}";
const SYSTEM_SECONDS: &str = "danmaku_process_cpu_seconds_total{mode=\"system\"}";
const RESIDENT_BYTES: &str = "process_resident_memory_bytes";
const ANONYMOUS_BYTES: &str = "danmaku_process_anonymous_memory_bytes";
const KERNEL_TCP_BYTES: &str = "danmaku_kernel_tcp_memory_bytes";

impl ServerSide {
    /// The process with this number, or else the server's own metrics.
    ///
    /// # Errors
    /// There is no such process, its figures may not be read, or it is not the one that listens.
    pub async fn find(pid: Option<u32>, target: &Target) -> Result<Self, HarnessError> {
        if let Some(pid) = pid {
            let process = Process::open(pid)?;
            let port = target.socket.port();
            // On another machine, a process with this id has nothing to do with the server.
            if process.listens_on(port) == Some(false) {
                return Err(HarnessError::NotTheServer { pid, port });
            }
            return Ok(Self::Process(process));
        }
        let metrics = Self::Metrics {
            entrance: Arc::clone(&target.entrance),
            machine: if target.socket.ip().is_loopback() {
                Machine::Same
            } else {
                Machine::Other
            },
        };
        Ok(match metrics.observer().look().await {
            Some(_) => metrics,
            None => Self::Unknown,
        })
    }

    /// An observer of it, with its own connection if it needs one.
    #[must_use]
    pub fn observer(&self) -> Observer {
        Observer(match self {
            Self::Process(process) => Eye::Process(process.clone()),
            Self::Metrics { entrance, machine } => {
                Eye::Metrics(Box::new(entrance.http()), *machine)
            }
            Self::Unknown => Eye::Closed,
        })
    }
}

impl Observer {
    /// Where figures come from; `None` when there are none.
    #[must_use]
    pub fn source(&self) -> Option<Source> {
        match self.0 {
            Eye::Process(_) => Some(Source::Process),
            Eye::Metrics(..) => Some(Source::Metrics),
            Eye::Closed => None,
        }
    }

    /// The figures now, as exact as possible; `None` if the server is unknown or gone.
    pub async fn look(&mut self) -> Option<Look> {
        match &mut self.0 {
            Eye::Process(process) => Look::of(process, Process::memory),
            other => other.scrape().await,
        }
    }

    /// The figures now, cheap enough to read every second.
    pub async fn glance(&mut self) -> Option<Look> {
        match &mut self.0 {
            Eye::Process(process) => Look::of(process, Process::memory_at_a_glance),
            other => other.scrape().await,
        }
    }
}

impl Eye {
    async fn scrape(&mut self) -> Option<Look> {
        let Self::Metrics(http, machine) = self else {
            return None;
        };
        let asked = tokio::time::timeout(ANSWER_WITHIN, http.get_text("/metrics")).await;
        let mut look = Look::read(&asked.ok()?.ok()?)?;
        if *machine == Machine::Same {
            // The harness reads it itself.
            look.kernel_tcp_bytes = None;
        }
        Some(look)
    }
}

impl Look {
    fn of(process: &Process, memory: impl Fn(&Process) -> Option<Memory>) -> Option<Self> {
        Some(Self {
            cpu: Cpu::Marked(process.cpu()?),
            memory: memory(process)?,
            kernel_tcp_bytes: None,
        })
    }

    /// Reads the text exposition format of Prometheus, as far as the server's own figures go: a sample a line, its name with
    /// its labels, a space and its value.
    pub(crate) fn read(exposition: &str) -> Option<Self> {
        let sample = |name: &str| {
            exposition
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
                .and_then(|value| value.split_ascii_whitespace().next()?.parse::<f64>().ok())
                .filter(|value| value.is_finite() && *value >= 0.0)
        };
        Some(Self {
            cpu: Cpu::Total(CpuTime {
                user_ms: sample(USER_SECONDS)? * 1000.0,
                system_ms: sample(SYSTEM_SECONDS)? * 1000.0,
            }),
            memory: Memory {
                resident_bytes: whole(sample(RESIDENT_BYTES)?),
                anonymous_bytes: whole(sample(ANONYMOUS_BYTES)?),
            },
            kernel_tcp_bytes: sample(KERNEL_TCP_BYTES).map(whole),
        })
    }

    /// CPU time since an earlier look at the same server. After a restart it is that of the new process.
    #[must_use]
    pub fn cpu_since(&self, earlier: &Self) -> CpuTime {
        match (&self.cpu, &earlier.cpu) {
            (Cpu::Marked(now), Cpu::Marked(then)) => now.since(then),
            (Cpu::Total(now), Cpu::Total(then)) if now.total_ms() >= then.total_ms() => CpuTime {
                user_ms: now.user_ms - then.user_ms,
                system_ms: now.system_ms - then.system_ms,
            },
            (Cpu::Total(now), _) => *now,
            (Cpu::Marked(_), Cpu::Total(_)) => CpuTime::default(),
        }
    }

    /// CPU time since the server was started.
    #[must_use]
    pub fn cpu_since_birth(&self) -> CpuTime {
        match &self.cpu {
            Cpu::Marked(now) => now.since(&CpuMark::default()),
            Cpu::Total(now) => *now,
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "bytes are whole and not negative; a cast of a double saturates"
)]
fn whole(value: f64) -> u64 {
    value as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPOSITION: &str = "\
# HELP danmaku_process_cpu_seconds_total CPU time.
# TYPE danmaku_process_cpu_seconds_total counter
danmaku_process_cpu_seconds_total{mode=\"system\"} 2.5
danmaku_process_cpu_seconds_total{mode=\"user\"} 0.75
process_resident_memory_bytes 12345678
process_resident_memory_bytes_other 1
danmaku_process_anonymous_memory_bytes 1.1e7
danmaku_kernel_tcp_memory_bytes 4096
";

    #[test]
    fn metrics_are_found_by_their_whole_name() {
        let look = Look::read(EXPOSITION).unwrap();
        assert_eq!(
            look.memory,
            Memory {
                resident_bytes: 12_345_678,
                anonymous_bytes: 11_000_000
            }
        );
        assert_eq!(look.kernel_tcp_bytes, Some(4096));
        let later = Look::read(&EXPOSITION.replace("0.75", "1.25")).unwrap();
        let spent = later.cpu_since(&look);
        assert!((spent.user_ms - 500.0).abs() < 1e-6 && spent.system_ms.abs() < 1e-6);
    }

    #[test]
    fn a_server_without_these_figures_is_unknown() {
        assert!(Look::read("").is_none());
        assert!(Look::read("process_resident_memory_bytes 5\n").is_none());
        for odd in ["much", "NaN", "+Inf", "-1"] {
            assert!(
                Look::read(&EXPOSITION.replace("0.75", odd)).is_none(),
                "{odd}"
            );
        }
    }

    #[test]
    fn a_server_that_was_started_again_counts_from_zero() {
        let before = Look::read(EXPOSITION).unwrap();
        let after = Look::read(&EXPOSITION.replace("2.5", "0.1")).unwrap();
        assert!((after.cpu_since(&before).total_ms() - 850.0).abs() < 1e-6);
    }
}
