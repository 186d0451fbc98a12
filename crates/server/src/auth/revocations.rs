//! Owns which tokens are no longer accepted.

use std::collections::HashMap;

use danmaku_auth::{User, digest};
use danmaku_log::{Revocation, Revoked};

use super::Identity;

/// The revocations in force, so that a token is checked against all of them at once.
#[derive(Debug, Default)]
pub struct Revocations {
    users: HashMap<u64, Vec<Limits>>,
    tokens: HashMap<u64, Vec<Limits>>,
    everyone: Vec<Limits>,
}

/// Which tokens one revocation is about, and until when, in Unix milliseconds.
#[derive(Clone, Copy, Debug)]
struct Limits {
    issued_before_ms: Option<u64>,
    until_ms: Option<u64>,
}

impl Revocations {
    /// Those that the records have.
    #[must_use]
    pub fn new(kept: &[Revocation]) -> Self {
        let mut all = Self::default();
        for revocation in kept {
            let limits = Limits {
                issued_before_ms: revocation.issued_before_ms,
                until_ms: revocation.until_ms,
            };
            match &revocation.revoked {
                Revoked::User(id) => all.users.entry(digest(id)).or_default().push(limits),
                Revoked::Token(id) => all.tokens.entry(digest(id)).or_default().push(limits),
                Revoked::All => all.everyone.push(limits),
            }
        }
        all
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.users.is_empty() && self.tokens.is_empty() && self.everyone.is_empty()
    }

    /// Whether the user's token is revoked.
    #[must_use]
    pub fn has(&self, user: &User, now_ms: u64) -> bool {
        if self.is_empty() {
            return false;
        }
        let token = user.token_id.as_deref().map(digest);
        self.has_any(digest(&user.id), token, user.issued_at_s, now_ms)
    }

    /// Whether the token of a connection is revoked.
    #[must_use]
    pub fn has_identity(&self, identity: &Identity, now_ms: u64) -> bool {
        let Identity {
            key,
            token,
            issued_at_s,
            ..
        } = identity;
        self.has_any(*key, *token, *issued_at_s, now_ms)
    }

    fn has_any(
        &self,
        user: u64,
        token: Option<u64>,
        issued_at_s: Option<u64>,
        now_ms: u64,
    ) -> bool {
        let by_user = self.users.get(&user);
        let by_token = token.and_then(|token| self.tokens.get(&token));
        let lists = [by_user, by_token, Some(&self.everyone)];
        let mut limits = lists.into_iter().flatten().flatten();
        limits.any(|it| it.hold(issued_at_s, now_ms))
    }
}

impl Limits {
    fn hold(self, issued_at_s: Option<u64>, now_ms: u64) -> bool {
        let lasts = self.until_ms.is_none_or(|until_ms| now_ms < until_ms);
        // A token that does not say when it was issued may be old.
        let issued_at_ms = issued_at_s.map_or(0, |at_s| at_s.saturating_mul(1_000));
        lasts
            && self
                .issued_before_ms
                .is_none_or(|before_ms| issued_at_ms < before_ms)
    }
}
