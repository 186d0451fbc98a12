//! How a viewer's batches are encoded.

use std::fmt;
use std::str::FromStr;

/// How the payload of a batch is encoded for a viewer. All other messages are always plain JSON text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Encoding {
    /// JSON in a text message.
    #[default]
    Identity,
    /// One gzip member (RFC 1952) per batch, in a binary message.
    Gzip,
    /// The next piece of the connection's one raw deflate stream (RFC 1951), in a binary message. Each batch's JSON
    /// ends in a line feed and can be decoded as soon as its own bytes have arrived.
    Deflate,
}

impl Encoding {
    /// Every encoding.
    pub const ALL: [Self; 3] = [Self::Identity, Self::Gzip, Self::Deflate];

    /// The word in the URL.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Encoding {
    type Err = EncodingError;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|encoding| encoding.as_str() == word)
            .ok_or(EncodingError)
    }
}

/// The word is not an encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an encoding must be identity, gzip or deflate")]
pub struct EncodingError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        fn check(input: &str, expected: Option<Encoding>) {
            assert_eq!(input.parse().ok(), expected, "{input:?}");
        }
        for encoding in Encoding::ALL {
            check(encoding.as_str(), Some(encoding));
        }
        check("", None);
        check("Gzip", None);
        check("br", None);
    }
}
