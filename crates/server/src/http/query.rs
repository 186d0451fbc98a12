//! Owns the query parameters of the API.

use std::borrow::Cow;
use std::str::FromStr;

use danmaku_log::{AuditQuery, Steps};
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

/// The order of a list of comments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// The order of the log.
    Oldest,
    /// The reverse.
    Newest,
}

/// The query of a list of comments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CommentsQuery {
    /// The position to read after.
    pub since: Option<Since>,
    /// The last position to read.
    pub until: Option<Since>,
    /// The first log time to read, Unix time in milliseconds.
    pub from_ms: Option<u64>,
    /// The log time to read up to, which is not included.
    pub to_ms: Option<u64>,
    /// The order.
    pub order: Order,
    /// Maximum comments.
    pub limit: u32,
}

impl CommentsQuery {
    /// Ignores other parameters.
    ///
    /// # Errors
    /// [`ApiError`] names the invalid parameter.
    pub(super) fn parse(query: &str) -> Result<Self, ApiError> {
        let mut parsed = Self {
            since: None,
            until: None,
            from_ms: None,
            to_ms: None,
            order: Order::Oldest,
            limit: COMMENTS_LIMIT_DEFAULT,
        };
        for (key, value) in pairs(query) {
            match &*key {
                "since" => parsed.since = Some(since(&value).ok_or(ApiError::BadSince)?),
                "until" => parsed.until = Some(since(&value).ok_or(ApiError::BadUntil)?),
                "from" => parsed.from_ms = Some(unix_ms(&key, &value)?),
                "to" => parsed.to_ms = Some(unix_ms(&key, &value)?),
                "order" => {
                    parsed.order = match &*value {
                        "oldest" => Order::Oldest,
                        "newest" => Order::Newest,
                        _ => return Err(ApiError::BadOrder),
                    };
                }
                "limit" => parsed.limit = limit(&value, COMMENTS_LIMIT_MAX)?,
                _ => {}
            }
        }
        Ok(parsed)
    }

    /// Whether everything up to the newest is asked for.
    pub(super) fn is_open_ended(&self) -> bool {
        self.until.is_none() && self.to_ms.is_none()
    }
}

fn since(value: &str) -> Option<Since> {
    if let Some(seq) = digits(value) {
        return Some(Since::Seq(Seq::new(seq)));
    }
    Position::from_str(value).ok().map(Since::Position)
}

pub(super) fn unix_ms(key: &str, value: &str) -> Result<u64, ApiError> {
    digits(value)
        .filter(|&ms| ms <= Seq::MAX.value())
        .ok_or(ApiError::BadTime {
            field: match key {
                "to" => "to",
                "start" => "start",
                _ => "from",
            },
        })
}

/// Reads `from`, `to` and `step` of a room's figures. Without them: the last hour, by minutes.
///
/// # Errors
/// [`ApiError`] names the invalid parameter.
pub(super) fn steps(query: &str, now_ms: u64) -> Result<Steps, ApiError> {
    let (mut from_ms, mut to_ms, mut step_ms) = (None, now_ms, STEP_MS_DEFAULT);
    for (key, value) in pairs(query) {
        match &*key {
            "from" => from_ms = Some(unix_ms(&key, &value)?),
            "to" => to_ms = unix_ms(&key, &value)?,
            "step" => {
                let step = number(&value, STEP_MS_MIN, STEP_MS_MAX);
                step_ms = step.ok_or(ApiError::BadStep {
                    min: STEP_MS_MIN,
                    max: STEP_MS_MAX,
                })?;
            }
            _ => {}
        }
    }
    let from_ms = from_ms.unwrap_or(to_ms.saturating_sub(RANGE_MS_DEFAULT));
    if from_ms >= to_ms {
        return Err(ApiError::BadRange);
    }
    let steps = Steps {
        from_ms,
        to_ms,
        step_ms: step_ms.into(),
    };
    if steps.count() > STEPS_MAX {
        return Err(ApiError::TooManySteps { max: STEPS_MAX });
    }
    Ok(steps)
}

