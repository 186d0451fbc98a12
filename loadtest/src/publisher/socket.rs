//! Posting over WebSocket: one connection per room, answers matched by reference. The connections are viewers too, as
//! posters are, but not audited ones.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use danmaku_client::{ClientError, Connect, Connection, Event, Reference, Refusal};
use danmaku_wire::{Encoding, RoomId};

use crate::clock::Moment;
use crate::error::HarnessError;
use crate::publisher::{DUE_MAX, Publication, Publisher};
use crate::schedule::Post;

/// How long answers are waited for after the last post.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);

pub(super) async fn publish(
    publisher: &Publisher,
    posts: &Arc<[Post]>,
    start: Moment,
) -> Result<Publication, HarnessError> {
    let mut channels = Vec::with_capacity(publisher.rooms.len());
    let mut connections = JoinSet::new();
    for room in publisher.rooms.iter() {
        let (connection, epoch) = join(publisher, room)
            .await
            .map_err(|error| publisher.unreachable(error))?;
        let (sender, due) = mpsc::channel(DUE_MAX.div_ceil(publisher.rooms.len()));
        channels.push(sender);
        let poster = Poster {
            publisher: publisher.clone(),
            posts: Arc::clone(posts),
            start,
            epoch,
            publication: Publication::default(),
            pending: HashMap::new(),
        };
        connections.spawn(poster.run(connection, due));
    }
    publisher.keep_time(posts, start, channels)?;
    let mut publication = Publication::default();
    while let Some(part) = connections.join_next().await {
        publication.merge(&part.map_err(|error| HarnessError::system("a sender")(error.into()))?);
    }
    Ok(publication)
}

async fn join(publisher: &Publisher, room: &RoomId) -> Result<(Connection, u64), ClientError> {
    let connect = Connect::new(publisher.server.clone(), room.clone());
    let mut connection = Connection::connect(&Connect {
        encoding: Encoding::Deflate,
        ..connect
    })
    .await?;
    match connection.next().await? {
        Event::Joined(joined) => Ok((connection, joined.epoch.value())),
        _ => Err(ClientError::NotTheProtocol(
            "the first message is not `joined`",
        )),
    }
}

struct Poster {
    publisher: Publisher,
    posts: Arc<[Post]>,
    start: Moment,
    epoch: u64,
    publication: Publication,
    /// Posts without an answer, with the moment they left, by reference.
    pending: HashMap<u32, Moment>,
}

impl Poster {
    async fn run(
        mut self,
        mut connection: Connection,
        mut due: mpsc::Receiver<u32>,
    ) -> Publication {
        let mut open = true;
        while open || !self.pending.is_empty() {
            let patience = if open { Duration::MAX } else { ANSWER_DEADLINE };
            tokio::select! {
                index = due.recv(), if open => match index {
                    Some(index) => self.post(&connection, index).await,
                    None => open = false,
                },
                event = tokio::time::timeout(patience, connection.next()) => match event {
                    Ok(Ok(Event::Closed(_)) | Err(_)) | Err(_) => break,
                    Ok(Ok(event)) => self.hear(event),
                },
            }
        }
        for _ in 0..self.pending.len() {
            self.publisher.recorder.failed(self.publisher.clock.now());
            self.publication.fail(&ClientError::Ended);
        }
        // Posts that are still to come cannot be sent any more, and must not hold up those of other rooms.
        while due.recv().await.is_some() {
            self.publication.due += 1;
            self.publisher.recorder.failed(self.publisher.clock.now());
            self.publication.fail(&ClientError::Ended);
        }
        self.publication
    }

    async fn post(&mut self, connection: &Connection, index: u32) {
        let errand = self
            .publisher
            .errand(self.posts[index as usize], self.start);
        self.publication.due += 1;
        let sent = self.publisher.clock.now();
        self.publication
            .lateness
            .record(sent.micros_since(errand.due), 1);
        self.publisher
            .recorder
            .posted(sent, sent.micros_since(errand.due));
        let reference = Reference::Number(i64::from(index));
        match connection.post(errand.comment, Some(&reference)).await {
            Ok(()) => {
                self.pending.insert(index, sent);
            }
            Err(error) => {
                self.publisher.recorder.failed(self.publisher.clock.now());
                self.publication.fail(&error);
            }
        }
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Ack(ack) => {
                if let Some(index) = self.answered(ack.reference.as_ref()) {
                    let now = self.publisher.clock.now();
                    self.publisher.recorder.acknowledged(now);
                    let errand = self
                        .publisher
                        .errand(self.posts[index as usize], self.start);
                    self.publication.acknowledge(
                        &self.publisher.ledger,
                        &errand,
                        self.epoch,
                        ack.id.value(),
                    );
                }
            }
            Event::Error(error) if self.answered(error.reference.as_ref()).is_some() => {
                let refusal = Refusal {
                    status: 0,
                    code: error.code,
                    message: error.message,
                    retry_after_ms: error.retry_after_ms,
                };
                self.publisher.recorder.failed(self.publisher.clock.now());
                self.publication.fail(&ClientError::Refused(refusal));
            }
            _ => {}
        }
    }

    fn answered(&mut self, reference: Option<&Reference>) -> Option<u32> {
        let Some(Reference::Number(number)) = reference else {
            return None;
        };
        let index = u32::try_from(*number).ok()?;
        let sent = self.pending.remove(&index)?;
        self.publication
            .answer
            .record(self.publisher.clock.now().micros_since(sent), 1);
        Some(index)
    }
}
