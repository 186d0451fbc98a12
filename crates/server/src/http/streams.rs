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
    let mut stream = stream(&members, now_ms)?;
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

/// `PATCH /v1/rooms/{room}/streams/{id}`: says when it ended. The caller has checked that the client may do this.
pub(super) async fn end(
    context: &Arc<Context>,
    (permit, who): (&AddressPermit, &Principal),
    (room, id, query): (&RoomId, &str, &str),
    request: Request<Incoming>,
) -> HttpResult {
    let members = members(context, permit, request).await?;
    let _inside = context.gate.enter().ok_or(Refusal::Stopping)?;
    let now_ms = context.clock.now().unix_ms;
    let mut stream = find(context, room, id).await?;
    let end_ms = time(&members, "end")?.unwrap_or(now_ms);
    if end_ms < stream.start_ms {
        return Err(ApiError::BadStreamMember { member: "end" });
    }
    stream.end_ms = Some(end_ms);
    let change = Change::EndStream {
        room: room.as_str().to_owned(),
        id: stream.id,
        end_ms,
    };
    let audit = audit::entry(
        context,
        (query, access::name(who)),
        Action::EndStream,
        Some(room),
        id,
    )?;
    let ended = context.log.records().change(change, Some(audit)).await;
    ended.map_err(|error| match error {
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

fn stream(members: &Map<String, Value>, now_ms: u64) -> Result<Stream, ApiError> {
    let start_ms = time(members, "start")?.unwrap_or(now_ms);
    let end_ms = time(members, "end")?;
    if end_ms.is_some_and(|end_ms| end_ms < start_ms) {
        return Err(ApiError::BadStreamMember { member: "end" });
    }
    let title = match members.get("title") {
        None | Some(Value::Null) => "",
        Some(Value::String(title)) if is_title(title) => title,
        Some(_) => return Err(ApiError::BadStreamMember { member: "title" }),
    };
    Ok(Stream {
        id: 0,
        start_ms,
        end_ms,
        title: title.to_owned(),
    })
}

fn is_title(title: &str) -> bool {
    title.chars().count() <= TITLE_SCALARS_MAX && !title.chars().any(char::is_control)
}

fn time(members: &Map<String, Value>, member: &'static str) -> Result<Option<u64>, ApiError> {
    match members.get(member) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let time = value.as_u64().filter(|&time| time <= Seq::MAX.value());
            time.map(Some).ok_or(ApiError::BadStreamMember { member })
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies() {
        #[track_caller]
        fn check(body: &str, expected: Result<(u64, Option<u64>, &str), &str>) {
            let members = serde_json::from_str(body).unwrap();
            let found = stream(&members, 50);
            let found = match &found {
                Ok(stream) => Ok((stream.start_ms, stream.end_ms, &*stream.title)),
                Err(ApiError::BadStreamMember { member }) => Err(*member),
                Err(error) => panic!("{error}"),
            };
            assert_eq!(found, expected, "{body}");
        }
        check("{}", Ok((50, None, "")));
        check(
            r#"{"start":7,"end":9,"title":"弹","more":1}"#,
            Ok((7, Some(9), "弹")),
        );
        check(r#"{"start":null,"end":50}"#, Ok((50, Some(50), "")));
        check(r#"{"start":-1}"#, Err("start"));
        check(r#"{"start":"7"}"#, Err("start"));
        check(r#"{"start":9007199254740992}"#, Err("start"));
        check(r#"{"start":7,"end":6}"#, Err("end"));
        check(r#"{"title":7}"#, Err("title"));
        check(r#"{"title":"a\nb"}"#, Err("title"));
        let long = format!(r#"{{"title":"{}"}}"#, "x".repeat(TITLE_SCALARS_MAX + 1));
        check(&long, Err("title"));
    }
}
