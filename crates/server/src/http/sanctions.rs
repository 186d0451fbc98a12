//! Owns sanctions over HTTP: imposing, listing and lifting them, in a room or everywhere.

use std::net::IpAddr;

use danmaku_auth::Principal;
use danmaku_engine::admission::AddressKey;
use danmaku_log::{Change, ChangeError, ChangeRefusal, Sanction, SanctionKind, Subject};
use danmaku_wire::{RoomId, UserId};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use serde::{Deserialize, Serialize};

use super::HttpResult;
use super::access;
use super::audit::{self, Action};
use super::body::read_body;
use super::cors;
use super::error::{ApiError, held_json, json};
use super::query::SanctionsQuery;
use crate::admission::AddressPermit;
use crate::context::Context;
use crate::moderation::address_subject;
use crate::refusal::{RateScope, Refusal};

/// `POST /v1/rooms/{room}/sanctions` and `POST /v1/sanctions`. The caller has checked that the client may do this.
pub(super) async fn impose(
    context: &Context,
    (permit, who): (&AddressPermit, &Principal),
    room: Option<&RoomId>,
    query: &str,
    request: Request<Incoming>,
) -> HttpResult {
    cors::check_media_type(request.headers())?;
    let (body, _held) = read_body(context, permit, request.into_body()).await?;
    let wanted = Wanted::parse(context, &body)?;
    let action = match wanted.kind {
        SanctionKind::Timeout => Action::Timeout,
        SanctionKind::Ban | SanctionKind::ShadowBan => Action::Ban,
    };
    let audit = audit::entry(
        context,
        (query, access::name(who)),
        action,
        room,
        text(&wanted.subject),
    )?;
    let mut sanction = Sanction {
        id: 0,
        room: room.map(|room| room.as_str().to_owned()),
        subject: wanted.subject,
        kind: wanted.kind,
        until_ms: (wanted.duration_s).map(|seconds| audit.at_ms + u64::from(seconds) * 1_000),
        by: audit.who.clone(),
        why: audit.why.clone(),
        at_ms: audit.at_ms,
    };
    let _inside = context.gate.enter().ok_or(Refusal::Stopping)?;
    charge(context, permit)?;
    let change = Change::Sanction(sanction.clone());
    sanction.id = context.log.records().change(change, Some(audit)).await?;
    Ok(json(StatusCode::CREATED, &View::of(&sanction)))
}

/// `GET` of the same: those in force, by id. The caller has checked that the client may do this.
pub(super) fn list(
    context: &Context,
    permit: &AddressPermit,
    room: Option<&RoomId>,
    query: &str,
) -> HttpResult {
    let query = SanctionsQuery::parse(query)?;
    let records = context.log.records();
    let known = match room {
        Some(room) => records.of_room(room),
        None => records.of_all_rooms(),
    };
    let known = known.unwrap_or_default();
    let now_ms = context.clock.now().unix_ms;
    let user = query.user.map(Subject::User);
    let mut found: Vec<_> = known
        .all_sanctions(now_ms)
        .filter(|sanction| sanction.id > query.after)
        .filter(|sanction| user.as_ref().is_none_or(|user| sanction.subject == *user))
        .collect();
    found.sort_unstable_by_key(|sanction| sanction.id);
    let more = found.len() > query.limit as usize;
    found.truncate(query.limit as usize);
    let page = Page {
        next: more.then(|| found.last()).flatten().map(|last| last.id),
        sanctions: found.into_iter().map(View::of).collect(),
    };
    let json = serde_json::to_vec(&page).expect("invariant: sanctions have string keys only");
    let held = context.hold_answer(permit, json.len())?;
    Ok(held_json(json, held))
}

/// `DELETE …/{id}`. The caller has checked that the client may do this.
pub(super) async fn lift(
    context: &Context,
    (permit, who): (&AddressPermit, &Principal),
    room: Option<&RoomId>,
    id: &str,
    query: &str,
) -> HttpResult {
    let records = context.log.records();
    let known = match room {
        Some(room) => records.of_room(room),
        None => records.of_all_rooms(),
    };
    let known = known.unwrap_or_default();
    let now_ms = context.clock.now().unix_ms;
    let sanction = (known.all_sanctions(now_ms)).find(|sanction| sanction.id.to_string() == id);
    let Sanction { id, subject, .. } = sanction.ok_or(ApiError::SanctionNotFound)?;
    let audit = audit::entry(
        context,
        (query, access::name(who)),
        Action::Lift,
        room,
        text(subject),
    )?;
    let _inside = context.gate.enter().ok_or(Refusal::Stopping)?;
    charge(context, permit)?;
    let room = room.map(|room| room.as_str().to_owned());
    let change = Change::LiftSanction { room, id: *id };
    let lifted = records.change(change, Some(audit)).await;
    lifted.map_err(|error| match error {
        ChangeError::Refused(ChangeRefusal::NotFound) => ApiError::SanctionNotFound,
        other => other.into(),
    })?;
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

fn charge(context: &Context, permit: &AddressPermit) -> Result<(), Refusal> {
    let now = context.clock.now().monotonic;
    permit
        .try_post(now, 1)
        .map_err(|refusal| Refusal::rate(RateScope::Address, refusal))
        .inspect_err(|refusal| context.stats.inbound.refused(refusal))
}

#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    kind: SanctionKind,
    subject: Subject,
    duration_s: Option<u32>,
}

