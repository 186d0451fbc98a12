//! Owns the upgrade of a request to a viewer's connection (RFC 6455, 4.2).

use bytes::Bytes;
use danmaku_wire::{Dialect, RoomId};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION};
use hyper::{Request, Response, Version};

use super::Watch;
use super::error::ApiError;
use super::peer::Requester;
use super::query::JoinQuery;
use crate::context::Context;
use crate::refusal::Refusal;

/// `GET /v1/rooms/{room}/ws`: checks the handshake and makes its 101 answer. The room is made here, so that a room too
/// many is refused while there is still a status to say so.
pub(super) async fn upgrade(
    context: &Context,
    requester: Requester<'_>,
    room: &RoomId,
    mut request: Request<Incoming>,
) -> Result<(Response<Full<Bytes>>, Watch), ApiError> {
    let query = JoinQuery::parse(request.uri().query().unwrap_or(""))?;
    if request.version() != Version::HTTP_11 {
        return Err(ApiError::BadHttpVersion);
    }
    if !fastwebsockets::upgrade::is_upgrade_request(&request) {
        return Err(ApiError::UpgradeRequired);
    }
    let header = |name| request.headers().get(name).map(|value| value.as_bytes());
    if header(SEC_WEBSOCKET_VERSION) != Some(b"13") {
        return Err(ApiError::BadWebSocketVersion);
    }
    if !header(SEC_WEBSOCKET_KEY).is_some_and(is_key) {
        return Err(ApiError::BadWebSocketKey);
    }
    if context.gate.is_closed() {
        return Err(Refusal::Stopping.into());
    }
    let room = context.open_room(room).await?;
    // The socket is taken out of hyper after the answer, so the future that would wait for it is not needed.
    let (response, _) =
        fastwebsockets::upgrade::upgrade(&mut request).map_err(|_| ApiError::BadWebSocketKey)?;
    let (parts, _) = response.into_parts();
    let response = Response::from_parts(parts, Full::default());
    let watch = Watch {
        room,
        dialect: Dialect::web_socket(query.encoding),
        start: query.start,
        origin: context.config.allowed_origins.check(request.headers()),
        forwarded: requester.into_forwarded(),
    };
    Ok((response, watch))
}

/// 16 bytes in base64: 22 characters and two of padding.
fn is_key(key: &[u8]) -> bool {
    let base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.len() == 24 && key.ends_with(b"==") && key[..22].iter().all(base64)
}

#[cfg(test)]
mod tests {
    use super::is_key;

    #[test]
    fn keys_are_sixteen_bytes_in_base64() {
        assert!(is_key(b"dGhlIHNhbXBsZSBub25jZQ=="));
        for bad in [
            &b""[..],
            b"dGhlIHNhbXBsZSBub25jZQ",
            b"dGhlIHNhbXBsZSBub25jZ!==",
            b"dGhlIHNhbXBsZSBub25jZQ==dGhlIHNhbXBsZSBub25jZQ==",
        ] {
            assert!(!is_key(bad), "{}", bad.escape_ascii());
        }
    }
}
