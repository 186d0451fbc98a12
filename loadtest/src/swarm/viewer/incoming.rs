//! Handles a viewer's messages: WebSocket frames or server-sent events.

use danmaku_client::{Event, Joined};
use danmaku_wire::Dialect;

use super::{State, Viewer};
use crate::audit::{Auditor, BATCH_START, Carrier, End, POSITION_MAX, Piece};
use crate::clock::Moment;
use crate::event_text::{EVENT_END, EventText, FLUSH_END, cut};
use crate::swarm::plan::Part;
use crate::swarm::server_frame::{FrameFault, FrameKind, PAYLOAD_BYTES_MAX, ServerFrame};
use crate::swarm::thread_state::ThreadState;

impl Viewer {
    /// Takes the next frame or event at the start of `input`; returns its bytes, 0 when more of them are needed.
    #[inline]
    pub(super) fn next(
        &mut self,
        index: usize,
        input: &[u8],
        now: Moment,
        thread: &mut ThreadState,
    ) -> Result<usize, FrameFault> {
        let taken = match self.seat.dialect {
            Dialect::WsIdentity | Dialect::WsGzip | Dialect::WsDeflate => {
                let Some(frame) = ServerFrame::parse(input)? else {
                    return Ok(0);
                };
                self.frame(index, frame, now, thread);
                return Ok(frame.bytes);
            }
            Dialect::SseIdentity => cut(input, 0, EVENT_END).map(|text| {
                self.event(index, text, now, thread);
                text.len()
            }),
            Dialect::SseGzip => self.piece(index, input, now, thread),
        };
        match taken {
            Some(bytes) => Ok(bytes),
            None if input.len() as u64 > PAYLOAD_BYTES_MAX => Err(FrameFault::TooBig),
            None => Ok(0),
        }
    }

    fn frame(
        &mut self,
        index: usize,
        frame: ServerFrame<'_>,
        now: Moment,
        thread: &mut ThreadState,
    ) {
        match frame.kind {
            FrameKind::Binary => self.binary(index, frame, now, thread),
            FrameKind::Text if frame.payload.starts_with(BATCH_START) => {
                self.text_batch(index, frame, now, thread);
            }
            FrameKind::Text if thread.counter.is_some() => self.pusher(index, frame, now, thread),
            FrameKind::Text => self.text(index, frame, now, thread),
            FrameKind::Ping => self.send(0x8A, frame.payload),
            FrameKind::Pong => {}
            FrameKind::Close => self.close_frame(index, frame, thread),
        }
    }

    /// A server-sent event as plain text.
    fn event(&mut self, index: usize, text: &[u8], now: Moment, thread: &mut ThreadState) {
        match EventText::parse(text) {
            Some(EventText::Message { json, .. }) if json.starts_with(BATCH_START) => {
                self.batch(index, Dialect::SseIdentity, (text, text.len()), now, thread);
            }
            Some(EventText::Message { json, .. }) => self.event_message(index, json, now, thread),
            Some(EventText::Heartbeat) => {}
            None => thread.fault("a server-sent event that violates the protocol"),
        }
    }

