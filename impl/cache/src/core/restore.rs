//! The beginning of a core over a medium that has records already.

use vellum_storage::{Oid, Tid};

use super::slot::{Hashed, Place, Slot};
use super::{Core, Medium, Shape};

/// A segment that has records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The segment.
    pub segment: u32,
    /// All records have smaller numbers.
    pub count: u32,
    /// The records: their numbers, objects, and whether they are open.
    pub records: Vec<(u32, Oid, bool)>,
}

impl<M: Medium> Core<M> {
    /// A cache that has these records, in the order in which their segments were filled. It was told of all changes up
    /// to `head`, and knows none of them. If all segments are full, the oldest ones are emptied.
    ///
    /// # Panics
    ///
    /// If the shape is impossible, or a segment or a number is not in it.
    pub fn restore(medium: M, shape: Shape, head: Tid, found: Vec<Found>) -> Core<M> {
        let core = Core::new(medium, shape, head);
        let mut writer = core.writer.lock();
        writer.full.extend(found.iter().map(|found| found.segment));
        let is_full: Vec<bool> = {
            let mut is_full = vec![false; shape.segments as usize];
            found.iter().for_each(|found| is_full[found.segment as usize] = true);
            is_full
        };
        writer.empty = (0..shape.segments).rev().filter(|segment| !is_full[*segment as usize]).collect();
        for Found { segment, count, records } in found {
            assert!(count <= Self::numbers_max(&shape), "segment {segment} cannot have {count} records");
            writer.counts[segment as usize] = count;
            for (number, oid, is_open) in records {
                let hashed = Hashed::of(oid);
                let slot = Slot::new(hashed, Place { segment, number }, is_open);
                core.shard(hashed).lock().insert(slot);
            }
        }
        core.take_active(&mut writer);
        drop(writer);
        core
    }
}
