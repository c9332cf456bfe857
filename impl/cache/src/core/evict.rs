//! Which records go: S3-FIFO over segments, with a small region that adapts.
//!
//! Yang and others, "FIFO queues are all you need for cache eviction" (SOSP 2023). A victim is the oldest segment of a
//! region, and its records have one of three ways:
//!
//! | record of the victim | in the small region | in the main region |
//! |---|---|---|
//! | used twice or more | to the main region | stays in the main region, with one use |
//! | used once | goes | stays in the main region, with no use |
//! | not used | goes | goes |
//! | ended | goes | goes |
//!
//! The ghosts remember objects that went. If one comes again, it enters the main region, and the sizes adapt, as in
//! ARC: an object that the small region let go makes the small region larger by the record's bytes, and one of the main
//! region makes it smaller. It has between a tenth and nine tenths of the cache. `docs/cache.md` has the measurements.
//!
//! A record that stays is copied. Two limits bound the time of a store: of each victim at most three quarters stay,
//! those with two uses first; and one store copies at most as many bytes as a segment has. Each copy costs its record a
//! use, so a cache copies no more bytes than it answers with.

use super::ghost::Region;
use super::medium::Header;
use super::slot::{Hashed, Place, Slot};
use super::writer::{Writer, record_bytes};
use super::{Core, Medium, USES_MAX};
use crate::sync::atomic::Ordering::{Relaxed, Release};
use crate::sync::atomic::fence;

/// A record of a victim.
struct Resident {
    slot: Slot,
    hashed: Hashed,
    header: Header,
    uses: u8,
    stays: bool,
}

impl<M: Medium> Core<M> {
    /// The region for an object that comes now. If it was evicted lately, that was too early, and the sizes adapt.
    pub(super) fn welcome(&self, writer: &mut Writer, hashed: Hashed, length: usize) -> Region {
        let (bytes, capacity) = (record_bytes::<M>(length), self.shape.bytes());
        let small = writer.small_bytes_max;
        writer.small_bytes_max = match writer.ghosts.take(hashed.bits()) {
            None => return Region::Small,
            Some(Region::Small) => (small + bytes).min(capacity / 10 * 9),
            Some(Region::Main) => small.saturating_sub(bytes).max(capacity / 10),
        };
        Region::Main
    }

    /// Evicts until two segments are empty: one to write to, and one for the records of the next victim.
    pub(super) fn make_room(&self, writer: &mut Writer) {
        let mut bytes_left = u64::from(self.room());
        while writer.empty.len() < 2 {
            let Some((region, victim)) = self.victim(writer) else { return };
            bytes_left -= self.evict(writer, region, victim, bytes_left);
        }
    }

    /// Takes the next victim out of its queue.
    pub(super) fn victim(&self, writer: &mut Writer) -> Option<(Region, u32)> {
        let [small, main] = &mut writer.queues;
        let is_small_over = small.len() * u64::from(self.shape.segment_bytes) > writer.small_bytes_max;
        let is_small = !small.full.is_empty() && (is_small_over || main.full.is_empty());
        let (region, queue) = if is_small { (Region::Small, small) } else { (Region::Main, main) };
        Some((region, queue.full.pop_front()?))
    }

    /// Empties a segment that is in no queue. At most so many bytes of its records stay; how many were to.
    pub(super) fn evict(&self, writer: &mut Writer, region: Region, victim: u32, bytes_left: u64) -> u64 {
        let (mut residents, is_damaged) = self.residents(writer, victim);
        let staying = choose::<M>(&mut residents, region, bytes_left.min(u64::from(self.room()) / 4 * 3));
        for Resident { slot, hashed, header, uses, stays } in residents {
            let uses = if region == Region::Small { 0 } else { uses.saturating_sub(1) };
            match stays.then(|| self.copy(writer, slot, &header, uses)).flatten() {
                Some(to) => drop(self.shard(hashed).lock().replace(slot, Slot::new(hashed, to, true))),
                None => {
                    self.drop_slot(hashed, slot);
                    if slot.is_open() {
                        writer.ghosts.note(hashed.bits(), region, record_bytes::<M>(header.length as usize));
                    }
                }
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
        staying
    }

    /// The records of a segment that have entries, and whether some headers are damaged.
    fn residents(&self, writer: &Writer, segment: u32) -> (Vec<Resident>, bool) {
        let (mut residents, mut is_damaged) = (Vec::new(), false);
        for number in 0..writer.counts[segment as usize] {
            let place = Place { segment, number };
            let Some(header) = self.medium.header(place) else {
                is_damaged = true;
                continue;
            };
            let hashed = Hashed::of(header.oid);
            let slot = [true, false].map(|is_open| Slot::new(hashed, place, is_open));
            let Some(slot) = slot.into_iter().find(|slot| self.shard(hashed).lock().has(*slot)) else { continue };
            residents.push(Resident { slot, hashed, header, uses: self.uses_of(place), stays: false });
        }
        (residents, is_damaged)
    }

    /// Copies an open record to the main region. Its entry stays as it is, until that is done.
    fn copy(&self, writer: &mut Writer, slot: Slot, header: &Header, uses: u8) -> Option<Place> {
        let mut data = Vec::new();
        if !self.medium.data(slot.place(), header, &mut data) {
            return None;
        }
        if !self.fits(writer, Region::Main, header.length) {
            self.activate(writer, Region::Main);
        }
        // An open revision has no end, whatever its header says.
        let to = self.write(writer, Region::Main, Header { end: None, ..*header }, &data)?;
        if let (1.., Some((word, first))) = (uses, self.segments[to.segment as usize].uses(to.number)) {
            word.fetch_or(first, Relaxed);
        }
        Some(to)
    }

    /// Begins a new generation of a segment to which no entry leads; whether it can be used.
    fn begin(&self, writer: &mut Writer, segment: u32) -> bool {
        let Self { segments, medium, .. } = self;
        let of_readers = &segments[segment as usize];
        of_readers.generation.fetch_add(1, Relaxed);
        // Between the generation and everything that is written from now on: see `is_still`.
        fence(Release);
        for word in &of_readers.uses {
            word.store(0, Relaxed);
        }
        writer.counts[segment as usize] = 0;
        medium.begin(segment).is_ok()
    }

    /// All segments begin anew. No entry leads to any.
    pub(super) fn begin_all(&self, writer: &mut Writer) {
        writer.queues = Default::default();
        writer.ghosts.clear();
        writer.empty.clear();
        for segment in (0..self.shape.segments).rev() {
            if self.begin(writer, segment) {
                writer.empty.push(segment);
            }
        }
    }
}

/// Chooses the records that stay, those with more uses first; the bytes that they take.
fn choose<M: Medium>(residents: &mut [Resident], region: Region, bytes_max: u64) -> u64 {
    let mut bytes_left = bytes_max;
    let least = if region == Region::Small { USES_MAX } else { 1 };
    for uses in (least..=USES_MAX).rev() {
        for resident in residents.iter_mut().filter(|resident| resident.slot.is_open() && resident.uses == uses) {
            let bytes = record_bytes::<M>(resident.header.length as usize);
            if bytes <= bytes_left {
                bytes_left -= bytes;
                resident.stays = true;
            }
        }
    }
    bytes_max - bytes_left
}
