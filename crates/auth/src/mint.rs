//! Signing tokens, for development and tests.

use jsonwebtoken::{EncodingKey, Header, encode};

use crate::claims::Claims;
use crate::key::{Algorithm, KeyError, secret};

/// Why no token was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MintError {
    /// The secret cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Not a private key of the algorithm.
    #[error("not a private key in PEM (PKCS #8) for this algorithm")]
    NotAPrivateKey,
}

/// A token with these claims, signed with a secret or a private key in PEM.
///
/// # Errors
/// [`MintError`].
pub fn mint(
    algorithm: Algorithm,
    key: &[u8],
    key_id: Option<&str>,
    claims: &Claims,
) -> Result<String, MintError> {
    let no_key = |_| MintError::NotAPrivateKey;
    let key = match algorithm {
        Algorithm::Hs256 => EncodingKey::from_secret(secret(key)?),
        Algorithm::Rs256 => EncodingKey::from_rsa_pem(key).map_err(no_key)?,
        Algorithm::Es256 => EncodingKey::from_ec_pem(key).map_err(no_key)?,
        Algorithm::EdDsa => EncodingKey::from_ed_pem(key).map_err(no_key)?,
    };
    let mut header = Header::new(algorithm.library());
    header.kid = key_id.map(str::to_owned);
    encode(&header, claims, &key).map_err(no_key)
}
