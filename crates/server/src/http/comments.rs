//! Owns posting, reading and retracting comments over HTTP.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use danmaku_auth::{Action, Principal};
use danmaku_log::{Appended, EntryBody, Page, RoomLog, Unavailable};
use danmaku_wire::{Epoch, IdempotencyKey, Posted, RoomId, Seq, parse_posted};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::{Request, Response, StatusCode};

use super::HttpResult;
use super::access;
use super::audit;
use super::body::read_body;
use super::cors;
use super::error::{ApiError, held_json, raw_json};
use super::held;
use super::pin;
use super::query::{CommentsQuery, Order, Since};
use super::rooms::PAGE_BYTES_MAX;
use super::route;
use crate::admission::AddressPermit;
use crate::context::Context;
use crate::idempotency::Accepted;
use crate::posting::{self, Poster, Retracted, Target};
use crate::refusal::{RateScope, Refusal};

/// `POST /v1/rooms/{room}/comments`.
pub(super) async fn post(
    context: &Arc<Context>,
    (permit, principal): (&AddressPermit, &Principal),
    room: &RoomId,
    request: Request<Incoming>,
) -> HttpResult {
    cors::check_origin(context, request.headers())?;
    cors::check_media_type(request.headers())?;
    access::check(context, principal, room, Action::Post)?;
    let identity = access::identity(principal, room)?;
    let author = access::author(principal, identity.as_ref());
    let poster = Poster { permit, author };
    let key = idempotency_key(request.headers())?;
    let (mut body, _held) = read_body(context, permit, request.into_body()).await?;
    // Only now: shutdown waits for posts in progress, not for bodies.
    let _inside = context.gate.enter().ok_or(Refusal::Stopping)?;
    // The parser unescapes in place.
    let posted = parse_posted(&mut body, &context.comment_limits).map_err(|error| {
        let refusal = Refusal::BadInput {
            index: error.index,
            problem: error.problem,
        };
        context.stats.inbound.refused(&refusal);
        refusal
    })?;
    let target = Target::Named(room);
    let (mut comments, to_json): (_, fn(&Appended) -> String) = match posted {
        Posted::One(comment) => (vec![comment], id_json),
        Posted::Many(comments) => (comments, ids_json),
    };
    comments.iter_mut().for_each(|comment| author.sign(comment));
    let accepted = posting::post(context, poster, target, &comments, key).await?;
    let (status, json) = match accepted {
        Accepted::Posted(appended) => (StatusCode::CREATED, to_json(&appended)),
        Accepted::Held(id) => (StatusCode::ACCEPTED, format!(r#"{{"held":{id}}}"#)),
    };
    Ok(raw_json(status, Bytes::from(json)))
}

/// `GET /v1/rooms/{room}/comments`.
pub(super) async fn list(
    context: &Context,
    permit: &AddressPermit,
    room: &RoomId,
    query: &str,
) -> HttpResult {
    let query = CommentsQuery::parse(query)?;
    let log = context.find_log(room).await?;
    let log = log.ok_or(ApiError::RoomNotFound)?;
    let (since, mut page) = read(&log, &query).await.map_err(Refusal::from)?;
    let bytes = fit(&mut page, query.order);
    // Read from the newest, what is missing below is the next page.
    let since = match query.order {
        Order::Oldest => since,
        Order::Newest => page.after,
    };
    let held = context.hold_answer(permit, bytes)?;
    Ok(held_json(page_json(log.epoch(), since, &page, bytes), held))
}

/// The requested page, and the position it was requested after.
async fn read(log: &RoomLog, query: &CommentsQuery) -> Result<(Seq, Page), Unavailable> {
    let (head, epoch) = (log.head(), log.epoch());
    // A position of another epoch means nothing here: everything is new.
    let position = |at, otherwise: Seq| match at {
        Some(Since::Seq(seq)) => seq.min(head),
        Some(Since::Position(position)) if position.epoch == epoch => position.seq.min(head),
        Some(Since::Position(_)) | None => otherwise,
    };
    let mut since = position(query.since, Seq::ZERO);
    let mut until = position(query.until, head);
    if let Some(from_ms) = query.from_ms {
        since = since.max(log.last_before(from_ms).await?);
    }
    if let Some(to_ms) = query.to_ms {
        until = until.min(log.last_before(to_ms).await?);
    }
    let limit = query.limit as usize;
    let page = match query.order {
        _ if until <= since => Page {
            after: since,
            seq: since,
            entries: Vec::new(),
            more: false,
        },
        Order::Oldest => {
            let mut page = log.read_after(since, limit).await?;
            if page.seq >= until && !query.is_open_ended() {
                page.entries.retain(|entry| entry.seq <= until);
                page.seq = until.max(page.after);
                page.more = false;
            }
            page
        }
        Order::Newest => log.read_down(until, since, limit).await?,
    };
    Ok((since, page))
}

/// `DELETE /v1/rooms/{room}/comments/{id}`. The caller has checked that the client may do this.
pub(super) async fn retract(
    context: &Arc<Context>,
    (permit, who): (&AddressPermit, &Principal),
    room: &RoomId,
    id: &str,
    query: &str,
) -> HttpResult {
    let id = route::comment_id(id)?;
    let target = id.value().to_string();
    let audit = audit::entry(
        context,
        (query, access::name(who)),
        audit::Action::Retract,
        Some(room),
        &target,
    )?;
    let _inside = context.gate.enter().ok_or(Refusal::Stopping)?;
    let log = context.find_log(room).await?;
    let log = log.ok_or(ApiError::RoomNotFound)?;
    let now = context.clock.now();
    let retracted = async {
        permit
            .try_post(now.monotonic, 1)
            .map_err(|refusal| Refusal::rate(RateScope::Address, refusal))?;
        posting::retract(&log, id, now.unix_ms).await
    };
    let retracted = retracted
        .await
        .inspect_err(|refusal| context.stats.inbound.refused(refusal))?;
    match retracted {
        Retracted::Done => {
            audit::record(context, audit).await?;
            pin::retracted(context, room, log.epoch(), &[id]).await?;
            held::retracted(context, room, id).await?;
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::NO_CONTENT;
            Ok(response)
        }
        Retracted::NoSuchComment => Err(ApiError::CommentNotFound),
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, ApiError> {
    headers
        .get("idempotency-key")
        .map(|value| {
            let key = value.to_str().map_err(|_| ApiError::BadIdempotencyKey)?;
            IdempotencyKey::new(key).map_err(|_| ApiError::BadIdempotencyKey)
        })
        .transpose()
}

fn id_json(appended: &Appended) -> String {
    // One comment has one position.
    let id = appended.seqs.first().copied().unwrap_or(Seq::ZERO);
    format!(r#"{{"epoch":{},"id":{id}}}"#, appended.epoch)
}

fn ids_json(appended: &Appended) -> String {
    let mut json = format!(r#"{{"epoch":{},"ids":["#, appended.epoch);
    for (index, seq) in appended.seqs.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let _ = write!(json, "{comma}{seq}");
    }
    json.push_str("]}");
    json
}

/// Cuts a page to what fits into one response, but keeps at least one entry. Returns an upper bound of the response's
/// bytes.
fn fit(page: &mut Page, order: Order) -> usize {
    let mut bytes = PAGE_HEAD_BYTES_MAX;
    for (index, entry) in page.entries.iter().enumerate() {
        let next = entry.body.bytes() + ENTRY_HEAD_BYTES_MAX;
        if index > 0 && bytes + next > PAGE_BYTES_MAX {
            let last = page.entries[index - 1].seq;
            match order {
                Order::Oldest => page.seq = last,
                Order::Newest => page.after = last.previous(),
            }
            page.more = true;
            page.entries.truncate(index);
            break;
        }
        bytes += next;
    }
    bytes
}

/// The fragments are already JSON: they are joined, not encoded again.
fn page_json(epoch: Epoch, since: Seq, page: &Page, bytes_max: usize) -> Vec<u8> {
    let Page {
        after, seq, more, ..
    } = page;
    let mut json = String::with_capacity(bytes_max);
    let _ = write!(
        json,
        r#"{{"epoch":{epoch},"after":{after},"seq":{seq},"more":{more}"#
    );
    if *after > since {
        let _ = write!(json, r#","gap":{{"after":{since},"seq":{after}}}"#);
    }
    json.push_str(r#","comments":["#);
    let mut json = json.into_bytes();
    let mut events = Vec::new();
    let mut comma: &[u8] = b"";
    for entry in &page.entries {
        match &entry.body {
            EntryBody::Comment { fragment, .. } => {
                json.extend_from_slice(comma);
                fragment.object_into(entry.seq, entry.at_ms, &mut json);
                comma = b",";
            }
            EntryBody::Event(event) => {
                events.extend_from_slice(if events.is_empty() { b"" } else { b"," });
                event.logged_object_into(entry.seq, entry.at_ms, &mut events);
            }
        }
    }
    json.push(b']');
    if !events.is_empty() {
        json.extend_from_slice(b",\"events\":[");
        json.extend_from_slice(&events);
        json.push(b']');
    }
    json.push(b'}');
    json
}

/// Bytes around the entries of a page: names and seven numbers of at most 20 digits.
const PAGE_HEAD_BYTES_MAX: usize = 256;

/// Bytes around an entry's own members: `{"id":…,"ts":…,` with two numbers, `}` and `,`.
const ENTRY_HEAD_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use danmaku_log::Entry;
    use danmaku_wire::{Comment, CommentLimits, CommentText, Event};

    use super::*;

    fn comment(seq: u64, text: &str) -> Entry {
        let text = CommentText::new(text, &CommentLimits::default()).unwrap();
        let comment = Comment::new(text);
        entry(
            seq,
            EntryBody::Comment {
                fragment: comment.fragment(),
                priority: comment.priority(),
            },
        )
    }

    fn entry(seq: u64, body: EntryBody) -> Entry {
        Entry {
            seq: Seq::new(seq),
            at_ms: u64::MAX,
            body,
        }
    }

    fn page(entries: Vec<Entry>) -> Page {
        Page {
            after: Seq::ZERO,
            seq: entries.last().unwrap().seq,
            more: false,
            entries,
        }
    }

    #[test]
    fn a_page_is_cut_to_what_fits_and_never_empty() {
        let top = Seq::MAX.value() - 2_000;
        let text = "\u{10FFFF}".repeat(200);
        let mut long = page((0..2_000).map(|n| comment(top + n, &text)).collect());
        let bytes = fit(&mut long, Order::Oldest);
        assert!(bytes <= PAGE_BYTES_MAX && long.more);
        assert!(long.entries.len() > 250, "{}", long.entries.len());
        assert_eq!(long.seq, long.entries.last().unwrap().seq);
        let json = page_json(Epoch::new(u64::MAX >> 11), Seq::ZERO, &long, bytes);
        assert!(json.len() <= bytes && json.capacity() == bytes);

        let mut short = page(vec![comment(top, "x")]);
        assert!(fit(&mut short, Order::Oldest) < 400 && !short.more);

        let ids: Vec<_> = (0..100_000).map(|n| Seq::new(top + n % 9)).collect();
        let event = EntryBody::Event(Event::Retract { ids: ids.into() });
        let mut large = page(vec![entry(top, event), comment(top + 1, "x")]);
        let bytes = fit(&mut large, Order::Oldest);
        assert_eq!((large.entries.len(), large.more), (1, true));
        assert!(page_json(Epoch::new(1), Seq::ZERO, &large, bytes).len() <= bytes);
    }
}
