//! When viewers that lost their connection try again.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use danmaku_chat::Random;

/// How viewers come back.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Reconnect {
    /// All at once, which is the worst that can happen; then five times a second.
    #[default]
    AtOnce,
    /// As the SDK: after a random part of 1 s, then of 2 s, and so on to 30 s.
    Jitter,
}

const AGAIN_AFTER: Duration = Duration::from_millis(200);
/// The SDK's delays: `FIRST_MS` and `LONGEST_MS` in web/sdk/connection.js.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

impl Reconnect {
    /// How long to wait before an attempt, counted from 1.
    pub(super) fn delay(self, attempt: u32, random: &mut Random) -> Duration {
        match self {
            Self::AtOnce => AGAIN_AFTER,
            Self::Jitter => {
                let doubled = FIRST.saturating_mul(1 << attempt.saturating_sub(1).min(16));
                doubled.min(LONGEST).mul_f64(random.unit())
            }
        }
    }

    /// How long to wait when everybody is disconnected.
    pub(super) fn after_storm(self, random: &mut Random) -> Duration {
        match self {
            Self::AtOnce => Duration::ZERO,
            Self::Jitter => self.delay(1, random),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_grows_to_a_limit() {
        let mut random = Random::new(1);
        for (attempt, most_s) in [(1, 1), (2, 2), (5, 16), (6, 30), (4_000_000_000, 30)] {
            let most = Duration::from_secs(most_s);
            let delays: Vec<Duration> = (0..200)
                .map(|_| Reconnect::Jitter.delay(attempt, &mut random))
                .collect();
            assert!(delays.iter().all(|delay| *delay < most), "{attempt}");
            let longest = delays.iter().max().unwrap();
            assert!(*longest > most / 2, "attempt {attempt}: {longest:?}");
        }
    }

    /// The harness does as the SDK does, so a change there has to come here too.
    #[test]
    fn the_delays_are_those_of_the_sdk() {
        let sdk = include_str!("../../../web/sdk/connection.js").replace('_', "");
        for (name, delay) in [("FIRSTMS", FIRST), ("LONGESTMS", LONGEST)] {
            let line = format!("const {name} = {};", delay.as_millis());
            assert!(sdk.contains(&line), "{line}");
        }
    }
}
