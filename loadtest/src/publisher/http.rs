//! Posting over HTTP: as many kept-alive connections as there are posts in progress.

use std::pin::pin;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use danmaku_client::{ClientError, HttpClient, Posted, Refusal};
use danmaku_wire::{Epoch, RoomId, Seq};
use hyper::Method;

use crate::clock::Moment;
use crate::entrance::Entrance;
use crate::error::HarnessError;
use crate::publisher::{Cut, DUE_MAX, Errand, Publication, Publisher, broken};
use crate::pusher::{self, App};
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
        numbers: match &publisher.entrance.pusher {
            Some(_) => pusher::numbers(posts.iter().map(|post| post.room), publisher.rooms.len()),
            None => Vec::new(),
        },
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
    idle: Vec<Poster>,
    /// The posts' numbers in their rooms, where the server gives none.
    numbers: Vec<u64>,
    /// Connections that may still be opened.
    unopened: usize,
    busy: JoinSet<Served>,
    publication: Publication,
}

/// A connection, and whom its token names.
struct Poster {
    client: HttpClient,
    user: Option<String>,
}

impl Poster {
    fn new(entrance: &Entrance, number: u32) -> Self {
        let (access, user) = entrance.poster(number);
        let client = HttpClient::new(entrance.address.clone()).with_access(access);
        Self { client, user }
    }

    /// Posts to a server that speaks the Pusher protocol. It gives no positions, so the number stands for one.
    async fn trigger(
        &mut self,
        app: &App,
        room: &RoomId,
        (run, number): (u64, u64),
        errand: &Errand<'_>,
    ) -> Result<Posted, ClientError> {
        let (path, body) = app.post(room, (run, number), errand.due, &errand.comment);
        let answer = self.client.send(Method::POST, &path, body.into()).await?;
        if answer.status.is_success() {
            return Ok(Posted {
                epoch: Epoch::new(1),
                ids: vec![Seq::new(number)],
                held: None,
            });
        }
        Err(ClientError::Refused(Refusal {
            status: answer.status.as_u16(),
            code: String::new(),
            message: String::from_utf8_lossy(&answer.body).into_owned(),
            retry_after_ms: None,
        }))
    }
}

/// A post that was sent, and its outcome.
struct Served {
    poster: Poster,
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
        let mut poster = self.idle.pop().unwrap_or_else(|| {
            self.unopened -= 1;
            let number = u32::try_from(self.unopened).unwrap_or(u32::MAX);
            Poster::new(&self.publisher.entrance, number)
        });
        let publisher = self.publisher.clone();
        let (post, start) = (self.posts[index as usize], self.start);
        let number = self.numbers.get(index as usize).copied();
        let sent = self
            .publisher
            .leaves(&mut self.publication, start.after(post.at));
        self.busy.spawn(async move {
            let errand = publisher.errand(post, start, poster.user.as_deref());
            let room = &publisher.rooms[post.room as usize];
            let answer = match (&publisher.entrance.pusher, number) {
                (Some(app), Some(number)) => {
                    let number = (publisher.clock.origin_unix_ms(), number);
                    poster.trigger(app, room, number, &errand).await
                }
                _ => {
                    let comments = std::slice::from_ref(&*errand.comment);
                    poster.client.post_comments(room, comments).await
                }
            };
            Served {
                poster,
                index,
                sent,
                answered: publisher.clock.now(),
                answer,
            }
        });
    }

    fn settle(&mut self, served: Served) {
        let user = served.poster.user.clone();
        self.idle.push(served.poster);
        let answer_micros = served.answered.micros_since(served.sent);
        self.publication.answer.record(answer_micros, 1);
        let recorder = &self.publisher.recorder;
        match served.answer {
            Ok(posted) => {
                recorder.acknowledged(served.answered);
                let post = self.posts[served.index as usize];
                let errand = self.publisher.errand(post, self.start, user.as_deref());
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
