//! Pseudo-random numbers from a seed (`SplitMix64`, Steele, Lea and Flood 2014): fast, repeatable, not for secrets.

/// A stream of numbers. A simulator takes one stream for each purpose, so that a fault which is left out does not change
/// the rest of a run.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// Returns the stream of a seed and a purpose.
    #[must_use]
    pub fn new(seed: u64, purpose: &str) -> Self {
        // FNV-1a of the purpose.
        let name = purpose.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let mut rng = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ name);
        rng.roll();
        rng
    }

    /// Returns the plain `SplitMix64` stream of a seed.
    #[must_use]
    pub const fn from_seed(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next number.
    pub const fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number from `least` to `most`, both included.
    pub const fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.roll() % (most - least + 1)
    }

    /// Returns an index below `count`; 0 when `count` is 0.
    pub const fn below(&mut self, count: usize) -> usize {
        let count = if count == 0 { 1 } else { count };
        (self.roll() % count as u64) as usize
    }

    /// Returns true in `percent` of 100 calls.
    pub const fn chance(&mut self, percent: u64) -> bool {
        self.roll() % 100 < percent
    }

    /// Returns `count` bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.roll() as u8).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reference values of `SplitMix64` with seed 1234567 (Vigna's splitmix64.c).
    #[test]
    fn numbers_are_those_of_the_reference_and_streams_differ_by_purpose() {
        let mut rng = Rng::from_seed(1_234_567);
        let first: Vec<u64> = (0..3).map(|_| rng.roll()).collect();
        assert_eq!(first, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
        assert_ne!(Rng::new(1, "a").roll(), Rng::new(1, "b").roll());
        assert_ne!(Rng::new(1, "a").roll(), Rng::new(2, "a").roll());
    }

    #[test]
    fn ranges_include_both_ends_and_an_empty_choice_is_the_first() {
        let mut rng = Rng::new(7, "ranges");
        let drawn: Vec<u64> = (0..200).map(|_| rng.between(3, 5)).collect();
        assert!((3..=5).all(|number| drawn.contains(&number)) && drawn.iter().all(|n| (3..=5).contains(n)));
        assert_eq!(rng.below(0), 0);
        assert_eq!(rng.bytes(9).len(), 9);
    }
}
