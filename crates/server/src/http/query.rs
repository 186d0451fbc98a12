//! Owns the query parameters of the API.

use std::borrow::Cow;
use std::str::FromStr;

use danmaku_wire::{Encoding, Position, RoomId, Seq};

use super::error::ApiError;
use crate::replay::Start;

/// The query of a WebSocket URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct JoinQuery {
    /// How batches are encoded.
    pub encoding: Encoding,
    /// Where the viewer starts.
    pub start: Start,
}

impl JoinQuery {
    /// Reads `encoding`, `support_gzip`, `since` and `history`; ignores other
    /// parameters.
    ///
    /// # Errors
    /// [`ApiError`] names the invalid parameter.
    pub(super) fn parse(query: &str) -> Result<Self, ApiError> {
        let mut encoding = None;
        let mut gzip = false;
        let mut start = Start::default();
        for (key, value) in pairs(query) {
            match &*key {
                "encoding" => {
                    encoding = Some(Encoding::from_str(&value).map_err(|_| ApiError::BadEncoding)?);
                }
                "support_gzip" => gzip = value == "1",
                _ => read_start(&mut start, &key, &value)?,
            }
        }
        let fallback = if gzip {
            Encoding::Gzip
        } else {
            Encoding::Identity
        };
        Ok(Self {
            encoding: encoding.unwrap_or(fallback),
            start,
        })
    }
}

/// Reads `since` and `history`, which every way of watching accepts; ignores other parameters.
///
/// # Errors
/// [`ApiError`] names the invalid parameter.
pub(super) fn start(query: &str) -> Result<Start, ApiError> {
    let mut start = Start::default();
    for (key, value) in pairs(query) {
        read_start(&mut start, &key, &value)?;
    }
    Ok(start)
}

fn read_start(start: &mut Start, key: &str, value: &str) -> Result<(), ApiError> {
    match key {
        "since" => {
            start.since = Some(Position::from_str(value).map_err(|_| ApiError::BadSince)?);
        }
        "history" => {
            let max = HISTORY_COMMENTS_MAX;
            start.history = number(value, 0, max).ok_or(ApiError::BadHistory { max })?;
        }
        _ => {}
    }
    Ok(())
}

/// Where a list of comments starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Since {
    /// A bare `seq`, in the room's current epoch.
    Seq(Seq),
    /// A position.
    Position(Position),
}

/// The query of a list of comments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CommentsQuery {
    /// The position to read after.
    pub since: Since,
    /// Maximum comments.
    pub limit: u32,
}

impl CommentsQuery {
    /// Reads `since` and `limit`.
    ///
    /// # Errors
    /// [`ApiError`] names the invalid parameter.
    pub(super) fn parse(query: &str) -> Result<Self, ApiError> {
        let mut parsed = Self {
            since: Since::Seq(Seq::ZERO),
            limit: COMMENTS_LIMIT_DEFAULT,
        };
        for (key, value) in pairs(query) {
            match &*key {
                "since" => {
                    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
                    parsed.since = match value.parse::<u64>() {
                        Ok(seq) if digits => Since::Seq(Seq::new(seq)),
                        _ => Since::Position(
                            Position::from_str(&value).map_err(|_| ApiError::BadSince)?,
                        ),
                    };
                }
                "limit" => parsed.limit = limit(&value, COMMENTS_LIMIT_MAX)?,
                _ => {}
            }
        }
        Ok(parsed)
    }
}

/// The query of the list of rooms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RoomsQuery {
    /// The room id to start after.
    pub after: Option<RoomId>,
    /// Maximum rooms.
    pub limit: u32,
}

impl RoomsQuery {
    /// Reads `after` and `limit`.
    ///
    /// # Errors
    /// [`ApiError`] names the invalid parameter.
    pub(super) fn parse(query: &str) -> Result<Self, ApiError> {
        let mut parsed = Self {
            after: None,
            limit: ROOMS_LIMIT_DEFAULT,
        };
        for (key, value) in pairs(query) {
            match &*key {
                "after" => {
                    parsed.after = Some(RoomId::parse(&value).map_err(|_| ApiError::BadAfter)?);
                }
                "limit" => parsed.limit = limit(&value, ROOMS_LIMIT_MAX)?,
                _ => {}
            }
        }
        Ok(parsed)
    }
}

fn pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    form_urlencoded::parse(query.as_bytes())
}

fn number(value: &str, min: u32, max: u32) -> Option<u32> {
    // `parse` would also accept a sign.
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    let number = value.parse().ok().filter(|_| digits)?;
    (min..=max).contains(&number).then_some(number)
}

fn limit(value: &str, max: u32) -> Result<u32, ApiError> {
    number(value, 1, max).ok_or(ApiError::BadLimit { max })
}

/// Maximum comments a viewer can request on join.
const HISTORY_COMMENTS_MAX: u32 = 500;
/// Maximum comments in one response.
const COMMENTS_LIMIT_MAX: u32 = 1_000;
const COMMENTS_LIMIT_DEFAULT: u32 = 100;
/// Maximum rooms in one response.
const ROOMS_LIMIT_MAX: u32 = 10_000;
const ROOMS_LIMIT_DEFAULT: u32 = 1_000;

#[cfg(test)]
mod tests {
    use danmaku_wire::Epoch;

    use super::*;

    type Expected = Result<(Encoding, Option<(u64, u64)>, u32), ApiError>;

    fn check(query: &str, expected: Expected) {
        let expected = expected.map(|(encoding, since, history)| JoinQuery {
            encoding,
            start: Start {
                since: since.map(|(epoch, seq)| Position {
                    epoch: Epoch::new(epoch),
                    seq: Seq::new(seq),
                }),
                history,
            },
        });
        assert_eq!(JoinQuery::parse(query), expected, "{query}");
    }

    #[test]
    fn join_queries() {
        check("", Ok((Encoding::Identity, None, 0)));
        check("support_gzip=1", Ok((Encoding::Gzip, None, 0)));
        check("support_gzip=0", Ok((Encoding::Identity, None, 0)));
        check(
            "encoding=deflate&support_gzip=1&token=x",
            Ok((Encoding::Deflate, None, 0)),
        );
        check(
            "since=7%3A12&history=50",
            Ok((Encoding::Identity, Some((7, 12)), 50)),
        );
        check("encoding=br", Err(ApiError::BadEncoding));
        check("since=12", Err(ApiError::BadSince));
        check("since=a:b", Err(ApiError::BadSince));
        let bad_history = ApiError::BadHistory {
            max: HISTORY_COMMENTS_MAX,
        };
        check("history=501", Err(bad_history.clone()));
        check("history=-1", Err(bad_history));
    }

    #[test]
    fn comment_queries() {
        let check = |query, expected| assert_eq!(CommentsQuery::parse(query), expected, "{query}");
        let page = |since, limit| Ok(CommentsQuery { since, limit });
        check("", page(Since::Seq(Seq::ZERO), COMMENTS_LIMIT_DEFAULT));
        check("since=5&limit=7", page(Since::Seq(Seq::new(5)), 7));
        check("since=x", Err(ApiError::BadSince));
        let max = COMMENTS_LIMIT_MAX;
        check("limit=0", Err(ApiError::BadLimit { max }));
        check("limit=1001", Err(ApiError::BadLimit { max }));
    }
}
