//! How many sockets a process may open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::error::{HarnessError, Remedy};

/// Descriptors that are not viewers: standard streams, polls, wakers, the corpus, `/proc`, the sender of the floor.
const OTHERS: u64 = 64;
/// Descriptors the parent needs per viewer process: a pipe to it and a pipe from it.
const PER_PROCESS: u64 = 2;

/// What a command wants to open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// Viewers in all.
    pub viewers: u64,
    /// Connections that post.
    pub posters: u64,
    /// Processes the viewers are spread over. One of them is this process, several are all others.
    pub processes: u16,
    /// The most they could be spread over.
    pub processes_max: u16,
}

impl Need {
    /// For viewers that cannot be spread.
    #[must_use]
    pub const fn here(viewers: u64) -> Self {
        Self {
            viewers,
            posters: 0,
            processes: 1,
            processes_max: 1,
        }
    }
}

/// Raises the limit as far as this process may, and checks that everything fits. `fullest` knows how many viewers the fullest
/// of so many processes would have. The limit goes over to processes that are started later.
///
/// # Errors
/// It does not fit; the message says what would.
pub fn reserve(need: &Need, fullest: impl Fn(u16) -> u64) -> Result<(), HarnessError> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // If this fails, the current limit applies, so the outcome does not matter.
        let _ = setrlimit(
            Resource::Nofile,
            Rlimit {
                current: limit.maximum,
                maximum: limit.maximum,
            },
        );
    }
    match getrlimit(Resource::Nofile).current {
        Some(allowed) => check(need, fullest, allowed),
        None => Ok(()),
    }
}

fn check(need: &Need, fullest: impl Fn(u16) -> u64, allowed: u64) -> Result<(), HarnessError> {
    let pipes = |processes: u16| match processes {
        1 => 0,
        several => u64::from(several) * PER_PROCESS,
    };
    let posting = need.posters + OTHERS + pipes(need.processes);
    if posting > allowed {
        return Err(HarnessError::Descriptors {
            wanted: posting,
            allowed,
            remedy: Remedy::Posters(need.posters.saturating_sub(posting - allowed)),
        });
    }
    let others = |processes: u16| match processes {
        1 => need.posters + OTHERS,
        _ => OTHERS,
    };
    let fits = |processes: u16| {
        fullest(processes) + others(processes) <= allowed
            && need.posters + OTHERS + pipes(processes) <= allowed
    };
    if fits(need.processes) {
        return Ok(());
    }
    let (share, others) = (fullest(need.processes), others(need.processes));
    let viewers_max = need.viewers * (allowed - others) / share.max(1);
    let more = (need.processes + 1..=need.processes_max).find(|processes| fits(*processes));
    Err(HarnessError::Descriptors {
        wanted: share + others,
        allowed,
        remedy: match more {
            Some(processes) => Remedy::Processes {
                viewers_max,
                processes,
            },
            None => Remedy::Viewers(viewers_max),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_even(viewers: u64, posters: u64, processes: u16) -> Option<(u64, Remedy)> {
        let need = Need {
            viewers,
            posters,
            processes,
            processes_max: 64,
        };
        match check(&need, |processes| viewers.div_ceil(processes.into()), 1024) {
            Err(HarnessError::Descriptors { wanted, remedy, .. }) => Some((wanted, remedy)),
            other => other.map(|()| None).unwrap(),
        }
    }

    #[test]
    fn the_error_says_what_would_fit() {
        let processes = |viewers_max, processes| Remedy::Processes {
            viewers_max,
            processes,
        };
        assert_eq!(check_even(900, 10, 1), None);
        assert_eq!(check_even(1000, 10, 1), Some((1074, processes(950, 2))));
        assert_eq!(check_even(1900, 10, 2), None);
        assert_eq!(check_even(10_000, 10, 2), Some((5064, processes(1920, 11))));
        assert_eq!(check_even(10_000, 10, 11), None);
        assert_eq!(
            check_even(1_000_000, 10, 1),
            Some((1_000_074, Remedy::Viewers(950)))
        );
        assert_eq!(check_even(5, 2000, 1), Some((2064, Remedy::Posters(960))));
    }

    #[test]
    fn commands_of_one_process_are_not_told_to_use_more() {
        let error = check(&Need::here(2000), |_| 2000, 1024).unwrap_err();
        assert_eq!(
            error.to_string(),
            "one process needs 2064 descriptors but may open 1024: lower --viewers to 960 or raise `ulimit -n`"
        );
    }

    #[test]
    fn the_fullest_process_decides() {
        // Half of the viewers are in one room, and a room may stay in one process.
        let need = Need {
            viewers: 4000,
            posters: 0,
            processes: 4,
            processes_max: 64,
        };
        let error = check(&need, |_| 2000, 1024).unwrap_err();
        assert!(
            error.to_string().contains("lower --viewers to 1920 or"),
            "{error}"
        );
    }
}
