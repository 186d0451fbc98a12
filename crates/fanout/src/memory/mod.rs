//! Connections in memory, for simulations and tests.

mod pipe;
mod records;

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::task::{Context, Poll};

use self::pipe::{Pipe, PipePeer};
use self::records::{RecordPeer, RecordPipe};

/// The server's end.
#[derive(Debug)]
pub struct Memory(Server);

#[derive(Debug)]
enum Server {
    Plain(Pipe),
    Records(Box<RecordPipe>),
}

/// The viewer's end.
#[derive(Debug)]
pub struct MemoryPeer {
    pipe: PipePeer,
    records: Option<RecordPeer>,
}

/// What a connection is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryKind {
    /// Like a socket: takes bytes as they are, and only those that fit.
    Plain,
    /// Like TLS: packs bytes into records, keeps what does not fit, and may have to write after a read.
    Records,
}

impl MemoryKind {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Plain, Self::Records];

    /// A connection that holds at most `bytes_max` bytes toward the viewer, like a socket's send buffer.
    #[must_use]
    pub fn open(self, bytes_max: usize) -> (Memory, MemoryPeer) {
        let (server, pipe) = Pipe::new(bytes_max);
        let (server, records) = match self {
            Self::Plain => (Server::Plain(server), None),
            Self::Records => (
                Server::Records(Box::new(RecordPipe::new(server))),
                Some(RecordPeer::default()),
            ),
        };
        (Memory(server), MemoryPeer { pipe, records })
    }
}

impl Memory {
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match &self.0 {
            Server::Plain(pipe) => pipe.try_write(bytes),
            Server::Records(records) => records.try_write(bytes),
        }
    }

    pub(crate) fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match &self.0 {
            Server::Plain(pipe) => pipe.try_write_vectored(slices),
            Server::Records(records) => records.try_write_vectored(slices),
        }
    }

    /// Writes what was taken and kept.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] while some of it is still kept.
    pub(crate) fn flush(&self) -> io::Result<()> {
        match &self.0 {
            Server::Plain(_) => Ok(()),
            Server::Records(records) => records.flush(),
        }
    }

    pub(crate) fn owes_write(&self) -> bool {
        match &self.0 {
            Server::Plain(_) => false,
            Server::Records(records) => records.owes_write(),
        }
    }

    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.0 {
            Server::Plain(pipe) => pipe.try_read(buffer),
            Server::Records(records) => records.try_read(buffer),
        }
    }

    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.0 {
            Server::Plain(pipe) => pipe.poll_readable(cx),
            Server::Records(records) => records.poll_readable(cx),
        }
    }

    pub(crate) fn shutdown(&self, how: Shutdown) {
        match &self.0 {
            Server::Plain(pipe) => pipe.shutdown(how),
            Server::Records(records) => records.shutdown(how),
        }
    }
}

impl MemoryPeer {
    /// Takes up to `bytes_max` bytes off the connection, and gives what they say.
    #[must_use]
    pub fn read(&mut self, bytes_max: usize) -> Vec<u8> {
        let bytes = self.pipe.read(bytes_max);
        match &mut self.records {
            None => bytes,
            Some(records) => records.unpack(&bytes),
        }
    }

    /// Sends to the server.
    pub fn write(&mut self, bytes: &[u8]) {
        match &mut self.records {
            None => self.pipe.write(bytes),
            Some(records) => self.pipe.write(&records.pack(bytes)),
        }
    }

    /// Changes the key and asks the server to do the same; a plain connection needs none of it.
    pub fn ask_for_key(&mut self) {
        if let Some(records) = &mut self.records {
            self.pipe.write(&records.ask_for_key());
        }
    }

    /// Whether the server has not yet answered [`MemoryPeer::ask_for_key`].
    #[must_use]
    pub fn awaits_key(&self) -> bool {
        self.records.as_ref().is_some_and(RecordPeer::awaits_key)
    }

    /// Sets how many bytes the connection holds toward the viewer from now on.
    pub fn set_bytes_max(&self, bytes_max: usize) {
        self.pipe.set_bytes_max(bytes_max);
    }

    /// How many bytes the connection holds toward the viewer.
    #[must_use]
    pub fn bytes_held(&self) -> usize {
        self.pipe.bytes_held()
    }

    /// How often the server wrote something to the connection.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.pipe.writes()
    }

    /// Whether the server has said that nothing more will come. What it wrote before can still be read.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.pipe.is_ended()
    }

    /// Goes away: the server's next write fails, and its reads end after what was sent.
    pub fn end(&self) {
        self.pipe.end();
    }
}
