//! Things that come in any order and as often as they like, of which each is wanted once.

/// A list that is sorted and freed of duplicates whenever it would have to grow: its capacity is at most four times the
/// number of different items.
#[derive(Debug)]
pub(crate) struct Distinct<T> {
    items: Vec<T>,
}

/// Below this it just grows.
const SMALL: usize = 256;

impl<T: Ord> Distinct<T> {
    pub fn new() -> Distinct<T> {
        Distinct { items: Vec::new() }
    }

    pub fn push(&mut self, item: T) {
        if self.items.len() == self.items.capacity() && self.items.len() >= SMALL {
            self.tidy();
            if self.items.len() > self.items.capacity() / 2 {
                self.items.reserve_exact(self.items.capacity());
            }
        }
        self.items.push(item);
    }

    /// Takes all that is in the other.
    pub fn append(&mut self, other: &mut Distinct<T>) {
        other.items.drain(..).for_each(|item| self.push(item));
    }

    fn tidy(&mut self) {
        self.items.sort_unstable();
        self.items.dedup();
    }

    /// In order, each once.
    pub fn into_sorted(mut self) -> Vec<T> {
        self.tidy();
        self.items.shrink_to_fit();
        self.items
    }

    /// Bytes that it takes.
    pub fn memory(&self) -> usize {
        self.items.capacity() * size_of::<T>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_comes_again_takes_no_room() {
        let mut few = Distinct::new();
        (0..1_000_000_u64).for_each(|n| few.push(n % 100));
        assert!(few.memory() <= 2 * SMALL * 8, "{}", few.memory());
        assert_eq!(few.into_sorted(), (0..100).collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn it_is_a_set(items in prop::collection::vec(0..2000_u16, 0..4000)) {
            let mut distinct = Distinct::new();
            let (one, other) = items.split_at(items.len() / 2);
            let mut more = Distinct::new();
            one.iter().for_each(|item| distinct.push(*item));
            other.iter().for_each(|item| more.push(*item));
            distinct.append(&mut more);
            let set: BTreeSet<_> = items.into_iter().collect();
            prop_assert!(distinct.items.capacity() <= SMALL.max(4 * set.len()) * 2);
            prop_assert_eq!(distinct.into_sorted(), set.into_iter().collect::<Vec<_>>());
        }
    }
}