/// A number without a sign, which `parse` alone would accept.
pub(super) fn digits(value: &str) -> Option<u64> {
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    value.parse().ok().filter(|_| digits)
}

/// The query of one user's comments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UserQuery {
    /// The room and the position in it to start after.
    pub after: Option<(RoomId, Seq)>,
}

impl UserQuery {
    /// Reads `after_room` and `after_id`.
    ///
    /// # Errors
    /// [`ApiError`] names the invalid parameter.
    pub(super) fn parse(query: &str) -> Result<Self, ApiError> {
        let (mut room, mut id) = (None, Seq::ZERO);
        for (key, value) in pairs(query) {
            match &*key {
                "after_room" => {
                    room = Some(RoomId::parse(&value).map_err(|_| ApiError::BadAfter)?);
                }
                "after_id" => {
                    let given = digits(&value);
                    id = Seq::new(given.ok_or(ApiError::BadCommentId { field: "after_id" })?);
                }
                _ => {}
            }
        }
        Ok(Self {
            after: room.map(|room| (room, id)),
        })
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

/// The query of the list of revocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RevocationsQuery {
    /// The id to list after.
    pub after: u64,
    /// Maximum revocations.
    pub limit: u32,
}

impl RevocationsQuery {
    /// Reads `after` and `limit`; ignores other parameters.
    ///
    /// # Errors
    /// [`ApiError`] names the invalid parameter.
    pub(super) fn parse(query: &str) -> Result<Self, ApiError> {
        let mut parsed = Self {
            after: 0,
            limit: AUDIT_LIMIT_DEFAULT,
        };
        for (key, value) in pairs(query) {
            match &*key {
                "after" => parsed.after = digits(&value).ok_or(ApiError::BadAfterId)?,
                "limit" => parsed.limit = limit(&value, AUDIT_LIMIT_MAX)?,
                _ => {}
            }
        }
        Ok(parsed)
    }
}

/// Why somebody does something, for the audit trail; empty if they don't say.
///
/// # Errors
/// [`ApiError::BadWhy`].
pub(super) fn why(query: &str) -> Result<String, ApiError> {
    let why = pairs(query).filter(|(key, _)| key == "why").last();
    let why = why.map_or_else(String::new, |(_, why)| why.into_owned());
    if why.chars().nth(WHY_SCALARS_MAX).is_some() {
        return Err(ApiError::BadWhy {
            max: WHY_SCALARS_MAX,
        });
    }
    Ok(why)
}

/// Reads `room`, `user`, `before` and `limit` of the audit trail.
///
/// # Errors
/// [`ApiError`] names the invalid parameter.
pub(super) fn audit(query: &str) -> Result<AuditQuery, ApiError> {
    let mut parsed = AuditQuery {
        limit: AUDIT_LIMIT_DEFAULT,
        ..AuditQuery::default()
    };
    for (key, value) in pairs(query) {
        match &*key {
            "room" => {
                let room = RoomId::parse(&value).map_err(ApiError::BadRoomId)?;
                parsed.room = Some(room.as_str().to_owned());
            }
            "user" => parsed.user = Some(value.into_owned()),
            "before" => {
                let before = digits(&value).filter(|id| (1..=Seq::MAX.value()).contains(id));
                parsed.before = Some(before.ok_or(ApiError::BadBefore)?);
            }
            "limit" => parsed.limit = limit(&value, AUDIT_LIMIT_MAX)?,
            _ => {}
        }
    }
    Ok(parsed)
}

pub(super) fn pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    form_urlencoded::parse(query.as_bytes())
}

/// The query of a list of sanctions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SanctionsQuery {
    /// Only those against this user.
    pub user: Option<String>,
    /// The id to list after.
    pub after: u64,
    /// Maximum sanctions.
    pub limit: u32,
}

