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
//! An entry is written only when the one before it is durable. So a crash can spoil the last entry, and no other. If
//! any later one is found, the journal is damaged.

use std::io;

use bytes::Bytes;
use vellum_disk::DiskFile;

use super::entry::{BLOCK, EntryHeader, Head};
use crate::format::scan::Scanner;
use crate::format::{TransactionHeader, UNFINISHED, u64_at};
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
    let halves = [half(file, &head, 0)?, half(file, &head, 1)?];
    let mut rounds = halves.clone().map(|half| entries(&half, &head));
    rounds.sort_by_key(|entries| entries.first().map_or(0, |entry| entry.header.number));
    let [mut entries, newer] = rounds;
    let next = |entries: &[Entry]| entries.last().map_or(1, |last| last.header.number.saturating_add(1));
    if newer.first().is_some_and(|first| entries.is_empty() || first.header.number == next(&entries)) {
        entries.extend(newer);
    }
    // A crash spoils no entry before the last.
    if let Some(later) = halves.iter().find_map(|half| later(half, &head, next(&entries))) {
        return Ok(Found::Damaged(format!("it has entry {later}, and not entry {}", next(&entries))));
    }
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

/// The bytes of a half.
fn half(file: &dyn DiskFile, head: &Head, half: u64) -> io::Result<Bytes> {
    let mut bytes = vec![0; head.half as usize];
    let there = file.read_full_at(&mut bytes, head.start(half))?;
    bytes.truncate(there);
    Ok(bytes.into())
}

/// The entries of a half: those of one round, up to the first that is not the next one.
fn entries(half: &Bytes, head: &Head) -> Vec<Entry> {
    let (mut entries, mut at): (Vec<Entry>, usize) = (Vec::new(), 0);
    while at < half.len()
        && let Some((header, payload)) = EntryHeader::parse(&half[at..], &head.key)
        && entries.last().is_none_or(|last| last.header.number.checked_add(1) == Some(header.number))
    {
        entries.push(Entry { header, payload: half.slice_ref(payload) });
        at += header.room() as usize;
    }
    entries
}

/// The number of an entry that is `next` or later, wherever in the half it stands.
fn later(half: &Bytes, head: &Head, next: u64) -> Option<u64> {
    let blocks = (0..half.len()).step_by(BLOCK as usize);
    // Looked at before the checksum, which takes longer.
    let later = blocks.filter(|&at| half.get(at + 32..at + 40).is_some_and(|number| u64_at(number, 0) >= next));
    later.filter_map(|at| EntryHeader::parse(&half[at..], &head.key)).map(|(header, _)| header.number).next()
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