    /// What the server flushed last in a packed stream: one event. What looks like its end may, once in four thousand million
    /// bytes, be a part of it. Returns its bytes; `None` when more of them are needed.
    fn piece(
        &mut self,
        index: usize,
        input: &[u8],
        now: Moment,
        thread: &mut ThreadState,
    ) -> Option<usize> {
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
                State::Live => thread.auditor.piece(&mut self.watch, carrier, now),
                _ => thread.auditor.peek(&mut self.watch, carrier, now),
            };
            match piece {
                Piece::Unfinished => continue,
                Piece::Batch(comments) => self.had(index, comments, payload.len(), thread),
                Piece::Undecodable => self.had(index, 0, payload.len(), thread),
                Piece::Text(text) => {
                    let text = text.to_vec();
                    self.event(index, &text, now, thread);
                }
            }
            return Some(from);
        }
    }

    /// A batch as a binary message: only packed ones are sent this way.
    #[inline]
    fn binary(
        &mut self,
        index: usize,
        frame: ServerFrame<'_>,
        now: Moment,
        thread: &mut ThreadState,
    ) {
        let dialect = self.seat.dialect;
        if dialect == Dialect::WsIdentity {
            thread.fault("a binary message to a viewer of `identity`");
        }
        self.batch(index, dialect, (frame.payload, frame.bytes), now, thread);
    }

    /// A batch as a text message: only plain ones are sent this way.
    #[inline]
    fn text_batch(
        &mut self,
        index: usize,
        frame: ServerFrame<'_>,
        now: Moment,
        thread: &mut ThreadState,
    ) {
        if self.seat.dialect != Dialect::WsIdentity {
            thread.fault("a text batch to a viewer that asked for a compressed one");
        }
        let message = (frame.payload, frame.bytes);
        self.batch(index, Dialect::WsIdentity, message, now, thread);
    }

    /// A batch: its payload, and the bytes it took with its head.
    #[inline]
    fn batch(
        &mut self,
        index: usize,
        dialect: Dialect,
        (payload, bytes): (&[u8], usize),
        now: Moment,
        thread: &mut ThreadState,
    ) {
        let comments = if self.state == State::Live {
            let carrier = Carrier {
                room: self.seat.room,
                dialect,
                payload,
            };
            thread.auditor.batch(&mut self.watch, carrier, now)
        } else {
            0
        };
        self.had(index, comments, bytes, thread);
    }

    /// Counts a batch that arrived.
    #[inline]
    fn had(&mut self, index: usize, comments: u64, bytes: usize, thread: &mut ThreadState) {
        match self.state {
            State::Live => thread.delivered(self.seat.dialect.encoding(), bytes, comments),
            State::Joining => {
                thread.fault("a batch before `joined`");
                self.end(index, End::Silent, thread);
            }
            State::Resumed | State::Slow => thread.incidents.stalled.frames += 1,
            _ => {}
        }
    }

    /// Any other text message.
    fn text(
        &mut self,
        index: usize,
        frame: ServerFrame<'_>,
        now: Moment,
        thread: &mut ThreadState,
    ) {
        match Event::parse(frame.payload) {
            // A batch whose first member is not the type.
            Ok(Event::Batch(_)) if self.state != State::Joining => {
                self.text_batch(index, frame, now, thread);
            }
            // Here it is a frame that ends the connection.
            Ok(Event::Closed(_)) => {}
            Ok(event) => self.message(index, event, now, thread),
            Err(error) => {
                thread.fault(&format!(
                    "a text message that violates the protocol: {error}"
                ));
            }
        }
    }

    /// Any other server-sent event.
    fn event_message(&mut self, index: usize, json: &[u8], now: Moment, thread: &mut ThreadState) {
        match Event::parse(json) {
            Ok(Event::Closed(closed)) => self.closed(index, closed.code, thread),
            Ok(event) => self.message(index, event, now, thread),
            Err(error) => {
                thread.fault(&format!("an event that violates the protocol: {error}"));
            }
        }
    }

    fn message(&mut self, index: usize, event: Event, now: Moment, thread: &mut ThreadState) {
        match (event, self.state) {
            (Event::Joined(joined), State::Joining) => {
                self.joined(&joined, now, thread);
                self.state = State::Live;
                thread.joined(index, joined.window_ms, now);
            }
            (_, State::Joining) => {
                thread.fault("a message before `joined`");
                self.end(index, End::Silent, thread);
            }
            (Event::Gap(gap), State::Live) => {
                thread
                    .auditor
                    .gap(&mut self.watch, self.seat.room, self.seat.dialect, &gap);
            }
            (Event::Gap(gap), State::Resumed | State::Slow) => {
                let (after, seq) = (gap.after.value(), gap.seq.value());
                let skipped = thread.auditor.acknowledged_in(self.seat.room, after, seq);
                let stalled = &mut thread.incidents.stalled;
                stalled.gaps += 1;
                stalled.skipped += skipped;
            }
            (Event::Error(error), State::Live) => {
                thread.fault(&format!("an error message: {}", error.code));
            }
            (Event::Joined(_), State::Live) => thread.fault("a second `joined`"),
            _ => {}
        }
    }

    /// Joins its room: for the first time, at its old position, or in a new epoch.
    fn joined(&mut self, joined: &Joined, now: Moment, thread: &mut ThreadState) {
        let sampled = (self.seat.part == Part::Sampled).then_some(self.seat.dialect);
        let epoch = joined.epoch.value();
        let (after, seq) = (joined.after.value(), joined.seq.value());
        if after > POSITION_MAX || seq > POSITION_MAX {
            thread.fault("a `joined` whose position is beyond 2^53");
        }
        let (after, seq) = (after.min(POSITION_MAX), seq.min(POSITION_MAX));
        if after > seq {
            thread.fault("a `joined` that begins behind its last sealed position");
        }
        if self.epoch == Some(epoch) {
            let position = Auditor::position(&self.watch);
            if joined.resumed && after != position {
                thread.fault("a `joined` that resumes at another position than requested");
            }
            if !joined.resumed && seq < position {
                thread.fault("a room that ends before its viewer's position");
            }
            Auditor::resumed(&mut self.watch, seq, now, sampled);
            thread.incidents.resumed += u64::from(joined.resumed);
        } else {
            if self.epoch.is_some() {
                let room = self.seat.room;
                thread.incidents.renumbered += 1;
                let unreplayed = thread.auditor.renumbered(&self.watch, room);
                thread.incidents.unreplayed =
                    thread.incidents.unreplayed.saturating_add(unreplayed);
                match thread.auditor.renumbered_room(room) {
                    Some(anew) => self.seat.room = anew,
                    None => thread.fault("the room's epoch changed twice"),
                }
                thread.began_anew.push((self.seat.room, after));
            }
            self.watch = Auditor::joined(after, seq, now, sampled);
            self.epoch = Some(epoch);
        }
        if !thread.auditor.is_epoch(self.seat.room, epoch) {
            thread.fault("a room with a different epoch for this viewer");
        }
    }
}
