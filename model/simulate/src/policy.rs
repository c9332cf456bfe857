//! The promise of a policy, and the list of all policies.

use crate::policies::{
    Arc, Belady, Buddy, Circular, Clock, Fifo, Flip, Hac, Limit, Lru, Pages, S3Fifo, Segments, Sieve, TinyLfu,
};

/// An object that is asked for, or that arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The object.
    pub oid: u64,
    /// Bytes of its record.
    pub size: u32,
    /// The number of the load that asks for the same revision next; [`NEVER`] if none does. Only the limits read it.
    pub next: u64,
}

/// The revision is not asked for again.
pub const NEVER: u64 = u64::MAX;

/// Decides which objects a cache of a set size keeps.
///
/// An object is either here, or it is a miss. It comes by [`put`](Policy::put), and goes by an invalidation or when
/// the policy evicts it.
pub trait Policy {
    /// Bytes that it may take.
    fn capacity(&self) -> u64;

    /// Bytes that it takes: never more than the capacity.
    fn used(&self) -> u64;

    /// Whether the object is here. This is not a use of it.
    fn has(&self, oid: u64) -> bool;

    /// Uses an object; whether it was here. A policy that copies a used object may evict others: they are added to the
    /// list.
    fn get(&mut self, request: Request, evicted: &mut Vec<u64>) -> bool;

    /// Keeps an object that was not here, or refuses it. The objects that go for it are added to the list, and so is
    /// the object itself if it goes at once.
    fn put(&mut self, request: Request, evicted: &mut Vec<u64>);

    /// The object has changed: the revision that is here does not answer any more.
    fn invalidate(&mut self, oid: u64);

    /// Uses an object, and keeps it if it was a miss; whether it was here.
    fn access(&mut self, request: Request, evicted: &mut Vec<u64>) -> bool {
        let is_hit = self.get(request, evicted);
        if !is_hit {
            self.put(request, evicted);
        }
        is_hit
    }
}

/// All policies, in the order of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, clap::ValueEnum)]
pub enum Kind {
    /// The first in, first out
    Fifo,
    /// The least recently used
    Lru,
    /// First in, first out, with a second chance for the used
    Clock,
    /// Two files: current and old, as ZEO's first clients had
    Flip,
    /// The circular file of ZEO 6.2's client
    Zeo,
    /// A buddy allocator, with LRU
    Buddy,
    /// Objects packed into pages in load order, evicted by page
    Pages,
    /// Thor's hybrid: hot objects of cold pages are compacted
    Hac,
    /// The segments of Vellum's cache: S3-FIFO over two regions, which adapt
    Segments,
    /// Three queues: a small one, a main one, and a ghost
    S3fifo,
    /// The same, with a small queue that adapts
    S3fifoAdapts,
    /// A queue with a hand that goes on where it stopped
    Sieve,
    /// Adapts between recency and frequency
    Arc,
    /// A window, and an admission by frequency
    Wtinylfu,
    /// A limit: the object whose next use is farthest goes
    Belady,
    /// A limit: the object goes whose size times time to the next use is largest
    BeladySize,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 16] = [
        Kind::Fifo,
        Kind::Lru,
        Kind::Clock,
        Kind::Flip,
        Kind::Zeo,
        Kind::Buddy,
        Kind::Pages,
        Kind::Hac,
        Kind::Segments,
        Kind::S3fifo,
        Kind::S3fifoAdapts,
        Kind::Sieve,
        Kind::Arc,
        Kind::Wtinylfu,
        Kind::Belady,
        Kind::BeladySize,
    ];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Fifo => "FIFO",
            Kind::Lru => "LRU",
            Kind::Clock => "CLOCK",
            Kind::Flip => "two files",
            Kind::Zeo => "ZEO",
            Kind::Buddy => "buddy LRU",
            Kind::Pages => "pages",
            Kind::Hac => "HAC",
            Kind::Segments => "segments",
            Kind::S3fifo => "S3-FIFO",
            Kind::S3fifoAdapts => "S3-FIFO, adapts",
            Kind::Sieve => "SIEVE",
            Kind::Arc => "ARC",
            Kind::Wtinylfu => "W-TinyLFU",
            Kind::Belady => "Belady",
            Kind::BeladySize => "Belady, size",
        }
    }

    /// Whether it knows the future, so that no cache can be it.
    pub fn is_limit(self) -> bool {
        matches!(self, Kind::Belady | Kind::BeladySize)
    }

    /// An empty cache of so many bytes. Each object takes its bytes and those of a header; ZEO's file and Vellum's
    /// segments have headers of their own.
    pub fn of(self, capacity: u64, header: u32) -> Box<dyn Policy> {
        match self {
            Kind::Fifo => Box::new(Fifo::new(capacity, header)),
            Kind::Lru => Box::new(Lru::new(capacity, header)),
            Kind::Clock => Box::new(Clock::new(capacity, header)),
            Kind::Flip => Box::new(Flip::new(capacity, header)),
            Kind::Zeo => Box::new(Circular::new(capacity)),
            Kind::Buddy => Box::new(Buddy::new(capacity, header)),
            Kind::Pages => Box::new(Pages::new(capacity, header)),
            Kind::Hac => Box::new(Hac::new(capacity, header)),
            Kind::Segments => Box::new(Segments::new(capacity)),
            Kind::S3fifo => Box::new(S3Fifo::new(capacity, header)),
            Kind::S3fifoAdapts => Box::new(S3Fifo::adaptive(capacity, header)),
            Kind::Sieve => Box::new(Sieve::new(capacity, header)),
            Kind::Arc => Box::new(Arc::new(capacity, header)),
            Kind::Wtinylfu => Box::new(TinyLfu::new(capacity, header)),
            Kind::Belady => Box::new(Belady::new(capacity, header, Limit::NextUse)),
            Kind::BeladySize => Box::new(Belady::new(capacity, header, Limit::NextUseAndSize)),
        }
    }
}
