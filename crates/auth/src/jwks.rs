//! JSON Web Key Sets (RFC 7517).

use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use serde::Deserialize;

use crate::key::{Algorithm, Key, KeySet};

/// Why a document is no usable key set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwksError {
    /// Not `{"keys":[…]}`.
    #[error("not a JSON Web Key Set")]
    NotAKeySet,
    /// None of its keys can check tokens.
    #[error("no key in it is an RSA, P-256 or Ed25519 key for signatures")]
    NoUsableKey,
    /// More keys than are kept.
    #[error("more than {KEYS_MAX} keys")]
    TooMany,
}

/// Reads a key set. Keys for other purposes and of other algorithms are left out, and so are shared secrets, which do not
/// belong into a published document.
///
/// # Errors
/// [`JwksError`].
pub fn read_jwks(document: &[u8]) -> Result<KeySet, JwksError> {
    #[derive(Deserialize)]
    struct Document {
        keys: Vec<serde_json::Value>,
    }
    let Document { keys } = serde_json::from_slice(document).map_err(|_| JwksError::NotAKeySet)?;
    if keys.len() > KEYS_MAX {
        return Err(JwksError::TooMany);
    }
    let keys: Vec<_> = keys
        .into_iter()
        .filter_map(|key| usable(&serde_json::from_value(key).ok()?))
        .collect();
    if keys.is_empty() {
        return Err(JwksError::NoUsableKey);
    }
    Ok(KeySet::new(keys))
}

fn usable(jwk: &Jwk) -> Option<Key> {
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::Rs256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            Algorithm::Es256
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            Algorithm::EdDsa
        }
        _ => return None,
    };
    let is_for_signatures = match &jwk.common.public_key_use {
        None | Some(PublicKeyUse::Signature) => true,
        Some(_) => false,
    };
    let named = match jwk.common.key_algorithm {
        None => Some(algorithm),
        Some(KeyAlgorithm::RS256) => Some(Algorithm::Rs256),
        Some(KeyAlgorithm::ES256) => Some(Algorithm::Es256),
        Some(KeyAlgorithm::EdDSA) => Some(Algorithm::EdDsa),
        Some(_) => None,
    };
    if named != Some(algorithm) || !is_for_signatures {
        return None;
    }
    let key = Key::from_library(algorithm, DecodingKey::from_jwk(jwk).ok()?);
    Some(match &jwk.common.key_id {
        Some(id) => key.with_id(id),
        None => key,
    })
}

/// Keys in one set.
const KEYS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const EC: &str = r#"{"kty":"EC","crv":"P-256","kid":"e","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
    const ED: &str = r#"{"kty":"OKP","crv":"Ed25519","kid":"d","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

    #[test]
    fn what_is_read() {
        #[track_caller]
        fn check(document: &str, expected: Result<usize, JwksError>) {
            assert_eq!(
                read_jwks(document.as_bytes()).map(|keys| keys.len()),
                expected,
                "{document}"
            );
        }
        let set = |keys: &[&str]| format!(r#"{{"keys":[{}]}}"#, keys.join(","));
        check(&set(&[EC, ED]), Ok(2));
        // Others in the same set do no harm.
        let encrypts = EC.replace("\"kid\"", r#""use":"enc","kid""#);
        let other = r#"{"kty":"EC","crv":"secp256k1","x":"a","y":"b"}"#;
        let secret = r#"{"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ"}"#;
        let confused = EC.replace("\"kid\"", r#""alg":"HS256","kid""#);
        check(&set(&[&encrypts, other, secret, &confused, "7", ED]), Ok(1));
        check(
            &set(&[&encrypts, other, secret, &confused]),
            Err(JwksError::NoUsableKey),
        );
        check(&set(&[]), Err(JwksError::NoUsableKey));
        check("<html>", Err(JwksError::NotAKeySet));
        check("{}", Err(JwksError::NotAKeySet));
        check("", Err(JwksError::NotAKeySet));
        check(&set(&[ED; 65]), Err(JwksError::TooMany));
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        check(&set(&[&deep]), Err(JwksError::NotAKeySet));
    }
}
