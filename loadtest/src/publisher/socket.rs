//! Posting over WebSocket: one connection per room, answers matched by reference. The connections are viewers too, as
//! posters are, but not audited ones.

use std::collections::{BTreeMap, HashMap};
use std::pin::pin;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use danmaku_client::{ClientError, Connect, Connection, Event, Reference, Refusal};
use danmaku_wire::{Encoding, RoomId};

use crate::clock::Moment;
use crate::entrance::Entrance;
use crate::error::HarnessError;
use crate::publisher::{
    ANSWER_DEADLINE, Cut, DUE_MAX, Publication, Publisher, broken, came_due_by,
};
use crate::schedule::Post;

/// Why posts over a connection stay unanswered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Everything is answered.
    Done,
    /// The server has closed the connection, or broken the protocol.
    Closed,
    /// The server does not read what is sent.
    Unread,
    /// Posting ends.
    Cut(Cut),
}

impl End {
    fn cause(self) -> &'static str {
        match self {
            Self::Done | Self::Closed => "the connection has ended",
            Self::Unread => "the server has not read for 10 s",
            Self::Cut(cut) => cut.cause(),
        }
    }
}

/// A connection to a room, and the room's epoch.
pub(super) struct Joined {
    connection: Connection,
    epoch: u64,
    /// Whom its token names.
    user: Option<String>,
}

/// Handshakes in progress at once.
const JOINING_MAX: usize = 64;

/// Joins every room, in the order of the rooms.
pub(super) async fn connect(publisher: &Publisher) -> Result<Vec<Joined>, HarnessError> {
    let mut joined = BTreeMap::new();
    let mut joining = JoinSet::new();
    let mut rooms = publisher.rooms.iter().cloned().enumerate();
    loop {
        while joining.len() < JOINING_MAX
            && let Some((index, room)) = rooms.next()
        {
            let entrance = Arc::clone(&publisher.entrance);
            joining.spawn(async move { (index, join(&entrance, room, index).await) });
        }
        tokio::select! {
            answer = joining.join_next() => match answer {
                Some(answer) => {
                    let (index, answer) = answer.map_err(broken)?;
                    joined.insert(index, answer.map_err(|error| publisher.unreachable(error))?);
                }
                None => break,
            },
            () = publisher.stop.cancelled() => break,
        }
    }
    Ok(joined.into_values().collect())
}

pub(super) async fn publish(
    publisher: &Publisher,
    joined: Vec<Joined>,
    posts: &Arc<[Post]>,
    start: Moment,
) -> Result<Publication, HarnessError> {
    let (cutter, cut) = watch::channel(None);
    let mut coming = pin!(publisher.cut(posts, start));
    let mut publication = Publication::default();
    if joined.len() < publisher.rooms.len() {
        // It was stopped while it connected.
        let came_due = came_due_by(posts, start, publisher.clock.now());
        publisher.count_unsent(&mut publication, came_due);
        return Ok(publication);
    }
    let mut channels = Vec::with_capacity(publisher.rooms.len());
    let mut connections = JoinSet::new();
    for Joined {
        connection,
        epoch,
        user,
    } in joined
    {
        let (sender, due) = mpsc::channel(DUE_MAX.div_ceil(publisher.rooms.len()));
        channels.push(sender);
        let poster = Poster {
            publisher: publisher.clone(),
            posts: Arc::clone(posts),
            start,
            epoch,
            user,
            publication: Publication::default(),
            pending: HashMap::new(),
        };
        connections.spawn(poster.run(connection, due, cut.clone()));
    }
    let came_due = publisher.keep_time(posts, start, channels)?;
    loop {
        tokio::select! {
            part = connections.join_next() => match part {
                Some(part) => {
                    let part = part.map_err(broken)?;
                    publication.merge(&part);
                }
                None => break,
            },
            cut = &mut coming, if cutter.borrow().is_none() => {
                cutter.send_replace(Some(cut));
            }
        }
    }
    publisher.count_unsent(&mut publication, came_due.await.unwrap_or_default());
    Ok(publication)
}

