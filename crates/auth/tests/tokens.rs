//! Tokens of every algorithm, and everything that must not pass for one.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair,
};
use danmaku_auth::{
    Action, Algorithm, Claims, Grant, Key, KeyError, KeySet, Role, Rules, TOKEN_BYTES_MAX,
    TokenError, User, mint, verify,
};
use proptest::prelude::*;

const NOW: u64 = 1_764_000_000;
const SECRET: &[u8] = b"an HS256 secret of 32 bytes or so";

/// A private key in PEM, and its public key in PEM.
struct Pair {
    algorithm: Algorithm,
    private: String,
    public: String,
}

fn pem(tag: &str, der: &[u8]) -> String {
    pem::encode(&pem::Pem::new(tag, der))
}

/// One of each asymmetric algorithm.
fn pairs() -> [Pair; 3] {
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let rsa_private: aws_lc_rs::encoding::Pkcs8V1Der<'_> = rsa.as_der().unwrap();
    let ec = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let ec_public: PublicKeyX509Der<'_> = ec.public_key().as_der().unwrap();
    let ed = Ed25519KeyPair::generate().unwrap();
    let ed_public: PublicKeyX509Der<'_> = ed.public_key().as_der().unwrap();
    let rsa_public: PublicKeyX509Der<'_> = rsa.public_key().as_der().unwrap();
    [
        (
            Algorithm::Rs256,
            rsa_private.as_ref().to_vec(),
            rsa_public.as_ref(),
        ),
        (
            Algorithm::Es256,
            ec.to_pkcs8v1().unwrap().as_ref().to_vec(),
            ec_public.as_ref(),
        ),
        (
            Algorithm::EdDsa,
            ed.to_pkcs8v1().unwrap().as_ref().to_vec(),
            ed_public.as_ref(),
        ),
    ]
    .map(|(algorithm, private, public)| Pair {
        algorithm,
        private: pem("PRIVATE KEY", &private),
        public: pem("PUBLIC KEY", public),
    })
}

fn hs256() -> Key {
    Key::new(Algorithm::Hs256, SECRET).unwrap()
}

fn claims() -> Claims {
    Claims {
        sub: "u7".to_owned(),
        exp: Some(NOW + 60),
        ..Claims::default()
    }
}

fn signed(claims: &Claims) -> String {
    mint(Algorithm::Hs256, SECRET, None, claims).unwrap()
}

#[track_caller]
fn check(claims: &Claims, rules: &Rules, expected: Result<(), TokenError>) {
    let keys = KeySet::new(vec![hs256()]);
    let verified = verify(&signed(claims), &keys, rules, NOW).map(|_| ());
    assert_eq!(verified, expected, "{claims:?}");
}

fn user(claims: &Claims) -> User {
    let keys = KeySet::new(vec![hs256()]);
    verify(&signed(claims), &keys, &Rules::default(), NOW).unwrap()
}

#[test]
fn every_algorithm_checks_its_own_tokens_and_no_others() {
    let mut all: Vec<_> = pairs()
        .into_iter()
        .map(|pair| {
            let key = Key::new(pair.algorithm, pair.public.as_bytes()).unwrap();
            (pair.algorithm, pair.private, key)
        })
        .collect();
    let secret = String::from_utf8(SECRET.to_vec()).unwrap();
    all.push((Algorithm::Hs256, secret, hs256()));
    for (algorithm, private, _) in &all {
        let token = mint(*algorithm, private.as_bytes(), None, &claims()).unwrap();
        for (other, _, key) in &all {
            let verified = verify(
                &token,
                &KeySet::new(vec![key.clone()]),
                &Rules::default(),
                NOW,
            );
            assert_eq!(
                verified.is_ok(),
                other == algorithm,
                "{algorithm:?} {other:?}"
            );
        }
    }
}

/// RFC 8725, section 2.1: a public key is no secret.
#[test]
fn a_public_key_is_not_taken_for_a_secret() {
    for pair in pairs() {
        let public = pair.public.as_bytes();
        let key = Key::new(pair.algorithm, public).unwrap();
        let forged = {
            // As an attacker would, without our checks of secrets.
            let header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256);
            let secret = jsonwebtoken::EncodingKey::from_secret(public);
            jsonwebtoken::encode(&header, &claims(), &secret).unwrap()
        };
        let verified = verify(&forged, &KeySet::new(vec![key]), &Rules::default(), NOW);
        assert_eq!(verified, Err(TokenError::UnknownKey));
        // Nor by mistake.
        let confused = Key::new(Algorithm::Hs256, public);
        assert_eq!(confused.unwrap_err(), KeyError::SecretIsPem);
    }
}

