//! Two writers changed the same object. Is that a conflict, or can both have their way?

use bytes::Bytes;
use vellum_pickle::{compressed, is_compressed, plain};

use crate::Oid;

/// The three records of a write that came too late.
#[derive(Clone, Copy, Debug)]
pub struct Contested<'a> {
    /// The object.
    pub oid: Oid,
    /// The record that both transactions read.
    pub ancestor: &'a [u8],
    /// The committed record of the first one.
    pub committed: &'a [u8],
    /// The new record of the second one.
    pub new: &'a [u8],
}

impl Contested<'_> {
    /// Gives `merge` the three records plain, as they are unless they are compressed. None if one of them cannot be
    /// read.
    pub fn plain(&self, merge: impl FnOnce(Contested<'_>) -> Option<Bytes>) -> Option<Bytes> {
        let read = |record| plain(record).ok();
        let (ancestor, committed, new) = (read(self.ancestor)?, read(self.committed)?, read(self.new)?);
        merge(Contested { oid: self.oid, ancestor: &ancestor, committed: &committed, new: &new })
    }

    /// The same, with the merged record compressed if the new record is.
    pub(crate) fn as_new(&self, merge: impl FnOnce(Contested<'_>) -> Option<Bytes>) -> Option<Bytes> {
        let merged = self.plain(merge)?;
        match is_compressed(self.new).then(|| compressed(&merged)).flatten() {
            Some(shorter) => Some(shorter.into()),
            None => Some(merged),
        }
    }
}

/// Merges changes that were made to the same object at the same time.
pub trait Resolver: Send + Sync + std::fmt::Debug {
    /// The record that has both changes in it; none if there is no such thing, and then it is a conflict.
    fn resolve(&self, contested: Contested<'_>) -> Option<Bytes>;
}

/// Every conflict is one.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoResolver;

impl Resolver for NoResolver {
    fn resolve(&self, _: Contested<'_>) -> Option<Bytes> {
        None
    }
}
