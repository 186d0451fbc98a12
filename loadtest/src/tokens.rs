//! The tokens that viewers and posters show: minted, or read from a file.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use danmaku_auth::{Action, Algorithm, Claims, Grant, KeyError, MintError, Role, mint};
use serde::Deserialize;

use crate::spec::Spec;

/// The tokens of a run.
#[derive(Clone, Debug, Default)]
pub struct Tokens {
    viewers: Source,
    posters: Source,
}

#[derive(Clone, Debug, Default)]
enum Source {
    /// Nobody shows any.
    #[default]
    Nowhere,
    /// Taken in turn.
    File(Vec<Token>),
    /// One for each viewer and poster.
    Key(Minter),
}

/// One token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// As it is shown.
    pub text: String,
    /// Whom it names, as far as can be read.
    pub user: Option<String>,
}

#[derive(Clone, Debug)]
struct Minter {
    algorithm: Algorithm,
    key: Vec<u8>,
    role: Role,
    prefix: String,
    lifetime_s: u64,
    may: Vec<Action>,
    /// What the users are called.
    kind: &'static str,
}

/// Why there are no tokens.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// A file that cannot be read.
    #[error("{}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file without tokens.
    #[error("{}: no token", .0.display())]
    Empty(PathBuf),
    /// A token that no header can carry.
    #[error("{}: token {number} has characters other than visible ASCII", .path.display())]
    Odd {
        /// The file.
        path: PathBuf,
        /// Which one, counted from 1.
        number: usize,
    },
    /// An algorithm that is not known.
    #[error("`token_algorithm`: {0}")]
    Algorithm(KeyError),
    /// A role that is not known.
    #[error("`token_role` must be one of viewer, member, moderator, streamer, operator")]
    Role,
    /// A key that cannot sign.
    #[error("`token_key`: {0}")]
    Mint(#[from] MintError),
}

/// How much longer than the run a token is valid.
const SPARE_S: u64 = 3600;

impl Tokens {
    /// The tokens a specification asks for.
    ///
    /// # Errors
    /// Files and keys that cannot be used.
    pub fn of(spec: &Spec) -> Result<Self, TokensError> {
        let viewers = match (&spec.token_file, &spec.token_key) {
            (Some(path), _) => Source::File(listed(path)?),
            (None, Some(path)) => Source::Key(Minter::of(spec, path, "viewer", &[Action::Watch])?),
            (None, None) => Source::Nowhere,
        };
        let posters = match (&spec.post_token_file, &spec.token_key) {
            (Some(path), _) => Source::File(listed(path)?),
            (None, Some(path)) => {
                let may = [Action::Watch, Action::Post];
                Source::Key(Minter::of(spec, path, "poster", &may)?)
            }
            (None, None) => viewers.clone(),
        };
        Ok(Self { viewers, posters })
    }

    /// The token of a viewer.
    #[must_use]
    pub fn viewer(&self, number: u32) -> Option<Token> {
        self.viewers.token(number)
    }

    /// The token of a connection that posts.
    #[must_use]
    pub fn poster(&self, number: u32) -> Option<Token> {
        self.posters.token(number)
    }
}

impl Source {
    fn token(&self, number: u32) -> Option<Token> {
        match self {
            Self::Nowhere => None,
            Self::File(tokens) => tokens.get(number as usize % tokens.len()).cloned(),
            Self::Key(minter) => minter.mint(number).ok(),
        }
    }
}

impl Minter {
    fn of(
        spec: &Spec,
        path: &Path,
        kind: &'static str,
        may: &[Action],
    ) -> Result<Self, TokensError> {
        let role = Role::ALL.into_iter();
        let minter = Self {
            algorithm: spec
                .token_algorithm
                .parse()
                .map_err(TokensError::Algorithm)?,
            key: read(path)?.trim_ascii().to_vec(),
            role: role
                .clone()
                .find(|role| role.as_str() == spec.token_role)
                .ok_or(TokensError::Role)?,
            prefix: spec.room_prefix.clone(),
            lifetime_s: spec.duration_s + SPARE_S,
            may: may.to_vec(),
            kind,
        };
        // What cannot sign one token fails here, and not for each viewer.
        minter.mint(0)?;
        Ok(minter)
    }

    fn mint(&self, number: u32) -> Result<Token, MintError> {
        let now_s = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let user = format!("{}-{}-{number}", self.prefix, self.kind);
        let claims = Claims {
            sub: user.clone(),
            name: Some(format!("{} {number}", self.kind)),
            role: self.role,
            rooms: Some(vec![Grant {
                pattern: format!("{}-*", self.prefix),
                allow: self.may.clone(),
            }]),
            iat: Some(now_s),
            exp: Some(now_s + self.lifetime_s),
            ..Claims::default()
        };
        Ok(Token {
            text: mint(self.algorithm, &self.key, None, &claims)?,
            user: Some(user),
        })
    }
}

