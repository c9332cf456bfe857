//! SIEVE: a queue in order of arrival, with a hand that does not go back.
//!
//! Zhang and others, "SIEVE is Simpler than LRU" (NSDI 2024). A use marks an object. The hand goes from the oldest to
//! the newest, takes the marks off, and evicts the first object without one. It stays where it stopped. So new objects
//! do not mix with those that survived.

use crate::chain::{Chain, Item, NONE};
use crate::policy::{Policy, Request};

/// A queue with a hand.
#[derive(Debug)]
pub struct Sieve {
    chain: Chain,
    hand: u32,
    capacity: u64,
    header: u32,
}

impl Sieve {
    /// An empty cache.
    pub fn new(capacity: u64, header: u32) -> Sieve {
        Sieve { chain: Chain::default(), hand: NONE, capacity, header }
    }

    fn evict(&mut self) -> Option<u64> {
        let mut place = if self.hand == NONE { self.chain.oldest() } else { self.hand };
        if place == NONE {
            return None;
        }
        while self.chain.at(place).mark > 0 {
            self.chain.at(place).mark = 0;
            place = match self.chain.newer(place) {
                NONE => self.chain.oldest(),
                newer => newer,
            };
        }
        self.hand = self.chain.newer(place);
        let oid = self.chain.at(place).oid;
        self.chain.remove(oid);
        Some(oid)
    }
}

impl Policy for Sieve {
    fn capacity(&self) -> u64 {
        self.capacity
    }

    fn used(&self) -> u64 {
        self.chain.bytes()
    }

    fn has(&self, oid: u64) -> bool {
        self.chain.has(oid)
    }

    fn get(&mut self, request: Request, _: &mut Vec<u64>) -> bool {
        self.chain.get(request.oid).map(|item| item.mark = 1).is_some()
    }

    fn put(&mut self, request: Request, evicted: &mut Vec<u64>) {
        let size = u64::from(request.size) + u64::from(self.header);
        if size > self.capacity || self.chain.has(request.oid) {
            return;
        }
        while self.chain.bytes() + size > self.capacity {
            let Some(oid) = self.evict() else { break };
            evicted.push(oid);
        }
        self.chain.push(Item { oid: request.oid, size, mark: 0 });
    }

    fn invalidate(&mut self, oid: u64) {
        if self.hand != NONE && self.chain.place(oid) == self.hand {
            self.hand = self.chain.newer(self.hand);
        }
        self.chain.remove(oid);
    }
}
