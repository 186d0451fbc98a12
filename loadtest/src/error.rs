//! Errors that keep a command from running: one line on stderr and exit code 2.

use std::fmt;
use std::io;
use std::path::PathBuf;

use danmaku_client::ClientError;

use crate::quoted::quoted;

/// Why a command cannot run or continue.
#[derive(Debug, thiserror::Error)]
pub enum HarnessError {
    /// A file that cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A recorded line that is not a comment.
    #[error("{} line {line}: {what}", path.display())]
    CorpusLine {
        /// The recording.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
    /// A recording without comments in the requested range.
    #[error("{}: no comment after the first {skip_s} s", path.display())]
    CorpusEmpty {
        /// The recording.
        path: PathBuf,
        /// Seconds that were skipped.
        skip_s: u64,
    },
    /// A report that cannot be compared.
    #[error("{}: {what}", path.display())]
    Report {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Flags that contradict each other or leave nothing to do.
    #[error("{0}")]
    Flags(String),
    /// More sockets than the process may open.
    #[error(
        "one process needs {wanted} descriptors but may open {allowed}: {remedy}raise `ulimit -n`"
    )]
    Descriptors {
        /// Descriptors the fullest process needs.
        wanted: u64,
        /// Descriptors the operating system allows it.
        allowed: u64,
        /// What would help.
        remedy: Remedy,
    },
    /// The server does not answer, or answers with an error.
    #[error("{} (--url {address})", quoted(&source.to_string()))]
    Server {
        /// The server.
        address: String,
        /// What happened.
        source: ClientError,
    },
    /// The server's name does not resolve.
    #[error("{address}: the name does not resolve")]
    Unresolved {
        /// The server.
        address: String,
    },
    /// A process that does not exist, or cannot be read.
    #[error("--server-pid {pid}: no such process, or it cannot be read")]
    Process {
        /// The process.
        pid: u32,
    },
    /// A process that is not the server's.
    #[error("--server-pid {pid}: this process does not listen on port {port}")]
    NotTheServer {
        /// The process.
        pid: u32,
        /// The server's port.
        port: u16,
    },
    /// Viewers that could not connect.
    #[error("{failed} of {viewers} viewers could not connect: {}", quoted(first))]
    Connects {
        /// How many.
        failed: u64,
        /// Of how many.
        viewers: u64,
        /// The most frequent cause.
        first: String,
    },
    /// Ctrl-C before there was anything to report.
    #[error("interrupted with {joined} of {viewers} viewers connected")]
    Interrupted {
        /// How many had joined.
        joined: u64,
        /// Of how many.
        viewers: u64,
    },
    /// The operating system refused something the run needs.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// A viewer process failed.
    #[error("viewer process {pid}: {what}")]
    ViewerProcess {
        /// The process.
        pid: u32,
        /// What it reported, or how it exited.
        what: String,
    },
    /// The floor's sender process failed.
    #[error("floor sender: {0}")]
    FloorSender(String),
}

/// How to make the sockets of a run fit its processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// This many viewers would fit.
    Viewers(u64),
    /// Either this many processes, or this many viewers.
    Processes {
        /// Viewers that would fit the processes asked for.
        viewers_max: u64,
        /// Processes that would hold all viewers.
        processes: u16,
    },
    /// Most posting connections that would fit; over WebSocket there is one per room.
    Posters(u64),
}

impl fmt::Display for Remedy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Viewers(viewers_max) => {
                write!(formatter, "lower --viewers to {viewers_max} or ")
            }
            Self::Processes {
                viewers_max,
                processes,
            } => write!(
                formatter,
                "lower --viewers to {viewers_max}, use --processes {processes} or "
            ),
            // Then not even the harness itself has enough.
            Self::Posters(0) => Ok(()),
            Self::Posters(posters_max) => write!(
                formatter,
                "lower --post-connections (with --post-via ws: --rooms) to {posters_max} or "
            ),
        }
    }
}

impl HarnessError {
    /// An error of the operating system, with what was tried.
    pub fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { what, source }
    }
}

#[cfg(test)]
mod tests {
    use danmaku_client::Refusal;

    use super::*;

    #[test]
    fn a_server_cannot_write_to_the_terminal_through_an_error() {
        let refusal = Refusal {
            status: 400,
            code: "x\x1b[2J".to_owned(),
            message: "\n\nPASS: everything is fine".to_owned(),
            retry_after_ms: None,
        };
        let error = HarnessError::Server {
            address: "http://127.0.0.1:1".to_owned(),
            source: ClientError::Refused(refusal),
        };
        assert_eq!(
            error.to_string(),
            r"the server answered 400 x\u{1b}[2J: \u{a}\u{a}PASS: everything is fine (--url http://127.0.0.1:1)"
        );
        let error = HarnessError::Connects {
            failed: 1,
            viewers: 1,
            first: "y".repeat(1 << 20),
        };
        assert!(error.to_string().len() < 200, "{error}");
    }
}
