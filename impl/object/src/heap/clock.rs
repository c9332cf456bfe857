//! Eviction: CLOCK over a budget.
//!
//! A hand walks over the loaded objects. An object that was used since it last came by gets another turn, another one
//! becomes a ghost. There is no time of access, and no list to be kept in order: a use sets one bit.

use std::rc::Rc;

use super::{Heap, State};
use crate::object::Object;

/// The budget, what is used of it, and the hand.
#[derive(Debug)]
pub(crate) struct Clock {
    pub(crate) bytes: u64,
    pub(crate) objects: u64,
    bytes_max: u64,
    objects_max: u64,
    hand: usize,
}

impl Default for Clock {
    fn default() -> Self {
        Clock { bytes: 0, objects: 0, bytes_max: u64::MAX, objects_max: u64::MAX, hand: 0 }
    }
}

impl Clock {
    /// Sets the budget.
    pub(crate) fn keep_to(&mut self, bytes_max: u64, objects_max: u64) {
        (self.bytes_max, self.objects_max) = (bytes_max, objects_max);
    }

    pub(super) fn grow(&mut self, size: u32) {
        self.bytes += u64::from(size);
        self.objects += 1;
    }

    pub(super) fn shrink(&mut self, size: u32) {
        self.bytes -= u64::from(size);
        self.objects -= 1;
    }

    pub(super) fn is_over(&self) -> bool {
        self.bytes > self.bytes_max || self.objects > self.objects_max
    }
}

impl Heap {
    /// Rule 7.8: makes ghosts until the budget is kept, or nothing more can be evicted, or the hand made so
    /// many steps. Only objects whose state is as
    /// it is stored are: none that the program changed, made, pinned, or is looking at. The states are for the caller
    /// to drop.
    pub(crate) fn evict(&mut self, steps_max: usize) -> Vec<Rc<dyn Object>> {
        let mut out = Vec::new();
        // Two rounds: the first may find that everything was used.
        let mut steps = steps_max.min(2 * self.loaded.len());
        while self.clock.is_over() && steps > 0 && !self.loaded.is_empty() {
            steps -= 1;
            self.clock.hand = (self.clock.hand + 1) % self.loaded.len();
            let slot = self.loaded[self.clock.hand].slot;
            if self.is_evictable(slot) {
                if self.flag(slot, super::USED) {
                    self.set_flag(slot, super::USED, false);
                } else {
                    out.extend(self.unload(slot));
                }
            }
        }
        out
    }

    /// Whether an object may become a ghost now.
    pub(crate) fn is_evictable(&self, slot: u32) -> bool {
        let is_watched = || match self.loaded(slot).and_then(|part| part.object.as_ref()) {
            Some(object) => Rc::strong_count(object) > 1,
            None => true,
        };
        self.state(slot) == State::Clean && !self.is_pinned(slot) && !is_watched()
    }
}