#[test]
fn keys_are_checked() {
    fn check(algorithm: Algorithm, contents: &str, expected: KeyError) {
        assert_eq!(
            Key::new(algorithm, contents.as_bytes()).unwrap_err(),
            expected
        );
    }
    check(Algorithm::Hs256, "short", KeyError::ShortSecret);
    check(Algorithm::Hs256, &"\n".repeat(40), KeyError::ShortSecret);
    let [rsa, ec, ed] = pairs();
    check(Algorithm::Rs256, "no PEM", KeyError::NotAKey);
    check(Algorithm::Rs256, &ed.public, KeyError::NotAKey);
    check(Algorithm::Es256, &rsa.public, KeyError::NotAKey);
    check(Algorithm::EdDsa, &ec.public, KeyError::NotAKey);
    for pair in [&rsa, &ec, &ed] {
        check(pair.algorithm, &pair.private, KeyError::Private);
    }
    assert_eq!("none".parse::<Algorithm>(), Err(KeyError::UnknownAlgorithm));
    assert_eq!(
        "HS512".parse::<Algorithm>(),
        Err(KeyError::UnknownAlgorithm)
    );
}

#[test]
fn what_a_token_says() {
    let full = user(&Claims {
        name: Some("mira\n".to_owned()),
        role: Role::Streamer,
        rooms: Some(vec![Grant {
            pattern: "live:7".to_owned(),
            allow: vec![Action::Watch, Action::Post, Action::Moderate],
        }]),
        since: Some(5),
        iat: Some(NOW - 1),
        jti: Some("t1".to_owned()),
        ..claims()
    });
    assert_eq!((&*full.id, full.name.as_deref()), ("u7", Some("mira")));
    assert_eq!(
        (full.member_since_s, full.issued_at_s),
        (Some(5), Some(NOW - 1))
    );
    assert_eq!(full.token_id.as_deref(), Some("t1"));
    assert!(full.allowed_in("live:7").has(Action::Moderate));
    assert!(!full.allowed_in("live:8").has(Action::Watch));
    assert_eq!(full.role_in("live:7"), Role::Streamer);
    assert_eq!(full.role_in("live:8"), Role::Viewer);
    let bare = user(&claims());
    assert_eq!((bare.role, bare.name), (Role::Viewer, None));
    let long = user(&Claims {
        name: Some("弾".repeat(40)),
        ..claims()
    });
    assert_eq!(long.name.unwrap().chars().count(), 32);
}

#[test]
fn times() {
    let leeway = Rules {
        leeway_s: 30,
        ..Rules::default()
    };
    let none = Rules::default();
    let exp = |exp| Claims { exp, ..claims() };
    check(&exp(Some(NOW + 1)), &none, Ok(()));
    check(&exp(Some(NOW)), &none, Err(TokenError::Expired));
    check(&exp(Some(NOW - 29)), &leeway, Ok(()));
    check(&exp(Some(NOW - 30)), &leeway, Err(TokenError::Expired));
    check(&exp(None), &none, Err(TokenError::NoExpiry));
    let nbf = |nbf| Claims { nbf, ..claims() };
    check(&nbf(Some(NOW)), &none, Ok(()));
    check(&nbf(Some(NOW + 1)), &none, Err(TokenError::NotYetValid));
    check(&nbf(Some(NOW + 30)), &leeway, Ok(()));
    let ends = |expire_at| {
        user(&Claims {
            expire_at,
            ..claims()
        })
        .ends_at_s
    };
    assert_eq!(ends(None), Some(NOW + 60));
    assert_eq!(ends(Some(0)), None);
    assert_eq!(ends(Some(NOW + 7_200)), Some(NOW + 7_200));
    let passed = Claims {
        expire_at: Some(NOW),
        ..claims()
    };
    check(&passed, &none, Err(TokenError::Expired));
    // `exp` still says until when the token can be used to connect.
    let over = Claims {
        exp: Some(NOW),
        expire_at: Some(NOW + 60),
        ..claims()
    };
    check(&over, &none, Err(TokenError::Expired));
}

