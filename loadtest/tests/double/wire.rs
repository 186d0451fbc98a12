//! The part of HTTP/1.1 that publishers and viewers use.

use tokio::io::AsyncReadExt;
use tokio::net::tcp::OwnedReadHalf;

/// Reads one request: its head as text and its body.
pub(super) async fn request(
    reader: &mut OwnedReadHalf,
    bytes: &mut Vec<u8>,
) -> Option<(String, Vec<u8>)> {
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let length = header(&head, "content-length").map_or(0, |value| value.parse().unwrap());
            if bytes.len() >= end + 4 + length {
                let body = bytes[end + 4..end + 4 + length].to_vec();
                bytes.drain(..end + 4 + length);
                return Some((head, body));
            }
        }
        if reader.read_buf(bytes).await.ok()? == 0 {
            return None;
        }
    }
}

/// A parameter of a request's query.
pub(super) fn parameter<'a>(target: &'a str, name: &str) -> Option<&'a str> {
    let (_, query) = target.split_once('?')?;
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

/// A field of a request's head.
pub(super) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}

pub(super) fn response(status: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// The head that accepts a WebSocket.
pub(super) fn upgrade(head: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\r\n",
        accept_value(head)
    )
    .into_bytes()
}

/// The accept value of a request's key, as `fastwebsockets` computes it.
fn accept_value(head: &str) -> String {
    let request = hyper::Request::get("/")
        .header(
            "Sec-WebSocket-Key",
            header(head, "sec-websocket-key").unwrap(),
        )
        .header("Sec-WebSocket-Version", "13")
        .body(())
        .unwrap();
    let (response, _) = fastwebsockets::upgrade::upgrade(request).unwrap();
    response.headers()["sec-websocket-accept"]
        .to_str()
        .unwrap()
        .to_owned()
}
