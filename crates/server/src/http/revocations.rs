//! Owns the revocations of tokens over HTTP.

use danmaku_auth::Principal;
use danmaku_fanout::ShardMsg;
use danmaku_log::{Change, ChangeError, ChangeRefusal, Revocation, Revoked};
use danmaku_wire::CloseReason;
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
use super::query::RevocationsQuery;
use crate::admission::AddressPermit;
use crate::context::Context;
use crate::refusal::{RateScope, Refusal};

/// `POST /v1/revocations`. The caller has checked that the client may do this.
pub(super) async fn add(
    context: &Context,
    (permit, who): (&AddressPermit, &Principal),
    query: &str,
    request: Request<Incoming>,
) -> HttpResult {
    cors::check_media_type(request.headers())?;
    let (body, _held) = read_body(context, permit, request.into_body()).await?;
    let wanted = Wanted::parse(&body)?;
    let _inside = context.gate.enter().ok_or(Refusal::Stopping)?;
    let by = access::name(who);
    let target = match &wanted.revoked {
        Revoked::User(id) => id.clone(),
        Revoked::Token(id) => format!("token {id}"),
        Revoked::All => "everyone".to_owned(),
    };
    let entry = audit::entry(context, (query, by), Action::Revoke, None, &target)?;
    let now = context.clock.now();
    permit
        .try_post(now.monotonic, 1)
        .map_err(|refusal| Refusal::rate(RateScope::Address, refusal))?;
    let revocation = Revocation {
        id: 0,
        revoked: wanted.revoked,
        issued_before_ms: wanted.issued_before_ms,
        until_ms: wanted.until_ms,
        by: by.to_owned(),
        why: entry.why.clone(),
        at_ms: now.unix_ms,
    };
    let records = context.log.records();
    let id = records
        .change(Change::Revoke(revocation), Some(entry))
        .await?;
    context.auth.update_revocations(|| records.revocations());
    let closed = close_revoked(context).await;
    Ok(json(StatusCode::CREATED, &Added { id, closed }))
}

/// Closes connections whose tokens are revoked; how many.
async fn close_revoked(context: &Context) -> usize {
    let now_ms = context.clock.now().unix_ms;
    let is_revoked = |identity: &_| context.auth.is_revoked(identity, now_ms);
    let sessions = context.sessions.find(|it| is_revoked(&it.identity));
    // All of them before the first one, because closing takes a moment.
    sessions.iter().for_each(|session| session.end());
    for session in &sessions {
        let (conn, reason) = (session.conn, CloseReason::Unauthorized);
        let shard = context.fanout.shard_for(conn);
        shard.send(ShardMsg::Close { conn, reason }).await;
    }
    sessions.len()
}

/// `GET /v1/revocations`. The caller has checked that the client may do this.
pub(super) fn list(context: &Context, permit: &AddressPermit, query: &str) -> HttpResult {
    let RevocationsQuery { after, limit } = RevocationsQuery::parse(query)?;
    let kept = context.log.records().revocations();
    let now_ms = context.clock.now().unix_ms;
    let lasts = |it: &&Revocation| it.until_ms.is_none_or(|until_ms| now_ms < until_ms);
    let mut later = kept.iter().filter(|it| it.id > after).filter(lasts);
    let revocations: Vec<_> = later.by_ref().take(limit as usize).map(View::new).collect();
    let next = later.next().and(revocations.last()).map(|last| last.id);
    let page = List { revocations, next };
    let bytes = serde_json::to_vec(&page).expect("invariant: views have string keys only");
    let held = context.hold_answer(permit, bytes.len())?;
    Ok(held_json(bytes, held))
}

/// `DELETE /v1/revocations/{id}`. The caller has checked that the client may do this.
pub(super) async fn lift(context: &Context, who: &Principal, id: &str, query: &str) -> HttpResult {
    let _inside = context.gate.enter().ok_or(Refusal::Stopping)?;
    let id = id.parse().map_err(|_| ApiError::RevocationNotFound)?;
    let target = format!("revocation {id}");
    let by = (query, access::name(who));
    let entry = audit::entry(context, by, Action::LiftRevocation, None, &target)?;
    let records = context.log.records();
    let lifted = records.change(Change::LiftRevocation { id }, Some(entry));
    lifted.await.map_err(|error| match error {
        ChangeError::Refused(ChangeRefusal::NotFound) => ApiError::RevocationNotFound,
        error => error.into(),
    })?;
    context.auth.update_revocations(|| records.revocations());
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

#[derive(Serialize)]
struct Added {
    id: u64,
    /// Connections that are being closed.
    closed: usize,
}

#[derive(Serialize)]
struct List<'a> {
    revocations: Vec<View<'a>>,
    /// The `after` of the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
}

