//! The questions of part 3 of the rules to a storage.

use std::fmt::Debug;

use bytes::Bytes;

use crate::{Blob, Oid, Result, Tid, Version};

/// A storage's revisions, as [`judge()`](super::judge()) asks for them. The answers must not change while the locks of
/// the judged transaction are held.
pub trait Past {
    /// Names a revision of a known object: a file position, a tid. Of two revisions of an object the later has the
    /// greater place.
    type Place: Copy + Ord + Debug;

    /// The object's newest revision; none for an unknown object.
    ///
    /// # Errors
    ///
    /// The storage cannot be read.
    fn newest(&self, oid: Oid) -> Result<Option<PastRevision<Self::Place>>>;

    /// The object's revisions, newest first; empty for an unknown object. A packed revision ends them, with its base
    /// after it (rule 4.5).
    ///
    /// # Errors
    ///
    /// The storage cannot be read.
    fn revisions(&self, oid: Oid) -> Result<impl Iterator<Item = Result<PastRevision<Self::Place>>>>;

    /// The object's revision of that transaction, the last one if there are several, even where a pack has cut the
    /// object's past off before it.
    ///
    /// # Errors
    ///
    /// The storage cannot be read.
    fn find(&self, oid: Oid, tid: Tid) -> Result<Option<PastRevision<Self::Place>>>;

    /// The place whose data the revision at this place shares; none for one with its own data, and for a tombstone that
    /// shares none.
    ///
    /// # Errors
    ///
    /// The storage cannot be read.
    fn source(&self, oid: Oid, place: Self::Place) -> Result<Option<Self::Place>>;

    /// The data of the revision at this place, its own or shared; none for a tombstone.
    ///
    /// # Errors
    ///
    /// The storage cannot be read.
    fn data(&self, oid: Oid, place: Self::Place) -> Result<Option<Bytes>>;

    /// The blob of the revision at this place, even if it is shared; none for a revision without a blob.
    ///
    /// # Errors
    ///
    /// The storage cannot be read.
    fn blob(&self, oid: Oid, place: Self::Place) -> Result<Option<Blob>>;

    /// The objects that a transaction changed, each once, in the order in which they first occur in it. None if the
    /// transaction cannot be undone: it is not here, not finished, or packed (rule 2.5).
    ///
    /// # Errors
    ///
    /// The storage cannot be read.
    fn undoable(&self, tid: Tid) -> Result<Option<Vec<Oid>>>;

    /// The newest revisions that are in this version, the one written last first.
    ///
    /// # Errors
    ///
    /// The storage cannot be read.
    fn in_version(&self, version: &Version) -> Result<Vec<PastRevision<Self::Place>>>;

    /// At least the objects of [`Past::in_version`], in any order: what the end of the version locks.
    ///
    /// # Errors
    ///
    /// The storage cannot be read.
    fn objects_in(&self, version: &Version) -> Result<Vec<Oid>> {
        Ok(self.in_version(version)?.into_iter().map(|revision| revision.oid).collect())
    }
}

/// A revision of an object, as a storage knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastRevision<P> {
    /// The object.
    pub oid: Oid,
    /// The transaction that wrote it.
    pub tid: Tid,
    /// The storage's name for it.
    pub place: P,
    /// The version that it is in.
    pub version: Version,
    /// In a version: its base revision, if it has one.
    pub base: Option<P>,
}

impl<P: Copy> PastRevision<P> {
    /// Rule 1.6 for one revision: the one that the trunk shows from this one on.
    pub fn on_trunk(&self) -> Option<P> {
        if self.version.is_trunk() { Some(self.place) } else { self.base }
    }
}