#[test]
fn audience_and_issuer_are_checked_where_they_are_set() {
    let rules = Rules {
        audiences: vec!["danmaku".to_owned()],
        issuers: vec!["https://id.example".to_owned()],
        leeway_s: 0,
    };
    let with = |aud: serde_json::Value, iss: &str| Claims {
        aud: Some(aud),
        iss: Some(iss.to_owned()),
        ..claims()
    };
    let issuer = "https://id.example";
    check(&with("danmaku".into(), issuer), &rules, Ok(()));
    check(&with(vec!["x", "danmaku"].into(), issuer), &rules, Ok(()));
    let audience = Err(TokenError::WrongAudience);
    check(&with("other".into(), issuer), &rules, audience);
    check(&with(7.into(), issuer), &rules, audience);
    check(
        &with("danmaku".into(), "evil"),
        &rules,
        Err(TokenError::WrongIssuer),
    );
    assert!(verify(&signed(&claims()), &KeySet::new(vec![hs256()]), &rules, NOW).is_err());
    check(&with("other".into(), "evil"), &Rules::default(), Ok(()));
}

#[test]
fn bad_claims_are_refused() {
    let sub = |sub: &str| Claims {
        sub: sub.to_owned(),
        ..claims()
    };
    let rules = Rules::default();
    for bad in ["", "  ", "a\nb", &"x".repeat(65)] {
        check(&sub(bad), &rules, Err(TokenError::BadUser));
    }
    let rooms = Claims {
        rooms: Some(vec![Grant {
            pattern: "a b".to_owned(),
            allow: vec![],
        }]),
        ..claims()
    };
    let keys = KeySet::new(vec![hs256()]);
    assert!(matches!(
        verify(&signed(&rooms), &keys, &rules, NOW),
        Err(TokenError::BadGrants(_))
    ));
    // Of the wrong type: signed as they are.
    for bad in [
        r#"{"sub":"u","exp":"soon"}"#,
        r#"{"sub":"u","exp":-1}"#,
        r#"{"sub":7,"exp":1764000060}"#,
        r#"{"exp":1764000060}"#,
        r#"{"sub":"u","exp":1764000060,"role":"god"}"#,
        r#"{"sub":"u","exp":1764000060,"rooms":[{"match":"*","allow":["fly"]}]}"#,
        r#"{"sub":"u","exp":1764000060,"rooms":"*"}"#,
    ] {
        let value: serde_json::Value = serde_json::from_str(bad).unwrap();
        let token = hand_made(r#"{"alg":"HS256"}"#, &value.to_string());
        assert_eq!(
            verify(&token, &keys, &rules, NOW),
            Err(TokenError::Malformed),
            "{bad}"
        );
    }
    let fraction = hand_made(r#"{"alg":"HS256"}"#, r#"{"sub":"u","exp":1764000060.5}"#);
    assert!(verify(&fraction, &keys, &rules, NOW).is_ok());
}

/// A token with any header and claims, correctly signed with the secret.
fn hand_made(header: &str, claims: &str) -> String {
    let part = |text: &str| base64url(text.as_bytes());
    let message = format!("{}.{}", part(header), part(claims));
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, SECRET);
    let signature = aws_lc_rs::hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", base64url(signature.as_ref()))
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

#[test]
fn forged_and_malformed_tokens_are_refused() {
    let keys = KeySet::new(vec![hs256()]);
    let good = r#"{"sub":"u","exp":1764000060}"#;
    let check = |token: &str, expected: TokenError| {
        let verified = verify(token, &keys, &Rules::default(), NOW);
        assert_eq!(verified, Err(expected), "{token:.80}");
    };
    assert!(
        verify(
            &hand_made(r#"{"alg":"HS256"}"#, good),
            &keys,
            &Rules::default(),
            NOW
        )
        .is_ok()
    );
    for none in ["none", "None", "NONE", ""] {
        check(
            &hand_made(&format!(r#"{{"alg":"{none}"}}"#), good),
            TokenError::Malformed,
        );
    }
    let unsigned = format!(
        "{}.{}.",
        base64url(br#"{"alg":"none"}"#),
        base64url(good.as_bytes())
    );
    check(&unsigned, TokenError::Malformed);
    check(&hand_made("{}", good), TokenError::Malformed);
    check(
        &hand_made(r#"{"alg":"HS512"}"#, good),
        TokenError::UnknownKey,
    );
    let critical = r#"{"alg":"HS256","crit":["b64"],"b64":false}"#;
    check(&hand_made(critical, good), TokenError::Malformed);
    // Where a token says to get a key from is not looked at.
    let jku = r#"{"alg":"HS256","jku":"https://evil.example/keys","kid":"x"}"#;
    assert!(verify(&hand_made(jku, good), &keys, &Rules::default(), NOW).is_ok());
    let mut tampered = hand_made(r#"{"alg":"HS256"}"#, good);
    let last = tampered.pop().unwrap();
    tampered.push(if last == 'A' { 'E' } else { 'A' });
    check(&tampered, TokenError::WrongSignature);
    let other = mint(Algorithm::Hs256, &[b'x'; 32], None, &claims()).unwrap();
    check(&other, TokenError::WrongSignature);
    for bad in ["", ".", "..", "a.b.c", "a.b", "....", "\u{0}", "é.é.é"] {
        check(bad, TokenError::Malformed);
    }
    let long = Claims {
        name: Some("x".repeat(TOKEN_BYTES_MAX)),
        ..claims()
    };
    check(&signed(&long), TokenError::TooLong);
    let nested = |claim: &str| {
        let (open, shut) = ("[".repeat(700), "]".repeat(700));
        let claims = format!(r#"{{"sub":"u","exp":1764000060,"{claim}":{open}1{shut}}}"#);
        hand_made(r#"{"alg":"HS256"}"#, &claims)
    };
    check(&nested("aud"), TokenError::Malformed);
    check(&nested("rooms"), TokenError::Malformed);
    // Claims that nobody asked for are skipped without recursion.
    assert!(verify(&nested("x"), &keys, &Rules::default(), NOW).is_ok());
    let broken = hand_made(r#"{"alg":"HS256"}"#, &"[".repeat(2_000));
    check(&broken, TokenError::Malformed);
    let deep_header = format!(
        r#"{{"alg":"HS256","x":{}{}}}"#,
        "[".repeat(700),
        "]".repeat(700)
    );
    check(&hand_made(&deep_header, good), TokenError::Malformed);
}

#[test]
fn keys_are_chosen_by_id_and_time() {
    let key = |secret: &[u8], id: Option<&str>| {
        let key = Key::new(Algorithm::Hs256, secret).unwrap();
        match id {
            Some(id) => key.with_id(id),
            None => key,
        }
    };
    let (new, old) = ([b'n'; 32], [b'o'; 32]);
    let sign = |secret: &[u8], id| mint(Algorithm::Hs256, secret, id, &claims()).unwrap();
    #[track_caller]
    fn check(keys: &[Key], token: &str, expected: Result<(), TokenError>) {
        let keys = KeySet::new(keys.to_vec());
        let verified = verify(token, &keys, &Rules::default(), NOW);
        assert_eq!(verified.map(|_| ()), expected);
    }
    let rotated = [
        key(&new, Some("new")),
        key(&old, Some("old")).valid_until(NOW + 1),
    ];
    check(&rotated, &sign(&new, Some("new")), Ok(()));
    check(&rotated, &sign(&old, Some("old")), Ok(()));
    check(
        &rotated,
        &sign(&old, Some("new")),
        Err(TokenError::WrongSignature),
    );
    check(&rotated, &sign(&old, None), Ok(()));
    check(
        &rotated,
        &sign(&new, Some("other")),
        Err(TokenError::UnknownKey),
    );
    let over = [
        key(&new, Some("new")),
        key(&old, Some("old")).valid_until(NOW),
    ];
    check(&over, &sign(&old, Some("old")), Err(TokenError::UnknownKey));
    check(&over, &sign(&old, None), Err(TokenError::WrongSignature));
    check(&[key(&new, None)], &sign(&new, Some("any")), Ok(()));
    check(&[], &sign(&new, None), Err(TokenError::UnknownKey));
}

proptest! {
    #[test]
    fn no_bytes_pass_or_panic(token in "\\PC{0,200}") {
        let keys = KeySet::new(vec![hs256()]);
        prop_assert!(verify(&token, &keys, &Rules::default(), NOW).is_err());
    }

    #[test]
    fn a_changed_byte_is_noticed(at in 0_usize..10_000, byte in 0x21_u8..0x7f) {
        let keys = KeySet::new(vec![hs256()]);
        let token = signed(&claims());
        let mut bytes = token.clone().into_bytes();
        let at = at % bytes.len();
        bytes[at] = byte;
        let changed = String::from_utf8(bytes).unwrap();
        prop_assume!(changed != token);
        prop_assert!(verify(&changed, &keys, &Rules::default(), NOW).is_err());
    }
}
