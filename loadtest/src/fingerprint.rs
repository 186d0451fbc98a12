//! 64-bit fingerprints of payloads and comments: two that are equal have, for all practical purposes, equal bytes.

use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

/// The fingerprint of a byte string. This is what stands for the payload of a frame in the audit of all the viewers that do not
/// decode it, so it must be fast and must not skip anything.
#[must_use]
pub fn fingerprint(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
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
        let mut hash = Xxh3Default::new();
        for text in [self.user.unwrap_or("\0"), self.text, self.mode] {
            // With its length, so that no two members can be taken for two others.
            hash.update(&(text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        }
        hash.update(&self.color.to_le_bytes());
        hash.update(&self.size.to_le_bytes());
        hash.digest()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
                user: Some("ut"),
                text: "",
                ..base
            },
        ];
        for other in others {
            assert_ne!(base.fingerprint(), other.fingerprint(), "{other:?}");
        }
    }
}
