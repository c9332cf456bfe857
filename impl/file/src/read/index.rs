//! Where each object's newest record is: at most 8 bytes an object, and no lock for readers.
//!
//! Oids are handed out one after the other, so they are dense, and the index is an array in pages. An entry is a file
//! position of 48 bits, kept as 32 + 16 of them (`0` is no entry), and a hint how long the record is, so that a load
//! can bring all of it in one read and no more than it:
//!
//! ```text
//!   segments   [64 pages][128 pages][256 pages] ...      made when first needed, never moved
//!                 │
//!                 ▼
//!   page       sequence 4 │ low 256 × 4 │ high 256 × 2 │ hint 256 × 1      7 bytes an object
//! ```
//!
//! A reader takes no lock: it reads the page's sequence number, the two halves, and the sequence number again; if it
//! was odd or has changed, a writer was there in between, and the reader looks again (a *seqlock*, of plain atomics).
//! Writers take turns by a mutex.
//!
//! Oids need not be dense: a damaged or hostile file may hold any. Pages are made only while they are filled to an
//! eighth on average; other entries go to a tree beside them, so that the index never takes more than some 50 bytes an
//! object.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use vellum_storage::Oid;
use vellum_sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering, fence};
use vellum_sync::{Mutex, MutexGuard, RwLock};

use crate::order;

/// Entries of a page.
pub(crate) const PAGE: u64 = 256;
const FIRST_SEGMENT: u64 = 64;
const SEGMENTS: usize = 40;
/// Entries that a page must hold on average for another one to be made, and the number that is granted at once.
const ENTRIES_A_PAGE_MIN: u64 = PAGE / 8;
const PAGES_FREE: u64 = 32;

#[derive(Debug)]
struct Page {
    sequence: AtomicU32,
    low: [AtomicU32; PAGE as usize],
    high: [AtomicU16; PAGE as usize],
    /// Not guarded by the sequence: a wrong hint costs a read, and nothing else.
    hint: [AtomicU8; PAGE as usize],
}

/// How long a record may be, in one byte: the next of eight sizes between two powers of two. 0 is not known.
fn hint(length: u64) -> u8 {
    if length <= 8 {
        return 0;
    }
    let power = u64::from((length - 1).ilog2());
    let eighth = (length - 1) >> (power - 3) & 7;
    (power * 8 + eighth + 1).min(255) as u8
}

/// The most bytes of this hint.
fn bytes_of(hint: u8) -> u64 {
    match u64::from(hint).checked_sub(1) {
        Some(size) if size >= 24 => (8 + (size & 7) + 1) << ((size >> 3) - 3),
        _ => 0,
    }
}

impl Page {
    fn new() -> Box<Page> {
        Box::new(Page {
            sequence: AtomicU32::new(0),
            low: std::array::from_fn(|_| AtomicU32::new(0)),
            high: std::array::from_fn(|_| AtomicU16::new(0)),
            hint: std::array::from_fn(|_| AtomicU8::new(0)),
        })
    }

    fn get(&self, at: usize) -> u64 {
        loop {
            let before = self.sequence.load(Ordering::Acquire);
            let low = self.low[at].load(Ordering::Relaxed);
            let high = self.high[at].load(Ordering::Relaxed);
            fence(Ordering::Acquire);
            if before.is_multiple_of(2) && self.sequence.load(Ordering::Relaxed) == before {
                return u64::from(high) << 32 | u64::from(low);
            }
            std::hint::spin_loop();
        }
    }

