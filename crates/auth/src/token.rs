//! Checking tokens (RFC 7519, RFC 8725).

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Validation, decode, decode_header};

use crate::claims::Claims;
use crate::grants::{Action, Allowed, GrantError, Grants};
use crate::key::KeySet;
use crate::role::Role;

/// What tokens must say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Accepted audiences; if there are none, `aud` is not looked at.
    pub audiences: Vec<String>,
    /// Accepted issuers; if there are none, `iss` is not looked at.
    pub issuers: Vec<String>,
    /// How far the clocks of issuer and server may be apart, in seconds.
    pub leeway_s: u64,
}

/// The user that a token names, and what they may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The user's id (`sub`).
    pub id: Box<str>,
    /// The name to show.
    pub name: Option<Box<str>>,
    /// The user's role.
    pub role: Role,
    /// Since when the user is a member, in Unix seconds.
    pub member_since_s: Option<u64>,
    /// When a connection made with the token ends, in Unix seconds; `None` for never.
    pub ends_at_s: Option<u64>,
    /// When the token was issued, in Unix seconds.
    pub issued_at_s: Option<u64>,
    /// The token's id.
    pub token_id: Option<Box<str>>,
    grants: Grants,
}

impl User {
    /// What the user may do in `room`.
    #[must_use]
    pub fn allowed_in(&self, room: &str) -> Allowed {
        self.grants.in_room(room)
    }

    /// The role to show in `room`: a moderator or streamer is one only where they may moderate.
    #[must_use]
    pub fn role_in(&self, room: &str) -> Role {
        let moderates = self.allowed_in(room).has(Action::Moderate);
        match self.role {
            Role::Moderator | Role::Streamer | Role::Operator if !moderates => Role::Viewer,
            role => role,
        }
    }
}

/// Why a token is refused. For log lines at most: whoever sent it is told nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Longer than [`TOKEN_BYTES_MAX`].
    #[error("too long")]
    TooLong,
    /// Not three parts of base64 with JSON in them, an unknown algorithm, or a claim of the wrong type.
    #[error("malformed")]
    Malformed,
    /// It names a key that is not in the set.
    #[error("signed with an unknown key")]
    UnknownKey,
    /// None of the keys it may be signed with has signed it.
    #[error("wrong signature")]
    WrongSignature,
    /// `aud` is missing or another one.
    #[error("wrong audience")]
    WrongAudience,
    /// `iss` is missing or another one.
    #[error("wrong issuer")]
    WrongIssuer,
    /// It has no `exp`.
    #[error("no `exp`")]
    NoExpiry,
    /// `exp`, or `expire_at`, has passed.
    #[error("expired")]
    Expired,
    /// `nbf` has not come yet.
    #[error("not valid yet")]
    NotYetValid,
    /// `sub` is empty, too long or not printable.
    #[error("`sub` is not a user id")]
    BadUser,
    /// Its `rooms` are invalid.
    #[error(transparent)]
    BadGrants(#[from] GrantError),
}

/// Checks a token at the time `now_s`, in Unix seconds.
///
/// # Errors
/// [`TokenError`].
pub fn verify(token: &str, keys: &KeySet, rules: &Rules, now_s: u64) -> Result<User, TokenError> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(TokenError::TooLong);
    }
    let header = decode_header(token).map_err(|_| TokenError::Malformed)?;
    // An extension that we must understand and do not (RFC 7515, section 4.1.11). Keys and addresses in a header are
    // never looked at.
    if header.crit.is_some() {
        return Err(TokenError::Malformed);
    }
    let mut outcome = Err(TokenError::UnknownKey);
    for key in keys.candidates(header.kid.as_deref(), header.alg, now_s) {
        let validation = rules.validation(key.algorithm().library());
        outcome = decode::<Claims>(token, &key.decoding, &validation)
            .map(|data| data.claims)
            .map_err(|error| refusal(error.kind()));
        if outcome != Err(TokenError::WrongSignature) {
            break;
        }
    }
    user(outcome?, rules, now_s)
}

