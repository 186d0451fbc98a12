//! Owns who sent a request, and whether they may do what it asks for.

use std::borrow::Cow;

use danmaku_auth::{Action, Principal, ServerKeys};
use danmaku_wire::RoomId;
use hyper::header::{AUTHORIZATION, HeaderMap};

use super::error::ApiError;
use super::peer::Peer;
use super::query::pairs;
use super::{check_rate, cors};
use crate::admission::AddressPermit;
use crate::auth::{Author, Identity, NotValid};
use crate::context::Context;
use crate::refusal::Refusal;

/// Who sent the request, by its `Authorization` header or the `token` in its query, which cannot be a server key.
///
/// # Errors
/// [`Refusal::Unauthorized`]; [`Refusal::RateLimited`] if the address sends too many tokens that are not valid.
pub(super) async fn identify(
    context: &Context,
    permit: &AddressPermit,
    headers: &HeaderMap,
    query: &str,
) -> Result<Principal, Refusal> {
    let header = bearer(headers);
    let secret = header.map(Cow::from).or_else(|| {
        pairs(query)
            .find(|(name, value)| name == "token" && !value.is_empty())
            .map(|(_, value)| value)
    });
    // A server key lasts, and URLs end up in logs.
    let key_in_url = header.is_none() && secret.as_deref().is_some_and(ServerKeys::is_meant);
    let identified = if key_in_url {
        Err(NotValid)
    } else {
        let now_ms = context.clock.now().unix_ms;
        context.auth.identify(secret.as_deref(), now_ms).await
    };
    match identified {
        Ok(principal) => Ok(principal),
        Err(NotValid) => {
            // What is not valid costs as much to check as what is.
            check_rate(context, permit)?;
            Err(refused(context, Refusal::Unauthorized))
        }
    }
}

/// The token of an `Authorization` header (RFC 6750, section 2.1). Other schemes are between the client and a proxy.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, secret) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim())
}

/// # Errors
/// [`Refusal::Unauthorized`] or [`Refusal::Forbidden`], which is counted.
pub(super) fn check(
    context: &Context,
    principal: &Principal,
    room: &RoomId,
    action: Action,
) -> Result<(), Refusal> {
    let checked = context.auth.check(principal, room, action);
    checked.map_err(|denied| refused(context, denied.into()))
}

/// Whether the client may watch or read rooms at all: for the list of rooms.
///
/// # Errors
/// [`Refusal::Unauthorized`], which is counted.
pub(super) fn check_list(context: &Context, principal: &Principal) -> Result<(), Refusal> {
    match principal {
        Principal::Guest => {
            let checked = context.auth.check_guest(Action::Watch);
            checked.map_err(|denied| refused(context, denied.into()))
        }
        Principal::User(_) | Principal::Server(_) => Ok(()),
    }
}

/// Whether the client may moderate the room: by its token or key, or because it is on the server's own machine.
///
/// # Errors
/// [`ApiError::Forbidden`], or a refusal; the origin of a page must be allowed, too.
pub(super) fn check_moderator(
    context: &Context,
    (peer, principal): (&Peer<'_>, &Principal),
    room: &RoomId,
    headers: &HeaderMap,
) -> Result<(), ApiError> {
    cors::check_origin(context, headers)?;
    match principal {
        Principal::Guest => check_local(peer, headers),
        _ => Ok(check(context, principal, room, Action::Moderate)?),
    }
}

/// Whether the client may do what concerns all rooms: by its token or key, or because it is on the server's own machine.
///
/// # Errors
/// [`ApiError::Forbidden`], or a refusal; the origin of a page must be allowed, too.
pub(super) fn check_operator(
    context: &Context,
    (peer, principal): (&Peer<'_>, &Principal),
    headers: &HeaderMap,
) -> Result<(), ApiError> {
    cors::check_origin(context, headers)?;
    match principal {
        Principal::Guest => check_local(peer, headers),
        _ => {
            let checked = context.auth.check_operator(principal);
            Ok(checked.map_err(|denied| refused(context, denied.into()))?)
        }
    }
}

fn check_local(peer: &Peer<'_>, headers: &HeaderMap) -> Result<(), ApiError> {
    if peer.is_local(headers) {
        Ok(())
    } else {
        Err(ApiError::Forbidden)
    }
}

/// What the audit trail calls the principal. On the server's own machine, nobody has to say who they are.
pub(super) fn name(principal: &Principal) -> &str {
    match principal {
        Principal::Guest => "operator",
        Principal::User(user) => &user.id,
        Principal::Server(key) => &key.name,
    }
}

/// The user in `room`, if the principal is one.
///
/// # Errors
/// [`Refusal::Unauthorized`].
pub(super) fn identity(principal: &Principal, room: &RoomId) -> Result<Option<Identity>, Refusal> {
    match principal {
        Principal::User(user) => Ok(Some(Identity::of(user, room)?)),
        Principal::Guest | Principal::Server(_) => Ok(None),
    }
}

/// Whose comments the principal's are.
pub(super) fn author<'a>(principal: &'a Principal, identity: Option<&'a Identity>) -> Author<'a> {
    match (principal, identity) {
        (_, Some(identity)) => Author::User(identity),
        (Principal::Server(key), None) => Author::BackEnd(key),
        (Principal::Guest | Principal::User(_), None) => Author::Guest,
    }
}

fn refused(context: &Context, refusal: Refusal) -> Refusal {
    context.stats.inbound.refused(&refusal);
    refusal
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn bearer_tokens() {
        #[track_caller]
        fn check(value: &'static str, expected: Option<&str>) {
            let headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static(value))]);
            assert_eq!(bearer(&headers), expected, "{value}");
        }
        check("Bearer a.b.c", Some("a.b.c"));
        check("bearer  a", Some("a"));
        check("Bearer ", Some(""));
        check("Basic dTpw", None);
        check("Bearer", None);
        check("", None);
        assert_eq!(bearer(&HeaderMap::new()), None);
    }
}
