//! Stores, and the room for them.
//!
//! Records are appended to one segment. When it is full, the empty one takes its place, and the oldest full segment is
//! emptied: its records that were used since go to the new segment, up to half of it, and the others go.
//!
//! ```text
//!   full, oldest first                       written to     empty
//!   ┌────────┐ ┌────────┐     ┌────────┐     ┌────────┐     ┌────────┐
//!   │ victim │ │        │ ... │        │     │▓▓▓     │     │        │
//!   └────────┘ └────────┘     └────────┘     └────────┘     └────────┘
//!        └─── used records ─────────────────────▲
//! ```

use std::collections::VecDeque;

use vellum_storage::{LoadedAt, Oid, Tid};

use super::medium::Header;
use super::recent::{Judged, Recent};
use super::slot::{Hashed, Place, Slot};
use super::{Asked, Candidate, Core, Medium};
use crate::sync::atomic::Ordering::{Relaxed, Release};
use crate::sync::atomic::fence;

/// Data begin at multiples of this.
const ALIGN: u32 = 8;

/// The state that the writer's lock guards.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Writer {
    pub(super) is_closed: bool,
    /// The head, as readers see it. The writer keeps it here and only stores the one of the readers: loom does not try
    /// a reader's load against a store if the storing thread has just loaded the same.
    pub(super) head: Tid,
    pub(super) recent: Recent,
    /// The segment that is written to.
    active: u32,
    /// Empty segments.
    pub(super) empty: Vec<u32>,
    /// Full segments, the oldest first.
    pub(super) full: VecDeque<u32>,
    /// For each segment, how many records it has.
    pub(super) counts: Vec<u32>,
    /// Where the data of the active segment begin: they are written from its end.
    data_start: u32,
}

impl Writer {
    pub(super) fn new(segments: u32, changes: usize, head: Tid) -> Writer {
        Writer {
            is_closed: false,
            head,
            recent: Recent::new(changes, head),
            active: 0,
            empty: (1..segments).rev().collect(),
            full: VecDeque::new(),
            counts: vec![0; segments as usize],
            data_start: 0,
        }
    }
}

impl<M: Medium> Core<M> {
    /// Keeps a revision that was asked for, unless nobody knows the tid of its end; whether it is there now.
    pub fn store(&self, asked: Asked, oid: Oid, LoadedAt { data, tid, next }: &LoadedAt) -> bool {
        let mut writer = self.writer.lock();
        if writer.is_closed {
            return false;
        }
        // Under the writer's lock, as invalidations are: the change was noted, or its invalidation finds the entry.
        let end = match next {
            Some(end) => Some(*end),
            None => match writer.recent.judge(oid, *tid, asked.0) {
                Judged::Open => None,
                Judged::Ended(end) => Some(end),
                Judged::Unknown => return false,
            },
        };
        if end.is_some_and(|end| end <= *tid) {
            return false;
        }
        // More than half of a segment would perhaps find no room beside the records that are moved.
        if data.len().next_multiple_of(ALIGN as usize) + M::HEADER_BYTES as usize > self.room() as usize / 2 {
            return false;
        }
        let hashed = Hashed::of(oid);
        let mut older = None;
        for Candidate { slot, .. } in self.candidates(oid) {
            let Some(header) = self.medium.header(slot.place()) else { continue };
            if (header.oid, header.tid) != (oid, *tid) {
                continue;
            }
            if slot.is_open() || end.is_some_and(|end| header.end.is_some_and(|known| known >= end)) {
                return true;
            }
            older = Some(slot);
        }
        let Some(place) = self.append(&mut writer, oid, *tid, end, data) else { return false };
        let slot = Slot::new(hashed, place, end.is_none());
        // Last: a reader that finds the entry finds the record.
        let mut shard = self.shard(hashed).lock();
        // It may have moved or gone since, to make room.
        if !older.is_some_and(|older| shard.replace(older, slot)) {
            shard.insert(slot);
        }
        true
    }

    /// Bytes of a segment that records can have.
    fn room(&self) -> u32 {
        self.shape.segment_bytes - M::RESERVED_BYTES
    }

    /// Writes a record to the active segment, or to the next one.
    fn append(&self, writer: &mut Writer, oid: Oid, tid: Tid, end: Option<Tid>, data: &[u8]) -> Option<Place> {
        if writer.counts[writer.active as usize] == 0 {
            writer.data_start = self.shape.segment_bytes;
        }
        if !self.fits(writer, data.len() as u32) {
            self.turn(writer)?;
        }
        self.write(writer, oid, tid, end, data)
    }

    /// Whether the active segment has room for a record with so many bytes of data.
    fn fits(&self, writer: &Writer, length: u32) -> bool {
        let count = writer.counts[writer.active as usize];
        let headers = M::RESERVED_BYTES + (count + 1) * M::HEADER_BYTES;
        let data = length.next_multiple_of(ALIGN);
        count < Self::numbers_max(&self.shape) && headers.saturating_add(data) <= writer.data_start
    }

