//! The bytes of a cache file. All numbers are little-endian.
//!
//! ```text
//!   0        the file's head                 0 "VLMCACHE"  8 version  12 segment bytes  16 segments  20 CRC-32
//!   4096     a durable head                  0 number  8 tid  16 boot  32 CRC-32
//!   4608     another one: they are written in turn
//!   5120     the head of now, in the same form
//!   5632     the turn                        0 life  8 count  16 active small segment  20 active main segment
//!                                            24 CRC-32
//!   8192     segments, one behind the other
//! ```
//!
//! ```text
//!   a segment:  │ its head │ header 0 │ header 1 │ ...  free  ...  │ data 1 │ data 0 │
//!
//!   its head, 64 bytes      0 "SEGMENT2"  8 sequence  16 generation  24 region: 0 small, 1 main  25 zero
//!                           26 share of the small region, in 65,536ths of the cache  28 CRC-32
//!   a header, 64 bytes      0 generation  8 oid  16 tid  24 offset  28 length  32 CRC-32 of the data
//!                           36 CRC-32 of bytes 0 to 36  40 end, or 0  48 CRC-32 of bytes 0 to 48
//! ```
//!
//! A header lies in one sector, so a write of an end is done or not, or its checksum is wrong. The generation is drawn
//! anew whenever a segment begins anew. So a record of an earlier life never counts, even if a power cut loses the
//! segment's head and keeps the record.
//!
//! A segment's head is written twice a life: with a new generation when the segment is emptied, and with its region
//! when it gets its first record. Region and share tell the next process which segments to evict first. No answer
//! depends on them. An active segment that there is not has the number 2^32 - 1.
//!
//! Version 1 had no regions: its file is replaced by an empty one.

use vellum_storage::{Oid, Tid};

use crate::core::{Header, Region};

/// Bytes before the segments.
pub const SEGMENTS_START: u64 = 8192;
/// Where the durable heads are.
pub const DURABLE_HEADS: [u64; 2] = [4096, 4608];
/// Where the head of now is.
pub const LIVE_HEAD: u64 = 5120;
/// Where the turn is.
pub const TURN: u64 = 5632;
/// Bytes of a header, and of a segment's head.
pub const HEADER_BYTES: usize = 64;
/// Where the end is in a header.
pub const END_AT: usize = 40;
/// Bytes of an end with its checksum.
pub const END_BYTES: usize = 12;
/// A segment is at least so large.
pub const SEGMENT_BYTES_MIN: u32 = 4 << 10;
/// A segment is at most so large.
pub const SEGMENT_BYTES_MAX: u32 = 256 << 20;

const FILE_MAGIC: &[u8; 8] = b"VLMCACHE";
const SEGMENT_MAGIC: &[u8; 8] = b"SEGMENT2";
const VERSION: u32 = 2;

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// Whether the checksum at this place is that of the bytes before it.
fn is_sound(bytes: &[u8], at: usize) -> bool {
    bytes.len() >= at + 4 && crc32fast::hash(&bytes[..at]) == u32_at(bytes, at)
}

/// The file's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHead {
    /// Bytes of a segment.
    pub segment_bytes: u32,
    /// Segments.
    pub segments: u32,
}

impl FileHead {
    /// Bytes that it takes.
    pub const BYTES: usize = 24;

    /// The head with these bytes; none if it is damaged, of another version, or impossible.
    pub fn parse(bytes: &[u8]) -> Option<FileHead> {
        if !bytes.starts_with(FILE_MAGIC) || !is_sound(bytes, 20) || u32_at(bytes, 8) != VERSION {
            return None;
        }
        let head = FileHead { segment_bytes: u32_at(bytes, 12), segments: u32_at(bytes, 16) };
        head.is_possible().then_some(head)
    }

    /// Whether a file can be like that.
    pub fn is_possible(&self) -> bool {
        let is_size = (SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&self.segment_bytes);
        is_size && self.segment_bytes.is_multiple_of(512) && (3..=crate::core::SEGMENTS_MAX).contains(&self.segments)
    }

