//! Generates chat, so that no recording is needed. It follows what recordings of live chat have in common:
//! arrivals in bursts, 40 to 80 % repeated texts, a median of 9 to 15 bytes with a long tail, a few coloured
//! and fixed ones. All texts are ours.

use std::time::Duration;

use danmaku_client::NewComment;
use danmaku_wire::Mode;

use crate::random::Random;
use crate::recording::Line;
use crate::zipf::Draw;

/// Common comments, the most frequent first: most comments of a busy stream are one of a few.
const REACTIONS: [&str; 16] = [
    "哈哈哈哈",
    "666",
    "来了来了",
    "lol",
    "前方高能",
    "好耶",
    "すごい",
    "ㅋㅋㅋㅋ",
    "？？？",
    "nice!!",
    "gg",
    "wow",
    "草",
    "泪目",
    "哈哈哈哈哈哈",
    "太好了吧",
];
const REACTIONS_SHARE: f64 = 0.55;
/// What longer comments are made of.
const WORDS: [&str; 20] = [
    "this",
    "song",
    "is",
    "so",
    "good",
    "again",
    "please",
    "主播",
    "今天",
    "真的",
    "太",
    "厉害",
    "了",
    "背景音乐",
    "是什么",
    "もう一回",
    "最高",
    "the",
    "timing",
    "🎉",
];
/// The protocol's limit.
const TEXT_CHARS_MAX: usize = 200;
const COLORS: [u32; 6] = [
    0xFF_0000, 0x00_CC_FF, 0xFF_D3_02, 0xA0_EE_00, 0xCC_0273, 0x89_D5_FF,
];

/// How busy a stretch is relative to the average, and how often it occurs, in percent: mostly calm, now and then
/// many times the average. The mean is close to 1 and made exact for each run.
const SWINGS: [(f64, usize); 5] = [(0.4, 50), (0.8, 25), (1.5, 15), (3.0, 8), (7.0, 2)];
const STRETCH_S: [f64; 2] = [2.0, 8.0];

/// Endless comments, all at no particular time.
#[derive(Clone, Debug)]
pub struct Chat {
    random: Random,
    reactions: Draw,
}

impl Chat {
    /// The chat of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with(Random::new(seed))
    }

    fn with(random: Random) -> Self {
        let reactions = u32::try_from(REACTIONS.len()).unwrap_or(u32::MAX);
        Self {
            random,
            reactions: Draw::new(reactions, 1.0),
        }
    }

    /// The next comment.
    pub fn comment(&mut self) -> NewComment {
        comment(&mut self.random, &self.reactions)
    }
}

/// Comments at `per_second` on average for `duration`. Arrivals are a Poisson process whose rate changes every few seconds,
/// as reactions to what happens on a stream do.
#[must_use]
pub fn chat(seed: u64, per_second: f64, duration: Duration) -> Vec<Line> {
    let mut random = Random::new(seed);
    let stretches = stretches(&mut random, duration.as_secs_f64());
    let mut chat = Chat::with(random);
    let mut lines = Vec::new();
    let mut at_s = 0.0;
    let mut wait = exponential(&mut chat.random);
    for (until_s, swing) in stretches {
        // The rest of a wait continues at the next stretch's pace.
        loop {
            let passes = (until_s - at_s) * per_second * swing;
            if wait >= passes {
                wait -= passes;
                at_s = until_s;
                break;
            }
            at_s += wait / (per_second * swing);
            wait = exponential(&mut chat.random);
            let at = Duration::from_secs_f64(at_s);
            if at < duration {
                let comment = chat.comment();
                lines.push(Line { at, comment });
            }
        }
    }
    lines
}

/// Ends and paces of the stretches; the mean pace is 1.
fn stretches(random: &mut Random, duration_s: f64) -> Vec<(f64, f64)> {
    let mut stretches = Vec::new();
    let (mut at_s, mut sum) = (0.0, 0.0);
    while at_s < duration_s {
        let length_s = STRETCH_S[0] + (STRETCH_S[1] - STRETCH_S[0]) * random.unit();
        let until_s = f64::min(at_s + length_s, duration_s);
        let mut percent = random.below(100);
        let mut swing = SWINGS[0].0;
        for (pace, share) in SWINGS {
            swing = pace;
            if percent < share {
                break;
            }
            percent -= share;
        }
        sum += swing * (until_s - at_s);
        stretches.push((until_s, swing));
        at_s = until_s;
    }
    for (_, swing) in &mut stretches {
        *swing *= duration_s / sum;
    }
    stretches
}

fn exponential(random: &mut Random) -> f64 {
    -(1.0 - random.unit()).ln()
}

