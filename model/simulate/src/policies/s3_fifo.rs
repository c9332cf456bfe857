//! S3-FIFO: three queues, all first in, first out.
//!
//! Yang and others, "FIFO queues are all you need for cache eviction" (SOSP 2023). A new object enters the small
//! queue, a tenth of the cache. If it was used twice when it gets to the end, it moves to the main queue. Otherwise it
//! goes, and its oid stays in the ghost queue for a while: an object that comes again in this time goes straight to the
//! main queue. There, used objects get another round.
//!
//! The details are those of libCacheSim: until the first eviction, the main queue takes objects that the small one has
//! no room for. An object that is larger than the small queue goes to the main queue; libCacheSim refuses it.
//!
//! When a working set moves, a new object is evicted from a small queue before it is used again, and comes a second
//! time. So there is a variant that adapts, as ARC does. The objects that left the main queue have a ghost queue as
//! well. A miss of an object that the small queue let go makes the small queue larger, up to nine tenths of the cache;
//! one that the main queue let go makes it smaller, down to a tenth.

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
    /// Objects that went from the main queue, if the sizes of the queues adapt.
    main_ghost: Option<Chain>,
    ghost_bytes_max: u64,
    has_evicted: bool,
    capacity: u64,
    header: u32,
}

impl S3Fifo {
    /// An empty cache, whose small queue adapts.
    pub fn adaptive(capacity: u64, header: u32) -> S3Fifo {
        S3Fifo { main_ghost: Some(Chain::default()), ..S3Fifo::new(capacity, header) }
    }

    /// An empty cache.
    pub fn new(capacity: u64, header: u32) -> S3Fifo {
        let small_bytes_max = capacity / 10;
        S3Fifo {
            small: Chain::default(),
            main: Chain::default(),
            ghost: Chain::default(),
            main_ghost: None,
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
        let is_small_over = self.main_ghost.is_none() || self.small.bytes() > self.small_bytes_max;
        let is_main_over = self.main.bytes() > self.main_bytes_max || !(is_small_over || self.main.is_empty());
        if is_main_over || self.small.is_empty() {
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
            remember(&mut self.ghost, item, self.ghost_bytes_max);
            return;
        }
    }

    /// Looks for a miss in the ghosts; whether the object was here lately. Adapts the small queue.
    fn was_here(&mut self, oid: u64, size: u64) -> bool {
        let bytes = self.ghost.bytes();
        let from_small = self.ghost.remove(oid).is_some();
        let Some(ghost) = &mut self.main_ghost else { return from_small };
        let main_bytes = ghost.bytes();
        let from_main = ghost.remove(oid).is_some();
        let step =
            |ghost: u64, other: u64| size.max((u128::from(size) * u128::from(other) / u128::from(ghost.max(1))) as u64);
        if from_small {
            self.small_bytes_max = (self.small_bytes_max + step(bytes, main_bytes)).min(self.capacity / 10 * 9);
        } else if from_main {
            self.small_bytes_max = self.small_bytes_max.saturating_sub(step(main_bytes, bytes)).max(self.capacity / 10);
        }
        self.main_bytes_max = self.capacity - self.small_bytes_max;
        from_small || from_main
    }

    fn evict_main(&mut self, evicted: &mut Vec<u64>) {
        while let Some(item) = self.main.pop() {
            if item.mark == 0 {
                evicted.push(item.oid);
                if let Some(ghost) = &mut self.main_ghost {
                    remember(ghost, item, self.ghost_bytes_max);
                }
                return;
            }
            self.main.push(Item { mark: item.mark.min(USES_MAX) - 1, ..item });
        }
    }
}

/// Adds an object to a ghost queue of so many bytes.
fn remember(ghost: &mut Chain, item: Item, bytes_max: u64) {
    if item.size <= bytes_max {
        while ghost.bytes() + item.size > bytes_max {
            ghost.pop();
        }
        ghost.push(item);
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
        let was_here = self.was_here(oid, size);
        while self.used() + size > self.capacity {
            self.evict(evicted);
        }
        let is_small_full = !self.has_evicted && self.small.bytes() >= self.small_bytes_max;
        let is_main = was_here || size > self.small_bytes_max || is_small_full;
        let queue = if is_main { &mut self.main } else { &mut self.small };
        queue.push(Item { oid, size, mark: 0 });
    }

    fn invalidate(&mut self, oid: u64) {
        for queue in [&mut self.small, &mut self.main, &mut self.ghost].into_iter().chain(&mut self.main_ghost) {
            queue.remove(oid);
        }
    }
}
