//! The server's CPU and counters over a run, also across restarts.

use std::collections::BTreeMap;

use crate::counters::Counters;
use crate::process::CpuTime;
use crate::server_side::Look;

/// A reading of the server, as far as available.
#[derive(Clone, Debug, Default)]
pub(super) struct Reading {
    look: Option<Look>,
    counters: Option<Counters>,
}

/// Gauges in `GET /v1/stats`: adding them up over two processes makes no sense.
const GAUGES: [&str; 3] = ["connections", "rooms", "viewers"];

impl Reading {
    pub(super) fn new(look: Option<Look>, counters: Option<Counters>) -> Self {
        Self { look, counters }
    }
}

/// Adds up intervals, each of one process of the server.
#[derive(Debug)]
pub(super) struct ServerTotals {
    start: Start,
    /// Intervals that have ended.
    intervals: u32,
    /// Absent if unknown for any interval.
    cpu: Option<CpuTime>,
    counters: Option<BTreeMap<String, f64>>,
}

/// Where an interval begins.
#[derive(Debug)]
enum Start {
    At(Reading),
    /// With the process, which counts from zero.
    Birth,
}

impl ServerTotals {
    pub(super) fn open(start: Reading) -> Self {
        Self {
            start: Start::At(start),
            intervals: 0,
            cpu: Some(CpuTime::default()),
            counters: Some(BTreeMap::new()),
        }
    }

    /// Ends an interval; the next one, if any, begins with a new process.
    pub(super) fn close(&mut self, end: &Reading) {
        let (cpu, mut counters) = match std::mem::replace(&mut self.start, Start::Birth) {
            Start::At(start) => (
                both(end.look.as_ref(), start.look.as_ref(), Look::cpu_since),
                both(
                    end.counters.as_ref(),
                    start.counters.as_ref(),
                    Counters::since,
                ),
            ),
            Start::Birth => (
                end.look.as_ref().map(Look::cpu_since_birth),
                end.counters.as_ref().map(Counters::since_birth),
            ),
        };
        if self.intervals > 0 {
            for counters in [&mut counters, &mut self.counters].into_iter().flatten() {
                counters.retain(|path, _| !GAUGES.contains(&path.as_str()));
            }
        }
        self.intervals += 1;
        self.cpu = both(self.cpu.as_ref(), cpu.as_ref(), CpuTime::plus);
        self.counters = both(self.counters.as_ref(), counters.as_ref(), sum);
    }

    /// The process continues after all.
    pub(super) fn go_on(&mut self, from: Reading) {
        self.start = Start::At(from);
    }

    /// CPU of all intervals.
    pub(super) fn cpu(&self) -> Option<CpuTime> {
        self.cpu
    }

    /// Changes over all intervals.
    pub(super) fn counters(self) -> Option<BTreeMap<String, f64>> {
        self.counters
    }
}

fn both<T, U>(one: Option<&T>, other: Option<&T>, of: impl Fn(&T, &T) -> U) -> Option<U> {
    one.zip(other).map(|(one, other)| of(one, other))
}

fn sum(one: &BTreeMap<String, f64>, other: &BTreeMap<String, f64>) -> BTreeMap<String, f64> {
    let mut sum = one.clone();
    for (path, more) in other {
        *sum.entry(path.clone()).or_default() += more;
    }
    sum
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reading(user_s: f64, frames: u64) -> Reading {
        let exposition = format!(
            "danmaku_process_cpu_seconds_total{{mode=\"user\"}} {user_s}\n\
             danmaku_process_cpu_seconds_total{{mode=\"system\"}} 0\n\
             process_resident_memory_bytes 1\ndanmaku_process_anonymous_memory_bytes 1\n"
        );
        Reading {
            look: Look::read(&exposition),
            counters: Some(Counters::of(
                &json!({"uptime_ms": 1, "frames": frames, "viewers": frames}),
            )),
        }
    }

    fn user_ms(totals: &ServerTotals) -> f64 {
        totals.cpu().unwrap().user_ms.round()
    }

    #[test]
    fn one_process_counts_from_reading_to_reading() {
        let mut totals = ServerTotals::open(reading(1.0, 100));
        totals.close(&reading(1.25, 120));
        totals.go_on(reading(1.25, 120));
        totals.close(&reading(1.5, 140));
        assert!((user_ms(&totals) - 500.0).abs() < 1e-6);
        assert_eq!(totals.counters().unwrap()["frames"], 40.0);
    }

    #[test]
    fn a_new_process_counts_from_its_start_and_the_old_one_to_its_end() {
        // The new one has spent and counted more than the old one had at the beginning.
        let mut totals = ServerTotals::open(reading(1.0, 100));
        totals.close(&reading(1.5, 140));
        totals.close(&reading(2.0, 300));
        assert!((user_ms(&totals) - 2500.0).abs() < 1e-6);
        let counters = totals.counters().unwrap();
        assert_eq!(counters["frames"], 340.0);
        assert!(!counters.contains_key("viewers"), "{counters:?}");
    }

    #[test]
    fn a_figure_unknown_for_one_interval_is_unknown_for_all() {
        let mut totals = ServerTotals::open(reading(1.0, 100));
        totals.close(&Reading::default());
        totals.close(&reading(2.0, 300));
        assert!(totals.cpu().is_none() && totals.counters().is_none());
    }
}
