//! The Pusher protocol, version 7, as far as the harness needs it to count what a server of this kind delivers: a public channel
//! for each room, and events posted over the HTTP API.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use danmaku_client::NewComment;
use danmaku_wire::{Mode, RoomId};
use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};

use crate::clock::Moment;
use crate::fingerprint::CommentShape;
use crate::spec::Spec;

/// The environment variable with the application's secret: command lines are in reports.
pub const SECRET_VARIABLE: &str = "PUSHER_APP_SECRET";
/// The name of our events.
const EVENT: &str = "comment";

/// The application that viewers and posts belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct App {
    id: String,
    key: String,
    secret: String,
}

/// What a viewer makes of a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Message {
    /// Connected: time to subscribe.
    Connected,
    /// Subscribed.
    Subscribed,
    /// A ping, to be answered with [`PONG`].
    Ping,
    /// One of our comments.
    Comment(Carried),
    /// An event of somebody else.
    Foreign,
    /// The server refuses something.
    Error(String),
    /// Nothing that matters here.
    Other,
}

/// One of our comments, as it arrives.
#[derive(Debug, PartialEq, Eq)]
pub struct Carried {
    /// The run that posted it: others may post to the same rooms.
    pub run: u64,
    /// Its number in its room, from 1.
    pub number: u64,
    /// When it was due to be posted.
    pub due: Moment,
    /// The fingerprint of what it says.
    pub shape: u64,
}

/// The answer to [`Message::Ping`].
pub const PONG: &str = r#"{"event":"pusher:pong","data":{}}"#;

#[derive(Deserialize)]
struct Envelope {
    event: String,
    #[serde(default)]
    data: serde_json::Value,
}

/// A comment with what the count needs.
#[derive(Serialize)]
struct Outgoing<'a> {
    run: u64,
    n: u64,
    due: u64,
    #[serde(flatten)]
    comment: &'a NewComment,
}

#[derive(Deserialize)]
struct Incoming {
    run: u64,
    n: u64,
    due: u64,
    user: Option<String>,
    text: String,
    mode: Option<String>,
    color: Option<u32>,
    size: Option<u32>,
}

#[derive(Serialize)]
struct Event<'a> {
    name: &'static str,
    channel: &'a str,
    data: String,
}

impl App {
    /// The application of a specification: its id and key are there, its secret in [`SECRET_VARIABLE`].
    #[must_use]
    pub fn of(spec: &Spec) -> Option<Self> {
        let (id, key) = spec.pusher_app.as_ref()?.split_once(':')?;
        Some(Self {
            id: id.to_owned(),
            key: key.to_owned(),
            secret: std::env::var(SECRET_VARIABLE).unwrap_or_default(),
        })
    }

    /// Where viewers connect.
    #[must_use]
    pub fn viewer_path(&self) -> String {
        let version = env!("CARGO_PKG_VERSION");
        format!(
            "/app/{}?protocol=7&client=danmaku-loadtest&version={version}",
            self.key
        )
    }

    /// The body of a post, and its path with the signature of
    /// <https://pusher.com/docs/channels/library_auth_reference/rest-api/#authentication>.
    #[must_use]
    pub fn post(
        &self,
        room: &RoomId,
        (run, number): (u64, u64),
        due: Moment,
        comment: &NewComment,
    ) -> (String, Vec<u8>) {
        let outgoing = Outgoing {
            run,
            n: number,
            due: due.micros(),
            comment,
        };
        let written = "invariant: JSON values always serialise";
        let event = Event {
            name: EVENT,
            channel: room.as_str(),
            data: serde_json::to_string(&outgoing).expect(written),
        };
        let body = serde_json::to_vec(&event).expect(written);
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now_s = now.map_or(0, |since| since.as_secs());
        (self.signed(now_s, &body), body)
    }

    fn signed(&self, now_s: u64, body: &[u8]) -> String {
        let path = format!("/apps/{}/events", self.id);
        let query = format!(
            "auth_key={}&auth_timestamp={now_s}&auth_version=1.0&body_md5={}",
            self.key,
            hex(&Md5::digest(body))
        );
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.secret.as_bytes());
        let signature = hmac::sign(&key, format!("POST\n{path}\n{query}").as_bytes());
        format!("{path}?{query}&auth_signature={}", hex(signature.as_ref()))
    }
}

