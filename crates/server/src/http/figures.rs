//! Owns a room's figures per step of time: the heat line of a recording.

use danmaku_log::{Sampled, Steps};
use danmaku_wire::RoomId;
use hyper::StatusCode;
use serde::Serialize;

use super::HttpResult;
use super::error::{ApiError, held_json};
use super::query;
use crate::admission::AddressPermit;
use crate::context::Context;
use crate::refusal::Refusal;

/// `GET /v1/rooms/{room}/stats`.
pub(super) async fn show(
    context: &Context,
    permit: &AddressPermit,
    room: &RoomId,
    query: &str,
) -> HttpResult {
    let now_ms = context.clock.now().unix_ms;
    let steps = query::steps(query, now_ms)?;
    let sampled = context.log.records().samples(room, steps);
    let sampled = sampled.await.map_err(Refusal::from)?;
    let log = context.find_log(room).await?;
    if sampled.is_none() && log.is_none() {
        return Err(ApiError::RoomNotFound);
    }
    let count = usize::try_from(steps.count()).unwrap_or_default();
    let mut sampled = sampled.unwrap_or_else(|| vec![Sampled::default(); count]);
    let comments = match log {
        Some(log) => log.count_comments(steps).await.map_err(Refusal::from)?,
        None => vec![0; count],
    };
    add_unsampled(context, room, steps, now_ms, &mut sampled);
    let figures = Figures {
        from: steps.from_ms,
        to: steps.to_ms,
        step: steps.step_ms,
        comments,
        likes: sampled.iter().map(|step| step.likes).collect(),
        viewers: sampled.iter().map(|step| step.viewers).collect(),
    };
    let json = serde_json::to_vec(&figures).expect("invariant: figures have string keys only");
    let held = context.hold_answer(permit, json.len())?;
    let mut response = held_json(json, held);
    *response.status_mut() = StatusCode::OK;
    Ok(response)
}

/// Adds what the next sample will say to the step that is going on.
fn add_unsampled(
    context: &Context,
    room: &RoomId,
    steps: Steps,
    now_ms: u64,
    sampled: &mut [Sampled],
) {
    let Some(room) = context.registry.find(room) else {
        return;
    };
    // The step up to now ends with it.
    let Some(since_ms) = now_ms.saturating_sub(1).checked_sub(steps.from_ms) else {
        return;
    };
    let step = usize::try_from(since_ms / steps.step_ms).ok();
    if let Some(step) = step.and_then(|step| sampled.get_mut(step)) {
        let view = room.view(context.clock.now().monotonic);
        step.likes += context.samples.unsampled(room.key(), view.likes);
        step.viewers = step.viewers.max(view.viewers);
    }
}

#[derive(Serialize)]
struct Figures {
    from: u64,
    to: u64,
    step: u64,
    comments: Vec<u64>,
    likes: Vec<u64>,
    viewers: Vec<u32>,
}
