//! Published keys: read when they are needed, and kept when what is published is no good.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use danmaku_auth::{Algorithm, Claims, mint};
use support::raw::Answer;
use support::{PATIENCE, Server};

/// An issuer: what it publishes, and how often it was asked.
struct Issuer {
    url: String,
    published: Arc<Mutex<String>>,
    asked: Arc<AtomicU64>,
}

impl Issuer {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let issuer = Self {
            url: format!("http://{}/keys", listener.local_addr().unwrap()),
            published: Arc::default(),
            asked: Arc::default(),
        };
        let (published, asked) = (Arc::clone(&issuer.published), Arc::clone(&issuer.asked));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                    request.push(byte[0]);
                }
                assert!(request.starts_with(b"GET /keys HTTP/1.1\r\n"));
                asked.fetch_add(1, Ordering::Relaxed);
                let body = published.lock().unwrap().clone();
                let length = body.len();
                let _ = write!(
                    stream,
                    "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
                );
            }
        });
        issuer
    }

    fn publish(&self, document: impl Into<String>) {
        *self.published.lock().unwrap() = document.into();
    }

    fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

/// A key of the issuer.
struct Signer {
    id: &'static str,
    pair: Ed25519KeyPair,
}

impl Signer {
    fn new(id: &'static str) -> Self {
        Self {
            id,
            pair: Ed25519KeyPair::generate().unwrap(),
        }
    }

    /// The key as it is published.
    fn jwk(&self) -> String {
        let x = base64url(self.pair.public_key().as_ref());
        format!(
            r#"{{"kty":"OKP","crv":"Ed25519","kid":"{}","x":"{x}"}}"#,
            self.id
        )
    }

    fn token(&self) -> String {
        let now_s = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let claims = Claims {
            sub: "u1".to_owned(),
            exp: Some(now_s + 600),
            ..Claims::default()
        };
        let private = pem::Pem::new("PRIVATE KEY", self.pair.to_pkcs8v1().unwrap().as_ref());
        let private = pem::encode(&private);
        mint(Algorithm::EdDsa, private.as_bytes(), Some(self.id), &claims).unwrap()
    }
}

fn base64url(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk
            .iter()
            .fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - chunk.len()));
        for place in 0..=chunk.len() {
            text.push(char::from(
                LETTERS[(bits >> (18 - 6 * place) & 63) as usize],
            ));
        }
    }
    text
}

fn set(keys: &[&Signer]) -> String {
    let keys: Vec<_> = keys.iter().map(|key| key.jwk()).collect();
    format!(r#"{{"keys":[{}]}}"#, keys.join(","))
}

fn post(server: &Server, signer: &Signer) -> u16 {
    let bearer = format!("Authorization: Bearer {}", signer.token());
    let line = "POST /v1/rooms/r/comments";
    Answer::to(server, line, &[&bearer], r#"{"text":"hello"}"#).status
}

/// Posts until it is accepted: between two reads of the keys there is a pause.
fn post_until_accepted(server: &Server, signer: &Signer) {
    let start = Instant::now();
    while post(server, signer) != 201 {
        assert!(start.elapsed() < PATIENCE, "{} is not accepted", signer.id);
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn published_keys_are_read_when_a_token_needs_them_and_outlast_nonsense() {
    let (old, new, unknown) = (
        Signer::new("old"),
        Signer::new("new"),
        Signer::new("unknown"),
    );
    let issuer = Issuer::start();
    issuer.publish(set(&[&old]));
    let server = Server::start(&["--auth", "jwt", "--jwks", &issuer.url]);
    post_until_accepted(&server, &old);
    issuer.publish(set(&[&old, &new]));
    post_until_accepted(&server, &new);
    // Made-up keys do not become as many requests to the issuer.
    let before = issuer.asked();
    for _ in 0..50 {
        assert_eq!(post(&server, &unknown), 401);
    }
    assert!(issuer.asked() <= before + 25, "{}", issuer.asked() - before);
    for nonsense in ["<html>", "{\"keys\":[]}", ""] {
        issuer.publish(nonsense);
        let asked = issuer.asked();
        let start = Instant::now();
        while issuer.asked() == asked {
            assert_eq!(post(&server, &unknown), 401);
            assert!(start.elapsed() < PATIENCE, "the keys are not read again");
            std::thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(post(&server, &new), 201, "the last good set stays");
    }
    // What is no longer published is no longer accepted.
    issuer.publish(set(&[&new]));
    let start = Instant::now();
    while post(&server, &old) != 401 {
        let _ = post(&server, &unknown);
        assert!(start.elapsed() < PATIENCE, "the old key is still accepted");
        std::thread::sleep(Duration::from_millis(100));
    }
    // The posts so far may have used up the user's rate.
    post_until_accepted(&server, &new);
}

#[test]
fn a_key_set_can_be_a_file_and_need_not_be_there_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let server = Server::start(&["--auth", "jwt", "--jwks", path.to_str().unwrap()]);
    let signer = Signer::new("k");
    assert_eq!(post(&server, &signer), 401);
    std::fs::write(&path, set(&[&signer])).unwrap();
    post_until_accepted(&server, &signer);
}
