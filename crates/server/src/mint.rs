//! Owns the commands that make tokens and server keys.

use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, ValueEnum};
use danmaku_auth::{
    Action, Claims, Grant, MintError, NewServerKey, Role, Scope, ServerKeys, TOKEN_BYTES_MAX,
    TokenError, check_claims, mint as sign,
};

use crate::auth::{KeyArg, KeyArgError};

/// The flags of `danmaku-server token`.
#[derive(Args, Clone, Debug)]
pub struct TokenArgs {
    /// The key to sign with, as in `--jwt-key`; for RS256, ES256 and EdDSA the private key
    #[arg(long, value_name = "KEY")]
    pub key: KeyArg,

    /// The user's id
    #[arg(long, value_name = "ID")]
    pub sub: String,

    /// The name to show
    #[arg(long)]
    pub name: Option<String>,

    /// The user's role
    #[arg(long, value_enum, default_value = "viewer")]
    pub role: RoleArg,

    /// What the user may do where, such as `live:7=watch,post,moderate` or `*=watch`; repeatable. Without it, what the role
    /// allows everywhere
    #[arg(long = "room", value_name = "ROOM=ACTIONS", value_parser = parse_grant)]
    pub rooms: Vec<Grant>,

    /// For how long the token is accepted, in seconds
    #[arg(long, value_name = "S", default_value_t = 3_600)]
    pub ttl: u64,

    /// When connections made with the token end, in seconds from now, 0 for never; without it after `--ttl`
    #[arg(long, value_name = "S")]
    pub connection_ttl: Option<u64>,

    /// Since when the user is a member, in Unix seconds
    #[arg(long, value_name = "UNIX_SECONDS")]
    pub since: Option<u64>,

    /// The token's id, to revoke it by
    #[arg(long, value_name = "ID")]
    pub jti: Option<String>,

    /// Whom the token is meant for
    #[arg(long, value_name = "NAME")]
    pub aud: Option<String>,

    /// Who issues the token
    #[arg(long, value_name = "NAME")]
    pub iss: Option<String>,
}

/// The flags of `danmaku-server server-key`.
#[derive(Args, Clone, Debug)]
pub struct ServerKeyArgs {
    /// The back end's name
    #[arg(long)]
    pub name: String,

    /// What the back end may do, comma-separated
    #[arg(
        long,
        value_enum,
        value_name = "SCOPE",
        value_delimiter = ',',
        required = true
    )]
    pub scope: Vec<ScopeArg>,
}

/// See [`Role`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RoleArg {
    /// Anyone
    Viewer,
    /// A supporter of the streamer
    Member,
    /// A moderator
    Moderator,
    /// A room's streamer
    Streamer,
    /// Somebody who runs the server
    Operator,
}

/// See [`Scope`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ScopeArg {
    /// Read rooms that guests may not watch
    Watch,
    /// Post for any user
    Post,
    /// Moderate any room
    Moderate,
    /// Everything about users, and revocations
    Operate,
}

/// Why nothing was made.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// The key cannot be read.
    #[error("--key: {0}")]
    Key(#[from] KeyArgError),
    /// The key cannot sign.
    #[error("--key: {0}")]
    Mint(#[from] MintError),
    /// The server would refuse the token.
    #[error("the server would refuse this token: {0}")]
    Refused(#[from] TokenError),
    /// The name would break the file of keys.
    #[error("--name must have 1 to 64 printable bytes, without quotes and backslashes")]
    Name,
    /// The system has no random numbers.
    #[error("the system has no random numbers")]
    Random,
    /// Writing to the terminal failed.
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
}

/// Prints a token.
///
/// # Errors
/// [`MakeError`].
pub fn token(args: &TokenArgs) -> Result<(), MakeError> {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    let now_s = since_1970.map_or(0, |since| since.as_secs());
    let claims = Claims {
        sub: args.sub.clone(),
        name: args.name.clone(),
        role: args.role.into(),
        rooms: (!args.rooms.is_empty()).then(|| args.rooms.clone()),
        since: args.since,
        exp: Some(now_s.saturating_add(args.ttl)),
        expire_at: args.connection_ttl.map(|ttl| match ttl {
            0 => 0,
            ttl => now_s.saturating_add(ttl),
        }),
        nbf: None,
        iat: Some(now_s),
        jti: args.jti.clone(),
        aud: args.aud.clone().map(Into::into),
        iss: args.iss.clone(),
    };
    check_claims(&claims)?;
    let contents = args.key.contents()?;
    let token = sign(args.key.algorithm(), &contents, args.key.id(), &claims)?;
    if token.len() > TOKEN_BYTES_MAX {
        return Err(TokenError::TooLong.into());
    }
    writeln!(io::stdout(), "{token}")?;
    Ok(())
}

/// Prints a new server key, and the entry for the file of `--server-keys`.
///
/// # Errors
/// [`MakeError`].
pub fn server_key(args: &ServerKeyArgs) -> Result<(), MakeError> {
    let ServerKeyArgs { name, scope } = args;
    let new = NewServerKey::generate().ok_or(MakeError::Random)?;
    let scopes: Vec<_> = scope.iter().map(|&it| Scope::from(it).as_str()).collect();
    let entry = format!(
        "[[key]]\nname = \"{name}\"\nhash = \"{}\"\nscopes = {scopes:?}\n",
        new.hash
    );
    ServerKeys::read(&entry).map_err(|_| MakeError::Name)?;
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "# For the back end, which sends it in `Authorization: Bearer`:"
    )?;
    writeln!(out, "# {}", new.secret)?;
    writeln!(out, "# For the file of --server-keys:")?;
    write!(out, "{entry}")?;
    Ok(())
}

impl From<RoleArg> for Role {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::Viewer => Self::Viewer,
            RoleArg::Member => Self::Member,
            RoleArg::Moderator => Self::Moderator,
            RoleArg::Streamer => Self::Streamer,
            RoleArg::Operator => Self::Operator,
        }
    }
}

impl From<ScopeArg> for Scope {
    fn from(scope: ScopeArg) -> Self {
        match scope {
            ScopeArg::Watch => Self::Watch,
            ScopeArg::Post => Self::Post,
            ScopeArg::Moderate => Self::Moderate,
            ScopeArg::Operate => Self::Operate,
        }
    }
}

fn parse_grant(text: &str) -> Result<Grant, String> {
    let (pattern, actions) = text
        .split_once('=')
        .ok_or("a grant is ROOM=ACTIONS, such as live:7=watch,post")?;
    let action = |word: &str| Action::ALL.into_iter().find(|it| it.as_str() == word);
    let allow: Option<_> = actions.split(',').map(action).collect();
    Ok(Grant {
        pattern: pattern.to_owned(),
        allow: allow.ok_or("an action is watch, post or moderate")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants() {
        fn check(text: &str, expected: Option<(&str, &[Action])>) {
            let grant = parse_grant(text).ok();
            let grant = grant.as_ref().map(|it| (&*it.pattern, &*it.allow));
            assert_eq!(grant, expected, "{text}");
        }
        check("*=watch", Some(("*", &[Action::Watch])));
        check(
            "a:b=watch,post",
            Some(("a:b", &[Action::Watch, Action::Post])),
        );
        check("a", None);
        check("a=", None);
        check("a=fly", None);
    }
}
