//! The bytes of segments in memory: atomic words, which any thread may read while another writes.
//!
//! A reader copies words one by one with relaxed loads, so a copy can consist of two records. The core finds that out
//! by the segment's generation. The same code runs under loom, word by word.

use vellum_storage::{Oid, Tid};

use super::ghost::Region;
use super::medium::{Failed, Header, Medium};
use super::slot::Place;
use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::Ordering::Relaxed;

const WORD: u32 = 8;
const HEADER_WORDS: u32 = 4;
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

    fn header_words(&self, place: Place) -> Option<&[AtomicU64]> {
        self.at(place.segment, place.number.checked_mul(HEADER_WORDS)?, HEADER_WORDS)
    }

    fn data_words(&self, place: Place, header: &Header) -> Option<&[AtomicU64]> {
        self.at(place.segment, header.offset / WORD, header.length.div_ceil(WORD))
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
        let [oid, tid, end, span] = self.header_words(place).ok_or(Failed)? else { return Err(Failed) };
        oid.store(header.oid.0, Relaxed);
        tid.store(header.tid.0, Relaxed);
        end.store(header.end.map_or(OPEN, |end| end.0), Relaxed);
        span.store(u64::from(header.offset) << 32 | u64::from(header.length), Relaxed);
        Ok(())
    }

    fn header(&self, place: Place) -> Option<Header> {
        let [oid, tid, end, span] = self.header_words(place)? else { return None };
        let (oid, tid, end, span) = (oid.load(Relaxed), tid.load(Relaxed), end.load(Relaxed), span.load(Relaxed));
        let end = (end != OPEN).then_some(Tid(end));
        Some(Header { oid: Oid(oid), tid: Tid(tid), end, offset: (span >> 32) as u32, length: span as u32, check: 0 })
    }

    fn data(&self, place: Place, header: &Header, data: &mut Vec<u8>) -> bool {
        let Some(words) = self.data_words(place, header) else { return false };
        let (before, length) = (data.len(), header.length as usize);
        data.reserve(words.len() * WORD as usize);
        for word in words {
            data.extend_from_slice(&word.load(Relaxed).to_le_bytes());
        }
        data.truncate(before + length);
        true
    }

    fn end(&self, place: Place, _: &Header, end: Tid) -> Result<(), Failed> {
        let [_, _, word, _] = self.header_words(place).ok_or(Failed)? else { return Err(Failed) };
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
