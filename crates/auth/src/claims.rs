//! What a token says, before any of it is believed.

use serde::{Deserialize, Deserializer, Serialize};

use crate::grants::Grant;
use crate::role::Role;

/// The claims of a token (RFC 7519, section 4). Others are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The user's id.
    pub sub: String,
    /// The name to show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The user's role.
    #[serde(default)]
    pub role: Role,
    /// What is allowed where; without it, what the role allows everywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rooms: Option<Vec<Grant>>,
    /// Since when the user is a member, in Unix seconds.
    #[serde(
        default,
        deserialize_with = "date",
        skip_serializing_if = "Option::is_none"
    )]
    pub since: Option<u64>,
    /// Until when the token is accepted, in Unix seconds.
    #[serde(
        default,
        deserialize_with = "date",
        skip_serializing_if = "Option::is_none"
    )]
    pub exp: Option<u64>,
    /// When a connection made with the token ends, in Unix seconds, 0 for never; without it, at `exp`.
    #[serde(
        default,
        deserialize_with = "date",
        skip_serializing_if = "Option::is_none"
    )]
    pub expire_at: Option<u64>,
    /// From when on the token is accepted, in Unix seconds.
    #[serde(
        default,
        deserialize_with = "date",
        skip_serializing_if = "Option::is_none"
    )]
    pub nbf: Option<u64>,
    /// When the token was issued, in Unix seconds.
    #[serde(
        default,
        deserialize_with = "date",
        skip_serializing_if = "Option::is_none"
    )]
    pub iat: Option<u64>,
    /// The token's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    /// Whom the token is meant for. Checked where the server has an audience.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aud: Option<serde_json::Value>,
    /// Who issued the token. Checked where the server expects an issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
}

/// A number of seconds, possibly with a fraction (RFC 7519, section 2, "NumericDate").
fn date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let Some(number) = Option::<serde_json::Number>::deserialize(deserializer)? else {
        return Ok(None);
    };
    let whole = number.as_u64().or_else(|| {
        let seconds = number.as_f64()?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "in range, and fractions are dropped"
        )]
        (0.0..=DATE_MAX)
            .contains(&seconds)
            .then_some(seconds as u64)
    });
    whole
        .map(Some)
        .ok_or_else(|| serde::de::Error::custom("not a time in Unix seconds"))
}

/// The year 10000 or so, in Unix seconds.
const DATE_MAX: f64 = 253_402_300_800.0;
