//! Garbage in databases that refer to each other: external garbage collection, as zc.zodbdgc does it for ZODB.
//!
//! A pack looks at one database, and there a reference into another one keeps nothing (rule 4.6): such a pack loses
//! objects that only another database needs. So this module looks at all of them together:
//!
//! ```text
//!   main       root ─▶ 1 ─▶ 2 ──┐      ┌─▶ 3                 5 ─▶ 6 ──┐
//!                               │      │                     ▲        │       5, 6 and 9: a ring through both,
//!   ────────────────────────────┼──────┼─────────────────────┼────────┼────   to which nothing leads: garbage
//!                               ▼      │                     │        ▼
//!   archive    root             7 ──▶  8                     └─────── 9
//!                               7, 8 and 3: needed, though no reference of their own database leads there
//! ```
//!
//! **Needed objects** are the smallest set such that
//!
//! - the root of each database is in it,
//! - every object that was changed lately: it has a revision after the time [`FindGarbage::since`], or its newest
//!   revision is in a version;
//! - the strong references of a needed object, into any of the databases, are followed: those of the revision that the
//!   trunk shows now; of its newest revision, if that is in a version; and, if it was changed lately, of every revision
//!   after the time, of the newest one at the time, and of the base revision of one of these.
//!
//! So for every moment since then, the objects that could be reached at that moment stay; and transactions since then
//! can be undone without a missing object. All other objects that the trunk shows are garbage. (zc.zodbdgc counts the
//! references of every old revision that is still in the file, however old; so it finds less until a pack.)
//!
//! **Deleting**: [`find_garbage`] only reads. [`Garbage::delete`] deletes the objects in ordinary transactions, which
//! can be undone; a pack removes them later. That must be one *without* collection of garbage, or it removes objects
//! that other databases need.
//!
//! **Other threads may commit at the same time.** Before a transaction of deletions is finished, all transactions in
//! any of the databases since the last look are read: the objects that they refer to are needed, and the objects that
//! these refer to, and so on. A changed object is found by its serial, and left. One gap remains, between that look and
//! the end of `finish`: if a reference to a deleted object is committed in it, the next look finds it, and the object
//! is stored again ([`DeletedGarbage::brought_back`]).
//!
//! **Cost.** Each needed object is loaded once, in the order of the oids as far as possible, and each existing object
//! once more in a walk over all. It takes two or three bits per object, and twice 512 KiB per database for the next
//! objects ([`FRONTIER_MAX`](mark::FRONTIER_MAX)). There is no recursion. The whole history of a database is read
//! besides, if it has versions, or cannot tell.
//!
//! It does not know of other databases: an object that only such a database refers to is garbage.

mod delete;
mod error;
mod mark;

use std::fmt;

use crate::{CurrentRecord, Error, Oid, OidSet, Storage, Tid, Version};

pub use delete::{DeleteGarbage, DeleteStopped, DeletedGarbage};
pub use error::{GarbageError, LostReference, LostReferences, Missing};
use mark::Marker;

/// How to look for garbage.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct FindGarbage<'a> {
    /// Objects that were changed after this time are needed, and so are those that they referred to since then.
    pub since: Tid,
    /// Continues where a reference leads nowhere: into a database that was not given, or to an object that does not
    /// exist.
    pub go_on: bool,
    /// Called now and then with the number of objects that were read.
    pub progress: &'a dyn Fn(u64),
}

impl<'a> FindGarbage<'a> {
    /// The whole history counts as old; a reference to an object that does not exist is a reason to stop.
    pub const fn new() -> FindGarbage<'a> {
        FindGarbage { since: Tid::MAX, go_on: false, progress: &|_| () }
    }

    /// Sets [`FindGarbage::since`].
    #[must_use]
    pub const fn since(self, since: Tid) -> FindGarbage<'a> {
        FindGarbage { since, ..self }
    }

    /// Sets [`FindGarbage::go_on`].
    #[must_use]
    pub const fn go_on(self, go_on: bool) -> FindGarbage<'a> {
        FindGarbage { go_on, ..self }
    }

    /// Sets [`FindGarbage::progress`].
    #[must_use]
    pub const fn progress(self, progress: &'a dyn Fn(u64)) -> FindGarbage<'a> {
        FindGarbage { progress, ..self }
    }
}

/// As [`FindGarbage::new`].
impl Default for FindGarbage<'_> {
    fn default() -> Self {
        FindGarbage::new()
    }
}

impl fmt::Debug for FindGarbage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FindGarbage { since, go_on, .. } = self;
        write!(f, "FindGarbage {{ since: {since}, go_on: {go_on} }}")
    }
}

/// The results for one of the databases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FoundGarbage {
    /// Its name.
    pub database: String,
    /// Objects that the trunk shows.
    pub objects: u64,
    /// Bytes of their records.
    pub bytes: u64,
    /// Objects that are garbage.
    pub garbage_objects: u64,
    /// Bytes of their records.
    pub garbage_bytes: u64,
}

