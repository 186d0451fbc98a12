//! One room of the double, as a log knows it, and the task that commits.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use danmaku_wire::{Epoch, Seq};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use super::DoubleConfig;
use super::state::State;
use crate::config::LogConfig;
use crate::entry::{Append, AppendError, Appended, Unavailable};
use crate::feed::Feed;
use crate::page::{Interval, Page, Recent};
use crate::ring::Overflow;

/// One room of the double, opened in one epoch.
#[derive(Clone, Debug)]
pub(crate) struct DoubleRoom {
    epoch: Epoch,
    shared: Arc<Shared>,
}

/// What all who opened the room share.
#[derive(Debug)]
pub(super) struct Shared {
    config: DoubleConfig,
    state: Mutex<State>,
    queue: mpsc::Sender<Queued>,
}

/// An append that waits for its commit, whether or not its poster still does.
#[derive(Debug)]
struct Queued {
    epoch: Epoch,
    append: Append,
    at: Instant,
    answer: Answer,
}

/// Where a poster waits.
#[derive(Debug)]
struct Answer(oneshot::Sender<Result<Appended, AppendError>>);

impl DoubleRoom {
    pub(super) async fn open(
        shared: Arc<Shared>,
        config: LogConfig,
    ) -> Result<(Self, Arc<Feed>), Unavailable> {
        shared.wait(shared.config.read_delay_max).await;
        let mut state = shared.state();
        if state.fails() {
            return Err(Unavailable);
        }
        let epoch = state.epoch();
        let feed = Arc::new(Feed::new(config, epoch, state.head(), Overflow::Drop));
        state.subscribe(&feed);
        drop(state);
        Ok((Self { epoch, shared }, feed))
    }

    /// Queues the append at the first poll; from there on it goes its way.
    pub(crate) async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        let (answer, answered) = oneshot::channel();
        let queued = Queued {
            epoch: self.epoch,
            append,
            at: Instant::now(),
            answer: Answer(answer),
        };
        self.shared
            .queue
            .try_send(queued)
            .map_err(|_| AppendError::Overloaded {
                behind: QUEUE_LEN as u64,
            })?;
        answered.await.unwrap_or(Err(AppendError::OutcomeUnknown))
    }

    pub(crate) async fn read_after(&self, since: Seq, limit: usize) -> Result<Page, Unavailable> {
        self.shared.wait(self.shared.config.read_delay_max).await;
        let page = self.shared.state().read_after(self.epoch, since, limit)?;
        // What happens from here on is not in the answer.
        self.shared.wait(self.shared.config.read_delay_max).await;
        Ok(page)
    }

    pub(crate) async fn read_down(
        &self,
        until: Seq,
        after: Seq,
        limit: usize,
    ) -> Result<Page, Unavailable> {
        self.shared.wait(self.shared.config.read_delay_max).await;
        self.shared
            .state()
            .read_down(self.epoch, until, after, limit)
    }

    pub(crate) async fn last_before(&self, at_ms: u64) -> Result<Seq, Unavailable> {
        self.shared.wait(self.shared.config.read_delay_max).await;
        self.shared.state().last_before(self.epoch, at_ms)
    }

    pub(crate) async fn read_last(
        &self,
        until: Seq,
        comments: usize,
        bytes_max: usize,
    ) -> Result<Recent, Unavailable> {
        self.shared.wait(self.shared.config.read_delay_max).await;
        let recent = self
            .shared
            .state()
            .read_last(self.epoch, until, comments, bytes_max)?;
        self.shared.wait(self.shared.config.read_delay_max).await;
        Ok(recent)
    }

    pub(crate) async fn read_between(
        &self,
        from_ms: u64,
        to_ms: u64,
        bytes_max: usize,
    ) -> Result<Interval, Unavailable> {
        self.shared.wait(self.shared.config.read_delay_max).await;
        let interval = self
            .shared
            .state()
            .read_between(self.epoch, from_ms, to_ms, bytes_max)?;
        self.shared.wait(self.shared.config.read_delay_max).await;
        Ok(interval)
    }

    pub(crate) fn floor(&self) -> Seq {
        self.shared.state().floor()
    }
}

impl Shared {
    pub(super) fn start(config: DoubleConfig, salt: u64, epoch: Epoch) -> Arc<Self> {
        let (queue, queued) = mpsc::channel(QUEUE_LEN);
        let shared = Arc::new(Self {
            config,
            state: Mutex::new(State::new(config, salt, epoch)),
            queue,
        });
        tokio::spawn(commit_groups(Arc::downgrade(&shared), queued));
        shared
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn wait(&self, max: Duration) {
        let delay = self.state().delay(max);
        if !delay.is_zero() {
            sleep(delay).await;
        }
    }

    /// Commits a group, feeds the rings and answers the posters, the one or
    /// the other first.
    async fn commit(&self, group: Vec<Queued>) {
        let (previous, mut answers, answers_first) = {
            let mut state = self.state();
            let previous = state.head();
            let answers: Vec<_> = group
                .into_iter()
                .map(|queued| {
                    let waited = u64::try_from(queued.at.elapsed().as_millis()).unwrap_or(0);
                    let now_ms = queued.append.now_ms + waited;
                    let outcome = state.commit(queued.epoch, queued.append, now_ms);
                    (queued.answer, outcome)
                })
                .collect();
            (previous, answers, state.coin())
        };
        if answers_first {
            answer(&mut answers);
        }
        self.wait(self.config.feed_delay_max).await;
        let runs = self.state().runs_after(previous);
        for (feed, runs) in runs {
            for run in runs {
                run.feed_into(&feed);
            }
        }
        answer(&mut answers);
    }
}

fn answer(answers: &mut Vec<(Answer, Result<Appended, AppendError>)>) {
    for (poster, outcome) in answers.drain(..) {
        // A poster that gave up is not told.
        let _gone = poster.0.send(outcome);
    }
}

/// Commits what is queued, group by group, as long as somebody has the room.
async fn commit_groups(room: Weak<Shared>, mut queued: mpsc::Receiver<Queued>) {
    let mut group = Vec::new();
    loop {
        if timeout(FIGURES_INTERVAL, queued.recv_many(&mut group, 1))
            .await
            .is_err()
        {
            match room.upgrade() {
                Some(room) => room.state().announce(),
                None => return,
            }
            queued.recv_many(&mut group, 1).await;
        }
        let Some(room) = room.upgrade() else {
            return;
        };
        room.wait(room.config.commit_delay_max).await;
        while group.len() < GROUP_MAX
            && let Ok(next) = queued.try_recv()
        {
            group.push(next);
        }
        room.commit(std::mem::take(&mut group)).await;
    }
}

/// Appends that wait for their commit.
const QUEUE_LEN: usize = 4_096;

/// Appends in one commit.
const GROUP_MAX: usize = 64;

/// How long after the last commit the nodes tell each other where it ended.
const FIGURES_INTERVAL: Duration = Duration::from_secs(2);
