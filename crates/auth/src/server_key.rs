//! Server keys: how back ends say who they are.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::fill;
use serde::Deserialize;

use crate::grants::Action;

/// What a server key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Read rooms that guests may not watch.
    Watch,
    /// Post for any user.
    Post,
    /// Moderate any room.
    Moderate,
    /// Everything about users, and revocations.
    Operate,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 4] = [Self::Watch, Self::Post, Self::Moderate, Self::Operate];

    /// The word in the file of keys.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Watch => "watch",
            Self::Post => "post",
            Self::Moderate => "moderate",
            Self::Operate => "operate",
        }
    }
}

impl From<Action> for Scope {
    fn from(action: Action) -> Self {
        match action {
            Action::Watch => Self::Watch,
            Action::Post => Self::Post,
            Action::Moderate => Self::Moderate,
        }
    }
}

/// A key that the server knows by its hash.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerKey {
    /// The name that operators gave it.
    pub name: Box<str>,
    scopes: Box<[Scope]>,
    hash: [u8; HASH_BYTES],
}

impl ServerKey {
    /// Whether it has the scope.
    #[must_use]
    pub fn has(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }
}

/// The hash is not shown.
impl fmt::Debug for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerKey")
            .field("name", &self.name)
            .field("scopes", &self.scopes)
            .finish_non_exhaustive()
    }
}

/// The server keys of a file.
#[derive(Clone, Debug, Default)]
pub struct ServerKeys(Vec<Arc<ServerKey>>);

/// Why a file of server keys is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServerKeysError {
    /// Not the TOML that is expected. What is there is not repeated: it may be a secret.
    #[error(
        "line {line} is not part of a `[[key]]` with `name`, `hash` and `scopes`, a list of watch, post, moderate and operate"
    )]
    Syntax {
        /// The line, from 1 on.
        line: usize,
    },
    /// A name that would be confusing in the audit trail.
    #[error("the name of a key must have 1 to {NAME_BYTES_MAX} bytes and no control characters")]
    BadName,
    /// A hash that is not one.
    #[error("the hash of `{0}` must be sha256: and 64 hexadecimal digits")]
    BadHash(Box<str>),
    /// Two keys of one name, which could not be told apart in the audit trail.
    #[error("two keys are called `{0}`")]
    SameName(Box<str>),
}

impl ServerKeys {
    /// Reads the file: `[[key]]` tables with `name`, `hash` and `scopes`.
    ///
    /// # Errors
    /// [`ServerKeysError`].
    pub fn read(text: &str) -> Result<Self, ServerKeysError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File {
            #[serde(default)]
            key: Vec<Entry>,
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Entry {
            name: Box<str>,
            hash: String,
            scopes: Box<[Scope]>,
        }
        let file: File = toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            let before = text.bytes().take(start);
            ServerKeysError::Syntax {
                line: 1 + before.filter(|&byte| byte == b'\n').count(),
            }
        })?;
        let mut keys: Vec<Arc<ServerKey>> = Vec::new();
        for Entry { name, hash, scopes } in file.key {
            let is_name = !name.trim().is_empty() && name.len() <= NAME_BYTES_MAX;
            if !is_name || name.contains(char::is_control) {
                return Err(ServerKeysError::BadName);
            }
            if keys.iter().any(|key| key.name == name) {
                return Err(ServerKeysError::SameName(name));
            }
            let Some(hash) = hash.strip_prefix(HASH_PREFIX).and_then(from_hex) else {
                return Err(ServerKeysError::BadHash(name));
            };
            keys.push(Arc::new(ServerKey { name, scopes, hash }));
        }
        Ok(Self(keys))
    }

    /// The key with this secret.
    #[must_use]
    pub fn find(&self, secret: &str) -> Option<&Arc<ServerKey>> {
        // The secret is random and only its hash is compared, so the time this takes tells nothing.
        let hash = digest(&SHA256, secret.as_bytes());
        self.0.iter().find(|key| key.hash == hash.as_ref())
    }

    /// Whether the text is meant as a server key and not as a token.
    #[must_use]
    pub fn is_meant(secret: &str) -> bool {
        secret.starts_with(SECRET_PREFIX)
    }
}

/// A new key.
#[derive(Clone, Debug)]
pub struct NewServerKey {
    /// What the back end sends. It cannot be read again.
    pub secret: String,
    /// What the file of keys holds.
    pub hash: String,
}

impl NewServerKey {
    /// A random key of 256 bits; `None` if the system has no random numbers.
    #[must_use]
    pub fn generate() -> Option<Self> {
        let mut random = [0; HASH_BYTES];
        fill(&mut random).ok()?;
        let secret = format!("{SECRET_PREFIX}{}", to_hex(&random));
        let hash = to_hex(digest(&SHA256, secret.as_bytes()).as_ref());
        Some(Self {
            secret,
            hash: format!("{HASH_PREFIX}{hash}"),
        })
    }
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        use std::fmt::Write as _;
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn from_hex(hex: &str) -> Option<[u8; HASH_BYTES]> {
    let mut bytes = [0; HASH_BYTES];
    if hex.len() != 2 * HASH_BYTES || !hex.is_ascii() {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(bytes)
}

/// So that a key is recognised where it should not be, such as in a repository.
const SECRET_PREFIX: &str = "dk_";

/// Longest name, in bytes, as of a user's id.
const NAME_BYTES_MAX: usize = 64;

const HASH_PREFIX: &str = "sha256:";

const HASH_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_by_its_secret_alone() {
        let new = NewServerKey::generate().unwrap();
        let file = format!(
            "[[key]]\nname = \"chat\"\nhash = \"{}\"\nscopes = [\"post\"]\n",
            new.hash
        );
        let keys = ServerKeys::read(&file).unwrap();
        let key = keys.find(&new.secret).unwrap();
        assert_eq!(&*key.name, "chat");
        assert!(key.has(Scope::Post) && !key.has(Scope::Operate));
        assert!(keys.find(&new.hash).is_none() && keys.find("dk_").is_none());
        let other = NewServerKey::generate().unwrap();
        assert!(keys.find(&other.secret).is_none());
        assert!(!format!("{keys:?}").contains(&new.hash[7..]));
    }

    #[test]
    fn a_bad_file_is_refused() {
        fn check(file: &str, expected: &str) {
            let error = ServerKeys::read(file).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let hash = format!("sha256:{}", "0".repeat(64));
        let entry = |name: &str, hash: &str, scope: &str| {
            format!("[[key]]\nname = \"{name}\"\nhash = \"{hash}\"\nscopes = [\"{scope}\"]\n")
        };
        check(&entry("a", "sha256:12", "post"), "the hash of `a`");
        check(&entry("a", &hash[7..], "post"), "the hash of `a`");
        check(&entry("a", &hash, "pots"), "line 4 is not part");
        check("[[key]]\nname = \"a\"\n", "line 1 is not part");
        check("kee = 1", "line 1 is not part");
        check("[[", "line 1 is not part");
        check(&entry("", &hash, "post"), "1 to 64 bytes");
        check(&entry("a\\n", &hash, "post"), "no control");
        check(&entry(&"a".repeat(65), &hash, "post"), "1 to 64 bytes");
        let secret = ServerKeys::read("# keys\nhunter2").unwrap_err();
        assert!(secret.to_string().starts_with("line 2 "), "{secret}");
        assert!(!secret.to_string().contains("hunter"), "{secret}");
        let twice = entry("a", &hash, "post").repeat(2);
        check(&twice, "two keys are called `a`");
        assert!(ServerKeys::read("").is_ok());
    }
}
