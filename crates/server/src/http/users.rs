//! Owns exporting and erasing what one user posted, in all rooms.

use danmaku_auth::Principal;
use danmaku_log::{Entry, EntryBody, RoomLog};
use danmaku_wire::{RoomId, Seq, UserId};
use hyper::StatusCode;
use serde::Serialize;

use super::HttpResult;
use super::access;
use super::audit::{self, Action};
use super::error::{ApiError, held_json, json};
use super::pin;
use super::query::UserQuery;
use super::rooms::PAGE_BYTES_MAX;
use crate::admission::AddressPermit;
use crate::context::Context;
use crate::posting;
use crate::refusal::Refusal;

/// `GET /v1/users/{user}/comments`. The caller has checked that the client may do this.
pub(super) async fn export(
    context: &Context,
    permit: &AddressPermit,
    user: &str,
    query: &str,
) -> HttpResult {
    let user = user_id(context, user)?;
    let mut rooms = Rooms::after(UserQuery::parse(query)?.after);
    let mut json = b"{\"comments\":[".to_vec();
    let mut full = None;
    while let Some((room, log, since)) = rooms.next(context).await? {
        full = export_room(&user, &room, &log, since, &mut json).await?;
        if full.is_some() {
            break;
        }
    }
    if json.last() == Some(&b',') {
        json.pop();
    }
    json.push(b']');
    if let Some((room, id)) = full {
        let next = format!(r#","next":{{"after_room":"{room}","after_id":{id}}}"#);
        json.extend_from_slice(next.as_bytes());
    }
    json.push(b'}');
    let held = context.hold_answer(permit, json.len())?;
    Ok(held_json(json, held))
}

/// Adds a room's comments; where it ended if the response is full.
async fn export_room(
    user: &UserId,
    room: &RoomId,
    log: &RoomLog,
    since: Seq,
    json: &mut Vec<u8>,
) -> Result<Option<(RoomId, Seq)>, Refusal> {
    let mut since = since;
    loop {
        let page = log.read_after(since, ENTRIES_AT_ONCE).await?;
        for entry in &page.entries {
            let EntryBody::Comment { fragment, .. } = &entry.body else {
                continue;
            };
            if !fragment.is_by(user) {
                continue;
            }
            json.extend_from_slice(format!(r#"{{"room":"{room}","comment":"#).as_bytes());
            fragment.object_into(entry.seq, entry.at_ms, json);
            json.extend_from_slice(b"},");
            if json.len() > PAGE_BYTES_MAX {
                return Ok(Some((room.clone(), entry.seq)));
            }
        }
        if !page.more {
            return Ok(None);
        }
        since = page.seq;
    }
}

/// `DELETE /v1/users/{user}/comments`. The caller has checked that the client may do this.
pub(super) async fn erase(
    context: &Context,
    who: &Principal,
    user: &str,
    query: &str,
) -> HttpResult {
    let user = user_id(context, user)?;
    let audit = audit::entry(
        context,
        (query, access::name(who)),
        Action::Erase,
        None,
        user.as_str(),
    )?;
    let _inside = context.gate.enter().ok_or(Refusal::Stopping)?;
    let mut rooms = Rooms::after(None);
    let mut comments = 0;
    while let Some((room, log, mut since)) = rooms.next(context).await? {
        loop {
            let page = log.read_after(since, ENTRIES_AT_ONCE).await;
            let page = page.map_err(Refusal::from)?;
            let ids: Vec<_> = (page.entries.iter())
                .filter(|entry| is_by(entry, &user))
                .map(|entry| entry.seq)
                .collect();
            if !ids.is_empty() {
                posting::retract_all(&log, &ids, context.clock.now().unix_ms).await?;
                pin::retracted(context, &room, log.epoch(), &ids).await?;
                comments += ids.len();
            }
            if !page.more {
                break;
            }
            since = page.seq;
        }
    }
    context.log.records().drop_held(user.as_str()).await?;
    audit::record(context, audit).await?;
    Ok(json(StatusCode::OK, &Erased { comments }))
}

#[derive(Serialize)]
struct Erased {
    comments: usize,
}

fn is_by(entry: &Entry, user: &UserId) -> bool {
    matches!(&entry.body, EntryBody::Comment { fragment, .. } if fragment.is_by(user))
}

fn user_id(context: &Context, user: &str) -> Result<UserId, ApiError> {
    let max = context.comment_limits.user_bytes_max;
    UserId::new(user, &context.comment_limits).map_err(|_| ApiError::BadUserId { max })
}

/// All rooms, in order of their ids, a few at a time.
struct Rooms {
    listed: std::vec::IntoIter<RoomId>,
    last: Option<RoomId>,
    /// The first room, if a part of it was read before.
    first: Option<(RoomId, Seq)>,
}

impl Rooms {
    fn after(first: Option<(RoomId, Seq)>) -> Self {
        Self {
            listed: Vec::new().into_iter(),
            last: first.as_ref().map(|(room, _)| room.clone()),
            first,
        }
    }

    /// The next room's log, and the position to read it after.
    async fn next(&mut self, context: &Context) -> Result<Option<(RoomId, RoomLog, Seq)>, Refusal> {
        loop {
            let (id, since) = match self.first.take() {
                Some(first) => first,
                None => match self.listed.next() {
                    Some(id) => (id, Seq::ZERO),
                    None => {
                        let listed = context.all_rooms(self.last.as_ref()).await?;
                        let Some(last) = listed.last() else {
                            return Ok(None);
                        };
                        self.last = Some(last.clone());
                        self.listed = listed.into_iter();
                        continue;
                    }
                },
            };
            // It may have been forgotten meanwhile.
            if let Some(log) = context.find_log(&id).await? {
                return Ok(Some((id, log, since)));
            }
        }
    }
}

/// Entries read from a log at once.
const ENTRIES_AT_ONCE: usize = 1_000;