/// Subscribes to a room's channel.
#[must_use]
pub fn subscription(room: &str) -> String {
    format!(r#"{{"event":"pusher:subscribe","data":{{"channel":"{room}"}}}}"#)
}

/// Reads a message; none if it is not the protocol.
#[must_use]
pub fn read(text: &[u8]) -> Option<Message> {
    let Envelope { event, data } = serde_json::from_slice(text).ok()?;
    Some(match event.as_str() {
        EVENT => carried(data.as_str()?).map_or(Message::Foreign, Message::Comment),
        "pusher:connection_established" => Message::Connected,
        "pusher_internal:subscription_succeeded" => Message::Subscribed,
        "pusher:ping" => Message::Ping,
        "pusher:error" | "pusher:subscription_error" => Message::Error(data.to_string()),
        _ if event.starts_with("pusher") => Message::Other,
        _ => Message::Foreign,
    })
}

fn carried(data: &str) -> Option<Carried> {
    let incoming: Incoming = serde_json::from_str(data).ok()?;
    let shape = CommentShape {
        user: incoming.user.as_deref(),
        text: &incoming.text,
        mode: incoming.mode.as_deref().unwrap_or(Mode::Scroll.as_str()),
        color: incoming.color.unwrap_or(0xFF_FFFF),
        size: incoming.size.unwrap_or(25),
    };
    Some(Carried {
        run: incoming.run,
        number: incoming.n,
        due: Moment::from_micros(incoming.due),
        shape: shape.fingerprint(),
    })
}

/// The numbers of posts in their rooms.
#[must_use]
pub fn numbers(rooms: impl IntoIterator<Item = u32>, count: usize) -> Vec<u64> {
    let mut posted = vec![0; count];
    let next = |room: u32| {
        let number = &mut posted[room as usize];
        *number += 1;
        *number
    };
    rooms.into_iter().map(next).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publisher::shape;

    /// The worked example of Pusher's documentation.
    #[test]
    fn posts_are_signed_as_documented() {
        let app = App {
            id: "3".to_owned(),
            key: "278d425bdf160c739803".to_owned(),
            secret: "7ad3773142a6692b25b8".to_owned(),
        };
        let body = br#"{"name":"foo","channels":["project-3"],"data":"{\"some\":\"data\"}"}"#;
        assert_eq!(
            app.signed(1_353_088_179, body),
            "/apps/3/events?auth_key=278d425bdf160c739803&auth_timestamp=1353088179&auth_version=1.0\
             &body_md5=ec365a775a4cd0599faeb73354201b6f\
             &auth_signature=da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c"
        );
    }

    #[test]
    fn a_comment_arrives_as_it_was_posted() {
        let app = App {
            id: "i".to_owned(),
            key: "k".to_owned(),
            secret: "s".to_owned(),
        };
        let comment = NewComment {
            user: Some("mira".to_owned()),
            color: Some(7),
            ..NewComment::new("弹幕 \"quoted\"")
        };
        let due = Moment::from_micros(99);
        let (_, body) = app.post(&RoomId::parse("r").unwrap(), (7, 3), due, &comment);
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let message = serde_json::json!({"event": "comment", "channel": "r", "data": body["data"]});
        let expected = Carried {
            run: 7,
            number: 3,
            due,
            shape: shape(&comment).fingerprint(),
        };
        assert_eq!(
            read(message.to_string().as_bytes()),
            Some(Message::Comment(expected))
        );
    }

    #[test]
    fn messages_are_told_apart() {
        let check = |text: &str, expected| assert_eq!(read(text.as_bytes()), expected, "{text}");
        check("nonsense", None);
        check(r#"{"event":"comment","data":{}}"#, None);
        check(r#"{"event":"comment","data":"{}"}"#, Some(Message::Foreign));
        check(r#"{"event":"other"}"#, Some(Message::Foreign));
        check(r#"{"event":"pusher:ping","data":{}}"#, Some(Message::Ping));
        check(r#"{"event":"pusher:pong"}"#, Some(Message::Other));
        let error = r#"{"event":"pusher:error","data":{"code":4001}}"#;
        check(error, Some(Message::Error(r#"{"code":4001}"#.to_owned())));
    }

    #[test]
    fn numbers_count_within_rooms() {
        assert_eq!(numbers([0, 1, 0, 1, 1], 2), [1, 1, 2, 2, 3]);
    }
}
