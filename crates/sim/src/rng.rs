//! Chance from a seed: xoshiro256**, seeded by splitmix64.
//!
//! Guarantees: the same seed draws the same numbers on every machine and in every build; a
//! [`Rng::fork`] depends on the seed and the label alone, so that one part of the world that draws
//! once more does not change what another part draws. Not here: anything secret.

use std::ops::Range;

/// A deterministic generator of random numbers.
#[derive(Clone, Debug)]
pub struct Rng {
    seed: u64,
    state: [u64; 4],
}

impl Rng {
    /// The generator of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut at = seed;
        let state = std::array::from_fn(|_| {
            at = at.wrapping_add(0x9E37_79B9_7F4A_7C15);
            mix(at)
        });
        Self { seed, state }
    }

    /// A generator of its own for one part of the world.
    #[must_use]
    pub fn fork(&self, label: &str) -> Self {
        let seed = label
            .bytes()
            .fold(mix(self.seed ^ 0x6F75_7472), |hash, byte| mix(hash ^ u64::from(byte)));
        Self::new(seed)
    }

    /// Any number.
    pub fn next_u64(&mut self) -> u64 {
        let [a, b, c, d] = self.state;
        let result = b.wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let (c2, d2) = (c ^ a, d ^ b);
        self.state = [a ^ d2, b ^ c2, c2 ^ (b << 17), d2.rotate_left(45)];
        result
    }

    /// Any 128-bit number: identities and nonces.
    pub fn u128(&mut self) -> u128 {
        u128::from(self.next_u64()) << 64 | u128::from(self.next_u64())
    }

    /// A number below `n`; 0 when `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(n)) >> 64) as u64
    }

    /// A number in the range; its start when it is empty.
    pub fn range(&mut self, range: Range<u64>) -> u64 {
        range.start.saturating_add(self.below(range.end.saturating_sub(range.start)))
    }

    /// Whether something happens that does so `per_mille` times in a thousand.
    pub fn chance(&mut self, per_mille: u32) -> bool {
        self.below(1000) < u64::from(per_mille)
    }

    /// One of several; `None` when there are none.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.index(from.len()))
    }

    /// Puts them into any order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.index(last + 1);
            items.swap(last, other);
        }
    }

    fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }
}

/// The output function of splitmix64.
pub(crate) const fn mix(n: u64) -> u64 {
    let n = (n ^ (n >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    n ^ (n >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_draws_the_same_numbers_for_ever() {
        let mut rng = Rng::new(42);
        let drawn: Vec<u64> = (0..3).map(|_| rng.next_u64()).collect();
        assert_eq!(
            drawn,
            [1_546_998_764_402_558_742, 6_990_951_692_964_543_102, 12_544_586_762_248_559_009]
        );
        assert_ne!(Rng::new(43).next_u64(), drawn[0]);
    }

    #[test]
    fn a_fork_does_not_depend_on_what_was_drawn() {
        let mut rng = Rng::new(1);
        let before = rng.fork("disk").next_u64();
        rng.next_u64();
        assert_eq!(rng.fork("disk").next_u64(), before);
        assert_ne!(rng.fork("net").next_u64(), before);
        assert_ne!(rng.fork("disk").fork("disk").next_u64(), before);
    }

    #[test]
    fn numbers_stay_in_their_range_and_reach_all_of_it() {
        let mut rng = Rng::new(7);
        let mut seen = [0_u32; 10];
        for _ in 0..10_000 {
            let n = rng.range(5..15);
            seen[usize::try_from(n - 5).unwrap()] += 1;
        }
        assert!(seen.iter().all(|&count| (800..1200).contains(&count)), "{seen:?}");
        assert_eq!(rng.below(0), 0);
        assert_eq!(rng.range(9..9), 9);
    }

    #[test]
    fn chances_are_what_they_say() {
        let mut rng = Rng::new(3);
        let hits = (0..10_000).filter(|_| rng.chance(250)).count();
        assert!((2300..2700).contains(&hits), "{hits}");
        assert!((0..1000).all(|_| !rng.chance(0) && rng.chance(1000)));
    }

    #[test]
    fn shuffling_keeps_every_item() {
        let mut rng = Rng::new(5);
        let mut items: Vec<u64> = (0..50).collect();
        rng.shuffle(&mut items);
        assert_ne!(items, (0..50).collect::<Vec<_>>());
        assert!(rng.pick(&items).is_some_and(|n| *n < 50));
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
        assert_eq!(rng.pick::<u64>(&[]), None);
    }
}
