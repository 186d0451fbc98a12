//! 64-bit fingerprints of payloads and comments: two that are equal have, for all practical purposes, equal bytes.

/// Odd constants with mixed bits, as in wyhash.
const KEYS: [u64; 4] = [
    0xA076_1D64_78BD_642F,
    0xE703_7ED1_A0B4_28DB,
    0x8EBC_6AF0_9C88_C6E3,
    0x5899_65CC_7537_4CC3,
];

/// The fingerprint of a byte string. Every byte counts: this is what stands for the payload of a frame in the audit of all
/// the viewers that do not decode it, so it must be fast (about 10 GB/s) and must not skip anything.
#[must_use]
pub fn fingerprint(bytes: &[u8]) -> u64 {
    let mut even = KEYS[0] ^ bytes.len() as u64;
    let mut odd = KEYS[1];
    let (blocks, rest) = bytes.as_chunks::<32>();
    for block in blocks {
        let (words, _) = block.as_chunks::<8>();
        even = fold(word(words[0]) ^ KEYS[2], word(words[1]) ^ even);
        odd = fold(word(words[2]) ^ KEYS[3], word(words[3]) ^ odd);
    }
    let (words, tail) = rest.as_chunks::<8>();
    for chunk in words {
        even = fold(word(*chunk) ^ KEYS[2], even ^ KEYS[1]);
    }
    let mut last = [0; 8];
    last[..tail.len()].copy_from_slice(tail);
    odd = fold(word(last) ^ KEYS[3], odd ^ tail.len() as u64);
    fold(even ^ KEYS[0], odd ^ KEYS[1])
}

fn word(bytes: [u8; 8]) -> u64 {
    u64::from_le_bytes(bytes)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "both halves of the product are used"
)]
fn fold(left: u64, right: u64) -> u64 {
    let product = u128::from(left) * u128::from(right);
    (product as u64) ^ ((product >> 64) as u64)
}

/// The members of a comment that a poster chooses, as one fingerprint: what was posted and what arrived are compared by it.
#[derive(Clone, Copy, Debug)]
pub struct CommentShape<'a> {
    /// Who posted.
    pub user: Option<&'a str>,
    /// The text.
    pub text: &'a str,
    /// The mode's protocol name.
    pub mode: &'a str,
    /// `0xRRGGBB`.
    pub color: u32,
    /// Font size.
    pub size: u32,
}

impl CommentShape<'_> {
    /// The comment's fingerprint.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let text = fingerprint(self.text.as_bytes());
        let user = self
            .user
            .map_or(KEYS[3], |user| fingerprint(user.as_bytes()));
        let looks = fold(
            fingerprint(self.mode.as_bytes()),
            KEYS[2] ^ (u64::from(self.color) << 32 | u64::from(self.size)),
        );
        fold(text ^ KEYS[0], user ^ KEYS[1]) ^ looks
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_byte_and_the_length_count() {
        let mut seen = HashSet::new();
        for len in 0..130_usize {
            let base = vec![0_u8; len];
            assert!(
                seen.insert(fingerprint(&base)),
                "zeros of length {len} collide"
            );
            for position in 0..len {
                let mut changed = base.clone();
                changed[position] = 1;
                assert!(
                    seen.insert(fingerprint(&changed)),
                    "byte {position} of {len} does not count"
                );
            }
        }
    }

    #[test]
    fn neighbouring_words_do_not_cancel_when_swapped() {
        let forward: Vec<u8> = (0..64).collect();
        let mut swapped = forward.clone();
        swapped.rotate_left(8);
        assert_ne!(fingerprint(&forward), fingerprint(&swapped));
    }

    #[test]
    fn every_member_of_a_comment_counts() {
        let base = CommentShape {
            user: Some("u"),
            text: "t",
            mode: "scroll",
            color: 1,
            size: 25,
        };
        let others = [
            CommentShape { user: None, ..base },
            CommentShape { text: "u", ..base },
            CommentShape {
                mode: "top",
                ..base
            },
            CommentShape { color: 2, ..base },
            CommentShape { size: 26, ..base },
            CommentShape {
                user: Some("t"),
                text: "u",
                ..base
            },
        ];
        for other in others {
            assert_ne!(base.fingerprint(), other.fingerprint(), "{other:?}");
        }
    }
}
