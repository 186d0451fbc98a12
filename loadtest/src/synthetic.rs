//! Chat made up on the spot, so that a clone without any recording runs everything: bursts, repeated reactions, a long tail
//! of longer texts, a few coloured and fixed ones. All texts are ours.

use std::time::Duration;

use danmaku_client::NewComment;
use danmaku_wire::Mode;

use crate::corpus::Line;
use crate::random::Random;

/// What everybody shouts: most comments of a busy stream are one of a few.
const REACTIONS: [&str; 14] = [
    "哈哈哈哈",
    "草",
    "666",
    "来了来了",
    "好耶",
    "泪目",
    "？？？",
    "前方高能",
    "lol",
    "wow",
    "gg",
    "nice!!",
    "すごい",
    "ㅋㅋㅋㅋ",
];
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
const COLORS: [u32; 6] = [
    0xFF_0000, 0x00_CC_FF, 0xFF_D3_02, 0xA0_EE_00, 0xCC_0273, 0x89_D5_FF,
];

/// Comments at `per_second` on average for `duration`. Arrivals are a Poisson process whose rate swings between half and
/// three times the average every few seconds, as reactions to what happens on a stream do.
#[must_use]
pub fn chat(seed: u64, per_second: f64, duration: Duration) -> Vec<Line> {
    let mut random = Random::new(seed);
    let mut lines = Vec::new();
    let mut at_s = 0.0;
    let mut swing = 1.0;
    let mut swing_until_s = 0.0;
    loop {
        if at_s >= swing_until_s {
            // Mostly calm, sometimes a burst; the mean of the three is 1.
            swing = *random.choose(&[0.5, 0.5, 0.5, 0.5, 3.0]);
            swing_until_s = at_s + 1.0 + 3.0 * random.unit();
        }
        at_s += -(1.0 - random.unit()).ln() / (per_second * swing);
        let at = Duration::from_secs_f64(at_s);
        if at >= duration {
            return lines;
        }
        lines.push(Line {
            at,
            comment: comment(&mut random),
        });
    }
}

fn comment(random: &mut Random) -> NewComment {
    let text = if random.unit() < 0.6 {
        (*random.choose(&REACTIONS)).to_owned()
    } else {
        // Squaring makes short ones common and long ones rare.
        let tail = random.unit() * random.unit();
        let words = 1 + random.below(1 + whole(tail * 12.0));
        (0..words)
            .map(|_| *random.choose(&WORDS))
            .collect::<Vec<_>>()
            .join(" ")
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
        name: None,
        mode,
        color,
        size,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a small number that is not negative"
)]
fn whole(value: f64) -> usize {
    value as usize
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
            (4500..7500).contains(&lines.len()),
            "{} comments in 600 s",
            lines.len()
        );
        assert!(lines.windows(2).all(|pair| pair[0].at <= pair[1].at));
    }

    #[test]
    fn texts_repeat_and_vary_as_chat_does() {
        let lines = chat(1, 20.0, Duration::from_secs(300));
        let distinct: HashSet<&str> = lines
            .iter()
            .map(|line| line.comment.text.as_str())
            .collect();
        let repeated = 100 - 100 * distinct.len() / lines.len();
        assert!((40..90).contains(&repeated), "{repeated} % repeated");
        assert!(
            lines
                .iter()
                .all(|line| (1..=200).contains(&line.comment.text.chars().count()))
        );
        for mode in [Some(Mode::Top), Some(Mode::Bottom), None] {
            assert!(
                lines.iter().any(|line| line.comment.mode == mode),
                "{mode:?} never occurs"
            );
        }
    }
}
