//! A small seeded generator, so that a run can be repeated: SplitMix64 (Steele, Lea, Flood 2014).

/// A stream of pseudo-random numbers that its seed determines.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The stream of `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which must not be zero. The bias is below 2^-32 for the bounds used here.
    ///
    /// # Panics
    /// When `bound` is zero, in debug builds.
    pub fn below(&mut self, bound: usize) -> usize {
        debug_assert!(bound > 0, "a number below zero is asked for");
        let product = u128::from(self.bits()) * (bound as u128);
        usize::try_from(product >> 64).expect("invariant: the high half is below the bound")
    }

    /// A number in `[0, 1)` with 53 random bits.
    #[expect(
        clippy::cast_precision_loss,
        reason = "53 bits are what a double holds"
    )]
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// One of the given values.
    pub fn choose<'a, T>(&mut self, values: &'a [T]) -> &'a T {
        &values[self.below(values.len())]
    }

    /// Fills a buffer.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.bits().to_le_bytes()[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_determines_its_stream() {
        let mut random = Random::new(1_234_567);
        // The first value of the reference implementation for this seed.
        assert_eq!(random.bits(), 6_457_827_717_110_365_317);
        let again: Vec<usize> = (0..50).map(|_| Random::new(7).below(10)).collect();
        assert!(again.iter().all(|value| *value == again[0]));
    }

    #[test]
    fn numbers_stay_in_their_range() {
        let mut random = Random::new(1);
        let mut seen = [false; 7];
        for _ in 0..1000 {
            seen[random.below(7)] = true;
            assert!((0.0..1.0).contains(&random.unit()));
        }
        assert_eq!(seen, [true; 7]);
    }
}
