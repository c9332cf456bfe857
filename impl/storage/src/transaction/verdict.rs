//! The effects of a transaction, once its vote has succeeded.

use std::collections::HashSet;

use super::{Data, Wants};
use crate::{Oid, Tid, Version};

/// The effects of a judged transaction. `P` names revisions: a storage's own place, or the tid for all other code.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Verdict<P = Tid> {
    /// The revisions that it writes, in order. If an object occurs twice, the last one counts.
    pub writes: Vec<Write<P>>,
    /// The stored objects for which a merged record is written: a client that stored them must read them again.
    pub merged: Vec<Oid>,
    /// The locks that it holds until it is finished.
    pub wants: Wants,
}

/// A revision that will be written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Write<P = Tid> {
    /// The object.
    pub oid: Oid,
    /// The version that it is written in.
    pub version: Version,
    /// In a version: the base revision, if there is one.
    pub base: Option<P>,
    /// Its contents.
    pub content: Content<P>,
}

/// The contents of a revision.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Content<P = Tid> {
    /// Its own record.
    Data(Data),
    /// Those of this earlier revision of the object, which may be a tombstone.
    Shared(P),
    /// A tombstone.
    Tombstone,
}

impl<P> Verdict<P> {
    /// The objects of which it writes a revision, each once.
    pub fn touched(&self) -> Vec<Oid> {
        touched(&self.writes)
    }
}

/// The objects that are written, each once, in the order in which they first occur.
pub fn touched<P>(writes: &[Write<P>]) -> Vec<Oid> {
    let mut seen = HashSet::new();
    writes.iter().map(|write| write.oid).filter(|oid| seen.insert(*oid)).collect()
}

impl<P: Copy> Write<P> {
    /// The same with other names for revisions.
    ///
    /// # Errors
    ///
    /// The error of `rename`.
    pub fn try_map<Q, E>(&self, mut rename: impl FnMut(P) -> Result<Q, E>) -> Result<Write<Q>, E> {
        Ok(Write {
            oid: self.oid,
            version: self.version.clone(),
            base: self.base.map(&mut rename).transpose()?,
            content: match &self.content {
                Content::Data(data) => Content::Data(data.clone()),
                Content::Shared(place) => Content::Shared(rename(*place)?),
                Content::Tombstone => Content::Tombstone,
            },
        })
    }
}
