//! The segments of Vellum's cache file (`impl/cache/src/core/writer.rs`).
//!
//! Records are appended to a segment. When it is full, the empty one takes its place, and the oldest full segment is
//! emptied: its records that were used since go along to the new one, up to half of it. An ended record stays, and also
//! goes along if it was used.

use std::collections::VecDeque;

use hashbrown::HashMap;

use crate::policy::{Policy, Request};

const HEADER: u64 = 64;
const ALIGN: u64 = 8;

#[derive(Clone, Copy, Debug)]
struct Record {
    oid: u64,
    bytes: u64,
    is_used: bool,
    is_current: bool,
}

#[derive(Clone, Debug, Default)]
struct Segment {
    records: Vec<Record>,
    bytes: u64,
}

/// The segments, in the order of their filling.
#[derive(Debug)]
pub struct Segments {
    segments: Vec<Segment>,
    /// The segment and the number of each current record.
    objects: HashMap<u64, (usize, usize)>,
    full: VecDeque<usize>,
    empty: Vec<usize>,
    active: usize,
    /// Bytes of a segment that records may take.
    room: u64,
    capacity: u64,
}

impl Segments {
    /// An empty cache, with the segments that a file of this size has. A file has at least 1 MiB; a smaller cache here
    /// has smaller segments.
    pub fn new(capacity: u64) -> Segments {
        let segment = if capacity < 1 << 20 { capacity / 16 } else { (capacity / 64).clamp(64 << 10, 8 << 20) };
        let count = capacity.checked_div(segment).unwrap_or(0).max(3) as usize;
        Segments {
            segments: vec![Segment::default(); count],
            objects: HashMap::new(),
            full: VecDeque::new(),
            empty: (1..count).rev().collect(),
            active: 0,
            room: segment.saturating_sub(HEADER),
            capacity,
        }
    }

    fn write(&mut self, record: Record) {
        let segment = &mut self.segments[self.active];
        segment.bytes += record.bytes;
        segment.records.push(record);
        if record.is_current {
            self.objects.insert(record.oid, (self.active, segment.records.len() - 1));
        }
    }

    fn turn(&mut self, evicted: &mut Vec<u64>) {
        let Some(next) = self.empty.pop() else { return };
        self.full.push_back(self.active);
        self.active = next;
        while self.empty.is_empty() {
            let Some(victim) = self.full.pop_front() else { return };
            let Segment { records, .. } = std::mem::take(&mut self.segments[victim]);
            let mut left = self.room / 2;
            for record in records {
                if record.is_current {
                    self.objects.remove(&record.oid);
                }
                if record.is_used && record.bytes <= left {
                    left -= record.bytes;
                    self.write(Record { is_used: false, ..record });
                } else if record.is_current {
                    evicted.push(record.oid);
                }
            }
            self.empty.push(victim);
        }
    }
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
        self.segments[*segment].records[*number].is_used = true;
        true
    }

    fn put(&mut self, request: Request, evicted: &mut Vec<u64>) {
        let bytes = HEADER + u64::from(request.size).next_multiple_of(ALIGN);
        if bytes > self.room / 2 || self.has(request.oid) {
            return;
        }
        if self.segments[self.active].bytes + bytes > self.room {
            self.turn(evicted);
        }
        self.write(Record { oid: request.oid, bytes, is_used: false, is_current: true });
    }

    fn invalidate(&mut self, oid: u64) {
        if let Some((segment, number)) = self.objects.remove(&oid) {
            self.segments[segment].records[number].is_current = false;
        }
    }
}
