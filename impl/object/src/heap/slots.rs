//! The slots of a heap: all that a ghost takes, except its share of the buckets.

use super::pages::Pages;
use super::table::NONE;

/// An object's slot: 15 bytes without gaps, so that one line of the processor's cache has all of it.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, packed)]
struct Slot {
    /// The oid; of a loaded object the place of its loaded part.
    number: u64,
    /// The next slot in the chain of the bucket, or the next free one.
    next: u32,
    state: u8,
    count: u8,
    class: u8,
}

/// All slots, by their numbers.
#[derive(Debug, Default)]
pub(crate) struct Slots(Pages<Slot>);

macro_rules! parts {
    ($($part:ident, $set:ident: $type:ty;)*) => { $(
        pub(crate) fn $part(&self, slot: u32) -> $type {
            self.0.at(slot).$part
        }

        pub(crate) fn $set(&mut self, slot: u32, value: $type) {
            self.0.at_mut(slot).$part = value;
        }
    )* };
}

impl Slots {
    parts! {
        number, set_number: u64;
        next, set_next: u32;
        state, set_state: u8;
        count, set_count: u8;
        class, set_class: u8;
    }

    pub(crate) fn len(&self) -> u32 {
        self.0.len()
    }

    /// Adds a slot, in no chain, and returns its number.
    pub(crate) fn push(&mut self) -> u32 {
        let slot = self.len();
        self.0.push(Slot { next: NONE, ..Slot::default() });
        slot
    }
}
