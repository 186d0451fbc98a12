//! Who may do what: every role and key, every action, in their own and in other rooms, with valid, expired and revoked
//! tokens. The requests come through a proxy, so that nobody is let in for being on this machine.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use danmaku_auth::{Action, Algorithm, Claims, Grant, NewServerKey, Role, mint};
use support::Server;
use support::raw::Answer;

const SECRET: &str = "an HS256 secret of 32 bytes or so";

/// What is asked for, in the room `{room}`, and the status of a success.
const ACTIONS: [(&str, &str, u16); 13] = [
    ("watch", "GET /v1/rooms/{room}/segments/head", 200),
    ("read", "GET /v1/rooms/{room}/comments", 200),
    ("post", "POST /v1/rooms/{room}/comments", 201),
    ("like", "POST /v1/rooms/{room}/likes", 204),
    ("retract", "DELETE /v1/rooms/{room}/comments/1", 204),
    ("settings", "PATCH /v1/rooms/{room}/settings", 200),
    ("sanctions", "GET /v1/rooms/{room}/sanctions", 200),
    ("terms", "GET /v1/rooms/{room}/terms", 200),
    ("held", "GET /v1/rooms/{room}/held", 200),
    ("export", "GET /v1/users/u/comments", 200),
    ("revocations", "GET /v1/revocations", 200),
    ("audit", "GET /v1/audit", 200),
    ("bans", "GET /v1/sanctions", 200),
];

/// Who asks, and what each action of [`ACTIONS`] is answered in the room `own` and in the room `other`:
/// `+` done, `-` forbidden (403), `?` a valid token is needed (401), `!` only with a token, or on the machine itself (403).
const MATRIX: [(&str, &str, &str); 16] = [
    ("guest", "++??!!!!!!!!!", "++??!!!!!!!!!"),
    ("viewer", "++++---------", "++++---------"),
    ("member", "++++---------", "++++---------"),
    ("moderator", "+++++++++----", "+++++++++----"),
    ("streamer", "++++---------", "++++---------"),
    ("operator", "+++++++++++++", "+++++++++++++"),
    // Where `rooms` names one room only, with everything allowed there.
    ("viewer of own", "+++++++++----", "-------------"),
    ("streamer of own", "+++++++++----", "-------------"),
    ("operator of own", "+++++++++++++", "---------++++"),
    ("watcher of own", "++-----------", "-------------"),
    ("expired operator", "?????????????", "?????????????"),
    ("revoked operator", "?????????????", "?????????????"),
    ("key: watch", "++-----------", "++-----------"),
    ("key: post", "--++---------", "--++---------"),
    ("key: moderate", "----+++++----", "----+++++----"),
    ("key: operate", "---------++++", "---------++++"),
];

fn claims(who: &str) -> Option<Claims> {
    let now_s = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let role = Role::ALL
        .into_iter()
        .find(|role| who.split(' ').any(|word| word == role.as_str()));
    let everything = Action::ALL.to_vec();
    let allow = match who {
        "watcher of own" => vec![Action::Watch],
        _ => everything,
    };
    let is_limited = who.ends_with("of own");
    if role.is_none() && !is_limited {
        return None;
    }
    Some(Claims {
        sub: who.replace(' ', "-"),
        role: role.unwrap_or_default(),
        exp: Some(if who.starts_with("expired") {
            now_s - 3_600
        } else {
            now_s + 3_600
        }),
        rooms: is_limited.then(|| {
            vec![Grant {
                pattern: "own".to_owned(),
                allow,
            }]
        }),
        ..Claims::default()
    })
}

#[test]
fn everybody_may_do_what_the_table_says() {
    let mut key = tempfile::NamedTempFile::new().unwrap();
    key.write_all(SECRET.as_bytes()).unwrap();
    let mut keys = tempfile::NamedTempFile::new().unwrap();
    let mut secrets = Vec::new();
    for scope in ["watch", "post", "moderate", "operate"] {
        let new = NewServerKey::generate().unwrap();
        write!(
            keys,
            "[[key]]\nname = \"{scope}\"\nhash = \"{}\"\nscopes = [\"{scope}\"]\n",
            new.hash
        )
        .unwrap();
        secrets.push((format!("key: {scope}"), new.secret));
    }
    let argument = format!("alg=HS256,file={}", key.path().display());
    let server = Server::start(&[
        "--auth",
        "jwt",
        "--jwt-key",
        &argument,
        "--server-keys",
        keys.path().to_str().unwrap(),
        "--posts-per-second-per-address-burst",
        "1000",
        "--posts-per-second-per-user-burst",
        "1000",
        "--requests-per-second-per-address-burst",
        "1000",
    ]);
    let secret_of = |who: &str| {
        let claims = claims(who);
        let token = claims.map(|it| mint(Algorithm::Hs256, SECRET.as_bytes(), None, &it).unwrap());
        let key = secrets.iter().find(|(name, _)| name == who);
        token.or_else(|| key.map(|(_, secret)| secret.clone()))
    };
    let revoke = r#"{"user":"revoked-operator"}"#;
    assert_eq!(
        Answer::to(&server, "POST /v1/revocations", &[], revoke).status,
        201
    );
    for room in ["own", "other"] {
        let post = format!("POST /v1/rooms/{room}/comments");
        let poster = format!("Authorization: Bearer {}", secret_of("operator").unwrap());
        let posted = Answer::to(&server, &post, &[&poster], r#"{"text":"first"}"#);
        assert_eq!(posted.status, 201);
    }
    for (who, in_own, in_other) in MATRIX {
        let secret = secret_of(who);
        assert_eq!(secret.is_none(), who == "guest", "{who}");
        let mut headers = vec!["Via: 1.1 proxy".to_owned()];
        headers.extend(secret.map(|secret| format!("Authorization: Bearer {secret}")));
        let headers: Vec<_> = headers.iter().map(String::as_str).collect();
        for (room, expected) in [("own", in_own), ("other", in_other)] {
            let got: String = ACTIONS
                .iter()
                .map(|(action, line, done)| {
                    let body = match *action {
                        "post" => r#"{"text":"hello"}"#,
                        "like" | "settings" => "{}",
                        _ => "",
                    };
                    let answer = Answer::to(&server, &line.replace("{room}", room), &headers, body);
                    match (answer.status, &*answer.code()) {
                        (status, "") if status == *done => '+',
                        (401, "unauthorized") => '?',
                        (403, "forbidden") if who == "guest" => '!',
                        (403, "forbidden") => '-',
                        _ => panic!("{who}: {action} in {room}: {answer:?}"),
                    }
                })
                .collect();
            assert_eq!(got, expected, "{who} in {room}");
        }
    }
}
