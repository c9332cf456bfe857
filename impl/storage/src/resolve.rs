//! Two writers changed the same object. Is that a conflict, or can both have their way?

use bytes::Bytes;

use crate::Oid;

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
