//! Text that was checked: a comment's text, a user id, a display name, an idempotency key.

use crate::limits::{CommentLimits, IDEMPOTENCY_KEY_BYTES_MAX};
use crate::problem::Fault;

/// The text of a comment: not blank, within the limit, without control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommentText(Box<str>);

impl CommentText {
    /// Checks the text of a comment.
    ///
    /// # Errors
    /// The fault, when it is blank, too long, or holds a control character.
    pub fn new(text: &str, limits: &CommentLimits) -> Result<Self, Fault> {
        check_printable(text)?;
        check_scalars(text, limits.text_scalars_max)?;
        Ok(Self(text.into()))
    }

    /// The text itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The id of a user, as the poster gives it: not blank, within the limit, without control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserId(Box<str>);

impl UserId {
    /// Checks a user id.
    ///
    /// # Errors
    /// The fault, when it is blank, too long, or holds a control character.
    pub fn new(id: &str, limits: &CommentLimits) -> Result<Self, Fault> {
        check_printable(id)?;
        check_bytes(id, limits.user_bytes_max)?;
        Ok(Self(id.into()))
    }

    /// The id itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name shown for a user: not blank, within the limit, without control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DisplayName(Box<str>);

impl DisplayName {
    /// Checks a display name.
    ///
    /// # Errors
    /// The fault, when it is blank, too long, or holds a control character.
    pub fn new(name: &str, limits: &CommentLimits) -> Result<Self, Fault> {
        check_printable(name)?;
        check_scalars(name, limits.name_scalars_max)?;
        Ok(Self(name.into()))
    }

    /// The name itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Names one post, so that a retry of it is answered as the first try was: 1 to 128 visible ASCII characters
/// (draft-ietf-httpapi-idempotency-key-header).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(Box<str>);

impl IdempotencyKey {
    /// Checks a key.
    ///
    /// # Errors
    /// The fault, when it is empty, too long, or holds anything but visible ASCII.
    pub fn new(key: &str) -> Result<Self, Fault> {
        if key.is_empty() {
            return Err(Fault::Empty);
        }
        check_bytes(key, IDEMPOTENCY_KEY_BYTES_MAX)?;
        if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Fault::ControlCharacter);
        }
        Ok(Self(key.into()))
    }

    /// The key itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

pub(crate) fn check_bytes(text: &str, max: usize) -> Result<(), Fault> {
    if text.len() > max {
        Err(Fault::TooManyBytes { max })
    } else {
        Ok(())
    }
}

fn check_scalars(text: &str, max: usize) -> Result<(), Fault> {
    // A scalar value has at least one byte, so most texts are settled without counting.
    if text.len() > max && text.chars().count() > max {
        Err(Fault::TooManyScalars { max })
    } else {
        Ok(())
    }
}

fn check_printable(text: &str) -> Result<(), Fault> {
    let mut blank = true;
    for scalar in text.chars() {
        if scalar.is_control() {
            return Err(Fault::ControlCharacter);
        }
        blank &= scalar.is_whitespace();
    }
    if blank { Err(Fault::Empty) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comment_texts() {
        fn check(input: &str, expected: Result<(), Fault>) {
            let built = CommentText::new(input, &CommentLimits::default());
            assert_eq!(
                built.map(|text| assert_eq!(text.as_str(), input)),
                expected,
                "{input:?}"
            );
        }
        check("hi", Ok(()));
        check("  padded ", Ok(()));
        check("👩‍👩‍👧‍👦", Ok(()));
        check(&"弾".repeat(200), Ok(()));
        check(&"弾".repeat(201), Err(Fault::TooManyScalars { max: 200 }));
        check(&"a".repeat(201), Err(Fault::TooManyScalars { max: 200 }));
        check("", Err(Fault::Empty));
        check(" \u{3000}\u{a0}", Err(Fault::Empty));
        for control in [
            "\0", "\n", "\t", "\r", "\u{1b}", "\u{7f}", "\u{80}", "\u{85}", "\u{9f}",
        ] {
            check(&format!("a{control}b"), Err(Fault::ControlCharacter));
        }
    }

    #[test]
    fn keys() {
        fn check(input: &str, expected: Result<(), Fault>) {
            let built = IdempotencyKey::new(input);
            assert_eq!(
                built.map(|key| assert_eq!(key.as_str(), input)),
                expected,
                "{input:?}"
            );
        }
        check("k", Ok(()));
        check(&"k".repeat(128), Ok(()));
        check(&"k".repeat(129), Err(Fault::TooManyBytes { max: 128 }));
        check("", Err(Fault::Empty));
        for bad in ["a b", "a\n", "é", "\u{7f}"] {
            check(bad, Err(Fault::ControlCharacter));
        }
    }

    #[test]
    fn users_and_names() {
        fn check(input: &str, user: Result<(), Fault>, name: Result<(), Fault>) {
            let limits = CommentLimits::default();
            assert_eq!(
                UserId::new(input, &limits).map(|id| assert_eq!(id.as_str(), input)),
                user,
                "{input:?}"
            );
            assert_eq!(
                DisplayName::new(input, &limits).map(|it| assert_eq!(it.as_str(), input)),
                name,
                "{input:?}"
            );
        }
        check("ann", Ok(()), Ok(()));
        check(&"é".repeat(32), Ok(()), Ok(()));
        check(
            &"é".repeat(33),
            Err(Fault::TooManyBytes { max: 64 }),
            Err(Fault::TooManyScalars { max: 32 }),
        );
        check("", Err(Fault::Empty), Err(Fault::Empty));
        check(
            "a\nb",
            Err(Fault::ControlCharacter),
            Err(Fault::ControlCharacter),
        );
    }
}
