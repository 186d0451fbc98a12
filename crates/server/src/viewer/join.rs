//! Owns a viewer's join, in two steps: the viewer's own task reads and seals whatever is older than the ring of sealed
//! frames, then the room's actor attaches the viewer with it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use danmaku_fanout::{ConnId, Link};
use danmaku_wire::outbound::Resumed;
use danmaku_wire::{Dialect, FrameSet, Seq};
use tokio::sync::oneshot;

use crate::context::Context;
use crate::replay::{Lead, LeadRequest, Start, Stretch, bytes_for};
use crate::room::handle::{Join, JoinAnswer, JoinFrom, RoomHandle, RoomMsg};

/// A viewer joining a room.
#[derive(Debug)]
pub struct Joining {
    /// Its connection.
    pub link: Arc<Link>,
    /// The room.
    pub room: Arc<RoomHandle>,
    /// Its dialect.
    pub dialect: Dialect,
    /// The headers of the HTTP response, not written yet.
    pub opening: Bytes,
    /// Where it wants to start.
    pub start: Start,
}

/// The room ended with the server, or with its epoch, before the viewer was attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JoinError;

/// Attaches the viewer to its room; the name of its connection.
///
/// # Errors
/// [`JoinError`]; nothing was written to the viewer.
pub async fn join(context: &Context, viewer: &Joining) -> Result<ConnId, JoinError> {
    let (mut from, mut stretch) = viewer.first_from(context).await;
    let mut tries = 0;
    loop {
        let resumes_after = match &from {
            JoinFrom::Since(since) => Some(since.seq),
            JoinFrom::Lead(lead) => Some(lead.after),
            JoinFrom::GapAfter(after) => Some(*after),
            JoinFrom::Live => None,
        };
        from = match viewer.ask(from).await? {
            JoinAnswer::Attached(conn) => return Ok(conn),
            JoinAnswer::NeedsLead { boundary, frames } => {
                tries += 1;
                match resumes_after {
                    Some(after) if tries > LEAD_TRIES_MAX => JoinFrom::GapAfter(after),
                    _ => viewer.lead(context, stretch, boundary, &frames).await,
                }
            }
            // We waited already, or the room has a new epoch: the position is unknown.
            JoinAnswer::Ahead | JoinAnswer::OtherEpoch => {
                stretch = viewer.newest();
                viewer.history(context).await
            }
        };
    }
}

impl Joining {
    /// Where to start, and what to read from the log when the ring does not go back far enough.
    async fn first_from(&self, context: &Context) -> (JoinFrom, Stretch) {
        match self.start.since {
            Some(since)
                if since.epoch == self.room.log().epoch() && self.is_sealed(since.seq).await =>
            {
                (JoinFrom::Since(since), Stretch::After(since.seq))
            }
            _ => (self.history(context).await, self.newest()),
        }
    }

    /// Waits for a position that another node may have sent the viewer before this one sealed it.
    async fn is_sealed(&self, seq: Seq) -> bool {
        let sealed = async {
            while self.room.sealed() < seq {
                tokio::time::sleep(SEALED_POLL).await;
            }
        };
        tokio::time::timeout(SEALED_WAIT_MAX, sealed).await.is_ok()
    }

    fn newest(&self) -> Stretch {
        Stretch::Newest(self.start.history)
    }

    /// The newest comments up to the last sealed position, as many as requested.
    async fn history(&self, context: &Context) -> JoinFrom {
        let until = self.room.sealed();
        if self.start.history == 0 {
            return JoinFrom::Live;
        }
        if until == Seq::ZERO {
            // Not `Live`: the room's first comment may be sealed before the viewer is attached.
            return JoinFrom::Lead(Lead {
                after: until,
                until,
                resumed: Resumed::No,
                frames: Vec::new(),
            });
        }
        self.lead(context, self.newest(), until, &[]).await
    }

    /// Reads and seals the log's entries up to `until`, and makes the forms of the ring's frames after it.
    async fn lead(
        &self,
        context: &Context,
        stretch: Stretch,
        until: Seq,
        ring: &[Arc<FrameSet>],
    ) -> JoinFrom {
        context.leads.prepare(ring, self.dialect).await;
        if let Stretch::After(since) = stretch
            && since == until
        {
            return JoinFrom::Lead(Lead {
                after: since,
                until,
                resumed: Resumed::Yes,
                frames: Vec::new(),
            });
        }
        let now = context.clock.now().monotonic;
        let request = LeadRequest {
            room: self.room.key(),
            stretch,
            until,
            dialect: self.dialect,
            ring_bytes: ring.iter().map(|it| bytes_for(it, self.dialect)).sum(),
            viewers: self.room.viewers(now).saturating_add(1),
        };
        match context.leads.lead(self.room.log(), request).await {
            Ok(lead) => JoinFrom::Lead(lead),
            Err(error) => {
                tracing::debug!(room = %self.room.id(), %error, "cannot read the log; joining without it");
                match stretch {
                    Stretch::After(since) => JoinFrom::GapAfter(since),
                    Stretch::Newest(_) => JoinFrom::Live,
                }
            }
        }
    }

    async fn ask(&self, from: JoinFrom) -> Result<JoinAnswer, JoinError> {
        let (answer, answered) = oneshot::channel();
        let join = Join {
            link: Arc::clone(&self.link),
            dialect: self.dialect,
            opening: self.opening.clone(),
            from,
            answer,
        };
        let sent = self.room.send(RoomMsg::Join(Box::new(join))).await;
        sent.map_err(|_| JoinError)?;
        answered.await.map_err(|_| JoinError)
    }
}

/// How often the lead is read again because the ring has moved on. After that a gap takes its place.
const LEAD_TRIES_MAX: u32 = 3;

/// How long a viewer waits for its position to be sealed here.
const SEALED_WAIT_MAX: Duration = Duration::from_secs(2);

/// How often it checks.
const SEALED_POLL: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests;