/// The garbage in several databases.
pub struct Garbage<'a> {
    marker: Marker<'a>,
    /// For each database, the garbage at the time of the look. Objects that are needed since then have a mark.
    garbage: Vec<OidSet>,
    found: Vec<FoundGarbage>,
}

/// Looks for garbage in databases that refer to each other: each with the name by which references call it. It changes
/// nothing. Every database that refers to one of them must be here: an object without a reference from these is
/// garbage.
///
/// ```
/// use vellum_storage::{DeleteGarbage, FindGarbage, MemoryStorage, find_garbage};
/// use vellum_storage::{Oid, Storage, Tid, TransactionMeta, Version};
///
/// let (main, archive) = (MemoryStorage::new("main.fs"), MemoryStorage::new("archive.fs"));
/// let put = |storage: &MemoryStorage, oid, state: &[u8]| {
///     let record = [b"\x80\x03capp\nFolder\n.\x80\x03", state].concat();
///     let mut draft = storage.begin(TransactionMeta::new())?;
///     draft.store(Oid(oid), Tid::ZERO, record.into())?;
///     storage.commit(draft)
/// };
/// // The root refers to object 7 of the other database; no object to object 8.
/// put(&main, 0, b"](X\x01\0\0\0nX\x07\0\0\0archiveC\x08\0\0\0\0\0\0\0\x07\x86eQ.")?;
/// [0, 7, 8].into_iter().try_for_each(|oid| put(&archive, oid, b"N.").map(drop))?;
///
/// let garbage = find_garbage(&[("main", &main), ("archive", &archive)], FindGarbage::default())?;
/// assert_eq!(garbage.found().iter().map(|found| found.garbage_objects).collect::<Vec<_>>(), [0, 1]);
/// garbage.delete(&DeleteGarbage::default())?;
/// assert!(archive.load(Oid(7), &Version::TRUNK).is_ok());
/// assert!(archive.load(Oid(8), &Version::TRUNK).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// - Two databases have one name, or one database has two names.
/// - A database has objects, but no root.
/// - The references of a record cannot be read, so that the objects that it keeps are not known.
/// - References lead nowhere, unless [`FindGarbage::go_on`].
/// - A storage fails.
pub fn find_garbage<'a>(
    databases: &[(&str, &'a dyn Storage)],
    how: FindGarbage<'a>,
) -> Result<Garbage<'a>, GarbageError> {
    let mut marker = Marker::new(databases, how)?;
    marker.everything()?;
    let (mut garbage, mut found) = (Vec::new(), Vec::new());
    for database in &marker.databases {
        let set = OidSet::new();
        let mut here = FoundGarbage { database: database.name.clone(), ..FoundGarbage::default() };
        for record in database.storage.current_records(Oid::ROOT) {
            let CurrentRecord { oid, tid, data } = record.map_err(|error| database.says(error))?;
            here.objects += 1;
            here.bytes += data.len() as u64;
            // Transactions since then are read before anything is deleted.
            if tid <= database.looked_to && !database.reached.contains(oid) {
                here.garbage_objects += 1;
                here.garbage_bytes += data.len() as u64;
                set.insert(oid);
            }
        }
        garbage.push(set);
        found.push(here);
    }
    Ok(Garbage { marker, garbage, found })
}

impl Garbage<'_> {
    /// Returns the findings, one for each database, in the order in which the databases were given.
    pub fn found(&self) -> &[FoundGarbage] {
        &self.found
    }

    /// Returns the garbage of the database with this number, in the order of the oids. An object is loaded when its
    /// turn comes; one that was deleted in between is passed over.
    ///
    /// # Errors
    ///
    /// Each item is an error if the storage cannot load the object.
    pub fn objects(&self, database: usize) -> impl Iterator<Item = Result<CurrentRecord, GarbageError>> {
        let (here, set) = (&self.marker.databases[database], &self.garbage[database]);
        each(set, Oid::ROOT).filter(|oid| !here.reached.contains(*oid)).filter_map(|oid| {
            match here.storage.load(oid, &Version::TRUNK) {
                Ok(loaded) => Some(Ok(CurrentRecord { oid, tid: loaded.tid, data: loaded.data })),
                Err(Error::KeyError { .. }) => None,
                Err(error) => Some(Err(here.says(error))),
            }
        })
    }

    /// Returns the references that lead nowhere: none without [`FindGarbage::go_on`].
    pub fn lost(&self) -> &LostReferences {
        self.marker.lost()
    }
}

impl fmt::Debug for Garbage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Garbage").field("found", &self.found).finish_non_exhaustive()
    }
}

/// The oids of a set, from `first` on, in order.
fn each(set: &OidSet, first: Oid) -> impl Iterator<Item = Oid> {
    std::iter::successors(set.next(first), |oid| set.next(Oid(oid.0.checked_add(1)?)))
}
