//! Owns who a request or a connection is, and what they may do: the decisions of `danmaku-auth` with this server's keys.

mod args;
mod identity;
mod jwks;
mod key_arg;
mod revocations;
mod sessions;

use std::sync::{Arc, PoisonError, RwLock};

use danmaku_auth::{Action, KeySet, Principal, Rules, Scope, ServerKeys, TokenError, User, verify};
use danmaku_log::Revocation;
use danmaku_wire::RoomId;

pub use args::{AuthArgs, AuthArgsError, AuthMode, Over};
pub use identity::{Author, Identity};
pub use jwks::{Jwks, JwksSource};
pub use key_arg::{KeyArg, KeyArgError, read_server_keys};
pub use revocations::Revocations;
pub use sessions::{Due, Duplicates, NewSession, Session, SessionGuard, Sessions, TooManySessions};

/// How the server knows people.
#[derive(Clone, Debug, Default)]
pub struct AuthConfig {
    /// Users.
    pub users: Users,
    /// Back ends.
    pub server_keys: ServerKeys,
    /// What happens to a user's connections beyond a number.
    pub duplicates: Duplicates,
}

/// How the server knows users.
#[derive(Clone, Debug, Default)]
pub enum Users {
    /// Not at all: everybody is a guest who may watch and post.
    #[default]
    Open,
    /// By their tokens.
    Tokens(Tokens),
}

/// What tokens are checked with.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// The keys that operators gave.
    pub keys: KeySet,
    /// Those, and the keys that an issuer publishes.
    pub published: Option<Arc<Jwks>>,
    /// What tokens must say.
    pub rules: Rules,
    /// What somebody without a token may do.
    pub guests: Guests,
}

/// What guests may do where users have tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Guests {
    /// Watch and read
    Watch,
    /// Nothing
    Nothing,
}

/// The token or server key is not valid. Nobody is told why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotValid;

/// Why somebody may not do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// Guests may not; somebody with a token might.
    Guest,
    /// This token or key does not allow it.
    Forbidden,
}

/// Who may do what.
#[derive(Debug)]
pub struct Auth {
    config: AuthConfig,
    revocations: RwLock<Arc<Revocations>>,
}

impl Auth {
    /// With the keys of the flags, and the revocations of the records.
    #[must_use]
    pub fn new(config: AuthConfig, revocations: &[Revocation]) -> Self {
        let revocations = Arc::new(Revocations::new(revocations));
        Self {
            config,
            revocations: RwLock::new(revocations),
        }
    }

    /// Replaces the revocations by those of the records, which are read here, so that of two changes at once the later one
    /// is not lost.
    pub fn update_revocations(&self, kept: impl FnOnce() -> Arc<Vec<Revocation>>) {
        let mut revocations = self
            .revocations
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *revocations = Arc::new(Revocations::new(&kept()));
    }

    /// Whether the token of a connection is revoked.
    #[must_use]
    pub fn is_revoked(&self, identity: &Identity, now_ms: u64) -> bool {
        self.revocations().has_identity(identity, now_ms)
    }

    fn revocations(&self) -> Arc<Revocations> {
        let revocations = self.revocations.read();
        Arc::clone(&revocations.unwrap_or_else(PoisonError::into_inner))
    }

    /// Who sent this token or server key; a guest, where nothing was sent. On a server without users, tokens are not looked
    /// at.
    ///
    /// # Errors
    /// [`NotValid`].
    pub async fn identify(&self, secret: Option<&str>, now_ms: u64) -> Result<Principal, NotValid> {
        let AuthConfig {
            users, server_keys, ..
        } = &self.config;
        match (secret, users) {
            (None, _) => Ok(Principal::Guest),
            (Some(secret), _) if ServerKeys::is_meant(secret) => {
                let key = server_keys.find(secret).ok_or(NotValid)?;
                Ok(Principal::Server(key.clone()))
            }
            (Some(_), Users::Open) => Ok(Principal::Guest),
            (Some(token), Users::Tokens(tokens)) => tokens
                .verify_fresh(token, now_ms / 1_000)
                .await
                .map_err(|error| {
                    tracing::debug!(%error, "token refused");
                    NotValid
                })
                .and_then(|user| {
                    if self.revocations().has(&user, now_ms) {
                        return Err(NotValid);
                    }
                    Ok(Principal::User(Box::new(user)))
                }),
        }
    }

    /// Whether `principal` may do `action` in `room`.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn check(
        &self,
        principal: &Principal,
        room: &RoomId,
        action: Action,
    ) -> Result<(), Denied> {
        let is_allowed = match principal {
            Principal::Guest => return self.check_guest(action),
            Principal::User(user) => user.allowed_in(room.as_str()).has(action),
            Principal::Server(key) => key.has(action.into()),
        };
        if is_allowed {
            Ok(())
        } else {
            Err(Denied::Forbidden)
        }
    }

    /// Whether guests may do `action`.
    ///
    /// # Errors
    /// [`Denied::Guest`].
    pub fn check_guest(&self, action: Action) -> Result<(), Denied> {
        let is_allowed = match &self.config.users {
            Users::Open => action != Action::Moderate,
            Users::Tokens(tokens) => action == Action::Watch && tokens.guests == Guests::Watch,
        };
        if is_allowed {
            Ok(())
        } else {
            Err(Denied::Guest)
        }
    }

    /// Whether `principal` may do what concerns all rooms, such as erasing what a user posted.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn check_operator(&self, principal: &Principal) -> Result<(), Denied> {
        match principal {
            Principal::Guest => Err(Denied::Guest),
            Principal::User(user) if user.role == danmaku_auth::Role::Operator => Ok(()),
            Principal::Server(key) if key.has(Scope::Operate) => Ok(()),
            Principal::User(_) | Principal::Server(_) => Err(Denied::Forbidden),
        }
    }

    /// What happens to a user's connections beyond a number.
    #[must_use]
    pub fn duplicates(&self) -> Duplicates {
        self.config.duplicates
    }

    /// The keys that an issuer publishes, which have to be kept fresh.
    #[must_use]
    pub fn published_keys(&self) -> Option<&Arc<Jwks>> {
        match &self.config.users {
            Users::Open => None,
            Users::Tokens(tokens) => tokens.published.as_ref(),
        }
    }

    /// Whether everybody is a guest who may watch and post.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.config.users, Users::Open)
    }
}

impl Tokens {
    /// Checks a token; if it names a key that nobody has seen yet, after a look at what the issuer publishes now.
    async fn verify_fresh(&self, token: &str, now_s: u64) -> Result<User, TokenError> {
        let verified = self.verify(token, now_s);
        match (&verified, &self.published) {
            (Err(TokenError::UnknownKey), Some(published)) => {
                published.refresh().await;
                self.verify(token, now_s)
            }
            _ => verified,
        }
    }

    fn verify(&self, token: &str, now_s: u64) -> Result<User, TokenError> {
        match &self.published {
            None => verify(token, &self.keys, &self.rules, now_s),
            Some(published) => verify(token, &published.keys(), &self.rules, now_s),
        }
    }
}
