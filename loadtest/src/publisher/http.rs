//! Posting over HTTP: as many kept-alive connections as there are posts in progress.

use std::pin::pin;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use danmaku_client::{ClientError, HttpClient, Posted};

use crate::clock::Moment;
use crate::error::HarnessError;
use crate::publisher::{Cut, DUE_MAX, Publication, Publisher, broken};
use crate::schedule::Post;

pub(super) async fn publish(
    publisher: &Publisher,
    posts: &Arc<[Post]>,
    start: Moment,
) -> Result<Publication, HarnessError> {
    let (sender, mut due) = mpsc::channel(DUE_MAX);
    let came_due = publisher.keep_time(posts, start, vec![sender])?;
    let mut counter = Counter {
        publisher,
        posts,
        start,
        idle: Vec::new(),
        unopened: publisher.connections.max(1),
        busy: JoinSet::new(),
        publication: Publication::default(),
    };
    let mut cut = pin!(publisher.cut(posts, start));
    let mut is_open = true;
    while is_open || !counter.busy.is_empty() {
        tokio::select! {
            cut = &mut cut => {
                counter.abandon(cut).await?;
                break;
            }
            Some(served) = counter.busy.join_next() => {
                counter.settle(served.map_err(broken)?);
            }
            index = due.recv(), if is_open && counter.has_connection() => match index {
                Some(index) => counter.send(index),
                None => is_open = false,
            },
        }
    }
    // A time-keeper waiting for room in the channel must not wait forever.
    drop(due);
    let mut publication = counter.publication;
    publisher.count_unsent(&mut publication, came_due.await.unwrap_or_default());
    Ok(publication)
}

/// Gives posts to connections and takes their answers.
struct Counter<'a> {
    publisher: &'a Publisher,
    posts: &'a Arc<[Post]>,
    start: Moment,
    /// Idle connections. The last one used is the next, so that no more are opened than needed.
    idle: Vec<HttpClient>,
    /// Connections that may still be opened.
    unopened: usize,
    busy: JoinSet<Served>,
    publication: Publication,
}

/// A post that was sent, and its outcome.
struct Served {
    http: HttpClient,
    index: u32,
    sent: Moment,
    answered: Moment,
    answer: Result<Posted, ClientError>,
}

impl Counter<'_> {
    fn has_connection(&self) -> bool {
        !self.idle.is_empty() || self.unopened > 0
    }

    fn send(&mut self, index: u32) {
        let mut http = self.idle.pop().unwrap_or_else(|| {
            self.unopened -= 1;
            HttpClient::new(self.publisher.server.clone())
        });
        let publisher = self.publisher.clone();
        let post = self.posts[index as usize];
        let sent = self
            .publisher
            .leaves(&mut self.publication, self.start.after(post.at));
        self.busy.spawn(async move {
            let room = &publisher.rooms[post.room as usize];
            let comment = &publisher.lines[post.line as usize].comment;
            let answer = http
                .post_comments(room, std::slice::from_ref(comment))
                .await;
            Served {
                http,
                index,
                sent,
                answered: publisher.clock.now(),
                answer,
            }
        });
    }

    fn settle(&mut self, served: Served) {
        self.idle.push(served.http);
        let answer_micros = served.answered.micros_since(served.sent);
        self.publication.answer.record(answer_micros, 1);
        let recorder = &self.publisher.recorder;
        match served.answer {
            Ok(posted) => {
                recorder.acknowledged(served.answered);
                let post = self.posts[served.index as usize];
                let errand = self.publisher.errand(post, self.start);
                for id in &posted.ids {
                    self.publication.acknowledge(
                        &self.publisher.ledger,
                        &errand,
                        posted.epoch.value(),
                        id.value(),
                    );
                }
            }
            Err(error) => {
                recorder.failed(served.answered);
                self.publication.fail(&error);
            }
        }
    }

    /// Gives up the pending posts.
    async fn abandon(&mut self, cut: Cut) -> Result<(), HarnessError> {
        self.busy.abort_all();
        while let Some(served) = self.busy.join_next().await {
            match served {
                Ok(served) => self.settle(served),
                Err(error) if error.is_cancelled() => {
                    self.publisher
                        .give_up(&mut self.publication, cut.cause(), 1);
                }
                Err(error) => return Err(broken(error)),
            }
        }
        Ok(())
    }
}
