//! The bytes of segments in a file.
//!
//! No write is synced when it is made. The order of writes is enough when a process is killed, since the system has
//! them all; after a power cut only the last durable head counts.

use std::io;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};

use vellum_disk::DiskFile;
use vellum_storage::Tid;

use super::layout::{
    DURABLE_HEADS, END_AT, END_BYTES, FileHead, HEADER_BYTES, LIVE_HEAD, Moment, SEGMENTS_START, SegmentHead, TURN,
    Turn, parse_header, write_header,
};
use crate::core::{Failed, Header, Medium, Place, Region};

/// Segments in a file.
pub struct FileMedium {
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) head: FileHead,
    boot: Option<[u8; 16]>,
    /// The life of each segment; 0 if it has not begun.
    generations: Box<[AtomicU64]>,
    /// Of the segment that began, or got its first record, last.
    sequence: AtomicU64,
    /// With the sequence, what a generation is drawn from.
    nonce: u64,
    /// The number of the last moment that was written.
    moment: AtomicU64,
    /// Held while a durable head is written.
    durable: Mutex<()>,
    /// The news for other processes. They must know of a segment before it gets its first record.
    turn: Mutex<Turn>,
    /// How often all segments began anew.
    clears: AtomicU64,
    /// Something that must be in the file is not: the file is never again told of a later head.
    is_frozen: AtomicBool,
    /// Records must not be added, since older ones could not be removed.
    is_dead: AtomicBool,
}

impl std::fmt::Debug for FileMedium {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileMedium").field("head", &self.head).finish_non_exhaustive()
    }
}

/// The numbers that opening found in the file.
pub(super) struct Known {
    pub generations: Vec<u64>,
    pub sequence: u64,
    pub moment: u64,
    pub turn: Turn,
}

/// A head that may be made durable.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prepared {
    head: Tid,
    number: u64,
    clears: u64,
}

impl FileMedium {
    pub(super) fn new(
        file: Arc<dyn DiskFile>,
        head: FileHead,
        boot: Option<[u8; 16]>,
        nonce: u64,
        known: Known,
    ) -> FileMedium {
        FileMedium {
            file,
            head,
            boot,
            generations: known.generations.into_iter().map(AtomicU64::new).collect(),
            sequence: AtomicU64::new(known.sequence),
            nonce,
            moment: AtomicU64::new(known.moment),
            durable: Mutex::new(()),
            turn: Mutex::new(known.turn),
            clears: AtomicU64::new(0),
            is_frozen: AtomicBool::new(false),
            is_dead: AtomicBool::new(false),
        }
    }

    pub(super) fn file_bytes(&self) -> u64 {
        self.head.file_bytes()
    }

    /// Where a segment begins.
    pub(super) fn start(&self, segment: u32) -> u64 {
        SEGMENTS_START + u64::from(segment) * u64::from(self.head.segment_bytes)
    }

    fn header_at(&self, place: Place) -> u64 {
        // The segment's head takes as much as a header.
        self.start(place.segment) + (u64::from(place.number) + 1) * HEADER_BYTES as u64
    }

    pub(super) fn generation(&self, segment: u32) -> u64 {
        self.generations.get(segment as usize).map_or(0, |generation| generation.load(Acquire))
    }

    /// Whether the file was not told of the newest changes, because a write failed.
    pub(super) fn is_frozen(&self) -> bool {
        self.is_frozen.load(Acquire)
    }

    fn freeze(&self) {
        self.is_frozen.store(true, Release);
    }

    fn write_moment(&self, at: u64, number: u64, tid: Tid) -> io::Result<()> {
        let moment = Moment { number, tid, boot: self.boot.unwrap_or_default() };
        self.file.write_at(&moment.write(), at)
    }

    /// A head that may be made durable: nothing is being written at this moment.
    pub(super) fn prepare(&self, head: Tid) -> Prepared {
        Prepared { head, number: self.next_moment(), clears: self.clears.load(Acquire) }
    }

    fn next_moment(&self) -> u64 {
        self.moment.fetch_add(1, Relaxed) + 1
    }

    /// Makes all that was written before the preparation durable, and then says that it is.
    ///
    /// # Errors
    ///
    /// Those of the disk. The file stays as it was at the last durable head.
    pub(super) fn make_durable(&self, Prepared { head, number, clears }: Prepared) -> io::Result<()> {
        let _one_at_a_time = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        if self.clears.load(Acquire) != clears {
            // A later and smaller head is durable by now.
            return Ok(());
        }
        if self.is_frozen() {
            return Err(io::Error::other("an earlier write to the cache file failed"));
        }
        // A failed sync may have forgotten what it did not write, so a later one proves nothing.
        let sync = || self.file.sync();
        let write = || self.write_moment(self.next_durable(number), number, head);
        sync().and_then(|()| write()).and_then(|()| sync()).inspect_err(|_| self.freeze())
    }

    /// Where the older of the two durable heads is.
    fn next_durable(&self, number: u64) -> u64 {
        let numbers = DURABLE_HEADS.map(|at| {
            let mut bytes = [0; Moment::BYTES];
            let found = self.read(&mut bytes, at).then(|| Moment::parse(&bytes)).flatten();
            found.map_or(0, |moment| moment.number)
        });
        DURABLE_HEADS[usize::from(numbers[1] < numbers[0].min(number))]
    }

