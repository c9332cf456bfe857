//! A cache file that another process owns, to be read.
//!
//! One process of a host writes the file: it has the lock. The others are its **guests**. A guest hears of transactions
//! from its own connection, so it may know more than the file, or less. It believes nothing that it has not checked:
//!
//! ```text
//!   a guest's lookup                                      the owner
//!   1  reads the head of now: the file knows t7           notes the ends of a transaction's objects, then moves
//!   2  reads the record's header                             the head of now
//!   3  reads the data                                     begins a segment anew: writes its head, and then records
//!   4  reads the segment's head once more
//! ```
//!
//! | question | answer |
//! |---|---|
//! | is it the object's, and complete? | the header and the data have their checksums, and the segment has not begun anew (4) |
//! | is it still current? | it has no end in the file (2), so it held at t7 (1). The guest knows the changes since t7 itself |
//! | is the file of my database? | the guest has compared one record with its server's answer ([`Guest::compare`]) |
//! | was the file emptied? | its life is another one. It is not read any more |
//!
//! A guest writes nothing. It holds no lock, so an owner never waits for it, and its end costs nobody anything. When
//! the owner has ended, a guest may take the file over ([`Guest::take_over`]).

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use vellum_disk::{Disk, DiskFile, Open};
use vellum_storage::{LoadedAt, Oid, Tid};

use super::layout::{FileHead, HEADER_BYTES, SEGMENTS_START, SegmentHead, TURN, Turn, parse_header};
use super::scan::{self, Moments};
use super::{CacheFile, Options};
use crate::core::recent::{Judged, Recent};
use crate::core::slot::{Hashed, Shard, Slot};
use crate::core::{Changed, Header, NUMBERS_MAX, Place};

/// Headers that are looked at behind the last known one: so many damaged ones may lie in between.
const AHEAD: u32 = 16;

/// A reader of another process's cache file.
pub struct Guest {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    options: Options,
    view: Option<View>,
    /// The last transaction that this process knows.
    told: Tid,
    recent: Recent,
}

/// The file, as far as it was read.
struct View {
    file: Arc<dyn DiskFile>,
    head: FileHead,
    boot: Option<[u8; 16]>,
    turn: Turn,
    segments: Vec<Scanned>,
    index: Shard,
    /// The last transaction that the file knew when this process opened it.
    began: Tid,
    trust: Trust,
}

/// A segment, as far as its headers are in the index.
#[derive(Clone, Copy, Default)]
struct Scanned {
    generation: u64,
    next: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    /// Nothing was compared yet.
    Unproven,
    /// The file is of this process's database.
    Proven,
    /// It is another one, or was emptied.
    Foreign,
}

impl Guest {
    /// A reader of the file at `path`, which it opens as soon as there is one.
    pub fn new(disk: Arc<dyn Disk>, path: PathBuf, options: Options) -> Guest {
        let recent = Recent::new(options.changes, Tid::ZERO);
        let mut guest = Guest { disk, path, options, view: None, told: Tid::ZERO, recent };
        guest.open();
        guest
    }

    fn open(&mut self) {
        let Ok(file) = self.disk.open(&self.path, Open::Read) else { return };
        let Ok(Some(head)) = scan::file_head(&*file) else { return };
        let Some(turn) = read(&*file, TURN).and_then(|bytes| Turn::parse(&bytes)) else { return };
        let segments = vec![Scanned::default(); head.segments as usize];
        let boot = self.options.boot;
        let (index, began) = (Shard::default(), Tid::ZERO);
        let mut view = View { file, head, boot, turn, segments, index, began, trust: Trust::Unproven };
        view.began = view.known().unwrap_or(Tid::MAX);
        if self.told > Tid::ZERO {
            view.meet(self.told);
        }
        view.scan_all();
        self.view = Some(view);
    }

