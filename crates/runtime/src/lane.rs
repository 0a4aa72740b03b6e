//! Which lane a record goes to: one lane for each key of an assignment, and one for each record without a key.

use std::hash::{BuildHasherDefault, Hasher};

const MULTIPLIERS: [u64; 2] = [0xa076_1d64_78bd_642f, 0xe703_7ed1_a0b4_28db];

fn fold(left: u64, right: u64) -> u64 {
    let product = u128::from(left) * u128::from(right);
    (product as u64) ^ (product >> 64) as u64
}

/// A lane's number: 64 bits of hash. Two keys that meet in one wait for each other, and that is all.
pub(crate) fn of(assignment: u64, key: Option<&[u8]>, offset: i64) -> u64 {
    let seed = fold(assignment ^ MULTIPLIERS[0], MULTIPLIERS[1]);
    let Some(key) = key else { return fold(seed ^ offset.cast_unsigned(), MULTIPLIERS[0]) };
    let (words, tail) = key.as_chunks::<8>();
    let mut hash = seed ^ (key.len() as u64).wrapping_mul(MULTIPLIERS[1]);
    for word in words {
        hash = fold(hash ^ u64::from_le_bytes(*word), MULTIPLIERS[0]).rotate_left(23);
    }
    let mut last = [0; 8];
    last[..tail.len()].copy_from_slice(tail);
    fold(fold(hash ^ u64::from_le_bytes(last), MULTIPLIERS[1]) ^ MULTIPLIERS[0], MULTIPLIERS[1])
}

/// The shard that owns a lane.
pub(crate) fn shard(lane: u64, shard_count: usize) -> usize {
    usize::try_from((u128::from(lane) * shard_count as u128) >> 64).expect("below the count of shards")
}

/// A number below `count`, a power of two, by the bits of a lane that do not choose its shard.
pub(crate) fn low_bits(lane: u64, count: usize) -> usize {
    usize::try_from(lane & (count as u64 - 1)).expect("below a number of elements")
}

/// Lanes are hashes already.
#[derive(Debug, Default)]
pub(crate) struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only numbers of lanes are hashed");
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

/// A map by the number of a lane.
pub(crate) type LaneMap<T> = std::collections::HashMap<u64, T, BuildHasherDefault<AsIs>>;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn keys_that_look_alike_get_lanes_of_their_own_and_spread_over_the_shards() {
        let keys = (0..100_000u32).map(|number| format!("user-{number}"));
        let lanes: HashSet<u64> = keys.map(|key| of(1, Some(key.as_bytes()), 0)).collect();
        assert_eq!(lanes.len(), 100_000);
        let without: HashSet<u64> = (0..100_000).map(|offset| of(1, None, offset)).collect();
        assert_eq!(without.len(), 100_000);
        for of_kind in [lanes, without] {
            let mut counts = [0usize; 7];
            of_kind.iter().for_each(|lane| counts[shard(*lane, 7)] += 1);
            assert!(counts.iter().all(|count| (13_500..15_100).contains(count)), "{counts:?}");
            let low: HashSet<u64> = of_kind.iter().map(|lane| lane & 0xffff).collect();
            assert!(low.len() > 45_000, "the low bits, which a map takes, have {} values", low.len());
        }
    }

    #[test]
    fn a_lane_belongs_to_one_assignment_and_an_empty_key_is_a_key() {
        assert_ne!(of(1, Some(b"k"), 0), of(2, Some(b"k"), 0));
        assert_eq!(of(1, Some(b"k"), 0), of(1, Some(b"k"), 7));
        assert_eq!(of(1, Some(b""), 0), of(1, Some(b""), 7));
        assert_ne!(of(1, Some(b"a"), 0), of(1, Some(b"a\0"), 0));
    }
}
