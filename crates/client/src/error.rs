//! What can go wrong, one variant per cause.

use std::io;
use std::time::Duration;

use danmaku_wire::Encoding;

use crate::access::AccessError;
use crate::event::EventError;
use crate::unpack::UnpackError;

/// Why a call of this crate failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No TCP connection to the server.
    #[error("cannot connect to {address}: {source}")]
    Unreachable {
        /// `HOST:PORT` that was tried.
        address: String,
        /// The operating system's error.
        source: io::Error,
    },
    /// The server did not answer in time.
    #[error("no answer within {} ms", .0.as_millis())]
    Deadline(Duration),
    /// The server answered with an error.
    #[error("{0}")]
    Refused(Refusal),
    /// The response does not follow the protocol.
    #[error("not a danmaku server: {0}")]
    NotTheProtocol(&'static str),
    /// Server-Sent Events come plain or in `gzip`.
    #[error("server-sent events do not support the encoding `{0}`")]
    Encoding(Encoding),
    /// TLS cannot be set up.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// HTTP broke.
    #[error("http: {0}")]
    Http(#[from] hyper::Error),
    /// WebSocket framing broke, or its socket.
    #[error("websocket: {0}")]
    WebSocket(#[from] fastwebsockets::WebSocketError),
    /// A message from the server that does not follow the protocol.
    #[error("message from the server: {0}")]
    Event(#[from] EventError),
    /// A packed batch that cannot be unpacked.
    #[error("packed batch: {0}")]
    Unpack(#[from] UnpackError),
    /// The connection had ended before this call.
    #[error("the connection has ended")]
    Ended,
}

/// An answer of the server with an error status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The error's code, empty when the body was not the server's error shape.
    pub code: String,
    /// The error's message for humans.
    pub message: String,
    /// How long to wait before retrying, if the server said so.
    pub retry_after_ms: Option<u64>,
}

impl Refusal {
    /// Reads `{"error":{"code","message","retry_after_ms"}}`; any other body still gives the status.
    pub(crate) fn from_body(status: u16, body: &[u8]) -> Self {
        let shape = serde_json::from_slice::<ErrorBody>(body)
            .ok()
            .map(|body| body.error)
            .unwrap_or_default();
        Self {
            status,
            code: shape.code,
            message: shape.message,
            retry_after_ms: shape.retry_after_ms,
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "the server answered {}", self.status)?;
        if !self.code.is_empty() {
            write!(formatter, " {}: {}", self.code, self.message)?;
        }
        Ok(())
    }
}

#[derive(serde::Deserialize)]
struct ErrorBody {
    error: ErrorShape,
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct ErrorShape {
    code: String,
    message: String,
    retry_after_ms: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_error_reaches_the_caller() {
        let body =
            br#"{"error":{"code":"room_id_invalid","message":"a room id has 1 to 64 characters"}}"#;
        let refusal = Refusal::from_body(400, body);
        assert_eq!(refusal.code, "room_id_invalid");
        assert_eq!(
            ClientError::Refused(refusal).to_string(),
            "the server answered 400 room_id_invalid: a room id has 1 to 64 characters"
        );
    }

    #[test]
    fn any_other_body_still_gives_the_status() {
        let refusal = Refusal::from_body(502, b"<html>");
        assert_eq!(refusal.to_string(), "the server answered 502");
        assert_eq!(refusal.retry_after_ms, None);
    }
}
