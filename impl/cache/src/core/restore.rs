//! The beginning of a core over a medium that has records already.

use vellum_storage::{Oid, Tid};

use super::ghost::Region;
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
    /// The region that it belongs to.
    pub region: Region,
    /// The small region's share when the segment was first written to, in 65,536ths of the cache.
    pub small_share: u16,
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
        let mut is_full = vec![false; shape.segments as usize];
        for Found { segment, count, records, region, small_share } in found {
            assert!(count <= Self::numbers_max(&shape), "segment {segment} cannot have {count} records");
            is_full[segment as usize] = true;
            writer.queues[region as usize].full.push_back(segment);
            writer.counts[segment as usize] = count;
            let capacity = shape.bytes();
            let small = (u128::from(capacity) * u128::from(small_share)) >> 16;
            writer.small_bytes_max = (small as u64).clamp(capacity / 10, capacity / 10 * 9);
            for (number, oid, is_open) in records {
                let hashed = Hashed::of(oid);
                let slot = Slot::new(hashed, Place { segment, number }, is_open);
                core.shard(hashed).lock().insert(slot);
            }
        }
        writer.empty = (0..shape.segments).rev().filter(|segment| !is_full[*segment as usize]).collect();
        while writer.empty.is_empty() {
            // Nothing of it was used since the start, so nothing is moved.
            let Some((region, victim)) = core.victim(&mut writer) else { break };
            core.evict(&mut writer, region, victim, 0);
        }
        drop(writer);
        core
    }
}
