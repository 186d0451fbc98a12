//! What happened in a world: a simulation in which nothing goes wrong proves nothing.

/// Sums over one world or many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Coverage {
    pub(crate) acked: u64,
    pub(crate) outcomes_unknown: u64,
    pub(crate) unavailable: u64,
    pub(crate) overloaded: u64,
    pub(crate) given_up: u64,
    pub(crate) retries_answered: u64,
    pub(crate) retractions: u64,
    pub(crate) frames: u64,
    pub(crate) shed: u64,
    pub(crate) losses: u64,
    pub(crate) new_epochs: u64,
    pub(crate) restarts: u64,
    pub(crate) sessions: u64,
    pub(crate) resumed_in_ring: u64,
    pub(crate) resumed_with_prefix: u64,
    pub(crate) ahead: u64,
    pub(crate) boundaries_gone: u64,
    pub(crate) histories: u64,
    pub(crate) histories_cut: u64,
    pub(crate) prefix_gaps: u64,
    pub(crate) pages: u64,
    pub(crate) reads_failed: u64,
    /// Comments that a viewer had when their retraction came.
    pub(crate) removed_by_viewers: u64,
    /// Comments that no viewer of a frame was shown because they were retracted first.
    pub(crate) never_shown: u64,
    /// Over all frames: the same world has the same one.
    pub(crate) digest: u64,
}

impl Coverage {
    pub(crate) fn add(&mut self, other: &Self) {
        let mine = self.fields_mut();
        for (mine, (_, theirs)) in mine.into_iter().zip(other.fields()) {
            *mine += theirs;
        }
    }

    /// Panics when the seeds left something untried.
    pub(crate) fn check(&self) {
        for (name, count) in self.fields() {
            assert!(count > 0, "no seed tries {name}: {self:#?}");
        }
    }

    pub(crate) fn digest(&mut self, bytes: &[u8]) {
        // FNV-1a.
        for byte in bytes {
            self.digest = (self.digest ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
        }
    }
}

macro_rules! fields {
    ($($name:ident),*) => {
        impl Coverage {
            fn fields(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name)),*]
            }

            fn fields_mut(&mut self) -> Vec<&mut u64> {
                vec![$(&mut self.$name),*]
            }
        }
    };
}

fields!(
    acked,
    outcomes_unknown,
    unavailable,
    overloaded,
    given_up,
    retries_answered,
    retractions,
    frames,
    shed,
    losses,
    new_epochs,
    restarts,
    sessions,
    resumed_in_ring,
    resumed_with_prefix,
    ahead,
    boundaries_gone,
    histories,
    histories_cut,
    prefix_gaps,
    pages,
    reads_failed,
    removed_by_viewers,
    never_shown
);
