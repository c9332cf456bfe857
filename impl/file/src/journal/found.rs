//! The entries that a journal holds, and which of them count.
//!
//! ```text
//!   half 0   │ 41 │ 42 │ 43 │ 44 │(12)│(13)      a newer round; behind it stand entries of an older one
//!   half 1   │ 31 │ 32 │ ... │ 40 │              the round before
//!              ▲             ▲
//!              │             a retirement: nothing before it counts
//!              the numbers go on in the other half, or the journal is damaged
//! ```
//!
//! An entry is written only when the one before it is durable. So a crash can spoil the last entry, and no other.

use std::io;

use bytes::Bytes;
use vellum_disk::DiskFile;

use super::entry::{BLOCK, EntryHeader, Head};
use crate::format::scan::Scanner;
use crate::format::{TransactionHeader, UNFINISHED};
use crate::journal::overlay::Overlaid;

/// An entry whose checksum fits.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub header: EntryHeader,
    pub payload: Bytes,
}

/// The contents of a journal.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    /// The entries after the last retirement, in order: none if the data file needs nothing.
    Live(Vec<Entry>),
    /// It cannot be read as one.
    Damaged(String),
}

/// Reads a journal.
pub(crate) fn read(file: &dyn DiskFile) -> io::Result<Found> {
    let mut block = vec![0; BLOCK as usize];
    let there = file.read_full_at(&mut block, 0)?;
    let Some(head) = Head::parse(&block[..there]) else {
        return Ok(Found::Damaged("its head is damaged".to_owned()));
    };
    if file.len()? != head.file_length() {
        return Ok(Found::Damaged(format!("it should have {} bytes", head.file_length())));
    }
    let mut halves = [half(file, &head, 0)?, half(file, &head, 1)?];
    halves.sort_by_key(|entries| entries.first().map_or(0, |entry| entry.header.number));
    let [mut entries, newer] = halves;
    if let (Some(last), Some(next)) = (entries.last(), newer.first())
        && last.header.number + 1 != next.header.number
    {
        let (last, next) = (last.header.number, next.header.number);
        return Ok(Found::Damaged(format!("it has entry {next} after entry {last}, and none between them")));
    }
    entries.extend(newer);
    if let Some(retired) = entries.iter().rposition(|entry| entry.header.is_retirement()) {
        entries.drain(..=retired);
    }
    Ok(match entries.windows(2).find(|pair| !follows(&pair[0].header, &pair[1].header)) {
        Some(pair) => Found::Damaged(format!("its entry {} does not follow the one before it", pair[1].header.number)),
        None => Found::Live(entries),
    })
}

fn follows(one: &EntryHeader, next: &EntryHeader) -> bool {
    next.position == one.end() && next.before == one.last
}

/// The entries of a half: those of one round, up to the first that is not the next one.
fn half(file: &dyn DiskFile, head: &Head, half: u64) -> io::Result<Vec<Entry>> {
    let mut bytes = vec![0; head.half as usize];
    let there = file.read_full_at(&mut bytes, head.start(half))?;
    bytes.truncate(there);
    let bytes = Bytes::from(bytes);
    let (mut entries, mut at): (Vec<Entry>, usize) = (Vec::new(), 0);
    while at < bytes.len()
        && let Some((header, payload)) = EntryHeader::parse(&bytes[at..], &head.key)
        && entries.last().is_none_or(|last| last.header.number.checked_add(1) == Some(header.number))
    {
        entries.push(Entry { header, payload: bytes.slice_ref(payload) });
        at += header.room() as usize;
    }
    Ok(entries)
}

/// The transactions of live entries: the position of each in the data file, and its header. None if the payloads are
/// not whole, finished transactions, one after the other. `file`: the data file with the payloads in it.
pub(crate) fn transactions(file: &Overlaid) -> Option<Vec<(u64, TransactionHeader)>> {
    let (mut position, end) = (file.start(), file.end());
    let mut scanner = Scanner::new(file, end);
    let mut found: Vec<(u64, TransactionHeader)> = Vec::new();
    while position < end {
        let header = scanner.transaction(position, |_, _| Ok(())).ok()?;
        if header.status == UNFINISHED {
            return None;
        }
        found.push((position, header));
        position = header.end(position);
    }
    Some(found)
}
