//! Owns the pull tier's answers: segments of a room, which caches may keep, and where the newest one is.

use danmaku_auth::Action;
use danmaku_wire::RoomId;
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, CONTENT_ENCODING, HeaderMap, HeaderValue, VARY};
use serde::Serialize;

use super::error::{ApiError, held_json, json};
use super::negotiation::{conditional, takes_gzip};
use super::peer::Requester;
use super::{HttpResult, room_to_watch};
use crate::admission::AddressPermit;
use crate::context::Context;
use crate::refusal::Refusal;
use crate::segments::{SegmentError, SegmentName};

/// `GET /v1/rooms/{room}/segments/{length_ms}/{n}`, with both numbers as written.
pub(super) async fn show(
    context: &Context,
    permit: &AddressPermit,
    room: &RoomId,
    (length_ms, n): (&str, &str),
    request: &HeaderMap,
) -> HttpResult {
    let stats = &context.stats.pull;
    let shown = find(context, permit, room, (length_ms, n), request).await;
    let (mut response, max_age_s) = match shown {
        Ok(response) => {
            match response.status() {
                StatusCode::NOT_MODIFIED => stats.not_modified.add(1),
                _ => stats.served.add(1),
            }
            (response, context.config.segment_max_age_s)
        }
        Err(error) => {
            let max_age_s = match error {
                ApiError::SegmentNotReady { .. } => {
                    stats.not_ready.add(1);
                    SOON_S
                }
                ApiError::SegmentGone => {
                    stats.gone.add(1);
                    GONE_S
                }
                ApiError::RoomNotFound => SOON_S,
                error => return Err(error),
            };
            (error.response(), max_age_s)
        }
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, max_age(context, max_age_s));
    headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    Ok(response)
}

async fn find(
    context: &Context,
    permit: &AddressPermit,
    room: &RoomId,
    (length_ms, n): (&str, &str),
    request: &HeaderMap,
) -> HttpResult {
    let name = segment_name(context.segments.length_ms(), length_ms, n)?;
    let room = context.registry.find(room).ok_or(ApiError::RoomNotFound)?;
    let now = context.clock.now();
    room.pulls().asked(now.monotonic);
    let segment = context.segments.segment(&room, name, now.unix_ms).await;
    let segment = segment.map_err(|error| match error {
        SegmentError::NotReady { retry_after_ms } => ApiError::SegmentNotReady { retry_after_ms },
        SegmentError::Gone => ApiError::SegmentGone,
        SegmentError::Unavailable(error) => Refusal::from(error).into(),
    })?;
    if context.segments.is_recent(name, now.unix_ms) {
        room.pulls().served(now.monotonic);
    }
    let (bytes, coding) = if takes_gzip(request) {
        (segment.gzip(), "-gzip")
    } else {
        (segment.json(), "")
    };
    let held = context.hold_answer(permit, bytes.len())?;
    let mut response = held_json(bytes.clone(), held);
    if !coding.is_empty() {
        let gzip = HeaderValue::from_static("gzip");
        response.headers_mut().insert(CONTENT_ENCODING, gzip);
    }
    let etag = format!("\"{}{coding}\"", segment.tag());
    let etag = HeaderValue::try_from(etag).expect("invariant: numbers are visible ASCII");
    Ok(conditional(response, etag, request))
}

/// `GET /v1/rooms/{room}/segments/head`. Creates the room, so that a viewer who only pulls can be its first.
pub(super) async fn head(
    context: &Context,
    requester: &Requester<'_>,
    room: &RoomId,
) -> HttpResult {
    let room = room_to_watch(context, requester, room).await?;
    let now = context.clock.now();
    room.pulls().asked(now.monotonic);
    let newest = context.segments.newest(room.log(), now.unix_ms).await;
    let (name, seq) = newest.map_err(Refusal::from)?;
    context.stats.pull.heads.add(1);
    let view = room.view(now.monotonic);
    let mut response = json(
        StatusCode::OK,
        &Head {
            room: room.id().as_str(),
            epoch: view.epoch.value(),
            length_ms: context.segments.length_ms(),
            n: name.n(),
            seq: seq.value(),
            now: now.unix_ms,
            viewers: view.viewers,
            likes: view.likes,
        },
    );
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, max_age(context, SOON_S));
    Ok(response)
}

#[derive(Serialize)]
struct Head<'a> {
    room: &'a str,
    epoch: u64,
    length_ms: u64,
    /// The newest complete segment.
    n: u64,
    /// The last position up to its end.
    seq: u64,
    /// The server's clock, Unix time in milliseconds.
    now: u64,
    viewers: u32,
    likes: u64,
}

/// A segment's name from a path. Each has one spelling, so that caches keep it once.
fn segment_name(served_ms: u64, length_ms: &str, n: &str) -> Result<SegmentName, ApiError> {
    if canonical(length_ms) != Some(served_ms) {
        return Err(ApiError::BadSegmentLength {
            length_ms: served_ms,
        });
    }
    canonical(n)
        .and_then(|n| SegmentName::new(n, served_ms))
        .ok_or(ApiError::BadSegment)
}

fn canonical(digits: &str) -> Option<u64> {
    let number: u64 = digits.parse().ok()?;
    (number.to_string() == digits).then_some(number)
}

/// How long an answer may be kept: by everybody, or where guests may not watch, only by whom it was sent to.
fn max_age(context: &Context, max_age_s: u32) -> HeaderValue {
    let whom = match context.auth.check_guest(Action::Watch) {
        Ok(()) => "public",
        Err(_) => "private",
    };
    HeaderValue::try_from(format!("{whom}, max-age={max_age_s}"))
        .expect("invariant: a number is visible ASCII")
}

/// How long what changes by itself may be cached, in seconds.
const SOON_S: u32 = 1;

/// How long it may be cached that a segment is gone, in seconds. It does not come back in the same epoch.
const GONE_S: u32 = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_has_one_name() {
        #[track_caller]
        fn check(length_ms: &str, n: &str, expected: Result<u64, &str>) {
            let name = segment_name(2_000, length_ms, n);
            let name = name.as_ref().map(|name| name.n()).map_err(ApiError::code);
            assert_eq!(name, expected, "{length_ms}/{n}");
        }
        check("2000", "0", Ok(0));
        check("2000", "882000002", Ok(882_000_002));
        for length_ms in ["1000", "02000", "+2000", "", "2e3"] {
            check(length_ms, "1", Err("bad_segment_length"));
        }
        for n in [
            "",
            "01",
            "+1",
            "-1",
            "x",
            "1.0",
            "18446744073709551615",
            "9007199254740991",
        ] {
            check("2000", n, Err("bad_segment"));
        }
    }
}
