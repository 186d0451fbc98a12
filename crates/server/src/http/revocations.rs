//! Owns the revocations of tokens over HTTP.

use danmaku_auth::Principal;
use danmaku_fanout::ShardMsg;
use danmaku_log::{Change, ChangeError, ChangeRefusal, Revocation, Revoked};
use danmaku_wire::CloseReason;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use serde::Serialize;
use serde_json::{Map, Value};

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
    let wanted = Wanted::parse(&body, context.clock.now().unix_ms)?;
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
    fn parse(body: &[u8], now_ms: u64) -> Result<Self, ApiError> {
        let is_object = "the body must be a JSON object";
        let body: Map<String, Value> =
            serde_json::from_slice(body).map_err(|_| bad(None, is_object.to_owned()))?;
        let mut members = Members::default();
        for (name, value) in &body {
            let slot = match name.as_str() {
                "user" => &mut members.user,
                "token" => &mut members.token,
                "everyone" => &mut members.everyone,
                "issued_before" => &mut members.issued_before,
                "until" => &mut members.until,
                _ => return Err(bad(None, UNKNOWN_MEMBER.to_owned())),
            };
            *slot = Some(value).filter(|value| !value.is_null());
        }
        let issued_before_ms = time("issued_before", members.issued_before)?;
        let until_ms = time("until", members.until)?;
        if until_ms.is_some_and(|until_ms| until_ms <= now_ms) {
            return Err(bad(Some("until"), "`until` has passed".to_owned()));
        }
        let revoked = match (members.user, members.token, members.everyone) {
            (Some(user), None, None) => Revoked::User(id("user", user, USER_BYTES_MAX)?),
            (None, Some(token), None) => Revoked::Token(id("token", token, TOKEN_ID_BYTES_MAX)?),
            (None, None, Some(Value::Bool(true))) if issued_before_ms.is_some() => Revoked::All,
            (None, None, Some(Value::Bool(true))) => {
                let problem = "`everyone` needs `issued_before`".to_owned();
                return Err(bad(Some("issued_before"), problem));
            }
            (None, None, Some(_)) => {
                return Err(bad(Some("everyone"), "`everyone` must be true".to_owned()));
            }
            _ => {
                let problem = "one of `user`, `token` and `everyone` is needed".to_owned();
                return Err(bad(None, problem));
            }
        };
        Ok(Self {
            revoked,
            issued_before_ms,
            until_ms,
        })
    }
}

/// The known members of a body, unless they are null.
#[derive(Default)]
struct Members<'a> {
    user: Option<&'a Value>,
    token: Option<&'a Value>,
    everyone: Option<&'a Value>,
    issued_before: Option<&'a Value>,
    until: Option<&'a Value>,
}

fn id(field: &'static str, value: &Value, bytes_max: usize) -> Result<String, ApiError> {
    let is_id = |id: &&str| !id.is_empty() && id.len() <= bytes_max;
    let id = value.as_str().filter(is_id).ok_or_else(|| {
        let problem = format!("`{field}` must be a string of 1 to {bytes_max} bytes");
        bad(Some(field), problem)
    })?;
    Ok(id.to_owned())
}

fn time(field: &'static str, value: Option<&Value>) -> Result<Option<u64>, ApiError> {
    let Some(value) = value else { return Ok(None) };
    let ms = value.as_u64().filter(|&ms| ms <= TIME_MS_MAX);
    let problem = || format!("`{field}` must be a Unix time in milliseconds");
    ms.map(Some).ok_or_else(|| bad(Some(field), problem()))
}

fn bad(field: Option<&'static str>, problem: String) -> ApiError {
    ApiError::BadMember {
        code: "bad_revocation",
        field,
        index: None,
        problem,
    }
}

const UNKNOWN_MEMBER: &str =
    "the members are `user`, `token`, `everyone`, `issued_before` and `until`";

/// Longest id of a user, as in tokens.
const USER_BYTES_MAX: usize = 64;

/// Longest id of a token that can be revoked.
const TOKEN_ID_BYTES_MAX: usize = 256;

/// What a JSON number holds exactly.
const TIME_MS_MAX: u64 = (1 << 53) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies() {
        #[track_caller]
        fn check(body: &str, expected: &Revoked) {
            let wanted = Wanted::parse(body.as_bytes(), NOW_MS).unwrap();
            assert_eq!(&wanted.revoked, expected, "{body}");
        }
        check(r#"{"user":"u7"}"#, &Revoked::User("u7".to_owned()));
        check(
            r#"{"token":"t1","until":1764000000001}"#,
            &Revoked::Token("t1".to_owned()),
        );
        check(
            r#"{"user":null,"everyone":true,"issued_before":1764000000000}"#,
            &Revoked::All,
        );
    }

    #[test]
    fn bad_bodies() {
        #[track_caller]
        fn check(body: &str, field: Option<&str>, expected: &str) {
            let error = Wanted::parse(body.as_bytes(), NOW_MS).unwrap_err();
            let ApiError::BadMember {
                field: found,
                problem,
                ..
            } = &error
            else {
                panic!("{error:?}")
            };
            assert_eq!(*found, field, "{body}");
            assert!(problem.contains(expected), "{problem}");
        }
        check("", None, "a JSON object");
        check("[]", None, "a JSON object");
        check("{}", None, "one of");
        check(r#"{"user":"a","token":"b"}"#, None, "one of");
        check(r#"{"user":"a","jti":"b"}"#, None, "the members are");
        check(r#"{"user":""}"#, Some("user"), "1 to 64 bytes");
        check(r#"{"user":7}"#, Some("user"), "1 to 64 bytes");
        let long = format!(r#"{{"user":"{}"}}"#, "u".repeat(65));
        check(&long, Some("user"), "1 to 64 bytes");
        let long = format!(r#"{{"token":"{}"}}"#, "t".repeat(257));
        check(&long, Some("token"), "1 to 256 bytes");
        check(r#"{"everyone":true}"#, Some("issued_before"), "needs");
        let never = r#"{"everyone":false,"issued_before":1}"#;
        check(never, Some("everyone"), "must be true");
        for time in ["-1", "\"1\"", "1.5", "18446744073709551615"] {
            let body = format!(r#"{{"user":"a","issued_before":{time}}}"#);
            check(&body, Some("issued_before"), "a Unix time");
        }
        check(
            r#"{"user":"a","until":1764000000000}"#,
            Some("until"),
            "has passed",
        );
    }

    const NOW_MS: u64 = 1_764_000_000_000;
}