    fn write(&self, writer: &mut Writer, oid: Oid, tid: Tid, end: Option<Tid>, data: &[u8]) -> Option<Place> {
        let count = &mut writer.counts[writer.active as usize];
        let place = Place { segment: writer.active, number: *count };
        let length = data.len() as u32;
        let offset = writer.data_start - length.next_multiple_of(ALIGN);
        let header = Header { oid, tid, end, offset, length, check: 0 };
        // A place whose write failed is not used again: part of it may be there.
        *count += 1;
        writer.data_start = offset;
        self.medium.put(place, &header, data).ok().map(|()| place)
    }

    /// Goes on to an empty segment, and empties the oldest full one if there is no other.
    fn turn(&self, writer: &mut Writer) -> Option<()> {
        let next = writer.empty.pop()?;
        writer.full.push_back(writer.active);
        writer.active = next;
        writer.counts[next as usize] = 0;
        writer.data_start = self.shape.segment_bytes;
        while writer.empty.is_empty() {
            let victim = writer.full.pop_front()?;
            self.evict(writer, victim);
        }
        Some(())
    }

    /// Chooses the first segment to write to, beside those that have records; one more stays empty.
    pub(super) fn take_active(&self, writer: &mut Writer) {
        while writer.empty.len() < 2 {
            let Some(oldest) = writer.full.pop_front() else { break };
            // Nothing of it was used since the start, so nothing is moved.
            self.evict(writer, oldest);
        }
        if let Some(active) = writer.empty.pop() {
            writer.active = active;
            writer.counts[active as usize] = 0;
            writer.data_start = self.shape.segment_bytes;
        }
    }

    /// Empties a segment.
    fn evict(&self, writer: &mut Writer, victim: u32) {
        let mut bytes_left = self.room() / 2;
        let mut is_damaged = false;
        for number in 0..writer.counts[victim as usize] {
            let place = Place { segment: victim, number };
            let Some(header) = self.medium.header(place) else {
                is_damaged = true;
                continue;
            };
            let hashed = Hashed::of(header.oid);
            let slot = [true, false].map(|is_open| Slot::new(hashed, place, is_open));
            let Some(slot) = slot.into_iter().find(|slot| self.shard(hashed).lock().has(*slot)) else { continue };
            let bytes = M::HEADER_BYTES + header.length.next_multiple_of(ALIGN);
            let moved =
                if self.is_used(place) && bytes <= bytes_left { self.copy(writer, slot, &header) } else { None };
            match moved {
                Some(to) => {
                    bytes_left -= bytes;
                    self.shard(hashed).lock().replace(slot, Slot::new(hashed, to, slot.is_open()));
                }
                None => self.drop_slot(hashed, slot),
            }
        }
        if is_damaged {
            // The objects of damaged headers are not known, so all shards are searched for their entries.
            for shard in &self.shards {
                shard.lock().retain(|slot| slot.place().segment != victim);
            }
        }
        if self.begin(writer, victim) {
            writer.empty.push(victim);
        }
    }

    /// Copies a record that was used to the active segment. Its entry stays as it is, until that is done.
    fn copy(&self, writer: &mut Writer, slot: Slot, header: &Header) -> Option<Place> {
        let mut data = Vec::new();
        if !self.fits(writer, header.length) || !self.medium.data(slot.place(), header, &mut data) {
            return None;
        }
        // An open revision has no end, whatever its header says.
        let end = if slot.is_open() { None } else { Some(header.end?) };
        self.write(writer, header.oid, header.tid, end, &data)
    }

    fn is_used(&self, Place { segment, number }: Place) -> bool {
        let word = self.segments[segment as usize].used.get(number as usize / 64);
        word.is_some_and(|word| word.load(Relaxed) & 1 << (number % 64) != 0)
    }

    /// Begins a new generation of a segment to which no entry leads; whether it can be used.
    fn begin(&self, writer: &mut Writer, segment: u32) -> bool {
        let Self { segments, medium, .. } = self;
        let of_readers = &segments[segment as usize];
        of_readers.generation.fetch_add(1, Relaxed);
        // Between the generation and everything that is written from now on: see `is_still`.
        fence(Release);
        for word in &of_readers.used {
            word.store(0, Relaxed);
        }
        writer.counts[segment as usize] = 0;
        medium.begin(segment).is_ok()
    }

    /// All segments begin anew. No entry leads to any.
    pub(super) fn begin_all(&self, writer: &mut Writer) {
        writer.full.clear();
        writer.empty.clear();
        for segment in (0..self.shape.segments).rev() {
            if self.begin(writer, segment) {
                writer.empty.push(segment);
            }
        }
        if let Some(active) = writer.empty.pop() {
            writer.active = active;
        }
        writer.data_start = self.shape.segment_bytes;
    }
}
