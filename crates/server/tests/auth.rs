//! Identity: who may watch and post with which token, and what everybody else gets.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{Read, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use danmaku_auth::{Action, Algorithm, Claims, Grant, NewServerKey, Role, mint};
use danmaku_client::{Access, Connection, Event};
use support::Server;
use support::raw::{Answer, HANDSHAKE, RawViewer, handshake_with, runtime, text};

/// The key of the servers here, as an operator would give it.
const SECRET: &str = "an HS256 secret of 32 bytes or so";
const COMMENTS: &str = "/v1/rooms/r/comments";

fn now_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// A server that asks for tokens.
fn start(flags: &[&str]) -> Server {
    let key = key_file(SECRET);
    let argument = format!("alg=HS256,file={}", key.path().display());
    let flags = [&["--auth", "jwt", "--jwt-key", &argument], flags].concat();
    Server::start(&flags)
}

fn key_file(contents: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(contents.as_bytes()).unwrap();
    file
}

fn claims(user: &str) -> Claims {
    Claims {
        sub: user.to_owned(),
        exp: Some(now_s() + 600),
        ..Claims::default()
    }
}

fn sign(claims: &Claims) -> String {
    mint(Algorithm::Hs256, SECRET.as_bytes(), None, claims).unwrap()
}

fn token(user: &str) -> String {
    sign(&claims(user))
}

/// A token for these actions in one room.
fn only(room: &str, allow: &[Action]) -> String {
    sign(&Claims {
        rooms: Some(vec![Grant {
            pattern: room.to_owned(),
            allow: allow.to_vec(),
        }]),
        ..claims("u1")
    })
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}")
}

fn ask(server: &Server, line: &str, token: Option<&str>) -> (u16, String) {
    let headers = token.map(bearer);
    let headers: Vec<_> = headers.iter().map(String::as_str).collect();
    let body = if line.starts_with("POST") {
        r#"{"text":"hello","user":"forged","name":"forged"}"#
    } else {
        ""
    };
    let answer = Answer::to(server, line, &headers, body);
    if answer.status == 401 {
        assert_eq!(answer.header("www-authenticate"), Some("bearer"));
        // Not what is wrong with it.
        let message = answer.json()["error"]["message"].clone();
        assert_eq!(message, "a valid token is needed");
    }
    (answer.status, answer.code())
}

fn unauthorized() -> (u16, String) {
    (401, "unauthorized".to_owned())
}

fn forbidden() -> (u16, String) {
    (403, "forbidden".to_owned())
}

fn created() -> (u16, String) {
    (201, String::new())
}

#[test]
fn the_author_is_who_the_token_names() {
    let server = start(&[]);
    let named = sign(&Claims {
        name: Some("mira".to_owned()),
        role: Role::Member,
        ..claims("u7")
    });
    let post = format!("POST {COMMENTS}");
    assert_eq!(ask(&server, &post, Some(&named)), created());
    let queried = format!("{post}?token={}", token("u8"));
    assert_eq!(ask(&server, &queried, None), created());
    let mut viewer = RawViewer::join_with_header(&server, &bearer(&named));
    let forged = r#"{"type":"comment","text":"over a socket","user":"forged"}"#;
    viewer.0.write_all(&text(forged)).unwrap();
    while !viewer.read().1.starts_with(br#"{"type":"ack""#) {}
    let page = Answer::to(&server, &format!("GET {COMMENTS}"), &[], "").json();
    let authors: Vec<_> = page["comments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| {
            (
                it["user"].as_str(),
                it["name"].as_str(),
                it["role"].as_str(),
            )
        })
        .collect();
    let mira = (Some("u7"), Some("mira"), Some("member"));
    assert_eq!(authors, [mira, (Some("u8"), None, None), mira]);
}

