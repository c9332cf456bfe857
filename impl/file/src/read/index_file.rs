//! The `.index` file: the index as it was at a position, so that opening need not walk over the file before it.
//!
//! It is ZODB's, byte for byte: pickles, one after the other. First the position, then for each oid prefix of six bytes
//! a pair of it and a string (the two-byte suffixes in order, then the six-byte positions in the same order), then
//! `None`.
//!
//! It is a hint. Nothing of it is believed before it agrees with the file: the last transactions must be where it says
//! that they are, and entries picked from all over it must be records of their objects. When in doubt there is no
//! index, and the file is walked over.

use std::collections::HashSet;
use std::fmt;
use std::mem;
use std::path::Path;

use bytes::Bytes;
use vellum_disk::{Disk, DiskFile, Open};
use vellum_pickle::{Value, decode_plain, encode_into};
use vellum_storage::{Damage, Error, Oid, Result, Status, Tid};

use crate::format::beside::beside;
use crate::format::scan::Scanner;
use crate::format::{POSITION_MAX, RecordHeader, START, TransactionHeader, u64_at};
use crate::read::index::{Index, PAGE};

/// An index that agrees with its file.
pub(crate) struct Saved {
    pub index: Index,
    /// The position up to which it is good, and the last transaction before that.
    pub end: u64,
    pub last: Tid,
}

/// Records of the last transactions that are looked up, and entries from all over the index.
const RECENT_RECORDS: usize = 32;
const RECENT_TRANSACTIONS: usize = 8;
const SAMPLES: u64 = 64;

/// Reads the index of the file at `path`, if there is one that agrees with it.
pub(crate) fn load(disk: &dyn Disk, path: &Path, data: &dyn DiskFile, size: u64) -> Option<Saved> {
    let Claimed { index, end } = read(disk, path, size)?;
    let Some(last) = agrees(&index, data, end) else {
        tracing::info!("{}.index does not agree with its file and is made again", path.display());
        return None;
    };
    Some(Saved { index, end, last })
}

/// An index that was not checked against its file yet.
pub(crate) struct Claimed {
    index: Index,
    end: u64,
}

impl Claimed {
    /// Every object and where the index has it.
    pub fn entries(&self) -> impl Iterator<Item = (Oid, u64)> {
        self.index.entries()
    }

    /// Calls `each` with an object, where the index has it, and where it was when the file ended where the index does.
    /// Later changes are not the index's fault.
    pub fn differences(&self, found: &Index, each: &mut dyn FnMut(Oid, u64, u64)) {
        for (oid, named) in self.entries() {
            match found.get(oid) {
                Some(at) if at == named || at >= self.end => {}
                other => each(oid, named, other.unwrap_or(0)),
            }
        }
    }
}

/// The part of the `.index` that the file has lost: the file was longer when the index was saved, and everything in it
/// was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Missing {
    /// Where the file, or its complete part, ends now.
    pub end: u64,
    /// Where it ended when the index was saved.
    pub index_end: u64,
    /// Objects whose newest revision is in the missing part, in order.
    pub objects: Vec<Oid>,
}

impl Missing {
    /// Why the file is not opened for writing: that would cut off the missing part for good, and save another index.
    pub(crate) fn refusal(&self, path: &Path) -> Error {
        let file = path.display();
        let remedy = format!(
            "That part was acknowledged, and is lost. Nothing was changed, and the index is kept. Restore the file \
             from a backup; or `vellum recover {file} New.fs` copies what is left and names those objects. If this is an \
             older backup that was put back, or to go on without them: `mv {file}.index {file}.index.lost`"
        );
        let (path, what) = (path.to_owned(), self.to_string());
        Error::Damaged(Box::new(Damage { path, position: self.end, tid: None, oid: None, what, remedy }))
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMED_MAX: usize = 5;
        let Missing { index_end, objects, .. } = self;
        let named: Vec<_> = objects.iter().take(NAMED_MAX).map(Oid::to_string).collect();
        let more = match objects.len().saturating_sub(NAMED_MAX) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let number = match objects.len() {
            1 => "1 object has its".to_owned(),
            number => format!("{number} objects have their"),
        };
        write!(
            f,
            "the .index file beside this reaches to {index_end}: {number} newest revision in the part that is missing \
             ({}{more})",
            named.join(", ")
        )
    }
}

