//! A hand-written handshake: one request, one response head, no state kept.

use danmaku_client::ServerAddress;
use danmaku_wire::{Dialect, Protocol};

use crate::quoted::quoted;

/// The example key and its accept value of RFC 6455 section 1.3. A constant key is fine here: it guards against caching
/// proxies, and with it the answer is verified without hashing it ten thousand times.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// What a server must answer to [`KEY`].
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Largest response head that is waited for.
const HEAD_BYTES_MAX: usize = 8 << 10;

/// The head of a gzip member without extras (RFC 1952 section 2.3), with which a packed event stream begins.
const GZIP_HEAD_START: [u8; 4] = [0x1F, 0x8B, 8, 0];
const GZIP_HEAD_BYTES: usize = 10;

/// What a viewer asks for.
pub(crate) struct Ask<'a> {
    pub(crate) server: &'a ServerAddress,
    pub(crate) room: &'a str,
    pub(crate) dialect: Dialect,
    pub(crate) from: From,
}

/// Where a viewer's stream begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// With what comes next.
    Now,
    /// After an epoch's position.
    Since(u64, u64),
    /// With so many of the latest comments.
    History(u32),
}

/// Writes a viewer's request into `out`; `headers` adds some of the operator's.
pub(crate) fn write_request(ask: &Ask<'_>, headers: impl FnOnce(&mut Vec<u8>), out: &mut Vec<u8>) {
    let room = ask.room;
    let encoding = ask.dialect.encoding().as_str();
    match ask.dialect.protocol() {
        Protocol::WebSocket => {
            let from = match ask.from {
                From::Now => String::new(),
                From::Since(epoch, seq) => format!("&since={epoch}:{seq}"),
                From::History(comments) => format!("&history={comments}"),
            };
            let path = format!("/v1/rooms/{room}/ws?encoding={encoding}{from}");
            write_upgrade(ask.server, &path, headers, out);
        }
        Protocol::Sse => {
            let (query, id) = match ask.from {
                From::Now => (String::new(), String::new()),
                From::Since(epoch, seq) => {
                    (String::new(), format!("Last-Event-ID: {epoch}:{seq}\r\n"))
                }
                From::History(comments) => (format!("?history={comments}"), String::new()),
            };
            let path = ask.server.path(&format!("/v1/rooms/{room}/events{query}"));
            let authority = ask.server.authority();
            let head = format!(
                "GET {path} HTTP/1.1\r\nHost: {authority}\r\nAccept: text/event-stream\r\n\
                 Accept-Encoding: {encoding}\r\n{id}"
            );
            write_head(&head, headers, out);
        }
    }
}

/// Writes the request for a WebSocket at a path of the server.
pub(crate) fn write_upgrade(
    server: &ServerAddress,
    path: &str,
    headers: impl FnOnce(&mut Vec<u8>),
    out: &mut Vec<u8>,
) {
    let (path, authority) = (server.path(path), server.authority());
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: {authority}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n"
    );
    write_head(&head, headers, out);
}

fn write_head(head: &str, headers: impl FnOnce(&mut Vec<u8>), out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(head.as_bytes());
    headers(out);
    out.extend_from_slice(b"\r\n");
}

/// What the server makes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Handshake {
    /// Not all of its answer is there.
    Partial,
    /// Messages begin at this byte.
    Done(usize),
    /// The server refused, in its words.
    Refused(String),
}