    /// Only one thread at a time: the caller holds the index's writer lock.
    fn set(&self, at: usize, position: u64) {
        let before = self.sequence.load(Ordering::Relaxed);
        self.sequence.store(before.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        self.low[at].store(position as u32, Ordering::Relaxed);
        self.high[at].store((position >> 32) as u16, Ordering::Relaxed);
        self.sequence.store(before.wrapping_add(2), Ordering::Release);
    }
}

type Segment = Box<[OnceLock<Box<Page>>]>;

/// The index of an open file: oid to position.
#[derive(Debug)]
pub(crate) struct Index {
    segments: [OnceLock<Segment>; SEGMENTS],
    /// Entries whose page does not exist.
    sparse: RwLock<BTreeMap<u64, u64>, order::IndexSparse>,
    entries: AtomicU64,
    writer: Mutex<Pages, order::IndexWriter>,
}

#[derive(Debug, Default)]
struct Pages {
    /// Pages that exist, and entries in them.
    made: u64,
    entries: u64,
    /// One more than the greatest page number.
    end: u64,
}

/// The segment of a page, and the place in it: segment s has 64 · 2^s pages.
fn place(page: u64) -> (usize, usize) {
    let segment = (page / FIRST_SEGMENT + 1).ilog2();
    (segment as usize, (page - FIRST_SEGMENT * ((1 << segment) - 1)) as usize)
}

impl Index {
    pub fn new() -> Index {
        Index {
            segments: std::array::from_fn(|_| OnceLock::new()),
            sparse: RwLock::default(),
            entries: AtomicU64::new(0),
            writer: Mutex::default(),
        }
    }

    fn page(&self, page: u64) -> Option<&Page> {
        let (segment, at) = place(page);
        self.segments.get(segment)?.get()?.get(at)?.get().map(|p| &**p)
    }

    /// The position of the object's newest record.
    pub fn get(&self, oid: Oid) -> Option<u64> {
        let (page, at) = (oid.0 / PAGE, (oid.0 % PAGE) as usize);
        let dense = |index: &Index| index.page(page).map(|p| p.get(at));
        let found = dense(self).or_else(|| {
            let sparse = self.sparse.read();
            let found = sparse.get(&oid.0).copied();
            drop(sparse);
            // Between the two looks the page may have been made, and the entry have moved into it.
            found.or_else(|| dense(self))
        });
        found.filter(|&position| position != 0)
    }

    /// Sets the position of the object's newest record. It must not be 0 nor above 48 bits.
    pub fn set(&self, oid: Oid, position: u64) {
        self.writer().set(oid, position);
    }

    /// About how many bytes the object's newest record has; 0 if that is not known.
    pub fn length_hint(&self, oid: Oid) -> u64 {
        self.page(oid.0 / PAGE).map_or(0, |page| bytes_of(page.hint[(oid.0 % PAGE) as usize].load(Ordering::Relaxed)))
    }

    /// Notes how many bytes the object's newest record has.
    pub fn learn(&self, oid: Oid, length: u64) {
        if let Some(page) = self.page(oid.0 / PAGE) {
            page.hint[(oid.0 % PAGE) as usize].store(hint(length), Ordering::Relaxed);
        }
    }

    /// The right to set many.
    pub fn writer(&self) -> Writer<'_> {
        Writer { index: self, pages: self.writer.lock() }
    }

    fn put_page(&self, page: u64, fresh: Box<Page>) {
        let (segment, at) = place(page);
        let slots =
            self.segments[segment].get_or_init(|| (0..FIRST_SEGMENT << segment).map(|_| OnceLock::new()).collect());
        let _ = slots[at].set(fresh);
    }

    fn is_empty_beside(&self) -> bool {
        self.sparse.read().is_empty()
    }

    /// Makes the page and moves the entries beside it into it; a reader finds each entry at every moment, as it looks
    /// into the page first, then beside, then into the page again.
    fn make_page(&self, page: u64, pages: &mut Pages) {
        let fresh = Page::new();
        let range = page * PAGE..=page * PAGE + (PAGE - 1);
        let moved: Vec<_> = {
            let sparse = self.sparse.read();
            sparse.range(range).map(|(&oid, &position)| (oid, position)).collect()
        };
        for &(oid, position) in &moved {
            fresh.set((oid % PAGE) as usize, position);
        }
        self.put_page(page, fresh);
        let mut sparse = self.sparse.write();
        for (oid, _) in &moved {
            sparse.remove(oid);
        }
        pages.made += 1;
        pages.entries += moved.len() as u64;
        pages.end = pages.end.max(page + 1);
    }

