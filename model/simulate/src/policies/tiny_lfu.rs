//! W-TinyLFU: a small window, and an admission to the main part by frequency.
//!
//! Einziger, Friedman and Manes, "TinyLFU: A Highly Efficient Cache Admission Policy" (2017).
//!
//! ```text
//!   new ─▶ window, LRU, 1 % ─ candidate ─▶ more frequent than those that must go? ─ yes ─▶ probation ◀─▶ protected
//!                                                            └─ no: it goes                  a fifth      four fifths
//! ```
//!
//! An object of another size takes the place of several, so it must be more frequent than all of them together
//! (Einziger, Eytan, Friedman, Manes, "Lightweight Robust Size Aware Cache Management", 2022).
//!
//! libCacheSim has another definition under the same name ([`Definition`]), which is here to compare counts.

use hashbrown::HashMap;

use crate::chain::{Chain, Item, NONE};
use crate::policy::{Policy, Request};

/// Two programs with one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Definition {
    /// The paper's: each use counts; the counters are halved after a while.
    Paper,
    /// libCacheSim's: the window grows until the cache is full. A use in the window does not count, and leaving the
    /// window does. Counters are exact as long as its filter is large, and are not halved in short traces. A use may
    /// evict from probation.
    LibCacheSim,
}

/// Counters of uses.
#[derive(Debug)]
enum Counters {
    Exact(HashMap<u64, u32>),
    /// A count-min sketch of four rows.
    Sketch {
        cells: Vec<u8>,
        added: u64,
    },
}

const ROWS: u64 = 4;
const COUNT_MAX: u8 = 15;
/// The counters are halved after so many additions for each object in the cache, as the paper has it.
const ADDED_MAX: u64 = 10;
const OBJECTS_MIN: u64 = 64;

