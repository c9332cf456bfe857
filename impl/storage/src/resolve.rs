//! Two writers changed the same object. Is that a conflict, or can both have their way?

use bytes::Bytes;

use crate::{Error, Oid, Result, Tid, Version};

/// The three records of a write that came too late.
#[derive(Clone, Copy, Debug)]
pub struct Contested<'a> {
    /// The object.
    pub oid: Oid,
    /// What both writers had read.
    pub ancestor: &'a [u8],
    /// What the first one made of it; it is committed.
    pub committed: &'a [u8],
    /// What the second one wants to make of it.
    pub new: &'a [u8],
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

/// Holds a store in a version, or a delete, against the object's newest revision (rules 3.1 and 3.2): `None` if it may go
/// ahead as it is, or the tid of the revision that came in between.
///
/// Errors: version lock, since nobody else may touch what a version holds.
pub fn judge(oid: Oid, serial: Tid, to: &Version, newest: Option<(Tid, Version)>) -> Result<Option<Tid>> {
    match newest {
        None => Ok((serial != Tid::ZERO).then_some(Tid::ZERO)),
        Some((_, version)) if !version.is_trunk() && version != *to => Err(Error::VersionLock { oid, version }),
        Some((committed, _)) => Ok((committed != serial).then_some(committed)),
    }
}

/// Asks the resolver for a record that has both changes in it. `record` gives that of a revision, in whatever version it is.
///
/// Errors: conflict, if there is none, or if one of the two earlier records is nothing; damage.
pub fn merge(
    resolver: &dyn Resolver,
    record: impl Fn(Oid, Tid) -> Result<Bytes>,
    (oid, serial, committed): (Oid, Tid, Tid),
    new: &[u8],
) -> Result<Bytes> {
    let conflict = || Error::Conflict { oid, committed, serial };
    let load = |tid| match record(oid, tid) {
        Err(Error::KeyError { .. }) => Err(conflict()),
        other => other,
    };
    let (ancestor, current) = (load(serial)?, load(committed)?);
    let contested = Contested { oid, ancestor: &ancestor, committed: &current, new };
    resolver.resolve(contested).filter(|merged| !merged.is_empty()).ok_or_else(conflict)
}
