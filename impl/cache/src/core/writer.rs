//! Stores, and the room for them.
//!
//! The segments belong to two regions, and each region is a queue. A new record enters the small region. One that was
//! used twice, or whose object was evicted lately, is in the main region ([`evict`](super::evict) has the policy).
//!
//! ```text
//!            full, oldest first                            written to
//!   small    ┌────────┐ ┌────────┐                         ┌────────┐
//!            │ victim │ │        │            new records ▶│▓▓▓     │
//!            └────────┘ └────────┘                         └────────┘       empty
//!                 └─── used twice ───────────────────────────────┐        ┌────────┐
//!   main     ┌────────┐ ┌────────┐ ┌────────┐     ┌────────┐     ▼        │        │
//!            │ victim │ │        │ │        │ ... │▓▓▓▓▓▓  │ ◀─ and those └────────┘
//!            └────────┘ └────────┘ └────────┘     └────────┘    that come again soon
//!                 └─── used since ────────────────────▲
//! ```
//!
//! One segment is always empty between two stores: so a victim's records have a place to go to.

use std::collections::VecDeque;

use vellum_storage::{LoadedAt, Oid, Tid};

use super::ghost::{Ghosts, Region};
use super::medium::Header;
use super::recent::{Judged, Recent};
use super::slot::{Hashed, Place, Slot};
use super::{Asked, Candidate, Core, Medium, Shape};

/// Data begin at multiples of this.
const ALIGN: u32 = 8;

/// A segment that is written to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Active {
    segment: u32,
    /// Where its data begin: they are written from its end.
    data_start: u32,
}

/// The segments of a region.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Queue {
    active: Option<Active>,
    /// Full segments, the oldest first.
    pub(super) full: VecDeque<u32>,
}

impl Queue {
    /// How many segments it has.
    pub(super) fn len(&self) -> u64 {
        self.full.len() as u64 + u64::from(self.active.is_some())
    }

    /// The segment that is written to gets nothing more.
    fn seal(&mut self) {
        self.full.extend(self.active.take().map(|active| active.segment));
    }
}

/// The state that the writer's lock guards.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Writer {
    pub(super) is_closed: bool,
    /// The head, as readers see it. The writer keeps it here and only stores the one of the readers: loom does not try
    /// a reader's load against a store if the storing thread has just loaded the same.
    pub(super) head: Tid,
    pub(super) recent: Recent,
    /// Those of the regions, in the order of [`Region`].
    pub(super) queues: [Queue; 2],
    /// Empty segments.
    pub(super) empty: Vec<u32>,
    /// For each segment, how many records it has.
    pub(super) counts: Vec<u32>,
    /// If the small region has more bytes, its oldest segment is the next victim.
    pub(super) small_bytes_max: u64,
    pub(super) ghosts: Ghosts,
}

impl Writer {
    pub(super) fn new(shape: &Shape, head: Tid) -> Writer {
        let bytes = shape.bytes();
        Writer {
            is_closed: false,
            head,
            recent: Recent::new(shape.changes, head),
            queues: Default::default(),
            empty: (0..shape.segments).rev().collect(),
            counts: vec![0; shape.segments as usize],
            small_bytes_max: bytes / 10,
            ghosts: Ghosts::new(bytes),
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
        // The server was rolled back since: nothing of that history is kept.
        if asked.0 > writer.head {
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
        if record_bytes::<M>(data.len()) > u64::from(self.room()) {
            return false;
        }
        let hashed = Hashed::of(oid);
        let is_it = |header: Header| (header.oid, header.tid) == (oid, *tid);
        let mut candidates = self.candidates(oid).into_iter();
        if candidates.any(|Candidate { slot, .. }| self.medium.header(slot.place()).is_some_and(is_it)) {
            return true;
        }
        let region = if end.is_none() { self.welcome(&mut writer, hashed, data.len()) } else { Region::Small };
        let Some(place) = self.append(&mut writer, region, oid, *tid, end, data) else { return false };
        let slot = Slot::new(hashed, place, end.is_none());
        // Last: a reader that finds the entry finds the record.
        self.shard(hashed).lock().insert(slot);
        true
    }

    /// Bytes of a segment that records can have.
    pub(super) fn room(&self) -> u32 {
        self.shape.segment_bytes - M::RESERVED_BYTES
    }

    /// Writes a record to the active segment of a region, or to the next one.
    fn append(
        &self,
        writer: &mut Writer,
        region: Region,
        oid: Oid,
        tid: Tid,
        end: Option<Tid>,
        data: &[u8],
    ) -> Option<Place> {
        let length = data.len() as u32;
        if !self.fits(writer, region, length) {
            self.turn(writer, region, length);
        }
        self.write(writer, region, Header { oid, tid, end, offset: 0, length, check: 0 }, data)
    }

    /// Whether the active segment of a region has room for a record with so many bytes of data.
    pub(super) fn fits(&self, writer: &Writer, region: Region, length: u32) -> bool {
        let Some(Active { segment, data_start }) = &writer.queues[region as usize].active else { return false };
        let count = writer.counts[*segment as usize];
        let headers = M::RESERVED_BYTES + (count + 1) * M::HEADER_BYTES;
        let data = length.next_multiple_of(ALIGN);
        count < Self::numbers_max(&self.shape) && headers.saturating_add(data) <= *data_start
    }

    /// Writes a record to the active segment of a region, which gives it its offset. None if it has no room for it, or
    /// the medium fails.
    pub(super) fn write(&self, writer: &mut Writer, region: Region, header: Header, data: &[u8]) -> Option<Place> {
        if !self.fits(writer, region, header.length) {
            return None;
        }
        let active = writer.queues[region as usize].active.as_mut()?;
        let count = &mut writer.counts[active.segment as usize];
        let place = Place { segment: active.segment, number: *count };
        let offset = active.data_start - header.length.next_multiple_of(ALIGN);
        // A place whose write failed is not used again: part of it may be there.
        *count += 1;
        active.data_start = offset;
        self.medium.put(place, &Header { offset, ..header }, data).ok().map(|()| place)
    }

    /// Goes on to an empty segment, and evicts until another one is left.
    fn turn(&self, writer: &mut Writer, region: Region, length: u32) {
        writer.queues[region as usize].seal();
        self.make_room(writer);
        // The victims' records may have gone to a new segment of this region, which has room.
        if !self.fits(writer, region, length) {
            self.activate(writer, region);
        }
    }

    /// Gives an empty segment to a region, if there is one.
    pub(super) fn activate(&self, writer: &mut Writer, region: Region) {
        let Some(segment) = writer.empty.pop() else { return };
        let share = (u128::from(writer.small_bytes_max) << 16) / u128::from(self.shape.bytes());
        if self.medium.assign(segment, region, share as u16).is_err() {
            writer.empty.push(segment);
            return;
        }
        let queue = &mut writer.queues[region as usize];
        queue.seal();
        writer.counts[segment as usize] = 0;
        queue.active = Some(Active { segment, data_start: self.shape.segment_bytes });
    }
}

/// Bytes that a record takes in its segment.
pub(super) fn record_bytes<M: Medium>(length: usize) -> u64 {
    u64::from(M::HEADER_BYTES) + length.next_multiple_of(ALIGN as usize) as u64
}
