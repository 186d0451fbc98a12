//! Which texts were posted lately.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};

use crate::fold::Folded;

/// The most texts that are remembered.
pub const REPEATS_MAX: usize = 1_024;

/// The texts of a room's latest comments, as hashes: 16 bytes each, at most [`REPEATS_MAX`].
///
/// Punctuation, spaces and emoji don't make a text another one, unless there is nothing else in it.
#[derive(Debug, Default)]
pub struct Repeats {
    hasher: RandomState,
    /// Hash and time, oldest first.
    latest: VecDeque<(u64, u64)>,
}

impl Repeats {
    /// How long ago the same text was posted, in milliseconds; none if that was more than `within_ms` ago or never.
    #[must_use]
    pub fn age_ms(&self, text: &Folded, now_ms: u64, within_ms: u64) -> Option<u64> {
        let hash = self.hash(text);
        let latest = self.latest.iter().rev();
        latest
            .map_while(|(seen, at_ms)| {
                let age_ms = now_ms.saturating_sub(*at_ms);
                (age_ms < within_ms).then_some((*seen, age_ms))
            })
            .find_map(|(seen, age_ms)| (seen == hash).then_some(age_ms))
    }

    /// Remembers a text that was accepted at `now_ms`, and forgets what is older than `within_ms`.
    pub fn remember(&mut self, text: &Folded, now_ms: u64, within_ms: u64) {
        while let Some((_, at_ms)) = self.latest.front()
            && (self.latest.len() >= REPEATS_MAX || now_ms.saturating_sub(*at_ms) >= within_ms)
        {
            self.latest.pop_front();
        }
        self.latest.push_back((self.hash(text), now_ms));
    }

    fn hash(&self, text: &Folded) -> u64 {
        let text = text.as_str();
        let words: String = text.chars().filter(|it| it.is_alphanumeric()).collect();
        let said = if words.is_empty() { text } else { &words };
        self.hasher.hash_one(said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_words_are_a_repeat_for_a_while() {
        let mut repeats = Repeats::default();
        repeats.remember(&Folded::new("Buy this NOW!!!"), 1_000, 5_000);
        let check = |text, now_ms, expected| {
            let text = Folded::new(text);
            assert_eq!(repeats.age_ms(&text, now_ms, 5_000), expected);
        };
        check("buy this now", 3_000, Some(2_000));
        check("ｂｕｙ ｔｈｉｓ ｎｏｗ 🔥", 5_999, Some(4_999));
        check("buy this now", 6_000, None);
        check("buy that now", 1_001, None);
        check("!!!", 1_001, None);
    }

    #[test]
    fn texts_without_words_are_told_apart() {
        let mut repeats = Repeats::default();
        repeats.remember(&Folded::new("🔥"), 0, 1_000);
        assert_eq!(repeats.age_ms(&Folded::new("🔥"), 1, 1_000), Some(1));
        assert_eq!(repeats.age_ms(&Folded::new("👍"), 1, 1_000), None);
    }

    #[test]
    fn memory_is_bounded_by_count_and_age() {
        let mut repeats = Repeats::default();
        for number in 0..3 * REPEATS_MAX {
            repeats.remember(&Folded::new(&number.to_string()), 0, 1_000);
        }
        assert_eq!(repeats.latest.len(), REPEATS_MAX);
        repeats.remember(&Folded::new("later"), 1_000, 1_000);
        assert_eq!(repeats.latest.len(), 1);
    }
}
