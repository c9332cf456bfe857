//! Which revisions survive a pack: written once, for every storage.
//!
//! A pack to a time t keeps the needed part of the past (rules 4.2 to 4.9), and that is a question about a graph:
//!
//! ```text
//!     the root ───────────────┐
//!     what is later than t: ──┤                     ┌──▶ revisions of it that were newest at t ──┐
//!       objects it has        ├──▶ needed object ───┤                                            │ refer to
//!       objects it refers to  │                     └──▶ (and the trunk's under that)            ▼
//!       sources, what is under it ── refer to ──▶ needed object                            needed object
//! ```
//!
//! A storage answers six questions ([`Collected`]), in its own words: a revision is a [`Place`], which for a file is
//! its position. [`collect()`] asks them and returns the [`Survivors`], which the copying code asks about each revision
//! that it meets. Without collection of garbage the way is the same, and begins at more objects.
//!
//! **How it works.** Needed objects are marked in a set of oids ([`OidSet`], a bit each), and the places to look at are
//! a list, the *frontier*. A round sorts the frontier, cuts it into runs that all threads take from, in the order of
//! the places, so that a file is read from its beginning to its end; each record is scanned for references; each object
//! that is met for the first time is marked, and its places make the next frontier. There is no recursion, so the
//! longest list and the widest tree cost the same.
//!
//! **Memory.** One bit per object, and eight bytes for each place of a frontier. A frontier holds
//! [`Collecting::places_max`] at most: an object that is met when the next one is full gets a bit in a second set, of
//! those that *wait*, and is fetched from there in the order of the oids when there is nothing else left. On top of
//! that are the results: the places that later revisions share or are based on, and the dangling references.
//!
//! **Dangling references** (rule 4.8): an unknown oid is never marked, so every reference to it is reported, not only
//! the first.
//!
//! The collector changes nothing, and does not lock the storage. Between its questions the answers about revisions at
//! or before t must not change. A later revision must be among those of [`Collected::later`], or be held back until the
//! collector is done.

mod distinct;
mod mark;
mod oids;
mod survivors;

use std::fmt;

use crate::{Oid, Result};

pub use mark::collect;
pub use oids::OidSet;
pub use survivors::Survivors;

/// A revision, in the storage's own words: for a file, the position of its record. Smaller places are read first; 0 is
/// no revision.
pub type Place = u64;

/// A revision that is later than the pack's time, or to come: one that a transaction between vote and finish will write
/// (rule 4.9).
#[derive(Clone, Copy, Debug)]
pub struct Later<'a> {
    /// Its object.
    pub oid: Oid,
    /// The data that it holds itself.
    pub data: Own<'a>,
    /// The place of the revision that it names as the source of its data; 0 if it names none, or if that is later than
    /// the pack's time, or is not here.
    pub source: Place,
    /// The place of the revision that it has under it; 0 as for the source.
    pub base: Place,
}

/// The data that a revision holds itself.
#[derive(Clone, Copy, Debug)]
pub enum Own<'a> {
    /// None: it shares another's, or is nothing.
    None,
    /// The revision that [`Collected::read`] gives for this place: these are read in batches, by all threads.
    At(Place),
    /// This record, where there is no place to read it from, or it is at hand.
    Record(&'a [u8]),
}

/// A revision that was read.
#[derive(Clone, Copy, Debug)]
pub struct AtPlace<'a> {
    /// The object.
    pub oid: Oid,
    /// The references in its data; none for a tombstone.
    pub data: Option<Refers<'a>>,
    /// If it is in a version: the place of the trunk's under it, which is less than its own; 0 if there is none.
    pub base: Place,
}

/// The references of a record.
#[derive(Clone, Copy, Debug)]
pub enum Refers<'a> {
    /// All of it: the collector looks for the references.
    Record(&'a [u8]),
    /// The objects that it refers to strongly, for a storage that keeps them by themselves. Such a record was read to
    /// its end, and the storage cannot tell of references into other databases.
    To(&'a [Oid]),
}

/// Receives revisions.
pub type EachPlace<'a> = dyn FnMut(AtPlace<'_>) -> Result<()> + 'a;