    /// Bytes of the whole file.
    pub fn file_bytes(&self) -> u64 {
        SEGMENTS_START + u64::from(self.segments) * u64::from(self.segment_bytes)
    }

    /// Its bytes.
    pub fn write(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(FILE_MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.segment_bytes.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.segments.to_le_bytes());
        let check = crc32fast::hash(&bytes[..20]);
        bytes[20..].copy_from_slice(&check.to_le_bytes());
        bytes
    }
}

/// A moment of the cache: all changes up to a tid are noted in the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// A later one has a larger number.
    pub number: u64,
    /// The last transaction.
    pub tid: Tid,
    /// The start of the machine under which it was written, or zeros.
    pub boot: [u8; 16],
}

impl Moment {
    /// Bytes that it takes.
    pub const BYTES: usize = 36;

    /// The moment with these bytes; none if it is damaged.
    pub fn parse(bytes: &[u8]) -> Option<Moment> {
        if !is_sound(bytes, 32) {
            return None;
        }
        let boot = bytes[16..32].try_into().ok()?;
        let number = u64_at(bytes, 0);
        // A hole of zeros has a checksum that is not zero, but a moment has a number anyway.
        (number > 0).then_some(Moment { number, tid: Tid(u64_at(bytes, 8)), boot })
    }

    /// Its bytes.
    pub fn write(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.number.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.tid.0.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.boot);
        let check = crc32fast::hash(&bytes[..32]);
        bytes[32..].copy_from_slice(&check.to_le_bytes());
        bytes
    }
}

/// The news for other processes that read the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Drawn by chance whenever the whole file begins anew.
    pub life: u64,
    /// How often another segment was written to, or began anew.
    pub count: u64,
    /// The segments that are written to, in the order of the regions; [`Turn::NONE`] for none.
    pub active: [u32; 2],
}

impl Default for Turn {
    fn default() -> Turn {
        Turn { life: 0, count: 0, active: [Turn::NONE; 2] }
    }
}

impl Turn {
    /// Bytes that it takes.
    pub const BYTES: usize = 28;
    /// No segment.
    pub const NONE: u32 = u32::MAX;

    /// The turn with these bytes; none if it is damaged.
    pub fn parse(bytes: &[u8; Self::BYTES]) -> Option<Turn> {
        let active = [u32_at(bytes, 16), u32_at(bytes, 20)];
        let turn = Turn { life: u64_at(bytes, 0), count: u64_at(bytes, 8), active };
        (is_sound(bytes, 24) && turn.life != 0).then_some(turn)
    }

    /// Its bytes.
    pub fn write(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.life.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.count.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.active[0].to_le_bytes());
        bytes[20..24].copy_from_slice(&self.active[1].to_le_bytes());
        let check = crc32fast::hash(&bytes[..24]);
        bytes[24..].copy_from_slice(&check.to_le_bytes());
        bytes
    }
}

/// The head of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHead {
    /// A segment that got its first record later has a larger one.
    pub sequence: u64,
    /// The segment's life, of which its records bear the number.
    pub generation: u64,
    /// The region that it belongs to, if it has records.
    pub region: Region,
    /// The small region's share at its first record, in 65,536ths of the cache.
    pub small_share: u16,
}

impl SegmentHead {
    /// Bytes that it takes.
    pub const BYTES: usize = 32;

    /// The head with these bytes; none if it is damaged.
    pub fn parse(bytes: &[u8]) -> Option<SegmentHead> {
        if !bytes.starts_with(SEGMENT_MAGIC) || !is_sound(bytes, 28) {
            return None;
        }
        let region = if bytes[24] == 1 { Region::Main } else { Region::Small };
        let small_share = u16::from_le_bytes([bytes[26], bytes[27]]);
        Some(SegmentHead { sequence: u64_at(bytes, 8), generation: u64_at(bytes, 16), region, small_share })
    }

