//! The Zipf law: of R rooms the k-th has a share proportional to `1 / k^exponent`, as the rooms of a platform have.

use crate::random::Random;

/// How many of `count` things each of `rooms` rooms gets, the largest first. Every room gets at least one if there are enough.
///
/// # Panics
/// When there are no rooms.
#[must_use]
pub fn shares(count: u32, rooms: u32, exponent: f64) -> Vec<u32> {
    assert!(rooms > 0, "shares of no rooms");
    let spare = count.saturating_sub(rooms);
    let floor = u32::from(count >= rooms);
    let weights = weights(rooms, exponent);
    let sum: f64 = weights.iter().sum();
    let mut given = 0_u64;
    let mut ahead = 0.0;
    // Rounding the running sum instead of each share: the total is exact.
    let shares = weights.iter().map(|weight| {
        ahead += weight;
        let until = (f64::from(if floor == 1 { spare } else { count }) * ahead / sum).round();
        let until = whole(until);
        let share = until.saturating_sub(given);
        given = until;
        floor + u32::try_from(share).unwrap_or(u32::MAX)
    });
    let mut shares: Vec<u32> = shares.collect();
    shares.sort_unstable_by(|one, other| other.cmp(one));
    shares
}

/// Draws rooms by their weight.
#[derive(Clone, Debug)]
pub struct Draw {
    until: Vec<f64>,
}

impl Draw {
    /// Rooms by the law.
    #[must_use]
    pub fn new(rooms: u32, exponent: f64) -> Self {
        let mut sum = 0.0;
        let until = weights(rooms, exponent).into_iter().map(|weight| {
            sum += weight;
            sum
        });
        Self {
            until: until.collect(),
        }
    }

    /// The next room, by its index.
    pub fn room(&self, random: &mut Random) -> u32 {
        let sum = self.until.last().copied().unwrap_or_default();
        let at = random.unit() * sum;
        let index = self.until.partition_point(|until| *until <= at);
        u32::try_from(index.min(self.until.len().saturating_sub(1))).unwrap_or(u32::MAX)
    }
}

fn weights(rooms: u32, exponent: f64) -> Vec<f64> {
    (1..=rooms)
        .map(|rank| f64::from(rank).powf(-exponent))
        .collect()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rounded share of a count, neither negative nor large"
)]
fn whole(value: f64) -> u64 {
    value as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_every_room_has_at_least_one() {
        for (count, rooms, exponent) in [
            (10_000, 5000, 1.0),
            (1000, 1, 1.0),
            (7, 3, 0.0),
            (200, 50, 0.0),
        ] {
            let shares = shares(count, rooms, exponent);
            assert_eq!(shares.iter().sum::<u32>(), count, "{count} over {rooms}");
            assert_eq!(shares.len(), rooms as usize);
            assert!(shares.iter().all(|share| *share >= 1), "{shares:?}");
        }
        let even = shares(200, 50, 0.0);
        assert!(even.iter().all(|share| *share == 4), "{even:?}");
    }

    #[test]
    fn the_first_rooms_have_the_most() {
        let shares = shares(10_000, 5000, 1.0);
        assert!((500..620).contains(&shares[0]), "{}", shares[0]);
        assert!(shares[0] > shares[1] && shares[1] > shares[9]);
        let draw = Draw::new(100, 1.0);
        let mut random = Random::new(1);
        let first = (0..10_000).filter(|_| draw.room(&mut random) == 0).count();
        // 1 / H(100) = 0.193.
        assert!((1800..2100).contains(&first), "{first}");
    }
}
