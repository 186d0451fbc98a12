//! Keys that tokens are checked with.

use std::fmt;

use jsonwebtoken::DecodingKey;

/// The algorithms of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-256: a shared secret.
    Hs256,
    /// RSA with PKCS #1 v1.5 and SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Self; 4] = [Self::Hs256, Self::Rs256, Self::Es256, Self::EdDsa];

    /// The name in tokens (RFC 7518, section 3.1).
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }

    pub(crate) const fn library(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::Hs256 => jsonwebtoken::Algorithm::HS256,
            Self::Rs256 => jsonwebtoken::Algorithm::RS256,
            Self::Es256 => jsonwebtoken::Algorithm::ES256,
            Self::EdDsa => jsonwebtoken::Algorithm::EdDSA,
        }
    }
}

impl std::str::FromStr for Algorithm {
    type Err = KeyError;

    fn from_str(name: &str) -> Result<Self, KeyError> {
        let known = Self::ALL.into_iter().find(|it| it.as_str() == name);
        known.ok_or(KeyError::UnknownAlgorithm)
    }
}

/// A key: it checks tokens of one algorithm and of no other, whatever a token says.
#[derive(Clone)]
pub struct Key {
    id: Option<Box<str>>,
    algorithm: Algorithm,
    /// Unix seconds.
    valid_until: Option<u64>,
    pub(crate) decoding: DecodingKey,
}

/// Why a key cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not one of [`Algorithm::ALL`].
    #[error("the algorithm must be HS256, RS256, ES256 or EdDSA")]
    UnknownAlgorithm,
    /// A secret that can be guessed (RFC 7518, section 3.2).
    #[error("the secret of an HS256 key must have at least {SECRET_BYTES_MIN} bytes")]
    ShortSecret,
    /// Whoever has the public key could sign.
    #[error("a PEM file is not a secret for HS256")]
    SecretIsPem,
    /// A private key, which a server that only checks tokens should not have.
    #[error("this is a private key; the server needs the public one (`openssl pkey -pubout`)")]
    Private,
    /// Not a public key of the algorithm.
    #[error("not a public key in PEM for this algorithm")]
    NotAKey,
}

impl Key {
    /// A key from a file's or a variable's contents: a secret, or a public key in PEM.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn new(algorithm: Algorithm, contents: &[u8]) -> Result<Self, KeyError> {
        let not_a_key = |_| KeyError::NotAKey;
        if algorithm != Algorithm::Hs256 && has_private_key(contents) {
            return Err(KeyError::Private);
        }
        let decoding = match algorithm {
            Algorithm::Hs256 => DecodingKey::from_secret(secret(contents)?),
            Algorithm::Rs256 => DecodingKey::from_rsa_pem(contents).map_err(not_a_key)?,
            Algorithm::Es256 => DecodingKey::from_ec_pem(contents).map_err(not_a_key)?,
            Algorithm::EdDsa => DecodingKey::from_ed_pem(contents).map_err(not_a_key)?,
        };
        Ok(Self::from_library(algorithm, decoding))
    }

    pub(crate) fn from_library(algorithm: Algorithm, decoding: DecodingKey) -> Self {
        Self {
            id: None,
            algorithm,
            valid_until: None,
            decoding,
        }
    }

    /// The key with an id, which tokens name in `kid`.
    #[must_use]
    pub fn with_id(mut self, id: &str) -> Self {
        self.id = Some(id.into());
        self
    }

    /// The key, accepted until then, in Unix seconds.
    #[must_use]
    pub fn valid_until(mut self, until_s: u64) -> Self {
        self.valid_until = Some(until_s);
        self
    }

    /// Its algorithm.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    fn is_valid(&self, now_s: u64) -> bool {
        self.valid_until.is_none_or(|until_s| now_s < until_s)
    }
}

/// The key itself is not shown.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("id", &self.id)
            .field("algorithm", &self.algorithm)
            .field("valid_until", &self.valid_until)
            .finish_non_exhaustive()
    }
}

fn has_private_key(pem: &[u8]) -> bool {
    let label = b"PRIVATE KEY-----";
    pem.windows(label.len()).any(|window| window == label)
}

/// Checks a shared secret. Files end with a line break that is not meant.
///
/// # Errors
/// [`KeyError`].
pub(crate) fn secret(contents: &[u8]) -> Result<&[u8], KeyError> {
    let secret = contents.trim_ascii_end();
    if secret.starts_with(b"-----BEGIN ") {
        return Err(KeyError::SecretIsPem);
    }
    if secret.len() < SECRET_BYTES_MIN {
        return Err(KeyError::ShortSecret);
    }
    Ok(secret)
}

/// The keys that a token may be signed with.
#[derive(Clone, Debug, Default)]
pub struct KeySet(Vec<Key>);

impl KeySet {
    /// A set of keys.
    #[must_use]
    pub fn new(keys: Vec<Key>) -> Self {
        Self(keys)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The keys of both.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self([&self.0[..], &other.0[..]].concat())
    }

    /// The keys that may have signed a token with this header, a few at most.
    pub(crate) fn candidates(
        &self,
        id: Option<&str>,
        algorithm: jsonwebtoken::Algorithm,
        now_s: u64,
    ) -> impl Iterator<Item = &Key> {
        let named = self
            .0
            .iter()
            .any(|key| id.is_some() && key.id.as_deref() == id);
        let is_meant = move |key: &&Key| match (id, &key.id) {
            (Some(id), Some(own)) => **own == *id,
            // A token that names a key we have is not checked with one that has no name.
            (Some(_), None) => !named,
            (None, _) => true,
        };
        self.0
            .iter()
            .filter(is_meant)
            .filter(move |key| key.algorithm.library() == algorithm && key.is_valid(now_s))
            .take(CANDIDATES_MAX)
    }
}

/// As long as the hash (RFC 7518, section 3.2).
const SECRET_BYTES_MIN: usize = 32;

/// Keys tried for one token, so that a token without `kid` cannot cost much.
const CANDIDATES_MAX: usize = 4;
