//! Bytes from one end to the other: bounded, non-blocking, deterministic.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// The server's end.
#[derive(Debug)]
pub(super) struct Pipe {
    state: Arc<Mutex<State>>,
}

/// The viewer's end.
#[derive(Debug)]
pub(super) struct PipePeer {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    /// Written by the server, not yet read by the viewer.
    out: VecDeque<u8>,
    out_bytes_max: usize,
    /// Writes that took something.
    writes: u64,
    /// Written by the viewer, not yet read by the server.
    inbound: VecDeque<u8>,
    server_writing: Half,
    server_reading: Half,
    peer: Half,
    reader: Option<Waker>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Half {
    Open,
    Ended,
}

impl Pipe {
    /// A pipe that holds at most `bytes_max` bytes toward the viewer, like a socket's send buffer.
    pub(super) fn new(bytes_max: usize) -> (Self, PipePeer) {
        let state = Arc::new(Mutex::new(State {
            out: VecDeque::new(),
            out_bytes_max: bytes_max,
            writes: 0,
            inbound: VecDeque::new(),
            server_writing: Half::Open,
            server_reading: Half::Open,
            peer: Half::Open,
            reader: None,
        }));
        let peer = PipePeer {
            state: Arc::clone(&state),
        };
        (Self { state }, peer)
    }

    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.try_write_vectored(&[IoSlice::new(bytes)])
    }

    pub(super) fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = lock(&self.state);
        if state.peer == Half::Ended || state.server_writing == Half::Ended {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut fits = state.out_bytes_max.saturating_sub(state.out.len());
        if fits == 0 && slices.iter().any(|slice| !slice.is_empty()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut taken = 0;
        for slice in slices {
            let part = slice.len().min(fits);
            state.out.extend(&slice[..part]);
            fits -= part;
            taken += part;
        }
        state.writes += 1;
        Ok(taken)
    }

    /// Whether the pipe is full.
    pub(super) fn is_full(&self) -> bool {
        let state = lock(&self.state);
        state.out.len() >= state.out_bytes_max && state.peer == Half::Open
    }

    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = lock(&self.state);
        if state.server_reading == Half::Ended {
            return Ok(0);
        }
        if state.inbound.is_empty() {
            return match state.peer {
                Half::Open => Err(io::ErrorKind::WouldBlock.into()),
                Half::Ended => Ok(0),
            };
        }
        io::Read::read(&mut state.inbound, buffer)
    }

    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = lock(&self.state);
        let ended = state.peer == Half::Ended || state.server_reading == Half::Ended;
        if ended || !state.inbound.is_empty() {
            return Poll::Ready(Ok(()));
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(super) fn shutdown(&self, how: Shutdown) {
        let mut state = lock(&self.state);
        if how != Shutdown::Read {
            state.server_writing = Half::Ended;
        }
        if how != Shutdown::Write {
            state.server_reading = Half::Ended;
            state.wake_reader();
        }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.shutdown(Shutdown::Both);
    }
}

impl PipePeer {
    /// Takes up to `bytes_max` bytes of what the server wrote.
    pub(super) fn read(&self, bytes_max: usize) -> Vec<u8> {
        let mut state = lock(&self.state);
        let taken = state.out.len().min(bytes_max);
        state.out.drain(..taken).collect()
    }

    /// Sends to the server.
    pub(super) fn write(&self, bytes: &[u8]) {
        let mut state = lock(&self.state);
        state.inbound.extend(bytes);
        state.wake_reader();
    }

    /// Sets how many bytes the pipe holds toward the viewer from now on.
    pub(super) fn set_bytes_max(&self, bytes_max: usize) {
        lock(&self.state).out_bytes_max = bytes_max;
    }

    /// How many bytes the server has written that are not read yet.
    pub(super) fn bytes_held(&self) -> usize {
        lock(&self.state).out.len()
    }

    /// How often the server wrote something.
    pub(super) fn writes(&self) -> u64 {
        lock(&self.state).writes
    }

    /// Whether the server has said that nothing more will come. What it wrote before can still be read.
    pub(super) fn is_ended(&self) -> bool {
        lock(&self.state).server_writing == Half::Ended
    }

    /// Goes away: the server's next write fails, and its reads end after what was sent.
    pub(super) fn end(&self) {
        let mut state = lock(&self.state);
        state.peer = Half::Ended;
        state.wake_reader();
    }
}

impl Drop for PipePeer {
    fn drop(&mut self) {
        self.end();
    }
}

impl State {
    fn wake_reader(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // A panic cannot leave the state half-updated.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[test]
    fn holds_no_more_than_its_bound_and_loses_nothing() {
        let (pipe, peer) = Pipe::new(4);
        assert_eq!(pipe.try_write(b"abcdef").unwrap(), 4);
        assert_eq!(
            pipe.try_write(b"ef").unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        assert_eq!(peer.read(3), b"abc");
        assert_eq!(pipe.try_write(b"ef").unwrap(), 2);
        assert_eq!(peer.read(100), b"def");
    }

    #[tokio::test]
    async fn the_reader_wakes_for_bytes_and_for_each_kind_of_end() {
        let (pipe, peer) = Pipe::new(4);
        let mut buffer = [0; 8];
        let later = async {
            tokio::task::yield_now().await;
            peer.write(b"hi");
        };
        let (ready, ()) = tokio::join!(poll_fn(|cx| pipe.poll_readable(cx)), later);
        ready.unwrap();
        assert_eq!(pipe.try_read(&mut buffer).unwrap(), 2);
        assert_eq!(
            pipe.try_read(&mut buffer).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        let later = async {
            tokio::task::yield_now().await;
            pipe.shutdown(Shutdown::Both);
        };
        let (ready, ()) = tokio::join!(poll_fn(|cx| pipe.poll_readable(cx)), later);
        ready.unwrap();
        assert_eq!(pipe.try_read(&mut buffer).unwrap(), 0);
        assert!(peer.is_ended());

        let (pipe, peer) = Pipe::new(4);
        drop(peer);
        poll_fn(|cx| pipe.poll_readable(cx)).await.unwrap();
        assert_eq!(pipe.try_read(&mut buffer).unwrap(), 0);
        assert_eq!(
            pipe.try_write(b"x").unwrap_err().kind(),
            io::ErrorKind::BrokenPipe
        );
    }
}