    /// How many objects are in it.
    pub fn len(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    /// The greatest oid in it.
    pub fn last_oid(&self) -> Option<Oid> {
        let sparse = self.sparse.read().last_key_value().map(|(&oid, _)| Oid(oid));
        let end = self.writer.lock().end;
        let dense = (0..end).rev().find_map(|page| {
            let found = self.page(page)?;
            let at = (0..PAGE).rev().find(|&at| found.get(at as usize) != 0)?;
            Some(Oid(page * PAGE + at))
        });
        sparse.max(dense)
    }

    /// The first entry whose oid is not less than `oid`.
    pub fn next(&self, oid: Oid) -> Option<(Oid, u64)> {
        let end = self.writer.lock().end;
        let sparse = {
            let sparse = self.sparse.read();
            sparse.range(oid.0..).next().map(|(&oid, &position)| (Oid(oid), position))
        };
        let mut at = oid.0;
        while at / PAGE < end && sparse.is_none_or(|(other, _)| at < other.0) {
            match self.page(at / PAGE) {
                None => at = (at / PAGE + 1) * PAGE,
                Some(page) => match page.get((at % PAGE) as usize) {
                    0 => at += 1,
                    position => return Some((Oid(at), position)),
                },
            }
        }
        sparse
    }

    /// Every entry, in the order of the oids.
    pub fn entries(&self) -> impl Iterator<Item = (Oid, u64)> {
        let mut next = Some(Oid::ROOT);
        std::iter::from_fn(move || {
            // Most often the next entry is on the same page, and there is no need to ask what lies beside the pages.
            let at = next?;
            let near = self.page(at.0 / PAGE).map_or(0, |page| page.get((at.0 % PAGE) as usize));
            let found = if near == 0 { self.next(at)? } else { (at, near) };
            next = found.0.0.checked_add(1).map(Oid);
            Some(found)
        })
    }

    /// Bytes that it takes in memory, those of the tree by estimate.
    pub fn memory(&self) -> u64 {
        let pages = self.writer.lock().made;
        let slots: u64 = self.segments.iter().filter_map(|s| s.get()).map(|s| s.len() as u64).sum();
        let sparse = self.sparse.read().len() as u64;
        size_of::<Index>() as u64
            + slots * size_of::<OnceLock<Box<Page>>>() as u64
            + pages * size_of::<Page>() as u64
            + sparse * 24
    }
}

/// The right to set entries, which one thread has at a time.
pub(crate) struct Writer<'a> {
    index: &'a Index,
    pages: MutexGuard<'a, Pages>,
}