/// The body as sent. Members are checked one by one, so that a refusal can name the one that is wrong.
#[derive(Deserialize)]
struct Body {
    kind: Option<serde_json::Value>,
    user: Option<serde_json::Value>,
    address: Option<serde_json::Value>,
    duration_s: Option<serde_json::Value>,
}

impl Wanted {
    fn parse(context: &Context, body: &[u8]) -> Result<Self, ApiError> {
        let user_bytes_max = context.comment_limits.user_bytes_max;
        let body: Body = serde_json::from_slice(body)
            .map_err(|_| bad(None, "the body must be a JSON object".to_owned()))?;
        let kind = match body.kind.as_ref().and_then(serde_json::Value::as_str) {
            Some("timeout") => SanctionKind::Timeout,
            Some("ban") => SanctionKind::Ban,
            _ => {
                return Err(bad(
                    Some("kind"),
                    "`kind` must be timeout or ban".to_owned(),
                ));
            }
        };
        let subject = match (&body.user, &body.address) {
            (Some(user), None) => {
                let user = user.as_str().unwrap_or("");
                let user = UserId::new(user, &context.comment_limits).map_err(|_| {
                    let problem = format!("`user` must be a string of 1 to {user_bytes_max} bytes");
                    bad(Some("user"), problem)
                })?;
                Subject::User(user.as_str().to_owned())
            }
            (None, Some(address)) => {
                let parsed = address
                    .as_str()
                    .and_then(|text| text.parse::<IpAddr>().ok());
                let address = parsed.ok_or_else(|| {
                    bad(
                        Some("address"),
                        "`address` must be an IP address".to_owned(),
                    )
                })?;
                address_subject(AddressKey::of(address))
            }
            _ => {
                let problem = "either `user` or `address` must be there".to_owned();
                return Err(bad(Some("user"), problem));
            }
        };
        let max = u64::from(DURATION_S_MAX);
        let duration_s = match (&body.duration_s, kind) {
            (None, SanctionKind::Ban) => None,
            (duration, _) => {
                let seconds = duration.as_ref().and_then(serde_json::Value::as_u64);
                let seconds = seconds.filter(|seconds| (1..=max).contains(seconds));
                let seconds = seconds.and_then(|seconds| u32::try_from(seconds).ok());
                Some(seconds.ok_or_else(|| {
                    let problem = format!("`duration_s` must be a number from 1 to {max}");
                    bad(Some("duration_s"), problem)
                })?)
            }
        };
        Ok(Self {
            kind,
            subject,
            duration_s,
        })
    }
}

/// The subject in the audit trail, where a user is found by the bare id.
fn text(subject: &Subject) -> &str {
    match subject {
        Subject::User(text) | Subject::Address(text) => text,
    }
}

fn bad(field: Option<&'static str>, problem: String) -> ApiError {
    ApiError::BadMember {
        code: "bad_sanction",
        field,
        index: None,
        problem,
    }
}

#[derive(Serialize)]
struct Page<'a> {
    sanctions: Vec<View<'a>>,
    /// The `after` of the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
}

#[derive(Serialize)]
struct View<'a> {
    id: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    room: Option<&'a str>,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<&'a str>,
    ts: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<u64>,
    by: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    why: &'a str,
}

impl<'a> View<'a> {
    fn of(sanction: &'a Sanction) -> Self {
        let (user, address) = match &sanction.subject {
            Subject::User(user) => (Some(user.as_str()), None),
            Subject::Address(address) => (None, Some(address.as_str())),
        };
        Self {
            id: sanction.id,
            room: sanction.room.as_deref(),
            kind: match sanction.kind {
                SanctionKind::Timeout => "timeout",
                SanctionKind::Ban => "ban",
                SanctionKind::ShadowBan => "shadow_ban",
            },
            user,
            address,
            ts: sanction.at_ms,
            until: sanction.until_ms,
            by: &sanction.by,
            why: &sanction.why,
        }
    }
}

/// The longest timeout: 14 days.
const DURATION_S_MAX: u32 = 14 * 24 * 3_600;
