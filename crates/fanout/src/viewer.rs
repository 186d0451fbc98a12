//! One viewer as its shard sees it, and the one write that a frame costs.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use danmaku_wire::FrameSet;

use crate::audience::Audience;
use crate::config::FanoutConfig;
use crate::link::{Link, Ready, Written};
use crate::message::{ConnId, Outgoing};
use crate::outbox::{Control, Flushed, Kind, Outbox};
use crate::packing::{Packing, usual_form};
use crate::room_sets::Seat;
use crate::stats::{EvictReason, SkipReason, StatsSnapshot};

/// One viewer. There are as many as connections, so its size is tested.
#[derive(Debug)]
pub(crate) struct Viewer {
    pub(crate) conn: ConnId,
    pub(crate) link: Arc<Link>,
    pub(crate) audience: Arc<Audience>,
    /// Only while something waits.
    pub(crate) outbox: Option<Box<Outbox>>,
    /// None once it is closing.
    pub(crate) seat: Option<Seat>,
    pub(crate) packing: Packing,
    pub(crate) phase: Phase,
    pub(crate) ping: Ping,
}

/// Whether a viewer's next frame takes a ping along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ping {
    NotDue,
    WithNextFrame,
}

/// How far a viewer's close has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It is not closing.
    Open,
    /// Nothing may be added to what waits; its close is the last.
    Closing,
    /// The close is written and the sending half shut: the peer's end is awaited.
    Closed,
}

/// The outcome of a message to a viewer.
#[derive(Debug)]
#[must_use]
pub(crate) enum Sent {
    /// The kernel has it, and nothing waits.
    Whole,
    /// It waits behind others.
    Waits,
    /// It, its remainder, or what the sink kept of it waits, and nothing waited before.
    FellBehind,
    /// Too much waits, and none of it can be skipped.
    Overflow(EvictReason),
    /// The connection is gone.
    Broken(io::Error),
}

impl Viewer {
    /// How long the viewer has been silent.
    pub(crate) fn silent(&self, now: Duration) -> Duration {
        now.saturating_sub(self.link.last_heard())
    }

    /// Writes or queues a frame.
    ///
    /// The hot path: a frame that goes out whole has cost one write of shared bytes and left no trace but the
    /// viewer's place in the shared history.
    #[inline]
    pub(crate) fn send_frame(
        &mut self,
        frame: &Arc<FrameSet>,
        now: Duration,
        config: &FanoutConfig,
        counts: &mut StatsSnapshot,
    ) -> Sent {
        counts.frames_offered += 1;
        if self.outbox.is_some() {
            return self.queue_frame(frame, now, config, counts);
        }
        if self.ping == Ping::WithNextFrame {
            return self.send_frame_and_ping(frame, now, config, counts);
        }
        let mut packing = self.packing;
        let bytes = packing.form(frame);
        match self.link.write(bytes) {
            Written::Whole => {
                self.packing = packing;
                counts.frames_written += 1;
                counts.bytes_written += bytes.len() as u64;
                Sent::Whole
            }
            Written::Kept => {
                self.packing = packing;
                counts.frames_written += 1;
                counts.bytes_written += bytes.len() as u64;
                self.outbox_at(now).1
            }
            Written::Part(0) => self.queue_frame(frame, now, config, counts),
            Written::Part(written) => {
                self.packing = packing;
                self.queue_remainder(bytes, written, Kind::Frame, now, counts)
            }
            Written::Broken(error) => {
                counts.skip(SkipReason::Closed, 1);
                Sent::Broken(error)
            }
        }
    }

    /// Writes a frame and a ping at once. The copy is made once per viewer and ping interval, and saves a system call.
    #[cold]
    fn send_frame_and_ping(
        &mut self,
        frame: &Arc<FrameSet>,
        now: Duration,
        config: &FanoutConfig,
        counts: &mut StatsSnapshot,
    ) -> Sent {
        self.ping = Ping::NotDue;
        let mut packing = self.packing;
        let bytes = packing.form(frame);
        let ping = self.packing.dialect().heartbeat();
        let both = Bytes::from([&bytes[..], &ping[..]].concat());
        let written = match self.link.write(&both) {
            Written::Whole | Written::Kept => both.len(),
            Written::Part(0) => return self.queue_frame(frame, now, config, counts),
            Written::Part(written) => written,
            Written::Broken(error) => {
                counts.skip(SkipReason::Closed, 1);
                return Sent::Broken(error);
            }
        };
        self.packing = packing;
        if written < bytes.len() {
            // A viewer that is behind is not pinged.
            return self.queue_remainder(bytes, written, Kind::Frame, now, counts);
        }
        counts.frames_written += 1;
        counts.bytes_written += bytes.len() as u64;
        let kind = Kind::Control(Control::Heartbeat);
        match written - bytes.len() {
            0 => self.flush_sink(now),
            all if all == ping.len() => {
                kind.count(counts);
                counts.bytes_written += ping.len() as u64;
                self.flush_sink(now)
            }
            part => self.queue_remainder(&ping, part, kind, now, counts),
        }
    }

