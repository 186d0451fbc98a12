//! Owns the streams of a room: when each began and ended, so that a recording can be shown with its video.

use std::sync::Arc;

use danmaku_auth::Principal;
use danmaku_log::{Change, ChangeError, ChangeRefusal, Stream};
use danmaku_wire::{RoomId, Seq};
use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use serde::Serialize;
use serde_json::{Map, Value};

use super::HttpResult;
use super::access;
use super::audit::{self, Action};
use super::body::read_body;
use super::cors;
use super::error::{ApiError, held_json, json};
use crate::admission::AddressPermit;
use crate::context::Context;
use crate::refusal::Refusal;

/// `GET /v1/rooms/{room}/streams`.
pub(super) async fn list(context: &Context, permit: &AddressPermit, room: &RoomId) -> HttpResult {
    let streams = context.log.records().streams(room).await;
    let streams = streams.map_err(Refusal::from)?;
    let streams = streams.iter().map(View::new).collect();
    let json = serde_json::to_vec(&List { streams })
        .expect("invariant: our responses have string keys only");
    let held = context.hold_answer(permit, json.len())?;
    Ok(held_json(json, held))
}

/// `POST /v1/rooms/{room}/streams`. The caller has checked that the client may do this.
pub(super) async fn begin(
    context: &Arc<Context>,
    (permit, who): (&AddressPermit, &Principal),
    (room, query): (&RoomId, &str),
    request: Request<Incoming>,
) -> HttpResult {
    let members = members(context, permit, request).await?;
    let _inside = context.gate.enter().ok_or(Refusal::Stopping)?;
    let now_ms = context.clock.now().unix_ms;
    let mut stream = changed(begun_at(now_ms), &members, now_ms)?;
    let change = Change::AddStream {
        room: room.as_str().to_owned(),
        stream: stream.clone(),
    };
    let audit = audit::entry(
        context,
        (query, access::name(who)),
        Action::BeginStream,
        Some(room),
        &stream.title,
    )?;
    stream.id = context.log.records().change(change, Some(audit)).await?;
    Ok(json(StatusCode::CREATED, &View::new(&stream)))
}

/// `PATCH /v1/rooms/{room}/streams/{id}`: says when it ended, or corrects it. The caller has checked that the client may do
/// this.
pub(super) async fn update(
    context: &Arc<Context>,
    (permit, who): (&AddressPermit, &Principal),
    (room, id, query): (&RoomId, &str, &str),
    request: Request<Incoming>,
) -> HttpResult {
    let members = members(context, permit, request).await?;
    let _inside = context.gate.enter().ok_or(Refusal::Stopping)?;
    let now_ms = context.clock.now().unix_ms;
    let stream = find(context, room, id).await?;
    if members.is_empty() {
        return Err(ApiError::EmptyStreamChange);
    }
    let stream = changed(stream, &members, now_ms)?;
    let change = Change::UpdateStream {
        room: room.as_str().to_owned(),
        stream: stream.clone(),
    };
    let action = if members.contains_key("end") {
        Action::EndStream
    } else {
        Action::UpdateStream
    };
    let audit = audit::entry(context, (query, access::name(who)), action, Some(room), id)?;
    let updated = context.log.records().change(change, Some(audit)).await;
    updated.map_err(|error| match error {
        ChangeError::Refused(ChangeRefusal::NotFound) => ApiError::StreamNotFound,
        error => error.into(),
    })?;
    Ok(json(StatusCode::OK, &View::new(&stream)))
}

/// The room's stream with this id.
///
/// # Errors
/// [`ApiError::BadStream`], [`ApiError::StreamNotFound`].
pub(super) async fn find(context: &Context, room: &RoomId, id: &str) -> Result<Stream, ApiError> {
    let id = super::query::digits(id).ok_or(ApiError::BadStream)?;
    let streams = context.log.records().streams(room).await;
    let mut streams = streams.map_err(Refusal::from)?.into_iter();
    let stream = streams.find(|stream| stream.id == id);
    stream.ok_or(ApiError::StreamNotFound)
}

/// The members of a body; none if there is no body.
async fn members(
    context: &Context,
    permit: &AddressPermit,
    request: Request<Incoming>,
) -> Result<Map<String, Value>, ApiError> {
    cors::check_media_type(request.headers())?;
    let (body, _held) = read_body(context, permit, request.into_body()).await?;
    if body.is_empty() {
        return Ok(Map::new());
    }
    serde_json::from_slice(&body).map_err(|_| ApiError::BadStreamBody)
}

