//! The concurrent core.
//!
//! Many threads look up while the network thread stores, invalidates and evicts:
//!
//! ```text
//!   a reader                                       the writer: one at a time, under the writer's lock
//!   1  loads the head                              an invalidation: notes the changes, ends the open revisions,
//!   2  takes the object's entries,                     and moves the head last
//!      under the lock of their shard               a store: asks the latest changes for the revision's end, writes
//!   3  copies the record, without a lock               the record, and enters it in the index last
//!   4  looks whether the segment has begun         an eviction: takes a segment's entries out of the index, begins a
//!      anew; if so, throws the copy away               new generation, and writes to the segment last
//! ```
//!
//! | the reader relies on | which is so because |
//! |---|---|
//! | an open revision holds as of the head | the head is loaded before the entries, and moved after them |
//! | an entry leads to a complete record | the entry is made after the record, under the shard's lock |
//! | the end of an ended revision is written | the entry is changed after the end, under the shard's lock |
//! | a copy is of one record | the generation is changed, with a fence, before the segment is written to; and read again, behind a fence, after the copy |
//!
//! A reader waits for a shard's lock only while an entry is searched or changed: no bytes of records are read or
//! written under it. It never takes the writer's lock.
//!
//! Locks have an order: the writer's, then that of one shard. Nothing here uses `try_lock`, counts references, or
//! relies on a sequentially consistent order: loom would not show all that these can do.

mod evict;
mod ghost;
mod medium;
pub(crate) mod recent;
mod restore;
pub(crate) mod slot;
mod told;
mod value;
mod words;
mod writer;

use bytes::Bytes;
use smallvec::SmallVec;
use vellum_storage::{LoadedAt, Oid, Tid};

pub use ghost::Region;
pub use medium::{Failed, Header, Medium};
pub use restore::Found;
use slot::{Hashed, Shard, Slot};
pub use slot::{NUMBERS_MAX, Place, SEGMENTS_MAX};
pub use told::Changed;
pub use words::Words;
use writer::Writer;

use crate::sync::atomic::Ordering::{Acquire, Relaxed};
use crate::sync::atomic::{AtomicBool, AtomicU64, fence};
use crate::sync::{Mutex, Rank};

/// The size of a core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Segments, at least 3: two are written to, and one is empty.
    pub segments: u32,
    /// Bytes of a segment, a multiple of 8.
    pub segment_bytes: u32,
    /// Parts of the index, a power of two.
    pub shards: usize,
    /// How many of the latest changes are remembered.
    pub changes: usize,
}

impl Shape {
    /// Bytes of all segments.
    fn bytes(&self) -> u64 {
        u64::from(self.segments) * u64::from(self.segment_bytes)
    }

    /// Memory of so many bytes: 64 segments, or fewer if they would be smaller than 64 KiB.
    pub fn of_bytes(bytes: u64) -> Shape {
        let segments = (bytes / (64 << 10)).clamp(4, 64);
        let segment_bytes = (bytes / segments).clamp(4 << 10, 1 << 30) as u32 / 8 * 8;
        Shape { segments: segments as u32, segment_bytes, shards: 64, changes: 10_000 }
    }
}

/// The moment of a question to the server: its answer is no older than the head was then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Asked(Tid);

impl Asked {
    /// A question as of this transaction, which the cache has been told of.
    pub fn as_of(tid: Tid) -> Asked {
        Asked(tid)
    }
}

struct WriterRank;

impl Rank for WriterRank {
    const ORDER: u32 = 1;
    const NAME: &'static str = "the lock of the cache's writer";
}

struct ShardRank;

impl Rank for ShardRank {
    const ORDER: u32 = 2;
    const NAME: &'static str = "the lock of a shard of the cache's index";
}

/// The part of a segment that readers see.
struct Segment {
    /// Which life of the segment this is.
    generation: AtomicU64,
    /// How often the records were used since they were written, two bits for each number.
    uses: Box<[AtomicU64]>,
}

/// Numbers whose uses are in one word.
const USES_PER_WORD: u32 = u64::BITS / 2;
/// Uses that are counted.
const USES_MAX: u8 = 2;

impl Segment {
    /// The word that counts a record's uses, and the bit of the first one. The bit of the second is above it.
    fn uses(&self, number: u32) -> Option<(&AtomicU64, u64)> {
        let word = self.uses.get((number / USES_PER_WORD) as usize)?;
        Some((word, 1 << (2 * (number % USES_PER_WORD))))
    }
}

/// An entry of an object, and the generation of its segment at that moment.
#[derive(Clone, Copy)]
struct Candidate {
    slot: Slot,
    generation: u64,
}

/// The concurrent core: see the module.
pub struct Core<M> {
    medium: M,
    shape: Shape,
    /// The last transaction of which all changes are noted.
    head: AtomicU64,
    is_closed: AtomicBool,
    shards: Box<[Mutex<Shard, ShardRank>]>,
    segments: Box<[Segment]>,
    writer: Mutex<Writer, WriterRank>,
}

