//! Owns the flags of identity, and the check that they are consistent.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use danmaku_auth::{Algorithm, KeySet, Rules, ServerKeys};

use super::jwks::{Jwks, JwksSource};
use super::key_arg::{KeyArg, KeyArgError, read_server_keys};
use super::{AuthConfig, Duplicates, Guests, Tokens, Users};

/// The flags of identity.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Identity")]
pub struct AuthArgs {
    /// How users are known: `open` makes everybody a guest who may post, `jwt` asks for tokens
    #[arg(long, value_enum, default_value = "open")]
    pub auth: AuthMode,

    /// A key that tokens are checked with, such as `alg=HS256,env=CHAT_SECRET` or `alg=ES256,file=key.pem,kid=2026`;
    /// repeatable. With `until=UNIX_SECONDS` a previous key is accepted until then
    #[arg(long, value_name = "KEY")]
    pub jwt_key: Vec<KeyArg>,

    /// A JSON Web Key Set of the issuer: a file, or an `https` URL, which is read again when a token names a new key
    #[arg(long, value_name = "FILE|URL")]
    pub jwks: Option<JwksSource>,

    /// Accepted audiences (`aud`), comma-separated; without it `aud` is not checked
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub jwt_audience: Vec<String>,

    /// Accepted issuers (`iss`), comma-separated; without it `iss` is not checked
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub jwt_issuer: Vec<String>,

    /// How far the issuer's clock may be from this server's, in seconds [default: 30]
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u32).range(0..=300))]
    pub jwt_leeway_s: Option<u32>,

    /// With `--auth jwt`: what somebody without a token may do [default: watch]
    #[arg(long, value_enum)]
    pub guests_may: Option<Guests>,

    /// File of the back ends' keys; see `danmaku-server server-key`
    #[arg(long, value_name = "FILE")]
    pub server_keys: Option<PathBuf>,

    /// Connections of one user to one room; without it as many as the address may have
    #[arg(long, value_name = "N")]
    pub user_connections_max: Option<NonZeroU32>,

    /// What happens to connections beyond `--user-connections-max`
    #[arg(long, value_enum, default_value = "replace")]
    pub user_connections_over: Over,
}

/// How users are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AuthMode {
    /// Everybody is a guest
    Open,
    /// By JSON Web Tokens
    Jwt,
}

/// What happens to one connection too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Over {
    /// The user's oldest one is closed with 4008
    Replace,
    /// The new one is refused
    Refuse,
}

/// Why the flags of identity cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthArgsError {
    /// Nothing to check tokens with.
    #[error("--auth jwt needs --jwt-key or --jwks")]
    NoKeys,
    /// A flag that would do nothing.
    #[error("{0} needs --auth jwt")]
    Open(&'static str),
    /// A key that cannot be had.
    #[error("--jwt-key number {number} ({}{}): {error}", algorithm.as_str(), id.as_ref().map(|id| format!(", kid {id}")).unwrap_or_default())]
    Key {
        /// Which one, from 1 on.
        number: usize,
        /// What it checks.
        algorithm: Algorithm,
        /// Its `kid`.
        id: Option<String>,
        /// Why.
        error: KeyArgError,
    },
    /// The file of server keys cannot be used.
    #[error("--server-keys: {0}")]
    ServerKeys(KeyArgError),
}

impl AuthArgs {
    /// Reads the keys.
    ///
    /// # Errors
    /// [`AuthArgsError`].
    pub fn check(&self) -> Result<AuthConfig, AuthArgsError> {
        let server_keys = match &self.server_keys {
            Some(path) => read_server_keys(path).map_err(AuthArgsError::ServerKeys)?,
            None => ServerKeys::default(),
        };
        Ok(AuthConfig {
            users: self.users()?,
            server_keys,
            duplicates: match (self.user_connections_max, self.user_connections_over) {
                (None, _) => Duplicates::Unlimited,
                (Some(max), Over::Replace) => Duplicates::Replace {
                    max: max.get() as usize,
                },
                (Some(max), Over::Refuse) => Duplicates::Refuse {
                    max: max.get() as usize,
                },
            },
        })
    }

    fn users(&self) -> Result<Users, AuthArgsError> {
        let has_keys = !self.jwt_key.is_empty() || self.jwks.is_some();
        match self.auth {
            AuthMode::Open => {
                return match self.flag_of_tokens() {
                    Some(flag) => Err(AuthArgsError::Open(flag)),
                    None => Ok(Users::Open),
                };
            }
            AuthMode::Jwt if !has_keys => return Err(AuthArgsError::NoKeys),
            AuthMode::Jwt => {}
        }
        let read = |(index, key): (usize, &KeyArg)| {
            key.read().map_err(|error| AuthArgsError::Key {
                number: index + 1,
                algorithm: key.algorithm(),
                id: key.id().map(str::to_owned),
                error,
            })
        };
        let keys: Result<_, _> = self.jwt_key.iter().enumerate().map(read).collect();
        let keys = KeySet::new(keys?);
        let published = self
            .jwks
            .clone()
            .map(|source| Arc::new(Jwks::new(source, keys.clone())));
        Ok(Users::Tokens(Tokens {
            keys,
            published,
            rules: Rules {
                audiences: self.jwt_audience.clone(),
                issuers: self.jwt_issuer.clone(),
                leeway_s: self.jwt_leeway_s.unwrap_or(LEEWAY_S).into(),
            },
            guests: self.guests_may.unwrap_or(Guests::Watch),
        }))
    }

    /// A flag that does nothing without `--auth jwt`.
    fn flag_of_tokens(&self) -> Option<&'static str> {
        [
            ("--jwt-key", !self.jwt_key.is_empty()),
            ("--jwks", self.jwks.is_some()),
            ("--jwt-audience", !self.jwt_audience.is_empty()),
            ("--jwt-issuer", !self.jwt_issuer.is_empty()),
            ("--jwt-leeway-s", self.jwt_leeway_s.is_some()),
            ("--guests-may", self.guests_may.is_some()),
        ]
        .into_iter()
        .find_map(|(flag, is_given)| is_given.then_some(flag))
    }
}

/// Clocks of servers that use NTP differ by less.
const LEEWAY_S: u32 = 30;