impl Writer<'_> {
    /// See [`Index::set`].
    pub fn set(&mut self, oid: Oid, position: u64) {
        assert!(position != 0 && position <= crate::format::POSITION_MAX, "position {position} cannot be indexed");
        let Writer { index, pages } = self;
        let (page, at) = (oid.0 / PAGE, (oid.0 % PAGE) as usize);
        let mut found = index.page(page);
        if found.is_none() && pages.may_make(page) {
            index.make_page(page, pages);
            found = index.page(page);
        }
        let is_new = match found {
            Some(found) => {
                let is_new = found.get(at) == 0;
                found.set(at, position);
                pages.entries += u64::from(is_new);
                is_new
            }
            None => index.sparse.write().insert(oid.0, position).is_none(),
        };
        if is_new {
            index.entries.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Writer<'_> {
    /// Sets entries of one page, in order, as from a file of them: at once, if the page is not there yet.
    pub fn fill(&mut self, entries: &[(Oid, u64)]) {
        let Some(&(Oid(first), _)) = entries.first() else { return };
        let Writer { index, pages } = self;
        let page = first / PAGE;
        if index.page(page).is_some() || !pages.may_make(page) || !index.is_empty_beside() {
            return entries.iter().for_each(|&(oid, position)| self.set(oid, position));
        }
        let mut fresh = Page::new();
        let mut count = 0;
        for &(oid, position) in entries {
            assert!(oid.0 / PAGE == page && position != 0 && position <= crate::format::POSITION_MAX);
            let at = (oid.0 % PAGE) as usize;
            let (low, high) = (fresh.low[at].get_mut(), fresh.high[at].get_mut());
            count += u64::from(*low == 0 && *high == 0);
            (*low, *high) = (position as u32, (position >> 32) as u16);
        }
        index.put_page(page, fresh);
        pages.made += 1;
        pages.entries += count;
        pages.end = pages.end.max(page + 1);
        index.entries.fetch_add(count, Ordering::Relaxed);
    }
}

impl Pages {
    /// Whether memory allows another page at this number.
    fn may_make(&self, page: u64) -> bool {
        self.made < PAGES_FREE + self.entries / ENTRIES_A_PAGE_MIN && page < 8 * (self.made + PAGES_FREE)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dense_oids_take_at_most_eight_bytes_each() {
        let index = Index::new();
        for n in 0..200_000 {
            index.set(Oid(n), n + 4);
            assert!(n < 20_000 || n % 1000 != 0 || index.memory() <= 8 * index.len(), "{n}: {}", index.memory());
        }
        assert_eq!(index.next(Oid(199_999)), Some((Oid(199_999), 200_003)));
        assert_eq!(index.next(Oid(200_000)), None);
    }

    #[test]
    fn a_hint_is_enough_and_not_much_more() {
        for length in (50..5000).chain((13..32).map(|power| (1 << power) + 1)) {
            let enough = bytes_of(hint(length));
            assert!(length <= enough && enough <= length + length / 7 + 8, "{length}: {enough}");
        }
        assert_eq!(bytes_of(hint(0)), 0);
    }

    #[test]
    fn scattered_oids_do_not_take_a_page_each() {
        let index = Index::new();
        for n in 0..100_000_u64 {
            index.set(Oid(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)), n + 4);
            index.set(Oid(n * PAGE), n + 4);
        }
        assert!(index.memory() <= 60 * index.len() + 200_000, "{} bytes an object", index.memory() / index.len());
    }

    #[test]
    fn readers_see_the_old_entry_or_the_new_one() {
        let index = Index::new();
        let (one, other) = (0x1111_1111_1111, 0x2222_2222_2222);
        index.set(Oid(7), one);
        vellum_sync::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                for _ in 0..200_000 {
                    let found = index.get(Oid(7));
                    assert!(found == Some(one) || found == Some(other), "{found:x?}");
                }
            });
            while !reader.is_finished() {
                index.set(Oid(7), other);
                index.set(Oid(7), one);
            }
        });
    }

    proptest! {
        #[test]
        fn it_is_a_map(steps in prop::collection::vec((prop_oneof![0..300u64, 0..100_000u64, any::<u64>()], 4..1u64 << 48), 0..400)) {
            let (index, mut model) = (Index::new(), BTreeMap::new());
            for (oid, position) in steps {
                index.set(Oid(oid), position);
                model.insert(oid, position);
                prop_assert_eq!(index.get(Oid(oid)), Some(position));
            }
            prop_assert_eq!(index.len(), model.len() as u64);
            prop_assert_eq!(index.last_oid().map(|o| o.0), model.last_key_value().map(|(&oid, _)| oid));
            let mut walked = BTreeMap::new();
            let mut at = Some(Oid(0));
            while let Some((oid, position)) = at.and_then(|oid| index.next(oid)) {
                walked.insert(oid.0, position);
                at = oid.0.checked_add(1).map(Oid);
            }
            prop_assert_eq!(walked, model);
        }
    }
}
