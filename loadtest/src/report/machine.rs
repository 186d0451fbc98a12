//! The machine a run was made on, as far as it matters for repeating it. No name and no address: reports are passed around.

use procfs::{CpuInfo, Current, Meminfo};
use schemars::JsonSchema;
use serde::Serialize;

/// What the harness ran on; the server too, when it was local.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Machine {
    /// The operating system and the processor's architecture.
    pub platform: String,
    /// The kernel's release.
    pub kernel: String,
    /// The processor's model, where `/proc/cpuinfo` names it.
    pub cpu: Option<String>,
    /// CPUs this process may use.
    pub cores: usize,
    /// Total memory, from `/proc/meminfo`.
    pub memory_bytes: Option<u64>,
}

impl Machine {
    /// This one.
    #[must_use]
    pub fn this() -> Self {
        let kernel = rustix::system::uname();
        let cpu = CpuInfo::current().ok();
        Self {
            platform: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            kernel: kernel.release().to_string_lossy().into_owned(),
            cpu: cpu.and_then(|cpu| cpu.model_name(0).map(str::to_owned)),
            cores: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            memory_bytes: Meminfo::current().ok().map(|memory| memory.mem_total),
        }
    }
}
