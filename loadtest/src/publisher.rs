//! Posts a schedule, come what may, and enters what was acknowledged into the ledger.
//!
//! A thread of its own keeps the time: it sleeps until each post is due and hands its number to the senders over a bounded
//! channel. Whether the post then leaves in time is measured, so that a slow generator is not mistaken for a slow server.

mod http;
mod socket;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use danmaku_client::{ClientError, NewComment, ServerAddress};
use danmaku_wire::{Mode, RoomId};

use crate::causes;
use crate::clock::{Clock, Moment};
use crate::corpus::Line;
use crate::error::HarnessError;
use crate::fingerprint::CommentShape;
use crate::latency::{Distribution, Summary};
use crate::ledger::Ledger;
use crate::schedule::{Post, Schedule};
use crate::timeline::Recorder;

/// How posts reach the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PostVia {
    /// `POST /v1/rooms/{room}/comments` over a few kept-alive connections.
    Http,
    /// WebSocket messages over one connection per room.
    Ws,
}

/// What a publisher needs.
#[derive(Clone)]
pub struct Publisher {
    /// The server.
    pub server: ServerAddress,
    /// How posts are sent.
    pub via: PostVia,
    /// Kept-alive connections for [`PostVia::Http`].
    pub connections: usize,
    /// The rooms, by index.
    pub rooms: Arc<[RoomId]>,
    /// What is posted, by index.
    pub lines: Arc<[Line]>,
    /// The clock of the run.
    pub clock: Clock,
    /// Where acknowledgements go.
    pub ledger: Arc<Ledger>,
    /// Where the seconds of the run are recorded.
    pub recorder: Arc<Recorder>,
    /// Set from outside to end early.
    pub stop: Arc<AtomicBool>,
}

/// What became of the posts.
#[derive(Clone, Debug, Default)]
pub struct Publication {
    /// Posts that were due.
    pub due: u64,
    /// Posts the server acknowledged.
    pub acknowledged: u64,
    /// Posts the server refused, by its code.
    pub refused: BTreeMap<String, u64>,
    /// Posts without an answer, by cause. The server may have them.
    pub failed: BTreeMap<String, u64>,
    /// Acknowledgements that contradict earlier ones.
    pub contradicted: u64,
    /// How late posts left, against the schedule: the generator's own fault.
    pub lateness: Distribution,
    /// From sending a post to its acknowledgement.
    pub answer: Distribution,
}

/// The printed side of a [`Publication`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PublicationSummary {
    /// Posts that were due.
    pub due: u64,
    /// Posts the server acknowledged.
    pub acknowledged: u64,
    /// Posts the server refused, by its code.
    pub refused: BTreeMap<String, u64>,
    /// Posts without an answer, by cause.
    pub failed: BTreeMap<String, u64>,
    /// Acknowledgements that contradict earlier ones.
    pub contradicted: u64,
    /// How late posts left, against the schedule.
    pub lateness: Summary,
    /// From sending a post to its acknowledgement.
    pub answer: Summary,
}

/// Posts that are due and not yet sent. Beyond it the time-keeper waits, which shows as lateness.
const DUE_MAX: usize = 1024;
/// The time-keeper looks at least this often whether it is to stop.
const STOP_CHECK: Duration = Duration::from_millis(100);

/// One post on its way.
struct Errand<'a> {
    post: Post,
    due: Moment,
    comment: &'a NewComment,
}

impl Publisher {
    /// Posts everything; `start` is the moment of the schedule's zero. Ends when all posts are answered or given up.
    ///
    /// # Errors
    /// No connection to post over.
    pub async fn publish(
        &self,
        schedule: &Schedule,
        start: Moment,
    ) -> Result<Publication, HarnessError> {
        let posts: Arc<[Post]> = schedule.posts().into();
        match self.via {
            PostVia::Http => http::publish(self, &posts, start).await,
            PostVia::Ws => socket::publish(self, &posts, start).await,
        }
    }

    fn errand(&self, post: Post, start: Moment) -> Errand<'_> {
        let comment = &self.lines[post.line as usize].comment;
        Errand {
            post,
            due: start.after(post.at),
            comment,
        }
    }

    /// Starts the time-keeper: it sends the index of each post, when due, to the channel its room maps to.
    fn keep_time(
        &self,
        posts: &Arc<[Post]>,
        start: Moment,
        channels: Vec<mpsc::Sender<u32>>,
    ) -> Result<(), HarnessError> {
        let (clock, stop, posts) = (self.clock, Arc::clone(&self.stop), Arc::clone(posts));
        let keep = move || {
            for (post, index) in posts.iter().zip(0_u32..) {
                let due = start.after(post.at);
                loop {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let left = Duration::from_micros(due.micros_since(clock.now()));
                    if left.is_zero() {
                        break;
                    }
                    std::thread::sleep(left.min(STOP_CHECK));
                }
                let channel = &channels[post.room as usize % channels.len()];
                if channel.blocking_send(index).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("time-keeper".to_owned())
            .spawn(keep);
        thread
            .map(drop)
            .map_err(HarnessError::system("thread of the time-keeper"))
    }

    fn unreachable(&self, source: ClientError) -> HarnessError {
        HarnessError::Server {
            address: self.server.to_string(),
            source,
        }
    }
}

impl Publication {
    fn acknowledge(&mut self, ledger: &Ledger, errand: &Errand<'_>, epoch: u64, position: u64) {
        self.acknowledged += 1;
        let entered = ledger.acknowledge(
            errand.post.room,
            Some(epoch),
            position,
            errand.due,
            shape(errand.comment).fingerprint(),
        );
        self.contradicted += u64::from(entered.is_err());
    }

    fn fail(&mut self, error: &ClientError) {
        match error {
            ClientError::Refused(refusal) => {
                let code = if refusal.code.is_empty() {
                    refusal.status.to_string()
                } else {
                    refusal.code.clone()
                };
                causes::count(&mut self.refused, &code, 1);
            }
            other => causes::count(&mut self.failed, &other.to_string(), 1),
        }
    }

    fn merge(&mut self, other: &Self) {
        self.due += other.due;
        self.acknowledged += other.acknowledged;
        self.contradicted += other.contradicted;
        self.lateness.merge(&other.lateness);
        self.answer.merge(&other.answer);
        causes::add(&mut self.refused, &other.refused);
        causes::add(&mut self.failed, &other.failed);
    }

    /// The printed side.
    #[must_use]
    pub fn summary(&self) -> PublicationSummary {
        PublicationSummary {
            due: self.due,
            acknowledged: self.acknowledged,
            refused: self.refused.clone(),
            failed: self.failed.clone(),
            contradicted: self.contradicted,
            lateness: self.lateness.summary(),
            answer: self.answer.summary(),
        }
    }
}

/// A comment as it must arrive: what is left out has the protocol's default.
fn shape(comment: &NewComment) -> CommentShape<'_> {
    CommentShape {
        user: comment.user.as_deref(),
        text: &comment.text,
        mode: comment.mode.unwrap_or(Mode::Scroll).as_str(),
        color: comment.color.unwrap_or(0xFF_FFFF),
        size: comment.size.unwrap_or(25),
    }
}
