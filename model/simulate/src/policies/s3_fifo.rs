//! S3-FIFO: three queues, all first in, first out.
//!
//! Yang and others, "FIFO queues are all you need for cache eviction" (SOSP 2023). A new object comes to the small
//! queue, a tenth of the cache. If it was used twice when it gets to the end, it moves to the main queue. Otherwise it
//! goes, and its oid stays in the ghost queue for a while: an object that comes again in this time goes straight to the
//! main queue. There, used objects get another round.
//!
//! The details are those of libCacheSim: until the first eviction, the main queue takes objects that the small one has
//! no room for. An object that is larger than the small queue goes to the main queue; libCacheSim refuses it.

use crate::chain::{Chain, Item};
use crate::policy::{Policy, Request};

const USES_FOR_MAIN: u8 = 2;
const USES_MAX: u8 = 3;

/// Three queues.
#[derive(Debug)]
pub struct S3Fifo {
    small: Chain,
    main: Chain,
    /// Objects that went from the small queue, without their data.
    ghost: Chain,
    small_bytes_max: u64,
    main_bytes_max: u64,
    ghost_bytes_max: u64,
    has_evicted: bool,
    capacity: u64,
    header: u32,
}

impl S3Fifo {
    /// An empty cache.
    pub fn new(capacity: u64, header: u32) -> S3Fifo {
        let small_bytes_max = capacity / 10;
        S3Fifo {
            small: Chain::default(),
            main: Chain::default(),
            ghost: Chain::default(),
            small_bytes_max,
            main_bytes_max: capacity - small_bytes_max,
            ghost_bytes_max: capacity / 10 * 9,
            has_evicted: false,
            capacity,
            header,
        }
    }

    fn evict(&mut self, evicted: &mut Vec<u64>) {
        self.has_evicted = true;
        if self.main.bytes() > self.main_bytes_max || self.small.is_empty() {
            self.evict_main(evicted);
        } else {
            self.evict_small(evicted);
        }
    }

    fn evict_small(&mut self, evicted: &mut Vec<u64>) {
        while let Some(item) = self.small.pop() {
            if item.mark >= USES_FOR_MAIN {
                self.main.push(Item { mark: 0, ..item });
                continue;
            }
            evicted.push(item.oid);
            if item.size <= self.ghost_bytes_max {
                while self.ghost.bytes() + item.size > self.ghost_bytes_max {
                    self.ghost.pop();
                }
                self.ghost.push(item);
            }
            return;
        }
    }

    fn evict_main(&mut self, evicted: &mut Vec<u64>) {
        while let Some(item) = self.main.pop() {
            if item.mark == 0 {
                evicted.push(item.oid);
                return;
            }
            self.main.push(Item { mark: item.mark.min(USES_MAX) - 1, ..item });
        }
    }
}

impl Policy for S3Fifo {
    fn capacity(&self) -> u64 {
        self.capacity
    }

    fn used(&self) -> u64 {
        self.small.bytes() + self.main.bytes()
    }

    fn has(&self, oid: u64) -> bool {
        self.small.has(oid) || self.main.has(oid)
    }

    fn get(&mut self, request: Request, _: &mut Vec<u64>) -> bool {
        let found = self.small.get(request.oid).or_else(|| self.main.get(request.oid));
        found.map(|item| item.mark = item.mark.saturating_add(1)).is_some()
    }

    fn put(&mut self, request: Request, evicted: &mut Vec<u64>) {
        let Request { oid, .. } = request;
        let size = u64::from(request.size) + u64::from(self.header);
        if size > self.capacity || self.has(oid) {
            return;
        }
        let was_here = self.ghost.remove(oid).is_some();
        while self.used() + size > self.capacity {
            self.evict(evicted);
        }
        let is_small_full = !self.has_evicted && self.small.bytes() >= self.small_bytes_max;
        let is_main = was_here || size > self.small_bytes_max || is_small_full;
        let queue = if is_main { &mut self.main } else { &mut self.small };
        queue.push(Item { oid, size, mark: 0 });
    }

    fn invalidate(&mut self, oid: u64) {
        for queue in [&mut self.small, &mut self.main, &mut self.ghost] {
            queue.remove(oid);
        }
    }
}
