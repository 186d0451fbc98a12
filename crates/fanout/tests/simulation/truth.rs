//! What was given to a room, as no viewer sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// The entries of one room.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    comments: BTreeSet<u64>,
    /// Events, and what they take back.
    events: BTreeMap<u64, Vec<u64>>,
    retracted: BTreeSet<u64>,
    /// How often the log lost something.
    pub(crate) losses: u64,
}

impl Truth {
    pub(crate) fn comment(&mut self, id: u64) {
        self.comments.insert(id);
    }

    pub(crate) fn retract(&mut self, id: u64, ids: Vec<u64>) {
        self.retracted.extend(&ids);
        self.events.insert(id, ids);
    }

    pub(crate) fn is_retracted(&self, id: u64) -> bool {
        self.retracted.contains(&id)
    }

    /// The ids of the events in (`after`, `seq`].
    pub(crate) fn events(&self, after: u64, seq: u64) -> Vec<u64> {
        let events = self.events.range(stretch(after, seq));
        events.map(|(&id, _)| id).collect()
    }

    /// What the event with this id takes back.
    pub(crate) fn retraction(&self, id: u64) -> &[u64] {
        &self.events[&id]
    }

    /// Holds a batch to what it must say about the comments it stands for, as the only poster can.
    pub(crate) fn audit(&self, after: u64, seq: u64, ids: &[u64], shed: u64) {
        let posted: Vec<_> = self.comments.range(stretch(after, seq)).collect();
        assert!(
            ids.iter().all(|id| self.comments.contains(id)),
            "a comment that was not posted: {ids:?}"
        );
        let missing = posted.iter().filter(|id| ids.binary_search(id).is_err());
        let (retracted, lost): (Vec<&&u64>, Vec<&&u64>) =
            missing.partition(|id| self.is_retracted(***id));
        // What is taken back may have been shed before.
        let (low, high) = (lost.len() as u64, (lost.len() + retracted.len()) as u64);
        assert!(
            (low..=high).contains(&shed),
            "({after}, {seq}]: {lost:?} missing, {retracted:?} taken back, {shed} shed"
        );
    }
}

/// (`after`, `seq`], which may be empty.
fn stretch(after: u64, seq: u64) -> (Bound<u64>, Bound<u64>) {
    (Bound::Excluded(after), Bound::Included(seq))
}
