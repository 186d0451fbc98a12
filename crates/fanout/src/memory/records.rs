//! A session over a pipe that packs bytes into records, as TLS does.
//!
//! It garbles the bytes with a key that changes with every record, so that a lost, repeated or moved record is noticed.
//! It keeps what the pipe does not take: one record at most. Its peer may ask for a new key, which the session must
//! answer with a record of its own, so a read can make it write. Reader and shard share it behind a mutex.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use super::pipe::Pipe;

/// The server's end.
#[derive(Debug)]
pub(super) struct RecordPipe {
    pipe: Pipe,
    session: Mutex<Session>,
}

#[derive(Debug, Default)]
struct Session {
    writing: Key,
    reading: Key,
    /// Packed, and not yet taken by the pipe.
    kept: VecDeque<u8>,
    /// The peer has asked for a new key. However often it did since the last one, one answer is enough, as in TLS
    /// (RFC 8446, section 4.6.3).
    owes_key: bool,
    /// Taken from the pipe, and not yet a whole record.
    packed: Vec<u8>,
    /// Unpacked, and not yet read.
    unpacked: VecDeque<u8>,
}

/// The viewer's end.
#[derive(Debug, Default)]
pub(super) struct RecordPeer {
    writing: Key,
    reading: Key,
    packed: Vec<u8>,
    awaits_key: bool,
}

/// What one direction is garbled with.
#[derive(Debug, Default)]
struct Key {
    generation: u64,
    records: u64,
}

#[derive(Debug)]
enum Record {
    Data(Vec<u8>),
    /// The records that follow in this direction are packed with the next key.
    NewKey,
}

/// The most bytes of data in a record.
const DATA_BYTES_MAX: usize = 64;

/// Kind and length of the body.
const HEAD_BYTES: usize = 3;

const KIND_DATA: u8 = 1;
const KIND_NEW_KEY: u8 = 2;

impl RecordPipe {
    pub(super) fn new(pipe: Pipe) -> Self {
        Self {
            pipe,
            session: Mutex::default(),
        }
    }

    /// Takes what it can pack and write, and one record of which the pipe takes only a part.
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut session = self.session();
        session.flush(&self.pipe)?;
        let mut taken = 0;
        for data in bytes.chunks(DATA_BYTES_MAX) {
            // Packed data can no longer be skipped, so nothing is packed before some of it can be written.
            let written = match self.pipe.is_full() {
                true => Err(io::ErrorKind::WouldBlock.into()),
                false => {
                    let record = session.writing.pack(KIND_DATA, data);
                    session.kept.extend(record);
                    taken += data.len();
                    session.flush(&self.pipe)
                }
            };
            match written {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && taken > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(taken)
    }

    /// Takes messages one after the other, up to the first of which it takes only a part.
    pub(super) fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut taken = 0;
        for slice in slices {
            match self.try_write(slice) {
                Ok(part) => {
                    taken += part;
                    if part < slice.len() {
                        break;
                    }
                }
                // As with a socket: what was taken counts, and the next write meets the error.
                Err(_) if taken > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(taken)
    }

    /// Writes what was taken and kept, and the answers that are owed.
    pub(super) fn flush(&self) -> io::Result<()> {
        self.session().flush(&self.pipe)
    }

    /// Whether reading has left something to write.
    pub(super) fn owes_write(&self) -> bool {
        self.session().owes_key
    }

    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut session = self.session();
        while session.unpacked.is_empty() {
            let mut bytes = [0; 256];
            let len = self.pipe.try_read(&mut bytes)?;
            if len == 0 {
                return Ok(0);
            }
            session.unpack(&bytes[..len]);
        }
        io::Read::read(&mut session.unpacked, buffer)
    }

    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.session().unpacked.is_empty() {
            self.pipe.poll_readable(cx)
        } else {
            // It is not in the pipe any more, which would never wake the reader for it.
            Poll::Ready(Ok(()))
        }
    }

    pub(super) fn shutdown(&self, how: Shutdown) {
        self.pipe.shutdown(how);
    }

    fn session(&self) -> MutexGuard<'_, Session> {
        // A panic cannot leave the session half-updated.
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    fn flush(&mut self, pipe: &Pipe) -> io::Result<()> {
        loop {
            while !self.kept.is_empty() {
                let written = pipe.try_write(self.kept.make_contiguous())?;
                self.kept.drain(..written);
            }
            if !self.owes_key {
                return Ok(());
            }
            self.kept.extend(self.writing.pack(KIND_NEW_KEY, &[]));
            self.writing.advance();
            self.owes_key = false;
        }
    }

    fn unpack(&mut self, bytes: &[u8]) {
        self.packed.extend_from_slice(bytes);
        while let Some(record) = self.reading.unpack(&mut self.packed) {
            match record {
                Record::Data(data) => self.unpacked.extend(data),
                Record::NewKey => self.owes_key = true,
            }
        }
    }
}

impl RecordPeer {
    pub(super) fn unpack(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut unpacked = Vec::new();
        self.packed.extend_from_slice(bytes);
        while let Some(record) = self.reading.unpack(&mut self.packed) {
            match record {
                Record::Data(data) => unpacked.extend(data),
                Record::NewKey => self.awaits_key = false,
            }
        }
        unpacked
    }

