//! The opening handshake by hand: one request written, one response read, nothing kept.

use danmaku_wire::Encoding;

use crate::quoted::quoted;

/// The example key and its accept value of RFC 6455 section 1.3. A constant key is fine here: it guards against caching
/// proxies, and with it the answer is verified without hashing it ten thousand times.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// What a server must answer to [`KEY`].
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Largest response head that is waited for.
const HEAD_BYTES_MAX: usize = 8 << 10;

/// Writes the request of a viewer of `room` into `out`; `since` is the epoch and position to resume from.
pub(crate) fn write_request(
    authority: &str,
    room: &str,
    encoding: Encoding,
    since: Option<(u64, u64)>,
    out: &mut Vec<u8>,
) {
    out.clear();
    let since = since.map_or_else(String::new, |(epoch, seq)| format!("&since={epoch}:{seq}"));
    for part in [
        "GET /v1/rooms/",
        room,
        "/ws?encoding=",
        encoding.as_str(),
        &since,
        " HTTP/1.1\r\nHost: ",
        authority,
        "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ",
        KEY,
        "\r\n\r\n",
    ] {
        out.extend_from_slice(part.as_bytes());
    }
}

/// What a response head says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The head is not whole yet.
    Partial,
    /// The connection is a WebSocket from this byte on.
    Upgraded(usize),
    /// The server refused, in its words.
    Refused(String),
}

/// Reads a response head at the start of `input`.
pub(crate) fn read_answer(input: &[u8]) -> Answer {
    let Some(end) = input.windows(4).position(|window| window == b"\r\n\r\n") else {
        let too_long = input.len() > HEAD_BYTES_MAX;
        return if too_long {
            Answer::Refused("a response head over 8 KiB".to_owned())
        } else {
            Answer::Partial
        };
    };
    let head = String::from_utf8_lossy(&input[..end]);
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap_or_default();
    if !status.starts_with("HTTP/1.1 101") {
        return Answer::Refused(refusal(status, &input[end + 4..]));
    }
    let accepted = lines
        .filter_map(|line| line.split_once(':'))
        .any(|(name, value)| {
            name.eq_ignore_ascii_case("sec-websocket-accept") && value.trim() == ACCEPT
        });
    if accepted {
        Answer::Upgraded(end + 4)
    } else {
        Answer::Refused("an upgrade with the wrong Sec-WebSocket-Accept".to_owned())
    }
}

/// `503 too_many_connections` when the body has the server's error shape, the status line otherwise.
fn refusal(status: &str, body: &[u8]) -> String {
    let status = status.strip_prefix("HTTP/1.1 ").unwrap_or(status);
    let code = serde_json::from_slice::<serde_json::Value>(body)
        .ok()
        .and_then(|body| Some(body.get("error")?.get("code")?.as_str()?.to_owned()));
    match code {
        // The commonest surprise of all: the server's own protection against one address.
        Some(code) if code == "too_many_connections" => format!(
            "{} (see the server's --connections-per-address-max)",
            quoted(&format!("{status}: {code}"))
        ),
        Some(code) => quoted(&format!("{status}: {code}")),
        // Whoever takes the request for something else is not the server that was meant.
        None if status.starts_with(['2', '3']) => quoted(&format!(
            "{status} instead of a WebSocket: is this a danmaku server?"
        )),
        None => quoted(status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_is_what_rfc_6455_asks_for() {
        let mut request = Vec::new();
        write_request(
            "127.0.0.1:8080",
            "load-0",
            Encoding::Gzip,
            None,
            &mut request,
        );
        let text = String::from_utf8(request).unwrap();
        assert!(
            text.starts_with("GET /v1/rooms/load-0/ws?encoding=gzip HTTP/1.1\r\n"),
            "{text}"
        );
        assert!(
            text.contains("\r\nHost: 127.0.0.1:8080\r\n") && text.ends_with("\r\n\r\n"),
            "{text}"
        );
    }

    #[test]
    fn an_answer_is_taken_only_when_whole_and_verified() {
        let head =
            format!("HTTP/1.1 101 Switching Protocols\r\nSEC-WebSocket-Accept: {ACCEPT}\r\n\r\n");
        let mut bytes = head.clone().into_bytes();
        bytes.extend_from_slice(b"\x81\x00");
        assert_eq!(read_answer(&bytes[..head.len() - 1]), Answer::Partial);
        assert_eq!(read_answer(&bytes), Answer::Upgraded(head.len()));
        let wrong = head.replace(ACCEPT, "bm90IGl0");
        assert!(matches!(read_answer(wrong.as_bytes()), Answer::Refused(_)));
        assert!(matches!(
            read_answer(&[b'x'; HEAD_BYTES_MAX + 1]),
            Answer::Refused(_)
        ));
    }

    #[test]
    fn a_refusal_keeps_the_servers_code() {
        let body = r#"{"error":{"code":"too_many_connections","message":"m"}}"#;
        let bytes = format!("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 9\r\n\r\n{body}");
        let expected = "503 Service Unavailable: too_many_connections \
            (see the server's --connections-per-address-max)"
            .to_owned();
        assert_eq!(read_answer(bytes.as_bytes()), Answer::Refused(expected));
        assert_eq!(
            read_answer(b"HTTP/1.1 404 Not Found\r\n\r\n"),
            Answer::Refused("404 Not Found".to_owned())
        );
    }

    #[test]
    fn a_refusal_cannot_write_to_the_terminal() {
        let body = r#"{"error":{"code":"x\u001b[31m\nPASS: good"}}"#;
        let bytes = format!("HTTP/1.1 503 \x1b[2J\r\n\r\n{body}");
        let expected = r"503 \u{1b}[2J: x\u{1b}[31m\u{a}PASS: good".to_owned();
        assert_eq!(read_answer(bytes.as_bytes()), Answer::Refused(expected));
    }
}
