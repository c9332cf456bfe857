//! Where a history's choices come from: a seed, or the bytes that a fuzzer makes up.

use arbitrary::Unstructured;

/// Makes choices.
pub trait Dice {
    /// A number below `sides`, which is at least 1.
    fn roll(&mut self, sides: u64) -> u64;

    /// Whether there are more choices in it.
    fn more(&self) -> bool {
        true
    }
}

impl dyn Dice + '_ {
    /// Whether something happens that does so in `percent` of all cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        // A fuzzer's zeros are the dull choice.
        self.roll(100) >= 100 - percent
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        if from.is_empty() { None } else { from.get(self.roll(from.len() as u64) as usize) }
    }

    /// One of these, the heavier the likelier; weights of zero never.
    pub fn weigh<T: Copy>(&mut self, from: &[(u64, T)]) -> Option<T> {
        let total: u64 = from.iter().map(|(weight, _)| weight).sum();
        if total == 0 {
            return None;
        }
        let mut at = self.roll(total);
        from.iter()
            .find(|(weight, _)| {
                if at < *weight {
                    true
                } else {
                    at -= weight;
                    false
                }
            })
            .map(|(_, what)| *what)
    }
}

/// A number that says everything: splitmix64.
#[derive(Clone, Debug)]
pub struct Seed(pub u64);

impl Seed {
    /// The seed of a run's case: the same for the same two numbers, and like no other.
    pub fn of(run: u64, case: u64) -> Seed {
        let mut seed = Seed(run);
        let mixed = seed.next() ^ case;
        Seed(Seed(mixed).next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Dice for Seed {
    fn roll(&mut self, sides: u64) -> u64 {
        self.next() % sides
    }
}

impl Dice for Unstructured<'_> {
    fn roll(&mut self, sides: u64) -> u64 {
        self.int_in_range(0..=sides - 1).unwrap_or(0)
    }

    fn more(&self) -> bool {
        !self.is_empty()
    }
}