/// The entries of the index of the file at `path` behind `end`, where the last complete transaction ends. None if there
/// is no index, if it has nothing there, or if it is not this file's.
pub(crate) fn missing(disk: &dyn Disk, path: &Path, data: &dyn DiskFile, end: u64) -> Option<Missing> {
    let Claimed { index, end: index_end } = read(disk, path, POSITION_MAX)?;
    if index_end <= end {
        return None;
    }
    let objects: Vec<Oid> = index.entries().filter(|(_, at)| *at >= end).map(|(oid, _)| oid).collect();
    if objects.is_empty() {
        return None;
    }
    // Its other objects must be where the index has them; otherwise it is the index of another file, or of this one
    // before a pack.
    let mut scanner = Scanner::new(data, end);
    let there = index.len() - objects.len() as u64;
    let step = (there / SAMPLES).max(1) as usize;
    for (oid, at) in index.entries().filter(|(_, at)| *at < end).step_by(step) {
        let bytes = scanner.bytes(at, RecordHeader::SIZE).ok().filter(|bytes| bytes.len() == RecordHeader::SIZE)?;
        let header = RecordHeader::parse(bytes);
        if header.oid != oid || header.transaction >= at {
            return None;
        }
    }
    Some(Missing { end, index_end, objects })
}

/// Reads the index of the file at `path`, if there is one and it can be read, and ends before `size`.
pub(crate) fn read(disk: &dyn Disk, path: &Path, size: u64) -> Option<Claimed> {
    let file = disk.open(&beside(path, ".index"), Open::Read).ok()?;
    let length = file.len().ok()?;
    // 8 bytes an object and one object in at least 50 bytes: a longer one is not this file's.
    let mut first = vec![0; length.min(64) as usize];
    file.read_full_at(&mut first, 0).ok()?;
    let (claimed, _) = decode_plain(&first).ok()?;
    let claimed = u64::try_from(claimed.as_int()?).ok().filter(|end| *end <= size)?;
    if length > claimed.saturating_add(4096) {
        return None;
    }
    let mut bytes = vec![0; length as usize];
    let there = file.read_full_at(&mut bytes, 0).ok()?;
    bytes.truncate(there);
    let (index, end) = parse(&bytes, size)?;
    Some(Claimed { index, end })
}

fn parse(mut bytes: &[u8], size: u64) -> Option<(Index, u64)> {
    let mut next = || {
        let (value, length) = decode_plain(bytes).ok()?;
        bytes = &bytes[length..];
        Some(value)
    };
    let end = u64::try_from(next()?.as_int()?).ok().filter(|end| (START..=size).contains(end))?;
    let index = Index::new();
    let mut last = None;
    loop {
        match next()? {
            Value::None => return Some((index, end)),
            Value::Tuple(pair) => {
                let [Value::Bytes(prefix), Value::Bytes(entries)] = &pair[..] else {
                    return None;
                };
                add(&index, &mut last, prefix, entries, end)?;
            }
            _ => return None,
        }
    }
}

/// Takes over the entries of one prefix. `last` is the greatest oid so far: they are in order, or something is wrong.
fn add(index: &Index, last: &mut Option<Oid>, prefix: &[u8], entries: &[u8], end: u64) -> Option<()> {
    if prefix.len() != 6 || !entries.len().is_multiple_of(8) {
        return None;
    }
    let (suffixes, positions) = entries.split_at(entries.len() / 4);
    let mut index = index.writer();
    let mut oid = [0; 8];
    oid[..6].copy_from_slice(prefix);
    let mut page: Vec<(Oid, u64)> = Vec::new();
    for (suffix, position) in suffixes.chunks_exact(2).zip(positions.chunks_exact(6)) {
        oid[6..].copy_from_slice(suffix);
        let mut eight = [0; 8];
        eight[2..].copy_from_slice(position);
        let (oid, position) = (Oid::from_bytes(oid), u64::from_be_bytes(eight));
        if position < START + TransactionHeader::SIZE as u64 || position >= end || last.is_some_and(|last| oid <= last)
        {
            return None;
        }
        *last = Some(oid);
        if page.last().is_some_and(|&(last, _)| last.0 / PAGE != oid.0 / PAGE) {
            index.fill(&page);
            page.clear();
        }
        page.push((oid, position));
    }
    index.fill(&page);
    Some(())
}

