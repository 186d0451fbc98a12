//! Posts a schedule on time and enters acknowledgements into the ledger.
//!
//! A thread of its own keeps the time: it sleeps until each post is due and hands its number to the senders over a bounded
//! channel. Whether the post then leaves in time is measured, so that a slow generator is not mistaken for a slow server.

mod http;
mod socket;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use danmaku_client::{ClientError, NewComment};
use danmaku_wire::{Mode, RoomId};

use tokio_util::sync::CancellationToken;

use crate::causes;
use crate::clock::{Clock, Moment};
use crate::entrance::Entrance;
use crate::error::HarnessError;
use crate::fingerprint::CommentShape;
use crate::latency::{Distribution, Summary};
use crate::ledger::Ledger;
use crate::post_via::PostVia;
use crate::schedule::{Post, Schedule};
use crate::timeline::Recorder;
use danmaku_chat::Line;

/// What a publisher needs.
#[derive(Clone)]
pub struct Publisher {
    /// How to get to the server.
    pub entrance: Arc<Entrance>,
    /// How posts are sent.
    pub via: PostVia,
    /// Kept-alive connections for [`PostVia::Http`] at most; they are opened when they are needed.
    pub connections: usize,
    /// The rooms, by index.
    pub rooms: Arc<[RoomId]>,
    /// The comments, by index.
    pub lines: Arc<[Line]>,
    /// The clock of the run.
    pub clock: Clock,
    /// Where acknowledgements go.
    pub ledger: Arc<Ledger>,
    /// Where the seconds of the run are recorded.
    pub recorder: Arc<Recorder>,
    /// Set from outside to end early.
    pub stop: CancellationToken,
}

/// Connections to post over, one for each room over WebSocket. They are open before the schedule begins, so that opening
/// them makes no post late. Over HTTP they are opened when needed.
pub struct Posters(Vec<socket::Joined>);

/// The outcome of the posts.
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
    /// How late posts were sent, because the generator was slow or all connections waited for answers.
    pub lateness: Distribution,
    /// From sending a post to its outcome: an acknowledgement, a refusal, or over HTTP a failed connection.
    pub answer: Distribution,
}

/// The printed side of a [`Publication`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, schemars::JsonSchema)]
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
    /// How late posts were sent, against the schedule.
    pub lateness: Summary,
    /// From sending a post to its outcome: an acknowledgement, a refusal, or over HTTP a failed connection.
    pub answer: Summary,
}

impl PublicationSummary {
    /// Posts that the server refused or did not answer; those the harness itself gave up when it was interrupted are not among
    /// them.
    #[must_use]
    pub fn untaken(&self) -> u64 {
        self.causes().map(|(_, posts)| posts).sum()
    }

    /// Why they were not accepted, the most frequent cause first.
    #[must_use]
    pub fn why_untaken(&self) -> String {
        let mut causes: Vec<(&str, u64)> = self.causes().collect();
        causes.sort_by_key(|(_, posts)| std::cmp::Reverse(*posts));
        let texts = causes
            .iter()
            .map(|(cause, posts)| format!("{posts} {cause}"));
        texts.collect::<Vec<_>>().join(", ")
    }

    fn causes(&self) -> impl Iterator<Item = (&str, u64)> {
        let all = self.refused.iter().chain(&self.failed);
        all.map(|(cause, posts)| (cause.as_str(), *posts))
            .filter(|(cause, _)| *cause != INTERRUPTED)
    }
}

/// Most posts due and not yet sent. Beyond it the time-keeper waits, which shows as lateness.
const DUE_MAX: usize = 1024;
/// How often a waiting thread checks whether to stop.
const STOP_CHECK: Duration = Duration::from_millis(100);
/// How long a server may take: to answer after the last post was due, and to read a post.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// Why a due post was never sent.
const UNSENT: &str = "not sent: no connection was free";

/// The cause recorded for posts that were pending when the run ended.
const INTERRUPTED: &str = "interrupted";

/// Why posting ends before everything is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// The run was interrupted.
    Interrupted,
    /// The last post was due [`ANSWER_DEADLINE`] ago.
    OutOfTime,
}

impl Cut {
    /// The cause recorded for pending posts.
    fn cause(self) -> &'static str {
        match self {
            Self::Interrupted => INTERRUPTED,
            Self::OutOfTime => "no answer within 10 s after the last post was due",
        }
    }
}

/// One pending post.
struct Errand<'a> {
    post: Post,
    due: Moment,
    comment: Cow<'a, NewComment>,
}

impl Publisher {
    /// Opens the connections that must exist before the first post; fewer if it is stopped meanwhile.
    ///
    /// # Errors
    /// No connection to post over.
    pub async fn connect(&self) -> Result<Posters, HarnessError> {
        match self.via {
            PostVia::Http => Ok(Posters(Vec::new())),
            PostVia::Ws => socket::connect(self).await.map(Posters),
        }
    }