    /// Tells other processes something. If that fails, they must not read on.
    fn show(&self, change: impl FnOnce(&mut Turn)) -> io::Result<()> {
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = *turn;
        change(&mut next);
        if next == *turn {
            return Ok(());
        }
        next.count += 1;
        self.file.write_at(&next.write(), TURN)?;
        *turn = next;
        Ok(())
    }

    fn next_generation(&self, sequence: u64) -> u64 {
        let mut x = self.nonce ^ sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)).max(1)
    }

    fn next_sequence(&self) -> u64 {
        self.sequence.fetch_add(1, Relaxed) + 1
    }

    fn write_head(&self, segment: u32, head: SegmentHead) -> io::Result<()> {
        let generation = self.generations.get(segment as usize).ok_or(io::ErrorKind::InvalidInput)?;
        self.file.write_at(&head.write(), self.start(segment))?;
        generation.store(head.generation, Release);
        Ok(())
    }

    fn read(&self, buffer: &mut [u8], at: u64) -> bool {
        self.file.read_full_at(buffer, at).is_ok_and(|n| n == buffer.len())
    }
}

impl Medium for FileMedium {
    const HEADER_BYTES: u32 = HEADER_BYTES as u32;
    const RESERVED_BYTES: u32 = HEADER_BYTES as u32;

    fn put(&self, place: Place, header: &Header, data: &[u8]) -> Result<(), Failed> {
        if self.is_dead.load(Acquire) {
            return Err(Failed);
        }
        let header = Header { check: crc32fast::hash(data), ..*header };
        let start = self.start(place.segment) + u64::from(header.offset);
        let bytes = write_header(&header, self.generation(place.segment));
        let write = || {
            self.file.write_at(data, start)?;
            self.file.write_at(&bytes, self.header_at(place))
        };
        write().map_err(|_| {
            // The header may be there in spite of the error.
            self.erase(place);
            Failed
        })
    }

    fn header(&self, place: Place) -> Option<Header> {
        let mut bytes = [0; HEADER_BYTES];
        let generation = self.generation(place.segment);
        if !self.read(&mut bytes, self.header_at(place)) {
            return None;
        }
        parse_header(&bytes, generation, self.head.segment_bytes)
    }

    fn data(&self, place: Place, header: &Header, data: &mut Vec<u8>) -> bool {
        let before = data.len();
        data.resize(before + header.length as usize, 0);
        let bytes = &mut data[before..];
        self.read(bytes, self.start(place.segment) + u64::from(header.offset)) && crc32fast::hash(bytes) == header.check
    }

    fn end(&self, place: Place, header: &Header, end: Tid) -> Result<(), Failed> {
        let bytes = write_header(&Header { end: Some(end), ..*header }, self.generation(place.segment));
        let bytes = &bytes[END_AT..END_AT + END_BYTES];
        self.file.write_at(bytes, self.header_at(place) + END_AT as u64).map_err(|_| Failed)
    }

    fn erase(&self, place: Place) {
        if self.file.write_at(&[0; HEADER_BYTES], self.header_at(place)).is_err() {
            self.freeze();
        }
    }

    fn assign(&self, segment: u32, region: Region, small_share: u16) -> Result<(), Failed> {
        if self.is_dead.load(Acquire) {
            return Err(Failed);
        }
        let sequence = self.next_sequence();
        let generation = match self.generation(segment) {
            0 => self.next_generation(sequence),
            known => known,
        };
        self.write_head(segment, SegmentHead { sequence, generation, region, small_share }).map_err(|_| Failed)?;
        self.show(|turn| turn.active[region as usize] = segment).map_err(|_| Failed)
    }

    fn begin(&self, segment: u32) -> Result<(), Failed> {
        let sequence = self.next_sequence();
        let generation = self.next_generation(sequence);
        let head = SegmentHead { sequence, generation, region: Region::Small, small_share: 0 };
        if self.write_head(segment, head).is_err() {
            // Its old records may be read by the next process, and no change to them is noted any more.
            self.freeze();
            return Err(Failed);
        }
        self.show(|turn| turn.count += 1).map_err(|_| Failed)
    }

    fn begun_all(&self, head: Tid) {
        // The head may go back. No record may be added before that is certain: it would be taken for one of the time
        // before, whose changes are known up to the old head.
        self.clears.fetch_add(1, Release);
        let life = self.next_generation(self.next_sequence());
        // Other processes have to know before there is a record of the time after.
        let done = self.show(|turn| turn.life = life).and_then(|()| self.make_durable(self.prepare(head)));
        if done.is_err() || self.is_frozen() {
            self.freeze();
            self.is_dead.store(true, Release);
            // The old records may still be there, with a head that the server will reach again. A file without its
            // head is not opened any more. If this fails as well, the disk is of no use at all.
            let _ = self.file.write_at(&[0; FileHead::BYTES], 0).and_then(|()| self.file.sync());
            return;
        }
        self.told(head);
    }

    fn told(&self, head: Tid) {
        if !self.is_frozen() && self.write_moment(LIVE_HEAD, self.next_moment(), head).is_err() {
            self.freeze();
        }
    }
}
