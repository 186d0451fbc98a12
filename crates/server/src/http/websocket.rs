//! Owns the upgrade of a request to a viewer's connection (RFC 6455, 4.2).

use bytes::Bytes;
use danmaku_wire::{Dialect, RoomId};
use hyper::body::Incoming;
use hyper::header::{HeaderMap, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION};
use hyper::{Request, Version};

use super::error::ApiError;
use super::query::JoinQuery;
use super::{Asker, Watch, room_to_watch, viewer_identity};
use crate::context::Context;

/// `GET /v1/rooms/{room}/ws`: checks the handshake and builds the headers of the 101 response, which is written together
/// with the viewer's first messages. The room is created here, so that a refusal can still be an HTTP status.
pub(super) async fn upgrade(
    context: &Context,
    asker: Asker<'_>,
    room: &RoomId,
    mut request: Request<Incoming>,
) -> Result<Watch, ApiError> {
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
    let Asker {
        requester,
        principal,
        ..
    } = asker;
    let identity = viewer_identity(context, &principal, room)?;
    let room = room_to_watch(context, &requester, room).await?;
    // The socket is taken out of hyper, so nothing needs to wait for the upgrade.
    let (response, _) =
        fastwebsockets::upgrade::upgrade(&mut request).map_err(|_| ApiError::BadWebSocketKey)?;
    Ok(Watch {
        room,
        dialect: Dialect::web_socket(query.encoding),
        opening: head(response.headers()),
        start: query.start,
        identity,
        origin: context.config.allowed_origins.check(request.headers()),
        forwarded: requester.into_forwarded(),
    })
}

/// The response that turns the connection into a WebSocket (RFC 6455, 4.2.2).
fn head(headers: &HeaderMap) -> Bytes {
    let mut head = b"HTTP/1.1 101 Switching Protocols\r\n".to_vec();
    for (name, value) in headers {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head.into()
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
