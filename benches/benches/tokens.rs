//! What it costs to know who somebody is: checking a token of each algorithm, once per connection or request.

#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::hint::black_box;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair,
};
use criterion::{Criterion, criterion_group, criterion_main};
use danmaku_auth::{Action, Algorithm, Claims, Grant, Key, KeySet, Role, Rules, mint, verify};

const NOW_S: u64 = 1_764_000_000;

/// Each algorithm with its private and its public key, as in files.
fn keys() -> [(Algorithm, Vec<u8>, Vec<u8>); 4] {
    let pem = |tag: &str, der: &[u8]| pem::encode(&pem::Pem::new(tag, der)).into_bytes();
    let private = |der: &[u8]| pem("PRIVATE KEY", der);
    let public = |der: &[u8]| pem("PUBLIC KEY", der);
    let secret = b"an HS256 secret of 32 bytes or so".to_vec();
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let rsa_private: Pkcs8V1Der<'_> = rsa.as_der().unwrap();
    let rsa_public: PublicKeyX509Der<'_> = rsa.public_key().as_der().unwrap();
    let ec = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let ec_public: PublicKeyX509Der<'_> = ec.public_key().as_der().unwrap();
    let ed = Ed25519KeyPair::generate().unwrap();
    let ed_public: PublicKeyX509Der<'_> = ed.public_key().as_der().unwrap();
    [
        (Algorithm::Hs256, secret.clone(), secret),
        (
            Algorithm::Rs256,
            private(rsa_private.as_ref()),
            public(rsa_public.as_ref()),
        ),
        (
            Algorithm::Es256,
            private(ec.to_pkcs8v1().unwrap().as_ref()),
            public(ec_public.as_ref()),
        ),
        (
            Algorithm::EdDsa,
            private(ed.to_pkcs8v1().unwrap().as_ref()),
            public(ed_public.as_ref()),
        ),
    ]
}

fn check(c: &mut Criterion) {
    let claims = Claims {
        sub: "user-1234567".to_owned(),
        name: Some("mira".to_owned()),
        role: Role::Member,
        rooms: Some(vec![Grant {
            pattern: "live:*".to_owned(),
            allow: vec![Action::Watch, Action::Post],
        }]),
        exp: Some(NOW_S + 3_600),
        iat: Some(NOW_S),
        jti: Some("01890a5d-ac96-774b-bcce-b302099a8057".to_owned()),
        ..Claims::default()
    };
    let rules = Rules::default();
    let mut group = c.benchmark_group("check a token");
    for (algorithm, private, public) in keys() {
        let keys = KeySet::new(vec![Key::new(algorithm, &public).unwrap()]);
        let token = mint(algorithm, &private, None, &claims).unwrap();
        group.bench_function(algorithm.as_str(), |bencher| {
            bencher.iter(|| verify(black_box(&token), &keys, &rules, NOW_S).unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, check);
criterion_main!(benches);
