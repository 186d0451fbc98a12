//! Moderators with tokens: what they may do, what is not for them, and that the audit trail has their name.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use danmaku_auth::{Action, Algorithm, Claims, Grant, Role, mint};
use serde_json::{Value, json};
use support::Server;
use support::raw::Answer;

const SECRET: &str = "an HS256 secret of 32 bytes or so";

fn now_s() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_secs()
}

fn start(key: &tempfile::NamedTempFile) -> Server {
    key.as_file().write_all(SECRET.as_bytes()).unwrap();
    let argument = format!("alg=HS256,file={}", key.path().display());
    Server::start(&["--auth", "jwt", "--jwt-key", &argument])
}

fn token(user: &str, role: Role, since: Option<u64>) -> String {
    // A moderator of one room only.
    let rooms = (role == Role::Moderator).then(|| {
        vec![Grant {
            pattern: "r".to_owned(),
            allow: Action::ALL.to_vec(),
        }]
    });
    let claims = Claims {
        sub: user.to_owned(),
        role,
        since,
        rooms,
        exp: Some(now_s() + 600),
        ..Claims::default()
    };
    mint(Algorithm::Hs256, SECRET.as_bytes(), None, &claims).unwrap()
}

/// As somebody behind a proxy, who is let in by the token only.
fn ask(server: &Server, token: &str, line: &str, body: &str) -> (u16, Value) {
    let bearer = format!("Authorization: Bearer {token}");
    let answer = Answer::to(server, line, &["Via: 1.1 proxy", &bearer], body);
    let json = serde_json::from_str(&answer.body).unwrap_or(Value::Null);
    (answer.status, json)
}

fn code(answer: &(u16, Value)) -> &str {
    answer.1["error"]["code"].as_str().unwrap_or("none")
}

const POST: &str = "POST /v1/rooms/r/comments";
const SETTINGS: &str = "PATCH /v1/rooms/r/settings";
const HELLO: &str = r#"{"text":"hello"}"#;

#[test]
fn a_moderator_sanctions_in_their_room() {
    let key = tempfile::NamedTempFile::new().unwrap();
    let server = start(&key);
    let moderator = token("mod", Role::Moderator, None);
    let viewer = token("u", Role::Viewer, None);
    let ban = r#"{"kind":"ban","user":"u"}"#;
    let sanction = "POST /v1/rooms/r/sanctions?why=rude";
    assert_eq!(ask(&server, &viewer, sanction, ban).0, 403);
    for elsewhere in ["POST /v1/sanctions", "POST /v1/rooms/other/sanctions"] {
        assert_eq!(ask(&server, &moderator, elsewhere, ban).0, 403);
    }
    let (status, made) = ask(&server, &moderator, sanction, ban);
    assert_eq!((status, &made["by"]), (201, &json!("mod")));
    // Whatever name the comment has, it is the token's user who is banned.
    let forged = r#"{"text":"hello","user":"v"}"#;
    assert_eq!(code(&ask(&server, &viewer, POST, forged)), "banned");
    let report = "POST /v1/rooms/r/comments/1/reports";
    assert_eq!(code(&ask(&server, &viewer, report, "")), "banned");
    let other = token("v", Role::Viewer, None);
    assert_eq!(ask(&server, &other, POST, HELLO).0, 201);
    assert_eq!(ask(&server, &other, report, "").0, 202);

    let operator = token("op", Role::Operator, None);
    let (_, trail) = ask(&server, &operator, "GET /v1/audit?user=u", "");
    let entry = &trail["entries"][0];
    assert_eq!(
        (&entry["who"], &entry["why"]),
        (&json!("mod"), &json!("rude"))
    );
}

#[test]
fn rules_are_not_for_moderators_but_sanctions_are() {
    let key = tempfile::NamedTempFile::new().unwrap();
    let server = start(&key);
    let moderator = token("mod", Role::Moderator, None);
    let viewer = token("u", Role::Viewer, None);
    let rules = r#"{"emoji_only":true,"slow_mode_s":120,"members_only":true,"unique_s":60}"#;
    assert_eq!(ask(&server, &moderator, SETTINGS, rules).0, 200);
    let terms = r#"[{"term":"hello"}]"#;
    assert_eq!(
        ask(&server, &moderator, "PUT /v1/rooms/r/terms", terms).0,
        200
    );
    assert_eq!(code(&ask(&server, &viewer, POST, HELLO)), "members_only");
    for _ in 0..2 {
        assert_eq!(ask(&server, &moderator, POST, HELLO).0, 201);
    }
    let timeout = r#"{"kind":"timeout","user":"mod","duration_s":60}"#;
    let sanction = "POST /v1/rooms/r/sanctions";
    assert_eq!(ask(&server, &moderator, sanction, timeout).0, 201);
    assert_eq!(code(&ask(&server, &moderator, POST, HELLO)), "timed_out");
}

#[test]
fn a_room_for_members_can_ask_for_an_age() {
    let key = tempfile::NamedTempFile::new().unwrap();
    let server = start(&key);
    let moderator = token("mod", Role::Moderator, None);
    let rules = r#"{"members_only":true,"member_age_s":86400}"#;
    assert_eq!(ask(&server, &moderator, SETTINGS, rules).0, 200);
    let old = token("old", Role::Member, Some(now_s() - 100_000));
    let young = token("young", Role::Member, Some(now_s() - 100));
    assert_eq!(ask(&server, &old, POST, HELLO).0, 201);
    assert_eq!(code(&ask(&server, &young, POST, HELLO)), "members_only");
    let rules = r#"{"member_age_s":0}"#;
    assert_eq!(ask(&server, &moderator, SETTINGS, rules).0, 200);
    assert_eq!(ask(&server, &young, POST, HELLO).0, 201);
}