/// Reads a response head, and the head of a packed stream, at the start of `input`.
pub(crate) fn read_answer(input: &[u8], dialect: Dialect) -> Handshake {
    let Some(end) = input.windows(4).position(|window| window == b"\r\n\r\n") else {
        let too_long = input.len() > HEAD_BYTES_MAX;
        return if too_long {
            Handshake::Refused("a response head over 8 KiB".to_owned())
        } else {
            Handshake::Partial
        };
    };
    let head = String::from_utf8_lossy(&input[..end]);
    let (status, fields) = head.split_once("\r\n").unwrap_or((&head, ""));
    let body = &input[end + 4..];
    let (expected, what) = match dialect.protocol() {
        Protocol::WebSocket => ("HTTP/1.1 101", "a WebSocket"),
        Protocol::Sse => ("HTTP/1.1 200", "an event stream"),
    };
    if !status.starts_with(expected) {
        return Handshake::Refused(refusal(status, body, what));
    }
    let field = |wanted: &str| {
        fields
            .split("\r\n")
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
            .map_or("", |(_, value)| value.trim())
    };
    match dialect.protocol() {
        Protocol::WebSocket if field("sec-websocket-accept") == ACCEPT => Handshake::Done(end + 4),
        Protocol::WebSocket => {
            Handshake::Refused("an upgrade with the wrong Sec-WebSocket-Accept".to_owned())
        }
        Protocol::Sse => match stream_head(field, dialect, body) {
            Ok(Some(bytes)) => Handshake::Done(end + 4 + bytes),
            Ok(None) => Handshake::Partial,
            Err(why) => Handshake::Refused(why.to_owned()),
        },
    }
}

/// How many bytes of the body stand before the first event: the head of the gzip member, when it is packed. `None` when they
/// are not all there.
fn stream_head<'a>(
    field: impl Fn(&str) -> &'a str,
    dialect: Dialect,
    body: &[u8],
) -> Result<Option<usize>, &'static str> {
    if !field("content-type").starts_with("text/event-stream") {
        return Err("an answer that is not an event stream");
    }
    if !field("transfer-encoding").is_empty() {
        return Err("a chunked event stream: is there a proxy in front of the server?");
    }
    let is_packed = match field("content-encoding") {
        "" | "identity" => false,
        "gzip" => true,
        _ => return Err("an event stream with another encoding than requested"),
    };
    if is_packed != (dialect == Dialect::SseGzip) {
        return Err("an event stream with another encoding than requested");
    }
    if !is_packed {
        return Ok(Some(0));
    }
    match body.get(..GZIP_HEAD_BYTES) {
        None => Ok(None),
        Some(head) if head.starts_with(&GZIP_HEAD_START) => Ok(Some(GZIP_HEAD_BYTES)),
        Some(_) => Err("an event stream that does not start with a gzip header"),
    }
}

