//! One entry of the index in eight bytes, and the shard that holds such entries.
//!
//! ```text
//!   63      37 36   35        16 15        0
//!   │   tag   │open│  segment   │  number  │
//! ```
//!
//! An entry names no oid: the record's header does. The tag is 27 bits of the oid's hash, so that a lookup rarely reads
//! the header of another object. Equal words are the same record, as long as its segment has not begun anew.

use hashbrown::HashTable;
use vellum_storage::Oid;

const NUMBER_BITS: u32 = 16;
const SEGMENT_BITS: u32 = 20;
const OPEN: u64 = 1 << (NUMBER_BITS + SEGMENT_BITS);
const TAG_SHIFT: u32 = NUMBER_BITS + SEGMENT_BITS + 1;
const TAG_BITS: u32 = 64 - TAG_SHIFT;

/// Segments that the index can name.
pub const SEGMENTS_MAX: u32 = 1 << SEGMENT_BITS;
/// Records of a segment that the index can name.
pub const NUMBERS_MAX: u32 = 1 << NUMBER_BITS;

/// The place of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The segment.
    pub segment: u32,
    /// The record's number in it.
    pub number: u32,
}

/// The hash of an oid, of which the shard and the tag are parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hashed(u64);

impl Hashed {
    pub fn of(oid: Oid) -> Hashed {
        // The last step of SplitMix64: oids are often consecutive.
        let mut x = oid.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Hashed(x ^ (x >> 31))
    }

    /// Its shard, of so many, which is a power of two.
    pub fn shard(self, shards: usize) -> usize {
        self.0 as usize & (shards - 1)
    }

    /// All bits.
    pub fn bits(self) -> u64 {
        self.0
    }

    fn tag(self) -> u64 {
        self.0 >> (64 - TAG_BITS)
    }
}

/// An entry of the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot(u64);

impl Slot {
    pub fn new(hashed: Hashed, place: Place, is_open: bool) -> Slot {
        let Place { segment, number } = place;
        assert!(segment < SEGMENTS_MAX && number < NUMBERS_MAX, "{place:?} has no place in an entry of the index");
        let open = if is_open { OPEN } else { 0 };
        Slot(hashed.tag() << TAG_SHIFT | open | u64::from(segment) << NUMBER_BITS | u64::from(number))
    }

    pub fn place(self) -> Place {
        let segment = (self.0 >> NUMBER_BITS) as u32 & (SEGMENTS_MAX - 1);
        Place { segment, number: self.0 as u32 & (NUMBERS_MAX - 1) }
    }

    /// Whether the revision has no end yet.
    pub fn is_open(self) -> bool {
        self.0 & OPEN != 0
    }

    pub fn ended(self) -> Slot {
        Slot(self.0 & !OPEN)
    }

    fn tag(self) -> u64 {
        self.0 >> TAG_SHIFT
    }
}

/// A part of the index: the entries of the objects whose hash leads here.
#[derive(Clone, Debug, Default)]
pub struct Shard {
    slots: HashTable<Slot>,
}

impl Shard {
    /// The entries that have this tag: those of the object, and perhaps others.
    pub fn find(&self, hashed: Hashed) -> impl Iterator<Item = Slot> + '_ {
        let tag = hashed.tag();
        self.slots.iter_hash(spread(tag)).copied().filter(move |slot| slot.tag() == tag)
    }

    pub fn has(&self, slot: Slot) -> bool {
        self.slots.find(spread(slot.tag()), |other| *other == slot).is_some()
    }

    pub fn insert(&mut self, slot: Slot) {
        self.slots.insert_unique(spread(slot.tag()), slot, |slot| spread(slot.tag()));
    }

    /// Puts another entry of the same object in place of this one; whether it was there.
    pub fn replace(&mut self, old: Slot, new: Slot) -> bool {
        let found = self.slots.find_mut(spread(old.tag()), |other| *other == old);
        found.map(|slot| *slot = new).is_some()
    }

    /// Whether it was there.
    pub fn remove(&mut self, slot: Slot) -> bool {
        let found = self.slots.find_entry(spread(slot.tag()), |other| *other == slot);
        found.map(|entry| entry.remove()).is_ok()
    }

    pub fn retain(&mut self, is_kept: impl Fn(Slot) -> bool) {
        self.slots.retain(|slot| is_kept(*slot));
    }

    pub fn iter(&self) -> impl Iterator<Item = Slot> + '_ {
        self.slots.iter().copied()
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn bytes(&self) -> usize {
        self.slots.allocation_size()
    }
}

/// The hash within a shard. It has to be known from the entry alone, since a table that grows moves its entries.
fn spread(tag: u64) -> u64 {
    tag.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_keeps_its_parts() {
        let hashed = Hashed::of(Oid(7));
        for place in [Place { segment: 0, number: 0 }, Place { segment: SEGMENTS_MAX - 1, number: NUMBERS_MAX - 1 }] {
            let slot = Slot::new(hashed, place, true);
            assert_eq!((slot.place(), slot.is_open(), slot.tag()), (place, true, hashed.tag()));
            assert_eq!((slot.ended().place(), slot.ended().is_open()), (place, false));
        }
    }

    #[test]
    fn an_entry_takes_at_most_24_bytes() {
        let mut shard = Shard::default();
        for n in 0..200_000_u32 {
            let place = Place { segment: n >> 12, number: n & 0xfff };
            shard.insert(Slot::new(Hashed::of(Oid(n.into())), place, true));
            assert!(n < 100 || shard.bytes() <= 24 * shard.len(), "{} bytes for {}", shard.bytes(), shard.len());
        }
    }

    #[test]
    fn a_shard_finds_the_entries_of_an_object() {
        let (mut shard, hashed) = (Shard::default(), Hashed::of(Oid(1)));
        let slots = [0, 1].map(|number| Slot::new(hashed, Place { segment: 3, number }, number == 1));
        slots.iter().for_each(|slot| shard.insert(*slot));
        shard.insert(Slot::new(Hashed::of(Oid(2)), Place { segment: 3, number: 2 }, true));
        let mut found: Vec<Slot> = shard.find(hashed).collect();
        found.sort_by_key(|slot| slot.place());
        assert_eq!(found, slots);
        assert!(shard.replace(slots[1], slots[1].ended()) && !shard.replace(slots[1], slots[1].ended()));
        assert!(shard.remove(slots[0]) && !shard.remove(slots[0]));
        assert_eq!((shard.find(hashed).count(), shard.len()), (1, 2));
    }
}
