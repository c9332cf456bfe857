//! Reading a cache file: what is in it, whatever its bytes are.

use std::io;

use vellum_disk::DiskFile;
use vellum_storage::Tid;

use super::layout::{
    DURABLE_HEADS, FileHead, HEADER_BYTES, LIVE_HEAD, Moment, SEGMENTS_START, SegmentHead, TURN, Turn, parse_header,
};
use crate::core::{Found, Header, NUMBERS_MAX};

/// Headers that are read at a time.
const CHUNK: u32 = 256;

/// A segment as it is in the file.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Its number.
    pub segment: u32,
    /// Its head.
    pub head: SegmentHead,
    /// The sound headers, with their numbers.
    pub records: Vec<(u32, Header)>,
}

impl Segment {
    /// Its records, as the core takes them over.
    pub fn found(&self) -> Found {
        let count = self.records.last().map_or(0, |(number, _)| number + 1);
        let records = self.records.iter().map(|(number, header)| (*number, header.oid, header.end.is_none())).collect();
        let SegmentHead { region, small_share, .. } = self.head;
        Found { segment: self.segment, count, records, region, small_share }
    }
}

/// The moments of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moments {
    /// The last durable one.
    pub durable: Moment,
    /// The one of now, or of the moment at which the process or the machine ended.
    pub live: Moment,
}

impl Moments {
    /// Reads them.
    pub fn read(file: &dyn DiskFile) -> io::Result<Moments> {
        let at = |at| Ok::<_, io::Error>(Moment::parse(&read_some(file, at, Moment::BYTES)?).unwrap_or_default());
        let [a, b] = [at(DURABLE_HEADS[0])?, at(DURABLE_HEADS[1])?];
        let durable = if a.number >= b.number { a } else { b };
        Ok(Moments { durable, live: at(LIVE_HEAD)? })
    }

    /// All changes up to this transaction are noted in the file. The moment of now counts only under the same start of
    /// the machine: after a power cut, changes that it stands for may be missing.
    pub fn head(&self, boot: Option<[u8; 16]>) -> Tid {
        let is_of_this_boot = boot.is_some_and(|boot| boot == self.live.boot && boot != [0; 16]);
        if is_of_this_boot && self.live.number > self.durable.number { self.live.tid } else { self.durable.tid }
    }
}

/// Up to so many bytes.
fn read_some(file: &dyn DiskFile, at: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let read = file.read_full_at(&mut bytes, at)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// The turn. A file that has none gets one: it was just made, or an earlier version of this program made it.
///
/// # Errors
///
/// Those of the disk.
pub fn turn(file: &dyn DiskFile, nonce: u64) -> io::Result<Turn> {
    let bytes = read_some(file, TURN, Turn::BYTES)?;
    let found = bytes.try_into().ok().and_then(|bytes| Turn::parse(&bytes));
    match found {
        Some(turn) if turn.count <= u64::MAX / 2 => Ok(turn),
        _ => {
            let turn = Turn { life: nonce.max(1), ..Turn::default() };
            file.write_at(&turn.write(), TURN)?;
            Ok(turn)
        }
    }
}

/// The file's head; none if it is not a cache file, or not a complete one.
///
/// # Errors
///
/// Those of the disk.
pub fn file_head(file: &dyn DiskFile) -> io::Result<Option<FileHead>> {
    let head = FileHead::parse(&read_some(file, 0, FileHead::BYTES)?);
    let length = file.len()?;
    Ok(head.filter(|head| head.file_bytes() == length))
}

/// Reads the headers of a segment; none if it never began, or its head is damaged. Damaged headers are left out.
///
/// # Errors
///
/// Those of the disk.
pub fn segment(file: &dyn DiskFile, head: FileHead, segment: u32) -> io::Result<Option<Segment>> {
    let start = SEGMENTS_START + u64::from(segment) * u64::from(head.segment_bytes);
    let header_bytes = HEADER_BYTES as u32;
    let mut found: Option<Segment> = None;
    // Headers grow towards the data. The first data that is known of ends them.
    let (mut headers_end, mut next) = (head.segment_bytes, 0);
    while (next + 1) * header_bytes <= headers_end && next <= NUMBERS_MAX {
        let count = CHUNK.min(headers_end / header_bytes - next);
        let bytes = read_some(file, start + u64::from(next * header_bytes), (count * header_bytes) as usize)?;
        for (n, bytes) in (next..).zip(bytes.chunks_exact(HEADER_BYTES)) {
            let Some(found) = &mut found else {
                let Some(head) = SegmentHead::parse(bytes) else { return Ok(None) };
                found = Some(Segment { segment, head, records: Vec::new() });
                continue;
            };
            let number = n - 1;
            if let Some(header) = parse_header(bytes, found.head.generation, head.segment_bytes) {
                headers_end = headers_end.min(header.offset);
                if number < NUMBERS_MAX {
                    found.records.push((number, header));
                }
            }
        }
        if found.is_none() {
            break;
        }
        next += count;
    }
    Ok(found)
}

/// Reads the headers of all segments, in the order in which they were filled.
///
/// # Errors
///
/// Those of the disk.
pub fn segments(file: &dyn DiskFile, head: FileHead) -> io::Result<Vec<Segment>> {
    let all = (0..head.segments).map(|n| segment(file, head, n));
    let mut found: Vec<Segment> = all.filter_map(Result::transpose).collect::<io::Result<_>>()?;
    found.sort_by_key(|segment| segment.head.sequence);
    Ok(found)
}
