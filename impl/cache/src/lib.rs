//! The client cache: revisions of objects, each with the time for which it holds.
//!
//! A client of a ZEO server lives on its cache, and most corruptions of that protocol were in one: an answer that
//! crossed an invalidation, a reconnection that trusted too much, an eviction under a reader. So the part of this cache
//! in which threads meet is small, and every interleaving of it is run (`loom-tests/`).
//!
//! ```text
//!               t1        t4        t7   head: the last transaction of which the cache was told
//!   object 5    [───a────▶[───b──────┊   b is open: it holds as of the head, and the head is all that a reader sees
//!   object 6              [───c────▶)┊   c ended
//! ```
//!
//! **A revision holds from its tid until its end**, for ever. An open revision has no end yet, and answers for moments
//! up to the head only. So a reader is right if two things are true: every change is noted before the head passes it,
//! and a reader looks at the head before it looks up anything. No lock is needed for that between a reader and the
//! network thread.
//!
//! **An answer says as of when it was asked** ([`Asked`]). The cache remembers the latest changes. A revision that the
//! server called current, and that was changed since the question, is kept with its end. If the cache no longer knows
//! what has happened since the question, the revision is not kept.
//!
//! **Records lie in segments, and are read without a lock.** A lookup takes the lock of one shard for the time of a
//! search in a hash table. Then the reader copies the record, and looks whether its segment has been given to other
//! records in between. If so, the copy is thrown away, and counts as a miss.
//!
//! | module | idea |
//! |---|---|
//! | [`core`](mod@core) | the concurrent core: lookups, stores, invalidations, verification, eviction |
//! | [`Words`] | its bytes in memory, as atomic words |
//! | [`mod@file`] | its bytes in one file of a set size, which survives the process and a power cut |
//! | [`zec`] | the cache files of ZEO's own client, to be read |
//!
//! The index takes 8 bytes an entry, in a table that is at least 7/16 full: about 21 bytes at most. Uses and evicted
//! objects take 6 bytes for each KiB of a cache file.
//!
//! Several processes can share a file: one writes it, and the others are its [`Guest`]s.
//!
//! The crate knows no protocol and no threads of its own.
#![forbid(unsafe_code)]

pub mod core;
pub mod file;
pub mod zec;
/// The shim. The crates of `loom-tests` put loom's and shuttle's types here, and include `core` as it is.
mod sync {
    pub use vellum_sync::{Mutex, Rank, atomic, begin_load};
}

pub use core::{Asked, Changed, Core, Failed, Header, Medium, Place, Region, Shape, Words};
pub use file::{CacheFile, FileMedium, Guest, Options, Report, Thorough};
