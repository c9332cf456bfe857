//! A set of oids: one bit each, where they are dense, and no lock for readers.
//!
//! ```text
//!   segments   [64 pages][128 pages][256 pages] ...      made when first needed, never moved
//!                 │
//!                 ▼
//!   page       16 words of 64 bits                       1024 oids
//! ```
//!
//! Oids are handed out one after the other, so they are dense; but a damaged or hostile database may hold any. So pages
//! are made only while they hold 16 oids on average; the others go to a tree beside them. When a page is made after
//! all, its oids in the tree move in. A reader that finds no page takes the tree's lock, and looks for the page once
//! more: nothing moves while it has the lock.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{OnceLock, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::Oid;

const WORDS: u64 = 16;
const PAGE: u64 = WORDS * 64;
const FIRST_SEGMENT: u64 = 64;
const SEGMENTS: usize = 50;
/// Oids that a page must hold on average for another one to be made, and the number that is granted at once.
const OIDS_A_PAGE_MIN: u64 = 16;
const PAGES_FREE: u64 = 32;
/// Oids for which the place of one more page is granted: a set may begin at a high oid, as that of the waiting objects
/// does.
const OIDS_A_SLOT_MIN: u64 = 8;
/// The bytes of an oid in the tree, about: its nodes are filled to two thirds, and have some bytes of their own.
const TREE_BYTES: usize = 20;

type Page = [AtomicU64; WORDS as usize];
type Segment = Box<[OnceLock<Box<Page>>]>;

/// A set of oids, to which any number of threads can add at the same time.
#[derive(Debug)]
pub struct OidSet {
    segments: [OnceLock<Segment>; SEGMENTS],
    /// Oids on pages.
    paged: AtomicU64,
    beside: RwLock<Beside>,
}

#[derive(Debug, Default)]
struct Beside {
    /// Oids whose page does not exist.
    oids: BTreeSet<u64>,
    /// Pages that exist.
    pages: u64,
    /// One more than the greatest page's number.
    end: u64,
}

impl Default for OidSet {
    fn default() -> OidSet {
        OidSet::new()
    }
}

/// The segment of a page, and the place in it: segment s has 64 · 2^s pages.
fn place(page: u64) -> (usize, usize) {
    let segment = (page / FIRST_SEGMENT + 1).ilog2();
    (segment as usize, (page - FIRST_SEGMENT * ((1 << segment) - 1)) as usize)
}

/// The word on its page, and the bit in that.
fn bit(oid: u64) -> (usize, u64) {
    ((oid % PAGE / 64) as usize, 1 << (oid % 64))
}

impl OidSet {
    /// A set with nothing in it.
    pub fn new() -> OidSet {
        OidSet {
            segments: std::array::from_fn(|_| OnceLock::new()),
            paged: AtomicU64::new(0),
            beside: RwLock::default(),
        }
    }

    /// Whether the oid is in it.
    pub fn contains(&self, Oid(oid): Oid) -> bool {
        let on = |page: &Page| {
            let (word, bit) = bit(oid);
            page[word].load(Ordering::Relaxed) & bit != 0
        };
        if let Some(page) = self.page(oid / PAGE) {
            return on(page);
        }
        let beside = self.read();
        // The page may have been made just now, and the oid have moved there.
        self.page(oid / PAGE).map_or_else(|| beside.oids.contains(&oid), on)
    }

    /// Adds the oid, and says whether it was not in it. Of several threads that add the same one, one is told so.
    pub fn insert(&self, Oid(oid): Oid) -> bool {
        if let Some(page) = self.page(oid / PAGE) {
            return self.set(page, oid);
        }
        let mut beside = self.write();
        if self.page(oid / PAGE).is_none() && self.may_make(&beside, oid / PAGE) {
            self.make_page(&mut beside, oid / PAGE);
        }
        match self.page(oid / PAGE) {
            Some(page) => self.set(page, oid),
            None => beside.oids.insert(oid),
        }
    }

    /// The first oid in it that is not less than this one.
    pub fn next(&self, Oid(from): Oid) -> Option<Oid> {
        let beside = self.read();
        let sparse = beside.oids.range(from..).next().copied();
        let mut at = from;
        while at / PAGE < beside.end && sparse.is_none_or(|other| at < other) {
            let Some(page) = self.page(at / PAGE) else {
                at = (at / PAGE + 1) * PAGE;
                continue;
            };
            let rest = page[bit(at).0].load(Ordering::Relaxed) >> (at % 64);
            if rest != 0 {
                // The oids beside the pages are on none of them, so they are not nearer.
                return Some(Oid(at + u64::from(rest.trailing_zeros())));
            }
            at = (at / 64 + 1) * 64;
        }
        sparse.map(Oid)
    }

