//! A core as a value: it can be cloned, compared and hashed, so that a model checker can hold it in its states.
//!
//! The generations of segments do not count: they differ between two cores that answer alike, and matter only to a
//! reader that is under way.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use vellum_storage::{LoadedAt, Oid, Tid};

use super::slot::Place;
use super::{Candidate, Core, Medium, Segment};
use crate::sync::Mutex;
use crate::sync::atomic::Ordering::{Acquire, Relaxed};
use crate::sync::atomic::{AtomicBool, AtomicU64};

/// The bits of first uses in a word of counters.
const FIRST_USES: u64 = u64::MAX / 3;

/// A record: its object, when it began, its end, and its bytes.
type Record = (Oid, Tid, Option<Tid>, Vec<u8>);

/// All that later answers of a core depend on.
#[derive(PartialEq, Eq, Hash)]
struct Contents {
    head: Tid,
    is_closed: bool,
    /// Each entry of the index: whether it is open, and its record.
    entries: BTreeMap<Place, (bool, Option<Record>)>,
    /// Which records were used. A second use only changes which record is evicted, and would double the states.
    uses: Vec<u64>,
    writer: super::writer::Writer,
}

impl<M: Medium> Core<M> {
    /// Whether a lookup of this moment would find something, unless the object's record is evicted first.
    pub fn has(&self, oid: Oid, before: Tid) -> bool {
        let head = self.head();
        before <= head.next()
            && !self.is_closed.load(Acquire)
            && self.candidates(oid).into_iter().any(|Candidate { slot, .. }| {
                let Some(header) = self.medium.header(slot.place()) else { return false };
                let holds = slot.is_open() || header.end.is_some_and(|end| end >= before);
                header.oid == oid && header.tid < before && holds
            })
    }

    /// The newest open revisions, at most `count`: by these a client recognizes the database. All headers are read.
    pub fn newest(&self, count: usize) -> Vec<(Oid, LoadedAt)> {
        let mut newest: Vec<(Tid, Oid)> = Vec::new();
        for shard in &self.shards {
            let open: Vec<_> = shard.lock().iter().filter(|slot| slot.is_open()).collect();
            newest.extend(open.iter().filter_map(|slot| {
                let header = self.medium.header(slot.place())?;
                Some((header.tid, header.oid))
            }));
            newest.sort_unstable_by(|a, b| b.cmp(a));
            newest.truncate(count);
        }
        let before = self.head().next();
        newest.into_iter().filter_map(|(_, oid)| Some((oid, self.get(oid, before)?))).collect()
    }

    fn contents(&self) -> Contents {
        let writer = self.writer.lock();
        let mut entries = BTreeMap::new();
        for shard in &self.shards {
            for slot in shard.lock().iter() {
                let record = self.medium.header(slot.place()).map(|header| {
                    let mut data = Vec::new();
                    self.medium.data(slot.place(), &header, &mut data);
                    let end = header.end.filter(|_| !slot.is_open());
                    (header.oid, header.tid, end, data)
                });
                entries.insert(slot.place(), (slot.is_open(), record));
            }
        }
        let uses =
            self.segments.iter().flat_map(|segment| segment.uses.iter().map(|word| word.load(Relaxed) & FIRST_USES));
        Contents {
            head: self.head(),
            is_closed: self.is_closed.load(Acquire),
            entries,
            uses: uses.collect(),
            writer: writer.clone(),
        }
    }
}

fn copy(word: &AtomicU64) -> AtomicU64 {
    AtomicU64::new(word.load(Relaxed))
}

impl<M: Medium + Clone> Clone for Core<M> {
    fn clone(&self) -> Core<M> {
        // Nothing is written in between.
        let writer = self.writer.lock();
        let segment = |segment: &Segment| Segment {
            generation: copy(&segment.generation),
            uses: segment.uses.iter().map(copy).collect(),
        };
        Core {
            medium: self.medium.clone(),
            shape: self.shape,
            head: copy(&self.head),
            is_closed: AtomicBool::new(self.is_closed.load(Acquire)),
            shards: self.shards.iter().map(|shard| Mutex::ranked(shard.lock().clone())).collect(),
            segments: self.segments.iter().map(segment).collect(),
            writer: Mutex::ranked(writer.clone()),
        }
    }
}

impl<M: Medium> PartialEq for Core<M> {
    fn eq(&self, other: &Core<M>) -> bool {
        self.contents() == other.contents()
    }
}

impl<M: Medium> Eq for Core<M> {}

impl<M: Medium> Hash for Core<M> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.contents().hash(state);
    }
}

impl<M> std::fmt::Debug for Core<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("shape", &self.shape).finish_non_exhaustive()
    }
}
