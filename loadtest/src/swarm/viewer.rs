//! One viewer: a socket, where it is in its handshake, and the audit's memory of it. About 90 bytes while idle.

mod incoming;
mod pusher;

use std::io::{self, Read, Write};
use std::sync::Arc;

use danmaku_wire::{CloseReason, Protocol};

use crate::audit::{Auditor, End, Watch};
use crate::clock::Moment;
use crate::swarm::handshake::{self, Ask, From, Handshake};
use crate::swarm::link::Link;
use crate::swarm::plan::Seat;
use crate::swarm::server_frame::ServerFrame;
use crate::swarm::thread_state::ThreadState;

/// One viewer of a run.
pub(super) struct Viewer {
    pub(super) link: Option<Link>,
    pub(super) watch: Watch,
    pub(super) seat: Seat,
    pub(super) state: State,
    /// The epoch of the room it watches, while it is its viewer: not before it has joined, and not after it has
    /// left by itself.
    pub(super) epoch: Option<u64>,
    /// The start of an incomplete frame or response head.
    #[expect(
        clippy::box_collection,
        reason = "8 bytes per viewer instead of 24, for something few viewers have"
    )]
    partial: Option<Box<Vec<u8>>>,
}

/// The state of a viewer's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Not dialled yet.
    Waiting,
    /// Dialled, not connected.
    Connecting,
    /// The request is sent.
    Asked,
    /// Accepted; `joined` has not arrived yet.
    Joining,
    /// Reads.
    Live,
    /// Has stopped reading.
    Stalled,
    /// Reads, but only as fast as the worker lets it.
    Slow,
    /// Stopped reading and reads again, to find out its state.
    Resumed,
    /// Has sent its close frame at the end of the run.
    Leaving,
    /// Has no socket any more.
    Ended(End),
}

/// How a viewer's turn to read has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Turn {
    /// Nothing is left; new bytes make a new event.
    Over,
    /// There may be more, and no event will say so.
    Unfinished,
}

/// Buffers of bytes a viewer may read in one turn.
const READS_PER_TURN_MAX: usize = 16;
/// The mask of our few frames. RFC 6455 section 5.3 wants it unpredictable against proxies; there is none here.
const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

impl Viewer {
    pub(super) fn new(seat: Seat) -> Self {
        Self {
            link: None,
            watch: Watch::default(),
            seat,
            state: State::Waiting,
            epoch: None,
            partial: None,
        }
    }

    /// Whether it has everything that is acknowledged so far.
    pub(super) fn is_caught_up(&self, index: usize, thread: &ThreadState) -> bool {
        match &thread.counter {
            Some(counter) => counter.is_caught_up(index, self.seat.room),
            None => thread.auditor.is_caught_up(&self.watch, self.seat.room),
        }
    }

    /// Ends its audit.
    pub(super) fn finish(&self, index: usize, end: End, thread: &mut ThreadState) {
        match &mut thread.counter {
            Some(counter) => counter.finish(index, self.seat.room, end),
            None => thread.auditor.finish(&self.watch, self.seat.room, end),
        }
    }

    /// The socket can be written: it is connected, or never will be.
    pub(super) fn connected(&mut self, index: usize, thread: &mut ThreadState) {
        let Some(link) = &mut self.link else {
            return;
        };
        let socket = link.socket();
        let failure = match (socket.take_error(), socket.peer_addr()) {
            (Ok(Some(error)) | Err(error), _) => Some(error.to_string()),
            (Ok(None), Err(error)) if error.kind() == io::ErrorKind::NotConnected => return,
            (Ok(None), Err(error)) => Some(error.to_string()),
            (Ok(None), Ok(_)) => None,
        };
        if let Some(cause) = failure {
            return self.fail(index, &cause, thread);
        }
        let (entrance, number) = (Arc::clone(&thread.entrance), thread.number(index));
        let headers = |out: &mut Vec<u8>| entrance.write_headers(number, out);
        if let Some(app) = &entrance.pusher {
            let path = app.viewer_path();
            handshake::write_upgrade(&entrance.address, &path, headers, &mut thread.request);
        } else {
            let ask = Ask {
                server: &entrance.address,
                room: &thread.rooms[self.seat.room as usize],
                dialect: self.seat.dialect,
                from: match self.epoch {
                    Some(epoch) => From::Since(epoch, Auditor::position(&self.watch)),
                    None => thread.beginning(index),
                },
            };
            handshake::write_request(&ask, headers, &mut thread.request);
        }
        // A new socket takes a few hundred bytes at once; if it does not, give up on it.
        match link.write(&thread.request) {
            Ok(written) if written == thread.request.len() => self.state = State::Asked,
            Ok(_) => self.fail(index, "the request was only sent in part", thread),
            Err(error) => self.fail(index, &error.to_string(), thread),
        }
    }

