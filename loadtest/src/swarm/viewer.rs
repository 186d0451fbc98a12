//! One viewer: a socket, where it is in its handshake, and the audit's memory of it. About 90 bytes while idle.

use std::io::{self, Read, Write};

use danmaku_client::{Event, Joined};
use danmaku_wire::{CloseReason, Dialect, Protocol};
use mio::net::TcpStream;

use crate::audit::{Auditor, BATCH_START, Carrier, End, POSITION_MAX, Piece, Watch};
use crate::clock::Moment;
use crate::event_text::{EVENT_END, EventText, FLUSH_END, cut};
use crate::swarm::desk::Desk;
use crate::swarm::handshake::{self, Handshake};
use crate::swarm::plan::{Part, Seat};
use crate::swarm::server_frame::{FrameFault, FrameKind, PAYLOAD_BYTES_MAX, ServerFrame};

/// One viewer of a run.
pub(super) struct Viewer {
    pub(super) socket: Option<TcpStream>,
    pub(super) watch: Watch,
    pub(super) seat: Seat,
    pub(super) state: State,
    /// The epoch of the room it watches, as long as it has a place there: not before it has joined, and not after it has
    /// gone by itself.
    pub(super) epoch: Option<u64>,
    /// The start of a frame or response head whose rest has not come yet.
    #[expect(
        clippy::box_collection,
        reason = "8 bytes per viewer instead of 24, for something few viewers have"
    )]
    partial: Option<Box<Vec<u8>>>,
}

