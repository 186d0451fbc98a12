//! How viewers are distributed over encodings.

use std::fmt;
use std::str::FromStr;

use danmaku_wire::Encoding;
use serde::{Deserialize, Serialize};

use crate::swarm::via::WatchVia;

/// Shares of encodings: `identity,gzip,deflate` for equal ones, `identity:1,deflate:9` for weighted ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EncodingMix {
    /// In the order given, which breaks ties.
    shares: Vec<(Encoding, usize)>,
    /// One period: each encoding as often as its weight, spread as evenly as can be.
    pattern: Vec<Encoding>,
}

/// Largest sum of weights, so that a period stays small.
const WEIGHTS_SUM_MAX: usize = 1000;

impl EncodingMix {
    /// Equal shares of all that a protocol has.
    #[must_use]
    pub fn all_of(via: WatchVia) -> Self {
        let has = Encoding::ALL
            .into_iter()
            .filter(|it| via.dialect(*it).is_some());
        let shares: Vec<(Encoding, usize)> = has.map(|encoding| (encoding, 1)).collect();
        Self {
            pattern: spread(&shares, shares.len()),
            shares,
        }
    }

    /// The encoding of the `index`-th viewer of a room. Rooms start at different places of the period, so that small rooms
    /// together have the requested shares too.
    #[must_use]
    pub fn encoding(&self, room: u32, index: usize) -> Encoding {
        self.pattern[(index + room as usize) % self.pattern.len()]
    }

    /// The encodings that occur.
    #[must_use]
    pub fn encodings(&self) -> Vec<Encoding> {
        Encoding::ALL
            .into_iter()
            .filter(|encoding| self.pattern.contains(encoding))
            .collect()
    }
}

impl FromStr for EncodingMix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut shares: Vec<(Encoding, usize)> = Vec::new();
        for part in text.split(',') {
            let (name, weight) = match part.split_once(':') {
                None => (part, Some(1)),
                Some((name, weight)) => (name, weight.parse().ok().filter(|weight| *weight > 0)),
            };
            let weight = weight
                .ok_or_else(|| format!("`{part}`: a weight must be a whole number above 0"))?;
            let encoding = name
                .parse()
                .map_err(|_| format!("`{name}` is not identity, gzip or deflate"))?;
            if shares.iter().any(|(other, _)| *other == encoding) {
                return Err(format!("`{name}` is named twice"));
            }
            shares.push((encoding, weight));
        }
        let sum = shares.iter().map(|(_, weight)| weight).sum::<usize>();
        if sum > WEIGHTS_SUM_MAX {
            return Err(format!("the weights add up to more than {WEIGHTS_SUM_MAX}"));
        }
        Ok(Self {
            pattern: spread(&shares, sum),
            shares,
        })
    }
}

impl fmt::Display for EncodingMix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (encoding, weight)) in self.shares.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(formatter, "{comma}{encoding}:{weight}")?;
        }
        Ok(())
    }
}

impl TryFrom<String> for EncodingMix {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<EncodingMix> for String {
    fn from(mix: EncodingMix) -> Self {
        mix.to_string()
    }
}

/// Each place goes to the encoding furthest below its share.
fn spread(shares: &[(Encoding, usize)], sum: usize) -> Vec<Encoding> {
    let mut given = vec![0_usize; shares.len()];
    (0..sum)
        .map(|place| {
            let behind = |index: &usize| {
                (shares[*index].1 * (place + 1)).cast_signed() - (given[*index] * sum).cast_signed()
            };
            // On a tie the encoding named first goes first, hence the reversal: `max_by_key` takes the last of equals.
            let furthest = (0..shares.len())
                .rev()
                .max_by_key(behind)
                .unwrap_or_default();
            given[furthest] += 1;
            shares[furthest].0
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(text: &str, viewers: usize) -> [usize; 3] {
        let mix: EncodingMix = text.parse().unwrap();
        Encoding::ALL.map(|encoding| {
            (0..viewers)
                .filter(|index| mix.encoding(0, *index) == encoding)
                .count()
        })
    }

    #[test]
    fn shares_are_kept() {
        assert_eq!(counts("identity,gzip,deflate", 9999), [3333, 3333, 3333]);
        assert_eq!(counts("identity:1,deflate:9", 1000), [100, 0, 900]);
        assert_eq!(counts("gzip", 5), [0, 5, 0]);
    }

    #[test]
    fn shares_are_spread_and_rooms_differ() {
        let mix: EncodingMix = "identity:2,deflate:1".parse().unwrap();
        let of_room = |room| {
            (0..3)
                .map(|index| mix.encoding(room, index))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            of_room(0),
            [Encoding::Identity, Encoding::Deflate, Encoding::Identity]
        );
        assert_eq!(
            of_room(1),
            [Encoding::Deflate, Encoding::Identity, Encoding::Identity]
        );
        assert_eq!(mix.encodings(), [Encoding::Identity, Encoding::Deflate]);
    }

    #[test]
    fn the_text_form_assigns_the_same_encodings_again() {
        for text in [
            "deflate,identity,gzip",
            "gzip:3,identity:2",
            "identity:1,deflate:9",
        ] {
            let mix: EncodingMix = text.parse().unwrap();
            assert_eq!(mix.to_string().parse(), Ok(mix), "{text}");
        }
    }

    #[test]
    fn an_invalid_mix_is_refused() {
        for text in [
            "",
            "brotli",
            "gzip:0",
            "gzip:x",
            "gzip,gzip",
            "gzip:1001",
            "gzip,,deflate",
        ] {
            assert!(text.parse::<EncodingMix>().is_err(), "for {text:?}");
        }
    }
}
