//! ARC: adapts between objects that were used once and objects that were used again.
//!
//! Megiddo and Modha, "ARC: A Self-Tuning, Low Overhead Replacement Cache" (FAST 2003), by bytes.
//!
//! ```text
//!    evicted lately         here              here            evicted lately
//!   ┌─────────────┐   ┌─────────────┐ │ ┌─────────────┐   ┌─────────────┐
//!   │ once, ghost │ ◀─│ once        │ │ │ again       │─▶ │ again, ghost│
//!   └─────────────┘   └─────────────┘ │ └─────────────┘   └─────────────┘
//!          a miss found here moves the target to the right; one found there, to the left
//! ```

use crate::chain::{Chain, Item};
use crate::policy::{Policy, Request};

/// Two queues, each with a ghost.
#[derive(Debug)]
pub struct Arc {
    once: Chain,
    again: Chain,
    once_ghost: Chain,
    again_ghost: Chain,
    /// Bytes that `once` should have.
    target: u64,
    capacity: u64,
    header: u32,
}

impl Arc {
    /// An empty cache.
    pub fn new(capacity: u64, header: u32) -> Arc {
        let [once, again, once_ghost, again_ghost] = std::array::from_fn(|_| Chain::default());
        Arc { once, again, once_ghost, again_ghost, target: 0, capacity, header }
    }

    /// Evicts one object into its ghost.
    fn replace(&mut self, is_in_again_ghost: bool, evicted: &mut Vec<u64>) {
        let bytes = self.once.bytes();
        let is_over = bytes > self.target || (is_in_again_ghost && bytes == self.target);
        let from_once = !self.once.is_empty() && (is_over || self.again.is_empty());
        let (from, ghost) =
            if from_once { (&mut self.once, &mut self.once_ghost) } else { (&mut self.again, &mut self.again_ghost) };
        if let Some(item) = from.pop() {
            evicted.push(item.oid);
            ghost.push(item);
        }
    }

    fn make_room(&mut self, size: u64, is_in_again_ghost: bool, evicted: &mut Vec<u64>) {
        while self.used() + size > self.capacity {
            self.replace(is_in_again_ghost, evicted);
        }
    }

    /// Bytes by which a hit in a ghost moves the target.
    fn step(size: u64, ghost: u64, other: u64) -> u64 {
        size.max((u128::from(size) * u128::from(other) / u128::from(ghost.max(1))) as u64)
    }
}

impl Policy for Arc {
    fn capacity(&self) -> u64 {
        self.capacity
    }

    fn used(&self) -> u64 {
        self.once.bytes() + self.again.bytes()
    }

    fn has(&self, oid: u64) -> bool {
        self.once.has(oid) || self.again.has(oid)
    }

    fn get(&mut self, request: Request, _: &mut Vec<u64>) -> bool {
        if let Some(item) = self.once.remove(request.oid) {
            self.again.push(item);
            return true;
        }
        self.again.renew(request.oid)
    }

    fn put(&mut self, request: Request, evicted: &mut Vec<u64>) {
        let item = Item { oid: request.oid, size: u64::from(request.size) + u64::from(self.header), mark: 0 };
        let Item { oid, size, .. } = item;
        if size > self.capacity || self.has(oid) {
            return;
        }
        let ghosts = (self.once_ghost.bytes(), self.again_ghost.bytes());
        if self.once_ghost.has(oid) {
            self.target = self.capacity.min(self.target + Self::step(size, ghosts.0, ghosts.1));
            self.once_ghost.remove(oid);
            self.make_room(size, false, evicted);
            self.again.push(item);
            return;
        }
        if self.again_ghost.has(oid) {
            self.target = self.target.saturating_sub(Self::step(size, ghosts.1, ghosts.0));
            self.again_ghost.remove(oid);
            self.make_room(size, true, evicted);
            self.again.push(item);
            return;
        }
        while self.once.bytes() + self.once_ghost.bytes() + size > self.capacity {
            if self.once_ghost.pop().is_some() {
                continue;
            }
            // All of the cache was used once: the oldest goes without a trace.
            let Some(oldest) = self.once.pop() else { break };
            evicted.push(oldest.oid);
        }
        while self.used() + self.once_ghost.bytes() + self.again_ghost.bytes() + size > 2 * self.capacity {
            if self.again_ghost.pop().is_none() {
                break;
            }
        }
        self.make_room(size, false, evicted);
        self.once.push(item);
    }

    fn invalidate(&mut self, oid: u64) {
        for queue in [&mut self.once, &mut self.again, &mut self.once_ghost, &mut self.again_ghost] {
            queue.remove(oid);
        }
    }
}
