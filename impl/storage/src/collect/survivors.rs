//! The results of the collector.

use super::{Collected, OidSet, Place};
use crate::{Oid, Result};

/// The revisions that survive a pack.
#[derive(Debug)]
pub struct Survivors {
    pub(super) needed: OidSet,
    pub(super) sources: Vec<Place>,
    pub(super) dangling: Vec<(Oid, Oid)>,
    pub(super) read: u64,
    pub(super) peak_bytes: usize,
}

impl Survivors {
    /// Whether the object is needed: then its newest revisions are kept. An object without any revision never is.
    pub fn needs(&self, oid: Oid) -> bool {
        self.needed.contains(oid)
    }

    /// Whether something that stays shares this revision's data, or has it under it: then it is kept, whatever else
    /// becomes of its object.
    pub fn is_source(&self, place: Place) -> bool {
        self.sources.binary_search(&place).is_ok()
    }

    /// Whether this revision at or before the time is kept. `of` is the same storage as before; it is asked only about
    /// needed objects.
    pub fn keeps(&self, of: &dyn Collected, oid: Oid, place: Place) -> Result<bool> {
        Ok(self.is_source(place) || (self.needs(oid) && of.newest(oid)? == place))
    }

    /// The needed objects.
    pub fn needed(&self) -> &OidSet {
        &self.needed
    }

    /// Places that are kept because something that stays shares their data, or has them under it, in order.
    pub fn sources(&self) -> &[Place] {
        &self.sources
    }

    /// References to missing objects, in order, each once: the referring object, the missing one.
    pub fn dangling(&self) -> &[(Oid, Oid)] {
        &self.dangling
    }

    /// How many revisions were read.
    pub fn read(&self) -> u64 {
        self.read
    }

    /// The most bytes that the collector held at the end of a round, with what growing its lists took for a moment. The
    /// buffers of its threads, and the storage's own index, are not counted.
    pub fn peak_bytes(&self) -> usize {
        self.peak_bytes
    }
}