#[derive(Serialize)]
struct View<'a> {
    id: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    everyone: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_before: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<u64>,
    by: &'a str,
    why: &'a str,
    at: u64,
}

impl<'a> View<'a> {
    fn new(kept: &'a Revocation) -> Self {
        let (user, token, everyone) = match &kept.revoked {
            Revoked::User(id) => (Some(id.as_str()), None, None),
            Revoked::Token(id) => (None, Some(id.as_str()), None),
            Revoked::All => (None, None, Some(true)),
        };
        Self {
            id: kept.id,
            user,
            token,
            everyone,
            issued_before: kept.issued_before_ms,
            until: kept.until_ms,
            by: &kept.by,
            why: &kept.why,
            at: kept.at_ms,
        }
    }
}

/// What a request asks to revoke.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    revoked: Revoked,
    issued_before_ms: Option<u64>,
    until_ms: Option<u64>,
}

impl Wanted {
    fn parse(body: &[u8]) -> Result<Self, ApiError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Body {
            user: Option<String>,
            token: Option<String>,
            everyone: Option<bool>,
            issued_before: Option<u64>,
            until: Option<u64>,
        }
        let refuse = |problem: &str| ApiError::BadRevocation {
            problem: problem.to_owned(),
        };
        let body: Body =
            serde_json::from_slice(body).map_err(|error| refuse(&error.to_string()))?;
        let is_name = |name: &str| !name.is_empty() && name.len() <= NAME_BYTES_MAX;
        let revoked = match (body.user, body.token, body.everyone) {
            (Some(user), None, None) if is_name(&user) => Revoked::User(user),
            (None, Some(token), None) if is_name(&token) => Revoked::Token(token),
            (None, None, Some(true)) if body.issued_before.is_some() => Revoked::All,
            (None, None, Some(true)) => {
                return Err(refuse("`everyone` needs `issued_before`"));
            }
            _ => return Err(refuse("one of `user`, `token` and `everyone` is needed")),
        };
        let is_time = |ms: Option<u64>| ms.is_none_or(|ms| ms <= TIME_MS_MAX);
        if !is_time(body.issued_before) || !is_time(body.until) {
            return Err(refuse(
                "`issued_before` and `until` must be Unix times in milliseconds",
            ));
        }
        Ok(Self {
            revoked,
            issued_before_ms: body.issued_before,
            until_ms: body.until,
        })
    }
}

/// Longest id of a user or token that can be revoked; users' ids have at most 64 bytes.
const NAME_BYTES_MAX: usize = 256;

/// What a JSON number holds exactly.
const TIME_MS_MAX: u64 = (1 << 53) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies() {
        #[track_caller]
        fn check(body: &str, expected: Option<&Revoked>) {
            let wanted = Wanted::parse(body.as_bytes()).ok();
            let found = wanted.as_ref().map(|it| &it.revoked);
            assert_eq!(found, expected, "{body}");
        }
        check(r#"{"user":"u7"}"#, Some(&Revoked::User("u7".to_owned())));
        check(
            r#"{"token":"t1","until":1764000000000}"#,
            Some(&Revoked::Token("t1".to_owned())),
        );
        check(
            r#"{"everyone":true,"issued_before":1764000000000}"#,
            Some(&Revoked::All),
        );
        for bad in [
            "",
            "{}",
            "[]",
            r#"{"user":""}"#,
            r#"{"user":7}"#,
            r#"{"user":"a","token":"b"}"#,
            r#"{"everyone":true}"#,
            r#"{"everyone":false,"issued_before":1}"#,
            r#"{"user":"a","issued_before":-1}"#,
            r#"{"user":"a","issued_before":18446744073709551615}"#,
            r#"{"user":"a","jti":"b"}"#,
        ] {
            check(bad, None);
        }
        check(&format!(r#"{{"user":"{}"}}"#, "u".repeat(257)), None);
    }
}
