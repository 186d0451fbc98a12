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
    /// Remembers a text that is about to be posted, and forgets what is older than `within_ms`.
    ///
    /// # Errors
    /// How long ago the same text was posted, in milliseconds, if that was less than `within_ms`.
    pub fn claim(&mut self, text: &Folded, now_ms: u64, within_ms: u64) -> Result<(), u64> {
        let hash = self.hash(text);
        let latest = self.latest.iter().rev();
        let age = latest
            .map_while(|(seen, at_ms)| {
                let age_ms = now_ms.saturating_sub(*at_ms);
                (age_ms < within_ms).then_some((*seen, age_ms))
            })
            .find_map(|(seen, age_ms)| (seen == hash).then_some(age_ms));
        if let Some(age_ms) = age {
            return Err(age_ms);
        }
        while let Some((_, at_ms)) = self.latest.front()
            && (self.latest.len() >= REPEATS_MAX || now_ms.saturating_sub(*at_ms) >= within_ms)
        {
            self.latest.pop_front();
        }
        self.latest.push_back((hash, now_ms));
        Ok(())
    }

    /// Forgets a text that was claimed at `now_ms` and then not posted.
    pub fn release(&mut self, text: &Folded, now_ms: u64) {
        let claim = (self.hash(text), now_ms);
        if let Some(index) = self.latest.iter().rposition(|known| *known == claim) {
            self.latest.remove(index);
        }
    }

    /// When the newest text was posted; none if there is none.
    #[must_use]
    pub fn newest_ms(&self) -> Option<u64> {
        self.latest.back().map(|(_, at_ms)| *at_ms)
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
        let mut check = |text, now_ms, expected| {
            let text = Folded::new(text);
            assert_eq!(repeats.claim(&text, now_ms, 5_000), expected);
        };
        check("Buy this NOW!!!", 1_000, Ok(()));
        check("buy this now", 3_000, Err(2_000));
        check("ｂｕｙ ｔｈｉｓ ｎｏｗ 🔥", 5_999, Err(4_999));
        check("buy that now", 5_999, Ok(()));
        check("!!!", 5_999, Ok(()));
        check("buy this now", 6_000, Ok(()));
    }

    #[test]
    fn texts_without_words_are_told_apart() {
        let mut repeats = Repeats::default();
        let mut claim = |text, now_ms| repeats.claim(&Folded::new(text), now_ms, 1_000);
        assert_eq!(claim("🔥", 0), Ok(()));
        assert_eq!(claim("🔥", 1), Err(1));
        assert_eq!(claim("👍", 1), Ok(()));
    }

    #[test]
    fn a_post_that_was_refused_is_no_repeat() {
        let mut repeats = Repeats::default();
        let text = Folded::new("hello");
        repeats.claim(&text, 5, 1_000).unwrap();
        repeats.release(&text, 5);
        assert_eq!(repeats.claim(&text, 6, 1_000), Ok(()));
        repeats.release(&text, 5);
        assert_eq!(repeats.claim(&text, 7, 1_000), Err(1));
    }

    #[test]
    fn memory_is_bounded_by_count_and_age() {
        let mut repeats = Repeats::default();
        for number in 0..3 * REPEATS_MAX {
            let text = Folded::new(&number.to_string());
            repeats.claim(&text, 0, 1_000).unwrap();
        }
        assert_eq!(repeats.latest.len(), REPEATS_MAX);
        repeats.claim(&Folded::new("later"), 1_000, 1_000).unwrap();
        assert_eq!(repeats.latest.len(), 1);
        assert_eq!(repeats.newest_ms(), Some(1_000));
    }
}
