//! Messages between a command and its viewer processes: JSON, one per line, over the child's standard input and output.
//! Both ends are the same binary, so there is no version and nothing is optional.

use std::io::{self, BufRead, Write};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::clock::{Moment, Origin};
use crate::latency::Distribution;
use crate::ledger::{Arrival, Entry};
use crate::swarm::{Order, Seating, Share, Snapshot, SwarmConfig, SwarmResult};

/// A message to a child. The end of its input means: leave, and hand over your results.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ToChild {
    /// The first message, sent once.
    Plan(Box<Plan>),
    /// What was acknowledged since the last time.
    Acknowledged(Vec<Entry>),
    /// When the stage begins in which viewers stall.
    StallFrom(Moment),
    /// An order. Everything acknowledged before it has been sent already.
    Order(Order),
}

/// What a child does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) config: SwarmConfig,
    pub(super) seating: Seating,
    pub(super) share: Share,
    pub(super) origin: Origin,
    /// Deliveries later than this beyond the window count as late.
    pub(super) late: Duration,
}

/// A message from a child.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FromChild {
    /// It is running, and waits for its plan.
    Ready,
    /// Progress, whenever it has changed.
    Report(Report),
    /// At the end: when its viewers had the comments.
    Arrivals(Vec<Arrival>),
    /// The last message.
    Result(Box<SwarmResult>),
    /// The last message when there is no result.
    Failed(String),
}

/// Progress.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) snapshot: Snapshot,
    /// The rooms' window; 0 before the first viewer has joined.
    pub(super) window_ms: u64,
    /// Latencies that were judged since the last report, by second.
    pub(super) latencies: Vec<(u64, Distribution)>,
}

/// Acknowledgements or arrivals in one message; more are sent in several.
pub(super) const BATCH_MAX: usize = 4096;

/// A message as a line.
pub(super) fn line(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

/// Writes a message.
pub(super) fn write(output: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    output.write_all(&line(message)?)?;
    output.flush()
}

/// Reads a message; `None` at the end. A truncated message is the end too: its sender is gone.
pub(super) fn read<T: DeserializeOwned>(
    input: &mut impl BufRead,
    line: &mut String,
) -> io::Result<Option<T>> {
    line.clear();
    input.read_line(line)?;
    if !line.ends_with('\n') {
        return Ok(None);
    }
    Ok(Some(serde_json::from_str(line)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Tally;

    /// Writes and reads a message, which must be the same when written again.
    fn round_trip<T: Serialize + DeserializeOwned>(message: &T) -> T {
        let mut bytes = Vec::new();
        write(&mut bytes, message).unwrap();
        assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), 1);
        let heard: T = read(&mut bytes.as_slice(), &mut String::new())
            .unwrap()
            .unwrap();
        assert_eq!(line(&heard).unwrap(), bytes);
        heard
    }

    #[test]
    fn a_plan_survives_the_pipe() {
        let clock = crate::clock::Clock::start();
        let plan = Plan {
            config: SwarmConfig {
                server: "127.0.0.1:8080".parse().unwrap(),
                authority: "localhost:8080".to_owned(),
                rooms: vec!["load-0".to_owned(), "ルーム\n".to_owned()],
                connects_per_second: 1234.5,
                connecting_max: 256,
                connect_deadline: Duration::from_millis(10_500),
                threads: 2,
                habits: crate::swarm::Habits {
                    reconnects: true,
                    churn_per_second: 0.1,
                    slow_bytes_per_second: 7,
                },
            },
            seating: Seating {
                viewers: 60_000,
                rooms: 2,
                zipf: 1.07,
                via: crate::swarm::WatchVia::Ws,
                mix: "deflate:3,gzip".parse().unwrap(),
                sampled: 1,
                stalling: 9,
            },
            share: Share { number: 2, of: 3 },
            origin: clock.origin(),
            late: Duration::from_millis(300),
        };
        let ToChild::Plan(heard) = round_trip(&ToChild::Plan(Box::new(plan.clone()))) else {
            panic!("another message")
        };
        assert_eq!(heard.seating, plan.seating);
        assert_eq!((heard.share, heard.origin), (plan.share, plan.origin));
    }

    #[test]
    fn orders_and_acknowledgements_survive_the_pipe() {
        let entry = Entry {
            room: 3,
            position: u64::MAX,
            scheduled: Moment::from_micros(5),
            shape: u64::MAX - 1,
        };
        let ToChild::Acknowledged(heard) = round_trip(&ToChild::Acknowledged(vec![entry])) else {
            panic!("another message")
        };
        assert_eq!(heard, [entry]);
        for order in [Order::Stall, Order::Storm, Order::Churn, Order::Settle] {
            assert!(
                matches!(round_trip(&ToChild::Order(order)), ToChild::Order(heard) if heard == order)
            );
        }
    }

    #[test]
    fn a_result_survives_the_pipe() {
        let mut result = SwarmResult::default();
        result.findings.rooms = vec![Tally::default(); 3];
        result.findings.rooms[2].lost = 7;
        result.findings.tally.delivered = u64::MAX;
        for step in 0..5000_u64 {
            result.findings.stages[1]
                .each
                .record(step * step, 1 + step % 3);
        }
        result.incidents.closes.insert(4001, 2);
        result.incidents.failures.insert("\"odd\"\n".to_owned(), 1);
        result.incidents.rejoins.record(1_500_000, 4);
        result.last.delivered[2].bytes = 99;
        let FromChild::Result(heard) = round_trip(&FromChild::Result(Box::new(result.clone())))
        else {
            panic!("another message")
        };
        assert_eq!(heard.findings.rooms, result.findings.rooms);
        assert_eq!(heard.findings.tally, result.findings.tally);
        let each = |result: &SwarmResult| result.findings.stages[1].each.summary();
        assert_eq!(each(&heard), each(&result));
        assert_eq!(heard.incidents.closes, result.incidents.closes);
        assert_eq!(heard.last, result.last);
    }

    #[test]
    fn a_truncated_message_is_the_end() {
        let mut line = String::new();
        let mut heard = |bytes: &[u8]| read::<FromChild>(&mut &*bytes, &mut line);
        assert!(matches!(heard(b"\"ready\"\n"), Ok(Some(FromChild::Ready))));
        assert!(matches!(heard(b"\"ready\""), Ok(None)));
        assert!(matches!(heard(b""), Ok(None)));
        assert!(heard(b"\"steady\"\n").is_err());
    }
}
