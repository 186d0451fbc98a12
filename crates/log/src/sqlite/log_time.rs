//! The log time that later entries of a room have at least.

/// Log time is set when a group begins, and its entries are in the ring only after the commit. Whoever moves log time on
/// must know of the group between the two.
#[derive(Debug, Default)]
pub(super) struct LogTime {
    /// Later groups have no earlier time.
    reached_ms: u64,
    /// No entry of the group that is on its way has an earlier time.
    committing_ms: Option<u64>,
}

impl LogTime {
    /// A group begins at `now_ms`; the earliest time that its entries may have.
    pub(super) fn begin(&mut self, now_ms: u64) -> u64 {
        let earliest_ms = self.reached_ms.max(now_ms);
        self.committing_ms = Some(earliest_ms);
        earliest_ms
    }

    /// The group is in the ring, or it failed.
    pub(super) fn end(&mut self) {
        self.committing_ms = None;
    }

    /// Moves the time on to `at_ms`, or as far as the group on its way allows; returns what is reached.
    pub(super) fn reach(&mut self, at_ms: u64) -> u64 {
        let at_ms = self.committing_ms.map_or(at_ms, |it| it.min(at_ms));
        self.reached_ms = self.reached_ms.max(at_ms);
        self.reached_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_does_not_pass_a_group_that_is_on_its_way() {
        let mut time = LogTime::default();
        assert_eq!(time.reach(10), 10);
        assert_eq!(time.begin(5), 10);
        assert_eq!(time.reach(20), 10);
        time.end();
        assert_eq!(time.reach(20), 20);
        assert_eq!(time.reach(15), 20);
        assert_eq!(time.begin(30), 30);
        assert_eq!(time.reach(25), 25);
    }
}