#[test]
fn guests_watch_and_do_not_post() {
    let server = start(&[]);
    let post = format!("POST {COMMENTS}");
    assert_eq!(ask(&server, &post, Some(&token("u1"))), created());
    for read in [
        "GET /v1/rooms",
        "GET /v1/rooms/r",
        "GET /v1/rooms/r/comments",
    ] {
        assert_eq!(ask(&server, read, None).0, 200, "{read}");
    }
    assert_eq!(ask(&server, &post, None), unauthorized());
    assert_eq!(ask(&server, "POST /v1/rooms/r/likes", None), unauthorized());
    let mut guest = RawViewer::join(&server);
    let comment = text(r#"{"type":"comment","ref":1,"text":"hello"}"#);
    guest.0.write_all(&comment).unwrap();
    assert_eq!(guest.error_code(), "unauthorized");
    guest.0.write_all(&text(r#"{"type":"like"}"#)).unwrap();
    assert_eq!(guest.error_code(), "unauthorized");
    // It can say who it is later.
    let auth = format!(r#"{{"type":"auth","ref":2,"token":"{}"}}"#, token("u2"));
    guest.0.write_all(&[text(&auth), comment].concat()).unwrap();
    let answer = loop {
        let (_, answer) = guest.read();
        if answer.starts_with(br#"{"type":"authorized""#) {
            break String::from_utf8(answer).unwrap();
        }
    };
    let expected = r#"{"type":"authorized","ref":2,"user":"u2","role":"viewer","expires_in_ms":"#;
    assert!(answer.starts_with(expected), "{answer}");
    while guest.read().1 != br#"{"type":"ack","ref":1,"id":2}"# {}
}

#[test]
fn where_guests_may_do_nothing_a_token_comes_first() {
    let server = start(&["--guests-may", "nothing"]);
    let reads = [
        "GET /v1/rooms",
        "GET /v1/rooms/r",
        "GET /v1/rooms/r/comments",
        "GET /v1/rooms/r/events",
        "GET /v1/rooms/r/segments/head",
        "GET /v1/rooms/r/segments/2000/1",
    ];
    for read in reads {
        assert_eq!(ask(&server, read, None), unauthorized(), "{read}");
    }
    assert_eq!(ask(&server, "GET /v1/rooms", Some(&token("u1"))).0, 200);
    let _viewer = RawViewer::join_with_header(&server, &bearer(&token("u1")));
    let head = Answer::to(
        &server,
        "GET /v1/rooms/r/segments/head",
        &[&bearer(&token("u1"))],
        "",
    );
    assert_eq!(head.header("cache-control"), Some("private, max-age=1"));
    let auth = |token: &str| text(&format!(r#"{{"type":"auth","token":"{token}"}}"#));
    let connect = |first: &[u8]| {
        let mut stream = server.raw_stream();
        stream.write_all(HANDSHAKE.as_bytes()).unwrap();
        stream.write_all(first).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 101"));
        RawViewer(stream)
    };
    let mut viewer = connect(&auth(&token("u2")));
    assert!(
        viewer
            .read()
            .1
            .starts_with(br#"{"type":"authorized","user":"u2""#)
    );
    assert!(viewer.read().1.starts_with(br#"{"type":"joined""#));
    let comment = text(r#"{"type":"comment","ref":1,"text":"hello"}"#);
    viewer.0.write_all(&comment).unwrap();
    while viewer.read().1 != br#"{"type":"ack","ref":1,"id":1}"# {}
    assert_eq!(connect(&auth("no token")).close_code(), 4005);
    assert_eq!(connect(&comment).close_code(), 4005);
    assert_eq!(
        connect(&auth(&only("other", &[Action::Watch]))).close_code(),
        4007
    );
    let both = [auth(&token("u2")), comment].concat();
    assert_eq!(connect(&both).close_code(), 4005);
}

#[test]
fn whoever_says_nothing_is_closed() {
    let flags = ["--guests-may", "nothing", "--handshake-deadline-ms", "100"];
    let server = start(&flags);
    let mut stream = server.raw_stream();
    stream.write_all(HANDSHAKE.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let close = answer.windows(2).any(|pair| pair == 4005_u16.to_be_bytes());
    assert!(close, "{}", answer.escape_ascii());
}

#[test]
fn what_is_no_valid_token_is_refused_alike() {
    let server = start(&["--jwt-audience", "danmaku", "--jwt-leeway-s", "0"]);
    let aimed = |claims: Claims| {
        sign(&Claims {
            aud: Some("danmaku".into()),
            ..claims
        })
    };
    let post = format!("POST {COMMENTS}");
    assert_eq!(ask(&server, &post, Some(&aimed(claims("u1")))), created());
    let expired = aimed(Claims {
        exp: Some(now_s() - 1),
        ..claims("u1")
    });
    let elsewhere = mint(Algorithm::Hs256, &[b'x'; 32], None, &claims("u1")).unwrap();
    let unsigned = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1IiwiZXhwIjo5OTk5OTk5OTk5fQ.";
    let long = aimed(Claims {
        jti: Some("x".repeat(5_000)),
        ..claims("u1")
    });
    let bad = [
        &expired,
        &token("u1"),
        &elsewhere,
        unsigned,
        &long,
        "x",
        "dk_0123",
    ];
    for bad in bad {
        for line in [
            &post,
            "GET /v1/rooms/r",
            "GET /v1/rooms/r/events",
            "GET /v1/rooms",
        ] {
            assert_eq!(
                ask(&server, line, Some(bad)),
                unauthorized(),
                "{line} {bad:.60}"
            );
        }
        let line = "GET /v1/rooms/r/ws";
        let upgrade = handshake_with(&format!("{}\r\nConnection: close", bearer(bad)));
        let mut stream = server.raw_stream();
        stream.write_all(upgrade.as_bytes()).unwrap();
        assert_eq!(Answer::read(&mut stream).status, 401, "{line}");
        let mut guest = RawViewer::join(&server);
        if bad.len() < 4_000 {
            let auth = format!(r#"{{"type":"auth","token":"{bad}"}}"#);
            guest.0.write_all(&text(&auth)).unwrap();
            assert_eq!(guest.close_code(), 4005);
        }
    }
}

#[test]
fn a_connection_ends_with_its_token_and_lives_on_with_a_new_one() {
    runtime().block_on(async {
        let server = start(&[]);
        let brief = |user| {
            sign(&Claims {
                exp: Some(now_s() + 3),
                ..claims(user)
            })
        };
        let mut join = server.join("r");
        join.access = Access::default().with_token(&brief("u1")).unwrap();
        let mut ending = Connection::connect(&join).await.unwrap();
        join.access = Access::default().with_token(&brief("u2")).unwrap();
        let mut renewed = Connection::connect(&join).await.unwrap();
        let mut stream = danmaku_client::EventStream::connect(&join, None)
            .await
            .unwrap();
        let next = |event| match event {
            Event::Other(kind) => kind,
            Event::Closed(closed) => closed.code.to_string(),
            _ => String::new(),
        };
        let mut seen = Vec::new();
        while !seen.contains(&"4006".to_owned()) {
            let event = next(ending.next().await.unwrap());
            if event == "expiring" {
                renewed.authenticate(&token("u2")).await.unwrap();
            }
            seen.push(event);
        }
        assert!(seen.contains(&"expiring".to_owned()), "{seen:?}");
        let mut seen = Vec::new();
        while seen.last().is_none_or(|last| last != "4006") {
            seen.push(next(stream.next().await.unwrap()));
        }
        assert!(seen.contains(&"expiring".to_owned()), "{seen:?}");
        renewed
            .send_text(r#"{"type":"comment","text":"still here"}"#)
            .await
            .unwrap();
        loop {
            match renewed.next().await.unwrap() {
                Event::Ack(_) => break,
                Event::Closed(closed) => panic!("{closed:?}"),
                _ => {}
            }
        }
    });
}

#[test]
fn a_user_has_as_many_connections_to_a_room_as_allowed() {
    let replace = start(&["--user-connections-max", "2"]);
    let join =
        |server: &Server, user: &str| RawViewer::join_with_header(server, &bearer(&token(user)));
    let mut oldest = join(&replace, "u1");
    let _others = (join(&replace, "u1"), join(&replace, "u2"));
    let _newest = join(&replace, "u1");
    assert_eq!(oldest.close_code(), 4008);

    let flags = [
        "--user-connections-max",
        "1",
        "--user-connections-over",
        "refuse",
    ];
    let refuse = start(&flags);
    let first = join(&refuse, "u1");
    let _other = join(&refuse, "u2");
    let mut again = refuse.raw_stream();
    let upgrade = handshake_with(&format!("{}\r\nConnection: close", bearer(&token("u1"))));
    again.write_all(upgrade.as_bytes()).unwrap();
    let answer = Answer::read(&mut again);
    assert_eq!(
        (answer.status, &*answer.code()),
        (429, "too_many_connections")
    );
    assert_eq!(answer.json()["error"]["retry_after_ms"], 5_000);
    let mut guest = RawViewer::join(&refuse);
    let auth = format!(r#"{{"type":"auth","token":"{}"}}"#, token("u1"));
    guest.0.write_all(&text(&auth)).unwrap();
    assert_eq!(guest.close_code(), 4009);
    drop(first);
}

#[test]
fn a_user_posts_at_one_rate_from_everywhere() {
    let flags = [
        "--posts-per-second-per-user",
        "1",
        "--posts-per-second-per-user-burst",
        "2",
    ];
    let server = start(&flags);
    let post = format!("POST {COMMENTS}");
    let posted = |user: &str| {
        let headers = bearer(&token(user));
        Answer::to(&server, &post, &[&headers], r#"{"text":"hello"}"#)
    };
    let limited = (0..50)
        .map(|_| posted("u1"))
        .find(|answer| answer.status != 201)
        .unwrap();
    assert_eq!((limited.status, &*limited.code()), (429, "rate_limited"));
    assert!(limited.json()["error"]["retry_after_ms"].as_u64().unwrap() > 0);
    assert_eq!(posted("u2").status, 201);
}

#[test]
fn back_ends_do_what_their_scopes_say() {
    let keys: Vec<_> = (0..3).map(|_| NewServerKey::generate().unwrap()).collect();
    let entry = |index: usize, scope: &str| {
        let hash = &keys[index].hash;
        format!("[[key]]\nname = \"k{index}\"\nhash = \"{hash}\"\nscopes = [\"{scope}\"]\n")
    };
    let file = key_file(&[entry(0, "post"), entry(1, "moderate"), entry(2, "operate")].concat());
    let path = file.path().to_str().unwrap().to_owned();
    let jwt = start(&["--server-keys", &path]);
    let open = Server::start(&["--server-keys", &path]);
    for server in [&jwt, &open] {
        let lines = [
            (format!("POST {COMMENTS}"), 201),
            (format!("DELETE {COMMENTS}/1"), 204),
            ("DELETE /v1/users/forged/comments".to_owned(), 200),
        ];
        for (right, (line, status)) in lines.iter().enumerate() {
            for (index, key) in keys.iter().enumerate() {
                let (got, code) = ask(server, line, Some(&key.secret));
                if index == right {
                    assert_eq!(got, *status, "{line} {code}");
                } else {
                    assert_eq!((got, &*code), (403, "forbidden"), "{line}");
                }
            }
        }
        let stranger = NewServerKey::generate().unwrap();
        assert_eq!(
            ask(server, &lines[0].0, Some(&stranger.secret)),
            unauthorized()
        );
        let queried = format!("{}?token={}", lines[0].0, keys[0].secret);
        assert_eq!(ask(server, &queried, None), unauthorized());
        // A back end's connection would have no user.
        let upgrade = handshake_with(&format!("{}\r\nConnection: close", bearer(&keys[0].secret)));
        let mut stream = server.raw_stream();
        stream.write_all(upgrade.as_bytes()).unwrap();
        assert_eq!(Answer::read(&mut stream).status, 403);
    }
    let page = Answer::to(&jwt, &format!("GET {COMMENTS}"), &[], "");
    assert_eq!(page.status, 200, "guests may read");
}

#[test]
fn an_open_server_does_not_look_at_tokens() {
    let server = Server::start(&[]);
    assert_eq!(
        ask(&server, &format!("POST {COMMENTS}"), Some("x")),
        created()
    );
    let page = Answer::to(&server, &format!("GET {COMMENTS}"), &[], "").json();
    assert_eq!(page["comments"][0]["user"], "forged");
    assert_eq!(ask(&server, "GET /v1/rooms/r?token=x", None).0, 200);
    let mut viewer = RawViewer::join(&server);
    viewer
        .0
        .write_all(&text(r#"{"type":"auth","token":"x"}"#))
        .unwrap();
    assert_eq!(viewer.error_code(), "unauthorized");
}

#[test]
fn the_token_command_makes_tokens() {
    let key = key_file(SECRET);
    let server = start(&[]);
    let argument = format!("alg=HS256,file={}", key.path().display());
    let (status, stdout, stderr) = support::run(&[
        "token",
        "--key",
        &argument,
        "--sub",
        "u1",
        "--role",
        "streamer",
        "--room",
        "r=watch,post",
    ]);
    assert!(status.success(), "{stderr}");
    let made = stdout.trim();
    assert_eq!(
        ask(&server, &format!("POST {COMMENTS}"), Some(made)),
        created()
    );
    assert_eq!(
        ask(&server, "POST /v1/rooms/s/comments", Some(made)),
        forbidden()
    );
    let (status, stdout, _) =
        support::run(&["server-key", "--name", "chat", "--scope", "post,operate"]);
    assert!(status.success());
    let secret = stdout
        .lines()
        .find_map(|line| line.strip_prefix("# dk_"))
        .unwrap();
    let keys = danmaku_auth::ServerKeys::read(&stdout).unwrap();
    assert_eq!(&*keys.find(&format!("dk_{secret}")).unwrap().name, "chat");
}

/// A start with these flags ends with one line that says `expected`, and never shows a secret.
#[track_caller]
fn check_refused_start(flags: &[&str], expected: &str) {
    let (status, _, stderr) = support::run(&[&["--listen", "127.0.0.1:0"], flags].concat());
    assert_eq!(status.code(), Some(2), "{stderr}");
    assert!(
        stderr.contains(expected) && stderr.lines().count() == 1,
        "{stderr}"
    );
    assert!(!stderr.contains("hunter2"), "{stderr}");
}

#[test]
fn flags_of_identity_need_auth_jwt() {
    let check = check_refused_start;
    let good = key_file(SECRET);
    let key = format!("alg=HS256,file={}", good.path().display());
    check(&["--auth", "jwt"], "--auth jwt needs --jwt-key or --jwks");
    check(&["--jwt-key", &key], "--jwt-key needs --auth jwt");
    check(
        &["--guests-may", "nothing"],
        "--guests-may needs --auth jwt",
    );
    check(
        &["--jwt-audience", "danmaku"],
        "--jwt-audience needs --auth jwt",
    );
    check(&["--jwt-leeway-s", "30"], "--jwt-leeway-s needs --auth jwt");
}

#[test]
fn keys_that_cannot_be_meant_end_the_start() {
    let check = check_refused_start;
    let short = key_file("short");
    let pem = key_file("-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----\n");
    let good = key_file(SECRET);
    let jwt = |file: &tempfile::NamedTempFile| format!("alg=HS256,file={}", file.path().display());
    check(
        &["--auth", "jwt", "--jwt-key", &jwt(&short)],
        "--jwt-key number 1 (HS256): the secret of an HS256 key must have at least 32 bytes",
    );
    let second = format!("{},kid=2026", jwt(&short));
    check(
        &[
            "--auth",
            "jwt",
            "--jwt-key",
            &jwt(&good),
            "--jwt-key",
            &second,
        ],
        "--jwt-key number 2 (HS256, kid 2026): ",
    );
    let private = pem::Pem::new("PRIVATE KEY", *b"hunter2");
    let private = key_file(&pem::encode(&private));
    let private = format!("alg=EdDSA,file={}", private.path().display());
    check(
        &["--auth", "jwt", "--jwt-key", &private],
        "this is a private key",
    );
    check(
        &["--auth", "jwt", "--jwks", "http://id.example/keys"],
        "--jwks: a key set is a file, or an https URL",
    );
    check(
        &["--auth", "jwt", "--jwt-key", &jwt(&pem)],
        "a PEM file is not a secret",
    );
    check(
        &["--auth", "jwt", "--jwt-key", "alg=HS256,file=/nowhere"],
        "cannot read /nowhere",
    );
    check(
        &["--auth", "jwt", "--jwt-key", "alg=HS256,env=hunter2"],
        "no variable",
    );
    check(
        &["--auth", "jwt", "--jwt-key", "alg=none,env=X"],
        "the algorithm must be",
    );
    check(
        &["--auth", "jwt", "--jwt-key", "hunter2"],
        "--jwt-key: a key is alg=NAME",
    );
    check(
        &["--auth", "jwt", "--jwks", "https://a:hunter2@id.example/"],
        "without a password",
    );
    let not_keys = key_file("# keys\nhunter2\n");
    check(
        &["--server-keys", not_keys.path().to_str().unwrap()],
        "--server-keys: line 2 is not part of",
    );
    check(
        &["--server-keys", "/nowhere"],
        "--server-keys: cannot read /nowhere",
    );
}

#[test]
fn what_the_server_would_refuse_is_not_made() {
    let key = key_file(SECRET);
    let key = format!("alg=HS256,file={}", key.path().display());
    let check = |flags: &[&str], expected: &str| {
        let (status, stdout, stderr) = support::run(flags);
        assert!(!status.success() && stdout.is_empty(), "{stdout}");
        assert!(stderr.contains(expected), "{stderr}");
    };
    let token = |flags: &[&str], expected: &str| {
        check(&[&["token", "--key", &key], flags].concat(), expected);
    };
    let long = "x".repeat(65);
    token(&["--sub", ""], "`sub` is not a user id");
    token(&["--sub", &long], "`sub` is not a user id");
    token(
        &["--sub", "u1", "--room", "a*b=post"],
        "a `match` in `rooms`",
    );
    token(&["--sub", "u1", "--jti", &"x".repeat(4_000)], "too long");
    for name in ["", &long, "a\nb", "a\"b"] {
        let flags = ["server-key", "--name", name, "--scope", "post"];
        check(&flags, "--name must have 1 to 64 printable bytes");
    }
}

fn revoke(server: &Server, body: &str) -> serde_json::Value {
    let answer = Answer::to(server, "POST /v1/revocations?why=spam", &[], body);
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()
}

/// A token of `user` with an id, from `iat` on.
fn issued(user: &str, iat: u64, jti: &str) -> String {
    sign(&Claims {
        iat: Some(iat),
        jti: Some(jti.to_owned()),
        ..claims(user)
    })
}

#[test]
fn revoked_tokens_end_at_once_and_stay_revoked() {
    let folder = tempfile::tempdir().unwrap();
    let data = ["--data", folder.path().to_str().unwrap()];
    let post = format!("POST {COMMENTS}");
    let (one, other) = (issued("u1", now_s(), "t1"), issued("u1", now_s(), "t2"));
    let (old, new) = (
        issued("u2", now_s() - 60, "t3"),
        issued("u2", now_s(), "t4"),
    );
    let banned = token("u3");
    {
        let server = start(&data);
        let join = |token: &str| RawViewer::join_with_header(&server, &bearer(token));
        let (mut first, mut second) = (join(&one), join(&other));
        assert_eq!(revoke(&server, r#"{"token":"t1"}"#)["closed"], 1);
        // While it is being closed, it is too late to post.
        let _ = first
            .0
            .write_all(&text(r#"{"type":"comment","ref":1,"text":"late"}"#));
        assert_eq!(first.close_code(), 4005);
        assert_eq!(ask(&server, &post, Some(&one)), unauthorized());
        assert_eq!(ask(&server, &post, Some(&other)), created());
        let page = Answer::to(&server, &format!("GET {COMMENTS}"), &[], "").json();
        assert_eq!(page["comments"].as_array().unwrap().len(), 1, "{page}");
        second
            .0
            .write_all(&text(&format!(r#"{{"type":"auth","token":"{one}"}}"#)))
            .unwrap();
        assert_eq!(second.close_code(), 4005);

        let mut before = join(&old);
        let body = format!(
            r#"{{"user":"u2","issued_before":{}}}"#,
            (now_s() - 30) * 1_000
        );
        revoke(&server, &body);
        assert_eq!(before.close_code(), 4005);
        assert_eq!(ask(&server, &post, Some(&old)), unauthorized());
        assert_eq!(ask(&server, &post, Some(&new)), created());
        revoke(&server, r#"{"user":"u3"}"#);
        let lapsed = format!(r#"{{"user":"u1","until":{}}}"#, (now_s() - 1) * 1_000);
        let lapsed = Answer::to(&server, "POST /v1/revocations", &[], &lapsed);
        assert_eq!(
            (lapsed.status, &lapsed.json()["error"]["field"]),
            (400, &"until".into())
        );
        assert_eq!(ask(&server, &post, Some(&other)), created());
    }
    let server = start(&data);
    assert_eq!(ask(&server, &post, Some(&one)), unauthorized());
    assert_eq!(ask(&server, &post, Some(&banned)), unauthorized());
}

#[test]
fn revocations_are_listed_and_lifted() {
    let server = start(&[]);
    let post = format!("POST {COMMENTS}");
    for body in [r#"{"token":"t1"}"#, r#"{"user":"u2"}"#, r#"{"user":"u3"}"#] {
        revoke(&server, body);
    }
    let (banned, new) = (token("u3"), issued("u4", now_s(), "t4"));
    assert_eq!(ask(&server, &post, Some(&banned)), unauthorized());
    let list = Answer::to(&server, "GET /v1/revocations?limit=2", &[], "").json();
    assert_eq!(list["revocations"][0]["token"], "t1");
    assert_eq!(
        (
            &list["revocations"][0]["by"],
            &list["revocations"][0]["why"]
        ),
        (&"operator".into(), &"spam".into())
    );
    let rest = format!("GET /v1/revocations?after={}", list["next"]);
    let rest = Answer::to(&server, &rest, &[], "").json();
    assert_eq!(rest["revocations"].as_array().unwrap().len(), 1);
    let id = &rest["revocations"][0]["id"];
    assert_eq!(
        ask(&server, &format!("DELETE /v1/revocations/{id}"), None).0,
        204
    );
    assert_eq!(ask(&server, &post, Some(&banned)), created());
    let missing = (404, "revocation_not_found".to_owned());
    assert_eq!(
        ask(&server, &format!("DELETE /v1/revocations/{id}"), None),
        missing
    );
    assert_eq!(ask(&server, "DELETE /v1/revocations/x", None), missing);
    let bad = Answer::to(&server, "POST /v1/revocations", &[], r#"{"everyone":true}"#);
    assert_eq!((bad.status, &*bad.code()), (400, "bad_revocation"));
    let bad = Answer::to(&server, "GET /v1/revocations?after=x", &[], "");
    assert_eq!((bad.status, &*bad.code()), (400, "bad_after"));
    let everyone = format!(
        r#"{{"everyone":true,"issued_before":{}}}"#,
        (now_s() + 1) * 1_000
    );
    revoke(&server, &everyone);
    assert_eq!(ask(&server, &post, Some(&new)), unauthorized());
    let trail = Answer::to(&server, "GET /v1/audit", &[], "").json();
    assert_eq!(trail["entries"][0]["action"], "revoke");
}