/// The answers of a storage, so that it can be packed to a time. Every question may come from several threads at once.
pub trait Collected: Sync {
    /// The object's newest revision that is not later than the time, in whatever version; 0 if it had none then. If the
    /// object is needed, a pack keeps it, and the trunk's under it (rule 4.2). Reading does not look behind a packed
    /// revision, and so does this not (rule 4.5).
    fn newest(&self, oid: Oid) -> Result<Place>;

    /// Whether there is any revision of the object, later ones and those to come included.
    fn known(&self, oid: Oid) -> Result<bool>;

    /// Whether there is some finished transaction's revision, but none of the root's, neither before nor after the
    /// time.
    fn is_rootless(&self) -> Result<bool>;

    /// Gives the revision at each of these places, in this order, with its own or shared data. The
    /// places strictly increase, so that neighbours can be read at once; an error that `each` gives ends it.
    fn read(&self, places: &[Place], each: &mut EachPlace<'_>) -> Result<()>;

    /// Gives every revision that is later than the time, or to come; if a transaction has two of one object, both. An
    /// error that `each` gives ends it.
    fn later(&self, each: &mut dyn FnMut(Later<'_>) -> Result<()>) -> Result<()>;

    /// Gives every object that was something at the time, on the trunk or in a version: its newest revision, or the one
    /// under that, has data. Only asked where no garbage is collected.
    fn something(&self, each: &mut dyn FnMut(Oid) -> Result<()>) -> Result<()>;
}

/// How to collect.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Collecting<'a> {
    /// Garbage is discarded.
    pub collect: bool,
    /// Dangling references are no reason to stop.
    pub go_on: bool,
    /// A reference into another database is a reason to stop: others may refer to this one, which cannot be seen here.
    pub stop_at_foreign: bool,
    /// How many threads read.
    pub threads: usize,
    /// How many places a frontier may have: eight bytes each, three times over at the worst. Less of them read the file
    /// from its beginning more often.
    pub places_max: usize,
    /// Told after every round how many revisions were read.
    pub progress: &'a dyn Fn(u64),
}

impl<'a> Collecting<'a> {
    /// With collection; a dangling reference is a reason to stop; on all cores; a frontier of 2^20 places.
    pub fn new() -> Collecting<'a> {
        let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get());
        let (collect, go_on, stop_at_foreign) = (true, false, false);
        Collecting { collect, go_on, stop_at_foreign, threads, places_max: 1 << 20, progress: &|_| () }
    }

    /// Sets [`Collecting::collect`].
    #[must_use]
    pub fn collect(self, collect: bool) -> Collecting<'a> {
        Collecting { collect, ..self }
    }

    /// Sets [`Collecting::go_on`].
    #[must_use]
    pub fn go_on(self, go_on: bool) -> Collecting<'a> {
        Collecting { go_on, ..self }
    }

    /// Sets [`Collecting::stop_at_foreign`].
    #[must_use]
    pub fn stop_at_foreign(self, stop_at_foreign: bool) -> Collecting<'a> {
        Collecting { stop_at_foreign, ..self }
    }

    /// Sets [`Collecting::threads`].
    #[must_use]
    pub fn threads(self, threads: usize) -> Collecting<'a> {
        Collecting { threads, ..self }
    }

    /// Sets [`Collecting::places_max`].
    #[must_use]
    pub fn places_max(self, places_max: usize) -> Collecting<'a> {
        Collecting { places_max, ..self }
    }

    /// Sets [`Collecting::progress`].
    #[must_use]
    pub fn progress(self, progress: &'a dyn Fn(u64)) -> Collecting<'a> {
        Collecting { progress, ..self }
    }
}

/// As [`Collecting::new`].
impl Default for Collecting<'_> {
    fn default() -> Self {
        Collecting::new()
    }
}

impl fmt::Debug for Collecting<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Collecting { collect, go_on, threads, places_max, .. } = self;
        write!(f, "Collecting {{ collect: {collect}, go_on: {go_on}, threads: {threads}, places_max: {places_max} }}")
    }
}
