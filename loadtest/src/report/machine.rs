//! The machine a run was made on, as far as it matters for repeating it. No name and no address: reports are passed around.

use std::fs;

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
        let memory = fs::read_to_string("/proc/meminfo").ok();
        let cpu = fs::read_to_string("/proc/cpuinfo").ok();
        Self {
            platform: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            kernel: rustix::system::uname()
                .release()
                .to_string_lossy()
                .into_owned(),
            cpu: cpu.as_deref().and_then(model),
            cores: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            memory_bytes: memory.as_deref().and_then(memory_bytes),
        }
    }
}

fn model(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name"))?;
    Some(line.trim_start_matches([' ', '\t', ':']).trim().to_owned())
}

fn memory_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_the_kernel_are_parsed() {
        assert_eq!(
            model("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n"),
            Some("Some CPU @ 2 GHz".to_owned())
        );
        assert_eq!(model("processor\t: 0\n"), None);
        assert_eq!(
            memory_bytes("MemTotal:       2048 kB\nMemFree: 1 kB\n"),
            Some(2 << 20)
        );
    }
}