fn cell(oid: u64, row: u64, columns: u64) -> usize {
    let mut x = oid.wrapping_add((row + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (row * columns + (x ^ (x >> 31)) % columns) as usize
}

impl Counters {
    /// Counts a use of an object, in a cache of so many.
    fn add(&mut self, oid: u64, objects: u64) {
        match self {
            Counters::Exact(counts) => *counts.entry(oid).or_default() += 1,
            Counters::Sketch { cells, added } => {
                let columns = cells.len() as u64 / ROWS;
                for row in 0..ROWS {
                    let count = &mut cells[cell(oid, row, columns)];
                    *count = (*count + 1).min(COUNT_MAX);
                }
                *added += 1;
                if *added >= ADDED_MAX * objects.max(OBJECTS_MIN) {
                    cells.iter_mut().for_each(|count| *count /= 2);
                    *added /= 2;
                }
            }
        }
    }

    fn count(&self, oid: u64) -> u32 {
        match self {
            Counters::Exact(counts) => counts.get(&oid).copied().unwrap_or(0),
            Counters::Sketch { cells, .. } => {
                let columns = cells.len() as u64 / ROWS;
                (0..ROWS).map(|row| u32::from(cells[cell(oid, row, columns)])).min().unwrap_or(0)
            }
        }
    }
}

/// A window, and a main part in two segments.
#[derive(Debug)]
pub struct TinyLfu {
    window: Chain,
    probation: Chain,
    protected: Chain,
    counters: Counters,
    window_bytes_max: u64,
    main_bytes_max: u64,
    /// Of probation and protected.
    segment_bytes_max: [u64; 2],
    definition: Definition,
    capacity: u64,
    header: u32,
}

impl TinyLfu {
    /// An empty cache, as the paper defines it.
    pub fn new(capacity: u64, header: u32) -> TinyLfu {
        TinyLfu::with(capacity, header, Definition::Paper)
    }

    /// An empty cache.
    pub fn with(capacity: u64, header: u32, definition: Definition) -> TinyLfu {
        let window_bytes_max = capacity / 100;
        let main_bytes_max = capacity - window_bytes_max;
        let probation = main_bytes_max / 5;
        let counters = match definition {
            // Room for the objects that fit if they are small.
            Definition::Paper => {
                let columns = (capacity / 256).next_power_of_two().clamp(1 << 10, 1 << 24);
                Counters::Sketch { cells: vec![0; (columns * ROWS) as usize], added: 0 }
            }
            Definition::LibCacheSim => Counters::Exact(HashMap::new()),
        };
        TinyLfu {
            window: Chain::default(),
            probation: Chain::default(),
            protected: Chain::default(),
            counters,
            window_bytes_max,
            main_bytes_max,
            segment_bytes_max: [probation, main_bytes_max - probation],
            definition,
            capacity,
            header,
        }
    }

    fn main_bytes(&self) -> u64 {
        self.probation.bytes() + self.protected.bytes()
    }

    fn objects(&self) -> u64 {
        [&self.window, &self.probation, &self.protected].map(Chain::len).iter().sum()
    }

    /// A use of an object in the main part; whether it is there.
    fn promote(&mut self, oid: u64, evicted: &mut Vec<u64>) -> bool {
        if self.protected.renew(oid) {
            return true;
        }
        let Some(item) = self.probation.remove(oid) else { return false };
        self.protected.push(item);
        while self.protected.bytes() > self.segment_bytes_max[1] {
            let Some(item) = self.protected.pop() else { break };
            self.probation.push(item);
            // The main part was perhaps filled to its end, so that probation has more than its own.
            while self.definition == Definition::LibCacheSim && self.probation.bytes() > self.segment_bytes_max[0] {
                evicted.extend(self.probation.pop().map(|item| item.oid));
            }
        }
        true
    }

    /// The next object of the main part that would go.
    fn victim(&self) -> Option<Item> {
        self.probation.peek().or_else(|| self.protected.peek())
    }

    fn pop_victim(&mut self) -> Option<Item> {
        self.probation.pop().or_else(|| self.protected.pop())
    }

    /// Admits a candidate, or lets it go.
    fn admit(&mut self, candidate: Item, evicted: &mut Vec<u64>) {
        let mut missing = (self.main_bytes() + candidate.size).saturating_sub(self.main_bytes_max);
        let (mut frequency, mut victims) = (0, 0);
        for queue in [&mut self.probation, &mut self.protected] {
            let mut place = queue.oldest();
            while missing > 0 && place != NONE {
                let Item { oid, size, .. } = *queue.at(place);
                frequency += self.counters.count(oid);
                missing = missing.saturating_sub(size);
                victims += 1;
                place = queue.newer(place);
            }
        }
        let wins = victims == 0 || self.counters.count(candidate.oid) > frequency;
        if missing > 0 || !wins {
            evicted.push(candidate.oid);
            return;
        }
        for _ in 0..victims {
            evicted.extend(self.pop_victim().map(|victim| victim.oid));
        }
        self.probation.push(candidate);
    }

    /// One eviction, as libCacheSim makes it.
    fn evict_as_lib_cache_sim(&mut self, evicted: &mut Vec<u64>) {
        loop {
            let Some(candidate) = self.window.peek() else {
                evicted.extend(self.pop_victim().map(|victim| victim.oid));
                return;
            };
            self.window.pop();
            let has_room = self.main_bytes() + candidate.size <= self.main_bytes_max;
            let count = |item: Item| self.counters.count(item.oid);
            let wins = self.victim().is_some_and(|victim| count(candidate) > count(victim));
            if has_room {
                self.insert_to_main(candidate);
            } else if wins {
                evicted.extend(self.pop_victim().map(|victim| victim.oid));
                self.insert_to_main(candidate);
            } else {
                evicted.push(candidate.oid);
            }
            self.counters.add(candidate.oid, 0);
            if !has_room {
                return;
            }
        }
    }

    /// Into the first segment that has room.
    fn insert_to_main(&mut self, item: Item) {
        let fits = |queue: &Chain, most: u64| queue.bytes() + item.size <= most;
        let [probation, protected] = self.segment_bytes_max;
        if !fits(&self.probation, probation) && fits(&self.protected, protected) {
            self.protected.push(item);
        } else {
            self.probation.push(item);
        }
    }
}

impl Policy for TinyLfu {
    fn capacity(&self) -> u64 {
        self.capacity
    }

    fn used(&self) -> u64 {
        self.window.bytes() + self.main_bytes()
    }

    fn has(&self, oid: u64) -> bool {
        self.window.has(oid) || self.probation.has(oid) || self.protected.has(oid)
    }

    fn get(&mut self, request: Request, evicted: &mut Vec<u64>) -> bool {
        let is_in_main = self.promote(request.oid, evicted);
        if is_in_main || self.definition == Definition::Paper {
            let objects = self.objects();
            self.counters.add(request.oid, objects);
        }
        is_in_main || self.window.renew(request.oid)
    }

    fn put(&mut self, request: Request, evicted: &mut Vec<u64>) {
        let Request { oid, .. } = request;
        let size = u64::from(request.size) + u64::from(self.header);
        if size > self.main_bytes_max || self.has(oid) {
            return;
        }
        let item = Item { oid, size, mark: 0 };
        if self.definition == Definition::LibCacheSim {
            if size > self.window_bytes_max {
                return;
            }
            while self.used() + size > self.capacity {
                self.evict_as_lib_cache_sim(evicted);
            }
            self.window.push(item);
            self.counters.add(oid, 0);
            return;
        }
        if size > self.window_bytes_max {
            self.admit(item, evicted);
            return;
        }
        self.window.push(item);
        while self.window.bytes() > self.window_bytes_max {
            let Some(candidate) = self.window.pop() else { break };
            self.admit(candidate, evicted);
        }
    }

    fn invalidate(&mut self, oid: u64) {
        for queue in [&mut self.window, &mut self.probation, &mut self.protected] {
            queue.remove(oid);
        }
    }
}
