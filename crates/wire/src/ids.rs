//! Names and numbers: a room, an epoch of its positions, and a place in it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::limits::ROOM_ID_BYTES_MAX;

/// The largest integer every JSON reader keeps exactly (2^53 - 1: ECMAScript's `Number.MAX_SAFE_INTEGER`).
const JSON_INTEGER_MAX: u64 = (1 << 53) - 1;

/// Names a room: 1 to 64 of `A-Z a-z 0-9 _ - . :`, so that it needs no escaping in a URL, a log subject or JSON. `.` and `..`
/// are none: URLs resolve them away.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomId(Arc<str>);

impl RoomId {
    /// Takes a room id as it stands in a URL.
    ///
    /// # Errors
    /// When it is empty, too long, holds any other character, or is `.` or `..`.
    pub fn parse(id: &str) -> Result<Self, RoomIdError> {
        if id.is_empty() {
            return Err(RoomIdError::Empty);
        }
        if id.len() > ROOM_ID_BYTES_MAX {
            return Err(RoomIdError::TooLong);
        }
        let allowed =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b':');
        if !id.bytes().all(allowed) {
            return Err(RoomIdError::Character);
        }
        if matches!(id, "." | "..") {
            return Err(RoomIdError::Dots);
        }
        Ok(Self(id.into()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RoomId {
    type Err = RoomIdError;

    fn from_str(id: &str) -> Result<Self, Self::Err> {
        Self::parse(id)
    }
}

impl fmt::Display for RoomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a room id is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RoomIdError {
    /// It has no characters.
    #[error("a room id must not be empty")]
    Empty,
    /// It is longer than [`ROOM_ID_BYTES_MAX`].
    #[error("a room id has at most {ROOM_ID_BYTES_MAX} characters")]
    TooLong,
    /// It holds a character outside of the allowed set.
    #[error("a room id holds only A-Z a-z 0-9 _ - . :")]
    Character,
    /// It is `.` or `..` (RFC 3986, section 5.2.4).
    #[error("a room id must not be `.` or `..`: URLs resolve them away")]
    Dots,
}

/// Names one run of a room's positions. Positions of different epochs cannot be compared.
///
/// It is the Unix time in milliseconds at which the epoch began, which JSON readers keep exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(u64);

impl Epoch {
    /// The epoch `value`.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The number behind the name.
    #[must_use]
    pub const fn value(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A place in a room's log inside of one epoch. Entries have increasing places, from 1 on, which may leave holes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Seq(u64);

impl Seq {
    /// The place before the first entry.
    pub const ZERO: Self = Self(0);

    /// The last place there can be: JSON readers keep integers exactly up to here.
    pub const MAX: Self = Self(JSON_INTEGER_MAX);

    /// The place `value`.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The number of this place.
    #[must_use]
    pub const fn value(self) -> u64 {
        self.0
    }

    /// The place right after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        self.plus(1)
    }

    /// The place right before this one; [`Seq::ZERO`] stays where it is.
    #[must_use]
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// The place `count` further on.
    #[must_use]
    pub const fn plus(self, count: u64) -> Self {
        Self(self.0.saturating_add(count))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A place in a room's history that stays unambiguous when the room begins a new epoch: written `epoch:seq`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    /// Which epoch.
    pub epoch: Epoch,
    /// The place in it.
    pub seq: Seq,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.seq)
    }
}

impl FromStr for Position {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (epoch, seq) = text.split_once(':').ok_or(PositionError)?;
        Ok(Self {
            epoch: Epoch(json_integer(epoch)?),
            seq: Seq(json_integer(seq)?),
        })
    }
}

/// A position is not two decimal integers below 2^53 with a colon between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a position is written epoch:seq, two integers")]
pub struct PositionError;

fn json_integer(digits: &str) -> Result<u64, PositionError> {
    // `u64::from_str` would also take a leading plus sign.
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(PositionError);
    }
    digits
        .parse()
        .ok()
        .filter(|&value| value <= JSON_INTEGER_MAX)
        .ok_or(PositionError)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_ids() {
        fn check(input: &str, expected: Result<(), RoomIdError>) {
            assert_eq!(
                RoomId::parse(input).map(|id| assert_eq!(id.as_str(), input)),
                expected,
                "{input:?}"
            );
        }
        check("a", Ok(()));
        check("AZaz09_-.:", Ok(()));
        check(&"r".repeat(64), Ok(()));
        check("...", Ok(()));
        check(".", Err(RoomIdError::Dots));
        check("..", Err(RoomIdError::Dots));
        check(&"r".repeat(65), Err(RoomIdError::TooLong));
        check("", Err(RoomIdError::Empty));
        check("a b", Err(RoomIdError::Character));
        check("a/b", Err(RoomIdError::Character));
        check("房间", Err(RoomIdError::Character));
        check("a\0", Err(RoomIdError::Character));
    }

    #[test]
    fn positions() {
        fn check(input: &str, expected: Option<(u64, u64)>) {
            let parsed = input.parse::<Position>().ok();
            assert_eq!(
                parsed.map(|at| (at.epoch.value(), at.seq.value())),
                expected,
                "{input:?}"
            );
            if let Some(at) = parsed {
                assert_eq!(at.to_string(), input);
            }
        }
        check("1700000000000:42", Some((1_700_000_000_000, 42)));
        check("0:0", Some((0, 0)));
        check(
            "9007199254740991:9007199254740991",
            Some(((1 << 53) - 1, (1 << 53) - 1)),
        );
        check("9007199254740992:1", None);
        check("1:18446744073709551616", None);
        for bad in [
            "", ":", "1", "1:", ":1", "+1:1", "1:-1", "1:1:1", " 1:1", "1: 1", "a:b", "１:1",
        ] {
            check(bad, None);
        }
    }
}
