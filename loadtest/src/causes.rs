//! Failures counted by cause. Causes may quote the server, and a hostile one could invent any number of any length.

use std::collections::BTreeMap;

use crate::quoted::quoted;

/// Most causes that are counted separately.
const CAUSES_MAX: usize = 32;
/// What the others are counted under.
const OTHERS: &str = "other causes";

/// Adds to the count of a cause.
pub(crate) fn count(causes: &mut BTreeMap<String, u64>, cause: &str, times: u64) {
    // A known one is already quoted: a fault repeated with every frame must not allocate each time.
    if let Some(known) = causes.get_mut(cause) {
        *known += times;
        return;
    }
    let cause = quoted(cause);
    let is_known = causes.contains_key(&cause);
    let cause = if is_known || causes.len() < CAUSES_MAX {
        cause
    } else {
        OTHERS.to_owned()
    };
    *causes.entry(cause).or_default() += times;
}

/// Adds other counts.
pub(crate) fn add(into: &mut BTreeMap<String, u64>, from: &BTreeMap<String, u64>) {
    for (cause, times) in from {
        count(into, cause, *times);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invented_causes_share_one_count() {
        let mut causes = BTreeMap::new();
        for number in 0..1000 {
            count(&mut causes, &format!("cause {number:03}"), 1);
        }
        count(&mut causes, "cause 001", 2);
        assert_eq!(causes.len(), CAUSES_MAX + 1);
        assert_eq!((causes["cause 001"], causes[OTHERS]), (3, 968));
    }

    #[test]
    fn a_sum_is_bounded_like_its_parts() {
        let part = |first: u64| {
            (first..first + 30)
                .map(|n| (format!("cause {n}"), 1))
                .collect()
        };
        let mut sum = part(0);
        add(&mut sum, &part(30));
        assert_eq!(sum.len(), CAUSES_MAX + 1);
        assert_eq!(sum.values().sum::<u64>(), 60);
    }

    #[test]
    fn causes_are_safe_to_print() {
        let mut causes = BTreeMap::new();
        count(&mut causes, "x\x1b[2J\n\nPASS: everything is fine", 1);
        let cause = r"x\u{1b}[2J\u{a}\u{a}PASS: everything is fine".to_owned();
        assert_eq!(causes, [(cause, 1)].into());
    }
}
