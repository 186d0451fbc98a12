//! Stopping the server and starting it again, as an operator would.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::error::HarnessError;

/// What is stopped, and how it is started again.
#[derive(Clone, Debug)]
pub struct Restart {
    /// The server's process. It gets SIGTERM.
    pub pid: u32,
    /// A command for the shell that starts it again.
    pub command: String,
    /// Where it listens.
    pub server: SocketAddr,
}

/// A server that was started again.
#[derive(Clone, Copy, Debug)]
pub struct Started {
    /// How long nobody listened.
    pub down: Duration,
    /// The process that was started. It stays when the harness ends.
    pub pid: u32,
}

/// How long the server may take to stop, and to listen again.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(10);

impl Restart {
    /// Stops the server, starts it, and waits until somebody listens.
    ///
    /// # Errors
    /// There is no such process, it does not stop, or nobody listens afterwards.
    pub async fn perform(&self, stop: &AtomicBool) -> Result<Started, HarnessError> {
        let gone = HarnessError::Process { pid: self.pid };
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let Some(pid) = pid else {
            return Err(gone);
        };
        kill_process(pid, Signal::TERM).map_err(|_| gone)?;
        let began = Instant::now();
        while TcpStream::connect(self.server).await.is_ok() || !has_ended(pid) {
            self.patient(began, stop, "did not stop")?;
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let down_since = Instant::now();
        let mut child = Command::new("sh")
            .args(["-c", &format!("exec {}", self.command)])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(HarnessError::system("--set start"))?;
        let pid = child.id().unwrap_or_default();
        while TcpStream::connect(self.server).await.is_err() {
            if let Ok(Some(status)) = child.try_wait() {
                let text = format!("the server was started again and ended at once: {status}");
                return Err(HarnessError::Flags(text));
            }
            self.patient(down_since, stop, "was started again and does not listen")?;
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(Started {
            down: down_since.elapsed(),
            pid,
        })
    }

    fn patient(&self, since: Instant, stop: &AtomicBool, what: &str) -> Result<(), HarnessError> {
        if since.elapsed() < PATIENCE && !stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        let text = format!("the server (pid {}) {what}", self.pid);
        Err(HarnessError::Flags(text))
    }
}

/// Gone, or a zombie whose parent has not looked yet.
fn has_ended(pid: Pid) -> bool {
    test_kill_process(pid).is_err()
        || std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).is_ok_and(
            |stat| {
                stat.rsplit(')')
                    .next()
                    .is_some_and(|rest| rest.trim_start().starts_with('Z'))
            },
        )
}