/// Whether a server could accept a token with these claims at some time, whatever its rules.
///
/// # Errors
/// [`TokenError`].
pub fn check_claims(claims: &Claims) -> Result<(), TokenError> {
    user(claims.clone(), &Rules::default(), 0).map(|_| ())
}

fn user(claims: Claims, rules: &Rules, now_s: u64) -> Result<User, TokenError> {
    let Claims {
        sub, name, role, ..
    } = claims;
    let exp = claims.exp.ok_or(TokenError::NoExpiry)?;
    let past = |at_s: u64| at_s.saturating_add(rules.leeway_s) <= now_s;
    // Within the leeway, our clock may be ahead.
    let end = |at_s: u64| {
        if at_s > now_s {
            at_s
        } else {
            at_s + rules.leeway_s
        }
    };
    let ends_at_s = match claims.expire_at {
        Some(0) => None,
        Some(at_s) if past(at_s) => return Err(TokenError::Expired),
        Some(at_s) => Some(end(at_s)),
        None => Some(end(exp)),
    };
    if past(exp) {
        return Err(TokenError::Expired);
    }
    if claims
        .nbf
        .is_some_and(|from| from > now_s.saturating_add(rules.leeway_s))
    {
        return Err(TokenError::NotYetValid);
    }
    if sub.trim().is_empty() || sub.len() > USER_BYTES_MAX || sub.contains(char::is_control) {
        return Err(TokenError::BadUser);
    }
    let grants = match &claims.rooms {
        None => Grants::of_role(role),
        Some(rooms) => Grants::new(rooms)?,
    };
    Ok(User {
        id: sub.into(),
        name: name.and_then(|name| shown(&name)),
        role,
        member_since_s: claims.since,
        ends_at_s,
        issued_at_s: claims.iat,
        token_id: claims.jti.map(Into::into),
        grants,
    })
}

/// A name as it is shown: nobody is shut out because an account's name is longer than ours may be.
fn shown(name: &str) -> Option<Box<str>> {
    let printable = name.chars().filter(|scalar| !scalar.is_control());
    let cut: String = printable.take(NAME_SCALARS_MAX).collect();
    (!cut.trim().is_empty()).then(|| cut.into())
}

impl Rules {
    /// What the library checks: signature, algorithm, `aud` and `iss`. Times are checked here, against our clock.
    fn validation(&self, algorithm: jsonwebtoken::Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.validate_exp = false;
        validation.required_spec_claims.clear();
        validation.validate_aud = !self.audiences.is_empty();
        if !self.audiences.is_empty() {
            validation.set_audience(&self.audiences);
            validation.required_spec_claims.insert("aud".to_owned());
        }
        if !self.issuers.is_empty() {
            validation.set_issuer(&self.issuers);
            validation.required_spec_claims.insert("iss".to_owned());
        }
        validation
    }
}

fn refusal(error: &ErrorKind) -> TokenError {
    match error {
        ErrorKind::InvalidAudience => TokenError::WrongAudience,
        ErrorKind::InvalidIssuer => TokenError::WrongIssuer,
        ErrorKind::MissingRequiredClaim(claim) if claim == "aud" => TokenError::WrongAudience,
        ErrorKind::MissingRequiredClaim(claim) if claim == "iss" => TokenError::WrongIssuer,
        ErrorKind::InvalidSignature => TokenError::WrongSignature,
        _ => TokenError::Malformed,
    }
}

/// Longest token, in bytes. It has to fit into a message of a viewer, which may have 4,096.
pub const TOKEN_BYTES_MAX: usize = 4_000;

/// As in `danmaku-wire`, which this crate does not know.
const USER_BYTES_MAX: usize = 64;

/// As in `danmaku-wire`.
const NAME_SCALARS_MAX: usize = 32;

/// A name as a number: the same for the same name, on every machine and in every version.
#[must_use]
pub fn digest(name: &str) -> u64 {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, name.as_bytes());
    let first = hash.as_ref().first_chunk().copied();
    u64::from_be_bytes(first.unwrap_or_default())
}
