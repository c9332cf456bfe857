//! The segments of Vellum's cache (`impl/cache/src/core`): S3-FIFO over two regions of segments.
//!
//! A new record enters the small region. When no segment is left, the oldest one of a region is emptied. Of the small
//! region's records those with two uses move to the main region; of the main region's those with one stay, and lose a
//! use. Objects that went are remembered for a while, and enter the main region if they come again; the regions' sizes
//! adapt to that.
//!
//! The memory of evicted objects is the cache's own file. All else is written here once more, and a test plays each
//! trace through both (`tests/cache.rs`).

use std::collections::VecDeque;

use hashbrown::HashMap;

use super::ghost::{Ghosts, Region};
use crate::policy::{Policy, Request};

const ALIGN: u64 = 8;
/// Records of a segment that the cache's index can name.
const RECORDS_MAX: usize = 1 << 16;
const USES_MAX: u8 = 2;

#[derive(Clone, Copy, Debug)]
struct Record {
    oid: u64,
    bytes: u64,
    uses: u8,
    is_current: bool,
}

#[derive(Clone, Debug, Default)]
struct Segment {
    records: Vec<Record>,
    bytes: u64,
}

#[derive(Clone, Debug, Default)]
struct Queue {
    active: Option<usize>,
    full: VecDeque<usize>,
}

impl Queue {
    fn seal(&mut self) {
        self.full.extend(self.active.take());
    }
}

/// The sizes of a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Segments.
    pub segments: u32,
    /// Bytes of a segment.
    pub segment_bytes: u32,
    /// Bytes of a record's header.
    pub header: u32,
    /// Bytes of a segment that no record may take.
    pub reserved: u32,
}

impl Sizes {
    /// Those of a file of so many bytes. A file has at least 64 KiB; a smaller cache here has smaller segments.
    pub fn of_file(bytes: u64) -> Sizes {
        let segment = match bytes {
            0..0x1_0000 => bytes / 16,
            _ => (bytes / 64).clamp((4 << 10).max(bytes.min(1 << 20) / 16), 8 << 20).next_multiple_of(512),
        };
        let segments = bytes.checked_div(segment).unwrap_or(0).max(3);
        Sizes { segments: segments as u32, segment_bytes: segment as u32, header: 64, reserved: 64 }
    }

    fn bytes(&self) -> u64 {
        u64::from(self.segments) * u64::from(self.segment_bytes)
    }
}

/// Two regions of segments.
#[derive(Debug)]
pub struct Segments {
    sizes: Sizes,
    capacity: u64,
    /// Bytes of a segment that records may take.
    room: u64,
    records_max: usize,
    segments: Vec<Segment>,
    /// The segment and the number of each current record.
    objects: HashMap<u64, (usize, usize)>,
    /// Those of the small and of the main region.
    queues: [Queue; 2],
    empty: Vec<usize>,
    small_bytes_max: u64,
    ghosts: Ghosts,
}

impl Segments {
    /// An empty cache, with the segments that a file of this size has.
    pub fn new(capacity: u64) -> Segments {
        Segments { capacity, ..Segments::with(Sizes::of_file(capacity)) }
    }

    /// An empty cache of these sizes.
    pub fn with(sizes: Sizes) -> Segments {
        let (count, bytes) = (sizes.segments as usize, sizes.bytes());
        let room = u64::from(sizes.segment_bytes.saturating_sub(sizes.reserved));
        Segments {
            sizes,
            capacity: bytes,
            room,
            records_max: RECORDS_MAX.min((room / u64::from(sizes.header)) as usize),
            segments: vec![Segment::default(); count],
            objects: HashMap::new(),
            queues: Default::default(),
            empty: (0..count).rev().collect(),
            small_bytes_max: bytes / 10,
            ghosts: Ghosts::new(bytes),
        }
    }

    fn bytes(&self, size: u32) -> u64 {
        u64::from(self.sizes.header) + u64::from(size).next_multiple_of(ALIGN)
    }

    /// The region of an object that comes.
    fn welcome(&mut self, oid: u64, bytes: u64) -> Region {
        let total = self.sizes.bytes();
        match self.ghosts.take(hash(oid)) {
            None => return Region::Small,
            Some(Region::Small) => self.small_bytes_max = (self.small_bytes_max + bytes).min(total / 10 * 9),
            Some(Region::Main) => {
                self.small_bytes_max = self.small_bytes_max.saturating_sub(bytes).max(total / 10);
            }
        }
        Region::Main
    }