    /// Its bytes.
    pub fn write(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(SEGMENT_MAGIC);
        bytes[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.generation.to_le_bytes());
        bytes[24] = u8::from(self.region == Region::Main);
        bytes[26..28].copy_from_slice(&self.small_share.to_le_bytes());
        let check = crc32fast::hash(&bytes[..28]);
        bytes[28..].copy_from_slice(&check.to_le_bytes());
        bytes
    }
}

/// The record header with these bytes; none if it is damaged, impossible, or of another life of its segment.
pub fn parse_header(bytes: &[u8], generation: u64, segment_bytes: u32) -> Option<Header> {
    if u64_at(bytes, 0) != generation || !is_sound(bytes, 36) || !is_sound(bytes, 48) {
        return None;
    }
    let (tid, end) = (Tid(u64_at(bytes, 16)), Tid(u64_at(bytes, END_AT)));
    let (offset, length) = (u32_at(bytes, 24), u32_at(bytes, 28));
    let is_inside = offset.checked_add(length).is_some_and(|last| last <= segment_bytes);
    if !is_inside || !offset.is_multiple_of(8) || (end != Tid::ZERO && end <= tid) {
        return None;
    }
    let end = (end != Tid::ZERO).then_some(end);
    Some(Header { oid: Oid(u64_at(bytes, 8)), tid, end, offset, length, check: u32_at(bytes, 32) })
}

/// The bytes of a record header.
pub fn write_header(header: &Header, generation: u64) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..8].copy_from_slice(&generation.to_le_bytes());
    bytes[8..16].copy_from_slice(&header.oid.0.to_le_bytes());
    bytes[16..24].copy_from_slice(&header.tid.0.to_le_bytes());
    bytes[24..28].copy_from_slice(&header.offset.to_le_bytes());
    bytes[28..32].copy_from_slice(&header.length.to_le_bytes());
    bytes[32..36].copy_from_slice(&header.check.to_le_bytes());
    let check = crc32fast::hash(&bytes[..36]);
    bytes[36..40].copy_from_slice(&check.to_le_bytes());
    bytes[END_AT..48].copy_from_slice(&header.end.unwrap_or(Tid::ZERO).0.to_le_bytes());
    let check = crc32fast::hash(&bytes[..48]);
    bytes[48..52].copy_from_slice(&check.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let head = FileHead { segment_bytes: 1 << 20, segments: 20 };
        assert_eq!(FileHead::parse(&head.write()), Some(head));
        let moment = Moment { number: 3, tid: Tid(7), boot: [5; 16] };
        assert_eq!(Moment::parse(&moment.write()), Some(moment));
        let turn = Turn { life: 3, count: 4, active: [5, Turn::NONE] };
        assert_eq!(Turn::parse(&turn.write()), Some(turn));
        for region in Region::ALL {
            let segment = SegmentHead { sequence: 8, generation: 9, region, small_share: 0x1234 };
            assert_eq!(SegmentHead::parse(&segment.write()), Some(segment));
        }
        let header = Header { oid: Oid(1), tid: Tid(2), end: Some(Tid(3)), offset: 8, length: 9, check: 10 };
        assert_eq!(parse_header(&write_header(&header, 4), 4, 4096), Some(header));
        assert_eq!(parse_header(&write_header(&header, 4), 5, 4096), None, "of another life");
        assert_eq!(parse_header(&write_header(&header, 4), 4, 16), None, "outside");
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let header = Header { oid: Oid(1), tid: Tid(2), end: None, offset: 8, length: 9, check: 10 };
        let bytes = write_header(&header, 4);
        for bit in 0..52 * 8 {
            let mut bytes = bytes;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(parse_header(&bytes, 4, 4096), None, "bit {bit}");
        }
        let bytes = Moment { number: 3, tid: Tid(7), boot: [5; 16] }.write();
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Moment::parse(&bytes), None, "bit {bit}");
        }
        assert!([vec![], vec![0; 40]].iter().all(|zeros| Moment::parse(zeros).is_none()));
    }
}
