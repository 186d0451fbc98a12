//! Stops the server and starts it again, as an operator would.

use std::net::SocketAddr;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

/// What to stop, and how to start it again.
#[derive(Clone, Debug)]
pub struct Restart {
    /// The server's process.
    pub pid: u32,
    /// What ends it: SIGTERM, or SIGKILL for a crash.
    pub signal: Signal,
    /// A command for the shell that starts it again.
    pub command: String,
    /// Where it listens.
    pub server: SocketAddr,
}

/// A restarted server. Its process outlives the harness.
#[derive(Debug)]
pub struct Started {
    process: Child,
    at: Instant,
}

/// Why the server is not back.
#[derive(Debug, thiserror::Error)]
pub enum RestartError {
    /// There is no such process.
    #[error("--server-pid {pid}: no such process, or it may not be signalled")]
    NoProcess {
        /// The process.
        pid: u32,
    },
    /// Its process goes on.
    #[error("the server (pid {pid}) did not stop within {} s", waited.as_secs_f64())]
    NotStopped {
        /// The process.
        pid: u32,
        /// How long it had.
        waited: Duration,
    },
    /// Another process has its address.
    #[error("process {pid} has exited but {server} is still in use after {} s: is --server-pid really the server?", waited.as_secs_f64())]
    StillInUse {
        /// The process.
        pid: u32,
        /// The address.
        server: SocketAddr,
        /// How long it had.
        waited: Duration,
    },
    /// There is no shell.
    #[error("--start: {0}")]
    NoShell(std::io::Error),
    /// The new process has ended.
    #[error(
        "the server was started again and exited at once: {0}; run the command by hand to see why"
    )]
    Exited(ExitStatus),
    /// The new process does not listen.
    #[error("the server was started again (pid {pid}) but did not listen within {} s", waited.as_secs_f64())]
    NotListening {
        /// The process.
        pid: u32,
        /// How long it had.
        waited: Duration,
    },
    /// The run is to end.
    #[error("interrupted while the server was restarted")]
    Interrupted,
}

/// How long to wait, and what ends the wait early.
#[derive(Clone, Copy, Debug)]
pub struct Patience<'a> {
    /// How long the server may take to stop, and again to listen; at most half a minute.
    pub at_most: Duration,
    /// Set when the run is to end.
    pub stop: &'a CancellationToken,
}

/// What was found at the server's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    Open,
    /// Nothing listens.
    Shut,
    /// Something listens but does not accept connections.
    Stuck,
}

/// How long the server may take to stop, and to listen again.
const PATIENCE_MAX: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// A hanging server ends up with a full backlog, and then the kernel retries for minutes.
const KNOCK_DEADLINE: Duration = Duration::from_millis(500);

impl Restart {
    /// Stops the server and waits until its process has ended and nothing listens. Returns when it stopped listening: a
    /// server stops listening before it has closed its viewers.
    ///
    /// # Errors
    /// There is no such process, or it does not stop.
    pub async fn stop_server(&self, patience: Patience<'_>) -> Result<Instant, RestartError> {
        let gone = RestartError::NoProcess { pid: self.pid };
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let Some(pid) = pid else {
            return Err(gone);
        };
        kill_process(pid, self.signal).map_err(|_| gone)?;
        let began = Instant::now();
        let mut down_since = None;
        loop {
            let ended = has_ended(pid);
            match self.knock().await {
                Door::Shut => {
                    let since = *down_since.get_or_insert_with(Instant::now);
                    if ended {
                        return Ok(since);
                    }
                }
                Door::Open | Door::Stuck => down_since = None,
            }
            patience.check(began, |waited| {
                let (pid, server) = (self.pid, self.server);
                if ended {
                    RestartError::StillInUse {
                        pid,
                        server,
                        waited,
                    }
                } else {
                    RestartError::NotStopped { pid, waited }
                }
            })?;
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Starts the server.
    ///
    /// # Errors
    /// There is no shell.
    pub fn start_server(&self) -> Result<Started, RestartError> {
        // The new server must not inherit our output: a reader of our pipe would wait for its end forever.
        let process = Command::new("sh")
            .args(["-c", &format!("exec {}", self.command)])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(RestartError::NoShell)?;
        Ok(Started {
            process,
            at: Instant::now(),
        })
    }

    /// Waits until the server listens.
    ///
    /// # Errors
    /// It ended, or does not listen.
    pub async fn listening(
        &self,
        started: &mut Started,
        patience: Patience<'_>,
    ) -> Result<(), RestartError> {
        let pid = started.pid().unwrap_or_default();
        while self.knock().await != Door::Open {
            if let Ok(Some(status)) = started.process.try_wait() {
                return Err(RestartError::Exited(status));
            }
            patience.check(started.at, |waited| RestartError::NotListening {
                pid,
                waited,
            })?;
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    async fn knock(&self) -> Door {
        match tokio::time::timeout(KNOCK_DEADLINE, TcpStream::connect(self.server)).await {
            Ok(Ok(_)) => Door::Open,
            Ok(Err(_)) => Door::Shut,
            Err(_) => Door::Stuck,
        }
    }
}

impl Started {
    /// The number of its process, unless that has ended already.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.id()
    }
}

impl Patience<'_> {
    /// The error for a wait that ended: `what` gets the time waited.
    fn check(
        self,
        since: Instant,
        what: impl FnOnce(Duration) -> RestartError,
    ) -> Result<(), RestartError> {
        let at_most = self.at_most.min(PATIENCE_MAX);
        if self.stop.is_cancelled() {
            Err(RestartError::Interrupted)
        } else if since.elapsed() >= at_most {
            Err(what(at_most))
        } else {
            Ok(())
        }
    }
}

/// Gone, or a zombie that its parent has not reaped yet.
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