/// Where a viewer is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Not dialled yet.
    Waiting,
    /// Dialled, not connected.
    Connecting,
    /// The request is sent.
    Asked,
    /// Let in; `joined` has not come yet.
    Joining,
    /// Reads.
    Live,
    /// Has stopped reading.
    Stalled,
    /// Reads, but only as fast as the worker lets it.
    Slow,
    /// Stopped reading once and reads again, only to see what became of it.
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
            socket: None,
            watch: Watch::default(),
            seat,
            state: State::Waiting,
            epoch: None,
            partial: None,
        }
    }

    /// The socket can be written: it is connected, or never will be.
    pub(super) fn connected(&mut self, index: usize, desk: &mut Desk) {
        let Some(socket) = &mut self.socket else {
            return;
        };
        let failure = match (socket.take_error(), socket.peer_addr()) {
            (Ok(Some(error)) | Err(error), _) => Some(error.to_string()),
            (Ok(None), Err(error)) if error.kind() == io::ErrorKind::NotConnected => return,
            (Ok(None), Err(error)) => Some(error.to_string()),
            (Ok(None), Ok(_)) => None,
        };
        if let Some(cause) = failure {
            return self.fail(index, &cause, desk);
        }
        let room = &desk.rooms[self.seat.room as usize];
        let since = self
            .epoch
            .map(|epoch| (epoch, Auditor::position(&self.watch)));
        handshake::write_request(
            &desk.authority,
            room,
            self.seat.dialect,
            since,
            &mut desk.request,
        );
        // A new socket takes a few hundred bytes at once; if it does not, something is wrong enough to give up on it.
        match socket.write(&desk.request) {
            Ok(written) if written == desk.request.len() => self.state = State::Asked,
            Ok(_) => self.fail(index, "the request was not taken whole", desk),
            Err(error) => self.fail(index, &error.to_string(), desk),
        }
    }

    /// Reads what there is, but no more than its turn allows: the other viewers of the thread wait. `closed` says that the
    /// peer has sent its last byte: then a short read is not the end.
    pub(super) fn read(
        &mut self,
        index: usize,
        closed: bool,
        buffer: &mut [u8],
        desk: &mut Desk,
    ) -> Turn {
        for _ in 0..READS_PER_TURN_MAX {
            let Some(socket) = &mut self.socket else {
                return Turn::Over;
            };
            match socket.read(buffer) {
                Ok(0) => {
                    self.end(index, End::Silent, desk);
                    return Turn::Over;
                }
                Ok(read) => {
                    let now = desk.clock.now();
                    desk.last_arrival = now;
                    self.take(index, &buffer[..read], now, desk);
                    // Edge-triggered: bytes that come after a short read make a new event, so the read that would only say
                    // so is spared.
                    if read < buffer.len() && !closed {
                        return Turn::Over;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Turn::Over,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.end(index, End::Silent, desk);
                    return Turn::Over;
                }
            }
        }
        Turn::Unfinished
    }

    /// Loses its connection without a word, as when a network goes away. It keeps its place.
    pub(super) fn cut(&mut self) {
        self.socket = None;
        self.partial = None;
        self.state = State::Waiting;
    }

    /// Goes away politely, and forgets where it was.
    pub(super) fn depart(&mut self) {
        if self.seat.dialect.protocol() == Protocol::WebSocket {
            self.send(0x88, &CloseReason::Normal.code().to_be_bytes());
        }
        self.cut();
        self.epoch = None;
    }

    /// Reads at most `bytes` of what there is.
    pub(super) fn read_some(&mut self, index: usize, buffer: &mut [u8], desk: &mut Desk) {
        let Some(socket) = &mut self.socket else {
            return;
        };
        match socket.read(buffer) {
            Ok(0) => self.end(index, End::Silent, desk),
            Ok(read) => {
                let now = desk.clock.now();
                self.take(index, &buffer[..read], now, desk);
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            Err(_) => self.end(index, End::Silent, desk),
        }
    }

    /// Stops reading.
    pub(super) fn stall(&mut self) {
        if self.state == State::Live {
            self.state = State::Stalled;
        }
    }

    /// The viewer could not connect.
    pub(super) fn fail(&mut self, index: usize, cause: &str, desk: &mut Desk) {
        self.refused(index, cause, desk);
        self.socket = None;
        self.partial = None;
        self.state = State::Ended(End::Silent);
    }

    /// The run is over: says goodbye as RFC 6455 section 7.1.2 asks, so that the server closes first. Who watches an event stream
    /// has nothing to say it with.
    pub(super) fn leave(&mut self) {
        let can_speak = self.seat.dialect.protocol() == Protocol::WebSocket;
        match self.state {
            State::Live | State::Resumed | State::Slow | State::Stalled if can_speak => {
                self.send(0x88, &CloseReason::Normal.code().to_be_bytes());
                self.state = State::Leaving;
            }
            State::Leaving | State::Ended(_) => {}
            _ => {
                self.socket = None;
                self.state = State::Ended(End::Open);
            }
        }
    }

    fn take(&mut self, index: usize, input: &[u8], now: Moment, desk: &mut Desk) {
        match self.partial.take() {
            None => {
                let consumed = self.consume(index, input, now, desk);
                if consumed < input.len() {
                    self.partial = Some(Box::new(input[consumed..].to_vec()));
                }
            }
            Some(mut partial) => {
                partial.extend_from_slice(input);
                let consumed = self.consume(index, &partial, now, desk);
                if consumed < partial.len() {
                    partial.drain(..consumed);
                    self.partial = Some(partial);
                }
            }
        }
    }

    /// Takes whole heads and frames from the start of `input`; returns how many bytes those were.
    fn consume(&mut self, index: usize, input: &[u8], now: Moment, desk: &mut Desk) -> usize {
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
                        self.fail(index, &cause, desk);
                        return input.len();
                    }
                },
                State::Joining
                | State::Live
                | State::Stalled
                | State::Slow
                | State::Resumed
                | State::Leaving => match self.next(index, rest, now, desk) {
                    Ok(0) => return consumed,
                    Ok(bytes) => consumed += bytes,
                    Err(fault) => {
                        desk.fault(&fault.to_string());
                        self.end(index, End::Silent, desk);
                        return input.len();
                    }
                },
            }
        }
    }

    /// Takes the next frame or event at the start of `input`; returns its bytes, 0 when more of them are needed.
    #[inline]
    fn next(
        &mut self,
        index: usize,
        input: &[u8],
        now: Moment,
        desk: &mut Desk,
    ) -> Result<usize, FrameFault> {
        let taken = match self.seat.dialect {
            Dialect::WsIdentity | Dialect::WsGzip | Dialect::WsDeflate => {
                let Some(frame) = ServerFrame::parse(input)? else {
                    return Ok(0);
                };
                self.frame(index, frame, now, desk);
                return Ok(frame.bytes);
            }
            Dialect::SseIdentity => cut(input, 0, EVENT_END).map(|text| {
                self.event(index, text, now, desk);
                text.len()
            }),
            Dialect::SseGzip => self.piece(index, input, now, desk),
        };
        match taken {
            Some(bytes) => Ok(bytes),
            None if input.len() as u64 > PAYLOAD_BYTES_MAX => Err(FrameFault::TooBig),
            None => Ok(0),
        }
    }

    fn frame(&mut self, index: usize, frame: ServerFrame<'_>, now: Moment, desk: &mut Desk) {
        match frame.kind {
            FrameKind::Binary => self.binary(index, frame, now, desk),
            FrameKind::Text if frame.payload.starts_with(BATCH_START) => {
                self.text_batch(index, frame, now, desk);
            }
            FrameKind::Text => self.text(index, frame, now, desk),
            FrameKind::Ping => self.send(0x8A, frame.payload),
            FrameKind::Pong => {}
            FrameKind::Close => self.close_frame(index, frame, desk),
        }
    }

    /// A server-sent event as plain text.
    fn event(&mut self, index: usize, text: &[u8], now: Moment, desk: &mut Desk) {
        match EventText::parse(text) {
            Some(EventText::Message { json, .. }) if json.starts_with(BATCH_START) => {
                self.batch(index, Dialect::SseIdentity, (text, text.len()), now, desk);
            }
            Some(EventText::Message { json, .. }) => self.event_message(index, json, now, desk),
            Some(EventText::Heartbeat) => {}
            None => desk.fault("a server-sent event that is not the protocol"),
        }
    }

    /// What the server flushed last in a packed stream: one event. What looks like its end may, once in four thousand million
    /// bytes, be a part of it. Returns its bytes; `None` when more of them are needed.
    fn piece(&mut self, index: usize, input: &[u8], now: Moment, desk: &mut Desk) -> Option<usize> {
        let mut from = 0;
        loop {
            let payload = cut(input, from, FLUSH_END)?;
            from = payload.len();
            let carrier = Carrier {
                room: self.seat.room,
                dialect: Dialect::SseGzip,
                payload,
            };
            let piece = match self.state {
                State::Live => desk.auditor.piece(&mut self.watch, carrier, now),
                _ => desk.auditor.peek(&mut self.watch, carrier, now),
            };
            match piece {
                Piece::Unfinished => continue,
                Piece::Batch(comments) => self.had(index, comments, payload.len(), desk),
                Piece::Undecodable => self.had(index, 0, payload.len(), desk),
                Piece::Text(text) => {
                    let text = text.to_vec();
                    self.event(index, &text, now, desk);
                }
            }
            return Some(from);
        }
    }

    /// A batch as a binary message: only packed ones travel so.
    #[inline]
    fn binary(&mut self, index: usize, frame: ServerFrame<'_>, now: Moment, desk: &mut Desk) {
        let dialect = self.seat.dialect;
        if dialect == Dialect::WsIdentity {
            desk.fault("a binary message to a viewer of `identity`");
        }
        self.batch(index, dialect, (frame.payload, frame.bytes), now, desk);
    }

    /// A batch as a text message: only plain ones travel so.
    #[inline]
    fn text_batch(&mut self, index: usize, frame: ServerFrame<'_>, now: Moment, desk: &mut Desk) {
        if self.seat.dialect != Dialect::WsIdentity {
            desk.fault("a batch as text to a viewer that asked for a packed one");
        }
        let message = (frame.payload, frame.bytes);
        self.batch(index, Dialect::WsIdentity, message, now, desk);
    }

    /// A batch: its payload, and the bytes it took with its head.
    #[inline]
    fn batch(
        &mut self,
        index: usize,
        dialect: Dialect,
        (payload, bytes): (&[u8], usize),
        now: Moment,
        desk: &mut Desk,
    ) {
        let comments = if self.state == State::Live {
            let carrier = Carrier {
                room: self.seat.room,
                dialect,
                payload,
            };
            desk.auditor.batch(&mut self.watch, carrier, now)
        } else {
            0
        };
        self.had(index, comments, bytes, desk);
    }

    /// Counts a batch that came.
    #[inline]
    fn had(&mut self, index: usize, comments: u64, bytes: usize, desk: &mut Desk) {
        match self.state {
            State::Live => desk.delivered(self.seat.dialect.encoding(), bytes, comments),
            State::Joining => {
                desk.fault("a batch before `joined`");
                self.end(index, End::Silent, desk);
            }
            State::Resumed | State::Slow => desk.tolls.stalled.frames += 1,
            _ => {}
        }
    }

    /// Any other text message.
    fn text(&mut self, index: usize, frame: ServerFrame<'_>, now: Moment, desk: &mut Desk) {
        match Event::parse(frame.payload) {
            // A batch in which something else comes first.
            Ok(Event::Batch(_)) if self.state != State::Joining => {
                self.text_batch(index, frame, now, desk);
            }
            // Here it is a frame that ends the connection.
            Ok(Event::Closed(_)) => {}
            Ok(event) => self.message(index, event, now, desk),
            Err(error) => {
                desk.fault(&format!("a text message that is not the protocol: {error}"));
            }
        }
    }

    /// Any other server-sent event.
    fn event_message(&mut self, index: usize, json: &[u8], now: Moment, desk: &mut Desk) {
        match Event::parse(json) {
            Ok(Event::Closed(closed)) => self.closed(index, closed.code, desk),
            Ok(event) => self.message(index, event, now, desk),
            Err(error) => {
                desk.fault(&format!("an event that is not the protocol: {error}"));
            }
        }
    }

    fn message(&mut self, index: usize, event: Event, now: Moment, desk: &mut Desk) {
        match (event, self.state) {
            (Event::Joined(joined), State::Joining) => {
                self.joined(&joined, now, desk);
                self.state = State::Live;
                desk.joined(index, joined.window_ms, now);
            }
            (_, State::Joining) => {
                desk.fault("a message before `joined`");
                self.end(index, End::Silent, desk);
            }
            (Event::Gap(gap), State::Live) => {
                desk.auditor
                    .gap(&mut self.watch, self.seat.room, self.seat.dialect, &gap);
            }
            (Event::Gap(gap), State::Resumed | State::Slow) => {
                let (after, seq) = (gap.after.value(), gap.seq.value());
                let skipped = desk.auditor.acknowledged_in(self.seat.room, after, seq);
                let stalled = &mut desk.tolls.stalled;
                stalled.gaps += 1;
                stalled.skipped += skipped;
            }
            (Event::Error(error), State::Live) => {
                desk.fault(&format!("an error message: {}", error.code));
            }
            (Event::Joined(_), State::Live) => desk.fault("a second `joined`"),
            _ => {}
        }
    }

    /// Takes its place: a new one, the old one, or one in a room that is in a new epoch.
    fn joined(&mut self, joined: &Joined, now: Moment, desk: &mut Desk) {
        let sampled = (self.seat.part == Part::Sampled).then_some(self.seat.dialect);
        let epoch = joined.epoch.value();
        let (after, seq) = (joined.after.value(), joined.seq.value());
        if after > POSITION_MAX || seq > POSITION_MAX {
            desk.fault("a `joined` whose position is beyond 2^53");
        }
        let (after, seq) = (after.min(POSITION_MAX), seq.min(POSITION_MAX));
        if after > seq {
            desk.fault("a `joined` that begins behind its last sealed position");
        }
        if self.epoch == Some(epoch) {
            let position = Auditor::position(&self.watch);
            if joined.resumed && after != position {
                desk.fault("a `joined` that resumes at another position than asked for");
            }
            if !joined.resumed && seq < position {
                desk.fault("a room that ends before what its viewer has had of it");
            }
            Auditor::resumed(&mut self.watch, seq, now, sampled);
            desk.tolls.resumed += u64::from(joined.resumed);
        } else {
            if self.epoch.is_some() {
                let room = self.seat.room;
                desk.tolls.renumbered += 1;
                let unreplayed = desk.auditor.renumbered(&self.watch, room);
                desk.tolls.unreplayed = desk.tolls.unreplayed.saturating_add(unreplayed);
                match desk.auditor.renumbered_room(room) {
                    Some(anew) => self.seat.room = anew,
                    None => desk.fault("the room's epoch changed twice"),
                }
                desk.began_anew.push((self.seat.room, after));
            }
            self.watch = Auditor::joined(after, seq, now, sampled);
            self.epoch = Some(epoch);
        }
        if !desk.auditor.is_epoch(self.seat.room, epoch) {
            desk.fault("a room with another epoch for this viewer than for the rest");
        }
    }

    /// Not let in: a failure, unless it had been in before and tries again.
    fn refused(&self, index: usize, cause: &str, desk: &mut Desk) {
        if self.epoch.is_none() {
            desk.fail(index, cause);
        } else {
            desk.retry(index);
        }
    }

    fn close_frame(&mut self, index: usize, frame: ServerFrame<'_>, desk: &mut Desk) {
        if self.state != State::Leaving {
            // The answer to a close frame is a close frame (RFC 6455 section 5.5.1); then the server closes the socket.
            self.send(0x88, frame.payload.get(..2).unwrap_or_default());
        }
        self.closed(index, frame.close_code(), desk);
    }

    /// The server has said that it closes.
    fn closed(&mut self, index: usize, code: u16, desk: &mut Desk) {
        match self.state {
            State::Live | State::Joining => *desk.tolls.closes.entry(code).or_default() += 1,
            State::Resumed | State::Slow => {
                *desk.tolls.stalled.closes.entry(code).or_default() += 1;
            }
            _ => {}
        }
        if self.state == State::Joining {
            self.refused(index, &format!("closed with {code} before `joined`"), desk);
        }
        self.socket = None;
        self.partial = None;
        self.state = State::Ended(End::Told);
    }

    fn end(&mut self, index: usize, end: End, desk: &mut Desk) {
        match self.state {
            State::Connecting | State::Asked | State::Joining => {
                let cause = "the connection broke during the handshake";
                self.refused(index, cause, desk);
            }
            State::Live => desk.tolls.silent_ends += 1,
            State::Resumed | State::Slow => desk.tolls.stalled.silent += 1,
            _ => {}
        }
        self.socket = None;
        self.partial = None;
        self.state = State::Ended(end);
    }

    /// Sends a small masked frame. If the socket does not take it at once it is left out: a viewer that cannot send a pong
    /// is one the server should find out about.
    fn send(&mut self, first: u8, payload: &[u8]) {
        let mut frame = [0_u8; 6 + 125];
        let payload = &payload[..payload.len().min(125)];
        frame[0] = first;
        frame[1] = 0x80 | u8::try_from(payload.len()).unwrap_or(125);
        frame[2..6].copy_from_slice(&MASK);
        for (index, byte) in payload.iter().enumerate() {
            frame[6 + index] = byte ^ MASK[index % 4];
        }
        if let Some(socket) = &mut self.socket {
            let _ = socket.write(&frame[..6 + payload.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_viewer_stays_small() {
        // With debug assertions a socket of `mio` also knows its poll.
        let more = if cfg!(debug_assertions) { 16 } else { 0 };
        assert!(
            size_of::<Viewer>() <= 88 + more,
            "a viewer has {} bytes",
            size_of::<Viewer>()
        );
    }
}