    /// How many oids are in it.
    pub fn len(&self) -> u64 {
        self.paged.load(Ordering::Relaxed) + self.read().oids.len() as u64
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that it takes in memory, those of the tree by estimate.
    pub fn memory(&self) -> usize {
        let beside = self.read();
        let slots: usize = self.segments.iter().filter_map(|segment| segment.get()).map(|segment| segment.len()).sum();
        size_of::<OidSet>()
            + slots * size_of::<OnceLock<Box<Page>>>()
            + beside.pages as usize * size_of::<Page>()
            + beside.oids.len() * TREE_BYTES
    }

    fn page(&self, page: u64) -> Option<&Page> {
        let (segment, at) = place(page);
        self.segments.get(segment)?.get()?.get(at)?.get().map(|page| &**page)
    }

    fn set(&self, page: &Page, oid: u64) -> bool {
        let (word, bit) = bit(oid);
        let is_new = page[word].fetch_or(bit, Ordering::Relaxed) & bit == 0;
        if is_new {
            self.paged.fetch_add(1, Ordering::Relaxed);
        }
        is_new
    }

    /// Whether memory allows another page at this number.
    fn may_make(&self, beside: &Beside, page: u64) -> bool {
        let oids = self.paged.load(Ordering::Relaxed) + beside.oids.len() as u64;
        let slots = 4 * (beside.pages + PAGES_FREE) + oids / OIDS_A_SLOT_MIN;
        beside.pages < PAGES_FREE + oids / OIDS_A_PAGE_MIN && page < slots
    }

    fn make_page(&self, beside: &mut Beside, page: u64) {
        let fresh: Box<Page> = Box::default();
        let moved: Vec<u64> = beside.oids.range(page * PAGE..(page + 1) * PAGE).copied().collect();
        for oid in moved {
            beside.oids.remove(&oid);
            self.set(&fresh, oid);
        }
        let (segment, at) = place(page);
        let slots =
            self.segments[segment].get_or_init(|| (0..FIRST_SEGMENT << segment).map(|_| OnceLock::new()).collect());
        let _ = slots[at].set(fresh);
        beside.pages += 1;
        beside.end = beside.end.max(page + 1);
    }

    fn read(&self) -> RwLockReadGuard<'_, Beside> {
        self.beside.read().unwrap_or_else(|e| e.into_inner())
    }

    fn write(&self) -> RwLockWriteGuard<'_, Beside> {
        self.beside.write().unwrap_or_else(|e| e.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(oids: impl IntoIterator<Item = u64>) -> OidSet {
        let set = OidSet::new();
        for oid in oids {
            set.insert(Oid(oid));
        }
        set
    }

    #[test]
    fn dense_oids_take_a_bit_each() {
        // In no order, as a database is walked.
        let set = of((0..1_000_000).map(|n| n * 7_919 % 1_000_000));
        assert_eq!(set.len(), 1_000_000);
        assert!(set.memory() <= 200_000, "{}", set.memory());
    }

    #[test]
    fn dense_oids_take_little_wherever_they_begin() {
        for first in [10_000_000, 50_000_000] {
            let set = of(first..first + 1_000_000);
            assert!(set.memory() <= 10_000_000, "from {first}: {}", set.memory());
        }
    }

    #[test]
    fn scattered_oids_do_not_take_a_page_each() {
        let hash = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for oids in [of((0..100_000).map(hash)), of((0..100_000).map(|n| n * PAGE)), of((0..100_000).map(|n| n * 100))]
        {
            assert!(oids.memory() <= 24 * 100_000, "{} bytes an oid", oids.memory() / 100_000);
        }
    }

    #[test]
    fn of_several_who_add_the_same_oid_one_is_told_so() {
        // Pages are made on the way, as there are more and more oids.
        let oids: Vec<u64> = (0..200_000_u64).map(|n| n * 7_919 % 200_000 * if n % 3 == 0 { 1 } else { 50 }).collect();
        let set = OidSet::new();
        let told: u64 = std::thread::scope(|scope| {
            let adder = || oids.iter().filter(|oid| set.insert(Oid(**oid))).count() as u64;
            let adders = [scope.spawn(adder), scope.spawn(adder), scope.spawn(adder)];
            adders.map(|adder| adder.join().unwrap()).into_iter().sum()
        });
        let different: BTreeSet<_> = oids.iter().collect();
        assert_eq!((told, set.len()), (different.len() as u64, different.len() as u64));
        assert!(oids.iter().all(|oid| set.contains(Oid(*oid))));
    }

    proptest! {
        #[test]
        fn it_is_a_set(
            first in 0..3_000_000_u64,
            oids in prop::collection::vec(
                prop_oneof![
                    4 => 0..3000_u64,
                    2 => 0..3_000_000_u64,
                    2 => (0..300_u64).prop_map(|n| n * PAGE),
                    1 => any::<u64>(),
                    1 => Just(u64::MAX),
                ],
                0..2000,
            ),
        ) {
            let (set, mut model) = (OidSet::new(), BTreeSet::new());
            for &oid in &oids {
                // Earlier oids are asked for again: their pages may have been made since.
                prop_assert_eq!(set.contains(Oid(oid)), model.contains(&oid));
                prop_assert_eq!(set.insert(Oid(oid)), model.insert(oid));
                prop_assert!(set.contains(Oid(oid)));
            }
            prop_assert_eq!(set.len(), model.len() as u64);
            let next = |from: u64| set.next(Oid(from)).map(|oid| oid.0);
            let walked = std::iter::successors(next(0), |oid| next(oid.checked_add(1)?)).collect::<Vec<_>>();
            prop_assert_eq!(walked, model.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(next(first), model.range(first..).next().copied());
            for oid in oids {
                prop_assert_eq!(set.contains(Oid(oid ^ 1)), model.contains(&(oid ^ 1)));
            }
        }
    }
}