/// Checks the index against the file; returns the tid of the last transaction if they agree.
fn agrees(index: &Index, data: &dyn DiskFile, end: u64) -> Option<Tid> {
    let mut scanner = Scanner::new(data, end);
    let (mut at, mut last, mut transactions, mut seen) = (end, None, 0, HashSet::new());
    while at > START && transactions < RECENT_TRANSACTIONS && seen.len() < RECENT_RECORDS {
        let twin = u64_at(scanner.bytes(at.checked_sub(8)?, 8).ok().filter(|b| b.len() == 8)?, 0);
        let start = at.checked_sub(twin.checked_add(8)?).filter(|&start| start >= START)?;
        let mut found = Vec::new();
        let header = scanner
            .transaction(start, |_, record| {
                found.push((record.header.oid, record.position));
                Ok(())
            })
            .ok()?;
        if header.end(start) != at || Status::from_byte(header.status).is_none() {
            return None;
        }
        // The last record of an object is the one that counts, here and in the index.
        for (oid, position) in found.into_iter().rev() {
            if seen.insert(oid) && index.get(oid) != Some(position) {
                return None;
            }
        }
        last.get_or_insert(header.tid);
        transactions += 1;
        at = start;
    }
    let last_oid = index.last_oid().unwrap_or_default().0;
    for n in 0..=SAMPLES {
        let sample = u128::from(last_oid) * u128::from(n) / u128::from(SAMPLES);
        let Some((oid, position)) = index.next(Oid(sample as u64)) else { break };
        let bytes = scanner.bytes(position, RecordHeader::SIZE).ok().filter(|b| b.len() == RecordHeader::SIZE)?;
        let header = RecordHeader::parse(bytes);
        if header.oid != oid || header.transaction >= position {
            return None;
        }
    }
    last
}

/// Writes the index of the file at `path`, whose last transaction ends at `end`: under another name first, so that
/// there is the old one or the new one, but never half of one. `before_end` says where an object was that has since got
/// a record beyond the end, by a commit that is being shown.
pub(crate) fn save(
    disk: &dyn Disk,
    path: &Path,
    index: &Index,
    end: u64,
    before_end: &dyn Fn(Oid) -> Result<Option<u64>>,
) -> Result<()> {
    let name = beside(path, ".index");
    let temporary = beside(path, ".index.index_tmp");
    let io = |e| Error::io(&name, "saving the index (the next opening walks over the file instead)", e);
    let write = || -> Result<()> {
        let file = disk.open_like(&temporary, Open::Truncate, path).map_err(io)?;
        let mut at = 0;
        pickles(index, end, before_end, &mut |pickles| {
            file.write_at(pickles, at).map_err(io)?;
            at += pickles.len() as u64;
            Ok(())
        })?;
        file.sync().map_err(io)?;
        disk.rename(&temporary, &name).map_err(io)
    };
    write().inspect_err(|_| {
        let _ = disk.remove(&temporary);
    })
}

/// Oids that share a prefix.
const GROUP: u64 = 1 << 16;

/// So many bytes are written at once, or as many as a group has.
const PIECE: usize = 64 << 10;

/// Gives the pickles of the index to `write`, piece by piece: a large index is not in memory a second time.
fn pickles(
    index: &Index,
    end: u64,
    before_end: &dyn Fn(Oid) -> Result<Option<u64>>,
    write: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let mut out = Vec::new();
    encode_into(&Value::Int(end as i64), &mut out);
    let group = index.len().min(GROUP) as usize;
    let (mut suffixes, mut positions) = (Vec::with_capacity(group * 8), Vec::with_capacity(group * 6));
    let mut prefix = None;
    let mut flush =
        |prefix: Option<u64>, suffixes: &mut Vec<u8>, positions: &mut Vec<u8>, out: &mut Vec<u8>| -> Result<()> {
            let Some(prefix) = prefix else { return Ok(()) };
            suffixes.append(positions);
            let prefix = Bytes::copy_from_slice(&prefix.to_be_bytes()[2..]);
            let entries = Bytes::from(mem::take(suffixes));
            out.reserve_exact(entries.len() + 64);
            encode_into(&Value::Tuple(vec![Value::Bytes(prefix), Value::Bytes(entries)]), out);
            suffixes.reserve_exact(group * 8);
            if out.len() < PIECE {
                return Ok(());
            }
            write(out)?;
            *out = Vec::new();
            Ok(())
        };
    for (oid, position) in index.entries() {
        // The next opening finds records beyond the end in the file, but it needs the object's record before them.
        let position = if position < end { Some(position) } else { before_end(oid)? };
        let Some(position) = position else { continue };
        if prefix != Some(oid.0 >> 16) {
            flush(prefix, &mut suffixes, &mut positions, &mut out)?;
            prefix = Some(oid.0 >> 16);
        }
        suffixes.extend_from_slice(&oid.0.to_be_bytes()[6..]);
        positions.extend_from_slice(&position.to_be_bytes()[2..]);
    }
    flush(prefix, &mut suffixes, &mut positions, &mut out)?;
    encode_into(&Value::None, &mut out);
    write(&out)
}