fn comment(random: &mut Random, reactions: &Draw) -> NewComment {
    let text = if random.unit() < REACTIONS_SHARE {
        REACTIONS[reactions.room(random) as usize].to_owned()
    } else {
        sentence(random)
    };
    let mode = match random.below(20) {
        0 => Some(Mode::Top),
        1 => Some(Mode::Bottom),
        _ => None,
    };
    let color = (random.below(8) == 0).then(|| *random.choose(&COLORS));
    let size = (random.below(25) == 0).then_some(18);
    NewComment {
        text,
        user: Some(format!("{:08x}", random.below(5000))),
        mode,
        color,
        size,
        ..NewComment::default()
    }
}

/// A few words; some are long, and some of those very long.
fn sentence(random: &mut Random) -> String {
    let more = match random.below(1000) {
        0..7 => random.below(30),
        7..67 => random.below(12),
        _ => 0,
    };
    let words = 2 + random.below(3) + more;
    let words: Vec<&str> = (0..words).map(|_| *random.choose(&WORDS)).collect();
    words
        .join(" ")
        .chars()
        .take(TEXT_CHARS_MAX)
        .collect::<String>()
        .trim_end()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_seed_determines_the_chat_and_the_rate_is_about_right() {
        let duration = Duration::from_secs(600);
        let lines = chat(7, 10.0, duration);
        assert_eq!(lines, chat(7, 10.0, duration));
        assert_ne!(lines, chat(8, 10.0, duration));
        assert!(
            (5600..6400).contains(&lines.len()),
            "{} comments in 600 s",
            lines.len()
        );
        assert!(lines.windows(2).all(|pair| pair[0].at <= pair[1].at));
    }

    /// For many seeds and lengths, because a run may have any.
    fn of_all(check: impl Fn(&[Line], &str)) {
        for seed in 1..=5 {
            for (rate, duration_s) in [(5.0, 120), (20.0, 300), (100.0, 300)] {
                let lines = chat(seed, rate, Duration::from_secs(duration_s));
                check(&lines, &format!("seed {seed}, {rate}/s for {duration_s} s"));
            }
        }
    }

    #[test]
    fn forty_to_eighty_percent_of_texts_are_repeated() {
        of_all(|lines, which| {
            let texts = lines.iter().map(|line| line.comment.text.as_str());
            let distinct: HashSet<&str> = texts.collect();
            let repeated = 100 - 100 * distinct.len() / lines.len();
            assert!((40..=80).contains(&repeated), "{which}: {repeated} %");
        });
    }

    #[test]
    fn the_median_is_9_to_15_bytes_and_the_tail_is_long() {
        of_all(|lines, which| {
            let mut bytes: Vec<usize> = lines.iter().map(|line| line.comment.text.len()).collect();
            bytes.sort_unstable();
            let median = bytes[bytes.len() / 2];
            assert!((9..=15).contains(&median), "{which}: median {median}");
            let tail = bytes[bytes.len() * 99 / 100];
            assert!(tail >= 3 * median, "{which}: p99 {tail}, median {median}");
            assert!(
                lines
                    .iter()
                    .all(|line| (1..=200).contains(&line.comment.text.chars().count()))
            );
        });
    }

    #[test]
    fn arrivals_come_in_bursts_and_keep_the_mean() {
        for seed in 1..=5 {
            let lines = chat(seed, 20.0, Duration::from_secs(1200));
            let mut seconds = vec![0.0_f64; 1200];
            for line in &lines {
                seconds[usize::try_from(line.at.as_secs()).unwrap()] += 1.0;
            }
            let mean = seconds.iter().sum::<f64>() / 1200.0;
            assert!((mean - 20.0).abs() < 1.0, "seed {seed}: {mean} a second");
            let variance = seconds
                .iter()
                .map(|count| (count - mean).powi(2))
                .sum::<f64>()
                / 1200.0;
            // A Poisson process has 1.
            let dispersion = variance / mean;
            assert!(
                dispersion > 5.0,
                "seed {seed}: index of dispersion {dispersion}"
            );
            let best = seconds
                .windows(10)
                .map(|ten| ten.iter().sum::<f64>() / 10.0)
                .fold(0.0, f64::max);
            let ratio = best / mean;
            assert!(
                (2.5..10.0).contains(&ratio),
                "seed {seed}: best ten seconds {ratio} x the mean"
            );
        }
    }

    #[test]
    fn all_modes_occur_and_most_comments_scroll() {
        let lines = chat(1, 20.0, Duration::from_secs(300));
        let share = |mode| {
            let of = lines
                .iter()
                .filter(|line| line.comment.mode == mode)
                .count();
            100 * of / lines.len()
        };
        assert!((85..=95).contains(&share(None)));
        assert!(share(Some(Mode::Top)) >= 2 && share(Some(Mode::Bottom)) >= 2);
    }
}