    /// Writes or queues a message that is never skipped.
    pub(crate) fn send_control(
        &mut self,
        bytes: &Bytes,
        control: Control,
        now: Duration,
        config: &FanoutConfig,
        counts: &mut StatsSnapshot,
    ) -> Sent {
        if self.outbox.is_none() {
            match self.link.write(bytes) {
                written @ (Written::Whole | Written::Kept) => {
                    self.packing.message_written();
                    Kind::Control(control).count(counts);
                    counts.bytes_written += bytes.len() as u64;
                    return match written {
                        Written::Kept => self.outbox_at(now).1,
                        _ => Sent::Whole,
                    };
                }
                Written::Part(0) => {}
                Written::Part(written) => {
                    self.packing.message_written();
                    return self.queue_remainder(
                        bytes,
                        written,
                        Kind::Control(control),
                        now,
                        counts,
                    );
                }
                Written::Broken(error) => return Sent::Broken(error),
            }
        }
        if control == Control::Heartbeat {
            // Nobody waits for a ping, and a viewer that reads its outbox will answer anyway.
            return Sent::Waits;
        }
        let (outbox, sent) = self.outbox_at(now);
        outbox.push_control(bytes.clone(), control);
        if outbox.control_bytes() > config.control_bytes_max {
            return Sent::Overflow(EvictReason::Control);
        }
        sent
    }

    /// Writes a new viewer's first messages, as many as fit into one write.
    pub(crate) fn send_first(
        &mut self,
        first: Vec<Outgoing>,
        now: Duration,
        config: &FanoutConfig,
        counts: &mut StatsSnapshot,
    ) -> Sent {
        let dialect = self.packing.dialect();
        let (outbox, sent) = self.outbox_at(now);
        for outgoing in first {
            match outgoing {
                Outgoing::Control(bytes) => outbox.push_control(bytes, Control::Message),
                Outgoing::Frame(frame) => {
                    counts.frames_offered += 1;
                    let bytes = usual_form(dialect, &frame).len();
                    outbox.push_frame(frame, bytes, now);
                }
            }
        }
        match self.flush(Ready::Fresh, counts) {
            Flushed::All => Sent::Whole,
            Flushed::Broken(error) => Sent::Broken(error),
            Flushed::Blocked => match self.skip_over(config, counts) {
                Sent::Waits => sent,
                overflow => overflow,
            },
        }
    }

    /// Writes what waits, as far as it goes. The outbox is gone when nothing is left.
    pub(crate) fn flush(&mut self, ready: Ready, counts: &mut StatsSnapshot) -> Flushed {
        let Some(outbox) = &mut self.outbox else {
            return Flushed::All;
        };
        let flushed = outbox.flush(&self.link, ready, &mut self.packing, counts);
        if let Flushed::All = flushed {
            self.outbox = None;
        }
        flushed
    }

    /// Has the sink write what it keeps or owes, unless an outbox is ahead of it.
    pub(crate) fn flush_sink(&mut self, now: Duration) -> Sent {
        if self.outbox.is_some() {
            return Sent::Waits;
        }
        match self.link.flush() {
            Written::Whole => Sent::Whole,
            Written::Kept | Written::Part(_) => self.outbox_at(now).1,
            Written::Broken(error) => Sent::Broken(error),
        }
    }

    /// Skips frames that have waited too long. Overflows when they hold too many events to keep.
    pub(crate) fn skip_stale(
        &mut self,
        now: Duration,
        config: &FanoutConfig,
        counts: &mut StatsSnapshot,
    ) -> Sent {
        let Some(outbox) = &mut self.outbox else {
            return Sent::Whole;
        };
        outbox.skip_stale(now, config.outbox_age_max, &mut self.packing, counts);
        if outbox.control_bytes() > config.control_bytes_max {
            return Sent::Overflow(EvictReason::Events);
        }
        Sent::Waits
    }

    #[cold]
    fn queue_frame(
        &mut self,
        frame: &Arc<FrameSet>,
        now: Duration,
        config: &FanoutConfig,
        counts: &mut StatsSnapshot,
    ) -> Sent {
        // Which form will be written is not known yet, and making the other one just to measure it would cost more
        // than the difference.
        let bytes = usual_form(self.packing.dialect(), frame).len();
        let (outbox, sent) = self.outbox_at(now);
        outbox.push_frame(Arc::clone(frame), bytes, now);
        match self.skip_over(config, counts) {
            Sent::Waits => sent,
            overflow => overflow,
        }
    }

    /// Skips the oldest frames until the rest is within the limit.
    fn skip_over(&mut self, config: &FanoutConfig, counts: &mut StatsSnapshot) -> Sent {
        let Some(outbox) = &mut self.outbox else {
            return Sent::Waits;
        };
        outbox.skip_over(config.outbox_bytes_max, &mut self.packing, counts);
        if outbox.control_bytes() > config.control_bytes_max {
            return Sent::Overflow(EvictReason::Events);
        }
        Sent::Waits
    }

    #[cold]
    fn queue_remainder(
        &mut self,
        bytes: &Bytes,
        written: usize,
        kind: Kind,
        now: Duration,
        counts: &mut StatsSnapshot,
    ) -> Sent {
        counts.bytes_written += written as u64;
        counts.partial_writes += 1;
        let (outbox, sent) = self.outbox_at(now);
        outbox.start(bytes.clone(), written, kind);
        sent
    }

    /// The outbox, and the outcome that having one means.
    fn outbox_at(&mut self, now: Duration) -> (&mut Outbox, Sent) {
        let sent = match self.outbox {
            Some(_) => Sent::Waits,
            None => Sent::FellBehind,
        };
        let outbox = self
            .outbox
            .get_or_insert_with(|| Box::new(Outbox::new(now)));
        (outbox, sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_viewer_is_small() {
        assert!(
            size_of::<Viewer>() <= 64,
            "{} bytes per viewer",
            size_of::<Viewer>()
        );
        assert!(
            size_of::<Link>() <= 64,
            "{} bytes per link",
            size_of::<Link>()
        );
    }
}
