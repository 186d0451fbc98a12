//! A viewer's socket, shared by the task that reads it and the shard that writes it.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;

#[cfg(feature = "memory")]
use crate::memory::Memory;

/// Where a viewer's bytes go. This file holds everything a new kind of connection must support.
///
/// A sink may transform the bytes it takes and keep some that it cannot write yet. It is then behind until it has
/// written them, takes only what it must until then, and may owe a write after a read.
#[derive(Debug)]
#[non_exhaustive]
pub enum Sink {
    /// A socket, which keeps nothing.
    Tcp(TcpStream),
    /// Memory, for simulations and tests.
    #[cfg(feature = "memory")]
    Memory(Memory),
}

impl From<TcpStream> for Sink {
    fn from(stream: TcpStream) -> Self {
        Self::Tcp(stream)
    }
}

#[cfg(feature = "memory")]
impl From<Memory> for Sink {
    fn from(memory: Memory) -> Self {
        Self::Memory(memory)
    }
}

/// A viewer's connection: one task reads it, one shard writes it.
///
/// It is closed when both have dropped it. When the shard is done with a viewer it shuts the connection down, so that
/// the reader sees its end.
#[derive(Debug)]
pub struct Link {
    sink: Sink,
    /// Milliseconds since the origin of the shards' clock.
    heard_ms: AtomicU64,
}

impl Link {
    /// A link that was heard from at `now`, on the clock of [`Fanout::start`](crate::Fanout::start)'s origin.
    #[must_use]
    pub fn new(sink: Sink, now: Duration) -> Self {
        Self {
            sink,
            heard_ms: AtomicU64::new(millis(now)),
        }
    }

    /// The connection itself, to look at it or to set its options. Only the shard may write to it.
    #[must_use]
    pub fn sink(&self) -> &Sink {
        &self.sink
    }

