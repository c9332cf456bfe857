//! The cache files of ZEO's own client (`ZEC3`): they are read, and never written.
//!
//! ```text
//!   0   "ZEC3"   4   the last tid   12   blocks, one behind the other, to the end of the file
//!
//!   a record:   0 'a'  1 bytes of the block  5 oid  13 tid  21 end, or 0  29 0 0  31 bytes of data  35 data, oid again
//!   free space: 0 'f'  1 bytes of the block
//!               or '1' to '4': so many bytes
//! ```
//!
//! All numbers are big-endian. ZEO has no checksums. So a file counts as damaged if a block does not end within the
//! file, or a record's second oid differs, and nothing behind that place is read.

use std::collections::HashSet;
use std::io;

use bytes::Bytes;
use vellum_disk::DiskFile;
use vellum_storage::{LoadedAt, Oid, Tid};

use crate::core::{Core, Medium};

const MAGIC: &[u8; 4] = b"ZEC3";
const FIRST_BLOCK: u64 = 12;
const RECORD_HEAD: usize = 35;
/// Bytes of a record beside its data.
const RECORD_REST: u64 = 43;

/// The contents of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ZecReport {
    /// Bytes of the file.
    pub file_bytes: u64,
    /// The last transaction of which the client was told.
    pub head: Tid,
    /// Current records.
    pub open: u64,
    /// Records that have ended.
    pub ended: u64,
    /// Bytes of all records, without their headers.
    pub bytes: u64,
    /// Bytes of free blocks.
    pub free_bytes: u64,
    /// Where the file is damaged, and how.
    pub damage: Option<(u64, &'static str)>,
}

/// A block of a file.
enum Block {
    Record { oid: Oid, found: LoadedAt },
    Free,
}

/// Reads a file, and hands each record out; none if it is no cache of ZEO.
///
/// # Errors
///
/// Those of the disk.
pub fn read(file: &dyn DiskFile, mut each: impl FnMut(Oid, LoadedAt)) -> io::Result<Option<ZecReport>> {
    let mut head = [0; FIRST_BLOCK as usize];
    if file.read_full_at(&mut head, 0)? < head.len() || !head.starts_with(MAGIC) {
        return Ok(None);
    }
    let mut report = ZecReport { file_bytes: file.len()?, head: Tid(u64_at(&head, 4)), ..ZecReport::default() };
    let mut current = HashSet::new();
    let mut at = FIRST_BLOCK;
    while at < report.file_bytes {
        let (length, block) = match block(file, at, report.file_bytes)? {
            Ok(block) => block,
            Err(why) => {
                report.damage = Some((at, why));
                break;
            }
        };
        match block {
            Block::Record { oid, found } => {
                if found.next.is_none() && !current.insert(oid) {
                    report.damage = Some((at, "an object has two current records"));
                    break;
                }
                *(if found.next.is_none() { &mut report.open } else { &mut report.ended }) += 1;
                report.bytes += found.data.len() as u64;
                each(oid, found);
            }
            Block::Free => report.free_bytes += length,
        }
        at += length;
    }
    Ok(Some(report))
}

/// The block at a place, with its length, which is more than zero.
fn block(file: &dyn DiskFile, at: u64, file_bytes: u64) -> io::Result<Result<(u64, Block), &'static str>> {
    let mut head = [0; RECORD_HEAD];
    let read = file.read_full_at(&mut head, at)?;
    let (kind, left) = (head[0], file_bytes - at);
    let length = match kind {
        b'1'..=b'4' => u64::from(kind - b'0'),
        b'a' | b'f' if read >= 5 => u64::from(u32_at(&head, 1)),
        b'a' | b'f' => return Ok(Err("a block has no length")),
        _ => return Ok(Err("no block begins here")),
    };
    if length > left {
        return Ok(Err("a block does not end within the file"));
    }
    match kind {
        b'a' => Ok(record(file, at, &head, length)?.map(|block| (length, block))),
        b'f' if length < 5 => Ok(Err("a free block is shorter than its head")),
        _ => Ok(Ok((length, Block::Free))),
    }
}

fn record(
    file: &dyn DiskFile,
    at: u64,
    head: &[u8; RECORD_HEAD],
    length: u64,
) -> io::Result<Result<Block, &'static str>> {
    let data_length = u32_at(head, 31);
    if RECORD_REST + u64::from(data_length) > length {
        return Ok(Err("a record is longer than its block"));
    }
    let (oid, tid, end) = (Oid(u64_at(head, 5)), Tid(u64_at(head, 13)), Tid(u64_at(head, 21)));
    if end != Tid::ZERO && end <= tid {
        return Ok(Err("a record ends before it begins"));
    }
    // It is within the file.
    let mut data = vec![0; data_length as usize + 8];
    if file.read_full_at(&mut data, at + RECORD_HEAD as u64)? < data.len() {
        return Ok(Err("a record does not end within the file"));
    }
    if u64_at(&data, data_length as usize) != oid.0 {
        return Ok(Err("a record's second oid is not its first"));
    }
    data.truncate(data_length as usize);
    let next = (end != Tid::ZERO).then_some(end);
    Ok(Ok(Block::Record { oid, found: LoadedAt { data: Bytes::from(data), tid, next } }))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_be_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_be_bytes)
}

/// Why a file was not imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotImported {
    /// It is no cache of ZEO.
    NoCache,
    /// It is damaged at this place.
    Damaged(u64, &'static str),
    /// It was never told of a transaction, so its current records are of no known moment.
    NoMoment,
    /// The cache has something already.
    NotEmpty,
}

/// Puts all records into an empty cache, which is then told of all changes up to the file's last tid.
///
/// # Errors
///
/// Those of the disk.
pub fn import<M: Medium>(file: &dyn DiskFile, core: &Core<M>) -> io::Result<Result<ZecReport, NotImported>> {
    if !core.is_empty() {
        return Ok(Err(NotImported::NotEmpty));
    }
    // Once to see that it is whole, and once for its records.
    match read(file, |_, _| {})? {
        None => return Ok(Err(NotImported::NoCache)),
        Some(ZecReport { damage: Some((at, why)), .. }) => return Ok(Err(NotImported::Damaged(at, why))),
        Some(ZecReport { head: Tid::ZERO, .. }) => return Ok(Err(NotImported::NoMoment)),
        Some(ZecReport { head, .. }) => core.clear(head),
    }
    let asked = core.ask();
    let report = read(file, |oid, found| {
        core.store(asked, oid, &found);
    })?;
    Ok(report.ok_or(NotImported::NoCache))
}
