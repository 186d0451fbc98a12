//! Owns the request for a stream of Server-Sent Events (WHATWG HTML, section 9.2).

use std::str::FromStr;

use danmaku_wire::{Dialect, Position, RoomId};
use hyper::Request;
use hyper::header::{ACCEPT_ENCODING, HeaderMap};

use super::error::ApiError;
use super::peer::Requester;
use super::{Watch, query, room_to_watch};
use crate::context::Context;

/// `GET /v1/rooms/{room}/events`. The viewer's shard writes the response, headers included.
pub(super) async fn watch<B>(
    context: &Context,
    requester: Requester<'_>,
    room: &RoomId,
    request: &Request<B>,
) -> Result<Watch, ApiError> {
    let mut start = query::start(request.uri().query().unwrap_or(""))?;
    let last_event_id = request.headers().get("last-event-id");
    // An empty id comes from a stream that has had none (WHATWG HTML, section 9.2.4).
    if let Some(id) = last_event_id.filter(|id| !id.is_empty()) {
        // When a browser reconnects, its latest position counts, not the one in its URL.
        let position = id.to_str().ok().and_then(|id| Position::from_str(id).ok());
        start.since = Some(position.ok_or(ApiError::BadLastEventId)?);
    }
    let dialect = if takes_gzip(request.headers()) {
        Dialect::SseGzip
    } else {
        Dialect::SseIdentity
    };
    Ok(Watch {
        room: room_to_watch(context, &requester, room).await?,
        dialect,
        opening: dialect.opening().unwrap_or_default(),
        start,
        // An event stream cannot post.
        origin: Ok(()),
        forwarded: requester.into_forwarded(),
    })
}

/// Whether the peer accepts gzip (RFC 9110, section 12.5.3): named with a weight that is not 0, or covered by `*`.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let mut named = None;
    let mut any = None;
    for value in headers.get_all(ACCEPT_ENCODING) {
        for item in value.to_str().unwrap_or("").split(',') {
            let mut parts = item.split(';').map(str::trim);
            let coding = parts.next().unwrap_or("");
            let refused = parts
                .filter_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")))
                .any(|weight| weight.parse() == Ok(0.0));
            if coding.eq_ignore_ascii_case("gzip") || coding.eq_ignore_ascii_case("x-gzip") {
                named = Some(!refused);
            } else if coding == "*" {
                any = Some(!refused);
            }
        }
    }
    named.or(any).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_sent_if_accepted() {
        fn check(accept: Option<&str>, expected: bool) {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(ACCEPT_ENCODING, accept.parse().unwrap());
            }
            assert_eq!(takes_gzip(&headers), expected, "{accept:?}");
        }
        check(None, false);
        check(Some(""), false);
        check(Some("gzip"), true);
        check(Some("br, GZIP;q=0.5"), true);
        check(Some("deflate, br"), false);
        check(Some("gzip;q=0"), false);
        check(Some("gzip;Q=0"), false);
        check(Some("gzip; q=0.000, *"), false);
        check(Some("*"), true);
        check(Some("br, *;q=0"), false);
    }
}
