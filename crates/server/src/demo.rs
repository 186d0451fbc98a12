//! Owns the demo feed, so that a new user sees a busy room.

use std::sync::Arc;

use danmaku_chat::Show;
use danmaku_wire::{Comment, RoomId};

use crate::context::Context;
use crate::refusal::Refusal;

/// Posts into the demo room until the server stops.
pub async fn feed(context: Arc<Context>, id: RoomId) {
    let mut show = Show::new(context.clock.now().unix_ms);
    while !context.gate.is_closed() {
        let comments = show.comments(&context.comment_limits);
        let pause = show.pause();
        let likes = show.likes();
        if let Err(refusal) = post(&context, &id, &comments, likes).await {
            tracing::debug!(%refusal, "demo comments refused");
        }
        tokio::time::sleep(pause).await;
    }
}

async fn post(
    context: &Context,
    id: &RoomId,
    comments: &[Comment],
    likes: u32,
) -> Result<(), Refusal> {
    let room = context.open_room(id, None).await?;
    let rate = context.config.admission.per_room;
    room.post(comments, None, rate, context.clock.now()).await?;
    context.stats.inbound.accepted(comments.len());
    if likes > 0 {
        room.like(likes);
    }
    Ok(())
}
