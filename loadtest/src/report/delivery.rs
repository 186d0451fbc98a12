//! What was delivered and how late, over the measured interval.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use danmaku_wire::Encoding;

use crate::latency::{Distribution, Stage, Summary};
use crate::session::Outcome;
use crate::swarm::Delivered;

/// What viewers got in the measured interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Traffic {
    /// Length of the interval, its drain included.
    pub seconds: f64,
    /// Frames that carry a batch.
    pub frames: u64,
    /// Viewer-comments in them.
    pub comments: u64,
    /// Their bytes, with WebSocket frame headers and event lines.
    pub bytes: u64,
    /// Frames a second.
    pub frames_per_s: f64,
    /// Viewer-comments a second.
    pub comments_per_s: f64,
    /// Bytes a second.
    pub bytes_per_s: f64,
    /// Bytes per frame.
    pub bytes_per_frame: f64,
    /// Bytes per comment and viewer.
    pub bytes_per_comment: f64,
}

/// Latencies of one stage.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct StageReport {
    /// `all`, or `before stall` and `during stall`.
    pub stage: String,
    /// Scheduled post to first viewer, per comment.
    pub first_viewer: Summary,
    /// Scheduled post to each viewer.
    pub each_viewer: Summary,
    /// Scheduled post to last viewer, per comment.
    pub last_viewer: Summary,
    /// Each viewer, minus the window: the figure that is judged.
    pub each_beyond_window: Summary,
    /// The batch's timestamp to each viewer.
    pub seal_to_viewer: Summary,
}

impl Traffic {
    fn new(delivered: &Delivered, seconds: f64) -> Self {
        let Delivered {
            frames,
            comments,
            bytes,
        } = *delivered;
        let per_s = |count| ratio(count, 1) / seconds.max(f64::MIN_POSITIVE);
        Self {
            seconds,
            frames,
            comments,
            bytes,
            frames_per_s: per_s(frames),
            comments_per_s: per_s(comments),
            bytes_per_s: per_s(bytes),
            bytes_per_frame: ratio(bytes, frames),
            bytes_per_comment: ratio(bytes, comments),
        }
    }

    /// Of all viewers.
    pub(super) fn of(outcome: &Outcome) -> Self {
        let mut all = Delivered::default();
        for delivered in &outcome.delivered {
            all.add(delivered);
        }
        Self::new(&all, outcome.seconds)
    }
}

impl StageReport {
    pub(super) fn new(stage: Stage, name: &'static str, outcome: &Outcome) -> Self {
        let latencies = &outcome.result.findings.stages[stage as usize];
        Self {
            stage: name.to_owned(),
            first_viewer: outcome.spans.first[stage as usize].summary(),
            each_viewer: latencies.each.summary(),
            last_viewer: outcome.spans.last[stage as usize].summary(),
            each_beyond_window: latencies.each.summary().beyond(outcome.window_ms),
            seal_to_viewer: latencies.seal.summary(),
        }
    }
}

/// Deliveries by encoding, of those that had any.
pub(super) fn traffic(outcome: &Outcome) -> BTreeMap<String, Traffic> {
    Encoding::ALL
        .into_iter()
        .map(|encoding| (encoding, outcome.delivered[encoding as usize]))
        .filter(|(_, delivered)| delivered.frames > 0)
        .map(|(encoding, delivered)| {
            let traffic = Traffic::new(&delivered, outcome.seconds);
            (encoding.as_str().to_owned(), traffic)
        })
        .collect()
}

/// Where the time of a delivery goes, by name.
pub(super) fn distributions(outcome: &Outcome) -> BTreeMap<String, Distribution> {
    let [calm, stalled] = &outcome.result.findings.stages;
    let mut each = calm.each.clone();
    each.merge(&stalled.each);
    let spans = &outcome.spans;
    [
        ("post_to_viewer", &each),
        ("post_to_seal", &spans.post_to_seal),
        ("seal_to_first_viewer", &spans.seal_to_first),
        ("first_to_last_viewer", &spans.first_to_last),
    ]
    .into_iter()
    .filter(|(_, distribution)| distribution.count() > 0)
    .map(|(name, distribution)| (name.to_owned(), distribution.clone()))
    .collect()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "bytes of a run are far below 2^53"
)]
pub(super) fn ratio(sum: u64, count: u64) -> f64 {
    sum as f64 / (count.max(1) as f64)
}
