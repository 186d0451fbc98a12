//! Owns who a connection or a request is: keys, tokens, server keys, roles and grants.
//!
//! Everything here is a decision: bytes, keys and the time go in, a [`Principal`] or a refusal comes out. Where keys come from
//! and what a principal is allowed to reach are the server's business.

mod claims;
mod grants;
mod jwks;
mod key;
mod mint;
mod role;
mod server_key;
mod token;

use std::sync::Arc;

pub use claims::Claims;
pub use grants::{Action, Allowed, Grant, GrantError, Grants};
pub use jwks::{JwksError, read_jwks};
pub use key::{Algorithm, Key, KeyError, KeySet};
pub use mint::{MintError, mint};
pub use role::Role;
pub use server_key::{NewServerKey, Scope, ServerKey, ServerKeys, ServerKeysError};
pub use token::{Rules, TOKEN_BYTES_MAX, TokenError, User, check_claims, digest, verify};

/// Who a connection or a request is.
#[derive(Clone, Debug)]
pub enum Principal {
    /// Somebody without a token.
    Guest,
    /// The user that a valid token names.
    User(Box<User>),
    /// A back end.
    Server(Arc<ServerKey>),
}
