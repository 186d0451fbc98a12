//! Where the time of a comment goes between its post and its last viewer.

use crate::audit::Judge;
use crate::latency::Distribution;
use crate::ledger::Ledger;

/// Where the time of a comment goes, one value per comment.
#[derive(Clone, Debug, Default)]
pub struct Spans {
    /// Scheduled post to first viewer, by stage.
    pub first: [Distribution; 2],
    /// Scheduled post to last viewer, by stage.
    pub last: [Distribution; 2],
    /// Scheduled post to the batch's timestamp.
    pub post_to_seal: Distribution,
    /// The batch's timestamp to the first viewer. Timestamps are whole milliseconds of the server's clock.
    pub seal_to_first: Distribution,
    /// First viewer to last viewer.
    pub first_to_last: Distribution,
}

impl Spans {
    pub(super) fn of(ledger: &Ledger, judge: &Judge) -> Self {
        let mut spans = Self::default();
        for room in 0..ledger.rooms() {
            for entry in ledger.room(room).iter() {
                let stage = judge.stage(entry.scheduled) as usize;
                if let (Some(first), Some(last)) = (entry.first_arrival, entry.last_arrival) {
                    spans.first_to_last.record(last.micros_since(first), 1);
                    if let Some(sealed) = entry.sealed {
                        let post_to_seal = sealed.micros_since(entry.scheduled);
                        spans.post_to_seal.record(post_to_seal, 1);
                        spans.seal_to_first.record(first.micros_since(sealed), 1);
                    }
                    spans.first[stage].record(first.micros_since(entry.scheduled), 1);
                    spans.last[stage].record(last.micros_since(entry.scheduled), 1);
                }
            }
        }
        spans
    }
}