    /// Entries of the index.
    pub fn len(&self) -> usize {
        self.view.as_ref().map_or(0, |view| view.index.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory that the index takes.
    pub fn index_bytes(&self) -> usize {
        self.view.as_ref().map_or(0, |view| view.index.bytes() + view.segments.len() * size_of::<Scanned>())
    }

    /// The object as it was just before a tid, if the file has that, and it is certain.
    pub fn get(&mut self, oid: Oid, before: Tid) -> Option<LoadedAt> {
        let Guest { view, told, recent, .. } = self;
        if before > told.next() {
            return None;
        }
        let view = view.as_mut().filter(|view| view.trust == Trust::Proven)?;
        view.find(oid, |view, tid, end, known| view.holds(recent, *told, (oid, tid, end, known), before))
    }

    /// Compares a revision that the server sent with the file, if that is not proven to be of the same database.
    pub fn compare(&mut self, oid: Oid, came: &LoadedAt) {
        if self.view.is_none() {
            self.open();
        }
        let Some(view) = self.view.as_mut().filter(|view| view.trust == Trust::Unproven) else { return };
        let same = |_: &View, tid, end, _| (tid == came.tid).then_some(end);
        if let Some(found) = view.find(oid, same) {
            view.trust = if found.data == came.data { Trust::Proven } else { Trust::Foreign };
        }
    }

    /// A transaction changed these objects.
    pub fn invalidate(&mut self, tid: Tid, oids: &[Oid]) {
        oids.iter().for_each(|oid| self.recent.note(*oid, Tid(tid.0.saturating_sub(1)), tid));
        self.told = self.told.max(tid);
    }

    /// These objects, or perhaps all, were changed after the last known transaction, up to `tid`.
    pub fn verify(&mut self, changed: Changed<'_>, tid: Tid) {
        match changed {
            Changed::Objects(oids) => oids.iter().for_each(|oid| self.recent.note(*oid, self.told, tid)),
            Changed::Any => self.recent.forget(tid),
        }
        self.told = self.told.max(tid);
        if let Some(view) = &mut self.view {
            view.meet(tid);
        }
    }

    /// This process begins anew: what it knew is not true any more.
    pub fn clear(&mut self, head: Tid) {
        self.recent.forget(head);
        self.told = head;
        // With the file of now, which has to be proven again.
        self.view = None;
    }

    /// Becomes the owner, if there is none. A file that is not proven is emptied. None if there is an owner, or the
    /// file knows more than this process.
    ///
    /// # Errors
    ///
    /// Those of the disk.
    pub fn take_over(&self) -> io::Result<Option<CacheFile>> {
        let file = match CacheFile::open(&*self.disk, &self.path, &self.options) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        let (core, head) = (file.core(), file.core().head());
        let is_proven = self.view.as_ref().is_some_and(|view| view.is_trusted());
        if !is_proven {
            core.clear(self.told);
        } else if head > self.told {
            return Ok(None);
        } else {
            core.learn(&self.recent, self.told);
        }
        Ok(Some(file))
    }
}

impl View {
    /// The server's last transaction is `last`. A file that knew a later one before is of a time that the server has
    /// left: it was rolled back, and the owner of the file was not told yet.
    fn meet(&mut self, last: Tid) {
        if self.began > last {
            self.trust = Trust::Foreign;
        }
    }

    fn is_trusted(&self) -> bool {
        self.trust == Trust::Proven && self.turn_now().is_some_and(|turn| turn.life == self.turn.life)
    }

    fn turn_now(&self) -> Option<Turn> {
        read(&*self.file, TURN).and_then(|bytes| Turn::parse(&bytes))
    }

    /// The last transaction whose changes are in the file.
    fn known(&self) -> Option<Tid> {
        Moments::read(&*self.file).ok().map(|moments| moments.head(self.boot))
    }

    /// A record of the object for which `holds` returns an end, or none. `holds` gets its tid, its end in the file, and
    /// what the file knew before that was read.
    fn find(
        &mut self,
        oid: Oid,
        holds: impl Fn(&View, Tid, Option<Tid>, Tid) -> Option<Option<Tid>>,
    ) -> Option<LoadedAt> {
        let found = self.look_up(oid, &holds);
        if found.is_some() || !self.catch_up() {
            return found;
        }
        self.look_up(oid, &holds)
    }

    fn look_up(
        &self,
        oid: Oid,
        holds: &impl Fn(&View, Tid, Option<Tid>, Tid) -> Option<Option<Tid>>,
    ) -> Option<LoadedAt> {
        let hashed = Hashed::of(oid);
        self.index.find(hashed).next()?;
        // Before the headers: their ends may be newer than this, and never older.
        let known = self.known()?;
        // The owner may have emptied the file. Its records are then of another time.
        self.turn_now().filter(|turn| turn.life == self.turn.life)?;
        self.index.find(hashed).find_map(|slot| {
            let place = slot.place();
            let header = self.header(place)?;
            let next = if header.oid == oid { holds(self, header.tid, header.end, known)? } else { return None };
            let data = self.data(place, &header)?;
            Some(LoadedAt { data, tid: header.tid, next })
        })
    }

    /// Whether a revision held just before `before`; with its end.
    fn holds(
        &self,
        recent: &Recent,
        told: Tid,
        (oid, tid, end, known): (Oid, Tid, Option<Tid>, Tid),
        before: Tid,
    ) -> Option<Option<Tid>> {
        let next = match end {
            Some(end) => Some(end),
            None if known >= told => None,
            // Of what came after `known`, this process knows.
            None => match recent.judge(oid, tid, known) {
                Judged::Open => None,
                Judged::Ended(end) => Some(end),
                Judged::Unknown => return None,
            },
        };
        (tid < before && next.is_none_or(|next| next >= before)).then_some(next)
    }

    fn start(&self, segment: u32) -> u64 {
        SEGMENTS_START + u64::from(segment) * u64::from(self.head.segment_bytes)
    }

    fn header(&self, Place { segment, number }: Place) -> Option<Header> {
        let at = self.start(segment) + (u64::from(number) + 1) * HEADER_BYTES as u64;
        let generation = self.segments.get(segment as usize)?.generation;
        parse_header(&read::<HEADER_BYTES>(&*self.file, at)?, generation, self.head.segment_bytes)
    }

    fn data(&self, place: Place, header: &Header) -> Option<Bytes> {
        let mut data = vec![0; header.length as usize];
        let at = self.start(place.segment) + u64::from(header.offset);
        let count = self.file.read_full_at(&mut data, at).ok()?;
        let is_sound = count == data.len() && crc32fast::hash(&data) == header.check;
        // After the data: a segment that began anew before would have shown it here.
        let is_still = self.generation(place.segment) == Some(self.segments[place.segment as usize].generation);
        (is_sound && is_still).then(|| data.into())
    }

    fn generation(&self, segment: u32) -> Option<u64> {
        SegmentHead::parse(&read::<{ SegmentHead::BYTES }>(&*self.file, self.start(segment))?)
            .map(|head| head.generation)
    }

    /// Enters the records that the owner has added; whether there may be some.
    fn catch_up(&mut self) -> bool {
        let Some(turn) = self.turn_now() else { return false };
        if turn.life != self.turn.life {
            (self.trust, self.index) = (Trust::Foreign, Shard::default());
            return false;
        }
        let before = self.index.len();
        if turn == self.turn {
            turn.active.into_iter().for_each(|segment| self.scan(segment));
            return self.index.len() != before;
        }
        self.turn = turn;
        self.scan_all();
        true
    }

    fn scan_all(&mut self) {
        for segment in 0..self.head.segments {
            let generation = self.generation(segment).unwrap_or(0);
            let scanned = &mut self.segments[segment as usize];
            if scanned.generation != generation {
                if scanned.next > 0 {
                    self.index.retain(|slot| slot.place().segment != segment);
                }
                *scanned = Scanned { generation, next: 0 };
            }
            self.scan(segment);
        }
    }

    /// Enters the headers of a segment that are behind the known ones.
    fn scan(&mut self, segment: u32) {
        let numbers_max = (self.head.segment_bytes / HEADER_BYTES as u32 - 1).min(NUMBERS_MAX);
        let Some(Scanned { generation, next }) = self.segments.get(segment as usize).copied() else { return };
        let mut last = next;
        let mut number = next;
        while generation != 0 && number < numbers_max.min(last + AHEAD) {
            let header = self.header(Place { segment, number });
            number += 1;
            if let Some(header) = header {
                self.index.insert(Slot::new(Hashed::of(header.oid), Place { segment, number: number - 1 }, false));
                last = number;
            }
        }
        self.segments[segment as usize].next = last;
    }
}

fn read<const N: usize>(file: &dyn DiskFile, at: u64) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    file.read_full_at(&mut bytes, at).is_ok_and(|count| count == N).then_some(bytes)
}
