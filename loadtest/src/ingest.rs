//! What posting alone costs the server: the same posts to a room without viewers.
//!
//! Server CPU per delivered frame holds the cost of taking the posts too. With ten thousand viewers that is little, with a
//! hundred it is most of it; to compare audiences of different sizes it has to be known.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use danmaku_wire::RoomId;

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::error::HarnessError;
use crate::ledger::Ledger;
use crate::publisher::Publisher;
use crate::server_side::ServerSide;
use crate::session::Program;
use crate::target::Target;

/// What posting alone costs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, schemars::JsonSchema)]
pub struct PostCost {
    /// Posts that were acknowledged.
    pub posts: u64,
    /// Server CPU for each of them.
    pub post_micros: f64,
}

/// Between the last post and the look at the CPU, so that the last window is sealed.
const TAIL: Duration = Duration::from_millis(1500);

/// Posts a whole program into `room` and takes the server's CPU time. The whole, at its own pace: a post that wakes an idle
/// server costs several times as much as one in a burst, so a sample would not be representative.
///
/// # Errors
/// Nothing can be posted, or the server's process is gone.
pub async fn measure(
    target: &Target,
    program: &Program,
    room: RoomId,
    server: &ServerSide,
    stop: &CancellationToken,
) -> Result<PostCost, HarnessError> {
    let clock = Clock::start();
    let publisher = Publisher {
        entrance: Arc::clone(&target.entrance),
        via: program.post_via,
        connections: program.post_connections,
        rooms: [room].into(),
        lines: Arc::clone(&program.lines),
        clock,
        ledger: Arc::new(Ledger::new(1)),
        recorder: Arc::default(),
        stop: stop.clone(),
    };
    let unknown = || HarnessError::NoServerFigures("the cost of a post");
    let mut observer = server.observer();
    let posters = publisher.connect().await?;
    let before = observer.look().await.ok_or_else(unknown)?;
    let publication = publisher
        .publish(
            posters,
            &program.schedule.clone().in_one_room(),
            clock.now(),
        )
        .await?;
    tokio::time::sleep(TAIL).await;
    let after = observer.look().await.ok_or_else(unknown)?;
    let spent = after.cpu_since(&before);
    Ok(PostCost {
        posts: publication.acknowledged,
        post_micros: spent.micros_per(publication.acknowledged),
    })
}
