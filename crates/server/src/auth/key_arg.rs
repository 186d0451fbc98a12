//! Owns where keys come from: files and the environment.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use danmaku_auth::{Algorithm, Key, KeyError, ServerKeys, ServerKeysError};

/// One value of `--jwt-key`: `alg=NAME,file=PATH` or `alg=NAME,env=NAME`, possibly with `kid=ID` and `until=UNIX_SECONDS`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyArg {
    algorithm: Algorithm,
    source: Source,
    id: Option<String>,
    until_s: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    File(PathBuf),
    Variable(String),
}

/// Why a key cannot be had.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyArgError {
    /// Not `NAME=VALUE,…` with the known names.
    #[error(
        "a key is alg=NAME,file=PATH or alg=NAME,env=NAME, with kid=ID and until=UNIX_SECONDS where needed"
    )]
    Syntax,
    /// A file that cannot be read.
    #[error("cannot read {path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's words.
        error: String,
    },
    /// A variable that is not set. Its name is not repeated: a shell may have put the secret there.
    #[error("the environment has no variable of the name in `env`")]
    Variable,
    /// What is there is no key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// What is there is no list of server keys.
    #[error(transparent)]
    ServerKeys(#[from] ServerKeysError),
}

impl FromStr for KeyArg {
    type Err = KeyArgError;

    fn from_str(text: &str) -> Result<Self, KeyArgError> {
        let (mut algorithm, mut source, mut id, mut until_s) = (None, None, None, None);
        for part in text.split(',') {
            let (name, value) = part.split_once('=').ok_or(KeyArgError::Syntax)?;
            let repeated = match name {
                "alg" => algorithm.replace(value.parse()?).is_some(),
                "file" => source.replace(Source::File(value.into())).is_some(),
                "env" => source.replace(Source::Variable(value.into())).is_some(),
                "kid" => id.replace(value.to_owned()).is_some(),
                "until" => {
                    let seconds = value.parse().map_err(|_| KeyArgError::Syntax)?;
                    until_s.replace(seconds).is_some()
                }
                _ => return Err(KeyArgError::Syntax),
            };
            if repeated {
                return Err(KeyArgError::Syntax);
            }
        }
        Ok(Self {
            algorithm: algorithm.ok_or(KeyArgError::Syntax)?,
            source: source.ok_or(KeyArgError::Syntax)?,
            id,
            until_s,
        })
    }
}

impl KeyArg {
    /// The algorithm.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The key's id.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Reads the secret or the PEM text.
    ///
    /// # Errors
    /// [`KeyArgError`].
    pub fn contents(&self) -> Result<Vec<u8>, KeyArgError> {
        match &self.source {
            Source::File(path) => read(path),
            Source::Variable(name) => std::env::var(name)
                .map(String::into_bytes)
                .map_err(|_| KeyArgError::Variable),
        }
    }

    /// Reads the key.
    ///
    /// # Errors
    /// [`KeyArgError`].
    pub fn read(&self) -> Result<Key, KeyArgError> {
        let mut key = Key::new(self.algorithm, &self.contents()?)?;
        if let Some(id) = &self.id {
            key = key.with_id(id);
        }
        Ok(match self.until_s {
            Some(until_s) => key.valid_until(until_s),
            None => key,
        })
    }
}

/// Reads the file of `--server-keys`.
///
/// # Errors
/// [`KeyArgError`].
pub fn read_server_keys(path: &Path) -> Result<ServerKeys, KeyArgError> {
    let bytes = read(path)?;
    Ok(ServerKeys::read(&String::from_utf8_lossy(&bytes))?)
}

fn read(path: &Path) -> Result<Vec<u8>, KeyArgError> {
    std::fs::read(path).map_err(|error| KeyArgError::File {
        path: path.to_owned(),
        error: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments() {
        #[track_caller]
        fn check(text: &str, expected: Option<(Algorithm, Option<&str>, Option<u64>)>) {
            let parsed = text.parse::<KeyArg>().ok();
            let parts = parsed
                .as_ref()
                .map(|it| (it.algorithm, it.id(), it.until_s));
            assert_eq!(parts, expected, "{text}");
        }
        check("alg=HS256,env=A", Some((Algorithm::Hs256, None, None)));
        check(
            "alg=ES256,file=a.pem,kid=k=1,until=9",
            Some((Algorithm::Es256, Some("k=1"), Some(9))),
        );
        for bad in [
            "",
            "HS256",
            "alg=HS256",
            "file=a",
            "alg=HS256,file=a,env=b",
            "alg=HS256,file=a,until=x",
            "alg=HS256,file=a,x=1",
            "alg=none,file=a",
        ] {
            check(bad, None);
        }
    }
}
