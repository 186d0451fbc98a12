//! Posting over HTTP: a handful of kept-alive connections share the schedule.

use std::sync::Arc;

use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use danmaku_client::HttpClient;

use crate::clock::Moment;
use crate::error::HarnessError;
use crate::publisher::{DUE_MAX, Publication, Publisher};
use crate::schedule::Post;

pub(super) async fn publish(
    publisher: &Publisher,
    posts: &Arc<[Post]>,
    start: Moment,
) -> Result<Publication, HarnessError> {
    let (sender, receiver) = mpsc::channel(DUE_MAX);
    let receiver = Arc::new(Mutex::new(receiver));
    let mut connections = JoinSet::new();
    for _ in 0..publisher.connections.max(1) {
        connections.spawn(serve(
            publisher.clone(),
            Arc::clone(posts),
            start,
            Arc::clone(&receiver),
        ));
    }
    publisher.keep_time(posts, start, vec![sender])?;
    let mut publication = Publication::default();
    while let Some(part) = connections.join_next().await {
        publication.merge(&part.map_err(|error| HarnessError::system("a sender")(error.into()))?);
    }
    Ok(publication)
}

async fn serve(
    publisher: Publisher,
    posts: Arc<[Post]>,
    start: Moment,
    due: Arc<Mutex<mpsc::Receiver<u32>>>,
) -> Publication {
    let mut http = HttpClient::new(publisher.server.clone());
    let mut publication = Publication::default();
    loop {
        // Whoever holds the lock waits for the next post; the others wait for the lock, in order.
        let Some(index) = due.lock().await.recv().await else {
            return publication;
        };
        let errand = publisher.errand(posts[index as usize], start);
        publication.due += 1;
        let sent = publisher.clock.now();
        publication
            .lateness
            .record(sent.micros_since(errand.due), 1);
        publisher
            .recorder
            .posted(sent, sent.micros_since(errand.due));
        let room = &publisher.rooms[errand.post.room as usize];
        let answer = http
            .post_comments(room, std::slice::from_ref(errand.comment))
            .await;
        publication
            .answer
            .record(publisher.clock.now().micros_since(sent), 1);
        match answer {
            Ok(posted) => {
                publisher.recorder.acknowledged(publisher.clock.now());
                for id in &posted.ids {
                    publication.acknowledge(
                        &publisher.ledger,
                        &errand,
                        posted.epoch.value(),
                        id.value(),
                    );
                }
            }
            Err(error) => {
                publisher.recorder.failed(publisher.clock.now());
                publication.fail(&error);
            }
        }
    }
}