impl SanctionsQuery {
    /// Ignores other parameters.
    ///
    /// # Errors
    /// [`ApiError`] names the invalid parameter.
    pub(super) fn parse(query: &str) -> Result<Self, ApiError> {
        let mut parsed = Self {
            user: None,
            after: 0,
            limit: SANCTIONS_LIMIT_DEFAULT,
        };
        for (key, value) in pairs(query) {
            match &*key {
                "user" => parsed.user = Some(value.into_owned()),
                "after" => parsed.after = digits(&value).ok_or_else(bad_after)?,
                "limit" => parsed.limit = limit(&value, SANCTIONS_LIMIT_MAX)?,
                _ => {}
            }
        }
        Ok(parsed)
    }
}

fn bad_after() -> ApiError {
    ApiError::BadMember {
        code: "bad_after",
        field: None,
        index: None,
        problem: "`after` must be a number".to_owned(),
    }
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
/// Maximum Unicode scalar values of a reason.
const WHY_SCALARS_MAX: usize = 200;
/// Maximum entries of the audit trail in one response.
const AUDIT_LIMIT_MAX: u32 = 100;
const AUDIT_LIMIT_DEFAULT: u32 = 50;
/// Maximum sanctions in one response.
const SANCTIONS_LIMIT_MAX: u32 = 1_000;
const SANCTIONS_LIMIT_DEFAULT: u32 = 100;
/// The shortest step of a room's figures, in milliseconds.
const STEP_MS_MIN: u32 = 1_000;
/// The longest: a day.
const STEP_MS_MAX: u32 = 86_400_000;
const STEP_MS_DEFAULT: u32 = 60_000;
const RANGE_MS_DEFAULT: u64 = 3_600_000;
/// Maximum steps in one response; each is a search in the log.
const STEPS_MAX: u64 = 1_000;
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
        let all = CommentsQuery {
            since: None,
            until: None,
            from_ms: None,
            to_ms: None,
            order: Order::Oldest,
            limit: COMMENTS_LIMIT_DEFAULT,
        };
        check("", Ok(all));
        check("order=oldest&token=x", Ok(all));
        check(
            "since=5&until=7:9&from=10&to=20&order=newest&limit=7",
            Ok(CommentsQuery {
                since: Some(Since::Seq(Seq::new(5))),
                until: Some(Since::Position(Position {
                    epoch: Epoch::new(7),
                    seq: Seq::new(9),
                })),
                from_ms: Some(10),
                to_ms: Some(20),
                order: Order::Newest,
                limit: 7,
            }),
        );
        check("until=x", Err(ApiError::BadUntil));
        check("from=+1", Err(ApiError::BadTime { field: "from" }));
        check(
            "to=9007199254740992",
            Err(ApiError::BadTime { field: "to" }),
        );
        check("order=desc", Err(ApiError::BadOrder));
        check("since=x", Err(ApiError::BadSince));
        let max = COMMENTS_LIMIT_MAX;
        check("limit=0", Err(ApiError::BadLimit { max }));
        check("limit=1001", Err(ApiError::BadLimit { max }));
    }
    #[test]
    fn step_queries() {
        #[track_caller]
        fn check(query: &str, expected: Result<(u64, u64, u64), &str>) {
            let found = steps(query, 10_000_000);
            let found = found.map(|it| (it.from_ms, it.to_ms, it.step_ms));
            let found = found.as_ref().map_err(ApiError::code);
            assert_eq!(found, expected.as_ref().map_err(|it| *it), "{query}");
        }
        check("", Ok((6_400_000, 10_000_000, 60_000)));
        check("to=9", Ok((0, 9, 60_000)));
        check("from=5&to=2005&step=1000", Ok((5, 2_005, 1_000)));
        check("from=1&to=1000001&step=1000", Ok((1, 1_000_001, 1_000)));
        check("step=999", Err("bad_step"));
        check("step=-1000", Err("bad_step"));
        check("step=86400001", Err("bad_step"));
        check("from=x", Err("bad_time"));
        check("to=", Err("bad_time"));
        check("from=5&to=5", Err("bad_range"));
        check("from=10000001", Err("bad_range"));
        check("from=1&to=1000002&step=1000", Err("too_many_steps"));
        check("from=0&to=9007199254740991", Err("too_many_steps"));
    }
}