    fn fits(&self, region: Region, bytes: u64) -> bool {
        self.queues[region as usize].active.is_some_and(|active| {
            let segment = &self.segments[active];
            segment.bytes + bytes <= self.room && segment.records.len() < self.records_max
        })
    }

    fn write(&mut self, region: Region, record: Record) -> bool {
        let Some(active) = self.queues[region as usize].active.filter(|_| self.fits(region, record.bytes)) else {
            return false;
        };
        let segment = &mut self.segments[active];
        self.objects.insert(record.oid, (active, segment.records.len()));
        segment.bytes += record.bytes;
        segment.records.push(record);
        true
    }

    fn activate(&mut self, region: Region) {
        let Some(segment) = self.empty.pop() else { return };
        let queue = &mut self.queues[region as usize];
        queue.seal();
        queue.active = Some(segment);
    }

    fn turn(&mut self, region: Region, bytes: u64, evicted: &mut Vec<u64>) {
        self.queues[region as usize].seal();
        let mut left = self.room;
        while self.empty.len() < 2 {
            let [small, main] = &self.queues;
            let count = (small.full.len() + usize::from(small.active.is_some())) as u64;
            let is_over = count * u64::from(self.sizes.segment_bytes) > self.small_bytes_max;
            let is_small = !small.full.is_empty() && (is_over || main.full.is_empty());
            let region = if is_small { Region::Small } else { Region::Main };
            let Some(victim) = self.queues[region as usize].full.pop_front() else { break };
            left -= self.evict(region, victim, left, evicted);
        }
        if !self.fits(region, bytes) {
            self.activate(region);
        }
    }

    /// Empties a segment; the bytes that stay.
    fn evict(&mut self, region: Region, victim: usize, left: u64, evicted: &mut Vec<u64>) -> u64 {
        let mut current = std::mem::take(&mut self.segments[victim]).records;
        current.retain(|record| record.is_current);
        // Those with most uses first, as long as there is room.
        let limit = left.min(self.room / 4 * 3);
        let mut order: Vec<usize> = (0..current.len()).collect();
        order.sort_by_key(|n| std::cmp::Reverse(current[*n].uses));
        let (mut staying, mut stays) = (0, vec![false; current.len()]);
        for n in order {
            let Record { uses, bytes, .. } = current[n];
            let is_used = uses >= if region == Region::Small { USES_MAX } else { 1 };
            stays[n] = is_used && staying + bytes <= limit;
            staying += if stays[n] { bytes } else { 0 };
        }
        for (record, stays) in current.into_iter().zip(stays) {
            let uses = if region == Region::Small { 0 } else { record.uses.saturating_sub(1) };
            if stays && !self.fits(Region::Main, record.bytes) {
                self.activate(Region::Main);
            }
            if !(stays && self.write(Region::Main, Record { uses, ..record })) {
                self.objects.remove(&record.oid);
                self.ghosts.note(hash(record.oid), region, record.bytes);
                evicted.push(record.oid);
            }
        }
        self.empty.push(victim);
        staying
    }
}

/// The cache's hash of an oid: the last step of SplitMix64.
fn hash(oid: u64) -> u64 {
    let mut x = oid.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl Policy for Segments {
    fn capacity(&self) -> u64 {
        self.capacity
    }

    fn used(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    fn has(&self, oid: u64) -> bool {
        self.objects.contains_key(&oid)
    }

    fn get(&mut self, request: Request, _: &mut Vec<u64>) -> bool {
        let Some((segment, number)) = self.objects.get(&request.oid) else { return false };
        let record = &mut self.segments[*segment].records[*number];
        record.uses = (record.uses + 1).min(USES_MAX);
        true
    }

    fn put(&mut self, request: Request, evicted: &mut Vec<u64>) {
        let Request { oid, size, .. } = request;
        let bytes = self.bytes(size);
        if bytes > self.room || self.has(oid) {
            return;
        }
        let region = self.welcome(oid, bytes);
        if !self.fits(region, bytes) {
            self.turn(region, bytes, evicted);
        }
        self.write(region, Record { oid, bytes, uses: 0, is_current: true });
    }

    fn invalidate(&mut self, oid: u64) {
        if let Some((segment, number)) = self.objects.remove(&oid) {
            self.segments[segment].records[number].is_current = false;
        }
    }
}
