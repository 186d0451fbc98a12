//! The server's own counters, `GET /v1/stats`, compared before and after.

use std::collections::BTreeMap;

use serde_json::Value;

/// All numbers of a JSON document by their path, as `fanout.frames_written`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counters(BTreeMap<String, f64>);

/// How long the server has been running.
const UPTIME: &str = "uptime_ms";

impl Counters {
    /// Finds the numbers. Arrays are left out: they are lists of things, not counters.
    #[must_use]
    pub fn of(document: &Value) -> Self {
        let mut numbers = BTreeMap::new();
        collect("", document, &mut numbers);
        Self(numbers)
    }

    /// What changed since an earlier look, counters that are new included. A server that was started again since then counts
    /// from zero.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> BTreeMap<String, f64> {
        let none = Self::default();
        let earlier = if self.0.get(UPTIME) < earlier.0.get(UPTIME) {
            &none
        } else {
            earlier
        };
        self.differences(earlier)
    }

    /// What a server has counted since it was started.
    #[must_use]
    pub fn since_birth(&self) -> BTreeMap<String, f64> {
        self.differences(&Self::default())
    }

    fn differences(&self, earlier: &Self) -> BTreeMap<String, f64> {
        self.0
            .iter()
            .map(|(path, value)| {
                (
                    path.clone(),
                    value - earlier.0.get(path).copied().unwrap_or_default(),
                )
            })
            .filter(|(_, difference)| *difference != 0.0 && difference.is_finite())
            .collect()
    }
}

fn collect(path: &str, value: &Value, numbers: &mut BTreeMap<String, f64>) {
    if let Some(number) = value.as_f64() {
        numbers.insert(path.to_owned(), number);
    }
    for (name, member) in value.as_object().into_iter().flatten() {
        let dot = if path.is_empty() { "" } else { "." };
        collect(&format!("{path}{dot}{name}"), member, numbers);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn differences_are_by_path_and_only_where_something_changed() {
        let before = Counters::of(
            &json!({"posts": 5, "fanout": {"frames": 10, "skipped": {"age": 1}}, "name": "x"}),
        );
        let after = Counters::of(
            &json!({"posts": 5, "fanout": {"frames": 25, "skipped": {"age": 0, "bytes": 3}}}),
        );
        let expected: BTreeMap<String, f64> = [
            ("fanout.frames".to_owned(), 15.0),
            ("fanout.skipped.age".to_owned(), -1.0),
            ("fanout.skipped.bytes".to_owned(), 3.0),
        ]
        .into();
        assert_eq!(after.since(&before), expected);
    }

    #[test]
    fn a_server_that_was_started_again_counts_from_zero() {
        let before = Counters::of(&json!({"uptime_ms": 5000, "posts": 90}));
        let after = Counters::of(&json!({"uptime_ms": 700, "posts": 4}));
        assert_eq!(after.since(&before)["posts"].to_string(), "4");
    }
}