/// `503 too_many_connections` when the body has the server's error shape, the status line otherwise.
fn refusal(status: &str, body: &[u8], what: &str) -> String {
    let status = status.strip_prefix("HTTP/1.1 ").unwrap_or(status);
    let code = serde_json::from_slice::<serde_json::Value>(body)
        .ok()
        .and_then(|body| Some(body.get("error")?.get("code")?.as_str()?.to_owned()));
    match code {
        // The most common surprise: the server's own limit per address.
        Some(code) if code == "too_many_connections" => format!(
            "{} (see the server's --connections-per-address-max)",
            quoted(&format!("{status}: {code}"))
        ),
        Some(code) => quoted(&format!("{status}: {code}")),
        // Another answer means that this is not a danmaku server.
        None if status.starts_with(['2', '3']) => quoted(&format!(
            "{status} instead of {what}: is this a danmaku server?"
        )),
        None => quoted(status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(server: &str, dialect: Dialect, from: From) -> String {
        let mut request = Vec::new();
        let ask = Ask {
            server: &server.parse().unwrap(),
            room: "load-0",
            dialect,
            from,
        };
        let headers = |out: &mut Vec<u8>| out.extend_from_slice(b"X-Stage: canary\r\n");
        write_request(&ask, headers, &mut request);
        String::from_utf8(request).unwrap()
    }

    #[test]
    fn the_request_follows_rfc_6455() {
        let text = request("127.0.0.1:8080", Dialect::WsGzip, From::Since(7, 41));
        assert!(
            text.starts_with(
                "GET /v1/rooms/load-0/ws?encoding=gzip&since=7:41 HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n"
            ),
            "{text}"
        );
        assert!(
            text.contains("\r\nUpgrade: websocket\r\n")
                && text.ends_with("\r\nX-Stage: canary\r\n\r\n"),
            "{text}"
        );
        let text = request("https://a/chat", Dialect::WsIdentity, From::History(5));
        assert!(
            text.starts_with(
                "GET /chat/v1/rooms/load-0/ws?encoding=identity&history=5 HTTP/1.1\r\nHost: a:443\r\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn an_event_stream_is_requested_like_a_browser() {
        assert_eq!(
            request("127.0.0.1:8080", Dialect::SseGzip, From::Since(7, 41)),
            "GET /v1/rooms/load-0/events HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nAccept: text/event-stream\r\n\
             Accept-Encoding: gzip\r\nLast-Event-ID: 7:41\r\nX-Stage: canary\r\n\r\n"
        );
        let text = request("a", Dialect::SseIdentity, From::History(3));
        assert!(text.starts_with("GET /v1/rooms/load-0/events?history=3 HTTP/1.1\r\n"));
        assert!(!text.contains("Last-Event-ID"));
    }

    #[test]
    fn a_response_is_accepted_only_if_complete_and_verified() {
        let read = |bytes: &[u8]| read_answer(bytes, Dialect::WsIdentity);
        let head =
            format!("HTTP/1.1 101 Switching Protocols\r\nSEC-WebSocket-Accept: {ACCEPT}\r\n\r\n");
        let mut bytes = head.clone().into_bytes();
        bytes.extend_from_slice(b"\x81\x00");
        assert_eq!(read(&bytes[..head.len() - 1]), Handshake::Partial);
        assert_eq!(read(&bytes), Handshake::Done(head.len()));
        let wrong = head.replace(ACCEPT, "bm90IGl0");
        assert!(matches!(read(wrong.as_bytes()), Handshake::Refused(_)));
        assert!(matches!(
            read(&[b'x'; HEAD_BYTES_MAX + 1]),
            Handshake::Refused(_)
        ));
    }

    #[test]
    fn an_event_stream_begins_after_its_head() {
        for dialect in [Dialect::SseIdentity, Dialect::SseGzip] {
            let opening = dialect.opening().unwrap();
            let cut = &opening[..opening.len() - 1];
            assert_eq!(read_answer(cut, dialect), Handshake::Partial);
            assert_eq!(
                read_answer(&opening, dialect),
                Handshake::Done(opening.len())
            );
        }
        let refused = |head: &str, why: &str| {
            let answer = read_answer(head.as_bytes(), Dialect::SseIdentity);
            assert_eq!(answer, Handshake::Refused(why.to_owned()), "{head}");
        };
        let gzip = Dialect::SseGzip.opening().unwrap();
        refused(
            &String::from_utf8_lossy(&gzip),
            "an event stream with another encoding than requested",
        );
        refused(
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n",
            "an answer that is not an event stream",
        );
        refused(
            "HTTP/1.1 101 Switching Protocols\r\n\r\n",
            "101 Switching Protocols",
        );
    }

    #[test]
    fn a_refusal_keeps_the_servers_code() {
        let body = r#"{"error":{"code":"too_many_connections","message":"m"}}"#;
        let bytes = format!("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 9\r\n\r\n{body}");
        let expected = "503 Service Unavailable: too_many_connections \
            (see the server's --connections-per-address-max)"
            .to_owned();
        assert_eq!(
            read_answer(bytes.as_bytes(), Dialect::WsIdentity),
            Handshake::Refused(expected)
        );
        assert_eq!(
            read_answer(b"HTTP/1.1 404 Not Found\r\n\r\n", Dialect::WsIdentity),
            Handshake::Refused("404 Not Found".to_owned())
        );
    }

    #[test]
    fn a_refusal_cannot_write_to_the_terminal() {
        let body = r#"{"error":{"code":"x\u001b[31m\nPASS: good"}}"#;
        let bytes = format!("HTTP/1.1 503 \x1b[2J\r\n\r\n{body}");
        let expected = r"503 \u{1b}[2J: x\u{1b}[31m\u{a}PASS: good".to_owned();
        assert_eq!(
            read_answer(bytes.as_bytes(), Dialect::WsIdentity),
            Handshake::Refused(expected)
        );
    }
}