impl Token {
    /// A token that somebody else made. Its signature is the server's business.
    fn read(text: &str) -> Self {
        #[derive(Deserialize)]
        struct Subject {
            sub: String,
        }
        let read = jsonwebtoken::dangerous::insecure_decode::<Subject>(text);
        Self {
            text: text.to_owned(),
            user: read.ok().map(|token| token.claims.sub),
        }
    }
}

fn listed(path: &Path) -> Result<Vec<Token>, TokensError> {
    let text = read(path)?;
    let text = String::from_utf8_lossy(&text);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let tokens: Vec<Token> = lines.map(Token::read).collect();
    let is_shown = |token: &Token| token.text.bytes().all(|byte| byte.is_ascii_graphic());
    if let Some(odd) = tokens.iter().position(|token| !is_shown(token)) {
        return Err(TokensError::Odd {
            path: path.to_owned(),
            number: odd + 1,
        });
    }
    if tokens.is_empty() {
        return Err(TokensError::Empty(path.to_owned()));
    }
    Ok(tokens)
}

fn read(path: &Path) -> Result<Vec<u8>, TokensError> {
    std::fs::read(path).map_err(|source| TokensError::File {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use danmaku_auth::{Key, KeySet, Rules, verify};
    use tempfile::NamedTempFile;

    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn file(text: &str) -> NamedTempFile {
        let file = NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    fn minted(change: impl FnOnce(&mut Spec), key: &str) -> Result<Tokens, TokensError> {
        let key = file(key);
        let mut spec = Spec {
            token_key: Some(key.path().to_owned()),
            ..Spec::default()
        };
        change(&mut spec);
        Tokens::of(&spec)
    }

    #[test]
    fn minted_tokens_name_viewers_and_posters() {
        let tokens = minted(|spec| spec.token_role = "member".to_owned(), SECRET).unwrap();
        let (viewer, poster) = (tokens.viewer(7).unwrap(), tokens.poster(7).unwrap());
        assert_eq!(viewer.user.as_deref(), Some("load-viewer-7"));
        assert_eq!(Token::read(&poster.text), poster);
        let key = Key::new(Algorithm::Hs256, SECRET.as_bytes()).unwrap();
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let verified = |token: &Token| {
            let keys = KeySet::new(vec![key.clone()]);
            verify(&token.text, &keys, &Rules::default(), now_s.as_secs()).unwrap()
        };
        let viewer = verified(&viewer);
        assert_eq!(viewer.role, Role::Member);
        assert!(viewer.allowed_in("load-3").has(Action::Watch));
        assert!(!viewer.allowed_in("load-3").has(Action::Post));
        assert!(!viewer.allowed_in("other").has(Action::Watch));
        assert!(verified(&poster).allowed_in("load-3").has(Action::Post));
    }

    #[test]
    fn tokens_of_a_file_are_taken_in_turn() {
        let viewers = file("a\n\n b \n");
        let posters = file("key\n");
        let spec = Spec {
            token_file: Some(viewers.path().to_owned()),
            ..Spec::default()
        };
        let text = |token: Option<Token>| token.unwrap().text;
        let tokens = Tokens::of(&spec).unwrap();
        assert_eq!(text(tokens.viewer(2)), "a");
        assert_eq!(text(tokens.poster(1)), "b");
        let tokens = Tokens::of(&Spec {
            post_token_file: Some(posters.path().to_owned()),
            ..spec
        });
        assert_eq!(text(tokens.unwrap().poster(1)), "key");
        assert_eq!(Tokens::of(&Spec::default()).unwrap().viewer(0), None);
    }

    #[test]
    fn what_cannot_be_used_is_refused() {
        let check = |made: Result<Tokens, TokensError>, said: &str| {
            let error = made.unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        };
        check(minted(|_| {}, "short"), "`token_key`");
        let role = |spec: &mut Spec| spec.token_role = "boss".to_owned();
        check(minted(role, SECRET), "`token_role`");
        let algorithm = |spec: &mut Spec| spec.token_algorithm = "none".to_owned();
        check(minted(algorithm, SECRET), "`token_algorithm`");
        let rsa = |spec: &mut Spec| spec.token_algorithm = "RS256".to_owned();
        check(minted(rsa, SECRET), "`token_key`");
        let empty = file("\n");
        let listed = Spec {
            token_file: Some(empty.path().to_owned()),
            ..Spec::default()
        };
        check(Tokens::of(&listed), "no token");
        std::fs::write(empty.path(), "good\n\nb d\n").unwrap();
        check(Tokens::of(&listed), "token 2");
        std::fs::remove_file(empty.path()).unwrap();
        check(Tokens::of(&listed), "No such file");
    }
}
