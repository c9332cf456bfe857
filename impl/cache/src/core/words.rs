//! The bytes of segments in memory: atomic words, which any thread may read while another writes.
//!
//! A reader copies words one by one with relaxed loads, so a copy can consist of two records. The core finds that out
//! by the segment's generation. The same code runs under loom, word by word.
//!
//! A header is in two parts. At the segment's beginning is a word for each record, which says where its data are: of a
//! cache's 100,000 records these fill less than a megabyte, and stay near the processor. The other three words stand
//! before the data, and come from memory with them: a hit waits for memory once and not twice.
//!
//! ```text
//!   ┌────────┬────────┬────────┬╌╌╌╌╌╌┬────────────────────┬──────────┬────────────────────┬──────────┐
//!   │ span 0 │ span 1 │        │      │ oid 1, tid 1, end 1│ data 1   │ oid 0, tid 0, end 0│ data 0   │
//!   └────────┴────────┴────────┴╌╌╌╌╌╌┴────────────────────┴──────────┴────────────────────┴──────────┘
//! ```
//!
//! The core counts headers at the beginning alone. So the data of record `n` begin 24 bytes for each record before it
//! further to the left than the core has it.

use vellum_storage::{Oid, Tid};

use super::ghost::Region;
use super::medium::{Failed, Header, Medium};
use super::slot::Place;
use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::begin_load;

const WORD: u32 = 8;
const HEADER_WORDS: u32 = 4;
/// Words that come from memory at once.
const LINE_WORDS: usize = 8;
/// So many lines are asked for before they are read.
const LINES_AHEAD: usize = 16;
/// Those that stand before the data.
const BESIDE_WORDS: u32 = 3;
/// The end of a record that has none.
const OPEN: u64 = 0;

/// Segments in memory.
pub struct Words {
    words: Box<[AtomicU64]>,
    segment_words: u32,
}

impl Clone for Words {
    fn clone(&self) -> Words {
        let words = self.words.iter().map(|word| AtomicU64::new(word.load(Relaxed))).collect();
        Words { words, segment_words: self.segment_words }
    }
}

impl Words {
    /// So many segments of so many bytes, which is a multiple of 8.
    pub fn new(segments: u32, segment_bytes: u32) -> Words {
        let segment_words = segment_bytes / WORD;
        let count = segments as usize * segment_words as usize;
        Words { words: (0..count).map(|_| AtomicU64::new(0)).collect(), segment_words }
    }

    /// Some words of a segment; none if they are not in it.
    fn at(&self, segment: u32, first: u32, count: u32) -> Option<&[AtomicU64]> {
        let end = first.checked_add(count).filter(|end| *end <= self.segment_words)?;
        let start = segment as usize * self.segment_words as usize;
        self.words.get(start + first as usize..start + end as usize)
    }

    fn span(&self, place: Place) -> Option<&AtomicU64> {
        self.at(place.segment, place.number, 1)?.first()
    }

    /// Where in its segment a record's data begin whose offset is this.
    fn start(place: Place, offset: u32) -> Option<u32> {
        (offset / WORD).checked_sub(place.number.checked_mul(BESIDE_WORDS)?)
    }

    /// The part of a header that is beside its data.
    fn beside(&self, place: Place, offset: u32) -> Option<&[AtomicU64; BESIDE_WORDS as usize]> {
        let first = Words::start(place, offset)?.checked_sub(BESIDE_WORDS)?;
        self.at(place.segment, first, BESIDE_WORDS)?.try_into().ok()
    }

    fn data_words(&self, place: Place, header: &Header) -> Option<&[AtomicU64]> {
        self.words_at(place, header.offset, header.length)
    }

    fn words_at(&self, place: Place, offset: u32, length: u32) -> Option<&[AtomicU64]> {
        self.at(place.segment, Words::start(place, offset)?, length.div_ceil(WORD))
    }
}

impl Medium for Words {
    const HEADER_BYTES: u32 = HEADER_WORDS * WORD;

    fn put(&self, place: Place, header: &Header, data: &[u8]) -> Result<(), Failed> {
        let words = self.data_words(place, header).ok_or(Failed)?;
        for (word, bytes) in words.iter().zip(data.chunks(WORD as usize)) {
            let mut full = [0; WORD as usize];
            full[..bytes.len()].copy_from_slice(bytes);
            word.store(u64::from_le_bytes(full), Relaxed);
        }
        let [oid, tid, end] = self.beside(place, header.offset).ok_or(Failed)?;
        oid.store(header.oid.0, Relaxed);
        tid.store(header.tid.0, Relaxed);
        end.store(header.end.map_or(OPEN, |end| end.0), Relaxed);
        let span = self.span(place).ok_or(Failed)?;
        span.store(u64::from(header.offset) << 32 | u64::from(header.length), Relaxed);
        Ok(())
    }

    fn header(&self, place: Place) -> Option<Header> {
        let span = self.span(place)?.load(Relaxed);
        let (offset, length) = ((span >> 32) as u32, span as u32);
        let [oid, tid, end] = self.beside(place, offset)?;
        // The data of most headers are read next, and their lines can come at the same time. Of longer records the
        // processor itself sees that they are read one after the other.
        if let Some(words) = self.words_at(place, offset, length) {
            words.iter().step_by(LINE_WORDS).take(LINES_AHEAD).for_each(begin_load);
        }
        let (oid, tid, end) = (Oid(oid.load(Relaxed)), Tid(tid.load(Relaxed)), end.load(Relaxed));
        Some(Header { oid, tid, end: (end != OPEN).then_some(Tid(end)), offset, length, check: 0 })
    }

    fn data(&self, place: Place, header: &Header, data: &mut Vec<u8>) -> bool {
        let Some(words) = self.data_words(place, header) else { return false };
        // Not a byte more: a vector with room to spare is copied, or counted, when it becomes `Bytes`.
        let before = data.len();
        data.reserve_exact(header.length as usize);
        data.resize(before + header.length as usize, 0);
        let mut parts = data[before..].chunks_exact_mut(WORD as usize);
        for (part, word) in parts.by_ref().zip(words) {
            part.copy_from_slice(&word.load(Relaxed).to_le_bytes());
        }
        if let (part @ [_, ..], Some(word)) = (parts.into_remainder(), words.last()) {
            part.copy_from_slice(&word.load(Relaxed).to_le_bytes()[..part.len()]);
        }
        true
    }

    fn end(&self, place: Place, header: &Header, end: Tid) -> Result<(), Failed> {
        let [_, _, word] = self.beside(place, header.offset).ok_or(Failed)?;
        word.store(end.0, Relaxed);
        Ok(())
    }

    fn assign(&self, _: u32, _: Region, _: u16) -> Result<(), Failed> {
        Ok(())
    }

    fn begin(&self, _: u32) -> Result<(), Failed> {
        Ok(())
    }

    // No entry leads to it, and memory is not read by the next process.
    fn erase(&self, _: Place) {}

    fn begun_all(&self, _: Tid) {}

    fn told(&self, _: Tid) {}
}
