//! Errors that keep a command from running: one line on stderr and exit code 2.

use std::io;
use std::path::PathBuf;

use danmaku_chat::RecordingError;
use danmaku_client::{AccessError, AddressError, ClientError};

use crate::quoted::quoted;
use crate::restart::RestartError;
use crate::spec_error::SpecError;
use crate::tokens::TokensError;

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
    /// A recording that cannot be replayed.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// A report that cannot be compared.
    #[error("{}: {what}", path.display())]
    Report {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A specification that cannot be run.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// A certificate or header that cannot be used.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// Tokens that cannot be read or made.
    #[error(transparent)]
    Tokens(#[from] TokensError),
    /// Nobody tells the server's CPU and memory.
    #[error("{0} needs --server-pid, or a server that reports its figures at /metrics")]
    NoServerFigures(&'static str),
    /// The server could not be stopped and started again.
    #[error(transparent)]
    Restart(#[from] RestartError),
    /// A second Ctrl-C.
    #[error("interrupted twice: no report")]
    InterruptedTwice,
    /// More sockets than the process may open.
    #[error(
        "{wanted} descriptors are needed but {allowed} allowed: use fewer viewers or posting connections, or raise `ulimit -n`"
    )]
    Descriptors {
        /// Descriptors the run needs.
        wanted: u64,
        /// Descriptors the operating system allows.
        allowed: u64,
    },
    /// The server does not answer, or answers with an error.
    #[error("{} (--url {address})", quoted(&source.to_string()))]
    Server {
        /// The server.
        address: String,
        /// What happened.
        source: ClientError,
    },
    /// A `url` that is none.
    #[error("`url` {url}: {source}")]
    Url {
        /// As it was given.
        url: String,
        /// What is wrong with it.
        source: AddressError,
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
    /// The floor could not be measured.
    #[error(transparent)]
    Floor(#[from] FloorError),
}

/// Why a floor could not be measured.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub enum FloorError {
    /// The child said nothing for so many seconds.
    #[error("floor sender: no answer within {0} s")]
    Silent(u64),
    /// The child has ended early.
    #[error("floor sender: it has ended; its own line says why")]
    Ended,
    /// The child said something else than it should.
    #[error("floor sender: an answer that makes no sense")]
    Answer,
    /// Frames did not arrive.
    #[error("floor sender: {lost} of {sends} sends were not received")]
    NotReceived {
        /// How many.
        lost: u64,
        /// Of how many.
        sends: u64,
    },
    /// The run is to end.
    #[error("floor sender: interrupted")]
    Interrupted,
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