    /// Reads what there is, but no more than its turn allows: the other viewers of the thread wait. `closed` says that the
    /// peer has sent its last byte: then a short read is not the end.
    pub(super) fn read(
        &mut self,
        index: usize,
        closed: bool,
        buffer: &mut [u8],
        thread: &mut ThreadState,
    ) -> Turn {
        for _ in 0..READS_PER_TURN_MAX {
            let Some(link) = &mut self.link else {
                return Turn::Over;
            };
            match link.read(buffer) {
                Ok(0) => {
                    self.end(index, End::Silent, thread);
                    return Turn::Over;
                }
                Ok(read) => {
                    let is_empty = link.is_empty_after(read, buffer.len());
                    let now = thread.clock.now();
                    thread.last_arrival = now;
                    self.take(index, &buffer[..read], now, thread);
                    if is_empty && !closed {
                        return Turn::Over;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Turn::Over,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // TLS says what is wrong; a socket that breaks does not.
                Err(error)
                    if error.kind() == io::ErrorKind::InvalidData && self.state == State::Asked =>
                {
                    self.fail(index, &format!("tls: {error}"), thread);
                    return Turn::Over;
                }
                Err(_) => {
                    self.end(index, End::Silent, thread);
                    return Turn::Over;
                }
            }
        }
        Turn::Unfinished
    }

    /// Drops its connection without a close frame, as when a network goes away. It keeps its position.
    pub(super) fn cut(&mut self) {
        self.link = None;
        self.partial = None;
        self.state = State::Waiting;
    }

    /// Closes its connection cleanly and forgets its position.
    pub(super) fn depart(&mut self) {
        if self.seat.dialect.protocol() == Protocol::WebSocket {
            self.send(0x88, &CloseReason::Normal.code().to_be_bytes());
        }
        self.cut();
        self.epoch = None;
    }

    /// Reads at most `bytes` of what there is.
    pub(super) fn read_some(&mut self, index: usize, buffer: &mut [u8], thread: &mut ThreadState) {
        let Some(link) = &mut self.link else {
            return;
        };
        match link.read(buffer) {
            Ok(0) => self.end(index, End::Silent, thread),
            Ok(read) => {
                let now = thread.clock.now();
                self.take(index, &buffer[..read], now, thread);
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            Err(_) => self.end(index, End::Silent, thread),
        }
    }

    /// Stops reading.
    pub(super) fn stall(&mut self) {
        if self.state == State::Live {
            self.state = State::Stalled;
        }
    }

    /// The viewer could not connect.
    pub(super) fn fail(&mut self, index: usize, cause: &str, thread: &mut ThreadState) {
        self.refused(index, cause, thread);
        self.link = None;
        self.partial = None;
        self.state = State::Ended(End::Silent);
    }

    /// Ends the connection as RFC 6455 section 7.1.2 asks, so that the server closes first. A viewer of an event stream just
    /// drops it.
    pub(super) fn leave(&mut self) {
        let can_speak = self.seat.dialect.protocol() == Protocol::WebSocket;
        match self.state {
            State::Live | State::Resumed | State::Slow | State::Stalled if can_speak => {
                self.send(0x88, &CloseReason::Normal.code().to_be_bytes());
                self.state = State::Leaving;
            }
            State::Leaving | State::Ended(_) => {}
            _ => {
                self.link = None;
                self.state = State::Ended(End::Open);
            }
        }
    }

    fn take(&mut self, index: usize, input: &[u8], now: Moment, thread: &mut ThreadState) {
        match self.partial.take() {
            None => {
                let consumed = self.consume(index, input, now, thread);
                if consumed < input.len() {
                    self.partial = Some(Box::new(input[consumed..].to_vec()));
                }
            }
            Some(mut partial) => {
                partial.extend_from_slice(input);
                let consumed = self.consume(index, &partial, now, thread);
                if consumed < partial.len() {
                    partial.drain(..consumed);
                    self.partial = Some(partial);
                }
            }
        }
    }

    /// Takes whole heads and frames from the start of `input`; returns how many bytes those were.
    fn consume(
        &mut self,
        index: usize,
        input: &[u8],
        now: Moment,
        thread: &mut ThreadState,
    ) -> usize {
        let mut consumed = 0;
        loop {
            let rest = &input[consumed..];
            match self.state {
                State::Waiting | State::Connecting | State::Ended(_) => return input.len(),
                State::Asked => match handshake::read_answer(rest, self.seat.dialect) {
                    Handshake::Partial => return consumed,
                    Handshake::Done(head) => {
                        consumed += head;
                        self.state = State::Joining;
                    }
                    Handshake::Refused(cause) => {
                        self.fail(index, &cause, thread);
                        return input.len();
                    }
                },
                State::Joining
                | State::Live
                | State::Stalled
                | State::Slow
                | State::Resumed
                | State::Leaving => match self.next(index, rest, now, thread) {
                    Ok(0) => return consumed,
                    Ok(bytes) => consumed += bytes,
                    Err(fault) => {
                        thread.fault(&fault.to_string());
                        self.end(index, End::Silent, thread);
                        return input.len();
                    }
                },
            }
        }
    }

    /// Refused: a failure, unless it had joined before and tries again.
    fn refused(&self, index: usize, cause: &str, thread: &mut ThreadState) {
        if self.epoch.is_none() {
            thread.fail(index, cause);
        } else {
            thread.retry(index);
        }
    }

    fn close_frame(&mut self, index: usize, frame: ServerFrame<'_>, thread: &mut ThreadState) {
        if self.state != State::Leaving {
            // The answer to a close frame is a close frame (RFC 6455 section 5.5.1); then the server closes the socket.
            self.send(0x88, frame.payload.get(..2).unwrap_or_default());
        }
        self.closed(index, frame.close_code(), thread);
    }

    /// Handles the server's close.
    fn closed(&mut self, index: usize, code: u16, thread: &mut ThreadState) {
        match self.state {
            State::Live | State::Joining => *thread.incidents.closes.entry(code).or_default() += 1,
            State::Resumed | State::Slow => {
                *thread.incidents.stalled.closes.entry(code).or_default() += 1;
            }
            _ => {}
        }
        if self.state == State::Joining {
            self.refused(
                index,
                &format!("closed with {code} before `joined`"),
                thread,
            );
        }
        self.link = None;
        self.partial = None;
        self.state = State::Ended(End::Told);
    }

    fn end(&mut self, index: usize, end: End, thread: &mut ThreadState) {
        match self.state {
            State::Connecting | State::Asked | State::Joining => {
                let cause = "the connection broke during the handshake";
                self.refused(index, cause, thread);
            }
            State::Live => thread.incidents.silent_ends += 1,
            State::Resumed | State::Slow => thread.incidents.stalled.silent += 1,
            _ => {}
        }
        self.link = None;
        self.partial = None;
        self.state = State::Ended(end);
    }

    /// Sends a small masked frame, or drops it if the socket does not take it at once: a viewer that cannot send a pong
    /// is one the server should notice.
    fn send(&mut self, first: u8, payload: &[u8]) {
        let mut frame = [0_u8; 6 + 125];
        let payload = &payload[..payload.len().min(125)];
        frame[0] = first;
        frame[1] = 0x80 | u8::try_from(payload.len()).unwrap_or(125);
        frame[2..6].copy_from_slice(&MASK);
        for (index, byte) in payload.iter().enumerate() {
            frame[6 + index] = byte ^ MASK[index % 4];
        }
        if let Some(link) = &mut self.link {
            let _ = link.write(&frame[..6 + payload.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_viewer_stays_small() {
        // With debug assertions a socket of `mio` also knows its poll.
        let more = if cfg!(debug_assertions) { 24 } else { 8 };
        assert!(
            size_of::<Viewer>() <= 88 + more,
            "a viewer has {} bytes",
            size_of::<Viewer>()
        );
    }
}
