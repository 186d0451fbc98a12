//! How many sockets this process may open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::error::HarnessError;

/// Descriptors that are not viewers: standard streams, polls, wakers, the corpus, `/proc`, the sender of the floor.
const OTHERS: u64 = 64;

/// Raises the limit as far as this process may, and checks that `viewers` and `posters` connections fit.
///
/// # Errors
/// They do not fit: the message names how many viewers would.
pub fn reserve(viewers: u64, posters: u64) -> Result<(), HarnessError> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // When it is refused the present limit counts, so the outcome does not matter.
        let _ = setrlimit(
            Resource::Nofile,
            Rlimit {
                current: limit.maximum,
                maximum: limit.maximum,
            },
        );
    }
    check(viewers, posters, getrlimit(Resource::Nofile).current)
}

fn check(viewers: u64, posters: u64, allowed: Option<u64>) -> Result<(), HarnessError> {
    let wanted = viewers + posters + OTHERS;
    match allowed {
        Some(allowed) if wanted > allowed => {
            let viewers_max = allowed.saturating_sub(posters + OTHERS);
            Err(HarnessError::Descriptors {
                wanted,
                allowed,
                viewers_max,
            })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_says_what_would() {
        assert!(check(900, 10, Some(1024)).is_ok());
        assert!(check(900, 10, None).is_ok());
        let error = check(1000, 10, Some(1024)).unwrap_err();
        assert!(matches!(
            error,
            HarnessError::Descriptors {
                wanted: 1074,
                allowed: 1024,
                viewers_max: 950
            }
        ));
    }
}
