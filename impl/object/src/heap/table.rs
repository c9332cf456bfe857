//! From an oid to its slot: a hash table whose chains run through the slots.
//!
//! Litwin's linear hashing: the table grows by one bucket at a time, so it never exists twice, and the chains keep
//! their average length. A bucket is the first slot of its chain; the next one stands beside each slot.

use super::pages::Pages;
use super::slots::Slots;

/// The end of a chain.
pub(crate) const NONE: u32 = u32::MAX;

/// Slots for each bucket, on average. 4 bytes for each bucket are 0.67 bytes for each slot.
const CHAIN: u32 = 6;

/// The buckets, and the number of slots in their chains.
#[derive(Debug, Default)]
pub(crate) struct Table {
    heads: Pages<u32>,
    slots: u32,
}

impl Table {
    /// The bucket of an oid among this many.
    fn bucket(oid: u64, buckets: u32) -> u32 {
        let hash = (oid ^ (oid >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let wide = hash as u32 & (buckets.next_power_of_two() - 1);
        // The upper half of the next power of two has only grown so far.
        if wide < buckets { wide } else { wide & ((buckets.next_power_of_two() >> 1) - 1) }
    }

    /// The slot with this oid.
    pub(crate) fn find(&self, oid: u64, slots: &Slots, oid_of: impl Fn(&Slots, u32) -> u64) -> Option<u32> {
        if self.heads.len() == 0 {
            return None;
        }
        let mut slot = *self.heads.at(Table::bucket(oid, self.heads.len()));
        while slot != NONE && oid_of(slots, slot) != oid {
            slot = slots.next(slot);
        }
        (slot != NONE).then_some(slot)
    }

    /// Puts a slot into the chain of its oid, which must not be there yet.
    pub(crate) fn insert(&mut self, oid: u64, slot: u32, slots: &mut Slots, oid_of: impl Fn(&Slots, u32) -> u64) {
        if self.slots >= self.heads.len().saturating_mul(CHAIN) {
            self.grow(slots, oid_of);
        }
        let bucket = Table::bucket(oid, self.heads.len());
        slots.set_next(slot, *self.heads.at(bucket));
        *self.heads.at_mut(bucket) = slot;
        self.slots += 1;
    }

    /// Takes a slot out of the chain of its oid.
    pub(crate) fn remove(&mut self, oid: u64, slot: u32, slots: &mut Slots) {
        let bucket = Table::bucket(oid, self.heads.len());
        let mut at = *self.heads.at(bucket);
        if at == slot {
            *self.heads.at_mut(bucket) = slots.next(slot);
        } else {
            while slots.next(at) != slot {
                at = slots.next(at);
            }
            slots.set_next(at, slots.next(slot));
        }
        self.slots -= 1;
    }

    /// Adds a bucket, and moves the slots there that belong to it.
    fn grow(&mut self, slots: &mut Slots, oid_of: impl Fn(&Slots, u32) -> u64) {
        let new = self.heads.len();
        self.heads.push(NONE);
        if new == 0 {
            return;
        }
        let old = new & ((new + 1).next_power_of_two() / 2 - 1);
        let (mut slot, mut chains) = (*self.heads.at(old), [NONE, NONE]);
        while slot != NONE {
            let after = slots.next(slot);
            let chain = &mut chains[usize::from(Table::bucket(oid_of(slots, slot), new + 1) == new)];
            slots.set_next(slot, *chain);
            *chain = slot;
            slot = after;
        }
        *self.heads.at_mut(old) = chains[0];
        *self.heads.at_mut(new) = chains[1];
    }
}