    pub(super) fn pack(&mut self, bytes: &[u8]) -> Vec<u8> {
        let records = bytes.chunks(DATA_BYTES_MAX);
        records
            .flat_map(|data| self.writing.pack(KIND_DATA, data))
            .collect()
    }

    pub(super) fn ask_for_key(&mut self) -> Vec<u8> {
        let record = self.writing.pack(KIND_NEW_KEY, &[]);
        self.writing.advance();
        self.awaits_key = true;
        record
    }

    pub(super) fn awaits_key(&self) -> bool {
        self.awaits_key
    }
}

impl Key {
    fn pack(&mut self, kind: u8, data: &[u8]) -> Vec<u8> {
        let mut body = [data, &[checksum(data)]].concat();
        self.garble(&mut body);
        let len = u16::try_from(body.len()).expect("invariant: a record is short");
        let [high, low] = len.to_be_bytes();
        [&[kind, high, low][..], &body].concat()
    }

    /// Takes the first record off `packed`, once it is whole.
    fn unpack(&mut self, packed: &mut Vec<u8>) -> Option<Record> {
        let &[kind, high, low] = packed.first_chunk::<HEAD_BYTES>()?;
        let end = HEAD_BYTES + usize::from(u16::from_be_bytes([high, low]));
        let mut body = packed.get(HEAD_BYTES..end)?.to_vec();
        packed.drain(..end);
        self.garble(&mut body);
        let sum = body.pop();
        assert_eq!(sum, Some(checksum(&body)), "a record is out of turn");
        match kind {
            KIND_DATA => Some(Record::Data(body)),
            KIND_NEW_KEY => {
                self.advance();
                Some(Record::NewKey)
            }
            other => panic!("no kind of record: {other}"),
        }
    }

    /// Makes bytes unreadable, or readable again.
    fn garble(&mut self, bytes: &mut [u8]) {
        let mut state = self.generation << 32 | self.records;
        for byte in bytes {
            // The constants of Knuth's MMIX generator.
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            *byte ^= state.to_be_bytes()[0];
        }
        self.records += 1;
    }

    fn advance(&mut self) {
        self.generation += 1;
        self.records = 0;
    }
}

fn checksum(data: &[u8]) -> u8 {
    data.iter().fold(data.len().to_le_bytes()[0], |sum, byte| {
        sum.rotate_left(1).wrapping_add(*byte)
    })
}

#[cfg(test)]
mod tests {
    use super::super::MemoryKind;
    use super::*;

    #[test]
    fn what_is_taken_arrives_and_what_does_not_fit_is_kept() {
        let (sink, mut peer) = MemoryKind::Records.open(100);
        let data: Vec<u8> = (0..=255).collect();
        // One record fits, and a part of the second.
        let taken = sink.try_write(&data).unwrap();
        assert_eq!(taken, 2 * DATA_BYTES_MAX);
        let blocked = io::ErrorKind::WouldBlock;
        assert_eq!(sink.flush().unwrap_err().kind(), blocked);
        assert_eq!(sink.try_write(&data).unwrap_err().kind(), blocked);
        let mut read = peer.read(100);
        assert_eq!(read, data[..DATA_BYTES_MAX]);
        sink.flush().unwrap();
        read.extend(peer.read(100));
        assert_eq!(read, data[..taken]);
    }

    #[test]
    fn nothing_is_packed_for_a_full_pipe() {
        let (sink, mut peer) = MemoryKind::Records.open(0);
        let error = sink.try_write(b"late").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        peer.set_bytes_max(100);
        sink.flush().unwrap();
        assert_eq!(peer.read(100), b"");
    }

    #[test]
    fn a_new_key_is_owed_once_and_changes_what_follows() {
        let (sink, mut peer) = MemoryKind::Records.open(5);
        let mut buffer = [0; 8];
        peer.ask_for_key();
        peer.ask_for_key();
        peer.write(b"hi");
        assert_eq!(sink.try_read(&mut buffer).unwrap(), 2);
        assert!(sink.owes_write() && peer.awaits_key());
        // One answer for both, of which the pipe takes all.
        assert_eq!(sink.try_write(b"x").unwrap(), 1);
        assert!(!sink.owes_write());
        assert_eq!(peer.read(4), b"");
        assert!(!peer.awaits_key());
        sink.flush().unwrap();
        assert_eq!(peer.read(100), b"x");
    }

    #[tokio::test]
    async fn what_is_unpacked_already_wakes_the_reader() {
        let (sink, mut peer) = MemoryKind::Records.open(100);
        peer.write(b"abcdef");
        let mut buffer = [0; 4];
        for len in [4, 2] {
            std::future::poll_fn(|cx| sink.poll_readable(cx))
                .await
                .unwrap();
            assert_eq!(sink.try_read(&mut buffer).unwrap(), len);
        }
        let error = sink.try_read(&mut buffer).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        peer.end();
        assert_eq!(sink.try_read(&mut buffer).unwrap(), 0);
    }
}