/// A stream of which only the start is known.
fn begun_at(start_ms: u64) -> Stream {
    Stream {
        id: 0,
        start_ms,
        end_ms: None,
        title: String::new(),
    }
}

/// The stream with the members of a body. `null` leaves the start as it is, and takes the end and the title away.
fn changed(
    mut stream: Stream,
    members: &Map<String, Value>,
    now_ms: u64,
) -> Result<Stream, ApiError> {
    for (member, value) in members {
        match (&**member, value) {
            ("start", Value::Null) => {}
            ("start", value) => stream.start_ms = time("start", value)?,
            ("end", Value::Null) => stream.end_ms = None,
            ("end", Value::String(now)) if now == "now" => stream.end_ms = Some(now_ms),
            ("end", value) => stream.end_ms = Some(time("end", value)?),
            ("title", Value::Null) => stream.title.clear(),
            ("title", Value::String(title)) if is_title(title) => stream.title.clone_from(title),
            ("title", _) => return Err(ApiError::BadStreamMember { member: "title" }),
            (member, _) => {
                let member = member.chars().take(MEMBER_SCALARS_SHOWN).collect();
                return Err(ApiError::UnknownStreamMember { member });
            }
        }
    }
    if stream.end_ms.is_some_and(|end_ms| end_ms < stream.start_ms) {
        return Err(ApiError::BadStreamMember { member: "end" });
    }
    Ok(stream)
}

fn is_title(title: &str) -> bool {
    title.chars().count() <= TITLE_SCALARS_MAX && !title.chars().any(char::is_control)
}

fn time(member: &'static str, value: &Value) -> Result<u64, ApiError> {
    let time = value.as_u64().filter(|&time| time <= Seq::MAX.value());
    time.ok_or(ApiError::BadStreamMember { member })
}

#[derive(Serialize)]
struct List<'a> {
    streams: Vec<View<'a>>,
}

#[derive(Serialize)]
struct View<'a> {
    id: u64,
    start: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<u64>,
    #[serde(skip_serializing_if = "str::is_empty")]
    title: &'a str,
}

impl<'a> View<'a> {
    fn new(stream: &'a Stream) -> Self {
        Self {
            id: stream.id,
            start: stream.start_ms,
            end: stream.end_ms,
            title: &stream.title,
        }
    }
}

/// The longest title, in Unicode scalar values.
const TITLE_SCALARS_MAX: usize = 200;

/// How much of an unknown member's name an error repeats.
const MEMBER_SCALARS_SHOWN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies() {
        #[track_caller]
        fn check(body: &str, expected: Result<(u64, Option<u64>, &str), &str>) {
            let members = serde_json::from_str(body).unwrap();
            let before = Stream {
                end_ms: Some(60),
                title: "before".to_owned(),
                ..begun_at(50)
            };
            let found = changed(before, &members, 70);
            let found = match &found {
                Ok(stream) => Ok((stream.start_ms, stream.end_ms, &*stream.title)),
                Err(ApiError::BadStreamMember { member }) => Err(*member),
                Err(ApiError::UnknownStreamMember { member }) => Err(&**member),
                Err(error) => panic!("{error}"),
            };
            assert_eq!(found, expected, "{body}");
        }
        check("{}", Ok((50, Some(60), "before")));
        check(
            r#"{"start":7,"end":9,"title":"弹"}"#,
            Ok((7, Some(9), "弹")),
        );
        check(
            r#"{"start":null,"end":null,"title":null}"#,
            Ok((50, None, "")),
        );
        check(r#"{"end":"now"}"#, Ok((50, Some(70), "before")));
        check(r#"{"end":"soon"}"#, Err("end"));
        check(r#"{"name":"x"}"#, Err("name"));
        check(r#"{"start":-1}"#, Err("start"));
        check(r#"{"start":"7"}"#, Err("start"));
        check(r#"{"start":"now"}"#, Err("start"));
        check(r#"{"start":9007199254740992}"#, Err("start"));
        check(r#"{"start":61}"#, Err("end"));
        check(r#"{"start":7,"end":6}"#, Err("end"));
        check(r#"{"title":7}"#, Err("title"));
        check(r#"{"title":"a\nb"}"#, Err("title"));
        let long = format!(r#"{{"title":"{}"}}"#, "x".repeat(TITLE_SCALARS_MAX + 1));
        check(&long, Err("title"));
    }
}
