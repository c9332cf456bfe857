//! A buddy allocator, with LRU.
//!
//! An object takes a block of 2^n bytes, which is split off a larger one. Two free neighbours of one size become one
//! again. If no block is large enough, the least recently used objects go until there is one.

use std::collections::BTreeSet;

use hashbrown::HashMap;

use crate::chain::{Chain, Item};
use crate::policy::{Policy, Request};

/// The smallest block has 64 bytes.
const ORDER_MIN: u32 = 6;
const ORDERS: usize = 48;

/// The allocator and the queue.
#[derive(Debug)]
pub struct Buddy {
    /// The places of free blocks, for each order.
    free: Vec<BTreeSet<u64>>,
    blocks: HashMap<u64, (u64, u32)>,
    chain: Chain,
    capacity: u64,
    header: u32,
}

impl Buddy {
    /// An empty cache. A capacity that is no power of two is several areas.
    pub fn new(capacity: u64, header: u32) -> Buddy {
        let mut free = vec![BTreeSet::new(); ORDERS];
        let mut place = 0;
        for order in (ORDER_MIN..ORDERS as u32).rev() {
            // The largest order takes all that is left above it.
            while capacity - place >= 1 << order {
                free[order as usize].insert(place);
                place += 1 << order;
            }
        }
        Buddy { free, blocks: HashMap::new(), chain: Chain::default(), capacity, header }
    }

    fn allocate(&mut self, order: u32) -> Option<u64> {
        let found = (order..ORDERS as u32).find(|larger| !self.free[*larger as usize].is_empty())?;
        let place = self.free[found as usize].pop_first()?;
        for half in order..found {
            self.free[half as usize].insert(place + (1 << half));
        }
        Some(place)
    }

    fn release(&mut self, oid: u64) {
        let Some((mut place, mut order)) = self.blocks.remove(&oid) else { return };
        while (order as usize) < ORDERS - 1 && self.free[order as usize].remove(&(place ^ (1 << order))) {
            place &= !(1 << order);
            order += 1;
        }
        self.free[order as usize].insert(place);
    }
}

impl Policy for Buddy {
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
        self.chain.renew(request.oid)
    }

    fn put(&mut self, request: Request, evicted: &mut Vec<u64>) {
        let size = (u64::from(request.size) + u64::from(self.header)).next_power_of_two().max(1 << ORDER_MIN);
        // The largest area has at least half of the capacity.
        if size > self.capacity / 2 || self.chain.has(request.oid) {
            return;
        }
        let order = size.trailing_zeros();
        let place = loop {
            if let Some(place) = self.allocate(order) {
                break place;
            }
            let Some(item) = self.chain.pop() else { return };
            self.release(item.oid);
            evicted.push(item.oid);
        };
        self.blocks.insert(request.oid, (place, order));
        self.chain.push(Item { oid: request.oid, size, mark: 0 });
    }

    fn invalidate(&mut self, oid: u64) {
        if self.chain.remove(oid).is_some() {
            self.release(oid);
        }
    }
}
