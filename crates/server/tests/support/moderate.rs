//! What tests of moderation do over and over.

use bytes::Bytes;
use danmaku_client::{ClientError, Connection, Event, HttpClient, NewComment, Refusal};
use danmaku_wire::RoomId;
use hyper::Method;
use serde_json::{Value, json};

use super::{PATIENCE, Server};

/// Sends a request to the server; returns the status and the body.
pub(crate) async fn send(
    http: &mut HttpClient,
    method: Method,
    path: &str,
    body: &str,
) -> (u16, Value) {
    let body = Bytes::from(body.to_owned());
    let answer = http.send(method, path, body).await.unwrap();
    let json = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
    (answer.status.as_u16(), json)
}

/// Posts a body of comments.
pub(crate) async fn post_raw(http: &mut HttpClient, room: &str, body: &str) -> (u16, Value) {
    let path = format!("/v1/rooms/{room}/comments");
    send(http, Method::POST, &path, body).await
}

/// Posts as `user`, or without one.
pub(crate) async fn post(
    http: &mut HttpClient,
    room: &str,
    user: &str,
    text: &str,
) -> Result<(), Refusal> {
    let mut comment = NewComment::new(text);
    comment.user = (!user.is_empty()).then(|| user.to_owned());
    let room = RoomId::parse(room).unwrap();
    match http.post_comments(&room, &[comment]).await {
        Ok(_) => Ok(()),
        Err(ClientError::Refused(refusal)) => Err(refusal),
        Err(other) => panic!("{other:?}"),
    }
}

pub(crate) async fn refused(http: &mut HttpClient, room: &str, user: &str, text: &str) -> String {
    post(http, room, user, text).await.unwrap_err().code
}

/// The code of the error that a comment is answered with.
pub(crate) async fn refused_over_websocket(
    viewer: &mut Connection,
    user: &str,
    text: &str,
) -> String {
    let comment = json!({"type": "comment", "text": text, "user": user, "ref": 1}).to_string();
    viewer.send_text(&comment).await.unwrap();
    loop {
        let next = tokio::time::timeout(PATIENCE, viewer.next()).await;
        if let Event::Error(error) = next.unwrap().unwrap() {
            return error.code;
        }
    }
}

/// One member of each object of an array.
pub(crate) fn list(array: &Value, member: &str) -> Vec<String> {
    let array = array.as_array().unwrap().iter();
    array.map(|it| text(&it[member])).collect()
}

/// The audit trail, newest first: action, room, target and reason of each entry.
pub(crate) async fn trail(http: &mut HttpClient, query: &str) -> Vec<String> {
    let path = format!("/v1/audit?{query}");
    let (_, trail) = send(http, Method::GET, &path, "").await;
    let entries = trail["entries"].as_array().unwrap().iter();
    entries
        .map(|entry| {
            let words = ["action", "room", "target", "why"].map(|name| text(&entry[name]));
            words.join(" ").trim_end().to_owned()
        })
        .collect()
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

impl Server {
    /// The status that a request passed on by a proxy gets: a method and a path.
    pub(crate) fn status_from_afar(&self, request: &str) -> u16 {
        let request = format!(
            "{request} HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 10.0.0.1\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}"
        );
        let answer = String::from_utf8(self.raw(request.as_bytes())).unwrap();
        let status = answer.split(' ').nth(1).unwrap();
        status.parse().unwrap()
    }
}
