//! How many sockets this process may open.

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::error::HarnessError;

/// Descriptors that are not viewers: standard streams, polls, wakers, the corpus, `/proc`, the sender of the floor.
const OTHERS: u64 = 64;

/// Raises the limit as far as this process may, and checks that everything fits.
///
/// # Errors
/// It does not fit.
pub fn reserve(viewers: u64, posters: u64) -> Result<(), HarnessError> {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        // If this fails, the current limit applies, so the outcome does not matter.
        let _ = setrlimit(Resource::Nofile, limit);
    }
    let wanted = viewers + posters + OTHERS;
    match getrlimit(Resource::Nofile).current {
        Some(allowed) if wanted > allowed => Err(HarnessError::Descriptors { wanted, allowed }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_in_one_line() {
        assert!(reserve(1, 1).is_ok());
        let error = reserve(1 << 40, 0).unwrap_err().to_string();
        assert!(
            error.contains("`ulimit -n`") && error.lines().count() == 1,
            "{error}"
        );
    }
}
