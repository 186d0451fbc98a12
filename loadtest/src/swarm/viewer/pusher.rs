//! Handles a viewer's messages in the Pusher protocol.

use super::{State, Viewer};
use crate::audit::End;
use crate::clock::Moment;
use crate::pusher::{self, Carried, Message, PONG};
use crate::swarm::server_frame::ServerFrame;
use crate::swarm::thread_state::ThreadState;

/// What stands for the epoch of a room, where there are no positions.
const EPOCH: u64 = 1;

impl Viewer {
    pub(super) fn pusher(
        &mut self,
        index: usize,
        frame: ServerFrame<'_>,
        now: Moment,
        thread: &mut ThreadState,
    ) {
        let Some(message) = pusher::read(frame.payload) else {
            return thread.fault("a message that violates the Pusher protocol");
        };
        match (message, self.state) {
            (Message::Comment(carried), _) => {
                self.comment(index, &carried, frame.bytes, now, thread);
            }
            (Message::Connected, State::Joining) => {
                let room = &thread.rooms[self.seat.room as usize];
                let subscription = pusher::subscription(room);
                self.send(0x81, subscription.as_bytes());
            }
            (Message::Subscribed, State::Joining) => {
                self.state = State::Live;
                self.epoch = Some(EPOCH);
                if let Some(counter) = &mut thread.counter {
                    counter.joined(index, now);
                }
                // Such a server has no window.
                thread.joined(index, 0, now);
            }
            (Message::Ping, _) => self.send(0x81, PONG.as_bytes()),
            (Message::Error(why), State::Joining) => self.fail(index, &why, thread),
            (Message::Error(why), State::Live) => {
                thread.fault(&format!("an error message: {why}"));
            }
            (Message::Foreign, State::Live) => {
                if let Some(counter) = &mut thread.counter {
                    counter.foreign(self.seat.room);
                }
            }
            _ => {}
        }
    }

    fn comment(
        &mut self,
        index: usize,
        carried: &Carried,
        bytes: usize,
        now: Moment,
        thread: &mut ThreadState,
    ) {
        match self.state {
            State::Live => {
                let encoding = self.seat.dialect.encoding();
                thread.delivered(encoding, bytes, 1);
                if let Some(counter) = &mut thread.counter {
                    counter.arrived(index, self.seat.room, carried, now);
                }
            }
            State::Joining => {
                thread.fault("an event before the subscription");
                self.end(index, End::Silent, thread);
            }
            State::Resumed | State::Slow => thread.incidents.stalled.frames += 1,
            _ => {}
        }
    }
}