impl<M: Medium> Core<M> {
    /// An empty cache, told of all changes up to `head`.
    ///
    /// # Panics
    ///
    /// If the shape is impossible.
    pub fn new(medium: M, shape: Shape, head: Tid) -> Core<M> {
        let Shape { segments, segment_bytes, shards, .. } = shape;
        assert!((3..=SEGMENTS_MAX).contains(&segments) && shards.is_power_of_two(), "no cache has such a {shape:?}");
        assert!(segment_bytes.is_multiple_of(8) && segment_bytes > M::RESERVED_BYTES + M::HEADER_BYTES, "{shape:?}");
        let words = Self::numbers_max(&shape).div_ceil(USES_PER_WORD);
        let segment =
            |_| Segment { generation: AtomicU64::new(0), uses: (0..words).map(|_| AtomicU64::new(0)).collect() };
        Core {
            medium,
            shape,
            head: AtomicU64::new(head.0),
            is_closed: AtomicBool::new(false),
            shards: (0..shards).map(|_| Mutex::ranked(Shard::default())).collect(),
            segments: (0..segments).map(segment).collect(),
            writer: Mutex::ranked(Writer::new(&shape, head)),
        }
    }

    /// Records that a segment can hold.
    fn numbers_max(shape: &Shape) -> u32 {
        ((shape.segment_bytes - M::RESERVED_BYTES) / M::HEADER_BYTES).min(NUMBERS_MAX)
    }

    /// The last transaction of which the cache was told.
    pub fn head(&self) -> Tid {
        Tid(self.head.load(Acquire))
    }

    /// The moment of a question that is about to be sent.
    pub fn ask(&self) -> Asked {
        Asked(self.head())
    }

    /// Where the bytes are.
    pub fn medium(&self) -> &M {
        &self.medium
    }

    /// The object as it was just before a tid; none if the cache does not know.
    pub fn get(&self, oid: Oid, before: Tid) -> Option<LoadedAt> {
        // Before the entries: what they say may be newer than the head, and never older.
        let head = self.head();
        if before > head.next() || self.is_closed.load(Acquire) {
            return None;
        }
        let mut found = None;
        for candidate in self.candidates(oid) {
            found = found.or_else(|| self.read(oid, before, candidate));
        }
        found
    }

    /// A lookup here, and then in a cache behind this one, which was told of at least as many transactions. This cache
    /// keeps what is found there.
    pub fn get_through(&self, oid: Oid, before: Tid, behind: impl FnOnce() -> Option<LoadedAt>) -> Option<LoadedAt> {
        // Before the look behind, as before a question to a server: what is changed later is judged.
        let asked = self.ask();
        if before > asked.0.next() {
            return None;
        }
        self.get(oid, before).or_else(|| {
            let found = behind()?;
            self.store(asked, oid, &found);
            Some(found)
        })
    }

    /// The entries that may be the object's.
    fn candidates(&self, oid: Oid) -> SmallVec<[Candidate; 4]> {
        let hashed = Hashed::of(oid);
        let shard = self.shard(hashed).lock();
        // Under the lock: the segment of an entry that is still there has not begun anew.
        let generation = |slot: Slot| self.segments[slot.place().segment as usize].generation.load(Relaxed);
        shard.find(hashed).map(|slot| Candidate { slot, generation: generation(slot) }).collect()
    }

    fn shard(&self, hashed: Hashed) -> &Mutex<Shard, ShardRank> {
        &self.shards[hashed.shard(self.shards.len())]
    }

    /// Copies a record if it is the object's, and holds just before `before`.
    fn read(&self, oid: Oid, before: Tid, candidate: Candidate) -> Option<LoadedAt> {
        let Candidate { slot, generation } = candidate;
        let place = slot.place();
        let header = self.medium.header(place)?;
        let next = if slot.is_open() { None } else { Some(header.end?) };
        if header.oid != oid || header.tid >= before || next.is_some_and(|next| next < before) {
            return None;
        }
        let mut data = Vec::new();
        if !self.medium.data(place, &header, &mut data) || !self.is_still(place.segment, generation) {
            return None;
        }
        self.mark_used(place);
        Some(LoadedAt { data: Bytes::from(data), tid: header.tid, next })
    }

    /// Whether all that was read of a segment belongs to this generation.
    fn is_still(&self, segment: u32, generation: u64) -> bool {
        // With the fence of the writer, which stands between the generation and what it writes: a reader that saw a
        // byte of the next generation sees the next generation here.
        fence(Acquire);
        self.segments[segment as usize].generation.load(Relaxed) == generation
    }

    /// A record that is used stays longer. Chance decides if the segment begins anew at this moment: it may mark
    /// another record. Of two uses at the same time one may be lost.
    fn mark_used(&self, Place { segment, number }: Place) {
        let Some((word, first)) = self.segments[segment as usize].uses(number) else { return };
        let (seen, second) = (word.load(Relaxed), first << 1);
        // Most are marked twice already, and a store would take the line from all other readers.
        if seen & second == 0 {
            word.fetch_or(if seen & first == 0 { first } else { second }, Relaxed);
        }
    }

    /// How often a record was used, as far as that is counted.
    fn uses_of(&self, Place { segment, number }: Place) -> u8 {
        let Some((word, first)) = self.segments[segment as usize].uses(number) else { return 0 };
        let seen = word.load(Relaxed);
        u8::from(seen & first != 0) + u8::from(seen & first << 1 != 0)
    }

    /// Revisions that are held.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory that the index takes, with the counters of uses and the memory of evicted objects.
    pub fn index_bytes(&self) -> usize {
        let used: usize = self.segments.iter().map(|segment| size_of::<Segment>() + segment.uses.len() * 8).sum();
        used + self.writer.lock().ghosts.bytes() + self.shards.iter().map(|shard| shard.lock().bytes()).sum::<usize>()
    }
}
