//! One queue: FIFO, LRU and CLOCK.
//!
//! Each evicts the oldest object. FIFO orders the objects by their arrival, LRU by their last use. CLOCK gives an
//! object that was used in its last round one more.

use crate::chain::{Chain, Item};
use crate::policy::{Policy, Request};

/// The effect of a use on the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Nothing,
    Renews,
    Marks,
}

#[derive(Debug)]
struct Queue {
    chain: Chain,
    capacity: u64,
    header: u32,
    on_use: Use,
}

impl Queue {
    fn new(capacity: u64, header: u32, on_use: Use) -> Queue {
        Queue { chain: Chain::default(), capacity, header, on_use }
    }

    fn get(&mut self, oid: u64) -> bool {
        match self.on_use {
            Use::Nothing => self.chain.has(oid),
            Use::Renews => self.chain.renew(oid),
            Use::Marks => self.chain.get(oid).map(|item| item.mark = 1).is_some(),
        }
    }

    fn put(&mut self, request: Request, evicted: &mut Vec<u64>) {
        let size = u64::from(request.size) + u64::from(self.header);
        if size > self.capacity || self.chain.has(request.oid) {
            return;
        }
        while self.chain.bytes() + size > self.capacity {
            let Some(item) = self.chain.pop() else { break };
            if item.mark > 0 {
                self.chain.push(Item { mark: 0, ..item });
            } else {
                evicted.push(item.oid);
            }
        }
        self.chain.push(Item { oid: request.oid, size, mark: 0 });
    }
}

macro_rules! queue_policy {
    ($name:ident, $on_use:expr, $doc:literal) => {
        #[doc = $doc]
        #[derive(Debug)]
        pub struct $name(Queue);

        impl $name {
            /// An empty cache.
            pub fn new(capacity: u64, header: u32) -> $name {
                $name(Queue::new(capacity, header, $on_use))
            }
        }

        impl Policy for $name {
            fn capacity(&self) -> u64 {
                self.0.capacity
            }

            fn used(&self) -> u64 {
                self.0.chain.bytes()
            }

            fn has(&self, oid: u64) -> bool {
                self.0.chain.has(oid)
            }

            fn get(&mut self, request: Request, _: &mut Vec<u64>) -> bool {
                self.0.get(request.oid)
            }

            fn put(&mut self, request: Request, evicted: &mut Vec<u64>) {
                self.0.put(request, evicted);
            }

            fn invalidate(&mut self, oid: u64) {
                self.0.chain.remove(oid);
            }
        }
    };
}

queue_policy!(Fifo, Use::Nothing, "Evicts the object that came first.");
queue_policy!(Lru, Use::Renews, "Evicts the object whose last use is longest ago.");
queue_policy!(Clock, Use::Marks, "Evicts the first object that was not used in this round.");