    /// Waits until there may be something to read. For one task at a time, the link's reader.
    ///
    /// An idle viewer's task consists of this, so it holds only a reference: the waker is in the socket's registration.
    ///
    /// # Errors
    /// What the socket says.
    pub fn readable(&self) -> impl Future<Output = io::Result<()>> + '_ {
        poll_fn(|cx| match &self.sink {
            Sink::Tcp(stream) => stream.poll_read_ready(cx),
            #[cfg(feature = "memory")]
            Sink::Memory(memory) => memory.poll_readable(cx),
        })
    }

    /// Reads what is there; 0 bytes is the end.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when there is nothing yet, else what the socket says.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.sink {
            Sink::Tcp(stream) => stream.try_read(buffer),
            #[cfg(feature = "memory")]
            Sink::Memory(memory) => memory.try_read(buffer),
        }
    }

    /// Whether reading has left something to write. The reader then sends its shard a
    /// [`ShardMsg::Flush`](crate::ShardMsg::Flush), for it must not write itself.
    #[must_use]
    pub fn owes_write(&self) -> bool {
        match &self.sink {
            Sink::Tcp(_) => false,
            #[cfg(feature = "memory")]
            Sink::Memory(memory) => memory.owes_write(),
        }
    }

    /// Writes what fits. From the moment the link is attached only its shard may call this.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when nothing fits, else what the socket says.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match &self.sink {
            Sink::Tcp(stream) => stream.try_write(bytes),
            #[cfg(feature = "memory")]
            Sink::Memory(memory) => memory.try_write(bytes),
        }
    }

    /// Records a sign of life. Only the reader stores it; the shard loads it once per ping interval.
    pub fn heard(&self, now: Duration) {
        self.heard_ms.store(millis(now), Ordering::Relaxed);
    }

    /// When the last sign of life was.
    #[must_use]
    pub fn last_heard(&self) -> Duration {
        Duration::from_millis(self.heard_ms.load(Ordering::Relaxed))
    }

    /// One write to a viewer for whom nothing waits, sorted by what is left to do.
    ///
    /// It goes straight to the kernel: the socket is hardly ever full, and fetching Tokio's readiness for every viewer
    /// costs 2 to 3 % of a pass (measured).
    #[inline]
    pub(crate) fn write(&self, bytes: &[u8]) -> Written {
        match &self.sink {
            // A peer that is gone is an error here and not a signal: Rust's runtime ignores SIGPIPE.
            Sink::Tcp(stream) => Written::sort(bytes.len(), SockRef::from(stream).send(bytes)),
            #[cfg(feature = "memory")]
            Sink::Memory(memory) => {
                Written::sort(bytes.len(), memory.try_write(bytes)).flushed(memory)
            }
        }
    }

    /// Whether a viewer that was full last time may be ready now. While it is not, this makes no system call.
    pub(crate) fn may_take_more(&self) -> bool {
        match &self.sink {
            Sink::Tcp(stream) => stream.try_io(Interest::WRITABLE, || Ok(())).is_ok(),
            #[cfg(feature = "memory")]
            Sink::Memory(_) => true,
        }
    }

    /// One write of several messages.
    pub(crate) fn write_vectored(&self, slices: &[IoSlice<'_>], ready: Ready) -> Written {
        let len = slices.iter().map(|slice| slice.len()).sum();
        match &self.sink {
            Sink::Tcp(stream) => {
                let written = match ready {
                    // Tokio learns that the socket is full, and that it is writable again.
                    Ready::Retried => stream.try_write_vectored(slices),
                    Ready::Fresh => SockRef::from(stream).send_vectored(slices),
                };
                Written::sort(len, written)
            }
            #[cfg(feature = "memory")]
            Sink::Memory(memory) => {
                Written::sort(len, memory.try_write_vectored(slices)).flushed(memory)
            }
        }
    }

    /// Writes what the sink has taken and kept.
    pub(crate) fn flush(&self) -> Written {
        match &self.sink {
            Sink::Tcp(_) => Written::Whole,
            #[cfg(feature = "memory")]
            Sink::Memory(memory) => Written::Whole.flushed(memory),
        }
    }

    /// Tells the peer that nothing more will come.
    pub(crate) fn end_writing(&self) {
        self.shutdown(Shutdown::Write);
    }

    /// Ends the connection; what the kernel still holds is sent.
    pub(crate) fn end(&self) {
        self.shutdown(Shutdown::Both);
    }

    /// Ends the connection and throws away what the kernel still holds for a peer that does not read.
    pub(crate) fn reset(&self) {
        match &self.sink {
            // The reset itself goes out when the reader, which sees the end now, drops the link. Should the option
            // fail, the kernel gives up on its own later.
            Sink::Tcp(stream) => {
                let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
            }
            #[cfg(feature = "memory")]
            Sink::Memory(_) => {}
        }
        self.end();
    }

    fn shutdown(&self, how: Shutdown) {
        match &self.sink {
            // It fails when the peer was faster, which comes to the same.
            Sink::Tcp(stream) => {
                let _ = SockRef::from(stream).shutdown(how);
            }
            #[cfg(feature = "memory")]
            Sink::Memory(memory) => memory.shutdown(how),
        }
    }
}

/// What is known of a viewer that is about to be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ready {
    /// Nothing was refused so far.
    Fresh,
    /// It has refused some of the last write.
    Retried,
}

/// What one write did.
#[derive(Debug)]
pub(crate) enum Written {
    /// All of it.
    Whole,
    /// All of it is taken, and the sink keeps some until the viewer is ready for more.
    #[cfg_attr(
        not(feature = "memory"),
        expect(dead_code, reason = "a socket keeps nothing; a session over one will")
    )]
    Kept,
    /// That many bytes, which may be none: the viewer is not ready for more.
    Part(usize),
    /// The connection is gone.
    Broken(io::Error),
}

impl Written {
    fn sort(len: usize, written: io::Result<usize>) -> Self {
        match written {
            Ok(written) if written == len => Self::Whole,
            Ok(written) => Self::Part(written),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Self::Part(0),
                _ => Self::Broken(error),
            },
        }
    }

    /// What a write comes to with a sink that may have kept some of what it took.
    #[cfg(feature = "memory")]
    fn flushed(self, memory: &Memory) -> Self {
        match self {
            Self::Whole => match Self::sort(0, memory.flush().map(|()| 0)) {
                Self::Part(_) => Self::Kept,
                flushed => flushed,
            },
            written => written,
        }
    }
}

fn millis(at: Duration) -> u64 {
    u64::try_from(at.as_millis()).unwrap_or(u64::MAX)
}