async fn join(entrance: &Entrance, room: RoomId, index: usize) -> Result<Joined, ClientError> {
    let (access, user) = entrance.poster(u32::try_from(index).unwrap_or(u32::MAX));
    let mut connection = Connection::connect(&Connect {
        access,
        encoding: Encoding::Deflate,
        ..Connect::new(entrance.address.clone(), room)
    })
    .await?;
    let first = tokio::time::timeout(ANSWER_DEADLINE, connection.next()).await;
    match first.unwrap_or(Err(ClientError::Deadline(ANSWER_DEADLINE)))? {
        Event::Joined(joined) => Ok(Joined {
            connection,
            epoch: joined.epoch.value(),
            user,
        }),
        _ => Err(ClientError::NotTheProtocol(
            "the first message is not `joined`",
        )),
    }
}

/// Waits for the cut.
async fn come(cut: &mut watch::Receiver<Option<Cut>>) -> Cut {
    match cut.wait_for(Option::is_some).await.as_deref() {
        Ok(Some(cut)) => *cut,
        // The sender is gone.
        Ok(None) | Err(_) => Cut::Interrupted,
    }
}

struct Poster {
    publisher: Publisher,
    posts: Arc<[Post]>,
    start: Moment,
    epoch: u64,
    user: Option<String>,
    publication: Publication,
    /// Posts without an answer, with the moment they left, by reference.
    pending: HashMap<u32, Moment>,
}

impl Poster {
    async fn run(
        mut self,
        mut connection: Connection,
        mut due: mpsc::Receiver<u32>,
        mut cut: watch::Receiver<Option<Cut>>,
    ) -> Publication {
        // A cut applies whatever the server does, even while it does not read.
        let end = tokio::select! {
            end = self.serve(&mut connection, &mut due) => end,
            cut = come(&mut cut) => End::Cut(cut),
        };
        let unanswered = self.pending.len() as u64;
        self.publisher
            .give_up(&mut self.publication, end.cause(), unanswered);
        // Later posts cannot be sent any more, and must not delay those of other rooms.
        while !matches!(end, End::Cut(_)) && due.recv().await.is_some() {
            self.publication.due += 1;
            self.publisher
                .give_up(&mut self.publication, end.cause(), 1);
        }
        self.publication
    }

    /// Sends due posts and reads the answers, until all are in or no more can come.
    async fn serve(&mut self, connection: &mut Connection, due: &mut mpsc::Receiver<u32>) -> End {
        let mut is_open = true;
        while is_open || !self.pending.is_empty() {
            tokio::select! {
                index = due.recv(), if is_open => match index {
                    Some(index) => {
                        // After a partly written post, nothing more can be sent on the connection.
                        let posted = self.post(connection, index);
                        match tokio::time::timeout(ANSWER_DEADLINE, posted).await {
                            Ok(Ok(())) => {}
                            Ok(Err(_)) => return End::Closed,
                            Err(_) => return End::Unread,
                        }
                    }
                    None => is_open = false,
                },
                event = connection.next() => match event {
                    Ok(Event::Closed(_)) | Err(_) => return End::Closed,
                    Ok(event) => self.hear(event),
                },
            }
        }
        End::Done
    }

    async fn post(&mut self, connection: &Connection, index: u32) -> Result<(), ClientError> {
        let post = self.posts[index as usize];
        let errand = self
            .publisher
            .errand(post, self.start, self.user.as_deref());
        let sent = self.publisher.leaves(&mut self.publication, errand.due);
        // It is pending from the first byte on, so that it is counted even if it cannot be sent.
        self.pending.insert(index, sent);
        let reference = Reference::Number(i64::from(index));
        connection.post(&errand.comment, Some(&reference)).await
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Ack(ack) => {
                if let Some(index) = self.answered(ack.reference.as_ref()) {
                    let now = self.publisher.clock.now();
                    self.publisher.recorder.acknowledged(now);
                    let post = self.posts[index as usize];
                    let user = self.user.as_deref();
                    let errand = self.publisher.errand(post, self.start, user);
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