    /// Posts everything; `start` is when the schedule begins. Ends when all posts are answered or given up, at the
    /// latest ten seconds after the last was due, and at once when it is stopped.
    ///
    /// # Errors
    /// No thread could be started, or a sender died.
    pub async fn publish(
        &self,
        posters: Posters,
        schedule: &Schedule,
        start: Moment,
    ) -> Result<Publication, HarnessError> {
        let posts: Arc<[Post]> = schedule.posts().into();
        match self.via {
            PostVia::Http => http::publish(self, &posts, start).await,
            PostVia::Ws => socket::publish(self, posters.0, &posts, start).await,
        }
    }

    /// What is posted: as the user whom the poster's token names, because a server with users puts that on the comment.
    fn errand(&self, post: Post, start: Moment, user: Option<&str>) -> Errand<'_> {
        let mut comment = Cow::Borrowed(&self.lines[post.line as usize].comment);
        if let Some(user) = user {
            comment.to_mut().user = Some(user.to_owned());
        }
        Errand {
            post,
            due: start.after(post.at),
            comment,
        }
    }

    /// Completes when posting has to end, even with unanswered posts.
    async fn cut(&self, posts: &[Post], start: Moment) -> Cut {
        let last = posts.last().map_or(start, |post| start.after(post.at));
        let end = last.after(ANSWER_DEADLINE);
        let left = Duration::from_micros(end.micros_since(self.clock.now()));
        tokio::select! {
            () = self.stop.cancelled() => Cut::Interrupted,
            () = tokio::time::sleep(left) => Cut::OutOfTime,
        }
    }

    /// Records that a post is sent now; returns that moment.
    fn leaves(&self, publication: &mut Publication, due: Moment) -> Moment {
        let sent = self.clock.now();
        let lateness_micros = sent.micros_since(due);
        publication.due += 1;
        publication.lateness.record(lateness_micros, 1);
        self.recorder.posted(sent, lateness_micros);
        sent
    }

    /// Records posts that are given up.
    fn give_up(&self, publication: &mut Publication, cause: &str, posts: u64) {
        if posts == 0 {
            return;
        }
        causes::count(&mut publication.failed, cause, posts);
        let now = self.clock.now();
        for _ in 0..posts {
            self.recorder.failed(now);
        }
    }

    /// Records due posts that were never sent.
    fn count_unsent(&self, publication: &mut Publication, came_due: u64) {
        let unsent = came_due.saturating_sub(publication.due);
        publication.due += unsent;
        self.give_up(publication, UNSENT, unsent);
    }

    /// Starts the time-keeper: it sends the index of each post, when due, to the channel its room maps to. At its end, which
    /// comes early when a channel is closed or the run is stopped, it returns how many posts came due.
    fn keep_time(
        &self,
        posts: &Arc<[Post]>,
        start: Moment,
        channels: Vec<mpsc::Sender<u32>>,
    ) -> Result<oneshot::Receiver<u64>, HarnessError> {
        let (clock, stop, posts) = (self.clock, self.stop.clone(), Arc::clone(posts));
        let (ended, came_due) = oneshot::channel();
        let keep = move || {
            for (post, index) in posts.iter().zip(0_u32..) {
                let due = start.after(post.at);
                loop {
                    if stop.is_cancelled() {
                        return u64::from(index);
                    }
                    let left = Duration::from_micros(due.micros_since(clock.now()));
                    if left.is_zero() {
                        break;
                    }
                    std::thread::sleep(left.min(STOP_CHECK));
                }
                let channel = &channels[post.room as usize % channels.len()];
                if channel.blocking_send(index).is_err() {
                    return came_due_by(&posts, start, clock.now());
                }
            }
            posts.len() as u64
        };
        let thread = std::thread::Builder::new()
            .name("time-keeper".to_owned())
            .spawn(move || ended.send(keep()));
        thread
            .map(|_| came_due)
            .map_err(HarnessError::system("thread of the time-keeper"))
    }

    fn unreachable(&self, source: ClientError) -> HarnessError {
        HarnessError::Server {
            address: self.entrance.address.to_string(),
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
            shape(&errand.comment).fingerprint(),
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

/// Posts that are due by a moment. They are in time order.
fn came_due_by(posts: &[Post], start: Moment, now: Moment) -> u64 {
    posts.partition_point(|post| start.after(post.at) <= now) as u64
}

fn broken(error: tokio::task::JoinError) -> HarnessError {
    HarnessError::system("a sender")(error.into())
}

/// A comment as it must arrive: omitted fields have the protocol's default.
pub(crate) fn shape(comment: &NewComment) -> CommentShape<'_> {
    CommentShape {
        user: comment.user.as_deref(),
        text: &comment.text,
        mode: comment.mode.unwrap_or(Mode::Scroll).as_str(),
        color: comment.color.unwrap_or(0xFF_FFFF),
        size: comment.size.unwrap_or(25),
    }
}
